package ostree_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// receiveAll delivers what a commit needs, less what skip names, and gives the
// delivery with its commit.
func receiveAll(t *testing.T, r *ostree.Receiver, src *ostree.Repo, c ostree.Checksum, skip func(string) bool) (*ostree.Delivery, *ostree.ReceivedCommit) {
	t.Helper()
	d := r.Begin()
	data, err := src.Object(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	head, err := ostree.DecodeCommit(data)
	require.NoError(t, err)
	metadata := func(kind ostree.ObjectType, c ostree.Checksum) []byte {
		data, err := src.Object(t.Context(), kind, c)
		require.NoError(t, err)
		if !skip(c.String()) {
			require.NoError(t, d.Metadata(t.Context(), kind, c, data))
		}
		return data
	}
	var walk func(ostree.Checksum)
	walk = func(c ostree.Checksum) {
		tree, err := ostree.DecodeDirTree(metadata(ostree.TypeDirTree, c))
		require.NoError(t, err)
		for _, f := range tree.Files {
			if skip(f.Object.String()) || skip(f.Name) {
				continue
			}
			require.NoError(t, d.File(t.Context(), receivedFile(t, src, f.Name, f.Object)))
		}
		for _, sub := range tree.Dirs {
			metadata(ostree.TypeDirMeta, sub.Meta)
			walk(sub.Tree)
		}
	}
	metadata(ostree.TypeDirMeta, head.RootMeta)
	walk(head.RootTree)
	return d, &ostree.ReceivedCommit{Checksum: c, Data: data, Refs: []string{"received"}}
}

func receivedFile(t *testing.T, src *ostree.Repo, name string, c ostree.Checksum) *ostree.ReceivedFile {
	t.Helper()
	f, err := src.ReadFile(t.Context(), c)
	require.NoError(t, err)
	out := &ostree.ReceivedFile{Name: name, Checksum: c, UID: f.UID, GID: f.GID, Mode: f.Mode, Target: f.Target, Xattrs: ostree.MarshalXattrs(f.Xattrs), Size: f.Size}
	if f.Open != nil {
		body, err := f.Open(t.Context())
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		out.Body = bytes.NewReader(data)
	}
	return out
}

// receiveSource has a small and a large file, a link, and one object twice.
func receiveSource(t *testing.T) (*ostree.Repo, ostree.Checksum) {
	t.Helper()
	src := newRepo(t, ostree.ModeBareUser)
	sub := dir("dir")
	sub.UID = 5
	c, err := src.Commit(t.Context(), literal(dir("."), sub, file("dir/large", strings.Repeat("large ", 500<<10)), file("dir/small", "small"),
		file("empty", ""), link("link", "a/./b"), file("small", "small")), nil)
	require.NoError(t, err)
	return src, c
}

func TestReceive(t *testing.T) {
	src, c := receiveSource(t)
	nothing := func(string) bool { return false }
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		dst := newRepo(t, mode)
		for _, workers := range []int{0, 1, 5} {
			r, err := dst.Receive(t.Context(), &ostree.ReceiveOptions{Workers: workers, NoFsync: true})
			require.NoError(t, err)
			// Two at once, that have everything in common.
			one, commit := receiveAll(t, r, src, c, nothing)
			two, _ := receiveAll(t, r, src, c, nothing)
			require.NoError(t, one.Commit(t.Context(), commit))
			require.NoError(t, two.Commit(t.Context(), commit))
			require.NoError(t, r.Close())
			require.NoError(t, dst.Fsck(t.Context(), nil))
		}
		got, err := dst.Resolve(t.Context(), "received")
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
}

// With a single delivery an empty repository gets whole folders.
func TestReceiveSingle(t *testing.T) {
	src, c := receiveSource(t)
	nothing := func(string) bool { return false }
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		dst := newRepo(t, mode)
		objects := filepath.Join(dst.Path(), "objects")
		for _, filled := range []bool{false, true} {
			r, err := dst.Receive(t.Context(), &ostree.ReceiveOptions{Workers: 3, NoFsync: true, Single: true})
			require.NoError(t, err)
			d, commit := receiveAll(t, r, src, c, nothing)
			staged, err := filepath.Glob(filepath.Join(dst.Path(), "tmp", "staging-*", "*", strings.Repeat("[0-9a-f]", 2)))
			require.NoError(t, err)
			var folder os.FileInfo
			if filled {
				require.Empty(t, staged)
			} else {
				require.NotEmpty(t, staged)
				folder, err = os.Stat(staged[0])
				require.NoError(t, err)
			}
			require.NoError(t, d.Commit(t.Context(), commit))
			require.ErrorContains(t, d.File(t.Context(), &ostree.ReceivedFile{Name: "late", Mode: ostree.ModeSymlink, Target: "x"}), "was kept")
			require.NoError(t, r.Close())
			require.NoError(t, dst.Fsck(t.Context(), nil))
			if !filled {
				moved, err := os.Stat(filepath.Join(objects, filepath.Base(staged[0])))
				require.NoError(t, err)
				require.True(t, os.SameFile(folder, moved), "the folder itself was moved")
			}
		}
	}
	r, err := newRepo(t, ostree.ModeArchive).Receive(t.Context(), &ostree.ReceiveOptions{NoFsync: true, Single: true})
	require.NoError(t, err)
	d, commit := receiveAll(t, r, src, c, nothing)
	r.Begin()
	require.ErrorContains(t, d.Commit(t.Context(), commit), "a second delivery")
	require.NoError(t, r.Close())
}

func TestReceiveRefuses(t *testing.T) {
	src, c := receiveSource(t)
	head, err := src.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	other := ostree.Checksum{1}
	for name, tc := range map[string]struct {
		skip func(string) bool
		with func(t *testing.T, d *ostree.Delivery) error
		is   error
	}{
		"content missing":  {skip: func(s string) bool { return s == "large" }, is: fs.ErrNotExist},
		"metadata missing": {skip: func(s string) bool { return s == head.RootTree.String() }, is: fs.ErrNotExist},
		"small content is another's": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Size: 1, Body: strings.NewReader("x")})
		}, is: ostree.ErrCorrupt},
		"large content is another's": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Size: 3 << 20, Body: zeros{}})
		}, is: ostree.ErrCorrupt},
		"large content ends early": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Size: 3 << 20, Body: io.LimitReader(zeros{}, 2<<20)})
		}, is: io.ErrUnexpectedEOF},
		"small content ends early": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Size: 3, Body: strings.NewReader("x")})
		}, is: io.ErrUnexpectedEOF},
		"less than nothing": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Size: -1})
		}, is: ostree.ErrCorrupt},
		"attributes": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.File(t.Context(), &ostree.ReceivedFile{Name: "x", Checksum: other, Mode: ostree.ModeRegular, Xattrs: []byte("x")})
		}, is: ostree.ErrCorrupt},
		"metadata is another's": {with: func(t *testing.T, d *ostree.Delivery) error {
			return d.Metadata(t.Context(), ostree.TypeDirTree, other, []byte{0})
		}, is: ostree.ErrCorrupt},
		"metadata too many": {with: func(t *testing.T, d *ostree.Delivery) error {
			tree := &ostree.DirTree{Files: []ostree.DirTreeFile{{Name: "x", Object: other}}}
			data, err := tree.Marshal()
			require.NoError(t, err)
			return d.Metadata(t.Context(), ostree.TypeDirTree, sha256.Sum256(data), data)
		}, is: ostree.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dst := newRepo(t, ostree.ModeArchive)
			r, err := dst.Receive(t.Context(), &ostree.ReceiveOptions{NoFsync: true})
			require.NoError(t, err)
			if tc.skip == nil {
				tc.skip = func(string) bool { return false }
			}
			d, commit := receiveAll(t, r, src, c, tc.skip)
			if tc.with != nil {
				err = tc.with(t, d)
			}
			if err == nil {
				err = d.Commit(t.Context(), commit)
			}
			require.ErrorIs(t, err, tc.is)
			require.NoError(t, r.Close())
			ok, err := dst.Has(t.Context(), ostree.TypeCommit, c)
			require.NoError(t, err)
			require.False(t, ok)
			stats, err := dst.Prune(t.Context(), nil)
			require.NoError(t, err)
			require.Zero(t, stats.Objects, "nothing was published")
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Metadata that is more than what is kept in memory is read again.
func TestReceiveMuchMetadata(t *testing.T) {
	dst := newRepo(t, ostree.ModeArchive)
	r, err := dst.Receive(t.Context(), &ostree.ReceiveOptions{NoFsync: true})
	require.NoError(t, err)
	d := r.Begin()
	meta, err := (&ostree.DirMeta{Mode: ostree.ModeDir | 0o755}).Marshal()
	require.NoError(t, err)
	require.NoError(t, d.Metadata(t.Context(), ostree.TypeDirMeta, sha256.Sum256(meta), meta))
	one := ostree.Checksum{1}
	root := &ostree.DirTree{}
	for i := range 3 {
		sub := &ostree.DirTree{}
		for k := range 60_000 {
			sub.Files = append(sub.Files, ostree.DirTreeFile{Name: fmt.Sprintf("%d %06d %s", i, k, strings.Repeat("x", 180)), Object: one})
		}
		data, err := sub.Marshal()
		require.NoError(t, err)
		require.NoError(t, d.Metadata(t.Context(), ostree.TypeDirTree, sha256.Sum256(data), data))
		root.Dirs = append(root.Dirs, ostree.DirTreeDir{Name: fmt.Sprint(i), Tree: sha256.Sum256(data), Meta: sha256.Sum256(meta)})
	}
	data, err := root.Marshal()
	require.NoError(t, err)
	commit := &ostree.Commit{RootTree: sha256.Sum256(data), RootMeta: sha256.Sum256(meta)}
	_, err = d.Needs(t.Context(), commit)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, d.Metadata(t.Context(), ostree.TypeDirTree, commit.RootTree, data))
	for range 2 {
		needed, err := d.Needs(t.Context(), commit)
		require.NoError(t, err)
		require.Equal(t, map[ostree.Checksum]struct{}{one: {}}, needed)
	}
	// What comes later counts as well.
	require.NoError(t, d.Metadata(t.Context(), ostree.TypeDirTree, sha256.Sum256([]byte{0}), []byte{0}))
	_, err = d.Needs(t.Context(), commit)
	require.ErrorContains(t, err, "no part of the commit")
	require.NoError(t, r.Close())
}
