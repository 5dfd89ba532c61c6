package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Limits and defaults of [Update].
const (
	// MaxDocumentSize is the size of the largest document, in bytes. Stream
	// files have about 60 KB, a catalogue of a thousand builds 200 KB.
	MaxDocumentSize = 32 << 20
	// DefaultUpdateAttempts is how often a document is read and written at most.
	DefaultUpdateAttempts = 10
	// DefaultUpdateDelay is the wait before the second attempt.
	DefaultUpdateDelay = 50 * time.Millisecond
	// maxUpdateDelay bounds the doubled waits.
	maxUpdateDelay = 5 * time.Second
	// updateFailures is how many writes may fail one after another for the
	// store's own sake: it has tried each for long, and there are callers above
	// ([Apply]) that try again.
	updateFailures = 3
)

// UpdateOptions of [Update]; nil is the zero value.
type UpdateOptions struct {
	// ContentType of what is written; "": the one the document has.
	ContentType string
	// CacheControl of what is written; "": none.
	CacheControl string
	// Attempts is how often the document is read, transformed and written while
	// others write it too; 0: [DefaultUpdateAttempts]. Three failures of the
	// store in a row end it in any case.
	Attempts int
	// Delay before the second attempt, doubled for each later one up to 5 s;
	// 0: [DefaultUpdateDelay].
	Delay time.Duration
	// Jitter gives values in [0,1) that shorten each wait by up to a half, so
	// that writers who collided do not meet again; nil: whole waits.
	Jitter func() float64
	// SingleWriter says that nobody else writes this document: a store that
	// answers [errors.ErrUnsupported] to conditions is then written without.
	SingleWriter bool
}

// Update replaces the document at key by fn of it, by compare-and-swap: if
// somebody else wrote in between, it reads again and calls fn again, which
// should thus depend on nothing but its argument. fn gets nil where there is
// no document. Nothing is written if fn returns what it was given. Documents
// beyond [MaxDocumentSize] are refused.
//
// The error after the last attempt wraps [ErrConflict], or the store's error if
// that was what failed. An error of fn is returned as the cause.
func Update(ctx context.Context, s Store, key string, fn func(old []byte) ([]byte, error), opts *UpdateOptions) (Info, error) {
	var o UpdateOptions
	if opts != nil {
		o = *opts
	}
	if o.Attempts <= 0 {
		o.Attempts = DefaultUpdateAttempts
	}
	if o.Delay <= 0 {
		o.Delay = DefaultUpdateDelay
	}
	fail := func(err error) (Info, error) {
		if pe, ok := err.(*Error); ok && pe.Target == key {
			return Info{}, err // names the key already
		}
		return Info{}, &Error{Op: "update", Target: key, Err: err}
	}
	if err := CheckKey(key); err != nil {
		return fail(err)
	}
	failures := 0
	for attempt := 1; ; attempt++ {
		info, err := updateOnce(ctx, s, key, fn, &o)
		if err == nil {
			return info, nil
		}
		if !updateAgain(err) {
			return fail(err)
		}
		if failures++; errors.Is(err, ErrConflict) {
			failures = 0
		}
		if attempt == o.Attempts || failures == updateFailures {
			return Info{}, &Error{Op: "update", Target: key, Retryable: true, Err: fmt.Errorf("after %d attempts: %w", attempt, err)}
		}
		if err := wait(ctx, backoff(o.Delay, maxUpdateDelay, attempt, o.Jitter)); err != nil {
			return fail(err)
		}
	}
}

// errRetry marks errors of one attempt that the next one may not have: somebody
// else wrote, or the answer to our write was lost. In both cases reading again
// tells what is there now.
type errRetry struct{ err error }

func (e *errRetry) Error() string { return e.err.Error() }
func (e *errRetry) Unwrap() error { return e.err }

func updateAgain(err error) bool {
	_, ok := err.(*errRetry)
	return ok
}

func updateOnce(ctx context.Context, s Store, key string, fn func([]byte) ([]byte, error), o *UpdateOptions) (Info, error) {
	old, info, err := ReadDocument(ctx, s, key)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Info{}, err
	}
	given := bytes.Clone(old) // fn may work in place
	if exists && given == nil {
		given = []byte{}
	}
	data, err := fn(given)
	if err != nil {
		return Info{}, err
	}
	if int64(len(data)) > MaxDocumentSize {
		return Info{}, fmt.Errorf("new document has %d bytes, at most %d are allowed", len(data), MaxDocumentSize)
	}
	if !exists && data == nil || exists && bytes.Equal(old, data) {
		return info, nil
	}
	sum := sha256.Sum256(data)
	put := &PutOptions{
		SHA256: hex.EncodeToString(sum[:]), ContentType: o.ContentType, CacheControl: o.CacheControl,
		IfAbsent: !exists, IfRevision: info.Revision,
	}
	if put.ContentType == "" {
		put.ContentType = info.ContentType
	}
	written, err := s.Put(ctx, key, BytesSource(data), put)
	if o.SingleWriter && errors.Is(err, errors.ErrUnsupported) {
		put.IfAbsent, put.IfRevision = false, ""
		written, err = s.Put(ctx, key, BytesSource(data), put)
	}
	switch {
	case err == nil:
		return written, nil
	case errors.Is(err, ErrConflict):
		return Info{}, &errRetry{err: err}
	case errors.Is(err, fs.ErrExist):
		return Info{}, &errRetry{err: fmt.Errorf("%w: %w", ErrConflict, err)}
	}
	if pe, ok := errors.AsType[*Error](err); ok && pe.Retryable && ctx.Err() == nil {
		return Info{}, &errRetry{err: err}
	}
	return Info{}, err
}

// ReadDocument reads the whole object at key, at most [MaxDocumentSize] bytes,
// and checks it against its size and, where the store knows it, its SHA-256
// ([ErrDigest]).
func ReadDocument(ctx context.Context, s Store, key string) ([]byte, Info, error) {
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	defer body.Close()
	fail := func(err error) ([]byte, Info, error) {
		return nil, Info{}, &Error{Op: "read", Target: key, Err: err}
	}
	if info.Size > MaxDocumentSize {
		return fail(fmt.Errorf("document has %d bytes, at most %d are allowed", info.Size, MaxDocumentSize))
	}
	data, err := io.ReadAll(io.LimitReader(body, MaxDocumentSize+1))
	if err != nil {
		if pe, ok := errors.AsType[*Error](err); ok {
			return nil, Info{}, pe
		}
		return fail(err)
	}
	if int64(len(data)) != info.Size {
		return fail(fmt.Errorf("store sends %d bytes, promised were %d: %w", len(data), info.Size, ErrDigest))
	}
	if sum := sha256.Sum256(data); info.SHA256 != "" && hex.EncodeToString(sum[:]) != info.SHA256 {
		return fail(fmt.Errorf("content has sha256 %x, promised was %s: %w", sum, info.SHA256, ErrDigest))
	}
	return data, info, nil
}

// backoff is the wait after the given attempt.
func backoff(first, most time.Duration, attempt int, jitter func() float64) time.Duration {
	d := first
	for i := 1; i < attempt && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	if jitter != nil {
		d = d/2 + time.Duration(jitter()*float64(d/2))
	}
	return d
}

// wait sleeps, or returns the context's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
