package container_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// archive writes entries as a tar archive. "d/" is a directory, "f=text" a
// file, "l->target" a symbolic link, "h=>path" a hard link.
func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Mode: 0o644, Format: tar.FormatPAX}
		content := ""
		if name, target, ok := strings.Cut(e, "->"); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if name, target, ok := strings.Cut(e, "=>"); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		} else if name, text, ok := strings.Cut(e, "="); ok {
			h.Name, h.Typeflag, h.Size, content = name, tar.TypeReg, int64(len(text)), text
		} else {
			h.Name, h.Typeflag, h.Mode = e, tar.TypeDir, 0o755
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// rawLayer is a layer of any bytes that says of itself what is asked.
type rawLayer struct {
	v1.Layer
	diffID v1.Hash
}

func (l rawLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

func layerOf(t testing.TB, archive []byte) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(archive)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	diffID, _, err := v1.SHA256(bytes.NewReader(archive))
	require.NoError(t, err)
	return rawLayer{static.NewLayer(buf.Bytes(), types.OCILayer), diffID}
}

func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	require.NoError(t, err)
	return img
}

// list gives a tree's entries in the notation of archive.
func list(t testing.TB, tree ostree.Tree) ([]string, error) {
	t.Helper()
	var out []string
	for e, err := range tree.Entries(t.Context()) {
		if err != nil {
			return out, err
		}
		switch e.Mode & ostree.ModeType {
		case ostree.ModeDir:
			out = append(out, e.Path+"/")
		case ostree.ModeSymlink:
			out = append(out, e.Path+"->"+e.Target)
		default:
			require.True(t, e.Detached)
			rc, err := e.Open(t.Context())
			require.NoError(t, err)
			data, err := io.ReadAll(rc)
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			require.Len(t, data, int(e.Size))
			out = append(out, e.Path+"="+string(data))
		}
	}
	return out, nil
}

func TestFlatten(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layers [][]string
		want   []string
	}{
		{"empty", [][]string{{}}, []string{"./"}},
		{"parents are implied", [][]string{{"a/b/c=1"}}, []string{"./", "a/", "a/b/", "a/b/c=1"}},
		{"names are cleaned", [][]string{{"./a/", "/a//x=1", "a/./y=2"}}, []string{"./", "a/", "a/x=1", "a/y=2"}},
		{"sorted by name, children first", [][]string{{"a-b=1", "a/c=2", "a.b=3"}}, []string{"./", "a/", "a/c=2", "a-b=1", "a.b=3"}},
		{"later wins", [][]string{{"a=1", "b=1"}, {"a=2"}, {"b->a"}}, []string{"./", "a=2", "b->a"}},
		{"twice in one layer", [][]string{{"a=1", "a=2"}}, []string{"./", "a=2"}},
		{"directory keeps children", [][]string{{"d/", "d/x=1"}, {"d/", "d/y=2"}}, []string{"./", "d/", "d/x=1", "d/y=2"}},
		{"file over directory", [][]string{{"d/x=1"}, {"d=2"}}, []string{"./", "d=2"}},
		{"directory over file", [][]string{{"d=2"}, {"d/", "d/x=1"}}, []string{"./", "d/", "d/x=1"}},
		{"whiteout", [][]string{{"d/x=1", "d/y=1", "e/z=1"}, {"d/.wh.x=", ".wh.e="}}, []string{"./", "d/", "d/y=1"}},
		{"whiteout hides lower layers only", [][]string{{"d/x=1"}, {"d/x=2", "d/.wh.x="}}, []string{"./", "d/", "d/x=2"}},
		{"whiteout of nothing", [][]string{{"a=1"}, {"d/.wh.x=", ".wh.q=", "a/.wh.z="}}, []string{"./", "a=1"}},
		{"replaced directory", [][]string{{"d/x=1"}, {".wh.d=", "d/y=2"}}, []string{"./", "d/", "d/y=2"}},
		{"opaque", [][]string{{"d/x=1", "d/e/f=1"}, {"d/y=2", "d/.wh..wh..opq="}}, []string{"./", "d/", "d/y=2"}},
		{"opaque root", [][]string{{"x=1"}, {".wh..wh..opq=", "y=1"}}, []string{"./", "y=1"}},
		{"aufs files", [][]string{{"x=1"}, {".wh..wh.plnk/", ".wh..wh.aufs="}}, []string{"./", "x=1"}},
		{"hard links", [][]string{{"a=1", "b=>a", "l->a", "m=>l"}, {"c=>./a"}, {"a=2"}}, []string{"./", "a=2", "b=1", "c=1", "l->a", "m->a"}},
		{"through a link", [][]string{{"lib->usr/lib", "usr/lib/a=1"}, {"lib/b=2", "lib/.wh.a="}}, []string{"./", "lib->usr/lib", "usr/", "usr/lib/", "usr/lib/b=2"}},
		{"link made for it", [][]string{{"l->/x/../../y", "l/f=1"}}, []string{"./", "l->/x/../../y", "x/", "y/", "y/f=1"}},
		{"OSTree repository", [][]string{{"sysroot/ostree/repo/objects/00/a.file=1", "usr/f=>sysroot/ostree/repo/objects/00/a.file"}}, []string{"./", "sysroot/", "usr/", "usr/f=1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var layers []v1.Layer
			for _, l := range tc.layers {
				layers = append(layers, layerOf(t, archive(t, l...)))
			}
			tree := container.Flatten(imageOf(t, layers...))
			for range 2 { // a tree can be read again
				got, err := list(t, tree)
				require.NoError(t, err)
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestFlattenMetadata(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1, Gid: 2},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o104755, Uid: 1 << 31, PAXRecords: map[string]string{
			"SCHILY.xattr.user.b": "x\x00y", "SCHILY.xattr.security.capability": "\x01"}},
		{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "e/f", Typeflag: tar.TypeReg, Mode: 0o600},
	} {
		h.Format = tar.FormatPAX
		require.NoError(t, w.WriteHeader(h))
	}
	require.NoError(t, w.Close())
	second := archive(t, "d/") // root's, 0755
	got := map[string]ostree.Entry{}
	for e, err := range container.Flatten(imageOf(t, layerOf(t, buf.Bytes()), layerOf(t, second))).Entries(t.Context()) {
		require.NoError(t, err)
		e.Open = nil
		got[e.Path] = e
	}
	file := ostree.Entry{Mode: 0o104755, UID: 1 << 31, Detached: true, Xattrs: []ostree.Xattr{
		{Name: "security.capability", Value: []byte{1}}, {Name: "user.b", Value: []byte("x\x00y")}}}
	named := func(path string, e ostree.Entry) ostree.Entry {
		e.Path, e.Detached = path, true
		return e
	}
	require.Equal(t, map[string]ostree.Entry{
		".":   named(".", ostree.Entry{Mode: ostree.ModeDir | 0o700, UID: 1, GID: 2}),
		"d":   named("d", ostree.Entry{Mode: ostree.ModeDir | 0o755}),
		"d/f": named("d/f", file),
		"d/h": named("d/h", file),
		"e":   named("e", ostree.Entry{Mode: ostree.ModeDir | 0o755, Implied: true}),
		"e/f": named("e/f", ostree.Entry{Mode: ostree.ModeRegular | 0o600}),
	}, got)
}

func TestFlattenRefuses(t *testing.T) {
	device := func(kind byte) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "dev/x", Typeflag: kind}))
		require.NoError(t, w.Close())
		return buf.Bytes()
	}
	long := "l->" + strings.Repeat("a/", 3000) + "b"
	for _, tc := range []struct {
		name    string
		archive []byte
		is      error
		text    string
	}{
		{"dot dot", archive(t, "a/../../b=1"), fs.ErrInvalid, "a/../../b"},
		{"whiteout of dot dot", archive(t, "d/.wh...="), fs.ErrInvalid, "hides"},
		{"whiteout of dot", archive(t, "d/.wh..="), fs.ErrInvalid, "hides"},
		{"whiteout of no name", archive(t, "d/.wh.="), fs.ErrInvalid, "hides"},
		{"hard link out", archive(t, "h=>../etc/shadow"), fs.ErrInvalid, "shadow"},
		{"hard link to nothing", archive(t, "h=>nothing"), fs.ErrNotExist, "nothing"},
		{"hard link to a directory", archive(t, "d/", "h=>d"), fs.ErrNotExist, "d"},
		{"parent is a file", archive(t, "a=1", "a/b=1"), fs.ErrInvalid, "no directory"},
		{"links in a circle", archive(t, "a->b", "b->a", "a/x=1"), fs.ErrInvalid, "too many"},
		{"links that grow", archive(t, long, "l/f=1"), fs.ErrInvalid, "deep"},
		{"not UTF-8", archive(t, "x\xffy=1"), fs.ErrInvalid, "UTF-8"},
		{"link target not UTF-8", archive(t, "l->x\xffy", "l/z=1"), fs.ErrInvalid, `link target "x\xffy" is empty or not UTF-8`},
		{"root is a file", archive(t, ".=1"), fs.ErrInvalid, "root"},
		{"block device", device(tar.TypeBlock), errors.ErrUnsupported, "dev/x"},
		{"character device", device(tar.TypeChar), errors.ErrUnsupported, "dev/x"},
		{"pipe", device(tar.TypeFifo), errors.ErrUnsupported, "dev/x"},
		{"no tar archive", []byte(strings.Repeat("x", 1024)), ostree.ErrCorrupt, "header"},
		{"cut", archive(t, "a="+strings.Repeat("x", 4096))[:2048], ostree.ErrCorrupt, "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := list(t, container.Flatten(imageOf(t, layerOf(t, archive(t, "base=1")), layerOf(t, tc.archive))))
			require.ErrorIs(t, err, tc.is)
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, "layer 1 (sha256:")
			require.Empty(t, got, "nothing comes before all is known to be right")
		})
	}
}

// badLayer serves other bytes than it promises.
type badLayer struct {
	v1.Layer
	open func() (io.ReadCloser, error)
}

func (l badLayer) Compressed() (io.ReadCloser, error) { return l.open() }

func TestFlattenVerifies(t *testing.T) {
	good := archive(t, "a=1")
	layer := layerOf(t, good)
	blob := func() []byte {
		rc, err := layer.Compressed()
		require.NoError(t, err)
		data, err := io.ReadAll(rc)
		require.NoError(t, err)
		return data
	}()
	serve := func(data []byte) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	flipped := bytes.Clone(blob)
	flipped[4] ^= 1 // the time in the gzip header: the content is the same
	for _, tc := range []struct {
		name  string
		layer v1.Layer
	}{
		{"other bytes", badLayer{layer, serve(flipped)}},
		{"cut", badLayer{layer, serve(blob[:len(blob)-1])}},
		{"more bytes", badLayer{layer, serve(append(bytes.Clone(blob), 0))}},
		{"other diff ID", rawLayer{layer, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := list(t, container.Flatten(imageOf(t, tc.layer)))
			require.Error(t, err)
			require.Empty(t, got)
		})
	}
	broken := errors.New("connection reset")
	_, err := list(t, container.Flatten(imageOf(t, badLayer{layer, func() (io.ReadCloser, error) { return nil, broken }})))
	require.ErrorIs(t, err, broken)

	_, err = list(t, &container.Flattened{Image: imageOf(t, layer), MaxSize: 100})
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	_, err = list(t, &container.Flattened{Image: imageOf(t, layer), TempDir: "/nonexistent"})
	require.ErrorIs(t, err, fs.ErrNotExist)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range container.Flatten(imageOf(t, layer)).Entries(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

// manyLinks are files through a chain of links with targets of so many bytes.
func manyLinks(size int) []string {
	var entries []string
	for i := range 39 {
		entries = append(entries, fmt.Sprintf("l%02d->%s/l%02d", i, strings.Repeat("./", size/2), i+1))
	}
	entries = append(entries, "l39->d")
	for i := range 300 {
		entries = append(entries, fmt.Sprintf("l00/%d=", i))
	}
	return entries
}

// TestFlattenLong: names are as long as Linux takes them, and paths through links not
// much longer.
func TestFlattenLong(t *testing.T) {
	flat := func(entries ...string) (err error) {
		data := archive(t, entries...)
		fuzzbound.Linear(t, len(data), 256, func() { _, err = list(t, container.Flatten(imageOf(t, layerOf(t, data)))) })
		return err
	}
	deep := strings.Repeat("d/", 2047) + "x"
	require.Len(t, deep, 4095)
	_, err := list(t, container.Flatten(imageOf(t, layerOf(t, archive(t, deep+"=1", "l->"+strings.Repeat("./", 2000)+"d", "l/x=1")))))
	require.NoError(t, err)
	require.ErrorIs(t, flat(deep+"xx=1"), fs.ErrInvalid)
	require.NoError(t, flat(manyLinks(1000)...))
	require.ErrorIs(t, flat(manyLinks(60_000)...), fs.ErrInvalid)
}

// TestFlattenBound: what links and directories without entries cost is in proportion to the
// layer, though their paths are together the square of it.
func TestFlattenBound(t *testing.T) {
	bound := func(entries []string) (err error) {
		data := archive(t, entries...)
		fuzzbound.Linear(t, len(data), 256, func() {
			for _, err = range container.Flatten(imageOf(t, layerOf(t, data))).Entries(t.Context()) {
			}
		})
		return err
	}
	require.NoError(t, bound([]string{strings.Repeat("d/", 2000) + "x=1"}))

	// Each link leads on with what is left of the one before.
	links := []string{"l00->l01/" + strings.Repeat("./", 2000), "l01->l02/" + strings.Repeat("./", 2000)}
	for i := 2; i < 39; i++ {
		links = append(links, fmt.Sprintf("l%02d->l%02d", i, i+1))
	}
	links = append(links, "l39->d")
	for i := range 1000 {
		links = append(links, fmt.Sprintf("l00/%d=", i))
	}
	require.NoError(t, bound(links))

	// Each link leads into what is below the one before.
	long := []string{"l0->" + strings.Repeat("n", 4000)}
	for i := range 10 {
		long = append(long, fmt.Sprintf("l%d/%s/", i, strings.Repeat("n", 4000)), fmt.Sprintf("l%d->l%d/%s", i+1, i, strings.Repeat("n", 4000)))
	}
	require.ErrorIs(t, bound(long), fs.ErrInvalid)
}

func TestFlattenLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	for range (&container.Flattened{Image: imageOf(t, layerOf(t, archive(t, "a=1"))), TempDir: dir}).Entries(t.Context()) {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestFlattenZstd(t *testing.T) {
	plain := archive(t, "a=1")
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	diffID, _, err := v1.SHA256(bytes.NewReader(plain))
	require.NoError(t, err)
	got, err := list(t, container.Flatten(imageOf(t, rawLayer{static.NewLayer(z.EncodeAll(plain, nil), types.OCILayerZStd), diffID})))
	require.NoError(t, err)
	require.Equal(t, []string{"./", "a=1"}, got)
}

func FuzzFlatten(f *testing.F) {
	var seeds [][]byte
	for _, seed := range [][]string{
		{"d/.wh.x=", "d/y=2"}, {"d/.wh..wh..opq="}, {".wh..=", ".wh...="}, {"l->/d", "l/z=1"},
		{"h=>d/x", "a/b/c=1"}, {"d=1"}, {"a->a", "a/b=1"}, {"../x=1"}, {"l->n\xff", "l/z=1"},
	} {
		seeds = append(seeds, archive(f, seed...))
	}
	mutants.AddTars(f, seeds...)
	f.Add(archive(f, strings.Repeat("d/", 200)+"x=1"))
	f.Add(archive(f, manyLinks(2000)...))
	lower := layerOf(f, archive(f, "d/x=1", "d/e/f=1", "l->d", "loop->loop"))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := map[string]bool{}
		tree := container.Flattened{Image: imageOf(t, lower, layerOf(t, data)), MaxSize: 1 << 20}
		// Directories that are implied have their paths made.
		fuzzbound.Within(t, 2<<20+512*len(data), func() {
			for range tree.Entries(t.Context()) {
			}
		})
		for e, err := range tree.Entries(t.Context()) {
			if err != nil {
				return
			}
			require.True(t, utf8.ValidString(e.Path))
			require.False(t, seen[e.Path], "twice")
			seen[e.Path] = true
			if e.Path == "." {
				continue
			}
			parent := "."
			if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
				parent = e.Path[:i]
			}
			require.True(t, seen[parent], "parents come first")
			require.True(t, fs.ValidPath(e.Path), e.Path)
			if e.Open != nil {
				rc, err := e.Open(t.Context())
				require.NoError(t, err)
				n, err := io.Copy(io.Discard, rc)
				require.NoError(t, err)
				require.Equal(t, e.Size, n)
			}
		}
	})
}

func ExampleFlatten() {
	// img comes from a registry or a layout; this one has no layers.
	for e, err := range container.Flatten(empty.Image).Entries(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %o\n", e.Path, e.Mode)
	}
	// Output: . 40755
}
