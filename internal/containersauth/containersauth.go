package containersauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// MaxFileSize bounds a credentials file, bytes.
const MaxFileSize = 1 << 20

// Helper gets credentials for a registry from the named helper program, which
// is docker-credential-NAME; its answer is user name and secret, and the user
// name "<token>" says that the secret is an identity token. No credentials is
// an error that wraps [io/fs.ErrNotExist].
type Helper func(ctx context.Context, name, registry string) (username, secret string, err error)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// File is a credentials file named by the user: it must exist, and no
	// other is read. "": Files are.
	File string
	// Files are read in this order, as [DefaultPaths] gives them; those that
	// do not exist are skipped.
	Files []string
	// Helper runs credential helpers; nil: [errors.ErrUnsupported] where one
	// is needed.
	Helper Helper
}

// Keychain finds credentials. Files are read anew at each question, for a login
// may happen at any time. It may be used from any goroutine.
type Keychain struct{ opts Options }

var (
	_ authn.Keychain        = (*Keychain)(nil)
	_ authn.ContextKeychain = (*Keychain)(nil)
)

// New gives a keychain. opts may be nil: everyone is anonymous then.
func New(opts *Options) *Keychain {
	k := &Keychain{}
	if opts != nil {
		k.opts = *opts
		k.opts.Files = slices.Clone(opts.Files)
	}
	return k
}

// DefaultPaths lists the files that podman and oc read without a flag:
// $REGISTRY_AUTH_FILE alone if it is set, else containers/auth.json in
// $XDG_RUNTIME_DIR (/run/containers/UID/auth.json without it) and in
// $XDG_CONFIG_HOME (~/.config), then config.json in $DOCKER_CONFIG (~/.docker).
// getenv is [os.Getenv] of a program.
func DefaultPaths(getenv func(string) string) []string {
	if file := getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	var out []string
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		out = append(out, filepath.Join(dir, "containers", "auth.json"))
	} else {
		out = append(out, filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json"))
	}
	home := getenv("HOME")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		out = append(out, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		out = append(out, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		out = append(out, filepath.Join(dir, "config.json"))
	} else if home != "" {
		out = append(out, filepath.Join(home, ".docker", "config.json"))
	}
	return out
}

// Resolve finds credentials for a repository or registry; [authn.Anonymous]
// where there are none. It runs no helper: use [Keychain.ResolveContext].
func (k *Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.resolve(target, nil)
}

// ResolveContext is [Keychain.Resolve] with helpers.
func (k *Keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	if k.opts.Helper == nil {
		return k.resolve(target, nil)
	}
	return k.resolve(target, func(name, registry string) (string, string, error) {
		return k.opts.Helper(ctx, name, registry)
	})
}

func (k *Keychain) resolve(target authn.Resource, help func(name, registry string) (string, string, error)) (authn.Authenticator, error) {
	files := k.opts.Files
	if k.opts.File != "" {
		files = []string{k.opts.File}
	}
	for _, file := range files {
		f, err := read(file)
		if errors.Is(err, fs.ErrNotExist) && k.opts.File == "" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("containersauth: %w", err)
		}
		creds, err := f.find(target.String(), target.RegistryStr(), help)
		if err != nil {
			return nil, fmt.Errorf("containersauth: %s: %w", file, err)
		}
		if creds != nil {
			return authn.FromConfig(*creds), nil
		}
	}
	return authn.Anonymous, nil
}

func read(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, err
	}
	out, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

// File is a decoded credentials file.
type File struct {
	auths   map[string]entry
	helpers map[string]string
}

type entry struct {
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
	Username      string `json:"username"`
	Password      string `json:"password"`
}

// Decode parses a credentials file of at most [MaxFileSize] bytes. Its errors
// name places, never content.
func Decode(data []byte) (*File, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("more than %d bytes: %w", MaxFileSize, errors.ErrUnsupported)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return &File{}, nil // as podman makes it before the first login
	}
	var doc struct {
		Auths   map[string]json.RawMessage `json:"auths"`
		Helpers map[string]string          `json:"credHelpers"`
	}
	if err := decode(data, &doc); err != nil {
		return nil, err
	}
	f := &File{auths: make(map[string]entry, len(doc.Auths)), helpers: doc.Helpers}
	for _, key := range slices.Sorted(keysOf(doc.Auths)) {
		var e entry
		if err := decode(doc.Auths[key], &e); err != nil {
			return nil, fmt.Errorf("auths: %.200q: %w", key, err)
		}
		f.auths[key] = e
	}
	return f, nil
}

// decode hides what encoding/json would quote from the input.
func decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("wrong type at byte %d, want %s", kind.Offset, kind.Type)
	}
	if err != nil {
		return errors.New("not a credentials file")
	}
	return nil
}

func keysOf(m map[string]json.RawMessage) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// find looks target up; nil: no credentials.
func (f *File) find(target, registry string, help func(name, registry string) (string, string, error)) (*authn.AuthConfig, error) {
	registry = plain(registry)
	// Helpers are for registries only, as containers-auth.json(5) says.
	if helper, ok := f.helpers[registry]; ok {
		if help == nil {
			return nil, fmt.Errorf("credential helper %q for %s: %w", helper, registry, errors.ErrUnsupported)
		}
		username, secret, err := help(helper, registry)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("credential helper %q for %s: %w", helper, registry, err)
		case username == "<token>":
			return &authn.AuthConfig{IdentityToken: secret}, nil
		}
		return &authn.AuthConfig{Username: username, Password: secret}, nil
	}
	for _, key := range Keys(target, registry) {
		if e, ok := f.auths[key]; ok {
			creds, err := e.config()
			if err != nil {
				return nil, fmt.Errorf("auths: %.200q: %w", key, err)
			}
			return creds, nil
		}
	}
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range f.auths {
			if !yield(key) {
				return
			}
		}
	}) {
		if host(key) == registry {
			creds, err := f.auths[key].config()
			if err != nil {
				return nil, fmt.Errorf("auths: %.200q: %w", key, err)
			}
			return creds, nil
		}
	}
	return nil, nil
}

// Keys lists the keys that fit target, a repository or registry, longest first.
func Keys(target, registry string) []string {
	_, path, _ := strings.Cut(target, "/")
	key := registry
	if path != "" {
		key += "/" + path
	}
	var out []string
	for {
		out = append(out, key)
		i := strings.LastIndexByte(key, '/')
		if i < 0 || len(out) >= 256 {
			return out
		}
		key = key[:i]
	}
}

// plain gives the one name of the registry that has three.
func plain(registry string) string {
	switch registry {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return registry
}

// host reduces a key in URL form, or with the path of an API version, to its
// registry.
func host(key string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	h, path, _ := strings.Cut(bare, "/")
	if bare == key && path != "" && path != "v1/" && path != "v2/" && path != "v1" && path != "v2" {
		return "" // a namespace, which fits only what is below it
	}
	return plain(h)
}

// config decodes an entry; nil: it holds no credentials.
func (e entry) config() (*authn.AuthConfig, error) {
	c := authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth != "" {
		enc := base64.StdEncoding
		text := strings.TrimSpace(e.Auth)
		if !strings.HasSuffix(text, "=") && len(text)%4 != 0 {
			enc = base64.RawStdEncoding
		}
		decoded, err := enc.DecodeString(text)
		if err != nil {
			return nil, errors.New("auth is not base64")
		}
		username, password, ok := strings.Cut(string(decoded), ":")
		if !ok {
			return nil, errors.New("auth is not user:password in base64")
		}
		// Old versions of docker padded with NUL.
		c.Username, c.Password = username, strings.Trim(password, "\x00")
	}
	if c.IdentityToken == "" && c.RegistryToken == "" && (c.Username == "" || c.Password == "") {
		return nil, nil
	}
	return &c, nil
}
