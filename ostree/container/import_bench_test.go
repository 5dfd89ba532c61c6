package container_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// BenchmarkImport imports 32 MiB in 200 files of one layer, and then again the
// image with one more, whose other layer is there.
func BenchmarkImport(b *testing.B) {
	files := map[string]string{}
	text := big(32 << 20)["usr/lib/big"]
	for i := range 200 {
		n := len(text) / 200
		files[fmt.Sprintf("usr/lib/%d", i)] = text[i*n : (i+1)*n]
	}
	img, _, _ := importBase(b, files, nil)
	more := importWith(b, img, archive(b, "usr/new=1"))
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		dir := b.TempDir()
		n := 0
		repo := func(b *testing.B) *ostree.Repo {
			n++
			r, err := ostree.Init(b.Context(), filepath.Join(dir, fmt.Sprint(n)), mode, nil)
			require.NoError(b, err)
			return r
		}
		b.Run(string(mode), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r := repo(b)
				_, err := container.Import(b.Context(), r, img, &container.ImportOptions{Name: "oci:x", NoFsync: true})
				require.NoError(b, err)
				require.NoError(b, r.Close())
			}
		})
		b.Run(string(mode)+" again", func(b *testing.B) {
			r := repo(b)
			_, err := container.Import(b.Context(), r, img, &container.ImportOptions{Name: "oci:x", NoFsync: true})
			require.NoError(b, err)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				_, err := container.Import(b.Context(), r, more, &container.ImportOptions{NoFsync: true})
				require.NoError(b, err)
			}
			require.NoError(b, r.Close())
		})
	}
}
