package ostree

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/readers"
)

// maxPendingLinks is how many hard links may wait for a file that comes later.
const maxPendingLinks = 1 << 16

// Tar is the tree of an uncompressed tar archive: GNU and PAX, with long
// names, base-256 numbers, sparse files and extended attributes as GNU tar
// (SCHILY.xattr, RHT.security.selinux) and libarchive (LIBARCHIVE.xattr) write
// them. It can be read once, and entries are not detached: the content of a
// file must be read before the sequence moves on.
//
// Leading "/" and "./" are ignored, parents that are missing are implied
// ([Entry.Implied]). A hard link becomes an entry with [Entry.Link]; one whose
// target comes later is yielded right after it, at most 65536 at a time.
//
// Errors name the entry and the byte where it begins: device nodes, sockets and pipes, "..",
// names that are not UTF-8, a path through a symbolic link or file, a file in
// the place of a directory, a hard link to nothing, more than 2048 directories one in
// the other, an archive that is damaged, ends early or goes on after its end.
func Tar(r io.Reader) Tree { return &tarTree{r: r} }

type tarTree struct {
	r    io.Reader
	used atomic.Bool
}

func (t *tarTree) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return t.entries(ctx, prune{})
}

func (t *tarTree) entries(ctx context.Context, without prune) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if t.used.Swap(true) {
			yield(Entry{}, &Error{"tar", "stream", errors.New("can be read only once")})
			return
		}
		s := &tarScan{ctx: ctx, without: without, yield: yield, kinds: newKinds(), pending: make(map[string][]string)}
		s.in.r = t.r
		s.r = tar.NewReader(&s.in)
		s.run()
	}
}

// tarInput counts what is read and the NUL bytes at its end. It hides other
// methods of the reader: archive/tar would seek over what is not there.
type tarInput struct {
	r     io.Reader
	n     int64
	zeros int64
}

func (in *tarInput) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	in.n += int64(n)
	// Only the end matters, where blocks of NULs are: look at most there.
	tail := p[:n]
	i := len(tail)
	for i > 0 && tail[i-1] == 0 && len(tail)-i < 1024 {
		i--
	}
	if i == 0 {
		in.zeros += int64(n)
	} else {
		in.zeros = int64(len(tail) - i)
	}
	return n, err
}

// tarScan is the one pass over a tarTree.
type tarScan struct {
	ctx     context.Context // of this pass, which ends before the call that got it
	without prune
	yield   func(Entry, error) bool
	in      tarInput
	r       *tar.Reader
	kinds   *kinds
	pending map[string][]string // hard links by the path they wait for
	waiting int
	prev    string // name of the entry before
	sparse  bool   // that entry is a file with holes
}

func (s *tarScan) fail(name string, at int64, err error) bool {
	s.yield(Entry{}, &Error{"tar", fmt.Sprintf("%s at byte %d", quoted(name), at), err})
	return false
}

func (s *tarScan) run() {
	for {
		// What the reader of the sequence left of the content, so that the
		// NULs counted from here on are padding and the end of the archive. Not
		// of a sparse file: a kilobyte of archive can ask for exabytes of holes.
		if !s.sparse {
			if _, err := io.Copy(io.Discard, s.r); err != nil {
				s.fail(s.prev, s.in.n, tarFault(err))
				return
			}
		}
		s.in.zeros = 0
		at := s.in.n
		hdr, err := s.r.Next()
		if errors.Is(err, tar.ErrInsecurePath) {
			err = nil // a debug setting of Go's; cleanPath decides
		}
		if err == nil {
			err = s.ctx.Err()
		}
		switch {
		case errors.Is(err, io.EOF):
			s.end()
			return
		case err != nil:
			s.fail(s.place(), s.in.n, tarFault(err))
			return
		}
		s.sparse = readers.Sparse(hdr)
		if s.prev = hdr.Name; !s.entry(hdr, (at+511)&^511) {
			return
		}
	}
}

// tarFault is err as it is told: errors of archive/tar and early ends are
// damage, others are the source's own.
func tarFault(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive ends early: %w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// place is where the archive is at fault between entries.
func (s *tarScan) place() string {
	if s.prev == "" {
		return "archive"
	}
	return "after " + quoted(s.prev)
}

// end checks what must hold at the end of the archive.
func (s *tarScan) end() {
	if s.in.zeros < 512 {
		s.fail(s.place(), s.in.n, fmt.Errorf("the archive ends early, without its end mark: %w: %w", ErrCorrupt, io.ErrUnexpectedEOF))
		return
	}
	// Read on: decompressors check their sums at the very end.
	buf := make([]byte, 32<<10)
	for {
		n, err := s.in.r.Read(buf)
		for i, b := range buf[:n] {
			if b != 0 {
				s.fail(s.place(), s.in.n+int64(i), fmt.Errorf("data after the end of the archive: %w", ErrCorrupt))
				return
			}
		}
		s.in.n += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = s.ctx.Err()
		}
		if err != nil {
			s.fail(s.place(), s.in.n, tarFault(err))
			return
		}
	}
	if s.waiting > 0 {
		target := slices.Min(slices.Collect(maps.Keys(s.pending)))
		link := slices.Min(s.pending[target])
		s.fail(link, s.in.n, fmt.Errorf("hard link to %s, which the archive does not have: %w", quoted(target), fs.ErrNotExist))
		return
	}
	if _, ok := s.kinds.of["."]; !ok && !s.without.skips(".") {
		s.yield(impliedDir("."), nil)
	}
}

// entry yields what one header of the archive describes.
func (s *tarScan) entry(hdr *tar.Header, at int64) bool {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return s.global(hdr, at)
	case 'V': // GNU volume label
		return true
	}
	path, err := cleanPath(hdr.Name)
	if err != nil {
		return s.fail(hdr.Name, at, err)
	}
	if s.without.skips(path) {
		return true
	}
	e := Entry{Path: path, Mode: uint32(hdr.Mode & 0o7777)}
	switch hdr.Typeflag {
	case tar.TypeDir:
		e.Mode |= ModeDir
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		if strings.HasSuffix(hdr.Name, "/") {
			return s.fail(hdr.Name, at, fmt.Errorf("regular file with a directory's name: %w", fs.ErrInvalid))
		}
		e.Mode |= ModeRegular
		e.Size = hdr.Size
		content := &tarContent{scan: s, name: path}
		e.Open = content.open
		defer func() { content.gone = true }()
	case tar.TypeSymlink:
		e.Mode = ModeSymlink | 0o777
		e.Target = hdr.Linkname
		if !utf8.ValidString(e.Target) {
			return s.fail(path, at, fmt.Errorf("link target %q: %w", e.Target, errNotUTF8))
		}
		if e.Target == "" {
			return s.fail(path, at, fmt.Errorf("symbolic link without a target: %w", fs.ErrInvalid))
		}
	case tar.TypeLink:
		return s.link(path, hdr.Linkname, at)
	case tar.TypeChar:
		return s.fail(path, at, specialFile("character device"))
	case tar.TypeBlock:
		return s.fail(path, at, specialFile("block device"))
	case tar.TypeFifo:
		return s.fail(path, at, specialFile("named pipe"))
	default:
		return s.fail(path, at, specialFile(fmt.Sprintf("entry of type %q", hdr.Typeflag)))
	}
	if path == "." && e.Mode&ModeType != ModeDir {
		return s.fail(hdr.Name, at, fmt.Errorf("the root must be a directory: %w", fs.ErrInvalid))
	}
	for _, id := range []struct {
		name string
		from int
		to   *uint32
	}{{"user", hdr.Uid, &e.UID}, {"group", hdr.Gid, &e.GID}} {
		if id.from < 0 || int64(id.from) >= 1<<32-1 {
			return s.fail(path, at, fmt.Errorf("%s id %d is not 0 to 4294967294: %w", id.name, id.from, fs.ErrInvalid))
		}
		*id.to = uint32(id.from)
	}
	if e.Xattrs, err = tarXattrs(hdr.PAXRecords); err != nil {
		return s.fail(path, at, err)
	}
	return s.put(e, at) && s.release(path)
}

// global refuses a global header that changes what entries are; others, such
// as git's comment, don't matter.
func (s *tarScan) global(hdr *tar.Header, at int64) bool {
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		switch key {
		case "comment", "atime", "ctime", "mtime", "uname", "gname", "charset", "hdrcharset":
		default:
			return s.fail(hdr.Name, at, fmt.Errorf("global header with %s: %w", quoted(key), errors.ErrUnsupported))
		}
	}
	return true
}

// put yields e after the parents that are missing.
func (s *tarScan) put(e Entry, at int64) bool {
	missing, err := s.kinds.missing(e.Path)
	if err != nil {
		return s.fail(e.Path, at, err)
	}
	kind := e.Mode & ModeType
	if s.kinds.of[e.Path] == ModeDir && kind != ModeDir {
		return s.fail(e.Path, at, fmt.Errorf("takes the place of a directory: %w", fs.ErrExist))
	}
	for _, dir := range missing {
		if !s.yield(impliedDir(dir), nil) {
			return false
		}
	}
	s.kinds.set(e.Path, kind)
	return s.yield(e, nil)
}

// link yields the hard link path, or keeps it until its target comes.
func (s *tarScan) link(path, name string, at int64) bool {
	target, err := cleanPath(name)
	if err != nil {
		return s.fail(path, at, fmt.Errorf("hard link to %q: %w", name, err))
	}
	if s.without.skips(target) {
		return s.fail(path, at, fmt.Errorf("hard link to %s, which is left out of the tree: %w", quoted(target), errors.ErrUnsupported))
	}
	kind, ok := s.kinds.of[target]
	switch {
	case ok && target == path:
		return true // nothing new
	case ok && kind == ModeDir:
		return s.fail(path, at, fmt.Errorf("hard link to the directory %s: %w", quoted(target), fs.ErrInvalid))
	case ok:
		return s.put(Entry{Path: path, Link: target, Mode: kind}, at) && s.release(path)
	}
	if s.waiting == maxPendingLinks {
		return s.fail(path, at, fmt.Errorf("more than %d hard links to files that have not come yet: %w", maxPendingLinks, errors.ErrUnsupported))
	}
	s.waiting++
	s.pending[target] = append(s.pending[target], path)
	return true
}

// release yields the hard links that waited for path, and those for them.
func (s *tarScan) release(path string) bool {
	if s.waiting == 0 {
		return true
	}
	ready := []string{path}
	for len(ready) > 0 {
		target := ready[0]
		ready = ready[1:]
		links := s.pending[target]
		if len(links) == 0 {
			continue
		}
		kind := s.kinds.of[target]
		if kind == ModeDir {
			return s.fail(links[0], s.in.n, fmt.Errorf("hard link to the directory %s: %w", quoted(target), fs.ErrInvalid))
		}
		delete(s.pending, target)
		s.waiting -= len(links)
		for _, link := range links {
			if !s.put(Entry{Path: link, Link: target, Mode: kind}, s.in.n) {
				return false
			}
		}
		ready = append(ready, links...)
	}
	return true
}

// tarXattrs are the extended attributes among PAX records, by name. The kernel
// limits a value to 64 KiB and archive/tar all records of an entry to 1 MiB.
func tarXattrs(records map[string]string) ([]Xattr, error) {
	var found map[string][]byte
	// In this order the one that counts comes last: SCHILY before RHT before LIBARCHIVE.
	for _, key := range slices.Sorted(maps.Keys(records)) {
		value := records[key]
		var name string
		data := []byte(value)
		if rest, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			name = rest
		} else if key == "RHT.security.selinux" {
			name = "security.selinux"
		} else if rest, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr."); ok {
			var err error
			if name, err = url.PathUnescape(rest); err != nil {
				return nil, fmt.Errorf("extended attribute %s: %w", quoted(key), err)
			}
			if _, both := records["SCHILY.xattr."+name]; both {
				continue
			}
			if data, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "=")); err != nil {
				return nil, fmt.Errorf("extended attribute %s: %w", quoted(key), err)
			}
		} else {
			continue
		}
		if name == "" || strings.IndexByte(name, 0) >= 0 {
			return nil, fmt.Errorf("extended attribute %s has no proper name: %w", quoted(key), fs.ErrInvalid)
		}
		if found == nil {
			found = make(map[string][]byte)
		}
		found[name] = data
	}
	if found == nil {
		return nil, nil
	}
	xattrs := make([]Xattr, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		xattrs = append(xattrs, Xattr{Name: name, Value: found[name]})
	}
	return xattrs, nil
}

// tarContent is the content of the entry that the sequence is at.
type tarContent struct {
	scan   *tarScan
	name   string
	opened bool
	gone   bool // the sequence moved on
}

func (c *tarContent) open(ctx context.Context) (io.ReadCloser, error) {
	err := ctx.Err()
	switch {
	case err != nil:
	case c.gone:
		err = errors.New("the content of a tar entry can't be read after the sequence moved on")
	case c.opened:
		err = errors.New("the content of a tar entry can be read only once")
	}
	if err != nil {
		return nil, &Error{"tar", quoted(c.name), err}
	}
	c.opened = true
	return c, nil
}

func (c *tarContent) Read(p []byte) (int, error) {
	if c.gone {
		return 0, &Error{"tar", quoted(c.name), fs.ErrClosed}
	}
	n, err := c.scan.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &Error{"tar", fmt.Sprintf("%s at byte %d", quoted(c.name), c.scan.in.n), tarFault(err)}
	}
	return n, err
}

func (c *tarContent) Close() error { return nil }
