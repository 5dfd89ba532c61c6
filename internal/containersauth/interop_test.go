package containersauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/containersauth"
	"github.com/okd-project/okd-streams/internal/interop"
)

// judge is a registry with a token server that has no images and tells which
// credentials it was shown: "USER", "identity TOKEN" or "anonymous".
type judge struct {
	url string

	mu   sync.Mutex
	seen string
}

func newJudge(t *testing.T) *judge {
	j := &judge{}
	server := httptest.NewUnstartedServer(j)
	t.Cleanup(server.Close)
	j.url = "http://" + server.Listener.Addr().String()
	server.Start()
	return j
}

func (j *judge) host() string { return strings.TrimPrefix(j.url, "http://") }

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token":
		j.mu.Lock()
		defer j.mu.Unlock()
		j.seen = "anonymous"
		if user, _, ok := r.BasicAuth(); ok {
			j.seen = user
		} else if token := r.PostFormValue("refresh_token"); token != "" {
			j.seen = "identity " + token
		}
		fmt.Fprint(w, `{"token": "x", "access_token": "x"}`)
	case r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="sample"`, j.url))
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// skopeo looks for an image and gives what the judge saw, or "error" if it was
// not asked.
func (j *judge) skopeo(t *testing.T, repo string, env []string, args ...string) string {
	j.mu.Lock()
	j.seen = "error"
	j.mu.Unlock()
	cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"inspect", "--no-tags", "--tls-verify=false"}, append(args, "docker://"+repo+":tag")...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "nobody has it")
	if t.Failed() {
		t.Logf("%s", out)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen
}

// ours says the same of a keychain.
func ours(t *testing.T, k *containersauth.Keychain, repo string) string {
	a, err := k.ResolveContext(t.Context(), repository(t, repo))
	if err != nil {
		return "error"
	}
	c, err := authn.Authorization(t.Context(), a)
	require.NoError(t, err)
	switch {
	case c.IdentityToken != "":
		return "identity " + c.IdentityToken
	case c.Username != "":
		return c.Username
	}
	return "anonymous"
}

// run is a [containersauth.Helper] that starts programs, as skopeo does.
func run(ctx context.Context, name, registry string) (string, string, error) {
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, "get")
	cmd.Stdin = strings.NewReader(registry)
	out, err := cmd.Output()
	if bytes.Contains(out, []byte("credentials not found")) {
		return "", "", fs.ErrNotExist
	}
	if err != nil {
		return "", "", err
	}
	var answer struct{ Username, Secret string }
	return answer.Username, answer.Secret, json.Unmarshal(out, &answer)
}

// Both find the same credentials in the same file.
func TestSkopeoFinds(t *testing.T) {
	interop.Peer(t, "skopeo")
	bin := t.TempDir()
	script := `#!/bin/sh
case "$0 $(cat)" in
*-good\ HOST) echo '{"Username":"helped","Secret":"s"}' ;;
*-token\ HOST) echo '{"Username":"<token>","Secret":"tok"}' ;;
*-broken*) echo 'is locked'; exit 1 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`
	j := newJudge(t)
	for _, name := range []string{"good", "token", "broken", "none"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte(strings.ReplaceAll(script, "HOST", j.host())), 0o755))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))

	entry := func(user string) string { return fmt.Sprintf(`{"auth": %q}`, basic(user)) }
	for what, tc := range map[string]struct {
		text   string
		differ string // what we find, where that is not what skopeo finds
	}{
		"registry":              {text: `{"auths": {"HOST": ` + entry("host") + `}}`},
		"longest key":           {text: `{"auths": {"HOST": ` + entry("host") + `, "HOST/ns": ` + entry("ns") + `, "HOST/ns/img": ` + entry("repo") + `}}`},
		"namespace":             {text: `{"auths": {"HOST": ` + entry("host") + `, "HOST/ns": ` + entry("ns") + `, "HOST/ns/im": ` + entry("repo") + `}}`},
		"other namespace":       {text: `{"auths": {"HOST/other": ` + entry("other") + `}}`},
		"other registry":        {text: `{"auths": {"other.example": ` + entry("other") + `}}`},
		"URL":                   {text: `{"auths": {"https://HOST/v1/": ` + entry("url") + `}}`},
		"plain URL":             {text: `{"auths": {"http://HOST": ` + entry("url") + `}}`},
		"URL with a namespace":  {text: `{"auths": {"https://HOST/other": ` + entry("url") + `}}`},
		"empty entry":           {text: `{"auths": {"HOST": ` + entry("host") + `, "HOST/ns": {}}}`},
		"identity token":        {text: `{"auths": {"HOST": {"auth": "` + basic("u") + `", "identitytoken": "tok"}}}`},
		"token alone":           {text: `{"auths": {"HOST": {"auth": "Og==", "identitytoken": "tok"}}}`},
		"padded with NUL":       {text: `{"auths": {"HOST": {"auth": "cGFkZGVkOnAAAAA="}}}`},
		"helper":                {text: `{"auths": {"HOST": ` + entry("host") + `}, "credHelpers": {"HOST": "good"}}`},
		"helper, token":         {text: `{"credHelpers": {"HOST": "token"}}`},
		"helper without any":    {text: `{"auths": {"HOST": ` + entry("host") + `}, "credHelpers": {"HOST": "none"}}`},
		"helper that fails":     {text: `{"credHelpers": {"HOST": "broken"}}`},
		"helper that is absent": {text: `{"credHelpers": {"HOST": "absent"}}`},
		"helper for another":    {text: `{"auths": {"HOST": ` + entry("host") + `}, "credHelpers": {"other.example": "broken"}}`},
		"helper for namespace":  {text: `{"auths": {"HOST": ` + entry("host") + `}, "credHelpers": {"HOST/ns": "good"}}`},
		"store":                 {text: `{"credsStore": "good"}`, differ: "helped"},
		"store and entry":       {text: `{"auths": {"HOST": ` + entry("host") + `}, "credsStore": "good"}`},
		"store and marker":      {text: `{"auths": {"HOST": {}}, "credsStore": "good"}`, differ: "helped"},
		"store that fails":      {text: `{"credsStore": "broken"}`},
		"user and password":     {text: `{"auths": {"HOST": {"username": "named", "password": "p"}}}`, differ: "named"},
		"not base64":            {text: `{"auths": {"HOST": {"auth": "***"}}}`},
		"no colon":              {text: `{"auths": {"HOST": {"auth": "bm9jb2xvbg=="}}}`, differ: "error"},
		"not base64, elsewhere": {text: `{"auths": {"HOST": ` + entry("host") + `, "other.example": {"auth": "***"}}}`},
		"not JSON":              {text: `{`},
		"wrong type":            {text: `{"auths": {"HOST": 7}}`},
		"unknown keys":          {text: `{"auths": {"HOST": ` + entry("host") + `}, "proxies": {"x": 7}, "HttpHeaders": []}`},
	} {
		file := write(t, strings.ReplaceAll(tc.text, "HOST", j.host()))
		repo := j.host() + "/ns/img"
		want := j.skopeo(t, repo, nil, "--authfile", file)
		got := ours(t, containersauth.New(&containersauth.Options{File: file, Helper: run}), repo)
		if tc.differ != "" {
			require.NotEqual(t, tc.differ, want, "%s: skopeo does as we do: the package comment is wrong", what)
			want = tc.differ
		}
		require.Equal(t, want, got, what)
	}
}

// Both look into the same files in the same order.
func TestSkopeoOrder(t *testing.T) {
	interop.Peer(t, "skopeo")
	j := newJudge(t)
	dir := t.TempDir()
	env := map[string]string{"HOME": filepath.Join(dir, "home"), "XDG_RUNTIME_DIR": filepath.Join(dir, "run")}
	getenv := func(key string) string { return env[key] }
	list := func() []string {
		var out []string
		for key, value := range env {
			out = append(out, key+"="+value)
		}
		return out
	}
	both := func() {
		t.Helper()
		repo := j.host() + "/ns/img"
		got := ours(t, containersauth.New(&containersauth.Options{Files: containersauth.DefaultPaths(getenv)}), repo)
		require.Equal(t, j.skopeo(t, repo, list()), got, "%v", env)
	}
	put := func(path, user string) {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		text := fmt.Sprintf(`{%q: {"auth": %q}}`, j.host(), basic(user))
		if filepath.Base(path) != ".dockercfg" {
			text = `{"auths": ` + text + `}`
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	both()
	// From the last to the first, so that each one changes the answer.
	for i, path := range []string{"home/.dockercfg", "home/.docker/config.json", "home/.config/containers/auth.json", "run/containers/auth.json"} {
		put(path, fmt.Sprint("user", i))
		both()
		require.Equal(t, fmt.Sprint("user", i), j.seen, path)
	}
	put("docker/config.json", "docker")
	put("config/containers/auth.json", "config")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "run/containers")))
	env["DOCKER_CONFIG"] = filepath.Join(dir, "docker")
	both()
	env["XDG_CONFIG_HOME"] = filepath.Join(dir, "config")
	both()
	require.Equal(t, "config", j.seen)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "config")))
	both()
	require.Equal(t, "docker", j.seen)
	put("other.json", "other")
	env["REGISTRY_AUTH_FILE"] = filepath.Join(dir, "other.json")
	both()
	require.Equal(t, "other", j.seen)
}

// What skopeo login writes, we read, and the registry takes.
func TestSkopeoLogin(t *testing.T) {
	interop.Peer(t, "skopeo")
	host := interop.PasswordRegistry(t)
	file := filepath.Join(t.TempDir(), "auth.json")
	login := func(where, user, password string) error {
		cmd := exec.CommandContext(t.Context(), "skopeo", "login", "--tls-verify=false", "--authfile", file, "-u", user, "--password-stdin", where)
		cmd.Stdin = strings.NewReader(password)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	require.Error(t, login(host, interop.CoreUser, "wrong"))
	require.NoError(t, login(host, interop.CoreUser, interop.CorePassword))
	require.NoError(t, login(host+"/build", interop.BuilderUser, interop.BuilderPassword))
	k := containersauth.New(&containersauth.Options{File: file})
	for repo, want := range map[string][2]string{
		"/okd/a": {interop.CoreUser, interop.CorePassword}, "/build/a": {interop.BuilderUser, interop.BuilderPassword}, "/builds/a": {interop.CoreUser, interop.CorePassword},
	} {
		c := resolve(t, k, host+repo)
		require.Equal(t, want, [2]string{c.Username, c.Password}, repo)
	}
}
