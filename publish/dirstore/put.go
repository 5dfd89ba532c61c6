package dirstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
)

// bufferSize is how much of an object is in memory at a time, bytes.
const bufferSize = 256 << 10

// attribute keeps what the file system has no place for.
const attribute = "user.okd-streams"

// kept is the value of attribute.
type kept struct {
	SHA256       string `json:"sha256"`
	Size         int64  `json:"size"`
	Modified     int64  `json:"mtime"` // Unix nanoseconds
	ContentType  string `json:"type,omitempty"`
	CacheControl string `json:"cache,omitempty"`
}

// of reports whether the value was written for the file as it is.
func (k *kept) of(stat *unix.Stat_t) bool {
	return k.Size == stat.Size && k.Modified == stat.Mtim.Nano()
}

func readKept(fd int) (kept, bool) {
	buf := make([]byte, 4<<10)
	n, err := unix.Fgetxattr(fd, attribute, buf)
	if err != nil {
		return kept{}, false // none, or none on this file system: not known
	}
	return decodeKept(buf[:n])
}

// decodeKept reads the value of attribute, which who may write the file may
// write, too: whatever is no checksum does not get out as one.
func decodeKept(data []byte) (k kept, ok bool) {
	if json.Unmarshal(data, &k) != nil || len(k.SHA256) != 64 || strings.Trim(k.SHA256, "0123456789abcdef") != "" {
		return kept{}, false
	}
	return k, true
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	info, err := s.put(ctx, key, src, opts)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	return info, nil
}

func (s *Store) put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	o, err := publish.CheckPut(key, src, opts)
	if err != nil {
		return publish.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return publish.Info{}, err
	}
	if s.opts.ReadOnly {
		return publish.Info{}, fmt.Errorf("read-only store: %w", fs.ErrPermission)
	}
	// A condition that fails already is told before bytes are moved.
	if err := s.condition(key, &o); err != nil {
		return publish.Info{}, err
	}
	r, err := publish.OpenSource(ctx, src, &o)
	if err != nil {
		return publish.Info{}, err
	}
	defer r.Close()
	if file := r.File(); o.Link && file != nil {
		info, err := s.link(ctx, key, r, file, &o)
		if !errors.Is(err, errNoLink) {
			return info, err
		}
		// Read from the start again, into a copy.
		r.Close()
		if r, err = publish.OpenSource(ctx, src, &o); err != nil {
			return publish.Info{}, err
		}
		defer r.Close()
	}
	tmp, err := s.create(ctx)
	if err != nil {
		return publish.Info{}, err
	}
	defer tmp.discard()
	if _, err := io.CopyBuffer(struct{ io.Writer }{tmp.file}, struct{ io.Reader }{r}, make([]byte, bufferSize)); err != nil {
		return publish.Info{}, cause(err)
	}
	if err := s.finish(tmp.file, r.SHA256(), &o); err != nil {
		return publish.Info{}, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return publish.Info{}, err
	}
	defer unlock()
	o.SHA256 = r.SHA256()
	return s.commit(key, &o, tmp.file, func(dir int, name string) error {
		if err := unix.Renameat(tmp.dir.fd, tmp.name, dir, name); err != nil {
			return err
		}
		tmp.name = ""
		return nil
	})
}

// finish gives a written file its mode and attribute and makes it durable.
func (s *Store) finish(file *os.File, sha256 string, o *publish.PutOptions) error {
	if err := file.Chmod(0o644); err != nil {
		return cause(err)
	}
	if err := keep(int(file.Fd()), sha256, o); err != nil {
		return err
	}
	if !s.opts.NoSync {
		if err := file.Sync(); err != nil {
			return cause(err)
		}
	}
	return nil
}

// keep writes the attribute, where the file system has any.
func keep(fd int, sha256 string, o *publish.PutOptions) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	data, err := json.Marshal(kept{SHA256: sha256, Size: stat.Size, Modified: stat.Mtim.Nano(), ContentType: o.ContentType, CacheControl: o.CacheControl})
	if err != nil {
		return err
	}
	err = unix.Fsetxattr(fd, attribute, data, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// errNoLink says that a copy has to be made.
var errNoLink = errors.New("cannot be linked")

// link stores the file behind a source under another name of the same inode.
func (s *Store) link(ctx context.Context, key string, r *publish.Reader, file *os.File, o *publish.PutOptions) (publish.Info, error) {
	var stat, root unix.Stat_t
	if unix.Fstat(int(file.Fd()), &stat) != nil || unix.Fstat(int(s.root.Fd()), &root) != nil ||
		stat.Dev != root.Dev || stat.Nlink == 0 || stat.Mode&0o444 != 0o444 {
		return publish.Info{}, errNoLink
	}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, bufferSize)); err != nil {
		return publish.Info{}, err
	}
	if !s.opts.NoSync {
		if err := file.Sync(); err != nil {
			return publish.Info{}, cause(err)
		}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return publish.Info{}, err
	}
	defer unlock()
	tmp, err := s.walk([]string{ownDir, tmpDir}, true)
	if err != nil {
		return publish.Info{}, err
	}
	defer tmp.close()
	name := tmpName()
	// The file that was read, not whatever its path names by now.
	from := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	if err := unix.Linkat(unix.AT_FDCWD, from, tmp.fd, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return publish.Info{}, errNoLink
	}
	// Gone already where the rename moved it; a rename between two names of one
	// file does nothing.
	defer unix.Unlinkat(tmp.fd, name, 0)
	if err := keep(int(file.Fd()), r.SHA256(), o); err != nil {
		return publish.Info{}, err
	}
	o.SHA256 = r.SHA256()
	return s.commit(key, o, file, func(dir int, base string) error { return unix.Renameat(tmp.fd, name, dir, base) })
}

// commit judges the conditions and moves the file, whose digest o has, to its
// place. The caller holds the lock.
func (s *Store) commit(key string, o *publish.PutOptions, file *os.File, move func(dir int, name string) error) (publish.Info, error) {
	if err := s.condition(key, o); err != nil {
		return publish.Info{}, err
	}
	path, err := s.place(key)
	if err != nil {
		return publish.Info{}, err
	}
	dir, err := s.walk(path[:len(path)-1], true)
	if err != nil {
		return publish.Info{}, err
	}
	defer dir.close()
	if err := move(dir.fd, path[len(path)-1]); err != nil {
		return publish.Info{}, err
	}
	if err := s.syncDir(dir.fd); err != nil {
		return publish.Info{}, err
	}
	info, err := describe(file, key)
	if err != nil {
		return publish.Info{}, err
	}
	if info.SHA256 == "" { // no attributes here, but known now
		info.SHA256, info.ContentType = o.SHA256, o.ContentType
	}
	return info, nil
}

// condition judges IfAbsent and IfRevision.
func (s *Store) condition(key string, o *publish.PutOptions) error {
	if !o.IfAbsent && o.IfRevision == "" {
		return nil
	}
	file, info, err := s.find(key)
	if err == nil {
		file.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case o.IfAbsent && err == nil:
		return fs.ErrExist
	case o.IfRevision != "" && err != nil:
		return fmt.Errorf("no object, want revision %q: %w", o.IfRevision, publish.ErrConflict)
	case o.IfRevision != "" && info.Revision != o.IfRevision:
		return fmt.Errorf("revision %q, want %q: %w", info.Revision, o.IfRevision, publish.ErrConflict)
	}
	return nil
}

// place chooses where the object of key is to lie: where it is, else at its
// plain path, else where no other key can be in the way. The caller holds the
// lock.
func (s *Store) place(key string) ([]string, error) {
	encoded := encodedPath(key)
	all := paths(key)
	if len(all) == 1 {
		return encoded, nil
	}
	if file, err := s.openFile(encoded); err == nil {
		file.Close()
		return encoded, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	plain := all[0]
	dir, err := s.walk(plain[:len(plain)-1], true)
	if errors.Is(err, errTaken) {
		return encoded, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.close()
	var stat unix.Stat_t
	err = unix.Fstatat(dir.fd, plain[len(plain)-1], &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return encoded, nil
	case err != nil && !errors.Is(err, unix.ENOENT):
		return nil, err
	}
	return plain, nil
}

// temp is a temporary file, locked as long as it is open.
type temp struct {
	dir  folder
	name string // "" once it was moved
	file *os.File
}

func (t *temp) discard() {
	if t.name != "" {
		_ = unix.Unlinkat(t.dir.fd, t.name, 0) // else the next Open removes it
	}
	t.file.Close()
	t.dir.close()
}

// names counts temporary files of this process.
var names atomic.Uint64

func tmpName() string {
	return strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(names.Add(1), 10)
}

// create makes a locked temporary file.
func (s *Store) create(ctx context.Context) (*temp, error) {
	dir, err := s.walk([]string{ownDir, tmpDir}, false)
	if errors.Is(err, fs.ErrNotExist) {
		dir, err = s.makeTmp(ctx)
	}
	if err != nil {
		return nil, err
	}
	for {
		name := tmpName()
		fd, err := openat(dir.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, unix.EEXIST) {
			continue // of a killed process that had this number
		}
		if err != nil {
			dir.close()
			return nil, err
		}
		// Another process that cleans up may have been faster than the lock.
		var stat unix.Stat_t
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = unix.Fstat(fd, &stat)
		}
		if err == nil && stat.Nlink > 0 {
			return &temp{dir: dir, name: name, file: os.NewFile(uintptr(fd), name)}, nil
		}
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = unix.Unlinkat(dir.fd, name, 0)
			dir.close()
			return nil, err
		}
	}
}

func (s *Store) makeTmp(ctx context.Context) (folder, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return folder{}, err
	}
	defer unlock()
	return s.walk([]string{ownDir, tmpDir}, true)
}

// clean removes temporary files that no process holds.
func (s *Store) clean(ctx context.Context) error {
	dir, err := s.walk([]string{ownDir, tmpDir}, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.close()
	// Links are made and moved while the lock is held; see link.
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := entries(dir.fd)
	if err != nil {
		return err
	}
	for _, entry := range found {
		fd, err := openat(dir.fd, entry.Name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue // gone, or nothing of ours
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = unix.Unlinkat(dir.fd, entry.Name(), 0)
		}
		unix.Close(fd)
	}
	return nil
}

// lock waits for its turn among all writers of the folder.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	fd, err := s.lockFile(ctx)
	if err != nil {
		<-s.turn
		return nil, err
	}
	return func() {
		unix.Close(fd) // ends the lock
		<-s.turn
	}, nil
}

func (s *Store) lockFile(ctx context.Context) (int, error) {
	// Not through walk with make: that needs the lock.
	root := int(s.root.Fd())
	if err := unix.Mkdirat(root, ownDir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, err
	}
	dir, err := openat(root, ownDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", ownDir, err)
	}
	fd, err := openat(dir, "lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	unix.Close(dir)
	if err != nil {
		return 0, fmt.Errorf("%s/lock: %w", ownDir, err)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return 0, fmt.Errorf("%s/lock: flock: %w", ownDir, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			unix.Close(fd)
			return 0, ctx.Err()
		case <-timer.C:
		}
	}
}
