package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
)

// ListOptions configures [Repo.List]. Nil is the zero value.
type ListOptions struct {
	// Recursive lists everything below the path.
	Recursive bool
	// Self lists what the path names alone, also if it is a directory.
	Self bool
}

// List yields what a path in a commit names and, if that is a directory, what is
// in it, in the bytewise order of names. Paths are slash-separated; "", "." and
// "/" are the root. Symbolic links are not followed. Entries are as those of
// [Repo.Tree]. A path that is not there is an error that wraps [fs.ErrNotExist].
func (r *Repo) List(ctx context.Context, commit Checksum, path string, opts *ListOptions) iter.Seq2[Entry, error] {
	if opts == nil {
		opts = &ListOptions{}
	}
	return func(yield func(Entry, error) bool) {
		if err := r.list(ctx, commit, path, opts, yield); err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				err = &Error{Op: "list", Target: commit.String() + ":" + quoted(path), Err: err}
			}
			yield(Entry{}, err)
		}
	}
}

func (r *Repo) list(ctx context.Context, commit Checksum, name string, opts *ListOptions, yield func(Entry, error) bool) error {
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return err
	}
	clean, err := cleanPath(name)
	if err != nil {
		return err
	}
	node, err := r.at(ctx, c, clean)
	if err != nil {
		return err
	}
	if node.dir == nil {
		f, err := r.ReadFile(ctx, node.file.Object)
		if err == nil {
			yield(fileEntry(clean, node.file.Object, f), nil)
		}
		return err
	}
	depth := 1
	if opts.Recursive {
		depth = maxDepth + 1
	}
	if opts.Self {
		depth = 0
	}
	r.walk(ctx, clean, node.dir.Tree, node.dir.Meta, 0, depth, yield)
	return nil
}

// at finds what a clean path names, without following links.
func (r *Repo) at(ctx context.Context, c *Commit, clean string) (fsNode, error) {
	node := fsNode{dir: &DirTreeDir{Name: ".", Tree: c.RootTree, Meta: c.RootMeta}}
	if clean == "." {
		return node, nil
	}
	for part := range strings.SplitSeq(clean, "/") {
		if node.dir == nil {
			return node, fs.ErrNotExist
		}
		d, err := r.ReadDirTree(ctx, node.dir.Tree)
		if err != nil {
			return node, err
		}
		var ok bool
		if node, ok = d.child(part); !ok {
			return node, fmt.Errorf("no %.1024q: %w", clean, fs.ErrNotExist)
		}
	}
	return node, nil
}

// LogEntry is a commit of [Repo.Log].
type LogEntry struct {
	Checksum Checksum
	*Commit
}

// Log yields a commit and its ancestors, the newest first, as far as they are in
// the repository: the last one's Parent is zero if the history begins with it.
func (r *Repo) Log(ctx context.Context, commit Checksum) iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		for first := true; !commit.IsZero(); first = false {
			// It can't be circular: a checksum that is verified is over the parent's.
			c, err := r.ReadCommit(ctx, commit)
			if !first && errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err != nil {
				yield(LogEntry{}, err)
				return
			}
			if !yield(LogEntry{commit, c}, nil) {
				return
			}
			commit = c.Parent
		}
	}
}
