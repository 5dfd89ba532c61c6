package ostree_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// table reads a recorded table.
func table(t testing.TB, path string) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Fields(line))
		}
	}
	return rows
}

// TestComposefsRecorded makes the images of the recorded commits, each with its
// digest in its metadata, in the repositories that have their trees.
func TestComposefsRecorded(t *testing.T) {
	interop.Peer(t, "tar", "zstd")
	recorded := unpack(t, "v1b/composefs")
	type image struct{ name, size, sha256 string }
	images := map[string]image{} // by digest
	for _, row := range table(t, interop.SharedData(t, "ostree", "v1b", "expected", "composefs-images.txt")) {
		images[row[3]] = image{row[0], row[1], row[2]}
	}
	repos := map[string][]*ostree.Repo{"bare-user-only": {newRepo(t, ostree.ModeBareUserOnly)}}
	for _, of := range [][2]string{
		{"archive", "repo-archive"}, {"archive", "v1b/repo-edge-archive"}, {"bare", "repo-bare"},
		{"bare-user", "repo-bare-user"}, {"bare-user", "v1b/repo-edge-bare-user"},
	} {
		r, err := ostree.Open(t.Context(), unpack(t, of[1]), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		repos[of[0]] = append(repos[of[0]], r)
	}
	commits, err := filepath.Glob(filepath.Join(repos["archive"][0].Path(), "objects", "*", "*.commit"))
	require.NoError(t, err)
	for _, path := range commits {
		c, err := ostree.ParseChecksum(filepath.Base(filepath.Dir(path)) + strings.TrimSuffix(filepath.Base(path), ".commit"))
		require.NoError(t, err)
		_, err = repos["bare-user-only"][0].Commit(t.Context(), repos["archive"][0].Tree(c), nil)
		require.NoError(t, err)
	}

	made, verified := map[string]bool{}, map[string]bool{}
	for _, row := range table(t, interop.SharedData(t, "ostree", "v1b", "expected", "composefs-digests.tsv")) {
		mode, name, digest, tree := row[0], row[2], row[3], row[8]
		t.Run(mode+"/"+row[1]+"/"+name[:8], func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(recorded, "commits", name+".commit"))
			require.NoError(t, err)
			c, err := ostree.ParseChecksum(name)
			require.NoError(t, err)
			root, err := ostree.ParseChecksum(tree)
			require.NoError(t, err)
			for _, r := range repos[mode] {
				ok, err := r.Has(t.Context(), ostree.TypeDirTree, root)
				require.NoError(t, err)
				if !ok {
					continue
				}
				path := filepath.Join(r.Path(), "objects", name[:2], name[2:]+".commit")
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, data, 0o644))
				if !verified[mode] { // which makes the image once more
					require.NoError(t, r.VerifyComposefs(t.Context(), c, nil))
					verified[mode] = true
				}
				for _, noVerity := range []bool{false, true} {
					var out bytes.Buffer
					got, err := r.WriteComposefs(t.Context(), &out, c, &ostree.ComposefsOptions{NoVerity: noVerity})
					require.NoError(t, err)
					require.Equal(t, !noVerity, got.String() == digest)
					want, ok := images[got.String()]
					if !ok {
						continue // of another mode than those that were recorded
					}
					made[want.name] = true
					require.Equal(t, want.size, strconv.Itoa(out.Len()))
					require.Equal(t, want.sha256, fmt.Sprintf("%x", sha(out.Bytes())))
				}
				return
			}
			require.Fail(t, "no repository has the tree")
		})
	}
	require.Len(t, made, len(images), "images that were made: %v", made)
	files, err := filepath.Glob(filepath.Join(recorded, "*.cfs"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		image, err := os.ReadFile(path)
		require.NoError(t, err)
		var verity composefs.Verity
		_, _ = verity.Write(image)
		require.True(t, made[strings.TrimSuffix(filepath.Base(path), ".cfs")], path)
		require.Contains(t, images, ostree.Checksum(verity.Sum()).String(), path)
	}
}

// TestComposefsSame makes the same image in each mode and by any number of
// workers.
func TestComposefsSame(t *testing.T) {
	tree := treegen.Tree(7, &treegen.Options{Files: 300})
	var want []byte
	for _, mode := range modes {
		r := newRepo(t, mode)
		c, err := r.Commit(t.Context(), tree, nil)
		require.NoError(t, err)
		for _, workers := range []int{0, 1, 7} {
			var image, last bytes.Buffer
			digest, err := r.WriteComposefs(t.Context(), io.MultiWriter(&image, &last), c, &ostree.ComposefsOptions{Workers: workers})
			require.NoError(t, err)
			if want == nil {
				want = image.Bytes()
			}
			require.True(t, bytes.Equal(want, image.Bytes()), "%s, %d workers", mode, workers)
			var verity composefs.Verity
			_, _ = verity.Write(want)
			require.Equal(t, ostree.Checksum(verity.Sum()), digest)
		}
	}
}

func TestComposefsFaults(t *testing.T) {
	entries := []ostree.Entry{dir("."), file("a", "content"), link("b", "a")}
	commit := func(t *testing.T, add ...ostree.Entry) (*ostree.Repo, ostree.Checksum) {
		r := newRepo(t, ostree.ModeBareUser)
		c, err := r.Commit(t.Context(), literal(append(entries, add...)...), nil)
		require.NoError(t, err)
		return r, c
	}
	object := func(t *testing.T, r *ostree.Repo, content string) string {
		paths, err := filepath.Glob(filepath.Join(r.Path(), "objects", "*", "*.file"))
		require.NoError(t, err)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			if strings.TrimSuffix(string(data), "\x00") == content {
				return path
			}
		}
		require.Fail(t, "no object", "%q", content)
		return ""
	}
	t.Run("content", func(t *testing.T) {
		r, c := commit(t)
		require.NoError(t, os.WriteFile(object(t, r, "content"), []byte("Content"), 0o644))
		_, err := r.ComposefsDigest(t.Context(), c, nil)
		require.ErrorIs(t, err, ostree.ErrCorrupt)
	})
	t.Run("link", func(t *testing.T) {
		r, c := commit(t)
		require.NoError(t, os.WriteFile(object(t, r, "a"), []byte("b\x00"), 0o644))
		_, err := r.ComposefsDigest(t.Context(), c, nil)
		require.ErrorIs(t, err, ostree.ErrCorrupt)
	})
	t.Run("absent", func(t *testing.T) {
		r, c := commit(t)
		require.NoError(t, os.Remove(object(t, r, "content")))
		_, err := r.ComposefsDigest(t.Context(), c, nil)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.ComposefsDigest(t.Context(), ostree.Checksum{1}, nil)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("too large", func(t *testing.T) {
		r, c := commit(t, link("c", strings.Repeat("x", 5000)))
		_, err := r.ComposefsDigest(t.Context(), c, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
	})
	t.Run("workers", func(t *testing.T) {
		r, c := commit(t)
		for _, workers := range []int{-1, 65} {
			_, err := r.ComposefsDigest(t.Context(), c, &ostree.ComposefsOptions{Workers: workers})
			require.ErrorContains(t, err, "workers")
		}
	})
	t.Run("writer", func(t *testing.T) {
		r, c := commit(t)
		closed, w := io.Pipe()
		require.NoError(t, closed.Close())
		_, err := r.WriteComposefs(t.Context(), w, c, nil)
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
	t.Run("canceled", func(t *testing.T) {
		r, c := commit(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.ComposefsDigest(ctx, c, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestVerifyComposefs(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	tree := literal(dir("."), file("a", "content"))
	files, err := r.Commit(t.Context(), tree, nil)
	require.NoError(t, err)
	require.ErrorIs(t, r.VerifyComposefs(t.Context(), files, nil), fs.ErrNotExist)
	digest, err := r.ComposefsDigest(t.Context(), files, nil)
	require.NoError(t, err)
	with := func(item ostree.MetadataItem) error {
		c, err := r.Commit(t.Context(), r.Tree(files), &ostree.CommitOptions{Metadata: []ostree.MetadataItem{item}})
		require.NoError(t, err)
		return r.VerifyComposefs(t.Context(), c, &ostree.ComposefsOptions{NoVerity: true})
	}
	good := ostree.ComposefsMetadata(digest)
	require.NoError(t, with(good))
	digest[0] ^= 1
	require.ErrorIs(t, with(ostree.ComposefsMetadata(digest)), ostree.ErrCorrupt)
	require.ErrorIs(t, with(ostree.MetadataItem{Key: good.Key, Value: ostree.BytesVariant(digest[1:])}), ostree.ErrCorrupt)
	require.ErrorIs(t, with(ostree.MetadataItem{Key: good.Key, Value: ostree.StringVariant(digest.String())}), ostree.ErrCorrupt)
}

// FuzzComposefsMetadata reads the metadata item from any variant.
func FuzzComposefsMetadata(f *testing.F) {
	item := ostree.ComposefsMetadata(ostree.Checksum{1, 2})
	f.Add(item.Value.Type, item.Value.Data)
	f.Add("s", []byte("text\x00"))
	f.Add("ay", []byte{1})
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		c := &ostree.Commit{Metadata: []ostree.MetadataItem{{Key: item.Key, Value: ostree.Variant{Type: typ, Data: data}}}}
		var digest ostree.Checksum
		var ok bool
		var err error
		fuzzbound.Linear(t, len(typ)+len(data), 64, func() { digest, ok, err = c.ComposefsDigest() })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			require.Zero(t, digest)
			return
		}
		require.True(t, ok)
		require.Equal(t, c.Metadata[0], ostree.ComposefsMetadata(digest))
	})
}

// BenchmarkComposefs makes the image of a commit of 50,000 generated files.
func BenchmarkComposefs(b *testing.B) {
	r := newRepo(b, ostree.ModeBareUser)
	const files = 50000
	c, err := r.Commit(b.Context(), treegen.Tree(1, &treegen.Options{Files: files, MaxSize: 64 << 10}), nil)
	require.NoError(b, err)
	var size int64
	for e, err := range r.Tree(c).Entries(b.Context()) {
		require.NoError(b, err)
		size += e.Size
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := r.ComposefsDigest(b.Context(), c, nil)
		require.NoError(b, err)
	}
	b.ReportMetric(files*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
