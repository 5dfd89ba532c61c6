package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/stream"
)

// DefaultTimeout is how long a target is tried.
const DefaultTimeout = time.Minute

// maxAnswerSize bounds what is read of an answer, bytes.
const maxAnswerSize = 64 << 10

// Roles of secrets in [stream.Credentials].
const (
	roleToken = "token" // of Matrix; of a webhook: sent as bearer token
	roleURL   = "url"   // the address of a webhook, of one's own or Slack's, where it is a secret
	roleKey   = "key"   // that a webhook's body is signed with
)

// Options are options of [Send]; nil and the zero value are useful where no secret is
// needed.
type Options struct {
	// Secret gives what credentials have for a role that they name: the value
	// of an environment variable, of a key of a Kubernetes Secret. White space
	// around it does not count. nil: none can be had.
	Secret func(ctx context.Context, c *stream.Credentials, role string) (string, error)
	// Transport sends requests; nil: one with time limits and the
	// environment's proxies. Requests that failed are sent again where the
	// service, or by its key the receiver, knows that it was told already.
	Transport http.RoundTripper
	// Timeout is how long a target is tried; 0: [DefaultTimeout].
	Timeout time.Duration
	// Jitter gives values in [0,1) that spread repetitions; nil: none.
	Jitter func() float64
	// Logger gets each request at debug level, and what failed as a warning;
	// nil: silent.
	Logger *slog.Logger
}

// Result says whether a target was told. It is for the record.
type Result struct {
	Kind   stream.NotificationKind `json:"kind"`
	Target string                  `json:"target"`          // room, channel or host, without secrets
	ID     string                  `json:"id,omitempty"`    // of the message, where the service gives one
	Fault  string                  `json:"fault,omitempty"` // text of Err
	Err    error                   `json:"-"`               // an *Error, or nil
}

// Send tells the targets that want to know of the event's occasion, those without
// occasions of every one. The results are in the order of the targets.
func Send(ctx context.Context, targets []stream.Notification, event *Event, opts *Options) []Result {
	s := &sender{}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Timeout == 0 {
		s.opts.Timeout = DefaultTimeout
	}
	s.http = httpx.NewClient(httpx.NewTransport(s.opts.Transport, &httpx.Options{
		Jitter: s.opts.Jitter, MaxRetryAfter: s.opts.Timeout, Logger: s.opts.Logger, Repeatable: repeatable,
	}))
	s.http.CheckRedirect = httpx.CheckSameMethod
	if event == nil {
		event = &Event{}
	}
	said, err := event.complete()
	wanted := slices.DeleteFunc(slices.Clone(targets), func(n stream.Notification) bool {
		return len(n.On) > 0 && !slices.Contains(n.On, event.Occasion)
	})
	results := make([]Result, len(wanted))
	var all sync.WaitGroup
	for i, n := range wanted {
		all.Go(func() {
			results[i] = s.result(ctx, n, said, err)
		})
	}
	all.Wait()
	return results
}

// repeatable: a receiver can tell by the key that it has a message already.
func repeatable(req *http.Request) bool {
	return httpx.Repeatable(req) || req.Header.Get("Idempotency-Key") != ""
}

// result tells one target, unless the event itself is at fault.
func (s *sender) result(ctx context.Context, n stream.Notification, e *Event, err error) Result {
	r := Result{Kind: n.Kind, Target: describe(n)}
	if err == nil {
		r.ID, err = s.tell(ctx, n, e)
	}
	if err == nil {
		return r
	}
	r.Err = &Error{Op: "send", Target: strings.TrimSpace(string(r.Kind) + " " + r.Target), Err: err}
	r.Fault = r.Err.Error()
	if s.opts.Logger != nil {
		s.opts.Logger.WarnContext(ctx, "notification failed", slog.String("error", r.Fault))
	}
	return r
}

// describe names a target without its address, which may be a secret.
func describe(n stream.Notification) string {
	if n.Target != "" {
		return httpx.Printable(n.Target)
	}
	if u, err := url.Parse(n.URL); err == nil {
		return httpx.Printable(u.Host)
	}
	return ""
}

type sender struct {
	opts Options
	http *http.Client
}

func (s *sender) tell(ctx context.Context, n stream.Notification, e *Event) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.Timeout, fmt.Errorf("gave up after %s: %w", s.opts.Timeout, context.DeadlineExceeded))
	defer cancel()
	secrets := map[string]string{}
	if c := n.Credentials; c != nil {
		for _, role := range []string{roleToken, roleURL, roleKey} {
			if c.Keys[role] == "" && c.Env[role] == "" {
				continue
			}
			if s.opts.Secret == nil {
				return "", fmt.Errorf("no way to get at the %s: %w", role, errors.ErrUnsupported)
			}
			value, err := s.opts.Secret(ctx, c, role)
			if value = strings.TrimSpace(value); err == nil && (value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })) {
				err = fmt.Errorf("it is empty or has control characters: %w", fs.ErrInvalid)
			}
			if err != nil {
				return "", fmt.Errorf("get the %s: %w", role, err)
			}
			secrets[role] = value
		}
	}
	var id string
	var err error
	switch n.Kind {
	case stream.Matrix:
		id, err = s.matrix(ctx, n, secrets[roleToken], e)
	case stream.Slack:
		err = s.slack(ctx, n, secrets, e)
	case stream.Webhook:
		err = s.webhook(ctx, n, secrets, e)
	case stream.Mail:
		err = fmt.Errorf("mail: %w", errors.ErrUnsupported)
	default:
		err = fmt.Errorf("kind %q: %w", n.Kind, errors.ErrUnsupported)
	}
	if err == nil {
		return id, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	// The address of a webhook lets everybody who knows it speak.
	private := secrets[roleURL]
	if private == "" && n.Kind == stream.Slack {
		private = n.URL
	}
	hidden := []string{secrets[roleToken], secrets[roleKey], private}
	if u, err := url.Parse(private); err == nil && len(u.Path) > 1 {
		hidden = append(hidden, u.Path, u.RawQuery)
	}
	return "", httpx.RedactSecrets(err, hidden...)
}

// matrixMessage is the content of an m.room.message.
type matrixMessage struct {
	Type      string   `json:"msgtype"`
	Body      string   `json:"body"`
	Format    string   `json:"format"`
	Formatted string   `json:"formatted_body"`
	Mentions  struct{} `json:"m.mentions"` // nobody
}

func (s *sender) matrix(ctx context.Context, n stream.Notification, token string, e *Event) (string, error) {
	if token == "" {
		return "", fmt.Errorf("the token (role %q of the credentials) is missing: %w", roleToken, fs.ErrInvalid)
	}
	base, err := address(n.URL)
	if err != nil {
		return "", err
	}
	room := n.Target
	if strings.HasPrefix(room, "#") { // an alias
		var found struct {
			Room string `json:"room_id"`
		}
		if err := s.matrixCall(ctx, http.MethodGet, base.JoinPath("_matrix", "client", "v3", "directory", "room", url.PathEscape(room)), token, nil, &found); err != nil {
			return "", fmt.Errorf("find the room: %w", err)
		}
		room = found.Room
	}
	if !strings.HasPrefix(room, "!") || len(room) > 255 {
		return "", fmt.Errorf("room %q: it is !ID:SERVER or #ALIAS:SERVER: %w", httpx.Printable(room), fs.ErrInvalid)
	}
	key, err := e.key(room)
	if err != nil {
		return "", err
	}
	content := matrixMessage{Type: "m.text", Body: e.plain(), Format: "org.matrix.custom.html", Formatted: e.html()}
	var sent struct {
		ID string `json:"event_id"`
	}
	to := base.JoinPath("_matrix", "client", "v3", "rooms", url.PathEscape(room), "send", "m.room.message", key)
	if err := s.matrixCall(ctx, http.MethodPut, to, token, content, &sent); err != nil {
		return "", err
	}
	if !strings.HasPrefix(sent.ID, "$") || len(sent.ID) > 255 {
		return "", errors.New("the answer names no event: no Matrix home server?")
	}
	return httpx.Printable(sent.ID), nil
}

// matrixCall sends a request of the client-server API.
func (s *sender) matrixCall(ctx context.Context, method string, to *url.URL, token string, in, out any) error {
	body, err := s.call(ctx, method, to, in, http.Header{"Authorization": {"Bearer " + token}})
	if refused, ok := errors.AsType[*statusError](err); ok {
		var said struct {
			Code string `json:"errcode"`
			Text string `json:"error"`
		}
		if json.Unmarshal(body, &said) == nil && said.Code != "" {
			refused.said = httpx.Printable(said.Code + ": " + said.Text)
		}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	return nil
}

func (s *sender) slack(ctx context.Context, n stream.Notification, secrets map[string]string, e *Event) error {
	to, err := webhookAddress(n, secrets)
	if err != nil {
		return err
	}
	body, err := s.call(ctx, http.MethodPost, to, map[string]string{"text": e.slack()}, nil)
	if refused, ok := errors.AsType[*statusError](err); ok {
		refused.said = firstLine(body) // such as no_service
	}
	if err == nil && strings.TrimSpace(string(body)) != "ok" {
		err = fmt.Errorf("the answer is %q, not \"ok\": no Slack webhook?", firstLine(body))
	}
	return err
}

func (s *sender) webhook(ctx context.Context, n stream.Notification, secrets map[string]string, e *Event) error {
	to, err := webhookAddress(n, secrets)
	if err != nil {
		return err
	}
	key, err := e.key(describe(n))
	if err != nil {
		return err
	}
	header := http.Header{"Idempotency-Key": {key}}
	if token := secrets[roleToken]; token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if secret := secrets[roleKey]; secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(data)
		header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	_, err = s.call(ctx, http.MethodPost, to, json.RawMessage(data), header)
	return err
}

func webhookAddress(n stream.Notification, secrets map[string]string) (*url.URL, error) {
	if secret := secrets[roleURL]; secret != "" {
		return address(secret)
	}
	return address(n.URL)
}

// address checks where a message goes. Its errors do not show it.
func address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("the address is missing or is not one such as https://HOST: %w", fs.ErrInvalid)
	}
	return u, nil
}

// statusError is an answer that refuses.
type statusError struct {
	status int
	text   string
	said   string
}

func (e *statusError) Error() string {
	if e.said != "" {
		return e.text + ": " + e.said
	}
	return e.text
}

// Is maps what has a meaning of its own.
func (e *statusError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.status == http.StatusNotFound || e.status == http.StatusGone
	case fs.ErrPermission:
		return e.status == http.StatusUnauthorized || e.status == http.StatusForbidden
	}
	return false
}

// call sends JSON, nil for none, and gives the answer's body, also with the error
// of an answer that refuses. No error has the address.
func (s *sender) call(ctx context.Context, method string, to *url.URL, in any, header http.Header) ([]byte, error) {
	var data []byte
	if in != nil {
		var err error
		if data, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("the address makes no request")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "okd-streams")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := httpx.ReadBody(resp.Body, maxAnswerSize)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return body, &statusError{status: resp.StatusCode, text: httpx.Printable(resp.Status)}
	}
	return body, err
}

// firstLine is what a server says, printable and short.
func firstLine(body []byte) string {
	text, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return httpx.Printable(text)
}
