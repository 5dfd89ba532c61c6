package ostree

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/okd-project/okd-streams/internal/inflate"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/unix"
)

// pullWorker fetches and stages objects. It belongs to one goroutine.
type pullWorker struct {
	*contentWriter
	pull      *httpPull
	kept      *pullKept    // nil: none
	raw       bytes.Buffer // a small file as received
	small     bytes.Reader
	large     *bufio.Reader
	*pullDesk           // what it works at now; nil: none
	own       *pullDesk // for files that come while they are worked on

	isLarge bool // it holds the token for large metadata
}

// pullDesk is what verifying and writing a file needs. There are only a few, which
// workers take in turn: with more that write they would wait for each other in the
// kernel, and each would find its tables and buffers out of the processor's caches.
type pullDesk struct {
	flate inflate.Reader
	sums  [2]hash.Hash
	whole []byte // a small file's content
}

// newPullDesks gives one desk for each worker that may write at once.
func newPullDesks() chan *pullDesk {
	desks := make(chan *pullDesk, pullWriters())
	for range cap(desks) {
		desks <- &pullDesk{}
	}
	return desks
}

// sit waits for a desk.
func (w *pullWorker) sit() { w.pullDesk = <-w.pull.desks }

// leave lets the next worker have the desk.
func (w *pullWorker) leave() {
	w.pull.desks <- w.pullDesk
	w.pullDesk = nil
}

// Up to which length a file is held in memory, as received and as it is.
const (
	smallPull = 64 << 10
	wholePull = 256 << 10
)

func newPullWorker(p *httpPull) *pullWorker {
	// Which shelf files are on says nothing in the layout of objects/.
	s := &shelf{txn: p.txn}
	b := &builder{repo: p.repo, txn: p.txn, opts: &CommitOptions{}, shelf: s}
	return &pullWorker{contentWriter: newWriter(b, s), pull: p, kept: p.server.keep()}
}

func (w *pullWorker) close() {
	if w.kept != nil {
		w.kept.Kept.Close()
	}
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
	at, _ := t.claims.get(&claimKey{kind, c})
	t.mu.Unlock()
	if at == 0 {
		return w.repo.object(ctx, kind, c)
	}
	name := t.stagingPath(int(at)-1, w.repo.objectPath(kind, c))
	return readFileAt(t.staging, name, MaxMetadataSize)
}

// create makes the staged file of a claimed object, marked as not whole. Its path
// is left in w.path.
func (w *pullWorker) create(kind ObjectType, c *Checksum) (*rawFile, error) {
	name, err := w.name(kind, c)
	if err != nil {
		return nil, err
	}
	fd, err := openat(w.txn.staging, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644|unfinished)
	if err != nil {
		return nil, err
	}
	return &rawFile{fd, name}, nil
}

// name is where a claimed object is staged, in a folder that is made.
func (w *pullWorker) name(kind ObjectType, c *Checksum) (string, error) {
	w.path = appendObjectPath(w.path[:0], c, w.repo.ext(kind))
	if made := &w.pull.made[c[0]]; !made.Load() {
		if err := mkdirat(w.txn.staging, string(w.path[:2]), 0o777); err != nil {
			return "", err
		}
		made.Store(true)
	}
	return string(w.path), nil
}

// stage stages a verified metadata object that was claimed.
func (w *pullWorker) stage(kind ObjectType, c Checksum, data []byte) error {
	w.sit()
	defer w.leave()
	f, err := w.create(kind, &c)
	if err != nil {
		return err
	}
	if err := w.shelf.write(f, data); err != nil {
		return err
	}
	w.shelf.staged(kind, &c)
	return nil
}

// content fetches, verifies and stages a claimed content object.
func (w *pullWorker) content(ctx context.Context, c Checksum) error {
	body, err := w.pull.server.open(ctx, w.pull.server.content, "objects/"+string(appendObjectPath(nil, &c, "filez")), w.kept)
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
	w.sit()
	defer w.leave()
	w.small.Reset(w.raw.Bytes())
	v, err := w.begin(&w.small)
	if err != nil {
		return err
	}
	archive := w.repo.settings.mode == ModeArchive
	if v.file.Size > wholePull && !archive {
		// It is well compressed.
		return w.streamBare(v, c, &w.small)
	}
	w.whole = w.whole[:0]
	if err = w.inflate(v, &w.small, nil, !archive); err == nil {
		err = w.verify(v, c)
	}
	if err != nil {
		return err
	}
	if archive {
		return w.stageArchive(c, w.raw.Bytes())
	}
	return w.stageBare(v, c)
}

// stageArchive stages a verified file as it was received.
func (w *pullWorker) stageArchive(c Checksum, raw []byte) error {
	f, err := w.create(TypeFile, &c)
	if err != nil {
		return err
	}
	if err := w.shelf.write(f, raw); err != nil {
		return err
	}
	w.wrote(int64(len(raw)))
	w.shelf.staged(TypeFile, &c)
	return nil
}

// largeContent takes a file of any length as a stream.
func (w *pullWorker) largeContent(ctx context.Context, c Checksum, body io.Reader) (err error) {
	if w.large == nil {
		w.large, w.own = bufio.NewReaderSize(nil, 32<<10), &pullDesk{}
	}
	w.pullDesk = w.own
	defer func() { w.pullDesk = nil }()
	src := io.Reader(readers.Context{Ctx: ctx, R: body})
	if w.repo.settings.mode != ModeArchive {
		w.large.Reset(src)
		v, err := w.begin(w.large)
		if err != nil {
			return err
		}
		if v.isLink() || v.file.Size <= wholePull {
			w.whole = w.whole[:0]
			if err = w.inflate(v, w.large, nil, true); err == nil {
				err = w.verify(v, c)
			}
			if err != nil {
				return err
			}
			return w.stageBare(v, c)
		}
		return w.streamBare(v, c, w.large)
	}
	f, err := w.create(TypeFile, &c)
	if err != nil {
		return err
	}
	w.out = stored{w: w.contentWriter, f: f, buf: w.out.buf[:0]}
	w.large.Reset(io.TeeReader(src, &w.out))
	v, err := w.begin(w.large)
	if err == nil {
		err = w.inflate(v, w.large, nil, false)
	}
	if err == nil {
		err = w.verify(v, c)
	}
	if err == nil {
		err = w.out.flush()
	}
	if err := w.shelf.finish(f, err, 0o644); err != nil {
		return err
	}
	w.wrote(w.out.done)
	w.shelf.staged(TypeFile, &c)
	return nil
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

// inflate reads a file's content into its checksums, into sink unless that is
// nil, and into w.whole if keep.
func (w *pullWorker) inflate(v *pulledFile, src io.Reader, sink io.Writer, keep bool) error {
	w.flate.Reset(src)
	left := v.file.Size
	for !v.isLink() {
		piece, err := w.flate.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return inflateError(err)
		}
		if left -= int64(len(piece)); left < 0 {
			return corruptf("content goes on behind its length of %d bytes", v.file.Size)
		}
		for i := range v.orders {
			w.sums[i].Write(piece)
		}
		if keep {
			w.whole = append(w.whole, piece...)
		}
		if sink != nil {
			if _, err := sink.Write(piece); err != nil {
				return err
			}
		}
	}
	if left > 0 {
		return corruptf("content ends %d bytes early", left)
	}
	more, err := w.flate.Rest()
	if err != nil {
		return err
	}
	if more {
		return corruptf("bytes follow the content")
	}
	return nil
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

// object makes of a verified header what writing needs.
func (w *pullWorker) object(v *pulledFile, c Checksum) (object, error) {
	f := v.file
	o := object{Entry: &Entry{Path: c.String(), Mode: f.Mode, UID: f.UID, GID: f.GID, Target: f.Target, Xattrs: f.Xattrs, Size: f.Size}, xattrs: v.orders[v.order]}
	if mode := w.repo.settings.mode; v.order > 0 && mode != ModeBareUser {
		// Attributes of a file system have no order.
		return o, fmt.Errorf("its checksum is over attributes out of order, which a %s repository can't keep: %w", mode, errUnsupported)
	}
	return o, nil
}

// stageBare stages a verified file, whose content is in w.whole, in a repository
// that does not compress.
func (w *pullWorker) stageBare(v *pulledFile, c Checksum) error {
	o, err := w.object(v, c)
	if err != nil {
		return err
	}
	if v.isLink() && w.repo.settings.mode.hasLinks() {
		name, err := w.name(TypeFile, &c)
		if err == nil {
			err = w.symlinkAs(o, name)
		}
		if err != nil {
			return err
		}
		w.shelf.staged(TypeFile, &c)
		return nil
	}
	data := w.whole
	if v.isLink() {
		data = append([]byte(o.Target), 0)
	}
	if err := w.txn.take(int64(len(data))); err != nil {
		return err
	}
	f, err := w.create(TypeFile, &c)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := w.finishBare(o, f, err); err != nil {
		return err
	}
	w.wrote(int64(len(data)))
	w.shelf.staged(TypeFile, &c)
	return nil
}

// streamBare stages a file while it is inflated and verified, in a repository
// that does not compress.
func (w *pullWorker) streamBare(v *pulledFile, c Checksum, src io.Reader) error {
	if err := w.txn.take(v.file.Size); err != nil {
		return err
	}
	f, err := w.create(TypeFile, &c)
	if err != nil {
		return err
	}
	if err = w.inflate(v, src, f, false); err == nil {
		err = w.verify(v, c)
	}
	o := object{Entry: &Entry{}}
	if err == nil {
		o, err = w.object(v, c)
	}
	if err := w.finishBare(o, f, err); err != nil {
		return err
	}
	w.wrote(v.file.Size)
	w.shelf.staged(TypeFile, &c)
	return nil
}
