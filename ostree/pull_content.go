package ostree

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/flate"
)

// pullWorker fetches and stages objects. It belongs to one goroutine.
type pullWorker struct {
	*contentWriter
	pull  *httpPull
	raw   bytes.Buffer // a small file as received
	piece []byte       // content on its way
	whole []byte       // a small file's content
	small bytes.Reader
	large *bufio.Reader
	flate io.ReadCloser // of small and large
	sums  [2]hash.Hash
}

// smallPull is up to which length, as received, a file is held in memory, and
// pullPiece how much of its content is at once.
const (
	smallPull = 64 << 10
	pullPiece = 64 << 10
)

func newPullWorker(p *httpPull, s *shelf) *pullWorker {
	b := &builder{repo: p.repo, txn: p.txn, opts: &CommitOptions{}, shelf: s}
	return &pullWorker{contentWriter: newWriter(b, s), pull: p, piece: make([]byte, pullPiece)}
}

// claim reports whether an object has to be fetched: false if it is in the
// repository or its parent, or another worker has it.
func (w *pullWorker) claim(ctx context.Context, kind ObjectType, c *Checksum) (bool, error) {
	w.path = appendObjectPath(w.path[:0], c, w.repo.ext(kind))
	write, err := w.txn.claim(kind, c, w.path)
	if err != nil || !write || w.repo.parent == nil {
		return write, err
	}
	there, err := w.repo.parent.Has(ctx, kind, *c)
	return !there, err
}

// ownMetadata reads an object that is in the repository, or that this pull
// staged.
func (w *pullWorker) ownMetadata(ctx context.Context, kind ObjectType, c Checksum) ([]byte, error) {
	t := w.txn
	t.mu.Lock()
	at := t.claims[claimKey{kind, c}]
	t.mu.Unlock()
	if at == 0 {
		return w.repo.object(ctx, kind, c)
	}
	name := t.stagingPath(int(at)-1, w.repo.objectPath(kind, c))
	return readFileAt(t.staging, name, MaxMetadataSize)
}

// stage stages a verified metadata object that was claimed.
func (w *pullWorker) stage(kind ObjectType, c Checksum, data []byte) error {
	f, err := w.shelf.temporary()
	if err != nil {
		return err
	}
	if err := w.shelf.write(f, data); err != nil {
		return err
	}
	return w.settle(kind, &c, f)
}

// settle gives a whole file the name of its object.
func (w *pullWorker) settle(kind ObjectType, c *Checksum, f *rawFile) error {
	w.path = appendObjectPath(w.path[:0], c, w.repo.ext(kind))
	if err := w.shelf.settle(f, w.path, c[0]); err != nil {
		return err
	}
	w.shelf.staged(kind, c)
	return nil
}

// content fetches, verifies and stages a claimed content object.
func (w *pullWorker) content(ctx context.Context, c Checksum) error {
	body, err := w.pull.server.open(ctx, w.pull.server.content, "objects/"+string(appendObjectPath(nil, &c, "filez")))
	if err != nil {
		return err
	}
	defer body.Close()
	if body.size >= 0 && body.size <= smallPull {
		err = w.smallContent(c, body)
	} else {
		err = w.largeContent(ctx, c, body)
	}
	if err == nil {
		w.pull.stats.content.Add(1)
	}
	return err
}

// smallContent takes a file that is received into memory.
func (w *pullWorker) smallContent(c Checksum, body io.Reader) error {
	w.raw.Reset()
	if _, err := w.raw.ReadFrom(body); err != nil {
		return err
	}
	w.small.Reset(w.raw.Bytes())
	v, err := w.begin(&w.small)
	if err != nil {
		return err
	}
	var sink io.Writer
	var temp *rawFile
	keep := false
	switch {
	case w.repo.settings.mode == ModeArchive || v.isLink():
	case v.file.Size <= pullPiece:
		w.whole, keep = w.whole[:0], true
	default:
		// Well compressed.
		if temp, err = w.temporary(v.file.Size); err != nil {
			return err
		}
		sink = temp
	}
	if err = w.inflate(v, &w.small, sink, keep); err == nil {
		err = w.verify(v, c)
	}
	if err != nil {
		if temp != nil {
			temp.Close()
		}
		return err
	}
	if w.repo.settings.mode == ModeArchive {
		if temp, err = w.shelf.temporary(); err == nil {
			err = w.shelf.write(temp, w.raw.Bytes())
		}
		if err == nil {
			w.wrote(int64(w.raw.Len()))
			err = w.settle(TypeFile, &c, temp)
		}
		return err
	}
	return w.stageBare(v, c, temp)
}

// largeContent takes a file of any length as a stream.
func (w *pullWorker) largeContent(ctx context.Context, c Checksum, body io.Reader) (err error) {
	archive := w.repo.settings.mode == ModeArchive
	src := io.Reader(&contextReader{ctx, body})
	var raw *stored
	var temp *rawFile
	defer func() {
		if err != nil && temp != nil && temp.fd >= 0 {
			temp.Close()
		}
	}()
	if archive {
		if temp, err = w.shelf.temporary(); err != nil {
			return err
		}
		w.out = stored{w: w.contentWriter, f: temp, buf: w.out.buf[:0]}
		raw = &w.out
		src = io.TeeReader(src, raw)
	}
	if w.large == nil {
		w.large = bufio.NewReaderSize(nil, 32<<10)
	}
	w.large.Reset(src)
	v, err := w.begin(w.large)
	if err != nil {
		return err
	}
	var sink io.Writer
	if !archive && !v.isLink() {
		if temp, err = w.temporary(v.file.Size); err != nil {
			return err
		}
		sink = temp
	}
	if err = w.inflate(v, w.large, sink, false); err == nil {
		err = w.verify(v, c)
	}
	if err != nil {
		return err
	}
	if !archive {
		return w.stageBare(v, c, temp)
	}
	if err = w.shelf.finish(temp, raw.flush(), 0o644); err != nil {
		return err
	}
	w.wrote(raw.done)
	return w.settle(TypeFile, &c, temp)
}

// temporary makes a file of so many bytes.
func (w *pullWorker) temporary(size int64) (*rawFile, error) {
	if err := w.txn.take(size); err != nil {
		return nil, err
	}
	return w.shelf.temporary()
}

// pulledFile is a content object that is being received.
type pulledFile struct {
	file   *File
	orders [][]byte // see [File.xattrOrders]
	order  int      // the one that the checksum is over
}

func (v *pulledFile) isLink() bool { return v.file.Mode&ModeType == ModeSymlink }

// begin reads the header of a file and begins its checksums.
func (w *pullWorker) begin(src io.Reader) (*pulledFile, error) {
	f, err := readFilez(src)
	if err != nil {
		return nil, err
	}
	if len(f.Target) > maxTarget {
		return nil, corruptf("link target of %d bytes, at most %d", len(f.Target), maxTarget)
	}
	if w.repo.settings.mode == ModeBareUserOnly && (f.UID != 0 || f.GID != 0 || len(f.Xattrs) > 0 || f.Mode&ModeType == ModeRegular && f.Mode&0o7777&^maxOnlyMode != 0) {
		return nil, fmt.Errorf("owner %d:%d, mode %#o, %d attributes: a %s repository can't keep that", f.UID, f.GID, f.Mode, len(f.Xattrs), ModeBareUserOnly)
	}
	v := &pulledFile{file: f, orders: f.xattrOrders()}
	for i, x := range v.orders {
		if w.sums[i] == nil {
			w.sums[i] = sha256.New()
		}
		w.header = appendFileHeader(w.header[:0], f.UID, f.GID, f.Mode, f.Target, x)
		w.sums[i].Reset()
		w.sums[i].Write(w.header)
	}
	return v, nil
}

// pullSource is a reader that gives single bytes, so that nothing behind the
// compressed data is lost.
type pullSource interface {
	io.Reader
	io.ByteReader
}

// inflate reads a file's content into its checksums, into sink unless that is
// nil, and into w.whole if keep.
func (w *pullWorker) inflate(v *pulledFile, src pullSource, sink io.Writer, keep bool) error {
	if !v.isLink() {
		if w.flate == nil {
			w.flate = flate.NewReader(src)
		} else if err := w.flate.(flate.Resetter).Reset(src, nil); err != nil {
			return err
		}
		left := v.file.Size
		for {
			n, err := w.flate.Read(w.piece)
			if left -= int64(n); left < 0 {
				return corruptf("content goes on behind its length of %d bytes", v.file.Size)
			}
			piece := w.piece[:n]
			for i := range v.orders {
				w.sums[i].Write(piece)
			}
			if keep {
				w.whole = append(w.whole, piece...)
			}
			if sink != nil && n > 0 {
				if _, err := sink.Write(piece); err != nil {
					return err
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return inflateError(err)
			}
		}
		if left > 0 {
			return corruptf("content ends %d bytes early", left)
		}
	}
	switch _, err := src.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return corruptf("bytes follow the content")
	default:
		return err
	}
}

// verify compares the checksums with the one that the file must have.
func (w *pullWorker) verify(v *pulledFile, c Checksum) error {
	var got Checksum
	for i := range v.orders {
		w.sums[i].Sum(got[:0])
		if got == c {
			v.order = i
			return nil
		}
	}
	return corruptf("checksum is %s", got)
}

// stageBare stages a verified file in a repository that does not compress. Its
// content is in temp, or if that is nil in w.whole.
func (w *pullWorker) stageBare(v *pulledFile, c Checksum, temp *rawFile) (err error) {
	f := v.file
	mode := w.repo.settings.mode
	if v.order > 0 && mode != ModeBareUser {
		if temp != nil {
			temp.Close()
		}
		// Attributes of a file system have no order.
		return fmt.Errorf("its checksum is over attributes out of order, which a %s repository can't keep: %w", mode, errUnsupported)
	}
	e := Entry{Path: c.String(), Mode: f.Mode, UID: f.UID, GID: f.GID, Target: f.Target, Xattrs: f.Xattrs, Size: f.Size}
	o := object{Entry: &e, xattrs: v.orders[v.order]}
	if v.isLink() && mode.hasLinks() {
		w.shelf.count++
		temp = &rawFile{-1, fmt.Sprintf("new-%d-%d", w.shelf.number, w.shelf.count)}
		if err := w.symlinkAs(o, temp.name); err != nil {
			return err
		}
		return w.settle(TypeFile, &c, temp)
	}
	if temp == nil {
		data := w.whole
		if v.isLink() {
			data = append([]byte(f.Target), 0)
		}
		if temp, err = w.temporary(int64(len(data))); err != nil {
			return err
		}
		_, err = temp.Write(data)
	}
	if err := w.finishBare(o, temp, err); err != nil {
		return err
	}
	w.wrote(e.Size)
	return w.settle(TypeFile, &c, temp)
}
