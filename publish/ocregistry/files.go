package ocregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/internal/verify"
)

// temporary ends the names of files that are being written, as oc's do; a
// number follows, for oc's own have none and so collide.
const (
	temporary    = ".download-"
	maxTemporary = 1 << 16
)

// ready is a repository's folder that can be written to: what is missing of it
// is made, what killed writers left is removed.
func (r *Registry) ready(ctx context.Context, repo name.Repository) (*folder, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := repositoryPath(repo)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, dir := range []string{blobsDir, manifestsDir} {
		if err := root.MkdirAll(path.Join(p, dir), 0o777); err != nil {
			return nil, err
		}
	}
	sub, err := root.OpenRoot(p)
	if err != nil {
		return nil, err
	}
	f := &folder{sub, p, r}
	if _, dirty := r.cleaned.LoadOrStore(p, true); !dirty {
		if err := f.clean(ctx); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

// clean removes temporary files that nobody writes to. Writers hold the lock of
// theirs, and that of the folder while they make one.
func (f *folder) clean(ctx context.Context) error {
	for _, dir := range []string{blobsDir, manifestsDir} {
		unlock, err := f.lock(ctx, dir)
		if err != nil {
			return err
		}
		err = f.cleanLocked(dir)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) cleanLocked(dir string) error {
	list, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	defer list.Close()
	for {
		names, err := list.Readdirnames(1000)
		for _, name := range names {
			if !strings.Contains(name, temporary) {
				continue
			}
			file, err := f.root.Open(path.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if ociimage.TryLock(file) == nil {
				err = f.root.Remove(path.Join(dir, name))
			}
			file.Close()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// lock keeps other writers from a folder of the repository.
func (f *folder) lock(ctx context.Context, name string) (unlock func(), err error) {
	dir, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	if err := ociimage.Lock(ctx, dir); err != nil {
		dir.Close()
		return nil, err
	}
	return func() { dir.Close() }, nil
}

// put stores a blob; bytes that are not as desc says are not stored.
func (f *folder) put(ctx context.Context, r io.Reader, desc v1.Descriptor, count func(int64)) error {
	return f.place(ctx, r, desc, blobPath(desc.Digest), count)
}

// place writes a file of known content: all of it under its name, or nothing.
func (f *folder) place(ctx context.Context, r io.Reader, desc v1.Descriptor, final string, count func(int64)) error {
	v, err := verify.NewReader(readers.Context{Ctx: ctx, R: r}, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	name, file, err := f.temporary(ctx, final)
	if err != nil {
		return err
	}
	err = f.fill(file, v, count)
	if err == nil {
		err = f.root.Rename(name, final)
	}
	if err != nil {
		err = errors.Join(err, f.root.Remove(name))
	}
	// The lock goes last, so that nobody takes the file for one left behind.
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f.syncDir(path.Dir(final))
}

func (f *folder) fill(file *os.File, r io.Reader, count func(int64)) error {
	if _, err := io.Copy(file, countReader{r, count}); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if f.r.opts.NoSync {
		return nil
	}
	return file.Sync()
}

// temporary makes a file with a name that nobody else has, and locks it.
func (f *folder) temporary(ctx context.Context, final string) (string, *os.File, error) {
	unlock, err := f.lock(ctx, path.Dir(final))
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	for n := range maxTemporary {
		name := fmt.Sprintf("%s%s%d", final, temporary, n)
		file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if err := ociimage.TryLock(file); err != nil {
			return "", nil, errors.Join(err, file.Close())
		}
		return name, file, nil
	}
	return "", nil, fmt.Errorf("more than %d writers of %s", maxTemporary, final)
}

func (f *folder) syncDir(name string) error {
	if f.r.opts.NoSync {
		return nil
	}
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, unix.EINVAL) { // a file system that cannot
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// countReader tells of what was read.
type countReader struct {
	r     io.Reader
	count func(int64)
}

func (r countReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.count(int64(n))
	return n, err
}
