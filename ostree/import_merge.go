package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Layer is a layer of a container image as a commit. Its files named .wh.NAME
// hide NAME below, and .wh..wh..opq all that is below in their directory.
type Layer struct {
	Commit Checksum
	// DirMeta lets the layer's directories give those that are there already
	// their owner, mode and attributes, as container engines do. Otherwise those
	// keep what they have, as bootc and ostree-ext have it.
	DirMeta bool
	// Implied are the layer's directories, sorted, that only stand for parents
	// which it does not have: DirMeta does not concern them.
	Implied []string
	// Links are hard links to files that are not in the layer but below it.
	Links []LayerLink
}

// LayerLink is a hard link of a layer to a file that is not in it.
type LayerLink struct {
	Path   string
	Target string   // a path below
	Object Checksum // if not zero, the content object, and Target only its name
}

// Layers begins to edit the tree that layers give, laid one over the other and
// all over that of base; zero: over nothing. They are applied by their dirtrees,
// by the rules of libostree's checkout with whiteouts: in each directory the
// layer's whiteouts hide what is there, then its files and links take the place
// of whatever has their name, a directory that of a file. Commits that are
// partial are refused. A fault of a layer is an [*Error] whose Target is its commit.
func (r *Repo) Layers(ctx context.Context, base Checksum, layers []Layer) (*MutableTree, error) {
	m := &MutableTree{repo: r, sources: make(map[Checksum]struct{}), objects: make(map[Checksum]struct{})}
	fail := func(c Checksum, err error) (*MutableTree, error) {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = &Error{Op: "merge", Target: c.String(), Err: err}
		}
		return nil, err
	}
	if !base.IsZero() {
		c, err := m.source(ctx, base)
		if err != nil {
			return fail(base, err)
		}
		m.root = &mutableDir{tree: c.RootTree, meta: c.RootMeta}
	}
	for i := range layers {
		if err := m.layer(ctx, &layers[i]); err != nil {
			return nil, &Error{Op: "merge", Target: layers[i].Commit.String(), Err: err}
		}
	}
	if m.root == nil {
		return fail(base, errors.New("neither a base nor a layer"))
	}
	return m, nil
}

// layer lays one layer over m.
func (m *MutableTree) layer(ctx context.Context, l *Layer) error {
	c, err := m.source(ctx, l.Commit)
	if err != nil {
		return err
	}
	if m.root == nil {
		m.root = newMutableDir(c.RootMeta)
	}
	links := make([]Checksum, len(l.Links))
	for i, link := range l.Links {
		if links[i] = link.Object; !link.Object.IsZero() {
			continue
		}
		if links[i], err = m.Object(ctx, link.Target); err != nil {
			return fmt.Errorf("hard link %s to %s: %w", quoted(link.Path), quoted(link.Target), err)
		}
	}
	o := &overlay{m: m, dirMeta: l.DirMeta, implied: make(map[string]struct{}, len(l.Implied))}
	for _, path := range l.Implied {
		o.implied[path] = struct{}{}
	}
	if err := o.dir(ctx, ".", m.root, c.RootTree, c.RootMeta, 0); err != nil {
		return err
	}
	for i, link := range l.Links {
		if err := m.SetFile(ctx, link.Path, links[i]); err != nil {
			return err
		}
	}
	return nil
}

func newMutableDir(meta Checksum) *mutableDir {
	return &mutableDir{meta: meta, read: true, changed: true, files: make(map[string]Checksum), dirs: make(map[string]*mutableDir)}
}

// overlay is a layer on its way into a tree.
type overlay struct {
	m       *MutableTree
	dirMeta bool
	implied map[string]struct{}
}

// dir lays a directory of the layer over d.
func (o *overlay) dir(ctx context.Context, path string, d *mutableDir, tree, meta Checksum, depth int) error {
	if depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	if _, implied := o.implied[path]; o.dirMeta && !implied {
		d.meta, d.newMeta = meta, nil
	}
	t, err := o.m.repo.ReadDirTree(ctx, tree)
	if err != nil || len(t.Files) == 0 && len(t.Dirs) == 0 {
		return err
	}
	if err := o.m.load(ctx, d); err != nil {
		return err
	}
	for i := range t.Files {
		if name := t.Files[i].Name; name == opaqueWhiteout {
			clear(d.files)
			clear(d.dirs)
			d.changed = true
		}
	}
	for i := range t.Files {
		if name, ok := strings.CutPrefix(t.Files[i].Name, whiteoutPrefix); ok {
			delete(d.files, name)
			delete(d.dirs, name)
			d.changed = true
		}
	}
	for i := range t.Files {
		f := &t.Files[i]
		if strings.HasPrefix(f.Name, whiteoutPrefix) {
			continue
		}
		delete(d.dirs, f.Name)
		d.files[f.Name] = f.Object
		d.changed = true
	}
	for i := range t.Dirs {
		sub := &t.Dirs[i]
		old := d.dirs[sub.Name]
		if old == nil {
			delete(d.files, sub.Name)
			old = newMutableDir(sub.Meta)
			d.dirs[sub.Name] = old
			d.changed = true
		}
		meta := old.meta
		if err := o.dir(ctx, join(path, sub.Name), old, sub.Tree, sub.Meta, depth+1); err != nil {
			return err
		}
		d.changed = d.changed || old.meta != meta
	}
	return nil
}

// Object gives the content object that path names. What is not there, or is a
// directory, is an error that wraps [fs.ErrNotExist].
func (m *MutableTree) Object(ctx context.Context, path string) (c Checksum, err error) {
	err = m.do("look up", path, func(path string) error {
		d, name, err := m.parent(ctx, path, false)
		if err != nil {
			return err
		}
		var ok bool
		if c, ok = d.files[name]; !ok {
			return fmt.Errorf("no file: %w", fs.ErrNotExist)
		}
		return nil
	})
	return c, err
}
