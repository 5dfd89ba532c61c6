package unix

import "golang.org/x/sys/unix"

// The next byte of a file that is no hole, and the next hole.
const (
	SEEK_DATA = unix.SEEK_DATA
	SEEK_HOLE = unix.SEEK_HOLE
)
