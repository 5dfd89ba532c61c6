package cachestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/okd-project/okd-streams/publish"
)

// source is the object that info describes, and no later one at its key.
type source struct {
	remote  publish.Store
	info    publish.Info
	changed bool
	fault   error // of the remote store
}

func (s *source) Size() int64 { return s.info.Size }

func (s *source) Open(ctx context.Context) (io.ReadCloser, error) {
	body, info, err := s.remote.Open(ctx, s.info.Key)
	if err != nil {
		s.fault = err
		return nil, err
	}
	if info.Revision != s.info.Revision || info.Size != s.info.Size {
		s.changed = true
		body.Close()
		return nil, fmt.Errorf("replaced while it was read: %w", publish.ErrConflict)
	}
	return &remoteReader{ReadCloser: body, s: s}, nil
}

// remoteReader tells faults of the remote store from those of the local one.
type remoteReader struct {
	io.ReadCloser
	s *source
}

func (r *remoteReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		r.s.fault = err
	}
	return n, err
}

// reader checks cached content, and throws away what is not right.
type reader struct {
	io.Closer
	body    io.Reader
	ctx     context.Context // of the Open that this reader serves
	s       *Store
	at, key string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	if errors.Is(err, publish.ErrDigest) {
		// It stays wrong if that fails; the next reader is told so, too.
		_ = r.s.local.Delete(r.ctx, r.at)
	}
	return n, &publish.Error{Op: "read", Target: r.key, Err: fmt.Errorf("cached: %w", err), Retryable: true}
}
