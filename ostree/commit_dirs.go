package ostree

import (
	"context"
	"path"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// dirBatch is how many directories a worker takes at once.
const dirBatch = 32

// writeDirs stages the dirtree and dirmeta objects of the whole tree, the deepest
// directories first: those of one depth do not need each other.
func (b *builder) writeDirs(ctx context.Context) error {
	if b.dropped {
		b.used = make(map[Checksum]struct{})
	}
	levels := [][]*dirNode{{b.root}}
	for {
		var below []*dirNode
		for _, d := range levels[len(levels)-1] {
			for _, sub := range d.dirs.sorted(&b.names) {
				below = append(below, b.subs.at(sub))
			}
			if !b.dropped {
				continue
			}
			for _, f := range d.files.sorted(&b.names) {
				b.used[b.files.at(f).sum] = struct{}{}
			}
			for _, sum := range d.walk.files {
				b.used[Checksum([]byte(sum))] = struct{}{}
			}
		}
		if len(below) == 0 {
			break
		}
		levels = append(levels, below)
	}
	writers := make([]dirWriter, len(b.txn.shelves))
	for i := range writers {
		writers[i] = dirWriter{b: b, shelf: b.txn.shelves[i]}
	}
	for depth, level := range slices.Backward(levels) {
		levels[depth] = nil
		var next atomic.Int64
		group, gctx := errgroup.WithContext(ctx)
		for i := range min(len(writers), (len(level)+dirBatch-1)/dirBatch) {
			group.Go(func() error {
				for {
					end := int(next.Add(dirBatch))
					if end-dirBatch >= len(level) {
						return nil
					}
					if err := gctx.Err(); err != nil {
						return err
					}
					for _, d := range level[end-dirBatch : min(end, len(level))] {
						if err := writers[i].write(d); err != nil {
							return &Error{Op: "commit", Target: b.pathOf(b.root, d, depth), Err: err}
						}
					}
				}
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pathOf gives the path of a directory so deep below top, or "". It does not look
// into those of that depth, which others may be at.
func (b *builder) pathOf(top, d *dirNode, depth int) string {
	if top == d {
		return "."
	}
	for name, number := range top.dirs.sorted(&b.names) {
		sub := b.subs.at(number)
		if sub == d {
			return name
		}
		if depth > 1 {
			if p := b.pathOf(sub, d, depth-1); p != "" {
				return path.Join(name, p)
			}
		}
	}
	return ""
}

// dirWriter stages directories. It belongs to one goroutine.
type dirWriter struct {
	b       *builder
	shelf   *shelf
	encoder dirTreeEncoder
	buf     []byte
	others  []namedSum
}

type namedSum struct {
	name string
	sum  *Checksum
}

// write stages the objects of a directory whose own directories are staged. Of
// a directory that is staged, its checksums are kept alone.
func (w *dirWriter) write(d *dirNode) error {
	if d.same = w.same(d); d.same {
		d.tree = Checksum([]byte(d.walk.known.tree))
		return w.finish(d)
	}
	w.encoder.reset()
	w.files(d)
	for name, number := range d.dirs.sorted(&w.b.names) {
		sub := w.b.subs.at(number)
		w.encoder.dir(name, &sub.tree, &sub.meta.sum)
	}
	w.buf = w.encoder.bytes(w.buf[:0])
	d.tree = sum(w.buf)
	// The cache has the dirtree of a folder that comes as it is with the folder.
	if d.walk != nil || w.b.cache == nil || !w.b.cache.dirtree(&d.tree) {
		fresh, err := w.shelf.metadataOf(TypeDirTree, &d.tree, w.buf)
		if err != nil {
			return err
		}
		w.b.stats.metadata(fresh)
	}
	return w.finish(d)
}

// finish stages what is left of a directory whose dirtree is there.
func (w *dirWriter) finish(d *dirNode) error {
	if d.walk != nil {
		d.walk.tree = d.tree
	}
	d.meta.staged.Do(func() { d.meta.sum, d.meta.err = w.stage(TypeDirMeta, d.meta.data) })
	if d.meta.err != nil {
		return d.meta.err
	}
	d.files, d.dirs, d.walk = nodeSet{}, nodeSet{}, nil
	return nil
}

// same reports whether nothing in a directory and below it changed since its dirtree was
// in the latest tree.
func (w *dirWriter) same(d *dirNode) bool {
	if d.walk == nil || !d.walk.keeps || !d.walk.same() || Checksum([]byte(d.walk.known.tree)).IsZero() {
		return false
	}
	for _, number := range d.dirs.sorted(&w.b.names) {
		if !w.b.subs.at(number).same {
			return false
		}
	}
	return true
}

// files encodes the files of a directory: those that are known and the others, each in
// the order of their names.
func (w *dirWriter) files(d *dirNode) {
	others := w.others[:0]
	for name, number := range d.files.sorted(&w.b.names) {
		others = append(others, namedSum{name, &w.b.files.at(number).sum})
	}
	w.others = others
	for name, sum := range d.walk.files {
		for len(others) > 0 && others[0].name < name {
			w.encoder.file(others[0].name, others[0].sum)
			others = others[1:]
		}
		object := Checksum([]byte(sum))
		w.encoder.file(name, &object)
	}
	for _, o := range others {
		w.encoder.file(o.name, o.sum)
	}
}

func (w *dirWriter) stage(kind ObjectType, data []byte) (Checksum, error) {
	c, fresh, err := w.shelf.metadata(kind, data)
	w.b.stats.metadata(fresh)
	return c, err
}
