// Package limitstore is a [publish.Store] that asks another one for no more
// than so many things at once, and moves no more than so many bytes a second:
// for servers that are shared with others, and for thin lines.
package limitstore

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/okd-project/okd-streams/publish"
)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// Concurrency is how many calls are under way at most. An Open ends when
	// there is a reader, not with it: who reads one object to write another
	// would wait for itself otherwise. For the same reason a source that is
	// opened with the context of its Put may ask this store. 0: no limit.
	Concurrency int
	// BytesPerSecond is how fast all readers together are, and the sources of
	// all Puts together; each way has it for itself. 0: no limit.
	BytesPerSecond int64
}

// Store limits another store. It may be used from any goroutine; make one with
// [New].
type Store struct {
	inner   publish.Store
	slots   chan struct{} // nil: no limit
	in, out *line         // nil: no limit
}

var _ publish.Store = (*Store)(nil)

// New makes a store that passes everything on to inner. A negative limit gives
// [io/fs.ErrInvalid]. opts may be nil. The caller closes inner where that is
// needed.
func New(inner publish.Store, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if opts.Concurrency < 0 || opts.BytesPerSecond < 0 {
		return nil, fail("open store", "limit", fmt.Errorf("a limit is negative: %w", fs.ErrInvalid))
	}
	s := &Store{inner: inner}
	if opts.Concurrency > 0 {
		s.slots = make(chan struct{}, opts.Concurrency)
	}
	if opts.BytesPerSecond > 0 {
		s.in, s.out = newLine(opts.BytesPerSecond), newLine(opts.BytesPerSecond)
	}
	return s, nil
}

// Unwrap gives the inner store.
func (s *Store) Unwrap() publish.Store { return s.inner }

func fail(op, key string, err error) error { return &publish.Error{Op: op, Target: key, Err: err} }

// heldKey is the context key of the store whose slot a call has.
type heldKey struct{ s *Store }

// take waits for a slot; give gives it back.
func (s *Store) take(ctx context.Context) (_ context.Context, give func(), _ error) {
	if s.slots == nil || ctx.Value(heldKey{s}) != nil {
		return ctx, func() {}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	select {
	case s.slots <- struct{}{}:
		return context.WithValue(ctx, heldKey{s}, true), func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	_, give, err := s.take(ctx)
	if err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	defer give()
	body, info, err := s.inner.Open(ctx, key)
	if err != nil {
		return nil, info, err
	}
	return s.in.reader(ctx, key, body), info, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	_, give, err := s.take(ctx)
	if err != nil {
		return publish.Info{}, fail("stat", key, err)
	}
	defer give()
	return s.inner.Stat(ctx, key)
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	ctx, give, err := s.take(ctx)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	defer give()
	if s.out != nil && src != nil {
		src = &source{Source: src, key: key, line: s.out}
	}
	return s.inner.Put(ctx, key, src, opts)
}

// source is read at the speed of a line.
type source struct {
	publish.Source
	key  string
	line *line
}

func (s *source) Open(ctx context.Context) (io.ReadCloser, error) {
	body, err := s.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return s.line.reader(ctx, s.key, body), nil
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	_, give, err := s.take(ctx)
	if err != nil {
		return fail("delete", key, err)
	}
	defer give()
	return s.inner.Delete(ctx, key)
}

// List gives objects by key. It is a call of its own each time it goes on.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		next, stop := iter.Pull2(s.inner.List(ctx, prefix))
		defer stop()
		for {
			_, give, err := s.take(ctx)
			if err != nil {
				yield(publish.Info{}, fail("list", prefix, err))
				return
			}
			info, err, ok := next()
			give()
			if !ok || !yield(info, err) || err != nil {
				return
			}
		}
	}
}
