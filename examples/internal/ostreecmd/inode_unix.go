//go:build unix

package ostreecmd

import (
	"io/fs"
	"syscall"
)

// inode gives a file's device and number.
func inode(info fs.FileInfo) (id [2]uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok {
		id = [2]uint64{uint64(stat.Dev), stat.Ino}
	}
	return id, ok
}
