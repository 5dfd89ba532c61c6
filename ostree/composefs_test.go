package ostree_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
	"github.com/okd-project/okd-streams/internal/interop"
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
	for name, mode := range map[string]string{
		"repo-archive": "archive", "v1b/repo-edge-archive": "archive", "repo-bare": "bare",
		"repo-bare-user": "bare-user", "v1b/repo-edge-bare-user": "bare-user",
	} {
		r, err := ostree.Open(t.Context(), unpack(t, name), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		repos[mode] = append(repos[mode], r)
	}
	commits, err := filepath.Glob(filepath.Join(repos["archive"][0].Path(), "objects", "*", "*.commit"))
	require.NoError(t, err)
	for _, path := range commits {
		c, err := ostree.ParseChecksum(filepath.Base(filepath.Dir(path)) + strings.TrimSuffix(filepath.Base(path), ".commit"))
		require.NoError(t, err)
		_, err = repos["bare-user-only"][0].Commit(t.Context(), repos["archive"][0].Tree(c), nil)
		require.NoError(t, err)
	}

	made := map[string]bool{}
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
				require.NoError(t, r.VerifyComposefs(t.Context(), c, nil))
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
