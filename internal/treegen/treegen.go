package treegen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/ostree"
)

// Options are the choices of [Write] and [Tree]; nil and the zero value are the
// default.
type Options struct {
	// Files is how many entries there are, besides the root and a few that
	// every tree has. Default 200.
	Files int
	// MaxSize is the most bytes a file has. Default 4 MiB. One file in 64 may
	// come near, the median is below 1 KiB.
	MaxSize int64
	// Depth is how deep directories nest at most. Default 8.
	Depth int
	// UID and GID own everything, unless Root is set. Default root.
	UID, GID uint32
	// Root adds what only root can write and read: several owners, modes that
	// let nobody read, attributes of trusted.* and security.capability.
	Root bool
	// NoXattrs leaves extended attributes out, for file systems without.
	NoXattrs bool
	// Composed leaves out combining characters, which libarchive puts together
	// in names: ostree commit --tree=tar does not keep them.
	Composed bool
}

func (o *Options) defaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	d.Files = cmp.Or(max(d.Files, 0), 200)
	d.MaxSize = cmp.Or(max(d.MaxSize, 0), 4<<20)
	d.Depth = cmp.Or(max(d.Depth, 0), 8)
	return d
}

// random is SplitMix64, whose numbers are the same everywhere.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below gives a number from 0 to n-1.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// pick gives one of list.
func pick[T any](r *random, list ...T) T { return list[r.below(len(list))] }

// node is one entry of the tree to be.
type node struct {
	entry   ostree.Entry
	content uint64 // seed of a regular file's content
	same    string // an earlier path of which this is a hard link on disk
}

// names are the ones that sort, quote or escape in ways that go wrong. "a" is a
// directory often, and "a-b", "a.b" and "a0" sort before and after "a/".
var names = []string{
	"a", "a", "a", "a-b", "a.b", "a0", "ab", "A", "b", "B", "usr", "lib", "etc", "é", "e\u0301", "日本語", "🙂", " ", "x y", "-", "--help", "~", "...", "..a", ".hidden", ".wh",
	"new\nline", "tab\t", "\x7f", "back\\slash", "quo'te", "quo\"te", "*", "%s", "%2F", "a,b", "a=b", "a:b", "#", "@",
}

// targets of links: dangling, absolute, with all that must be kept as it is.
var targets = []string{
	"a", "../a", "/usr/lib/a", "nowhere", "/no/where", "//double", "a//b", "a/./b", "./a", "a/", "d/.", "/", ".", "..", "../../../../../../../../etc/passwd", "é", "x y", "new\nline", "-", "a\\b",
}

// plan makes the nodes, in the byte order of names, depth first.
func plan(seed uint64, o Options) []node {
	r := random(seed)
	p := &planner{r: &r, o: o, kinds: map[string]uint32{}, dirs: []string{"."}}
	p.add(node{entry: ostree.Entry{Path: ".", Mode: ostree.ModeDir | 0o755, UID: o.UID, GID: o.GID}})

	// What every tree has.
	p.dir("d", 0o755)
	p.dir("d/a", 0o755)
	p.file("d/a/b", 0o644, 3)
	p.file("d/a-b", 0o644, 4)
	p.dir("d/empty", 0o1777)
	p.file("d/zero", 0o600, 0)
	p.file("d/setuid", 0o4755, 100)
	p.link("d/link", "a/./b")
	deep := "d"
	for i := range 12 {
		deep += fmt.Sprintf("/deep-directory-number-%02d", i)
		p.dir(deep, 0o755)
	}
	p.file(deep+"/file", 0o644, 10)
	p.link(deep+"/"+strings.Repeat("l", 255), "/"+strings.Repeat("long/target/", 30)+"end")

	for range o.Files {
		p.one()
	}
	byPath := func(a, b node) int {
		// A path sorts as its components do.
		return slices.Compare(strings.Split(a.entry.Path, "/"), strings.Split(b.entry.Path, "/"))
	}
	slices.SortFunc(p.nodes[1:], byPath)
	return p.nodes
}

type planner struct {
	r     *random
	o     Options
	nodes []node
	kinds map[string]uint32 // by path
	dirs  []string
	files []int // nodes that are regular files, by index; hard links are made of them
}

func (p *planner) add(n node) {
	p.kinds[n.entry.Path] = n.entry.Mode & ostree.ModeType
	p.nodes = append(p.nodes, n)
}

func (p *planner) base(path string, mode uint32) ostree.Entry {
	e := ostree.Entry{Path: path, Mode: mode, UID: p.o.UID, GID: p.o.GID, Detached: true}
	if p.o.Root && p.r.below(4) == 0 {
		ids := []uint32{0, 1, 33, 1000, 65534, 70000, 2097152, 4000000000}
		e.UID, e.GID = pick(p.r, ids...), pick(p.r, ids...)
	}
	return e
}

func (p *planner) dir(path string, mode uint32) {
	e := p.base(path, ostree.ModeDir|mode)
	e.Xattrs = p.xattrs(8, false)
	p.add(node{entry: e})
	p.dirs = append(p.dirs, path)
}

func (p *planner) file(path string, mode uint32, size int64) {
	e := p.base(path, ostree.ModeRegular|mode)
	e.Size = min(size, p.o.MaxSize)
	e.Xattrs = p.xattrs(6, true)
	p.add(node{entry: e, content: p.r.next()})
	p.files = append(p.files, len(p.nodes)-1)
}

func (p *planner) link(path, target string) {
	e := p.base(path, ostree.ModeSymlink|0o777)
	e.Target = target
	p.add(node{entry: e})
}

// xattrs gives attributes to one entry in n.
func (p *planner) xattrs(n int, file bool) []ostree.Xattr {
	if p.r.below(n) != 0 || p.o.NoXattrs {
		return nil
	}
	list := []ostree.Xattr{{Name: "user.a", Value: []byte("value")}}
	for _, x := range []ostree.Xattr{
		{Name: "user.a-b", Value: []byte{}}, {Name: "user.a.b", Value: []byte("with\x00NUL\x00")}, {Name: "user.é", Value: []byte{0xff, 0, '='}}, {Name: "user.Z", Value: []byte(strings.Repeat("long", 100))},
	} {
		if p.r.below(3) == 0 {
			list = append(list, x)
		}
	}
	if p.o.Root {
		if p.r.below(3) == 0 {
			list = append(list, ostree.Xattr{Name: "trusted.test", Value: []byte("\x01")})
		}
		if file && p.r.below(3) == 0 {
			// Revision 2, effective, cap_net_bind_service and cap_net_raw.
			list = append(list, ostree.Xattr{Name: "security.capability", Value: []byte{1, 0, 0, 2, 0, 0x24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}})
		}
	}
	slices.SortFunc(list, func(a, b ostree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// one adds one entry with a new name.
func (p *planner) one() {
	parent := pick(p.r, p.dirs...)
	if p.r.below(2) == 0 { // crowd some directories
		parent = p.dirs[p.r.below(min(len(p.dirs), 4))]
	}
	var path string
	for try := 0; ; try++ {
		name := pick(p.r, names...)
		if p.o.Composed {
			name = strings.ReplaceAll(name, "\u0301", "")
		}
		switch {
		case p.r.below(40) == 0:
			name = strings.Repeat(pick(p.r, "n", "ü"), 255)[:254]
		case try > 0 || p.r.below(3) > 0:
			name = fmt.Sprintf("%s%x", name, p.r.next()%0xffff)
		}
		if path = name; parent != "." {
			path = parent + "/" + name
		}
		if _, taken := p.kinds[path]; !taken && len(path) < 3000 {
			break
		}
	}
	modes := []uint32{0o644, 0o644, 0o644, 0o755, 0o755, 0o600, 0o400, 0o444, 0o664, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o500}
	dirModes := []uint32{0o755, 0o755, 0o755, 0o700, 0o775, 0o1777, 0o2755, 0o777, 0o750}
	if p.o.Root {
		modes = append(modes, 0, 0o100, 0o4000)
		dirModes = append(dirModes, 0, 0o111, 0o7000)
	}
	switch k := p.r.below(100); {
	case k < 15 && strings.Count(path, "/") < p.o.Depth:
		p.dir(path, pick(p.r, dirModes...))
	case k < 27:
		p.link(path, pick(p.r, targets...))
	case k < 32:
		// A hard link on disk: same content, owner, mode, attributes.
		n := p.nodes[pick(p.r, p.files...)]
		n.same, n.entry.Path = n.entry.Path, path
		p.add(n)
	default:
		p.file(path, pick(p.r, modes...), p.size())
		if p.r.below(8) == 0 { // the content of another file
			other := p.nodes[pick(p.r, p.files...)]
			last := &p.nodes[len(p.nodes)-1]
			last.content, last.entry.Size = other.content, other.entry.Size
		}
	}
}

// size is that of a file: mostly small, on both sides of the sizes at which
// blocks, buffers and framing offsets change.
func (p *planner) size() int64 {
	switch k := p.r.below(64); {
	case k < 6:
		return 0
	case k < 36:
		return int64(p.r.below(1024))
	case k < 46:
		return pick(p.r, int64(1), 255, 256, 511, 512, 513, 4095, 4096, 4097, 65535, 65536)
	case k < 60:
		return int64(p.r.below(20000))
	case k < 63:
		return int64(p.r.below(200000))
	}
	return int64(p.r.next() % uint64(p.o.MaxSize+1))
}

// Tree is the tree of seed, in the order in which [ostree.Dir] gives it; what
// [Write] makes hard links are entries with equal content.
func Tree(seed uint64, opts *Options) ostree.Tree {
	o := opts.defaults()
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for _, n := range plan(seed, o) {
				if err := ctx.Err(); err != nil {
					yield(ostree.Entry{}, err)
					return
				}
				e := n.entry
				if e.Mode&ostree.ModeType == ostree.ModeRegular {
					e.Open = func(ctx context.Context) (io.ReadCloser, error) {
						return io.NopCloser(newContent(n.content, e.Size)), ctx.Err()
					}
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	})
}

// content is size bytes of seed: text that repeats, or noise.
type content struct {
	r     random
	left  int64
	noise bool
	buf   []byte
}

func newContent(seed uint64, size int64) *content {
	c := &content{r: random(seed), left: size}
	c.noise = c.r.below(3) == 0
	return c
}

var words = []string{"alpha ", "beta ", "gamma\n", "delta\t", "0123456789", "\x00\x00\x00\x00", "epsilon epsilon ", "/usr/lib/"}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && c.left > 0 {
		if len(c.buf) == 0 {
			if c.noise {
				v := c.r.next()
				c.buf = append(c.buf, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
			} else {
				c.buf = append(c.buf, pick(&c.r, words...)...)
			}
		}
		k := copy(p[n:], c.buf[:min(int64(len(c.buf)), c.left)])
		c.buf = c.buf[k:]
		c.left -= int64(k)
		n += k
	}
	return n, nil
}

// Write makes the tree of seed in the directory dir, which must be empty and
// whose own mode and owner become those of the root. Errors name the path.
func Write(dir string, seed uint64, opts *Options) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	nodes := plan(seed, opts.defaults())
	for _, n := range nodes {
		if err := create(root, dir, n); err != nil {
			return fmt.Errorf("treegen: %q: %w", n.entry.Path, err)
		}
	}
	// A file's other names come when all files are there; directories get their
	// modes last and from below, for some let nobody in.
	for _, n := range nodes {
		if n.same == "" {
			continue
		}
		if err := root.Link(n.same, n.entry.Path); err != nil {
			return fmt.Errorf("treegen: %q: %w", n.entry.Path, err)
		}
	}
	for _, n := range slices.Backward(nodes) {
		if n.entry.Mode&ostree.ModeType == ostree.ModeDir {
			if err := finish(filepath.Join(dir, n.entry.Path), n.entry); err != nil {
				return fmt.Errorf("treegen: %q: %w", n.entry.Path, err)
			}
		}
	}
	return nil
}

func create(root *os.Root, dir string, n node) error {
	e := n.entry
	switch {
	case n.same != "" || e.Path == ".":
		return nil
	case e.Mode&ostree.ModeType == ostree.ModeDir:
		return root.Mkdir(e.Path, 0o700)
	case e.Mode&ostree.ModeType == ostree.ModeSymlink:
		if err := root.Symlink(e.Target, e.Path); err != nil {
			return err
		}
	default:
		f, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, newContent(n.content, e.Size))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return finish(filepath.Join(dir, e.Path), e)
}

// finish gives path its owner, attributes and mode, in the order that keeps
// all of them.
func finish(path string, e ostree.Entry) error {
	if err := os.Lchown(path, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	for _, x := range e.Xattrs {
		if err := unix.Lsetxattr(path, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("attribute %s: %w", x.Name, err)
		}
	}
	if e.Mode&ostree.ModeType == ostree.ModeSymlink {
		return nil
	}
	return unix.Chmod(path, e.Mode&0o7777)
}
