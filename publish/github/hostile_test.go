package github_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/github"
)

// TestHostileAnswers: whatever comes instead of an answer is one short error that
// names operation, repository and tag.
func TestHostileAnswers(t *testing.T) {
	text := func(kind, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"HTML": {text("text/html", "<html>Sign in</html>"), `the answer is "text/html", not JSON`},
		"HTML refuses": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(407)
		}, "407 Proxy Authentication Required: an HTML page, no answer of GitHub's API"},
		"no JSON":             {text("application/json", "{"), "unexpected end of JSON input"},
		"types":               {text("application/json", `{"id":"x"}`), "cannot unmarshal string"},
		"long number":         {text("application/json", `{"id":`+strings.Repeat("1", 5000)+`}`), "cannot unmarshal number"},
		"long upload address": {text("application/json", `{"id":1,"draft":true,"tag_name":"`+tag+`","upload_url":"https://`+strings.Repeat("x", 5000)+`"}`), "wants its assets at https://xxx"},
		"list":                {text("application/json", `[]`), "cannot unmarshal array"},
		"empty":               {text("application/json", `{}`), "the answer is no release"},
		"null":                {text("application/json", `null`), "the answer is no release"},
		"other tag":           {text("application/json", `{"id":1,"tag_name":"v1\u001b[2J"}`), `asked for by its tag, the release is that of "v1 [2J"`},
		"odd asset":           {text("application/json", `{"id":1,"tag_name":"`+tag+`","assets":[{"id":1,"name":"x","size":-1}]}`), `the answer is no asset: "x" has no id`},
		"null asset":          {text("application/json", `{"id":1,"tag_name":"`+tag+`","assets":[null]}`), `the answer is no asset: "" has no id`},
		"deep":                {text("application/json", strings.Repeat("[", 100_000)), "exceeded max depth"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			spill(w, github.MaxAnswerSize+1)
		}, "document too large"},
		"huge refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(400)
			spill(w, 1<<20)
		}, "400 Bad Request"},
		"long refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"message":"`+strings.Repeat("x", 50_000)+`\u0000","errors":["`+strings.Repeat("y", 5000)+`",{"code":7},null,{"field":"f","code":"c"}]}`)
		}, "f c)"},
		"credentials": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			_, _ = io.WriteString(w, `{"message":"Bad credentials"}`)
		}, "401 Unauthorized: Bad credentials"},
		"loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "redirect refused: more than 10"},
		"scheme": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "redirect refused: neither http nor https"},
		"other success": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, "202 Accepted where 200 was due"},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := start(t, githubserver.Options{}, nil)
			s.before = func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true }
			_, err := client.Publish(t.Context(), spec())
			require.ErrorContains(t, err, "publish/github: publish okd-project/okd 4.21.0-okd-scos.3: ")
			require.ErrorContains(t, err, test.want)
			require.Less(t, len(err.Error()), 2500)
			for _, bad := range []string{"\x1b", "\x00", "\n", "hunter2"} {
				require.NotContains(t, err.Error(), bad)
			}
			require.Empty(t, s.Releases())
		})
	}
}

func spill(w io.Writer, n int) {
	block := bytes.Repeat([]byte(" "), 64<<10)
	for ; n > 0; n -= len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// TestBadList: pages without end, of another host, or of what is no release.
func TestBadList(t *testing.T) {
	release := func(id int) string { return fmt.Sprintf(`{"id":%d,"tag_name":"v%d"}`, id, id) }
	for name, test := range map[string]struct {
		link, body string
		pages      int
		want       string
	}{
		"other host": {`<https://example.com/repos>; rel="next"`, "[" + release(1) + "]", 1, "the next page is on another host, https://example.com/repos"},
		"other port": {`<http://127.0.0.1:1/repos>; rel="next"`, "[" + release(1) + "]", 1, "the next page is on another host, http://127.0.0.1:1/repos"},
		"credential": {`<http://u:hunter2@%s/>; rel="next"`, "[" + release(1) + "]", 1, "the next page is on another host"},
		"bad":        {`<http://[>; rel="next"`, "[" + release(1) + "]", 1, "missing ']'"},
		"null":       {``, "[null]", 1, "no release"},
		"no id":      {``, `[{"tag_name":"x"}]`, 1, "no release"},
		"empty":      {`<?page=2>; rel="next"`, "[]", 1, ""},
		"endless":    {`<?page=2>; rel="next"`, "[" + strings.Repeat(release(1)+",", 99) + release(2) + "]", github.MaxReleases/100 + 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := start(t, githubserver.Options{}, nil)
			pages := 0
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				pages++
				w.Header().Set("Content-Type", "application/json")
				if strings.Contains(test.link, "%s") {
					w.Header().Set("Link", fmt.Sprintf(test.link, r.Host))
				} else {
					w.Header().Set("Link", test.link)
				}
				_, _ = io.WriteString(w, test.body)
				return true
			}
			var last error
			for _, err := range client.Releases(t.Context()) {
				require.NoError(t, last, "ends after an error")
				last = err
			}
			require.Equal(t, test.pages, pages)
			if test.want == "" {
				require.NoError(t, last)
				return
			}
			require.ErrorContains(t, last, test.want)
			require.NotContains(t, last.Error(), "hunter2")
		})
	}
}

// TestPages finds a draft that is pages away.
func TestPages(t *testing.T) {
	s, client := start(t, githubserver.Options{}, nil)
	_, err := client.Prepare(t.Context(), &github.Spec{Tag: tag})
	require.NoError(t, err)
	s.Edit(func(releases []*githubserver.Release) []*githubserver.Release {
		for i := range 120 {
			releases = append(releases, &githubserver.Release{ID: int64(1000 + i), Tag: fmt.Sprint("v", i), Target: "main", Created: day, Published: day})
		}
		return releases
	})
	s.Requests()
	r, err := client.Release(t.Context(), tag)
	require.NoError(t, err)
	require.True(t, r.Draft)
	require.Len(t, s.Requests(), 4, "by tag, and three pages")
	count := 0
	for _, err := range client.Releases(t.Context()) {
		require.NoError(t, err)
		if count++; count == 3 {
			break
		}
	}
	require.Equal(t, 3, count)
}

// failing is a source that is not what it says.
type failing struct {
	data []byte
	size int64
	err  error
}

func (f *failing) Open(context.Context) (io.ReadCloser, error) {
	if f.err != nil {
		return nil, f.err
	}
	return io.NopCloser(bytes.NewReader(f.data)), nil
}
func (f *failing) Size() int64 { return f.size }

func TestBadSources(t *testing.T) {
	for name, test := range map[string]struct {
		upload github.Upload
		is     error
		want   string
	}{
		"short":        {github.Upload{Source: &failing{data: []byte("abc"), size: 4}}, publish.ErrDigest, "source has 3 bytes, promised were 4"},
		"short, known": {github.Upload{Source: &failing{data: []byte("abc"), size: 4}, SHA256: strings.Repeat("0", 64)}, publish.ErrDigest, "source has 3 bytes, promised were 4"},
		"long, known":  {github.Upload{Source: &failing{data: []byte("abcde"), size: 4}, SHA256: strings.Repeat("0", 64)}, publish.ErrDigest, "more than the promised 4 bytes"},
		"other bytes":  {github.Upload{Source: publish.BytesSource([]byte("abc")), SHA256: strings.Repeat("0", 64)}, publish.ErrDigest, "sha256 ba7816bf"},
		"gone":         {github.Upload{Source: &failing{size: 4, err: fs.ErrNotExist}}, fs.ErrNotExist, "open source"},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := start(t, githubserver.Options{}, nil)
			sp := spec()
			test.upload.Name = "x.txt"
			sp.Assets = append(sp.Assets, test.upload)
			_, err := client.Publish(t.Context(), sp)
			require.ErrorIs(t, err, test.is)
			require.ErrorContains(t, err, "publish/github: publish okd-project/okd 4.21.0-okd-scos.3: asset x.txt: ")
			require.ErrorContains(t, err, test.want)
			for _, r := range s.Releases() {
				require.True(t, r.Draft)
			}
			// Put right, the next run goes on.
			sp.Assets[2] = github.Upload{Name: "x.txt", Source: publish.BytesSource([]byte("abcd"))}
			_, err = client.Publish(t.Context(), sp)
			require.NoError(t, err)
			require.Len(t, s.Releases(), 1)
			require.Len(t, s.Releases()[0].Assets, 3)
		})
	}
}

func TestBadSpecs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*github.Spec)
		want   string
	}{
		"no tag":      {func(s *github.Spec) { s.Tag = "" }, `tag ""`},
		"tag":         {func(s *github.Spec) { s.Tag = "a..b" }, `tag "a..b"`},
		"tag path":    {func(s *github.Spec) { s.Tag = "../../x" }, `tag "../../x"`},
		"tag query":   {func(s *github.Spec) { s.Tag = "x?y=\x1b" }, `tag "x?y= "`},
		"body":        {func(s *github.Spec) { s.Body = strings.Repeat("ä", github.MaxBodySize+1) }, "125001 characters"},
		"UTF-8":       {func(s *github.Spec) { s.Body = "\xff" }, "not UTF-8"},
		"latest":      {func(s *github.Spec) { s.Latest = "maybe" }, `latest "maybe"`},
		"both":        {func(s *github.Spec) { s.Prerelease = true }, "cannot be the latest"},
		"many":        {func(s *github.Spec) { s.Assets = make([]github.Upload, github.MaxAssets+1) }, "1001 assets"},
		"renamed":     {func(s *github.Spec) { s.Assets[0].Name = "a b" }, `asset "a b": GitHub would rename it`},
		"dot":         {func(s *github.Spec) { s.Assets[0].Name = ".a" }, "rename"},
		"no name":     {func(s *github.Spec) { s.Assets[0].Name = "" }, "rename"},
		"twice":       {func(s *github.Spec) { s.Assets[0].Name = "SHA256SUM.txt" }, "twice"},
		"no source":   {func(s *github.Spec) { s.Assets[0].Source = nil }, "no source"},
		"empty":       {func(s *github.Spec) { s.Assets[0].Source = publish.BytesSource(nil) }, "has 0 bytes"},
		"2 GiB":       {func(s *github.Spec) { s.Assets[0].Source = &failing{size: 2 << 30} }, "has 2147483648 bytes"},
		"bad digest":  {func(s *github.Spec) { s.Assets[0].SHA256 = "x" }, `sha256 "x"`},
		"two at once": {func(s *github.Spec) { s.Tag, s.Assets[0].Name = "", "" }, "rename"},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := start(t, githubserver.Options{}, nil)
			sp := spec()
			test.change(sp)
			_, err := client.Prepare(t.Context(), sp)
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\x1b")
			require.Empty(t, s.Requests())
		})
	}
	_, err := func() (*github.Release, error) {
		_, c := start(t, githubserver.Options{}, nil)
		return c.Release(t.Context(), "../x")
	}()
	require.ErrorIs(t, err, fs.ErrInvalid)
}

func TestBadClients(t *testing.T) {
	_, key := testKey(t)
	clock := func() time.Time { return day }
	for name, test := range map[string]struct {
		repository string
		opts       *github.ClientOptions
		want       string
	}{
		"repository": {"okd", nil, "OWNER/NAME"},
		"dots":       {"okd/..", nil, "OWNER/NAME"},
		"path":       {"okd/okd/../x", nil, "OWNER/NAME"},
		"scheme":     {repository, &github.ClientOptions{API: "ftp://example.com"}, "https://HOST/api/v3"},
		"host":       {repository, &github.ClientOptions{API: "example.com"}, "https://HOST/api/v3"},
		"user":       {repository, &github.ClientOptions{API: "https://u:hunter2@example.com"}, "https://HOST/api/v3"},
		"address":    {repository, &github.ClientOptions{API: "https://u:hunter2@exa mple.com"}, "invalid character"},
		"token":      {repository, &github.ClientOptions{Token: "hunter2\r\nX: y"}, "the token is empty or has"},
		"blank":      {repository, &github.ClientOptions{Token: " \n"}, "the token is empty or has"},
		"two":        {repository, &github.ClientOptions{Token: "hunter2", App: &github.App{}}, "only one"},
		"no clock":   {repository, &github.ClientOptions{App: &github.App{ID: "x", Key: key}}, "clock"},
		"no id":      {repository, &github.ClientOptions{App: &github.App{Key: key}, Now: clock}, "no id"},
		"no key":     {repository, &github.ClientOptions{App: &github.App{ID: "x"}, Now: clock}, "key of the App: no PEM"},
		"other key":  {repository, &github.ClientOptions{App: &github.App{ID: "x", Key: bytes.ReplaceAll(key, []byte("RSA PRIVATE"), []byte("EC PRIVATE"))}, Now: clock}, "another kind"},
		"PKCS 8":     {repository, &github.ClientOptions{App: &github.App{ID: "x", Key: bytes.ReplaceAll(key, []byte("RSA PRIVATE"), []byte("PRIVATE"))}, Now: clock}, "cannot be parsed"},
		"short key":  {repository, &github.ClientOptions{App: &github.App{ID: "x", Key: bytes.Replace(key, []byte("\nMI"), []byte("\nAA"), 1)}, Now: clock}, "cannot be parsed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := github.NewClient(test.repository, test.opts)
			require.ErrorContains(t, err, "publish/github: connect ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "MII")
		})
	}
}

// TestBadUploads: a server that loses bytes, renames, or wants them elsewhere.
func TestBadUploads(t *testing.T) {
	for _, noDigests := range []bool{false, true} {
		s, client := start(t, githubserver.Options{Loses: 1, NoDigests: noDigests}, nil)
		_, err := client.Publish(t.Context(), spec())
		require.ErrorIs(t, err, publish.ErrDigest)
		require.ErrorContains(t, err, "GitHub has 299999 bytes, not 300000")
		require.True(t, s.Releases()[0].Draft)
		require.Empty(t, s.Releases()[0].Assets, "wrong bytes do not stay")
	}

	// Same size, other bytes.
	for _, noDigests := range []bool{false, true} {
		s, client := start(t, githubserver.Options{NoDigests: noDigests}, nil)
		_, err := client.Prepare(t.Context(), spec())
		require.NoError(t, err)
		s.Edit(func(releases []*githubserver.Release) []*githubserver.Release {
			releases[0].Assets[0].Data[7] ^= 1
			return releases
		})
		_, err = client.Publish(t.Context(), spec())
		require.NoError(t, err)
		requireWhole(t, s.Releases()[0], "sent again")
	}

	for name, edit := range map[string]struct{ from, to, want string }{
		"other host": {"/uploads/", "@evil.example.com/uploads/", "no address for uploads"},
		"elsewhere":  {"", "", "does not belong to the API"},
		"renamed":    {`"name":"sha256sum.txt"`, `"name":"sha256sum.1.txt"`, `GitHub calls it "sha256sum.1.txt"`},
	} {
		t.Run(name, func(t *testing.T) {
			evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
			defer evil.Close()
			s, client := start(t, githubserver.Options{}, nil)
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				answer := httptest.NewRecorder()
				s.ServeHTTP(answer, r)
				body := answer.Body.String()
				if edit.from == "" {
					body = strings.ReplaceAll(body, s.url+"/uploads", evil.URL+"/uploads")
				} else {
					body = strings.ReplaceAll(body, edit.from, edit.to)
				}
				w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
				w.WriteHeader(answer.Code)
				_, _ = io.WriteString(w, body)
				return true
			}
			_, err := client.Publish(t.Context(), spec())
			require.ErrorContains(t, err, edit.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.True(t, s.Releases()[0].Draft)
		})
	}
}

// TestRedirectedDownload: storage elsewhere gets no credentials.
func TestRedirectedDownload(t *testing.T) {
	var data map[string][]byte
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || strings.Contains(fmt.Sprint(r.Header), "hunter2") {
			t.Error("a credential left the API's host")
		}
		_, _ = w.Write(data[r.URL.Path])
	}))
	defer elsewhere.Close()
	s, client := start(t, githubserver.Options{NoDigests: true}, nil)
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Accept") != "application/octet-stream" {
			return false
		}
		data = map[string][]byte{}
		for _, a := range s.Releases()[0].Assets {
			data[fmt.Sprintf("/repos/%s/releases/assets/%d", repository, a.ID)] = a.Data
		}
		http.Redirect(w, r, elsewhere.URL+r.URL.Path+"?sig=hunter2", http.StatusFound)
		return true
	}
	_, err := client.Publish(t.Context(), spec())
	require.NoError(t, err)
	requireWhole(t, s.Releases()[0], "")
	data, s.before = nil, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Accept") != "application/octet-stream" {
			return false
		}
		http.Redirect(w, r, "http://hunter2@"+r.Host+"/api/gone?sig=hunter2", http.StatusFound)
		return true
	}
	_, err = client.Prepare(t.Context(), &github.Spec{Tag: tag, Name: "OKD " + tag, Body: "# Notes\n", Assets: spec().Assets[1:]})
	require.ErrorContains(t, err, "read it back: GET ")
	require.NotContains(t, err.Error(), "hunter2")
}

// TestSpareDrafts: of several drafts of a tag the oldest is taken on.
func TestSpareDrafts(t *testing.T) {
	s, client := start(t, githubserver.Options{}, nil)
	s.Edit(func([]*githubserver.Release) []*githubserver.Release {
		return []*githubserver.Release{
			{ID: 900, Tag: tag, Draft: true, Created: day}, {ID: 901, Tag: "other", Draft: true, Created: day}, {ID: 902, Tag: tag, Draft: true, Created: day},
		}
	})
	r, err := client.Publish(t.Context(), spec())
	require.NoError(t, err)
	require.EqualValues(t, 900, r.ID)
	require.Len(t, s.Releases(), 2)

	s, client = start(t, githubserver.Options{}, nil)
	s.Edit(func([]*githubserver.Release) []*githubserver.Release {
		return []*githubserver.Release{{ID: 900, Tag: tag, Draft: true, Created: day}, {ID: 902, Tag: tag, Draft: true, Created: day}}
	})
	require.NoError(t, client.Discard(t.Context(), tag))
	require.Empty(t, s.Releases())
}

// TestLeftovers: assets of an earlier attempt that are not wanted any more go.
func TestLeftovers(t *testing.T) {
	s, client := start(t, githubserver.Options{}, nil)
	sp := spec()
	sp.Assets = append(sp.Assets, github.Upload{Name: "old.txt", Source: publish.BytesSource([]byte("old"))})
	_, err := client.Prepare(t.Context(), sp)
	require.NoError(t, err)
	_, err = client.Publish(t.Context(), spec())
	require.NoError(t, err)
	requireWhole(t, s.Releases()[0], "")
}

func TestBadApps(t *testing.T) {
	key, text := testKey(t)
	_, otherText := testKey(t)
	now := day
	server := func() *githubserver.App {
		return &githubserver.App{ID: "Iv1.app", Installation: 7, Key: &key.PublicKey, Lifetime: time.Hour}
	}
	for name, test := range map[string]struct {
		app  github.App
		skew time.Duration
		want string
		is   error
	}{
		"other key":          {github.App{ID: "Iv1.app", Key: otherText}, 0, "token of the App: GET ", fs.ErrPermission},
		"other key and time": {github.App{ID: "Iv1.app", Key: otherText}, -time.Hour, "A JSON web token could not be decoded; GitHub's clock is 1h0m0s from this one", fs.ErrPermission},
		"other app":          {github.App{ID: "Iv1.other", Installation: 7, Key: text}, 0, "401 Unauthorized: A JSON web token could not be decoded", fs.ErrPermission},
		"installation":       {github.App{ID: "Iv1.app", Installation: 8, Key: text}, 0, "404 Not Found", fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := start(t, githubserver.Options{App: server(), Now: func() time.Time { return now }}, func(o *github.ClientOptions) {
				o.Token, o.App, o.Now = "", &test.app, func() time.Time { return now.Add(test.skew) }
			})
			_, err := client.Publish(t.Context(), spec())
			require.ErrorContains(t, err, test.want)
			require.ErrorIs(t, err, test.is)
			require.NotContains(t, err.Error(), "eyJ", "the signed token")
		})
	}
	for name, answer := range map[string]string{"no token": `{"expires_at":"2026-11-26T06:00:00Z"}`, "no end": `{"token":"ghs_x"}`, "odd": `{"token":"a b","expires_at":"2026-11-26T06:00:00Z"}`, "time": `{"token":"x","expires_at":"soon"}`, "no installation": `{"id":-1}`} {
		t.Run(name, func(t *testing.T) {
			app := &github.App{ID: "Iv1.app", Installation: 7, Key: text}
			if name == "no installation" {
				app.Installation = 0
			}
			s, client := start(t, githubserver.Options{}, func(o *github.ClientOptions) { o.Token, o.App, o.Now = "", app, func() time.Time { return now } })
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusCreated)
				}
				_, _ = io.WriteString(w, answer)
				return true
			}
			_, err := client.Release(t.Context(), tag)
			require.ErrorContains(t, err, "publish/github: find okd-project/okd 4.21.0-okd-scos.3: token of the App: ")
		})
	}
	// A token that GitHub withdraws is replaced.
	s, client := start(t, githubserver.Options{App: server(), Now: func() time.Time { return now }}, func(o *github.ClientOptions) {
		o.Token, o.App, o.Now = "", &github.App{ID: "Iv1.app", Key: text}, func() time.Time { return now }
	})
	_, err := client.Prepare(t.Context(), spec())
	require.NoError(t, err)
	s.Withdraw()
	_, err = client.Publish(t.Context(), spec())
	require.NoError(t, err)
	require.Equal(t, 2, s.TokensIssued())
}

// TestLog: requests are told, secrets are not.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	sent := map[string]int64{}
	_, client := start(t, githubserver.Options{}, func(o *github.ClientOptions) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Progress = func(asset string, done, total int64) { sent[asset] = done }
	})
	r, err := client.Publish(t.Context(), spec())
	require.NoError(t, err)
	require.Contains(t, log.String(), "/releases/1/assets")
	require.NotContains(t, log.String(), "hunter2")
	require.NotContains(t, fmt.Sprintf("%+v", r), "hunter2")
	require.Equal(t, map[string]int64{"openshift-client-linux-" + tag + ".tar.gz": 300_000, "sha256sum.txt": 4}, sent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client.Publish(ctx, spec())
	require.ErrorIs(t, err, context.Canceled)
	require.Error(t, errors.Unwrap(err))
}
