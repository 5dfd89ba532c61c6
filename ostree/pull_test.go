package ostree_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// unverified asks for no signature.
var unverified = &ostree.Verifier{}

// pullSource is an archive repository of two commits with a summary.
func pullSource(t testing.TB, files int) (*ostree.Repo, [2]ostree.Checksum) {
	t.Helper()
	r := newRepo(t, ostree.ModeArchive)
	var commits [2]ostree.Checksum
	for i := range commits {
		opts := &ostree.CommitOptions{Ref: "os/stable", Edit: withoutEmpty, Metadata: []ostree.MetadataItem{ostree.RefBinding("os/stable")}}
		if i > 0 {
			opts.Parent = commits[0]
		}
		var err error
		commits[i], err = r.Commit(t.Context(), treegen.Tree(uint64(i+1), &treegen.Options{Files: files, MaxSize: 1 << 18}), opts)
		require.NoError(t, err)
	}
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	return r, commits
}

// objectsOf lists the objects of a repository, content without its extension.
func objectsOf(t testing.TB, r *ostree.Repo) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.Path(), "objects", "*", "*"))
	require.NoError(t, err)
	found := make(map[string]bool)
	for _, name := range names {
		base := filepath.Base(filepath.Dir(name)) + filepath.Base(name)
		if filepath.Ext(base) == ".filez" {
			base = base[:len(base)-1]
		}
		found[base] = true
	}
	return found
}

func TestPull(t *testing.T) {
	src, commits := pullSource(t, 200)
	for _, mode := range faithful() {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			for name, url := range map[string]string{"handler": handlerServer(t, src), "plain": staticServer(t, src.Path())} {
				r := newRepo(t, mode)
				var stats ostree.PullStats
				opts := &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: unverified, Depth: -1, Stats: &stats}
				require.NoError(t, r.Pull(t.Context(), "origin", opts), name)
				require.EqualValues(t, 2, stats.Commits)
				require.NoError(t, r.Fsck(t.Context(), nil))
				got, err := r.Resolve(t.Context(), "origin:os/stable")
				require.NoError(t, err)
				require.Equal(t, commits[1], got)
				require.Equal(t, objectsOf(t, src), objectsOf(t, r))
				noLitter(t, r)
			}
		})
	}
}

func BenchmarkPull(b *testing.B) {
	src, _ := pullSource(b, 2000)
	url := handlerServer(b, src)
	for _, mode := range modes {
		b.Run(string(mode), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := newRepo(b, mode)
				var stats ostree.PullStats
				require.NoError(b, r.Pull(b.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: unverified, NoFsync: true, Stats: &stats}))
				b.SetBytes(stats.BytesReceived)
				b.ReportMetric(float64(stats.Requests), "requests/op")
			}
		})
	}
}
