package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

// node is a path in a commit. tree is a directory's dirtree.
type node struct {
	ostree.Entry
	tree ostree.Checksum
}

// nodeJSON is a node for programs.
type nodeJSON struct {
	Path   string            `json:"path"`
	Type   string            `json:"type"`
	Mode   string            `json:"mode"` // octal, without the type
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size,omitempty"`
	Target string            `json:"target,omitempty"`
	Object ostree.Checksum   `json:"checksum"`
	Tree   string            `json:"contents,omitempty"` // a directory's dirtree
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

func (n *node) json() nodeJSON {
	j := nodeJSON{Path: n.Path, Type: typeName(n.Mode), Mode: fmt.Sprintf("%04o", n.Mode&^ostree.ModeType), UID: n.UID, GID: n.GID, Size: n.Size, Target: n.Target, Object: n.Object}
	if !n.tree.IsZero() {
		j.Tree = n.tree.String()
	}
	for _, x := range n.Xattrs {
		if j.Xattrs == nil {
			j.Xattrs = make(map[string][]byte)
		}
		j.Xattrs[x.Name] = x.Value
	}
	return j
}

func typeName(mode uint32) string {
	switch mode & ostree.ModeType {
	case ostree.ModeDir:
		return "directory"
	case ostree.ModeSymlink:
		return "symlink"
	}
	return "regular"
}

// lister lists a commit as `ostree ls` does: of each directory the files, then
// the directories, each followed by what is in it.
type lister struct {
	ctx  context.Context
	repo *ostree.Repo
	give func(*node) error
}

// maxNesting is that of package ostree, which refuses what is deeper.
const maxNesting = 4096

// at finds what path names in a commit. Links are not followed.
func (l *lister) at(commit *ostree.Commit, name string) (*node, error) {
	clean := path.Clean("/" + name)
	n, err := l.dir("/", commit.RootTree, commit.RootMeta)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(clean[1:], "/") {
		if part == "" {
			break
		}
		if n.tree.IsZero() {
			return nil, missing(clean)
		}
		children, err := l.repo.ReadDirTree(l.ctx, n.tree)
		if err != nil {
			return nil, err
		}
		if n, err = l.child(children, n.Path, part); err != nil {
			return nil, err
		}
		if n == nil {
			return nil, missing(clean)
		}
	}
	return n, nil
}

func missing(name string) error {
	return ui.Next(fmt.Errorf("no %s in the commit: %w", quoted(name), fs.ErrNotExist), "okd-streams ostree ls lists what is in a commit")
}

// child finds a name in a directory; nil: it has none.
func (l *lister) child(children *ostree.DirTree, dir, name string) (*node, error) {
	for _, f := range children.Files {
		if f.Name == name {
			return l.file(path.Join(dir, name), f.Object)
		}
	}
	for _, d := range children.Dirs {
		if d.Name == name {
			return l.dir(path.Join(dir, name), d.Tree, d.Meta)
		}
	}
	return nil, nil
}

func (l *lister) dir(name string, tree, meta ostree.Checksum) (*node, error) {
	m, err := l.repo.ReadDirMeta(l.ctx, meta)
	if err != nil {
		return nil, err
	}
	return &node{ostree.Entry{Path: name, Mode: m.Mode, UID: m.UID, GID: m.GID, Xattrs: m.Xattrs, Object: meta}, tree}, nil
}

func (l *lister) file(name string, object ostree.Checksum) (*node, error) {
	f, err := l.repo.ReadFile(l.ctx, object)
	if err != nil {
		return nil, err
	}
	return &node{Entry: ostree.Entry{Path: name, Mode: f.Mode, UID: f.UID, GID: f.GID, Xattrs: f.Xattrs, Size: f.Size, Target: f.Target, Object: object, Open: f.Open}}, nil
}

// below gives what is in a directory, depth levels of it; negative: all.
func (l *lister) below(n *node, depth, nesting int) error {
	if depth == 0 || n.tree.IsZero() {
		return nil
	}
	if nesting > maxNesting {
		return fmt.Errorf("directories nest deeper than %d: %w", maxNesting, ostree.ErrCorrupt)
	}
	children, err := l.repo.ReadDirTree(l.ctx, n.tree)
	if err != nil {
		return err
	}
	for _, f := range children.Files {
		child, err := l.file(path.Join(n.Path, f.Name), f.Object)
		if err == nil {
			err = l.give(child)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range children.Dirs {
		child, err := l.dir(path.Join(n.Path, d.Name), d.Tree, d.Meta)
		if err == nil {
			err = l.give(child)
		}
		if err == nil {
			err = l.below(child, depth-1, nesting+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *common) ls() *cobra.Command {
	var self, recursive, checksum, xattrs, names bool
	cmd := c.leaf("ls COMMIT [PATH...]", "List what is in a commit", 1, -1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			_, commit, err := readCommit(ctx, r, args[0])
			if err != nil {
				return err
			}
			depth := 1
			switch {
			case recursive:
				depth = -1
			case self:
				depth = 0
			}
			paths := args[1:]
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			list := []nodeJSON{}
			// each lists in the given way, as far as it gets.
			each := func(give func(*node) error) error {
				l := &lister{ctx: ctx, repo: r, give: give}
				for _, p := range paths {
					n, err := l.at(commit, p)
					if err == nil {
						err = give(n)
					}
					if err == nil {
						err = l.below(n, depth, 0)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}
			if c.output != ui.Text {
				err := each(func(n *node) error {
					list = append(list, n.json())
					return nil
				})
				if err != nil {
					return err
				}
			}
			return ui.Print(cmd, list, func(w io.Writer) error {
				return each(func(n *node) error {
					if names {
						_, err := io.WriteString(w, n.Path+"\x00")
						return err
					}
					return n.print(w, checksum, xattrs)
				})
			})
		})
	})
	flags := cmd.Flags()
	flags.BoolVarP(&self, "dironly", "d", false, "list directories themselves, not what is in them")
	flags.BoolVarP(&recursive, "recursive", "R", false, "list everything below directories")
	flags.BoolVarP(&checksum, "checksum", "C", false, "print checksums: of directories the dirtree's and the dirmeta's")
	flags.BoolVarP(&xattrs, "xattrs", "X", false, "print extended attributes")
	flags.BoolVar(&names, "nul-filenames-only", false, "print only names, each with a NUL behind it")
	return cmd
}

// print prints a line of `ostree ls`.
func (n *node) print(w io.Writer, checksum, xattrs bool) error {
	kind := byte('-')
	switch n.Mode & ostree.ModeType {
	case ostree.ModeDir:
		kind = 'd'
	case ostree.ModeSymlink:
		kind = 'l'
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%c0%04o %d %d %6d ", kind, n.Mode&^ostree.ModeType, n.UID, n.GID, n.Size)
	if checksum {
		if kind == 'd' {
			b.WriteString(n.tree.String() + " ")
		}
		b.WriteString(n.Object.String() + " ")
	}
	if xattrs {
		text, err := xattrText(n.Xattrs)
		if err != nil {
			return err
		}
		b.WriteString(text + " ")
	}
	b.WriteString(n.Path)
	if kind == 'l' {
		b.WriteString(" -> " + n.Target)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

// xattrText is extended attributes as `ostree` prints them.
func xattrText(x []ostree.Xattr) (string, error) {
	text, err := ostree.Variant{Type: "a(ayay)", Data: ostree.MarshalXattrs(x)}.Text(true)
	return "{ " + text + " }", err
}

func (c *common) cat() *cobra.Command {
	return c.leaf("cat COMMIT PATH...", "Print files of a commit", 2, -1, func(cmd *cobra.Command, args []string) error {
		if err := c.noJSON(cmd); err != nil {
			return err
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			commit, err := resolve(ctx, r, args[0])
			if err != nil {
				return err
			}
			fsys, err := r.FS(ctx, commit)
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				if err := catFile(cmd.OutOrStdout(), fsys, path.Clean("/"+name)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func catFile(w io.Writer, fsys fs.FS, name string) error {
	inside := strings.TrimPrefix(name, "/")
	if inside == "" {
		inside = "."
	}
	f, err := fsys.Open(inside)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return ui.Next(fmt.Errorf("%s is a directory", quoted(name)), "okd-streams ostree ls lists it, export gives it as a tar stream")
	}
	_, err = io.Copy(w, f)
	return err
}
