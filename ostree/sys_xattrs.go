package ostree

import (
	"errors"
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/internal/unix"
)

// maxXattrSize is the kernel's limit for the list of names and for each value.
const maxXattrSize = 64 << 10

// fileXattrs reads the attributes of an open file that have a value; libostree
// does not see the others.
func fileXattrs(fd int) ([]Xattr, error) {
	return valuedXattrs(
		func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
}

// linkXattrs reads those of name in dir, a symbolic link's own.
func linkXattrs(dir int, name string) ([]Xattr, error) {
	x, err := valuedXattrs(
		func(buf []byte) (int, error) { return listxattrat(dir, name, buf) },
		func(attr string, buf []byte) (int, error) { return getxattrat(dir, name, attr, buf) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		at := procPath(dir, name)
		return valuedXattrs(
			func(buf []byte) (int, error) { return unix.Llistxattr(at, buf) },
			func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(at, attr, buf) })
	}
	return x, err
}

func valuedXattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) ([]Xattr, error) {
	buf := make([]byte, 128)
	read := func(fn func([]byte) (int, error)) (int, error) {
		for {
			n, err := fn(buf)
			switch {
			case err == unix.EINTR:
			case err == unix.ERANGE && len(buf) < maxXattrSize:
				buf = make([]byte, maxXattrSize)
			default:
				return n, err
			}
		}
	}
	n, err := read(list)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var xattrs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		n, err := read(func(b []byte) (int, error) { return get(name, b) })
		if err == unix.ENODATA || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("extended attribute %.80q: %w", name, err)
		}
		xattrs = append(xattrs, Xattr{Name: name, Value: append([]byte(nil), buf[:n]...)})
	}
	return sortedXattrs(xattrs), nil
}

// setLinkXattrs gives the symbolic link name in dir attributes. There is no call
// for those of a link below a directory's descriptor, up to Linux 6.13, but by
// way of /proc.
func setLinkXattrs(dir int, name string, xattrs []Xattr) error {
	for _, x := range xattrs {
		if err := retry(func() error { return unix.Lsetxattr(procPath(dir, name), x.Name, x.Value, 0) }); err != nil {
			return pathError("setxattr "+x.Name, name, err)
		}
	}
	return nil
}

// setXattrs gives an open file attributes.
func setXattrs(fd int, xattrs []Xattr) error {
	for _, x := range xattrs {
		if err := retry(func() error { return unix.Fsetxattr(fd, x.Name, x.Value, 0) }); err != nil {
			return fmt.Errorf("attribute %s: %w", x.Name, err)
		}
	}
	return nil
}
