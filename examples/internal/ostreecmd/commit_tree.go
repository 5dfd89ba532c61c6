package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/daily"
)

// treeFlags say what is committed.
type treeFlags struct {
	trees                              []string
	base                               string
	uid, gid                           int64
	canonical, noXattrs, roExecutables bool
	speedup, devinoCanonical           bool
	statoverride, skipList             string
	policy                             string
	policyFromBase                     bool
	policyEpoch                        int
}

func (f *treeFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.trees, "tree", nil, "`dir=PATH, tar=FILE or ref=COMMIT`: lay this over the trees before it; tar files may be compressed, - is standard input")
	flags.StringVar(&f.base, "base", "", "start from the tree of `REV`, which no other flag changes")
	flags.Int64Var(&f.uid, "owner-uid", -1, "let user `UID` own all files")
	flags.Int64Var(&f.gid, "owner-gid", -1, "let group `GID` own all files")
	flags.BoolVar(&f.canonical, "canonical-permissions", false, "owner root, modes of 0755 at most, no extended attributes")
	flags.BoolVar(&f.noXattrs, "no-xattrs", false, "leave extended attributes out")
	flags.BoolVar(&f.roExecutables, "mode-ro-executables", false, "take the write bits off executable files")
	flags.BoolVar(&f.speedup, "link-checkout-speedup", false, "do not read files that are hard links to the repository's objects, whose list takes a while, or that a commit with this flag had, as --devino-cache")
	flags.BoolVarP(&f.devinoCanonical, "devino-canonical", "I", false, "take hard links to the repository's objects for these objects, which no other flag changes; implies --link-checkout-speedup")
	flags.StringVar(&f.statoverride, "statoverride", "", "`FILE` of lines MODE PATH: bits to add to a mode, or with = in front, all of them; decimal")
	flags.StringVar(&f.policy, "selinux-policy", "", "label files by the SELinux policy in the root file system `PATH`")
	flags.BoolVarP(&f.policyFromBase, "selinux-policy-from-base", "P", false, "label files by the SELinux policy in the first --tree, or in --base")
	flags.IntVar(&f.policyEpoch, "selinux-labeling-epoch", 0, "1: label /usr/etc as if it were /etc")
	flags.StringVar(&f.skipList, "skip-list", "", "`FILE` of paths to leave out, one a line")
}

func (f *treeFlags) check() error {
	if err := errors.Join(ownerFlag("owner-uid", f.uid), ownerFlag("owner-gid", f.gid)); err != nil {
		return err
	}
	if f.canonical && (f.uid > 0 || f.gid > 0) {
		return ui.Usagef("either --canonical-permissions or an owner other than root, not both")
	}
	if f.policy != "" && f.policyFromBase {
		return ui.Usagef("either --selinux-policy or --selinux-policy-from-base, not both")
	}
	if f.policyEpoch < 0 || f.policyEpoch > 1 {
		return ui.Usagef("--selinux-labeling-epoch=%d: neither 0 nor 1", f.policyEpoch)
	}
	for _, spec := range f.trees {
		kind, name, ok := strings.Cut(spec, "=")
		if !ok || name == "" || !slices.Contains([]string{"dir", "tar", "ref"}, kind) {
			return ui.Usagef("--tree=%s: want dir=PATH, tar=FILE or ref=COMMIT", spec)
		}
	}
	return nil
}

// treeSet is what is committed, open.
type treeSet struct {
	tree    ostree.Tree
	closers []func() error
	filter  *filter
}

func (t *treeSet) close() error {
	var errs []error
	for _, c := range slices.Backward(t.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// open opens the trees, and lets opts change them.
func (f *treeFlags) open(ctx context.Context, r *ostree.Repo, stdin io.Reader, opts *ostree.CommitOptions) (_ *treeSet, err error) {
	set := &treeSet{}
	defer func() {
		if err != nil {
			err = errors.Join(err, set.close())
		}
	}()
	if set.filter, err = f.newFilter(ctx, r); err != nil {
		return nil, err
	}
	policy, err := f.readPolicy(ctx, r)
	if err != nil {
		return nil, err
	}
	set.filter.policy = policy
	var trees []ostree.Tree
	for _, spec := range f.trees {
		tree, err := set.openTree(ctx, r, stdin, spec)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	if f.base == "" {
		set.tree = ostree.Overlay(trees[0], trees[1:]...)
		if len(trees) == 1 {
			set.tree = trees[0] // a commit's tree is taken as it is
		}
		opts.CanonicalPermissions, opts.SkipXattrs, opts.SELinux = f.canonical, f.noXattrs, policy
		opts.Linked = f.speedup && set.filter.objects == nil
		if set.filter.changes() {
			opts.Edit = func(e *ostree.Entry) (bool, error) { return set.filter.edit(ctx, e) }
			set.tree = set.filter.complete(set.tree)
		}
		return set, nil
	}
	base, err := resolve(ctx, r, f.base)
	if err != nil {
		return nil, err
	}
	for i := range trees {
		trees[i] = set.filter.wrap(trees[i])
	}
	set.tree = set.filter.complete(ostree.Overlay(r.Tree(base), trees...))
	return set, nil
}

func (t *treeSet) openTree(ctx context.Context, r *ostree.Repo, stdin io.Reader, spec string) (ostree.Tree, error) {
	kind, name, _ := strings.Cut(spec, "=")
	switch {
	case kind == "ref":
		commit, err := resolve(ctx, r, name)
		return r.Tree(commit), err
	case kind == "tar" && name == "-":
		return ostree.Tar(stdin), nil
	case kind == "cosa":
		return nil, ui.Usagef("--tree=%s: a build of coreos-assembler's has a commit; give its repository with --tree=ostree=REPOSITORY:REF", spec)
	}
	src, err := daily.OpenSource(ctx, kind+":"+name, nil)
	if err != nil {
		return nil, ui.Next(fmt.Errorf("--tree=%s: %w", spec, cause(err)), "give the path of a folder with --tree=dir=PATH, of a tar file with --tree=tar=FILE")
	}
	t.closers = append(t.closers, src.Close)
	return src.Tree, nil
}

// readPolicy reads the SELinux policy by which files are labelled; nil: none.
func (f *treeFlags) readPolicy(ctx context.Context, r *ostree.Repo) (policy *ostree.Policy, err error) {
	dir, rev := f.policy, ""
	if f.policyFromBase {
		kind, name, _ := strings.Cut(f.trees[0], "=")
		switch {
		case f.base != "":
			rev = f.base
		case kind == "ref":
			rev = name
		case kind == "dir":
			dir = name
		default:
			return nil, ui.Next(ui.Usagef("--selinux-policy-from-base: the first tree is a tar file"), "unpack it, and name the folder with --selinux-policy")
		}
	}
	switch {
	case rev != "":
		commit, err := resolve(ctx, r, rev)
		if err != nil {
			return nil, err
		}
		fsys, err := r.FS(ctx, commit)
		if err != nil {
			return nil, err
		}
		policy, err = ostree.ReadPolicy(fsys)
		if err != nil {
			return nil, ui.Next(err, "name a root file system that has a policy with --selinux-policy, or leave labels out")
		}
	case dir != "":
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		policy, err = ostree.ReadPolicy(root.FS())
		if err := errors.Join(err, root.Close()); err != nil {
			return nil, ui.Next(err, "name a root file system that has a policy with --selinux-policy, or leave labels out")
		}
	default:
		return nil, nil
	}
	policy.Epoch = f.policyEpoch
	return policy, nil
}

// cause is the innermost error, for messages that say the rest better.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// removeTrees deletes the folders that were committed.
func (f *treeFlags) removeTrees() error {
	for _, spec := range f.trees {
		dir, ok := strings.CutPrefix(spec, "dir=")
		if !ok {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		if filepath.Clean(dir) != "." {
			if err := os.Remove(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// filter is what is changed of the trees, in the order of `ostree`.
type filter struct {
	*treeFlags
	adds, overrides map[string]uint32 // modes by path, which begins with /
	skip            map[string]bool
	used            map[string]bool // of adds and skip
	repo            *ostree.Repo
	objects         map[[2]uint64]ostree.Checksum // by device and inode
	policy          *ostree.Policy                // of the base
}

func (f *treeFlags) newFilter(ctx context.Context, r *ostree.Repo) (*filter, error) {
	out := &filter{treeFlags: f, adds: make(map[string]uint32), overrides: make(map[string]uint32), skip: make(map[string]bool), used: make(map[string]bool), repo: r}
	err := eachLine(f.statoverride, func(line string) error {
		mode, name, ok := strings.Cut(line, " ")
		all, override := strings.CutPrefix(mode, "=")
		n, err := strconv.ParseUint(all, 10, 32)
		if !ok || err != nil || n > 0o7777 {
			return ui.Next(ui.Usagef("--statoverride: line %s is not MODE PATH", quoted(line)), "modes are decimal: 2048 is set-user, =493 is rwxr-xr-x")
		}
		if override {
			out.overrides[name] = uint32(n)
		} else {
			out.adds[name] = uint32(n)
		}
		return nil
	})
	if err == nil {
		out.skip, err = readSkipList(f.skipList)
	}
	// Where the trees are committed as they are, [ostree.CommitOptions].Linked is enough.
	if err == nil && (f.devinoCanonical || f.speedup && (f.base != "" || len(out.adds)+len(out.skip) > 0)) {
		out.objects, err = inodes(ctx, r)
	}
	return out, err
}

// readSkipList reads paths, one a line.
func readSkipList(file string) (map[string]bool, error) {
	set := make(map[string]bool)
	return set, eachLine(file, func(line string) error {
		set[line] = true
		return nil
	})
}

// eachLine gives the lines of a file that are not empty; "" is no file.
func eachLine(file string, do func(string) error) error {
	if file == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			if err := do(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// inodes are the files that a repository holds content objects in.
func inodes(ctx context.Context, r *ostree.Repo) (map[[2]uint64]ostree.Checksum, error) {
	if r.Mode() == ostree.ModeArchive { // of which nothing is a hard link
		return nil, nil
	}
	set := make(map[[2]uint64]ostree.Checksum)
	objects := filepath.Join(r.Path(), "objects")
	err := fs.WalkDir(os.DirFS(objects), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		digits, ok := strings.CutSuffix(strings.ReplaceAll(name, "/", ""), ".file")
		if err != nil || !ok || d.IsDir() {
			return err
		}
		sum, err := ostree.ParseChecksum(digits)
		if err != nil {
			return nil // no object
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if id, ok := inode(info); ok {
			set[id] = sum
		}
		return nil
	})
	return set, err
}

func (f *filter) changes() bool {
	return f.uid >= 0 || f.gid >= 0 || f.roExecutables || len(f.adds)+len(f.overrides)+len(f.skip) > 0 || f.objects != nil
}

// edit changes an entry; false: it is left out.
func (f *filter) edit(ctx context.Context, e *ostree.Entry) (bool, error) {
	name := "/" + e.Path
	if e.Path == "." {
		name = "/"
	}
	if f.skip[name] {
		f.used[name] = true
		return false, nil
	}
	kind := e.Mode & ostree.ModeType
	if sum, ok := f.objects[[2]uint64{e.Identity.Dev, e.Identity.Ino}]; ok && kind != ostree.ModeDir {
		file, err := f.repo.ReadFile(ctx, sum)
		if err != nil {
			return false, err
		}
		*e = ostree.Entry{Path: e.Path, Target: file.Target, Mode: file.Mode, UID: file.UID, GID: file.GID, Xattrs: file.Xattrs, Size: file.Size, Object: sum, Open: file.Open, Detached: true}
		if f.devinoCanonical {
			return true, nil
		}
		// A checkout does not have all of it; but what the flags say counts.
		f.plain(e)
	}
	canonical := f.canonical || f.repo.Mode() == ostree.ModeBareUserOnly
	if !canonical {
		setOwner(e, f.uid, f.gid)
	}
	mode := e.Mode
	if f.roExecutables && kind == ostree.ModeRegular && mode&0o111 != 0 {
		mode &^= 0o222
	}
	if bits, ok := f.adds[name]; ok {
		f.used[name] = true
		mode |= bits
	} else if bits, ok := f.overrides[name]; ok {
		mode = kind | bits
	}
	if canonical && kind != ostree.ModeSymlink {
		mode &= ostree.ModeType | 0o755
	}
	if mode != e.Mode {
		e.Mode, e.Object = mode, ostree.Checksum{}
	}
	return true, nil
}

// plain takes away what the flags leave out of all entries.
func (f *filter) plain(e *ostree.Entry) {
	if (f.noXattrs || f.canonical) && len(e.Xattrs) > 0 {
		e.Xattrs, e.Object = nil, ostree.Checksum{}
	}
	if f.canonical {
		setOwner(e, 0, 0)
	}
}

// wrap is a tree as the flags change it.
func (f *filter) wrap(src ostree.Tree) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		var failed error
		changed := edited(src, func(e *ostree.Entry) bool {
			if e.Link != "" || failed != nil {
				return failed == nil
			}
			f.plain(e)
			var keep bool
			if keep, failed = f.edit(ctx, e); keep && failed == nil {
				failed = f.label(e)
			}
			return keep
		})
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range changed.Entries(ctx) {
				if err == nil {
					err = failed
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
			if failed != nil {
				yield(ostree.Entry{}, failed)
			}
		}
	})
}

// label gives an entry the label of the base's policy.
func (f *filter) label(e *ostree.Entry) error {
	if f.policy == nil {
		return nil
	}
	label, err := f.policy.Label(e.Path, e.Mode)
	if err != nil || label == "" {
		return err
	}
	const name = "security.selinux"
	e.Xattrs = append(slices.DeleteFunc(slices.Clone(e.Xattrs), func(x ostree.Xattr) bool { return x.Name == name }), ostree.Xattr{Name: name, Value: []byte(label + "\x00")})
	e.Object = ostree.Checksum{}
	return nil
}

// complete is a tree that fails at its end if it did not have all the paths that
// the flags name.
func (f *filter) complete(src ostree.Tree) ostree.Tree {
	if len(f.adds)+len(f.skip) == 0 {
		return src
	}
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range src.Entries(ctx) {
				if !yield(e, err) || err != nil {
					return
				}
			}
			if err := f.unmatched(); err != nil {
				yield(ostree.Entry{}, err)
			}
		}
	})
}

func (f *filter) unmatched() error {
	var list []string
	for name := range f.adds {
		if !f.used[name] {
			list = append(list, "--statoverride: no "+quoted(name))
		}
	}
	for name := range f.skip {
		if !f.used[name] {
			list = append(list, "--skip-list: no "+quoted(name))
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return ui.Next(errors.New(lines(list)), "paths are as okd-streams ostree ls prints them; take those out that are not in the tree")
}
