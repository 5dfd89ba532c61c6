package ostree_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/ostree"
)

// objectFile is where an object is; ext without a dot.
func objectFile(r *ostree.Repo, c ostree.Checksum, ext string) string {
	return filepath.Join(r.Path(), "objects", c.String()[:2], c.String()[2:]+"."+ext)
}

func contentExt(mode ostree.Mode) string {
	if mode == ostree.ModeArchive {
		return "filez"
	}
	return "file"
}

// plant stores raw bytes as a metadata object under their right checksum.
func plant(t testing.TB, r *ostree.Repo, kind ostree.ObjectType, data []byte) ostree.Checksum {
	t.Helper()
	c := ostree.Checksum(sha(data))
	path := objectFile(r, c, kind.String())
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return c
}

func TestFsckFindsDamage(t *testing.T) {
	for _, mode := range allModes() {
		for _, c := range []struct {
			name   string
			damage func(t *testing.T, r *ostree.Repo, commit *ostree.Commit, file ostree.Checksum)
			want   string
		}{
			{"content bit", func(t *testing.T, r *ostree.Repo, _ *ostree.Commit, f ostree.Checksum) {
				flip(t, objectFile(r, f, contentExt(mode)), -20)
			}, "file: "},
			{"content cut", func(t *testing.T, r *ostree.Repo, _ *ostree.Commit, f ostree.Checksum) {
				require.NoError(t, os.Truncate(objectFile(r, f, contentExt(mode)), 40))
			}, "file: "},
			{"content empty", func(t *testing.T, r *ostree.Repo, _ *ostree.Commit, f ostree.Checksum) {
				require.NoError(t, os.Truncate(objectFile(r, f, contentExt(mode)), 0))
			}, "file: "},
			{"content missing", func(t *testing.T, r *ostree.Repo, _ *ostree.Commit, f ostree.Checksum) {
				require.NoError(t, os.Remove(objectFile(r, f, contentExt(mode))))
			}, "is missing"},
			{"content is a link", func(t *testing.T, r *ostree.Repo, _ *ostree.Commit, f ostree.Checksum) {
				path := objectFile(r, f, contentExt(mode))
				require.NoError(t, os.Rename(path, path+"x"))
				require.NoError(t, os.Symlink(path+"x", path))
			}, "file: "},
			{"dirtree bit", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				flip(t, objectFile(r, c.RootTree, "dirtree"), 3)
			}, "dirtree: "},
			{"dirmeta missing", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				require.NoError(t, os.Remove(objectFile(r, c.RootMeta, "dirmeta")))
			}, "is missing"},
			{"dirmeta mode", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				plant(t, r, ostree.TypeDirMeta, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa4"))
			}, "mode 0100644"},
			{"dangling ref", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "refs/heads/dangling"), []byte(strings.Repeat("ab", 32)+"\n"), 0o644))
			}, "fsck refs/heads/dangling: "},
			{"broken ref", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "refs/heads/broken"), []byte("nonsense\n"), 0o644))
			}, "fsck refs/heads/broken: "},
			{"bad name", func(t *testing.T, r *ostree.Repo, c *ostree.Commit, _ ostree.Checksum) {
				require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "objects", c.RootTree.String()[:2], "zz.dirtree"), nil, 0o644))
			}, "zz.dirtree"},
		} {
			t.Run(string(mode)+"/"+c.name, func(t *testing.T) {
				r := newRepo(t, mode)
				_, commit := commitTree(t, r, dir("."), file("a", large(1)), dir("d"), file("d/b", "2"))
				tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
				require.NoError(t, err)
				require.NoError(t, r.Fsck(t.Context(), nil))
				c.damage(t, r, commit, tree.Files[0].Object)
				err = r.Fsck(t.Context(), nil)
				require.ErrorIs(t, err, ostree.ErrCorrupt)
				require.ErrorContains(t, err, c.want)
				require.Equal(t, 1, strings.Count(err.Error(), "fsck"), "one fault, one error: %v", err)
			})
		}
	}
}

// flip changes one bit; at < 0 counts from the end.
func flip(t testing.TB, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	if at < 0 {
		at += len(data)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{data[at] ^ 4}, int64(at))
	require.NoError(t, err)
}

func TestFsckJoinsFaults(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	_, commit := commitTree(t, r, dir("."), file("a", "1"), file("b", "2"), file("c", "3"))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	for _, f := range tree.Files {
		flip(t, objectFile(r, f.Object, "filez"), 20)
	}
	err = r.Fsck(t.Context(), nil)
	require.Equal(t, 3, strings.Count(err.Error(), "\n")+1)
	same(t, err.Error(), r.Fsck(t.Context(), &ostree.FsckOptions{Workers: 5}).Error())
}

// TestTraversal has commits whose names would leave the folder that they are
// checked out in. Their checksums are right.
func TestTraversal(t *testing.T) {
	for _, name := range []string{"..", ".", "", "../afile", "/etc", "a/b", "\xff"} {
		for _, asDir := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q/%t", name, asDir), func(t *testing.T) {
				r := newRepo(t, ostree.ModeArchive)
				_, inner := commitTree(t, r, dir("."), file("x", "1"))
				sub, err := r.ReadDirTree(t.Context(), inner.RootTree)
				require.NoError(t, err)
				var data []byte
				if asDir {
					// (a(say)a(sayay)) with one directory.
					elem := append(append([]byte(name), 0), inner.RootTree[:]...)
					second := byte(len(elem))
					elem = append(append(elem, inner.RootMeta[:]...), second, byte(len(name)+1))
					data = append(append(elem, byte(len(elem))), 0)
				} else {
					elem := append(append([]byte(name), 0), sub.Files[0].Object[:]...)
					elem = append(elem, byte(len(name)+1))
					data = append(elem, byte(len(elem)), byte(len(elem)+1))
				}
				_, err = ostree.DecodeDirTree(data)
				require.ErrorIs(t, err, ostree.ErrCorrupt)
				evil := plant(t, r, ostree.TypeDirTree, data)
				raw, err := (&ostree.Commit{RootTree: evil, RootMeta: inner.RootMeta}).Marshal()
				require.NoError(t, err)
				c := plant(t, r, ostree.TypeCommit, raw)
				require.ErrorIs(t, r.Fsck(t.Context(), nil), ostree.ErrCorrupt)

				parent := t.TempDir()
				require.NoError(t, os.Mkdir(parent+"/out", 0o755))
				root, err := os.OpenRoot(parent + "/out")
				require.NoError(t, err)
				defer root.Close()
				require.ErrorIs(t, r.Checkout(t.Context(), root, c, nil), ostree.ErrCorrupt)
				entries, err := os.ReadDir(parent)
				require.NoError(t, err)
				require.Len(t, entries, 1)
				for _, err = range r.Tree(c).Entries(t.Context()) {
				}
				require.ErrorIs(t, err, ostree.ErrCorrupt)
			})
		}
	}
}

// TestInflationIsBounded: content that inflates to more than its header says.
func TestInflationIsBounded(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	_, commit := commitTree(t, r, dir("."), file("a", large(2)))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	path := objectFile(r, tree.Files[0].Object, "filez")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, size := range []uint64{0, 1, 2<<20 - 1, 2<<20 + 1, 1 << 62, 1 << 63} {
		binary.BigEndian.PutUint64(data[8:], size)
		require.NoError(t, os.WriteFile(path, data, 0o644))
		require.ErrorIs(t, r.Fsck(t.Context(), nil), ostree.ErrCorrupt)
		f, err := r.ReadFile(t.Context(), tree.Files[0].Object)
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			continue
		}
		body, err := f.Open(t.Context())
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, body)
		require.ErrorIs(t, err, ostree.ErrCorrupt)
		require.LessOrEqual(t, uint64(n), size)
		require.NoError(t, body.Close())
		require.Error(t, body.Close())
	}
	// A header that claims to be larger than the file.
	require.NoError(t, os.WriteFile(path, []byte{0, 0x7f, 0, 0, 0, 0, 0, 0, 1}, 0o644))
	_, err = r.ReadFile(t.Context(), tree.Files[0].Object)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
}

// TestUnsortedXattrs: libostree before 2024 hashed attributes as they came.
func TestUnsortedXattrs(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	stored := []byte("user.b\x002\x07" + "user.a\x001\x07" + "\x09\x12")
	header := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa4\x00\x00\x00\x00\x00" + string(stored) + "\x11")
	prefix := []byte{0, 0, 0, byte(len(header)), 0, 0, 0, 0}
	c := ostree.Checksum(sha(append(append(bytes.Clone(prefix), header...), "x"...)))
	header[len(header)-1] += 8
	filez := append([]byte{0, 0, 0, byte(len(header) + 8), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, header...)
	filez = append(filez, "\x01\x01\x00\xfe\xffx"...) // one stored block
	path := objectFile(r, c, "filez")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, filez, 0o644))
	require.NoError(t, r.Fsck(t.Context(), nil))
}

func TestBareUserTolerates(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	_, commit := commitTree(t, r, dir("."), link("a", "target"))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	path := objectFile(r, tree.Files[0].Object, "file")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "target\x00", string(data))
	require.NoError(t, os.Truncate(path, 6)) // without NUL
	require.NoError(t, r.Fsck(t.Context(), nil))
	require.NoError(t, unix.Removexattr(path, "user.ostreemeta"))
	require.ErrorContains(t, r.Fsck(t.Context(), nil), "user.ostreemeta")
}

func TestPartialCommit(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, commit := commitTree(t, r, dir("."), file("a", "1"))
	require.NoError(t, os.Remove(objectFile(r, commit.RootTree, "dirtree")))
	require.Error(t, r.Fsck(t.Context(), nil))
	partial := filepath.Join(r.Path(), "state", c.String()+".commitpartial")
	require.NoError(t, os.WriteFile(partial, nil, 0o644))
	require.NoError(t, r.Fsck(t.Context(), nil))
	commitTree(t, r, dir("."), file("a", "1"))
	require.NoFileExists(t, partial, "a commit completes it")
	require.NoError(t, r.Fsck(t.Context(), nil))
}
