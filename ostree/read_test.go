package ostree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

func TestCommitFS(t *testing.T) {
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		setuid := file("usr/bin/su", "su")
		setuid.Mode = ostree.ModeRegular | 0o4755
		entries := []ostree.Entry{dir("."), link("bin", "usr/bin"), link("abs", "/usr/bin/su"), link("up", "../../usr/bin/../bin/su"),
			dir("usr"), dir("usr/bin"), setuid, file("usr/empty", ""), link("usr/root", "/"), dir("usr/none")}
		c, _ := commitTree(t, r, entries...)
		fsys, err := r.FS(t.Context(), c)
		require.NoError(t, err)
		require.NoError(t, fstest.TestFS(fsys, "usr/bin/su", "usr/empty", "usr/none"))
		c, _ = commitTree(t, r, append(entries, link("loop", "loop"), link("gone", "nowhere"))...)
		fsys, err = r.FS(t.Context(), c)
		require.NoError(t, err)
		for _, name := range []string{"bin/su", "abs", "up", "usr/root/usr/root/bin/su"} {
			data, err := fs.ReadFile(fsys, name)
			require.NoError(t, err, name)
			require.Equal(t, "su", string(data))
		}
		for _, name := range []string{"gone", "usr/bin/su/x", "nope", "usr/nope/x"} {
			_, err := fs.Stat(fsys, name)
			require.ErrorIs(t, err, fs.ErrNotExist, name)
		}
		_, err = fs.Stat(fsys, "loop")
		require.ErrorContains(t, err, "too many symbolic links")
		_, err = fs.ReadLink(fsys, "usr")
		require.ErrorIs(t, err, fs.ErrInvalid)
		target, err := fs.ReadLink(fsys, "abs")
		require.NoError(t, err)
		require.Equal(t, "/usr/bin/su", target)
		info, err := fs.Stat(fsys, "usr/bin/su")
		require.NoError(t, err)
		if mode != ostree.ModeBareUserOnly {
			require.Equal(t, fs.FileMode(0o755)|fs.ModeSetuid, info.Mode())
		}
		_, err = r.FS(t.Context(), ostree.Checksum{1})
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// TestFSIsTheTree: a commit of a commit's file system is that commit.
func TestCommitFSIsTheTree(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	want, err := r.Commit(t.Context(), treegen.Tree(3, &treegen.Options{Root: true, Files: 80, MaxSize: 1 << 16}), nil)
	require.NoError(t, err)
	fsys, err := r.FS(t.Context(), want)
	require.NoError(t, err)
	got, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), ostree.FS(fsys), nil)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestList(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, _ := commitTree(t, r, dir("."), file("a", "1"), dir("d"), file("d/b", "22"), dir("d/e"), file("d/e/f", "3"), link("z", "d"))
	list := func(path string, opts *ostree.ListOptions) string {
		var names []string
		for e, err := range r.List(t.Context(), c, path, opts) {
			require.NoError(t, err)
			require.False(t, e.Object.IsZero())
			names = append(names, e.Path)
		}
		return strings.Join(names, " ")
	}
	require.Equal(t, ". a d z", list("", nil))
	require.Equal(t, ". a d d/b d/e d/e/f z", list("/", &ostree.ListOptions{Recursive: true}))
	require.Equal(t, "d d/b d/e", list("/d/", nil))
	require.Equal(t, "d", list("d", &ostree.ListOptions{Self: true}))
	require.Equal(t, "d/b", list("d/b", &ostree.ListOptions{Recursive: true}))
	require.Equal(t, "z", list("z", nil), "links are not followed")
	for _, path := range []string{"x", "d/x", "d/b/x", "z/b"} {
		for _, err := range r.List(t.Context(), c, path, nil) {
			require.ErrorIs(t, err, fs.ErrNotExist, path)
		}
	}
	for _, err := range r.List(t.Context(), c, "../d", nil) {
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

func TestLog(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	commits := history(t, r, "x", 3)
	log := func(c ostree.Checksum) (got []ostree.Checksum) {
		for e, err := range r.Log(t.Context(), c) {
			require.NoError(t, err)
			got = append(got, e.Checksum)
		}
		return got
	}
	require.Equal(t, []ostree.Checksum{commits[2], commits[1], commits[0]}, log(commits[2]))
	_, err := r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true, Depth: 1})
	require.NoError(t, err)
	require.Equal(t, []ostree.Checksum{commits[2], commits[1]}, log(commits[2]))
	for _, err := range r.Log(t.Context(), commits[0]) {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func changes(t testing.TB, from, to ostree.Tree) string {
	t.Helper()
	var b strings.Builder
	for c, err := range ostree.Diff(t.Context(), from, to) {
		require.NoError(t, err)
		fmt.Fprintf(&b, "%c %s\n", c.Kind(), c.Path)
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	owned := dir("owned")
	owned.UID = 7
	a := literal(dir("."), file("same", "1"), file("mode", "1"), dir("gone"), file("gone/x", "1"), file("was-file", ""), dir("was-dir"), file("was-dir/y", ""), dir("owned"), link("l", "1"), dir("d"), file("d-", ""))
	mode := file("mode", "1")
	mode.Mode = ostree.ModeRegular | 0o600
	b := literal(dir("."), file("same", "1"), mode, dir("new"), file("new/x", "1"), dir("was-file"), file("was-file/z", ""), file("was-dir", ""), owned, link("l", "2"), dir("d"), file("d/e", "1"), file("d-", "2"))
	want := "A d/e\nM d-\nD gone\nD gone/x\nM l\nM mode\nA new\nA new/x\nM owned\nM was-dir\nD was-dir/y\nM was-file\nA was-file/z\n"
	require.Equal(t, want, changes(t, a, b))
	r, other := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeBareUser)
	x, err := r.Commit(t.Context(), a, nil)
	require.NoError(t, err)
	y, err := other.Commit(t.Context(), b, nil)
	require.NoError(t, err)
	require.Equal(t, want, changes(t, r.Tree(x), other.Tree(y)))
	require.Equal(t, want, changes(t, r.Tree(x), b))
	require.Empty(t, changes(t, r.Tree(x), a))
	require.Empty(t, changes(t, b, other.Tree(y)))
	for c, err := range ostree.Diff(t.Context(), r.Tree(x), other.Tree(y)) {
		require.NoError(t, err)
		if c.Path == "mode" {
			require.EqualValues(t, 0o644, c.From.Mode&0o777)
			require.EqualValues(t, 0o600, c.To.Mode&0o777)
		}
		if c.Path == "new" {
			break
		}
	}
	// A path that comes again, and a hard link.
	again := literal(dir("."), file("x", "1"), dir("x"), file("x/y", "1"), file("x", "2"), ostree.Entry{Path: "h", Link: "x"})
	require.Empty(t, changes(t, again, literal(dir("."), file("x", "2"), file("h", "2"))))
	for _, err := range ostree.Diff(t.Context(), literal(dir("."), ostree.Entry{Path: "h", Link: "x"}), a) {
		require.ErrorContains(t, err, "hard link to")
	}
	for _, err := range ostree.Diff(t.Context(), r.Tree(y), other.Tree(y)) {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func TestExport(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	want, err := r.Commit(t.Context(), treegen.Tree(5, &treegen.Options{Root: true, Files: 80, MaxSize: 1 << 16}), &ostree.CommitOptions{Timestamp: time.Unix(1234, 0)})
	require.NoError(t, err)
	for _, links := range []bool{false, true} {
		var first, second bytes.Buffer
		require.NoError(t, r.Export(t.Context(), &first, want, &ostree.ExportOptions{HardLinks: links}))
		require.NoError(t, r.Export(t.Context(), &second, want, &ostree.ExportOptions{HardLinks: links}))
		require.Equal(t, sha(first.Bytes()), sha(second.Bytes()))
		got, err := newRepo(t, ostree.ModeBareUser).Commit(t.Context(), ostree.Tar(&first), &ostree.CommitOptions{Timestamp: time.Unix(1234, 0)})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.ErrorIs(t, r.Export(t.Context(), io.Discard, want, &ostree.ExportOptions{Subpath: "nope"}), fs.ErrNotExist)
	require.ErrorIs(t, r.Export(t.Context(), broken{}, want, nil), errBroken)
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestPackages(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	status := "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b2\n\nPackage: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 1:3.134\n"
	debian, err := r.Commit(t.Context(), literal(dir("."), dir("var"), dir("var/lib"), dir("var/lib/dpkg"), file("var/lib/dpkg/status", status),
		dir("var/lib/dpkg/info"), file("var/lib/dpkg/info/bash.list", "/.\n"), file("var/lib/dpkg/info/adduser.list", "/.\n")), nil)
	require.NoError(t, err)
	list, err := r.Packages(t.Context(), debian)
	require.NoError(t, err)
	require.Equal(t, "[adduser-1:3.134.all bash-5.2.15-2+b2.amd64]", fmt.Sprint(list))

	none, _ := commitTree(t, r, dir("."))
	_, err = r.Packages(t.Context(), none)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.Packages(t.Context(), ostree.Checksum{1})
	require.ErrorIs(t, err, fs.ErrNotExist)

	// [("b", "0", "1", "2", "noarch")]
	data := []byte("b\x000\x001\x002\x00noarch\x00\x08\x06\x04\x02\x13")
	listed, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Metadata: []ostree.MetadataItem{{Key: "rpmostree.rpmdb.pkglist", Value: ostree.Variant{Type: "a(sssss)", Data: data}}}})
	require.NoError(t, err)
	list, err = r.Packages(t.Context(), listed)
	require.NoError(t, err)
	require.Equal(t, []ostree.Package{{Name: "b", Version: "1", Release: "2", Arch: "noarch"}}, list)
	wrong, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Metadata: []ostree.MetadataItem{{Key: "rpmostree.rpmdb.pkglist", Value: ostree.StringVariant("x")}}})
	require.NoError(t, err)
	_, err = r.Packages(t.Context(), wrong)
	require.ErrorContains(t, err, "rpmostree.rpmdb.pkglist")
}

func TestDiffPackages(t *testing.T) {
	p := func(name, version string) ostree.Package {
		return ostree.Package{Name: name, Version: version, Arch: "noarch"}
	}
	var got []string
	for _, c := range ostree.DiffPackages(
		[]ostree.Package{p("kernel", "1"), p("kernel", "2"), p("gone", "1"), p("same", "1"), p("up", "1")},
		[]ostree.Package{p("up", "2"), p("kernel", "2"), p("kernel", "3"), p("new", "1"), p("same", "1")}) {
		got = append(got, fmt.Sprint(c.From, " ", c.To))
	}
	require.Equal(t, []string{"gone-1.noarch <nil>", "kernel-1.noarch kernel-3.noarch", "<nil> new-1.noarch", "up-1.noarch up-2.noarch"}, got)
}

// TestReadAsPeer compares lists, differences, logs and exports with `ostree`.
func TestReadAsPeer(t *testing.T) {
	interop.Peer(t, "ostree", "tar")
	repo := unpack(t, "repo-bare-user")
	r, err := ostree.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	var refs []ostree.Ref
	for ref, err := range r.Refs(t.Context()) {
		require.NoError(t, err)
		refs = append(refs, ref)
	}
	v1, err := ostree.ParseChecksum("bc2781fe3a78c472aca7900a6afed3f963370788d36f9106e396b6cf9ccdc537")
	require.NoError(t, err)
	v2, err := ostree.ParseChecksum("c69a55f1a86e8174a0d2223e22d851270997e441f1a8200032ec863fcdcb945f")
	require.NoError(t, err)

	for _, pair := range [][2]ostree.Checksum{{v1, v2}, {v2, v1}} {
		var got []string
		removed := ""
		for c, err := range ostree.Diff(t.Context(), r.Tree(pair[0]), r.Tree(pair[1])) {
			require.NoError(t, err)
			isDir := func(e *ostree.Entry) bool { return e.Mode&ostree.ModeType == ostree.ModeDir }
			if c.Kind() == 'M' && isDir(c.From) && isDir(c.To) || c.Kind() == 'D' && removed != "" && strings.HasPrefix(c.Path, removed) {
				continue
			}
			if c.Kind() == 'D' {
				removed = c.Path + "/"
			}
			got = append(got, fmt.Sprintf("%c    /%s", c.Kind(), c.Path))
		}
		want := strings.Split(strings.TrimSpace(run(t, "ostree", "--repo="+repo, "diff", pair[0].String(), pair[1].String())), "\n")
		require.ElementsMatch(t, want, got)
	}

	log := run(t, "ostree", "--repo="+repo, "log", v2.String())
	at := -1
	for e, err := range r.Log(t.Context(), v2) {
		require.NoError(t, err)
		next := strings.Index(log, "commit "+e.Checksum.String())
		require.Greater(t, next, at)
		at = next
	}

	var listed []string
	for e, err := range r.List(t.Context(), v1, "/usr", &ostree.ListOptions{Recursive: true}) {
		require.NoError(t, err)
		kind := map[uint32]string{ostree.ModeDir: "d", ostree.ModeRegular: "-", ostree.ModeSymlink: "l"}[e.Mode&ostree.ModeType]
		target := ""
		if e.Target != "" {
			target = " -> " + e.Target
		}
		listed = append(listed, fmt.Sprintf("%s%05o %d %d %6d /%s%s", kind, e.Mode&0o7777, e.UID, e.GID, e.Size, e.Path, target))
	}
	theirs := strings.Split(strings.TrimSuffix(run(t, "ostree", "--repo="+repo, "ls", "-R", v1.String(), "/usr"), "\n"), "\n")
	listed = strings.Split(strings.Join(listed, "\n"), "\n") // names have line breaks too
	slices.Sort(theirs)
	slices.Sort(listed)
	same(t, strings.Join(theirs, "\n"), strings.Join(listed, "\n"))

	// The same tar contents, by what a tar gives and by what it unpacks.
	dir := t.TempDir()
	run(t, "ostree", "--repo="+repo, "export", "--output="+filepath.Join(dir, "theirs.tar"), v2.String())
	f, err := os.Create(filepath.Join(dir, "ours.tar"))
	require.NoError(t, err)
	require.NoError(t, r.Export(t.Context(), f, v2, &ostree.ExportOptions{SkipXattrs: true}))
	require.NoError(t, f.Close())
	// They have the files of a directory before its directories, and libarchive
	// puts combining characters together.
	sorted := func(name string) string {
		lines := strings.Split(run(t, "tar", "--full-time", "-tvf", filepath.Join(dir, name)), "\n")
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], "e\u0301", "é")
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	same(t, sorted("theirs.tar"), sorted("ours.tar"))
	for _, rev := range []string{refs[0].String(), refs[0].String() + "^", v1.String()[:5], v2.String() + "^"} {
		want := strings.TrimSpace(run(t, "ostree", "--repo="+repo, "rev-parse", rev))
		got, err := r.Resolve(t.Context(), rev)
		require.NoError(t, err)
		require.Equal(t, want, got.String())
	}
}
