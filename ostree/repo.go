package ostree

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/okd-project/okd-streams/internal/unix"
)

var errUnsupported = errors.ErrUnsupported

// OpenOptions configures [Open] and [Init]. Nil is the zero value.
type OpenOptions struct {
	// Logger gets a message for each finished transaction (info) and for each
	// abandoned staging folder that was removed (info). Nil: silent.
	Logger *slog.Logger
}

// Repo is an open repository. It is safe for concurrent use until Close.
type Repo struct {
	path     string
	dir      int // descriptor of the repository
	objects  int // of objects/
	config   *keyFile
	settings settings
	parent   *Repo // of core.parent, or nil
	log      *slog.Logger
}

// Init makes a repository in the folder dir, which is made if it is not there,
// its parent excepted. If dir is a repository of that mode already, it is
// opened; of another mode, the error wraps [fs.ErrExist].
func Init(ctx context.Context, dir string, mode Mode, opts *OpenOptions) (*Repo, error) {
	r, err := initRepo(ctx, dir, mode, opts)
	if err != nil {
		return nil, &Error{Op: "init", Target: dir, Err: err}
	}
	return r, nil
}

func initRepo(ctx context.Context, dir string, mode Mode, opts *OpenOptions) (*Repo, error) {
	stored := mode.stored()
	if stored == "" || mode == ModeBareSplitXattrs {
		return nil, fmt.Errorf("mode %.80q: %w", mode, errUnsupported)
	}
	if err := canWrite(); err != nil {
		return nil, err
	}
	if err := mkdirat(unix.AT_FDCWD, dir, 0o775); err != nil {
		return nil, err
	}
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := mkdirat(fd, "tmp", 0o775); err != nil {
		return nil, err
	}
	// One at a time, so that what is left of a killed one can be told and removed.
	lock, err := openDir(fd, "tmp")
	if err != nil {
		return nil, err
	}
	defer unix.Close(lock)
	if err := pathError("flock", "tmp", retry(func() error { return unix.Flock(lock, unix.LOCK_EX) })); err != nil {
		return nil, err
	}
	// objects/ comes last: with it the folder is a repository.
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "objects", &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		r, err := open(ctx, dir, opts, 0)
		if err == nil && r.Mode() != mode {
			err = fmt.Errorf("is a repository of mode %s: %w", r.Mode(), fs.ErrExist)
			r.Close()
		}
		return r, err
	}
	for _, sub := range []string{"tmp/cache", "extensions", "state", "refs", "refs/heads", "refs/mirrors", "refs/remotes"} {
		if err := mkdirat(fd, sub, 0o775); err != nil {
			return nil, err
		}
	}
	if err := unix.Unlinkat(fd, newConfig, 0); err != nil && err != unix.ENOENT {
		return nil, pathError("unlink", newConfig, err)
	}
	config := []byte("[core]\nrepo_version=1\nmode=" + stored + "\n")
	if err := replaceFile(fd, newConfig, fd, "config", config, 0o644, true); err != nil {
		return nil, err
	}
	if err := mkdirat(fd, "objects", 0o775); err != nil {
		return nil, err
	}
	return open(ctx, dir, opts, 0)
}

// newConfig is where a config is written by Init. If another tool makes a
// repository of what a killed one left, the next transaction removes it.
const newConfig = "tmp/" + replacementPrefix + "config"

// Open opens the repository in the folder dir. The error wraps
// [errors.ErrUnsupported] if it is of a mode or version that this package does
// not handle, and [fs.ErrNotExist] if dir is no repository. Objects and refs that
// it does not have are read from its parent repository (core.parent), if it has
// one, which may be of another mode.
func Open(ctx context.Context, dir string, opts *OpenOptions) (*Repo, error) {
	r, err := open(ctx, dir, opts, 0)
	if err != nil {
		return nil, &Error{Op: "open", Target: dir, Err: err}
	}
	return r, nil
}

// maxParents is how many parents of parents a repository may have.
const maxParents = 8

func open(ctx context.Context, dir string, opts *OpenOptions, depth int) (_ *Repo, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opts == nil {
		opts = &OpenOptions{}
	}
	r := &Repo{path: dir, dir: -1, objects: -1, log: opts.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.dir, err = openat(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		r.dir = -1
		return nil, err
	}
	if r.objects, err = openat(r.dir, "objects", unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		r.objects = -1
		return nil, err
	}
	data, err := readFileAt(r.dir, "config", maxConfigSize)
	if err != nil {
		return nil, err
	}
	if r.config, err = parseKeyFile(data); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if r.settings, err = parseSettings(r.config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := supports(r.settings.mode); err != nil {
		return nil, err
	}
	if parent := r.settings.parent; parent != "" {
		if depth >= maxParents {
			return nil, fmt.Errorf("core.parent: more than %d parents of parents", maxParents)
		}
		if r.parent, err = open(ctx, parent, opts, depth+1); err != nil {
			return nil, fmt.Errorf("core.parent %s: %w", parent, err)
		}
	}
	return r, nil
}

// writable refuses to write in modes that are only read.
func (r *Repo) writable() error {
	if err := canWrite(); err != nil {
		return err
	}
	if r.settings.mode == ModeBareSplitXattrs {
		return fmt.Errorf("writing to a repository of mode %s: %w", r.settings.mode, errUnsupported)
	}
	return nil
}

// Close releases the repository's descriptors. Nothing may use r any more.
func (r *Repo) Close() error {
	if r.parent != nil {
		r.parent.Close()
	}
	for _, fd := range []*int{&r.objects, &r.dir} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

// Mode is how the repository stores content objects.
func (r *Repo) Mode() Mode { return r.settings.mode }

// Path is the folder that r was opened with.
func (r *Repo) Path() string { return r.path }

// Config gives a value of the repository's config, as written in it when r was
// opened; false: there is none.
func (r *Repo) Config(group, key string) (string, bool) { return r.config.get(group, key) }

// SetConfig changes one value of the repository's config file and keeps every
// other line. r and other open Repos go on with the values they have; Open
// again. Concurrent changes by others may be lost, as with `ostree config set`.
func (r *Repo) SetConfig(ctx context.Context, group, key, value string) error {
	err := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, part := range []string{group, key} {
			if part == "" || bytes.ContainsAny([]byte(part), "[]=#\n") {
				return fmt.Errorf("%.80q can't be a group or key", part)
			}
		}
		if bytes.ContainsAny([]byte(value), "\n") {
			return fmt.Errorf("value %.80q has several lines", value)
		}
		data, err := readFileAt(r.dir, "config", maxConfigSize)
		if err != nil {
			return err
		}
		k, err := parseKeyFile(data)
		if err != nil {
			return err
		}
		k.set(group, key, value)
		if _, err := parseSettings(k); err != nil {
			return err
		}
		return r.replace("config", k.bytes(), r.settings.fsync)
	}()
	if err != nil {
		return &Error{Op: "set config", Target: group + "." + key, Err: err}
	}
	return nil
}

// replacementPrefix begins the names of files in tmp/ on their way to their place.
const replacementPrefix = "okd-"

// replace writes a small file of the repository by way of tmp/, with fsync
// durably.
func (r *Repo) replace(path string, data []byte, fsync bool) error {
	for i := range 1000 {
		tmp := fmt.Sprintf("tmp/"+replacementPrefix+"%d-%d", unix.Getpid(), i)
		err := replaceFile(r.dir, tmp, r.dir, path, data, 0o644, fsync)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("tmp: no free name: %w", fs.ErrExist)
}

// replaceFile writes data to the new file tmp and renames it to path. If
// something fails, tmp is removed.
func replaceFile(tmpDir int, tmp string, dir int, path string, data []byte, mode uint32, fsync bool) (err error) {
	fd, err := openat(tmpDir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	f := &rawFile{fd, path}
	// The lock says that somebody needs it: see removeReplacement.
	if ok, err := lockNamed(fd); err != nil || !ok {
		f.Close()
		return cmp.Or(err, fs.ErrExist)
	}
	defer func() {
		if err != nil {
			unix.Unlinkat(tmpDir, tmp, 0)
		}
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	_, err = f.Write(data)
	if err == nil && fsync {
		err = pathError("fdatasync", path, retry(func() error { return unix.Fdatasync(fd) }))
	}
	if err == nil {
		err = pathError("rename", path, retry(func() error { return unix.Renameat(tmpDir, tmp, dir, path) }))
	}
	return err
}

// lockNamed locks an open file, unless somebody has it, or removed it just now.
func lockNamed(fd int) (bool, error) {
	ok, err := tryLock(fd, unix.F_WRLCK)
	if err == nil && ok {
		var st unix.Stat_t
		err = retry(func() error { return unix.Fstat(fd, &st) })
		ok = st.Nlink > 0
	}
	return ok, err
}

// removeReplacement removes a file of tmp/ that a killed process was about to
// move to its place.
func (r *Repo) removeReplacement(name string) error {
	fd, err := openat(r.dir, "tmp/"+name, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // gone by now, or not ours
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if ok, err := lockNamed(fd); err != nil || !ok {
		return err
	}
	return pathError("unlink", "tmp/"+name, unix.Unlinkat(r.dir, "tmp/"+name, 0))
}

// readFileAt reads a whole regular file of at most limit bytes, not through a
// symbolic link.
func readFileAt(dir int, path string, limit int64) ([]byte, error) {
	fd, err := openat(dir, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := &rawFile{fd, path}
	defer f.Close()
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if st.Size > limit {
		return nil, corruptf("%s: %d bytes, at most %d", path, st.Size, limit)
	}
	data := make([]byte, st.Size+1)
	n, err := io.ReadFull(f, data)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s: grew while it was read", path)
	case err != io.ErrUnexpectedEOF && err != io.EOF:
		return nil, err
	}
	return data[:n], nil
}
