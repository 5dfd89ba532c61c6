package containersauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// MaxFileSize bounds a credentials file, bytes.
const MaxFileSize = 1 << 20

// FilesHelper is the name under which the credentials files stand in
// [Options.Helpers], as in registries.conf.
const FilesHelper = "containers-auth.json"

// Helper gets credentials for a registry from the named helper program, which
// is docker-credential-NAME; its answer is user name and secret, and the user
// name "<token>" says that the secret is an identity token. No credentials is
// an error that wraps [io/fs.ErrNotExist].
type Helper func(ctx context.Context, name, registry string) (username, secret string, err error)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// Given are credentials that the user gave for a registry, namespace or
	// repository, as a key of a file names it. They go before everything else.
	Given map[string]authn.AuthConfig
	// File is a credentials file named by the user: it must exist, and no
	// other is read. "": Files are.
	File string
	// Files are read in this order, as [DefaultPaths] gives them; those that
	// do not exist are skipped.
	Files []string
	// Helpers are names of helper programs to ask for every registry, in this
	// order; [FilesHelper] stands for the files. None: the files alone.
	Helpers []string
	// Helper runs credential helpers; nil: [errors.ErrUnsupported] where one
	// is needed.
	Helper Helper
}

// Keychain finds credentials. Files are read anew at each question, for a login
// may happen at any time; what a helper said is kept for [Lifetime]. It may be
// used from any goroutine.
type Keychain struct {
	opts Options

	mu    sync.Mutex
	calls map[string]*call
}

var (
	_ authn.Keychain        = (*Keychain)(nil)
	_ authn.ContextKeychain = (*Keychain)(nil)
)

// New gives a keychain. opts may be nil: everyone is anonymous then.
func New(opts *Options) *Keychain {
	k := &Keychain{calls: map[string]*call{}}
	if opts != nil {
		k.opts = *opts
		k.opts.Given = maps.Clone(opts.Given)
		k.opts.Files = slices.Clone(opts.Files)
		k.opts.Helpers = slices.Clone(opts.Helpers)
	}
	return k
}

// Resolve finds credentials for a repository or registry, always as
// [*Credentials]. It runs no helper: use [Keychain.ResolveContext].
func (k *Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	c, err := k.resolve(target, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ResolveContext is [Keychain.Resolve] with helpers.
func (k *Keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	c, err := k.find(ctx, target)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (k *Keychain) find(ctx context.Context, target authn.Resource) (*Credentials, error) {
	if k.opts.Helper == nil {
		return k.resolve(target, nil)
	}
	return k.resolve(target, func(name, registry string) (*authn.AuthConfig, error) { return k.ask(ctx, name, registry) })
}

// target is what credentials are wanted for.
type target struct {
	keys     []string // longest first
	registry string   // host:port, docker.io
}

func (k *Keychain) resolve(resource authn.Resource, help asker) (*Credentials, error) {
	c, err := k.look(resource, help)
	if err != nil {
		return nil, err
	}
	c.keychain, c.target, c.fresh = k, resource, time.NewTimer(Lifetime)
	return c, nil
}

func (k *Keychain) look(resource authn.Resource, help asker) (*Credentials, error) {
	registry := plain(resource.RegistryStr())
	t := target{keys: Keys(resource.String(), registry), registry: registry}
	for _, key := range t.keys {
		if config, ok := k.opts.Given[key]; ok {
			return &Credentials{Place: fmt.Sprintf("credentials given for %s", key), config: config}, nil
		}
	}
	helpers := k.opts.Helpers
	if len(helpers) == 0 {
		helpers = []string{FilesHelper}
	}
	var errs []error
	var nothing []string
	for _, name := range helpers {
		if name != FilesHelper {
			config, err := program(help, name, t.registry)
			switch place := fmt.Sprintf("credential helper %.64q", name); {
			case err != nil:
				errs = append(errs, fmt.Errorf("containersauth: %s for %s: %w", place, t.registry, err))
			case config != nil:
				return &Credentials{Place: place, config: *config}, nil
			default:
				nothing = append(nothing, place)
			}
			continue
		}
		found, err := k.files(t, help, &nothing)
		if found != nil {
			return found, nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("containersauth: %w", err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	place := "no credentials, for none are configured"
	if len(nothing) > 0 {
		place = fmt.Sprintf("no credentials for %s in %s", t.keys[0], strings.Join(nothing, ", "))
	}
	return &Credentials{Place: place}, nil
}

// files looks into the files in turn and adds those without success to nothing.
func (k *Keychain) files(t target, help asker, nothing *[]string) (*Credentials, error) {
	files := k.opts.Files
	if k.opts.File != "" {
		files = []string{k.opts.File}
	}
	for _, path := range files {
		f, err := read(path)
		if errors.Is(err, fs.ErrNotExist) && k.opts.File == "" {
			*nothing = append(*nothing, path)
			continue
		}
		if err != nil {
			return nil, err
		}
		config, where, err := f.find(t, help)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if config != nil {
			return &Credentials{Place: where + " of " + path, config: *config}, nil
		}
		if where != "" {
			path += " (" + where + ")"
		}
		*nothing = append(*nothing, path)
	}
	return nil, nil
}

func read(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, err
	}
	decode := Decode
	if filepath.Base(path) == legacyName {
		decode = DecodeLegacy
	}
	out, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// ParseGiven reads USER:PASSWORD, as skopeo's --creds has it, for
// [Options.Given]. Its errors do not show it.
func ParseGiven(text string) (authn.AuthConfig, error) {
	username, password, ok := strings.Cut(text, ":")
	if !ok || username == "" || password == "" {
		return authn.AuthConfig{}, errors.New("containersauth: credentials are not USER:PASSWORD")
	}
	return authn.AuthConfig{Username: username, Password: password}, nil
}
