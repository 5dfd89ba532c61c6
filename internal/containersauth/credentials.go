package containersauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Lifetime is how long what was found, or what a helper said, is taken for
// true. Both may be good for minutes alone: helpers of clouds give tokens, and
// mounted files are replaced.
const Lifetime = time.Minute

// Credentials are what a [Keychain] found for one target. Printing them shows
// their place alone.
type Credentials struct {
	// Place says where they come from, for messages: `auths "quay.io/okd" of
	// /home/core/.docker/config.json`. Where there are none, it says that, and
	// where they were looked for.
	Place string

	keychain *Keychain
	target   authn.Resource

	mu     sync.Mutex
	config authn.AuthConfig
	fresh  *time.Timer
}

var (
	_ authn.Authenticator        = (*Credentials)(nil)
	_ authn.ContextAuthenticator = (*Credentials)(nil)
)

// Authorization gives the credentials as they were found; all fields are empty
// where there are none.
func (c *Credentials) Authorization() (*authn.AuthConfig, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.config
	return &config, nil
}

// AuthorizationContext is [Credentials.Authorization], but looks again after
// [Lifetime]. If nothing is found then, what was found before stays.
func (c *Credentials) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	if c.stale() {
		again, err := c.keychain.find(ctx, c.target)
		if err == nil && !again.Anonymous() {
			c.mu.Lock()
			c.config = again.config
			c.mu.Unlock()
		}
	}
	return c.Authorization()
}

// stale tells one caller in each [Lifetime] that it is over.
func (c *Credentials) stale() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fresh == nil {
		return false // the zero value
	}
	select {
	case <-c.fresh.C:
		c.fresh.Reset(Lifetime)
		return true
	default:
		return false
	}
}

// Explain adds to an error that wraps [fs.ErrPermission] where the credentials
// that were not good enough came from, or where there were none, if auth is
// from a [Keychain]. Any other error stays as it is.
func Explain(err error, auth authn.Authenticator) error {
	if c, ok := auth.(*Credentials); ok && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%s)", err, c.Place)
	}
	return err
}

// Anonymous reports whether there are none.
func (c *Credentials) Anonymous() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config == authn.AuthConfig{}
}

// String gives the place.
func (c *Credentials) String() string { return c.Place }

// GoString gives the place.
func (c *Credentials) GoString() string { return c.Place }

// LogValue gives the place.
func (c *Credentials) LogValue() slog.Value { return slog.StringValue(c.Place) }
