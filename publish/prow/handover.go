package prow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/publish"
)

// Defaults of waiting.
const (
	// DefaultLimit is how long an import may take; OpenShift looks at scheduled
	// ones every 15 minutes.
	DefaultLimit = 30 * time.Minute
	// DefaultInterval is how long to wait between two looks.
	DefaultInterval = 30 * time.Second
)

// HandOverOptions are options of [HandOver]; nil and the zero value are useful.
type HandOverOptions struct {
	// Stream gives the image stream as it is now, and StreamTag is the tag of
	// it that imports the image; nil: the registry alone is looked at.
	Stream    func(ctx context.Context) (*ImageStream, error)
	StreamTag string
	Limit     time.Duration // 0: [DefaultLimit]
	Interval  time.Duration // between looks; 0: [DefaultInterval]
	// Wait sleeps; nil: with a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// HandOver checks that an image that was pushed arrived: the registry's tag, which
// the image stream follows, has its digest, and within a time limit the image
// stream's tag has it too. The registry is asked once: a tag that is not there is an
// error that wraps [fs.ErrNotExist], one with another digest, since somebody else
// pushed, an error that wraps [publish.ErrDigest]. If the image stream has another
// image, or none, when the limit is over, the error says what it has.
func HandOver(ctx context.Context, registry publish.Registry, tag name.Tag, want v1.Hash, opts *HandOverOptions) error {
	o := HandOverOptions{}
	if opts != nil {
		o = *opts
	}
	wait, interval := waiter(o.Wait, o.Interval)
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	fail := func(err error) error { return &Error{Op: "hand over", Target: tag.String(), Err: err} }
	desc, err := registry.Head(ctx, tag)
	if err != nil {
		return fail(err)
	}
	if desc.Digest != want {
		return fail(fmt.Errorf("the tag is at %s, but %s was pushed: somebody else pushes to it: %w", desc.Digest, want, publish.ErrDigest))
	}
	if o.Stream == nil {
		return nil
	}
	for waited := time.Duration(0); ; waited += interval {
		s, err := o.Stream(ctx)
		if err == nil {
			err = s.Imported(o.StreamTag, want)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errNotImported):
			return fail(err)
		case waited >= o.Limit:
			return fail(fmt.Errorf("after %s: %w", waited, err))
		}
		if err := wait(ctx, min(interval, o.Limit-waited)); err != nil {
			return fail(err)
		}
	}
}

func waiter(wait func(context.Context, time.Duration) error, interval time.Duration) (func(context.Context, time.Duration) error, time.Duration) {
	if wait == nil {
		wait = func(ctx context.Context, d time.Duration) error {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-timer.C:
				return nil
			}
		}
	}
	if interval <= 0 {
		interval = DefaultInterval
	}
	return wait, interval
}

// WatchOptions are options of [Watch]; nil and the zero value are useful.
type WatchOptions struct {
	Interval time.Duration // between looks; 0: [DefaultInterval]
	// Last is the digest that is known already; zero: none.
	Last v1.Hash
	// Wait sleeps; nil: with a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Watch looks at a tag of a registry until ctx ends and gives each digest that
// it gets, which is how an image stream with a scheduled import follows it. A
// tag that is not there yet is waited for. The sequence ends after an error,
// that of ctx too.
func Watch(ctx context.Context, registry publish.Registry, tag name.Tag, opts *WatchOptions) iter.Seq2[v1.Hash, error] {
	o := WatchOptions{}
	if opts != nil {
		o = *opts
	}
	wait, interval := waiter(o.Wait, o.Interval)
	return func(yield func(v1.Hash, error) bool) {
		fail := func(err error) { yield(v1.Hash{}, &Error{Op: "watch", Target: tag.String(), Err: err}) }
		last := o.Last
		for {
			desc, err := registry.Head(ctx, tag)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				fail(err)
				return
			case desc.Digest != last:
				last = desc.Digest
				if !yield(last, nil) {
					return
				}
			}
			if err := wait(ctx, interval); err != nil {
				fail(err)
				return
			}
		}
	}
}
