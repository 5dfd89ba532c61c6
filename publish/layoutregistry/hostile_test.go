package layoutregistry_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// everyVerb calls all that reads or changes a layout.
func everyVerb(t *testing.T, r *layoutregistry.Registry, digest v1.Hash) map[string]error {
	t.Helper()
	repo := testRepo(t, "okd/a")
	tag, ref := repo.Tag("t"), repo.Digest(digest.String())
	out := map[string]error{}
	_, out["head"] = r.Head(t.Context(), tag)
	_, out["image"] = r.Image(t.Context(), tag)
	_, out["index"] = r.Index(t.Context(), tag)
	_, _, out["manifest"] = r.Manifest(t.Context(), tag)
	for _, err := range r.Tags(t.Context(), repo) {
		out["tags"] = err
	}
	for _, err := range r.Referrers(t.Context(), ref, "") {
		out["referrers"] = err
	}
	out["tag"] = r.Tag(t.Context(), repo.Tag("u"), digest)
	out["untag"] = r.Untag(t.Context(), tag)
	out["delete"] = r.Delete(t.Context(), ref)
	_, out["write manifest"] = r.WriteManifest(t.Context(), repo, types.OCIImageIndex, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	_, out["collect garbage"] = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	out["verify"] = r.Verify(t.Context(), repo, nil)
	return out
}

// A bad index.json stops every verb with one error that names the operation,
// the repository and the file, and is left as it is.
func TestHostileIndex(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct{ text, names string }{
		"not JSON":            {`{"manifests":[`, "index.json"},
		"cut":                 {``, "index.json"},
		"digest a path":       {`{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}`, "index.json"},
		"digest missing":      {`{"manifests":[{"size":1}]}`, "entry 1"},
		"negative size":       {`{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":-1}]}`, "entry 1"},
		"huge":                {`{"manifests":[` + strings.Repeat(" ", layoutregistry.MaxIndexSize) + `]}`, "index.json"},
		"deep":                {`{"manifests":` + strings.Repeat("[", 1<<20), "index.json"},
		"an annotation a map": {`{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"annotations":{"a":{}}}]}`, "entry 1"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := open(t, dir)
			_, desc := write1(t, r, testRepo(t, "okd/a"), 1, "t")
			write("index.json", tc.text)(t, filepath.Join(dir, "okd/a"))
			before := files(t, dir)
			for op, err := range everyVerb(t, r, desc.Digest) {
				require.Error(t, err, op)
				require.ErrorContains(t, err, "publish: "+op+" ", op)
				require.ErrorContains(t, err, "okd/a", op)
				require.ErrorContains(t, err, tc.names, op)
				require.NotContains(t, err.Error(), "\n", "%s: one error", op)
				require.Less(t, len(err.Error()), 1000, op)
			}
			require.Equal(t, before, files(t, dir))
			data, err := os.ReadFile(filepath.Join(dir, "okd/a/index.json"))
			require.NoError(t, err)
			require.True(t, tc.text == string(data), "it is as it was")
		})
	}
}

// Indexes that name each other, or themselves, and deep ones. A digest cannot
// come true in a circle, so the bytes are found to be others.
func TestCyclicIndexes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	write1(t, r, repo, 1, "good")
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	node := func(child string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":213,"digest":"sha256:%s"}]}`, types.OCIImageIndex, types.OCIImageIndex, child)
	}
	size := len(node(a))
	text := strings.ReplaceAll(node(b), "213", fmt.Sprint(size))
	write("blobs/sha256/"+a, text)(t, filepath.Join(dir, "okd/a"))
	write("blobs/sha256/"+b, strings.ReplaceAll(node(a), "213", fmt.Sprint(size)))(t, filepath.Join(dir, "okd/a"))
	h := v1.Hash{Algorithm: "sha256", Hex: a}
	data, err := os.ReadFile(filepath.Join(dir, "okd/a/index.json"))
	require.NoError(t, err)
	var idx v1.IndexManifest
	require.NoError(t, json.Unmarshal(data, &idx))
	idx.Manifests = append(idx.Manifests, v1.Descriptor{MediaType: types.OCIImageIndex, Digest: h, Size: int64(size), Annotations: map[string]string{"org.opencontainers.image.ref.name": "cycle"}})
	data, err = json.Marshal(idx)
	require.NoError(t, err)
	write("index.json", string(data))(t, filepath.Join(dir, "okd/a"))

	_, err = r.Index(t.Context(), repo.Tag("cycle"))
	require.ErrorIs(t, err, publish.ErrDigest)
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, a)
	err = r.Verify(t.Context(), repo, nil)
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, a)
	readableWithout := func(tag string) {
		_, err := r.Image(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
	}
	readableWithout("good")
	write1(t, r, repo, 2, "also")
	readableWithout("also")
	require.NoError(t, r.Untag(t.Context(), repo.Tag("cycle")))
	require.NoError(t, r.Delete(t.Context(), repo.Digest("sha256:"+a)))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	require.NoError(t, r.Verify(t.Context(), repo, nil))
}

// Links that lead out are neither followed nor removed, and no folder, file or
// blob outside is touched.
func TestLinksOut(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	h, _, err := v1.SHA256(strings.NewReader("secret"))
	require.NoError(t, err)
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, desc := write1(t, r, repo, 1, "t")
	blob := filepath.Join(dir, "okd/a/blobs/sha256", h.Hex)
	require.NoError(t, os.Symlink(secret, blob))
	info, err := os.Stat(secret)
	require.NoError(t, err)

	_, err = r.StatBlob(t.Context(), repo, h)
	require.Error(t, err)
	_, err = r.OpenBlob(t.Context(), repo, v1.Descriptor{Digest: h, Size: 6})
	require.Error(t, err)
	require.Error(t, r.MountBlob(t.Context(), testRepo(t, "okd/b"), h, repo))
	require.Error(t, r.Verify(t.Context(), repo, nil))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	_, err = os.Lstat(blob)
	require.NoError(t, err)
	// Writing replaces the link, not what it leads to.
	require.NoError(t, r.WriteBlob(t.Context(), repo, v1.Descriptor{Digest: h, Size: 6}, publish.BytesSource([]byte("secret"))))
	now, err := os.Stat(secret)
	require.NoError(t, err)
	require.Equal(t, info.ModTime(), now.ModTime())
	require.Equal(t, info.Mode(), now.Mode())
	require.NoError(t, r.Verify(t.Context(), repo, nil))

	// A repository, its blobs, its temporary folder.
	require.NoError(t, os.Symlink(filepath.Join(dir, "okd/a"), filepath.Join(dir, "okd/inside")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "okd/out")))
	_, err = r.WriteImage(t.Context(), testRepo(t, "okd/out"), randomImage(t, 3, 100, 1), nil)
	require.Error(t, err)
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "okd/a/.tmp")))
	_, err = r.WriteImage(t.Context(), repo, randomImage(t, 4, 100, 1), nil)
	require.Error(t, err)
	require.NoError(t, os.Rename(filepath.Join(dir, "okd/a/blobs"), filepath.Join(outside, "blobs")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "blobs"), filepath.Join(dir, "okd/a/blobs")))
	_, err = r.Image(t.Context(), repo.Tag("t"))
	require.Error(t, err)
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later(), Grace: time.Nanosecond})
	require.Error(t, err)
	require.FileExists(t, filepath.Join(outside, "blobs/sha256", desc.Digest.Hex))
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

// A list of referrers that lies names others' manifests, or none at all.
func TestLyingReferrers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, a := write1(t, r, repo, 1, "a")
	_, b := write1(t, r, repo, 2, "b")
	sig, err := r.WriteImage(t.Context(), repo, referrer(t, b, "application/x.sig", 3), nil)
	require.NoError(t, err)
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":%d,"digest":%q},{"mediaType":%q,"size":%d,"digest":%q},{"mediaType":%q,"size":9,"digest":"sha256:%064d"}]}`,
		types.OCIImageIndex, b.MediaType, b.Size, b.Digest, sig.MediaType, sig.Size, sig.Digest, sig.MediaType, 0)
	lie, err := r.WriteManifest(t.Context(), repo, types.OCIImageIndex, []byte(list))
	require.Error(t, err, "it names something that is not there")
	require.Zero(t, lie)
	h, size, err := v1.SHA256(strings.NewReader(list))
	require.NoError(t, err)
	require.NoError(t, r.WriteBlob(t.Context(), repo, v1.Descriptor{Digest: h, Size: size}, publish.BytesSource([]byte(list))))
	data, err := os.ReadFile(filepath.Join(dir, "okd/a/index.json"))
	require.NoError(t, err)
	entry := fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":%q,"annotations":{"org.olareg.referrer.subject":%q}},`, types.OCIImageIndex, size, h, a.Digest)
	write("index.json", strings.Replace(string(data), `"manifests":[`, `"manifests":[`+entry, 1))(t, filepath.Join(dir, "okd/a"))
	require.Empty(t, referrersOf(t, r, repo.Digest(a.Digest.String()), ""))
	require.Equal(t, []v1.Hash{sig.Digest}, referrersOf(t, r, repo.Digest(b.Digest.String()), ""))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	readableTags := 0
	for tag, err := range r.Tags(t.Context(), repo) {
		require.NoError(t, err)
		_, err = r.Image(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
		readableTags++
	}
	require.Equal(t, 2, readableTags)
}
