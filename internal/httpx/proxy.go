package httpx

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// ProxyFromEnv gives the proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or
// these in lower case, name; getenv is such as [os.Getenv] and asked now. A
// proxy without a scheme is http. NO_PROXY lists what is reached directly,
// separated by commas: hosts (with all below them), domains (.example: only
// what is below), addresses, networks (10.0.0.0/8), each perhaps with :PORT, or
// * for everything. localhost and loopback addresses are always direct.
func ProxyFromEnv(getenv func(string) string) (func(*http.Request) (*url.URL, error), error) {
	get := func(name string) string {
		if value := getenv(name); value != "" {
			return value
		}
		return getenv(strings.ToLower(name))
	}
	proxies := map[string]*url.URL{}
	for _, scheme := range []string{"http", "https"} {
		name := strings.ToUpper(scheme) + "_PROXY"
		value := get(name)
		if value == "" || scheme == "http" && getenv("REQUEST_METHOD") != "" {
			// In a CGI program HTTP_PROXY is a header that anybody can send.
			continue
		}
		if !strings.Contains(value, "://") {
			value = "http://" + value
		}
		u, err := url.Parse(value)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("%s is no URL", name) // it may hold a password
		}
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return nil, fmt.Errorf("%s: no proxy speaks %.20q", name, u.Scheme)
		}
		proxies[scheme] = u
	}
	direct := parseNoProxy(get("NO_PROXY"))
	return func(req *http.Request) (*url.URL, error) {
		proxy := proxies[req.URL.Scheme]
		if proxy == nil || direct.matches(req.URL) {
			return nil, nil
		}
		return proxy, nil
	}, nil
}

// noProxy is a parsed NO_PROXY.
type noProxy struct {
	all   bool
	rules []noProxyRule
}

type noProxyRule struct {
	port   string // "": any
	host   string // a name or address
	below  bool   // names below host match
	itself bool   // host matches
	net    netip.Prefix
}

func parseNoProxy(text string) noProxy {
	out := noProxy{rules: make([]noProxyRule, 0, 1+strings.Count(text, ","))} // as a list that grows takes five times as much
	for part := range strings.SplitSeq(text, ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		if part == "" {
			continue
		}
		if part == "*" {
			out.all = true
			continue
		}
		if prefix, err := netip.ParsePrefix(part); err == nil {
			out.rules = append(out.rules, noProxyRule{net: prefix.Masked()})
			continue
		}
		rule := noProxyRule{host: part}
		if _, err := netip.ParseAddr(part); err != nil {
			if host, port, err := net.SplitHostPort(part); err == nil {
				rule.host, rule.port = host, port
			}
		}
		rule.host = strings.Trim(rule.host, "[]")
		if ip, err := netip.ParseAddr(rule.host); err == nil {
			rule.host, rule.itself = ip.String(), true
		} else if name, ok := strings.CutPrefix(strings.TrimPrefix(rule.host, "*"), "."); ok {
			rule.host, rule.below = name, true
		} else {
			rule.below, rule.itself = true, true
		}
		out.rules = append(out.rules, rule)
	}
	return out
}

func (n noProxy) matches(u *url.URL) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ip, err := netip.ParseAddr(host)
	if err == nil {
		ip = ip.Unmap()
		host = ip.String()
	}
	if n.all || host == "localhost" || ip.IsLoopback() {
		return true
	}
	for _, r := range n.rules {
		switch {
		case r.net.IsValid():
			if ip.IsValid() && r.net.Contains(ip) {
				return true
			}
		case r.port != "" && r.port != port:
		case r.itself && host == r.host, r.below && !ip.IsValid() && strings.HasSuffix(host, "."+r.host):
			return true
		}
	}
	return false
}
