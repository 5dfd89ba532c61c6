package ostree

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Change is one difference that [Diff] found: what a path is in the one tree and
// in the other, with modes, owners, sizes and attributes.
type Change struct {
	Path string
	From *Entry // nil: the path was added
	To   *Entry // nil: it was removed
}

// Kind is 'A' for added, 'D' for removed (deleted) and 'M' for modified, the
// letters of `ostree diff`.
func (c *Change) Kind() byte {
	switch {
	case c.From == nil:
		return 'A'
	case c.To == nil:
		return 'D'
	}
	return 'M'
}

// Diff yields what is different between two trees: files and links of another
// checksum (content, mode, owner, attributes), directories of another owner, mode
// or attributes, and whatever is in only one of them, everything below a
// directory included. (`ostree diff` names only the topmost of what was removed,
// and never the root.) Paths come in the order of [Repo.Tree].
//
// Of two commits, even of different repositories, only what differs is read.
// Other trees are read whole first, files too that have no [Entry].Object; they
// take about 300 bytes of memory a path.
func Diff(ctx context.Context, from, to Tree) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := &differ{ctx: ctx, yield: yield}
		a, ok := from.(*commitTree)
		b, ok2 := to.(*commitTree)
		var err error
		if ok && ok2 {
			err = d.commits(a, b)
		} else {
			err = d.trees(from, to)
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// differ is one comparison. Its methods give errors that end it; stopped says
// that the reader wants no more.
type differ struct {
	ctx     context.Context
	yield   func(Change, error) bool
	stopped bool
}

func (d *differ) report(path string, from, to *Entry) {
	d.stopped = d.stopped || !d.yield(Change{path, from, to}, nil)
}

func (d *differ) commits(a, b *commitTree) error {
	var roots [2]DirTreeDir
	for i, t := range []*commitTree{a, b} {
		c, err := t.repo.ReadCommit(d.ctx, t.commit)
		if err != nil {
			return err
		}
		roots[i] = DirTreeDir{Name: ".", Tree: c.RootTree, Meta: c.RootMeta}
	}
	return d.dirs(".", a.repo, b.repo, &roots[0], &roots[1], 0)
}

// dirs compares two directories.
func (d *differ) dirs(path string, a, b *Repo, from, to *DirTreeDir, depth int) error {
	if depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	if from.Meta != to.Meta {
		if err := d.nodes(path, a, b, fsNode{dir: from}, fsNode{dir: to}); err != nil {
			return err
		}
	}
	if from.Tree == to.Tree || d.stopped {
		return nil
	}
	x, err := a.ReadDirTree(d.ctx, from.Tree)
	if err != nil {
		return err
	}
	y, err := b.ReadDirTree(d.ctx, to.Tree)
	if err != nil {
		return err
	}
	names := make(map[string]struct{})
	for _, t := range []*DirTree{x, y} {
		for i := range t.Files {
			names[t.Files[i].Name] = struct{}{}
		}
		for i := range t.Dirs {
			names[t.Dirs[i].Name] = struct{}{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, _ := x.child(name)
		q, _ := y.child(name)
		at := join(path, name)
		switch {
		case p.dir != nil && q.dir != nil:
			err = d.dirs(at, a, b, p.dir, q.dir, depth+1)
		case p.file != nil && q.file != nil && p.file.Object == q.file.Object:
		default:
			err = d.nodes(at, a, b, p, q)
			if err == nil && p.dir != nil {
				err = d.below(at, a, p.dir, true)
			}
			if err == nil && q.dir != nil {
				err = d.below(at, b, q.dir, false)
			}
		}
		if err != nil || d.stopped {
			return err
		}
	}
	return nil
}

// nodes reports what path is in each; either may be nothing.
func (d *differ) nodes(path string, a, b *Repo, p, q fsNode) error {
	var entries [2]*Entry
	for i, repo := range []*Repo{a, b} {
		node := []fsNode{p, q}[i]
		switch {
		case node.dir != nil:
			m, err := repo.ReadDirMeta(d.ctx, node.dir.Meta)
			if err != nil {
				return err
			}
			entries[i] = &Entry{Path: path, Mode: m.Mode, UID: m.UID, GID: m.GID, Xattrs: m.Xattrs, Object: node.dir.Meta, Detached: true}
		case node.file != nil:
			f, err := repo.ReadFile(d.ctx, node.file.Object)
			if err != nil {
				return err
			}
			e := fileEntry(path, node.file.Object, f)
			entries[i] = &e
		}
	}
	d.report(path, entries[0], entries[1])
	return nil
}

// below reports what is below a directory that only one tree has.
func (d *differ) below(path string, repo *Repo, dir *DirTreeDir, removed bool) error {
	var failed error
	repo.walk(d.ctx, path, dir.Tree, dir.Meta, 0, maxDepth+1, func(e Entry, err error) bool {
		switch {
		case err != nil:
			failed = err
			return false
		case e.Path == path:
		case removed:
			d.report(e.Path, &e, nil)
		default:
			d.report(e.Path, nil, &e)
		}
		return !d.stopped
	})
	return failed
}

// trees compares trees of any kind.
func (d *differ) trees(from, to Tree) error {
	a, err := summed(d.ctx, from)
	if err != nil {
		return err
	}
	b, err := summed(d.ctx, to)
	if err != nil {
		return err
	}
	paths := make(map[string]struct{}, len(a))
	for p := range a {
		paths[p] = struct{}{}
	}
	for p := range b {
		paths[p] = struct{}{}
	}
	sorted := slices.SortedFunc(maps.Keys(paths), comparePaths)
	for _, p := range sorted {
		x, y := a[p], b[p]
		if x != nil && y != nil && x.Object == y.Object && (x.Mode&ModeType == ModeDir) == (y.Mode&ModeType == ModeDir) {
			continue
		}
		if d.report(p, x, y); d.stopped {
			return nil
		}
	}
	return nil
}

// comparePaths compares component by component.
func comparePaths(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." || b == "." {
		return strings.Compare(strings.TrimPrefix(a, "."), strings.TrimPrefix(b, "."))
	}
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return len(restA) - len(restB)
		}
		a, b = restA, restB
	}
}

// summed gives what is in a tree at its end, by path, every entry with its Object.
func summed(ctx context.Context, src Tree) (map[string]*Entry, error) {
	entries := make(map[string]*Entry)
	children := make(map[string]map[string]struct{})
	var remove func(p string)
	remove = func(p string) {
		for child := range children[p] {
			remove(child)
		}
		delete(children, p)
		delete(entries, p)
	}
	for e, err := range src.Entries(ctx) {
		if err != nil {
			return nil, err
		}
		if e.Link != "" {
			linked := entries[e.Link]
			if linked == nil {
				return nil, &Error{"diff", quoted(e.Path), fmt.Errorf("hard link to %.1024q, which is no file in the tree", e.Link)}
			}
			same := *linked
			same.Path = e.Path
			e = same
		}
		old := entries[e.Path]
		isDir := e.Mode&ModeType == ModeDir
		switch {
		case old != nil && isDir && old.Mode&ModeType == ModeDir:
			if e.Implied {
				continue
			}
		case old != nil:
			remove(e.Path)
		}
		if e.Object, err = objectOf(ctx, &e); err != nil {
			return nil, &Error{"diff", quoted(e.Path), err}
		}
		entries[e.Path] = &e
		if e.Path != "." {
			parent := parentOf(e.Path)
			if children[parent] == nil {
				children[parent] = make(map[string]struct{})
			}
			children[parent][e.Path] = struct{}{}
		}
	}
	return entries, nil
}

// objectOf gives the checksum that an entry's object would have.
func objectOf(ctx context.Context, e *Entry) (c Checksum, err error) {
	if !e.Object.IsZero() {
		return e.Object, nil
	}
	if e.Identity != (FileID{}) && slices.ContainsFunc(e.Xattrs, withoutValue) {
		e.Xattrs = slices.DeleteFunc(slices.Clone(e.Xattrs), withoutValue) // as a commit has it
	}
	if e.Mode&ModeType == ModeDir {
		data, err := (&DirMeta{UID: e.UID, GID: e.GID, Mode: e.Mode, Xattrs: e.Xattrs}).Marshal()
		return sum(data), err
	}
	if err := checkFile(e.Mode, e.Target, e.Xattrs); err != nil {
		return c, err
	}
	h := sha256.New()
	h.Write(appendFileHeader(nil, e.UID, e.GID, e.Mode, e.Target, MarshalXattrs(e.Xattrs)))
	if e.Mode&ModeType == ModeRegular && e.Open != nil {
		body, err := e.Open(ctx)
		if err != nil {
			return c, err
		}
		n, err := io.Copy(h, body)
		if e := body.Close(); err == nil {
			err = e
		}
		if err == nil && n != e.Size {
			err = fmt.Errorf("content has %d bytes, want %d", n, e.Size)
		}
		if err != nil {
			return c, err
		}
	}
	return Checksum(h.Sum(nil)), nil
}
