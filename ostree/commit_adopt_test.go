package ostree_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// adoptTree is a folder with files of each kind.
func adoptTree(t testing.TB) string {
	t.Helper()
	tree := t.TempDir()
	require.NoError(t, os.Chmod(tree, 0o755))
	for name, content := range map[string]string{"small": "small", "empty": "", "run": "#!/bin/sh\n", "one": "twice", "open": "all may write\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644))
	}
	require.NoError(t, os.Chmod(filepath.Join(tree, "run"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(tree, "open"), 0o666))
	require.NoError(t, os.Link(filepath.Join(tree, "one"), filepath.Join(tree, "two")))
	require.NoError(t, os.Symlink("small", filepath.Join(tree, "link")))
	largeFile(t, filepath.Join(tree, "large"), 2<<20, 3)
	return tree
}

// links are the files of a folder that have more than one name.
func links(t testing.TB, tree string) []string {
	t.Helper()
	var list []string
	require.NoError(t, filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type().IsRegular() && nlink(info) > 1 {
			list = append(list, d.Name())
		}
		return err
	}))
	return list
}

func TestConsume(t *testing.T) {
	edit := func(e *ostree.Entry) (bool, error) {
		if e.Path == "small" {
			e.Mode ^= 0o111
		}
		return true, nil
	}
	for name, c := range map[string]struct {
		mode ostree.Mode
		opts ostree.CommitOptions
		want []string // with the two names of the one that always has them
		root bool
	}{
		"bare":            {ostree.ModeBare, ostree.CommitOptions{}, []string{"empty", "large", "one", "open", "run", "small", "two"}, true},
		"bare, edited":    {ostree.ModeBare, ostree.CommitOptions{Edit: edit}, []string{"empty", "large", "one", "open", "run", "two"}, true},
		"bare, owner":     {ostree.ModeBare, ostree.CommitOptions{Owner: &ostree.Owner{UID: 7}}, []string{"one", "two"}, true},
		"bare-user-only":  {ostree.ModeBareUserOnly, ostree.CommitOptions{}, []string{"empty", "large", "one", "open", "run", "small", "two"}, false},
		"bare-user":       {ostree.ModeBareUser, ostree.CommitOptions{}, []string{"one", "two"}, false},
		"archive":         {ostree.ModeArchive, ostree.CommitOptions{}, []string{"one", "two"}, false},
		"without":         {ostree.ModeBareUserOnly, ostree.CommitOptions{}, []string{"one", "two"}, false},
		"bare, attribute": {ostree.ModeBare, ostree.CommitOptions{SkipXattrs: true}, []string{"empty", "large", "one", "open", "run", "two"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && !isRoot() {
				t.Skip("needs root")
			}
			tree := adoptTree(t)
			if name == "bare, attribute" {
				require.NoError(t, unix.Setxattr(filepath.Join(tree, "small"), "user.x", []byte("1"), 0))
			}
			want, err := newRepo(t, c.mode).Commit(t.Context(), openDir(t, tree), &c.opts)
			require.NoError(t, err)
			r := newRepo(t, c.mode)
			c.opts.Consume = name != "without"
			got, err := r.Commit(t.Context(), openDir(t, tree), &c.opts)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, c.want, links(t, tree))
			require.NoError(t, r.Fsck(t.Context(), nil))
			// The folder goes, as it is meant to; the objects stay.
			require.NoError(t, os.RemoveAll(tree))
			require.NoError(t, r.Fsck(t.Context(), nil))
			out := t.TempDir()
			root, err := os.OpenRoot(out)
			require.NoError(t, err)
			defer root.Close()
			require.NoError(t, r.Checkout(t.Context(), root, got, &ostree.CheckoutOptions{UserMode: true, Copy: true, Union: ostree.UnionAdd}))
			data, err := os.ReadFile(filepath.Join(out, "small"))
			require.NoError(t, err)
			require.Equal(t, "small", string(data))
		})
	}
}

// TestConsumeTwice: what is there already is not taken, and nothing is lost.
func TestConsumeTwice(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUserOnly)
	opts := &ostree.CommitOptions{Consume: true, Stats: &ostree.CommitStats{}}
	first, err := r.Commit(t.Context(), openDir(t, adoptTree(t)), opts)
	require.NoError(t, err)
	// small, empty, run, open, large, one and a link; "one" alone has to be copied.
	require.EqualValues(t, 7, opts.Stats.ContentWritten)
	require.EqualValues(t, len("twice")+len("small"), opts.Stats.BytesWritten)
	tree := adoptTree(t)
	second, err := r.Commit(t.Context(), openDir(t, tree), opts)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Zero(t, opts.Stats.ContentWritten)
	require.Equal(t, []string{"one", "two"}, links(t, tree))
}

// TestConsumeElsewhere: files of another file system are copied.
func TestConsumeElsewhere(t *testing.T) {
	interop.Peer(t, "debootstrap", "ostree")
	if !isRoot() {
		t.Skip("mounts a file system")
	}
	disk := sharingDisk(t)
	if disk == "" {
		return
	}
	tree := adoptTree(t)
	for _, mode := range []ostree.Mode{ostree.ModeBare, ostree.ModeBareUserOnly} {
		r, err := ostree.Init(t.Context(), filepath.Join(disk, string(mode)), mode, nil)
		require.NoError(t, err)
		defer r.Close()
		want, err := newRepo(t, mode).Commit(t.Context(), openDir(t, tree), nil)
		require.NoError(t, err)
		got, err := r.Commit(t.Context(), openDir(t, tree), &ostree.CommitOptions{Consume: true})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, []string{"one", "two"}, links(t, tree))
		require.NoError(t, r.Fsck(t.Context(), nil))
		run(t, "ostree", "fsck", "--repo="+r.Path())
	}
}
