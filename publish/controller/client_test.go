package controller_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// answers are documents in the shapes that release-controller's source writes,
// by path and query; no public controller may be asked in tests.
var answers = map[string]string{
	"/api/v1/releasestreams/accepted":                                            `{"4-scos-stable":["4.21.0-okd-scos.4","4.21.0-okd-scos.3"]}`,
	"/api/v1/releasestreams/all":                                                 `{"4-scos-stable":["4.21.0-okd-scos.4"],"4-scos-next":null}`,
	"/api/v1/releasestream/4-scos-stable/tags":                                   `{"name":"4-scos-stable","tags":[{"name":"4.21.0-okd-scos.5","phase":"Ready","pullSpec":"example.com/r:5","downloadURL":""},{"name":"4.21.0-okd-scos.4","phase":"Accepted","pullSpec":"example.com/r:4","downloadURL":"https://example.com"}]}`,
	"/api/v1/releasestream/4-scos-stable/tags?phase=Accepted":                    `{"name":"4-scos-stable","tags":[{"name":"4.21.0-okd-scos.5","phase":"Ready","pullSpec":"example.com/r:5","downloadURL":""},{"name":"4.21.0-okd-scos.4","phase":"Accepted","pullSpec":"example.com/r:4","downloadURL":"https://example.com"}]}`,
	"/api/v1/releasestream/4-scos-stable/latest?in=%3E4.20.0&prefix=4.21&rel=1":  `{"name":"4.21.0-okd-scos.3","phase":"Accepted","pullSpec":"example.com/r:3","downloadURL":""}`,
	"/api/v1/releasestream/4-scos-stable/candidate":                              `{"candidate":{"fromTag":"4.22.0-0.okd-scos-2026-11-20-010101","name":"4.22.0-okd-scos.0","upgradeFrom":["4.21.0-okd-scos.4"]}}`,
	"/api/v1/releasestream/4-scos-next/candidate":                                `{"candidate":null}`,
	"/api/v1/releasestream/4-scos-stable/config":                                 `{"name":"4-scos-stable","as":"Stable"}`,
	"/api/v1/releasestream/4-scos-stable/release/4.21.0-okd-scos.4?format=short": `{"name":"4.21.0-okd-scos.4","phase":"Accepted","results":{"blockingJobs":{"upgrade":{"state":"Succeeded","url":"https://example.com/2","retries":1,"previousAttemptURLs":["https://example.com/1"],"transitionTime":"2026-11-20T10:00:00Z"}}},"upgradesTo":[{"From":"4.21.0-okd-scos.3","To":"4.21.0-okd-scos.4","Success":1,"Failure":0,"Total":1,"History":{"https://example.com/2":{"state":"Succeeded","url":"https://example.com/2"}}}],"changeLogJson":{"from":{"name":"","created":"0001-01-01T00:00:00Z","digest":""},"to":{"name":"","created":"0001-01-01T00:00:00Z","digest":""}}}`,
	"/api/v1/releasestream/4-scos-stable/release/4.21.0-okd-scos.4":              `{"name":"4.21.0-okd-scos.4","phase":"Accepted","changeLog":"PGI+","changeLogJson":{"from":{"name":"4.21.0-okd-scos.3","created":"2026-11-01T00:00:00Z","digest":"sha256:3"},"to":{"name":"4.21.0-okd-scos.4","created":"2026-11-20T00:00:00Z","digest":"sha256:4"},"updatedImages":[{"name":"cli","path":"https://github.com/openshift/oc","commits":[{"subject":"x","pullID":1}]}]},"nodeImageStreams":[{"name":"CoreOS","tag":"stream-coreos","rpmDiff":{"changed":{"kernel":{"old":"1","new":"2"}}}}]}`,
	"/api/v1/releasestream/4-scos-stable/release/4.21.0-okd-scos.5?format=short": `{"name":"4.21.0-okd-scos.5","phase":"Ready","results":{"pendingJobs":{"upgrade":{"state":"Pending","url":""}}}}`,
	"/graph?channel=stable-scos":                                                 `{"nodes":[{"version":"4.21.0-okd-scos.4","payload":"example.com/r:4"}],"edges":[]}`,
}

func serve(t *testing.T, requests *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		text, ok := answers[strings.TrimPrefix(req.URL.RequestURI(), "/prefix")]
		if !ok {
			http.Error(w, "Unable to find release\x1b[2J "+req.URL.Path+"\nmore", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text+"\n")
	}))
	t.Cleanup(server.Close)
	return server.URL + "/prefix"
}

func TestClient(t *testing.T) {
	var requests atomic.Int64
	c, err := controller.NewClient(serve(t, &requests), nil)
	require.NoError(t, err)
	ctx := t.Context()

	streams, err := c.Streams(ctx, controller.Accepted)
	require.NoError(t, err)
	require.Equal(t, []string{"4.21.0-okd-scos.4", "4.21.0-okd-scos.3"}, streams["4-scos-stable"])
	streams, err = c.Streams(ctx, "")
	require.NoError(t, err)
	require.Contains(t, streams, "4-scos-next")
	_, err = c.Streams(ctx, "Odd")
	require.Error(t, err)

	tags, err := c.Tags(ctx, "4-scos-stable")
	require.NoError(t, err)
	require.Len(t, tags, 2)
	tags, err = c.Tags(ctx, "4-scos-stable", controller.Accepted)
	require.NoError(t, err)
	require.Equal(t, []controller.Tag{{Name: "4.21.0-okd-scos.4", Phase: controller.Accepted, PullSpec: "example.com/r:4", DownloadURL: "https://example.com"}}, tags, "a controller that passes over the parameter")

	latest, err := c.Latest(ctx, "4-scos-stable", &controller.LatestOptions{In: ">4.20.0", Prefix: "4.21", Before: 1})
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.3", latest.Name)
	candidate, err := c.Candidate(ctx, "4-scos-stable")
	require.NoError(t, err)
	require.Equal(t, []string{"4.21.0-okd-scos.4"}, candidate.UpgradeFrom)
	candidate, err = c.Candidate(ctx, "4-scos-next")
	require.NoError(t, err)
	require.Nil(t, candidate)
	config, err := c.Config(ctx, "4-scos-stable")
	require.NoError(t, err)
	require.Equal(t, controller.Stable, config.As)

	r, err := c.Release(ctx, "4-scos-stable", "4.21.0-okd-scos.4", nil)
	require.NoError(t, err)
	require.Nil(t, r.Log)
	require.Equal(t, controller.JobSucceeded, r.Results.Blocking["upgrade"].State)
	require.Equal(t, time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), r.Results.Blocking["upgrade"].Changed.UTC())
	require.Equal(t, 1, r.UpgradesTo[0].Success)
	r, err = c.Release(ctx, "4-scos-stable", "4.21.0-okd-scos.4", &controller.ReleaseOptions{Log: true})
	require.NoError(t, err)
	require.Equal(t, "sha256:4", r.Log.To.Digest)
	require.Equal(t, "2", r.NodeImages[0].Packages.Changed["kernel"].New)

	g, err := c.Graph(ctx, "stable-scos")
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.4", g.Nodes[0].Version)

	_, err = c.Tags(ctx, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "Unable to find release [2J /prefix/api")
	require.NotContains(t, err.Error(), "more")
	for _, bad := range []string{"", "..", "."} {
		_, err = c.Tags(ctx, bad)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	_, err = c.Tags(ctx, "a/b?c")
	require.ErrorContains(t, err, "a%2Fb%3Fc")
	for _, bad := range []string{"", "example.com", "ftp://example.com"} {
		_, err := controller.NewClient(bad, nil)
		require.Error(t, err)
	}
}

func TestClientCaches(t *testing.T) {
	var requests atomic.Int64
	address := serve(t, &requests)
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	store := memstore.New()
	_, err := controller.NewClient(address, &controller.ClientOptions{Cache: store})
	require.ErrorContains(t, err, "clock")
	ask := func(tag string) int64 {
		t.Helper()
		c, err := controller.NewClient(address, &controller.ClientOptions{Cache: store, CachePrefix: "cache/", Now: func() time.Time { return now }})
		require.NoError(t, err)
		before := requests.Load()
		r, err := c.Release(t.Context(), "4-scos-stable", tag, nil)
		require.NoError(t, err)
		require.Equal(t, tag, r.Name)
		return requests.Load() - before
	}
	require.EqualValues(t, 1, ask("4.21.0-okd-scos.4"))
	require.EqualValues(t, 0, ask("4.21.0-okd-scos.4"))
	require.EqualValues(t, 1, ask("4.21.0-okd-scos.5"), "not decided yet")
	require.EqualValues(t, 1, ask("4.21.0-okd-scos.5"))
	now = now.Add(25 * time.Hour)
	require.EqualValues(t, 1, ask("4.21.0-okd-scos.4"), "too old")
	now = now.Add(-time.Hour)
	require.EqualValues(t, 1, ask("4.21.0-okd-scos.4"), "from the future")
}

func TestHostileAnswers(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { answer(w, req) }))
	defer server.Close()
	c, err := controller.NewClient(strings.Replace(server.URL, "http://", "http://user:hunter2@", 1), nil)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"HTML":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "invalid character"},
		"types":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"tags":{"a":1}}`) }, "cannot unmarshal"},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403 Forbidden"},
		"many": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"tags":[{}%s]}`, strings.Repeat(",{}", controller.MaxTags))
		}, "100001 releases, limit 100000"},
		"large text": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("x", 1<<20), http.StatusBadRequest)
		}, "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			answer = test.answer
			_, err := c.Tags(t.Context(), "s")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.Less(t, len(err.Error()), 1000)
		})
	}
}
