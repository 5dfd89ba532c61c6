package streamcmd_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/stream"
)

// repository serves one with packages; user u with password p alone gets it.
func repository(t *testing.T, packages ...string) string {
	primary := "<metadata>"
	for _, name := range packages {
		primary += `<package><name>` + name + `</name><arch>x86_64</arch><version epoch="0" ver="1" rel="1"/></package>`
	}
	primary += "</metadata>"
	repomd := fmt.Sprintf(`<repomd><data type="primary"><checksum type="sha256">%x</checksum><location href="repodata/primary.xml"/></data></repomd>`, sha256.Sum256([]byte(primary)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		text, ok := map[string]string{"/repodata/repomd.xml": repomd, "/repodata/primary.xml": primary}[r.URL.Path]
		switch {
		case user != "u" || password != "p":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestLintOnline: packages that no repository has are named before a build, and
// those behind credentials, with what to do.
func TestLintOnline(t *testing.T) {
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	d.Profiles, d.OS.Kind = nil, stream.Layer
	d.Payload.ExtensionsTags = []string{"stream-coreos-extensions"}
	d.OS.Containerfile, d.OS.BuildArgs, d.OS.Source.Variant, d.OS.Source.Follow = "", nil, "", "quay.io/okd/scos:4.22"
	d.OS.Packages = []string{"openshift-kubelet", "ose-aws-ecr-image-credential-provider"}
	d.OS.Repositories[0].BaseURL = stream.Template(repository(t, "openshift-kubelet", "ose-aws-ecr-credential-provider"))
	var text strings.Builder
	require.NoError(t, d.Encode(&text))
	file := filepath.Join(t.TempDir(), "own.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))

	stdout, _, err := run(t, "lint", file)
	require.NoError(t, err)
	require.Contains(t, stdout, "no faults")

	stdout, _, err = run(t, "lint", "--online", file)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.Contains(t, stdout, "it needs credentials, which are not here")
	require.Contains(t, stdout, "environment variable MIRROR_USER")

	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "ose-mirror-secret"), 0o755))
	for name, value := range map[string]string{"mirror-user": "u\n", "mirror-pass": "p\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "ose-mirror-secret", name), []byte(value), 0o600))
	}
	stdout, _, err = run(t, "lint", "--online", "--secrets", folder, file)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Contains(t, stdout, "found    os.packages[0] openshift-kubelet x86_64: openshift-kubelet-1-1.x86_64")
	require.Contains(t, stdout, "missing  os.packages[1] ose-aws-ecr-image-credential-provider x86_64")
	require.Contains(t, stdout, "did you mean ose-aws-ecr-credential-provider?")

	// For programs.
	want := ""
	for _, format := range []string{"json", "yaml"} {
		stdout, _, err = run(t, "lint", "--online", "--secrets", folder, file, "-o", format)
		require.Error(t, err)
		data := []byte(stdout)
		if format == "yaml" {
			data, err = yaml.YAMLToJSON(data)
			require.NoError(t, err)
			require.JSONEq(t, want, string(data))
		}
		want = stdout
		var report struct {
			Online struct {
				Requests []struct {
					State string
					Near  []string
				}
			}
		}
		require.NoError(t, json.Unmarshal(data, &report))
		require.Equal(t, "missing", report.Online.Requests[1].State)
		require.Equal(t, []string{"ose-aws-ecr-credential-provider"}, report.Online.Requests[1].Near)
	}
}
