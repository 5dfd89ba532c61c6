package container_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// importBase makes an image of files, as [sample] has them, and its commit.
func importBase(t testing.TB, files map[string]string, opts *container.EncapsulateOptions) (v1.Image, ostree.Checksum, *ostree.Repo) {
	t.Helper()
	repo := newRepo(t)
	c := commit(t, repo, files)
	return encapsulate(t, openCache(t, t.TempDir()), repo, c, opts), c, repo
}

// importWith adds layers to an image.
func importWith(t testing.TB, img v1.Image, layers ...[]byte) v1.Image {
	t.Helper()
	for _, l := range layers {
		var err error
		img, err = mutate.AppendLayers(img, layerOf(t, l))
		require.NoError(t, err)
	}
	return img
}

// importArchive writes headers as a tar archive; a regular file's content is its
// name.
func importArchive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg || h.Typeflag == 0 {
			h.Size = int64(len(h.Name))
		}
		require.NoError(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := io.WriteString(w, h.Name)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// importList gives a commit's entries in the notation of archive, those of
// directories without their slash.
func importList(t testing.TB, repo *ostree.Repo, c ostree.Checksum) map[string]string {
	t.Helper()
	entries, err := list(t, repo.Tree(c))
	require.NoError(t, err)
	out := map[string]string{}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e, "/"); ok {
			out[name] = "/"
		} else if name, target, ok := strings.Cut(e, "->"); ok {
			out[name] = "->" + target
		} else {
			name, text, _ := strings.Cut(e, "=")
			out[name] = text
		}
	}
	return out
}

// changes are what differs in a merged tree from the base: "" is gone.
func importChanges(t testing.TB, repo *ostree.Repo, base, merged ostree.Checksum) map[string]string {
	t.Helper()
	before, after := importList(t, repo, base), importList(t, repo, merged)
	out := map[string]string{}
	for path, text := range after {
		if before[path] != text {
			out[path] = text
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			out[path] = ""
		}
	}
	return out
}

func TestImportMergesLayers(t *testing.T) {
	base, c, _ := importBase(t, sample, nil)
	libc := sample["usr/lib/libc.so.6"]
	for _, tc := range []struct {
		name     string
		layers   [][]string
		want     map[string]string
		filtered map[string]int
	}{
		{name: "nothing", layers: [][]string{{}}, want: map[string]string{}},
		{name: "file, link, directory", layers: [][]string{{"usr/lib/new=n", "usr/lib/link->new", "usr/share/dir/"}},
			want: map[string]string{"usr/lib/new": "n", "usr/lib/link": "->new", "usr/share/dir": "/"}},
		{name: "whiteout", layers: [][]string{{"usr/lib/.wh.os-release=", "usr/share/doc/.wh.a="}},
			want: map[string]string{"usr/lib/os-release": "", "usr/share/doc/a": "", "usr/share/doc/a/license": ""}},
		{name: "whiteout of what is not there", layers: [][]string{{"usr/lib/.wh.nothing="}}, want: map[string]string{}},
		{name: "whiteout of the same layer's", layers: [][]string{{"usr/lib/x=1", "usr/lib/.wh.x="}}, want: map[string]string{"usr/lib/x": "1"}},
		{name: "whiteout of the layer before", layers: [][]string{{"usr/lib/x=1"}, {"usr/lib/.wh.x="}}, want: map[string]string{}},
		{name: "opaque", layers: [][]string{{"usr/share/doc/only=1", "usr/share/doc/.wh..wh..opq="}}, want: map[string]string{
			"usr/share/doc/a": "", "usr/share/doc/a/license": "", "usr/share/doc/b": "", "usr/share/doc/b/license": "", "usr/share/doc/only": "1"}},
		{name: "whiteouts in new directories", layers: [][]string{{"usr/new/.wh.x=", "usr/new/.wh..wh..opq=", "usr/new/y=1"}},
			want: map[string]string{"usr/new": "/", "usr/new/y": "1"}},
		{name: "last of two", layers: [][]string{{"usr/lib/x=1", "usr/lib/x=2"}}, want: map[string]string{"usr/lib/x": "2"}},
		{name: "directory over file", layers: [][]string{{"usr/lib/os-release/", "usr/lib/os-release/x=1"}},
			want: map[string]string{"usr/lib/os-release": "/", "usr/lib/os-release/x": "1"}},
		{name: "directory over link", layers: [][]string{{"usr/bin/sh/", "usr/bin/sh/x=1"}},
			want: map[string]string{"usr/bin/sh": "/", "usr/bin/sh/x": "1"}},
		{name: "file over directory", layers: [][]string{{"usr/share/doc=1"}}, want: map[string]string{
			"usr/share/doc/a": "", "usr/share/doc/a/license": "", "usr/share/doc/b": "", "usr/share/doc/b/license": "", "usr/share/doc": "1"}},
		{name: "link over directory", layers: [][]string{{"usr/share/doc->x"}}, want: map[string]string{
			"usr/share/doc/a": "", "usr/share/doc/a/license": "", "usr/share/doc/b": "", "usr/share/doc/b/license": "", "usr/share/doc": "->x"}},
		{name: "etc", layers: [][]string{{"etc/", "etc/new=n", "etc/.wh.passwd=", "usr/etc/direct=d", "/etc/./abs=a"}},
			want: map[string]string{"usr/etc/new": "n", "usr/etc/passwd": "", "usr/etc/direct": "d", "usr/etc/abs": "a"}},
		{name: "var", layers: [][]string{{"var/lib/x=1"}}, want: map[string]string{"var": "/", "var/lib": "/", "var/lib/x": "1"}},
		{name: "no place", layers: [][]string{{"opt/", "opt/x=1", "boot/x=1", ".wh.usr=", "run/x=1", "tmp/y/", "tmp/y/z=1", "dev/null=", "toplevel=", "sysroot/x=1", "sysroot/ostree/y=1"}},
			want: map[string]string{}, filtered: map[string]int{"opt": 2, "boot": 1, ".wh.usr": 1, "run": 1, "tmp": 2, "dev": 1, "toplevel": 1, "sysroot": 2}},
		{name: "what a container build leaves", layers: [][]string{{"etc/hostname=", "etc/resolv.conf=", "etc/hosts=h"}}, want: map[string]string{"usr/etc/hosts": "h"}},
		{name: "hostname with content", layers: [][]string{{"etc/hostname=h"}}, want: map[string]string{"usr/etc/hostname": "h"}},
		{name: "hard links", layers: [][]string{{"usr/lib/a=1", "usr/lib/b=>usr/lib/a", "etc/c=x", "etc/d=>etc/c", "etc/e=>/etc/c"}},
			want: map[string]string{"usr/lib/a": "1", "usr/lib/b": "1", "usr/etc/c": "x", "usr/etc/d": "x", "usr/etc/e": "x"}},
		{name: "hard link to what comes later", layers: [][]string{{"usr/lib/b=>usr/lib/a", "usr/lib/a=1"}}, want: map[string]string{"usr/lib/a": "1", "usr/lib/b": "1"}},
		// The reference fails.
		{name: "hard link to a layer below", layers: [][]string{{"usr/lib/b=>usr/lib/libc.so.6", "usr/deep/er/b=>usr/lib/libc.so.6"}},
			want: map[string]string{"usr/lib/b": libc, "usr/deep": "/", "usr/deep/er": "/", "usr/deep/er/b": libc}},
		{name: "hard link to a layer between", layers: [][]string{{"usr/lib/a=1"}, {"usr/lib/.wh.a=", "usr/lib/b=>usr/lib/a"}}, want: map[string]string{"usr/lib/b": "1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := base
			for _, l := range tc.layers {
				img = importWith(t, img, archive(t, l...))
			}
			repo := importRepo(t, ostree.ModeBareUser)
			got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", NoFsync: true})
			require.NoError(t, err)
			require.Equal(t, c, got.Base)
			want := map[string]string{}
			for path, text := range tc.want {
				want[path] = text
			}
			require.Equal(t, want, importChanges(t, repo, c, got.Commit))
			if tc.filtered == nil {
				tc.filtered = map[string]int{}
			}
			require.Equal(t, tc.filtered, got.Filtered)
			require.NoError(t, repo.Fsck(t.Context(), nil))

			// Layers that are there are not read: the same commit comes out.
			require.NoError(t, container.RemoveImage(t.Context(), repo, "oci:x"))
			var stats container.ImportStats
			again, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", NoFsync: true, Stats: &stats})
			require.NoError(t, err)
			require.Equal(t, got.Commit, again.Commit)
			require.Equal(t, container.ImportStats{Layers: 1 + len(tc.layers), Reused: 1 + len(tc.layers)}, stats)
		})
	}
}

// Parents that a layer does not have belong to who owns what is below, as
// libostree has it; owners, modes and attributes are those of the entries.
func TestImportKeepsOwners(t *testing.T) {
	base, _, _ := importBase(t, sample, nil)
	// Which of two records of one attribute counts is no chance.
	var twice []tarEntry
	for i := range 16 {
		twice = append(twice, tarEntry{tar.Header{Name: fmt.Sprintf("usr/twice%d", i), Mode: 0o644, PAXRecords: map[string]string{
			"LIBARCHIVE.xattr.user.%61": "bGli", "LIBARCHIVE.xattr.user.a": "dg"}}, ""})
	}
	img := importWith(t, base, importArchive(t,
		tar.Header{Name: "usr/new/deep/file", Mode: 0o104640, Uid: 1000, Gid: 100},
		tar.Header{Name: "usr/own", Typeflag: tar.TypeDir, Mode: 0o42770, Uid: 3, Gid: 4, PAXRecords: map[string]string{"SCHILY.xattr.user.dir": "d"}},
		tar.Header{Name: "usr/own/link", Typeflag: tar.TypeSymlink, Linkname: "a/./b", Mode: 0o644, Uid: 5, Gid: 6},
		tar.Header{Name: "usr/own/cap", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "LIBARCHIVE.xattr.user.%C3%BC": "dg", "SCHILY.xattr.user.\xc3\xbc": "u"}},
	), importTar(t, twice))
	repo := importRepo(t, ostree.ModeArchive)
	got, err := container.Import(t.Context(), repo, img, nil)
	require.NoError(t, err)
	found := map[string]string{}
	for e, err := range repo.Tree(got.Commit).Entries(t.Context()) {
		require.NoError(t, err)
		text := fmt.Sprintf("%o %d:%d %s", e.Mode, e.UID, e.GID, e.Target)
		for _, x := range e.Xattrs {
			text += fmt.Sprintf(" %s=%q", x.Name, x.Value)
		}
		found[e.Path] = text
	}
	for path, want := range map[string]string{
		"usr/new":           "40755 1000:100 ",
		"usr/new/deep":      "40755 1000:100 ",
		"usr/new/deep/file": "104640 1000:100 ",
		"usr/own":           `42770 3:4  user.dir="d"`,
		"usr/own/link":      "120777 5:6 a/./b",
		"usr/own/cap":       `100755 0:0  security.capability="\x01\x00\x00\x02" user.ü="u"`,
	} {
		require.Equal(t, want, found[path], path)
	}
	for i := range twice {
		require.Equal(t, `100644 0:0  user.a="v"`, found[fmt.Sprintf("usr/twice%d", i)])
	}
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// TestImportImplied: the directories that a layer has no entry for are in the metadata of
// its commit. One name can stand for megabytes of them, but not each.
func TestImportImplied(t *testing.T) {
	deep := func(names int) v1.Image {
		var entries []string
		for i := range names {
			entries = append(entries, fmt.Sprintf("usr/%d/", i)+strings.Repeat("d/", 2040)+"f=1")
		}
		return imageOf(t, layerOf(t, archive(t, entries...)))
	}
	repo := importRepo(t, ostree.ModeArchive)
	one, many := deep(1), deep(50)
	opts := &container.ImportOptions{Workers: 1}
	fuzzbound.Within(t, 48<<20, func() {
		_, err := container.Import(t.Context(), repo, one, opts)
		require.NoError(t, err)
	})
	fuzzbound.Within(t, 48<<20, func() {
		_, err := container.Import(t.Context(), repo, many, opts)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "paths of directories without an entry")
	})
}

// The reference ignores owner and mode of directories that exist. With DirMeta
// they count, but not of parents that a layer does not have.
func TestImportDirMeta(t *testing.T) {
	base, _, _ := importBase(t, sample, nil)
	img := importWith(t, base, importArchive(t,
		tar.Header{Name: "usr/share/doc", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 7, Gid: 8},
		tar.Header{Name: "usr/lib/x", Mode: 0o600, Uid: 9, Gid: 9},
	))
	repo := importRepo(t, ostree.ModeBareUser)
	modes := func(opts *container.ImportOptions) (doc, lib string) {
		got, err := container.Import(t.Context(), repo, img, opts)
		require.NoError(t, err)
		for e, err := range repo.Tree(got.Commit).Entries(t.Context()) {
			require.NoError(t, err)
			switch text := fmt.Sprintf("%o %d:%d", e.Mode, e.UID, e.GID); e.Path {
			case "usr/share/doc":
				doc = text
			case "usr/lib":
				lib = text
			}
		}
		return doc, lib
	}
	doc, lib := modes(nil)
	require.Equal(t, "40555 0:0", doc)
	require.Equal(t, "40555 0:0", lib)
	doc, lib = modes(&container.ImportOptions{DirMeta: true})
	require.Equal(t, "40700 7:8", doc)
	require.Equal(t, "40555 0:0", lib)
}

// Container tools write a file that a build changed as an object of the image's
// repository, with the names as hard links to it. The reference takes it only if
// its time is not the epoch, loses its attributes, and loses names of objects that
// did not change.
func TestImportTakesChangedObjects(t *testing.T) {
	base, c, repo := importBase(t, sample, nil)
	object := func(path string) string {
		for e, err := range repo.Tree(c).Entries(t.Context()) {
			require.NoError(t, err)
			if e.Path == path {
				text := e.Object.String()
				return "sysroot/ostree/repo/objects/" + text[:2] + "/" + text[2:] + ".file"
			}
		}
		require.Fail(t, "not there", path)
		return ""
	}
	bash, libc := object("usr/bin/bash"), object("usr/lib/libc.so.6")
	for _, when := range []time.Time{time.Unix(0, 0), time.Unix(1700000000, 0)} {
		img := importWith(t, base, importArchive(t,
			tar.Header{Name: bash, Mode: 0o100755, ModTime: when, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "1"}},
			tar.Header{Name: "usr/bin/bash", Typeflag: tar.TypeLink, Linkname: bash, ModTime: when},
			tar.Header{Name: "etc/rbash", Typeflag: tar.TypeLink, Linkname: "/" + bash, ModTime: when},
			tar.Header{Name: "usr/lib/libc-more", Typeflag: tar.TypeLink, Linkname: libc, ModTime: when},
		))
		repo := importRepo(t, ostree.ModeArchive)
		got, err := container.Import(t.Context(), repo, img, nil)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"usr/bin/bash": bash, "usr/etc/rbash": bash, "usr/lib/libc-more": sample["usr/lib/libc.so.6"]},
			importChanges(t, repo, c, got.Commit))
		require.Empty(t, got.Filtered)
		for e, err := range repo.Tree(got.Commit).Entries(t.Context()) {
			require.NoError(t, err)
			if e.Path == "usr/etc/rbash" {
				require.Equal(t, []ostree.Xattr{{Name: "user.x", Value: []byte("1")}}, e.Xattrs)
			}
		}
	}
	// An object that the commit below does not have is nobody's.
	other := strings.Repeat("0", 64)
	img := importWith(t, base, archive(t, "usr/x=>sysroot/ostree/repo/objects/"+other[:2]+"/"+other[2:]+".file"))
	_, err := container.Import(t.Context(), importRepo(t, ostree.ModeArchive), img, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, other[2:])
}

// A commit whose root can be written to has files anywhere.
func TestImportTransientRoot(t *testing.T) {
	files := map[string]string{"usr/lib/ostree/prepare-root.conf": "[composefs]\nenabled = yes\n[root]\ntransient = true\n"}
	for path, text := range sample {
		files[path] = text
	}
	base, c, _ := importBase(t, files, nil)
	img := importWith(t, base, archive(t, "opt/x=1", "etc/y=2", "dev/null=", "run/x=1", "sysroot/ostree/z=1", "sysroot/q=1", ".wh.bin="))
	repo := importRepo(t, ostree.ModeBareUser)
	got, err := container.Import(t.Context(), repo, img, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"opt": "/", "opt/x": "1", "usr/etc/y": "2", "bin": "", "sysroot": "/", "sysroot/q": "1"}, importChanges(t, repo, c, got.Commit))
	require.Equal(t, map[string]int{"dev": 1, "run": 1, "sysroot": 1}, got.Filtered)
}

// A plain image, such as chunkah makes of a tree, is a commit of its layers.
func TestImportPlainImage(t *testing.T) {
	img := imageOf(t,
		layerOf(t, archive(t, "usr/", "usr/bin/sh=1", "usr/lib/.wh.never=", "etc/", "etc/passwd=p", "var/lib/", "opt/x=o", "run/lock=", "dev/")),
		layerOf(t, archive(t, "usr/bin/.wh.sh=", "usr/bin/bash=2", "etc/hostname=", "usr/bin/ls=>usr/bin/bash")),
		layerOf(t, archive(t, "etc/group=g")),
	)
	created, err := mutate.CreatedAt(img, v1.Time{Time: time.Unix(1700000000, 5)})
	require.NoError(t, err)
	var first ostree.Checksum
	for _, mode := range importModes() {
		repo := importRepo(t, mode)
		got, err := container.Import(t.Context(), repo, created, &container.ImportOptions{Name: "docker://example.org/plain", Ref: "plain"})
		require.NoError(t, err)
		require.Zero(t, got.Base)
		require.Equal(t, map[string]string{
			".": "/", "usr": "/", "usr/bin": "/", "usr/bin/bash": "2", "usr/bin/ls": "2", "usr/lib": "/", "usr/etc": "/", "usr/etc/passwd": "p",
			"usr/etc/group": "g", "var": "/", "var/lib": "/", "opt": "/", "opt/x": "o", "dev": "/",
		}, importList(t, repo, got.Commit))
		require.Equal(t, map[string]int{"run": 1}, got.Filtered)
		head, err := repo.ReadCommit(t.Context(), got.Commit)
		require.NoError(t, err)
		require.True(t, head.Timestamp.Equal(time.Unix(1700000000, 0)))
		require.Zero(t, head.Parent)
		require.NoError(t, repo.Fsck(t.Context(), nil))
		if first.IsZero() {
			first = got.Commit
		}
		require.Equal(t, first, got.Commit, mode)
	}
	_, err = container.Import(t.Context(), importRepo(t, ostree.ModeArchive), img, &container.ImportOptions{CommitOnly: true})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// An image that chunkah made gives the tree that it was made of, as `ostree commit`
// has it (testdata/chunkah/README.md).
func TestImportChunkah(t *testing.T) {
	img := importLayout(t, filepath.Join("testdata", "chunkah"))
	for _, mode := range importModes() {
		repo := importRepo(t, mode)
		got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Ref: "chunkah"})
		require.NoError(t, err)
		require.Empty(t, got.Filtered)
		head, err := repo.ReadCommit(t.Context(), got.Commit)
		require.NoError(t, err)
		require.Equal(t, "3d608e4f91b77c746b603d03f602326fbf92b5bf27ce90ac3a458afc8d87ac86", head.RootTree.String(), mode)
		require.Equal(t, "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488", head.RootMeta.String(), mode)
		require.NoError(t, repo.Fsck(t.Context(), nil))
	}
	info, err := container.Inspect(t.Context(), img)
	require.NoError(t, err)
	require.Equal(t, container.KindPlain, info.Kind)
	require.True(t, info.Bootable)
}

// importPolicy is a small SELinux policy in a tree.
func importPolicyFiles(label string) map[string]string {
	return map[string]string{
		"usr/etc/selinux/config":                                "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
		"usr/etc/selinux/targeted/contexts/files/file_contexts": "/.*\tsystem_u:object_r:default_t:s0\n/usr/bin(/.*)?\tsystem_u:object_r:" + label + ":s0\n",
	}
}

// importLabels gives files' labels.
func importLabels(t testing.TB, repo *ostree.Repo, c ostree.Checksum) map[string]string {
	t.Helper()
	out := map[string]string{}
	for e, err := range repo.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		for _, x := range e.Xattrs {
			if x.Name == "security.selinux" {
				out[e.Path] = string(x.Value)
			}
		}
	}
	return out
}

func TestImportLabelsLayers(t *testing.T) {
	files := importPolicyFiles("bin_t")
	for path, text := range sample {
		files[path] = text
	}
	base, _, _ := importBase(t, files, nil)
	repo := importRepo(t, ostree.ModeBareUser)
	img := importWith(t, base, archive(t, "usr/bin/new=n", "opt/x=", "etc/new=n"))
	got, err := container.Import(t.Context(), repo, img, nil)
	require.NoError(t, err)
	labels := importLabels(t, repo, got.Commit)
	require.Equal(t, "system_u:object_r:bin_t:s0\x00", labels["usr/bin/new"])
	require.Equal(t, "system_u:object_r:default_t:s0\x00", labels["usr/etc/new"])
	// What the commit has stays as it is: this one was not labelled.
	require.NotContains(t, labels, "usr/bin/bash")

	// A layer that changes the policy has everything labelled anew.
	img = importWith(t, base, archive(t, "usr/bin/new=n"), archive(t,
		"etc/selinux/targeted/contexts/files/file_contexts.local=/usr/bin(/.*)?\tsystem_u:object_r:other_t:s0\n"))
	got, err = container.Import(t.Context(), repo, img, nil)
	require.NoError(t, err)
	labels = importLabels(t, repo, got.Commit)
	require.Equal(t, "system_u:object_r:other_t:s0\x00", labels["usr/bin/new"])
	require.Equal(t, "system_u:object_r:other_t:s0\x00", labels["usr/bin/bash"])
	require.NoError(t, repo.Fsck(t.Context(), nil))
	// The layer that both images have is labelled for the commit that it is on.
	again, err := container.Import(t.Context(), repo, importWith(t, base, archive(t, "usr/bin/new=n")), nil)
	require.NoError(t, err)
	require.Equal(t, "system_u:object_r:bin_t:s0\x00", importLabels(t, repo, again.Commit)["usr/bin/new"])
}

// A plain image is labelled by its own policy, and its layers too, so that they
// have their objects in common with the image.
func TestImportLabelsPlainImages(t *testing.T) {
	var policy []string
	for path, text := range importPolicyFiles("bin_t") {
		policy = append(policy, strings.TrimPrefix(path, "usr/")+"="+text)
	}
	img := imageOf(t, layerOf(t, archive(t, "usr/bin/bash=1", "usr/bin/sh->bash")), layerOf(t, archive(t, policy...)))
	repo := importRepo(t, ostree.ModeArchive)
	got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x"})
	require.NoError(t, err)
	labels := importLabels(t, repo, got.Commit)
	require.Equal(t, "system_u:object_r:bin_t:s0\x00", labels["usr/bin/bash"])
	require.Equal(t, "system_u:object_r:bin_t:s0\x00", labels["usr/bin/sh"])
	require.Equal(t, "system_u:object_r:default_t:s0\x00", labels["."])
	_, err = repo.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
	require.NoError(t, err)
	content := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(repo.Path(), "objects"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".filez" {
			content++
		}
		return err
	}))
	require.Equal(t, 4, content, "each file once")
	var stats container.ImportStats
	require.NoError(t, container.RemoveImage(t.Context(), repo, "oci:x"))
	again, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", Stats: &stats})
	require.NoError(t, err)
	require.Equal(t, got.Commit, again.Commit)
	require.Equal(t, 2, stats.Reused)
	// A repository that keeps no attributes has no labels.
	only := importRepo(t, ostree.ModeBareUserOnly)
	got, err = container.Import(t.Context(), only, img, nil)
	require.NoError(t, err)
	require.Empty(t, importLabels(t, only, got.Commit))
}

// The commit's metadata are the documents in canonical form.
func TestImportMetadata(t *testing.T) {
	base, _, _ := importBase(t, sample, nil)
	img, err := mutate.ConfigFile(base, func() *v1.ConfigFile {
		c, err := base.ConfigFile()
		require.NoError(t, err)
		c = c.DeepCopy()
		c.Author = "a \"b\" <c>\t\u2028\x01"
		return c
	}())
	require.NoError(t, err)
	repo := importRepo(t, ostree.ModeArchive)
	got, err := container.Import(t.Context(), repo, img, nil)
	require.NoError(t, err)
	head, err := repo.ReadCommit(t.Context(), got.Commit)
	require.NoError(t, err)
	require.Equal(t, got.Base, head.Parent)
	var keys []string
	for _, item := range head.Metadata {
		keys = append(keys, item.Key)
	}
	require.Equal(t, []string{"ostree.container.image-config", "ostree.importer.version", "ostree.manifest", "ostree.manifest-digest"}, keys)
	config, err := head.Metadata[0].Value.AsString()
	require.NoError(t, err)
	require.Contains(t, config, `"author":"a \"b\" <c>\t`+"\u2028"+`\u0001"`)
	raw, err := img.RawConfigFile()
	require.NoError(t, err)
	require.JSONEq(t, string(raw), config)
	require.False(t, strings.Contains(config, "\": "))
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(config), &document))
}
