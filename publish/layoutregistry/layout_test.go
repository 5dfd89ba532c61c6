package layoutregistry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

func open(t testing.TB, dir string) *layoutregistry.Registry {
	t.Helper()
	r, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	return r
}

func randomImage(t testing.TB, seed uint64, size, layers int64) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	r := rand.New(rand.NewPCG(seed, 0))
	for range layers {
		l, err := random.Layer(size, types.OCIUncompressedLayer, random.WithSource(source{r}))
		require.NoError(t, err)
		img, err = mutate.AppendLayers(img, l)
		require.NoError(t, err)
	}
	return img
}

// source is math/rand's interface over math/rand/v2.
type source struct{ *rand.Rand }

func (s source) Int63() int64 { return s.Int64() }
func (s source) Seed(int64)   {}

// files lists what is below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, rel)
		return err
	}))
	return out
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/release")
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	config, err := img.ConfigName()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"okd", "okd/release", "okd/release/blobs", "okd/release/blobs/sha256", "okd/release/index.json", "okd/release/oci-layout",
		"okd/release/blobs/sha256/" + config.Hex, "okd/release/blobs/sha256/" + desc.Digest.Hex,
	}, files(t, dir))
	index := func() string {
		data, err := os.ReadFile(filepath.Join(dir, "okd/release/index.json"))
		require.NoError(t, err)
		return string(data)
	}
	entry := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":%d,"digest":"%s"`, desc.Size, desc.Digest)
	head := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`
	require.Equal(t, head+entry+"}]}\n", index())
	require.NoError(t, r.Tag(t.Context(), repo.Tag("a"), desc.Digest))
	require.Equal(t, head+entry+`,"annotations":{"org.opencontainers.image.ref.name":"a"}}]}`+"\n", index())
	require.NoError(t, r.Tag(t.Context(), repo.Tag("b"), desc.Digest))
	require.Equal(t, head+entry+`,"annotations":{"org.opencontainers.image.ref.name":"a"}},`+
		entry+`,"annotations":{"org.opencontainers.image.ref.name":"b"}}]}`+"\n", index())

	// What others wrote stays, and so does the file when nothing changes.
	foreign := strings.Replace(index(), `"manifests":[`, `"annotations":{"x":"y"},"unknown":1.0,"manifests":[ {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"`+
		strings.Replace(desc.Digest.String(), desc.Digest.Hex[:4], "0000", 1)+`", "new": true},`, 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "okd/release/index.json"), []byte(foreign), 0o644))
	require.NoError(t, r.Tag(t.Context(), repo.Tag("a"), desc.Digest))
	require.Equal(t, foreign, index())
	require.NoError(t, r.Tag(t.Context(), repo.Tag("c"), desc.Digest))
	require.Contains(t, index(), `"new": true`)
	require.Contains(t, index(), `"unknown":1.0`)
	require.Contains(t, index(), `"annotations":{"x":"y"}`)
}

func TestRepositoriesNest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	for i, path := range []string{"okd", "okd/release", "okd/release/deep"} {
		_, err := r.WriteImage(t.Context(), testRepo(t, path), randomImage(t, uint64(i), 100, 1), nil)
		require.NoError(t, err)
	}
	for _, path := range []string{"okd/blobs", "okd/index.json", "oci-layout/x", "okd/.tmp", "okd/..", "okd//x", "okd/-x", "_uploads"} {
		_, err := r.WriteImage(t.Context(), testRepo(t, "x").Registry.Repo("a").Registry.Repo(path), randomImage(t, 9, 100, 1), nil)
		if path == "okd/.." || path == "okd//x" {
			continue // cleaned by the reference itself
		}
		require.Error(t, err, path)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for _, dir := range []string{"", file, filepath.Join(file, "below")} {
		_, err := layoutregistry.Open(t.Context(), dir, nil)
		require.Error(t, err, dir)
	}
	dir := filepath.Join(t.TempDir(), "not", "yet")
	r := open(t, dir)
	require.Equal(t, dir, r.Dir())
	_, err := r.Head(t.Context(), testRepo(t, "a").Tag("t"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, r.Tag(t.Context(), testRepo(t, "a").Tag("t"), v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}), fs.ErrNotExist)
	require.NoDirExists(t, dir, "reading and failing make nothing")
}

// A hostile folder gives errors, and nothing outside of it is read.
func TestHostileLayout(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(`{"schemaVersion":2,"manifests":[]}`), 0o644))
	img := randomImage(t, 1, 100, 1)
	digest, err := img.Digest()
	require.NoError(t, err)
	for what, spoil := range map[string]func(t *testing.T, dir string){
		"no layout file":      func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "oci-layout"))) },
		"other version":       write("oci-layout", `{"imageLayoutVersion":"9.0.0"}`),
		"long layout file":    write("oci-layout", strings.Repeat(" ", 1<<20)),
		"not JSON":            write("index.json", `{"manifests":[`),
		"a list":              write("index.json", `[]`),
		"manifests an object": write("index.json", `{"manifests":{}}`),
		"digest a path":       write("index.json", `{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}`),
		"digest missing":      write("index.json", `{"manifests":[{"size":1}]}`),
		"unknown algorithm":   write("index.json", `{"manifests":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1}]}`),
		"negative size":       write("index.json", `{"manifests":[{"digest":"`+digest.String()+`","size":-1}]}`),
		"huge size":           write("index.json", `{"manifests":[{"digest":"`+digest.String()+`","size":9223372036854775807,"annotations":{"org.opencontainers.image.ref.name":"t"}}]}`),
		"wrong size":          write("index.json", `{"manifests":[{"digest":"`+digest.String()+`","size":3,"annotations":{"org.opencontainers.image.ref.name":"t"}}]}`),
		"huge index":          write("index.json", `{"manifests":[`+strings.Repeat(" ", layoutregistry.MaxIndexSize)+`]}`),
		"index is a link out": func(t *testing.T, dir string) { link(t, secret, filepath.Join(dir, "index.json")) },
		"index is a folder": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "index.json")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "index.json"), 0o755))
		},
		"index is a pipe": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "index.json")))
			require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o644))
		},
		"blob is a link out": func(t *testing.T, dir string) { link(t, secret, filepath.Join(dir, "blobs/sha256", digest.Hex)) },
		"blob is damaged":    func(t *testing.T, dir string) { write("blobs/sha256/"+digest.Hex, `{}`)(t, dir) },
		"blob is missing": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "blobs/sha256", digest.Hex)))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := open(t, dir)
			repo := testRepo(t, "okd/a")
			desc, err := r.WriteImage(t.Context(), repo, img, nil)
			require.NoError(t, err)
			require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), desc.Digest))
			spoil(t, filepath.Join(dir, "okd/a"))
			_, err = r.Image(t.Context(), repo.Tag("t"))
			require.Error(t, err)
			require.ErrorContains(t, err, "okd/a:t")
		})
	}
}

func write(name, text string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(name))
	require.NoError(t, os.Symlink(to, name))
}

func TestDamagedLayer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	img := randomImage(t, 2, 1000, 1)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	h, err := layers[0].Digest()
	require.NoError(t, err)
	blob := filepath.Join(dir, "okd/a/blobs/sha256", h.Hex)
	data, err := os.ReadFile(blob)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	write("blobs/sha256/"+h.Hex, string(data))(t, filepath.Join(dir, "okd/a"))
	got, err := r.Image(t.Context(), repo.Digest(desc.Digest.String()))
	require.NoError(t, err)
	gotLayers, err := got.Layers()
	require.NoError(t, err)
	rc, err := gotLayers[0].Compressed()
	require.NoError(t, err)
	defer rc.Close()
	_, err = io.ReadAll(rc)
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, h.String())

	// A blob of the wrong size is written anew.
	write("blobs/sha256/"+h.Hex, "short")(t, filepath.Join(dir, "okd/a"))
	_, err = r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
}

// fileLayer's reader is a file, as a layer cache's is.
type fileLayer struct {
	v1.Layer
	path string
}

func (f fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(f.path) }

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		perm   fs.FileMode
		data   string
		linked bool
		err    error
	}{
		{"read-only file is linked", 0o444, "content", true, nil},
		{"writable file is copied", 0o644, "content", false, nil},
		{"wrong content", 0o444, "CONTENT", false, publish.ErrDigest},
		{"wrong length", 0o444, "content and more", false, publish.ErrDigest},
		{"wrong content, writable", 0o644, "CONTENT", false, publish.ErrDigest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "cached")
			require.NoError(t, os.WriteFile(path, []byte(tc.data), 0o644))
			require.NoError(t, os.Chmod(path, tc.perm))
			img, err := mutate.AppendLayers(empty.Image, fileLayer{static.NewLayer([]byte("content"), types.OCIUncompressedLayer), path})
			require.NoError(t, err)
			r := open(t, filepath.Join(dir, "registry"))
			desc, err := r.WriteImage(t.Context(), testRepo(t, "okd/a"), img, nil)
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				require.Empty(t, list(t, filepath.Join(dir, "registry/okd/a/.tmp")))
				return
			}
			require.NoError(t, err)
			layers, err := img.Layers()
			require.NoError(t, err)
			h, err := layers[0].Digest()
			require.NoError(t, err)
			a, err := os.Stat(path)
			require.NoError(t, err)
			b, err := os.Stat(filepath.Join(dir, "registry/okd/a/blobs/sha256", h.Hex))
			require.NoError(t, err)
			require.Equal(t, tc.linked, os.SameFile(a, b))
			// From one repository to another, blobs are linked too.
			got, err := r.Image(t.Context(), testRepo(t, "okd/a").Digest(desc.Digest.String()))
			require.NoError(t, err)
			_, err = r.WriteImage(t.Context(), testRepo(t, "okd/b"), got, nil)
			require.NoError(t, err)
			c, err := os.Stat(filepath.Join(dir, "registry/okd/b/blobs/sha256", h.Hex))
			require.NoError(t, err)
			require.True(t, os.SameFile(b, c))
		})
	}
}

func list(t testing.TB, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	return entries
}

func TestLockWaitsAndEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, err := r.WriteImage(t.Context(), repo, randomImage(t, 3, 100, 1), nil)
	require.NoError(t, err)
	other, err := os.Open(filepath.Join(dir, "okd/a"))
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.WriteImage(ctx, repo, randomImage(t, 4, 100, 1), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	done := make(chan error)
	go func() {
		_, err := r.WriteImage(t.Context(), repo, randomImage(t, 4, 100, 1), nil)
		done <- err
	}()
	require.NoError(t, other.Close())
	require.NoError(t, <-done)
}

// These make the test program write images, or collect garbage, until it is
// killed.
const (
	helperVariable    = "LAYOUTREGISTRY_TEST_WRITE"
	collectorVariable = "LAYOUTREGISTRY_TEST_COLLECT"
)

func TestMain(m *testing.M) {
	for variable, run := range map[string]func(string) error{helperVariable: writeForEver, collectorVariable: collectForEver} {
		if dir := os.Getenv(variable); dir != "" {
			if err := run(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// helper starts the test program as one of these and waits until it works.
func helper(t *testing.T, variable, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 1))
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
	return cmd
}

// collectForEver takes everything for old that has no tag right now.
func collectForEver(dir string) error {
	ctx := context.Background()
	r, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	for {
		if _, err := r.GC(ctx, &layoutregistry.GCOptions{Now: later(), Grace: time.Nanosecond}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fmt.Println("collected")
		time.Sleep(time.Millisecond)
	}
}

func killImage(seed uint64) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for i := range 3 {
		data := make([]byte, 100_000)
		r := rand.NewChaCha8([32]byte{byte(seed), byte(i)})
		_, _ = r.Read(data) // never fails
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(data, types.OCIUncompressedLayer)); err != nil {
			return nil, err
		}
	}
	return img, nil
}

func writeForEver(dir string) error {
	ctx := context.Background()
	r, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	repo := testRepo(&testing.T{}, "okd/a")
	for seed := uint64(0); ; seed++ {
		img, err := killImage(seed % 10)
		if err != nil {
			return err
		}
		// Beside a collector without any grace an image may go before it is
		// tagged, or lose blobs as fast as they come; that must be said.
		desc, err := r.WriteImage(ctx, repo, img, nil)
		if err == nil {
			err = r.Tag(ctx, repo.Tag(fmt.Sprintf("t%d", seed%10)), desc.Digest)
		}
		if err == nil {
			err = r.Tag(ctx, repo.Tag("newest"), desc.Digest)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fmt.Println("written")
	}
}

// Whenever a writer is killed, what is named is whole, and the next writer
// goes on and leaves no trace of the first.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	for i := range 6 {
		cmd := helper(t, helperVariable, dir)
		time.Sleep(time.Duration(i*i) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		for tag, err := range r.Tags(t.Context(), repo) {
			require.NoError(t, err)
			img, err := r.Image(t.Context(), repo.Tag(tag))
			require.NoError(t, err)
			layers, err := img.Layers()
			require.NoError(t, err)
			for _, l := range layers {
				rc, err := l.Compressed()
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, rc)
				require.NoError(t, err)
				require.NoError(t, rc.Close())
			}
		}
	}
	_, err := r.WriteImage(t.Context(), repo, randomImage(t, 5, 100, 1), nil)
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Join(dir, "okd/a/.tmp"))
}

// A collector that takes everything without a tag for old, beside two writers
// in processes of their own: what has a tag is whole at any time, also when all
// are killed.
func TestKilledCollector(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, err := r.WriteImage(t.Context(), repo, randomImage(t, 5, 100, 1), nil)
	require.NoError(t, err)
	for i := range 4 {
		all := []*exec.Cmd{helper(t, helperVariable, dir), helper(t, helperVariable, dir), helper(t, collectorVariable, dir)}
		whole := func() {
			for tag, err := range r.Tags(t.Context(), repo) {
				require.NoError(t, err)
				img, err := r.Image(t.Context(), repo.Tag(tag))
				require.NoError(t, err)
				layers, err := img.Layers()
				require.NoError(t, err)
				for _, l := range layers {
					rc, err := l.Compressed()
					if errors.Is(err, fs.ErrNotExist) {
						// The tag moved on since, and nothing protects what lost it.
						head, err2 := r.Head(t.Context(), repo.Tag(tag))
						require.NoError(t, err2)
						digest, err2 := img.Digest()
						require.NoError(t, err2)
						require.NotEqual(t, digest, head.Digest, err)
						continue
					}
					require.NoError(t, err)
					_, err = io.Copy(io.Discard, rc)
					require.NoError(t, err)
					require.NoError(t, rc.Close())
				}
			}
		}
		for range 3 {
			whole()
		}
		time.Sleep(time.Duration(i*7) * time.Millisecond)
		for _, cmd := range all {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait() // killed
		}
		require.NoError(t, r.Verify(t.Context(), repo, nil))
		_, err := layout.ImageIndexFromPath(filepath.Join(dir, "okd/a"))
		require.NoError(t, err)
	}
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	require.NoError(t, r.Verify(t.Context(), repo, nil))
	again, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	require.Zero(t, again.Bytes, "after %+v", report)
	require.NoDirExists(t, filepath.Join(dir, "okd/a/.tmp"))
}

func TestValidatedByGoContainerregistry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	idx, err := random.Index(500, 2, 3)
	require.NoError(t, err)
	_, err = r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), repo, randomImage(t, 6, 500, 2), nil)
	require.NoError(t, err)
	whole, err := layout.ImageIndexFromPath(filepath.Join(dir, "okd/a"))
	require.NoError(t, err)
	require.NoError(t, validate.Index(whole))
	kept, err := idx.Digest()
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("kept"), kept))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	whole, err = layout.ImageIndexFromPath(filepath.Join(dir, "okd/a"))
	require.NoError(t, err)
	require.NoError(t, validate.Index(whole), "after a collection too")

	// And the other way round.
	theirs := filepath.Join(dir, "theirs")
	p, err := layout.Write(theirs, empty.Index)
	require.NoError(t, err)
	img := randomImage(t, 7, 500, 2)
	require.NoError(t, p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})))
	require.NoError(t, p.AppendIndex(idx))
	got, err := r.Image(t.Context(), testRepo(t, "theirs").Tag("v1"))
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
	digest, err := idx.Digest()
	require.NoError(t, err)
	gotIndex, err := r.Index(t.Context(), testRepo(t, "theirs").Digest(digest.String()))
	require.NoError(t, err)
	require.NoError(t, validate.Index(gotIndex))
}

func TestSkopeo(t *testing.T) {
	interop.Peer(t, "skopeo")
	skopeo := func(args ...string) []byte {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy"}, args...)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%v: %s", args, stderr.String())
		return out
	}
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	img := randomImage(t, 8, 5000, 3)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("v1"), desc.Digest))

	var inspected struct{ Digest string }
	require.NoError(t, json.Unmarshal(skopeo("inspect", "oci:"+filepath.Join(dir, "okd/a")+":v1"), &inspected))
	require.Equal(t, desc.Digest.String(), inspected.Digest)

	// Theirs from ours, and ours from theirs.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "okd"), 0o755))
	skopeo("copy", "--preserve-digests", "oci:"+filepath.Join(dir, "okd/a")+":v1", "oci:"+filepath.Join(dir, "okd/b")+":v2")
	got, err := r.Image(t.Context(), testRepo(t, "okd/b").Tag("v2"))
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
	back, err := r.WriteImage(t.Context(), testRepo(t, "okd/c"), got, nil)
	require.NoError(t, err)
	require.Equal(t, desc.Digest, back.Digest)

	// skopeo adds to a layout of ours; an index goes as a whole.
	skopeo("copy", "--preserve-digests", "oci:"+filepath.Join(dir, "okd/b")+":v2", "oci:"+filepath.Join(dir, "okd/a")+":from-skopeo")
	head, err := r.Head(t.Context(), repo.Tag("from-skopeo"))
	require.NoError(t, err)
	require.Equal(t, desc.Digest, head.Digest)
	idx, err := random.Index(500, 1, 2)
	require.NoError(t, err)
	multi, err := r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("multi"), multi.Digest))
	sig, err := r.WriteImage(t.Context(), repo, referrer(t, desc, "application/x.sig", 20), nil)
	require.NoError(t, err)
	require.NoError(t, r.Untag(t.Context(), repo.Tag("v1")))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	require.Equal(t, []v1.Hash{sig.Digest}, referrersOf(t, r, repo.Digest(desc.Digest.String()), ""))
	skopeo("copy", "--all", "--preserve-digests", "oci:"+filepath.Join(dir, "okd/a")+":multi", "oci:"+filepath.Join(dir, "okd/d")+":multi")
	skopeo("copy", "--preserve-digests", "oci:"+filepath.Join(dir, "okd/a")+":from-skopeo", "oci:"+filepath.Join(dir, "okd/e")+":v1")
	require.NoError(t, r.Verify(t.Context(), testRepo(t, "okd/e"), nil))
	require.NoError(t, r.Delete(t.Context(), repo.Digest(desc.Digest.String())))
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	skopeo("copy", "--all", "--preserve-digests", "oci:"+filepath.Join(dir, "okd/a")+":multi", "oci:"+filepath.Join(dir, "okd/f")+":multi")
	require.NoError(t, r.Verify(t.Context(), testRepo(t, "okd/f"), nil))
	gotIndex, err := r.Index(t.Context(), testRepo(t, "okd/d").Tag("multi"))
	require.NoError(t, err)
	require.NoError(t, validate.Index(gotIndex))
}

func FuzzIndex(f *testing.F) {
	h := strings.Repeat("ab", 32)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"sha256:`+h+`","annotations":{"org.opencontainers.image.ref.name":"a"}}]}`), "a")
	f.Add([]byte(`{"manifests":[{"size":3,"digest":"sha256:`+h+`"},{"size":3,"digest":"sha256:`+h+`","annotations":{"org.opencontainers.image.ref.name":"b"}}],"x":[1,2]}`), "b")
	f.Add([]byte(`{"manifests":null,"annotations":{}}`), "c")
	f.Add([]byte(`null`), "d")
	f.Add([]byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":3,"digest":"sha256:`+h+`","annotations":{"org.opencontainers.image.ref.name":"sha256-`+h+`"}},{"size":3,"digest":"sha256:`+h+`","annotations":{"org.olareg.referrer.subject":"sha256:`+h+`"}}]}`), "sha256-x")
	f.Add([]byte(`{"annotations":[],"manifests":[]}`), "f")
	for doc := range mutants.Of(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"sha256:` + h + `","annotations":{"org.opencontainers.image.ref.name":"a"}}]}`) {
		f.Add([]byte(doc), "a")
	}
	f.Add([]byte(`{"manifests":[{"digest":"sha256:../x"}]}`), "e")
	f.Fuzz(func(t *testing.T, data []byte, tag string) {
		layoutregistry.CheckIndex(t, data, tag)
	})
}

func BenchmarkWrite(b *testing.B) {
	data := make([]byte, 64<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data) // never fails
	cached := filepath.Join(b.TempDir(), "cached")
	require.NoError(b, os.WriteFile(cached, data, 0o444))
	for name, l := range map[string]v1.Layer{
		"copied": static.NewLayer(data, types.OCIUncompressedLayer),
		"linked": fileLayer{static.NewLayer(data, types.OCIUncompressedLayer), cached},
	} {
		b.Run(name, func(b *testing.B) {
			img, err := mutate.AppendLayers(empty.Image, l)
			require.NoError(b, err)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				dir, err := os.MkdirTemp(filepath.Dir(cached), "")
				require.NoError(b, err)
				reg, err := layoutregistry.Open(b.Context(), dir, nil)
				require.NoError(b, err)
				_, err = reg.WriteImage(b.Context(), testRepo(b, "okd/a"), img, nil)
				require.NoError(b, err)
				require.NoError(b, os.RemoveAll(dir))
			}
		})
	}
}

// BenchmarkGC walks a repository of 200 images of 8 layers in which there is
// nothing to remove; bytes are those of its manifests.
func BenchmarkGC(b *testing.B) {
	dir := b.TempDir()
	r, err := layoutregistry.Open(b.Context(), dir, &layoutregistry.Options{NoSync: true})
	require.NoError(b, err)
	repo := testRepo(b, "okd/a")
	var size int64
	for i := range 200 {
		desc, err := r.WriteImage(b.Context(), repo, randomImage(b, uint64(i), 100, 8), nil)
		require.NoError(b, err)
		require.NoError(b, r.Tag(b.Context(), repo.Tag(fmt.Sprint("t", i)), desc.Digest))
		size += desc.Size
	}
	b.SetBytes(size)
	now := later()
	for b.Loop() {
		report, err := r.GC(b.Context(), &layoutregistry.GCOptions{Now: now})
		require.NoError(b, err)
		require.Zero(b, report.Bytes)
	}
}

func BenchmarkMountBlob(b *testing.B) {
	dir := b.TempDir()
	r, err := layoutregistry.Open(b.Context(), dir, nil)
	require.NoError(b, err)
	data := make([]byte, 64<<20)
	h, size, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(b, err)
	from := testRepo(b, "okd/from")
	require.NoError(b, r.WriteBlob(b.Context(), from, v1.Descriptor{Digest: h, Size: size}, publish.BytesSource(data)))
	b.SetBytes(size)
	for i := 0; b.Loop(); i++ {
		require.NoError(b, r.MountBlob(b.Context(), testRepo(b, fmt.Sprintf("okd/a%d", i)), h, from))
	}
}
