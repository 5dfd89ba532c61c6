package ostree_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// publishDelta puts a delta from scratch into a repository.
func publishDelta(t testing.TB, r *ostree.Repo, c ostree.Checksum) (folder string) {
	t.Helper()
	folder = filepath.Join(r.Path(), ostree.DeltaPath(ostree.DeltaName{To: c}))
	require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Clean(folder)), 0o755))
	require.NoError(t, os.CopyFS(folder, os.DirFS(wholeDelta(t, r, c, 15_000).write(t))))
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	return folder
}

func isContent(path string) bool {
	return strings.HasPrefix(path, "/objects/") && !strings.Contains(filepath.Ext(path), ".commit")
}

// TestPullDelta pulls by a static delta, and without it where that is better, or
// the delta is at fault.
func TestPullDelta(t *testing.T) {
	for name, tc := range map[string]struct {
		mode    ostree.Mode
		opts    ostree.PullOptions
		prepare func(r *ostree.Repo, url string)
		damage  func(folder string)
		hidden  bool // only the index names it
		applied int64
	}{
		"bare-user":         {mode: ostree.ModeBareUser, applied: 1},
		"archive":           {mode: ostree.ModeArchive},
		"by its checksum":   {mode: ostree.ModeBareUser, opts: ostree.PullOptions{Revs: []string{""}}, applied: 1},
		"by the index":      {mode: ostree.ModeBareUser, hidden: true, applied: 1},
		"not wanted":        {mode: ostree.ModeBareUser, opts: ostree.PullOptions{NoDeltas: true}},
		"with ancestors":    {mode: ostree.ModeBareUser, opts: ostree.PullOptions{Depth: -1}, applied: 1},
		"commits only":      {mode: ostree.ModeBareUser, opts: ostree.PullOptions{CommitsOnly: true}},
		"a subpath":         {mode: ostree.ModeBareUser, opts: ostree.PullOptions{Subpaths: []string{"/etc"}}},
		"the ref is here":   {mode: ostree.ModeBareUser, prepare: func(r *ostree.Repo, url string) { pullFirst(t, r, url) }},
		"a part is damaged": {mode: ostree.ModeBareUser, damage: func(folder string) { flipFile(t, filepath.Join(folder, "0")) }},
		"a part is missing": {mode: ostree.ModeBareUser, damage: func(folder string) { require.NoError(t, os.Remove(filepath.Join(folder, "1"))) }},
		"damaged":           {mode: ostree.ModeBareUser, damage: func(folder string) { flipFile(t, filepath.Join(folder, "superblock")) }},
		"missing":           {mode: ostree.ModeBareUser, damage: func(folder string) { require.NoError(t, os.Remove(filepath.Join(folder, "superblock"))) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, commits := smallSource(t)
			folder := publishDelta(t, src, commits[1])
			if tc.hidden {
				require.NoError(t, src.SetConfig(t.Context(), "core", "no-deltas-in-summary", "true"))
				require.NoError(t, src.UpdateSummary(t.Context(), nil))
			}
			if tc.damage != nil {
				tc.damage(folder)
			}
			server := newPullServer(t, handlerOf(t, src), nil)
			r := newRepo(t, tc.mode)
			if tc.prepare != nil {
				tc.prepare(r, server.URL)
				server.reset(nil)
			}
			var stats ostree.PullStats
			opts := tc.opts
			opts.URL, opts.Verifier, opts.Stats = server.URL, unverified, &stats
			if opts.Revs == nil {
				opts.Revs = []string{"os/stable"}
			} else {
				opts.Revs = []string{commits[1].String()}
			}
			require.NoError(t, r.Pull(t.Context(), "origin", &opts))
			require.NoError(t, r.Fsck(t.Context(), nil))
			noLitter(t, r)
			require.Equal(t, tc.applied, stats.DeltasApplied)
			requests := server.reset(nil)
			if tc.applied > 0 && opts.Depth == 0 {
				require.False(t, slices.ContainsFunc(requests, isContent), requests)
			}
			if !opts.CommitsOnly && opts.Subpaths == nil {
				partial, err := r.Partial(t.Context(), commits[1])
				require.NoError(t, err)
				require.False(t, partial)
			}
		})
	}
}

func pullFirst(t testing.TB, r *ostree.Repo, url string) {
	t.Helper()
	require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, CommitsOnly: true, Verifier: unverified}))
}

func flipFile(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

// TestPullDeltaInterop pulls by deltas that `ostree` made.
func TestPullDeltaInterop(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "zstd")
	path := unpack(t, "repo-archive")
	archive := interop.SharedData(t, "ostree", "static-deltas.tar.zst")
	run(t, "tar", "--zstd", "-xpf", archive, "-C", filepath.Dir(path), "./repo-archive")
	src, err := ostree.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer src.Close()
	second, err := src.Resolve(t.Context(), "fixture/x86_64/base")
	require.NoError(t, err)
	first, err := src.Resolve(t.Context(), "fixture/x86_64/base^")
	require.NoError(t, err)
	server := newPullServer(t, http.FileServer(http.Dir(path)), nil)
	r := newRepo(t, ostree.ModeBareUser)
	for _, rev := range []string{"fixture/x86_64/base@" + first.String(), "fixture/x86_64/base"} {
		var stats ostree.PullStats
		require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: server.URL, Revs: []string{rev}, Verifier: unverified, Stats: &stats}))
		require.EqualValues(t, 1, stats.DeltasApplied, rev)
		require.Less(t, stats.Requests, int64(40))
		require.NoError(t, r.Fsck(t.Context(), nil))
	}
	got, err := r.Resolve(t.Context(), "origin:fixture/x86_64/base")
	require.NoError(t, err)
	require.Equal(t, second, got)
	run(t, "ostree", "--repo="+r.Path(), "fsck")
}
