package ostreecmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type diffFlags struct {
	fsDiff, noXattrs bool
	uid, gid         int64
}

// side is one of the two trees that are compared.
type side struct {
	tree  ostree.Tree
	slash string // before its paths
	close func() error
}

func (c *common) diff() *cobra.Command {
	f := diffFlags{uid: -1, gid: -1}
	cmd := c.leaf("diff REV_OR_DIR [REV_OR_DIR]", "Print what is different between two trees, or a commit and its parent", 1, 2, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			if len(args) == 1 {
				args = []string{args[0] + "^", args[0]}
			}
			if r.Mode() == ostree.ModeBareUserOnly && !(isFolder(args[0]) && isFolder(args[1])) {
				f.noXattrs = true // for its commits have none
			}
			from, err := f.open(ctx, r, args[0], -1, -1)
			if err != nil {
				return err
			}
			defer from.close()
			to, err := f.open(ctx, r, args[1], f.uid, f.gid)
			if err != nil {
				return err
			}
			defer to.close()
			changes, err := changed(ctx, from.tree, to.tree)
			if err != nil {
				return err
			}
			return c.printDiff(cmd, changes, from, to)
		})
	})
	flags := cmd.Flags()
	flags.BoolVar(&f.fsDiff, "fs-diff", true, "print the paths; there is nothing else to print")
	flags.BoolVar(&f.noXattrs, "no-xattrs", false, "take the files of a folder as having no extended attributes")
	flags.Int64Var(&f.uid, "owner-uid", -1, "take the files of a folder, the second tree, as `UID`'s")
	flags.Int64Var(&f.gid, "owner-gid", -1, "take the files of a folder, the second tree, as group `GID`'s")
	refuse(cmd, "okd-streams ostree ls -R --checksum lists the objects of each", "stats")
	return cmd
}

// isFolder tells a folder from a commit.
func isFolder(name string) bool { return strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./") }

// open opens a tree.
func (f *diffFlags) open(ctx context.Context, r *ostree.Repo, name string, uid, gid int64) (*side, error) {
	if isFolder(name) {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, ui.Next(err, "a commit has no / or ./ in front, a folder has one of them")
		}
		tree := edited(ostree.Dir(root), func(e *ostree.Entry) bool {
			setOwner(e, uid, gid)
			if f.noXattrs {
				e.Xattrs = nil
			}
			return true
		})
		return &side{tree: tree, close: root.Close}, nil
	}
	commit, err := resolve(ctx, r, name)
	return &side{tree: r.Tree(commit), slash: "/", close: func() error { return nil }}, err
}

// changed gives what `ostree diff` takes for a change.
func changed(ctx context.Context, from, to ostree.Tree) ([]ostree.Change, error) {
	var list []ostree.Change
	shut := make(map[string]bool) // what is below is not looked at
	for change, err := range ostree.Diff(ctx, from, to) {
		if err != nil {
			return nil, err
		}
		if change.Path == "." { // of the root, only what is in it counts
			continue
		}
		kind := change.Kind()
		if kind == 'D' || kind == 'M' && (isDir(change.From) || isDir(change.To)) && !(isDir(change.From) && isDir(change.To)) {
			shut[change.Path] = true
		}
		if below(shut, change.Path) {
			continue
		}
		list = append(list, change)
	}
	return list, nil
}

func isDir(e *ostree.Entry) bool { return e != nil && e.Mode&ostree.ModeType == ostree.ModeDir }

// below tells whether one of name's parents is in the set.
func below(set map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if set[dir] {
			return true
		}
	}
	return false
}

// setOwner gives an entry to another; negative: not that.
func setOwner(e *ostree.Entry, uid, gid int64) {
	if uid >= 0 && e.UID != uint32(uid) {
		e.UID, e.Object = uint32(uid), ostree.Checksum{}
	}
	if gid >= 0 && e.GID != uint32(gid) {
		e.GID, e.Object = uint32(gid), ostree.Checksum{}
	}
}

// edited is a tree whose entries are changed on their way; what is refused goes
// with all that is below it.
func edited(src ostree.Tree, edit func(*ostree.Entry) bool) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			out := make(map[string]bool)
			for e, err := range src.Entries(ctx) {
				if err == nil {
					if below(out, e.Path) {
						continue
					}
					if !edit(&e) {
						out[e.Path] = true
						continue
					}
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}

// changeJSON is a change for programs.
type changeJSON struct {
	Kind string    `json:"kind"` // M, D or A
	Path string    `json:"path"`
	From *nodeJSON `json:"from,omitempty"`
	To   *nodeJSON `json:"to,omitempty"`
}

func (c *common) printDiff(cmd *cobra.Command, changes []ostree.Change, from, to *side) error {
	added := make(map[string]bool)
	dirs := make(map[string]bool)
	for i := range changes {
		if changes[i].Kind() == 'A' {
			added[changes[i].Path] = true
		}
		if isDir(changes[i].From) || changes[i].From == nil && isDir(changes[i].To) {
			dirs[changes[i].Path] = true
		}
	}
	// The order is that in which `ostree` comes across them: of a directory the
	// files, then the directories with what is in them; and what was added to a
	// directory after what was added to the directories in it.
	slices.SortFunc(changes, func(a, b ostree.Change) int {
		kinds := "MDA"
		return cmp.Or(strings.IndexByte(kinds, a.Kind())-strings.IndexByte(kinds, b.Kind()), comparePaths(a.Path, b.Path, dirs, added))
	})
	list := make([]changeJSON, len(changes))
	for i, change := range changes {
		list[i] = changeJSON{Kind: string(rune(change.Kind())), Path: change.Path}
		for _, e := range []struct {
			entry *ostree.Entry
			to    **nodeJSON
		}{{change.From, &list[i].From}, {change.To, &list[i].To}} {
			if e.entry != nil {
				j := (&node{Entry: *e.entry}).json()
				*e.to = &j
			}
		}
	}
	return ui.Print(cmd, list, func(w io.Writer) error {
		for _, change := range list {
			slash := from.slash
			if change.Kind == "A" {
				slash = to.slash
			}
			if _, err := fmt.Fprintf(w, "%s    %s%s\n", change.Kind, slash, change.Path); err != nil {
				return err
			}
		}
		return nil
	})
}

// comparePaths orders two changes of one kind.
func comparePaths(a, b string, dirs, added map[string]bool) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i := 0; ; i++ {
		switch {
		case i == len(x) || i == len(y):
			return cmp.Compare(len(x), len(y))
		case x[i] == y[i]:
			continue
		}
		p, q := strings.Join(x[:i+1], "/"), strings.Join(y[:i+1], "/")
		// Directories that both trees have come before what was added beside them.
		if c := boolCompare(added[p], added[q]); c != 0 {
			return c
		}
		if c := boolCompare(i < len(x)-1 || dirs[p], i < len(y)-1 || dirs[q]); c != 0 {
			return c
		}
		return cmp.Compare(x[i], y[i])
	}
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// ownerFlag checks a number of --owner-uid and --owner-gid.
func ownerFlag(name string, n int64) error {
	if n > 1<<32-1 {
		return ui.Usagef("--%s=%d: at most %d", name, n, int64(1<<32-1))
	}
	return nil
}
