package remoteregistry_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	s, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	h := httptest.NewUnstartedServer(s)
	h.Config.ErrorLog = log.New(io.Discard, "", 0) // refusals are meant
	h.StartTLS()
	t.Cleanup(func() { h.CloseClientConnections(); h.Close(); require.NoError(t, s.Close()) })
	target := strings.TrimPrefix(h.URL, "https://")
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	certs := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(certs, target), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(certs, target, "ca.crt"), bundle, 0o600))
	img := image(t, 220, 10)
	for what, tc := range map[string]struct {
		opts remoteregistry.Options
		ok   bool
	}{
		"a folder":       {remoteregistry.Options{CertDirs: []string{filepath.Join(certs, "missing"), certs}}, true},
		"a bundle":       {remoteregistry.Options{CABundle: bundle}, true},
		"nothing":        {remoteregistry.Options{}, false},
		"another's only": {remoteregistry.Options{CertDirs: []string{filepath.Join(certs, target)}}, false},
	} {
		tc.opts.Attempts = 1
		r, err := remoteregistry.Open(t.Context(), &tc.opts)
		require.NoError(t, err)
		_, err = r.WriteImage(t.Context(), repository(t, target, "okd/a"), img, nil)
		if tc.ok {
			require.NoError(t, err, what)
		} else {
			require.ErrorContains(t, err, "certificate", what)
		}
	}
	_, err = remoteregistry.Open(t.Context(), &remoteregistry.Options{CABundle: bundle, Transport: http.DefaultTransport})
	require.ErrorContains(t, err, "beside a transport")
	_, err = remoteregistry.Open(t.Context(), &remoteregistry.Options{CABundle: []byte("x")})
	require.Error(t, err)
	require.Equal(t, []string{"/h/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"},
		remoteregistry.CertDirs(func(key string) string { return map[string]string{"HOME": "/h"}[key] }))
}
