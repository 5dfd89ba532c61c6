package container_test

import (
	"archive/tar"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// importTree commits a tree of everything that a commit can have.
func importTree(t testing.TB, seed uint64) (*ostree.Repo, ostree.Checksum) {
	t.Helper()
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), treegen.Tree(seed, &treegen.Options{Files: 120, MaxSize: 3 << 20, Root: true}), &ostree.CommitOptions{
		Subject: "tree", Timestamp: time.Unix(1700000000, 0), NoFsync: true, Edit: func(e *ostree.Entry) (bool, error) {
			// A bare repository can't keep attributes without a value.
			e.Xattrs = slices.DeleteFunc(slices.Clone(e.Xattrs), func(x ostree.Xattr) bool { return len(x.Value) == 0 })
			return e.Path != "sysroot/ostree", nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, repo.SetRef(t.Context(), "tree", c))
	return repo, c
}

// importSplit spreads a commit's objects over eight components.
func importSplit(t testing.TB, repo *ostree.Repo, c ostree.Checksum) []container.Component {
	t.Helper()
	var out []container.Component
	for i, component := range split(t, repo, c) {
		n := i % 8
		if n == len(out) {
			out = append(out, container.Component{ID: fmt.Sprint("component ", n)})
		}
		for _, o := range component.Objects {
			if !slices.ContainsFunc(out, func(c container.Component) bool { return slices.Contains(c.Objects, o) }) {
				out[n].Objects = append(out[n].Objects, o)
			}
		}
	}
	return out
}

// import(encapsulate(c)) is c.
func TestImportIsTheReverseOfEncapsulate(t *testing.T) {
	repo, c := importTree(t, 1)
	components := importSplit(t, repo, c)
	cache := openCache(t, t.TempDir())
	modes := importModes()
	n := 0
	for _, opts := range []container.EncapsulateOptions{
		{}, {FormatVersion: 2}, {Codec: container.Zstd}, {Codec: container.None},
		{Components: components}, {Components: components, FormatVersion: 2, Codec: container.None, MaxLayers: 5},
		{Components: components, Codec: container.Zstd, Planner: container.Separate{}, MaxLayers: len(components) + 2},
		{Dialect: container.V1a}, {Dialect: container.V1a, Components: components, Planner: container.OstreeExt{}, MaxLayers: 5},
		{Components: components, Planner: container.Frugal{}, MaxLayers: 4}, {Components: components, Planner: container.Stable{}, MaxLayers: 6},
	} {
		img := encapsulate(t, cache, repo, c, &opts)
		for _, workers := range []int{0, 1, 7} {
			mode := modes[n%len(modes)]
			n++
			dst := importRepo(t, mode)
			got, err := container.Import(t.Context(), dst, img, &container.ImportOptions{CommitOnly: true, Ref: "x", Workers: workers, Layers: 1 + n%4})
			require.NoError(t, err, "%+v, %d workers, %s", opts, workers, mode)
			require.Equal(t, c, got.Commit)
			require.NoError(t, dst.Fsck(t.Context(), nil), mode)
		}
	}
}

// Detached metadata, and so signatures, come along, and are asked about first.
func TestImportVerifiesTheCommit(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(zeroReader{})
	require.NoError(t, err)
	repo := newRepo(t)
	c := commit(t, repo, sample)
	raw, err := repo.Object(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	img := func(signature []byte) v1.Image {
		_, err := repo.Commit(t.Context(), repo.Tree(c), &ostree.CommitOptions{
			Subject: "sample", Timestamp: time.Unix(1700000000, 0), Detached: []ostree.MetadataItem{{
				Key: "ostree.sign.ed25519", Value: ostree.Variant{Type: "aay", Data: append(append([]byte{}, signature...), byte(len(signature)))}}}})
		require.NoError(t, err)
		return encapsulate(t, openCache(t, t.TempDir()), repo, c, nil)
	}
	verifier, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte(base64.StdEncoding.EncodeToString(public))}})
	require.NoError(t, err)
	opts := &container.ImportOptions{VerifyCommit: func(ctx context.Context, commit []byte, detached []ostree.MetadataItem) error {
		_, err := verifier.Verify(ctx, commit, detached, time.Unix(1700000001, 0))
		return err
	}}
	dst := importRepo(t, ostree.ModeArchive)
	_, err = container.Import(t.Context(), dst, img(make([]byte, ed25519.SignatureSize)), opts)
	require.ErrorIs(t, err, ostree.ErrSignature)
	require.ErrorContains(t, err, `): "sysroot/ostree/repo/objects/`+c.String()[:2]+"/"+c.String()[2:]+`.commit": commit `+c.String())
	requireClean(t, dst)
	got, err := container.Import(t.Context(), dst, img(ed25519.Sign(secret, raw)), opts)
	require.NoError(t, err)
	_, err = dst.Verify(t.Context(), got.Base, verifier, time.Unix(1700000001, 0))
	require.NoError(t, err)
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// countedLayer counts how often it was opened, and may stop in its middle, as a
// registry does that goes away.
type countedLayer struct {
	v1.Layer
	opened *atomic.Int64
	stop   func() bool
}

var errGone = errors.New("registry is gone")

func (l countedLayer) Compressed() (io.ReadCloser, error) {
	l.opened.Add(1)
	rc, err := l.Layer.Compressed()
	if err == nil && l.stop() {
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(rc, size/2), goneReader{}), rc}, nil
	}
	return rc, err
}

type goneReader struct{}

func (goneReader) Read([]byte) (int, error) { return 0, errGone }

// counted wraps the layers of an image.
func importCounted(t testing.TB, img v1.Image, labels map[string]string, opened *atomic.Int64, stop func(layer int) bool) v1.Image {
	t.Helper()
	layers, err := img.Layers()
	require.NoError(t, err)
	out := empty.Image
	for i, l := range layers {
		out, err = mutate.AppendLayers(out, countedLayer{l, opened, func() bool { return stop(i) }})
		require.NoError(t, err)
	}
	return importLabelled(t, out, labels)
}

// Whoever decides about the image does so before a layer is opened.
func TestImportAsksFirst(t *testing.T) {
	good, c := importChunked(t)
	var opened atomic.Int64
	img := importCounted(t, good, map[string]string{"ostree.commit": c.String(), "ostree.final-diffid": "layer 2"}, &opened, func(int) bool { return false })
	before := opened.Load() // making the image may have
	want, err := img.Digest()
	require.NoError(t, err)
	refused := errors.New("no good signature")
	repo := importRepo(t, ostree.ModeArchive)
	_, err = container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", Verify: func(_ context.Context, digest v1.Hash, manifest []byte) error {
		require.Equal(t, want, digest)
		raw, err := img.RawManifest()
		require.NoError(t, err)
		require.Equal(t, raw, manifest)
		return refused
	}})
	require.ErrorIs(t, err, refused)
	require.ErrorContains(t, err, want.String())
	require.Equal(t, before, opened.Load())
	requireClean(t, repo)
}

// A registry that goes away in the middle of a layer: the layers that came are
// not read again.
func TestImportGoesOn(t *testing.T) {
	source, c := importTree(t, 2)
	made := encapsulate(t, openCache(t, t.TempDir()), source, c, &container.EncapsulateOptions{Components: importSplit(t, source, c)})
	base := importWith(t, made, archive(t, "usr/new=1"), archive(t, "usr/newer=2"))
	layers, err := base.Layers()
	require.NoError(t, err)
	last := len(layers) - 3
	labels := map[string]string{"ostree.commit": c.String(), "ostree.final-diffid": fmt.Sprint("layer ", last)}
	for _, bad := range []int{0, 1, last, last + 1, last + 2} {
		t.Run(fmt.Sprint("layer ", bad), func(t *testing.T) {
			var opened atomic.Int64
			gone := true
			img := importCounted(t, base, labels, &opened, func(layer int) bool { return gone && layer == bad })
			repo := importRepo(t, ostree.ModeBareUser)
			_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", Layers: 1})
			require.ErrorIs(t, err, errGone)
			require.ErrorContains(t, err, fmt.Sprintf("layer %d (sha256:", bad))
			require.NoError(t, repo.Fsck(t.Context(), nil))
			_, err = repo.Resolve(t.Context(), "ostree/container/image/oci_3A_x")
			require.ErrorIs(t, err, fs.ErrNotExist)

			gone = false
			opened.Store(0)
			var stats container.ImportStats
			var last ostree.Event
			var mu sync.Mutex
			got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", Stats: &stats, Progress: func(e ostree.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Done > last.Done {
					last = e
				}
			}})
			require.NoError(t, err)
			require.Equal(t, c, got.Base)
			require.Equal(t, len(layers), stats.Layers)
			require.EqualValues(t, stats.Layers-stats.Reused, opened.Load(), "each layer is opened once")
			if bad > 1 {
				require.Positive(t, stats.Reused)
			}
			require.Equal(t, last.Total, last.Done)
			require.NoError(t, repo.Fsck(t.Context(), nil))
		})
	}
}

// A context that ends stops an import, which can be taken up again.
func TestImportStops(t *testing.T) {
	source, c := importTree(t, 3)
	img := encapsulate(t, openCache(t, t.TempDir()), source, c, &container.EncapsulateOptions{Components: importSplit(t, source, c)})
	repo := importRepo(t, ostree.ModeArchive)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := container.Import(ctx, repo, img, &container.ImportOptions{Name: "oci:x", Layers: 2, Progress: func(e ostree.Event) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, repo.Fsck(t.Context(), nil))
	got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x"})
	require.NoError(t, err)
	require.Equal(t, c, got.Base)
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

const (
	importChildRepo  = "CONTAINER_TEST_IMPORT_REPO"
	importChildImage = "CONTAINER_TEST_IMPORT_IMAGE"
)

// TestImportChild is what TestImportKilled starts and kills: one import.
func TestImportChild(t *testing.T) {
	dir := os.Getenv(importChildRepo)
	if dir == "" {
		t.Skip("is started by TestImportKilled")
	}
	_, err := container.Import(t.Context(), openRepo(t, dir), importLayout(t, os.Getenv(importChildImage)), &container.ImportOptions{Name: "oci:x"})
	require.NoError(t, err)
}

// A process that is killed at any moment leaves a repository without fault, in
// which the next one goes on.
func TestImportKilled(t *testing.T) {
	source, c := importTree(t, 4)
	img := importWith(t, encapsulate(t, openCache(t, t.TempDir()), source, c, &container.EncapsulateOptions{Components: importSplit(t, source, c)}), archive(t, "usr/new=1"))
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, path.AppendImage(img))
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		repo := importRepo(t, mode)
		program, err := os.Executable()
		require.NoError(t, err)
		for round := range 5 {
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestImportChild$")
			cmd.Env = append(os.Environ(), importChildRepo+"="+repo.Path(), importChildImage+"="+dir)
			require.NoError(t, cmd.Start())
			time.Sleep(time.Duration(round*round) * 15 * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			require.NoError(t, repo.Fsck(t.Context(), nil))
		}
		got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x"})
		require.NoError(t, err)
		require.Equal(t, c, got.Base)
		require.NoError(t, repo.Fsck(t.Context(), nil))
		// One that was killed between its ref and its tidying up had all done: the
		// imports after it wrote nothing. Who writes next tidies up.
		_, err = repo.Commit(t.Context(), repo.Tree(c), nil)
		require.NoError(t, err)
		entries, err := os.ReadDir(filepath.Join(repo.Path(), "tmp"))
		require.NoError(t, err)
		for _, e := range entries {
			require.False(t, e.IsDir() && e.Name() != "cache", "what killed ones staged is gone: %s", e.Name())
		}
	}
}

// Several at once, of images that have layers in common.
func TestImportSideBySide(t *testing.T) {
	source, c := importTree(t, 5)
	base := encapsulate(t, openCache(t, t.TempDir()), source, c, &container.EncapsulateOptions{Components: importSplit(t, source, c)})
	repo := importRepo(t, ostree.ModeBareUser)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		img := importWith(t, base, archive(t, fmt.Sprintf("usr/new=%d", i/2)))
		wg.Go(func() {
			_, errs[i] = container.Import(t.Context(), repo, img, &container.ImportOptions{Name: fmt.Sprint("oci:x", i)})
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, repo.Fsck(t.Context(), nil))
	names := 0
	for image, err := range container.ListImages(t.Context(), repo) {
		require.NoError(t, err)
		require.Equal(t, c, image.Base)
		names++
	}
	require.Equal(t, len(errs), names)
}

// The same layers, compressed differently, are known by their diff IDs.
func TestImportKnowsDiffIDs(t *testing.T) {
	source, c := importTree(t, 6)
	cache := openCache(t, t.TempDir())
	opts := container.EncapsulateOptions{Components: importSplit(t, source, c)}
	first := encapsulate(t, cache, source, c, &opts)
	opts.Codec = container.Zstd
	second := encapsulate(t, cache, source, c, &opts)
	repo := importRepo(t, ostree.ModeArchive)
	_, err := container.Import(t.Context(), repo, first, &container.ImportOptions{Name: "oci:first"})
	require.NoError(t, err)
	var stats container.ImportStats
	_, err = container.Import(t.Context(), repo, second, &container.ImportOptions{Name: "oci:second", Stats: &stats})
	require.NoError(t, err)
	require.Equal(t, stats.Layers, stats.Reused)
	require.Zero(t, stats.Bytes)
	// Each image keeps its layers.
	require.NoError(t, container.RemoveImage(t.Context(), repo, "oci:first"))
	pruned, err := container.PruneImages(t.Context(), repo)
	require.NoError(t, err)
	require.Len(t, pruned, stats.Layers)
	_, err = repo.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
	require.NoError(t, err)
	_, err = container.Import(t.Context(), repo, second, &container.ImportOptions{Name: "oci:third", Stats: &stats})
	require.NoError(t, err)
	require.Equal(t, stats.Layers, stats.Reused)
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// A layer's ref may name something else: objects of a commit, where the image
// whose labels are gone has files. Neither is taken for the other.
func TestImportTellsLayersApart(t *testing.T) {
	chunked, c := importChunked(t)
	plain := importLabelled(t, chunked, nil)
	repo := importRepo(t, ostree.ModeBareUser)
	native, err := container.Import(t.Context(), repo, chunked, &container.ImportOptions{Name: "oci:native"})
	require.NoError(t, err)
	require.Equal(t, c, native.Base)
	got, err := container.Import(t.Context(), repo, plain, &container.ImportOptions{Name: "oci:plain"})
	require.NoError(t, err)
	require.Zero(t, got.Base)
	require.Equal(t, sample["usr/bin/bash"], importList(t, repo, got.Commit)["usr/bin/bash"])
	require.NotContains(t, importList(t, repo, got.Commit), "sysroot/ostree")
	again, err := container.Import(t.Context(), repo, importWith(t, chunked, archive(t)), &container.ImportOptions{Name: "oci:again"})
	require.NoError(t, err)
	require.Equal(t, c, again.Base)
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// Images of old times: attributes by hard links to repo/xattrs, modes with the
// file's type, one layer, no label but that of the commit.
func TestImportOldImages(t *testing.T) {
	repo, c := importTree(t, 7)
	img := encapsulate(t, openCache(t, t.TempDir()), repo, c, nil)
	var old []tarEntry
	shared := map[string]bool{}
	for _, e := range importEntries(t, img)[0] {
		if strings.HasSuffix(e.Name, ".file-xattrs-link") {
			name := objectName(e.data, "")
			sum := strings.ReplaceAll(strings.TrimPrefix(name, "sysroot/ostree/repo/objects/"), "/", "")
			target := "./sysroot/ostree/repo/xattrs/" + strings.TrimSuffix(sum, ".")
			if !shared[target] {
				shared[target] = true
				old = append(old, badEntry(target, tar.TypeReg, "", e.data))
			}
			old = append(old, badEntry(strings.TrimSuffix(e.Name, "-xattrs-link")+".xattrs", tar.TypeLink, target, ""))
			continue
		}
		if e.Typeflag == tar.TypeReg {
			e.Mode |= 0o100000
		}
		if strings.HasPrefix(e.Name, "sysroot") {
			e.Name = "./" + e.Name
		}
		e.PAXRecords = nil
		old = append(old, e)
	}
	require.NotEmpty(t, shared)
	made := importLabelled(t, importWith(t, empty.Image, importTar(t, old)), map[string]string{"ostree.commit": c.String()})
	for _, mode := range importModes() {
		dst := importRepo(t, mode)
		got, err := container.Import(t.Context(), dst, made, &container.ImportOptions{CommitOnly: true, Ref: "x"})
		require.NoError(t, err)
		require.Equal(t, c, got.Commit)
		require.NoError(t, dst.Fsck(t.Context(), nil))
	}
}

// A repository that keeps no owners refuses what has some, and takes the rest.
func TestImportIntoBareUserOnly(t *testing.T) {
	source, c := importTree(t, 8)
	repo := importRepo(t, ostree.ModeBareUserOnly)
	_, err := container.Import(t.Context(), repo, encapsulate(t, openCache(t, t.TempDir()), source, c, nil), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "): sysroot/ostree/repo/objects/")
	requireClean(t, repo)

	base, c, _ := importBase(t, sample, nil)
	got, err := container.Import(t.Context(), repo, importWith(t, base, archive(t, "usr/new=1")), nil)
	require.NoError(t, err)
	require.Equal(t, c, got.Base)
	require.Equal(t, map[string]string{"usr/new": "1"}, importChanges(t, repo, c, got.Commit))
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// Images of deployments and of bases that others keep are not pruned.
func TestPruneImagesKeepsWhatIsUsed(t *testing.T) {
	repo := importRepo(t, ostree.ModeBareUser)
	var layers []int
	for i, ref := range []string{"ostree/0/1/0", "ostree/container/baseimage/mine/os", "rpmostree/base/0", "other"} {
		img := imageOf(t, layerOf(t, archive(t, fmt.Sprintf("usr/x=%d", i))))
		got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Ref: ref})
		require.NoError(t, err)
		require.NotZero(t, got.Commit)
		layers = append(layers, i)
	}
	require.NoError(t, repo.SetRef(t.Context(), "ostree/0/0/0", commit(t, repo, sample))) // no image
	pruned, err := container.PruneImages(t.Context(), repo)
	require.NoError(t, err)
	require.Len(t, pruned, 1, "only that of the ref that is nobody's")
	require.ErrorIs(t, container.RemoveImage(t.Context(), repo, "oci:nothing"), fs.ErrNotExist)
	require.ErrorIs(t, container.RemoveImage(t.Context(), repo, "nothing"), fs.ErrInvalid)
	require.Len(t, layers, 4)
}
