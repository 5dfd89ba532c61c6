package ostree_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// tryCheckout checks out into the folder path and gives the error.
func tryCheckout(t testing.TB, r *ostree.Repo, path string, c ostree.Checksum, opts *ostree.CheckoutOptions) error {
	t.Helper()
	root, err := os.OpenRoot(path)
	require.NoError(t, err)
	defer root.Close()
	return r.Checkout(t.Context(), root, c, opts)
}

func TestCheckoutIdentical(t *testing.T) {
	for _, mode := range allModes() {
		for _, user := range []bool{true, false} {
			if !user && !isRoot() {
				continue
			}
			r := newRepo(t, mode)
			base, _ := commitTree(t, r, dir("."), dir("d"), file("d/a", "1"), file("d/empty", ""), link("d/l", "a"))
			more, _ := commitTree(t, r, dir("."), dir("d"), file("d/a", "1"), file("d/b", "2"), link("d/l", "a"))
			out := t.TempDir()
			opts := &ostree.CheckoutOptions{UserMode: user, Union: ostree.UnionIdentical}
			require.NoError(t, tryCheckout(t, r, out, base, opts))
			require.NoError(t, tryCheckout(t, r, out, more, opts))
			require.FileExists(t, out+"/d/b")
			// A copy of the same is the same.
			require.NoError(t, os.Remove(out+"/d/a"))
			require.NoError(t, os.WriteFile(out+"/d/a", []byte("1"), 0o644))
			require.NoError(t, os.Chmod(out+"/d/a", 0o644))
			require.NoError(t, tryCheckout(t, r, out, more, opts))
			for name, entry := range map[string]ostree.Entry{"content": file("d/a", "9"), "length": file("d/a", "11"), "target": link("d/l", "b"), "type": file("d/l", "a")} {
				other, _ := commitTree(t, r, dir("."), dir("d"), entry)
				err := tryCheckout(t, r, out, other, opts)
				require.ErrorIs(t, err, fs.ErrExist, name)
				require.ErrorContains(t, err, "another "+name)
			}
			require.NoError(t, os.Chmod(out+"/d/a", 0o600))
			require.ErrorContains(t, tryCheckout(t, r, out, base, opts), "another mode")
		}
	}
}

func TestCheckoutWhiteouts(t *testing.T) {
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		lower, _ := commitTree(t, r, dir("."), file("gone", "1"), dir("gonedir"), file("gonedir/x", "1"), dir("opaque"), file("opaque/old", "1"), dir("opaque/olddir"),
			file("tofile", "1"), dir("todir"), file("todir/x", ""), file("kept", "1"), dir("tolink"), file("tolink/x", "1"))
		upper, _ := commitTree(t, r, dir("."), file(".wh.gone", ""), file(".wh.gonedir", ""), file(".wh.nothing", ""), dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/new", "2"),
			dir("tofile"), file("tofile/y", "2"), file("todir", "2"), link("tolink", "kept"))
		out := t.TempDir()
		outside := t.TempDir()
		require.NoError(t, os.WriteFile(outside+"/safe", nil, 0o644))
		checkout(t, r, out, lower, &ostree.CheckoutOptions{UserMode: true})
		require.NoError(t, os.Symlink(outside, out+"/gonedir/link"))
		checkout(t, r, out, upper, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionOverwrite, Whiteouts: true})
		var names []string
		require.NoError(t, filepath.WalkDir(out, func(path string, _ fs.DirEntry, err error) error {
			names = append(names, strings.TrimPrefix(path, out))
			return err
		}))
		require.Equal(t, "[ /kept /opaque /opaque/new /todir /tofile /tofile/y /tolink]", fmt.Sprint(names))
		require.FileExists(t, outside+"/safe")
		// Without, they are files.
		plain := t.TempDir()
		checkout(t, r, plain, upper, &ostree.CheckoutOptions{UserMode: true})
		require.FileExists(t, plain+"/.wh.gone")
		bad, _ := commitTree(t, r, dir("."), file(".wh.", ""))
		require.ErrorContains(t, tryCheckout(t, r, t.TempDir(), bad, &ostree.CheckoutOptions{Whiteouts: true}), "not allowed")
		bad, _ = commitTree(t, r, dir("."), file(".wh...", ""))
		require.ErrorContains(t, tryCheckout(t, r, t.TempDir(), bad, &ostree.CheckoutOptions{Whiteouts: true}), "not allowed")
		all, _ := commitTree(t, r, dir("."), file(".wh..wh..opq", ""), file("z", "1"))
		checkout(t, r, out, all, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionOverwrite, Whiteouts: true})
		entries, err := os.ReadDir(out)
		require.NoError(t, err)
		require.Len(t, entries, 1)
	}
}

func TestCheckoutSkipAndHardLinks(t *testing.T) {
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		open := dir("d")
		open.Mode = ostree.ModeDir | 0o1777
		c, _ := commitTree(t, r, dir("."), open, file("d/a", "1"), file("d/b", "1"), dir("e"), file("e/a", ""), link("e/l", "a"))
		out := t.TempDir()
		user := mode != ostree.ModeBare
		opts := &ostree.CheckoutOptions{UserMode: user, RequireHardLinks: true, PlainDirs: true, Skip: func(path string) bool { return path == "e" || path == "d/b" }}
		err := tryCheckout(t, r, out, c, opts)
		if mode == ostree.ModeArchive {
			require.ErrorContains(t, err, "can't be a hard link")
			continue
		}
		require.NoError(t, err)
		require.NoDirExists(t, out+"/e")
		require.NoFileExists(t, out+"/d/b")
		st, err := os.Stat(out + "/d/a")
		require.NoError(t, err)
		require.EqualValues(t, 2, nlink(st))
		st, err = os.Stat(out + "/d")
		require.NoError(t, err)
		require.Equal(t, fs.ModeDir|0o775, st.Mode()|0o020)
		require.Error(t, tryCheckout(t, r, t.TempDir(), c, &ostree.CheckoutOptions{Copy: true, RequireHardLinks: true}))
		if isRoot() && mode != ostree.ModeBareUserOnly {
			require.ErrorContains(t, tryCheckout(t, r, t.TempDir(), c, &ostree.CheckoutOptions{UserMode: !user, RequireHardLinks: true}), "can't be a hard link")
		}
	}
}

// TestCheckoutAsPeer checks out with every option both ways.
func TestCheckoutAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	if !isRoot() {
		t.Skip("owners need root")
	}
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		base, err := r.Commit(t.Context(), treegen.Tree(11, &treegen.Options{Root: true, Files: 60, MaxSize: 1 << 14}), &ostree.CommitOptions{Edit: withoutEmpty})
		require.NoError(t, err)
		layer, err := r.Commit(t.Context(), literal(dir("."), dir("d"), file("d/zero", "now more"), file("d/.wh.setuid", ""), dir("d/empty"), file("d/empty/new", "1"), link("d/link", "new"), file("top", "1")), nil)
		require.NoError(t, err)
		for _, c := range []struct {
			args []string
			opts ostree.CheckoutOptions
		}{
			{nil, ostree.CheckoutOptions{}},
			{[]string{"--user-mode"}, ostree.CheckoutOptions{UserMode: true}},
			{[]string{"--force-copy"}, ostree.CheckoutOptions{Copy: true}},
			{[]string{"--user-mode", "--force-copy"}, ostree.CheckoutOptions{UserMode: true, Copy: true}},
			{[]string{"--bareuseronly-dirs", "--user-mode"}, ostree.CheckoutOptions{UserMode: true, PlainDirs: true}},
			{[]string{"--subpath=/d"}, ostree.CheckoutOptions{Subpath: "d"}},
			{[]string{"--union"}, ostree.CheckoutOptions{Union: ostree.UnionOverwrite}},
			{[]string{"--union-add"}, ostree.CheckoutOptions{Union: ostree.UnionAdd}},
			{[]string{"--union", "--whiteouts", "--user-mode"}, ostree.CheckoutOptions{Union: ostree.UnionOverwrite, Whiteouts: true, UserMode: true}},
		} {
			dirs := [2]string{filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "ours")}
			layers := []ostree.Checksum{base}
			if c.opts.Union != ostree.UnionNone {
				layers = append(layers, layer)
			}
			require.NoError(t, os.Mkdir(dirs[1], 0o755))
			for _, l := range layers {
				run(t, "ostree", append([]string{"--repo=" + r.Path(), "checkout", "--disable-cache", l.String(), dirs[0]}, c.args...)...)
				require.NoError(t, tryCheckout(t, r, dirs[1], l, &c.opts), "%s %v", mode, c.args)
			}
			var want, got string
			want, got = listing(t, dirs[0]), listing(t, dirs[1])
			same(t, want, got)
			linked := func(dir string) (n int) {
				require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
					if st, e := d.Info(); e == nil && !d.IsDir() && nlink(st) > 1 {
						n++
					}
					return err
				}))
				return n
			}
			require.Equal(t, linked(dirs[0]), linked(dirs[1]), "%s %v", mode, c.args)
			require.NoError(t, os.RemoveAll(dirs[1]))
		}
	}
}
