package unix

import "time"

// Info is what the system tells about a file besides what [io/fs.FileInfo] has.
type Info struct {
	Ino, Nlink uint64
	UID, GID   uint32
	Ctime      time.Time // of the last change in any way
}
