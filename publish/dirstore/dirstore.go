package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
)

// Options of [Open]; nil is the zero value.
type Options struct {
	// ReadOnly refuses Put and Delete with [io/fs.ErrPermission] and writes
	// nothing at all; the folder must exist.
	ReadOnly bool
	// NoSync leaves out fsync: faster, but a power cut may lose or empty what
	// Put said was stored.
	NoSync bool
}

// Store is a folder of objects. It may be used from any goroutine, and by any
// number of processes at once. Close it when done.
type Store struct {
	dir  string
	root *os.File // of dir
	opts Options
	turn chan struct{} // one writer of this Store at a time waits for the lock
}

// Open opens the folder dir, which is made unless it exists, and removes the
// temporary files of killed processes. opts may be nil.
func Open(ctx context.Context, dir string, opts *Options) (*Store, error) {
	s := &Store{dir: dir, turn: make(chan struct{}, 1)}
	if opts != nil {
		s.opts = *opts
	}
	fail := func(err error) (*Store, error) {
		return nil, &publish.Error{Op: "open store", Target: dir, Err: cause(err)}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if !s.opts.ReadOnly {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fail(err)
		}
	}
	// The folder itself may be behind a link: the caller named it.
	root, err := os.OpenFile(filepath.Clean(dir), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fail(err)
	}
	s.root = root
	if !s.opts.ReadOnly {
		if err := s.clean(ctx); err != nil {
			root.Close()
			return fail(err)
		}
	}
	return s, nil
}

// Close frees the folder's handle. Readers that are open stay usable.
func (s *Store) Close() error { return s.root.Close() }

func fail(op, key string, err error) error {
	if pe, ok := err.(*publish.Error); ok && pe.Target == key {
		return pe
	}
	return &publish.Error{Op: op, Target: key, Err: cause(err)}
}

// cause takes the path away from an error whose place is named already.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}

// check is the common beginning of every method.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return publish.CheckKey(key)
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	if err := check(ctx, key); err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	file, info, err := s.find(key)
	if err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	return &reader{ctx: ctx, file: file, key: key, left: info.Size}, info, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	if err := check(ctx, key); err != nil {
		return publish.Info{}, fail("stat", key, err)
	}
	file, info, err := s.find(key)
	if err != nil {
		return publish.Info{}, fail("stat", key, err)
	}
	file.Close()
	return info, nil
}

// find opens the file of key.
func (s *Store) find(key string) (*os.File, publish.Info, error) {
	for _, path := range paths(key) {
		file, err := s.openFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, publish.Info{}, err
		}
		info, err := describe(file, key)
		if err != nil {
			file.Close()
			return nil, publish.Info{}, err
		}
		return file, info, nil
	}
	return nil, publish.Info{}, fs.ErrNotExist
}

// openFile opens the regular file at path; anything else there does not exist.
func (s *Store) openFile(path []string) (*os.File, error) {
	dir, err := s.walk(path[:len(path)-1], false)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	name := path[len(path)-1]
	fd, err := openat(dir.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, absent(err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, fs.ErrNotExist
	}
	return os.NewFile(uintptr(fd), name), nil
}

// absent gives fs.ErrNotExist for what a missing object looks like: no entry, a
// file or link where a folder should be, a link, socket or device.
func absent(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENAMETOOLONG):
		return fs.ErrNotExist
	}
	return err
}

// describe makes the Info of an open file.
func describe(file *os.File, key string) (publish.Info, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return publish.Info{}, err
	}
	info := publish.Info{Key: key, Size: stat.Size, Modified: time.Unix(stat.Mtim.Unix())}
	id := strconv.FormatUint(stat.Ino, 36) + "." + strconv.FormatInt(stat.Mtim.Nano(), 36) + "." + strconv.FormatInt(stat.Size, 36)
	if kept, ok := readKept(int(file.Fd())); ok && kept.of(&stat) {
		info.SHA256, info.ContentType = kept.SHA256, kept.ContentType
		info.Revision = id + "." + kept.SHA256[:16]
	} else {
		// Somebody else's: the time of the inode's change cannot be set back.
		info.Revision = id + "." + strconv.FormatInt(stat.Ctim.Nano(), 36)
	}
	return info, nil
}

// reader reads one version of an object.
type reader struct {
	ctx  context.Context // of the Open that this reader serves
	file *os.File
	key  string
	left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fail("read", r.key, err)
	}
	n, err := r.file.Read(p)
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left != 0:
		return n, fail("read", r.key, fmt.Errorf("file changed while it was read: %w", io.ErrUnexpectedEOF))
	case err == io.EOF:
		return n, io.EOF
	case err != nil:
		return n, fail("read", r.key, err)
	}
	return n, nil
}

func (r *reader) Close() error {
	if err := r.file.Close(); err != nil {
		return fail("read", r.key, err)
	}
	return nil
}

// Delete removes an object and the folders that are empty without it.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return fail("delete", key, err)
	}
	if s.opts.ReadOnly {
		return fail("delete", key, fmt.Errorf("read-only store: %w", fs.ErrPermission))
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return fail("delete", key, err)
	}
	defer unlock()
	for _, path := range paths(key) {
		if err := s.remove(path); err != nil {
			return fail("delete", key, err)
		}
	}
	return nil
}

// remove unlinks the regular file at path, if there is one.
func (s *Store) remove(path []string) error {
	file, err := s.openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file.Close()
	dir, err := s.walk(path[:len(path)-1], false)
	if err != nil {
		return err
	}
	err = unix.Unlinkat(dir.fd, path[len(path)-1], 0)
	if err == nil {
		err = s.syncDir(dir.fd)
	}
	dir.close()
	if err != nil {
		return err
	}
	for depth := len(path) - 1; depth > 0; depth-- {
		dir, err := s.walk(path[:depth-1], false)
		if err != nil {
			return err
		}
		err = unix.Unlinkat(dir.fd, path[depth-1], unix.AT_REMOVEDIR)
		dir.close()
		if err != nil {
			break // not empty
		}
	}
	return nil
}
