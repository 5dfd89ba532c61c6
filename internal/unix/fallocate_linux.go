package unix

import "golang.org/x/sys/unix"

// FALLOC_FL_KEEP_SIZE leaves a file's length as it is.
const FALLOC_FL_KEEP_SIZE = unix.FALLOC_FL_KEEP_SIZE

func Fallocate(fd int, mode uint32, off, n int64) error { return unix.Fallocate(fd, mode, off, n) }
