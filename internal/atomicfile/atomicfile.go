// Package atomicfile writes files that are either wholly there or not at all:
// into a temporary file of the same folder, made durable, renamed, and the
// folder made durable, too. A power cut or kill leaves the old file or the new
// one, and at worst a temporary file, which [Clean] removes.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/unix"
)

// prefix of temporary names; the rest is a process id and a number.
const prefix = ".atomic-"

// count numbers the temporary files of this process.
var count atomic.Uint64

// Write writes the file at path by fn, readable by everybody (0644) whatever
// the umask. If fn fails, or anything else does, nothing has changed. A symbolic
// link at path is replaced, not followed.
func Write(path string, fn func(w io.Writer) error) error {
	dir, base := filepath.Split(path)
	if base == "" || base == "." || base == ".." {
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrInvalid}
	}
	if dir == "" {
		dir = "."
	}
	folder, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	fail := func(err error) error {
		if pe, ok := err.(*fs.PathError); ok {
			err = pe.Err
		}
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	name, file, err := create(folder)
	if err != nil {
		return fail(err)
	}
	err = fn(file)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		// The lock goes with the file; until then nobody takes it for stale.
		err = unix.Renameat(int(folder.Fd()), name, int(folder.Fd()), base)
	}
	if err != nil {
		_ = unix.Unlinkat(int(folder.Fd()), name, 0) // else Clean removes it
		file.Close()
		return fail(err)
	}
	if err := file.Close(); err != nil {
		return fail(err)
	}
	if err := folder.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fail(err)
	}
	return nil
}

// create makes a temporary file and locks it for as long as it is open.
func create(folder *os.File) (string, *os.File, error) {
	for {
		name := prefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(count.Add(1), 10)
		fd, err := unix.Openat(int(folder.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		switch {
		case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return "", nil, err
		}
		// Clean may hold the lock for a moment, or have removed the file.
		var stat unix.Stat_t
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil && unix.Fstat(fd, &stat) == nil && stat.Nlink > 0 {
			return name, os.NewFile(uintptr(fd), name), nil
		}
		unix.Close(fd)
	}
}

// Clean removes from the folder dir the temporary files of processes that were
// killed. Those in use are kept. A folder that does not exist is clean.
func Clean(dir string) error {
	folder, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		if !isTemporary(name) {
			continue
		}
		fd, err := unix.Openat(int(folder.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // gone, or no file
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			if err := unix.Unlinkat(int(folder.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				faults = append(faults, fmt.Errorf("remove %s: %w", filepath.Join(dir, name), err))
			}
		}
		unix.Close(fd)
	}
	return errors.Join(faults...)
}

// isTemporary reports names that create makes.
func isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	pid, number, ok := strings.Cut(rest, "-")
	if !ok {
		return false
	}
	_, pidErr := strconv.ParseUint(pid, 10, 32)
	_, numberErr := strconv.ParseUint(number, 10, 64)
	return pidErr == nil && numberErr == nil
}
