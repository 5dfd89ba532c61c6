package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
)

// Bounds of what a layer may have, in bytes.
const (
	maxImportObject = 64 << 20 // a metadata object, as far as images carry them
	maxImportXattrs = 1 << 20  // the attributes of one file, as the reference
	maxSharedXattrs = 64 << 20 // all that a layer shares among files
)

// maxImportEntries bounds the entries of one layer.
const maxImportEntries = 4 << 20

// layerStream is a layer's tar stream. What was read counts only once end has
// verified digest, size and diff ID.
type layerStream struct {
	layer builtLayer
	rc    io.ReadCloser
	ahead *verify.Ahead
	plain io.ReadCloser
	hash  hash.Hash
	room  *atomic.Int64 // bytes that all layers may still have, uncompressed
	fetch *atomic.Int64 // compressed bytes read, for statistics
}

// openLayer opens a layer's tar stream.
func openLayer(ctx context.Context, l builtLayer, room, fetch *atomic.Int64) (*layerStream, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	checked, err := verify.NewReader(contextReader{ctx, rc}, l.descriptor.Digest, l.descriptor.Size)
	if err != nil {
		rc.Close()
		return nil, err
	}
	s := &layerStream{layer: l, rc: rc, ahead: verify.NewAhead(checked), hash: sha256.New(), room: room, fetch: fetch}
	if s.plain, err = decompress.NewReader(s.ahead); err != nil {
		s.ahead.Close()
		rc.Close()
		return nil, err
	}
	return s, nil
}

func (s *layerStream) Read(p []byte) (int, error) {
	n, err := s.plain.Read(p)
	s.hash.Write(p[:n])
	if s.room.Add(-int64(n)) < 0 {
		return n, fmt.Errorf("layers are larger than allowed together: %w", ostree.ErrCorrupt)
	}
	return n, err
}

// end reads what is left, which must be nothing but NULs, and verifies the layer.
func (s *layerStream) end() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return fmt.Errorf("data after the end of the archive: %w", ostree.ErrCorrupt)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	// What the decompressor did not ask for counts for the digest as well.
	if _, err := io.Copy(io.Discard, s.ahead); err != nil {
		return err
	}
	if got := sum256(s.hash); got != s.layer.diffID {
		return fmt.Errorf("diff ID is %s, config says %s: %w", got, s.layer.diffID, ostree.ErrCorrupt)
	}
	return nil
}

func (s *layerStream) close() {
	s.fetch.Add(s.ahead.Count())
	s.plain.Close()
	s.rc.Close()
	s.ahead.Close()
}

// repoPrefix is where images carry their repository.
const repoPrefix = "sysroot/ostree/repo/"

// objectSink takes what a layer of a base image has. Errors get the entry's name.
type objectSink interface {
	// commit takes the commit object, which comes first, and detached its detached
	// metadata, if it has any. What follows is taken once judge agrees to both.
	commit(c ostree.Checksum, data []byte) error
	detached(data []byte) error
	judge(ctx context.Context) error
	metadata(ctx context.Context, kind ostree.ObjectType, c ostree.Checksum, data []byte) error
	file(ctx context.Context, f *ostree.ReceivedFile) error
}

// objectReader reads the repository in a layer, in any of the dialects: v0, v1a
// and v1b. Beside it a layer has hard links to its objects, empty files and
// directories, and nothing else.
type objectReader struct {
	sink    objectSink
	first   bool // the layer begins with the commit
	objects map[ostree.Checksum]struct{}
	seen    map[pathKey]struct{} // what else was there
	// shared are attributes that several files have (v0, v1a), by checksum.
	shared     map[ostree.Checksum][]byte
	sharedSize int
	// What came before a content object.
	next    ostree.Checksum
	xattrs  []byte
	pending bool
	found   ostree.Checksum // the commit
	name    string          // its entry's
	judged  bool            // by the sink
}

// entryError names an entry of a layer.
type entryError struct {
	name string
	err  error
}

func (e *entryError) Error() string { return fmt.Sprintf("%.300q: %s", e.name, e.err) }
func (e *entryError) Unwrap() error { return e.err }

// readObjects reads a whole layer. isCommit: it is the one that begins with the
// commit, whose checksum is given.
func readObjects(ctx context.Context, r io.Reader, isCommit bool, sink objectSink) (ostree.Checksum, error) {
	o := &objectReader{
		sink: sink, first: isCommit, objects: map[ostree.Checksum]struct{}{}, seen: map[pathKey]struct{}{}, shared: map[ostree.Checksum][]byte{},
	}
	tr := tar.NewReader(onlyReader{r})
	for entries := 0; ; entries++ {
		if err := ctx.Err(); err != nil {
			return o.found, context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, tar.ErrInsecurePath) {
			err = nil // a debug setting of Go's; cleanName decides
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return o.found, fmt.Errorf("after %d entries: %w", entries, importTarFault(err))
		}
		if entries >= maxImportEntries {
			return o.found, fmt.Errorf("over %d entries: %w", maxImportEntries, ostree.ErrCorrupt)
		}
		if err := o.entry(ctx, h, tr); err != nil {
			if _, ok := errors.AsType[*entryError](err); ok {
				return o.found, err // of an entry before
			}
			return o.found, &entryError{h.Name, err}
		}
	}
	switch {
	case o.pending:
		return o.found, fmt.Errorf("attributes of %s.file, which does not come: %w", o.next, ostree.ErrCorrupt)
	case isCommit && o.found.IsZero():
		return o.found, fmt.Errorf("no commit: %w", ostree.ErrCorrupt)
	}
	return o.found, o.judge(ctx)
}

// onlyReader hides other methods: archive/tar would seek over what is to be
// hashed.
type onlyReader struct{ io.Reader }

// importTarFault is err as it is told: errors of archive/tar and early ends are
// damage, others are the source's own.
func importTarFault(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("%w: %w", err, ostree.ErrCorrupt)
	}
	return err
}

func (o *objectReader) entry(ctx context.Context, h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	path, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if readers.Sparse(h) {
		return errSparse
	}
	rel, inside := strings.CutPrefix(path, repoPrefix)
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg, tar.TypeLink:
		if !inside {
			return o.outside(path, h)
		}
	case tar.TypeSymlink:
		// Only objects are; a folder of the repository that is a link would lead
		// whoever unpacks the layer elsewhere.
		if !inside || !strings.HasPrefix(rel, "objects/") || !strings.HasSuffix(rel, ".file") {
			return fmt.Errorf("symbolic link to %.200q: %w", h.Linkname, fs.ErrInvalid)
		}
	default:
		return fmt.Errorf("entry of type %q: %w", h.Typeflag, errors.ErrUnsupported)
	}
	switch {
	case rel == "config", strings.HasPrefix(rel, "refs/"):
		return nil
	case strings.HasPrefix(rel, "xattrs/"):
		c, err := ostree.ParseChecksum(rel[len("xattrs/"):])
		if err != nil {
			return err
		}
		_, err = o.share(h, body, c)
		return err
	case strings.HasPrefix(rel, "objects/"):
		return o.object(ctx, h, rel[len("objects/"):], body)
	}
	return fmt.Errorf("is no object: %w", fs.ErrInvalid)
}

// pathKey stands for a path: the beginning of its SHA-256.
type pathKey [16]byte

// once refuses a path that was there before.
func (o *objectReader) once(path string) error {
	sum := sha256.Sum256([]byte(path))
	key := pathKey(sum[:len(pathKey{})])
	if _, ok := o.seen[key]; ok {
		return fmt.Errorf("comes twice: %w", fs.ErrExist)
	}
	o.seen[key] = struct{}{}
	return nil
}

// outside checks what is beside the repository.
func (o *objectReader) outside(path string, h *tar.Header) error {
	if _, name := splitPath(path); strings.HasPrefix(name, whiteout) {
		return fmt.Errorf("whiteout in a layer of the commit: %w", fs.ErrInvalid)
	}
	if err := o.once(path); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		if h.Size != 0 {
			return fmt.Errorf("file of %d bytes that is no object in a layer of the commit: %w", h.Size, fs.ErrInvalid)
		}
		return nil
	}
	c, kind, err := linkedObject(h.Linkname)
	if err != nil {
		return err
	}
	if _, ok := o.objects[c]; kind != "file" || !ok {
		return fmt.Errorf("hard link to %.200q, which the layer does not have: %w", h.Linkname, fs.ErrNotExist)
	}
	return nil
}

// linkedObject gives the object that a hard link names.
func linkedObject(name string) (c ostree.Checksum, kind string, err error) {
	path, err := cleanName(name)
	if err != nil {
		return c, "", fmt.Errorf("hard link to %.200q: %w", name, err)
	}
	rel, ok := strings.CutPrefix(path, repoPrefix+"objects/")
	if !ok {
		return c, "", fmt.Errorf("hard link to %.200q, which is no object: %w", name, fs.ErrInvalid)
	}
	return importObjectName(rel)
}

// importObjectName reads an object's path below objects/.
func importObjectName(rel string) (c ostree.Checksum, kind string, err error) {
	if len(rel) > 66 && rel[2] == '/' && rel[65] == '.' {
		if c, err = ostree.ParseChecksum(rel[:2] + rel[3:65]); err == nil {
			return c, rel[66:], nil
		}
	}
	return c, "", fmt.Errorf("is no object's name: %w", fs.ErrInvalid)
}

// object reads an object of the repository.
func (o *objectReader) object(ctx context.Context, h *tar.Header, rel string, body io.Reader) error {
	c, kind, err := importObjectName(rel)
	if err != nil {
		return err
	}
	if kind != "file" {
		if err := o.once(repoPrefix + "objects/" + rel); err != nil {
			return err
		}
	}
	if o.pending && (kind != "file" || c != o.next) {
		return fmt.Errorf("comes after the attributes of %s.file: %w", o.next, ostree.ErrCorrupt)
	}
	if o.first && o.found.IsZero() && kind != "commit" {
		return fmt.Errorf("comes before the commit: %w", ostree.ErrCorrupt)
	}
	if kind != "commit" && kind != "commitmeta" {
		if err := o.judge(ctx); err != nil {
			return err
		}
	}
	switch kind {
	case "commit":
		if !o.first || !o.found.IsZero() {
			return fmt.Errorf("a commit, where none may be: %w", ostree.ErrCorrupt)
		}
		data, err := regular(h, body, maxImportObject)
		if err != nil {
			return err
		}
		o.found, o.name = c, h.Name
		return o.sink.commit(c, data)
	case "commitmeta":
		if c != o.found || o.judged {
			return fmt.Errorf("does not come after its commit: %w", ostree.ErrCorrupt)
		}
		data, err := regular(h, body, maxImportObject)
		if err != nil {
			return err
		}
		return o.sink.detached(data)
	case "dirtree", "dirmeta":
		if !o.first {
			return fmt.Errorf("metadata object in a layer of content: %w", ostree.ErrCorrupt)
		}
		data, err := regular(h, body, maxImportObject)
		if err != nil {
			return err
		}
		if kind == "dirtree" {
			return o.sink.metadata(ctx, ostree.TypeDirTree, c, data)
		}
		return o.sink.metadata(ctx, ostree.TypeDirMeta, c, data)
	case "file-xattrs":
		_, err := o.share(h, body, c)
		return err
	case "file-xattrs-link", "file.xattrs":
		return o.link(h, body, c, kind)
	case "file":
		return o.file(ctx, h, body, c)
	}
	return fmt.Errorf("object of kind %.80q: %w", kind, errors.ErrUnsupported)
}

// judge has the commit judged once it is known whether detached metadata follows:
// at the entry after them, of which a fault is not.
func (o *objectReader) judge(ctx context.Context) error {
	if o.judged || o.found.IsZero() {
		return nil
	}
	o.judged = true
	if err := o.sink.judge(ctx); err != nil {
		return &entryError{o.name, err}
	}
	return nil
}

// regular reads a whole regular file of at most limit bytes. What the header
// claims is not allocated before it came.
func regular(h *tar.Header, body io.Reader, limit int64) ([]byte, error) {
	if h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("is no regular file: %w", fs.ErrInvalid)
	}
	if h.Size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", h.Size, limit, ostree.ErrCorrupt)
	}
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(body, limit+1))
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, importTarFault(err)
	}
	return buf.Bytes(), nil
}

// share reads attributes that files name by their checksum.
func (o *objectReader) share(h *tar.Header, body io.Reader, c ostree.Checksum) ([]byte, error) {
	data, err := regular(h, body, maxImportXattrs)
	if err != nil {
		return nil, err
	}
	if got := ostree.Checksum(sha256.Sum256(data)); got != c {
		return nil, fmt.Errorf("checksum is %s: %w", got, ostree.ErrCorrupt)
	}
	if o.sharedSize += len(data); o.sharedSize > maxSharedXattrs {
		return nil, fmt.Errorf("attributes of over %d bytes together: %w", maxSharedXattrs, ostree.ErrCorrupt)
	}
	o.shared[c] = data
	return data, nil
}

// link reads what says which attributes the next content object has: their bytes
// (v1b), or a hard link to them (v1a and, from another place, v0).
func (o *objectReader) link(h *tar.Header, body io.Reader, c ostree.Checksum, kind string) error {
	if h.Typeflag == tar.TypeReg && kind == "file-xattrs-link" {
		data, err := regular(h, body, maxImportXattrs)
		o.next, o.xattrs, o.pending = c, data, true
		return err
	}
	if h.Typeflag != tar.TypeLink {
		return fmt.Errorf("is neither a file nor a hard link: %w", fs.ErrInvalid)
	}
	var to ostree.Checksum
	path, err := cleanName(h.Linkname)
	if name, ok := strings.CutPrefix(path, repoPrefix+"xattrs/"); err == nil && ok {
		to, err = ostree.ParseChecksum(name)
	} else if err == nil {
		var linked string
		if to, linked, err = linkedObject(h.Linkname); err == nil && linked != "file-xattrs" {
			err = fs.ErrInvalid
		}
	}
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
	}
	data, ok := o.shared[to]
	if !ok {
		return fmt.Errorf("hard link to %.200q, which the layer does not have: %w", h.Linkname, fs.ErrNotExist)
	}
	o.next, o.xattrs, o.pending = c, data, true
	return nil
}

// file hands a content object over.
func (o *objectReader) file(ctx context.Context, h *tar.Header, body io.Reader, c ostree.Checksum) error {
	if _, ok := o.objects[c]; ok {
		return fmt.Errorf("comes twice: %w", fs.ErrExist)
	}
	o.objects[c] = struct{}{}
	f := &ostree.ReceivedFile{Name: h.Name, Checksum: c, Mode: uint32(h.Mode & 0o7777), Xattrs: o.xattrs}
	o.xattrs, o.pending = nil, false
	var err error
	if f.UID, f.GID, err = importOwner(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f.Mode |= ostree.ModeRegular
		f.Size, f.Body = h.Size, body
	case tar.TypeSymlink:
		f.Mode |= ostree.ModeSymlink
		f.Target = h.Linkname
	default:
		return fmt.Errorf("is neither a file nor a symbolic link: %w", fs.ErrInvalid)
	}
	return importTarFault(o.sink.file(ctx, f))
}

// importOwner gives a header's user and group.
func importOwner(h *tar.Header) (uid, gid uint32, err error) {
	const most = 1<<32 - 1
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > most || int64(h.Gid) > most {
		return 0, 0, fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, fs.ErrInvalid)
	}
	return uint32(h.Uid), uint32(h.Gid), nil
}

// errSparse is the fault of a file with holes, whose size is only a claim.
var errSparse = fmt.Errorf("sparse file: %w", errors.ErrUnsupported)
