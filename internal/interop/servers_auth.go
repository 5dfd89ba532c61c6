package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Accounts of [PasswordRegistry] and of an [Issuer].
const (
	CoreUser, CorePassword       = "core", "open-sesame"
	BuilderUser, BuilderPassword = "builder", "open-barley"
)

// htpasswd holds both accounts, with bcrypt's smallest cost.
const htpasswd = CoreUser + ":$2b$04$3t2JLgUzMlQNtNJ0TLzkxOERc9o8fnR1p3RXwnbc0lHWHMdRkhDhG\n" +
	BuilderUser + ":$2b$04$GpaJC5apLv2Gwf8H5XPMzOOkZqrcsNHFU.oQ4.Auf2Z9R5H6E/im6\n"

// startAuthRegistry is [StartRegistry] with authentication, as YAML.
func startAuthRegistry(ctx context.Context, dir, auth string) (*Server, error) {
	return start(ctx, func(host string) (*exec.Cmd, error) {
		config := filepath.Join(dir, "config.yml")
		text := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %q}\n"+
			"  delete: {enabled: true}\n  cache: {blobdescriptor: inmemory}\nhttp: {addr: %q}\nauth: %s\n", filepath.Join(dir, "registry"), host, auth)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command("docker-registry", "serve", config)
		cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
		return cmd, nil
	})
}

// StartPasswordRegistry is [StartRegistry] with a htpasswd file of both accounts.
func StartPasswordRegistry(ctx context.Context, dir string) (*Server, error) {
	file := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
		return nil, fmt.Errorf("interop: %w", err)
	}
	return startAuthRegistry(ctx, dir, fmt.Sprintf("{htpasswd: {realm: sample, path: %q}}", file))
}

// PasswordRegistry runs an empty docker-registry with both accounts until t
// ends and gives its host:port. It is gated like [Peer].
func PasswordRegistry(t testing.TB) string {
	t.Helper()
	Peer(t, "docker-registry")
	return keep(t, func(ctx context.Context) (*Server, error) { return StartPasswordRegistry(ctx, t.TempDir()) }).Host
}

// leeway is what docker-registry adds to the end of a token's life.
const leeway = time.Minute

// Rules of an [Issuer].
type Rules struct {
	// Allow says what a user may do in a repository, action being pull, push
	// or delete; the user "" is anonymous. nil: core everything, builder what
	// is below build/, everyone pulls what is below public/.
	Allow func(user, repository, action string) bool
	// Lifetime is how long a registry takes a token, counted in whole seconds;
	// 0: five minutes. FirstLifetime is that of the first token for some
	// repositories after Set; 0: as the others.
	Lifetime, FirstLifetime time.Duration
	// Refuse refuses every request for a token with this status; 0: none.
	Refuse int
	// Secret is added to the message of a refusal, as careless servers do.
	Secret bool
}

// TokenRequest is a request that an [Issuer] answered.
type TokenRequest struct {
	User    string
	Scopes  []string // as they were sent
	Refresh bool     // with an identity token
	Status  int
}

// Issuer is a token server: docker-registry trusts its signature. It speaks
// both protocols of the distribution project, GET with basic authentication and
// POST with an identity token.
type Issuer struct {
	// URL is the realm. Its host is a name: go-containerregistry wants no
	// address other than the registry's own there.
	URL string

	key  *ecdsa.PrivateKey
	cert []byte // DER

	mu       sync.Mutex
	rules    Rules
	requests []TokenRequest
	known    map[string]bool // repositories of tokens since Set
}

const (
	issuerName    = "sample-issuer"
	issuerService = "sample-registry"
	identityToken = "identity-of-"
)

// IdentityToken is what stands for user's password in the POST protocol.
func (i *Issuer) IdentityToken(user string) string { return identityToken + user }

// Set replaces the rules.
func (i *Issuer) Set(rules Rules) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules, i.known = rules, map[string]bool{}
}

// Requests are those answered so far.
func (i *Issuer) Requests() []TokenRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.requests)
}

// TokenRegistry runs an empty docker-registry that wants tokens of the issuer
// it also gives, until t ends. It is gated like [Peer].
func TokenRegistry(t testing.TB) (host string, issuer *Issuer) {
	t.Helper()
	Peer(t, "docker-registry")
	issuer, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	issuer.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/token"
	dir := t.TempDir()
	bundle := filepath.Join(dir, "issuer.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.cert}), 0o600); err != nil {
		t.Fatal(err)
	}
	auth := fmt.Sprintf("{token: {realm: %q, service: %s, issuer: %s, rootcertbundle: %q}}", issuer.URL, issuerService, issuerName, bundle)
	return keep(t, func(ctx context.Context) (*Server, error) { return startAuthRegistry(ctx, dir, auth) }).Host, issuer
}

func newIssuer() (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("interop: issuer: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: issuerName}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("interop: issuer: %w", err)
	}
	return &Issuer{key: key, cert: cert}, nil
}

// ServeHTTP answers a request for a token.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := TokenRequest{Status: http.StatusOK}
	ok := true
	if r.Method == http.MethodPost {
		request.Refresh = true
		request.User, ok = strings.CutPrefix(r.PostFormValue("refresh_token"), identityToken)
		ok = ok && r.PostFormValue("grant_type") == "refresh_token" && r.PostFormValue("client_id") != ""
	} else if user, password, has := r.BasicAuth(); has {
		request.User = user
		ok = user == CoreUser && password == CorePassword || user == BuilderUser && password == BuilderPassword
	}
	if err := r.ParseForm(); err != nil {
		ok = false
	}
	for _, scope := range r.Form["scope"] {
		request.Scopes = append(request.Scopes, strings.Fields(scope)...)
	}
	i.mu.Lock()
	rules := i.rules
	switch {
	case rules.Refuse != 0:
		request.Status = rules.Refuse
	case !ok || r.FormValue("service") != issuerService:
		request.Status = http.StatusUnauthorized
	}
	i.requests = append(i.requests, request)
	if request.Status == http.StatusOK && rules.FirstLifetime != 0 {
		if key := repositories(request.Scopes); !i.known[key] {
			i.known[key] = true
			rules.Lifetime = rules.FirstLifetime
		}
	}
	i.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	if request.Status != http.StatusOK {
		message := "incorrect username or password"
		if rules.Secret {
			_, password, _ := r.BasicAuth()
			message += " " + password + " " + r.PostFormValue("refresh_token")
		}
		w.WriteHeader(request.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": "UNAUTHORIZED", "message": message}}})
		return
	}
	token, err := i.token(request, rules)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := map[string]any{"token": token, "access_token": token, "expires_in": 60, "issued_at": time.Now().UTC().Format(time.RFC3339)}
	if request.Refresh {
		delete(answer, "token")
		answer["scope"] = strings.Join(request.Scopes, " ")
		answer["refresh_token"] = i.IdentityToken(request.User) // again, as some servers do
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// repositories names what scopes are about.
func repositories(scopes []string) string {
	var out []string
	for _, scope := range scopes {
		out = append(out, scope[:max(0, strings.LastIndexByte(scope, ':'))])
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// access is what a token allows in one repository.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// token signs what the rules allow of a request.
func (i *Issuer) token(request TokenRequest, rules Rules) (string, error) {
	allow := rules.Allow
	if allow == nil {
		allow = func(user, repository, action string) bool {
			return user == CoreUser || user == BuilderUser && strings.HasPrefix(repository, "build/") ||
				strings.HasPrefix(repository, "public/") && action == "pull"
		}
	}
	granted := []access{}
	for _, scope := range request.Scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndex(rest, ":")
		if at < 0 {
			continue
		}
		a := access{Type: kind, Name: rest[:at], Actions: []string{}}
		for action := range strings.SplitSeq(rest[at+1:], ",") {
			if kind == "repository" && allow(request.User, a.Name, action) {
				a.Actions = append(a.Actions, action)
			}
		}
		granted = append(granted, a)
	}
	lifetime := rules.Lifetime
	if lifetime == 0 {
		lifetime = 5 * time.Minute
	}
	now := time.Now()
	head, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(i.cert)}})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuerName, "sub": request.User, "aud": issuerService, "jti": rand.Text(),
		"nbf": now.Add(-2 * leeway).Unix(), "iat": now.Unix(), "exp": now.Add(lifetime - leeway).Unix(), "access": granted,
	})
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, hash[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
