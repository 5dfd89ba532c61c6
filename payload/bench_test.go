package payload_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// largeWorld has as many images and manifests as a release of the field: 190
// images, a third of them operators with ten manifests each.
func largeWorld(t testing.TB) (*world, int64) {
	t.Helper()
	w := newWorld(t)
	size := int64(0)
	for i := range 190 {
		tag := fmt.Sprintf("comp-%03d", i)
		if i%3 != 0 {
			w.plain(t, tag, nil)
			continue
		}
		files := []string{"image-references", references(tag, "q.io/o/"+tag, fmt.Sprintf("comp-%03d", max(i-2, 0)), "q.io/o/other")}
		for n := range 10 {
			text := fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: x%d\nspec:\n  image: q.io/o/%s:v1\n  version: 0.0.1-snapshot\n  description: |\n", n, tag) + strings.Repeat("    a line of text as long as they are in the descriptions of fields\n", 100)
			files = append(files, fmt.Sprintf("%02d.yaml", n), text)
			size += int64(len(text))
		}
		if i == 0 {
			files[1] = references(tag, "q.io/o/"+tag)
		}
		w.operator(t, tag, files...)
	}
	return w, size
}

func BenchmarkAssemble(b *testing.B) {
	w, size := largeWorld(b)
	for _, compat := range []bool{false, true} {
		b.Run(map[bool]string{false: "strict", true: "compatible"}[compat], func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				_, err := payload.Assemble(b.Context(), w, w.spec(), &payload.AssembleOptions{Compatible: compat})
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	w, size := largeWorld(b)
	_, r := w.must(b, w.spec(), nil)
	b.SetBytes(size)
	for b.Loop() {
		_, err := payload.Open(b.Context(), w, r.Pullspec(), nil)
		require.NoError(b, err)
	}
}
