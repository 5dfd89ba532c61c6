package linkcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
)

const maxRedirects = 10

// web looks addresses up over HTTP.
type web struct {
	client       *http.Client
	allowPrivate bool
	own          *httpx.Transport // nil: the transport is the caller's
}

func newWeb(transport http.RoundTripper, allowPrivate bool) *web {
	w := &web{allowPrivate: allowPrivate}
	if transport == nil {
		w.own = httpx.NewTransport(guarded(allowPrivate), nil)
		transport = w.own
	}
	w.client = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return &refusedError{fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		req.Header.Del("Referer") // the address before may be a secret
		if err := w.allowed(req.URL); err != nil {
			return &refusedError{"redirects to an address that is refused: " + err.Error()}
		}
		return nil
	}}
	return w
}

func (w *web) close() {
	if w.own != nil {
		w.own.CloseIdleConnections()
	}
}

// allowed judges an address by its text.
func (w *web) allowed(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return &refusedError{fmt.Sprintf("scheme %.20q is neither http nor https", u.Scheme)}
	case u.User != nil:
		return &refusedError{"user in the address"}
	case u.Hostname() == "":
		return &refusedError{"no host"}
	case !w.allowPrivate && privateHost(u.Hostname()):
		return errPrivate
	}
	return nil
}

// look asks for an address: by HEAD, or where read is given, or HEAD isn't
// understood, by GET.
func (w *web) look(ctx context.Context, address string, read func(io.Reader) (found, error)) found {
	u, err := url.Parse(address)
	if err != nil {
		return found{err: &refusedError{"not an address"}}
	}
	u.Fragment, u.RawFragment = "", ""
	if err := w.allowed(u); err != nil {
		return found{err: err}
	}
	if read != nil {
		return w.get(ctx, u, read)
	}
	f, status := w.ask(ctx, u, http.MethodHead)
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		f, _ = w.ask(ctx, u, http.MethodGet)
	}
	return f
}

func (w *web) send(ctx context.Context, u *url.URL, method string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	// The bytes as they lie there, not compressed on the way.
	req.Header.Set("Accept-Encoding", "identity")
	if method == http.MethodGet {
		req.Header.Set("Accept", "*/*")
	}
	resp, err := w.client.Do(req)
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // the address is known
	}
	return resp, err
}

// ask finds existence and size; of an answer to GET nothing is read.
func (w *web) ask(ctx context.Context, u *url.URL, method string) (found, int) {
	resp, err := w.send(ctx, u, method)
	if err != nil {
		return found{err: err}, 0
	}
	defer resp.Body.Close()
	return answer(resp), resp.StatusCode
}

// get reads the whole content.
func (w *web) get(ctx context.Context, u *url.URL, read func(io.Reader) (found, error)) found {
	resp, err := w.send(ctx, u, http.MethodGet)
	if err != nil {
		return found{err: err}
	}
	defer resp.Body.Close()
	told := answer(resp)
	if told.err != nil {
		return told
	}
	f, err := read(resp.Body)
	f.err, f.html = err, told.html
	return f
}

// answer is what status and header say.
func answer(resp *http.Response) found {
	f := found{size: resp.ContentLength}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		f.html = media == "text/html"
	}
	// With HEAD net/http takes the header only where it is the sole one.
	if f.size < 0 {
		if n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
			f.size = n
		}
	}
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound, code == http.StatusGone:
		f.err = fmt.Errorf("status %d: %w", code, fs.ErrNotExist)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		// S3 says so, too, for what is missing in a bucket that may not be listed.
		f.err = fmt.Errorf("status %d: %w", code, fs.ErrPermission)
	default:
		f.err = fmt.Errorf("status %d", code)
	}
	return f
}

var errPrivate = &refusedError{"host is not of the public internet"}

// notPublic are blocks beside those that [netip.Addr] knows: carrier NAT, IETF
// protocols, benchmarks, reserved, and IPv6 that holds an IPv4 address.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("::/96"),
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func privateAddr(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) { // what IPv6-only networks call hosts of IPv4
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return true
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// privateHost judges a host by its name: numbers, and names that never are
// public. Others are judged when they are dialled.
func privateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return privateAddr(ip)
	}
	for _, suffix := range []string{"localhost", ".localhost", ".local", ".internal", ".svc"} {
		if host == suffix || strings.HasPrefix(suffix, ".") && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// hostname takes the port away.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// guarded is the base transport, which does not dial what is not public, but
// the proxies that the environment names.
func guarded(allowPrivate bool) *http.Transport {
	base := httpx.BaseTransport()
	if allowPrivate {
		return base
	}
	var proxies sync.Map // host:port
	proxy := base.Proxy
	base.Proxy = func(req *http.Request) (*url.URL, error) {
		u, err := proxy(req)
		if err == nil && u != nil {
			port := u.Port()
			if port == "" {
				port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
			}
			if port == "" {
				port = "80"
			}
			proxies.Store(net.JoinHostPort(u.Hostname(), port), true)
		}
		return u, err
	}
	plain := base.DialContext
	guard := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ip, err := netip.ParseAddrPort(address)
		if err != nil || privateAddr(ip.Addr()) {
			return errPrivate
		}
		return nil
	}}
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, ok := proxies.Load(address); ok {
			return plain(ctx, network, address)
		}
		conn, err := guard.DialContext(ctx, network, address)
		if refused, ok := errors.AsType[*refusedError](err); ok {
			return nil, refused // not a fault of the network: not tried again
		}
		return conn, err
	}
	return base
}
