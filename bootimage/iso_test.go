package bootimage_test

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
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// member is an entry of a layer.
type member struct {
	name    string
	content []byte
	kind    byte // 0: a file
}

// layerOf packs a layer with gzip.
func layerOf(t testing.TB, members ...member) v1.Layer {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	for _, m := range members {
		head := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), Typeflag: tar.TypeReg}
		if m.kind != 0 {
			head.Typeflag, head.Size, head.Linkname = m.kind, 0, "elsewhere"
		}
		require.NoError(t, w.WriteHeader(head))
		_, err := w.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return static.NewLayer(out.Bytes(), types.OCILayer)
}

// countedLayer counts the bytes of a layer that are read, and may change them.
type countedLayer struct {
	v1.Layer
	read  *atomic.Int64
	spoil bool
}

func (l countedLayer) Compressed() (io.ReadCloser, error) {
	rc, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(rc)
	if l.spoil {
		data[len(data)/2] ^= 1
	}
	return &countedReader{bytes.NewReader(data), l.read}, errors.Join(err, rc.Close())
}

type countedReader struct {
	*bytes.Reader
	read *atomic.Int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read.Add(int64(n))
	return n, err
}
func (r *countedReader) WriteTo(io.Writer) (int64, error) { panic("reads alone are counted") }
func (r *countedReader) Close() error                     { return nil }

// imageOf stacks layers, the lowest first, and counts what is read of each.
func imageOf(t testing.TB, layers ...v1.Layer) (v1.Image, []*atomic.Int64) {
	t.Helper()
	var counts []*atomic.Int64
	for i, l := range layers {
		counts = append(counts, &atomic.Int64{})
		if _, ok := l.(countedLayer); !ok {
			layers[i] = countedLayer{Layer: l, read: counts[i]}
		}
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	require.NoError(t, err)
	// AppendLayers has read them for their diff IDs.
	for _, c := range counts {
		c.Store(0)
	}
	return img, counts
}

// osImages is an image like machine-os-images: base, ISO, oc, scripts.
func osImages(t testing.TB, iso []byte, arch string) []v1.Layer {
	file := "coreos/coreos-" + arch + ".iso"
	return []v1.Layer{
		layerOf(t, member{name: "usr/bin/coreos-installer", content: noise(5000)}),
		layerOf(t,
			member{name: "coreos/", kind: tar.TypeDir}, member{name: "coreos/coreos-stream.json", content: []byte("{}")},
			member{name: file, content: iso}, member{name: file + ".sha256", content: []byte(sum256(iso))},
			member{name: "coreos/coreos10-stream.json", content: []byte("{}")}, member{name: "coreos/coreos10-" + arch + ".iso", content: iso[1:]},
			member{name: "coreos/coreos10-" + arch + ".iso.sha256", content: []byte(sum256(iso[1:]) + "  coreos10-" + arch + ".iso\n")},
		),
		layerOf(t, member{name: "usr/bin/oc", content: noise(300_000)}),
		layerOf(t, member{name: "bin/copy-iso", content: []byte("#!/bin/bash\n")}),
	}
}

func TestISO(t *testing.T) {
	iso := noise(4 << 20)
	img, counts := imageOf(t, osImages(t, iso, "x86_64")...)
	for _, tc := range []struct {
		name string
		opts *bootimage.ISOOptions
		want bootimage.ImageISO
	}{
		{"any", nil, bootimage.ImageISO{Path: "coreos/coreos-x86_64.iso", Arch: "x86_64", Size: 4 << 20, SHA256: sum256(iso)}},
		{"by checksum", &bootimage.ISOOptions{Arch: "x86_64", SHA256: sum256(iso)}, bootimage.ImageISO{Path: "coreos/coreos-x86_64.iso", Arch: "x86_64", Size: 4 << 20, SHA256: sum256(iso)}},
		{"of RHEL 10", &bootimage.ISOOptions{Name: "coreos10"}, bootimage.ImageISO{Path: "coreos/coreos10-x86_64.iso", Arch: "x86_64", Size: 4<<20 - 1, SHA256: sum256(iso[1:])}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := bootimage.FindISO(t.Context(), img, tc.opts)
			require.NoError(t, err)
			layers, err := img.Layers()
			require.NoError(t, err)
			digest, err := layers[1].Digest()
			require.NoError(t, err)
			tc.want.Layer = digest.String()
			require.Equal(t, &tc.want, found)

			root := openRoot(t)
			var moved int64
			opts := bootimage.ISOOptions{}
			if tc.opts != nil {
				opts = *tc.opts
			}
			opts.Progress = func(done, total int64) { moved = done; require.Equal(t, tc.want.Size, total) }
			got, err := bootimage.ExtractISO(t.Context(), root, "my.iso", img, &opts)
			require.NoError(t, err)
			require.Equal(t, &tc.want, got)
			require.Equal(t, tc.want.Size, moved)
			require.Equal(t, []string{"my.iso"}, names(t, root))
			data, err := root.ReadFile("my.iso")
			require.NoError(t, err)
			require.Equal(t, tc.want.SHA256, sum256(data))
		})
	}
	// With a checksum only the head of the largest layer is read.
	for _, c := range counts {
		c.Store(0)
	}
	_, err := bootimage.FindISO(t.Context(), img, &bootimage.ISOOptions{SHA256: sum256(iso)})
	require.NoError(t, err)
	require.Zero(t, counts[0].Load()+counts[2].Load()+counts[3].Load())
	require.Less(t, counts[1].Load(), int64(1<<20))
}

// sparseISO is a layer with an ISO of a gibibyte that is one hole.
func sparseISO(t testing.TB) v1.Layer {
	t.Helper()
	const file, size = "coreos/coreos-x86_64.iso", 1 << 30
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: file + ".sha256", Mode: 0o644, Size: 64}))
	_, err := io.WriteString(w, "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14")
	require.NoError(t, err)
	// The package writes no sparse files, whose keys have GNU in place of OWN.
	require.NoError(t, w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: 512, PAXRecords: map[string]string{
		"OWN.sparse.major": "1", "OWN.sparse.minor": "0", "OWN.sparse.name": file, "OWN.sparse.realsize": fmt.Sprint(size),
	}}))
	_, err = w.Write(append([]byte("0\n"), make([]byte, 510)...))
	require.NoError(t, errors.Join(err, w.Close()))
	return static.NewLayer(bytes.ReplaceAll(out.Bytes(), []byte("OWN.sparse."), []byte("GNU.sparse.")), types.OCIUncompressedLayer)
}

func TestISORefused(t *testing.T) {
	iso := noise(200_000)
	const file = "coreos/coreos-x86_64.iso"
	good := func() []v1.Layer { return osImages(t, iso, "x86_64") }
	with := func(top ...member) []v1.Layer { return append(good(), layerOf(t, top...)) }
	one := func(members ...member) []v1.Layer { return []v1.Layer{layerOf(t, members...)} }
	for _, tc := range []struct {
		name   string
		layers []v1.Layer
		opts   *bootimage.ISOOptions
		want   error
		text   string
	}{
		{"other architecture", good(), &bootimage.ISOOptions{Arch: "aarch64"}, fs.ErrNotExist, "no coreos/coreos-aarch64.iso in 4 layers"},
		{"other name", good(), &bootimage.ISOOptions{Name: "scos"}, fs.ErrNotExist, "scos-ARCH.iso"},
		{"no layers", nil, nil, fs.ErrNotExist, "0 layers"},
		{"removed above", with(member{name: "coreos/.wh.coreos-x86_64.iso"}), &bootimage.ISOOptions{Arch: "x86_64"}, fs.ErrNotExist, "no coreos"},
		{"folder removed above", with(member{name: ".wh.coreos"}), nil, fs.ErrNotExist, "no coreos"},
		{"folder emptied above", with(member{name: "coreos/.wh..wh..opq"}), nil, fs.ErrNotExist, "no coreos"},
		{"another one", good(), &bootimage.ISOOptions{SHA256: sum256(nil)}, bootimage.ErrVerification, "want " + sum256(nil)},
		{"no checksum beside it", one(member{name: file, content: iso}), nil, bootimage.ErrVerification, "no checksum beside it"},
		{"other checksum beside it", one(member{name: file, content: iso}, member{name: file + ".sha256", content: []byte(sum256(nil))}), nil, bootimage.ErrVerification, "beside it is"},
		{"no checksum in the file", one(member{name: file, content: iso}, member{name: file + ".sha256", content: []byte("<html>")}), nil, bootimage.ErrVerification, `checksum "<html>"`},
		{"link", one(member{name: file, kind: tar.TypeSymlink}), nil, errors.ErrUnsupported, "not a file"},
		{"hard link", one(member{name: file, kind: tar.TypeLink}), nil, errors.ErrUnsupported, "not a file"},
		{"twice", one(member{name: file, content: iso}, member{name: "./" + file, content: iso}), nil, errors.ErrUnsupported, "twice"},
		{"sparse", []v1.Layer{sparseISO(t)}, nil, errors.ErrUnsupported, "sparse"},
		{"sparse, by checksum", []v1.Layer{sparseISO(t)}, &bootimage.ISOOptions{SHA256: sum256(nil)}, errors.ErrUnsupported, "sparse"},
		{"bad option", good(), &bootimage.ISOOptions{SHA256: "x"}, fs.ErrInvalid, `checksum "x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, _ := imageOf(t, tc.layers...)
			root := openRoot(t)
			_, err := bootimage.ExtractISO(t.Context(), root, "my.iso", img, tc.opts)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
			require.Empty(t, names(t, root))
		})
	}
	for _, name := range []string{"", "..", "a/b", "."} {
		img, _ := imageOf(t, good()...)
		_, err := bootimage.ExtractISO(t.Context(), openRoot(t), name, img, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	t.Run("other bytes than the image says", func(t *testing.T) {
		img, _ := imageOf(t, good()...)
		layers, err := img.Layers()
		require.NoError(t, err)
		layers[1] = countedLayer{Layer: layers[1], read: &atomic.Int64{}, spoil: true}
		root := openRoot(t)
		_, err = bootimage.ExtractISO(t.Context(), root, "my.iso", replacedImage{img, layers}, nil)
		require.ErrorIs(t, err, bootimage.ErrVerification)
		require.Empty(t, names(t, root))
		_, err = bootimage.FindISO(t.Context(), replacedImage{img, layers}, nil)
		require.ErrorIs(t, err, bootimage.ErrVerification)
	})
	t.Run("cancelled", func(t *testing.T) {
		img, _ := imageOf(t, good()...)
		ctx, cancel := context.WithCancel(t.Context())
		root := openRoot(t)
		_, err := bootimage.ExtractISO(ctx, root, "my.iso", img, &bootimage.ISOOptions{SHA256: sum256(iso), Progress: func(int64, int64) { cancel() }})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, names(t, root))
	})
}

// replacedImage has other layers than it says.
type replacedImage struct {
	v1.Image
	layers []v1.Layer
}

func (i replacedImage) Layers() ([]v1.Layer, error) { return i.layers, nil }

// Several that write the same file do not get into each other's way.
func TestISOAtOnce(t *testing.T) {
	iso := noise(100_000)
	img, _ := imageOf(t, osImages(t, iso, "x86_64")...)
	root := openRoot(t)
	var wait sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wait.Go(func() { _, errs[i] = bootimage.ExtractISO(t.Context(), root, "my.iso", img, nil) })
	}
	wait.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, []string{"my.iso"}, names(t, root))
	data, err := root.ReadFile("my.iso")
	require.NoError(t, err)
	require.Equal(t, sum256(iso), sum256(data))
}

func FuzzISO(f *testing.F) {
	iso := noise(3000)
	sparse, err := sparseISO(f).Uncompressed()
	require.NoError(f, err)
	plain, err := io.ReadAll(sparse)
	require.NoError(f, err)
	f.Add(plain)
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00")) // nothing, with the largest window
	for _, l := range osImages(f, iso, "x86_64") {
		rc, err := l.Compressed()
		require.NoError(f, err)
		z, err := gzip.NewReader(rc)
		require.NoError(f, err)
		plain, err := io.ReadAll(z)
		require.NoError(f, err)
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, layer []byte) {
		img := replacedImage{empty.Image, []v1.Layer{static.NewLayer(layer, types.OCIUncompressedLayer)}}
		root := openRoot(t)
		var got *bootimage.ImageISO
		var err error
		// A layer may be compressed.
		fuzzbound.Within(t, 16<<20+64*len(layer)+windowBound(layer), func() { got, err = bootimage.ExtractISO(t.Context(), root, "my.iso", img, nil) })
		if err != nil {
			require.Empty(t, names(t, root))
			return
		}
		data, err := root.ReadFile("my.iso")
		require.NoError(t, err)
		require.Equal(t, got.SHA256, sum256(data))
		require.Equal(t, got.Size, int64(len(data)))
		require.True(t, strings.HasPrefix(got.Path, "coreos/coreos-"))
	})
}

func ExampleFindISO() {
	iso := []byte("the bytes of an ISO")
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range []member{{name: "coreos/coreos-x86_64.iso", content: iso}, {name: "coreos/coreos-x86_64.iso.sha256", content: []byte(sum256(iso))}} {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content))}); err != nil {
			fmt.Println(err)
			return
		}
		if _, err := w.Write(m.content); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(out.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, opts := context.Background(), &bootimage.ISOOptions{Arch: "x86_64"}
	found, err := bootimage.FindISO(ctx, img, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Path, found.Size, found.SHA256[:8])

	dir, err := os.MkdirTemp("", "iso")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	if _, err := bootimage.ExtractISO(ctx, root, "live.iso", img, opts); err != nil {
		fmt.Println(err)
		return
	}
	got, err := root.ReadFile("live.iso")
	fmt.Println(string(got), err)
	// Output:
	// coreos/coreos-x86_64.iso 19 c1c5eef5
	// the bytes of an ISO <nil>
}
