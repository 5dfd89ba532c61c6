package httpstore_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/httpstore"
)

// TestPythonServer reads from a server that is not Go's, and knows neither
// ranges nor ETags, through a line that breaks.
func TestPythonServer(t *testing.T) {
	interop.Peer(t, "python3")
	dir := t.TempDir()
	data := content(3 << 20)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub dir"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub dir", "disk %41.raw"), data, 0o644))
	cmd := exec.CommandContext(t.Context(), "python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	port := regexp.MustCompile(`port (\d+)`).FindStringSubmatch(line)
	require.Len(t, port, 2, line)
	origin := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port[1])}

	proxy := httputil.NewSingleHostReverseProxy(origin)
	proxy.ErrorLog = nil
	cut := httptest.NewServer(http.HandlerFunc(cutting(2, 1<<20, proxy.ServeHTTP)))
	t.Cleanup(cut.Close)
	for _, base := range []string{origin.String(), cut.URL} {
		s, err := httpstore.New(base, &httpstore.Options{Delay: time.Millisecond})
		require.NoError(t, err)
		got, info, err := read(t, s, "sub dir/disk %41.raw")
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		stat, err := s.Stat(t.Context(), "sub dir/disk %41.raw")
		require.NoError(t, err)
		require.Equal(t, info, stat)
		part, _, err := s.OpenRange(t.Context(), "sub dir/disk %41.raw", 2<<20, 10)
		require.NoError(t, err)
		got, err = io.ReadAll(part)
		require.NoError(t, errors.Join(err, part.Close()))
		require.Equal(t, data[2<<20:2<<20+10], got)
		for _, key := range []string{"sub dir", "missing", "sub dir/disk A.raw"} {
			_, err = s.Stat(t.Context(), key)
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		require.NoError(t, s.Close())
	}
}
