// Package logstore is a [publish.Store] that tells a log what is asked of
// another one: what is read at debug level, what is changed at info level, what
// fails at the same level with the error. No log line holds content, and keys
// and errors are without credentials.
package logstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// Store logs the calls of another store. It may be used from any goroutine;
// make one with [New].
type Store struct {
	inner publish.Store
	log   *slog.Logger
}

var _ publish.Store = (*Store)(nil)

// New makes a store that passes everything on to inner; nil log: silent.
// The caller closes inner where that is needed.
func New(inner publish.Store, log *slog.Logger) *Store {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{inner: inner, log: log}
}

// Unwrap gives the inner store.
func (s *Store) Unwrap() publish.Store { return s.inner }

// done logs a call that has ended.
func (s *Store) done(ctx context.Context, level slog.Level, op, key string, err error, attrs ...slog.Attr) {
	if !s.log.Enabled(ctx, level) {
		return
	}
	all := append([]slog.Attr{slog.String("op", op), slog.String("key", httpx.RedactText(key))}, attrs...)
	if err != nil {
		all = append(all, slog.String("error", httpx.Redact(err).Error()))
	}
	s.log.LogAttrs(ctx, level, "store", all...)
}

func described(info publish.Info) []slog.Attr {
	return []slog.Attr{slog.Int64("size", info.Size), slog.String("revision", info.Revision)}
}

// Open reads an object. It is logged once when it is opened and once when it
// is closed, with the bytes that were read.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	body, info, err := s.inner.Open(ctx, key)
	s.done(ctx, slog.LevelDebug, "open", key, err, described(info)...)
	if err != nil {
		return nil, info, err
	}
	return &reader{ReadCloser: body, ctx: ctx, s: s, key: key}, info, nil
}

type reader struct {
	io.ReadCloser
	ctx  context.Context // of the Open that this reader serves
	s    *Store
	key  string
	read int64
	err  error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (r *reader) Close() error {
	err := r.ReadCloser.Close()
	r.s.done(r.ctx, slog.LevelDebug, "close", r.key, errors.Join(r.err, err), slog.Int64("read", r.read))
	return err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	info, err := s.inner.Stat(ctx, key)
	s.done(ctx, slog.LevelDebug, "stat", key, err, described(info)...)
	return info, err
}

// Put stores an object.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	info, err := s.inner.Put(ctx, key, src, opts)
	attrs := described(info)
	if opts != nil && opts.IfAbsent {
		attrs = append(attrs, slog.Bool("if_absent", true))
	}
	if opts != nil && opts.IfRevision != "" {
		attrs = append(attrs, slog.String("if_revision", opts.IfRevision))
	}
	s.done(ctx, slog.LevelInfo, "put", key, err, attrs...)
	return info, err
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.inner.Delete(ctx, key)
	s.done(ctx, slog.LevelInfo, "delete", key, err)
	return err
}

// List gives objects by key. It is logged when it ends, with their number.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		n, fault := 0, error(nil)
		defer func() { s.done(ctx, slog.LevelDebug, "list", prefix, fault, slog.Int("objects", n)) }()
		for info, err := range s.inner.List(ctx, prefix) {
			if fault = err; err == nil {
				n++
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
