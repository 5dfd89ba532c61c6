package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/unix"
)

// FS is the tree that fsys holds, in lexical order, depth first. Owners are
// those of a *syscall.Stat_t that [fs.FileInfo.Sys] gives, else root; there
// are no extended attributes, but in what [Repo.FS] gives. Links need [fs.ReadLinkFS] and are never
// followed. Other files than directories, regular files and links, and names
// that are not UTF-8, are errors that name the path. Entries are detached.
func FS(fsys fs.FS) Tree { return &fsTree{fsys} }

type fsTree struct{ fsys fs.FS }

func (t *fsTree) Entries(ctx context.Context) iter.Seq2[Entry, error] { return t.entries(ctx, prune{}) }

func (t *fsTree) entries(ctx context.Context, without prune) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := fs.WalkDir(t.fsys, ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return &Error{"fs", quoted(path), err}
			}
			if without.skips(path) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			e, err := t.entry(path, d)
			if err != nil {
				return &Error{"fs", quoted(path), err}
			}
			if !yield(e, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, err)
		}
	}
}

// errStopped ends a walk whose reader wants no more.
var errStopped = errors.New("stopped")

func (t *fsTree) entry(path string, d fs.DirEntry) (Entry, error) {
	if !utf8.ValidString(path) {
		return Entry{}, errNotUTF8
	}
	info, err := d.Info()
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Path: path, Detached: true}
	if sys, ok := info.Sys().(*Entry); ok {
		e.UID, e.GID, e.Xattrs, e.Object = sys.UID, sys.GID, sys.Xattrs, sys.Object
	} else if sys, ok := unix.InfoOf(info); ok {
		e.UID, e.GID = sys.UID, sys.GID
	}
	switch mode := info.Mode(); mode.Type() {
	case fs.ModeDir:
		e.Mode = ModeDir
	case 0:
		e.Mode = ModeRegular
		e.Size = info.Size()
		e.Open = func(ctx context.Context) (io.ReadCloser, error) {
			err := ctx.Err()
			if err == nil {
				var f fs.File
				if f, err = t.fsys.Open(path); err == nil {
					return f, nil
				}
			}
			return nil, &Error{"fs", quoted(path), err}
		}
	case fs.ModeSymlink:
		e.Mode = ModeSymlink | 0o777
		if e.Target, err = fs.ReadLink(t.fsys, path); err != nil {
			return Entry{}, err
		}
		if !utf8.ValidString(e.Target) {
			return Entry{}, fmt.Errorf("link target %q: %w", e.Target, errNotUTF8)
		}
		return e, nil
	default:
		return Entry{}, specialFile(specialKind(specialType(mode)))
	}
	e.Mode |= uint32(info.Mode().Perm()) | specialBits(info.Mode())
	return e, nil
}

// specialType is the st_mode file type of a file that is none of the three.
func specialType(mode fs.FileMode) uint32 {
	switch {
	case mode&fs.ModeCharDevice != 0:
		return unix.S_IFCHR
	case mode&fs.ModeDevice != 0:
		return unix.S_IFBLK
	case mode&fs.ModeNamedPipe != 0:
		return unix.S_IFIFO
	case mode&fs.ModeSocket != 0:
		return unix.S_IFSOCK
	}
	return 0
}

// specialBits are the st_mode bits of Go's set-user-ID, set-group-ID and
// sticky bits.
func specialBits(mode fs.FileMode) uint32 {
	var bits uint32
	if mode&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
