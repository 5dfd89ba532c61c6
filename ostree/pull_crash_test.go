package ostree_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// The child of TestPullKilled: where it pulls from and to.
const (
	pullURLVariable  = "OSTREE_TEST_PULL_URL"
	pullRepoVariable = "OSTREE_TEST_PULL_REPO"
)

func pullStopped(url string) *ostree.PullOptions {
	return &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: unverified, Depth: -1, Workers: 1, Attempts: 1}
}

// TestPullChild is the child of TestPullKilled: it pulls until it is killed.
func TestPullChild(t *testing.T) {
	repo := os.Getenv(pullRepoVariable)
	if repo == "" {
		return
	}
	r, err := ostree.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Pull(t.Context(), "origin", pullStopped(os.Getenv(pullURLVariable))))
}

// requireNothingAgain checks that the objects that came whole in the requests
// before were not asked for again, and gives their number.
func requireNothingAgain(t *testing.T, before, after []string) (n int64) {
	t.Helper()
	for _, path := range before[:len(before)-1] {
		if strings.HasPrefix(path, "/objects/") && !strings.HasSuffix(path, ".commitmeta") && !strings.HasSuffix(path, ".commit") {
			require.NotContains(t, after, path)
			n++
		}
	}
	return n
}

// TestPullStopped stops pulls at each request, by an error of the server or by
// cancelling: the next one goes on where it was.
func TestPullStopped(t *testing.T) {
	src, commits := smallSource(t)
	server := newPullServer(t, handlerOf(t, src), nil)
	for n := 0; ; n++ {
		mode, cancels := modes[n%2], n/2%2 == 0
		r := newRepo(t, mode)
		ctx, cancel := context.WithCancel(t.Context())
		server.reset(func(w http.ResponseWriter, req *http.Request, i int) bool {
			if i < n {
				return false
			}
			if cancels {
				cancel()
				<-req.Context().Done()
			} else {
				w.WriteHeader(http.StatusTeapot)
			}
			return true
		})
		err := r.Pull(ctx, "origin", pullStopped(server.URL))
		cancel()
		before := server.reset(nil)
		if err == nil {
			require.Greater(t, n, 20)
			break
		}
		if cancels {
			require.ErrorIs(t, err, context.Canceled)
		}
		requireNoRefs(t, r)
		noLitter(t, r)
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.NoError(t, r.Pull(t.Context(), "origin", pullStopped(server.URL)))
		requireNothingAgain(t, before, server.reset(nil))
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.Equal(t, objectsOf(t, src), objectsOf(t, r))
		partial, err := r.Partial(t.Context(), commits[0])
		require.NoError(t, err)
		require.False(t, partial)
	}
}

// TestPullKilled kills a pulling process at each request: the repository is
// without faults, and the next pull takes over what was fetched.
func TestPullKilled(t *testing.T) {
	src, commits := smallSource(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	peer := interop.Enabled()
	if peer {
		interop.Peer(t, "ostree")
	}
	server := newPullServer(t, handlerOf(t, src), nil)
	all := allModes()
	for n := 0; ; n++ {
		mode := all[n%len(all)]
		r := newRepo(t, mode)
		ctx, kill := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, exe, "-test.run=^TestPullChild$")
		cmd.Env = append(os.Environ(), pullURLVariable+"="+server.URL, pullRepoVariable+"="+r.Path())
		var killed atomic.Bool
		server.reset(func(_ http.ResponseWriter, req *http.Request, i int) bool {
			if i < n {
				return false
			}
			killed.Store(true)
			kill()
			<-req.Context().Done()
			return true
		})
		out, err := cmd.CombinedOutput()
		kill()
		before := server.reset(nil)
		if !killed.Load() {
			require.NoError(t, err, string(out))
			require.Greater(t, n, 20)
			break
		}
		require.Error(t, err)
		requireNoRefs(t, r)
		require.NoError(t, r.Fsck(t.Context(), nil))
		if peer && n%5 == 0 {
			run(t, "ostree", "--repo="+r.Path(), "fsck")
		}
		var stats ostree.PullStats
		opts := pullStopped(server.URL)
		opts.Stats = &stats
		require.NoError(t, r.Pull(t.Context(), "origin", opts))
		require.Equal(t, requireNothingAgain(t, before, server.reset(nil)), stats.Resumed)
		noLitter(t, r)
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.Equal(t, objectsOf(t, src), objectsOf(t, r))
		partial, err := r.Partial(t.Context(), commits[0])
		require.NoError(t, err)
		require.False(t, partial)
	}
}

// TestPullTakesOverWholeObjects: of what a killed pull left, only whole objects
// count.
func TestPullTakesOverWholeObjects(t *testing.T) {
	src, commits := smallSource(t)
	commit, err := src.ReadCommit(t.Context(), commits[1])
	require.NoError(t, err)
	rootPath := objectURL(commit.RootTree, "dirtree")
	root, err := src.Object(t.Context(), ostree.TypeDirTree, commit.RootTree)
	require.NoError(t, err)
	filezPath, filezData := storedObject(t, src, "filez")
	server := newPullServer(t, handlerOf(t, src), nil)
	for name, tc := range map[string]struct {
		path  string
		data  []byte
		mode  os.FileMode
		mark  bool
		taken bool
	}{
		"whole dirtree":     {rootPath, root, 0o644, true, true},
		"whole file":        {filezPath, filezData, 0o644, true, true},
		"unfinished file":   {filezPath, filezData, 0o644 | os.ModeSticky, true, false},
		"half a file":       {filezPath, filezData[:len(filezData)-1], 0o644, true, false},
		"half a dirtree":    {rootPath, root[:len(root)-1], 0o644, true, false},
		"no pull's dirtree": {rootPath, root, 0o644, false, false},
	} {
		r := newRepo(t, ostree.ModeArchive)
		staging := filepath.Join(r.Path(), "tmp", "staging-boot-aaaaaa")
		file := filepath.Join(staging, "okd", strings.TrimPrefix(tc.path, "/objects"))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(staging+"-lock", nil, 0o600))
		if tc.mark {
			require.NoError(t, os.WriteFile(filepath.Join(staging, "okd", "pull"), nil, 0o644))
		}
		require.NoError(t, os.WriteFile(file, tc.data, 0o644))
		require.NoError(t, os.Chmod(file, tc.mode))
		require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(filepath.Dir(file), strings.Repeat("0", 62)+".filez")))
		server.reset(nil)
		require.NoError(t, r.Pull(t.Context(), "origin", pullStopped(server.URL)), name)
		require.Equal(t, !tc.taken, slices.Contains(server.reset(nil), tc.path), name)
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.Equal(t, objectsOf(t, src), objectsOf(t, r))
		noLitter(t, r)
	}
}

// TestPullDuringPrune pulls while other processes prune and commit.
func TestPullDuringPrune(t *testing.T) {
	peer := interop.Enabled()
	if peer {
		interop.Peer(t, "ostree")
	}
	src, _ := pullSource(t, 150)
	url := handlerServer(t, src)
	r := newRepo(t, ostree.ModeBareUser)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			var err error
			if peer && i%2 == 0 {
				err = exec.CommandContext(ctx, "ostree", "--repo="+r.Path(), "prune", "--refs-only").Run()
			} else {
				_, err = r.Prune(ctx, &ostree.PruneOptions{RefsOnly: true})
			}
			if err != nil && ctx.Err() == nil {
				done <- err
				return
			}
			_, _ = r.Commit(ctx, treegen.Tree(uint64(i), &treegen.Options{Files: 20}), &ostree.CommitOptions{Ref: "other"})
		}
		done <- nil
	}()
	for i := range 6 {
		opts := &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: unverified, Depth: i % 2}
		require.NoError(t, r.Pull(t.Context(), "origin", opts))
		if i%3 == 2 {
			require.NoError(t, r.DeleteRef(t.Context(), "origin:os/stable"))
			time.Sleep(time.Millisecond)
		}
	}
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: unverified, Depth: -1}))
	require.NoError(t, r.Fsck(t.Context(), nil))
	if peer {
		run(t, "ostree", "--repo="+r.Path(), "fsck")
	}
}
