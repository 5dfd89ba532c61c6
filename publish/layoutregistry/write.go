package layoutregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// WriteImage writes img's blobs and then its manifest into repo's layout and
// returns the manifest's descriptor. What is there already in the right size
// is not written again. Bytes that do not have the digest that the manifest
// gives them are refused with [publish.ErrDigest], and the manifest does not
// appear then.
func (r *Registry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	m, err := ociimage.FromImage(img)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, []ociimage.Manifest{m}, opts)
}

// WriteIndex writes idx and everything under it, children first.
func (r *Registry) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	list, err := ociimage.FromIndex(idx)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, list, opts)
}

// Tag points tag at a manifest that its repository holds, also as the child of
// an index; [io/fs.ErrNotExist] otherwise.
func (r *Registry) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := checkTag(tag.TagStr()); err != nil {
		return fail("tag", tag, err)
	}
	// Reading first: a repository that does not exist must not be made.
	found, err := r.open(ctx, tag.Context())
	if err != nil {
		return fail("tag", tag, err)
	}
	found.close()
	l, err := r.lock(ctx, tag.Context())
	if err != nil {
		return fail("tag", tag, err)
	}
	defer l.unlock()
	changed, err := l.tag(ctx, tag.TagStr(), digest)
	if err = errors.Join(err, l.finish()); err != nil {
		return fail("tag", tag, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "tagged", slog.String("tag", tag.String()), slog.String("digest", digest.String()), slog.Bool("changed", changed))
	return nil
}

func (l *locked) tag(ctx context.Context, tag string, digest v1.Hash) (bool, error) {
	idx, err := l.readIndex()
	if err != nil {
		return false, err
	}
	desc, err := l.find(ctx, idx, digest)
	if err != nil {
		return false, err
	}
	if err := l.stat(desc); err != nil {
		return false, err
	}
	if !idx.setTag(tag, desc) {
		return false, nil
	}
	return true, l.writeIndex(idx)
}

func (r *Registry) write(ctx context.Context, repo name.Repository, list []ociimage.Manifest, opts *publish.WriteOptions) (v1.Descriptor, error) {
	if opts == nil {
		opts = &publish.WriteOptions{}
	}
	l, err := r.lock(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	defer l.unlock()
	w := &writer{locked: l, opts: opts, progress: &progress{fn: opts.Progress, total: ociimage.Size(list)}, done: map[v1.Hash]bool{}}
	for _, from := range opts.From {
		if from.RepositoryStr() == repo.RepositoryStr() {
			continue
		}
		// A source that is not there is none.
		if src, err := r.open(ctx, from); err == nil {
			defer src.close()
			w.from = append(w.from, src)
		}
	}
	desc := list[len(list)-1].Desc
	err = w.write(ctx, list, r.opts.Concurrency)
	if err = errors.Join(err, l.finish()); err != nil {
		return v1.Descriptor{}, fail("write", repo.Digest(desc.Digest.String()), err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "wrote", slog.String("image", repo.Digest(desc.Digest.String()).String()), slog.Int64("bytes", w.progress.total))
	return desc, nil
}

// writer writes manifests and blobs into a locked layout.
type writer struct {
	*locked
	opts     *publish.WriteOptions
	from     []*layout
	progress *progress
	done     map[v1.Hash]bool // blobs of this write, for images that share them
}

func (w *writer) write(ctx context.Context, list []ociimage.Manifest, concurrency int) error {
	idx, err := w.initialise()
	if err != nil {
		return err
	}
	for _, m := range list {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(concurrency)
		for _, b := range m.Blobs {
			if w.done[b.Desc.Digest] {
				continue
			}
			w.done[b.Desc.Digest] = true
			group.Go(func() error {
				if err := w.blob(gctx, b); err != nil {
					return fmt.Errorf("blob %s: %w", b.Desc.Digest, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if err := w.blob(ctx, ociimage.Blob{Desc: m.Desc, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(m.Raw)), nil
		}}); err != nil {
			return fmt.Errorf("manifest %s: %w", m.Desc.Digest, err)
		}
	}
	top := list[len(list)-1].Desc
	if _, err := w.find(ctx, idx, top.Digest); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.syncDir(filepath.Join(blobsDir, top.Digest.Algorithm)); err != nil {
		return err
	}
	idx.add(top)
	return w.writeIndex(idx)
}

// blob makes sure that b is in the layout.
func (w *writer) blob(ctx context.Context, b ociimage.Blob) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.stat(b.Desc) == nil {
		w.reused(b.Desc)
		return nil
	}
	for _, src := range w.from {
		f, err := src.blob(b.Desc.Digest)
		if err != nil {
			continue
		}
		// A copy that is damaged there, or cannot be linked, is no reason to
		// fail: the image has the bytes.
		linked, err := w.link(ctx, f, b.Desc)
		f.Close()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err == nil && linked {
			w.reused(b.Desc)
			return nil
		}
	}
	rc, err := b.Open()
	if err != nil {
		return err
	}
	err = w.copy(ctx, rc, b.Desc)
	return errors.Join(err, rc.Close())
}

func (w *writer) reused(desc v1.Descriptor) {
	w.progress.add(desc.Size)
	if w.opts.Reused != nil {
		w.opts.Reused(desc)
	}
}

// copy brings rc's bytes under their name, linked where that is possible.
func (w *writer) copy(ctx context.Context, rc io.Reader, desc v1.Descriptor) error {
	if f := fileOf(rc); f != nil {
		linked, err := w.link(ctx, f, desc)
		// Wrong bytes are left to the reader to find: a cache learns by that.
		if err != nil && !errors.Is(err, verify.ErrDigest) {
			return err
		}
		if linked && err == nil {
			w.progress.add(desc.Size)
			return nil
		}
	}
	name, f, err := w.create(0o444)
	if err != nil {
		return err
	}
	verified, err := verify.NewReader(rc, desc.Digest, desc.Size)
	if err == nil {
		err = copyBytes(ctx, f, verified, w.progress.add)
	}
	if err == nil {
		err = w.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return w.rename(name, blobPath(desc.Digest))
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

// link gives f a second name, or makes a file that shares its extents, and
// verifies what it got. It reports false where neither is possible.
func (w *writer) link(ctx context.Context, f *os.File, desc v1.Descriptor) (bool, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != desc.Size {
		return false, nil
	}
	name := w.name()
	linked := info.Mode().Perm()&0o222 == 0 && w.hardLink(f, name) == nil
	if !linked {
		var out *os.File
		if name, out, err = w.create(0o444); err != nil {
			return false, err
		}
		err = unix.IoctlFileClone(int(out.Fd()), int(f.Fd()))
		if err == nil {
			err = w.sync(out)
		}
		closeErr := out.Close()
		if err != nil || closeErr != nil {
			// Not this file system, not this pair: the caller copies.
			return false, w.root.Remove(name)
		}
	}
	stored, err := w.root.Open(name)
	if err != nil {
		return false, err
	}
	verified, err := verify.NewReader(stored, desc.Digest, desc.Size)
	if err == nil {
		err = copyBytes(ctx, nil, verified, nil)
	}
	if err == nil && linked {
		err = w.sync(stored)
	}
	if err = errors.Join(err, stored.Close()); err != nil {
		return false, err
	}
	return true, w.rename(name, blobPath(desc.Digest))
}

// hardLink links the very file that is open, whatever its name means by now.
func (w *writer) hardLink(f *os.File, name string) error {
	dir, err := w.root.Open(tmpDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), int(dir.Fd()), filepath.Base(name), unix.AT_SYMLINK_FOLLOW)
}

// buffers are shared: layers are many and their copies few at a time.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyBytes copies until the end of src, or until ctx ends. dst may be nil.
func copyBytes(ctx context.Context, dst *os.File, src io.Reader, progress func(int64)) error {
	buf := buffers.Get().(*[256 << 10]byte)
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

// progress counts bytes and reports them one call at a time.
type progress struct {
	fn    func(done, total int64)
	total int64

	mu   sync.Mutex
	done int64
}

func (p *progress) add(n int64) {
	if p.fn == nil || n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.fn(p.done, p.total)
}

// locked is a layout that this writer alone changes.
type locked struct {
	layout
	lockFile *os.File
	noSync   bool
	next     atomic.Int64
}

// lock makes repo's folder where it is missing, waits for its lock, and removes
// what a killed writer left.
func (r *Registry) lock(ctx context.Context, repo name.Repository) (*locked, error) {
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
	l := &locked{layout: layout{sub}, noSync: r.opts.NoSync}
	if l.lockFile, err = sub.Open("."); err != nil {
		l.close()
		return nil, err
	}
	if err := flock(ctx, l.lockFile); err != nil {
		l.unlock()
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = sub.RemoveAll(tmpDir)
	if err == nil {
		err = sub.Mkdir(tmpDir, 0o777)
	}
	if err != nil {
		l.unlock()
		return nil, err
	}
	return l, nil
}

// flock waits for an exclusive lock. The kernel's own waiting could not be
// ended by ctx.
func flock(ctx context.Context, f *os.File) error {
	wait := time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// finish removes the temporary folder while the lock is held.
func (l *locked) finish() error { return l.root.RemoveAll(tmpDir) }

// unlock lets the next writer in.
func (l *locked) unlock() {
	if l.lockFile != nil {
		l.lockFile.Close()
	}
	l.close()
}

// name is a new name in the temporary folder.
func (l *locked) name() string {
	return filepath.Join(tmpDir, strconv.FormatInt(l.next.Add(1), 10))
}

func (l *locked) create(perm fs.FileMode) (string, *os.File, error) {
	name := l.name()
	f, err := l.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	return name, f, err
}

func (l *locked) sync(f *os.File) error {
	if l.noSync {
		return nil
	}
	return f.Sync()
}

func (l *locked) syncDir(name string) error {
	if l.noSync {
		return nil
	}
	d, err := l.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rename moves a finished file to its name.
func (l *locked) rename(from, to string) error {
	if err := l.root.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return l.root.Rename(from, to)
}

// replace writes a small file whole or not at all.
func (l *locked) replace(to string, data []byte) error {
	name, f, err := l.create(0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = l.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := l.rename(name, to); err != nil {
		return err
	}
	return l.syncDir(filepath.Dir(to))
}

func (l *locked) writeIndex(x *index) error {
	data, err := x.encode()
	if err != nil {
		return err
	}
	return l.replace(indexFile, data)
}

// initialise reads the layout's index, or begins a layout.
func (l *locked) initialise() (*index, error) {
	if err := l.checkLayout(); errors.Is(err, fs.ErrNotExist) {
		if err := l.replace(layoutFile, []byte(`{"imageLayoutVersion":"`+layoutVersion+`"}`)); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	idx, err := l.readIndex()
	if errors.Is(err, fs.ErrNotExist) {
		return &index{}, nil
	}
	return idx, err
}
