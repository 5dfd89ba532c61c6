package ostree

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ChecksumSize is the length of a checksum in bytes.
const ChecksumSize = 32

// Checksum is the SHA-256 that names an object. The zero value means "none".
type Checksum [ChecksumSize]byte

// ParseChecksum reads 64 lower-case hexadecimal digits.
func ParseChecksum(text string) (Checksum, error) {
	var c Checksum
	if len(text) != 2*ChecksumSize {
		return c, fmt.Errorf("ostree: checksum %.80q has %d characters, want %d", text, len(text), 2*ChecksumSize)
	}
	for i := range len(text) {
		if b := text[i]; (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return c, fmt.Errorf("ostree: checksum %q has %q at %d, want lower-case hexadecimal", text, b, i)
		}
	}
	_, err := hex.Decode(c[:], []byte(text))
	return c, err
}

// String gives 64 lower-case hexadecimal digits.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports whether c is the zero value, "none".
func (c Checksum) IsZero() bool { return c == Checksum{} }

// MarshalText implements [encoding.TextMarshaler]; the zero value is empty.
func (c Checksum) MarshalText() ([]byte, error) {
	if c.IsZero() {
		return nil, nil
	}
	return []byte(c.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Checksum) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*c = Checksum{}
		return nil
	}
	got, err := ParseChecksum(string(text))
	if err == nil {
		*c = got
	}
	return err
}

// ErrCorrupt is wrapped by every error that says stored or received bytes are
// not what their checksum, length or format says.
var ErrCorrupt = errors.New("corrupt")

// Error is what the verbs of this package return for a fault in one place.
type Error struct {
	Op     string // the verb: "commit", "checkout", "fsck", …
	Target string // the path, object or ref
	Err    error
}

func (e *Error) Error() string { return "ostree: " + e.Op + " " + e.Target + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Xattr is one extended attribute. Name has no trailing NUL; Value is as the
// kernel gives it.
type Xattr struct {
	Name  string
	Value []byte
}

// The file type bits of [Entry.Mode], as in st_mode.
const (
	ModeType    = 0o170000
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
)

// Entry is one directory, regular file or symbolic link of a [Tree].
type Entry struct {
	// Path is slash-separated and relative: "." is the root, no leading or
	// trailing slash, no "." or ".." component otherwise.
	Path string
	// Target is a symbolic link's target, as stored.
	Target string
	// Mode is st_mode: file type and permission bits.
	Mode     uint32
	UID, GID uint32
	// Xattrs are in any order; [Repo.Commit] sorts them.
	Xattrs []Xattr
	// Size is a regular file's length in bytes.
	Size int64
	// Object is the checksum of the content object (files and links) or, for a
	// directory, of its dirmeta object, when it is known; zero: not known yet.
	// Whoever changes anything but Path clears it.
	Object Checksum
	// Open gives a regular file's content. Nil for everything else.
	Open func(context.Context) (io.ReadCloser, error)
	// Detached says that Open works after the sequence moved on, from any
	// goroutine; false for tar streams, whose content must be read at once.
	Detached bool
	// Link is not empty for a hard link: the earlier path of the same sequence
	// whose content (or target), mode, owner and extended attributes this path
	// shares. It means what that path named when this entry was yielded, a
	// regular file or symbolic link. The other fields but Path are empty. Only
	// sources that can't give content twice (tar) use it.
	Link string
	// Implied says that the source has no entry for this directory, which
	// stands for a missing parent (root, 0755): where the path already names a
	// directory, that one keeps its owner, mode and extended attributes.
	Implied bool
	// Identity tells whether a file on disk is still the one seen before; zero:
	// not known.
	Identity FileID

	linked bool       // a hard link to Object, of which only the kind of file is known yet
	slot   *cacheSlot // what a [DevInoCache] knows of a file on disk, and what it learns
	walked *keptFiles // of the folder Path; nothing else is set
}

// FileID is what the kernel tells about a file on disk that changes when its
// content or metadata does: device, inode, and the times of the last change of
// content and of inode in nanoseconds since 1970. The zero value is "unknown".
type FileID struct {
	Dev, Ino         uint64
	MtimeNs, CtimeNs int64
}

// Tree is everything that has files: a directory, a tar stream, an [io/fs.FS],
// a commit, an image. Parents come before their children; a path that comes
// again replaces what it named before: a directory that comes again as a
// directory keeps its children, anything else takes them away. The sequence
// ends after an error. Paths that a Tree yields are clean (see [Entry.Path])
// and each parent that a source leaves out is yielded as a root-owned 0755
// directory (see [Entry.Implied]).
type Tree interface {
	Entries(ctx context.Context) iter.Seq2[Entry, error]
}

// TreeFunc is a function as a [Tree].
type TreeFunc func(ctx context.Context) iter.Seq2[Entry, error]

// Entries calls f.
func (f TreeFunc) Entries(ctx context.Context) iter.Seq2[Entry, error] { return f(ctx) }

// Event is a report of progress. Functions that receive it may be called from
// several goroutines at once and must not block.
type Event struct {
	Step  string // the verb
	Phase string // "files", "objects", …
	Done  int64  // bytes or items so far
	Total int64  // 0: not known
}
