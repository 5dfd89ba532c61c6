//go:build !linux

package unix

// MADV_HUGEPAGE asks for huge pages.
const MADV_HUGEPAGE = 14

// Madvise answers ENOTSUP.
func Madvise(b []byte, advice int) error { return ENOTSUP }
