package container

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"github.com/okd-project/okd-streams/internal/ostreetar"
	"github.com/okd-project/okd-streams/ostree"
)

// layerKeyPrefix begins cache keys; the tar dialect follows.
const layerKeyPrefix = "okd-streams layer "

// layerPlan is one layer before it is written.
type layerPlan struct {
	snapshot *snapshot
	dialect  Dialect
	// commit: the layer that holds the commit and all directories.
	commit bool
	// parents: directories come before the first path in them (format version
	// 2). Not in the commit layer, which has them all.
	parents bool
	compat  bool // see EncapsulateOptions
	// objects in ascending order of checksum, each with its paths in the order
	// they are written.
	objects []objectRun
	weight  int64 // about how many bytes, for scheduling and progress

	name       string // history: what it was made from
	annotation string // ostree.components; not for the commit layer
}

// key names the layer's tar stream: everything that it is a function of.
func (l *layerPlan) key() cacheKey {
	k := newKeyHash()
	k.text(layerKeyPrefix + string(l.dialect))
	if l.compat {
		k.text("compat")
	}
	if l.commit {
		k.text("commit")
		k.bytes(l.snapshot.commit[:])
		// The detached metadata is the one part that the checksum doesn't cover.
		k.bool(l.snapshot.detached != nil)
		k.text(string(l.snapshot.detached))
	} else {
		k.text("chunk")
	}
	k.bool(l.parents)
	dirs := l.newDirs()
	for _, o := range l.objects {
		k.bytes(o.object[:])
		k.number(uint64(len(o.files)))
		for _, f := range o.files {
			for _, d := range dirs.before(f) {
				m := l.snapshot.metas[l.snapshot.dirs[d].meta]
				k.number(uint64(m.uid))
				k.number(uint64(m.gid))
				k.number(uint64(m.mode))
				if l.dialect == Plain { // has their attributes, too
					k.text(string(m.raw))
				}
			}
			k.path(l.snapshot.dirs[l.snapshot.files[f].dir].path, l.snapshot.files[f].name)
		}
	}
	return k.key()
}

// keyHash hashes many short things.
type keyHash struct {
	hash hash.Hash
	buf  []byte // that is to be hashed
}

func newKeyHash() *keyHash { return &keyHash{hash: sha256.New()} }

func (k *keyHash) key() (key cacheKey) {
	k.hash.Write(k.buf)
	k.hash.Sum(key[:0])
	return key
}

// add lets the buffer not grow.
func (k *keyHash) add(longer []byte) {
	if k.buf = longer; len(k.buf) >= 4<<10 {
		k.hash.Write(k.buf)
		k.buf = k.buf[:0]
	}
}

func (k *keyHash) bytes(b []byte) { k.add(append(k.buf, b...)) }

func (k *keyHash) number(n uint64) { k.add(binary.AppendUvarint(k.buf, n)) }

func (k *keyHash) text(s string) {
	k.number(uint64(len(s)))
	k.add(append(k.buf, s...))
}

// path is the text of joinPath.
func (k *keyHash) path(dir, name string) {
	if dir == "" {
		k.text(name)
		return
	}
	k.number(uint64(len(dir) + 1 + len(name)))
	k.add(append(append(append(k.buf, dir...), '/'), name...))
}

func (k *keyHash) bool(b bool) {
	if b {
		k.number(1)
	} else {
		k.number(0)
	}
}

// dirTracker tells which directories a path needs that the layer has not yet.
type dirTracker struct {
	layer *layerPlan
	done  map[int32]bool
	list  []int32
}

func (l *layerPlan) newDirs() *dirTracker {
	t := &dirTracker{layer: l}
	if l.parents {
		t.done = map[int32]bool{}
	}
	return t
}

// before gives the directories above a file that are new, outermost first; nil
// unless the layer has parents. The result is valid until the next call.
func (t *dirTracker) before(file int32) []int32 {
	if t.done == nil {
		return nil
	}
	t.list = t.list[:0]
	s := t.layer.snapshot
	d := s.files[file].dir
	// usr is not above etc in the image.
	top := int32(0)
	if below(s.dirs[d].path, "usr/etc") {
		for i := d; i > 0; i = s.dirs[i].parent {
			top = i
		}
	}
	for ; d > 0 && d != top && !t.done[d]; d = s.dirs[d].parent {
		t.done[d] = true
		t.list = append(t.list, d)
	}
	for i, j := 0, len(t.list)-1; i < j; i, j = i+1, j-1 {
		t.list[i], t.list[j] = t.list[j], t.list[i]
	}
	return t.list
}

// write writes the layer's tar stream.
func (l *layerPlan) write(ctx context.Context, to io.Writer) error {
	if l.dialect == Plain {
		return l.writePlain(ctx, ostreetar.NewWriter(to))
	}
	w := ostreetar.NewWriter(to)
	if l.dialect == V1a {
		w = ostreetar.NewWriterV1a(to)
	}
	w.Compat = l.compat
	if l.commit {
		if err := l.writeCommit(ctx, w); err != nil {
			return err
		}
	} else if err := w.Repository(); err != nil {
		return err
	}
	dirs := l.newDirs()
	for _, o := range l.objects {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := l.writeObject(ctx, w, o.object); err != nil {
			return err
		}
		for _, f := range o.files {
			for _, d := range dirs.before(f) {
				node := &l.snapshot.dirs[d]
				m := l.snapshot.metas[node.meta]
				if err := w.Directory(ostreetar.ImagePath(node.path), m.uid, m.gid, m.mode); err != nil {
					return err
				}
			}
			if err := w.Path(ostreetar.ImagePath(l.snapshot.path(f))); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

func (l *layerPlan) writeObject(ctx context.Context, w *ostreetar.Writer, object ostree.Checksum) error {
	return l.open(ctx, object, w.Object)
}

// open reads an object for one of the writer's methods.
func (l *layerPlan) open(ctx context.Context, object ostree.Checksum, write func(*ostreetar.Object, io.Reader) error) error {
	f, err := l.snapshot.repo.ReadFile(ctx, object)
	if err != nil {
		return err
	}
	o := ostreetar.Object{
		Checksum: object.String(), UID: f.UID, GID: f.GID, Mode: f.Mode,
		Symlink: f.Mode&ostree.ModeType == ostree.ModeSymlink, Target: f.Target, Size: f.Size, Xattrs: tarXattrs(f.Xattrs),
	}
	if len(f.Xattrs) > 0 {
		o.RawXattrs = ostree.MarshalXattrs(f.Xattrs)
	}
	if o.Symlink {
		return write(&o, nil)
	}
	content, err := f.Open(ctx)
	if err != nil {
		return err
	}
	// The writer reads to the end, where the object's checksum is verified.
	err = write(&o, content)
	if closeErr := content.Close(); err == nil {
		err = closeErr
	}
	return err
}

func tarXattrs(xattrs []ostree.Xattr) []ostreetar.Xattr {
	var out []ostreetar.Xattr
	for _, x := range xattrs {
		out = append(out, ostreetar.Xattr(x))
	}
	return out
}

// writeCommit writes the commit and every metadata object and directory of its
// tree.
func (l *layerPlan) writeCommit(ctx context.Context, w *ostreetar.Writer) error {
	s := l.snapshot
	meta := func(c ostree.Checksum) *dirMeta { return s.metas[c] }
	root := s.dirs[0]
	m := meta(root.meta)
	if err := w.Directory("./", m.uid, m.gid, m.mode); err != nil {
		return err
	}
	if err := w.Repository(); err != nil {
		return err
	}
	if err := w.Metadata(s.commit.String(), "commit", s.raw); err != nil {
		return err
	}
	if s.detached != nil {
		if err := w.Metadata(s.commit.String(), "commitmeta", s.detached); err != nil {
			return err
		}
	}
	seen := map[ostree.Checksum]bool{}
	once := func(c ostree.Checksum, suffix string) error {
		if seen[c] {
			return nil
		}
		seen[c] = true
		if suffix == "dirmeta" {
			return w.Metadata(c.String(), suffix, meta(c).raw)
		}
		raw, err := s.rawTree(ctx, c)
		if err != nil {
			return err
		}
		return w.Metadata(c.String(), suffix, raw)
	}

	hasTmp := false
	var skipped []dirNode
	for i := 0; i < len(s.dirs); i++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		d := s.dirs[i]
		if err := once(d.meta, "dirmeta"); err != nil {
			return err
		}
		if i > 0 {
			if d.path == "sysroot" {
				// The repository's own entry stands for it; see below.
				skipped = s.dirs[i:d.end]
				i = int(d.end) - 1
				continue
			}
			hasTmp = hasTmp || d.path == "var/tmp"
			m := meta(d.meta)
			path := "./" + ostreetar.ImagePath(d.path)
			if d.path == "usr/etc" && l.dialect == V1a {
				path += "/"
			}
			if err := w.Directory(path, m.uid, m.gid, m.mode); err != nil {
				return err
			}
		}
		if err := once(d.tree, "dirtree"); err != nil {
			return err
		}
	}
	// The reference leaves these out, so that a commit with an empty sysroot and
	// no other empty directory, or with anything in sysroot, is incomplete when
	// imported. Where the objects are in the layer already, nothing differs.
	if l.compat {
		skipped = nil
	}
	for _, d := range skipped {
		if err := once(d.meta, "dirmeta"); err != nil {
			return err
		}
		if err := once(d.tree, "dirtree"); err != nil {
			return err
		}
	}
	// The tools of v1a don't notice that it is there.
	if hasTmp && l.dialect != V1a {
		return nil
	}
	return w.Directory("var/tmp", 0, 0, 0o1777)
}
