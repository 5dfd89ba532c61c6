package notify_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/notify"
	"github.com/okd-project/okd-streams/stream"
)

const (
	room  = "!nStsazaBvZCZQHPWTY:fedoraproject.org"
	token = "syt_hunter2hunter2"
)

func event() *notify.Event {
	return &notify.Event{
		Occasion: stream.OnPromotion, Stream: "okd-scos-stable", Release: "4.21.0-okd-scos.3", Time: time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC),
		Lines: []string{"kernel <1> & @room"},
		Links: []notify.Link{{Name: "Release \"notes\"", URL: "https://example.com/notes?a=1&b=2"}},
	}
}

// home is a Matrix home server as the client-server API has it: it checks
// requests and gives one transaction one event.
type home struct {
	t *testing.T

	mu     sync.Mutex
	sent   map[string]string // transaction to event
	bodies []map[string]any
	before func(w http.ResponseWriter, r *http.Request) bool
}

var reSend = regexp.MustCompile(`^/_matrix/client/v3/rooms/(![^/]+)/send/m\.room\.message/([A-Za-z0-9._~-]{1,255})$`)

func (h *home) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	refuse := func(status int, code, text string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"errcode":%q,"error":%q}`, code, text)
	}
	if r.URL.RawQuery != "" {
		h.t.Errorf("query %s: tokens are in the header", r.URL.RawQuery)
	}
	if h.before != nil && h.before(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		refuse(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "Unrecognised access token "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == "/_matrix/client/v3/directory/room/#okd:example.com" {
		_, _ = fmt.Fprintf(w, `{"room_id":%q,"servers":["example.com"]}`, room)
		return
	}
	m := reSend.FindStringSubmatch(r.URL.Path)
	if r.Method != http.MethodPut || m == nil {
		refuse(http.StatusNotFound, "M_UNRECOGNIZED", "Unrecognized request")
		return
	}
	if m[1] != room {
		refuse(http.StatusForbidden, "M_FORBIDDEN", "User not in room")
		return
	}
	var content map[string]any
	if err := json.NewDecoder(r.Body).Decode(&content); err != nil || r.Header.Get("Content-Type") != "application/json" {
		refuse(http.StatusBadRequest, "M_NOT_JSON", "Content not JSON.")
		return
	}
	id, again := h.sent[m[2]]
	if !again {
		id = fmt.Sprintf("$event%d", len(h.sent))
		h.sent[m[2]] = id
		h.bodies = append(h.bodies, content)
	}
	_, _ = fmt.Fprintf(w, `{"event_id":%q}`, id)
}

func startHome(t *testing.T) (*home, string) {
	t.Helper()
	h := &home{t: t, sent: map[string]string{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return h, server.URL
}

func credentials(roles ...string) *stream.Credentials {
	c := &stream.Credentials{Secret: "bot", Keys: map[string]string{}}
	for _, r := range roles {
		c.Keys[r] = r
	}
	return c
}

// secrets gives each role its value.
func secrets(values map[string]string) func(context.Context, *stream.Credentials, string) (string, error) {
	return func(_ context.Context, c *stream.Credentials, role string) (string, error) {
		value, ok := values[c.Keys[role]]
		if !ok {
			return "", fs.ErrNotExist
		}
		return value, nil
	}
}

func one(t *testing.T, n stream.Notification, e *notify.Event, opts *notify.Options) notify.Result {
	t.Helper()
	results := notify.Send(t.Context(), []stream.Notification{n}, e, opts)
	require.Len(t, results, 1)
	if results[0].Err != nil {
		require.Equal(t, results[0].Err.Error(), results[0].Fault)
		require.NotContains(t, results[0].Fault, "hunter2")
	}
	return results[0]
}

func TestMatrix(t *testing.T) {
	h, url := startHome(t)
	opts := &notify.Options{Secret: secrets(map[string]string{"token": token + "\n"})}
	for _, target := range []string{room, "#okd:example.com", room} {
		r := one(t, stream.Notification{Kind: stream.Matrix, URL: url, Target: target, Credentials: credentials("token")}, event(), opts)
		require.NoError(t, r.Err)
		require.Equal(t, notify.Result{Kind: stream.Matrix, Target: target, ID: "$event0"}, r)
	}
	require.Len(t, h.bodies, 1, "sent again, but there once")
	require.Equal(t, map[string]any{
		"msgtype": "m.text", "format": "org.matrix.custom.html", "m.mentions": map[string]any{},
		"body":           "okd-scos-stable: 4.21.0-okd-scos.3 is released\nkernel <1> & @room\nRelease \"notes\": https://example.com/notes?a=1&b=2",
		"formatted_body": `<strong>okd-scos-stable: 4.21.0-okd-scos.3 is released</strong><br>kernel &lt;1&gt; &amp; @room<br><a href="https://example.com/notes?a=1&amp;b=2">Release &#34;notes&#34;</a>`,
	}, h.bodies[0])
	other := event()
	other.Release = "4.21.0-okd-scos.4"
	require.Equal(t, "$event1", one(t, stream.Notification{Kind: stream.Matrix, URL: url, Target: room, Credentials: credentials("token")}, other, opts).ID)
}

func TestMatrixFaults(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		target string
		token  string
		want   string
		is     error
	}{
		"token":     {nil, room, "syt_wrong_hunter2", "401 Unauthorized: M_UNKNOWN_TOKEN: Unrecognised access token REDACTED", fs.ErrPermission},
		"room":      {nil, "!other:example.com", token, "403 Forbidden: M_FORBIDDEN: User not in room", fs.ErrPermission},
		"alias":     {nil, "#none:example.com", token, "find the room: 404 Not Found", fs.ErrNotExist},
		"no room":   {nil, "okd", token, `room "okd"`, fs.ErrInvalid},
		"no token":  {nil, room, "", "get the token: it is empty", fs.ErrInvalid},
		"odd token": {nil, room, "hunter2\r\nX: y", "control characters", fs.ErrInvalid},
		"HTML":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, room, token, "the answer is not JSON", nil},
		"no event":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }, room, token, "the answer names no event", nil},
		"huge":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat(" ", 1<<20)) }, room, token, "document too large", nil},
		"hostile": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(418)
			_, _ = io.WriteString(w, `{"errcode":"\u001b[2J","error":"`+strings.Repeat("x", 5000)+`"}`)
		}, room, token, "418 I'm a teapot:  [2J", nil},
		"loop": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, room, token, "redirect refused: more than 10", nil},
		"moved": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusMovedPermanently) }, room, token, "redirect refused: PUT would become GET", nil},
		"other host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, room, token, "redirect refused: PUT to another host", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, url := startHome(t)
			if test.answer != nil {
				h.before = func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true }
			}
			r := one(t, stream.Notification{Kind: stream.Matrix, URL: url, Target: test.target, Credentials: credentials("token")}, event(),
				&notify.Options{Secret: secrets(map[string]string{"token": test.token})})
			require.ErrorContains(t, r.Err, "publish/notify: send matrix "+test.target+": ")
			require.ErrorContains(t, r.Err, test.want)
			require.Less(t, len(r.Fault), 1000)
			require.NotContains(t, r.Fault, "\x1b")
			if test.is != nil {
				require.ErrorIs(t, r.Err, test.is)
			}
		})
	}
}

// A message whose answer is lost is sent again, and is in the room once.
func TestMatrixIsRepeated(t *testing.T) {
	h, url := startHome(t)
	count := 0
	h.before = func(w http.ResponseWriter, r *http.Request) bool {
		if count++; count > 2 {
			return false
		}
		if count == 2 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":1}`)
			return true
		}
		h.sent[reSend.FindStringSubmatch(r.URL.Path)[2]] = "$lost"
		panic(http.ErrAbortHandler)
	}
	r := one(t, stream.Notification{Kind: stream.Matrix, URL: url, Target: room, Credentials: credentials("token")}, event(),
		&notify.Options{Secret: secrets(map[string]string{"token": token})})
	require.NoError(t, r.Err)
	require.Equal(t, "$lost", r.ID)
	require.Equal(t, 3, count)
}

func TestSlack(t *testing.T) {
	var got map[string]any
	status, answer := http.StatusOK, "ok"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/services/T0/B0/hunter2" || r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&got) != nil {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	n := stream.Notification{Kind: stream.Slack, Target: "#okd", Credentials: credentials("url")}
	opts := &notify.Options{Secret: secrets(map[string]string{"url": server.URL + "/services/T0/B0/hunter2"})}
	e := event()
	e.Lines = append(e.Lines, "<!channel>")
	require.Equal(t, notify.Result{Kind: stream.Slack, Target: "#okd"}, one(t, n, e, opts))
	require.Equal(t, map[string]any{
		"text": "*okd-scos-stable: 4.21.0-okd-scos.3 is released*\nkernel &lt;1&gt; &amp; @room\n&lt;!channel&gt;\n<https://example.com/notes?a=1&amp;b=2|Release \"notes\">",
	}, got)

	status, answer = http.StatusNotFound, "no_service for /services/T0/B0/hunter2\n"
	r := one(t, n, e, opts)
	require.EqualError(t, r.Err, "publish/notify: send slack #okd: 404 Not Found: no_service for REDACTED")
	status, answer = http.StatusOK, "<html>"
	require.ErrorContains(t, one(t, n, e, opts).Err, `the answer is "<html>", not "ok"`)
	// The address in the definition is one's secret too.
	status, answer = http.StatusForbidden, "/services/T0/B0/hunter2"
	require.ErrorIs(t, one(t, stream.Notification{Kind: stream.Slack, URL: server.URL + "/services/T0/B0/hunter2"}, e, nil).Err, fs.ErrPermission)
	// Nothing listens: the error has no address.
	server.Close()
	require.Error(t, one(t, n, e, &notify.Options{Secret: opts.Secret, Timeout: time.Millisecond}).Err)
}

func TestWebhook(t *testing.T) {
	keys := map[string]int{}
	var body []byte
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		header = r.Header
		keys[r.Header.Get("Idempotency-Key")]++
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	n := stream.Notification{Kind: stream.Webhook, URL: server.URL + "/hook", Credentials: credentials("token", "key")}
	opts := &notify.Options{Secret: secrets(map[string]string{"token": "hunter2", "key": "key"})}
	for range 2 {
		require.NoError(t, one(t, n, event(), opts).Err)
	}
	require.Len(t, keys, 1)
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write(body)
	require.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), header.Get("X-Hub-Signature-256"))
	require.Equal(t, "Bearer hunter2", header.Get("Authorization"))
	require.JSONEq(t, `{"occasion":"promotion","stream":"okd-scos-stable","release":"4.21.0-okd-scos.3","time":"2026-11-26T05:00:00Z",
		"title":"okd-scos-stable: 4.21.0-okd-scos.3 is released","lines":["kernel <1> & @room"],
		"links":[{"name":"Release \"notes\"","url":"https://example.com/notes?a=1&b=2"}]}`, string(body))
	n.Credentials = nil
	require.NoError(t, one(t, n, event(), nil).Err)
	require.Empty(t, header.Get("X-Hub-Signature-256"))
	require.Empty(t, header.Get("Authorization"))
}

// TestLostAnswers: a webhook is asked again with the same key; Slack, which has
// none, is not.
func TestLostAnswers(t *testing.T) {
	tell := func(kind stream.NotificationKind) ([]string, error) {
		keys := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if keys <- r.Header.Get("Idempotency-Key"); len(keys) == 1 {
				panic(http.ErrAbortHandler)
			}
		}))
		r := one(t, stream.Notification{Kind: kind, URL: server.URL}, event(), nil)
		server.Close()
		close(keys)
		var all []string
		for key := range keys {
			all = append(all, key)
		}
		return all, r.Err
	}
	keys, err := tell(stream.Webhook)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.NotEmpty(t, keys[0])
	require.Equal(t, keys[0], keys[1])
	keys, err = tell(stream.Slack)
	require.Error(t, err)
	require.Equal(t, []string{""}, keys)
}

func TestOccasions(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path)
	}))
	defer server.Close()
	target := func(path string, on ...stream.Occasion) stream.Notification {
		return stream.Notification{Kind: stream.Webhook, URL: server.URL + path, Target: path, On: on}
	}
	targets := []stream.Notification{
		target("/failure", stream.OnFailure), target("/all"), target("/two", stream.OnStale, stream.OnPromotion),
		{Kind: stream.Mail, Target: "okd@example.com"}, {Kind: "pigeon"}, {Kind: stream.Webhook, URL: "ftp://user:hunter2@example.com"},
	}
	results := notify.Send(t.Context(), targets, event(), nil)
	require.Len(t, results, 5)
	require.ElementsMatch(t, []string{"/all", "/two"}, asked)
	require.NoError(t, results[0].Err)
	require.NoError(t, results[1].Err)
	require.ErrorIs(t, results[2].Err, errors.ErrUnsupported)
	require.ErrorIs(t, results[3].Err, errors.ErrUnsupported)
	require.ErrorIs(t, results[4].Err, fs.ErrInvalid)
	data, err := json.Marshal(results)
	require.NoError(t, err)
	require.NotContains(t, string(data), "hunter2")
	require.Contains(t, string(data), `{"kind":"mail","target":"okd@example.com","fault":"publish/notify: send mail okd@example.com: mail: unsupported operation"}`)
}

func TestBadEvents(t *testing.T) {
	n := stream.Notification{Kind: stream.Webhook, URL: "http://127.0.0.1:1"}
	for name, e := range map[string]*notify.Event{
		"nil": nil, "empty": {}, "occasion": {Occasion: "x", Stream: "s"}, "stream": {Occasion: stream.OnStale},
		"link": {Occasion: stream.OnStale, Stream: "s", Links: []notify.Link{{Name: "x", URL: "javascript:alert(1)"}}},
		"user": {Occasion: stream.OnStale, Stream: "s", Links: []notify.Link{{Name: "x", URL: "https://u:hunter2@example.com/"}}},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorIs(t, one(t, n, e, nil).Err, fs.ErrInvalid) })
	}
	// Secrets that cannot be had.
	n.Credentials = credentials("token")
	require.ErrorIs(t, one(t, n, event(), nil).Err, errors.ErrUnsupported)
	require.ErrorIs(t, one(t, n, event(), &notify.Options{Secret: secrets(nil)}).Err, fs.ErrNotExist)
}

func TestTextIsCut(t *testing.T) {
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	defer server.Close()
	e := &notify.Event{Occasion: stream.OnFailure, Stream: "s", Title: "a\nb\x1b[2J\u202ec\xff"}
	for range notify.MaxLines + 5 {
		e.Lines = append(e.Lines, strings.Repeat("ä", notify.MaxLineSize))
	}
	e.Links = make([]notify.Link, notify.MaxLinks+1)
	for i := range e.Links {
		e.Links[i].URL = "https://example.com/"
	}
	require.NoError(t, one(t, stream.Notification{Kind: stream.Webhook, URL: server.URL}, e, nil).Err)
	var got notify.Event
	require.NoError(t, json.Unmarshal(body, &got))
	require.Equal(t, "a b[2Jc", got.Title)
	require.Len(t, got.Lines, notify.MaxLines+1)
	require.Equal(t, "… and 5 lines more", got.Lines[notify.MaxLines])
	require.LessOrEqual(t, len(got.Lines[0]), notify.MaxLineSize)
	require.True(t, strings.HasSuffix(got.Lines[0], "ä…"))
	require.Len(t, got.Links, notify.MaxLinks)
	require.Equal(t, notify.Link{Name: "example.com", URL: "https://example.com/"}, got.Links[0])
}

// A server that never answers holds nobody up for longer than the time-out.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	var log bytes.Buffer
	r := one(t, stream.Notification{Kind: stream.Webhook, URL: server.URL}, event(), &notify.Options{
		Timeout: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.ErrorContains(t, r.Err, "gave up after 20ms")
	require.ErrorIs(t, r.Err, context.DeadlineExceeded)
	require.Contains(t, log.String(), "notification failed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, notify.Send(ctx, []stream.Notification{{Kind: stream.Webhook, URL: server.URL}}, event(), nil)[0].Err, context.Canceled)
}
