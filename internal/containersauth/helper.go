package containersauth

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// asker asks a helper; nil, nil: it has no credentials.
type asker func(name, registry string) (*authn.AuthConfig, error)

// program asks a helper, if there is a way to.
func program(help asker, name, registry string) (*authn.AuthConfig, error) {
	if help == nil {
		return nil, errors.ErrUnsupported
	}
	return help(name, registry)
}

// call is a question to a helper, for all who ask the same.
type call struct {
	done   chan struct{}
	config *authn.AuthConfig
	err    error
	fresh  *time.Timer // once done without error
}

// stale reports whether the answer is old.
func (c *call) stale() bool {
	select {
	case <-c.done:
	default:
		return false
	}
	select {
	case <-c.fresh.C:
		return true
	default:
		return false
	}
}

// ask asks a helper, or takes its answer to the same question from less than
// [Lifetime] ago. An error is no answer. The context's error goes before the
// helper's, which may have been ended by it.
func (k *Keychain) ask(ctx context.Context, name, registry string) (*authn.AuthConfig, error) {
	key := name + " " + registry
	for {
		k.mu.Lock()
		c := k.calls[key]
		mine := c == nil || c.stale()
		if mine {
			c = &call{done: make(chan struct{})}
			k.calls[key] = c
		}
		k.mu.Unlock()
		if mine {
			k.run(ctx, c, key, name, registry)
		}
		select {
		case <-c.done:
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !mine && (errors.Is(c.err, context.Canceled) || errors.Is(c.err, context.DeadlineExceeded)):
			continue // that of another
		}
		return c.config, c.err
	}
}

func (k *Keychain) run(ctx context.Context, c *call, key, name, registry string) {
	defer func() {
		if c.fresh == nil {
			k.mu.Lock()
			delete(k.calls, key)
			k.mu.Unlock()
		}
		close(c.done)
	}()
	c.config, c.err = get(ctx, k.opts.Helper, name, registry)
	if ctx.Err() != nil {
		c.config, c.err = nil, ctx.Err()
	}
	if c.err == nil {
		c.fresh = time.NewTimer(Lifetime)
	}
}

// helperName keeps the name of a program from becoming a path.
var helperName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func get(ctx context.Context, helper Helper, name, registry string) (*authn.AuthConfig, error) {
	if !helperName.MatchString(name) {
		return nil, errors.New("not the name of a helper")
	}
	username, secret, err := helper(ctx, name, registry)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case secret == "":
		return nil, nil
	case username == "<token>":
		return &authn.AuthConfig{IdentityToken: secret}, nil
	}
	return &authn.AuthConfig{Username: username, Password: secret}, nil
}
