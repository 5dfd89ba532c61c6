package remoteregistry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestConformanceDockerRegistry(t *testing.T) {
	host := interop.Registry(t)
	n := make(chan int, 1)
	n <- 0
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		i := <-n
		n <- i + 1
		return open(t, &remoteregistry.Options{PageSize: 50}), repository(t, host, "okd/release"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	})
}

func TestConformanceDockerRegistryChunked(t *testing.T) {
	host := interop.Registry(t)
	n := make(chan int, 1)
	n <- 0
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		i := <-n
		n <- i + 1
		return open(t, &remoteregistry.Options{PageSize: 7, ChunkSize: 8<<20 + 1, Concurrency: 1}), repository(t, host, "okd/release"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	})
}

// skopeo reads what we wrote and we read what it wrote.
func TestSkopeo(t *testing.T) {
	interop.Peer(t, "skopeo")
	host := interop.Registry(t)
	skopeo := func(args ...string) []byte {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy"}, args...)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%v: %s", args, stderr.String())
		return out
	}
	r := open(t, nil)
	repo := repository(t, host, "okd/a")
	img := mutate.ConfigMediaType(image(t, 50, 3000, large+3), types.OCIConfigJSON)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("v1"), desc.Digest))
	var inspected struct{ Digest string }
	require.NoError(t, json.Unmarshal(skopeo("inspect", "--tls-verify=false", "docker://"+repo.Tag("v1").String()), &inspected))
	require.Equal(t, desc.Digest.String(), inspected.Digest)
	skopeo("copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+repo.Tag("v1").String(), "docker://"+host+"/okd/b:v2")
	got, err := r.Image(t.Context(), repository(t, host, "okd/b").Tag("v2"))
	require.NoError(t, err)
	checkPushed(t, "http://"+host, "okd/b", img)
	require.Equal(t, desc.Digest, digest(t, got))
	// From one registry to another, through us.
	back, err := r.WriteImage(t.Context(), repository(t, host, "okd/c"), got, nil)
	require.NoError(t, err)
	require.Equal(t, desc.Digest, back.Digest)
}

// What is attached to an image by name goes through skopeo as it is.
func TestSkopeoAttached(t *testing.T) {
	interop.Peer(t, "skopeo")
	host := interop.Registry(t)
	skopeo := func(args ...string) []byte {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy"}, args...)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%v: %s", args, stderr.String())
		return out
	}
	r := open(t, nil)
	repo := repository(t, host, "okd/a")
	subject, err := r.WriteImage(t.Context(), repo, image(t, 51, 100), nil)
	require.NoError(t, err)
	at := repo.Digest(subject.Digest.String())
	note, err := r.WriteImage(t.Context(), repo, referrer(t, 52, subject, string(types.OCIConfigJSON)), nil)
	require.NoError(t, err)
	index, err := remoteregistry.AttachedTag(at, remoteregistry.ReferrersSuffix)
	require.NoError(t, err)
	var read struct{ Manifests []v1.Descriptor }
	require.NoError(t, json.Unmarshal(skopeo("inspect", "--raw", "--tls-verify=false", "docker://"+index.String()), &read))
	require.Len(t, read.Manifests, 1)
	require.Equal(t, note.Digest, read.Manifests[0].Digest)

	// A signature as cosign names it, written by us, copied by skopeo, read by us.
	signature, err := remoteregistry.AttachedTag(at, remoteregistry.SignatureSuffix)
	require.NoError(t, err)
	signed := mutate.ConfigMediaType(image(t, 53, 200), types.OCIConfigJSON)
	desc, err := r.WriteImage(t.Context(), repo, signed, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), signature, desc.Digest))
	other := repository(t, host, "okd/b")
	copied, err := remoteregistry.AttachedTag(other.Digest(subject.Digest.String()), remoteregistry.SignatureSuffix)
	require.NoError(t, err)
	skopeo("copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+signature.String(), "docker://"+copied.String())
	head, err := r.Head(t.Context(), copied)
	require.NoError(t, err)
	require.Equal(t, desc.Digest, head.Digest)
	// skopeo deletes what we wrote.
	skopeo("delete", "--tls-verify=false", "docker://"+copied.String())
	_, err = r.Head(t.Context(), copied)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// go-containerregistry reads what we wrote and we read what it wrote.
func TestGoContainerregistry(t *testing.T) {
	t.Parallel()
	testGoContainerregistry(t, host(server(t)))
}

func TestGoContainerregistryDockerRegistry(t *testing.T) {
	testGoContainerregistry(t, interop.Registry(t))
}

func testGoContainerregistry(t *testing.T, target string) {
	r := open(t, nil)
	ours, theirs := repository(t, target, "okd/ours"), repository(t, target, "okd/theirs")
	idx, err := random.Index(1000, 2, 3)
	require.NoError(t, err)
	idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: image(t, 54, 3000, large+1)})
	ctx := remote.WithContext(t.Context())

	desc, err := r.WriteIndex(t.Context(), ours, idx, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), ours.Tag("t"), desc.Digest))
	read, err := remote.Index(ours.Tag("t"), ctx)
	require.NoError(t, err)
	require.NoError(t, validate.Index(read, validate.Fast))
	require.NoError(t, remote.WriteIndex(theirs.Tag("t"), idx, ctx))
	got, err := r.Index(t.Context(), theirs.Tag("t"))
	require.NoError(t, err)
	require.NoError(t, validate.Index(got, validate.Fast))
	m, err := got.IndexManifest()
	require.NoError(t, err)
	for _, child := range m.Manifests {
		img, err := got.Image(child.Digest)
		require.NoError(t, err)
		require.NoError(t, readAll(img))
		same, err := remote.Image(ours.Digest(child.Digest.String()), ctx)
		require.NoError(t, err)
		require.NoError(t, readAll(same))
	}
	tags, err := remote.List(ours, ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"t"}, tags)
}

// The benchmarks move an image of one blob of 1 GiB (64 MiB with -short) from a
// file to docker-registry, which is another process, and back to nowhere: beside
// us go-containerregistry, as crane does it, and skopeo. VmHWM is of this
// process; run one sub-benchmark alone for it.
func benchmarkSize() int64 {
	if testing.Short() {
		return 64 << 20
	}
	return 1 << 30
}

func bigImage(b *testing.B, dir string) v1.Image {
	b.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, writeLayer(b, filepath.Join(dir, "blob"), 1, benchmarkSize()))
	require.NoError(b, err)
	return img
}

func BenchmarkPush(b *testing.B) {
	target := interop.Registry(b)
	dir := b.TempDir()
	img := bigImage(b, dir)
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	require.NoError(b, err)
	for name, push := range map[string]func(b *testing.B, repo name.Repository) error{
		"ours": func(b *testing.B, repo name.Repository) error {
			_, err := open(b, nil).WriteImage(b.Context(), repo, img, nil)
			return err
		},
		"stream": func(b *testing.B, repo name.Repository) error {
			f, err := os.Open(filepath.Join(dir, "blob"))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = open(b, nil).WriteStream(b.Context(), repo, f)
			return err
		},
		"go-containerregistry": func(b *testing.B, repo name.Repository) error {
			return remote.Write(repo.Tag("t"), img, remote.WithContext(b.Context()))
		},
		"skopeo": func(b *testing.B, repo name.Repository) error {
			return exec.CommandContext(b.Context(), "skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "--insecure-policy",
				"oci:"+string(path), "docker://"+repo.Tag("t").String()).Run()
		},
	} {
		b.Run(name, func(b *testing.B) {
			if name == "skopeo" {
				interop.Peer(b, "skopeo")
				require.NoError(b, path.ReplaceImage(img, match.Digests(digest(b, img))))
			}
			b.SetBytes(benchmarkSize())
			for n := 0; b.Loop(); n++ {
				require.NoError(b, push(b, repository(b, target, fmt.Sprintf("okd/%s%d", name, n))))
			}
			b.ReportMetric(highWater(b), "VmHWM-MiB")
		})
	}
}

func BenchmarkPull(b *testing.B) {
	target := interop.Registry(b)
	img := bigImage(b, b.TempDir())
	repo := repository(b, target, "okd/a")
	desc, err := open(b, nil).WriteImage(b.Context(), repo, img, nil)
	require.NoError(b, err)
	require.NoError(b, open(b, nil).Tag(b.Context(), repo.Tag("t"), desc.Digest))
	for name, pull := range map[string]func(b *testing.B) error{
		"ours": func(b *testing.B) error {
			got, err := open(b, nil).Image(b.Context(), repo.Tag("t"))
			if err != nil {
				return err
			}
			return readAll(got)
		},
		"go-containerregistry": func(b *testing.B) error {
			got, err := remote.Image(repo.Tag("t"), remote.WithContext(b.Context()))
			if err != nil {
				return err
			}
			return readAll(got)
		},
		"skopeo": func(b *testing.B) error {
			return exec.CommandContext(b.Context(), "skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--insecure-policy",
				"docker://"+repo.Tag("t").String(), "dir:"+b.TempDir()).Run()
		},
	} {
		b.Run(name, func(b *testing.B) {
			if name == "skopeo" {
				interop.Peer(b, "skopeo")
			}
			b.SetBytes(benchmarkSize())
			for b.Loop() {
				require.NoError(b, pull(b))
			}
			b.ReportMetric(highWater(b), "VmHWM-MiB")
		})
	}
}

// fileLayer is a layer in a file whose digest is known, as a layer cache has it.
type fileLayer struct {
	v1.Layer
	path string
	hash v1.Hash
	size int64
}

func (f fileLayer) Digest() (v1.Hash, error)             { return f.hash, nil }
func (f fileLayer) DiffID() (v1.Hash, error)             { return f.hash, nil }
func (f fileLayer) Size() (int64, error)                 { return f.size, nil }
func (f fileLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (f fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(f.path) }
func (f fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(f.path) }

func writeLayer(t testing.TB, path string, seed uint64, size int64) v1.Layer {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	h, _, err := v1.SHA256(io.TeeReader(io.LimitReader(r, size), f))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return fileLayer{path: path, hash: h, size: size}
}

// highWater is the process's peak resident size in MiB.
func highWater(t testing.TB) float64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	require.True(t, ok)
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib / 1024
}
