package ostree_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// commitFiles commits a tree of root-owned entries and gives the commit.
func commitTree(t testing.TB, r *ostree.Repo, entries ...ostree.Entry) (ostree.Checksum, *ostree.Commit) {
	t.Helper()
	c, err := r.Commit(t.Context(), literal(entries...), nil)
	require.NoError(t, err)
	commit, err := r.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	return c, commit
}

// TestGoldenObjects has checksums that libostree gives, in every mode.
func TestGoldenObjects(t *testing.T) {
	for _, mode := range allModes() {
		t.Run(string(mode), func(t *testing.T) {
			r := newRepo(t, mode)
			_, commit := commitTree(t, r, dir("."), file("empty", ""), file("cfg", "cfg\n"), file("moo", "moo\n"), link("hello", "../bin/hello"))
			require.Equal(t, "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488", commit.RootMeta.String())
			tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
			require.NoError(t, err)
			got := map[string]string{}
			for _, f := range tree.Files {
				got[f.Name] = f.Object.String()
			}
			require.Equal(t, map[string]string{
				"empty": "cc700d46f407c6c5ab2d5dde474366a928b7398277e61162e7f8ec06f469f07e",
				"cfg":   "cd508ece18c58b971445caf72f013a5f4984b319035b4981d8abb80d345464d9",
				"moo":   "f6a517d53831a40cff3886a965c70d57aa50797a8e5ea965b2c49cc575a6ff51",
				"hello": "d07e979fdd7331ee17a2f6a653ea0c315ccd1450893f19a2b644432576eca620",
			}, got)
			_, commit = commitTree(t, r, dir("."))
			require.Equal(t, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", commit.RootTree.String())
			_, commit = commitTree(t, r, dir("."), file("foo.conf", "cfg\n"))
			require.Equal(t, "35d027e0ed183d2217b0f11ab59bfa9bd7a931bfc87da415c5f75a4035a38498", commit.RootTree.String())
		})
	}
}

func TestMarshalXattrs(t *testing.T) {
	require.Empty(t, ostree.MarshalXattrs(nil))
	got := ostree.MarshalXattrs([]ostree.Xattr{{Name: "user.b", Value: []byte("2")}, {Name: "user.a", Value: []byte("1")}})
	require.Equal(t, "757365722e61003107"+"757365722e62003207"+"0912", hex.EncodeToString(got))
}
