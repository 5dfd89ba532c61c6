package ostree

import (
	"context"
	"iter"
	"slices"
)

// Overlay is lower with each upper laid over it in turn. Where two name the
// same path the later wins: a directory over a directory takes its owner, mode
// and attributes and keeps the children of both, anything else replaces
// everything that was there. A parent that an upper only implies
// ([Entry.Implied]) changes nothing where there is a directory already.
// [Entry.Detached] is that of each source; an error of one ends the sequence.
func Overlay(lower Tree, upper ...Tree) Tree {
	return &overlayTree{append([]Tree{lower}, slices.Clone(upper)...)}
}

type overlayTree struct{ layers []Tree }

func (t *overlayTree) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return t.entries(ctx, byContext(ctx))
}

// entries is one layer after the other, for a path that comes again replaces
// what it named.
func (t *overlayTree) entries(ctx context.Context, without prune) iter.Seq2[Entry, error] {
	without.asIs = nil
	return func(yield func(Entry, error) bool) {
		dirs := make(map[string]struct{})
		for _, layer := range t.layers {
			for e, err := range entriesWithout(ctx, layer, without) {
				if err != nil {
					yield(Entry{}, err)
					return
				}
				_, was := dirs[e.Path]
				switch {
				case e.Mode&ModeType == ModeDir && was && e.Implied:
					continue
				case e.Mode&ModeType == ModeDir:
					dirs[e.Path] = struct{}{}
				case was:
					for path := range dirs {
						if below(path, e.Path) {
							delete(dirs, path)
						}
					}
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
