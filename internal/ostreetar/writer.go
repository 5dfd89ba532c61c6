package ostreetar

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Block is the size of a header and the unit that content is padded to, in
// bytes.
const Block = 512

const (
	repoDir    = "sysroot/ostree/repo"
	objectsDir = repoDir + "/objects/"
	repoConfig = "[core]\nrepo_version=1\nmode=bare-split-xattrs\n"
	// The only attribute that gets no PAX record: container tools would apply
	// it to the file, and the label of the running system is not theirs.
	selinux = "security.selinux"
)

// Header field offsets of the ustar and GNU formats.
const (
	offName  = 0
	offMode  = 100
	offUID   = 108
	offGID   = 116
	offSize  = 124
	offMtime = 136
	offSum   = 148
	offType  = 156
	offLink  = 157
	offMagic = 257
)

type header [Block]byte

func (h *header) name() *[fieldSize]byte { return (*[fieldSize]byte)(h[offName:]) }
func (h *header) link() *[fieldSize]byte { return (*[fieldSize]byte)(h[offLink:]) }

// newHeader gives a GNU header without name.
func newHeader(kind byte, uid, gid, mode uint32, size int64) header {
	var h header
	copy(h[offMagic:], "ustar  \x00")
	h[offType] = kind
	octal(h[offMode:offUID], uint64(mode&0o7777))
	number(h[offUID:offGID], uint64(uid))
	number(h[offGID:offSize], uint64(gid))
	number(h[offSize:offMtime], uint64(size))
	octal(h[offMtime:offSum], 0)
	return h
}

// seal writes the checksum: the sum of all bytes, its own field as spaces.
func (h *header) seal() {
	sum := uint64(0)
	for i, b := range h {
		if i >= offSum && i < offType {
			b = ' '
		}
		sum += uint64(b)
	}
	octal(h[offSum:offType], sum)
}

// Xattr is one extended attribute; Name has no NUL.
type Xattr struct {
	Name  string
	Value []byte
}

// Object is a content object: a regular file or a symbolic link.
type Object struct {
	// Checksum is 64 lower-case hexadecimal digits.
	Checksum       string
	UID, GID, Mode uint32 // Mode: permission bits; others are dropped
	Symlink        bool
	Target         string // of a symbolic link
	Size           int64  // of a regular file's content, in bytes
	// Xattrs are sorted by name; RawXattrs is their GVariant a(ayay).
	Xattrs    []Xattr
	RawXattrs []byte
}

// Writer writes one layer. After an error it only repeats that error. It is
// not safe for concurrent use.
type Writer struct {
	// Compat has the targets of links lose what the reference's do: see the package
	// comment.
	Compat bool

	w       io.Writer
	err     error
	current header // of the last object; its links start from a copy
	target  string // the path of the last object
	empty   bool   // the last object is a regular file without content
	have    bool
	// shared are the attributes that the layer has, by checksum; nil: each object
	// has its own (v1b).
	shared map[[sha256.Size]byte]struct{}
	pax    []byte
	buf    []byte // for copying content
	zero   [2 * Block]byte
}

// copySize is how much content is read at a time.
const copySize = 64 << 10

// NewWriter writes v1b to w; w is not closed, and gets many small writes.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// NewWriterV1a is [NewWriter] for v1a.
func NewWriterV1a(w io.Writer) *Writer {
	return &Writer{w: w, shared: make(map[[sha256.Size]byte]struct{})}
}

// Repository writes the directories and the config file of the repository.
func (t *Writer) Repository() error {
	dirs := []string{"sysroot", "sysroot/ostree", repoDir, strings.TrimSuffix(objectsDir, "/")}
	for _, d := range dirs {
		t.directory(d, 0, 0, 0o755)
	}
	const hex = "0123456789abcdef"
	for i := range 256 {
		t.directory(objectsDir+string([]byte{hex[i>>4], hex[i&15]}), 0, 0, 0o755)
	}
	for _, d := range []string{
		"extensions", "refs", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "tmp/cache",
	} {
		t.directory(repoDir+"/"+d, 0, 0, 0o755)
	}
	t.file(repoDir+"/config", []byte(repoConfig))
	return t.err
}

// Directory writes a directory entry. path is written as it is: "./" for the
// root, "./usr/lib" (the "./" shows only in names over 100 bytes) or "usr/lib".
func (t *Writer) Directory(path string, uid, gid, mode uint32) error {
	t.directory(path, uid, gid, mode)
	return t.err
}

func (t *Writer) directory(path string, uid, gid, mode uint32) {
	h := newHeader('5', uid, gid, mode, 0)
	t.named(&h, path)
}

// Metadata writes a metadata object; suffix is "commit", "commitmeta",
// "dirtree" or "dirmeta".
func (t *Writer) Metadata(checksum, suffix string, data []byte) error {
	if path, ok := t.objectPath(checksum, suffix); ok {
		t.file(path, data)
	}
	return t.err
}

// Object writes a content object with its extended attributes. A regular
// file's bytes come from content, which must have exactly o.Size of them.
func (t *Writer) Object(o *Object, content io.Reader) error {
	attrs, ok := t.objectPath(o.Checksum, "file-xattrs-link")
	if !ok {
		return t.err
	}
	if t.shared != nil {
		t.share(attrs, o.RawXattrs)
	} else {
		t.file(attrs, o.RawXattrs)
		t.paxHeader(o.Xattrs)
	}

	t.target, _ = t.objectPath(o.Checksum, "file")
	return t.entry(o, content)
}

// File writes a file at a path of the tree, without a repository: in an image
// that is no commit. [Writer.Path] then makes hard links to it.
func (t *Writer) File(path string, o *Object, content io.Reader) error {
	t.paxHeader(o.Xattrs)
	t.target = path
	return t.entry(o, content)
}

// Xattrs writes the attributes of the directory that comes next, without a
// repository.
func (t *Writer) Xattrs(xattrs []Xattr) error {
	t.paxHeader(xattrs)
	return t.err
}

// entry writes the object at t.target.
func (t *Writer) entry(o *Object, content io.Reader) error {
	t.have = true
	if o.Symlink {
		t.empty = false
		t.current = newHeader('2', o.UID, o.GID, o.Mode, 0)
		if !t.putTarget(t.current.link(), o.Target) {
			t.long('K', o.Target)
		}
		t.named(&t.current, t.target)
		return t.err
	}
	if o.Size < 0 {
		t.fail(fmt.Errorf("ostreetar: object %s has size %d", o.Checksum, o.Size))
		return t.err
	}
	t.empty = o.Size == 0
	t.current = newHeader('0', o.UID, o.GID, o.Mode, o.Size)
	t.named(&t.current, t.target)
	if t.err != nil || content == nil && o.Size == 0 {
		return t.err
	}
	if t.buf == nil {
		t.buf = make([]byte, copySize)
	}
	n, err := io.CopyBuffer(t.w, io.LimitReader(content, o.Size+1), t.buf)
	switch {
	case err != nil:
		t.fail(fmt.Errorf("ostreetar: object %s: %w", o.Checksum, err))
	case n != o.Size:
		t.fail(fmt.Errorf("ostreetar: object %s: content has not %d bytes, as its header says, but %s",
			o.Checksum, o.Size, map[bool]string{true: "more", false: fmt.Sprint(n)}[n > o.Size]))
	}
	t.pad(o.Size)
	return t.err
}

// Path writes the last object at a path of the tree, "usr/bin/true": a hard
// link, or for a file without content a regular entry, because a hard link to
// an empty file upsets some readers.
func (t *Writer) Path(path string) error {
	if t.err == nil && !t.have {
		t.fail(errors.New("ostreetar: path before any object"))
	}
	if t.err != nil {
		return t.err
	}
	h := t.current
	if !t.empty {
		h[offType] = '1'
		number(h[offSize:offMtime], 0)
		if !putPath(h.link(), t.target, true) {
			t.long('K', t.target)
		}
	}
	t.named(&h, path)
	return t.err
}

// Close writes the two blocks that end an archive.
func (t *Writer) Close() error {
	t.write(t.zero[:])
	if t.err == nil {
		t.err = errors.New("ostreetar: write after close")
		return nil
	}
	return t.err
}

func (t *Writer) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *Writer) write(b []byte) {
	if t.err == nil {
		_, t.err = t.w.Write(b)
	}
}

// named sets the header's name and writes both, with an L entry if needed.
func (t *Writer) named(h *header, path string) {
	if !putName(h.name(), path) {
		t.long('L', path)
	}
	h.seal()
	t.write(h[:])
}

// long writes an L or K entry.
func (t *Writer) long(kind byte, text string) {
	h := newHeader(kind, 0, 0, 0o644, int64(len(text))+1)
	copy(h[offName:], "././@LongLink")
	h.seal()
	t.write(h[:])
	t.write([]byte(text))
	t.write(t.zero[:1])
	t.pad(int64(len(text)) + 1)
}

// file writes a regular file of root's, 0644.
func (t *Writer) file(path string, data []byte) {
	h := newHeader('0', 0, 0, 0o644, int64(len(data)))
	t.named(&h, path)
	t.write(data)
	t.pad(int64(len(data)))
}

// share writes attributes that the layer does not have yet under their own
// checksum, and at path a hard link to them.
func (t *Writer) share(path string, xattrs []byte) {
	sum := sha256.Sum256(xattrs)
	target, _ := t.objectPath(hex.EncodeToString(sum[:]), "file-xattrs")
	if _, ok := t.shared[sum]; !ok {
		t.shared[sum] = struct{}{}
		t.file(target, xattrs)
	}
	h := newHeader('1', 0, 0, 0o644, 0)
	if !putName(h.name(), path) {
		t.long('L', path)
	}
	if !putPath(h.link(), target, true) {
		t.long('K', target)
	}
	h.seal()
	t.write(h[:])
}

// paxHeader writes the attributes that container tools can apply.
func (t *Writer) paxHeader(xattrs []Xattr) {
	t.pax = t.pax[:0]
	for _, x := range xattrs {
		if x.Name != selinux {
			t.pax = paxRecord(t.pax, "SCHILY.xattr."+x.Name, x.Value)
		}
	}
	if len(t.pax) == 0 {
		return
	}
	// A bare ustar header: mode, owner and name are left NUL.
	var h header
	copy(h[offMagic:], "ustar\x0000")
	h[offType] = 'x'
	number(h[offSize:offMtime], uint64(len(t.pax)))
	octal(h[offMtime:offSum], 0)
	h.seal()
	t.write(h[:])
	t.write(t.pax)
	t.pad(int64(len(t.pax)))
}

func (t *Writer) pad(size int64) {
	if r := size % Block; r != 0 {
		t.write(t.zero[:Block-r])
	}
}

func (t *Writer) objectPath(checksum, suffix string) (string, bool) {
	if len(checksum) != 64 {
		t.fail(fmt.Errorf("ostreetar: checksum %.80q has %d characters, want 64", checksum, len(checksum)))
		return "", false
	}
	return objectsDir + checksum[:2] + "/" + checksum[2:] + "." + suffix, true
}

// ImagePath gives the place of a tree's path in the image: what is below
// usr/etc in the tree is below etc there. Paths have no leading slash.
func ImagePath(path string) string {
	const usrEtc = "usr/etc"
	if path == usrEtc || strings.HasPrefix(path, usrEtc+"/") {
		return path[len("usr/"):]
	}
	return path
}
