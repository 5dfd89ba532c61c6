package ostree

import (
	"io"
	"io/fs"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// The system calls below are made on raw descriptors: for tens of thousands of
// small files an [os.File] each, with its poller registration and finalizer, is
// a measurable share of a commit.

// retry repeats a call that a signal interrupted.
func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// pathError names the path in the error of a system call.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func openat(dir int, path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, mode)
		if err == unix.EINTR {
			continue
		}
		return fd, pathError("open", path, err)
	}
}

func openDir(dir int, path string) (int, error) {
	return openat(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

func mkdirat(dir int, path string, mode uint32) error {
	err := unix.Mkdirat(dir, path, mode)
	if err == unix.EEXIST {
		return nil
	}
	return pathError("mkdir", path, err)
}

// rawFile is a descriptor as a file. It is not safe for concurrent use.
type rawFile struct {
	fd   int
	name string
}

func (f *rawFile) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, pathError("read", f.name, err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (f *rawFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(f.fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, pathError("write", f.name, err)
		}
		done += n
	}
	return done, nil
}

func (f *rawFile) Close() error {
	if f.fd < 0 {
		return fs.ErrClosed
	}
	fd := f.fd
	f.fd = -1
	// After EINTR the descriptor is closed on Linux.
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return pathError("close", f.name, err)
	}
	return nil
}

// fgetxattr reads one attribute of at most limit bytes.
func fgetxattr(fd int, name string, limit int) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Fgetxattr(fd, name, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ERANGE && len(buf) < limit:
			n, err = unix.Fgetxattr(fd, name, nil)
			if err == nil && n > limit {
				err = unix.E2BIG
			}
			if err != nil {
				return nil, err
			}
			buf = make([]byte, n)
			continue
		case err != nil:
			return nil, err
		}
		return buf[:n], nil
	}
}

// setMtimeZero sets the time of the last change of a file to the epoch.
func setMtimeZero(dir int, name string) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {}}
	return pathError("utimensat", name, retry(func() error { return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW) }))
}

// readNames lists a directory, in no order.
func readNames(dir int, path string) ([]os.DirEntry, error) {
	fd, err := openDir(dir, path)
	if err != nil {
		return nil, err
	}
	f := unix.NewFile(fd, path)
	defer f.Close()
	return f.ReadDir(-1)
}
