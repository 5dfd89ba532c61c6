package container

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/ostree"
)

// Flatten gives the tree that a container engine sees in an image: its layers
// one over the other, whiteouts applied. It is [Flattened] with nothing set.
func Flatten(img v1.Image) ostree.Tree { return &Flattened{Image: img} }

// Flattened is an image as a [ostree.Tree].
//
// Each layer is decompressed into a temporary file and its digest, size and
// diff ID verified before any of it is looked at. Entries come sorted by path;
// their content can be read from any goroutine, for as long as they are kept.
//
// Rules: a whiteout hides what layers below have, whatever its place in its
// layer; a directory that comes again takes the new owner, mode and attributes
// and keeps what is in it; a parent that is a symbolic link is followed inside
// the image, as engines do; hard links become files of the same content.
// Refused are ".." in names, links to nothing, names and link targets that are
// not UTF-8 and attributes without a name; devices, pipes and sparse files wrap
// [errors.ErrUnsupported].
//
// Of an OSTree-native image it gives the files as the engine sees them, with
// /etc at its place, but not the repository in /sysroot/ostree; security.selinux
// is only there, so it is missing. The commit itself is not restored.
type Flattened struct {
	Image v1.Image
	// TempDir is where the temporary file goes, "" for the system's. It needs as
	// much room as the layers have, uncompressed; the file has no name, so that
	// nothing is left even by a killed process.
	TempDir string
	// MaxSize bounds the layers' uncompressed size in bytes; 0: 64 GiB.
	MaxSize int64
}

const defaultMaxFlat = 64 << 30

// Entries implements [ostree.Tree].
func (f *Flattened) Entries(ctx context.Context) iter.Seq2[ostree.Entry, error] {
	return func(yield func(ostree.Entry, error) bool) {
		root, spool, err := f.read(ctx)
		if err != nil {
			yield(ostree.Entry{}, err)
			return
		}
		emit(ctx, root, root.leaf(""), 0, spool, yield)
	}
}

// node is a file of the merged tree.
type node struct {
	mode, uid, gid uint32
	target         string
	xattrs         []ostree.Xattr
	size, offset   int64 // of content in the spool file
	implied        bool
	children       map[string]*node // of a directory; may be nil
}

func newDir() *node { return &node{mode: ostree.ModeDir | 0o755, implied: true} }

func (n *node) isDir() bool { return n.mode&ostree.ModeType == ostree.ModeDir }

func (n *node) put(name string, child *node) {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	n.children[name] = child
}

// emit yields n and what is below it. n's path is the first length bytes of leaf, a
// path below it: the paths of directories that lead to one file are parts of one
// string, and not together the square of its length.
func emit(ctx context.Context, n *node, leaf string, length int, spool *os.File, yield func(ostree.Entry, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(ostree.Entry{}, context.Cause(ctx))
		return false
	}
	e := ostree.Entry{
		Path: cmp.Or(leaf[:length], "."), Target: n.target, Mode: n.mode, UID: n.uid, GID: n.gid, Xattrs: n.xattrs,
		Size: n.size, Detached: true, Implied: n.implied,
	}
	if n.mode&ostree.ModeType == ostree.ModeRegular {
		offset, size := n.offset, n.size
		e.Open = func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(spool, offset, size)), nil
		}
	}
	if !yield(e, nil) {
		return false
	}
	for i, name := range slices.Sorted(maps.Keys(n.children)) {
		child, end := n.children[name], length+len(name)
		if length > 0 {
			end++ // a slash
		}
		if i > 0 {
			leaf = child.leaf(joinPath(leaf[:length], name))
		}
		if !emit(ctx, child, leaf, end, spool, yield) {
			return false
		}
	}
	return true
}

// leaf gives the path of the first file below n, whose own path is given; if there
// is none, of the first directory without anything.
func (n *node) leaf(path string) string {
	b := []byte(path)
	for len(n.children) > 0 {
		var first string
		for name := range n.children {
			if first == "" || name < first {
				first = name
			}
		}
		if len(b) > 0 {
			b = append(b, '/')
		}
		n, b = n.children[first], append(b, first...)
	}
	return string(b)
}

// read spools, verifies and merges all layers.
func (f *Flattened) read(ctx context.Context) (_ *node, _ *os.File, err error) {
	layers, err := layersToRead(f.Image)
	if err != nil {
		return nil, nil, &Error{"flatten", "image", err}
	}
	spool, err := os.CreateTemp(f.TempDir, "okd-streams-")
	if err != nil {
		return nil, nil, &Error{"flatten", "temporary file", err}
	}
	// The file lives while somebody can read it: the runtime closes it when the
	// last entry is gone.
	if err := os.Remove(spool.Name()); err != nil {
		spool.Close()
		return nil, nil, &Error{"flatten", "temporary file", err}
	}
	defer func() {
		if err != nil {
			spool.Close()
		}
	}()
	root := newDir()
	entries := 0
	var end int64
	for i, l := range layers {
		size, err := spoolLayer(ctx, spool, l, cmp.Or(f.MaxSize, defaultMaxFlat)-end)
		if err == nil {
			err = mergeLayer(ctx, root, io.NewSectionReader(spool, end, size), end, &entries)
		}
		if err != nil {
			return nil, nil, &Error{"flatten", fmt.Sprintf("layer %d (%s)", i, l.descriptor.Digest), err}
		}
		end += size
	}
	// The repository of an OSTree-native image is not part of the system.
	if repo := root.lookup("sysroot/ostree/repo/objects"); repo != nil && repo.isDir() {
		delete(root.lookup("sysroot").children, "ostree")
	}
	return root, spool, nil
}

// lookup finds a path without following links.
func (n *node) lookup(path string) *node {
	for part := range strings.SplitSeq(path, "/") {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// layersToRead gives an image's layers with what they must be like.
func layersToRead(img v1.Image) ([]builtLayer, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(raw); m.Config.Digest.Algorithm != "sha256" || m.Config.Digest.Hex != hexString(got[:]) {
		return nil, fmt.Errorf("config is not %s, as the manifest says: %w", m.Config.Digest, ostree.ErrCorrupt)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%d layers, but %d diff IDs: %w", len(m.Layers), len(config.RootFS.DiffIDs), ostree.ErrCorrupt)
	}
	layers := make([]builtLayer, len(m.Layers))
	for i, d := range m.Layers {
		if !d.MediaType.IsLayer() {
			return nil, fmt.Errorf("layer %d has media type %q: %w", i, d.MediaType, errors.ErrUnsupported)
		}
		l, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers[i] = builtLayer{Layer: l, diffID: config.RootFS.DiffIDs[i], descriptor: d}
	}
	return layers, nil
}

// spoolLayer appends a layer's tar stream to w and verifies it.
func spoolLayer(ctx context.Context, w io.Writer, l builtLayer, limit int64) (size int64, err error) {
	compressed, err := openChecked(l.Layer, l.descriptor.Digest, l.descriptor.Size)
	if err != nil {
		return 0, err
	}
	defer compressed.Close()
	plain, err := decompress.NewReader(contextReader{ctx, compressed})
	if err != nil {
		return 0, err
	}
	defer plain.Close()
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(w, h), io.LimitReader(plain, limit+1))
	if err != nil {
		return 0, err
	}
	if size > limit {
		return 0, fmt.Errorf("layers are larger than allowed together: %w", ostree.ErrCorrupt)
	}
	// What the decompressor did not ask for counts for the digest as well.
	if _, err := io.Copy(io.Discard, contextReader{ctx, compressed}); err != nil {
		return 0, err
	}
	if got := sum256(h); got != l.diffID {
		return 0, fmt.Errorf("diff ID is %s, config says %s: %w", got, l.diffID, ostree.ErrCorrupt)
	}
	return size, nil
}

// change is one entry of a layer.
type change struct {
	path string
	node *node
	link string // the path that a hard link names
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// Names of this kind were AUFS's own business; they hide nothing.
	aufs = ".wh..wh."
)

// mergeLayer applies a layer to the tree. base is where the layer starts in the
// spool file.
func mergeLayer(ctx context.Context, root *node, layer io.Reader, base int64, entries *int) error {
	var changes []change
	var hidden, cleared []string
	counter := &readers.Counter{R: layer}
	tr := tar.NewReader(counter)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w: %w", len(changes), err, ostree.ErrCorrupt)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if *entries++; *entries > maxEntries {
			return fmt.Errorf("over %d entries: %w", maxEntries, ostree.ErrCorrupt)
		}
		path, err := cleanName(h.Name)
		if err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
		dir, name := splitPath(path)
		switch {
		case name == opaque:
			cleared = append(cleared, dir)
			continue
		case strings.HasPrefix(name, aufs):
			continue
		case strings.HasPrefix(name, whiteout):
			name = name[len(whiteout):]
			if name == "" || name == "." || name == ".." {
				return fmt.Errorf("%.200q: hides %q: %w", h.Name, name, fs.ErrInvalid)
			}
			hidden = append(hidden, joinPath(dir, name))
			continue
		}
		c, err := readEntry(h, base+counter.N)
		if err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
		c.path = path
		changes = append(changes, c)
	}
	for _, dir := range cleared {
		if n, err := walk(root, dir, false); err == nil && n != nil {
			n.children = nil
		}
	}
	for _, path := range hidden {
		dir, name := splitPath(path)
		if n, err := walk(root, dir, false); err == nil && n != nil {
			delete(n.children, name)
		}
	}
	for _, c := range changes {
		if err := apply(root, c); err != nil {
			return fmt.Errorf("%.200q: %w", c.path, err)
		}
	}
	return nil
}

// readEntry reads a header; content starts at offset.
func readEntry(h *tar.Header, offset int64) (change, error) {
	if readers.Sparse(h) {
		return change{}, errSparse
	}
	n := &node{mode: uint32(h.Mode & 0o7777)}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return change{}, fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, fs.ErrInvalid)
	}
	n.uid, n.gid = uint32(h.Uid), uint32(h.Gid)
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		if name == "" || strings.ContainsRune(name, 0) {
			return change{}, fmt.Errorf("attribute %q: %w", name, fs.ErrInvalid)
		}
		n.xattrs = append(n.xattrs, ostree.Xattr{Name: name, Value: []byte(h.PAXRecords[key])})
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.mode |= ostree.ModeDir
	case tar.TypeReg:
		n.mode |= ostree.ModeRegular
		n.size, n.offset = h.Size, offset
	case tar.TypeSymlink:
		// Directories can be made where a link leads.
		if h.Linkname == "" || !utf8.ValidString(h.Linkname) || strings.ContainsRune(h.Linkname, 0) {
			return change{}, fmt.Errorf("link target %.200q is empty or not UTF-8: %w", h.Linkname, fs.ErrInvalid)
		}
		n.mode = ostree.ModeSymlink | 0o777
		n.target = h.Linkname
	case tar.TypeLink:
		link, err := cleanName(h.Linkname)
		if err != nil {
			return change{}, fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
		}
		return change{link: link}, nil
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return change{}, fmt.Errorf("device or pipe: %w", errors.ErrUnsupported)
	default:
		return change{}, fmt.Errorf("entry of type %q: %w", h.Typeflag, errors.ErrUnsupported)
	}
	return change{node: n}, nil
}

// apply puts one entry into the tree.
func apply(root *node, c change) error {
	if c.path == "" {
		if c.node == nil || !c.node.isDir() {
			return fmt.Errorf("root is no directory: %w", fs.ErrInvalid)
		}
		c.node.children = root.children
		*root = *c.node
		return nil
	}
	dirPath, name := splitPath(c.path)
	dir, err := walk(root, dirPath, true)
	if err != nil {
		return err
	}
	if c.node == nil {
		target := find(root, c.link)
		if target == nil || target.isDir() {
			return fmt.Errorf("hard link to %.200q, where no file is: %w", c.link, fs.ErrNotExist)
		}
		dir.put(name, target)
		return nil
	}
	if old := dir.children[name]; old != nil && old.isDir() && c.node.isDir() {
		c.node.children = old.children
	}
	dir.put(name, c.node)
	return nil
}

// maxLinks bounds how many symbolic links one path may go through, as Linux
// does.
const maxLinks = 40

// find gives the node at a path, "" for the root, whose parents may be links;
// nil if there is none.
func find(root *node, path string) *node {
	if path == "" {
		return root
	}
	dirPath, name := splitPath(path)
	dir, err := walk(root, dirPath, false)
	if err != nil || dir == nil {
		return nil
	}
	return dir.children[name]
}

// walk follows path, and symbolic links on it, never out of root. Missing
// directories are made or give nil.
func walk(root *node, path string, create bool) (*node, error) {
	type place struct {
		*node
		length int // of its path
	}
	stack := []place{{root, 0}}
	// What is left of path, and of the targets of the links that are on it.
	rests, left := []string{path}, len(path)
	links := 0
	for len(rests) > 0 {
		last := &rests[len(rests)-1]
		if *last == "" {
			rests = rests[:len(rests)-1]
			continue
		}
		part, rest, _ := strings.Cut(*last, "/")
		left -= len(*last) - len(rest)
		*last = rest
		at := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..": // in a link's target; the root is its own parent
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		next, length := at.children[part], at.length+len("/")+len(part)
		switch {
		case next == nil && !create:
			return nil, nil
		case next == nil:
			next = newDir()
			at.put(part, next)
		case next.mode&ostree.ModeType == ostree.ModeSymlink:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("too many symbolic links: %w", fs.ErrInvalid)
			}
			if strings.HasPrefix(next.target, "/") {
				stack = stack[:1]
			}
			if left += len(next.target); left > 2*maxPath {
				return nil, errLongLinks
			}
			rests = append(rests, next.target)
			continue
		case !next.isDir():
			return nil, fmt.Errorf("%q above it is no directory: %w", part, fs.ErrInvalid)
		}
		if length > 2*maxPath {
			return nil, errLongLinks
		}
		if stack = append(stack, place{next, length}); len(stack) > maxDepth+1 {
			return nil, fmt.Errorf("over %d directories deep: %w", maxDepth, fs.ErrInvalid)
		}
	}
	return stack[len(stack)-1].node, nil
}

var errLongLinks = fmt.Errorf("symbolic links make a path of over %d bytes: %w", 2*maxPath, fs.ErrInvalid)

// maxPath bounds names, in bytes, as Linux does; what links make of them may be twice as
// long. An entry of a few bytes can go through forty links, and each joins its target.
const maxPath = 4096

// cleanName gives a name's clean form, "" for the root.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("name of %d bytes, at most %d: %w", len(name), maxPath, fs.ErrInvalid)
	}
	if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("name is not UTF-8: %w", fs.ErrInvalid)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("name with %q: %w", part, fs.ErrInvalid)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) > maxDepth {
		return "", fmt.Errorf("over %d directories deep: %w", maxDepth, fs.ErrInvalid)
	}
	return strings.Join(parts, "/"), nil
}

func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
