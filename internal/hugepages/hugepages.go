// Package hugepages makes memory that is read at random all over.
//
// Where the processor has to look up the address of each small page, that takes about as
// long as the read. Linux has pages of 2 MiB for those who ask; it is a hint that changes
// nothing else, and on other systems nothing at all.
package hugepages

import (
	"unsafe"

	"github.com/okd-project/okd-streams/internal/unix"
)

// size is that of a huge page of most processors, and a multiple of it of none.
const size = 2 << 20

// Make makes a list of n zeros, in huge pages as far as it fills them. The size of a T, which
// has no pointers, is a power of two.
func Make[T any](n int) []T {
	each := int(unsafe.Sizeof(*new(T)))
	if n*each < size {
		return make([]T, n)
	}
	// It begins with a page. What is before it and behind it is not touched.
	list := make([]T, n+size/each)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(list)))%size) / each
	list = list[skip : skip+n : skip+n]
	memory := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), n*each/size*size)
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
	return list
}
