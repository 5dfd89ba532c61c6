package github_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/github"
)

func TestNextLink(t *testing.T) {
	for value, want := range map[string]string{
		"": "",
		`<https://api.github.com/x?page=2>; rel="next", <https://api.github.com/x?page=9>; rel="last"`:                                       "https://api.github.com/x?page=2",
		`<https://api.github.com/x?page=1>; rel="prev", <https://api.github.com/x?page=3>; rel="next", <https://api.github.com/x>; rel=last`: "https://api.github.com/x?page=3",
		`<a>; title="x, y; rel=next"; rel=prev,<b>;REL = NEXT`:                                                                               "b",
		`<a,b>; rel=next`:    "a,b",
		`<a>; rel="prev"`:    "",
		`<a`:                 "",
		`a>; rel=next`:       "",
		`,,,<a>;;;rel="next`: "a",
	} {
		require.Equal(t, want, github.NextLink(http.Header{"Link": {value}}), value)
	}
	require.Equal(t, "b", github.NextLink(http.Header{"Link": {"<a>; rel=prev", "<b>; rel=next"}}))
}

func FuzzNextLink(f *testing.F) {
	f.Add(`<https://api.github.com/x?page=2>; rel="next", <https://api.github.com/x?page=9>; rel="last"`)
	f.Add(`<a>; title="x, y"; rel=next`)
	f.Fuzz(func(t *testing.T, value string) {
		var next string
		fuzzbound.Linear(t, len(value), 64, func() { next = github.NextLink(http.Header{"Link": {value}}) })
		if !strings.Contains(value, "<"+next+">") && next != "" {
			t.Errorf("%q is not in %q", next, value)
		}
		if next != "" && !strings.ContainsAny(next, "<>") {
			require.Equal(t, next, github.NextLink(http.Header{"Link": {"<" + next + `>; rel="next"`}}))
		}
	})
}

// FuzzAnswer gives a client what is no answer of GitHub.
func FuzzAnswer(f *testing.F) {
	for doc := range mutants.Of(`{"id":1,"tag_name":"v1","upload_url":"https://uploads.example.com/x{?name,label}","assets":[{"id":2,"name":"a","size":3,"state":"uploaded"}]}`) {
		f.Add(doc, 200)
	}
	f.Add(`[{"id":1,"tag_name":"v1"}]`, 200)
	f.Add(`{"message":"Validation Failed","errors":[{"code":"already_exists"},"x",7]}`, 422)
	f.Fuzz(func(t *testing.T, body string, status int) {
		if status < 200 || status > 599 || status == 408 || status == 429 || status >= 500 {
			return // repeated, after a while
		}
		client, err := github.NewClient(repository, &github.ClientOptions{API: "https://api.example.com", Token: token, Transport: answers{body, status}})
		require.NoError(t, err)
		var r *github.Release
		// Several requests, each with this answer.
		fuzzbound.Linear(t, len(body), 4096, func() {
			r, err = client.Publish(t.Context(), &github.Spec{Tag: "v1", Assets: spec().Assets[1:]})
		})
		if err == nil && (r.ID <= 0 || r.Tag != "v1" || r.Draft) {
			t.Errorf("%+v", r)
		}
		if err != nil && len(err.Error()) > 4000 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
		for _, err := range client.Releases(t.Context()) {
			_ = err
		}
		_ = client.Discard(t.Context(), "v1")
	})
}

type answers struct {
	body   string
	status int
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.WriteString(a.body)
	return w.Result(), nil
}
