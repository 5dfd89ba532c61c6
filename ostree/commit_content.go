package ostree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"

	"github.com/okd-project/okd-streams/internal/unix"
)

// contentWriter stores content objects. It belongs to one goroutine.
type contentWriter struct {
	*builder
	shelf  *shelf
	hash   hash.Hash
	buf    []byte // smallFile and one byte more
	header []byte
	meta   []byte
	path   []byte
	zbuf   bytes.Buffer
	zw     *flate.Writer
	out    stored
}

func newWriter(b *builder, s *shelf) *contentWriter {
	return &contentWriter{builder: b, shelf: s, hash: sha256.New()}
}

// object is the header's part of a content object.
type object struct {
	*Entry
	xattrs []byte // serialized, sorted
}

// start checks an entry and begins its hash.
func (w *contentWriter) start(e *Entry) (object, error) {
	o, err := w.describe(e)
	if err == nil {
		w.begin()
	}
	return o, err
}

// begin begins the hash of what is described.
func (w *contentWriter) begin() {
	w.hash.Reset()
	w.hash.Write(w.header)
}

// describe checks an entry and makes its header.
func (w *contentWriter) describe(e *Entry) (object, error) {
	o := object{Entry: e}
	xattrs := sortedXattrs(e.Xattrs)
	if e.Mode&ModeType == ModeRegular && e.Target != "" {
		return o, fmt.Errorf("regular file has a link target")
	}
	if err := checkFile(e.Mode, e.Target, xattrs); err != nil {
		return o, err
	}
	if len(e.Target) > maxTarget {
		return o, fmt.Errorf("link target of %d bytes, at most %d", len(e.Target), maxTarget)
	}
	if err := checkTarget(e.Target); err != nil {
		return o, err
	}
	o.xattrs = marshalXattrs(xattrs)
	w.header = appendFileHeader(w.header[:0], e.UID, e.GID, e.Mode, e.Target, o.xattrs)
	w.header = slices.Grow(w.header, 16) // for cacheSlot.describe
	if len(w.header) > maxHeaderSize {
		return o, fmt.Errorf("extended attributes of %d bytes, at most %d", len(o.xattrs), maxHeaderSize)
	}
	return o, nil
}

func (w *contentWriter) sum() (c Checksum) {
	w.hash.Sum(c[:0])
	return c
}

// job stores one file and fills in its checksum.
func (w *contentWriter) job(ctx context.Context, j *job) error {
	e := &j.entry
	if j.spool != nil {
		defer j.spool.Close()
		j.node.sum = j.sum
		o, err := w.start(e)
		if err != nil {
			return err
		}
		return w.deflateStream(ctx, o, j.sum, j.spool)
	}
	if !e.Object.IsZero() {
		ok, err := w.known(&e.Object)
		if err != nil {
			return err
		}
		if ok {
			j.node.sum = e.Object
			return nil
		}
	}
	o, err := w.describe(e)
	if err != nil {
		return err
	}
	switch {
	case e.Mode&ModeType == ModeSymlink:
		if c, ok, err := w.cached(e); err != nil || ok {
			j.node.sum = c
			return err
		}
		w.begin()
		j.node.sum = w.sum()
		if e.slot != nil {
			e.slot.set(&j.node.sum)
		}
		return w.store(o, j.node.sum, nil)
	case j.data != nil:
		w.begin()
		w.hash.Write(j.data)
		w.stats.read.Add(int64(len(j.data)))
		j.node.sum = w.sum()
		return w.store(o, j.node.sum, j.data)
	}
	if e.Size < 0 || e.Open == nil && e.Size > 0 {
		return fmt.Errorf("regular file of %d bytes without content", e.Size)
	}
	if e.Identity == (FileID{}) {
		e.slot = nil // its content is another than the file's
	}
	if c, ok, err := w.cached(e); err != nil || ok {
		j.node.sum = c
		return err
	}
	w.begin()
	if err := w.content(ctx, o, j); err != nil {
		return err
	}
	if e.slot != nil {
		e.slot.set(&j.node.sum)
	}
	return nil
}

// cached gives the object of a file or link that did not change since a cache saw it,
// if it is in the repository.
func (w *contentWriter) cached(e *Entry) (c Checksum, ok bool, err error) {
	s := e.slot
	if s == nil {
		return c, false, nil
	}
	if !s.asItIs {
		s.describe(e, w.header)
	}
	if s.flags&hasSum == 0 {
		return c, false, nil
	}
	if ok = s.latest; !ok {
		if ok, err = w.known(&s.sum); err != nil {
			return c, false, err
		}
	}
	if ok {
		w.stats.hits.Add(1)
		s.learned = true
	}
	return s.sum, ok, nil
}

// known reports whether a content object is in the repository.
func (w *contentWriter) known(c *Checksum) (bool, error) {
	w.path = appendObjectPath(w.path[:0], c, w.repo.ext(TypeFile))
	return w.txn.present.has(&claimKey{TypeFile, *c}, w.path)
}

// claim is [txn.claim] for a content object.
func (w *contentWriter) claim(c *Checksum) (bool, error) {
	w.path = appendObjectPath(w.path[:0], c, w.repo.ext(TypeFile))
	return w.txn.claim(TypeFile, c, w.path)
}

// content reads, hashes and stores a regular file.
func (w *contentWriter) content(ctx context.Context, o object, j *job) error {
	if o.Open == nil {
		j.node.sum = w.sum()
		return w.store(o, j.node.sum, nil)
	}
	if done, err := w.adopt(ctx, o, j); done || err != nil {
		return err
	}
	if o.Size <= smallFile {
		body, err := o.Open(ctx)
		if err != nil {
			return err
		}
		if w.buf == nil {
			w.buf = make([]byte, smallFile+1)
		}
		data, err := readExactly(body, w.buf, o.Size)
		if e := body.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		w.hash.Write(data)
		w.stats.read.Add(o.Size)
		j.node.sum = w.sum()
		return w.store(o, j.node.sum, data)
	}
	// A large file is hashed first only if its object may well be there already:
	// one that the cache does not know is new, which is worth a copy, though not
	// a compression.
	if !w.txn.filled || w.opts.Cache != nil && w.repo.settings.mode != ModeArchive {
		if w.repo.settings.mode == ModeArchive {
			return w.deflateUnknown(ctx, o, j)
		}
		_, c, err := w.stream(ctx, j)
		j.node.sum = c
		return err
	}
	err := w.open(ctx, o, func(body io.Reader) error { return w.copy(ctx, nil, body, o.Size) })
	if err != nil {
		return err
	}
	j.node.sum = w.sum()
	write, err := w.claim(&j.node.sum)
	if err != nil || !write {
		return err
	}
	return w.open(ctx, o, func(body io.Reader) error {
		if w.repo.settings.mode == ModeArchive {
			return w.deflateStream(ctx, o, j.node.sum, body)
		}
		return w.copyStream(ctx, o, j.node.sum, body)
	})
}

func (w *contentWriter) open(ctx context.Context, o object, fn func(io.Reader) error) error {
	body, err := o.Open(ctx)
	if err != nil {
		return err
	}
	err = fn(body)
	if e := body.Close(); err == nil {
		err = e
	}
	return err
}

// copy reads size bytes of body, hashes them and writes them to dst unless it
// is nil.
func (w *contentWriter) copy(ctx context.Context, dst io.Writer, body io.Reader, size int64) error {
	const piece = 256 << 10 // stays in the processor's cache between read, hash and write
	if f, ok := dst.(*rawFile); ok && w.clone(f, body, size) {
		dst, body = nil, f
	}
	if w.buf == nil {
		w.buf = make([]byte, smallFile+1)
	}
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := body.Read(w.buf[:piece])
		done += int64(n)
		if done > size {
			return fmt.Errorf("content goes on behind its length of %d bytes", size)
		}
		w.hash.Write(w.buf[:n])
		if dst != nil {
			if _, err := dst.Write(w.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	w.stats.read.Add(done)
	if done != size {
		return fmt.Errorf("content has %d bytes, want %d", done, size)
	}
	return nil
}

// store writes a content object whose content is in memory, unless it is there.
func (w *contentWriter) store(o object, c Checksum, data []byte) error {
	isLink := o.Mode&ModeType == ModeSymlink
	write, err := w.claim(&c)
	if err != nil || !write {
		return err
	}
	switch {
	case w.repo.settings.mode == ModeArchive:
		w.zbuf.Reset()
		w.zbuf.Write(appendFilezHeader(w.meta[:0], int64(len(data)), o.UID, o.GID, o.Mode, o.Target, o.xattrs))
		if !isLink {
			if err := w.deflate(&w.zbuf, data); err != nil {
				return err
			}
		}
		f, err := w.shelf.create(w.path, c[0])
		if err != nil {
			return err
		}
		if err := w.shelf.write(f, w.zbuf.Bytes()); err != nil {
			return err
		}
		w.wrote(int64(w.zbuf.Len()))
	case isLink && w.repo.settings.mode.hasLinks():
		if err := w.symlink(o, &c); err != nil {
			return err
		}
	default:
		if isLink {
			w.meta = append(append(w.meta[:0], o.Target...), 0)
			data = w.meta
		}
		if err := w.txn.take(int64(len(data))); err != nil {
			return err
		}
		f, err := w.shelf.create(w.path, c[0])
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := w.finishBare(o, f, err); err != nil {
			return err
		}
		w.wrote(int64(len(data)))
	}
	w.shelf.staged(TypeFile, &c)
	return nil
}

func (w *contentWriter) wrote(n int64) {
	w.stats.content.Add(1)
	w.stats.written.Add(n)
}

// symlink makes the object of a symbolic link that is one itself.
func (w *contentWriter) symlink(o object, c *Checksum) error {
	name, err := w.shelf.name(w.path, c[0])
	if err != nil {
		return err
	}
	return w.symlinkAs(o, name)
}

// symlinkAs is symlink with the name in the staging folder.
func (w *contentWriter) symlinkAs(o object, name string) error {
	if err := w.txn.take(int64(len(o.Target))); err != nil {
		return err
	}
	if err := pathError("symlink", name, retry(func() error { return unix.Symlinkat(o.Target, w.txn.staging, name) })); err != nil {
		return err
	}
	if w.repo.settings.mode == ModeBare {
		if err := checkBare(o); err != nil {
			return err
		}
		err := retry(func() error {
			return unix.Fchownat(w.txn.staging, name, int(o.UID), int(o.GID), unix.AT_SYMLINK_NOFOLLOW)
		})
		if err != nil {
			return ownerError(o, err)
		}
		if err := setLinkXattrs(w.txn.staging, name, o.Xattrs); err != nil {
			return err
		}
	}
	w.wrote(int64(len(o.Target)))
	return nil
}

// checkBare refuses what a bare repository can't keep.
func checkBare(o object) error {
	for i := range o.Xattrs {
		if withoutValue(o.Xattrs[i]) {
			return fmt.Errorf("attribute %.80q has no value, which a bare repository can't keep: %w", o.Xattrs[i].Name, errUnsupported)
		}
	}
	return nil
}

func ownerError(o object, err error) error {
	return fmt.Errorf("chown to %d:%d, as a bare repository has to: %w", o.UID, o.GID, err)
}

// finishBare sets what an object that is not compressed has besides its content,
// unless err says that writing failed, and closes it.
func (w *contentWriter) finishBare(o object, f *rawFile, err error) error {
	mode := uint32(0o644)
	switch {
	case err != nil:
	case w.repo.settings.mode == ModeBareUser:
		w.meta = appendMeta(w.meta[:0], o.UID, o.GID, o.Mode, o.xattrs)
		err = pathError("setxattr "+metaAttribute, f.name, retry(func() error { return unix.Fsetxattr(f.fd, metaAttribute, w.meta, 0) }))
		if o.Mode&ModeType == ModeRegular {
			// The owner of the repository must always be able to read.
			mode = o.Mode&0o775 | 0o400
		}
	case w.repo.settings.mode == ModeBareUserOnly:
		if mode = o.Mode & 0o7777; mode&^maxOnlyMode != 0 {
			err = fmt.Errorf("mode %#o has bits that an object of a %s repository can't have", o.Mode, ModeBareUserOnly)
		}
	default:
		mode = o.Mode & 0o7777
		if err = checkBare(o); err != nil {
			break
		}
		// Owners first: a change of owner takes capabilities and set-user bits.
		if e := retry(func() error { return unix.Fchown(f.fd, int(o.UID), int(o.GID)) }); e != nil {
			err = ownerError(o, e)
			break
		}
		err = pathError("finish", f.name, setXattrs(f.fd, o.Xattrs))
	}
	if err == nil {
		err = setMtimeZero(w.txn.staging, f.name)
	}
	return w.shelf.finish(f, err, mode)
}

// stream stores a large regular file while reading it once. In an archive
// repository, and where the object is not there, it gives the content back in a
// file without name for a worker to compress.
func (w *contentWriter) stream(ctx context.Context, j *job) (*rawFile, Checksum, error) {
	o, err := w.start(&j.entry)
	if err != nil {
		return nil, Checksum{}, err
	}
	if err := w.txn.take(o.Size); err != nil {
		return nil, Checksum{}, err
	}
	f, err := w.shelf.temporary()
	if err != nil {
		return nil, Checksum{}, err
	}
	err = w.open(ctx, o, func(body io.Reader) error { return w.copy(ctx, f, body, o.Size) })
	if err != nil {
		f.Close()
		return nil, Checksum{}, err
	}
	c := w.sum()
	j.node.sum = c
	write, err := w.claim(&c)
	if err != nil || !write || w.repo.settings.mode == ModeArchive {
		if e := w.shelf.drop(f); err == nil {
			err = e
		}
		w.txn.give(o.Size)
		if err == nil && write {
			if _, err = unix.Seek(f.fd, 0, io.SeekStart); err == nil {
				return f, c, nil
			}
		}
		f.Close()
		return nil, c, err
	}
	if err := w.finishBare(o, f, nil); err != nil {
		return nil, c, err
	}
	if err := w.shelf.settle(f, w.path, c[0]); err != nil {
		return nil, c, err
	}
	w.wrote(o.Size)
	w.shelf.staged(TypeFile, &c)
	return nil, c, nil
}

// copyStream writes a claimed bare-user object from body, which must still have
// checksum c.
func (w *contentWriter) copyStream(ctx context.Context, o object, c Checksum, body io.Reader) error {
	if err := w.txn.take(o.Size); err != nil {
		return err
	}
	f, err := w.shelf.create(w.path, c[0])
	if err != nil {
		return err
	}
	if err := w.finishBare(o, f, w.rehash(ctx, f, o, c, body)); err != nil {
		return err
	}
	w.wrote(o.Size)
	w.shelf.staged(TypeFile, &c)
	return nil
}

// rehash copies body to dst and checks that the object is what it was.
func (w *contentWriter) rehash(ctx context.Context, dst io.Writer, o object, c Checksum, body io.Reader) error {
	w.hash.Reset()
	w.hash.Write(w.header)
	if err := w.copy(ctx, dst, body, o.Size); err != nil {
		return err
	}
	if w.sum() != c {
		return errContentChanged
	}
	return nil
}

var errContentChanged = errors.New("content changed while it was read")

// deflateStream writes a claimed archive object from body, which must have
// checksum c.
func (w *contentWriter) deflateStream(ctx context.Context, o object, c Checksum, body io.Reader) error {
	w.path = appendObjectPath(w.path[:0], &c, w.repo.ext(TypeFile))
	f, err := w.shelf.create(w.path, c[0])
	if err != nil {
		return err
	}
	out := w.output(f, o)
	zw := &pieceWriter{w: w, out: out}
	err = w.rehash(ctx, zw, o, c, body)
	if err == nil {
		err = zw.Close()
	}
	if err == nil {
		err = out.flush()
	}
	if err := w.shelf.finish(f, err, 0o644); err != nil {
		return err
	}
	w.wrote(out.done)
	w.shelf.staged(TypeFile, &c)
	return nil
}

// deflateUnknown writes an archive object while it hashes it.
func (w *contentWriter) deflateUnknown(ctx context.Context, o object, j *job) error {
	f, err := w.shelf.temporary()
	if err != nil {
		return err
	}
	out := w.output(f, o)
	zw := &pieceWriter{w: w, out: out}
	err = w.open(ctx, o, func(body io.Reader) error { return w.copy(ctx, zw, body, o.Size) })
	if err == nil {
		err = zw.Close()
	}
	if err == nil {
		err = out.flush()
	}
	if err := w.shelf.finish(f, err, 0o644); err != nil {
		return err
	}
	j.node.sum = w.sum()
	write, err := w.claim(&j.node.sum)
	if err != nil {
		return err
	}
	if !write {
		w.txn.give(out.done)
		return w.shelf.drop(f)
	}
	if err := w.shelf.settle(f, w.path, j.node.sum[0]); err != nil {
		return err
	}
	w.wrote(out.done)
	w.shelf.staged(TypeFile, &j.node.sum)
	return nil
}

// output is f as the worker's buffered output, begun with the object's header.
func (w *contentWriter) output(f *rawFile, o object) *stored {
	w.out = stored{w: w, f: f, buf: append(w.out.buf[:0], appendFilezHeader(w.meta[:0], o.Size, o.UID, o.GID, o.Mode, o.Target, o.xattrs)...)}
	return &w.out
}

// stored is a file being written: buffered, accounted for.
type stored struct {
	w    *contentWriter
	f    *rawFile
	buf  []byte
	done int64
}

func (s *stored) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	if len(s.buf) >= 256<<10 {
		return len(p), s.flush()
	}
	return len(p), nil
}

func (s *stored) flush() error {
	if err := s.w.txn.take(int64(len(s.buf))); err != nil {
		return err
	}
	_, err := s.f.Write(s.buf)
	s.done += int64(len(s.buf))
	s.buf = s.buf[:0]
	return err
}

// deflater gives the worker's DEFLATE writer, writing to dst.
func (w *contentWriter) deflater(dst io.Writer) (*flate.Writer, error) {
	if w.zw != nil {
		w.zw.Reset(dst)
		return w.zw, nil
	}
	var err error
	w.zw, err = flate.NewWriter(dst, w.repo.settings.zlibLevel)
	return w.zw, err
}

// deflate appends compressed data to dst.
func (w *contentWriter) deflate(dst *bytes.Buffer, data []byte) error {
	if len(data) == 0 {
		dst.WriteString("\x03\x00") // the shortest empty stream
		return nil
	}
	zw, err := w.deflater(dst)
	if err != nil {
		return err
	}
	if _, err := zw.Write(data); err != nil {
		return err
	}
	return zw.Close()
}
