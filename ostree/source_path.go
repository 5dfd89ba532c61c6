package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// prune says what of a Tree is left out before it is looked at, so that what
// its reader does not want can't be a fault: device nodes below /dev, an
// unreadable /proc. The zero value leaves nothing out.
type prune struct {
	// test is true for a path, and everything below it, that is left out. It is
	// a function of the path alone, and called from any goroutine.
	test func(path string) bool
	// report is told of each path that was left out, in the order of the tree,
	// by the goroutine that reads it; of what is below one only where the tree
	// comes by it.
	report func(path string)
	// cache knows folders; nil: nothing is known.
	cache *cacheUse
	// asIs tells of a directory whether all that is in it, and nothing else, comes to
	// the commit as it is and by that path: then files that cache knows need not come
	// one by one. A function of the path alone, as test is; nil: of none.
	asIs func(dir string) bool
	// object gives the content object that a regular file or symbolic link is a
	// hard link to, which then are not looked at further: Object says all of it.
	// Called from any goroutine; nil: none is.
	object func(FileID) (Checksum, bool)
}

// skips tests and reports a path.
func (p prune) skips(path string) bool {
	if p.test == nil || !p.test(path) {
		return false
	}
	p.report(path)
	return true
}

// cacheUseKey is where a context has the cache of a commit: a Tree of somebody else's
// may hand on the entries of a Dir.
type cacheUseKey struct{}

// byContext is what is asked of a Tree by somebody else's.
func byContext(ctx context.Context) prune {
	use, _ := ctx.Value(cacheUseKey{}).(*cacheUse)
	return prune{cache: use}
}

// pruned is a Tree that can leave paths out before it looks at them.
type pruned interface {
	entries(ctx context.Context, without prune) iter.Seq2[Entry, error]
}

// entriesWithout gives the entries of src that are not left out.
func entriesWithout(ctx context.Context, src Tree, without prune) iter.Seq2[Entry, error] {
	if p, ok := src.(pruned); ok {
		return p.entries(ctx, without)
	}
	// Also without one: that of a commit around this is not for it.
	ctx = context.WithValue(ctx, cacheUseKey{}, without.cache)
	if without.test == nil {
		return src.Entries(ctx)
	}
	return func(yield func(Entry, error) bool) {
		for e, err := range src.Entries(ctx) {
			if err == nil && without.skips(e.Path) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// cleanPath makes a name as archives have it an [Entry.Path]: leading slashes
// and "." components go, ".." and bytes that are not UTF-8 are refused.
func cleanPath(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", errNotUTF8
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("a NUL byte in the name: %w", fs.ErrInvalid)
	}
	if isClean(name) {
		return name, nil
	}
	var b strings.Builder
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("%q in the path, which could leave the tree: %w", "..", fs.ErrInvalid)
		default:
			if b.Len() > 0 {
				b.WriteByte('/')
			}
			b.WriteString(part)
		}
	}
	if b.Len() == 0 {
		return ".", nil
	}
	return b.String(), nil
}

// isClean reports whether name needs no work by cleanPath, other than the
// checks of its bytes.
func isClean(name string) bool {
	if name == "" {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		switch name[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

var errNotUTF8 = fmt.Errorf("not UTF-8, which an OSTree name must be: %w", fs.ErrInvalid)

// specialFile is the fault of a file that has no object in OSTree.
func specialFile(kind string) error {
	return fmt.Errorf("%s: only directories, regular files and symbolic links can be stored: %w", kind, errors.ErrUnsupported)
}

// quoted is path as errors show it: as it is, or quoted where it has bytes
// that would spoil a terminal or a log.
func quoted(path string) string {
	for _, r := range path {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(path)
		}
	}
	return path
}

// parentOf is the path of the directory that holds path; the root is its own.
func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}

// join is the path of name in dir.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// below reports whether path is dir or below it.
func below(path, dir string) bool {
	return dir == "." || strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// impliedDir stands for a directory that the source does not name.
func impliedDir(path string) Entry {
	return Entry{Path: path, Mode: ModeDir | 0o755, Implied: true}
}

// kinds remembers what each path of a sequence is, to give missing parents and
// to refuse entries whose parent is not a directory.
type kinds struct {
	of   map[string]uint32 // file type bits
	last string            // directory checked last, with all above it
}

func newKinds() *kinds { return &kinds{of: make(map[string]uint32)} }

// missing gives the parents of path that the sequence does not have yet, the
// topmost first, and remembers them; or the fault that one is no directory.
func (k *kinds) missing(path string) ([]string, error) {
	if path == "." {
		return nil, nil
	}
	parent := parentOf(path)
	if parent == k.last {
		return nil, nil
	}
	if strings.Count(path, "/") > maxDepth {
		return nil, errTooDeep
	}
	var missing []string
	for dir := parent; ; dir = parentOf(dir) {
		kind, ok := k.of[dir]
		switch {
		case !ok:
			missing = append(missing, dir)
		case kind == ModeSymlink:
			return nil, fmt.Errorf("its path goes through %s, a symbolic link: %w", quoted(dir), fs.ErrInvalid)
		case kind != ModeDir:
			return nil, fmt.Errorf("its path goes through %s, which is not a directory: %w", quoted(dir), fs.ErrInvalid)
		}
		if ok || dir == "." {
			break
		}
	}
	for i, j := 0, len(missing)-1; i < j; i, j = i+1, j-1 {
		missing[i], missing[j] = missing[j], missing[i]
	}
	for _, dir := range missing {
		k.of[dir] = ModeDir
	}
	k.last = parent
	return missing, nil
}

// set remembers what path is from now on.
func (k *kinds) set(path string, mode uint32) {
	k.of[path] = mode & ModeType
	if mode&ModeType != ModeDir && below(k.last, path) {
		k.last = ""
	}
}
