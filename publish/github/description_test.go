package github_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish/github"
)

var reNumber = regexp.MustCompile(`\b(v2|4\.21\.0-okd-scos\.3)$|\b\d+\b`)

// TestOpenAPI: every kind of request that the client makes, and each answer that
// the stand-in gives, is as GitHub's OpenAPI description has it. (Where interop
// tests are on, those of all other tests are held to it, too.)
func TestOpenAPI(t *testing.T) {
	d, err := githubserver.Load(interop.GitHubOpenAPI(t))
	require.NoError(t, err)
	key, text := testKey(t)
	server := githubserver.New(githubserver.Options{
		Repository: repository, Now: time.Now, NoDigests: true, // so that assets are downloaded
		App: &githubserver.App{ID: "Iv1.app", Installation: 7, Key: &key.PublicKey, Lifetime: time.Hour},
	})
	listening := httptest.NewServer(d.Handler(server, server.Path, func(err error) { t.Error(err) }))
	defer listening.Close()
	client, err := github.NewClient(repository, &github.ClientOptions{API: listening.URL, App: &github.App{ID: "Iv1.app", Key: text}, Now: time.Now})
	require.NoError(t, err)
	ctx := t.Context()
	s := spec()
	s.Assets[0].Label = "the client"
	_, err = client.Prepare(ctx, s)
	require.NoError(t, err)
	s.Body, s.Target, s.Assets = "# Other notes\n", "release-4.21", s.Assets[1:]
	_, err = client.Publish(ctx, s)
	require.NoError(t, err)
	_, err = client.Prepare(ctx, &github.Spec{Tag: "v2", Prerelease: true})
	require.NoError(t, err)
	require.NoError(t, client.Discard(ctx, "v2"))
	_, err = client.Latest(ctx)
	require.NoError(t, err)
	kinds := map[string]bool{}
	for _, request := range server.Requests() {
		kinds[reNumber.ReplaceAllString(request, "N")] = true
	}
	require.Equal(t, map[string]bool{
		"GET /repos/okd-project/okd/installation": true, "POST /app/installations/N/access_tokens": true,
		"GET /repos/okd-project/okd/releases/tags/N": true, "GET /repos/okd-project/okd/releases": true, "POST /repos/okd-project/okd/releases": true,
		"POST /uploads/repos/okd-project/okd/releases/N/assets": true, "GET /repos/okd-project/okd/releases/N": true, "GET /repos/okd-project/okd/releases/assets/N": true,
		"DELETE /repos/okd-project/okd/releases/assets/N": true, "PATCH /repos/okd-project/okd/releases/N": true,
		"DELETE /repos/okd-project/okd/releases/N": true, "GET /repos/okd-project/okd/releases/latest": true,
	}, kinds)

	// The judge judges: a request of ours with a slip is none of GitHub's.
	var faults []error
	w := httptest.NewRecorder()
	d.Handler(server, server.Path, func(err error) { faults = append(faults, err) }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/repos/okd-project/okd/releases?per-page=1", nil))
	require.Len(t, faults, 1)
	require.ErrorContains(t, faults[0], "parameter per-page is not in the description")
}
