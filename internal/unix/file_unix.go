//go:build linux || darwin

package unix

import (
	"io/fs"
	"os"
	"syscall"
)

// InfoOf gives what a file's Sys has; false: nothing.
func InfoOf(info fs.FileInfo) (Info, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Info{}, false
	}
	return Info{Ino: st.Ino, Nlink: uint64(st.Nlink), UID: st.Uid, GID: st.Gid, Ctime: changed(st)}, true
}

// NewFile makes an [os.File] of a descriptor, which belongs to it from then on.
func NewFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
