package ostree

import (
	"os"
	"runtime"
	"strconv"
	"strings"
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
	switch uint32(st.Type) { // signed, of another width for each architecture
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true
	}
	return false
}

// mountsBelow reports whether something may be mounted below an open directory:
// the listing of the directory that it is mounted in says nothing of it.
func mountsBelow(dir int) bool {
	self := "/proc/self/fdinfo/" + strconv.Itoa(dir)
	info, err := os.ReadFile(self)
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(info), "mnt_id:")
	rest, _, _ = strings.Cut(rest, "\n")
	id := strings.TrimSpace(rest)
	root, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(dir))
	if err != nil {
		return true
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	known := false // it is of this namespace
	for line := range strings.Lines(string(mounts)) {
		// Number, that of the parent, device, root in it, where it is mounted.
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return true
		}
		known = known || fields[0] == id
		if at := unescapeMount.Replace(fields[4]); at != root && strings.HasPrefix(at, strings.TrimSuffix(root, "/")+"/") {
			return true
		}
	}
	return !known
}

// unescapeMount undoes what mountinfo does to paths.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

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
