package ostree_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size="+size); err != nil {
		if interop.Enabled() && isRoot() {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, 0)) })
	return mount
}

// objectContent reads an object as far as it can be read.
func objectContent(ctx context.Context, r *ostree.Repo, c ostree.Checksum) (*ostree.File, string, error) {
	f, err := r.ReadFile(ctx, c)
	if err != nil || f.Open == nil {
		return f, "", err
	}
	body, err := f.Open(ctx)
	if err != nil {
		return f, "", err
	}
	data, err := io.ReadAll(body)
	return f, string(data), errors.Join(err, body.Close())
}

// TestReadOnlyDisk: everything is read, and what writes says why it can't.
func TestReadOnlyDisk(t *testing.T) {
	mount := smallDisk(t, "16m")
	r, err := ostree.Init(t.Context(), filepath.Join(mount, "repo"), ostree.ModeArchive, nil)
	require.NoError(t, err)
	tree := literal(dir("."), file("a", "1"), file("b", "2"))
	c, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Ref: "os"})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	r, err = ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer r.Close()

	got, err := r.Resolve(t.Context(), "os")
	require.NoError(t, err)
	require.Equal(t, c, got)
	require.NoError(t, r.Fsck(t.Context(), nil))
	checkout(t, r, t.TempDir(), c, &ostree.CheckoutOptions{UserMode: true})
	require.NoError(t, newRepo(t, ostree.ModeArchive).PullLocal(t.Context(), r, nil))

	src, commits := pullSource(t, 10)
	url := handlerServer(t, src)
	for name, write := range map[string]func() error{
		"commit":     func() error { _, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Ref: "os"}); return err },
		"set ref":    func() error { return r.SetRef(t.Context(), "other", c) },
		"delete ref": func() error { return r.DeleteRef(t.Context(), "os") },
		"set config": func() error { return r.SetConfig(t.Context(), "core", "fsync", "false") },
		"prune":      func() error { _, err := r.Prune(t.Context(), nil); return err },
		"sign":       func() error { return r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)) },
		"summary":    func() error { return r.UpdateSummary(t.Context(), nil) },
		"pull-local": func() error { return r.PullLocal(t.Context(), src, nil) },
		"pull": func() error {
			return r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable@" + commits[1].String()}, Verifier: unverified})
		},
	} {
		err := write()
		require.ErrorIs(t, err, syscall.EROFS, name)
		require.NotContains(t, err.Error(), "\n", name)
	}
	require.NoError(t, r.Fsck(t.Context(), nil))
}

// TestPullOnFullDisk: what came is kept, and the next pull, with room, goes on.
func TestPullOnFullDisk(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	entries := []ostree.Entry{dir(".")}
	for i := range 60 {
		entries = append(entries, file("file"+string(rune('A'+i)), noise(uint64(i), 100_000)))
	}
	c, err := src.Commit(t.Context(), literal(entries...), &ostree.CommitOptions{Ref: "os", Metadata: []ostree.MetadataItem{ostree.RefBinding("os")}})
	require.NoError(t, err)
	url := handlerServer(t, src)
	for _, mode := range modes {
		mount := smallDisk(t, "3m")
		r, err := ostree.Init(t.Context(), filepath.Join(mount, "repo"), mode, nil)
		require.NoError(t, err)
		require.NoError(t, r.SetConfig(t.Context(), "core", "min-free-space-percent", "0"))
		require.NoError(t, r.Close())
		r, err = ostree.Open(t.Context(), r.Path(), nil)
		require.NoError(t, err)
		opts := &ostree.PullOptions{URL: url, Revs: []string{"os"}, Verifier: unverified, Workers: 4}
		err = r.Pull(t.Context(), "origin", opts)
		require.ErrorIs(t, err, syscall.ENOSPC, mode)
		require.NotContains(t, err.Error(), "\n", mode)
		_, err = r.Resolve(t.Context(), "origin:os")
		require.Error(t, err)
		require.NoError(t, r.Fsck(t.Context(), nil), mode)
		requireClean(t, r)

		require.NoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT, "size=30m"))
		stats := &ostree.PullStats{}
		opts.Stats = stats
		require.NoError(t, r.Pull(t.Context(), "origin", opts), mode)
		require.Less(t, stats.ContentFetched, int64(60), "nothing was kept")
		got, err := r.Resolve(t.Context(), "origin:os")
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.NoError(t, r.Fsck(t.Context(), nil), mode)
		requireClean(t, r)
		require.NoError(t, r.Close())
	}
}

// TestLinkAsObject: a symbolic link is no object, whatever it leads to; in a bare
// repository it is one, of a link.
func TestLinkAsObject(t *testing.T) {
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		c, commit := commitTree(t, r, dir("."), file("a", "content"))
		tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
		require.NoError(t, err)
		a := tree.Files[0].Object
		for _, path := range []string{
			objectFile(r, a, contentExt(mode)), objectFile(r, commit.RootTree, "dirtree"), objectFile(r, commit.RootMeta, "dirmeta"), objectFile(r, c, "commit"),
		} {
			outside := filepath.Join(t.TempDir(), "outside")
			require.NoError(t, os.Rename(path, outside))
			require.NoError(t, os.Symlink(outside, path))
			_, _, contentErr := objectContent(t.Context(), r, a)
			_, treeErr := r.ReadDirTree(t.Context(), commit.RootTree)
			_, metaErr := r.ReadDirMeta(t.Context(), commit.RootMeta)
			_, commitErr := r.ReadCommit(t.Context(), c)
			require.Error(t, errors.Join(contentErr, treeErr, metaErr, commitErr), "%s: %s", mode, filepath.Base(path))
			require.Error(t, r.Fsck(t.Context(), nil), "%s: %s", mode, filepath.Base(path))
			root, err := os.OpenRoot(t.TempDir())
			require.NoError(t, err)
			require.Error(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Copy: true}))
			require.NoError(t, root.Close())
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Rename(outside, path))
			require.NoError(t, r.Fsck(t.Context(), nil))
		}
	}
}

// TestFlippedBitsOfObjects flips each bit of each object, and of what the file
// system says of it: it is reported, or header and content are the same.
func TestFlippedBitsOfObjects(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		labelled := file("a", strings.Repeat("content, ", 20))
		if mode != ostree.ModeBareUserOnly {
			labelled.Xattrs = []ostree.Xattr{{Name: "user.x", Value: []byte("1")}}
		}
		c, commit := commitTree(t, r, dir("."), labelled, link("l", "target"))
		tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
		require.NoError(t, err)
		metadata := map[ostree.Checksum]ostree.ObjectType{c: ostree.TypeCommit, commit.RootTree: ostree.TypeDirTree, commit.RootMeta: ostree.TypeDirMeta}
		for sum, kind := range metadata {
			eachBit(t, objectFile(r, sum, kind.String()), func(bit int) {
				_, err := r.Object(t.Context(), kind, sum)
				require.ErrorIs(t, err, ostree.ErrCorrupt, "%s: bit %d of %s", mode, bit, kind)
			})
		}
		for _, f := range tree.Files {
			want, content, err := objectContent(t.Context(), r, f.Object)
			require.NoError(t, err)
			want.Open = nil
			check := func(what string, bit int) bool {
				got, data, err := objectContent(t.Context(), r, f.Object)
				if err != nil {
					return false
				}
				got.Open = nil
				require.Equal(t, want, got, "%s: bit %d of the %s of %s", mode, bit, what, f.Name)
				require.Equal(t, content, data, "%s: bit %d of the %s of %s", mode, bit, what, f.Name)
				return true
			}
			path := objectFile(r, f.Object, contentExt(mode))
			if f.Name == "l" && (mode == ostree.ModeBare || mode == ostree.ModeBareUserOnly) {
				eachBitOfLink(t, path, func(bit int) { check("target", bit) })
				continue
			}
			eachBit(t, path, func(bit int) { check("file", bit) })
			eachAttribute(t, path, func(what string, bit int) {
				same := check(what, bit)
				if err := r.Fsck(t.Context(), nil); !same {
					require.Error(t, err, "%s: bit %d of the %s of %s", mode, bit, what, f.Name)
				}
			})
		}
		require.NoError(t, r.Fsck(t.Context(), nil))
	}
}

// eachBitOfLink flips one bit of a link's target after the other.
func eachBitOfLink(t testing.TB, path string, check func(bit int)) {
	t.Helper()
	target, err := os.Readlink(path)
	require.NoError(t, err)
	set := func(text []byte) error {
		require.NoError(t, os.Remove(path))
		return os.Symlink(string(text), path)
	}
	for bit := range 8 * len(target) {
		flipped := []byte(target)
		flipped[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, set(flipped))
		check(bit)
	}
	require.NoError(t, set([]byte(target)))
}

// eachAttribute flips one bit after the other of what the file system keeps of a
// file: permissions, owners, extended attributes and their names.
func eachAttribute(t testing.TB, path string, check func(what string, bit int)) {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	for bit := range 12 {
		require.NoError(t, unix.Chmod(path, st.Mode&0o7777^1<<bit))
		check("mode", bit)
	}
	if isRoot() {
		for bit := range 32 {
			for _, flipped := range [][2]uint32{{st.Uid ^ 1<<bit, st.Gid}, {st.Uid, st.Gid ^ 1<<bit}} {
				if err := unix.Chown(path, int(flipped[0]), int(flipped[1])); !errors.Is(err, unix.EINVAL) { // none such in this namespace
					require.NoError(t, err)
					check("owner", bit)
				}
			}
		}
		require.NoError(t, unix.Chown(path, int(st.Uid), int(st.Gid)))
	}
	require.NoError(t, unix.Chmod(path, st.Mode&0o7777))
	names := make([]byte, 1000)
	n, err := unix.Listxattr(path, names)
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue // a label of this machine's own
		}
		value := make([]byte, 1000)
		n, err := unix.Getxattr(path, name, value)
		require.NoError(t, err)
		value = value[:n]
		for bit := range 8 * n {
			value[bit/8] ^= 1 << (bit % 8)
			require.NoError(t, unix.Setxattr(path, name, value, 0))
			check("value of "+name, bit)
			value[bit/8] ^= 1 << (bit % 8)
		}
		require.NoError(t, unix.Removexattr(path, name))
		check("lack of "+name, 0)
		for bit := range 8 * len(name) {
			flipped := []byte(name)
			flipped[bit/8] ^= 1 << (bit % 8)
			if unix.Setxattr(path, string(flipped), value, 0) != nil {
				continue // no such kind of attribute
			}
			check("name of "+name, bit)
			require.NoError(t, unix.Removexattr(path, string(flipped)))
		}
		require.NoError(t, unix.Setxattr(path, name, value, 0))
	}
}

// eachBit flips one bit of a file after the other.
func eachBit(t testing.TB, path string, check func(bit int)) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	for i := range data {
		for bit := range 8 {
			_, err := f.WriteAt([]byte{data[i] ^ 1<<bit}, int64(i))
			require.NoError(t, err)
			check(8*i + bit)
		}
		_, err := f.WriteAt(data[i:i+1], int64(i))
		require.NoError(t, err)
	}
}

// TestOverlayOfDiff: what differs, laid over the one tree, gives the other.
func TestOverlayOfDiff(t *testing.T) {
	for seed := range uint64(6) {
		a := treegen.Tree(seed, &treegen.Options{Files: 80, MaxSize: 1 << 12})
		b := treegen.Tree(seed+1, &treegen.Options{Files: 80, MaxSize: 1 << 12})
		if seed%2 == 1 {
			b = ostree.Overlay(a, literal(dir("."), dir("new"), file("new/x", "1"), file("d", "was a directory")))
		}
		r := newRepo(t, ostree.ModeArchive)
		want, err := r.Commit(t.Context(), b, nil)
		require.NoError(t, err)
		from, err := r.Commit(t.Context(), a, nil)
		require.NoError(t, err)

		var upper []ostree.Entry
		removed := make(map[string]bool)
		for c, err := range ostree.Diff(t.Context(), r.Tree(from), r.Tree(want)) {
			require.NoError(t, err)
			if c.To == nil {
				removed[c.Path] = true
			} else {
				upper = append(upper, *c.To)
			}
		}
		got, err := r.Commit(t.Context(), ostree.Overlay(without(r.Tree(from), removed), literal(upper...)), nil)
		require.NoError(t, err)
		require.Equal(t, want, got, "seed %d", seed)
		none, err := r.Commit(t.Context(), ostree.Overlay(r.Tree(from), literal()), nil)
		require.NoError(t, err)
		require.Equal(t, from, none)
	}
}

// without leaves paths out.
func without(tree ostree.Tree, paths map[string]bool) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range tree.Entries(ctx) {
				if err == nil && paths[e.Path] {
					continue
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}

// TestCommitOfCheckoutElsewhere: what is checked out of one repository and
// committed to another is the same commit, in every pair of modes.
func TestCommitOfCheckoutElsewhere(t *testing.T) {
	if !isRoot() {
		t.Skip("restoring owners and attributes needs root")
	}
	tree := treegen.Tree(9, &treegen.Options{Root: true, Files: 60, MaxSize: 1 << 16})
	// A checkout from a bare-user-only repository is one of the user mode, in which
	// files are readable.
	canonical := &ostree.CommitOptions{CanonicalPermissions: true, Edit: func(e *ostree.Entry) (bool, error) {
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			e.Mode |= 0o400
		}
		return true, nil
	}}
	for _, from := range allModes() {
		for _, to := range allModes() {
			opts := &ostree.CommitOptions{Edit: withoutEmpty}
			if from == ostree.ModeBareUserOnly || to == ostree.ModeBareUserOnly {
				opts = canonical
			}
			r := newRepo(t, from)
			want, err := r.Commit(t.Context(), tree, opts)
			require.NoError(t, err, from)
			out := t.TempDir()
			checkout(t, r, out, want, nil)
			got, err := newRepo(t, to).Commit(t.Context(), openDir(t, out), opts)
			require.NoError(t, err, "%s to %s", from, to)
			require.Equal(t, want, got, "%s to %s", from, to)
		}
	}
}
