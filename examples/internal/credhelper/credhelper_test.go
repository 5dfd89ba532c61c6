package credhelper_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/credhelper"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// install puts docker-credential-NAME on PATH, as a shell script.
func install(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestGet(t *testing.T) {
	install(t, "sample", `
test "$1" = get || exit 3
registry=$(cat)
case "$registry" in
known.example) echo '{"ServerURL":"known.example","Username":"core","Secret":"open-sesame"}' ;;
token.example) echo '{"Username":"<token>","Secret":"an-identity"}' ;;
empty.example) echo '{"Username":"","Secret":""}' ;;
unknown.example) echo 'credentials not found in native keychain'; exit 1 ;;
broken.example) echo '{"Secret":"open-sesame"'; exit 1 ;;
nonsense.example) echo 'open-sesame' ;;
locked.example) echo 'the keychain is locked'; echo more; exit 7 ;;
endless.example) exec cat /dev/zero ;;
slow.example) exec sleep 60 ;;
esac
`)
	username, secret, err := credhelper.Get(t.Context(), "sample", "known.example")
	require.NoError(t, err)
	require.Equal(t, "core open-sesame", username+" "+secret)
	username, secret, err = credhelper.Get(t.Context(), "sample", "token.example")
	require.NoError(t, err)
	require.Equal(t, "<token> an-identity", username+" "+secret)

	for _, registry := range []string{"empty.example", "unknown.example"} {
		_, _, err = credhelper.Get(t.Context(), "sample", registry)
		require.ErrorIs(t, err, fs.ErrNotExist, registry)
	}
	for registry, want := range map[string]string{
		"broken.example": "exit status 1", "nonsense.example": "not JSON", "locked.example": `exit status 7: "the keychain is locked"`, "endless.example": "more than",
	} {
		_, _, err = credhelper.Get(t.Context(), "sample", registry)
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, fs.ErrNotExist)
		require.NotContains(t, err.Error(), "sesame")
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = credhelper.Get(ctx, "sample", "slow.example")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A registry is spoken to with what a helper says.
func TestRegistry(t *testing.T) {
	install(t, "sample", `echo "{\"Username\":\"core\",\"Secret\":\"for $(cat)\"}"`)
	var seen atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); ok {
			seen.Store(user + " " + password)
			http.NotFound(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	file := filepath.Join(t.TempDir(), "auth.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"credHelpers": {"`+host+`": "sample"}}`), 0o600))
	registry, err := remoteregistry.Open(t.Context(), &remoteregistry.Options{AuthFile: file, CredentialHelper: credhelper.Get})
	require.NoError(t, err)
	ref, err := name.NewTag(host + "/okd/scos:v1")
	require.NoError(t, err)
	_, err = registry.Head(t.Context(), ref)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, "core for "+host, seen.Load())
}

func TestNoSuchProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := credhelper.Get(t.Context(), "sample", "a.example")
	require.ErrorIs(t, err, exec.ErrNotFound)
	require.False(t, errors.Is(err, fs.ErrNotExist), "it must not pass for having no credentials")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "docker-credential-broken"), []byte("#!/nowhere/sh\n"), 0o755))
	t.Setenv("PATH", dir)
	_, _, err = credhelper.Get(t.Context(), "broken", "a.example")
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"", "../x", "a/b", "-x", "a b"} {
		_, _, err := credhelper.Get(t.Context(), name, "a.example")
		require.ErrorContains(t, err, "not the name")
	}
}
