package container_test

import (
	"fmt"
	"math/bits"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
)

// drawing is a generator whose numbers never change: splitmix64.
type drawing uint64

func (d *drawing) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below draws from 0 to n-1.
func (d *drawing) below(n int) int {
	hi, _ := bits.Mul64(d.next(), uint64(n))
	return int(hi)
}

// unit draws from [0, 1).
func (d *drawing) unit() float64 { return float64(d.next()>>11) / (1 << 53) }

// drawComponents draws packages as a system has them: sizes over some orders of
// magnitude, few that change often, some of one source. kind bends that.
func drawComponents(d *drawing, n, kind int) []container.Component {
	out := make([]container.Component, n)
	for i := range out {
		c := &out[i]
		c.ID, c.Name = fmt.Sprintf("p%03d-1.0", i), fmt.Sprintf("p%03d", i)
		c.Source = fmt.Sprintf("s%03d.src", d.below(2*n/3+1))
		magnitude := 12 + d.below(7) + d.below(7)
		switch kind % 4 {
		case 1:
			magnitude = 20 // nearly alike
		case 2:
			magnitude = 4 + d.below(24) // everything from bytes to gigabytes
		}
		c.Size = 1<<magnitude + int64(d.below(1<<magnitude))
		if kind%4 == 3 {
			c.Size = int64(d.below(8)) << 16 // many the same
		}
		c.Frequency = uint32(d.below(4) * d.below(14))
		if d.below(20) == 0 {
			c.Frequency *= 5
		}
	}
	for range kind / 4 % 4 {
		if n > 0 {
			out[d.below(n)].Frequency = container.EveryBuild
		}
	}
	return out
}

// requirePlan checks what every plan must be like.
func requirePlan(t testing.TB, components []container.Component, chunks []container.Chunk, limit int) {
	t.Helper()
	require.LessOrEqual(t, len(chunks), limit)
	seen := map[string]bool{}
	for _, c := range chunks {
		require.NotEmpty(t, c.Components)
		for _, id := range c.Components {
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}
	require.Len(t, seen, len(components))
}

// tarLayer is a layer without entries.
func tarLayer(t testing.TB) v1.Layer {
	t.Helper()
	return static.NewLayer(make([]byte, 1024), types.OCIUncompressedLayer)
}
