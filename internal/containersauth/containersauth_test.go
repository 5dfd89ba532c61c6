package containersauth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/containersauth"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
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

func repository(t testing.TB, target string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(target)
	require.NoError(t, err)
	return repo
}

func found(t testing.TB, k *containersauth.Keychain, target string) *containersauth.Credentials {
	t.Helper()
	a, err := k.ResolveContext(t.Context(), repository(t, target))
	require.NoError(t, err)
	require.IsType(t, &containersauth.Credentials{}, a)
	return a.(*containersauth.Credentials)
}

func resolve(t testing.TB, k authn.Keychain, target string) *authn.AuthConfig {
	t.Helper()
	a, err := authn.Resolve(t.Context(), k, repository(t, target))
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

// answers is a helper that knows some registries, by "NAME REGISTRY".
func answers(known map[string]string) containersauth.Helper {
	return func(_ context.Context, name, registry string) (string, string, error) {
		secret, ok := known[name+" "+registry]
		switch username, secret, _ := strings.Cut(secret, ":"); {
		case !ok:
			return "", "", fmt.Errorf("nothing: %w", fs.ErrNotExist)
		case secret == "":
			return "", "", errors.New(username)
		default:
			return username, secret, nil
		}
	}
}

func TestCredHelpers(t *testing.T) {
	t.Parallel()
	file := write(t, `{"auths": {"a.example": {"auth": "`+basic("file")+`"}, "c.example/ns": {"auth": "`+basic("ns")+`"}},
		"credHelpers": {"a.example": "ecr", "b.example": "none", "c.example": "broken", "https://index.docker.io/v1/": "hub", "e.example": "../evil", "f.example": "empty"}}`)
	_, err := containersauth.New(&containersauth.Options{File: file}).ResolveContext(t.Context(), repository(t, "a.example/x"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, `"ecr"`)

	k := containersauth.New(&containersauth.Options{File: file, Helper: answers(map[string]string{
		"ecr a.example": "<token>:tok", "broken c.example": "is locked", "hub https://index.docker.io/v1/": "u:p", "../evil e.example": "u:p",
	})})
	require.Equal(t, "tok", resolve(t, k, "a.example/x").IdentityToken)
	require.Equal(t, authn.AuthConfig{}, *resolve(t, k, "b.example/x"))
	require.Equal(t, "u", resolve(t, k, "debian").Username)
	for target, want := range map[string]string{"c.example/ns/x": `credential helper "broken" for c.example: is locked`, "e.example/x": "not the name of a helper"} {
		_, err = k.ResolveContext(t.Context(), repository(t, target))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, file)
	}
	_, err = k.Resolve(repository(t, "a.example/x"))
	require.ErrorIs(t, err, errors.ErrUnsupported, "without a context no program is run")
}

// Docker asks credsStore, podman does not; see the package comment.
func TestCredsStore(t *testing.T) {
	t.Parallel()
	file := write(t, `{"credsStore": "desktop", "auths": {"a.example": {}, "b.example": {"auth": "`+basic("inline")+`"}}}`)
	next := write(t, auths("c.example", "next"))
	known := map[string]string{
		"desktop a.example": "store:p", "desktop b.example": "store:p", "desktop https://index.docker.io/v1/": "hub:p", "desktop d.example": "is locked",
	}
	k := containersauth.New(&containersauth.Options{Files: []string{file, next}, Helper: answers(known)})
	for target, want := range map[string]string{"a.example/x": "store", "b.example/x": "inline", "c.example/x": "next", "debian": "hub", "d.example/x": "", "e.example/x": ""} {
		require.Equal(t, want, resolve(t, k, target).Username, target)
	}
	require.Equal(t, fmt.Sprintf(`credsStore "desktop" of %s`, file), found(t, k, "a.example/x").Place)
	require.Equal(t, fmt.Sprintf(`no credentials for d.example/x in %s (credsStore "desktop": is locked), %s`, file, next), found(t, k, "d.example/x").Place)

	k = containersauth.New(&containersauth.Options{Files: []string{file, next}})
	require.Empty(t, resolve(t, k, "a.example/x").Username, "without programs as podman has it")
}

// credential-helpers of registries.conf.
func TestHelpers(t *testing.T) {
	t.Parallel()
	file := write(t, auths("a.example", "file", "b.example", "file"))
	known := map[string]string{"first a.example": "first:p", "last a.example": "last:p", "last c.example": "last:p", "first d.example": "is locked", "last d.example": "last:p", "first e.example": "is locked"}
	k := containersauth.New(&containersauth.Options{Files: []string{file}, Helpers: []string{"first", containersauth.FilesHelper, "last"}, Helper: answers(known)})
	for target, want := range map[string]string{"a.example/x": "first", "b.example/x": "file", "c.example/x": "last", "d.example/x": "last", "f.example/x": ""} {
		require.Equal(t, want, resolve(t, k, target).Username, target)
	}
	require.Equal(t, `credential helper "first"`, found(t, k, "a.example/x").Place)
	_, err := k.ResolveContext(t.Context(), repository(t, "e.example/x"))
	require.EqualError(t, err, `containersauth: credential helper "first" for e.example: is locked`, "one that fails counts if no other knows")
	k = containersauth.New(&containersauth.Options{Files: []string{file}, Helpers: []string{"first"}})
	_, err = k.ResolveContext(t.Context(), repository(t, "b.example/x"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestCancelledHelper(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"credsStore": "slow"}`, `{"credHelpers": {"a.example": "slow"}}`} {
		ctx, cancel := context.WithCancel(t.Context())
		k := containersauth.New(&containersauth.Options{File: write(t, text), Helper: func(context.Context, string, string) (string, string, error) {
			cancel()
			return "", "", errors.New("killed")
		}})
		_, err := k.ResolveContext(ctx, repository(t, "a.example/x"))
		require.ErrorIs(t, err, context.Canceled, text)

		ctx, cancel = context.WithTimeout(t.Context(), 0)
		defer cancel()
		_, err = k.ResolveContext(ctx, repository(t, "a.example/x"))
		require.ErrorIs(t, err, context.DeadlineExceeded, text)
	}
}

// A long copy needs credentials longer than they are good for.
func TestLookAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		helper := func(context.Context, string, string) (string, string, error) {
			if asked++; asked == 3 {
				return "", "", errors.New("is locked")
			}
			return "u", fmt.Sprint("secret ", asked), nil
		}
		file := write(t, `{"auths": {"b.example": {"auth": "`+basic("old")+`"}}, "credHelpers": {"a.example": "cloud"}}`)
		k := containersauth.New(&containersauth.Options{Files: []string{file}, Helper: helper})
		now := func(c *containersauth.Credentials) string {
			a, err := authn.Authorization(t.Context(), c)
			require.NoError(t, err)
			return a.Username + " " + a.Password
		}
		c, plain := found(t, k, "a.example/x"), found(t, k, "b.example/x")
		require.Equal(t, "u secret 1", now(c))
		require.Equal(t, "u secret 1", now(found(t, k, "a.example/y")), "one program for many repositories")
		require.Equal(t, 1, asked)
		time.Sleep(containersauth.Lifetime + 1)
		require.Equal(t, "u secret 2", now(c))
		require.Equal(t, "u secret 2", now(c))
		time.Sleep(containersauth.Lifetime + 1)
		require.Equal(t, "u secret 2", now(c), "better than none")
		_, err := k.ResolveContext(t.Context(), repository(t, "a.example/x"))
		require.NoError(t, err, "an error is not kept")
		require.Equal(t, 4, asked)
		again, err := c.Authorization()
		require.NoError(t, err)
		require.Equal(t, "secret 2", again.Password, "it looks again with a context alone")

		require.NoError(t, os.WriteFile(file, []byte(auths("b.example", "new")), 0o600))
		require.Equal(t, "new secret-new", now(plain))
		require.NoError(t, os.Remove(file))
		time.Sleep(containersauth.Lifetime + 1)
		require.Equal(t, "new secret-new", now(plain))
	})
}

// Many who ask at once wait for one program, each as long as it may.
func TestOneHelperForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		k := containersauth.New(&containersauth.Options{Helpers: []string{"slow"}, Helper: func(ctx context.Context, _, _ string) (string, string, error) {
			asked.Add(1)
			select {
			case <-time.After(10 * time.Second):
				return "u", "p", nil
			case <-ctx.Done():
				return "", "", errors.New("killed")
			}
		}})
		ask := func(limit time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := k.ResolveContext(ctx, repository(t, "a.example/x"))
			return err
		}
		begin := time.Now() // of the test's own clock
		results := make(chan error, 10)
		go func() { results <- ask(5 * time.Second) }()
		synctest.Wait()
		for range 8 {
			go func() { results <- ask(time.Minute) }()
		}
		go func() { results <- ask(time.Second) }()
		synctest.Wait()
		require.EqualValues(t, 1, asked.Load())
		require.ErrorIs(t, <-results, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begin), "it does not wait longer than it may")
		require.ErrorIs(t, <-results, context.DeadlineExceeded, "the one that asked gives up")
		for range 8 {
			require.NoError(t, <-results)
		}
		require.EqualValues(t, 2, asked.Load())
	})
}

func TestGiven(t *testing.T) {
	t.Parallel()
	given, err := containersauth.ParseGiven("core:open:sesame")
	require.NoError(t, err)
	require.Equal(t, authn.AuthConfig{Username: "core", Password: "open:sesame"}, given)
	for _, text := range []string{"", "core", "core:", ":open-sesame"} {
		_, err := containersauth.ParseGiven(text)
		require.EqualError(t, err, "containersauth: credentials are not USER:PASSWORD")
	}
	k := containersauth.New(&containersauth.Options{
		Given: map[string]authn.AuthConfig{"a.example/ns": given, "b.example": {RegistryToken: "tok"}, "docker.io": given},
		File:  write(t, auths("a.example/ns/x", "file", "c.example", "file")),
	})
	for target, want := range map[string]string{"a.example/ns/x": "core", "a.example/nsx": "", "c.example/x": "file", "debian": "core"} {
		require.Equal(t, want, resolve(t, k, target).Username, target)
	}
	require.Equal(t, "tok", resolve(t, k, "b.example/x").RegistryToken)
	require.Equal(t, "credentials given for a.example/ns", found(t, k, "a.example/ns/x").Place)
}

// ~/.dockercfg has registries alone, at the top.
func TestLegacyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), ".dockercfg")
	text := `{"a.example": {"auth": "` + basic("a") + `", "email": "x@y"}, "https://b.example/v1/": {"auth": "` + basic("b") + `"}, "c.example/path": {"auth": "` + basic("c") +
		`"}, "e.example": {"auth": "` + basic("e") + `"}, "e.example/ns": {"auth": "` + basic("ns") + `"}, "https://index.docker.io/v1/": {"auth": "` + basic("hub") + `"}}`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	k := containersauth.New(&containersauth.Options{Files: []string{file}})
	for target, want := range map[string]string{"a.example/x": "a", "b.example/x/y": "b", "c.example/other": "c", "e.example/ns/x": "e", "debian": "hub", "d.example/x": ""} {
		require.Equal(t, want, resolve(t, k, target).Username, target)
	}
	require.NoError(t, os.WriteFile(file, []byte(`{"auths": {"a.example": {"auth": "topsecret!"}}, "x": "topsecret"}`), 0o600))
	_, err := k.Resolve(repository(t, "a.example/x"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "topsecret")
}

// What is shown to people says where, never what.
func TestPlace(t *testing.T) {
	t.Parallel()
	file := write(t, auths("quay.example/okd", "core"))
	k := containersauth.New(&containersauth.Options{Files: []string{file}})
	c := found(t, k, "quay.example/okd/scos")
	require.False(t, c.Anonymous())
	want := `auths "quay.example/okd" of ` + file
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "from", c)
	for _, text := range []string{c.Place, c.String(), fmt.Sprint(c), fmt.Sprintf("%+v %#v %q", c, c, c), log.String()} {
		require.Contains(t, strings.ReplaceAll(text, `\"`, `"`), want)
		require.NotContains(t, text, "secret")
		require.NotContains(t, text, basic("core"))
	}
	refused := fmt.Errorf("401: %w", fs.ErrPermission)
	require.EqualError(t, containersauth.Explain(refused, c), "401: permission denied ("+want+")")
	require.ErrorIs(t, containersauth.Explain(refused, c), fs.ErrPermission)
	require.Equal(t, refused, containersauth.Explain(refused, authn.Anonymous))
	require.Equal(t, fs.ErrNotExist, containersauth.Explain(fs.ErrNotExist, c))
	require.NoError(t, containersauth.Explain(nil, c))

	c = found(t, k, "other.example/x")
	require.True(t, c.Anonymous())
	require.Equal(t, "no credentials for other.example/x in "+file, c.Place)
	require.Equal(t, "no credentials, for none are configured", found(t, containersauth.New(nil), "a.example/x").Place)
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
	require.Equal(t, []string{"/run/u/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json", "/h/.dockercfg"},
		containersauth.DefaultPaths(env(map[string]string{"XDG_RUNTIME_DIR": "/run/u", "HOME": "/h"})))
	require.Equal(t, []string{"/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json", "/h/.dockercfg"},
		containersauth.DefaultPaths(env(map[string]string{"XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d", "HOME": "/h"})))
	require.Equal(t, []string{"/h/.docker/config.json", "/h/.dockercfg", "/run/u/containers/auth.json", "/h/.config/containers/auth.json"},
		containersauth.DefaultPaths(env(map[string]string{"XDG_RUNTIME_DIR": "/run/u", "HOME": "/h", "REGISTRY_AUTH_PREFERENCE": "Docker"})), "as oc has it")
	require.Equal(t, []string{fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())}, containersauth.DefaultPaths(env(nil)))
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(auths("quay.example/okd", "u")), "quay.example/okd/scos")
	f.Add([]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}, "credHelpers": {"a": "b"}}`), "index.docker.io/library/x")
	f.Add([]byte(`{"auths": {"a": {"identitytoken": "x", "auth": "///"}}}`), "a/b/c")
	f.Add([]byte(`{"credsStore": "s", "auths": {"a": {"auth": "dTpw", "password": ""}}}`), "a")
	f.Add([]byte(`{"https://a/v1/": {"auth": "dTpw"}}`), "a/b")
	for doc := range mutants.Of(`{"auths": {"https://a/v1/": {"auth": "dTpw", "identitytoken": "x"}, "a/b": {"username": "u", "password": "p"}}, "credHelpers": {"a": "b"}, "credsStore": "s"}`) {
		f.Add([]byte(doc), "a/b")
	}
	f.Fuzz(func(t *testing.T, data []byte, target string) {
		file, err := fuzzbound.Parse(t, 100, containersauth.Decode, data)
		require.Equal(t, err == nil, file != nil)
		legacy, err := fuzzbound.Parse(t, 100, containersauth.DecodeLegacy, data)
		require.Equal(t, err == nil, legacy != nil)

		registry, _, _ := strings.Cut(target, "/")
		keys := containersauth.Keys(target, registry)
		require.LessOrEqual(t, len(keys), 256)
		for i, key := range keys {
			require.True(t, strings.HasPrefix(keys[0], key))
			require.True(t, i == 0 || len(key) < len(keys[i-1]))
		}
		for _, f := range []*containersauth.File{file, legacy} {
			if f == nil {
				continue
			}
			c, place, err := f.Find(target, registry, func(string, string) (*authn.AuthConfig, error) {
				return &authn.AuthConfig{Username: "u", Password: "what-the-helper-said"}, nil
			})
			require.False(t, c != nil && err != nil)
			if c != nil {
				require.NotEqual(t, authn.AuthConfig{}, *c)
				require.NotEmpty(t, place)
				require.NotContains(t, place, "what-the-helper-said")
			}
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
	// /home/core/.dockercfg
}
