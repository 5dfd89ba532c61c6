package hugepages_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/hugepages"
)

func TestMake(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 1<<17 - 1, 1 << 17, 1<<17 + 1, 3<<17 + 5} {
		list := hugepages.Make[[2]uint64](n)
		require.Len(t, list, n)
		require.Equal(t, n, cap(list))
		for i := range list {
			require.Zero(t, list[i])
			list[i][1] = 1
		}
		if n >= 1<<17 {
			require.Zero(t, uintptr(unsafe.Pointer(&list[0]))%(2<<20), "begins with a page")
		}
	}
}
