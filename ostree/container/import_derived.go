package container

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
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/ostree"
)

// Metadata of the commits of layers that are no part of a base commit. The first
// is ostree-ext's, whose commits have no other.
const (
	keyImporter = "ostree.importer.version"
	keyRules    = "okd-streams.layer-rules"   // by which it was filtered, if not the usual ones
	keyImplied  = "okd-streams.layer-implied" // directories that it has no entry for
	keyLinks    = "okd-streams.layer-links"   // hard links to what it does not have: paths and targets in turn
)

// importerVersion is the version of ostree-ext that commits are like.
const importerVersion = "0.15.3"

// layerRules are what a layer's commit depends on besides the layer.
type layerRules struct {
	// anywhere keeps files outside of usr, etc and var.
	anywhere bool
	// plain: of an image without a commit.
	plain bool
	// policy labels files; nil: attributes are as in the layer. policyID names it
	// where labels are not looked at again in the end.
	policy   *ostree.Policy
	policyID string
}

func (r *layerRules) String() string {
	var words []string
	if r.anywhere {
		words = append(words, "anywhere")
	}
	if r.plain {
		words = append(words, "plain")
	}
	if r.policyID != "" {
		words = append(words, "selinux="+r.policyID)
	}
	return strings.Join(words, " ")
}

// layerMeta is what the merge needs to know about a layer beside its files.
type layerMeta struct {
	rules   string
	implied []string // nil: not known
	links   []ostree.LayerLink
}

// readLayerMeta reads the metadata of a layer's commit; false: it is none.
func readLayerMeta(c *ostree.Commit) (*layerMeta, bool) {
	if kindOf(c) != treeLayer {
		return nil, false
	}
	m := &layerMeta{}
	if v, ok := c.Lookup(keyRules); ok {
		text, err := v.AsString()
		if err != nil {
			return nil, false
		}
		m.rules = text
	}
	if v, ok := c.Lookup(keyImplied); ok {
		list, err := v.AsStrings()
		if err != nil {
			return nil, false
		}
		m.implied = append([]string{}, list...)
	}
	if v, ok := c.Lookup(keyLinks); ok {
		list, err := v.AsStrings()
		if err != nil || len(list)%2 != 0 {
			return nil, false
		}
		for pair := range slices.Chunk(list, 2) {
			m.links = append(m.links, ostree.LayerLink{Path: pair[0], Target: pair[1]})
		}
	}
	return m, true
}

// layer is a stored layer as the merge takes it.
func (im *importer) layer(ctx context.Context, base, c ostree.Checksum, meta *layerMeta) (ostree.Layer, error) {
	l := ostree.Layer{Commit: c, DirMeta: im.opts.DirMeta, Implied: meta.implied, Links: meta.links}
	var has *snapshot
	for i := range l.Links {
		link := &l.Links[i]
		rel, ok := strings.CutPrefix(link.Target, repoPrefix+"objects/")
		if !ok {
			continue
		}
		object, kind, err := importObjectName(rel)
		if err == nil && has == nil {
			if base.IsZero() {
				err = fs.ErrNotExist
			} else {
				has, err = openSnapshot(ctx, im.repo, base)
			}
		}
		if err == nil {
			if _, ok := has.find(object); !ok || kind != "file" {
				err = fs.ErrNotExist
			}
		}
		if err != nil {
			return l, fmt.Errorf("layer commit %s: hard link %.200q to %.200q, which the commit below does not have: %w", c, link.Path, link.Target, err)
		}
		link.Object = object
	}
	return l, nil
}

// storeLayer commits the files of a layer, under its ref.
func (im *importer) storeLayer(ctx context.Context, i int, l *builtLayer, rules *layerRules) (ostree.Checksum, *layerMeta, map[string]int, error) {
	ref, err := layerRef(l.descriptor.Digest)
	if err != nil {
		return ostree.Checksum{}, nil, nil, err
	}
	t := &layerTree{rules: rules, read: func(ctx context.Context, fn func(*layerStream) error) error { return im.readStream(ctx, i, l, fn) }}
	// The commit is made of these once the layer was read to its end, when t fills
	// in what it found.
	t.found = []ostree.MetadataItem{{Key: keyImporter, Value: ostree.StringVariant(importerVersion)}, {}, {}, {}}
	c, err := im.repo.Commit(ctx, t, &ostree.CommitOptions{
		Ref: ref, Metadata: t.found, Workers: im.opts.Workers, NoFsync: im.opts.NoFsync, Edit: t.edit, SELinux: rules.policy,
	})
	if err != nil {
		if inner, ok := errors.AsType[*Error](err); ok {
			return c, nil, nil, inner
		}
		return c, nil, nil, &Error{"import", importLayerName(i, l), err}
	}
	return c, &t.meta, t.filtered, nil
}

// layerTree is a layer of a container build as OSTree wants it: /etc at /usr/etc,
// what has no place left out, whiteouts as files. It can be read once.
type layerTree struct {
	rules    *layerRules
	read     func(context.Context, func(*layerStream) error) error
	found    []ostree.MetadataItem
	meta     layerMeta
	filtered map[string]int
}

// Entries implements [ostree.Tree].
func (t *layerTree) Entries(ctx context.Context) iter.Seq2[ostree.Entry, error] {
	return func(yield func(ostree.Entry, error) bool) {
		stopped := false
		s := &layerScan{tree: t, kinds: map[string]uint32{}, filtered: map[string]int{}, implied: map[string]struct{}{}}
		s.yield = func(e ostree.Entry) error {
			if stopped = !yield(e, nil); stopped {
				return errStopped
			}
			return nil
		}
		err := t.read(ctx, func(l *layerStream) error { return s.run(ctx, l) })
		if stopped {
			return
		}
		if err != nil {
			yield(ostree.Entry{}, err)
			return
		}
		t.filtered = s.filtered
		t.meta = layerMeta{rules: t.rules.String(), implied: []string{}, links: s.lower}
		for path := range s.implied {
			t.meta.implied = append(t.meta.implied, path)
		}
		slices.Sort(t.meta.implied)
		t.describe()
	}
}

// errStopped ends a scan whose reader wants no more.
var errStopped = errors.New("stopped")

// describe fills in the metadata of the layer's commit.
func (t *layerTree) describe() {
	var links []string
	for _, l := range t.meta.links {
		links = append(links, l.Path, l.Target)
	}
	t.found[1] = ostree.MetadataItem{Key: keyImplied, Value: ostree.StringsVariant(t.meta.implied)}
	t.found[2] = ostree.MetadataItem{Key: keyLinks, Value: ostree.StringsVariant(links)}
	t.found[3] = ostree.MetadataItem{Key: keyRules, Value: ostree.StringVariant(t.rules.String())}
}

// edit leaves the repository's objects out, which hard links may have named.
func (t *layerTree) edit(e *ostree.Entry) (bool, error) {
	if below(e.Path, "sysroot/ostree") || e.Path == "sysroot" && !t.rules.anywhere {
		return false, nil
	}
	return true, nil
}

// layerScan is the one pass over a layer.
type layerScan struct {
	tree     *layerTree
	yield    func(ostree.Entry) error
	kinds    map[string]uint32 // what was yielded
	implied  map[string]struct{}
	paths    int64 // length of implied's together, in bytes
	read     readers.Counter
	filtered map[string]int
	waiting  []waitingLink      // hard links to what has not come
	lower    []ostree.LayerLink // and does not
}

type waitingLink struct {
	ostree.LayerLink
	owner ostree.Owner
}

func (s *layerScan) run(ctx context.Context, r io.Reader) error {
	if err := s.parent(".", ostree.Owner{}); err != nil {
		return err
	}
	s.read.R = r
	tr := tar.NewReader(&s.read)
	for entries := 0; ; entries++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, tar.ErrInsecurePath) {
			err = nil // a debug setting of Go's; cleanName decides
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w", entries, importTarFault(err))
		}
		if entries >= maxImportEntries {
			return fmt.Errorf("over %d entries: %w", maxImportEntries, ostree.ErrCorrupt)
		}
		if err := s.entry(ctx, h, tr); err != nil {
			if errors.Is(err, errStopped) {
				return err
			}
			return &entryError{h.Name, err}
		}
	}
	for _, link := range s.waiting {
		if kind, ok := s.kinds[link.Target]; ok && kind != ostree.ModeDir {
			if err := s.put(ostree.Entry{Path: link.Path, Link: link.Target, Mode: kind}, link.owner); err != nil {
				return &entryError{link.Path, err}
			}
			continue
		}
		if dir, _ := splitPath(link.Path); dir != "" {
			if err := s.parent(dir, link.owner); err != nil {
				return &entryError{link.Path, err}
			}
		}
		s.lower = append(s.lower, link.LayerLink)
	}
	return nil
}

// place gives a path's place in the commit; "": it has none.
func (s *layerScan) place(path string) string {
	top, rest, deep := strings.Cut(path, "/")
	switch top {
	case "", "usr", "var":
		return path
	case "etc":
		return "usr/" + path
	case "run", "tmp", "proc", "sys", "dev":
		if deep && rest != "" {
			return ""
		}
		return path
	case "sysroot":
		// Objects may be named by hard links; edit leaves them out.
		if strings.HasPrefix(path, repoPrefix+"objects/") {
			return path
		}
		if below(path, "sysroot/ostree") {
			return ""
		}
	}
	if s.tree.rules.anywhere {
		return path
	}
	return ""
}

func (s *layerScan) entry(ctx context.Context, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
	}
	clean, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	_, name := splitPath(clean)
	if hidden, ok := strings.CutPrefix(name, whiteout); ok && (hidden == "" || hidden == "." || hidden == "..") {
		return fmt.Errorf("hides %q: %w", hidden, fs.ErrInvalid)
	}
	path := s.place(clean)
	if path == "" && clean != "" {
		top, _, _ := strings.Cut(clean, "/")
		s.filtered[top]++
		return nil
	}
	if path == "" {
		path = "."
	}
	e := ostree.Entry{Path: path, Mode: uint32(h.Mode & 0o7777)}
	if e.UID, e.GID, err = importOwner(h); err != nil {
		return err
	}
	by := ostree.Owner{UID: e.UID, GID: e.GID}
	if readers.Sparse(h) {
		return errSparse
	}
	switch h.Typeflag {
	case tar.TypeDir:
		e.Mode |= ostree.ModeDir
	case tar.TypeReg:
		e.Mode |= ostree.ModeRegular
		e.Size = h.Size
		// Read at once, by who gets it.
		e.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(faultReader{body}), nil }
	case tar.TypeSymlink:
		if h.Linkname == "" || !utf8.ValidString(h.Linkname) || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Errorf("link target %.200q: %w", h.Linkname, fs.ErrInvalid)
		}
		e.Mode = ostree.ModeSymlink | 0o777
		e.Target = h.Linkname
	case tar.TypeLink:
		return s.link(path, h.Linkname, by)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return fmt.Errorf("device or pipe: %w", errors.ErrUnsupported)
	default:
		return fmt.Errorf("entry of type %q: %w", h.Typeflag, errors.ErrUnsupported)
	}
	if e.Xattrs, err = importXattrs(h.PAXRecords); err != nil {
		return err
	}
	return s.put(e, by)
}

// faultReader tells early ends as damage.
type faultReader struct{ io.Reader }

func (r faultReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	return n, importTarFault(err)
}

// link yields a hard link, or keeps it until its target comes or does not.
func (s *layerScan) link(path, target string, by ostree.Owner) error {
	clean, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", target, err)
	}
	to := s.place(clean)
	kind, ok := s.kinds[to]
	switch {
	case to == "":
		return fmt.Errorf("hard link to %.200q, which is left out: %w", target, errors.ErrUnsupported)
	case to == path:
		return nil
	case ok && kind == ostree.ModeDir:
		return fmt.Errorf("hard link to the directory %.200q: %w", target, fs.ErrInvalid)
	case ok:
		return s.put(ostree.Entry{Path: path, Link: to, Mode: kind}, by)
	}
	s.waiting = append(s.waiting, waitingLink{ostree.LayerLink{Path: path, Target: to}, by})
	return nil
}

// put yields an entry after the parents that are missing.
func (s *layerScan) put(e ostree.Entry, by ostree.Owner) error {
	kind := e.Mode & ostree.ModeType
	if e.Path == "." && kind != ostree.ModeDir {
		return fmt.Errorf("the root must be a directory: %w", fs.ErrInvalid)
	}
	if dir, _ := splitPath(e.Path); dir != "" {
		if err := s.parent(dir, by); err != nil {
			return err
		}
	}
	if s.kinds[e.Path] == ostree.ModeDir && kind != ostree.ModeDir {
		return fmt.Errorf("takes the place of a directory of the same layer: %w", fs.ErrExist)
	}
	s.kinds[e.Path] = kind
	if _, ok := s.implied[e.Path]; ok && kind == ostree.ModeDir {
		delete(s.implied, e.Path)
		s.paths -= int64(len(e.Path))
	}
	return s.yield(e)
}

// leastImplied is how long, in bytes, the paths of directories that a layer has no entry
// for may be together, beside twice the layer's own size. They are in the commit's
// metadata, and a name of 4 KB can stand for 4 MB of them.
const leastImplied = 4 << 20

// parent yields a directory that nothing stands for yet, and those above it: they
// belong to who owns what is below, as `ostree commit --tar-autocreate-parents`
// has it.
func (s *layerScan) parent(path string, by ostree.Owner) error {
	if kind, ok := s.kinds[path]; ok {
		if kind != ostree.ModeDir {
			return fmt.Errorf("%.200q above it is no directory: %w", path, fs.ErrInvalid)
		}
		return nil
	}
	if dir, _ := splitPath(path); dir != "" {
		if err := s.parent(dir, by); err != nil {
			return err
		}
	}
	s.kinds[path] = ostree.ModeDir
	s.implied[path] = struct{}{}
	if s.paths += int64(len(path)); s.paths > leastImplied+2*s.read.N {
		return fmt.Errorf("paths of directories without an entry are longer together than the layer: %w", errors.ErrUnsupported)
	}
	return s.yield(ostree.Entry{Path: path, Mode: ostree.ModeDir | 0o755, UID: by.UID, GID: by.GID, Implied: true, Detached: true})
}

// importXattrs gives the extended attributes among PAX records, as GNU tar
// (SCHILY, RHT) and libarchive write them.
func importXattrs(records map[string]string) ([]ostree.Xattr, error) {
	found := map[string][]byte{}
	// In this order the one that counts comes last: SCHILY before RHT before LIBARCHIVE.
	for _, key := range slices.Sorted(maps.Keys(records)) {
		value := records[key]
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		data := []byte(value)
		if !ok {
			switch {
			case key == "RHT.security.selinux":
				name = "security.selinux"
			case strings.HasPrefix(key, "LIBARCHIVE.xattr."):
				var err error
				if name, err = url.PathUnescape(key[len("LIBARCHIVE.xattr."):]); err == nil {
					data, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
				}
				if err != nil {
					return nil, fmt.Errorf("attribute %.200q: %w", key, err)
				}
			default:
				continue
			}
		}
		if name == "" || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("attribute %.200q: %w", key, fs.ErrInvalid)
		}
		found[name] = data
	}
	var xattrs []ostree.Xattr
	for _, name := range slices.Sorted(maps.Keys(found)) {
		xattrs = append(xattrs, ostree.Xattr{Name: name, Value: found[name]})
	}
	return xattrs, nil
}
