package httpx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/httpx"
)

// certified is a server that wants a client certificate where clients is set,
// and its authority in PEM.
func certified(t *testing.T, clients *x509.CertPool) (url, authority string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "fine") }))
	if clients != nil {
		server.TLS = &tls.Config{ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func clientCert(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	pool = x509.NewCertPool()
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.True(t, pool.AppendCertsFromPEM([]byte(cert)))
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), pool
}

// write makes files of a folder.
func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func base(t *testing.T, opts *httpx.BaseOptions) *http.Client {
	t.Helper()
	b, err := httpx.NewBase(opts)
	require.NoError(t, err)
	t.Cleanup(b.CloseIdleConnections)
	return httpx.NewClient(b)
}

func TestCertificatesOfAHost(t *testing.T) {
	cert, key, pool := clientCert(t)
	open, authority := certified(t, nil)
	closed, _ := certified(t, pool) // the same authority
	openHost, closedHost := strings.TrimPrefix(open, "https://"), strings.TrimPrefix(closed, "https://")
	dirs := []string{filepath.Join(t.TempDir(), "missing"), write(t, t.TempDir(), map[string]string{
		openHost + "/ca.crt": authority,
	}), write(t, t.TempDir(), map[string]string{
		openHost + "/ca.crt":         "an earlier folder wins",
		closedHost + "/ca.crt":       authority,
		closedHost + "/client.cert":  cert,
		closedHost + "/client.key":   key,
		closedHost + "/README":       "not a certificate",
		"broken.example/client.cert": cert,
	})}

	_, err := get(t, base(t, nil), open)
	require.ErrorContains(t, err, "x509")

	c := base(t, &httpx.BaseOptions{CertDirs: dirs})
	for _, url := range []string{open, closed, open} {
		data, err := get(t, c, url)
		require.NoError(t, err, url)
		require.Equal(t, "fine", string(data))
	}
	c.CloseIdleConnections()
	_, err = get(t, c, closed)
	require.NoError(t, err, "still usable")
	for range 2 {
		_, err = get(t, c, "https://broken.example/x")
		require.ErrorContains(t, err, "certificates of broken.example: key of ")
	}

	// An authority for all is none of a client's certificate.
	c = base(t, &httpx.BaseOptions{CABundle: []byte(authority)})
	_, err = get(t, c, open)
	require.NoError(t, err)
	_, err = get(t, c, closed)
	require.ErrorContains(t, err, "tls")
	// Both at once.
	c = base(t, &httpx.BaseOptions{CABundle: []byte(authority), CertDirs: []string{write(t, t.TempDir(), map[string]string{
		closedHost + "/client.cert": cert, closedHost + "/client.key": key, openHost + "/other.crt": cert,
	})}})
	for _, url := range []string{open, closed} {
		_, err = get(t, c, url)
		require.NoError(t, err)
	}
}

func TestBadCertificates(t *testing.T) {
	cert, key, _ := clientCert(t)
	_, otherKey, _ := clientCert(t)
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no PEM":          {map[string]string{"h/ca.crt": "junk"}, "holds no certificate"},
		"empty":           {map[string]string{"h/ca.crt": ""}, "holds no certificate"},
		"too large":       {map[string]string{"h/ca.crt": strings.Repeat("x", httpx.MaxCertSize+1)}, "too large"},
		"key alone":       {map[string]string{"h/client.key": key}, "certificate of "},
		"other key":       {map[string]string{"h/client.cert": cert, "h/client.key": otherKey}, "does not match"},
		"folder":          {map[string]string{"h/ca.crt/x": cert}, "not a regular file"},
		"file for a host": {map[string]string{"h": cert}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			c := base(t, &httpx.BaseOptions{CertDirs: []string{write(t, t.TempDir(), test.files)}})
			_, err := get(t, c, "https://h/x")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "PRIVATE")
		})
	}
	_, err := httpx.NewBase(&httpx.BaseOptions{CABundle: []byte("junk")})
	require.ErrorContains(t, err, "holds no certificate")
	_, err = httpx.NewBase(&httpx.BaseOptions{CertDirs: []string{write(t, t.TempDir(), map[string]string{"x": ""}) + "/x"}})
	require.ErrorContains(t, err, "folder of certificates")
}

func TestBaseUsesTheProxyItIsGiven(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "through the proxy: "+r.URL.String())
	}))
	t.Cleanup(proxy.Close)
	choose, err := httpx.ProxyFromEnv(env(map[string]string{"HTTP_PROXY": proxy.URL}))
	require.NoError(t, err)
	data, err := get(t, base(t, &httpx.BaseOptions{Proxy: choose}), "http://unknown.example/x")
	require.NoError(t, err)
	require.Equal(t, "through the proxy: http://unknown.example/x", string(data))
}

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestProxyFromEnv(t *testing.T) {
	choose, err := httpx.ProxyFromEnv(env(map[string]string{
		"http_proxy": "proxy.example:3128", "HTTPS_PROXY": "https://u:s3cr3t@secure.example",
		"NO_PROXY": " direct.example , .below.example,*.star.example,10.0.0.0/8,fd00::/8,192.0.2.7,[2001:db8::1]:8443,port.example:5000,,2001:db8::2",
	}))
	require.NoError(t, err)
	for address, want := range map[string]string{
		"http://a.example/":           "proxy.example:3128",
		"https://a.example/":          "secure.example",
		"https://direct.example/":     "",
		"https://sub.direct.example/": "",
		"https://DIRECT.example./":    "",
		"https://indirect.example/":   "secure.example",
		"https://below.example/":      "secure.example",
		"https://x.below.example/":    "",
		"https://star.example/":       "secure.example",
		"https://y.star.example/":     "",
		"https://10.1.2.3/":           "",
		"https://11.1.2.3/":           "secure.example",
		"https://[::ffff:10.1.2.3]/":  "",
		"https://[fd00::1]/":          "",
		"https://192.0.2.7:99/":       "",
		"https://[2001:db8::1]/":      "secure.example",
		"https://[2001:db8::1]:8443/": "",
		"https://[2001:db8::2]/":      "",
		"https://port.example/":       "secure.example",
		"https://port.example:5000/":  "",
		"http://localhost:5000/":      "",
		"http://127.0.0.9/":           "",
		"http://[::1]:80/":            "",
		"ftp://a.example/":            "",
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		proxy, err := choose(&http.Request{URL: u})
		require.NoError(t, err)
		got := ""
		if proxy != nil {
			got = proxy.Host
		}
		require.Equal(t, want, got, address)
	}
	choose, err = httpx.ProxyFromEnv(env(map[string]string{"HTTP_PROXY": "p.example", "no_proxy": "*"}))
	require.NoError(t, err)
	proxy, err := choose(&http.Request{URL: &url.URL{Scheme: "http", Host: "a.example"}})
	require.NoError(t, err)
	require.Nil(t, proxy)
	// HTTP_PROXY of a CGI program comes from whoever sends the request.
	choose, err = httpx.ProxyFromEnv(env(map[string]string{"HTTP_PROXY": "p.example", "REQUEST_METHOD": "GET"}))
	require.NoError(t, err)
	proxy, err = choose(&http.Request{URL: &url.URL{Scheme: "http", Host: "a.example"}})
	require.NoError(t, err)
	require.Nil(t, proxy)
	for _, bad := range []string{"http://u:s3cr3t@%zz", "ftp://s3cr3t.example", "http://"} {
		_, err = httpx.ProxyFromEnv(env(map[string]string{"HTTPS_PROXY": bad}))
		require.ErrorContains(t, err, "HTTPS_PROXY")
		require.NotContains(t, err.Error(), "s3cr3t")
	}
}

func FuzzProxyFromEnv(f *testing.F) {
	f.Add("proxy.example", "direct.example,10.0.0.0/8,[::1]:80,*", "https://a.example/")
	f.Fuzz(func(t *testing.T, proxy, no, address string) {
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		var choose func(*http.Request) (*url.URL, error)
		fuzzbound.Linear(t, len(proxy)+len(no), 256, func() {
			choose, err = httpx.ProxyFromEnv(env(map[string]string{"HTTPS_PROXY": proxy, "NO_PROXY": no}))
		})
		if err != nil {
			return
		}
		if got, err := choose(&http.Request{URL: u}); err != nil || got != nil && u.Scheme != "https" {
			t.Fatalf("%v, %v", got, err)
		}
	})
}
