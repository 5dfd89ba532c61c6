// Package cachestore is a [publish.Store] in front of a slow one: what was read
// once is read from a local store afterwards, as long as the object has not
// changed. Each Open still asks the remote store what the object is now, one
// Stat; its bytes move once.
//
// In the local store, which is for this cache alone, content lies below
// "sha256/" under its SHA-256 where the remote store tells it, and below
// "revision/" under a hash of key and revision where it does not. It is there
// whole or not at all, checked when it comes and each time it is read, and never
// changed, so any number of processes may share it. Nothing is ever removed:
// whoever owns it deletes what is old, at any time.
package cachestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// MaxSize is the size of the largest object that is kept, bytes; larger
	// ones are read from the remote store each time. 0: no limit.
	MaxSize int64
}

// Store reads through a cache; everything else is done by the remote store. It
// may be used from any goroutine; make one with [New].
type Store struct {
	remote, local publish.Store
	maxSize       int64

	mu      sync.Mutex
	filling map[string]*fill
}

var _ publish.Store = (*Store)(nil)

// fill is content on its way into the local store.
type fill struct {
	turn  chan struct{} // one holder at a time
	users int
}

// New makes a cache of remote in local. opts may be nil. The caller closes
// both where that is needed.
func New(remote, local publish.Store, opts *Options) *Store {
	s := &Store{remote: remote, local: local, filling: map[string]*fill{}}
	if opts != nil {
		s.maxSize = opts.MaxSize
	}
	return s
}

// Unwrap gives the remote store.
func (s *Store) Unwrap() publish.Store { return s.remote }

// fail makes the error of a method from one of a store beneath it.
func fail(op, key string, err error) error {
	if pe, ok := errors.AsType[*publish.Error](err); ok {
		return &publish.Error{Op: op, Target: key, Err: pe.Err, Retryable: pe.Retryable}
	}
	return &publish.Error{Op: op, Target: key, Err: err}
}

// place is where the content of an object lies in the local store.
func place(info publish.Info) string {
	if sum := info.SHA256; sum != "" {
		return "sha256/" + sum[:min(2, len(sum))] + "/" + sum
	}
	h := sha256.Sum256([]byte(info.Key + "\x00" + info.Revision))
	sum := hex.EncodeToString(h[:])
	return "revision/" + sum[:2] + "/" + sum
}

// Open reads an object, from the local store if it is there and else after it
// was brought there. Faults of the local store do not keep it from being read.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	info, err := s.remote.Stat(ctx, key)
	if err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	at := place(info)
	if s.maxSize > 0 && info.Size > s.maxSize || publish.CheckKey(at) != nil {
		return s.remote.Open(ctx, key)
	}
	if body, ok := s.cached(ctx, at, info); ok {
		return body, info, nil
	}
	release, err := s.lock(ctx, at)
	if err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	defer release()
	if body, ok := s.cached(ctx, at, info); ok { // another was faster
		return body, info, nil
	}
	src := &source{remote: s.remote, info: info}
	if _, err = s.local.Put(ctx, at, src, &publish.PutOptions{SHA256: info.SHA256}); err == nil {
		if body, ok := s.cached(ctx, at, info); ok {
			return body, info, nil
		}
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, publish.Info{}, fail("open", key, ctxErr)
	}
	if !src.changed && (src.fault != nil || errors.Is(err, publish.ErrDigest)) {
		return nil, publish.Info{}, fail("open", key, err)
	}
	// The object was replaced meanwhile, or the local store is out of order.
	return s.remote.Open(ctx, key)
}

// cached opens content in the local store, if it is there. Content of another
// size than the object's is not taken.
func (s *Store) cached(ctx context.Context, at string, info publish.Info) (io.ReadCloser, bool) {
	body, local, err := s.local.Open(ctx, at)
	if err != nil {
		return nil, false
	}
	sum := info.SHA256
	if sum == "" {
		sum = local.SHA256
	}
	if local.Size != info.Size || sum == "" {
		body.Close()
		return nil, false
	}
	checked, err := verify.NewReader(body, v1.Hash{Algorithm: "sha256", Hex: sum}, info.Size)
	if err != nil {
		body.Close()
		return nil, false
	}
	return &reader{Closer: body, body: checked, ctx: ctx, s: s, at: at, key: info.Key}, true
}

// lock lets one caller at a time bring content to the local store.
func (s *Store) lock(ctx context.Context, at string) (release func(), _ error) {
	s.mu.Lock()
	f := s.filling[at]
	if f == nil {
		f = &fill{turn: make(chan struct{}, 1)}
		s.filling[at] = f
	}
	f.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.users--; f.users == 0 {
			delete(s.filling, at)
		}
	}
	select {
	case f.turn <- struct{}{}:
		return func() { <-f.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	return s.remote.Stat(ctx, key)
}

// Put stores an object in the remote store; the cache learns of it when it is
// read.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	return s.remote.Put(ctx, key, src, opts)
}

// Delete removes an object from the remote store.
func (s *Store) Delete(ctx context.Context, key string) error { return s.remote.Delete(ctx, key) }

// List gives objects by key, as the remote store has them.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return s.remote.List(ctx, prefix)
}
