package remoteregistry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// guard refuses plain HTTP to hosts for which it was not allowed, wherever the
// request comes from: a ping, a redirect, a token server or an upload location.
// It also gives a request that is sent again, with a new token, its body again.
type guard struct {
	next http.RoundTripper

	mu       sync.RWMutex
	insecure []string
}

// allow adds a host, as host or host:port.
func (g *guard) allow(host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.insecure, host) {
		g.insecure = append(g.insecure, host)
	}
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.plainAllowed(req.URL.Host) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("plain %.20q to %s is not allowed: name the host as insecure", req.URL.Scheme, req.URL.Host)
	}
	// A redirect keeps the body of a POST, and to a token server that is a secret.
	if from := req.Response; from != nil && req.Body != nil && from.Request != nil && from.Request.URL.Host != req.URL.Host {
		req.Body.Close()
		return nil, fmt.Errorf("%s sends a request with a body on to %s: %w", from.Request.URL.Host, req.URL.Host, fs.ErrPermission)
	}
	if req.Body == nil || req.GetBody == nil {
		return g.next.RoundTrip(req)
	}
	fresh, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	req.Body.Close()
	out := req.Clone(req.Context())
	out.Body = fresh
	resp, err := g.next.RoundTrip(out)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// plainAllowed reports whether host, with or without port, is insecure by
// option or loopback.
func (g *guard) plainAllowed(host string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	bare = strings.Trim(bare, "[]")
	if slices.Contains(g.insecure, host) || slices.Contains(g.insecure, bare) {
		return true
	}
	if ip := net.ParseIP(bare); ip != nil {
		return ip.IsLoopback()
	}
	return bare == "localhost" || strings.HasSuffix(bare, ".localhost")
}

// session is what was agreed with a registry for one set of scopes.
type session struct {
	busy chan struct{} // one handshake at a time, and waiting ends with ctx
	http *http.Client
	base string // scheme://host
	auth authn.Authenticator
}

// greeting is how a registry wants to be spoken to.
type greeting struct {
	busy      chan struct{} // as above
	registry  name.Registry
	challenge *transport.Challenge
}

// client speaks to one repository, or to a registry as a whole.
type client struct {
	registry *Registry
	repo     name.Repository // zero for a registry as a whole
	http     *http.Client
	base     string
	auth     authn.Authenticator
}

// client authenticates for repo with the scope action and for reading from the
// repositories from, once for each set of them.
func (r *Registry) client(ctx context.Context, repo name.Repository, action string, from ...name.Repository) (*client, error) {
	if err := checkRepository(repo); err != nil {
		return nil, err
	}
	scopes := []string{repo.Scope(action)}
	for _, f := range from {
		scopes = append(scopes, f.Scope(transport.PullScope))
	}
	c, err := r.connect(ctx, repo, repo.Registry, scopes)
	if err != nil {
		return nil, err
	}
	c.repo = repo
	return c, nil
}

// connect gives a client with scopes, under the credentials for target.
func (r *Registry) connect(ctx context.Context, target authn.Resource, reg name.Registry, scopes []string) (*client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := target.String() + " " + strings.Join(scopes, " ")
	r.mu.Lock()
	s := r.sessions[key]
	if s == nil {
		s = &session{busy: make(chan struct{}, 1)}
		r.sessions[key] = s
	}
	r.mu.Unlock()
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.http == nil {
		auth, err := authn.Resolve(ctx, r.keychain, target)
		if err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		rt, base, err := r.handshake(ctx, auth, reg, scopes)
		if err != nil {
			return nil, fmt.Errorf("authenticate: %w", refused(ctx, clean(err), auth))
		}
		s.http, s.base, s.auth = &http.Client{Transport: rt, CheckRedirect: redirect}, base, auth
	}
	return &client{registry: r, http: s.http, base: s.base, auth: s.auth}, nil
}

// redirect follows redirects of requests that read; an upload goes on where a
// Location header says, not where a redirect does.
func redirect(req *http.Request, via []*http.Request) error {
	if first := via[0].Method; first != http.MethodGet && first != http.MethodHead {
		return http.ErrUseLastResponse
	}
	return httpx.CheckRedirect(req, via)
}

// greet asks once how a registry wants to be spoken to.
func (r *Registry) greet(ctx context.Context, reg name.Registry) (name.Registry, *transport.Challenge, error) {
	r.mu.Lock()
	g := r.greetings[reg.RegistryStr()]
	if g == nil {
		g = &greeting{busy: make(chan struct{}, 1)}
		r.greetings[reg.RegistryStr()] = g
	}
	r.mu.Unlock()
	select {
	case g.busy <- struct{}{}:
		defer func() { <-g.busy }()
	case <-ctx.Done():
		return reg, nil, ctx.Err()
	}
	if g.challenge != nil {
		return g.registry, g.challenge, nil
	}
	if r.guard.plainAllowed(reg.RegistryStr()) {
		insecure, err := name.NewRegistry(reg.RegistryStr(), name.Insecure)
		if err != nil {
			return reg, nil, err
		}
		reg = insecure
	}
	challenge, err := transport.Ping(ctx, reg, r.rt)
	if err != nil {
		if ctx.Err() != nil {
			return reg, nil, ctx.Err()
		}
		return reg, nil, bothFailed(err)
	}
	g.registry, g.challenge = reg, challenge
	return reg, challenge, nil
}

// bothFailed keeps why HTTPS failed beside what plain HTTP was answered: the
// protocol library puts them into one text.
func bothFailed(err error) error {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		if first, _, both := strings.Cut(err.Error(), "; "+e.Error()); both {
			return fmt.Errorf("%w (without TLS; with it: %s)", clean(e), printable(first, nil))
		}
	}
	return err
}

// handshake gets a token where the registry wants one.
func (r *Registry) handshake(ctx context.Context, auth authn.Authenticator, reg name.Registry, scopes []string) (http.RoundTripper, string, error) {
	reg, challenge, err := r.greet(ctx, reg)
	if err != nil {
		return nil, "", err
	}
	base := "https://" + reg.RegistryStr()
	if challenge.Insecure {
		base = "http://" + reg.RegistryStr()
	}
	token := &transport.Token{}
	if strings.EqualFold(challenge.Scheme, "bearer") {
		config, err := authn.Authorization(ctx, auth)
		if err != nil {
			return nil, "", err
		}
		if token.Token = config.RegistryToken; token.Token == "" {
			if token, err = transport.Exchange(ctx, reg, auth, r.rt, scopes, challenge); err != nil {
				if _, ok := errors.AsType[*transport.Error](err); !ok && strings.HasPrefix(err.Error(), "no token in ") {
					// The rest of its text is the server's answer.
					err = errors.New("token server sent no token")
				}
				return nil, "", err
			}
			if token.Token == "" {
				token.Token = token.AccessToken
			}
		}
	}
	rt, err := transport.FromToken(reg, auth, newOneLogin(r.rt, challenge.Parameters["realm"]), challenge, token)
	return rt, base, err
}

// url is the address of something in the repository.
func (c *client) url(elem ...string) string {
	return c.base + "/v2/" + c.repo.RepositoryStr() + "/" + strings.Join(elem, "/")
}

// body is what a request carries.
type body struct {
	reader io.ReadCloser
	again  func() (io.ReadCloser, error) // nil: cannot be sent twice
	size   int64
}

// bytesBody is data, as often as it is wanted.
func bytesBody(data []byte) *body {
	again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return &body{reader: io.NopCloser(bytes.NewReader(data)), again: again, size: int64(len(data))}
}

// do sends a request and wants one of the statuses. The caller closes the
// response's body. Errors hold no URL that could be a secret.
func (c *client) do(ctx context.Context, method, target string, header http.Header, b *body, want ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: address cannot be used", method)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	if b != nil {
		req.Body, req.GetBody, req.ContentLength = b.reader, b.again, b.size
		if b.size == 0 {
			req.Body, req.GetBody = http.NoBody, nil
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s %s: %w", method, httpx.RedactURL(req.URL), refused(ctx, clean(err), c.auth))
	}
	if !slices.Contains(want, resp.StatusCode) {
		defer resp.Body.Close()
		return resp, refused(ctx, newStatusError(resp), c.auth)
	}
	return resp, nil
}

// document gets a document of at most limit bytes. One that breaks off is asked
// for again: the transport, which repeats requests, does not see that.
func (c *client) document(ctx context.Context, target string, header http.Header, limit int64) (*http.Response, []byte, error) {
	for attempt := 1; ; attempt++ {
		resp, err := c.do(ctx, http.MethodGet, target, header, nil, http.StatusOK)
		if err != nil {
			return nil, nil, err
		}
		data, err := httpx.ReadBody(resp.Body, limit)
		resp.Body.Close()
		if err == nil {
			return resp, data, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if !httpx.Temporary(err) || attempt >= c.registry.opts.Attempts {
			return nil, nil, fmt.Errorf("GET %s: %w", httpx.RedactURL(resp.Request.URL), err)
		}
		if err := c.registry.wait(ctx, attempt, err); err != nil {
			return nil, nil, err
		}
	}
}

// accept lists the kinds of manifest that are understood.
var accept = []string{strings.Join([]string{
	string(types.OCIManifestSchema1), string(types.OCIImageIndex),
	string(types.DockerManifestSchema2), string(types.DockerManifestList),
}, ", ")}

// head describes the manifest of a tag or digest from the headers alone where
// the server gives them, else from its bytes.
func (c *client) head(ctx context.Context, id string) (*v1.Descriptor, error) {
	resp, err := c.do(ctx, http.MethodHead, c.url("manifests", id), http.Header{"Accept": accept}, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	desc, err := describe(resp, id)
	if err != nil {
		return nil, err
	}
	if desc.Digest == (v1.Hash{}) || desc.Size < 0 || !desc.MediaType.IsImage() && !desc.MediaType.IsIndex() {
		full, _, err := c.manifest(ctx, id, v1.Descriptor{})
		if err != nil {
			return nil, err
		}
		return &full, nil
	}
	return &desc, nil
}

// describe reads a manifest's descriptor from the headers of a response. What
// they do not say is left zero, a size that is missing is -1.
func describe(resp *http.Response, id string) (v1.Descriptor, error) {
	desc := v1.Descriptor{Size: resp.ContentLength}
	// Only the four kinds count: some servers send text/plain or JSON's type.
	if mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		if mt := types.MediaType(mt); mt.IsImage() || mt.IsIndex() || mt.IsSchema1() {
			desc.MediaType = mt
		}
	}
	want, isDigest := v1.NewHash(id)
	if text := resp.Header.Get("Docker-Content-Digest"); text != "" {
		said, err := v1.NewHash(text)
		if err != nil {
			return desc, fmt.Errorf("Docker-Content-Digest: %w", err)
		}
		desc.Digest = said
	}
	if isDigest == nil {
		if desc.Digest != (v1.Hash{}) && desc.Digest.Algorithm == want.Algorithm && desc.Digest != want {
			return desc, fmt.Errorf("server answers with %s for %s: %w", desc.Digest, want, verify.ErrDigest)
		}
		desc.Digest = want
	}
	return desc, nil
}

// manifest fetches a tag or digest and verifies it against itself, the headers
// and, if it has a digest, against want.
func (c *client) manifest(ctx context.Context, id string, want v1.Descriptor) (v1.Descriptor, []byte, error) {
	resp, raw, err := c.document(ctx, c.url("manifests", id), http.Header{"Accept": accept}, ociimage.MaxManifestSize)
	if errors.Is(err, httpx.ErrTooLarge) {
		err = fmt.Errorf("manifest: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	said, err := describe(resp, id)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if said.Size >= 0 && said.Size != int64(len(raw)) {
		return v1.Descriptor{}, nil, fmt.Errorf("manifest of %d bytes, server promised %d: %w", len(raw), said.Size, verify.ErrDigest)
	}
	digest := said.Digest
	if digest == (v1.Hash{}) {
		digest = sha256Of(raw)
	}
	size := int64(verify.SizeUnknown)
	if want.Digest != (v1.Hash{}) {
		digest, size = want.Digest, want.Size
		if want.MediaType != "" {
			said.MediaType = want.MediaType
		}
	}
	if err := verify.Bytes(raw, digest, size); err != nil {
		return v1.Descriptor{}, nil, err
	}
	mt, err := ociimage.MediaType(raw, said.MediaType)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{MediaType: mt, Digest: digest, Size: int64(len(raw))}, raw, nil
}

func sha256Of(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// putManifest writes a manifest under a tag or its digest and gives the subject
// that the server says it has registered it for. Where other bytes arrived than
// were sent it is sent again, lest a tag stays at them.
func (c *client) putManifest(ctx context.Context, id string, desc v1.Descriptor, raw []byte) (subject string, err error) {
	for attempt := 1; ; attempt++ {
		subject, err = c.putManifestOnce(ctx, id, desc, raw)
		if !errors.Is(err, verify.ErrDigest) || attempt >= maxDamaged {
			return subject, err
		}
	}
}

// maxDamaged is how often a server may get bytes that are not what was sent.
const maxDamaged = 3

func (c *client) putManifestOnce(ctx context.Context, id string, desc v1.Descriptor, raw []byte) (string, error) {
	resp, err := c.do(ctx, http.MethodPut, c.url("manifests", id), http.Header{"Content-Type": {string(desc.MediaType)}},
		bytesBody(raw), http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if err := stored(resp, desc.Digest); err != nil {
		return "", err
	}
	return resp.Header.Get("OCI-Subject"), nil
}

// stored compares the digest that a server says it stored.
func stored(resp *http.Response, want v1.Hash) error {
	if text := resp.Header.Get("Docker-Content-Digest"); strings.HasPrefix(text, want.Algorithm+":") && text != want.String() {
		return fmt.Errorf("server stored %.100q for %s: %w", text, want, verify.ErrDigest)
	}
	return nil
}

// resolve gives an address from a response relative to its request.
func resolve(resp *http.Response, ref string) (*url.URL, error) {
	u, err := url.Parse(ref)
	if err != nil {
		return nil, errors.New("server sent an address that cannot be parsed")
	}
	if resp.Request != nil && resp.Request.URL != nil {
		u = resp.Request.URL.ResolveReference(u)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("server sent the address %.100q", httpx.RedactURL(u))
	}
	return u, nil
}
