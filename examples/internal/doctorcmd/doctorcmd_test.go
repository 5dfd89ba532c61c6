package doctorcmd_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/doctorcmd"
)

type finding struct{ What, State, Found, Advice string }

// examine runs the command and gives its findings by what they are about.
func examine(t *testing.T, args ...string) (map[string]finding, error) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(doctorcmd.Command())
	var out bytes.Buffer
	root.SetArgs(append([]string{"doctor", "--json"}, args...))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	var list []finding
	if out.Len() > 0 {
		require.NoError(t, json.Unmarshal(out.Bytes(), &list), "%s", &out)
	}
	found := map[string]finding{}
	for _, f := range list {
		require.Equal(t, f.State == "ok", f.Advice == "", "%+v", f)
		found[f.What] = f
	}
	return found, err
}

func TestMachine(t *testing.T) {
	state := filepath.Join(t.TempDir(), "not", "there", "yet")
	found, err := examine(t, "--state", state)
	require.NoError(t, err)
	require.Equal(t, "ok", found["folder"].State)
	require.Equal(t, "ok", found["attributes"].State)
	require.NoDirExists(t, state, "nothing is made")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	found, err = examine(t, "--state", file)
	require.ErrorContains(t, err, "checks failed")
	require.Equal(t, "failed", found["folder"].State)
}

func TestProgramsOfAStream(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	found, err := examine(t, "--stream", "okd-scos-next", "--state", t.TempDir(), "--store", "dir:"+filepath.Join(t.TempDir(), "none"), "--registry", "dir:x")
	require.ErrorContains(t, err, "1 of ")
	require.Equal(t, "failed", found["buildah"].State)
	require.Contains(t, found, "kvm")
	found, err = examine(t, "--state", t.TempDir())
	require.NoError(t, err)
	require.Equal(t, "ok", found["buildah"].State)
}

func TestRegistry(t *testing.T) {
	status, at := http.StatusNotFound, time.Now
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", at().UTC().Format(http.TimeFormat))
		if r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	where := "docker://" + strings.TrimPrefix(server.URL, "http://") + "/okd"
	found, err := examine(t, "--state", t.TempDir(), "--registry", where)
	require.NoError(t, err)
	require.Equal(t, "ok", found["registry "+where].State)
	require.Equal(t, "ok", found["clock"].State)

	at = func() time.Time { return time.Now().Add(-time.Hour) }
	found, err = examine(t, "--state", t.TempDir(), "--registry", where)
	require.Error(t, err)
	require.Equal(t, "failed", found["clock"].State)
	require.Contains(t, found["clock"].Found, "1h0m")

	at, status = time.Now, http.StatusForbidden
	found, err = examine(t, "--state", t.TempDir(), "--registry", where)
	require.NoError(t, err)
	require.Equal(t, "warning", found["registry "+where].State)
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	where := "dir:" + dir
	found, err := examine(t, "--state", t.TempDir(), "--store", where)
	require.NoError(t, err)
	require.Contains(t, found["store "+where].Found, "can be read")
	found, err = examine(t, "--state", t.TempDir(), "--store", where, "--write")
	require.NoError(t, err)
	require.Contains(t, found["store "+where].Found, "honours conditions")
	require.NoFileExists(t, filepath.Join(dir, "okd-streams-doctor"))
	found, err = examine(t, "--state", t.TempDir(), "--store", "ftp://x")
	require.Error(t, err)
	require.Equal(t, "failed", found["store ftp://x"].State)
}
