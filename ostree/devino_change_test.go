package ostree_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/ostree"
)

// No change of a file goes unseen by the cache, though size and time of last
// change are as they were: the kernel notes each in the inode (ctime), or the
// name has another inode.
func TestDevInoCacheSeesEveryChange(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "probe")
	require.NoError(t, os.WriteFile(probe, nil, 0o644))
	noXattrs := unix.Setxattr(probe, "user.probe", []byte("x"), 0) != nil
	set := func(path, name, value string) error { return unix.Setxattr(path, name, []byte(value), 0) }
	for _, tc := range []struct {
		name   string
		xattrs bool
		root   bool
		change func(dir, f string) error // f is the file that is looked at, "other" another of its size
		same   bool                      // what a commit holds did not change
	}{
		{name: "content", change: func(_, f string) error { return os.WriteFile(f, []byte("CONTENT"), 0o644) }},
		{name: "a byte in place", change: func(_, f string) error {
			file, err := os.OpenFile(f, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer file.Close()
			_, err = file.WriteAt([]byte("X"), 3)
			return err
		}},
		{name: "mode", change: func(_, f string) error { return os.Chmod(f, 0o600) }},
		{name: "owner", root: true, change: func(_, f string) error { return os.Chown(f, 7, 8) }},
		{name: "another file of that name", change: func(dir, f string) error { return os.Rename(filepath.Join(dir, "other"), f) }},
		{name: "names exchanged", change: func(dir, f string) error {
			other, held := filepath.Join(dir, "other"), filepath.Join(dir, "held")
			for _, r := range [][2]string{{f, held}, {other, f}, {held, other}} {
				if err := os.Rename(r[0], r[1]); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "a link to the other", change: func(dir, f string) error {
			if err := os.Remove(f); err != nil {
				return err
			}
			return os.Link(filepath.Join(dir, "other"), f)
		}},
		{name: "removed and made again", same: true, change: func(_, f string) error {
			if err := os.Remove(f); err != nil {
				return err
			}
			return os.WriteFile(f, []byte("content"), 0o644)
		}},
		{name: "first attribute", xattrs: true, change: func(_, f string) error { return set(f, "user.first", "1") }},
		{name: "attribute's value", xattrs: true, change: func(dir, _ string) error { return set(filepath.Join(dir, "with"), "user.a", "2") }},
		{name: "another attribute", xattrs: true, change: func(dir, _ string) error { return set(filepath.Join(dir, "with"), "user.b", "1") }},
		{name: "attribute removed", xattrs: true, change: func(dir, _ string) error { return unix.Removexattr(filepath.Join(dir, "with"), "user.a") }},
		{name: "attribute put and removed", xattrs: true, same: true, change: func(_, f string) error {
			if err := set(f, "user.first", "1"); err != nil {
				return err
			}
			return unix.Removexattr(f, "user.first")
		}},
		{name: "nothing", same: true, change: func(_, _ string) error { return nil }},
	} {
		test := func(t *testing.T, ref string) {
			if tc.xattrs && noXattrs {
				t.Skip("file system without extended attributes")
			}
			if tc.root && os.Getuid() != 0 {
				t.Skip("only root gives files away")
			}
			dir := t.TempDir()
			then := time.Unix(1700000000, 0)
			for name, text := range map[string]string{"f": "content", "other": "another", "with": "content"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
			if !noXattrs {
				require.NoError(t, set(filepath.Join(dir, "with"), "user.a", "1"))
			}
			stamp := func() {
				for _, name := range []string{"f", "other", "with"} {
					if err := os.Chtimes(filepath.Join(dir, name), then, then); !os.IsNotExist(err) {
						require.NoError(t, err)
					}
				}
			}
			stamp()
			settle(t, dir)
			path := filepath.Join(t.TempDir(), "cache")
			r := newRepo(t, ostree.ModeBareUser)
			commit := func(stats *ostree.CommitStats) ostree.Checksum {
				cache, err := ostree.OpenDevInoCache(path)
				require.NoError(t, err)
				c, err := r.Commit(t.Context(), openDir(t, dir), &ostree.CommitOptions{Ref: ref, Cache: cache, Stats: stats})
				require.NoError(t, err)
				require.NoError(t, cache.Save())
				return c
			}
			before := commit(nil)
			require.NoError(t, tc.change(dir, filepath.Join(dir, "f")))
			if tc.name != "nothing" {
				stamp()
			}
			want, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), openDir(t, dir), nil)
			require.NoError(t, err)
			var stats ostree.CommitStats
			require.Equal(t, want, commit(&stats))
			if tc.same {
				require.Equal(t, before, want)
			} else {
				require.NotEqual(t, before, want, "the case shows nothing")
			}
			if tc.name == "nothing" {
				require.EqualValues(t, 3, stats.CacheHits)
			}
		}
		t.Run(tc.name, func(t *testing.T) { test(t, "") })
		// With a ref, what did not change is not looked at further.
		t.Run(tc.name+", with a ref", func(t *testing.T) { test(t, "day") })
	}
}
