package ostree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/bspatch"
)

// deltaMemory is how much of a part, or of an old file that an archive
// repository has compressed, is held in memory; more is spooled to a file.
const deltaMemory = 8 << 20

// stage applies the parts of a delta: it stages the objects that they make and
// that the repository lacks in the transaction of b, each verified against its
// checksum, one part at a time in each of shelves, which nobody else uses
// meanwhile. open gives the file of a part (0, 1, …), which is verified, too; it
// is called, from several goroutines, for parts alone that are not within the
// superblock and of which an object is missing. Parts need objects of the commit
// d.From, in the repository or its parents.
//
// The commit (d.commit, d.commitMeta) and what is not in the delta (d.fallbacks)
// are left to the caller: a pull gets the latter as it gets any object, into the
// same transaction, and publishes all when [txn.missing] finds nothing.
func (d *delta) stage(ctx context.Context, b *builder, shelves []*shelf, open func(ctx context.Context, part int) (io.ReadCloser, error)) error {
	group, gctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for _, s := range shelves {
		group.Go(func() error {
			w := &deltaWriter{contentWriter: newWriter(b, s), ctx: gctx}
			defer w.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(d.parts) || gctx.Err() != nil {
					return gctx.Err()
				}
				if err := w.part(d, i, open); err != nil {
					if gctx.Err() != nil {
						return gctx.Err()
					}
					return fmt.Errorf("part %d: %w", i, err)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return nil
}

// deltaWriter applies parts. It belongs to one goroutine.
type deltaWriter struct {
	*contentWriter
	ctx     context.Context
	payload *deltaPayload
	source  deltaSource
}

// deltaSource is the old file that was last read.
type deltaSource struct {
	sum  Checksum
	size int64
	at   io.ReaderAt
	io.Closer
}

func (w *deltaWriter) close() {
	if w.source.Closer != nil {
		w.source.Close()
		w.source = deltaSource{}
	}
}

// spool makes a spool in the staging folder.
func (w *deltaWriter) spool() (s *spool, release func()) {
	s = &spool{limit: deltaMemory}
	taken := int64(0)
	s.account = func(n int64) error {
		taken += n
		return w.txn.take(n)
	}
	s.create = func() (*rawFile, error) {
		f, err := w.shelf.temporary()
		if err == nil {
			if err = w.shelf.drop(f); err != nil {
				f.Close()
			}
		}
		return f, err
	}
	return s, func() {
		s.Close()
		w.txn.give(taken)
	}
}

// there reports whether an object is in the repository or staged.
func (t *txn) there(key claimKey) (bool, error) {
	t.mu.Lock()
	_, ok := t.claims.get(&key)
	t.mu.Unlock()
	if ok {
		return true, nil
	}
	return t.present.has(&key, appendObjectPath(nil, &key.sum, t.repo.ext(key.kind)))
}

// part applies one part.
func (w *deltaWriter) part(d *delta, i int, open func(context.Context, int) (io.ReadCloser, error)) error {
	part := &d.parts[i]
	missing := false
	for k := 0; k < part.count() && !missing; k++ {
		ok, err := w.txn.there(part.object(k))
		if err != nil {
			return err
		}
		missing = !ok
	}
	if !missing {
		return nil
	}
	s, release := w.spool()
	defer release()
	if err := w.unpack(s, part, i, open); err != nil {
		return err
	}
	var err error
	if w.payload, err = decodePayload(s, s.size); err != nil {
		return err
	}
	return w.payload.eachObject(part, func(byte) {}, w.object)
}

func (w *deltaWriter) unpack(s *spool, part *deltaPart, i int, open func(context.Context, int) (io.ReadCloser, error)) error {
	r, err := part.open(w.ctx, i, open)
	if err != nil {
		return err
	}
	defer r.Close()
	return unpackPart(w.ctx, s, part, r)
}

// object stages an object unless it is there.
func (w *deltaWriter) object(o *deltaObject) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.path = appendObjectPath(w.path[:0], &o.sum, w.repo.ext(o.kind))
	write, err := w.txn.claim(o.kind, &o.sum, w.path)
	if err != nil || !write {
		return err
	}
	if o.kind == TypeFile {
		err = w.file(o)
	} else {
		err = w.metadata(o)
	}
	if err != nil {
		w.txn.disclaim(o.kind, &o.sum)
		return fmt.Errorf("%s: %w", objectName(o.kind, o.sum), err)
	}
	return nil
}

func (w *deltaWriter) metadata(o *deltaObject) error {
	if o.size > MaxMetadataSize {
		return corruptf("%d bytes, at most %d", o.size, MaxMetadataSize)
	}
	data := make([]byte, o.size)
	if _, err := w.payload.blob.ReadAt(data, o.at); err != nil {
		return short(err)
	}
	if got := sum(data); got != o.sum {
		return corruptf("checksum is %s", got)
	}
	var err error
	if o.kind == TypeDirTree {
		_, err = DecodeDirTree(data)
	} else {
		_, err = DecodeDirMeta(data)
	}
	if err != nil {
		return err
	}
	f, err := w.shelf.temporary()
	if err != nil {
		return err
	}
	if err := w.shelf.write(f, data); err != nil {
		return err
	}
	return w.settle(o, f)
}

// settle gives a whole, verified file the name of its object: what has such a
// name in the staging folder may be taken over when this process is killed.
func (w *deltaWriter) settle(o *deltaObject, f *rawFile) error {
	w.path = appendObjectPath(w.path[:0], &o.sum, w.repo.ext(o.kind))
	if err := w.shelf.settle(f, w.path, o.sum[0]); err != nil {
		return err
	}
	w.shelf.staged(o.kind, &o.sum)
	return nil
}

// keeps refuses files that a repository of the mode can't keep as they are.
func (m Mode) keeps(f *File) error {
	if m == ModeBareUserOnly && (f.UID != 0 || f.GID != 0 || len(f.Xattrs) > 0 || f.Mode&ModeType == ModeRegular && f.Mode&0o7777&^maxOnlyMode != 0) {
		return fmt.Errorf("owner %d:%d, mode %#o, %d attributes: a %s repository can't keep that", f.UID, f.GID, f.Mode, len(f.Xattrs), m)
	}
	return nil
}

// file stages a claimed content object.
func (w *deltaWriter) file(o *deltaObject) error {
	if err := w.repo.settings.mode.keeps(&o.header); err != nil {
		return err
	}
	e := fileEntry(o.sum.String(), o.sum, &o.header)
	obj, err := w.start(&e)
	if err != nil {
		return corrupt(err)
	}
	isLink := e.Mode&ModeType == ModeSymlink
	if isLink && w.repo.settings.mode.hasLinks() {
		if err := w.verify(o); err != nil {
			return err
		}
		w.shelf.count++
		f := &rawFile{-1, fmt.Sprintf("new-%d-%d", w.shelf.number, w.shelf.count)}
		if err := w.symlinkAs(obj, f.name); err != nil {
			return err
		}
		return w.settle(o, f)
	}
	f, err := w.shelf.temporary()
	if err != nil {
		return err
	}
	if w.repo.settings.mode == ModeArchive {
		err = w.shelf.finish(f, w.compressed(f, obj, o, isLink), 0o644)
	} else {
		if isLink {
			err = w.target(f, o)
		} else {
			err = w.plain(f, o)
		}
		if err == nil {
			err = w.verify(o)
		}
		err = w.finishBare(obj, f, err)
	}
	if err != nil {
		return err
	}
	return w.settle(o, f)
}

func (w *deltaWriter) verify(o *deltaObject) error {
	if got := w.contentWriter.sum(); got != o.sum {
		return corruptf("checksum is %s", got)
	}
	return nil
}

// compressed writes an archive object.
func (w *deltaWriter) compressed(f *rawFile, obj object, o *deltaObject, isLink bool) error {
	out := w.output(f, obj)
	if !isLink {
		zw, err := w.deflater(out)
		if err == nil {
			err = w.copy(w.ctx, zw, w.body(o), o.size)
		}
		if err == nil {
			err = zw.Close()
		}
		if err != nil {
			return err
		}
	}
	if err := w.verify(o); err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	w.wrote(out.done)
	return nil
}

// plain writes content as it is.
func (w *deltaWriter) plain(f *rawFile, o *deltaObject) error {
	if err := w.txn.take(o.size); err != nil {
		return err
	}
	w.wrote(o.size)
	return w.copy(w.ctx, f, w.body(o), o.size)
}

// target writes a link's target as a bare-user repository has it.
func (w *deltaWriter) target(f *rawFile, o *deltaObject) error {
	data := append([]byte(o.header.Target), 0)
	if err := w.txn.take(int64(len(data))); err != nil {
		return err
	}
	w.wrote(int64(len(data)))
	_, err := f.Write(data)
	return err
}

// body gives a regular file's content.
func (w *deltaWriter) body(o *deltaObject) io.Reader {
	if o.ops == nil {
		return io.NewSectionReader(w.payload.blob, o.at, o.size)
	}
	return &deltaReader{w: w, o: o, ops: o.ops, first: o.source}
}

// deltaReader gives a file's content by doing its operations, which were checked
// before.
type deltaReader struct {
	w     *deltaWriter
	o     *deltaObject
	ops   []byte
	first int64 // where the checksum of the first source lies; -1: it is open, or there is none
	has   bool  // there is a source
	cur   io.Reader
}

func (r *deltaReader) Read(p []byte) (int, error) {
	for {
		if r.cur != nil {
			n, err := r.cur.Read(p)
			if err == io.EOF {
				r.cur, err = nil, nil
			}
			if errors.Is(err, bspatch.ErrPatch) {
				err = corrupt(err)
			}
			if n > 0 || err != nil {
				return n, err
			}
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
}

// next does one operation; io.EOF: it was the last.
func (r *deltaReader) next() error {
	if r.first >= 0 {
		at := r.first
		r.first = -1
		return r.open(at)
	}
	op, rest, err := nextOp(r.ops, false)
	if err != nil {
		return err
	}
	r.ops = rest
	blob := r.w.payload.blob
	switch op.code {
	case 'w':
		length, offset := op.args[0], op.args[1]
		if !r.has {
			r.cur = io.NewSectionReader(blob, int64(offset), int64(length))
			return nil
		}
		if size := uint64(r.w.source.size); offset > size || length > size-offset {
			return corruptf("%d bytes at %d of %d of source %s", length, offset, size, r.w.source.sum)
		}
		r.cur = io.NewSectionReader(r.w.source.at, int64(offset), int64(length))
	case 'B':
		patch := bufio.NewReader(io.NewSectionReader(blob, int64(op.args[0]), int64(op.args[1])))
		r.cur = bspatch.NewReader(r.w.source.at, r.w.source.size, patch, r.o.size)
	case 'r':
		return r.open(int64(op.args[0]))
	case 'R':
		r.has = false
	case 'c':
		r.ops = r.ops[:0]
		return io.EOF
	}
	return nil
}

// open makes the object whose checksum lies at an offset the source.
func (r *deltaReader) open(at int64) error {
	var c Checksum
	if _, err := r.w.payload.blob.ReadAt(c[:], at); err != nil {
		return short(err)
	}
	r.has = true
	if r.w.source.Closer != nil && r.w.source.sum == c {
		return nil
	}
	r.w.close()
	if err := r.w.openSource(c); err != nil {
		return fmt.Errorf("source %s: %w", objectName(TypeFile, c), err)
	}
	return nil
}

// closerFunc is a function as an [io.Closer].
type closerFunc func()

func (f closerFunc) Close() error {
	f()
	return nil
}

func (w *deltaWriter) openSource(c Checksum) error {
	o, err := w.repo.openContent(w.ctx, c)
	if err != nil {
		return err
	}
	if o.file.Mode&ModeType != ModeRegular {
		o.Close()
		return corruptf("is no regular file")
	}
	if o.repo.settings.mode != ModeArchive {
		w.source = deltaSource{c, o.file.Size, o.rawFile, o}
		return nil
	}
	s, release := w.spool()
	body := o.body(w.ctx, c)
	_, err = io.Copy(s, body)
	if e := body.Close(); err == nil {
		err = e
	}
	if err != nil {
		release()
		return err
	}
	w.source = deltaSource{c, s.size, s, closerFunc(release)}
	return nil
}

// missing finds an object that a commit needs and that is neither in the
// repository or its parents nor staged; the zero key: there is none.
func (t *txn) missing(ctx context.Context, c *Commit) (claimKey, error) {
	m := &closureCheck{txn: t, ctx: ctx, seen: make(map[claimKey]struct{})}
	if err := m.need(claimKey{TypeDirMeta, c.RootMeta}); err != nil || m.lack.kind != 0 {
		return m.lack, err
	}
	err := m.tree(c.RootTree, 0)
	return m.lack, err
}

type closureCheck struct {
	txn  *txn
	ctx  context.Context
	seen map[claimKey]struct{}
	lack claimKey
}

// need notes the object if it is missing and is the first.
func (m *closureCheck) need(key claimKey) error {
	if _, ok := m.seen[key]; ok || m.lack.kind != 0 {
		return nil
	}
	m.seen[key] = struct{}{}
	ok, err := m.txn.there(key)
	if err == nil && !ok && m.txn.repo.parent != nil {
		ok, err = m.txn.repo.parent.Has(m.ctx, key.kind, key.sum)
	}
	if err == nil && !ok {
		m.lack = key
	}
	return err
}

func (m *closureCheck) tree(c Checksum, depth int) error {
	key := claimKey{TypeDirTree, c}
	if _, ok := m.seen[key]; ok {
		return nil
	}
	if depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	if err := m.need(key); err != nil || m.lack.kind != 0 {
		return err
	}
	data, err := m.txn.metadata(m.ctx, key)
	var d *DirTree
	if err == nil {
		d, err = DecodeDirTree(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", objectName(TypeDirTree, c), err)
	}
	for i := range d.Files {
		if err := m.need(claimKey{TypeFile, d.Files[i].Object}); err != nil {
			return err
		}
	}
	for i := range d.Dirs {
		if err := m.need(claimKey{TypeDirMeta, d.Dirs[i].Meta}); err != nil {
			return err
		}
		if m.lack.kind != 0 {
			return nil
		}
		if err := m.tree(d.Dirs[i].Tree, depth+1); err != nil || m.lack.kind != 0 {
			return err
		}
	}
	return nil
}

// metadata gives a dirtree or dirmeta that is staged or in the repository.
func (t *txn) metadata(ctx context.Context, key claimKey) ([]byte, error) {
	t.mu.Lock()
	shelf, _ := t.claims.get(&key)
	t.mu.Unlock()
	if shelf == 0 {
		return t.repo.object(ctx, key.kind, key.sum)
	}
	data, err := readFileAt(t.staging, t.stagingPath(int(shelf)-1, t.repo.objectPath(key.kind, key.sum)), MaxMetadataSize)
	if err == nil && sum(data) != key.sum {
		err = corruptf("checksum is %s", sum(data))
	}
	return data, err
}
