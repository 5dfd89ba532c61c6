package ostree

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// supports says that repositories of every mode are read and written here.
func supports(Mode) error { return nil }

// canWrite says that repositories are written here.
func canWrite() error { return nil }

// direntInodes reports whether the listing of a directory has the numbers that
// stat gives of the files in it: those of file systems that are laid over others
// may differ.
func direntInodes(dir int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(dir, &st) != nil {
		return false
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true
	}
	return false
}

// listxattrat lists the attributes of name in dir, a symbolic link's own; Linux
// 6.13 has the call.
func listxattrat(dir int, name string, buf []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// getxattrat reads one attribute of name in dir.
func getxattrat(dir int, name, attr string, buf []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	attribute, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	// struct xattr_args, which has the address as a number: buf must be on the heap.
	args := struct {
		value       uint64
		size, flags uint32
	}{value: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))), size: uint32(len(buf))}
	n, _, errno := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(attribute)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
