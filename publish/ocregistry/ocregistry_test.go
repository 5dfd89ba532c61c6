package ocregistry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ocregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func testRepo(t testing.TB, path string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository("registry.example/" + path)
	require.NoError(t, err)
	return repo
}

func TestConformance(t *testing.T) {
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		r, err := ocregistry.Open(t.Context(), t.TempDir(), &ocregistry.Options{NoSync: true})
		require.NoError(t, err)
		return r, testRepo(t, "okd/release")
	}, publishtest.ClaimBlobs, publishtest.ClaimReferrers)
}

func open(t testing.TB, dir string) *ocregistry.Registry {
	t.Helper()
	r, err := ocregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	return r
}

func randomImage(t testing.TB) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 2)
	require.NoError(t, err)
	return img
}

func namesBelow(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, relErr := filepath.Rel(dir, p)
			require.NoError(t, relErr)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	}))
	return out
}

// The names that oc gives files, their modes whatever the umask is, and nothing
// else.
func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := open(t, dir)
	repo := testRepo(t, "okd/release")
	img := randomImage(t)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, r.Tag(t.Context(), repo.Tag("4.20"), desc.Digest))
	}
	m, err := img.Manifest()
	require.NoError(t, err)
	want := []string{"v2/okd/release/manifests/4.20", "v2/okd/release/manifests/" + desc.Digest.String(), "v2/okd/release/blobs/" + desc.Digest.String(), "v2/okd/release/blobs/" + m.Config.Digest.String()}
	for _, l := range m.Layers {
		want = append(want, "v2/okd/release/blobs/"+l.Digest.String())
	}
	require.ElementsMatch(t, want, namesBelow(t, dir))
	target, err := os.Readlink(filepath.Join(dir, want[0]))
	require.NoError(t, err)
	require.Equal(t, desc.Digest.String(), target)
	for _, name := range want[1:] {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o644), info.Mode())
	}
	one, err := os.Stat(filepath.Join(dir, want[1]))
	require.NoError(t, err)
	two, err := os.Stat(filepath.Join(dir, want[2]))
	require.NoError(t, err)
	require.True(t, os.SameFile(one, two))
}

// What a killed writer left goes, what is being written stays.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	repo := testRepo(t, "okd/release")
	_, err := open(t, dir).WriteImage(t.Context(), repo, randomImage(t), nil)
	require.NoError(t, err)
	before := namesBelow(t, dir)
	blobs := filepath.Join(dir, "v2", "okd", "release", "blobs")
	dead := filepath.Join(blobs, "sha256:"+strings.Repeat("a", 64)+".download-0")
	alive := filepath.Join(blobs, "sha256:"+strings.Repeat("b", 64)+".download-0")
	for _, p := range []string{dead, alive} {
		require.NoError(t, os.WriteFile(p, []byte("half"), 0o600))
	}
	file, err := os.Open(alive)
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, ociimage.TryLock(file))
	r := open(t, dir)
	_, err = r.StatBlob(t.Context(), repo, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.FileExists(t, dead, "reading changes nothing")
	_, err = r.WriteImage(t.Context(), repo, randomImage(t), nil)
	require.NoError(t, err)
	require.NoFileExists(t, dead)
	require.FileExists(t, alive)
	for _, name := range before {
		_, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
	}
}

// cancelling ends its reader's context as soon as it is opened.
type cancelling struct {
	publish.Source
	cancel context.CancelFunc
}

func (c cancelling) Open(ctx context.Context) (io.ReadCloser, error) {
	c.cancel()
	return c.Source.Open(ctx)
}

// A write that fails leaves nothing.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	r, repo := open(t, dir), testRepo(t, "okd/release")
	blob := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, Size: 3}
	require.ErrorIs(t, r.WriteBlob(t.Context(), repo, blob, publish.BytesSource([]byte("abc"))), publish.ErrDigest)
	ctx, cancel := context.WithCancel(t.Context())
	err := r.WriteBlob(ctx, repo, blob, cancelling{publish.BytesSource([]byte("abc")), cancel})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, namesBelow(t, dir))
	_, err = r.WriteManifest(t.Context(), repo, types.OCIManifestSchema1, []byte("{}"))
	require.Error(t, err)
	require.Empty(t, namesBelow(t, dir))
}

// What a stranger put into the folder is refused, and nothing outside of it is
// read or written.
func TestHostileFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("names with colons")
	}
	setup := func(t *testing.T) (string, *ocregistry.Registry, name.Repository, v1.Descriptor, v1.Image) {
		dir := t.TempDir()
		r, repo := open(t, dir), testRepo(t, "okd/release")
		img := randomImage(t)
		desc, err := r.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), desc.Digest))
		return filepath.Join(dir, "v2", "okd", "release"), r, repo, desc, img
	}
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("{}"), 0o600))

	t.Run("tag that leads out", func(t *testing.T) {
		dir, r, repo, _, _ := setup(t)
		require.NoError(t, os.Symlink(outside, filepath.Join(dir, "manifests", "out")))
		_, err := r.Head(t.Context(), repo.Tag("out"))
		require.Error(t, err)
	})
	t.Run("tag of another content", func(t *testing.T) {
		dir, r, repo, desc, _ := setup(t)
		require.NoError(t, os.Remove(filepath.Join(dir, "manifests", "t")))
		raw, err := os.ReadFile(filepath.Join(dir, "manifests", desc.Digest.String()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "manifests", "t"), append(raw, '\n'), 0o600))
		_, err = r.Image(t.Context(), repo.Tag("t"))
		require.ErrorIs(t, err, publish.ErrDigest)
	})
	t.Run("forged manifest", func(t *testing.T) {
		dir, r, repo, desc, _ := setup(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "manifests", desc.Digest.String()), []byte("{}"), 0o600))
		for _, ref := range []name.Reference{repo.Tag("t"), repo.Digest(desc.Digest.String())} {
			_, err := r.Image(t.Context(), ref)
			require.ErrorIs(t, err, publish.ErrDigest)
		}
	})
	t.Run("forged layer", func(t *testing.T) {
		dir, r, repo, _, img := setup(t)
		m, err := img.Manifest()
		require.NoError(t, err)
		p := filepath.Join(dir, "blobs", m.Layers[0].Digest.String())
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		raw[0] ^= 1
		require.NoError(t, os.WriteFile(p, raw, 0o600))
		rc, err := r.OpenBlob(t.Context(), repo, m.Layers[0])
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, rc)
		require.ErrorIs(t, errors.Join(err, rc.Close()), publish.ErrDigest)
		// It does not spread to another repository either.
		err = r.MountBlob(t.Context(), testRepo(t, "okd/other"), m.Layers[0].Digest, repo)
		require.ErrorIs(t, err, publish.ErrDigest)
	})
	t.Run("pipe", func(t *testing.T) {
		dir, r, repo, _, _ := setup(t)
		require.NoError(t, os.Mkdir(filepath.Join(dir, "manifests", "dir"), 0o755))
		_, err := r.Head(t.Context(), repo.Tag("dir"))
		require.ErrorContains(t, err, "not a regular file")
	})
	t.Run("large manifest", func(t *testing.T) {
		dir, r, repo, _, _ := setup(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "manifests", "big"), make([]byte, ociimage.MaxManifestSize+1), 0o600))
		_, err := r.Head(t.Context(), repo.Tag("big"))
		require.ErrorContains(t, err, "limit 4194304")
	})
	t.Run("folder that leads out", func(t *testing.T) {
		dir, r, _, _, img := setup(t)
		escape := t.TempDir()
		require.NoError(t, os.Symlink(escape, filepath.Join(filepath.Dir(dir), "evil")))
		_, err := r.WriteImage(t.Context(), testRepo(t, "okd/evil"), img, nil)
		require.Error(t, err)
		require.Empty(t, namesBelow(t, escape))
	})
}

// The list of referrers does not depend on the order in which they came, and
// leaves no older lists.
func TestReferrersList(t *testing.T) {
	subject, err := random.Image(100, 1)
	require.NoError(t, err)
	digest, err := subject.Digest()
	require.NoError(t, err)
	var list []v1.Image
	for range 3 {
		img := mutate.MediaType(randomImage(t), types.OCIManifestSchema1)
		list = append(list, mutate.Subject(img, v1.Descriptor{MediaType: types.DockerManifestSchema2, Digest: digest, Size: 1}).(v1.Image))
	}
	var folders [][]string
	for range 2 {
		dir := t.TempDir()
		r, repo := open(t, dir), testRepo(t, "okd/release")
		for _, img := range list {
			for range 2 {
				_, err := r.WriteImage(t.Context(), repo, img, nil)
				require.NoError(t, err)
			}
		}
		slices.Reverse(list)
		folders = append(folders, namesBelow(t, dir))
		for tag, err := range r.Tags(t.Context(), repo) {
			require.NoError(t, err)
			require.Fail(t, "the list is no tag", tag)
		}
	}
	require.Equal(t, folders[0], folders[1])
}

func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{"", file} {
		_, err := ocregistry.Open(t.Context(), dir, nil)
		require.Error(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := ocregistry.Open(ctx, t.TempDir(), nil)
	require.ErrorIs(t, err, context.Canceled)
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "mirror-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	registry, err := ocregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := name.NewRepository("mirror.example.com/openshift/release")
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, err := registry.WriteImage(ctx, repo, empty.Image, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := registry.Tag(ctx, repo.Tag("4.20.0-okd-scos.1-x86_64"), desc.Digest); err != nil {
		fmt.Println(err)
		return
	}
	tag, err := os.Readlink(filepath.Join(dir, "v2/openshift/release/manifests/4.20.0-okd-scos.1-x86_64"))
	fmt.Println(tag == desc.Digest.String(), err)
	// Output:
	// true <nil>
}

func BenchmarkWriteBlob(b *testing.B) {
	data := make([]byte, 8<<20)
	digest, _, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(b, err)
	r, err := ocregistry.Open(b.Context(), b.TempDir(), &ocregistry.Options{NoSync: true})
	require.NoError(b, err)
	repo := testRepo(b, "okd/release")
	blob := v1.Descriptor{Digest: digest, Size: int64(len(data))}
	b.SetBytes(blob.Size)
	for b.Loop() {
		require.NoError(b, r.WriteBlob(b.Context(), repo, blob, publish.BytesSource(data)))
	}
}
