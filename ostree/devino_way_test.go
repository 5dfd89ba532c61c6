package ostree_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// What a cache knows of a commit that changes entries means nothing to one that changes
// them otherwise.
func TestDevInoCacheOfOtherWays(t *testing.T) {
	keep := func(*ostree.Entry) (bool, error) { return true, nil }
	for name, second := range map[string]func(*ostree.Entry) (bool, error){
		"left out":     func(e *ostree.Entry) (bool, error) { return e.Path != "f3", nil },
		"another mode": func(e *ostree.Entry) (bool, error) { e.Mode |= 0o1; return true, nil },
		"another target": func(e *ostree.Entry) (bool, error) {
			e.Target = strings.Replace(e.Target, "to", "up", 1)
			return true, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path, r := waysFolder(t), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
			commit := func(edit func(*ostree.Entry) (bool, error)) {
				want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), openDir(t, dir), &ostree.CommitOptions{Edit: edit})
				require.NoError(t, err)
				got, _ := commitCached(t, r, openDir(t, dir), path, ostree.CommitOptions{Ref: "day", Edit: edit})
				require.Equal(t, want, got)
				_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
				require.NoError(t, err)
				require.NoError(t, r.Fsck(t.Context(), nil))
			}
			commit(keep)
			commit(second)
			commit(keep)
		})
	}
}

func waysFolder(t *testing.T) string {
	dir := t.TempDir()
	for i := range 6 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/f%d", dir, i), []byte(fmt.Sprint("content", i)), 0o644))
	}
	require.NoError(t, os.Symlink("to", dir+"/link"))
	settle(t, dir)
	return dir
}

// changedTree is a Tree of somebody else's, which gives one file another content.
type changedTree struct {
	ostree.Tree
	content string
}

func (t changedTree) Entries(ctx context.Context) iter.Seq2[ostree.Entry, error] {
	return func(yield func(ostree.Entry, error) bool) {
		for e, err := range t.Tree.Entries(ctx) {
			if filepath.Base(e.Path) == "f3" {
				e.Size, e.Identity = int64(len(t.content)), ostree.FileID{}
				e.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(t.content)), nil }
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A Tree outside of this package that hands on a folder's entries has use of the cache,
// but for those that it gives another content.
func TestDevInoCacheOfOtherTrees(t *testing.T) {
	top := t.TempDir()
	require.NoError(t, os.Rename(waysFolder(t), top+"/usr"))
	settle(t, top)
	for name, of := range map[string]func(ostree.Tree) ostree.Tree{
		"a folder":         func(tree ostree.Tree) ostree.Tree { return tree },
		"one laid over it": func(tree ostree.Tree) ostree.Tree { return ostree.Overlay(tree, literal(dir("."))) },
		"its arrangement":  func(tree ostree.Tree) ostree.Tree { return ostree.Postprocess(tree, nil) },
		"both":             func(tree ostree.Tree) ostree.Tree { return ostree.Postprocess(ostree.Overlay(tree), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			path, r := filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
			for _, step := range []struct {
				content string
				hits    int64
			}{{"CONTENT1", 0}, {"CONTENT2", 6}, {"CONTENT2", 6}, {"content", 6}} {
				tree := func() ostree.Tree { return changedTree{of(openDir(t, top)), step.content} }
				want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), tree(), nil)
				require.NoError(t, err)
				got, stats := commitCached(t, r, tree(), path, ostree.CommitOptions{Ref: "day"})
				require.Equal(t, want, got)
				require.Equal(t, step.hits, stats.CacheHits)
			}
		})
	}
}

// Where Postprocess puts what it moves, a tree may have anything: a folder as others are
// looked into entry by entry there.
func TestDevInoCacheOfStrangePlaces(t *testing.T) {
	for _, strange := range []string{
		"usr/etc", "usr/lib", "usr/lib/modules", "usr/lib/modules/1", "usr/lib/modules/1/vmlinuz", "usr/lib/sysimage", "usr/lib/sysimage/dpkg",
		"usr/lib/sysimage/dpkg/info", "usr/lib/sysimage/dpkg/status", "usr/share", "usr/share/rpm", "usr/share/rpm/Packages", "usr/other",
	} {
		for _, folder := range []bool{false, true} {
			t.Run(fmt.Sprint(strange, folder), func(t *testing.T) {
				t.Parallel()
				dir, path, r := t.TempDir(), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
				write := func(name, text string) {
					require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
				}
				for _, name := range []string{"boot/vmlinuz-1", "var/lib/dpkg/status", "var/lib/dpkg/info/a.list", "var/lib/rpm/Packages", "usr/bin/x", "usr/bin/below/y"} {
					write(name, name)
				}
				if folder || strange == "usr/etc" {
					require.NoError(t, os.MkdirAll(filepath.Join(dir, strange, "folder"), 0o755))
				}
				if folder {
					write(strange+"/file", "file")
				} else if strange != "usr/etc" {
					write(strange, "strange")
				}
				if strange != "usr/etc" {
					write("etc/hosts", "hosts")
				}
				for day := range 4 {
					settle(t, dir)
					tree := func() ostree.Tree { return ostree.Postprocess(openDir(t, dir), nil) }
					want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), tree(), nil)
					require.NoError(t, err)
					got, stats := commitCached(t, r, tree(), path, ostree.CommitOptions{Ref: "day"})
					require.Equal(t, want, got, "day %d", day)
					require.NoError(t, r.Fsck(t.Context(), nil))
					require.Equal(t, day > 0, stats.CacheHits > 0)
					if day == 1 {
						write("usr/bin/x", "another")
					}
				}
			})
		}
	}
}

// What changed just now may change again without a trace.
func TestDevInoCacheOfFreshFiles(t *testing.T) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		dir, path, r := t.TempDir(), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
		require.NoError(t, os.Mkdir(dir+"/below", 0o755))
		made := time.Now()
		require.NoError(t, os.WriteFile(dir+"/below/f", []byte("content"), 0o644))
		commitCached(t, r, openDir(t, dir), path, ostree.CommitOptions{})
		if time.Since(made) > 15*time.Millisecond {
			continue // they may be old enough
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		folders, trusted, files := ostree.DecodeDevIno(data)
		require.Equal(t, [3]int{2, 0, 0}, [3]int{folders, trusted, files})
		return
	}
	t.Skip("this machine is too slow")
}

// A file with a time in the future, which one that is written then would have, too.
func TestDevInoCacheOfFutureFiles(t *testing.T) {
	dir, path, r := waysFolder(t), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
	future := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(dir+"/f3", future, future))
	time.Sleep(50 * time.Millisecond)
	for _, hits := range []int64{0, 6} {
		_, stats := commitCached(t, r, openDir(t, dir), path, ostree.CommitOptions{})
		require.Equal(t, hits, stats.CacheHits)
	}
}

// A folder of more entries than are listed at once, of which some change.
func TestDevInoCacheOfLargeFolders(t *testing.T) {
	dir, path, r := t.TempDir(), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
	const files = 2500
	name := func(i int) string { return fmt.Sprintf("%s/f%04d", dir, i) }
	for i := range files {
		if i%100 == 50 {
			require.NoError(t, os.Mkdir(name(i), 0o755))
		} else {
			require.NoError(t, os.WriteFile(name(i), []byte(fmt.Sprint(i)), 0o644))
		}
	}
	for _, change := range []func() error{
		func() error { return nil },
		func() error { return nil },
		func() error { return os.WriteFile(name(1100), []byte("changed"), 0o644) },
		func() error { return os.Remove(name(5)) },
		func() error { return os.WriteFile(dir+"/f1500-new", nil, 0o644) },
		func() error { return os.WriteFile(name(2450)+"/below", nil, 0o644) },
		func() error { return os.Remove(name(2450) + "/below") },
	} {
		require.NoError(t, change())
		time.Sleep(40 * time.Millisecond)
		want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), openDir(t, dir), nil)
		require.NoError(t, err)
		got, stats := commitCached(t, r, openDir(t, dir), path, ostree.CommitOptions{Ref: "day"})
		require.Equal(t, want, got)
		require.NoError(t, r.Fsck(t.Context(), nil))
		if stats.CacheHits > 0 {
			require.InDelta(t, stats.Files, stats.CacheHits, 1)
		}
	}
}

// What one way of looking at a folder leaves out, another has to store again when it is gone.
func TestDevInoCacheOfArrangedFolder(t *testing.T) {
	dir, path, r := waysFolder(t), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
	require.NoError(t, os.Mkdir(dir+"/run", 0o755))
	require.NoError(t, os.WriteFile(dir+"/run/x", []byte("is left out"), 0o644))
	settle(t, dir)
	as := func() ostree.Tree { return ostree.Overlay(openDir(t, dir)) }
	arranged := func() ostree.Tree { return ostree.Postprocess(openDir(t, dir), nil) }
	for _, tree := range []func() ostree.Tree{as, arranged, as} {
		want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), tree(), nil)
		require.NoError(t, err)
		got, _ := commitCached(t, r, tree(), path, ostree.CommitOptions{Ref: "day"})
		require.Equal(t, want, got)
		_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
		require.NoError(t, err)
		require.NoError(t, r.Fsck(t.Context(), nil))
	}
}

// Another user may see other owners and attributes.
func TestDevInoCacheOfAnotherUser(t *testing.T) {
	dir, path := waysFolder(t), filepath.Join(t.TempDir(), "cache")
	commitCached(t, newRepo(t, ostree.ModeBareUser), openDir(t, dir), path, ostree.CommitOptions{})
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	_, _, files := ostree.DecodeDevIno(data)
	require.Equal(t, 7, files)
	end := len(data) - crc32.Size
	check := func() {
		binary.BigEndian.PutUint32(data[end:], crc32.Checksum(data[:end], crc32.MakeTable(crc32.Castagnoli)))
	}
	check()
	_, _, files = ostree.DecodeDevIno(data)
	require.Equal(t, 7, files, "the check is what it is taken for")
	data[strings.IndexByte(string(data), '\n')+4] ^= 1
	check()
	folders, _, _ := ostree.DecodeDevIno(data)
	require.Zero(t, folders)
}

// The longest name that a file system of Linux has.
func TestDevInoCacheOfLongNames(t *testing.T) {
	dir, path, r := waysFolder(t), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
	require.NoError(t, os.WriteFile(filepath.Join(dir, strings.Repeat("n", 255)), nil, 0o644))
	settle(t, dir)
	for _, hits := range []int64{0, 8} {
		_, stats := commitCached(t, r, openDir(t, dir), path, ostree.CommitOptions{Ref: "day"})
		require.Equal(t, hits, stats.CacheHits)
	}
}

// nestedTree is a Tree that commits another while it is read.
type nestedTree struct {
	ostree.Tree
	commit func(context.Context) error
}

func (t nestedTree) Entries(ctx context.Context) iter.Seq2[ostree.Entry, error] {
	if err := t.commit(ctx); err != nil {
		return func(yield func(ostree.Entry, error) bool) { yield(ostree.Entry{}, err) }
	}
	return t.Tree.Entries(ctx)
}

// The cache of a commit is not that of another within it.
func TestDevInoCacheOfNestedCommits(t *testing.T) {
	dir, path, r := waysFolder(t), filepath.Join(t.TempDir(), "cache"), newRepo(t, ostree.ModeBareUser)
	for _, hits := range []int64{0, 6} {
		_, stats := commitCached(t, r, nestedTree{changedTree{openDir(t, dir), "outside"}, func(ctx context.Context) error {
			_, err := newRepo(t, ostree.ModeBareUser).Commit(ctx, changedTree{openDir(t, dir), "within"}, nil)
			return err
		}}, path, ostree.CommitOptions{Ref: "day"})
		require.Equal(t, hits, stats.CacheHits)
	}
}
