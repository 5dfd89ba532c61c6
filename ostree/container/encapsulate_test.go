package container_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

var update = flag.Bool("update", false, "write golden files")

// sample is a small tree: "->target" is a link's content.
var sample = map[string]string{
	"usr/bin/bash":            strings.Repeat("bash ", 1000),
	"usr/bin/sh":              "->bash",
	"bin":                     "->usr/bin",
	"usr/lib/libc.so.6":       strings.Repeat("libc ", 3000),
	"usr/lib/os-release":      "ID=sample\n",
	"usr/share/doc/a/license": "the same text",
	"usr/share/doc/b/license": "the same text",
	"usr/share/empty":         "",
	"usr/etc/passwd":          "root:x:0:0::/root:/bin/sh\n",
}

func mapFS(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for path, text := range files {
		if target, ok := strings.CutPrefix(text, "->"); ok {
			fsys[path] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		} else {
			fsys[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		}
	}
	return fsys
}

func newRepo(t testing.TB) *ostree.Repo {
	t.Helper()
	r, err := ostree.Init(t.Context(), t.TempDir(), ostree.ModeBareUser, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func commit(t testing.TB, r *ostree.Repo, files map[string]string, metadata ...ostree.MetadataItem) ostree.Checksum {
	t.Helper()
	c, err := r.Commit(t.Context(), ostree.FS(mapFS(files)), &ostree.CommitOptions{
		Subject: "sample", Timestamp: time.Unix(1700000000, 0), Metadata: metadata, NoFsync: true,
	})
	require.NoError(t, err)
	return c
}

// split makes a component of each file's directory.
func split(t testing.TB, r *ostree.Repo, c ostree.Checksum) []container.Component {
	t.Helper()
	byDir := map[string][]ostree.Checksum{}
	seen := map[ostree.Checksum]bool{}
	for e, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType != ostree.ModeDir && !seen[e.Object] {
			seen[e.Object] = true
			dir := filepath.Dir(e.Path)
			byDir[dir] = append(byDir[dir], e.Object)
		}
	}
	var out []container.Component
	for dir, objects := range byDir {
		out = append(out, container.Component{ID: dir, Objects: objects})
	}
	slices.SortFunc(out, func(a, b container.Component) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func digest(t testing.TB, img v1.Image) string {
	t.Helper()
	h, err := img.Digest()
	require.NoError(t, err)
	return h.String()
}

func encapsulate(t testing.TB, cache *container.Cache, r *ostree.Repo, c ostree.Checksum, opts *container.EncapsulateOptions) v1.Image {
	t.Helper()
	img, err := container.Encapsulate(t.Context(), cache, r, c, opts)
	require.NoError(t, err)
	return img
}

// requireValid is [validate.Image], which only knows gzip, and the digests of
// all layers.
func requireValid(t testing.TB, img v1.Image) {
	t.Helper()
	m, err := img.Manifest()
	require.NoError(t, err)
	if !slices.ContainsFunc(m.Layers, func(d v1.Descriptor) bool { return d.MediaType != types.OCILayer }) {
		require.NoError(t, validate.Image(img))
	}
	for i, d := range m.Layers {
		l, err := img.LayerByDigest(d.Digest)
		require.NoError(t, err)
		rc, err := l.Compressed()
		require.NoError(t, err)
		h, n, err := v1.SHA256(rc)
		require.NoError(t, err)
		require.NoError(t, rc.Close())
		require.Equal(t, d.Digest, h, "layer %d", i)
		require.Equal(t, d.Size, n, "layer %d", i)
		diffID, err := l.DiffID()
		require.NoError(t, err)
		same, err := img.LayerByDiffID(diffID)
		require.NoError(t, err)
		rc, err = same.Uncompressed()
		require.NoError(t, err)
		h, _, err = v1.SHA256(rc)
		require.NoError(t, err)
		require.NoError(t, rc.Close())
		require.Equal(t, diffID, h, "layer %d", i)
	}
}

func TestSameInputSameDigest(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
		t.Run(string(codec), func(t *testing.T) {
			opts := container.EncapsulateOptions{Codec: codec, Components: split(t, repo, c), Architecture: "arm64"}
			cache := openCache(t, t.TempDir())
			first := encapsulate(t, cache, repo, c, &opts)
			requireValid(t, first)
			want := digest(t, first)
			require.Equal(t, want, digest(t, encapsulate(t, cache, repo, c, &opts)), "warm cache")
			for _, procs := range []int{1, 4} {
				for _, n := range []int{0, 1, 5} {
					before := runtime.GOMAXPROCS(procs)
					opts.Workers = n
					got := digest(t, encapsulate(t, openCache(t, t.TempDir()), repo, c, &opts))
					runtime.GOMAXPROCS(before)
					require.Equal(t, want, got, "%d CPUs, %d workers", procs, n)
				}
			}
		})
	}
}

// big is a tree with a file that has several blocks, hard to compress in part.
func big(size int) map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(random.Uint32() >> 30 << 3)
	}
	return map[string]string{"usr/lib/big": string(data), "usr/lib/small": "x"}
}

// A blob made of blocks is one stream to everybody else's reader, also where
// the tar stream ends with a block.
func TestBlocksAreOneStream(t *testing.T) {
	const block = 1 << 20
	repo := newRepo(t)
	size := 2*block + 12345
	for round := range 2 {
		c := commit(t, repo, big(size))
		var tarSize int
		for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
			img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Codec: codec, Workers: 3})
			requireValid(t, img)
			layers, err := img.Layers()
			require.NoError(t, err)
			rc, err := layers[0].Compressed()
			require.NoError(t, err)
			blob, err := io.ReadAll(rc)
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			var plain []byte
			switch codec {
			case container.Gzip:
				require.Equal(t, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, blob[:10], "the reference's header")
				z, err := gzip.NewReader(bytes.NewReader(blob))
				require.NoError(t, err)
				z.Multistream(false)
				plain, err = io.ReadAll(z)
				require.NoError(t, err)
			case container.Zstd:
				z, err := zstd.NewReader(bytes.NewReader(blob))
				require.NoError(t, err)
				plain, err = io.ReadAll(z)
				require.NoError(t, err)
				z.Close()
			default:
				plain = blob
			}
			diffID, err := layers[0].DiffID()
			require.NoError(t, err)
			sum := sha256.Sum256(plain)
			require.Equal(t, diffID.Hex, hex.EncodeToString(sum[:]))
			tarSize = len(plain)
		}
		if round == 0 {
			size += block - tarSize%block // end where a block ends
			size -= size % 512
			size += block % 512
			c := commit(t, repo, big(size))
			img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Codec: container.None})
			m, err := img.Manifest()
			require.NoError(t, err)
			size -= int(m.Layers[0].Size % block)
		} else {
			require.Zero(t, tarSize%block)
		}
	}
}

// What a stream compresses to is part of image digests: it changes only when
// the numbers in encoding.String do.
func TestEncodingIsPinned(t *testing.T) {
	repo := newRepo(t)
	files := big(1<<20 + 1<<17)
	for path, text := range sample {
		files[path] = text
	}
	c := commit(t, repo, files)
	got := map[string]string{}
	for _, e := range []container.EncapsulateOptions{
		{}, {Level: 1}, {Level: 7}, {Codec: container.Zstd}, {Codec: container.Zstd, Level: 1}, {Codec: container.Zstd, Level: 11}, {Codec: container.None},
	} {
		e.Architecture = "amd64"
		m, err := encapsulate(t, openCache(t, t.TempDir()), repo, c, &e).Manifest()
		require.NoError(t, err)
		got[fmt.Sprintf("%s/%d", e.Codec, e.Level)] = fmt.Sprintf("%s %d %s", m.Layers[0].Digest, m.Layers[0].Size, m.Layers[0].MediaType)
	}
	requireGolden(t, "encodings.json", got)
}

func requireGolden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	require.NoError(t, err)
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got)+"\n")
}

// With every layer cached, no content is read: it may be gone.
func TestCachedLayersAreNotRead(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	var stats container.EncapsulateStats
	opts := &container.EncapsulateOptions{Components: split(t, repo, c), Stats: &stats}
	cache := openCache(t, t.TempDir())
	want := digest(t, encapsulate(t, cache, repo, c, opts))
	require.Zero(t, stats.Reused)
	require.Zero(t, stats.ReusedBytes)
	require.NotZero(t, stats.Layers)
	objects, err := filepath.Glob(filepath.Join(repo.Path(), "objects", "*", "*.file"))
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	for _, o := range objects {
		require.NoError(t, os.Remove(o))
	}
	require.Equal(t, want, digest(t, encapsulate(t, cache, repo, c, opts)))
	require.Equal(t, stats.Layers, stats.Reused)
	require.Equal(t, stats.Bytes, stats.ReusedBytes)
	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A content object that is not what its name says never gets into an image.
func TestDamagedObjectIsRefused(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	objects, err := filepath.Glob(filepath.Join(repo.Path(), "objects", "*", "*.file"))
	require.NoError(t, err)
	for _, o := range objects {
		data, err := os.ReadFile(o)
		require.NoError(t, err)
		if strings.HasPrefix(string(data), "bash bash") {
			data[7] ^= 1
			require.NoError(t, os.WriteFile(o, data, 0o644))
		}
	}
	dir := t.TempDir()
	_, err = container.Encapsulate(t.Context(), openCache(t, dir), repo, c, nil)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.Empty(t, files(t, dir, "tmp"))
	require.Empty(t, files(t, dir, "layers"))
	require.Empty(t, files(t, dir, "blobs/sha256"))
}

func files(t testing.TB, elem ...string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(filepath.Join(elem...), "*"))
	require.NoError(t, err)
	return list
}

func readAll(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Whatever happens to a file of the cache, a damaged layer is never served: it
// is made again, or, if it can't be noticed before, refused while it is read
// and made again the next time.
func TestCacheDamage(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	flip := func(t *testing.T, path string, keepTime bool) {
		stat, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(path, 0o644))
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		require.NoError(t, os.WriteFile(path, data, 0o644))
		if keepTime {
			require.NoError(t, os.Chtimes(path, time.Time{}, stat.ModTime()))
		}
	}
	for _, tc := range []struct {
		name    string
		damage  func(t *testing.T, blob, record string)
		noticed bool // before anything is read
	}{
		{"blob changed", func(t *testing.T, blob, _ string) { flip(t, blob, false) }, true},
		{"blob changed, same time", func(t *testing.T, blob, _ string) { flip(t, blob, true) }, false},
		{"blob cut", func(t *testing.T, blob, _ string) { require.NoError(t, os.Truncate(blob, 100)) }, true},
		{"blob gone", func(t *testing.T, blob, _ string) { require.NoError(t, os.Remove(blob)) }, true},
		{"blob is a link", func(t *testing.T, blob, _ string) {
			require.NoError(t, os.Rename(blob, blob+".moved"))
			require.NoError(t, os.Symlink(blob+".moved", blob))
		}, true},
		{"record changed", func(t *testing.T, _, record string) { flip(t, record, true) }, true},
		{"record cut", func(t *testing.T, _, record string) { require.NoError(t, os.Truncate(record, 70)) }, true},
		{"record empty", func(t *testing.T, _, record string) { require.NoError(t, os.Truncate(record, 0)) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			cache := openCache(t, dir)
			first := encapsulate(t, cache, repo, c, nil)
			want := digest(t, first)
			blobs, records := files(t, dir, "blobs/sha256"), files(t, dir, "layers")
			require.Len(t, blobs, 1)
			require.Len(t, records, 1)
			tc.damage(t, blobs[0], records[0])
			img := encapsulate(t, cache, repo, c, nil)
			require.Equal(t, want, digest(t, img))
			err := readAll(img)
			if tc.noticed {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, verify.ErrDigest)
			img = encapsulate(t, cache, repo, c, nil)
			require.Equal(t, want, digest(t, img))
			require.NoError(t, readAll(img))
		})
	}
}

func TestOpenCacheSweeps(t *testing.T) {
	dir := t.TempDir()
	cache, err := container.OpenCache(t.Context(), dir, nil)
	require.NoError(t, err)
	left := filepath.Join(dir, "tmp", "left-over")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	second, err := container.OpenCache(t.Context(), dir, nil)
	require.NoError(t, err)
	require.FileExists(t, left, "somebody may be writing it")
	require.NoError(t, cache.Close())
	require.NoError(t, second.Close())
	require.NoError(t, openCache(t, dir).Close())
	require.NoFileExists(t, left)
	_, err = container.OpenCache(t.Context(), filepath.Join(dir, "lock", "x"), nil)
	require.Error(t, err)
}

func TestPrune(t *testing.T) {
	repo := newRepo(t)
	dir := t.TempDir()
	old, err := container.OpenCache(t.Context(), dir, nil)
	require.NoError(t, err)
	for i := range 3 {
		encapsulate(t, old, repo, commit(t, repo, map[string]string{"usr/f": strings.Repeat(fmt.Sprint(i), 100000)}), nil)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", strings.Repeat("0", 64)), []byte("stray"), 0o644))
	removed, err := old.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, len("stray"), removed, "what is in use stays")
	require.NoError(t, old.Close())

	cache := openCache(t, dir)
	last := encapsulate(t, cache, repo, commit(t, repo, map[string]string{"usr/f": strings.Repeat("2", 100000)}), nil)
	other := openCache(t, dir)
	removed, err = cache.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, removed, "another has it open")
	require.NoError(t, other.Close())
	removed, err = cache.Prune(t.Context(), 1<<30)
	require.NoError(t, err)
	require.Zero(t, removed)
	removed, err = cache.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.Positive(t, removed)
	require.Len(t, files(t, dir, "layers"), 1)
	require.Len(t, files(t, dir, "blobs/sha256"), 1)
	require.NoError(t, readAll(last))
}

// Where the prior image has the same tar streams, its blobs are used, however
// they were compressed.
func TestPrior(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	opts := container.EncapsulateOptions{Components: split(t, repo, c)}
	zst := opts
	zst.Codec = container.Zstd
	prior := encapsulate(t, openCache(t, t.TempDir()), repo, c, &zst)

	changed := map[string]string{}
	for k, v := range sample {
		changed[k] = v
	}
	changed["usr/bin/bash"] = "new"
	next := commit(t, repo, changed)
	opts.Components = split(t, repo, next)
	opts.Prior = prior
	dir := t.TempDir()
	cache := openCache(t, dir)
	var want string
	for range 2 { // with an empty cache, and one that knows diff IDs
		img := encapsulate(t, cache, repo, next, &opts)
		requireValid(t, img)
		m, err := img.Manifest()
		require.NoError(t, err)
		kinds := map[types.MediaType][]string{}
		for _, l := range m.Layers {
			kinds[l.MediaType] = append(kinds[l.MediaType], l.Annotations[container.AnnotationComponents])
		}
		require.Equal(t, map[types.MediaType][]string{
			types.OCILayer:     {"", "usr/bin"}, // the commit and what changed
			types.OCILayerZStd: {".", "usr/etc", "usr/lib", "usr/share", "usr/share/doc/a", ""},
		}, sortedValues(kinds, types.OCILayerZStd))
		require.Len(t, files(t, dir, "blobs/sha256"), 2)
		if want == "" {
			want = digest(t, img)
		}
		require.Equal(t, want, digest(t, img))
	}

	// A prior image that is not what it says, or can't be read.
	damaged, err := prior.ConfigFile()
	require.NoError(t, err)
	damaged.RootFS.DiffIDs = damaged.RootFS.DiffIDs[:1]
	opts.Prior, err = mutate.ConfigFile(prior, damaged)
	require.NoError(t, err)
	_, err = container.Encapsulate(t.Context(), cache, repo, next, &opts)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.ErrorContains(t, err, "prior image")
}

func sortedValues(m map[types.MediaType][]string, key types.MediaType) map[types.MediaType][]string {
	last := m[key][len(m[key])-1]
	rest := m[key][:len(m[key])-1]
	slices.Sort(rest)
	m[key] = append(rest, last)
	return m
}

func TestLabels(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, map[string]string{"usr/f": "x"},
		ostree.MetadataItem{Key: "version", Value: ostree.StringVariant("42.1")},
		ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)},
		ostree.MetadataItem{Key: "ostree.linux", Value: ostree.StringVariant("6.1")},
		ostree.MetadataItem{Key: "ostree.container-cmd", Value: ostree.StringsVariant([]string{"/sbin/init"})},
		ostree.MetadataItem{Key: "coreos-assembler.basearch", Value: ostree.StringVariant("aarch64")},
		ostree.MetadataItem{Key: "rpmostree.inputhash", Value: ostree.StringVariant("abc")},
		ostree.MetadataItem{Key: "number", Value: ostree.Uint32Variant(7)},
	)
	img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{
		Labels:   map[string]string{"io.openshift.release.operator": "true", "ostree.linux": "mine"},
		CopyKeys: []string{"rpmostree.inputhash"}, CopyKeysOptional: []string{"absent"},
		LegacyVersion: true, Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
	})
	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		container.LabelCommit: c.String(), container.LabelFinalDiffID: config.RootFS.DiffIDs[0].String(),
		"org.opencontainers.image.version": "42.1", "version": "42.1", "ostree.bootable": "true", "containers.bootc": "1",
		"ostree.linux": "mine", "rpmostree.inputhash": "abc", "io.openshift.release.operator": "true",
	}, config.Config.Labels)
	m, err := img.Manifest()
	require.NoError(t, err)
	require.Equal(t, config.Config.Labels, m.Annotations)
	require.Equal(t, []string{"/sbin/init"}, config.Config.Cmd)
	require.Equal(t, "arm64", config.Architecture)
	require.Equal(t, "2026-01-02T02:04:05Z", config.Created.Format(time.RFC3339))
	require.Equal(t, "sample", config.History[0].CreatedBy)

	for _, tc := range []struct {
		text string
		opts container.EncapsulateOptions
	}{
		{"absent", container.EncapsulateOptions{CopyKeys: []string{"absent"}}},
		{"number", container.EncapsulateOptions{CopyKeys: []string{"number"}}},
		{"ostree.commit", container.EncapsulateOptions{Labels: map[string]string{"ostree.commit": "x"}}},
		{"ostree.final-diffid", container.EncapsulateOptions{Labels: map[string]string{"ostree.final-diffid": "x"}}},
	} {
		_, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, &tc.opts)
		require.ErrorContains(t, err, tc.text)
	}
}

type badPlanner []container.Chunk

func (b badPlanner) Plan([]container.Component, int) ([]container.Chunk, error) { return b, nil }

func TestEncapsulateRefuses(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	components := split(t, repo, c)
	all := make([]string, len(components))
	for i := range components {
		all[i] = components[i].ID
	}
	one := []container.Component{{ID: "a"}}
	for _, tc := range []struct {
		text string
		is   error
		opts container.EncapsulateOptions
	}{
		{"v1c", errors.ErrUnsupported, container.EncapsulateOptions{Dialect: "v1c"}},
		{"format version 2 of dialect v1a", errors.ErrUnsupported, container.EncapsulateOptions{Dialect: container.V1a, FormatVersion: 2}},
		{"exclusive", errors.ErrUnsupported, container.EncapsulateOptions{Dialect: container.V1a, Components: []container.Component{{ID: "a", Exclusive: true}}}},
		{"format version 3", errors.ErrUnsupported, container.EncapsulateOptions{FormatVersion: 3}},
		{"bzip2", errors.ErrUnsupported, container.EncapsulateOptions{Codec: "bzip2"}},
		{"level 10", errors.ErrUnsupported, container.EncapsulateOptions{Level: 10}},
		{"level 1", errors.ErrUnsupported, container.EncapsulateOptions{Codec: container.None, Level: 1}},
		{"1 layers", nil, container.EncapsulateOptions{Components: one, MaxLayers: 1}},
		{"600 layers", nil, container.EncapsulateOptions{Components: one, MaxLayers: 600}},
		{"twice", nil, container.EncapsulateOptions{Components: append(one, one...)}},
		{"without ID", nil, container.EncapsulateOptions{Components: make([]container.Component, 1)}},
		{"comma", nil, container.EncapsulateOptions{Components: []container.Component{{ID: "a,b"}}}},
		{"belongs to", nil, container.EncapsulateOptions{Components: []container.Component{{ID: "a", Objects: components[0].Objects}, {ID: "b", Objects: components[0].Objects}}}},
		{"lacks", nil, container.EncapsulateOptions{Components: components, Planner: badPlanner{}}},
		{"does not exist", nil, container.EncapsulateOptions{Components: components, Planner: badPlanner{{append(all, "more")}}}},
		{"twice", nil, container.EncapsulateOptions{Components: components, Planner: badPlanner{{all}, {all[:1]}}}},
		{"at most 3", nil, container.EncapsulateOptions{Components: components, MaxLayers: 4, Planner: container.Separate{}}},
		{"no file", nil, container.EncapsulateOptions{Components: []container.Component{{ID: "a", Exclusive: true, Paths: []string{"usr/none"}}}}},
		{"two exclusive", nil, container.EncapsulateOptions{Components: []container.Component{{ID: "a", Exclusive: true, Paths: []string{"bin", "bin"}}}}},
	} {
		t.Run(tc.text, func(t *testing.T) {
			dir := t.TempDir()
			_, err := container.Encapsulate(t.Context(), openCache(t, dir), repo, c, &tc.opts)
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, "container: encapsulate "+c.String())
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.Empty(t, files(t, dir, "layers"))
		})
	}
	_, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, ostree.Checksum{1}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	inRepo := commit(t, repo, map[string]string{"sysroot/ostree/repo/config": "x", "usr/f": "x"})
	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, inRepo, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "sysroot/ostree/repo/config")
}

// Content that no component has goes with the commit; empty layers don't
// appear; the last layer is reserved.
func TestLayout(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	all := split(t, repo, c)
	var some []container.Component
	for _, k := range all {
		if k.ID == "usr/bin" || k.ID == "usr/lib" {
			some = append(some, k)
		}
	}
	some = append(some, container.Component{ID: "nothing"})
	img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Components: some})
	m, err := img.Manifest()
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Len(t, m.Layers, 4)
	require.Empty(t, m.Layers[0].Annotations)
	require.Equal(t, "", m.Layers[3].Annotations[container.AnnotationComponents])
	require.Equal(t, "Reserved for new packages", config.History[3].CreatedBy)
	require.Equal(t, "sha256:12787d84fa137cd5649a9005efe98ec9d05ea46245fdc50aecb7dd007f2035b1", config.Config.Labels[container.LabelFinalDiffID])

	// Every path is there once, whatever the split.
	whole, err := list(t, container.Flatten(encapsulate(t, openCache(t, t.TempDir()), repo, c, nil)))
	require.NoError(t, err)
	for _, version := range []int{1, 2} {
		got, err := list(t, container.Flatten(encapsulate(t, openCache(t, t.TempDir()), repo, c,
			&container.EncapsulateOptions{Components: all, FormatVersion: version})))
		require.NoError(t, err)
		require.Equal(t, whole, got)
	}
	require.Contains(t, whole, "etc/passwd="+sample["usr/etc/passwd"])
	require.Contains(t, whole, "var/tmp/")
}

func TestEncapsulateStops(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, big(3<<20))
	dir := t.TempDir()
	cache := openCache(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := container.Encapsulate(ctx, cache, repo, c, nil)
	require.ErrorIs(t, err, context.Canceled)

	// Half way: the first progress comes with the first of two layers.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	var events atomic.Int32
	_, err = container.Encapsulate(ctx, cache, repo, c, &container.EncapsulateOptions{
		Components: split(t, repo, c), Workers: 1,
		Progress: func(e ostree.Event) {
			events.Add(1)
			require.Equal(t, "encapsulate", e.Step)
			require.LessOrEqual(t, e.Done, e.Total)
			cancel()
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Positive(t, events.Load())
	require.Empty(t, files(t, dir, "tmp"))
	img := encapsulate(t, cache, repo, c, &container.EncapsulateOptions{Components: split(t, repo, c)})
	requireValid(t, img)
}

func TestSkopeo(t *testing.T) {
	interop.Peer(t, "skopeo")
	repo := newRepo(t)
	c := commit(t, repo, sample)
	for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
		dir := t.TempDir()
		img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Codec: codec, Components: split(t, repo, c)})
		path, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
		require.NoError(t, err)
		require.NoError(t, path.AppendImage(img))
		out, err := exec.CommandContext(t.Context(), "skopeo", "inspect", "oci:"+filepath.Join(dir, "oci")).CombinedOutput()
		require.NoError(t, err, string(out))
		var info struct {
			Digest string
			Labels map[string]string
		}
		require.NoError(t, json.Unmarshal(out, &info))
		require.Equal(t, digest(t, img), info.Digest)
		require.Equal(t, c.String(), info.Labels[container.LabelCommit])
		out, err = exec.CommandContext(t.Context(), "skopeo", "--insecure-policy", "copy", "oci:"+filepath.Join(dir, "oci"), "dir:"+filepath.Join(dir, "dir")).CombinedOutput()
		require.NoError(t, err, string(out))
	}
}

func BenchmarkEncapsulate(b *testing.B) {
	repo := newRepo(b)
	files := map[string]string{}
	random := rand.New(rand.NewPCG(1, 1))
	var total int64
	for i := range 400 {
		var text strings.Builder
		for text.Len() < 40000 {
			fmt.Fprintf(&text, "%d %s\n", random.IntN(5000), strings.Repeat("word", random.IntN(5)))
		}
		total += int64(text.Len())
		files[fmt.Sprintf("usr/lib/p%02d/f%03d", i%40, i)] = text.String()
	}
	c := commit(b, repo, files)
	components := split(b, repo, c)
	b.Run("first day", func(b *testing.B) {
		b.SetBytes(total)
		b.ReportAllocs()
		for b.Loop() {
			encapsulate(b, openCache(b, b.TempDir()), repo, c, &container.EncapsulateOptions{Components: components})
		}
	})
	b.Run("second day", func(b *testing.B) {
		dir := b.TempDir()
		cache := openCache(b, dir)
		encapsulate(b, cache, repo, c, &container.EncapsulateOptions{Components: components})
		files["usr/lib/p07/f007"] = "new"
		next := commit(b, repo, files)
		opts := &container.EncapsulateOptions{Components: split(b, repo, next)}
		before := filesSet(b, dir)
		b.SetBytes(total)
		b.ReportAllocs()
		for b.Loop() {
			encapsulate(b, cache, repo, next, opts)
			b.StopTimer()
			for _, f := range filesIn(b, dir) {
				if !before[f] {
					require.NoError(b, os.Remove(f))
				}
			}
			b.StartTimer()
		}
	})
}

func filesIn(t testing.TB, dir string) []string {
	return append(files(t, dir, "layers"), files(t, dir, "blobs/sha256")...)
}

func filesSet(t testing.TB, dir string) map[string]bool {
	set := map[string]bool{}
	for _, f := range filesIn(t, dir) {
		set[f] = true
	}
	return set
}
