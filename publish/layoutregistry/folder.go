package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/internal/verify"
)

// folder is a repository's folder that is written to. Blobs come in without the
// lock, for they are written under a temporary name and are the same whoever
// writes them; index.json changes, and files go, under the lock alone.
type folder struct {
	layout
}

// folder makes repo's folder where it is missing and removes what killed
// writers left in it.
func (r *Registry) folder(ctx context.Context, repo name.Repository) (*folder, error) {
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
	if err := root.MkdirAll(p, 0o777); err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(p)
	if err != nil {
		return nil, err
	}
	w := &folder{layout{sub, r, p}}
	if err := w.clean(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// existing is [Registry.folder] for a repository that must be there.
func (r *Registry) existing(ctx context.Context, repo name.Repository) (*folder, error) {
	l, err := r.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	return &folder{*l}, nil
}

// close also takes the temporary folder away unless others use it.
func (w *folder) close() {
	_ = w.root.Remove(tmpDir) // missing or in use
	w.layout.close()
}

// lock waits until this writer alone changes the layout.
func (w *folder) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := w.root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := ociimage.Lock(ctx, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { f.Close() }, nil
}

// clean removes the temporary files that no writer holds.
func (w *folder) clean() error {
	names, err := w.names(tmpDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = filepath.Join(tmpDir, name)
		f, err := w.regular(name)
		if err != nil {
			continue // gone, or none of ours
		}
		if ociimage.TryLock(f) == nil {
			held, err := f.Stat()
			named, err2 := w.root.Lstat(name)
			if err == nil && err2 == nil && os.SameFile(held, named) {
				_ = w.root.Remove(name) // the next writer tries again
			}
		}
		f.Close()
	}
	return nil
}

// create makes a temporary file and locks it, so that others see it in use.
func (w *folder) create(perm fs.FileMode) (string, *os.File, error) {
	for range 1000 {
		name := filepath.Join(tmpDir, strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(w.registry.next.Add(1), 10))
		f, err := w.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, perm)
		if errors.Is(err, fs.ErrNotExist) {
			if err := w.root.Mkdir(tmpDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", nil, err
			}
			continue
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if ociimage.TryLock(f) == nil {
			// One that cleans up may have been faster.
			if info, err := f.Stat(); err == nil {
				if sys, ok := unix.InfoOf(info); !ok || sys.Nlink > 0 {
					return name, f, nil
				}
			}
		}
		f.Close()
	}
	return "", nil, fmt.Errorf("%s: no free name", tmpDir)
}

// discard ends a temporary file that did not get its name.
func (w *folder) discard(name string, f *os.File, err error) error {
	return errors.Join(err, w.root.Remove(name), f.Close())
}

func (w *folder) sync(f *os.File) error {
	if w.registry.opts.NoSync {
		return nil
	}
	return f.Sync()
}

func (w *folder) syncDir(name string) error {
	if w.registry.opts.NoSync {
		return nil
	}
	d, err := w.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// finish brings a temporary file, written and checked, under its name.
func (w *folder) finish(name string, f *os.File, to string) error {
	err := w.sync(f)
	if err == nil {
		err = w.root.MkdirAll(filepath.Dir(to), 0o777)
	}
	if err == nil {
		err = w.root.Rename(name, to)
	}
	if err != nil {
		return w.discard(name, f, err)
	}
	return f.Close()
}

// replace writes a small file whole or not at all.
func (w *folder) replace(to string, data []byte, perm fs.FileMode) error {
	name, f, err := w.create(perm)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return w.discard(name, f, err)
	}
	if err := w.finish(name, f, to); err != nil {
		return err
	}
	return w.syncDir(filepath.Dir(to))
}

// writeIndex replaces index.json. The caller holds the lock.
func (w *folder) writeIndex(x *index) error {
	data, err := x.encode()
	if err != nil {
		return err
	}
	if err := w.replace(indexFile, data, 0o666); err != nil {
		return err
	}
	w.registry.indexes.put(w.path, data, x.clone())
	return nil
}

// initialise reads the layout's index, or begins a layout. The caller holds
// the lock. What makes a folder a layout comes last.
func (w *folder) initialise() (*index, error) {
	err := w.checkLayout()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	begin := err != nil
	if _, err := w.root.Lstat(indexFile); errors.Is(err, fs.ErrNotExist) {
		if err := w.writeIndex(&index{}); err != nil {
			return nil, err
		}
	}
	if begin {
		if err := w.replace(layoutFile, []byte(`{"imageLayoutVersion":"`+layoutVersion+`"}`), 0o666); err != nil {
			return nil, err
		}
	}
	return w.readIndex()
}

// touch makes a file young for garbage collection: it moves the time of its
// last change (ctime), not that of its content. A file of another owner cannot
// be touched and keeps its age.
func (w *folder) touch(h v1.Hash) {
	if info, err := w.root.Lstat(blobPath(h)); err == nil && info.Mode().IsRegular() {
		_ = w.root.Chmod(blobPath(h), info.Mode().Perm())
	}
}

// put brings rc's bytes under their name, linked where that is possible.
func (w *folder) put(ctx context.Context, rc io.Reader, desc v1.Descriptor, progress func(int64)) error {
	if f := fileOf(rc); f != nil {
		linked, err := w.link(ctx, f, desc)
		// Wrong bytes are left to the reader to find: a cache learns by that.
		if err != nil && !errors.Is(err, verify.ErrDigest) {
			return err
		}
		if linked && err == nil {
			progress(desc.Size)
			return nil
		}
	}
	verified, err := verify.NewReader(rc, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	name, f, err := w.create(0o444)
	if err != nil {
		return err
	}
	if desc.Size > copySize {
		ahead := verify.NewAhead(verified)
		defer ahead.Close()
		_, err = ahead.WriteTo(&roomy{ctx: ctx, f: f, size: desc.Size, progress: progress})
	} else {
		err = copyBytes(ctx, f, verified, progress)
	}
	if err != nil {
		return w.discard(name, f, err)
	}
	return w.finish(name, f, blobPath(desc.Digest))
}

// fileOf is the file behind a reader, at its start.
func fileOf(r io.Reader) *os.File {
	f, ok := r.(*os.File)
	if !ok {
		with, ok := r.(interface{ File() *os.File })
		if !ok {
			return nil
		}
		f = with.File()
	}
	if f == nil {
		return nil
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil
	}
	return f
}

// link gives f the blob's name too, or makes a file that shares its extents,
// after its bytes were verified. It reports false where neither is possible.
func (w *folder) link(ctx context.Context, f *os.File, desc v1.Descriptor) (bool, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != desc.Size {
		return false, nil
	}
	if info.Mode().Perm()&0o222 == 0 {
		if err := check(ctx, f, desc); err != nil {
			return false, err
		}
		if linked, err := w.hardLink(f, desc.Digest, desc.Size); linked || err != nil {
			return linked, err
		}
	}
	name, clone, err := w.clone(f)
	if err != nil || clone == nil {
		return false, err
	}
	// The clone is what will be there, whatever f becomes.
	if err := check(ctx, clone, desc); err != nil {
		return false, w.discard(name, clone, err)
	}
	return true, w.finish(name, clone, blobPath(desc.Digest))
}

// share is [folder.link] for a blob of another repository of this registry:
// nobody writes to it, its bytes were checked when it came, and whoever reads
// it checks them again.
func (w *folder) share(f *os.File, h v1.Hash) (bool, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	if linked, err := w.hardLink(f, h, info.Size()); linked || err != nil {
		return linked, err
	}
	name, clone, err := w.clone(f)
	if err != nil || clone == nil {
		return false, err
	}
	return true, w.finish(name, clone, blobPath(h))
}

// hardLink links the very file that is open, whatever its name means by now.
func (w *folder) hardLink(f *os.File, h v1.Hash, size int64) (bool, error) {
	if err := w.sync(f); err != nil {
		return false, err
	}
	if err := w.root.MkdirAll(filepath.Join(blobsDir, h.Algorithm), 0o777); err != nil {
		return false, err
	}
	dir, err := w.root.Open(filepath.Join(blobsDir, h.Algorithm))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), int(dir.Fd()), h.Hex, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, fs.ErrExist) {
		if w.stat(v1.Descriptor{Digest: h, Size: size}) == nil {
			w.touch(h)
			return true, nil
		}
		// One of another size: it is replaced by a copy, never for a moment missing.
		return false, nil
	}
	return err == nil, nil // another file system, too many links, removed: the caller copies
}

// clone makes a temporary file of f's extents; nil where the file system can't.
func (w *folder) clone(f *os.File) (string, *os.File, error) {
	name, out, err := w.create(0o444)
	if err != nil {
		return "", nil, err
	}
	if unix.IoctlFileClone(int(out.Fd()), int(f.Fd())) != nil {
		return "", nil, w.discard(name, out, nil)
	}
	return name, out, nil
}

// check reads an open file, its offset kept, and verifies it.
func check(ctx context.Context, f *os.File, desc v1.Descriptor) error {
	verified, err := verify.NewReader(io.NewSectionReader(f, 0, desc.Size+1), desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	return copyBytes(ctx, nil, verified, nil)
}

// buffers are shared: layers are many and their copies few at a time.
var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

const copySize = 256 << 10

// copyBytes copies until the end of src, or until ctx ends. dst may be nil.
func copyBytes(ctx context.Context, dst *os.File, src io.Reader, progress func(int64)) error {
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf[:])
		if n > 0 && dst != nil {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(int64(n))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
