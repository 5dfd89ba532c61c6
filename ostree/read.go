package ostree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/okd-project/okd-streams/internal/inflate"
	"github.com/okd-project/okd-streams/internal/unix"
)

// ext is the extension of an object's file in this repository.
func (r *Repo) ext(t ObjectType) string {
	if t == TypeFile && r.settings.mode == ModeArchive {
		return "filez"
	}
	return t.String()
}

func (r *Repo) objectPath(t ObjectType, c Checksum) string {
	return string(appendObjectPath(make([]byte, 0, 96), &c, r.ext(t)))
}

// Has reports whether the repository, or its parent, holds an object. It does
// not read it.
func (r *Repo) Has(ctx context.Context, t ObjectType, c Checksum) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	ok, err := r.hasPath(t, r.objectPath(t, c))
	if err != nil {
		return false, &Error{Op: "look up", Target: objectName(t, c), Err: err}
	}
	if !ok && r.parent != nil {
		return r.parent.Has(ctx, t, c)
	}
	return ok, nil
}

func (r *Repo) hasPath(t ObjectType, p string) (bool, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(r.objects, p, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return false, nil
	case err != nil:
		return false, pathError("stat", p, err)
	case !r.settings.mode.fits(t, st.Mode):
		return false, fmt.Errorf("objects/%s is not a regular file", p)
	}
	return true, nil
}

// Object gives the exact bytes of a metadata object: commit, dirtree, dirmeta
// or commitmeta. Their checksum is verified, that of commitmeta excepted, which
// has none. Content objects wrap [errors.ErrUnsupported]; see [Repo.ReadFile].
func (r *Repo) Object(ctx context.Context, t ObjectType, c Checksum) ([]byte, error) {
	data, err := r.object(ctx, t, c)
	if err != nil {
		return nil, &Error{Op: "read", Target: objectName(t, c), Err: err}
	}
	return data, nil
}

func (r *Repo) object(ctx context.Context, t ObjectType, c Checksum) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch t {
	case TypeCommit, TypeDirTree, TypeDirMeta, TypeCommitMeta:
	default:
		return nil, fmt.Errorf("is no metadata object: %w", errUnsupported)
	}
	data, err := readFileAt(r.objects, r.objectPath(t, c), MaxMetadataSize)
	if r.parent != nil && errors.Is(err, fs.ErrNotExist) {
		return r.parent.object(ctx, t, c)
	}
	if err != nil {
		return nil, err
	}
	if t != TypeCommitMeta {
		if got := sum(data); got != c {
			return nil, corruptf("checksum is %s", got)
		}
	}
	return data, nil
}

// read reads and decodes a metadata object.
func read[T any](ctx context.Context, r *Repo, t ObjectType, c Checksum, decode func([]byte) (T, error)) (T, error) {
	data, err := r.object(ctx, t, c)
	if err == nil {
		var v T
		if v, err = decode(data); err == nil {
			return v, nil
		}
	}
	var zero T
	return zero, &Error{Op: "read", Target: objectName(t, c), Err: err}
}

// ReadCommit reads a commit object.
func (r *Repo) ReadCommit(ctx context.Context, c Checksum) (*Commit, error) {
	return read(ctx, r, TypeCommit, c, DecodeCommit)
}

// ReadDirTree reads a dirtree object.
func (r *Repo) ReadDirTree(ctx context.Context, c Checksum) (*DirTree, error) {
	return read(ctx, r, TypeDirTree, c, DecodeDirTree)
}

// ReadDirMeta reads a dirmeta object.
func (r *Repo) ReadDirMeta(ctx context.Context, c Checksum) (*DirMeta, error) {
	return read(ctx, r, TypeDirMeta, c, DecodeDirMeta)
}

// ReadMetadata reads a commit's detached metadata. The error wraps
// [fs.ErrNotExist] if it has none.
func (r *Repo) ReadMetadata(ctx context.Context, c Checksum) ([]MetadataItem, error) {
	return read(ctx, r, TypeCommitMeta, c, DecodeMetadata)
}

// maxTarget bounds a symbolic link's target, which Linux bounds at 4095 bytes.
const maxTarget = 64 << 10

// ReadFile reads a content object's header; [File].Open gives its content. A
// symbolic link is verified at once, a regular file's content by the time its
// reader reports [io.EOF].
func (r *Repo) ReadFile(ctx context.Context, c Checksum) (*File, error) {
	f, err := r.readFile(ctx, c)
	if err != nil {
		return nil, &Error{Op: "read", Target: objectName(TypeFile, c), Err: err}
	}
	return f, nil
}

func (r *Repo) readFile(ctx context.Context, c Checksum) (*File, error) {
	o, err := r.openContent(ctx, c)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	f := o.file
	if f.Mode&ModeType == ModeSymlink {
		if err := f.verifyHeader(c); err != nil {
			return nil, err
		}
		return f, nil
	}
	f.Open = func(ctx context.Context) (io.ReadCloser, error) {
		body, err := r.openBody(ctx, c)
		if err != nil {
			return nil, &Error{Op: "read", Target: objectName(TypeFile, c), Err: err}
		}
		return body, nil
	}
	return f, nil
}

// verifyHeader verifies an object that is all header.
func (f *File) verifyHeader(c Checksum) error {
	for _, x := range f.xattrOrders() {
		if sum(appendFileHeader(nil, f.UID, f.GID, f.Mode, f.Target, x)) == c {
			return nil
		}
	}
	return corruptf("checksum is %s", f.headerChecksum())
}

// xattrOrders are the serialized attributes that the checksum may be over:
// sorted, and, for objects that libostree wrote before 2024, as stored.
func (f *File) xattrOrders() [][]byte {
	orders := [][]byte{marshalXattrs(sortedXattrs(f.Xattrs))}
	if !slices.IsSortedFunc(f.Xattrs, compareXattrs) {
		orders = append(orders, marshalXattrs(f.Xattrs))
	}
	return orders
}

// opened is a content object whose header was read.
type opened struct {
	*rawFile               // stands where the stored content begins, in an archive anywhere; closed for a symbolic link that is one itself
	repo     *Repo         // that has the object
	file     *File         // without Open
	stored   *storedObject // of an archive, until it is closed or its body is made
}

// Close releases what body does not have.
func (o *opened) Close() error {
	o.stored.release()
	o.stored = nil
	return o.rawFile.Close()
}

// openContent opens a content object and reads its header.
func (r *Repo) openContent(ctx context.Context, c Checksum) (_ *opened, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mode := r.settings.mode
	p := r.objectPath(TypeFile, c)
	fd, err := openat(r.objects, p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		if !mode.hasLinks() {
			return nil, corruptf("not a regular file")
		}
		f, err := r.readLink(p, c)
		return &opened{rawFile: &rawFile{-1, p}, repo: r, file: f}, err
	}
	if r.parent != nil && errors.Is(err, fs.ErrNotExist) {
		return r.parent.openContent(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	o := &opened{rawFile: &rawFile{fd, p}, repo: r}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, pathError("stat", p, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, corruptf("not a regular file")
	}
	switch mode {
	case ModeArchive:
		o.stored = newStored(o.rawFile, st.Size)
		o.file, err = readFilez(o.stored)
	case ModeBareUser:
		o.file, err = readBareUser(o.rawFile, st.Size)
	default:
		o.file, err = r.readBare(&st, c, func() ([]Xattr, error) { return fileXattrs(fd) })
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// readLink reads the object of a symbolic link that is one itself.
func (r *Repo) readLink(p string, c Checksum) (*File, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(r.objects, p, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return nil, pathError("stat", p, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil, fmt.Errorf("%s: changed while it was opened", p)
	}
	f, err := r.readBare(&st, c, func() ([]Xattr, error) { return linkXattrs(r.objects, p) })
	if err != nil {
		return nil, err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(r.objects, p, buf)
	if err != nil {
		return nil, pathError("readlink", p, err)
	}
	f.Size, f.Target = 0, string(buf[:n])
	if err := checkFile(f.Mode, f.Target, f.Xattrs); err != nil {
		return nil, corrupt(err)
	}
	return f, nil
}

// readBare makes the header of an object that is the file itself; xattrs reads
// its own attributes.
func (r *Repo) readBare(st *unix.Stat_t, c Checksum, xattrs func() ([]Xattr, error)) (_ *File, err error) {
	f := &File{UID: st.Uid, GID: st.Gid, Mode: st.Mode, Size: st.Size}
	switch {
	case r.settings.mode == ModeBareUserOnly:
		f.UID, f.GID = 0, 0
	case r.settings.mode == ModeBareSplitXattrs:
		var data []byte
		if data, err = readFileAt(r.objects, r.objectPath(TypeFileXattrsLink, c), maxHeaderSize); errors.Is(err, fs.ErrNotExist) {
			return nil, corruptf("has no %s", TypeFileXattrsLink)
		}
		if err == nil {
			f.Xattrs, err = decodeXattrs(data)
		}
	case !r.settings.noXattrs:
		f.Xattrs, err = xattrs()
	}
	return f, err
}

// readFilez reads the header of an archive object.
func readFilez(r io.Reader) (*File, error) {
	var prefix [headerPrefix]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, short(err)
	}
	n, err := decodeFilezPrefix(prefix[:])
	if err != nil {
		return nil, err
	}
	// A length that the file does not have is found before it is allocated.
	header, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(header) != n {
		return nil, corruptf("ends in its header, %d of %d bytes", len(header), n)
	}
	return decodeFilezHeader(header)
}

func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corruptf("ends early")
	}
	return err
}

// metaAttribute holds a bare-user object's owner, mode and attributes, in the
// form of a dirmeta object but with the mode of a file.
const metaAttribute = "user.ostreemeta"

// readBareUser reads the attribute, and the target of a symbolic link, which is
// the file's content with a NUL behind it.
func readBareUser(raw *rawFile, size int64) (*File, error) {
	data, err := fgetxattr(raw.fd, metaAttribute, maxHeaderSize)
	if err == unix.ENODATA {
		return nil, corruptf("no attribute %s", metaAttribute)
	}
	if err != nil {
		return nil, pathError("getxattr "+metaAttribute, raw.name, err)
	}
	f := &File{Size: size}
	if f.UID, f.GID, f.Mode, f.Xattrs, err = decodeMeta(data); err != nil {
		return nil, err
	}
	if f.Mode&ModeType == ModeSymlink {
		f.Size = 0
		if size > maxTarget {
			return nil, corruptf("link target of %d bytes, at most %d", size, maxTarget)
		}
		target, err := io.ReadAll(io.LimitReader(raw, maxTarget))
		if err != nil {
			return nil, err
		}
		f.Target = strings.TrimSuffix(string(target), "\x00")
		if strings.Contains(f.Target, "\x00") {
			return nil, corruptf("link target %.80q contains NUL", f.Target)
		}
	}
	if err := checkFile(f.Mode, f.Target, f.Xattrs); err != nil {
		return nil, corrupt(err)
	}
	return f, nil
}

// openBody opens a regular file's content.
func (r *Repo) openBody(ctx context.Context, c Checksum) (io.ReadCloser, error) {
	o, err := r.openContent(ctx, c)
	if err != nil {
		return nil, err
	}
	if o.file.Mode&ModeType != ModeRegular {
		o.Close()
		return nil, corruptf("is no regular file any more")
	}
	return o.body(ctx, c), nil
}

// body is o's content, which verifies at its end that the object has checksum c.
// It closes o.
func (o *opened) body(ctx context.Context, c Checksum) *body {
	b, f := o.unverified(ctx, c), o.file
	for _, x := range f.xattrOrders() {
		h := sha256.New()
		h.Write(appendFileHeader(nil, f.UID, f.GID, f.Mode, f.Target, x))
		b.hashes = append(b.hashes, h)
	}
	return b
}

// unverified is body for those that hash the content themselves.
func (o *opened) unverified(ctx context.Context, c Checksum) *body {
	b := &body{ctx: ctx, name: c, raw: o.rawFile, src: o.rawFile, left: o.file.Size, want: c}
	if o.stored != nil {
		b.stored, o.stored = o.stored, nil
		b.stored.inflater.Reset(b.stored)
		b.src = b.stored.inflater
	}
	return b
}

// body is a content object's content. It verifies at its end.
type body struct {
	ctx    context.Context
	name   Checksum
	raw    *rawFile
	stored *storedObject // of an archive object
	src    io.Reader
	hashes []hash.Hash
	left   int64
	want   Checksum
	err    error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	return n, b.end(err)
}

// next gives the next bytes, at the end [io.EOF], until the next call; buf is for
// those that can't be given without a copy.
func (b *body) next(buf []byte) ([]byte, error) {
	if b.stored == nil || b.left == 0 || b.err != nil {
		n, err := b.Read(buf)
		return buf[:n], err
	}
	if err := b.ctx.Err(); err != nil {
		return nil, b.end(err)
	}
	piece, err := b.stored.inflater.Next()
	if int64(len(piece)) > b.left {
		return nil, b.end(corruptf("content goes on behind its length"))
	}
	return piece, b.end(b.took(piece, err))
}

// end notes an error and gives it as the caller gets it.
func (b *body) end(err error) error {
	if err != nil && err != io.EOF {
		err = &Error{Op: "read", Target: objectName(TypeFile, b.name), Err: err}
	}
	b.err = err
	return err
}

func (b *body) read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left == 0 {
		// One byte more says whether the content goes on.
		var more [1]byte
		n, err := io.ReadFull(b.src, more[:])
		switch {
		case n > 0:
			return 0, corruptf("content goes on behind its length")
		case err != io.EOF:
			return 0, inflateError(err)
		}
		if len(b.hashes) == 0 {
			return 0, io.EOF
		}
		for _, h := range b.hashes {
			if Checksum(h.Sum(nil)) == b.want {
				return 0, io.EOF
			}
		}
		return 0, corruptf("checksum is %x", b.hashes[0].Sum(nil))
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	return n, b.took(p[:n], err)
}

// took accounts for a piece that the source gave with err.
func (b *body) took(piece []byte, err error) error {
	for _, h := range b.hashes {
		h.Write(piece)
	}
	b.left -= int64(len(piece))
	switch {
	case err == io.EOF && b.left > 0:
		return corruptf("content ends %d bytes early", b.left)
	case err == io.EOF:
		return nil // the next call verifies
	case err != nil:
		return inflateError(err)
	}
	return nil
}

// inflateError says that broken DEFLATE data is corrupt.
func inflateError(err error) error {
	var broken flate.CorruptInputError
	if errors.As(err, &broken) || errors.Is(err, inflate.ErrCorrupt) || err == io.ErrUnexpectedEOF {
		return corrupt(err)
	}
	return err
}

func (b *body) Close() error {
	if b.raw == nil {
		return fs.ErrClosed
	}
	b.stored.release()
	err := b.raw.Close()
	b.raw, b.stored, b.src = nil, nil, nil
	b.err = fs.ErrClosed
	return err
}
