package httpx_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/httpx"
)

func TestRedactSecrets(t *testing.T) {
	require.NoError(t, httpx.RedactSecrets(nil, "x"))
	plain := errors.New("plain")
	require.Same(t, plain, httpx.RedactSecrets(plain, "", "other"))
	err := httpx.RedactSecrets(fmt.Errorf("no hunter2 and hunter3 at https://u:p@example.com/?sig=1 now: %w", fs.ErrPermission), "hunter2", "hunter3")
	require.EqualError(t, err, "no REDACTED and REDACTED at https://REDACTED@example.com/?sig=REDACTED now: permission denied")
	require.ErrorIs(t, err, fs.ErrPermission)
}

func TestCheckSameMethod(t *testing.T) {
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/to" {
			return
		}
		http.Redirect(w, r, "/to", status)
	}))
	defer server.Close()
	client := server.Client()
	client.CheckRedirect = httpx.CheckSameMethod
	for _, test := range []struct {
		status int
		method string
		follow bool
	}{
		{http.StatusMovedPermanently, http.MethodPost, false},
		{http.StatusFound, http.MethodPut, false},
		{http.StatusTemporaryRedirect, http.MethodPost, true},
		{http.StatusMovedPermanently, http.MethodGet, true},
	} {
		status = test.status
		req, err := http.NewRequestWithContext(t.Context(), test.method, server.URL, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if test.follow {
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			continue
		}
		require.ErrorIs(t, err, httpx.ErrRedirect)
	}
}
