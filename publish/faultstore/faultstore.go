// Package faultstore is a [publish.Store] that breaks where a script says: the
// n-th call of a kind fails, before or after its work, or a transfer breaks
// off, stalls or carries wrong bytes. It is for tests of what must survive that.
// Each fault strikes once; a call that none strikes goes through.
//
// publishtest.Faulty asks a function at each call instead, and knows only calls.
package faultstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"path"
	"slices"
	"sync"

	"github.com/okd-project/okd-streams/publish"
)

// ErrInjected is the error of a fault that names none.
var ErrInjected = errors.New("injected fault")

// Fault says what breaks, and when.
type Fault struct {
	Op  string // "open", "stat", "put", "delete", "list"; "": any
	Key string // pattern of [path.Match] for keys and prefixes; "": any
	N   int    // which call that matches, from 1; 0: the first

	Kind Kind
	// At is how many bytes of the transfer are right: of the reader for an
	// open, of the source for a put. For a list it is objects. Not for [Before]
	// and [After].
	At int64
	// Err is the error; nil: [ErrInjected]. Not for kinds without an error.
	Err error
}

// Kind of a [Fault].
type Kind int

// Kinds of faults. Those of transfers are like [Before] for calls without one.
const (
	// Before fails the call, and nothing is done.
	Before Kind = iota
	// After does what is asked and fails then: a lost answer.
	After
	// Cut fails the transfer.
	Cut
	// Truncate ends the transfer early, without an error.
	Truncate
	// Corrupt changes the byte at [Fault.At], without an error.
	Corrupt
	// Stall stops the transfer, or the call, until the context is done.
	Stall
)

// Store breaks as its faults say. It may be used from any goroutine; make one
// with [New].
type Store struct {
	inner publish.Store

	mu     sync.Mutex
	faults []Fault // that have not struck yet
	seen   []int   // calls that matched each
	calls  []string
}

var _ publish.Store = (*Store)(nil)

// New makes a store that passes everything on to inner but what faults say. The
// caller closes inner where that is needed.
func New(inner publish.Store, faults ...Fault) *Store {
	return &Store{inner: inner, faults: slices.Clone(faults), seen: make([]int, len(faults))}
}

// Unwrap gives the inner store.
func (s *Store) Unwrap() publish.Store { return s.inner }

// Calls are the calls so far, in order, as "OP KEY".
func (s *Store) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Left are the faults that have not struck.
func (s *Store) Left() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// strike counts a call and gives the fault that strikes it, or nil.
func (s *Store) strike(op, key string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, op+" "+key)
	struck := -1
	for i, f := range s.faults {
		match, err := path.Match(f.Key, key)
		if f.Op != "" && f.Op != op || f.Key != "" && (err != nil || !match) {
			continue
		}
		if s.seen[i]++; struck < 0 && s.seen[i] >= f.N {
			struck = i
		}
	}
	if struck < 0 {
		return nil
	}
	f := s.faults[struck]
	if f.Err == nil {
		f.Err = ErrInjected
	}
	s.faults = slices.Delete(s.faults, struck, struck+1)
	s.seen = slices.Delete(s.seen, struck, struck+1)
	return &f
}

// before is the error of a fault that lets nothing happen; transfers says
// whether the call has a transfer for the fault to be in.
func (f *Fault) before(ctx context.Context, op, key string, transfers bool) error {
	switch {
	case f == nil || f.Kind == After || transfers && f.Kind != Before:
		return nil
	case f.Kind == Stall:
		<-ctx.Done()
		return &publish.Error{Op: op, Target: key, Err: ctx.Err()}
	}
	return f.err(op, key)
}

// after is the error of a fault once everything has happened.
func (f *Fault) after(op, key string) error {
	if f == nil || f.Kind != After {
		return nil
	}
	return f.err(op, key)
}

func (f *Fault) err(op, key string) error {
	return &publish.Error{Op: op, Target: key, Err: f.Err, Retryable: true}
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	f := s.strike("open", key)
	if err := f.before(ctx, "open", key, true); err != nil {
		return nil, publish.Info{}, err
	}
	body, info, err := s.inner.Open(ctx, key)
	if err != nil {
		return nil, info, err
	}
	if err := f.after("open", key); err != nil {
		body.Close()
		return nil, publish.Info{}, err
	}
	return f.reader(ctx, key, body), info, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	f := s.strike("stat", key)
	if err := f.before(ctx, "stat", key, false); err != nil {
		return publish.Info{}, err
	}
	info, err := s.inner.Stat(ctx, key)
	if err := f.after("stat", key); err != nil {
		return publish.Info{}, err
	}
	return info, err
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	f := s.strike("put", key)
	if err := f.before(ctx, "put", key, true); err != nil {
		return publish.Info{}, err
	}
	if f != nil && f.Kind != After && src != nil {
		src = &source{Source: src, fault: f, key: key}
	}
	info, err := s.inner.Put(ctx, key, src, opts)
	if err := f.after("put", key); err != nil {
		return publish.Info{}, err
	}
	return info, err
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	f := s.strike("delete", key)
	if err := f.before(ctx, "delete", key, false); err != nil {
		return err
	}
	err := s.inner.Delete(ctx, key)
	if err := f.after("delete", key); err != nil {
		return err
	}
	return err
}

// List gives objects by key.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		f := s.strike("list", prefix)
		// A list cannot be corrupt: its keys are not for us to make up.
		if err := f.before(ctx, "list", prefix, f != nil && f.Kind != Corrupt); err != nil {
			yield(publish.Info{}, err)
			return
		}
		n := int64(0)
		for info, err := range s.inner.List(ctx, prefix) {
			if f != nil && f.Kind != After && n >= f.At {
				break
			}
			if n++; !yield(info, err) || err != nil {
				return
			}
		}
		switch {
		case f == nil || f.Kind == Truncate:
		case f.Kind == Stall:
			<-ctx.Done()
			yield(publish.Info{}, &publish.Error{Op: "list", Target: prefix, Err: ctx.Err()})
		default:
			yield(publish.Info{}, f.err("list", prefix))
		}
	}
}
