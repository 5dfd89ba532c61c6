package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// PruneOptions configures [Repo.Prune]. Nil is the zero value.
type PruneOptions struct {
	// RefsOnly keeps the commits that refs name, and Depth of their ancestors.
	// Otherwise every commit is kept, and only what no commit needs goes.
	RefsOnly bool
	// Depth is how many ancestors of a ref's commit are kept. 0: all that are
	// there; negative: none. `ostree prune` has -1 and 0 for that.
	Depth int
	// KeepYoungerThan keeps of a ref's ancestors those not older than it, up to
	// the first that is older, whatever Depth says. It means RefsOnly. Zero:
	// Depth counts.
	KeepYoungerThan time.Time
	// RefDepth says, for refs by the text that [Ref.String] gives, how many
	// ancestors are kept, as Depth does, whatever Depth and KeepYoungerThan say. It
	// means RefsOnly. Nil: all refs are alike.
	RefDepth map[string]int
	// Delete are commits that go, though no commit that a ref names may. One
	// that is not there is an error that wraps [fs.ErrNotExist].
	Delete []Checksum
	// DryRun changes nothing and says what would go.
	DryRun bool
	// Progress gets Phase "objects" with the objects removed so far and in all.
	Progress func(Event)
}

// PruneStats says what [Repo.Prune] did, or with DryRun would have done. Detached
// metadata goes with its commit and does not count, as with `ostree prune`.
type PruneStats struct {
	Objects int64 // that were there
	Pruned  int64 // of those, that went
	Bytes   int64 // the length of the latter
}

// Prune removes the objects that no kept commit needs. Refs of every kind count.
// It has the repository for itself: it waits for the transactions of this and
// other processes (`ostree` too) and they wait for it. Commits go first, so that
// a killed process leaves none that lacks an object. With core.tombstone-commits
// each commit leaves a tombstone, which tells those who pull that it is gone on
// purpose. A parent repository (core.parent) is not touched.
//
// A commit that can't be read, or lacks a directory without being marked
// partial, is an error, and nothing is removed. Static deltas and payload links
// are left to `ostree prune`.
func (r *Repo) Prune(ctx context.Context, opts *PruneOptions) (PruneStats, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	stats, err := r.prune(ctx, opts)
	if err != nil {
		err = &Error{Op: "prune", Target: r.path, Err: err}
	}
	return stats, err
}

func (r *Repo) prune(ctx context.Context, opts *PruneOptions) (stats PruneStats, err error) {
	if err := r.writable(); err != nil {
		return stats, err
	}
	lock, err := r.lock(ctx, unix.F_WRLCK)
	if err != nil {
		return stats, err
	}
	defer unlock(lock)
	objects, err := r.listObjects(ctx, func(string, error) error { return nil })
	if err != nil {
		return stats, err
	}
	m := &marker{repo: r, needed: make(map[claimKey]struct{}), gone: make(map[Checksum]struct{})}
	if err := m.mark(ctx, objects, opts); err != nil {
		return stats, err
	}
	var gone []claimKey
	for _, key := range objects {
		if key.kind != TypeCommitMeta {
			stats.Objects++
		}
		if _, ok := m.needed[key]; !ok {
			gone = append(gone, key)
		}
	}
	first := func(k claimKey) int {
		if k.kind == TypeCommit || k.kind == TypeCommitMeta {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(gone, func(a, b claimKey) int { return first(a) - first(b) })
	for i, key := range gone {
		if err := ctx.Err(); err != nil {
			return stats, err
		}
		size, err := r.removeObject(key, opts.DryRun)
		if err != nil {
			return stats, fmt.Errorf("%s: %w", objectName(key.kind, key.sum), err)
		}
		if key.kind != TypeCommitMeta {
			stats.Pruned++
			stats.Bytes += size
		}
		if opts.Progress != nil && (i%256 == 255 || i == len(gone)-1) {
			opts.Progress(Event{Step: "prune", Phase: "objects", Done: int64(i + 1), Total: int64(len(gone))})
		}
	}
	if opts.DryRun {
		return stats, nil
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "pruned", slog.Int64("objects", stats.Objects), slog.Int64("pruned", stats.Pruned), slog.Int64("bytes", stats.Bytes))
	return stats, r.removeStale(ctx)
}

// removeObject removes an object, unless dry, and gives its length.
func (r *Repo) removeObject(key claimKey, dry bool) (int64, error) {
	p := r.objectPath(key.kind, key.sum)
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(r.objects, p, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return 0, pathError("stat", p, err)
	}
	if dry {
		return st.Size, nil
	}
	if key.kind == TypeCommit && r.settings.tombstones {
		if err := r.writeTombstone(key.sum); err != nil {
			return 0, err
		}
	}
	if err := unix.Unlinkat(r.objects, p, 0); err != nil {
		return 0, pathError("unlink", p, err)
	}
	if key.kind == TypeCommit {
		state := partialPath(key.sum)
		if err := unix.Unlinkat(r.dir, state, 0); err != nil && err != unix.ENOENT {
			return 0, pathError("unlink", state, err)
		}
	}
	return st.Size, nil
}

// writeTombstone says that a commit was deleted on purpose: the GVariant type
// a{sv} with the commit's checksum, in digits and with a NUL, as "commit".
func (r *Repo) writeTombstone(c Checksum) error {
	data, err := marshalDict([]MetadataItem{{"commit", BytesVariant(append([]byte(c.String()), 0))}})
	if err != nil {
		return err
	}
	return r.replace("objects/"+r.objectPath(TypeTombstone, c), data, r.settings.fsync)
}

// partialPath is the file below the repository that says that a commit may lack
// objects.
func partialPath(c Checksum) string { return "state/" + c.String() + ".commitpartial" }

// Partial reports whether a commit is marked as one that may lack objects: an
// interrupted or narrowed pull, or damage that a check found.
func (r *Repo) Partial(ctx context.Context, c Checksum) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(r.dir, partialPath(c), &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT && r.parent != nil {
		if own, err := r.hasPath(TypeCommit, r.objectPath(TypeCommit, c)); err != nil || own {
			return false, err
		}
		return r.parent.Partial(ctx, c)
	}
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &Error{Op: "look up", Target: objectName(TypeCommit, c), Err: pathError("stat", partialPath(c), err)}
	}
	return true, nil
}

// marker finds the objects that commits need.
type marker struct {
	repo   *Repo
	needed map[claimKey]struct{}
	gone   map[Checksum]struct{} // commits to delete
}

func (m *marker) mark(ctx context.Context, objects []claimKey, opts *PruneOptions) error {
	refs := make(map[Checksum]string)
	special := make(map[Checksum][]int) // of RefDepth
	alike := make(map[Checksum]struct{})
	err := m.repo.eachRef(ctx, func(name string, c Checksum, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an alias of nothing
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		refs[c] = name
		if depth, ok := opts.RefDepth[pruneRefName(name)]; ok {
			special[c] = append(special[c], depth)
		} else {
			alike[c] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range opts.Delete {
		if name, ok := refs[c]; ok {
			return fmt.Errorf("commit %s can't be deleted: %s names it", c, name)
		}
		if ok, err := m.repo.hasPath(TypeCommit, m.repo.objectPath(TypeCommit, c)); err != nil || !ok {
			return errors.Join(fmt.Errorf("commit %s: %w", c, fs.ErrNotExist), err)
		}
		m.gone[c] = struct{}{}
	}
	if !opts.RefsOnly && opts.KeepYoungerThan.IsZero() && opts.RefDepth == nil {
		for _, key := range objects {
			if key.kind == TypeCommit {
				if _, err := m.commit(ctx, key.sum); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for c := range alike {
		if err := m.ancestors(ctx, c, opts); err != nil {
			return err
		}
	}
	for c, depths := range special {
		for _, depth := range depths {
			if err := m.ancestors(ctx, c, &PruneOptions{Depth: depth}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pruneRefName is the text of a Ref whose file is below refs/.
func pruneRefName(file string) string {
	if name, ok := strings.CutPrefix(file, "refs/heads/"); ok {
		return name
	}
	if name, ok := strings.CutPrefix(file, "refs/remotes/"); ok {
		return strings.Replace(name, "/", ":", 1)
	}
	return file // of a collection, which RefDepth can't name
}

// ancestors marks a ref's commit and as many of its ancestors as are kept.
func (m *marker) ancestors(ctx context.Context, c Checksum, opts *PruneOptions) error {
	for n := 0; ; n++ {
		commit, err := m.commit(ctx, c)
		if err != nil || commit == nil || commit.Parent.IsZero() {
			return err
		}
		c = commit.Parent
		if opts.KeepYoungerThan.IsZero() {
			if opts.Depth < 0 || opts.Depth > 0 && n >= opts.Depth {
				return nil
			}
			continue
		}
		if commit.Timestamp.Before(opts.KeepYoungerThan) {
			return nil
		}
		parent, err := m.repo.ReadCommit(ctx, c)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || parent.Timestamp.Before(opts.KeepYoungerThan) {
			return err
		}
	}
}

// commit marks a commit and all that it needs; nil: it is not there, or goes.
func (m *marker) commit(ctx context.Context, c Checksum) (*Commit, error) {
	if _, ok := m.gone[c]; ok {
		return nil, nil
	}
	commit, err := m.repo.ReadCommit(ctx, c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key := claimKey{TypeCommit, c}
	if _, ok := m.needed[key]; ok {
		return commit, nil
	}
	m.needed[key] = struct{}{}
	m.needed[claimKey{TypeCommitMeta, c}] = struct{}{}
	m.needed[claimKey{TypeDirMeta, commit.RootMeta}] = struct{}{}
	partial, err := m.repo.Partial(ctx, c)
	if err != nil {
		return nil, err
	}
	return commit, m.tree(ctx, commit.RootTree, partial, 0)
}

func (m *marker) tree(ctx context.Context, c Checksum, partial bool, depth int) error {
	key := claimKey{TypeDirTree, c}
	if _, ok := m.needed[key]; ok {
		return nil
	}
	if depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	d, err := m.repo.ReadDirTree(ctx, c)
	if partial && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m.needed[key] = struct{}{}
	for i := range d.Files {
		m.needed[claimKey{TypeFile, d.Files[i].Object}] = struct{}{}
	}
	for i := range d.Dirs {
		m.needed[claimKey{TypeDirMeta, d.Dirs[i].Meta}] = struct{}{}
		if err := m.tree(ctx, d.Dirs[i].Tree, partial, depth+1); err != nil {
			return err
		}
	}
	return nil
}
