package disk_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// benchDisk is a disk whose every other block is zero, half of the others text.
func benchDisk() []byte {
	raw := make([]byte, 32<<20)
	noise := rand.NewChaCha8([32]byte{1})
	for off := 0; off < len(raw); off += 4 * 64 << 10 {
		_, _ = noise.Read(raw[off:][:64<<10])
		for i := range 64 << 10 {
			raw[off+128<<10+i] = "all work and no play "[i*i%(i%19+2)]
		}
	}
	return raw
}

func BenchmarkConvert(b *testing.B) {
	raw := benchDisk()
	for _, target := range everyTarget() {
		b.Run(fmt.Sprint(target.Format, target.Compression), func(b *testing.B) {
			root := openRoot(b)
			image := openRaw(b, sparse(raw), len(raw))
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				_, err := disk.Convert(b.Context(), root, image, []disk.Target{target}, &disk.ConvertOptions{NoSync: true})
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkRead reads the disks in images.
func BenchmarkRead(b *testing.B) {
	raw := benchDisk()
	root := openRoot(b)
	_, err := disk.Convert(b.Context(), root, openRaw(b, sparse(raw), len(raw)), everyTarget(), &disk.ConvertOptions{NoSync: true})
	require.NoError(b, err)
	for _, target := range everyTarget()[:7] {
		b.Run(fmt.Sprint(target.Format, target.Compression), func(b *testing.B) {
			file, err := root.Open(target.Name)
			require.NoError(b, err)
			defer file.Close()
			info, err := file.Stat()
			require.NoError(b, err)
			b.SetBytes(int64(len(raw)))
			buffer := make([]byte, 1<<20)
			for b.Loop() {
				image, err := disk.Open(b.Context(), file, info.Size(), nil)
				require.NoError(b, err)
				for off := int64(0); off < image.Size(); off += int64(len(buffer)) {
					_, err := image.ReadAt(buffer, off)
					require.NoError(b, err)
				}
			}
		})
	}
}
