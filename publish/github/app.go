package github

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// App is a GitHub App, installed on the repository with the permission
// "contents: write". A token for that repository and permission alone is made
// when it is needed.
type App struct {
	ID           string // the client id, or the App's number
	Installation int64  // number of the installation; 0: the repository's, which is asked for
	Key          []byte // a private RSA key of the App, PEM (PKCS #1 or #8)
}

// Times of tokens.
const (
	// issuedBefore is how far back a signed token says it was made, since
	// GitHub refuses those from its future.
	issuedBefore = time.Minute
	// signedFor is how long it then holds; GitHub allows ten minutes.
	signedFor = 9 * time.Minute
	// renewBefore is how long before its end an installation's token is
	// replaced; GitHub gives it an hour.
	renewBefore = 5 * time.Minute
	// skewMatters is the difference of clocks that is corrected.
	skewMatters = 20 * time.Second
)

// credentials give the value of the Authorization header. Secrets are held in
// closures, so that no way of printing a client shows them.
type credentials interface {
	// header gives the value, "" for none.
	header(ctx context.Context, c *Client) (string, error)
	// refused is told of a 401, and reports whether another value may do.
	refused(value string) bool
	// secrets are what no text may have.
	secrets() []string
}

type anonymous struct{}

func (anonymous) header(context.Context, *Client) (string, error) { return "", nil }
func (anonymous) refused(string) bool                             { return false }
func (anonymous) secrets() []string                               { return nil }

// fixed is a token that was given.
type fixed struct{ token func() string }

func newFixed(token string) (*fixed, error) {
	token = strings.TrimSpace(token) // files end with a newline
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the token is empty or has characters that none has: %w", fs.ErrInvalid)
	}
	return &fixed{func() string { return token }}, nil
}

func (f *fixed) header(context.Context, *Client) (string, error) { return "Bearer " + f.token(), nil }
func (f *fixed) refused(string) bool                             { return false }
func (f *fixed) secrets() []string                               { return []string{f.token()} }

// installed makes tokens of an App's installation.
type installed struct {
	id  string
	key func() *rsa.PrivateKey
	now func() time.Time

	mu           sync.Mutex
	installation int64
	skew         time.Duration // of GitHub's clock to ours
	token        func() string // nil: none yet
	expires      time.Time     // of token, by GitHub's clock
	signed       func() string // the last one, for secrets
}

func newInstalled(app *App, now func() time.Time) (*installed, error) {
	if app.ID == "" || app.Installation < 0 {
		return nil, fmt.Errorf("the App has no id, or an installation below 0: %w", fs.ErrInvalid)
	}
	if now == nil {
		return nil, fmt.Errorf("an App needs a clock: %w", fs.ErrInvalid)
	}
	key, err := parseKey(app.Key)
	if err != nil {
		return nil, fmt.Errorf("key of the App: %w", err)
	}
	return &installed{id: app.ID, installation: app.Installation, now: now, key: func() *rsa.PrivateKey { return key }}, nil
}

// parseKey reads a private key. Its errors say nothing of what it has.
func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("no PEM: %w", fs.ErrInvalid)
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM of another kind than a private RSA key: %w", fs.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be parsed: %w", fs.ErrInvalid)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok || private.N.BitLen() < 2048 {
		return nil, fmt.Errorf("no RSA key of 2048 bits or more: %w", fs.ErrInvalid)
	}
	return private, nil
}

func (a *installed) secrets() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, s := range []func() string{a.token, a.signed} {
		if s != nil {
			out = append(out, s())
		}
	}
	return out
}

// refused forgets a token that GitHub does not take any more.
func (a *installed) refused(value string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != nil && "Bearer "+a.token() == value {
		a.token = nil
	}
	return true
}

func (a *installed) header(ctx context.Context, c *Client) (string, error) {
	a.mu.Lock()
	token, left := a.token, a.expires.Sub(a.now().Add(a.skew))
	a.mu.Unlock()
	if token != nil && left > renewBefore {
		return "Bearer " + token(), nil
	}
	// Two that come here at once make a token each, which harms nobody.
	fresh, expires, err := a.make(ctx, c)
	if err != nil {
		return "", fmt.Errorf("token of the App: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token, a.expires = func() string { return fresh }, expires
	return "Bearer " + fresh, nil
}

// make asks for a token of the installation.
func (a *installed) make(ctx context.Context, c *Client) (string, time.Time, error) {
	a.mu.Lock()
	installation := a.installation
	a.mu.Unlock()
	if installation == 0 {
		var found struct {
			ID int64 `json:"id"`
		}
		err := a.ask(ctx, c, &request{method: http.MethodGet, url: c.path("installation"), want: http.StatusOK}, &found)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("the App is not installed on the repository: %w", err)
		}
		if err == nil && found.ID <= 0 {
			err = errors.New("the answer names no installation")
		}
		if err != nil {
			return "", time.Time{}, err
		}
		installation = found.ID
		a.mu.Lock()
		a.installation = installation
		a.mu.Unlock()
	}
	_, name, _ := strings.Cut(c.repository, "/")
	var got struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	req := &request{method: http.MethodPost, url: c.api.JoinPath("app", "installations", strconv.FormatInt(installation, 10), "access_tokens"), want: http.StatusCreated}
	err := req.json(map[string]any{"repositories": []string{name}, "permissions": map[string]string{"contents": "write"}})
	if err == nil {
		err = a.ask(ctx, c, req, &got)
	}
	if err != nil {
		return "", time.Time{}, err
	}
	if _, err := newFixed(got.Token); err != nil || got.Expires.IsZero() {
		return "", time.Time{}, errors.New("the answer has no token or no end of it")
	}
	return got.Token, got.Expires, nil
}

// ask sends a request that the App itself signs; once more if GitHub's clock
// turns out to be another one.
func (a *installed) ask(ctx context.Context, c *Client, req *request, out any) error {
	for again := true; ; again = false {
		signed, err := a.sign()
		if err != nil {
			return err
		}
		req.authorization = "Bearer " + signed
		header, err := c.send(ctx, req, out)
		if e, ok := errors.AsType[*statusError](err); !ok || e.status != http.StatusUnauthorized {
			return err
		}
		date, dateErr := http.ParseTime(header.Get("Date"))
		if dateErr != nil {
			return err
		}
		a.mu.Lock()
		before := a.skew
		skew := date.Sub(a.now()).Round(time.Second)
		a.skew = skew
		a.mu.Unlock()
		if again && (skew-before).Abs() >= skewMatters {
			continue
		}
		if skew.Abs() >= skewMatters {
			err = fmt.Errorf("%w; GitHub's clock is %s from this one", err, skew)
		}
		return err
	}
}

// sign makes a JSON web token (RFC 7519, RS256).
func (a *installed) sign() (string, error) {
	a.mu.Lock()
	now := a.now().Add(a.skew)
	a.mu.Unlock()
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-issuedBefore).Unix(), "exp": now.Add(signedFor).Unix(), "iss": a.id})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, a.key(), crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	text += "." + base64.RawURLEncoding.EncodeToString(signature)
	a.mu.Lock()
	a.signed = func() string { return text }
	a.mu.Unlock()
	return text, nil
}
