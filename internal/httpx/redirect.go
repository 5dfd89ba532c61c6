package httpx

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// MaxRedirects is how many redirects [CheckRedirect] lets one request follow.
const MaxRedirects = 10

// ErrRedirect says that a server sent a request somewhere it may not go.
var ErrRedirect = errors.New("redirect refused")

// plainHeader are the request headers that may go to another origin; every
// other one may be a credential, or says where the request came from.
var plainHeader = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Content-Type": true, "Range": true, "User-Agent": true,
	"If-Match": true, "If-None-Match": true, "If-Modified-Since": true, "If-Unmodified-Since": true, "If-Range": true,
}

// NewClient is an [http.Client] over rt that follows redirects as
// [CheckRedirect] allows, and keeps no cookies.
func NewClient(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: CheckRedirect}
}

// CheckRedirect is the redirect policy, for [http.Client]: at most
// [MaxRedirects], http and https only, never from https to http. Once a
// request has left the origin (scheme, host and port) it was made for, it goes
// without credentials, those of a URL included, even if it comes back; and
// only GET and HEAD leave. What is not allowed wraps [ErrRedirect].
func CheckRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > MaxRedirects {
		return fmt.Errorf("%w: more than %d", ErrRedirect, MaxRedirects)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return fmt.Errorf("%w: neither http nor https", ErrRedirect)
	}
	first, left := via[0], false
	for _, hop := range append(via[1:len(via):len(via)], req) {
		left = left || origin(hop.URL) != origin(first.URL)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to http", ErrRedirect)
	}
	if !left {
		req.URL.User = first.URL.User
		return nil
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return fmt.Errorf("%w: %s to another host", ErrRedirect, req.Method)
	}
	req.URL.User = nil
	for name := range req.Header {
		if !plainHeader[name] {
			delete(req.Header, name)
		}
	}
	return nil
}

// origin is u's scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
