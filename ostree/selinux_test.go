package ostree_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

const (
	seConfig   = "SELINUX=enforcing\nSELINUXTYPE=targeted\n"
	seContexts = `
/.* u:o:default:s0
/ -d u:o:root:s0
/mnt u:o:mnt:s0
/proc <<none>>
/usr/bin/.* -- u:o:bin:s0
/usr/etc(/.*)? u:o:usretc:s0
/etc(/.*)? u:o:etc:s0
/none(/.*)? <<none>>
`
	seFiles = "selinux/targeted/contexts/files/file_contexts"
)

// seTree is entries and a policy in etc.
func seTree(etc string, entries ...ostree.Entry) ostree.Tree {
	list := []ostree.Entry{dir("."), dir("usr")}
	for _, p := range []string{"etc", "usr/etc"} {
		if p == etc {
			list = append(list, dir(p))
		}
	}
	list = append(list, dir(etc+"/selinux"), file(etc+"/selinux/config", seConfig), dir(etc+"/selinux/targeted"), dir(etc+"/selinux/targeted/contexts"),
		dir(etc+"/selinux/targeted/contexts/files"), file(etc+"/"+seFiles, seContexts))
	return literal(append(list, entries...)...)
}

// labels gives the label of every path of a commit.
func labels(t testing.TB, r *ostree.Repo, c ostree.Checksum) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for e, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		label := ""
		for _, x := range e.Xattrs {
			if x.Name == "security.selinux" {
				require.Empty(t, label)
				label = string(x.Value)
			}
		}
		got[e.Path] = label
	}
	return got
}

func policyOf(t testing.TB, tree ostree.Tree) *ostree.Policy {
	t.Helper()
	p, err := ostree.TreePolicy(t.Context(), tree)
	require.NoError(t, err)
	return p
}

func TestLabels(t *testing.T) {
	old := file("usr/bin/old", "x")
	old.Xattrs = []ostree.Xattr{{Name: "security.selinux", Value: []byte("u:o:old:s0\x00")}, {Name: "user.kept", Value: []byte("1")}}
	kept := file("none/kept", "x")
	kept.Xattrs = old.Xattrs
	src := seTree("usr/etc", dir("usr/bin"), old, link("usr/bin/link", "old"), ostree.Entry{Path: "usr/bin/hard", Link: "usr/bin/old"},
		dir("none"), kept, file("none/bare", "y"), dir("proc"), dir("proc/x"))
	p := policyOf(t, src)
	require.Equal(t, "targeted", p.Name())
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		r := newRepo(t, mode)
		c, err := r.Commit(t.Context(), src, &ostree.CommitOptions{SELinux: p})
		require.NoError(t, err)
		got := labels(t, r, c)
		for path, want := range map[string]string{
			".": "u:o:root:s0", "usr/bin": "u:o:default:s0", "usr/bin/old": "u:o:bin:s0", "usr/bin/link": "u:o:default:s0", "usr/bin/hard": "u:o:bin:s0",
			"none": "", "none/kept": "u:o:old:s0", "none/bare": "", "proc": "u:o:mnt:s0", "proc/x": "u:o:default:s0", "usr/etc/selinux/config": "u:o:usretc:s0",
		} {
			if want != "" {
				want += "\x00"
			}
			require.Equal(t, want, got[path], path)
		}
		e := entryOf(t, r.Tree(c), "usr/bin/old")
		require.Equal(t, []ostree.Xattr{{Name: "security.selinux", Value: []byte("u:o:bin:s0\x00")}, {Name: "user.kept", Value: []byte("1")}}, e.Xattrs)
		require.NoError(t, r.Fsck(t.Context(), nil))

		// The commit's own policy labels the commit as it is.
		fsys, err := r.FS(t.Context(), c)
		require.NoError(t, err)
		own, err := ostree.ReadPolicy(fsys)
		require.NoError(t, err)
		again, err := r.Commit(t.Context(), r.Tree(c), &ostree.CommitOptions{SELinux: own})
		require.NoError(t, err)
		require.Equal(t, c, again)

		// The newer rule for /usr/etc.
		own.Epoch = 1
		c, err = r.Commit(t.Context(), r.Tree(c), &ostree.CommitOptions{SELinux: own})
		require.NoError(t, err)
		got = labels(t, r, c)
		require.Equal(t, "u:o:etc:s0\x00", got["usr/etc"])
		require.Equal(t, "u:o:etc:s0\x00", got["usr/etc/selinux/config"])
		own.Epoch = 2
		_, err = r.Commit(t.Context(), r.Tree(c), &ostree.CommitOptions{SELinux: own})
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

// TestLabelsWithOtherOptions: labels come last, and come back where attributes
// are taken away.
func TestLabelsWithOtherOptions(t *testing.T) {
	f := file("usr/bin/x", "x")
	f.UID, f.Xattrs = 7, []ostree.Xattr{{Name: "user.gone", Value: []byte("1")}}
	src := seTree("etc", dir("usr/bin"), f)
	p := policyOf(t, src)
	for name, opts := range map[string]*ostree.CommitOptions{
		"canonical": {CanonicalPermissions: true},
		"skip":      {SkipXattrs: true},
		"edit": {Edit: func(e *ostree.Entry) (bool, error) {
			e.Xattrs = []ostree.Xattr{{Name: "security.selinux", Value: []byte("mine")}}
			return true, nil
		}},
	} {
		r := newRepo(t, ostree.ModeArchive)
		opts.SELinux = p
		c, err := r.Commit(t.Context(), src, opts)
		require.NoError(t, err, name)
		require.Equal(t, []ostree.Xattr{{Name: "security.selinux", Value: []byte("u:o:bin:s0\x00")}}, entryOf(t, r.Tree(c), "usr/bin/x").Xattrs, name)
	}
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), seTree("etc", dir("usr/bin"), f, ostree.Entry{Path: "hard", Link: "usr/bin/x"}), &ostree.CommitOptions{SELinux: p})
	require.NoError(t, err)
	require.Equal(t, "u:o:bin:s0\x00", labels(t, r, c)["hard"], "the label of the path that it links to")
	_, err = newRepo(t, ostree.ModeBareUserOnly).Commit(t.Context(), src, &ostree.CommitOptions{SELinux: p})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "keeps no extended attributes")
}

// TestLabelsOfEverySource: one tree comes from each kind of source, without labels,
// and gets the same by the policy that is found in it.
func TestLabelsOfEverySource(t *testing.T) {
	src := seTree("etc", dir("usr/bin"), file("usr/bin/x", "x"), link("usr/bin/y", "x"), dir("none"), file("none/z", "z"))
	r := newRepo(t, ostree.ModeArchive)
	bare, err := r.Commit(t.Context(), src, nil)
	require.NoError(t, err)
	folder := t.TempDir()
	root, err := os.OpenRoot(folder)
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, r.Checkout(t.Context(), root, bare, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionOverwrite}))
	require.NoError(t, os.Chmod(folder, 0o755))
	var archive bytes.Buffer
	require.NoError(t, r.Export(t.Context(), &archive, bare, nil))
	fsys, err := r.FS(t.Context(), bare)
	require.NoError(t, err)
	edited, err := r.Edit(t.Context(), bare)
	require.NoError(t, err)
	require.NoError(t, edited.Remove(t.Context(), "none"))
	require.NoError(t, edited.Copy(t.Context(), "none", bare, "none"))
	var want ostree.Checksum
	for i, c := range []struct {
		name string
		tree func() ostree.Tree
	}{
		{"literal", func() ostree.Tree { return src }},
		{"directory", func() ostree.Tree { return openDir(t, folder) }},
		{"file system", func() ostree.Tree { return ostree.FS(fsys) }},
		{"archive", func() ostree.Tree { return ostree.Tar(bytes.NewReader(archive.Bytes())) }},
		{"commit", func() ostree.Tree { return r.Tree(bare) }},
		{"edited commit", func() ostree.Tree { return edited }},
		{"overlay", func() ostree.Tree { return ostree.Overlay(literal(dir("."), file("usr", "goes")), r.Tree(bare)) }},
	} {
		got, err := r.Commit(t.Context(), c.tree(), &ostree.CommitOptions{SELinux: policyOf(t, c.tree()), Owner: &ostree.Owner{}})
		require.NoError(t, err, c.name)
		if i == 0 {
			want = got
		}
		require.Equal(t, want, got, c.name)
	}
	require.Equal(t, "u:o:bin:s0\x00", labels(t, r, want)["usr/bin/x"])
}

// entryOf gives the entry of a path.
func entryOf(t testing.TB, tree ostree.Tree, path string) ostree.Entry {
	t.Helper()
	for e, err := range tree.Entries(t.Context()) {
		require.NoError(t, err)
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("no %s", path)
	return ostree.Entry{}
}

// TestTreePolicy: every source has its policy found, whatever comes twice in it.
func TestTreePolicy(t *testing.T) {
	files := func(more ...ostree.Entry) ostree.Tree { return seTree("etc", more...) }
	ask := func(p *ostree.Policy) string {
		label, err := p.Label("usr/bin/x", ostree.ModeRegular)
		require.NoError(t, err)
		return label
	}
	require.Equal(t, "u:o:bin:s0", ask(policyOf(t, files())))
	// A later layer has another one.
	other := literal(dir("."), dir("etc"), dir("etc/selinux"), dir("etc/selinux/targeted"), dir("etc/selinux/targeted/contexts"),
		dir("etc/selinux/targeted/contexts/files"), file("etc/"+seFiles, "/usr/bin/.* u:o:other:s0\n"))
	require.Equal(t, "u:o:other:s0", ask(policyOf(t, ostree.Overlay(files(), other))))
	// A hard link to the file.
	require.Equal(t, "u:o:local:s0", ask(policyOf(t, files(file("etc/selinux/file_contexts.x", "/usr/bin/.* u:o:local:s0\n"),
		ostree.Entry{Path: "etc/" + seFiles + ".local", Link: "etc/selinux/file_contexts.x"}))))
	// An edited tree, and a commit.
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), files(), nil)
	require.NoError(t, err)
	m, err := r.Edit(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, m.Remove(t.Context(), "usr"))
	require.Equal(t, "u:o:bin:s0", ask(policyOf(t, m)))
	require.Equal(t, "u:o:bin:s0", ask(policyOf(t, r.Tree(c))))

	for name, tree := range map[string]ostree.Tree{
		"none":        literal(dir("."), dir("usr")),
		"taken away":  files(link("etc/selinux", "x")),
		"a file":      files(file("etc", "x")),
		"no contexts": files(dir("etc/selinux"), file("etc/"+seFiles[:strings.LastIndexByte(seFiles, '/')], "")),
	} {
		_, err := ostree.TreePolicy(t.Context(), tree)
		require.Error(t, err, name)
		if name != "no contexts" {
			require.ErrorIs(t, err, fs.ErrNotExist, name)
		}
	}
	for name, tree := range map[string]ostree.Tree{
		"link":      files(link("etc/selinux/config", "other")),
		"hard link": files(ostree.Entry{Path: "etc/selinux/config", Link: "usr/config"}),
	} {
		_, err := ostree.TreePolicy(t.Context(), tree)
		require.ErrorIs(t, err, errors.ErrUnsupported, name)
	}
	liar := file("etc/selinux/config", "SELINUX=enforcing\n")
	liar.Size = 5
	_, err = ostree.TreePolicy(t.Context(), files(liar))
	require.ErrorContains(t, err, "does not have its 5 bytes")
	liar.Size = 1 << 40
	_, err = ostree.TreePolicy(t.Context(), files(liar))
	require.ErrorContains(t, err, "more than")
	broken := ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) { yield(ostree.Entry{}, errors.New("broken")) }
	})
	_, err = ostree.TreePolicy(t.Context(), broken)
	require.ErrorContains(t, err, "broken")
}

func TestPolicyFaults(t *testing.T) {
	_, err := ostree.ReadPolicy(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ostree.ReadPolicy(fstest.MapFS{"etc/selinux/config": {Data: []byte(seConfig)}, "etc/" + seFiles: {Data: []byte("/a(?=b) u:o:x:s0\n")}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, seFiles+":1: pattern")
}
