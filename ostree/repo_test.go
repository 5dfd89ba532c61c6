package ostree_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := ostree.Init(t.Context(), dir, ostree.ModeArchive, nil)
	require.NoError(t, err)
	require.Equal(t, ostree.ModeArchive, r.Mode())
	mode, ok := r.Config("core", "mode")
	require.True(t, ok)
	require.Equal(t, "archive-z2", mode)
	require.NoError(t, r.Close())

	r, err = ostree.Init(t.Context(), dir, ostree.ModeArchive, nil)
	require.NoError(t, err, "a repository that is there is opened")
	require.NoError(t, r.Close())
	_, err = ostree.Init(t.Context(), dir, ostree.ModeBareUser, nil)
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = ostree.Init(t.Context(), filepath.Join(t.TempDir(), "x"), ostree.ModeBareSplitXattrs, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = ostree.Open(t.Context(), t.TempDir(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOpenRefuses(t *testing.T) {
	for config, want := range map[string]error{
		"[core]\nrepo_version=1\nmode=bare-other\n":           errors.ErrUnsupported,
		"[core]\nrepo_version=2\nmode=archive\n":              errors.ErrUnsupported,
		"[core]\nrepo_version=1\nmode=archive\nparent=/x/y\n": fs.ErrNotExist,
		"":                   errors.ErrUnsupported,
		"mode=archive\n":     nil,
		"[core\n":            nil,
		"[core]\nnonsense\n": nil,
		"[core]\nrepo_version=1\nmode=archive\nfsync=maybe\n":                nil,
		"[core]\nrepo_version=1\nmode=archive\nlock-timeout-secs=x\n":        nil,
		"[core]\nrepo_version=1\nmode=archive\nmin-free-space-percent=100\n": nil,
		"[core]\nrepo_version=1\nmode=archive\nmin-free-space-size=5\n":      nil,
	} {
		dir := filepath.Join(t.TempDir(), "repo")
		r, err := ostree.Init(t.Context(), dir, ostree.ModeArchive, nil)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644))
		_, err = ostree.Open(t.Context(), dir, nil)
		require.Error(t, err, config)
		if want != nil {
			require.ErrorIs(t, err, want, config)
		}
	}
}

func TestSetConfigKeepsEverythingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := ostree.Init(t.Context(), dir, ostree.ModeBareUser, nil)
	require.NoError(t, err)
	defer r.Close()
	path := filepath.Join(dir, "config")
	require.NoError(t, os.WriteFile(path, []byte("# mine\n[core]\nrepo_version=1\nmode = bare-user\nunknown-key=a=b\n\n[remote \"x\"]\nurl=https://example.com\n"), 0o644))
	require.NoError(t, r.SetConfig(t.Context(), "core", "fsync", "false"))
	require.NoError(t, r.SetConfig(t.Context(), "core", "fsync", "true"))
	require.NoError(t, r.SetConfig(t.Context(), "archive", "zlib-level", "3"))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "# mine\n[core]\nrepo_version=1\nmode = bare-user\nunknown-key=a=b\nfsync=true\n\n[remote \"x\"]\nurl=https://example.com\n\n[archive]\nzlib-level=3\n", string(got))
	require.Error(t, r.SetConfig(t.Context(), "core", "mode", "bear"))
	require.Error(t, r.SetConfig(t.Context(), "core", "x\ny", "1"))
	require.Error(t, r.SetConfig(t.Context(), "core", "x", "1\n2"))
}

func TestRefs(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Ref: "os/x86_64/base"})
	require.NoError(t, err)
	d, err := r.Commit(t.Context(), literal(dir("."), file("a", "1")), &ostree.CommitOptions{Ref: "origin:os", Parent: c})
	require.NoError(t, err)
	require.NoError(t, os.Symlink("x86_64/base", filepath.Join(r.Path(), "refs/heads/os/alias")))
	var got []string
	for ref, err := range r.Refs(t.Context()) {
		require.NoError(t, err)
		got = append(got, ref.String()+" "+ref.Commit.String()+" "+ref.Alias)
	}
	require.Equal(t, []string{"os/alias " + c.String() + " os/x86_64/base", "os/x86_64/base " + c.String() + " ", "origin:os " + d.String() + " "}, got)
	for range r.Refs(t.Context()) {
		break // must not go on
	}
	for ref, err := range r.RefsBelow(t.Context(), "os/alias") {
		require.NoError(t, err)
		require.Equal(t, "os/x86_64/base", ref.Alias)
	}

	for rev, want := range map[string]ostree.Checksum{
		"os/x86_64/base": c, "os/alias": c, "origin:os": d, "origin:os^": c, "os": d, "origin/os": d, d.String(): d, d.String() + "^": c, c.String()[:12]: c, d.String()[:12] + "^": c,
	} {
		got, err := r.Resolve(t.Context(), rev)
		require.NoError(t, err, rev)
		require.Equal(t, want, got, rev)
	}
	for _, rev := range []string{"nope", "os/x86_64", "origin:nope", "other:os", "origin:os^^", c.String() + "^", "ffffffff"} {
		_, err := r.Resolve(t.Context(), rev)
		require.ErrorIs(t, err, fs.ErrNotExist, rev)
	}
	for _, rev := range []string{"", "^", "../heads/os", "/os", "os/", "a//b", "a b", "-x", ".x", "x:y:z", "a:" + c.String(), "../x:os", strings.Repeat("a", 2000)} {
		_, err := r.Resolve(t.Context(), rev)
		require.Error(t, err, rev)
		require.Error(t, r.SetRef(t.Context(), rev, c), rev)
	}
	require.ErrorIs(t, r.SetRef(t.Context(), "x", ostree.Checksum{1}), fs.ErrNotExist)
	require.NoError(t, r.SetRef(t.Context(), "x/y", d))
	require.NoError(t, r.SetRef(t.Context(), "x/y", c))
	got2, err := r.Resolve(t.Context(), "x/y")
	require.NoError(t, err)
	require.Equal(t, c, got2)
	require.NoError(t, r.SetRef(t.Context(), "x/y", ostree.Checksum{}))
	require.NoError(t, r.SetRef(t.Context(), "x/y", ostree.Checksum{}), "deleting twice is no error")
	_, err = r.Resolve(t.Context(), "x/y")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestRefsStayInside(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	outside := filepath.Join(t.TempDir(), "ref")
	require.NoError(t, os.WriteFile(outside, []byte(strings.Repeat("ab", 32)+"\n"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(r.Path(), "refs/heads/evil")))
	_, err := r.Resolve(t.Context(), "evil")
	require.Error(t, err)
	require.Error(t, r.Fsck(t.Context(), nil))
}

// undetached is a tree whose files must be read at once, as those of a stream.
func undetached(entries ...ostree.Entry) ostree.Tree {
	return ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for _, e := range entries {
				current := true
				open := e.Open
				e.Detached = false
				if open != nil {
					e.Open = func(ctx context.Context) (io.ReadCloser, error) {
						if !current {
							return nil, errors.New("the stream moved on")
						}
						return open(ctx)
					}
				}
				if !yield(e, nil) {
					return
				}
				current = false
			}
		}
	})
}

func large(n int) string { return strings.Repeat("0123456789abcdef", n<<20/16) }

func TestCommitStream(t *testing.T) {
	entries := []ostree.Entry{dir("."), file("small", "x"), file("large", large(3)), file("same", large(3)), link("l", "small"), dir("d"),
		{Path: "d/hard", Link: "large"}, {Path: "d/hardlink", Link: "l"}}
	plain := []ostree.Entry{dir("."), file("small", "x"), file("large", large(3)), file("same", large(3)), link("l", "small"), dir("d"),
		file("d/hard", large(3)), link("d/hardlink", "small")}
	for _, mode := range allModes() {
		want, err := newRepo(t, mode).Commit(t.Context(), literal(plain...), nil)
		require.NoError(t, err)
		r := newRepo(t, mode)
		for range 2 {
			got, err := r.Commit(t.Context(), undetached(entries...), nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.NoError(t, r.Fsck(t.Context(), nil))
		// What is left out may still be what a link names.
		got, err := r.Commit(t.Context(), undetached(entries...), &ostree.CommitOptions{Edit: func(e *ostree.Entry) (bool, error) { return e.Path != "large" && e.Path != "l", nil }})
		require.NoError(t, err)
		want, err = r.Commit(t.Context(), literal(dir("."), file("small", "x"), file("same", large(3)), dir("d"), file("d/hard", large(3)), link("d/hardlink", "small")), nil)
		require.NoError(t, err)
		require.Equal(t, want, got)
		requireClean(t, r)
	}
}

// requireClean checks that no staging folder is left.
func requireClean(t testing.TB, r *ostree.Repo) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.Path(), "tmp"))
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, "cache", e.Name())
	}
}

func TestRepeatedPathsReplace(t *testing.T) {
	with := func(e ostree.Entry, fn func(*ostree.Entry)) ostree.Entry { fn(&e); return e }
	for _, c := range []struct {
		name      string
		got, want []ostree.Entry
	}{
		{"file", []ostree.Entry{file("a", "1"), file("a", "2")}, []ostree.Entry{file("a", "2")}},
		{"link over file", []ostree.Entry{file("a", "1"), link("a", "b")}, []ostree.Entry{link("a", "b")}},
		{"file over directory", []ostree.Entry{dir("a"), dir("a/b"), file("a/b/c", "1"), file("a", "2")}, []ostree.Entry{file("a", "2")}},
		{"directory over file", []ostree.Entry{file("a", "1"), dir("a"), file("a/b", "2")}, []ostree.Entry{dir("a"), file("a/b", "2")}},
		{"directory keeps children", []ostree.Entry{dir("a"), file("a/b", "1"), with(dir("a"), func(e *ostree.Entry) { e.Mode = ostree.ModeDir | 0o700 })},
			[]ostree.Entry{with(dir("a"), func(e *ostree.Entry) { e.Mode = ostree.ModeDir | 0o700 }), file("a/b", "1")}},
		{"implied keeps metadata", []ostree.Entry{with(dir("a"), func(e *ostree.Entry) { e.UID = 7 }), with(dir("a"), func(e *ostree.Entry) { e.Implied = true })},
			[]ostree.Entry{with(dir("a"), func(e *ostree.Entry) { e.UID = 7 })}},
		{"file, directory, file", []ostree.Entry{dir("a"), dir("a/b"), file("a", "1"), dir("a"), file("a/c", "2")}, []ostree.Entry{dir("a"), file("a/c", "2")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, _ := commitTree(t, newRepo(t, ostree.ModeArchive), append([]ostree.Entry{dir(".")}, c.want...)...)
			r := newRepo(t, ostree.ModeArchive)
			got, _ := commitTree(t, r, append([]ostree.Entry{dir(".")}, c.got...)...)
			require.Equal(t, want, got)
			other := newRepo(t, ostree.ModeArchive)
			commitTree(t, other, append([]ostree.Entry{dir(".")}, c.want...)...)
			same(t, objectNames(t, other.Path()), objectNames(t, r.Path())) // no leftovers
		})
	}
}

func TestEdit(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	tree := literal(dir("."), dir("keep"), file("keep/a", "1"), dir("drop"), file("drop/a", "1"), dir("drop/d"), file("drop/d/x", "2"), file("z", "3"))
	got, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: func(e *ostree.Entry) (bool, error) {
		if e.Path == "z" {
			e.UID, e.Mode = 5, ostree.ModeRegular|0o4755
			e.Xattrs = append(e.Xattrs, ostree.Xattr{Name: "user.b", Value: []byte("2")}, ostree.Xattr{Name: "user.a", Value: []byte("1")})
		}
		return e.Path != "drop", nil
	}})
	require.NoError(t, err)
	z := file("z", "3")
	z.UID, z.Mode, z.Xattrs = 5, ostree.ModeRegular|0o4755, []ostree.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("2")}}
	want, _ := commitTree(t, r, dir("."), dir("keep"), file("keep/a", "1"), z)
	require.Equal(t, want, got)

	// An entry of a commit that is changed is stored anew.
	changed, err := r.Commit(t.Context(), r.Tree(got), &ostree.CommitOptions{Owner: &ostree.Owner{UID: 9, GID: 9}})
	require.NoError(t, err)
	for e, err := range r.Tree(changed).Entries(t.Context()) {
		require.NoError(t, err)
		require.EqualValues(t, 9, e.UID, e.Path)
	}

	boom := errors.New("boom")
	_, err = r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: func(e *ostree.Entry) (bool, error) { return true, boom }})
	require.ErrorIs(t, err, boom)
	_, err = r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: func(e *ostree.Entry) (bool, error) { e.Path += "x"; return true, nil }})
	require.ErrorContains(t, err, "changed the path")
	_, err = r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: func(e *ostree.Entry) (bool, error) { return false, nil }})
	require.ErrorContains(t, err, "root directory")
	requireClean(t, r)
}

func TestCommitRefuses(t *testing.T) {
	bad := func(fn func(*ostree.Entry)) ostree.Entry { e := file("bad", "1"); fn(&e); return e }
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		entry ostree.Entry
		want  string
	}{
		{"device", ostree.Entry{Path: "dev", Mode: 0o020666}, "commit dev: is a device node"},
		{"block device", ostree.Entry{Path: "dev", Mode: 0o060666}, "commit dev: is a device node"},
		{"pipe", ostree.Entry{Path: "pipe", Mode: 0o010666}, "commit pipe: is a pipe"},
		{"socket", ostree.Entry{Path: "sock", Mode: 0o140666}, "commit sock: is a socket"},
		{"no type", ostree.Entry{Path: "x", Mode: 0o644}, "no known type"},
		{"mode bits", bad(func(e *ostree.Entry) { e.Mode |= 1 << 20 }), "mode"},
		{"not UTF-8", file("\xff", "1"), "not UTF-8"},
		{"dot", file("a/.", "1"), "not allowed"},
		{"dot dot", file("..", "1"), "not allowed"},
		{"NUL", file("a\x00b", "1"), "NUL"},
		{"empty", file("", "1"), "not allowed"},
		{"no parent", file("a/b", "1"), "its directory is not in the tree"},
		{"below a file", file("f/b", "1"), "its directory is not in the tree"},
		{"link without target", link("l", ""), "no target"},
		{"target with NUL", link("l", "a\x00"), "NUL"},
		{"target not UTF-8", link("l", "\xff"), "UTF-8"},
		{"file with target", bad(func(e *ostree.Entry) { e.Target = "x" }), "has a link target"},
		{"attribute twice", bad(func(e *ostree.Entry) { e.Xattrs = []ostree.Xattr{{Name: "user.a"}, {Name: "user.a"}} }), "twice"},
		{"attribute without name", bad(func(e *ostree.Entry) { e.Xattrs = []ostree.Xattr{{}} }), "empty"},
		{"directory attribute twice", func() ostree.Entry {
			e := dir("d")
			e.Xattrs = []ostree.Xattr{{Name: "user.a"}, {Name: "user.a"}}
			return e
		}(), "twice"},
		{"short", bad(func(e *ostree.Entry) { e.Size = 5 }), "has 1 bytes, want 5"},
		{"long", bad(func(e *ostree.Entry) { e.Size = 0 }), "goes on"},
		{"large, short", bad(func(e *ostree.Entry) { e.Size = 5 << 20 }), "want"},
		{"negative", bad(func(e *ostree.Entry) { e.Size = -1 }), "-1"},
		{"no content", bad(func(e *ostree.Entry) { e.Open = nil }), "without content"},
		{"open fails", bad(func(e *ostree.Entry) { e.Open = func(context.Context) (io.ReadCloser, error) { return nil, boom } }), "commit bad: boom"},
		{"hard link to nothing", ostree.Entry{Path: "h", Link: "nothing"}, "hard link to"},
		{"hard link to a directory", ostree.Entry{Path: "h", Link: "dir"}, "hard link to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range modes {
				for _, tree := range []ostree.Tree{literal(dir("."), dir("dir"), file("f", "1"), c.entry), undetached(dir("."), dir("dir"), file("f", "1"), c.entry)} {
					r := newRepo(t, mode)
					_, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Ref: "x"})
					require.ErrorContains(t, err, c.want)
					_, ok := errors.AsType[*ostree.Error](err)
					require.True(t, ok)
					require.Empty(t, objectNames(t, r.Path()), "nothing is left behind")
					requireClean(t, r)
				}
			}
		})
	}
	r := newRepo(t, ostree.ModeArchive)
	for _, opts := range []*ostree.CommitOptions{
		{Ref: "../x"}, {Workers: -1}, {Workers: 65}, {Subject: "\xff"}, {Body: "a\x00b"}, {Timestamp: time.Unix(-1, 0)},
		{Metadata: []ostree.MetadataItem{{Key: "a", Value: ostree.BoolVariant(true)}, {Key: "a", Value: ostree.BoolVariant(true)}}},
		{Metadata: []ostree.MetadataItem{{Key: "a", Value: ostree.Variant{Type: "s", Data: []byte("x")}}}},
		{Metadata: []ostree.MetadataItem{{Key: "a", Value: ostree.Variant{Type: "nope"}}}},
		{Detached: []ostree.MetadataItem{{Key: "a\x00", Value: ostree.BoolVariant(true)}}},
	} {
		_, err := r.Commit(t.Context(), literal(dir(".")), opts)
		require.Error(t, err, opts)
	}
	_, err := r.Commit(t.Context(), literal(), nil)
	require.ErrorContains(t, err, "no root directory")
	requireClean(t, r)
}

func TestCommitCancelled(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Commit(ctx, ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			if !yield(dir("."), nil) {
				return
			}
			for i := 0; ; i++ {
				if i == 100 {
					cancel()
				}
				if !yield(file(strings.Repeat("x", i%100+1), "1"), nil) {
					return
				}
				if i > 1_000_000 {
					yield(ostree.Entry{}, errors.New("was not told to stop"))
					return
				}
			}
		}
	}), nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, objectNames(t, r.Path()))
	requireClean(t, r)
}

func TestDeterminism(t *testing.T) {
	entries := []ostree.Entry{dir(".")}
	for i := range 300 {
		entries = append(entries, file("f"+strings.Repeat("x", i), strings.Repeat("c", i*37%5000)))
	}
	var want ostree.Checksum
	for i, workers := range []int{1, 2, 7, 64} {
		list := modes
		if workers == 7 {
			list = allModes()
		}
		for _, mode := range list {
			got, err := newRepo(t, mode).Commit(t.Context(), literal(entries...), &ostree.CommitOptions{Workers: workers})
			require.NoError(t, err)
			if i == 0 && want.IsZero() {
				want = got
			}
			require.Equal(t, want, got)
		}
	}
}

func TestDetachedMetadata(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	items := []ostree.MetadataItem{{Key: "b", Value: ostree.StringVariant("2")}, {Key: "a", Value: ostree.BytesVariant([]byte{1})}}
	c, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Detached: items})
	require.NoError(t, err)
	got, err := r.ReadMetadata(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, items, got)
	again, err := r.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err)
	require.Equal(t, c, again)
	_, err = r.ReadMetadata(t.Context(), c)
	require.NoError(t, err, "nil leaves it alone")
	_, err = r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Detached: items[:1]})
	require.NoError(t, err)
	got, err = r.ReadMetadata(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, items[:1], got)
	require.NoError(t, r.Fsck(t.Context(), nil))
}

func TestVariants(t *testing.T) {
	s, err := ostree.StringVariant("ü").AsString()
	require.NoError(t, err)
	require.Equal(t, "ü", s)
	l, err := ostree.StringsVariant([]string{"a", "", "c"}).AsStrings()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "", "c"}, l)
	for _, n := range []int{0, 1, 100, 254, 255, 256, 65_000, 65_535, 70_000} {
		want := []string{strings.Repeat("x", n/2), "", strings.Repeat("y", n-n/2)}
		got, err := ostree.StringsVariant(want).AsStrings()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Empty(t, ostree.StringsVariant(nil).Data)
	b, err := ostree.BoolVariant(true).AsBool()
	require.NoError(t, err)
	require.True(t, b)
	y, err := ostree.BytesVariant([]byte{0, 1}).AsBytes()
	require.NoError(t, err)
	require.Equal(t, []byte{0, 1}, y)
	u, err := ostree.Uint32Variant(7).AsUint32()
	require.NoError(t, err)
	require.EqualValues(t, 7, u)
	v, err := ostree.Uint64Variant(1 << 40).AsUint64()
	require.NoError(t, err)
	require.EqualValues(t, 1<<40, v)
	_, err = ostree.BoolVariant(true).AsString()
	require.ErrorContains(t, err, `type "b"`)
	_, err = ostree.Variant{Type: "t", Data: []byte{1}}.AsUint64()
	require.Error(t, err)
}

func TestProgressAndStats(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	var last int64
	var stats ostree.CommitStats
	_, err := r.Commit(t.Context(), literal(dir("."), file("a", "12"), file("b", "12"), link("c", "d"), dir("d")), &ostree.CommitOptions{Workers: 1,
		Progress: func(e ostree.Event) { last = e.Done }, Stats: &stats})
	require.NoError(t, err)
	require.EqualValues(t, 3, last)
	require.Equal(t, ostree.CommitStats{Files: 3, Dirs: 2, Bytes: 4, ContentWritten: 2, MetadataWritten: 4, BytesRead: 4, BytesWritten: 4}, stats)
}
