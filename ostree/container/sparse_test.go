package container_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// sparseSize is what sparse files here claim to be: no byte of it is there.
const sparseSize = 8 << 30

// rawEntry writes an entry with any header, which archive/tar would not write.
func rawEntry(w *bytes.Buffer, name string, kind byte, body string, change func(h []byte)) {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", len(body)))
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	if change != nil {
		change(h)
	}
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	w.Write(h)
	w.WriteString(body)
	w.Write(make([]byte, (512-len(body)%512)%512))
}

// sparseEntries are entries of a name in each of GNU tar's formats for files with
// holes.
func sparseEntries(name string) map[string][]byte {
	size := fmt.Sprint(int64(sparseSize))
	pax := func(body string, records ...string) []byte {
		var text strings.Builder
		for i := 0; i < len(records); i += 2 {
			n := len(records[i]) + len(records[i+1]) + len(" =\n")
			total := n + len(fmt.Sprint(n))
			total = n + len(fmt.Sprint(total))
			fmt.Fprintf(&text, "%d %s=%s\n", total, records[i], records[i+1])
		}
		var buf bytes.Buffer
		rawEntry(&buf, "pax", tar.TypeXHeader, text.String(), nil)
		rawEntry(&buf, "GNUSparseFile.0/x", tar.TypeReg, body, nil)
		return buf.Bytes()
	}
	var gnu bytes.Buffer
	rawEntry(&gnu, name, tar.TypeGNUSparse, "", func(h []byte) {
		copy(h[257:], "ustar  \x00")
		copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", 0, 0))
		copy(h[483:], "\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00") // base-256: 8 GiB
	})
	return map[string][]byte{
		"GNU":     gnu.Bytes(),
		"PAX 0.0": pax("", "path", name, "GNU.sparse.size", size, "GNU.sparse.numblocks", "1", "GNU.sparse.offset", size, "GNU.sparse.numbytes", "0"),
		"PAX 0.1": pax("", "GNU.sparse.name", name, "GNU.sparse.size", size, "GNU.sparse.numblocks", "1", "GNU.sparse.map", size+",0"),
		"PAX 1.0": pax("1\n"+size+"\n0\n"+strings.Repeat("\x00", 512-len("1\n"+size+"\n0\n")),
			"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", name, "GNU.sparse.realsize", size),
	}
}

// A file with holes may claim any size in a few bytes: it is refused by its name,
// above a commit, in a plain image, as an object and beside one.
func TestSparseFilesAreRefused(t *testing.T) {
	base, c, _ := importBase(t, sample, nil)
	chunked, chunkedCommit := importChunked(t)
	entries := importEntries(t, chunked)
	// An object of the content layer comes as a file with holes.
	withObject := func(sparse []byte) v1.Image {
		img := empty.Image
		for i, l := range entries {
			data := importTar(t, l)
			if i == 1 {
				data = append(sparse, data...)
			}
			img = importWith(t, img, data)
		}
		return importLabelled(t, img, map[string]string{"ostree.commit": chunkedCommit.String(), "ostree.final-diffid": "layer 2"})
	}
	end := make([]byte, 1024)
	for format, entry := range sparseEntries("usr/sparse") {
		t.Run(format, func(t *testing.T) {
			// It is what it is meant to be.
			h, err := tar.NewReader(bytes.NewReader(append(bytes.Clone(entry), end...))).Next()
			require.NoError(t, err)
			require.Equal(t, "usr/sparse", h.Name)
			require.EqualValues(t, sparseSize, h.Size)

			plain := imageOf(t, layerOf(t, archive(t, "usr/x=1")), layerOf(t, append(bytes.Clone(entry), end...)))
			_, err = list(t, container.Flatten(plain))
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, "layer 1 (sha256:")
			require.ErrorContains(t, err, `"usr/sparse": sparse file`)

			object := objectName("x", "file")
			for _, tc := range []struct {
				img   v1.Image
				c     ostree.Checksum
				layer int
				want  string
			}{
				{plain, ostree.Checksum{}, 1, `"usr/sparse": sparse file`},
				{importWith(t, base, append(bytes.Clone(entry), end...)), c, 1, `"usr/sparse": sparse file`},
				{withObject(bytes.Clone(entry)), chunkedCommit, 1, `"usr/sparse": sparse file`},
				{withObject(sparseEntries(object)[format]), chunkedCommit, 1, `"` + object + `": sparse file`},
			} {
				for _, mode := range importModes() {
					repo := importRepo(t, mode)
					_, err := container.Import(t.Context(), repo, tc.img, &container.ImportOptions{Name: "oci:x"})
					require.ErrorContains(t, err, fmt.Sprintf("layer %d (sha256:", tc.layer))
					require.ErrorContains(t, err, tc.want)
					require.ErrorIs(t, err, errors.ErrUnsupported)
					_, err = repo.Resolve(t.Context(), "ostree/container/image/oci_3A_x")
					require.Error(t, err)
					require.NoError(t, repo.Fsck(t.Context(), nil))
				}
			}
		})
	}
}
