package httpx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Limits of certificate folders.
const (
	// MaxCertSize is the size of the largest certificate or key file, bytes.
	MaxCertSize = 1 << 20

	maxCertHosts = 10_000 // folders of hosts
	maxCertFiles = 1000   // in a folder
)

// BaseTransport is the standard library's transport with bounds on dialling
// and without transparent decompression, which would change the bytes that a
// digest is of. It uses the proxies that the environment of the process names;
// [NewBase] uses those it is given.
func BaseTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    15 * time.Second,
		ExpectContinueTimeout:  time.Second,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 1 << 20,
	}
}

// BaseOptions of [NewBase]. The zero value is the default of each field.
type BaseOptions struct {
	// Proxy gives the proxy of a request, such as [ProxyFromEnv]; nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// CABundle holds certificates in PEM, trusted for every host beside the
	// system's; nil: the system's alone.
	CABundle []byte
	// CertDirs are folders as containers-certs.d(5) has them: below each, a
	// folder named HOST or HOST:PORT with authorities (*.crt), trusted for
	// this host beside all others, and pairs of client certificate (*.cert)
	// and key (*.key). Folders that do not exist are skipped; a host's folder
	// is taken from the first that has one. Which hosts there are is read at
	// once, a host's files when it is first spoken to.
	CertDirs []string
}

// Base is a transport with proxies, authorities and client certificates as
// [BaseOptions] say. It may be used from any goroutine.
type Base struct {
	plain *http.Transport
	roots *x509.CertPool // nil: the system's
	hosts map[string]*certHost
}

// certHost is a host with a folder of its own.
type certHost struct {
	dir string

	mu  sync.Mutex
	t   *http.Transport // nil: not spoken to yet
	err error
}

// NewBase makes a transport. opts may be nil.
func NewBase(opts *BaseOptions) (*Base, error) {
	if opts == nil {
		opts = &BaseOptions{}
	}
	b := &Base{plain: BaseTransport(), hosts: map[string]*certHost{}}
	b.plain.Proxy = opts.Proxy
	if opts.CABundle != nil {
		b.roots = systemRoots()
		if !b.roots.AppendCertsFromPEM(opts.CABundle) {
			return nil, errors.New("bundle of authorities holds no certificate in PEM")
		}
		b.plain.TLSClientConfig = &tls.Config{RootCAs: b.roots, MinVersion: tls.VersionTLS12}
	}
	for _, dir := range opts.CertDirs {
		entries, err := readDir(dir, maxCertHosts)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("folder of certificates: %w", err)
		}
		for _, entry := range entries {
			name := strings.ToLower(entry.Name())
			if _, ok := b.hosts[name]; !ok {
				b.hosts[name] = &certHost{dir: filepath.Join(dir, entry.Name())}
			}
		}
	}
	return b, nil
}

// systemRoots are the system's authorities, or none where it has none.
func systemRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return pool
}

// RoundTrip sends req once.
func (b *Base) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := b.transport(req.URL)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return t.RoundTrip(req)
}

// CloseIdleConnections closes connections that are not in use.
func (b *Base) CloseIdleConnections() {
	b.plain.CloseIdleConnections()
	for _, h := range b.hosts {
		h.mu.Lock()
		if h.t != nil {
			h.t.CloseIdleConnections()
		}
		h.mu.Unlock()
	}
}

// transport is that of the URL's host.
func (b *Base) transport(u *url.URL) (*http.Transport, error) {
	if u.Scheme != "https" || len(b.hosts) == 0 {
		return b.plain, nil
	}
	host := strings.ToLower(u.Host)
	h := b.hosts[host]
	if h == nil && u.Port() == "" {
		h = b.hosts[host+":443"]
	} else if h == nil && u.Port() == "443" {
		h = b.hosts[strings.TrimSuffix(host, ":443")]
	}
	if h == nil {
		return b.plain, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.t == nil && h.err == nil {
		config, err := b.load(h.dir)
		if err != nil {
			h.err = fmt.Errorf("certificates of %s: %w", host, err)
			return nil, h.err
		}
		h.t = b.plain.Clone()
		h.t.TLSClientConfig = config
	}
	return h.t, h.err
}

// load reads a host's folder.
func (b *Base) load(dir string) (*tls.Config, error) {
	entries, err := readDir(dir, maxCertFiles)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: b.roots, MinVersion: tls.VersionTLS12}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		stem, suffix := strings.TrimSuffix(path, filepath.Ext(path)), filepath.Ext(path)
		switch suffix {
		case ".crt":
			data, err := readCert(path)
			if err != nil {
				return nil, err
			}
			if config.RootCAs == b.roots {
				if config.RootCAs = systemRoots(); b.roots != nil {
					config.RootCAs = b.roots.Clone()
				}
			}
			if !config.RootCAs.AppendCertsFromPEM(data) {
				return nil, fmt.Errorf("%s holds no certificate in PEM", path)
			}
		case ".cert":
			cert, err := readCert(path)
			if err != nil {
				return nil, err
			}
			key, err := readCert(stem + ".key")
			if err != nil {
				return nil, fmt.Errorf("key of %s: %w", path, err)
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return nil, fmt.Errorf("%s and its key: %w", path, err)
			}
			config.Certificates = append(config.Certificates, pair)
		case ".key":
			if _, err := os.Stat(stem + ".cert"); err != nil {
				return nil, fmt.Errorf("certificate of %s: %w", path, err)
			}
		}
	}
	return config, nil
}

// readDir reads a folder of at most limit entries, sorted by name.
func readDir(dir string, limit int) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > limit {
		err = fmt.Errorf("%s: more than %d entries", dir, limit)
	}
	return entries, err
}

// readCert reads a regular file, perhaps behind a symbolic link, as mounted
// secrets are.
func readCert(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxCertSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxCertSize {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, MaxCertSize)
	}
	return data, nil
}
