package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// counter stands before a registry: it counts the blobs that the registry took
// and may lose answers.
type counter struct {
	host string

	mu       sync.Mutex
	requests int
	moved    map[string]int // by digest: uploads that the registry finished
	lose     func(*http.Request) bool
	cut      func(*http.Request) bool // the connection ends before the registry is asked
	stall    func(*http.Request) bool // the registry is not asked, and the client not answered
	every    func(n int)              // told each request's number, from 1
}

func countBefore(t *testing.T, host string) *counter {
	t.Helper()
	c := &counter{moved: map[string]int{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.Out.Host = r.In.Host
			// What the registry does after a client left counts too.
			r.Out = r.Out.WithContext(context.WithoutCancel(r.In.Context()))
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ModifyResponse: func(resp *http.Response) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			req := resp.Request
			if digest := req.URL.Query().Get("digest"); req.Method == http.MethodPut && digest != "" && resp.StatusCode == http.StatusCreated {
				c.moved[digest]++
			}
			if c.lose != nil && c.lose(req) {
				return errors.New("the answer is lost")
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.requests++
		n, every := c.requests, c.every
		c.mu.Unlock()
		if every != nil {
			every(n)
		}
		if c.cut != nil && c.cut(r) {
			panic(http.ErrAbortHandler)
		}
		if c.stall != nil && c.stall(r) {
			_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client leaves
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	c.host = strings.TrimPrefix(server.URL, "http://")
	return c
}

// movedOnce makes sure that no blob was uploaded twice, and gives how many were.
func (c *counter) movedOnce(t *testing.T) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for digest, n := range c.moved {
		require.Equal(t, 1, n, "times that %s was uploaded", digest)
	}
	return len(c.moved)
}

// firsts tells for each request whether it is the first of its kind: method,
// path and digest. Uploads have no name yet when they begin, and each second of
// those counts.
type firsts struct {
	mu     sync.Mutex
	seen   map[string]bool
	begun  int
	harmed int
}

func (f *firsts) first(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	key := r.Method + " " + r.URL.Path + " " + r.URL.Query().Get("mount")
	if digest := r.URL.Query().Get("digest"); digest != "" {
		key = r.Method + " " + path.Dir(r.URL.Path) + " " + digest
	}
	if r.Method == http.MethodPost && r.URL.RawQuery == "" {
		f.begun++
		key = fmt.Sprint(key, f.begun, f.begun%2 == 0)
		if f.begun%2 == 0 {
			return false
		}
	}
	if f.seen[key] {
		return false
	}
	f.seen[key] = true
	f.harmed++
	return true
}

// remoteAt is a client whose connections end with t. It waits so long for an
// answer.
func remoteAt(t testing.TB, wait time.Duration) *remoteregistry.Registry {
	t.Helper()
	transport := httpx.BaseTransport()
	t.Cleanup(transport.CloseIdleConnections)
	r, err := remoteregistry.Open(t.Context(), &remoteregistry.Options{
		Transport: transport, Delay: time.Millisecond, HeaderTimeout: wait, StallTimeout: wait, Attempts: 8, Concurrency: 32,
	})
	require.NoError(t, err)
	return r
}

// pushSmall writes n images that share a layer to repo.
func pushSmall(t *testing.T, r publish.Registry, repo name.Repository, n int) []string {
	t.Helper()
	var values []any
	for i := range n {
		values = append(values, textImage(t, "base", fmt.Sprintf("layer of image %d", i)))
	}
	return put(t, r, repo, values...)
}

// poller follows tags, as users do, and fails t when one leads to something
// that is not there.
func poller(t *testing.T, host string, copies []publish.Copy) (stop func()) {
	t.Helper()
	r := remoteAt(t, 30*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i = (i + 7) % len(copies) {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-time.After(time.Millisecond):
			}
			repo, err := name.NewRepository(host + "/" + strings.SplitN(copies[i].To, "/", 2)[1])
			if err != nil {
				done <- err
				return
			}
			for _, tag := range copies[i].Tags {
				err := complete(ctx, r, repo, repo.Tag(tag))
				// An error of the server says nothing about what is there.
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, publish.ErrDigest) {
					done <- fmt.Errorf("tag %s: %w", tag, err)
					return
				}
			}
		}
	}()
	return func() { t.Helper(); cancel(); require.NoError(t, <-done) }
}

var errNoTag = errors.New("no such tag")

// complete reads everything that a tag leads to.
func complete(ctx context.Context, r *remoteregistry.Registry, repo name.Repository, ref name.Reference) error {
	head, err := r.Head(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return errNoTag
	}
	if err != nil {
		return err
	}
	at := repo.Digest(head.Digest.String())
	if head.MediaType.IsIndex() {
		idx, err := r.Index(ctx, at)
		if err != nil {
			return err
		}
		m, err := idx.IndexManifest()
		if err != nil {
			return err
		}
		for _, child := range m.Manifests {
			if err := complete(ctx, r, repo, repo.Digest(child.Digest.String())); err != nil {
				return err
			}
		}
		return nil
	}
	img, err := r.Image(ctx, at)
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, blob := range append(m.Layers, m.Config) {
		rc, err := r.OpenBlob(ctx, repo, blob)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		if err = errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkCopies makes sure that everything arrived, seen without a proxy.
func checkCopies(t *testing.T, host string, copies []publish.Copy) {
	t.Helper()
	r := remoteAt(t, 30*time.Second)
	for _, c := range copies {
		repo := repoOf(t, host+"/"+strings.SplitN(c.To, "/", 2)[1])
		for _, tag := range c.Tags {
			head, err := r.Head(t.Context(), repo.Tag(tag))
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(c.From, head.Digest.String()))
			require.NoError(t, complete(t.Context(), r, repo, repo.Tag(tag)))
		}
	}
}

// TestTransferHarmed copies 50 images while the first attempt of each request
// is harmed, in one way after another: the end is the same.
func TestTransferHarmed(t *testing.T) {
	interop.Peer(t, "docker-registry")
	source := interop.Registry(t)
	specs := pushSmall(t, remoteAt(t, 30*time.Second), repoOf(t, source+"/okd/content"), 50)
	for what, fault := range map[string]interop.Fault{
		"lost answer": {}, // by the counter
		"cut":         {}, // by the counter
		"stalled":     {}, // by the counter
		"429":         {Status: http.StatusTooManyRequests},
		"503":         {Status: http.StatusServiceUnavailable},
		"truncated":   {CutResponse: 10},
		"half sent":   {CutRequest: 5},
		"wrong bytes": {Corrupt: 7},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			target := interop.Registry(t)
			count := countBefore(t, target)
			var firsts firsts
			fault.Match = firsts.first
			faults := []interop.Fault{fault}
			countFrom := countBefore(t, source)
			for _, c := range []*counter{count, countFrom} {
				switch what {
				case "lost answer":
					c.lose, faults = firsts.first, nil
				case "cut":
					c.cut, faults = firsts.first, nil
				case "stalled":
					c.stall, faults = firsts.first, nil
				}
			}
			proxyTo, proxyFrom := interop.Proxy(t, "http://"+count.host, faults...), interop.Proxy(t, "http://"+countFrom.host, faults...)
			var copies []publish.Copy
			for i, spec := range specs {
				to := proxyTo.Host + "/okd/mirror"
				if i%2 == 1 {
					to += "-2"
				}
				copies = append(copies, publish.Copy{
					From: strings.Replace(spec, source, proxyFrom.Host, 1), To: to, Tags: []string{fmt.Sprintf("t%d", i)},
				})
			}
			wait := 30 * time.Second
			if what == "stalled" {
				wait = 3 * time.Second // what is not stalled must never take so long
			}
			registry := remoteAt(t, wait)
			stop := poller(t, target, copies)
			got, err := publish.Transfer(t.Context(), registry, registry, copies, &publish.TransferOptions{Delay: time.Millisecond, Workers: 64, PerHost: 32})
			stop()
			require.NoError(t, err)
			require.Equal(t, 50, got.Totals.Written)
			require.Equal(t, 50, got.Totals.Tagged)
			require.Equal(t, 101, count.movedOnce(t), "configs, layers and one base")
			require.Greater(t, firsts.harmed, 400, "requests")
			checkCopies(t, target, copies)
		})
	}
}

// TestTransferKilled kills a copy at many points, and goes on with another
// process that knows the journal, or nothing: no blob moves twice.
func TestTransferKilled(t *testing.T) {
	interop.Peer(t, "docker-registry")
	source := interop.Registry(t)
	specs := pushSmall(t, remoteAt(t, 30*time.Second), repoOf(t, source+"/okd/content"), 20)
	for _, journal := range []bool{true, false} {
		t.Run(fmt.Sprintf("journal %v", journal), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			killed := 0
			for kill := 25; ; kill += 83 {
				target := interop.Registry(t)
				count := countBefore(t, target)
				var copies []publish.Copy
				for i, spec := range specs {
					copies = append(copies, publish.Copy{From: spec, To: fmt.Sprintf("%s/okd/mirror-%d", count.host, i%3), Tags: []string{fmt.Sprintf("t%d", i)}})
				}
				list := filepath.Join(dir, fmt.Sprintf("copies-%d.json", kill))
				writeJSON(t, list, copies)
				log := ""
				if journal {
					log = list + ".journal"
				}
				stop := poller(t, target, copies)
				first := childTransfer(t, list, log)
				var process atomic.Pointer[os.Process]
				count.mu.Lock()
				count.every = func(n int) {
					if p := process.Load(); n >= kill && p != nil {
						_ = p.Kill()
					}
				}
				count.mu.Unlock()
				require.NoError(t, first.Start())
				process.Store(first.Process)
				if first.Wait() == nil {
					stop()
					break // it needed no more requests
				}
				killed++
				process.Store(nil)
				out, err := childTransfer(t, list, log).CombinedOutput()
				require.NoError(t, err, "%s", out)
				stop()
				require.Equal(t, 41, count.movedOnce(t), "configs, layers and one base")
				checkCopies(t, target, copies)
			}
			require.GreaterOrEqual(t, killed, 3)
		})
	}
}

// childVariable makes the test binary run a transfer: "LIST JOURNAL".
const childVariable = "OKD_STREAMS_TEST_TRANSFER"

func childTransfer(t *testing.T, list, journal string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestTransferChild$")
	cmd.Env = append(os.Environ(), childVariable+"="+list+" "+journal)
	return cmd
}

// TestTransferChild is a process of its own.
func TestTransferChild(t *testing.T) {
	list, journal, ok := strings.Cut(os.Getenv(childVariable), " ")
	if !ok {
		t.Skip("started by other tests")
	}
	f, err := os.Open(list)
	require.NoError(t, err)
	defer f.Close()
	copies, err := publish.DecodeCopies(f)
	require.NoError(t, err)
	opts := &publish.TransferOptions{}
	if journal != "" {
		opts.Journal = publish.FileJournal(journal)
	}
	r := remoteAt(t, 30*time.Second)
	_, err = publish.Transfer(t.Context(), r, r, copies, opts)
	require.NoError(t, err)
}
