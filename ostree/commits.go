package ostree

import (
	"context"
	"iter"
)

// Commits yields the commits that the repository holds itself, whether a ref
// leads to them or not, sorted. Those of a parent repository are not among them.
func (r *Repo) Commits(ctx context.Context) iter.Seq2[Checksum, error] {
	return func(yield func(Checksum, error) bool) {
		objects, err := r.listObjects(ctx, func(string, error) error { return nil })
		if err != nil {
			yield(Checksum{}, &Error{Op: "list commits", Target: r.path, Err: err})
			return
		}
		for _, key := range objects {
			if key.kind == TypeCommit && !yield(key.sum, nil) {
				return
			}
		}
	}
}
