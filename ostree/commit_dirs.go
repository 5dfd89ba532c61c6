package ostree

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// namedDir is a directory of the tree with its path.
type namedDir struct {
	path string
	node *dirNode
}

// dirBatch is how many directories a worker takes at once.
const dirBatch = 32

// writeDirs stages the dirtree and dirmeta objects of the whole tree, the deepest
// directories first: those of one depth do not need each other.
func (b *builder) writeDirs(ctx context.Context) error {
	if b.dropped {
		b.used = make(map[Checksum]struct{})
	}
	var levels [][]namedDir
	for path, d := range b.dirs {
		depth := 0
		if path != "." {
			depth = 1 + strings.Count(path, "/")
		}
		for len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], namedDir{path, d})
		if !b.dropped {
			continue
		}
		for _, f := range d.files.sorted() {
			b.used[f.node.sum] = struct{}{}
		}
	}
	writers := make([]dirWriter, len(b.txn.shelves))
	metas := &metaSums{known: make(map[string]Checksum)}
	for i := range writers {
		writers[i] = dirWriter{b: b, shelf: b.txn.shelves[i], metas: metas}
	}
	for _, level := range slices.Backward(levels) {
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
						if err := writers[i].write(d.node); err != nil {
							return &Error{Op: "commit", Target: d.path, Err: err}
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

// metaSums are the checksums of dirmetas by their serialized form.
type metaSums struct {
	sync.Mutex
	known map[string]Checksum
}

// dirWriter stages directories. It belongs to one goroutine.
type dirWriter struct {
	b       *builder
	shelf   *shelf
	metas   *metaSums
	encoder dirTreeEncoder
	buf     []byte
}

// write stages the objects of a directory whose own directories are staged.
func (w *dirWriter) write(d *dirNode) (err error) {
	w.encoder.reset()
	for _, f := range d.files.sorted() {
		w.encoder.file(f.name, &f.node.sum)
	}
	for _, name := range slices.Sorted(maps.Keys(d.dirs)) {
		w.encoder.dir(name, &d.dirs[name].tree, &d.dirs[name].sum)
	}
	w.buf = w.encoder.bytes(w.buf[:0])
	if d.tree, err = w.stage(TypeDirTree, w.buf); err != nil {
		return err
	}
	w.metas.Lock()
	sum, ok := w.metas.known[string(d.meta)]
	w.metas.Unlock()
	if !ok {
		if sum, err = w.stage(TypeDirMeta, d.meta); err != nil {
			return err
		}
		w.metas.Lock()
		w.metas.known[string(d.meta)] = sum
		w.metas.Unlock()
	}
	d.sum = sum
	return nil
}

func (w *dirWriter) stage(kind ObjectType, data []byte) (Checksum, error) {
	c, fresh, err := w.shelf.metadata(kind, data)
	w.b.stats.metadata(fresh)
	return c, err
}
