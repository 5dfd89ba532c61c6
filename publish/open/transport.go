package open

import (
	"net/http"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// TransportOptions of [Transport]. The zero value is the default of each field.
type TransportOptions struct {
	// Getenv, such as [os.Getenv], is asked once for HTTP_PROXY, HTTPS_PROXY
	// and NO_PROXY (or in lower case); nil: no proxies.
	Getenv func(string) string
	// CABundle holds authorities in PEM, trusted for every host beside the
	// system's; nil: the system's alone.
	CABundle []byte
	// CertDirs are folders as containers-certs.d(5) has them, such as
	// /etc/containers/certs.d: in each a folder HOST or HOST:PORT with
	// authorities (*.crt) and client certificates (*.cert with *.key), files of
	// at most 1 MiB. A host's folder is taken from the first that has one.
	CertDirs []string
}

// Transport makes what carries the HTTP requests of stores and registries: for
// the options named Transport, which may share one. It sends each request
// once; the backends repeat. It has CloseIdleConnections. opts may be nil.
func Transport(opts *TransportOptions) (http.RoundTripper, error) {
	if opts == nil {
		opts = &TransportOptions{}
	}
	base := &httpx.BaseOptions{CABundle: opts.CABundle, CertDirs: opts.CertDirs}
	fault := func(err error) (http.RoundTripper, error) {
		return nil, &publish.Error{Op: "open", Target: "transport", Err: httpx.Redact(err)}
	}
	if opts.Getenv != nil {
		proxy, err := httpx.ProxyFromEnv(opts.Getenv)
		if err != nil {
			return fault(err)
		}
		base.Proxy = proxy
	}
	t, err := httpx.NewBase(base)
	if err != nil {
		return fault(err)
	}
	return t, nil
}
