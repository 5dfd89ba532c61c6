package ostree_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

func BenchmarkCommitBareUser(b *testing.B) { benchmarkCommit(b, ostree.ModeBareUser) }

func BenchmarkCommitArchive(b *testing.B) { benchmarkCommit(b, ostree.ModeArchive) }

func benchmarkCommit(b *testing.B, mode ostree.Mode) {
	source := filepath.Join(b.TempDir(), "tree")
	require.NoError(b, os.Mkdir(source, 0o755))
	require.NoError(b, treegen.Write(source, 1, &treegen.Options{Files: 2000, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	var size int64
	for e, err := range openDir(b, source).Entries(b.Context()) {
		require.NoError(b, err)
		size += e.Size
	}
	b.SetBytes(size)
	b.ReportAllocs()
	repos := b.TempDir()
	for i := 0; b.Loop(); i++ {
		r, err := ostree.Init(b.Context(), filepath.Join(repos, strconv.Itoa(i)), mode, nil)
		require.NoError(b, err)
		_, err = r.Commit(b.Context(), openDir(b, source), &ostree.CommitOptions{NoFsync: true})
		require.NoError(b, err)
		require.NoError(b, r.Close())
	}
}

func BenchmarkDecodeDirTree(b *testing.B) {
	d := &ostree.DirTree{}
	for i := range 100 {
		d.Files = append(d.Files, ostree.DirTreeFile{Name: "file" + strconv.Itoa(1000+i)})
	}
	data, err := d.Marshal()
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ostree.DecodeDirTree(data); err != nil {
			b.Fatal(err)
		}
	}
}

// benchRepo is a repository with a commit of a generated tree, and the length of
// its files.
func benchRepo(b *testing.B, mode ostree.Mode) (*ostree.Repo, ostree.Checksum, int64) {
	r := newRepo(b, mode)
	tree := treegen.Tree(1, &treegen.Options{Files: 1000})
	c, err := r.Commit(b.Context(), tree, &ostree.CommitOptions{Ref: "x", Edit: withoutEmpty})
	require.NoError(b, err)
	var size int64
	for e, err := range tree.Entries(b.Context()) {
		require.NoError(b, err)
		size += e.Size
	}
	return r, c, size
}

func BenchmarkFsck(b *testing.B) {
	for _, mode := range allModes() {
		b.Run(string(mode), func(b *testing.B) {
			r, _, size := benchRepo(b, mode)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, r.Fsck(b.Context(), nil))
			}
		})
	}
}

func BenchmarkCheckoutLinks(b *testing.B) {
	r, c, size := benchRepo(b, ostree.ModeBareUser)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		checkout(b, r, b.TempDir(), c, &ostree.CheckoutOptions{UserMode: true})
	}
}

func BenchmarkPullLocalToArchive(b *testing.B) {
	r, _, size := benchRepo(b, ostree.ModeBareUser)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		dst := newRepo(b, ostree.ModeArchive)
		require.NoError(b, dst.PullLocal(b.Context(), r, nil))
	}
}

func BenchmarkPruneDry(b *testing.B) {
	r, _, _ := benchRepo(b, ostree.ModeBareUser)
	b.ReportAllocs()
	for b.Loop() {
		_, err := r.Prune(b.Context(), &ostree.PruneOptions{RefsOnly: true, DryRun: true})
		require.NoError(b, err)
	}
}
