package github_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish/github"
)

// direct is a transport to a handler without a network, so that time can be the
// test's. fault, if not nil, sees each request first, numbered from 0, and may say
// how it ends.
type direct struct {
	handler http.Handler
	fault   func(n int, r *http.Request) ending

	mu sync.Mutex
	n  int
}

// ending is how a request ends.
type ending struct {
	how string // "": well; "before", "after" its effect, "half" of its body
	err error
}

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	n := d.n
	d.n++
	d.mu.Unlock()
	var end ending
	if d.fault != nil {
		end = d.fault(n, r)
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && end.how != "before" {
		trace.GotConn(httptrace.GotConnInfo{}) // it was sent
	}
	var body io.ReadCloser = http.NoBody
	if r.Body != nil {
		body = r.Body
		defer body.Close()
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	switch end.how {
	case "before":
		return nil, end.err
	case "half":
		in.Body = io.NopCloser(io.MultiReader(strings.NewReader(string(data[:len(data)/2])), iotest.ErrReader(io.ErrUnexpectedEOF)))
	default:
		if r.ContentLength > 0 && int64(len(data)) != r.ContentLength {
			return nil, fmt.Errorf("ContentLength %d with a body of %d", r.ContentLength, len(data))
		}
		in.Body = io.NopCloser(strings.NewReader(string(data)))
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, in)
	if end.how != "" {
		return nil, end.err
	}
	return w.Result(), nil
}

func over(t *testing.T, d *direct) *github.Client {
	t.Helper()
	c, err := github.NewClient(repository, &github.ClientOptions{API: "http://api.example.com", Token: token, Transport: d})
	require.NoError(t, err)
	return c
}

func stand(opts githubserver.Options) *githubserver.Server {
	opts.Repository, opts.Tokens = repository, []string{token}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return githubserver.New(opts)
}

// requireDone wants the release of spec, whole and alone.
func requireDone(t *testing.T, server *githubserver.Server, hint string) {
	t.Helper()
	kept := server.Releases()
	require.Len(t, kept, 1, hint)
	require.False(t, kept[0].Draft, hint)
	requireWhole(t, kept[0], hint)
	require.Len(t, kept[0].Assets, 2, hint)
	require.Equal(t, tag, server.Latest(), hint)
	require.Empty(t, server.Faults(), hint)
}

func requireWhole(t *testing.T, r githubserver.Release, hint string) {
	t.Helper()
	want := map[string]int{"openshift-client-linux-" + tag + ".tar.gz": 300_000, "sha256sum.txt": 4}
	for _, a := range r.Assets {
		require.Equal(t, "uploaded", a.State, hint)
		require.Len(t, a.Data, want[a.Name], hint)
		delete(want, a.Name)
	}
	require.Empty(t, want, hint)
	require.Equal(t, "# Notes\n", r.Body, hint)
}

// TestKilledAtEveryRequest ends the client for good at each request in turn,
// before or after its effect or in the middle of its body; another one finishes
// what it began. Whoever looks in between sees no release that is not whole.
func TestKilledAtEveryRequest(t *testing.T) {
	killed := errors.New("killed")
	for _, how := range []string{"before", "after", "half"} {
		for n := 0; ; n++ {
			hint := fmt.Sprintf("killed %s request %d", how, n)
			server := stand(githubserver.Options{})
			look := func(i int, _ *http.Request) {
				for _, r := range server.Releases() {
					if !r.Draft {
						requireWhole(t, r, hint)
					}
				}
			}
			_, err := over(t, &direct{handler: server, fault: func(i int, r *http.Request) ending {
				look(i, r)
				if i >= n {
					if i > n {
						return ending{"before", killed}
					}
					return ending{how, killed}
				}
				return ending{}
			}}).Publish(t.Context(), spec())
			if err == nil {
				require.Greater(t, n, 7)
				break
			}
			require.ErrorIs(t, err, killed, hint)
			_, err = over(t, &direct{handler: server, fault: func(i int, r *http.Request) ending { look(i, r); return ending{} }}).Publish(t.Context(), spec())
			require.NoError(t, err, hint)
			requireDone(t, server, hint)
		}
	}
}

// TestEveryRequestFailsOnce: what may pass is tried again without being asked to.
func TestEveryRequestFailsOnce(t *testing.T) {
	for _, how := range []string{"before", "after", "half", "502"} {
		synctest.Test(t, func(t *testing.T) {
			for n := 0; ; n++ {
				hint := fmt.Sprintf("request %d fails once, %s", n, how)
				server := stand(githubserver.Options{})
				d := &direct{handler: server}
				if how == "502" {
					count := 0
					d.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if count++; count == n+1 {
							w.Header().Set("Content-Type", "text/html")
							w.WriteHeader(http.StatusBadGateway)
							_, _ = io.WriteString(w, "<html><title>Unicorn!</title>")
							return
						}
						server.ServeHTTP(w, r)
					})
				} else {
					d.fault = func(i int, _ *http.Request) ending {
						if i == n {
							return ending{how, io.ErrUnexpectedEOF}
						}
						return ending{}
					}
				}
				_, err := over(t, d).Publish(t.Context(), spec())
				made := 0
				for _, request := range server.Requests() {
					if request == "POST /repos/"+repository+"/releases" {
						made++
					}
				}
				require.LessOrEqual(t, made, 1, "%s: a draft is asked for once", hint)
				// A draft that certainly was not made is made by the next run.
				if err != nil && n == 2 && how != "after" {
					require.ErrorContains(t, err, "create draft: ", hint)
					_, err = over(t, &direct{handler: server}).Publish(t.Context(), spec())
				}
				require.NoError(t, err, hint)
				requireDone(t, server, hint)
				if d.n <= n {
					break
				}
			}
		})
	}
}

// TestRace: two that publish the same release at once end with one, whole.
func TestRace(t *testing.T) {
	for range 20 {
		server := stand(githubserver.Options{})
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				_, err := over(t, &direct{handler: server}).Publish(t.Context(), spec())
				if err != nil { // the other one was faster
					t.Log(err)
				}
			})
		}
		both.Wait()
		_, err := over(t, &direct{handler: server}).Publish(t.Context(), spec())
		require.NoError(t, err)
		requireDone(t, server, "race")
	}
}

// TestOvertaken: somebody publishes the release between the making of a draft and
// the look at what there is.
func TestOvertaken(t *testing.T) {
	server := stand(githubserver.Options{})
	_, err := over(t, &direct{handler: server, fault: func(n int, r *http.Request) ending {
		if n == 3 {
			_, err := over(t, &direct{handler: server}).Publish(t.Context(), spec())
			require.NoError(t, err)
		}
		return ending{}
	}}).Publish(t.Context(), spec())
	require.NoError(t, err)
	requireDone(t, server, "overtaken")

	// The other one took the first draft on, published it, and a second one is ours.
	server = stand(githubserver.Options{})
	_, err = over(t, &direct{handler: server, fault: func(n int, _ *http.Request) ending {
		if n == 3 {
			server.Edit(func(releases []*githubserver.Release) []*githubserver.Release {
				whole := *releases[0]
				whole.ID, whole.Draft, whole.Published = 500, false, day
				return append(releases, &whole)
			})
		}
		return ending{}
	}}).Publish(t.Context(), spec())
	require.NoError(t, err)
	kept := server.Releases()
	require.Len(t, kept, 1, "our draft is gone")
	require.EqualValues(t, 500, kept[0].ID)
	requireWhole(t, kept[0], "overtaken")
}

// TestStarter: an asset that GitHub has all bytes of, but does not count as
// uploaded, is sent again.
func TestStarter(t *testing.T) {
	server := stand(githubserver.Options{})
	client := over(t, &direct{handler: server})
	_, err := client.Prepare(t.Context(), spec())
	require.NoError(t, err)
	server.Edit(func(releases []*githubserver.Release) []*githubserver.Release {
		releases[0].Assets[1].State = "starter"
		return releases
	})
	_, err = client.Publish(t.Context(), spec())
	require.NoError(t, err)
	requireDone(t, server, "starter")
}

// TestLimits: GitHub's limits of requests are waited for, or named.
func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		refuse func(w http.ResponseWriter)
		waits  time.Duration // at least; 0: not at all
		fault  string
	}{
		"primary": {func(w http.ResponseWriter) {
			w.Header().Set("X-Ratelimit-Remaining", "0")
			w.Header().Set("X-Ratelimit-Reset", fmt.Sprint(time.Now().Unix()+90))
			w.WriteHeader(http.StatusForbidden)
		}, 90 * time.Second, ""},
		"secondary": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "42")
			w.WriteHeader(http.StatusForbidden)
		}, 42 * time.Second, ""},
		"secondary without a time": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"You have exceeded a secondary rate limit."}`)
		}, time.Minute, ""},
		"429": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 7 * time.Second, ""},
		"too long": {func(w http.ResponseWriter) {
			w.Header().Set("X-Ratelimit-Remaining", "0")
			w.Header().Set("X-Ratelimit-Reset", fmt.Sprint(time.Now().Unix()+3000))
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"API rate limit exceeded for installation"}`)
		}, 0, "403 Forbidden: API rate limit exceeded for installation; the limit of requests is reached, more are allowed in 50m1s"},
		"no limit": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"Resource not accessible by integration"}`)
		}, 0, "403 Forbidden: Resource not accessible by integration"},
		"nonsense": {func(w http.ResponseWriter) {
			w.Header().Set("X-Ratelimit-Remaining", "0")
			w.Header().Set("X-Ratelimit-Reset", "9223372036854775807")
			w.WriteHeader(http.StatusForbidden)
		}, 0, "403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := stand(githubserver.Options{})
				refused := 0
				client := over(t, &direct{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
					w.Header().Set("Content-Type", "application/json")
					if refused < 1 && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/assets") {
						refused++
						test.refuse(w)
						return
					}
					server.ServeHTTP(w, r)
				})})
				begin := time.Now()
				_, err := client.Publish(t.Context(), spec())
				waited := time.Since(begin)
				if test.fault != "" {
					require.ErrorContains(t, err, test.fault)
					require.Less(t, waited, time.Second)
					return
				}
				require.NoError(t, err)
				requireDone(t, server, name)
				require.GreaterOrEqual(t, waited, test.waits)
				require.Less(t, waited, test.waits+5*time.Second)
			})
		})
	}
}
