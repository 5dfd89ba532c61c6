package containersauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// File is a decoded credentials file.
type File struct {
	auths   map[string]entry
	helpers map[string]string
	store   string
	legacy  bool
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
	var doc struct {
		Auths   map[string]json.RawMessage `json:"auths"`
		Helpers map[string]string          `json:"credHelpers"`
		Store   string                     `json:"credsStore"`
	}
	if err := decodeFile(data, &doc); err != nil {
		return nil, err
	}
	auths, err := entries("auths: ", doc.Auths)
	if err != nil {
		return nil, err
	}
	return &File{auths: auths, helpers: doc.Helpers, store: doc.Store}, nil
}

// DecodeLegacy is [Decode] for the format of ~/.dockercfg.
func DecodeLegacy(data []byte) (*File, error) {
	var doc map[string]json.RawMessage
	if err := decodeFile(data, &doc); err != nil {
		return nil, err
	}
	auths, err := entries("", doc)
	if err != nil {
		return nil, err
	}
	return &File{auths: auths, legacy: true}, nil
}

func decodeFile(data []byte, v any) error {
	if len(data) > MaxFileSize {
		return fmt.Errorf("more than %d bytes: %w", MaxFileSize, errors.ErrUnsupported)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil // as podman makes it before the first login
	}
	return decode(data, v)
}

func entries(place string, auths map[string]json.RawMessage) (map[string]entry, error) {
	out := make(map[string]entry, len(auths))
	for _, key := range slices.Sorted(maps.Keys(auths)) {
		var e entry
		if err := decode(auths[key], &e); err != nil {
			return nil, fmt.Errorf("%s%.200q: %w", place, key, err)
		}
		out[key] = e
	}
	return out, nil
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

// find looks t up. nil: no credentials, and why, if there is more to say than
// that.
func (f *File) find(t target, help asker) (config *authn.AuthConfig, where string, err error) {
	// Helpers are for registries only, as containers-auth.json(5) says.
	for _, registry := range names(t.registry) {
		name, ok := f.helpers[registry]
		if !ok {
			continue
		}
		where := fmt.Sprintf("credential helper %.64q for %s", name, registry)
		config, err := program(help, name, registry)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", where, err)
		}
		return config, where, nil
	}
	if key, ok := f.key(t); ok {
		where := fmt.Sprintf("auths %.200q", key)
		config, err := f.auths[key].config()
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", where, err)
		}
		if config != nil {
			return config, where, nil
		}
	}
	if f.store == "" || help == nil {
		return nil, "", nil
	}
	// Docker knows its own registry by an address alone.
	server := t.registry
	if server == hub {
		server = hubAddress
	}
	where = fmt.Sprintf("credsStore %.64q", f.store)
	config, err = help(f.store, server)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, "", err
	case err != nil:
		return nil, fmt.Sprintf("%s: %v", where, err), nil
	}
	return config, where, nil
}

// key gives the key of auths that counts for t.
func (f *File) key(t target) (string, bool) {
	keys := t.keys
	if f.legacy {
		keys = keys[len(keys)-1:]
	}
	for _, key := range keys {
		if _, ok := f.auths[key]; ok {
			return key, true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.auths)) {
		if f.host(key) == t.registry {
			return key, true
		}
	}
	return "", false
}

// host reduces a key in URL form, or with the path of an API version, to its
// registry.
func (f *File) host(key string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	h, path, _ := strings.Cut(bare, "/")
	if !f.legacy && bare == key && path != "" && path != "v1/" && path != "v2/" && path != "v1" && path != "v2" {
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
