package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
)

// MutableTree is a commit's tree that is being edited, without a checkout: only
// the dirtrees on the way to a change are read, and [Repo.Commit], which takes it
// as any [Tree], writes only those that changed. Paths are slash-separated; ""
// and "." are the root; symbolic links are not followed. It is not safe for
// concurrent use, and of no use after an error of one of its methods other than
// [fs.ErrNotExist].
//
// Files of other trees come in by [Overlay]; those of commits by Copy and Merge.
type MutableTree struct {
	repo    *Repo
	root    *mutableDir
	sources map[Checksum]struct{} // commits that have the objects in it
	objects map[Checksum]struct{} // content objects that no commit may have
}

// mutableDir is a directory as it is stored, with changes.
type mutableDir struct {
	tree, meta Checksum
	newMeta    []byte // serialized, if it was changed
	read       bool   // files and dirs are those of tree, and what was changed
	changed    bool   // in files or dirs
	files      map[string]Checksum
	dirs       map[string]*mutableDir
}

// Edit begins to edit the tree of a commit, which stays as it is.
func (r *Repo) Edit(ctx context.Context, commit Checksum) (*MutableTree, error) {
	m := &MutableTree{repo: r, sources: make(map[Checksum]struct{}), objects: make(map[Checksum]struct{})}
	c, err := m.source(ctx, commit)
	if err != nil {
		return nil, &Error{Op: "edit", Target: commit.String(), Err: err}
	}
	m.root = &mutableDir{tree: c.RootTree, meta: c.RootMeta}
	return m, nil
}

// source reads a commit that objects are taken from.
func (m *MutableTree) source(ctx context.Context, c Checksum) (*Commit, error) {
	if partial, err := m.repo.Partial(ctx, c); err != nil {
		return nil, err
	} else if partial {
		return nil, errors.New("the commit is partial: it may lack objects")
	}
	commit, err := m.repo.ReadCommit(ctx, c)
	if err == nil {
		m.sources[c] = struct{}{}
	}
	return commit, err
}

// load reads a directory's names.
func (m *MutableTree) load(ctx context.Context, d *mutableDir) error {
	if d.read {
		return nil
	}
	t, err := m.repo.ReadDirTree(ctx, d.tree)
	if err != nil {
		return err
	}
	d.files, d.dirs = make(map[string]Checksum, len(t.Files)), make(map[string]*mutableDir, len(t.Dirs))
	for i := range t.Files {
		d.files[t.Files[i].Name] = t.Files[i].Object
	}
	for i := range t.Dirs {
		d.dirs[t.Dirs[i].Name] = &mutableDir{tree: t.Dirs[i].Tree, meta: t.Dirs[i].Meta}
	}
	d.read = true
	return nil
}

// parent gives the directory that path is in, read, and path's last component;
// all on the way are marked as changed if change.
func (m *MutableTree) parent(ctx context.Context, path string, change bool) (*mutableDir, string, error) {
	parts := strings.Split(path, "/")
	d := m.root
	var way []*mutableDir
	for _, part := range parts[:len(parts)-1] {
		if err := m.load(ctx, d); err != nil {
			return nil, "", err
		}
		way = append(way, d)
		if d = d.dirs[part]; d == nil {
			return nil, "", fmt.Errorf("no directory %.1024q: %w", parentOf(path), fs.ErrNotExist)
		}
	}
	if err := m.load(ctx, d); err != nil {
		return nil, "", err
	}
	if change {
		for _, d := range append(way, d) {
			d.changed = true
		}
	}
	return d, parts[len(parts)-1], nil
}

// do runs one edit of a path.
func (m *MutableTree) do(op, path string, fn func(clean string) error) error {
	clean, err := cleanPath(path)
	if err == nil {
		err = fn(clean)
	}
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = &Error{Op: op, Target: quoted(path), Err: err}
		}
	}
	return err
}

// Remove removes what path names and all below it. What is not there is an error
// that wraps [fs.ErrNotExist]; the root can't be removed.
func (m *MutableTree) Remove(ctx context.Context, path string) error {
	return m.do("remove", path, func(path string) error {
		if path == "." {
			return errors.New("the root can't be removed")
		}
		d, name, err := m.parent(ctx, path, false)
		if err != nil {
			return err
		}
		_, isFile := d.files[name]
		if d.dirs[name] == nil && !isFile {
			return fs.ErrNotExist
		}
		if d, name, err = m.parent(ctx, path, true); err != nil {
			return err
		}
		delete(d.files, name)
		delete(d.dirs, name)
		return nil
	})
}

// SetFile lets path be a content object of the repository, whatever it was. Its
// directory must be there.
func (m *MutableTree) SetFile(ctx context.Context, path string, object Checksum) error {
	return m.do("set file", path, func(path string) error {
		if ok, err := m.repo.Has(ctx, TypeFile, object); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("object %s: %w", objectName(TypeFile, object), fs.ErrNotExist)
		}
		m.objects[object] = struct{}{}
		return m.set(ctx, path, fsNode{file: &DirTreeFile{Object: object}})
	})
}

// set lets path be a node of the repository.
func (m *MutableTree) set(ctx context.Context, path string, node fsNode) error {
	if path == "." {
		if node.dir == nil {
			return errors.New("the root must be a directory")
		}
		m.root = &mutableDir{tree: node.dir.Tree, meta: node.dir.Meta}
		return nil
	}
	d, name, err := m.parent(ctx, path, true)
	if err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	delete(d.files, name)
	delete(d.dirs, name)
	if node.dir != nil {
		d.dirs[name] = &mutableDir{tree: node.dir.Tree, meta: node.dir.Meta}
	} else {
		d.files[name] = node.file.Object
	}
	return nil
}

// SetDir gives the directory path another owner, mode and attributes, or makes
// it, empty, where there is none; a file goes.
func (m *MutableTree) SetDir(ctx context.Context, path string, meta DirMeta) error {
	return m.do("set directory", path, func(path string) error {
		data, err := meta.Marshal()
		if err != nil {
			return err
		}
		if path == "." {
			m.root.newMeta = data
			return nil
		}
		d, name, err := m.parent(ctx, path, true)
		if err != nil {
			return err
		}
		if err := checkName(name); err != nil {
			return err
		}
		delete(d.files, name)
		sub := d.dirs[name]
		if sub == nil {
			sub = &mutableDir{read: true, changed: true, files: make(map[string]Checksum), dirs: make(map[string]*mutableDir)}
			d.dirs[name] = sub
		}
		sub.newMeta = data
		return nil
	})
}

// Copy lets path be what from names in a commit of the same repository: a file,
// a link, or a directory with all below it. Its directory must be there.
func (m *MutableTree) Copy(ctx context.Context, path string, commit Checksum, from string) error {
	return m.do("copy", path, func(path string) error {
		node, err := m.find(ctx, commit, from)
		if err != nil {
			return err
		}
		return m.set(ctx, path, node)
	})
}

func (m *MutableTree) find(ctx context.Context, commit Checksum, from string) (fsNode, error) {
	c, err := m.source(ctx, commit)
	if err != nil {
		return fsNode{}, err
	}
	from, err = cleanPath(from)
	if err != nil {
		return fsNode{}, err
	}
	return m.repo.at(ctx, c, from)
}

// Merge lays a commit of the same repository over the tree, as [Overlay] does: a
// directory over a directory brings its owner, mode and attributes, and the
// children of both stay; anything else takes the place of what was there.
func (m *MutableTree) Merge(ctx context.Context, commit Checksum) error {
	return m.do("merge", ".", func(string) error {
		node, err := m.find(ctx, commit, ".")
		if err != nil {
			return err
		}
		_, err = m.merge(ctx, m.root, node.dir, 0)
		return err
	})
}

// merge lays a directory over d and reports whether that changed it.
func (m *MutableTree) merge(ctx context.Context, d *mutableDir, over *DirTreeDir, depth int) (changed bool, err error) {
	if depth > maxDepth {
		return false, corruptf("directories nest deeper than %d", maxDepth)
	}
	if d.newMeta != nil || d.meta != over.Meta {
		d.meta, d.newMeta, changed = over.Meta, nil, true
	}
	if !d.changed && d.tree == over.Tree {
		return changed, nil
	}
	t, err := m.repo.ReadDirTree(ctx, over.Tree)
	if err != nil {
		return changed, err
	}
	if err := m.load(ctx, d); err != nil {
		return changed, err
	}
	for i := range t.Files {
		f := &t.Files[i]
		if old, ok := d.files[f.Name]; ok && old == f.Object {
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
			d.dirs[sub.Name] = &mutableDir{tree: sub.Tree, meta: sub.Meta}
			d.changed = true
			continue
		}
		below, err := m.merge(ctx, old, sub, depth+1)
		if err != nil {
			return changed, err
		}
		d.changed = d.changed || below
	}
	return changed || d.changed, nil
}

// Entries gives the tree as it is now, as that of [Repo.Tree].
func (m *MutableTree) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { m.entries(ctx, ".", m.root, 0, yield) }
}

func (m *MutableTree) entries(ctx context.Context, path string, d *mutableDir, depth int, yield func(Entry, error) bool) bool {
	fail := func(err error) bool {
		yield(Entry{}, err)
		return false
	}
	if depth > maxDepth {
		return fail(corruptf("directories nest deeper than %d", maxDepth))
	}
	if !d.read && d.newMeta == nil {
		return m.repo.walk(ctx, path, d.tree, d.meta, depth, maxDepth+1, yield)
	}
	meta, err := (*DirMeta)(nil), error(nil)
	if d.newMeta != nil {
		meta, err = DecodeDirMeta(d.newMeta)
	} else {
		meta, err = m.repo.ReadDirMeta(ctx, d.meta)
	}
	if err == nil {
		err = m.load(ctx, d)
	}
	if err != nil {
		return fail(err)
	}
	e := Entry{Path: path, Mode: meta.Mode, UID: meta.UID, GID: meta.GID, Xattrs: meta.Xattrs, Detached: true}
	if d.newMeta == nil {
		e.Object = d.meta
	}
	if !yield(e, nil) {
		return false
	}
	names := append(slices.Collect(maps.Keys(d.files)), slices.Collect(maps.Keys(d.dirs))...)
	slices.Sort(names)
	for _, name := range names {
		if sub := d.dirs[name]; sub != nil {
			if !m.entries(ctx, join(path, name), sub, depth+1, yield) {
				return false
			}
			continue
		}
		f, err := m.repo.ReadFile(ctx, d.files[name])
		if err != nil {
			return fail(err)
		}
		if !yield(fileEntry(join(path, name), d.files[name], f), nil) {
			return false
		}
	}
	return true
}

// writeMutable stages the dirtrees and dirmetas of m that are new. It has the
// repository's lock, so that what is there now stays.
func (b *builder) writeMutable(ctx context.Context, m *MutableTree) (tree, meta Checksum, err error) {
	for c := range m.sources {
		if ok, err := b.repo.Has(ctx, TypeCommit, c); err != nil || !ok {
			return tree, meta, errors.Join(fmt.Errorf("commit %s, which the tree is of: %w", c, fs.ErrNotExist), err)
		}
	}
	for c := range m.objects {
		if ok, err := b.repo.Has(ctx, TypeFile, c); err != nil || !ok {
			return tree, meta, errors.Join(fmt.Errorf("object %s: %w", objectName(TypeFile, c), fs.ErrNotExist), err)
		}
	}
	return b.writeMutableDir(ctx, m.root)
}

func (b *builder) writeMutableDir(ctx context.Context, d *mutableDir) (tree, meta Checksum, err error) {
	if err := ctx.Err(); err != nil {
		return tree, meta, err
	}
	tree, meta = d.tree, d.meta
	if d.newMeta != nil {
		if meta, err = b.stage(TypeDirMeta, d.newMeta); err != nil {
			return tree, meta, err
		}
	}
	if !d.read {
		return tree, meta, nil
	}
	// What was only read is what it was, unless something below it changed.
	dirs := make(map[string]DirTreeDir, len(d.dirs))
	for name, sub := range d.dirs {
		t, m, err := b.writeMutableDir(ctx, sub)
		if err != nil {
			return tree, meta, err
		}
		dirs[name] = DirTreeDir{Name: name, Tree: t, Meta: m}
	}
	if !d.changed && !slices.ContainsFunc(slices.Collect(maps.Keys(dirs)), func(name string) bool {
		return dirs[name].Tree != d.dirs[name].tree || dirs[name].Meta != d.dirs[name].meta
	}) {
		return tree, meta, nil
	}
	b.encoder.reset()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		c := d.files[name]
		b.encoder.file(name, &c)
	}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		sub := dirs[name]
		b.encoder.dir(name, &sub.Tree, &sub.Meta)
	}
	b.buf = b.encoder.bytes(b.buf[:0])
	tree, err = b.stage(TypeDirTree, b.buf)
	return tree, meta, err
}
