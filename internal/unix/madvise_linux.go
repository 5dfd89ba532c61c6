package unix

import "golang.org/x/sys/unix"

// MADV_HUGEPAGE asks for huge pages.
const MADV_HUGEPAGE = unix.MADV_HUGEPAGE

func Madvise(b []byte, advice int) error { return unix.Madvise(b, advice) }
