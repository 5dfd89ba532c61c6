//go:build !linux

package unix

// FALLOC_FL_KEEP_SIZE leaves a file's length as it is.
const FALLOC_FL_KEEP_SIZE = 1

// Fallocate answers ENOTSUP.
func Fallocate(fd int, mode uint32, off, n int64) error { return ENOTSUP }
