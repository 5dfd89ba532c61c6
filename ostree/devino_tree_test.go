package ostree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// A commit does not ask for the objects of cached files, symbolic links and directories
// where a ref leads to the tree that the cache was last used for, and nowhere else: whatever happened to the repository
// or with the cache, no commit lacks an object.
func TestDevInoCacheTrustsTheLatestTree(t *testing.T) {
	const ref = "day"
	folder := func(t *testing.T, name string) string {
		dir := t.TempDir()
		for i := range 8 {
			require.NoError(t, os.WriteFile(fmt.Sprintf("%s/%s%d", dir, name, i), []byte(fmt.Sprint(name, i)), 0o644))
		}
		require.NoError(t, os.Symlink("to "+name, dir+"/link"))
		require.NoError(t, os.Mkdir(dir+"/below", 0o755))
		require.NoError(t, os.WriteFile(dir+"/below/"+name, nil, 0o644))
		settle(t, dir)
		return dir
	}
	open := func(t *testing.T, path string) *ostree.DevInoCache {
		cache, err := ostree.OpenDevInoCache(path)
		require.NoError(t, err)
		return cache
	}
	commit := func(t *testing.T, r *ostree.Repo, tree ostree.Tree, cache *ostree.DevInoCache, ref string) ostree.Checksum {
		c, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Cache: cache, Ref: ref})
		require.NoError(t, err)
		return c
	}
	// objects are the files of a file, a link and a directory of the tree.
	objects := func(t *testing.T, r *ostree.Repo, c ostree.Checksum) (files []string) {
		read, err := r.ReadCommit(t.Context(), c)
		require.NoError(t, err)
		tree, err := r.ReadDirTree(t.Context(), read.RootTree)
		require.NoError(t, err)
		for _, f := range tree.Files {
			if f.Name == "f3" || f.Name == "link" {
				files = append(files, objectFile(r, f.Object, "file"))
			}
		}
		files = append(files, objectFile(r, tree.Dirs[0].Tree, "dirtree"))
		require.Len(t, files, 3)
		return files
	}
	harm := func(t *testing.T, r *ostree.Repo, c ostree.Checksum) {
		for _, file := range objects(t, r, c) {
			require.NoError(t, os.Remove(file))
		}
	}
	for _, tc := range []struct {
		name   string
		tree   func(ostree.Tree) ostree.Tree                        // of the commit that is looked at; nil: the folder alone
		before func(t *testing.T, r *ostree.Repo, dir, path string) // with the cache at path
		lacks  bool                                                 // objects that were removed by hand are not missed
	}{
		{name: "a ref leads to it", lacks: true, before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			c := commit(t, r, openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
			harm(t, r, c)
		}},
		{name: "a ref leads to it, by entries that come one by one", lacks: true, tree: func(dir ostree.Tree) ostree.Tree { return ostree.Overlay(dir) }, before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			c := commit(t, r, ostree.Overlay(openDir(t, dir)), cache, ref)
			require.NoError(t, cache.Save())
			harm(t, r, c)
		}},
		{name: "no ref leads to it", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			c := commit(t, r, openDir(t, dir), cache, "")
			require.NoError(t, cache.Save())
			harm(t, r, c)
		}},
		{name: "the ref is gone and all pruned", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			commit(t, r, openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
			require.NoError(t, r.DeleteRef(t.Context(), ref))
			stats, err := r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
			require.NoError(t, err)
			require.NotZero(t, stats.Pruned)
		}},
		{name: "`ostree fsck --delete` found it damaged", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			c := commit(t, r, openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
			harm(t, r, c)
			require.NoError(t, os.MkdirAll(r.Path()+"/state", 0o755))
			require.NoError(t, os.WriteFile(r.Path()+"/state/"+c.String()+".commitpartial", nil, 0o644))
		}},
		{name: "the ref is broken", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			c := commit(t, r, openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
			harm(t, r, c)
			require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "refs/heads", ref), []byte("none"), 0o644))
		}},
		{name: "files in the cache are not in the tree", tree: func(dir ostree.Tree) ostree.Tree { return ostree.Overlay(dir) }, before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			upper := t.TempDir()
			require.NoError(t, os.WriteFile(upper+"/f3", []byte("above"), 0o644))
			cache := open(t, path)
			commit(t, r, ostree.Overlay(openDir(t, dir), openDir(t, upper)), cache, ref)
			require.NoError(t, cache.Save())
		}},
		{name: "another repository has the tree", before: func(t *testing.T, _ *ostree.Repo, dir, path string) {
			cache := open(t, path)
			commit(t, newRepo(t, ostree.ModeBareUser), openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
		}},
		{name: "two trees in two repositories", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			commit(t, newRepo(t, ostree.ModeBareUser), openDir(t, dir), cache, ref)
			commit(t, r, openDir(t, folder(t, "g")), cache, ref)
			require.NoError(t, cache.Save())
		}},
		{name: "needed sooner, in another repository", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			cache := open(t, path)
			commit(t, newRepo(t, ostree.ModeBareUser), openDir(t, dir), cache, ref)
			require.NoError(t, cache.Save())
			cache = open(t, path)
			commit(t, r, openDir(t, folder(t, "g")), cache, ref)
			require.NoError(t, cache.Save())
		}},
		{name: "the commit failed", before: func(t *testing.T, r *ostree.Repo, dir, path string) {
			commit(t, r, openDir(t, folder(t, "g")), nil, ref)
			require.NoError(t, os.Symlink("\xff", dir+"/z"))
			cache := open(t, path)
			_, err := r.Commit(t.Context(), openDir(t, dir), &ostree.CommitOptions{Cache: cache, Ref: ref})
			require.Error(t, err)
			require.NoError(t, cache.Save())
			require.NoError(t, os.Remove(dir+"/z"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, dir, path := newRepo(t, ostree.ModeBareUser), folder(t, "f"), filepath.Join(t.TempDir(), "cache")
			tc.before(t, r, dir, path)
			tree := openDir(t, dir)
			if tc.tree != nil {
				tree = tc.tree(tree)
			}
			got := commit(t, r, tree, open(t, path), "next")
			want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), openDir(t, dir), nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
			for _, file := range objects(t, r, got) {
				if tc.lacks {
					require.NoFileExists(t, file)
				} else {
					require.FileExists(t, file)
				}
			}
			if tc.lacks {
				return
			}
			if tc.name != "the ref is broken" {
				require.NoError(t, r.Fsck(t.Context(), nil))
			}
		})
	}
}
