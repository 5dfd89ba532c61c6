// Package dryrunstore is a [publish.Store] that writes nothing: what is put and
// deleted is checked, remembered and answered as if it were done, and what is
// read afterwards is what would be there. Everything else is read from another
// store.
package dryrunstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/okd-project/okd-streams/publish"
)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// TrustSources takes the size and SHA-256 that are promised for a source as
	// they are; otherwise, and where no SHA-256 is promised, it is read.
	TrustSources bool
}

// Call is a write that was not made.
type Call struct {
	Op   string // "put" or "delete"
	Info publish.Info
	// Replaced is whether there was an object at the key.
	Replaced bool
}

// Store is another store and what would have become of it. It keeps sources,
// not their bytes, and opens them again for readers. It may be used from any
// goroutine; make one with [New].
type Store struct {
	inner publish.Store
	trust bool

	mu    sync.Mutex
	ahead map[string]object
	calls []Call
}

// object is one that would be there, or with a nil source one that would not.
type object struct {
	info publish.Info
	src  publish.Source
}

var _ publish.Store = (*Store)(nil)

// New makes a store that reads from inner. opts may be nil. The caller closes
// inner where that is needed.
func New(inner publish.Store, opts *Options) *Store {
	s := &Store{inner: inner, ahead: map[string]object{}}
	if opts != nil {
		s.trust = opts.TrustSources
	}
	return s
}

// Unwrap gives the inner store.
func (s *Store) Unwrap() publish.Store { return s.inner }

// Calls are the writes so far, in order.
func (s *Store) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func fail(op, key string, err error) error { return &publish.Error{Op: op, Target: key, Err: err} }

// find is the object ahead at key; ok is false where inner has the say.
func (s *Store) find(ctx context.Context, op, key string) (o object, ok bool, _ error) {
	if err := ctx.Err(); err != nil {
		return object{}, false, fail(op, key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok = s.ahead[key]
	if ok && o.src == nil {
		return object{}, true, fail(op, key, fs.ErrNotExist)
	}
	return o, ok, nil
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	o, ok, err := s.find(ctx, "open", key)
	if err != nil {
		return nil, publish.Info{}, err
	}
	if !ok {
		return s.inner.Open(ctx, key)
	}
	body, err := publish.OpenSource(ctx, o.src, &publish.PutOptions{SHA256: o.info.SHA256})
	if err != nil {
		return nil, publish.Info{}, fail("open", key, err)
	}
	return &reader{body: body, key: key}, o.info, nil
}

// reader gives its errors the type that a store's have.
type reader struct {
	body *publish.Reader
	key  string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		err = fail("read", r.key, err)
	}
	return n, err
}

func (r *reader) Close() error { return r.body.Close() }

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	o, ok, err := s.find(ctx, "stat", key)
	if err != nil || ok {
		return o.info, err
	}
	return s.inner.Stat(ctx, key)
}

// Put remembers an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	o, err := publish.CheckPut(key, src, opts)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	sum := o.SHA256
	if !s.trust || sum == "" {
		if sum, err = read(ctx, src, &o); err != nil {
			return publish.Info{}, fail("put", key, err)
		}
	} else if o.Progress != nil {
		o.Progress(src.Size(), src.Size())
	}
	info := publish.Info{Key: key, Size: src.Size(), SHA256: sum, ContentType: o.ContentType}
	err = s.write(ctx, "put", &info, func(old publish.Info, exists bool) (object, error) {
		switch {
		case o.IfAbsent && exists:
			return object{}, fs.ErrExist
		case o.IfRevision != "" && (!exists || old.Revision != o.IfRevision):
			return object{}, fmt.Errorf("revision %q, want %q: %w", old.Revision, o.IfRevision, publish.ErrConflict)
		}
		info.Revision = "dry-run-" + strconv.Itoa(len(s.calls)+1)
		return object{info: info, src: src}, nil
	})
	return info, err
}

// read reads a source to its end.
func read(ctx context.Context, src publish.Source, opts *publish.PutOptions) (sha256 string, err error) {
	r, err := publish.OpenSource(ctx, src, opts)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	return r.SHA256(), nil
}

// Delete remembers that an object is gone.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := publish.CheckKey(key); err != nil {
		return fail("delete", key, err)
	}
	return s.write(ctx, "delete", &publish.Info{Key: key}, func(publish.Info, bool) (object, error) { return object{}, nil })
}

// write makes one change of what is ahead, given what is there.
func (s *Store) write(ctx context.Context, op string, info *publish.Info, change func(old publish.Info, exists bool) (object, error)) error {
	if err := ctx.Err(); err != nil {
		return fail(op, info.Key, err)
	}
	old, err := s.inner.Stat(ctx, info.Key)
	exists := err == nil
	// A store that refuses such a key would refuse to put it, too.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.ahead[info.Key]; ok {
		old, exists = o.info, o.src != nil
	}
	o, err := change(old, exists)
	if err != nil {
		key := info.Key
		*info = publish.Info{}
		return fail(op, key, err)
	}
	s.ahead[info.Key] = o
	s.calls = append(s.calls, Call{Op: op, Info: *info, Replaced: exists})
	return nil
}

// List gives objects by key, those ahead as they are when it begins.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		s.mu.Lock()
		var ahead []publish.Info
		hidden := map[string]bool{}
		for key, o := range s.ahead {
			hidden[key] = true
			if o.src != nil && strings.HasPrefix(key, prefix) {
				ahead = append(ahead, o.info)
			}
		}
		s.mu.Unlock()
		slices.SortFunc(ahead, func(a, b publish.Info) int { return cmp.Compare(a.Key, b.Key) })
		for info, err := range s.inner.List(ctx, prefix) {
			if err != nil {
				yield(info, err)
				return
			}
			for len(ahead) > 0 && ahead[0].Key < info.Key {
				if !yield(ahead[0], nil) {
					return
				}
				ahead = ahead[1:]
			}
			if !hidden[info.Key] && !yield(info, nil) {
				return
			}
		}
		for _, info := range ahead {
			if err := ctx.Err(); err != nil {
				yield(publish.Info{}, fail("list", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}
