// Package memstore is a [publish.Store] in memory: for tests, examples and
// dry runs. It holds every object whole, so it suits small ones.
package memstore

import (
	"bytes"
	"context"
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

// Store is a map of objects. It may be used from any goroutine; make one with
// [New]. Times of change are not kept: Info.Modified is zero.
type Store struct {
	mu      sync.Mutex
	objects map[string]object
	puts    uint64
}

type object struct {
	info publish.Info
	data []byte
}

// New is an empty store.
func New() *Store { return &Store{objects: map[string]object{}} }

func fail(op, key string, err error) error {
	return &publish.Error{Op: op, Target: key, Err: err}
}

// get is the object at key.
func (s *Store) get(ctx context.Context, op, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, fail(op, key, err)
	}
	if err := publish.CheckKey(key); err != nil {
		return object{}, fail(op, key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fail(op, key, fs.ErrNotExist)
	}
	return o, nil
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	o, err := s.get(ctx, "open", key)
	if err != nil {
		return nil, publish.Info{}, err
	}
	return &reader{ctx: ctx, key: key, data: bytes.NewReader(o.data)}, o.info, nil
}

// reader ends with its context.
type reader struct {
	ctx  context.Context // of the Open that this reader serves
	key  string
	data *bytes.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fail("read", r.key, err)
	}
	return r.data.Read(p)
}

func (r *reader) Close() error { return nil }

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	o, err := s.get(ctx, "stat", key)
	return o.info, err
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	o, err := publish.CheckPut(key, src, opts)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	// Conditions that fail already are told before any byte is moved.
	s.mu.Lock()
	err = s.condition(key, &o)
	s.mu.Unlock()
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	r, err := publish.OpenSource(ctx, src, &o)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	info := publish.Info{Key: key, Size: int64(len(data)), SHA256: r.SHA256(), ContentType: o.ContentType}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.condition(key, &o); err != nil {
		return publish.Info{}, fail("put", key, err)
	}
	s.puts++
	info.Revision = strconv.FormatUint(s.puts, 10)
	s.objects[key] = object{info: info, data: data}
	return info, nil
}

// condition checks IfAbsent and IfRevision; the caller holds the lock.
func (s *Store) condition(key string, o *publish.PutOptions) error {
	old, exists := s.objects[key]
	switch {
	case o.IfAbsent && exists:
		return fs.ErrExist
	case o.IfRevision != "" && !exists:
		return fmt.Errorf("no object, want revision %q: %w", o.IfRevision, publish.ErrConflict)
	case o.IfRevision != "" && old.info.Revision != o.IfRevision:
		return fmt.Errorf("revision %q, want %q: %w", old.info.Revision, o.IfRevision, publish.ErrConflict)
	}
	return nil
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fail("delete", key, err)
	}
	if err := publish.CheckKey(key); err != nil {
		return fail("delete", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}

// List gives the objects whose keys begin with prefix, as they are when it
// begins.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		s.mu.Lock()
		var infos []publish.Info
		for key, o := range s.objects {
			if strings.HasPrefix(key, prefix) {
				infos = append(infos, o.info)
			}
		}
		s.mu.Unlock()
		slices.SortFunc(infos, func(a, b publish.Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				yield(publish.Info{}, fail("list", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(publish.Info{}, fail("list", prefix, err))
		}
	}
}
