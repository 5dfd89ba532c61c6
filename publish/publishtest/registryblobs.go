package publishtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
)

// blobCases are the promises of [publish.Blobs].
var blobCases = []registryCase{
	{Name: "blob comes back", needs: ClaimBlobs, Run: caseBlob},
	{Name: "missing blob", needs: ClaimBlobs, Run: caseBlobMissing},
	{Name: "blob of another repository", needs: ClaimBlobs, Run: caseBlobElsewhere},
	{Name: "blob with wrong bytes", needs: ClaimBlobs, Run: caseBlobLies},
	{Name: "blob whose source breaks off", needs: ClaimBlobs, Run: caseBlobBroken},
	{Name: "blob read as another", needs: ClaimBlobs, Run: caseBlobVerified},
	{Name: "context ended over blobs", needs: ClaimBlobs, Run: caseBlobCancelled},
	{Name: "manifest alone", needs: ClaimBlobs, Run: caseManifest},
	{Name: "manifest whose blobs are missing", needs: ClaimBlobs, Run: caseManifestIncomplete},
	{Name: "manifest that is none", needs: ClaimBlobs, Run: caseManifestFalse},
	{Name: "mounted blob", needs: ClaimBlobs, Run: caseMountBlob},
	{Name: "mounted blob that is missing", needs: ClaimBlobs, Run: caseMountBlobMissing},
	{Name: "image of blobs", needs: ClaimBlobs, Run: caseImageOfBlobs},
}

// asBlobs is r as what the case was chosen for.
func asBlobs(t testing.TB, r publish.Registry) publish.Blobs {
	t.Helper()
	b, ok := r.(publish.Blobs)
	require.True(t, ok, "%T has no single blobs", r)
	return b
}

func blobOf(data string) v1.Descriptor {
	return v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: digestOf([]byte(data)), Size: int64(len(data))}
}

func writeBlobs(t testing.TB, b publish.Blobs, repo name.Repository, blobs ...string) {
	t.Helper()
	for _, data := range blobs {
		require.NoError(t, b.WriteBlob(t.Context(), repo, blobOf(data), publish.BytesSource([]byte(data))))
	}
}

func readBlob(t testing.TB, b publish.Blobs, repo name.Repository, desc v1.Descriptor) ([]byte, error) {
	t.Helper()
	rc, err := b.OpenBlob(t.Context(), repo, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func noBlob(t testing.TB, b publish.Blobs, repo name.Repository, desc v1.Descriptor) {
	t.Helper()
	_, err := b.StatBlob(t.Context(), repo, desc.Digest)
	require.ErrorIs(t, err, fs.ErrNotExist, "StatBlob")
	_, err = readBlob(t, b, repo, desc)
	require.ErrorIs(t, err, fs.ErrNotExist, "OpenBlob")
}

func caseBlob(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	for _, data := range []string{"a blob", "", strings.Repeat("0123456789abcdef", 70_000)} {
		for range 2 { // whether or not it is there
			writeBlobs(t, b, repo, data)
			size, err := b.StatBlob(t.Context(), repo, blobOf(data).Digest)
			require.NoError(t, err)
			require.EqualValues(t, len(data), size)
			got, err := readBlob(t, b, repo, blobOf(data))
			require.NoError(t, err)
			require.True(t, data == string(got), "%d bytes of %d come back", len(got), len(data))
		}
	}
	require.Empty(t, tagsOf(t, r, repo))
}

func caseBlobMissing(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	check := func() {
		t.Helper()
		noBlob(t, b, repo, blobOf("missing"))
		for _, ref := range []name.Reference{repo.Tag("missing"), repo.Digest(blobOf("missing").Digest.String())} {
			_, _, err := b.Manifest(t.Context(), ref)
			require.ErrorIs(t, err, fs.ErrNotExist, "Manifest %s", ref)
		}
	}
	check() // no repository
	writeBlobs(t, b, repo, "something else")
	check()
}

func caseBlobElsewhere(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	other := repo.Registry.Repo(repo.RepositoryStr() + "-other")
	writeBlobs(t, b, other, "theirs", "both")
	writeBlobs(t, b, repo, "both")
	noBlob(t, b, repo, blobOf("theirs"))
	_, err := b.StatBlob(t.Context(), repo, blobOf("both").Digest)
	require.NoError(t, err)
}

func caseBlobLies(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	writeBlobs(t, b, repo, "something")
	want := blobOf("layer")
	for _, lie := range []string{"LAYER", "lay", "layer and more", ""} {
		err := b.WriteBlob(t.Context(), repo, want, publish.BytesSource([]byte(lie)))
		require.ErrorIs(t, err, publish.ErrDigest, "%q", lie)
		noBlob(t, b, repo, want)
	}
	for _, bad := range []v1.Descriptor{{Size: 5}, {Digest: want.Digest, Size: -1}, {Digest: v1.Hash{Algorithm: "sha256", Hex: "../../x"}, Size: 5}} {
		require.Error(t, b.WriteBlob(t.Context(), repo, bad, publish.BytesSource([]byte("layer"))), "%v", bad)
	}
	writeBlobs(t, b, repo, "layer")
	got, err := readBlob(t, b, repo, want)
	require.NoError(t, err)
	require.Equal(t, "layer", string(got))
}

// brokenSource breaks off after what it has.
type brokenSource struct {
	data string
	size int64
	err  error
}

func (s brokenSource) Size() int64 { return s.size }
func (s brokenSource) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(s.data), errReader{s.err})), nil
}

func caseBlobBroken(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	writeBlobs(t, b, repo, "something")
	broken := errors.New("the disk is gone")
	want := blobOf("layer")
	require.ErrorIs(t, b.WriteBlob(t.Context(), repo, want, brokenSource{"la", 5, broken}), broken)
	noBlob(t, b, repo, want)
	writeBlobs(t, b, repo, "layer")
}

func caseBlobVerified(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	writeBlobs(t, b, repo, "layer")
	for _, size := range []int64{4, 6, 0, 1 << 40} {
		_, err := readBlob(t, b, repo, v1.Descriptor{Digest: blobOf("layer").Digest, Size: size})
		require.ErrorIs(t, err, publish.ErrDigest, "it has 5 bytes, asked for were %d", size)
	}
	rc, err := b.OpenBlob(t.Context(), repo, blobOf("layer"))
	require.NoError(t, err)
	_, err = io.ReadFull(rc, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, rc.Close(), "closed early")
}

func caseBlobCancelled(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	large := strings.Repeat("0123456789abcdef", 1<<19) // more than what is under way
	writeBlobs(t, b, repo, "layer", large)
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := b.OpenBlob(ctx, repo, blobOf(large))
	require.NoError(t, err)
	_, err = io.ReadFull(rc, make([]byte, 1))
	require.NoError(t, err)
	cancel()
	_, err = io.ReadAll(rc)
	rc.Close()
	require.ErrorIs(t, err, context.Canceled, "ctx governs the reader")
	_, err = b.OpenBlob(ctx, repo, blobOf("layer"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.StatBlob(ctx, repo, blobOf("layer").Digest)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.WriteBlob(ctx, repo, blobOf("other"), publish.BytesSource([]byte("other"))), context.Canceled)
	noBlob(t, b, repo, blobOf("other"))
	require.ErrorIs(t, b.MountBlob(ctx, repo.Registry.Repo(repo.RepositoryStr()+"-other"), blobOf("layer").Digest, repo), context.Canceled)
	_, err = b.WriteManifest(ctx, repo, types.OCIManifestSchema1, newImage(t, types.OCIManifestSchema1).raw)
	require.ErrorIs(t, err, context.Canceled)
}

// writeParts writes an image blob by blob.
func writeParts(t testing.TB, b publish.Blobs, repo name.Repository, src *testImage) {
	t.Helper()
	writeBlobs(t, b, repo, string(src.config))
	for _, l := range src.layers {
		writeBlobs(t, b, repo, string(l))
	}
	desc, err := b.WriteManifest(t.Context(), repo, src.desc.MediaType, src.raw)
	require.NoError(t, err)
	require.Equal(t, src.desc, desc)
}

func caseManifest(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	src := newImage(t, types.OCIManifestSchema1, "a")
	src.setManifest(t, bytes.Replace(src.raw, []byte(`{"schemaVersion":2,`), []byte("{\n\t\"x-unknown\": 1.50,\n  \"schemaVersion\" : 2, "), 1))
	docker := newImage(t, types.DockerManifestSchema2, "b")
	index := newIndex(t, types.OCIImageIndex, src)
	for range 2 {
		writeParts(t, b, repo, src)
		writeParts(t, b, repo, docker)
		_, err := b.WriteManifest(t.Context(), repo, index.desc.MediaType, index.raw)
		require.NoError(t, err)
	}
	require.Empty(t, tagsOf(t, r, repo))
	for tag, m := range map[string]*testImage{"image": src, "docker": docker, "index": index} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), m.desc.Digest))
		for _, ref := range []name.Reference{repo.Tag(tag), repo.Digest(m.desc.Digest.String())} {
			desc, raw, err := b.Manifest(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, string(m.raw), string(raw))
			require.Equal(t, m.desc.Digest, desc.Digest)
			require.Equal(t, m.desc.Size, desc.Size)
			require.Equal(t, m.desc.MediaType, desc.MediaType)
		}
	}
	checkImage(t, r, repo, src)
}

func caseManifestIncomplete(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	src := newImage(t, types.OCIManifestSchema1, "a", "b")
	index := newIndex(t, types.OCIImageIndex, src)
	refused := func(m *testImage) {
		t.Helper()
		_, err := b.WriteManifest(t.Context(), repo, m.desc.MediaType, m.raw)
		require.Error(t, err)
		absent(t, r, repo, m.desc.Digest)
	}
	refused(src)
	writeBlobs(t, b, repo, string(src.config), "a")
	refused(src)
	refused(index)
	writeBlobs(t, b, repo.Registry.Repo(repo.RepositoryStr()+"-other"), "b")
	refused(src)
	writeParts(t, b, repo, src)
	_, err := b.WriteManifest(t.Context(), repo, index.desc.MediaType, index.raw)
	require.NoError(t, err)
	checkImage(t, r, repo, src)
}

func caseManifestFalse(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	src := newImage(t, types.OCIManifestSchema1, "a")
	writeBlobs(t, b, repo, string(src.config), "a")
	for what, m := range map[string]struct {
		mediaType types.MediaType
		raw       []byte
	}{
		"an image given as an index":   {types.OCIImageIndex, src.raw},
		"an image of another kind":     {types.DockerManifestSchema2, src.raw},
		"not JSON":                     {types.OCIManifestSchema1, []byte("{")},
		"nothing":                      {types.OCIManifestSchema1, nil},
		"more than a registry accepts": {types.OCIManifestSchema1, append(bytes.Repeat([]byte(" "), 4<<20), src.raw...)},
	} {
		_, err := b.WriteManifest(t.Context(), repo, m.mediaType, m.raw)
		require.Error(t, err, what)
	}
	absent(t, r, repo, src.desc.Digest)
}

func caseMountBlob(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	from := repo.Registry.Repo(repo.RepositoryStr() + "-from")
	writeBlobs(t, b, from, "layer")
	for range 2 {
		err := b.MountBlob(t.Context(), repo, blobOf("layer").Digest, from)
		if errors.Is(err, errors.ErrUnsupported) {
			noBlob(t, b, repo, blobOf("layer")) // and has changed nothing
			return
		}
		require.NoError(t, err)
		size, err := b.StatBlob(t.Context(), repo, blobOf("layer").Digest)
		require.NoError(t, err)
		require.EqualValues(t, 5, size)
		got, err := readBlob(t, b, repo, blobOf("layer"))
		require.NoError(t, err)
		require.Equal(t, "layer", string(got))
	}
	require.Empty(t, tagsOf(t, r, repo))
}

func caseMountBlobMissing(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	from := repo.Registry.Repo(repo.RepositoryStr() + "-from")
	check := func() {
		t.Helper()
		err := b.MountBlob(t.Context(), repo, blobOf("layer").Digest, from)
		if !errors.Is(err, fs.ErrNotExist) {
			require.ErrorIs(t, err, errors.ErrUnsupported)
		}
		noBlob(t, b, repo, blobOf("layer"))
	}
	check() // from nowhere
	writeBlobs(t, b, from, "something else")
	check()
}

func caseImageOfBlobs(t testing.TB, r publish.Registry, repo name.Repository) {
	b := asBlobs(t, r)
	src := newImage(t, types.OCIManifestSchema1, "a", "b", "c", "d", "e", "f")
	errs := make([]error, 2*len(src.layers))
	var wg sync.WaitGroup
	for i := range errs { // each twice at once
		data := src.layers[i/2]
		wg.Go(func() {
			errs[i] = b.WriteBlob(t.Context(), repo, blobOf(string(data)), publish.BytesSource(data))
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	writeParts(t, b, repo, src)
	checkImage(t, r, repo, src)
}
