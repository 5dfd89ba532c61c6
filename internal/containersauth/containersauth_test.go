package containersauth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/containersauth"
)

func basic(user string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":secret-" + user))
}

func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "auth.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func auths(pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		parts = append(parts, fmt.Sprintf(`%q: {"auth": %q}`, pairs[i], basic(pairs[i+1])))
	}
	return `{"auths": {` + strings.Join(parts, ",") + `}}`
}

func resolve(t testing.TB, k authn.Keychain, target string) *authn.AuthConfig {
	t.Helper()
	repo, err := name.NewRepository(target)
	require.NoError(t, err)
	a, err := authn.Resolve(t.Context(), k, repo)
	require.NoError(t, err)
	c, err := authn.Authorization(t.Context(), a)
	require.NoError(t, err)
	return c
}

func TestLongestKeyWins(t *testing.T) {
	t.Parallel()
	k := containersauth.New(&containersauth.Options{Files: []string{write(t, auths(
		"quay.example", "host", "quay.example/okd", "namespace", "quay.example/okd/scos", "repo",
		"port.example:5000", "port", "docker.io", "hub", "old.example/v1/", "old", "https://url.example/v2/", "url",
	))}})
	for target, want := range map[string]string{
		"quay.example/okd/scos":      "repo",
		"quay.example/okd/scos/base": "repo",
		"quay.example/okd/scosx":     "namespace",
		"quay.example/okd":           "namespace",
		"quay.example/okdx/y":        "host",
		"port.example:5000/a":        "port",
		"port.example/a":             "",
		"other.example/a":            "",
		"debian":                     "hub",
		"docker.io/library/debian":   "hub",
		"old.example/a":              "old",
		"url.example/a":              "url",
	} {
		c := resolve(t, k, target)
		require.Equal(t, want, c.Username, target)
		if want != "" {
			require.Equal(t, "secret-"+want, c.Password)
		}
	}
}

func TestDockerHubKey(t *testing.T) {
	t.Parallel()
	k := containersauth.New(&containersauth.Options{Files: []string{write(t, auths("https://index.docker.io/v1/", "hub"))}})
	require.Equal(t, "hub", resolve(t, k, "okd/scos").Username)
}

func TestFirstFileWithCredentialsWins(t *testing.T) {
	t.Parallel()
	first := write(t, `{"auths": {"a.example": {}, "b.example": {"auth": "`+basic("first")+`"}}}`)
	second := write(t, auths("a.example", "second", "b.example", "second"))
	missing := filepath.Join(t.TempDir(), "missing.json")
	k := containersauth.New(&containersauth.Options{Files: []string{missing, first, write(t, ""), second}})
	require.Equal(t, "second", resolve(t, k, "a.example/x").Username, "an entry without credentials is none")
	require.Equal(t, "first", resolve(t, k, "b.example/x").Username)

	named := containersauth.New(&containersauth.Options{File: missing, Files: []string{first}})
	repo, err := name.NewRepository("b.example/x")
	require.NoError(t, err)
	_, err = named.Resolve(repo)
	require.ErrorIs(t, err, fs.ErrNotExist, "a file that the user named must exist")
}

func TestTokens(t *testing.T) {
	t.Parallel()
	k := containersauth.New(&containersauth.Options{File: write(t, `{"auths": {
		"id.example": {"auth": "`+basic("u")+`", "identitytoken": "idt"},
		"reg.example": {"registrytoken": "regt"},
		"raw.example": {"auth": "`+strings.TrimRight(basic("raw1"), "=")+`"}}}`)})
	require.Equal(t, "idt", resolve(t, k, "id.example/x").IdentityToken)
	require.Equal(t, "regt", resolve(t, k, "reg.example/x").RegistryToken)
	require.Equal(t, "raw1", resolve(t, k, "raw.example/x").Username)
}

func TestHelpers(t *testing.T) {
	t.Parallel()
	file := write(t, `{"auths": {"a.example": {"auth": "`+basic("file")+`"}}, "credHelpers": {"a.example": "ecr", "b.example": "none"}}`)
	repo, err := name.NewRepository("a.example/x")
	require.NoError(t, err)
	_, err = containersauth.New(&containersauth.Options{File: file}).ResolveContext(t.Context(), repo)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, `"ecr"`)

	k := containersauth.New(&containersauth.Options{File: file, Helper: func(_ context.Context, name, registry string) (string, string, error) {
		if name == "none" {
			return "", "", fmt.Errorf("nothing: %w", fs.ErrNotExist)
		}
		return "<token>", name + "@" + registry, nil
	}})
	require.Equal(t, "ecr@a.example", resolve(t, k, "a.example/x").IdentityToken)
	require.Equal(t, authn.AuthConfig{}, *resolve(t, k, "b.example/x"))
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{`, `[]`, `{"auths": []}`, `{"auths": {"a.example": "topsecret"}}`, `{"auths": {"a.example": {"auth": "topsecret!"}}}`,
		`{"auths": {"a.example": {"auth": "dG9wc2VjcmV0"}}}`, `topsecret`, `{"credHelpers": {"a.example": 7}}`,
		`{"auths":{}}` + strings.Repeat(" ", containersauth.MaxFileSize),
	} {
		repo, err := name.NewRepository("a.example/x")
		require.NoError(t, err)
		_, err = containersauth.New(&containersauth.Options{File: write(t, text)}).Resolve(repo)
		require.Error(t, err, "%.40s", text)
		require.NotContains(t, err.Error(), "topsecret")
	}
}

func TestDefaultPaths(t *testing.T) {
	t.Parallel()
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	require.Equal(t, []string{"/f"}, containersauth.DefaultPaths(env(map[string]string{"REGISTRY_AUTH_FILE": "/f", "HOME": "/h"})))
	require.Equal(t, []string{"/run/u/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"},
		containersauth.DefaultPaths(env(map[string]string{"XDG_RUNTIME_DIR": "/run/u", "HOME": "/h"})))
	require.Equal(t, []string{"/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"},
		containersauth.DefaultPaths(env(map[string]string{"XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d", "HOME": "/h"})))
	require.Equal(t, []string{fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())}, containersauth.DefaultPaths(env(nil)))
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(auths("quay.example/okd", "u")), "quay.example/okd/scos")
	f.Add([]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}, "credHelpers": {"a": "b"}}`), "index.docker.io/library/x")
	f.Add([]byte(`{"auths": {"a": {"identitytoken": "x", "auth": "///"}}}`), "a/b/c")
	f.Fuzz(func(t *testing.T, data []byte, target string) {
		file, err := containersauth.Decode(data)
		require.Equal(t, err == nil, file != nil)
		registry, _, _ := strings.Cut(target, "/")
		keys := containersauth.Keys(target, registry)
		require.LessOrEqual(t, len(keys), 256)
		for i, key := range keys {
			require.True(t, strings.HasPrefix(keys[0], key))
			require.True(t, i == 0 || len(key) < len(keys[i-1]))
		}
	})
}

func ExampleDefaultPaths() {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/core"}
	for _, path := range containersauth.DefaultPaths(func(key string) string { return env[key] }) {
		fmt.Println(path)
	}
	// Output:
	// /run/user/1000/containers/auth.json
	// /home/core/.config/containers/auth.json
	// /home/core/.docker/config.json
}
