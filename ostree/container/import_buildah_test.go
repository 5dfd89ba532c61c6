package container_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// derivedBase is what images are derived from here.
func derivedBase(t testing.TB) (v1.Image, ostree.Checksum) {
	t.Helper()
	files := maps.Clone(sample)
	maps.Copy(files, map[string]string{
		"usr/share/dir/one": "1", "usr/share/dir/two": "2", "usr/share/dir/deep/er/three": "3", "usr/share/gone/x": "x", "usr/share/link": "->dir/one",
		"usr/etc/conf.d/a": "a", "usr/etc/conf.d/b": "b", "usr/share/attribute": "attribute", "usr/share/owned": "owned", "usr/lib/sysusers.d/x": "x",
	})
	tree := ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range ostree.FS(mapFS(files)).Entries(ctx) {
				switch e.Path {
				case "usr/share/owned":
					e.UID, e.GID, e.Mode = 7, 8, e.Mode&^0o7777|0o640
				case "usr/share/attribute":
					e.Xattrs = []ostree.Xattr{{Name: "user.base", Value: []byte("b")}}
				case "usr/share/dir":
					e.GID, e.Mode = 9, e.Mode&^0o7777|0o2750
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), tree, &ostree.CommitOptions{Subject: "base", Timestamp: time.Unix(1700000000, 0), NoFsync: true})
	require.NoError(t, err)
	return encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Architecture: "x86_64"}), c
}

// rootFS is the root of a working container, which steps change as programs in it
// would.
type rootFS struct {
	t   *testing.T
	dir string
}

func (r *rootFS) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *rootFS) write(name, text string) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(filepath.Dir(r.path(name)), 0o755))
	require.NoError(r.t, os.WriteFile(r.path(name), []byte(text), 0o644))
}

// replace writes a file and renames it over another, as package managers do.
func (r *rootFS) replace(name, text string) {
	r.t.Helper()
	r.write(name+".new", text)
	r.rename(name+".new", name)
}

func (r *rootFS) mkdir(name string, mode os.FileMode) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(r.path(name), 0o755))
	require.NoError(r.t, os.Chmod(r.path(name), mode))
}
func (r *rootFS) remove(name string) { r.t.Helper(); require.NoError(r.t, os.RemoveAll(r.path(name))) }
func (r *rootFS) rename(from, to string) {
	r.t.Helper()
	require.NoError(r.t, os.Rename(r.path(from), r.path(to)))
}
func (r *rootFS) link(from, to string) {
	r.t.Helper()
	require.NoError(r.t, os.Link(r.path(from), r.path(to)))
}
func (r *rootFS) symlink(target, name string) {
	r.t.Helper()
	require.NoError(r.t, os.Symlink(target, r.path(name)))
}
func (r *rootFS) chmod(name string, mode os.FileMode) {
	r.t.Helper()
	require.NoError(r.t, os.Chmod(r.path(name), mode))
}
func (r *rootFS) chown(name string, uid, gid int) {
	r.t.Helper()
	require.NoError(r.t, os.Lchown(r.path(name), uid, gid))
}
func (r *rootFS) xattr(name, key, value string) {
	r.t.Helper()
	require.NoError(r.t, unix.Lsetxattr(r.path(name), key, []byte(value), 0))
}

// buildImage derives an image with one layer a step, by buildah.
func buildImage(t *testing.T, b *buildah, base v1.Image, steps ...func(*rootFS)) v1.Image {
	t.Helper()
	dir := t.TempDir()
	from := strings.TrimPrefix(importWritten(t, base), "oci:")
	id, err := b.try(t.Context(), filepath.Dir(from), "pull", "--quiet", "oci:"+filepath.Base(from))
	require.NoError(t, err)
	for i, step := range steps {
		working := b.run("from", "--pull-never", id)
		step(&rootFS{t, b.run("mount", working)})
		b.run("umount", working)
		args := []string{"commit", "--quiet", "--rm", "--identity-label=false", "--format", "oci", working}
		if i == len(steps)-1 {
			b.run(append(args, "oci:"+filepath.Join(dir, "out"))...)
		} else {
			id = b.run(args...)
		}
	}
	img := importLayout(t, filepath.Join(dir, "out"))
	layers, err := img.Layers()
	require.NoError(t, err)
	below, err := base.Layers()
	require.NoError(t, err)
	require.Len(t, layers, len(below)+len(steps))
	return img
}

// ownImport imports an image in every mode: the same commit comes out.
func ownImport(t *testing.T, img v1.Image, opts *container.ImportOptions) (*ostree.Repo, *container.Imported) {
	t.Helper()
	var repo *ostree.Repo
	var first *container.Imported
	for _, mode := range importModes() {
		repo = importRepo(t, mode)
		got, err := container.Import(t.Context(), repo, img, opts)
		require.NoError(t, err)
		require.NoError(t, repo.Fsck(t.Context(), nil))
		if first == nil {
			first = got
		}
		require.Equal(t, first, got, mode)
	}
	return repo, first
}

// peerImport has ostree-ext import an image into a bare repository.
func peerImport(t *testing.T, program string, repo *ostree.Repo, img v1.Image) (ostree.Checksum, error) {
	t.Helper()
	name := importWritten(t, img)
	if out, err := tryRun(t, program, "container", "image", "pull", repo.Path(), "ostree-unverified-image:"+name); err != nil {
		return ostree.Checksum{}, fmt.Errorf("%w: %s", err, out)
	}
	image := findStored(t, repo, name)
	return image.Commit, nil
}

func findStored(t *testing.T, repo *ostree.Repo, name string) *container.StoredImage {
	t.Helper()
	for image, err := range container.ListImages(t.Context(), repo) {
		require.NoError(t, err)
		if image.Name == name {
			return image
		}
	}
	require.Fail(t, "not listed", name)
	return nil
}

// describeTree gives everything about a commit's entries.
func describeTree(t *testing.T, repo *ostree.Repo, c ostree.Checksum) []string {
	t.Helper()
	var out []string
	for e, err := range repo.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		line := fmt.Sprintf("%s %o %d:%d %d %s", e.Path, e.Mode, e.UID, e.GID, e.Size, e.Target)
		for _, x := range e.Xattrs {
			line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
		}
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			line += " " + e.Object.String()[:12]
		}
		out = append(out, line)
	}
	return out
}

func roots(t *testing.T, repo *ostree.Repo, c ostree.Checksum) string {
	t.Helper()
	commit, err := repo.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	return commit.RootTree.String() + " " + commit.RootMeta.String()
}

// derivedCases are builds that both import to the same root.
var derivedCases = []struct {
	name  string
	steps []func(*rootFS)
	want  map[string]string // what changed, as importChanges has it
}{
	{"new files", []func(*rootFS){func(r *rootFS) {
		r.write("usr/new/deep/file", "n")
		r.symlink("../new", "usr/share/new")
		r.mkdir("usr/empty", 0o755)
	}}, map[string]string{"usr/new": "/", "usr/new/deep": "/", "usr/new/deep/file": "n", "usr/share/new": "->../new", "usr/empty": "/"}},
	{"owners and modes", []func(*rootFS){func(r *rootFS) {
		r.write("usr/own/file", "o")
		r.chown("usr/own/file", 1000, 100)
		r.chmod("usr/own/file", 0o640|os.ModeSetuid)
		r.chown("usr/own", 3, 4)
		r.chmod("usr/own", 0o750|os.ModeSetgid)
	}}, map[string]string{"usr/own": "/", "usr/own/file": "o"}},
	{"replaced", []func(*rootFS){func(r *rootFS) { r.replace("usr/share/dir/one", "another") }}, map[string]string{"usr/share/dir/one": "another"}},
	{"removed", []func(*rootFS){func(r *rootFS) {
		r.remove("usr/share/dir/one")
		r.remove("usr/share/gone")
		r.remove("usr/share/link")
	}}, map[string]string{"usr/share/dir/one": "", "usr/share/gone": "", "usr/share/gone/x": "", "usr/share/link": ""}},
	{"removed and made again", []func(*rootFS){func(r *rootFS) {
		r.remove("usr/share/dir")
		r.write("usr/share/dir/new", "n")
	}}, map[string]string{"usr/share/dir/one": "", "usr/share/dir/two": "", "usr/share/dir/deep": "", "usr/share/dir/deep/er": "", "usr/share/dir/deep/er/three": "", "usr/share/dir/new": "n"}},
	{"removed, made in the next layer", []func(*rootFS){
		func(r *rootFS) { r.remove("usr/share/dir") },
		func(r *rootFS) { r.write("usr/share/dir/new", "n") },
	}, map[string]string{"usr/share/dir/one": "", "usr/share/dir/two": "", "usr/share/dir/deep": "", "usr/share/dir/deep/er": "", "usr/share/dir/deep/er/three": "", "usr/share/dir/new": "n"}},
	{"made, removed in the next layer", []func(*rootFS){
		func(r *rootFS) { r.write("usr/x/y", "1"); r.write("usr/z", "1") },
		func(r *rootFS) { r.remove("usr/x"); r.write("usr/z", "22") },
	}, map[string]string{"usr/z": "22"}},
	{"hard links", []func(*rootFS){func(r *rootFS) {
		r.write("usr/a", "linked")
		r.link("usr/a", "usr/b")
		r.link("usr/a", "usr/share/c")
	}}, map[string]string{"usr/a": "linked", "usr/b": "linked", "usr/share/c": "linked"}},
	{"hard links across layers", []func(*rootFS){
		func(r *rootFS) { r.write("usr/a", "linked") },
		func(r *rootFS) { r.link("usr/a", "usr/b") },
	}, map[string]string{"usr/a": "linked", "usr/b": "linked"}},
	{"hard link to the base", []func(*rootFS){func(r *rootFS) { r.link("usr/bin/bash", "usr/bin/rbash") }}, map[string]string{"usr/bin/rbash": sample["usr/bin/bash"]}},
	{"renamed", []func(*rootFS){func(r *rootFS) { r.rename("usr/share/gone", "usr/share/here") }},
		map[string]string{"usr/share/gone": "", "usr/share/gone/x": "", "usr/share/here": "/", "usr/share/here/x": "x"}},
	{"etc", []func(*rootFS){func(r *rootFS) {
		r.write("etc/new.conf", "new")
		r.remove("etc/conf.d/a")
		r.replace("etc/conf.d/b", "other")
	}}, map[string]string{"usr/etc/new.conf": "new", "usr/etc/conf.d/a": "", "usr/etc/conf.d/b": "other"}},
	{"left out", []func(*rootFS){func(r *rootFS) {
		r.write("opt/x", "o")
		r.write("run/x", "r")
		r.write("tmp/x", "t")
		r.write("usr/kept", "k")
	}}, map[string]string{"run": "/", "tmp": "/", "usr/kept": "k"}},
	{"link over directory", []func(*rootFS){func(r *rootFS) {
		r.remove("usr/share/gone")
		r.symlink("dir", "usr/share/gone")
	}}, map[string]string{"usr/share/gone": "->dir", "usr/share/gone/x": ""}},
	{"file over directory", []func(*rootFS){func(r *rootFS) {
		r.remove("usr/share/gone")
		r.write("usr/share/gone", "f")
	}}, map[string]string{"usr/share/gone": "f", "usr/share/gone/x": ""}},
	{"chmod of a directory", []func(*rootFS){func(r *rootFS) { r.chmod("usr/lib/sysusers.d", 0o700); r.chown("usr/lib/sysusers.d", 5, 6) }}, map[string]string{}},
	{"attributes", []func(*rootFS){func(r *rootFS) {
		r.write("usr/cap", "c")
		r.xattr("usr/cap", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	}}, map[string]string{"usr/cap": "c"}},
	{"names", []func(*rootFS){func(r *rootFS) {
		r.write("usr/ü/"+strings.Repeat("n", 150), "long")
		r.write("usr/sp ace/new\nline", "odd")
		r.symlink(strings.Repeat("t", 150), "usr/longlink")
	}}, map[string]string{"usr/ü": "/", "usr/ü/" + strings.Repeat("n", 150): "long", "usr/sp ace": "/", "usr/sp ace/new\nline": "odd", "usr/longlink": "->" + strings.Repeat("t", 150)}},
}

// Images derived by buildah: in every mode the commit that is right, and the root
// that ostree-ext gives.
func TestImportOfBuildahMergesAsOstreeExt(t *testing.T) {
	b := newBuildah(t)
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	base, c := derivedBase(t)
	theirs := importRepo(t, ostree.ModeBare)
	for _, tc := range derivedCases {
		t.Run(tc.name, func(t *testing.T) {
			b := &buildah{t, b.storage}
			img := buildImage(t, b, base, tc.steps...)
			repo, got := ownImport(t, img, nil)
			require.Equal(t, c, got.Base)
			require.Equal(t, tc.want, importChanges(t, repo, c, got.Commit))
			want, err := peerImport(t, program, theirs, img)
			require.NoError(t, err)
			require.Equal(t, describeTree(t, theirs, want), describeTree(t, repo, got.Commit))
			require.Equal(t, roots(t, theirs, want), roots(t, repo, got.Commit))
		})
	}
}

// Where ostree-ext 0.15.3, with its libostree of 2022, and we differ on purpose:
// each with what it does.
func TestImportOfBuildahDiffers(t *testing.T) {
	b := newBuildah(t)
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	base, c := derivedBase(t)
	long := strings.Repeat("n", 150)
	for _, tc := range []struct {
		name       string
		step       func(*rootFS)
		ours       map[string]string // nil: refused
		lines      []string          // of ours, by describeTree
		theirLines []string
		theirs     map[string]string
		fails      string // what the peer says instead
		fsck       bool   // finds theirs corrupt
	}{
		{
			// It writes attributes in the order that the layer has them, and names the
			// object by another: nothing can read it afterwards.
			name: "two attributes", step: func(r *rootFS) {
				r.write("usr/two", "2")
				r.xattr("usr/two", "user.a", "1")
				r.xattr("usr/two", "user.b", "2")
			},
			ours: map[string]string{"usr/two": "2"}, lines: []string{`usr/two 100644 0:0 1  user.a="1" user.b="2"`}, fsck: true,
		},
		{
			// What a container build leaves empty; the present bootc leaves it out, too.
			name: "hostname", step: func(r *rootFS) { r.write("etc/hostname", ""); r.write("etc/resolv.conf", "") },
			ours: map[string]string{}, theirs: map[string]string{}, theirLines: []string{"usr/etc/hostname 100644", "usr/etc/resolv.conf 100644"},
		},
		{
			name: "directory over file", step: func(r *rootFS) { r.remove("usr/share/owned"); r.write("usr/share/owned/x", "1") },
			ours: map[string]string{"usr/share/owned": "/", "usr/share/owned/x": "1"}, fails: "opendir(owned): Not a directory",
		},
		{
			// With libostree since 2024.3 /var stays where it is.
			name: "var", step: func(r *rootFS) { r.write("var/lib/x", "1") },
			ours:   map[string]string{"var": "/", "var/lib": "/", "var/lib/x": "1"},
			theirs: map[string]string{"usr/share/factory": "/", "usr/share/factory/var": "/", "usr/share/factory/var/lib": "/", "usr/share/factory/var/lib/x": "1"},
		},
		{
			// buildah has the object of the image's repository changed as well, which is
			// the same file, and the path as a hard link to it.
			name: "changed in place", step: func(r *rootFS) { r.write("usr/share/dir/one", "in place"); r.chmod("usr/share/dir/two", 0o600) },
			ours: map[string]string{"usr/share/dir/one": "in place"}, lines: []string{"usr/share/dir/two 100600 0:0 1 "}, fails: "Failed to find object",
		},
		{
			name: "attribute changed in place", step: func(r *rootFS) { r.xattr("usr/share/attribute", "user.base", "c") },
			ours: map[string]string{}, lines: []string{`usr/share/attribute 100644 0:0 9  user.base="c"`}, fails: "Failed to find object",
		},
		{
			// A name that has a PAX record goes where it says, and not to /usr/etc.
			name: "long name in etc", step: func(r *rootFS) { r.write("etc/"+long, "1") },
			ours: map[string]string{"usr/etc/" + long: "1"}, theirs: map[string]string{"etc": "/", "etc/" + long: "1"},
		},
		{
			name: "pipe", step: func(r *rootFS) { require.NoError(r.t, unix.Mkfifo(r.path("usr/fifo"), 0o600)) }, fails: "Unsupported file type",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := buildImage(t, &buildah{t, b.storage}, base, tc.step)
			if tc.ours == nil {
				_, err := container.Import(t.Context(), importRepo(t, ostree.ModeArchive), img, nil)
				require.ErrorIs(t, err, errors.ErrUnsupported)
			} else {
				repo, got := ownImport(t, img, nil)
				require.Equal(t, tc.ours, importChanges(t, repo, c, got.Commit))
				requireLines(t, repo, got.Commit, tc.lines)
				for _, line := range describeTree(t, repo, got.Commit) {
					for _, theirs := range tc.theirLines {
						require.False(t, strings.HasPrefix(line, theirs), line)
					}
				}
			}
			theirs := importRepo(t, ostree.ModeBare)
			want, err := peerImport(t, program, theirs, img)
			if tc.fails != "" {
				require.ErrorContains(t, err, tc.fails)
				return
			}
			require.NoError(t, err)
			_, err = tryRun(t, "ostree", "fsck", "--repo="+theirs.Path())
			require.Equal(t, tc.fsck, err != nil)
			if !tc.fsck {
				require.Equal(t, tc.theirs, importChanges(t, theirs, c, want))
				requireLines(t, theirs, want, tc.theirLines)
			}
		})
	}
}

// requireLines wants entries that begin so.
func requireLines(t *testing.T, repo *ostree.Repo, c ostree.Checksum, lines []string) {
	t.Helper()
	for _, want := range lines {
		require.True(t, slices.ContainsFunc(describeTree(t, repo, c), func(l string) bool { return strings.HasPrefix(l, want) }), want)
	}
}

// A directory's mode and owner change in a container; with DirMeta also for us.
func TestImportOfBuildahDirMeta(t *testing.T) {
	b := newBuildah(t)
	base, _ := derivedBase(t)
	img := buildImage(t, b, base, func(r *rootFS) {
		r.chmod("usr/lib/sysusers.d", 0o700)
		r.chown("usr/lib/sysusers.d", 5, 6)
	})
	repo, got := ownImport(t, img, nil)
	require.Contains(t, describeTree(t, repo, got.Commit), "usr/lib/sysusers.d 40555 0:0 0 ")
	repo, got = ownImport(t, img, &container.ImportOptions{DirMeta: true})
	require.Contains(t, describeTree(t, repo, got.Commit), "usr/lib/sysusers.d 40700 5:6 0 ")
}
