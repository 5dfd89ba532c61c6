package ostree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/ostree"
)

// A tree is changed in every way, step by step, and committed with a cache after each,
// in one way or another: the commit is always that of a commit without a cache, and
// nothing is missing in the repository.
func TestDevInoCacheOfChangingTrees(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := newChangingTree(t, seed)
			for range 60 {
				c.change(t)
			}
			r, plain, cachePath := newRepo(t, ostree.ModeBareUser), newRepo(t, ostree.ModeBareUser), filepath.Join(t.TempDir(), "cache")
			var hits, files int64
			for step := range 14 {
				if c.rand.IntN(3) > 0 {
					time.Sleep(40 * time.Millisecond) // so that the cache trusts time stamps
				}
				opts, tree := c.way(t)
				var all ostree.CommitStats
				opts.Stats = &all
				want, err := plain.Commit(t.Context(), tree(), &opts)
				require.NoError(t, err)
				opts.Ref = "day"
				got, stats := commitCached(t, r, tree(), cachePath, opts)
				require.Equal(t, want, got, "step %d", step)
				require.Equal(t, [3]int64{all.Files, all.Dirs, all.Bytes}, [3]int64{stats.Files, stats.Dirs, stats.Bytes})
				require.NoError(t, r.Fsck(t.Context(), nil))
				hits, files = hits+stats.CacheHits, files+stats.Files
				for range c.rand.IntN(4) {
					c.change(t)
				}
				if c.rand.IntN(6) == 0 {
					// Objects of all but the latest commit go.
					_, err := r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
					require.NoError(t, err)
				}
			}
			require.Greater(t, hits, files/8, "the cache is of no use")

			settle(t, c.root)
			for again := range 2 {
				_, stats := commitCached(t, r, openDir(t, c.root), cachePath, ostree.CommitOptions{Ref: "day"})
				if again > 0 {
					require.Equal(t, stats.Files, stats.CacheHits)
					require.Zero(t, stats.MetadataWritten+stats.ContentWritten)
				}
			}
		})
	}
}

// changingTree is a folder that is changed at random: the usr of a root file system, which
// is arranged in one of the ways.
type changingTree struct {
	rand      *rand.Rand
	top, root string
	n         int
}

func newChangingTree(t *testing.T, seed uint64) *changingTree {
	top := t.TempDir()
	for _, name := range []string{
		"etc/hosts", "boot/vmlinuz-1", "boot/initrd.img-1", "var/lib/dpkg/status", "var/lib/dpkg/info/a.list", "var/lib/rpm/Packages", "var/log/x",
		"usr/lib/modules/1/modules.dep", "usr/share/rpm/Packages", "usr/lib/sysimage/dpkg/info/b.list",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(top, name), []byte(name), 0o644))
	}
	return &changingTree{rand: rand.New(rand.NewPCG(seed, 5)), top: top, root: top + "/usr"}
}

// way is one in which the tree is committed.
func (c *changingTree) way(t *testing.T) (opts ostree.CommitOptions, tree func() ostree.Tree) {
	tree = func() ostree.Tree { return openDir(t, c.root) }
	switch c.rand.IntN(12) {
	case 5, 6, 7:
		tree = func() ostree.Tree { return ostree.Postprocess(openDir(t, c.top), nil) }
	case 8:
		tree = func() ostree.Tree { return changedTree{ostree.Postprocess(openDir(t, c.top), nil), "changed"} }
	case 0:
		opts.Owner = &ostree.Owner{UID: 7, GID: 8}
	case 1:
		opts.CanonicalPermissions = true
	case 2:
		opts.Edit = func(e *ostree.Entry) (bool, error) { return filepath.Base(e.Path) != "f1", nil }
	case 3:
		upper := t.TempDir()
		require.NoError(t, os.WriteFile(upper+"/f2", []byte("above"), 0o644))
		tree = func() ostree.Tree { return ostree.Overlay(openDir(t, c.root), openDir(t, upper)) }
	case 4:
		opts.SkipXattrs = true
	}
	return opts, tree
}

// pick gives a path below the root, or "" if there is none: of a folder or of something
// else.
func (c *changingTree) pick(t *testing.T, folder bool) string {
	var all []string
	require.NoError(t, filepath.WalkDir(c.root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() == folder {
			all = append(all, p)
		}
		return err
	}))
	if len(all) == 0 {
		return ""
	}
	return all[c.rand.IntN(len(all))]
}

// change changes something.
func (c *changingTree) change(t *testing.T) {
	c.n++
	folder, file := c.pick(t, true), c.pick(t, false)
	fresh := fmt.Sprintf("%s/%c%d", folder, "fg"[c.rand.IntN(2)], c.rand.IntN(12))
	text := []byte(fmt.Sprint(c.rand.IntN(50)))
	if file == "" {
		require.NoError(t, os.WriteFile(fresh, text, 0o644))
		return
	}
	var err error
	switch c.rand.IntN(13) {
	case 0, 1, 2:
		err = os.WriteFile(fresh, text, 0o644)
	case 3:
		err = os.Mkdir(fresh, 0o755)
	case 4:
		err = os.Symlink(string(text), fresh)
	case 5:
		err = os.Remove(file)
	case 6:
		err = os.Rename(file, fresh)
	case 7:
		err = os.Chmod(folder, 0o700|fs.FileMode(c.rand.IntN(0o100)))
	case 8:
		if st, e := os.Lstat(file); e == nil && st.Mode().IsRegular() {
			err = errors.Join(os.Chmod(file, 0o600|fs.FileMode(c.rand.IntN(0o100))), os.Chtimes(file, st.ModTime(), st.ModTime()))
		}
	case 9: // another file of the same size and time
		if st, e := os.Lstat(file); e == nil && st.Mode().IsRegular() {
			other := make([]byte, st.Size())
			other[0] = byte(c.n)
			err = errors.Join(os.WriteFile(file, other, 0o644), os.Chtimes(file, st.ModTime(), st.ModTime()))
		}
	case 10:
		err = os.Link(file, fresh)
	case 11:
		if folder != c.root {
			err = os.Rename(folder, fmt.Sprintf("%s/moved%d", c.root, c.rand.IntN(3)))
		}
	case 12:
		if e := unix.Setxattr(folder, "user.a", text, 0); e != nil && !errors.Is(e, unix.ENOTSUP) {
			err = e
		}
		if st, e := os.Lstat(file); e == nil && st.Mode().IsRegular() {
			if e := unix.Setxattr(file, "user.b", text, 0); e != nil && !errors.Is(e, unix.ENOTSUP) {
				err = e
			}
		}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return // there is something else
	}
	if _, ok := errors.AsType[*os.LinkError](err); ok {
		return
	}
	require.NoError(t, err)
}
