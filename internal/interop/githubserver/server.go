// Package githubserver is a stand-in for GitHub's API of releases, for tests: it
// keeps the releases of one repository in memory and behaves as GitHub documents
// it, drafts, half-uploaded assets, pages, tokens of Apps and all. What a client
// does against the documented rules is kept as a fault. [Description.Handler]
// holds both sides to GitHub's OpenAPI description.
package githubserver

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options of New.
type Options struct {
	Repository string   // OWNER/NAME
	Tokens     []string // that may write; others may only read what is published
	App        *App     // nil: none
	Now        func() time.Time
	// Prefix is before the API's paths: "" as on api.github.com, "/api/v3" as on
	// an Enterprise server.
	Prefix string
	// NoDigests: assets have none, as on older Enterprise servers.
	NoDigests bool
	// Loses is how many bytes at the end of each upload are lost.
	Loses int
}

// App is a GitHub App that is installed on the repository.
type App struct {
	ID           string
	Installation int64
	Key          *rsa.PublicKey
	Lifetime     time.Duration // of its tokens
}

// Release is what is kept of a release.
type Release struct {
	ID                      int64
	Tag, Target, Name, Body string
	Draft, Prerelease       bool
	Created                 time.Time
	Published               time.Time
	Assets                  []*Asset
}

// Asset is what is kept of an asset.
type Asset struct {
	ID                              int64
	Name, Label, State, ContentType string
	Data                            []byte
	Created                         time.Time
}

// Server is an [http.Handler].
type Server struct {
	opts Options

	mu       sync.Mutex
	last     int64
	latest   int64 // id
	releases []*Release
	tokens   map[string]time.Time // of the App, with their ends
	issued   int
	requests []string
	faults   []string
}

// New makes an empty one.
func New(opts Options) *Server {
	return &Server{opts: opts, tokens: map[string]time.Time{}}
}

// Requests gives method and path of each request since the last call.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// Faults says what clients did against the rules.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// Edit has f change what is kept.
func (s *Server) Edit(f func(releases []*Release) []*Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releases = f(s.releases)
}

// Releases gives a copy of what is kept, oldest first.
func (s *Server) Releases() []Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Release
	for _, r := range s.releases {
		c := *r
		c.Assets = nil
		for _, a := range r.Assets {
			b := *a
			c.Assets = append(c.Assets, &b)
		}
		out = append(out, c)
	}
	return out
}

// Latest gives the tag of the latest release, "" for none.
func (s *Server) Latest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byID(s.latest); r != nil {
		return r.Tag
	}
	return ""
}

// TokensIssued is how many tokens the App got.
func (s *Server) TokensIssued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

func (s *Server) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

type route struct {
	method  string
	path    *regexp.Regexp
	write   bool
	handler func(s *Server, w http.ResponseWriter, r *http.Request, arg string)
}

var routes = []route{
	{"GET", regexp.MustCompile(`^/releases$`), false, (*Server).list},
	{"POST", regexp.MustCompile(`^/releases$`), true, (*Server).create},
	{"GET", regexp.MustCompile(`^/releases/latest$`), false, (*Server).getLatest},
	{"GET", regexp.MustCompile(`^/releases/tags/(.+)$`), false, (*Server).getTag},
	{"GET", regexp.MustCompile(`^/releases/(\d+)$`), false, (*Server).get},
	{"PATCH", regexp.MustCompile(`^/releases/(\d+)$`), true, (*Server).edit},
	{"DELETE", regexp.MustCompile(`^/releases/(\d+)$`), true, (*Server).deleteRelease},
	{"POST", regexp.MustCompile(`^/releases/(\d+)/assets$`), true, (*Server).upload},
	{"GET", regexp.MustCompile(`^/releases/assets/(\d+)$`), false, (*Server).getAsset},
	{"DELETE", regexp.MustCompile(`^/releases/assets/(\d+)$`), true, (*Server).deleteAsset},
	{"GET", regexp.MustCompile(`^/installation$`), false, (*Server).installation},
}

var reTokens = regexp.MustCompile(`^/app/installations/(\d+)/access_tokens$`)

// ServeHTTP answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	w.Header().Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	// A body is read before the lock is taken: it may be slow.
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("User-Agent") == "" {
		s.fault("%s %s without User-Agent", r.Method, r.URL.Path)
	}
	if r.Method == http.MethodPost && r.URL.Path == "/api/graphql" && s.opts.Prefix != "" {
		s.releaseByTag(w, r, body)
		return
	}
	path, uploads := s.path(r.URL.EscapedPath())
	if err != nil { // half an upload
		if m := routes[7].path.FindStringSubmatch(strings.TrimPrefix(path, "/repos/"+s.opts.Repository)); m != nil {
			s.halfUpload(m[1], r, body)
		}
		s.answer(w, http.StatusBadGateway, map[string]any{"message": "Server Error"})
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if m := reTokens.FindStringSubmatch(path); m != nil && r.Method == http.MethodPost {
		s.accessToken(w, r, m[1])
		return
	}
	rest, ok := strings.CutPrefix(path, "/repos/"+s.opts.Repository)
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, rt := range routes {
		m := rt.path.FindStringSubmatch(rest)
		if !ok || m == nil || method != rt.method {
			continue
		}
		arg := ""
		if len(m) > 1 {
			arg, _ = url.PathUnescape(m[1])
		}
		if isUpload := r.Method == http.MethodPost && strings.HasSuffix(path, "/assets"); isUpload != uploads {
			s.fault("%s %s at the wrong address", r.Method, r.URL.Path)
		}
		switch who := s.who(r); {
		case rest == "/installation":
		case who == bad:
			s.answer(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
			return
		case rt.write && who != writer: // GitHub hides what one may not do
			s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})
			return
		}
		rt.handler(s, w, r, arg)
		return
	}
	s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
}

// Path gives the path of a request as GitHub documents it, without what is before
// it; "" for one that is not of the API.
func (s *Server) Path(escaped string) string {
	path, _ := s.path(escaped)
	return path
}

func (s *Server) path(escaped string) (path string, uploads bool) {
	for _, prefix := range []string{s.uploadPrefix(), s.opts.Prefix} {
		if rest, ok := strings.CutPrefix(escaped, prefix+"/"); ok {
			return "/" + rest, prefix == s.uploadPrefix()
		}
	}
	return "", false
}

func (s *Server) uploadPrefix() string {
	if s.opts.Prefix != "" {
		return "/api/uploads"
	}
	return "/uploads"
}

type identity int

const (
	public identity = iota
	writer
	bad
)

func (s *Server) who(r *http.Request) identity {
	value := r.Header.Get("Authorization")
	if value == "" {
		return public
	}
	token, ok := strings.CutPrefix(value, "Bearer ")
	if !ok {
		token, ok = strings.CutPrefix(value, "token ") // as gh has it
	}
	if end, issued := s.tokens[token]; issued && s.opts.Now().Before(end) {
		return writer
	}
	if ok && slices.Contains(s.opts.Tokens, token) {
		return writer
	}
	return bad
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func (s *Server) invalid(w http.ResponseWriter, resource, field, code string) {
	s.answer(w, http.StatusUnprocessableEntity, map[string]any{
		"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest/releases/releases",
		"errors": []any{map[string]any{"resource": resource, "field": field, "code": code}},
	})
}

// base is the address of the repository in the API.
func (s *Server) base(r *http.Request, prefix string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + prefix
}

func user(base string) map[string]any {
	out := map[string]any{"login": "okd-bot", "id": 7, "node_id": "U_7", "gravatar_id": "", "type": "Bot", "site_admin": false}
	for _, name := range []string{"avatar_url", "events_url", "followers_url", "following_url", "gists_url", "html_url", "organizations_url", "received_events_url", "repos_url", "starred_url", "subscriptions_url", "url"} {
		out[name] = base + "/users/okd-bot/" + strings.TrimSuffix(name, "_url")
	}
	return out
}

func (s *Server) assetJSON(r *http.Request, rel *Release, a *Asset) map[string]any {
	api := s.base(r, s.opts.Prefix)
	out := map[string]any{
		"url": fmt.Sprintf("%s/repos/%s/releases/assets/%d", api, s.opts.Repository, a.ID), "id": a.ID, "node_id": fmt.Sprintf("RA_%d", a.ID),
		"browser_download_url": fmt.Sprintf("%s/%s/releases/download/%s/%s", s.base(r, ""), s.opts.Repository, rel.Tag, a.Name),
		"name":                 a.Name, "label": a.Label, "state": a.State, "content_type": a.ContentType, "size": len(a.Data), "digest": nil, "download_count": 0,
		"created_at": a.Created.UTC().Format(time.RFC3339), "updated_at": a.Created.UTC().Format(time.RFC3339), "uploader": user(api),
	}
	if !s.opts.NoDigests && a.State == "uploaded" {
		sum := sha256.Sum256(a.Data)
		out["digest"] = "sha256:" + hex.EncodeToString(sum[:])
	}
	return out
}

func (s *Server) releaseJSON(r *http.Request, rel *Release) map[string]any {
	api := s.base(r, s.opts.Prefix)
	own := fmt.Sprintf("%s/repos/%s/releases/%d", api, s.opts.Repository, rel.ID)
	out := map[string]any{
		"url": own, "assets_url": own + "/assets", "id": rel.ID, "node_id": fmt.Sprintf("RE_%d", rel.ID),
		"upload_url": fmt.Sprintf("%s/repos/%s/releases/%d/assets{?name,label}", s.base(r, s.uploadPrefix()), s.opts.Repository, rel.ID),
		"html_url":   fmt.Sprintf("%s/%s/releases/tag/%s", s.base(r, ""), s.opts.Repository, rel.Tag),
		"tag_name":   rel.Tag, "target_commitish": rel.Target, "name": rel.Name, "body": rel.Body, "draft": rel.Draft, "prerelease": rel.Prerelease, "immutable": false,
		"created_at": rel.Created.UTC().Format(time.RFC3339), "published_at": nil, "tarball_url": nil, "zipball_url": nil, "author": user(api),
	}
	if !rel.Draft {
		out["published_at"] = rel.Published.UTC().Format(time.RFC3339)
		out["tarball_url"] = api + "/repos/" + s.opts.Repository + "/tarball/" + rel.Tag
		out["zipball_url"] = api + "/repos/" + s.opts.Repository + "/zipball/" + rel.Tag
	}
	assets := []any{}
	for _, a := range rel.Assets {
		assets = append(assets, s.assetJSON(r, rel, a))
	}
	out["assets"] = assets
	return out
}

func (s *Server) byID(id int64) *Release {
	for _, r := range s.releases {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (s *Server) release(w http.ResponseWriter, r *http.Request, arg string) *Release {
	id, _ := strconv.ParseInt(arg, 10, 64)
	rel := s.byID(id)
	if rel == nil || rel.Draft && s.who(r) != writer {
		s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
		return nil
	}
	return rel
}

// list gives pages, newest first.
func (s *Server) list(w http.ResponseWriter, r *http.Request, _ string) {
	size, page := 30, 1
	for name, value := range map[string]*int{"per_page": &size, "page": &page} {
		if text := r.URL.Query().Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || name == "per_page" && n > 100 {
				s.fault("%s=%s", name, text)
				n = 1
			}
			*value = n
		}
	}
	var all []any
	for _, rel := range slices.Backward(s.releases) {
		if !rel.Draft || s.who(r) == writer {
			all = append(all, s.releaseJSON(r, rel))
		}
	}
	from, to := min(len(all), (page-1)*size), min(len(all), page*size)
	if to < len(all) {
		own := *r.URL
		q := own.Query()
		q.Set("page", strconv.Itoa(page+1))
		own.RawQuery = q.Encode()
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next", <%s>; rel="last"`, s.base(r, own.RequestURI()), s.base(r, own.Path)))
	}
	s.answer(w, http.StatusOK, append([]any{}, all[from:to]...))
}

// values are the members of a release that a request may set.
type values struct {
	Tag           *string `json:"tag_name"`
	Target        *string `json:"target_commitish"`
	Name          *string `json:"name"`
	Body          *string `json:"body"`
	Draft         *bool   `json:"draft"`
	Prerelease    *bool   `json:"prerelease"`
	MakeLatest    *string `json:"make_latest"`
	Discussion    *string `json:"discussion_category_name"`
	GenerateNotes *bool   `json:"generate_release_notes"`
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *Server) decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
		s.fault("%s %s with Content-Type %q", r.Method, r.URL.Path, kind)
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		s.fault("%s %s: %v", r.Method, r.URL.Path, err)
		s.answer(w, http.StatusBadRequest, map[string]any{"message": "Problems parsing JSON"})
		return false
	}
	return true
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, _ string) {
	var v values
	if !s.decode(w, r, &v) {
		return
	}
	if v.Tag == nil || *v.Tag == "" {
		s.invalid(w, "Release", "tag_name", "missing_field")
		return
	}
	s.last++
	rel := &Release{ID: s.last, Target: "main", Created: s.opts.Now()}
	if s.apply(w, rel, v) {
		s.releases = append(s.releases, rel)
		w.Header().Set("Location", fmt.Sprintf("%s/repos/%s/releases/%d", s.base(r, s.opts.Prefix), s.opts.Repository, rel.ID))
		s.answer(w, http.StatusCreated, s.releaseJSON(r, rel))
	}
}

// apply sets what the request names, and publishes.
func (s *Server) apply(w http.ResponseWriter, rel *Release, v values) bool {
	next := *rel
	set(&next.Tag, v.Tag)
	set(&next.Target, v.Target)
	set(&next.Name, v.Name)
	set(&next.Body, v.Body)
	set(&next.Draft, v.Draft)
	set(&next.Prerelease, v.Prerelease)
	if len([]rune(next.Body)) > 125_000 {
		s.invalid(w, "Release", "body", "too_long")
		return false
	}
	for _, other := range s.releases {
		if !next.Draft && !other.Draft && other.ID != rel.ID && other.Tag == next.Tag {
			s.invalid(w, "Release", "tag_name", "already_exists")
			return false
		}
	}
	latest := "true"
	set(&latest, v.MakeLatest)
	if latest == "true" && v.MakeLatest != nil && (next.Draft || next.Prerelease) {
		s.invalid(w, "Release", "make_latest", "invalid")
		return false
	}
	if !next.Draft && next.Published.IsZero() {
		next.Published = s.opts.Now()
		if v.MakeLatest == nil {
			v.MakeLatest = &latest
		}
	}
	*rel = next
	if !rel.Draft && !rel.Prerelease && v.MakeLatest != nil && latest != "false" {
		s.latest = rel.ID // "legacy" by date: this one is the newest
	}
	return true
}

func (s *Server) getLatest(w http.ResponseWriter, r *http.Request, _ string) {
	if rel := s.byID(s.latest); rel != nil {
		s.answer(w, http.StatusOK, s.releaseJSON(r, rel))
		return
	}
	s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
}

func (s *Server) getTag(w http.ResponseWriter, r *http.Request, tag string) {
	for _, rel := range s.releases {
		if !rel.Draft && rel.Tag == tag {
			s.answer(w, http.StatusOK, s.releaseJSON(r, rel))
			return
		}
	}
	s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
}

// releaseByTag answers the one GraphQL query that gh needs to find a draft.
func (s *Server) releaseByTag(w http.ResponseWriter, r *http.Request, body []byte) {
	var asked struct {
		Query     string
		Variables struct{ Owner, Name, TagName string }
	}
	if err := json.Unmarshal(body, &asked); err != nil || !strings.Contains(asked.Query, "release(tagName: $tagName){databaseId,isDraft}") {
		s.answer(w, http.StatusBadRequest, map[string]any{"message": "a query that this stand-in does not know"})
		return
	}
	var found any
	for _, rel := range s.releases {
		if rel.Tag == asked.Variables.TagName && s.who(r) == writer {
			found = map[string]any{"databaseId": rel.ID, "isDraft": rel.Draft}
		}
	}
	s.answer(w, http.StatusOK, map[string]any{"data": map[string]any{"repository": map[string]any{"release": found}}})
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, arg string) {
	if rel := s.release(w, r, arg); rel != nil {
		s.answer(w, http.StatusOK, s.releaseJSON(r, rel))
	}
}

func (s *Server) edit(w http.ResponseWriter, r *http.Request, arg string) {
	rel := s.release(w, r, arg)
	if rel == nil {
		return
	}
	var v values
	if s.decode(w, r, &v) && s.apply(w, rel, v) {
		s.answer(w, http.StatusOK, s.releaseJSON(r, rel))
	}
}

func (s *Server) deleteRelease(w http.ResponseWriter, r *http.Request, arg string) {
	if rel := s.release(w, r, arg); rel != nil {
		s.releases = slices.DeleteFunc(s.releases, func(other *Release) bool { return other == rel })
		w.WriteHeader(http.StatusNoContent)
	}
}

var reOdd = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// assetName is the name that GitHub gives a file.
func assetName(name string) string { return strings.Trim(reOdd.ReplaceAllString(name, "."), ".") }

func (s *Server) upload(w http.ResponseWriter, r *http.Request, arg string) {
	rel := s.release(w, r, arg)
	if rel == nil {
		return
	}
	data, _ := io.ReadAll(r.Body)
	query := r.URL.Query()
	for name := range query {
		if name != "name" && name != "label" {
			s.fault("upload with the parameter %s", name)
		}
	}
	switch name := query.Get("name"); {
	case name == "":
		s.invalid(w, "ReleaseAsset", "name", "missing_field")
	case r.ContentLength <= 0 || r.Header.Get("Content-Type") == "":
		s.fault("upload with Content-Length %d, Content-Type %q", r.ContentLength, r.Header.Get("Content-Type"))
		s.answer(w, http.StatusBadRequest, map[string]any{"message": "Bad Content-Length"})
	case slices.ContainsFunc(rel.Assets, func(a *Asset) bool { return a.Name == assetName(name) }):
		s.invalid(w, "ReleaseAsset", "name", "already_exists")
	default:
		s.last++
		data = data[:max(0, len(data)-s.opts.Loses)]
		a := &Asset{ID: s.last, Name: assetName(name), Label: query.Get("label"), State: "uploaded", ContentType: r.Header.Get("Content-Type"), Data: data, Created: s.opts.Now()}
		rel.Assets = append(rel.Assets, a)
		s.answer(w, http.StatusCreated, s.assetJSON(r, rel, a))
	}
}

// halfUpload is what stays of an upload that breaks off.
func (s *Server) halfUpload(arg string, r *http.Request, data []byte) {
	id, _ := strconv.ParseInt(arg, 10, 64)
	name := assetName(r.URL.Query().Get("name"))
	if rel := s.byID(id); rel != nil && !slices.ContainsFunc(rel.Assets, func(a *Asset) bool { return a.Name == name }) {
		s.last++
		rel.Assets = append(rel.Assets, &Asset{ID: s.last, Name: name, State: "starter", ContentType: r.Header.Get("Content-Type"), Data: data, Created: s.opts.Now()})
	}
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request, arg string) (*Release, *Asset) {
	id, _ := strconv.ParseInt(arg, 10, 64)
	for _, rel := range s.releases {
		for _, a := range rel.Assets {
			if a.ID == id && (!rel.Draft || s.who(r) == writer) {
				return rel, a
			}
		}
	}
	s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
	return nil, nil
}

func (s *Server) getAsset(w http.ResponseWriter, r *http.Request, arg string) {
	rel, a := s.asset(w, r, arg)
	switch {
	case a == nil:
	case r.Header.Get("Accept") == "application/octet-stream":
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(a.Data)
	default:
		s.answer(w, http.StatusOK, s.assetJSON(r, rel, a))
	}
}

func (s *Server) deleteAsset(w http.ResponseWriter, r *http.Request, arg string) {
	if rel, a := s.asset(w, r, arg); a != nil {
		rel.Assets = slices.DeleteFunc(rel.Assets, func(other *Asset) bool { return other == a })
		w.WriteHeader(http.StatusNoContent)
	}
}

// signed checks the JSON web token of an App, as GitHub documents it.
func (s *Server) signed(w http.ResponseWriter, r *http.Request) bool {
	refuse := func(text string) bool {
		s.answer(w, http.StatusUnauthorized, map[string]any{"message": text, "documentation_url": "https://docs.github.com/rest"})
		return false
	}
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if s.opts.App == nil || len(parts) != 3 {
		return refuse("A JSON web token could not be decoded")
	}
	var raw [3][]byte
	for i := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(parts[i]); err != nil {
			return refuse("A JSON web token could not be decoded")
		}
	}
	var header struct{ Alg, Typ string }
	var claims struct {
		IAT, EXP int64
		ISS      string
	}
	if json.Unmarshal(raw[0], &header) != nil || json.Unmarshal(raw[1], &claims) != nil || header.Alg != "RS256" || claims.ISS != s.opts.App.ID {
		return refuse("A JSON web token could not be decoded")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := s.opts.Now().Unix()
	switch {
	case rsa.VerifyPKCS1v15(s.opts.App.Key, crypto.SHA256, sum[:], raw[2]) != nil:
		return refuse("A JSON web token could not be decoded")
	case claims.IAT > now:
		return refuse("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	case claims.EXP > now+600:
		return refuse("'Expiration time' claim ('exp') is too far in the future")
	case claims.EXP <= now:
		return refuse("'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
	}
	return true
}

func (s *Server) installation(w http.ResponseWriter, r *http.Request, _ string) {
	if !s.signed(w, r) {
		return
	}
	api := s.base(r, s.opts.Prefix)
	at := s.opts.Now().UTC().Format(time.RFC3339)
	s.answer(w, http.StatusOK, map[string]any{
		"id": s.opts.App.Installation, "app_id": 1, "app_slug": "okd", "target_id": 7, "target_type": "Organization", "single_file_name": nil, "repository_selection": "selected",
		"access_tokens_url": fmt.Sprintf("%s/app/installations/%d/access_tokens", api, s.opts.App.Installation), "html_url": api, "repositories_url": api + "/installation/repositories",
		"events": []string{}, "account": user(api), "permissions": map[string]any{"contents": "write", "metadata": "read"}, "created_at": at, "updated_at": at, "suspended_by": nil, "suspended_at": nil,
	})
}

func (s *Server) accessToken(w http.ResponseWriter, r *http.Request, arg string) {
	if !s.signed(w, r) {
		return
	}
	var v struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	if !s.decode(w, r, &v) {
		return
	}
	_, name, _ := strings.Cut(s.opts.Repository, "/")
	if arg != strconv.FormatInt(s.opts.App.Installation, 10) || len(v.Repositories) > 0 && !slices.Equal(v.Repositories, []string{name}) {
		s.answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
		return
	}
	s.issued++
	token := fmt.Sprintf("ghs_%036d", s.issued)
	end := s.opts.Now().Add(s.opts.App.Lifetime)
	s.tokens[token] = end
	s.answer(w, http.StatusCreated, map[string]any{"token": token, "expires_at": end.UTC().Format(time.RFC3339), "permissions": v.Permissions, "repository_selection": "selected"})
}

// Withdraw makes the App's tokens invalid.
func (s *Server) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}
