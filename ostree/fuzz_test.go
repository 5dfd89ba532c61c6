package ostree_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/ostree"
)

// bounded runs a decoder and checks that it allocates in proportion to its
// input: so many allocations a byte at most, and some for errors, of 64 bytes in
// the mean.
func bounded(t *testing.T, data []byte, factor int, decode func()) {
	t.Helper()
	require.LessOrEqual(t, testing.AllocsPerRun(1, decode), float64(200+factor*len(data)))
	fuzzbound.Linear(t, len(data), 64*factor, decode)
}

func FuzzDecodeCommit(f *testing.F) {
	for _, c := range []*ostree.Commit{
		{RootTree: ostree.Checksum{1}, RootMeta: ostree.Checksum{2}},
		{RootTree: ostree.Checksum{1}, RootMeta: ostree.Checksum{2}, Parent: ostree.Checksum{3}, Subject: "s", Body: "b\nü", Timestamp: time.Unix(1_700_000_000, 0),
			Metadata: []ostree.MetadataItem{{Key: "version", Value: ostree.StringVariant("1")}, {Key: "n", Value: ostree.Uint64Variant(1)}, ostree.RefBinding("a", "b")}},
	} {
		data, err := c.Marshal()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ostree.DecodeCommit(data)
		bounded(t, data, 8, func() { _, _ = ostree.DecodeCommit(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		again, err := c.Marshal()
		if err != nil {
			return // decoding is laxer: keys may repeat, related objects may be there
		}
		d, err := ostree.DecodeCommit(again)
		require.NoError(t, err)
		require.Equal(t, c, d)
	})
}

func FuzzDecodeDirTree(f *testing.F) {
	for _, d := range []*ostree.DirTree{
		{},
		{Files: []ostree.DirTreeFile{{Name: "a", Object: ostree.Checksum{1}}, {Name: "b"}}, Dirs: []ostree.DirTreeDir{{Name: "c", Tree: ostree.Checksum{1}}}},
	} {
		data, err := d.Marshal()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ostree.DecodeDirTree(data)
		bounded(t, data, 1, func() { _, _ = ostree.DecodeDirTree(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		again, err := d.Marshal()
		require.NoError(t, err)
		require.Equal(t, data, again)
	})
}

func FuzzDecodeDirMeta(f *testing.F) {
	for _, m := range []*ostree.DirMeta{{Mode: ostree.ModeDir | 0o755}, {UID: 1, GID: 2, Mode: ostree.ModeDir | 0o1777, Xattrs: []ostree.Xattr{{Name: "user.a"}, {Name: "user.b", Value: []byte("1")}}}} {
		data, err := m.Marshal()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ostree.DecodeDirMeta(data)
		bounded(t, data, 4, func() { _, _ = ostree.DecodeDirMeta(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		again, err := m.Marshal()
		require.NoError(t, err)
		require.Equal(t, data, again)
	})
}

// FuzzDecodeFileMeta reads the attribute of bare-user objects.
func FuzzDecodeFileMeta(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa4"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa4" + "user.b\x002\x07" + "user.a\x001\x07" + "\x09\x12"))
	f.Fuzz(func(t *testing.T, data []byte) {
		again, err := ostree.DecodeFileMeta(data)
		bounded(t, data, 4, func() { _, _ = ostree.DecodeFileMeta(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		require.Equal(t, data, again)
	})
}

func FuzzDecodeFilez(f *testing.F) {
	f.Add(ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeRegular | 0o644, Size: 5}))
	f.Add(ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeSymlink | 0o777, Target: "a/b", UID: 7}))
	f.Add(ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeRegular | 0o4755, Xattrs: []ostree.Xattr{{Name: "user.a", Value: []byte("1")}}}))
	f.Add([]byte{0, 0x7f, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ostree.DecodeFilez(bytes.NewReader(data))
		bounded(t, data, 4, func() { _, _ = ostree.DecodeFilez(bytes.NewReader(data)) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		again := ostree.EncodeFilez(file)
		require.Equal(t, data[:len(again)], again)
	})
}

func FuzzDecodeMetadata(f *testing.F) {
	data, err := ostree.MarshalMetadata([]ostree.MetadataItem{{Key: "a", Value: ostree.BytesVariant([]byte{1})}, {Key: "b", Value: ostree.BoolVariant(true)}})
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := ostree.DecodeMetadata(data)
		bounded(t, data, 8, func() { _, _ = ostree.DecodeMetadata(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		if again, err := ostree.MarshalMetadata(items); err == nil {
			require.True(t, bytes.Equal(data, again))
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("[core]\nrepo_version=1\nmode=archive-z2\n\n# comment\n[remote \"a\"]\nurl = x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		again, err := fuzzbound.Parse(t, 64, ostree.ParseKeyFile, data)
		if err != nil || len(data) == 0 {
			return
		}
		require.Equal(t, string(bytes.TrimSuffix(data, []byte("\n"))), string(bytes.TrimSuffix(again, []byte("\n"))))
	})
}

func FuzzDevInoCache(f *testing.F) {
	dir, path := f.TempDir(), filepath.Join(f.TempDir(), "cache")
	for i := range 3 {
		require.NoError(f, os.Symlink("to", fmt.Sprint(dir, "/", i))) // which qemu can read
	}
	settle(f, dir)
	commitCached(f, newRepo(f, ostree.ModeBareUser), openDir(f, dir), path, ostree.CommitOptions{})
	data, err := os.ReadFile(path)
	require.NoError(f, err)
	_, _, files := ostree.DecodeDevIno(data)
	require.Equal(f, 3, files)
	const head = len("okd-streams devino 5\n") + 4
	seed := data[head : len(data)-4]
	_, _, files = ostree.DecodeDevInoUnchecked(seed)
	require.Equal(f, 3, files)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 8, func() {
			folders, _, files := ostree.DecodeDevInoUnchecked(data)
			require.LessOrEqual(t, 65*folders+34*files, len(data))
		})
	})
}

func FuzzCheckRef(f *testing.F) {
	f.Add("a/b")
	f.Add("origin:a/b")
	f.Fuzz(func(t *testing.T, name string) {
		var err error
		fuzzbound.Linear(t, len(name), 8, func() { err = ostree.CheckRef(name) })
		if err == nil {
			require.NotContains(t, "/"+name+"/", "/../")
			require.NotContains(t, "/"+name+"/", "/./")
			require.NotContains(t, name, "\x00")
		}
	})
}

func FuzzDecodePackages(f *testing.F) {
	f.Add([]byte("b\x000\x001\x002\x00noarch\x00\x08\x06\x04\x02\x13"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := ostree.DecodePackages(data)
		bounded(t, data, 2, func() { _, _ = ostree.DecodePackages(data) })
		if err == nil {
			// Five strings with a NUL each, their offsets and the element's.
			require.LessOrEqual(t, 10*n, len(data))
		}
	})
}
