package payload_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// rawEntry is a tar entry whose header is changed, as archive/tar would not
// write it.
func rawEntry(t testing.TB, name, data string, change func(h []byte)) []byte {
	t.Helper()
	out := tarOf(t, entry{name: name, data: data})
	out = out[:len(out)-1024] // without the archive's end
	change(out)
	copy(out[148:], "        ")
	sum := 0
	for _, b := range out[:512] {
		sum += int(b)
	}
	copy(out[148:], fmt.Sprintf("%06o\x00", sum))
	return out
}

// sparseLayers have a file that claims so many bytes, of which none is there, in
// the formats of GNU tar.
func sparseLayers(t testing.TB, name string, size int64) map[string][]byte {
	t.Helper()
	records := ""
	for _, r := range []string{"GNU.sparse.name=" + name, "GNU.sparse.numblocks=1", fmt.Sprintf("GNU.sparse.size=%d", size), fmt.Sprintf("GNU.sparse.map=%d,0", size)} {
		records += fmt.Sprintf("%d %s\n", len(r)+4, r) // of 10 to 99 bytes
	}
	header := rawEntry(t, "pax", records, func(h []byte) { h[156] = tar.TypeXHeader })
	gnu := rawEntry(t, name, "", func(h []byte) {
		h[156] = tar.TypeGNUSparse
		copy(h[257:], "ustar  \x00")
		copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
		copy(h[483:], fmt.Sprintf("%011o\x00", size))
	})
	return map[string][]byte{"PAX": append(header, tarOf(t, entry{name: "x"})...), "GNU": append(gnu, make([]byte, 1024)...)}
}

// A file with holes may claim any size in a few bytes, and is refused wherever
// its bytes would be kept; elsewhere it does not count.
func TestSparseFilesAreRefused(t *testing.T) {
	const name = "release-manifests/a"
	for format, layer := range sparseLayers(t, name, payload.MaxManifestSize) {
		t.Run(format, func(t *testing.T) {
			h, err := tar.NewReader(bytes.NewReader(layer)).Next()
			require.NoError(t, err)
			require.Equal(t, name, h.Name, "it is what it is meant to be")
			require.EqualValues(t, payload.MaxManifestSize, h.Size)

			w := newMemory()
			files := tarOf(t, releaseEntries()...)
			image := makeImage(t, imageSpec{layers: [][]byte{append(files[:len(files)-1024], layer...)}})
			_, err = payload.Open(t.Context(), w, w.add(t, repo, image), nil)
			require.ErrorContains(t, err, name+" is sparse")
			require.ErrorIs(t, err, errors.ErrUnsupported)

			_, err = payload.KeepFile(t.TempDir(), name, layer, payload.MaxToolsSize)
			require.ErrorContains(t, err, name+" is sparse")
			require.ErrorIs(t, err, errors.ErrUnsupported)
			_, err = payload.KeepFile(t.TempDir(), "usr/bin/oc", layer, payload.MaxToolsSize)
			require.NoError(t, err)
			_, _, _, err = payload.ScanLayer(layer, payload.MaxLayerSize)
			require.NoError(t, err)

			_, err = payload.Archive(bytes.NewReader(layer), int64(len(layer)))
			require.ErrorContains(t, err, "is sparse")
			require.NotErrorIs(t, err, fs.ErrInvalid)
		})
	}
}
