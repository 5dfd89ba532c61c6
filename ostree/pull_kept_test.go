package ostree_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// TestPullConnections: each worker keeps a connection of its own as long as the
// server answers simply; where it does not, the general client takes over at once,
// and each worker has asked once too often at most.
func TestPullConnections(t *testing.T) {
	const workers = 3
	src, _ := pullSource(t, 60)
	files := handlerOf(t, src)
	objects := int64(len(objectsOf(t, src)))
	isObject := func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, ".filez") || strings.HasSuffix(r.URL.Path, ".dirmeta") || strings.HasSuffix(r.URL.Path, ".dirtree")
	}
	for _, test := range []struct {
		name    string
		answer  func(w http.ResponseWriter, r *http.Request, n int64) bool // n: objects asked for
		more    int64                                                      // requests for objects
		dialled int64                                                      // at most; 0: as often as it likes
	}{
		{name: "simple", answer: func(http.ResponseWriter, *http.Request, int64) bool { return false }, dialled: workers + 8},
		{name: "closes", answer: func(w http.ResponseWriter, _ *http.Request, n int64) bool {
			if n%5 == 0 {
				w.Header().Set("Connection", "close")
			}
			return false
		}},
		{name: "chunks", answer: func(w http.ResponseWriter, r *http.Request, _ int64) bool {
			recorded := httptest.NewRecorder()
			files.ServeHTTP(recorded, r)
			w.(http.Flusher).Flush()
			_, _ = w.Write(recorded.Body.Bytes())
			return true
		}, more: workers},
		{name: "redirects", answer: func(w http.ResponseWriter, r *http.Request, _ int64) bool {
			if r.URL.RawQuery != "" {
				return false
			}
			http.Redirect(w, r, r.URL.Path+"?really", http.StatusFound)
			return true
		}, more: objects + workers},
		{name: "busy once", answer: func(w http.ResponseWriter, _ *http.Request, n int64) bool {
			if n == 20 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n == 20
		}, more: 1},
		{name: "hangs up once", answer: func(_ http.ResponseWriter, _ *http.Request, n int64) bool {
			if n == 20 {
				panic(http.ErrAbortHandler)
			}
			return false
		}, more: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked, dialled atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !isObject(r) || !test.answer(w, r, asked.Add(1)) {
					files.ServeHTTP(w, r)
				}
			}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					dialled.Add(1)
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			r := newRepo(t, ostree.ModeBareUser)
			var stats ostree.PullStats
			opts := &ostree.PullOptions{URL: server.URL, Revs: []string{"os/stable"}, Verifier: unverified, Depth: -1, Workers: workers, Delay: time.Millisecond, Stats: &stats}
			require.NoError(t, r.Pull(t.Context(), "origin", opts))
			require.NoError(t, r.Fsck(t.Context(), nil))
			require.Equal(t, objectsOf(t, src), objectsOf(t, r))
			require.LessOrEqual(t, asked.Load(), stats.MetadataFetched+stats.ContentFetched+test.more)
			require.GreaterOrEqual(t, stats.Requests, stats.MetadataFetched+stats.ContentFetched)
			if test.dialled > 0 {
				require.LessOrEqual(t, dialled.Load(), test.dialled)
			}
		})
	}
}
