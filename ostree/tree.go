package ostree

import (
	"context"
	"fmt"
	"iter"
)

// maxDepth is how deep directories may nest where a commit is walked. Linux
// has no path longer than 4096 bytes.
const maxDepth = 2048

var errTooDeep = fmt.Errorf("directories nest deeper than %d: %w", maxDepth, errUnsupported)

// Tree is what the commit holds, directories and files in the bytewise order of
// their names, depth first. Entries carry their Object and are detached; Open
// verifies as [File].Open does. Faults are *[Error] and name the object.
func (r *Repo) Tree(commit Checksum) Tree { return &commitTree{r, commit} }

// commitTree is a type of its own so that [Repo.Commit] knows it.
type commitTree struct {
	repo   *Repo
	commit Checksum
}

func (t *commitTree) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		c, err := t.repo.ReadCommit(ctx, t.commit)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		t.repo.walk(ctx, ".", c.RootTree, c.RootMeta, 0, maxDepth+1, yield)
	}
}

// walk yields a directory and what is below it, to levels below, and reports
// whether to go on.
func (r *Repo) walk(ctx context.Context, path string, tree, meta Checksum, depth, levels int, yield func(Entry, error) bool) bool {
	fail := func(err error) bool {
		yield(Entry{}, err)
		return false
	}
	if depth > maxDepth {
		return fail(&Error{Op: "read", Target: path[:80], Err: corruptf("directories nest deeper than %d", maxDepth)})
	}
	m, err := r.ReadDirMeta(ctx, meta)
	if err != nil {
		return fail(err)
	}
	if !yield(Entry{Path: path, Mode: m.Mode, UID: m.UID, GID: m.GID, Xattrs: m.Xattrs, Object: meta, Detached: true}, nil) {
		return false
	}
	if levels == 0 {
		return true
	}
	d, err := r.ReadDirTree(ctx, tree)
	if err != nil {
		return fail(err)
	}
	prefix := ""
	if path != "." {
		prefix = path + "/"
	}
	files, dirs := d.Files, d.Dirs
	for len(files) > 0 || len(dirs) > 0 {
		if len(files) == 0 || len(dirs) > 0 && dirs[0].Name < files[0].Name {
			if !r.walk(ctx, prefix+dirs[0].Name, dirs[0].Tree, dirs[0].Meta, depth+1, levels-1, yield) {
				return false
			}
			dirs = dirs[1:]
			continue
		}
		f, err := r.ReadFile(ctx, files[0].Object)
		if err != nil {
			return fail(err)
		}
		if !yield(fileEntry(prefix+files[0].Name, files[0].Object, f), nil) {
			return false
		}
		files = files[1:]
	}
	return true
}
