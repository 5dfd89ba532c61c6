package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// output is a file that gets its name when it is whole. It is written with holes at
// any place, and hashed on the way as long as that is from start to end.
type output struct {
	root       *os.Root
	name, temp string
	file       *os.File
	wanted     bool      // the hash is
	hash       hash.Hash // nil: not wanted, or taken elsewhere
	done       int64     // bytes that were hashed; -1: it must be read again
	known      string    // the hash, where who wrote the file has it
}

// createOutput starts a file beside its final name, with a lock: of two that make
// the same one at a time, one fails.
func createOutput(root *os.Root, name string) (*output, error) {
	f := &output{root: root, name: name, temp: "." + name + ".part"}
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is there and is no regular file: %w", fs.ErrExist)
	}
	for {
		if info, err := root.Lstat(f.temp); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no regular file: %w", f.temp, fs.ErrInvalid)
		}
		file, err := root.OpenFile(f.temp, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("another conversion makes it: %w", fs.ErrExist), file.Close())
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.temp, err), file.Close())
		}
		// Who had the lock may have given the file its name.
		ours, statErr := file.Stat()
		now, lstatErr := root.Lstat(f.temp)
		if err == nil && statErr == nil && lstatErr == nil && os.SameFile(ours, now) {
			f.file = file
			// An empty file is left alone: what is cut to nothing, ext4 writes to the
			// disk before it is closed.
			if ours.Size() > 0 {
				err = file.Truncate(0)
			}
			return f, err
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

// hashed says that the file's hash is wanted.
func (f *output) hashed() { f.wanted, f.hash = true, sha256.New() }

// WriteAt writes p. What lies between it and what was hashed is a hole.
func (f *output) WriteAt(p []byte, off int64) (int, error) {
	if f.hash != nil && f.done >= 0 {
		if off < f.done {
			f.done = -1
		} else {
			f.hashZeros(off - f.done)
			f.hash.Write(p)
			f.done = off + int64(len(p))
		}
	}
	return f.file.WriteAt(p, off)
}

func (f *output) hashZeros(n int64) {
	for n > 0 {
		k := min(n, blockSize)
		f.hash.Write(zeros[:k])
		n -= k
	}
}

// sum cuts or fills the file to size and gives its hash.
func (f *output) sum(ctx context.Context, size int64) (string, error) {
	if err := f.file.Truncate(size); err != nil || !f.wanted {
		return "", err
	}
	if f.known != "" {
		return f.known, nil
	}
	if f.done >= 0 && f.done <= size {
		f.hashZeros(size - f.done)
		return hex.EncodeToString(f.hash.Sum(nil)), nil
	}
	f.hash.Reset()
	buffer := make([]byte, chunkSize)
	content := io.NewSectionReader(f.file, 0, size)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := content.Read(buffer)
		f.hash.Write(buffer[:n])
		if err == io.EOF {
			return hex.EncodeToString(f.hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func (f *output) commit(sync bool) error {
	if err := f.file.Chmod(0o644); err != nil { // whatever the umask
		return err
	}
	if sync {
		if err := f.file.Sync(); err != nil {
			return err
		}
	}
	if err := f.root.Rename(f.temp, f.name); err != nil {
		return err
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// abort removes the file unless it has its name.
func (f *output) abort() {
	if f.file != nil {
		_ = f.root.Remove(f.temp) // else the next conversion takes it
		_ = f.file.Close()
		f.file = nil
	}
}

func syncFolder(root *os.Root) error {
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	err = folder.Sync()
	if errors.Is(err, unix.EINVAL) { // a file system that cannot
		err = nil
	}
	return errors.Join(err, folder.Close())
}
