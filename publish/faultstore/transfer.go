package faultstore

import (
	"context"
	"io"

	"github.com/okd-project/okd-streams/publish"
)

// source breaks each time it is opened.
type source struct {
	publish.Source
	fault *Fault
	key   string
}

func (s *source) Open(ctx context.Context) (io.ReadCloser, error) {
	body, err := s.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return s.fault.reader(ctx, s.key, body), nil
}

// reader breaks body where the fault is one of a transfer.
func (f *Fault) reader(ctx context.Context, key string, body io.ReadCloser) io.ReadCloser {
	if f == nil || f.Kind == Before || f.Kind == After {
		return body
	}
	return &reader{ReadCloser: body, ctx: ctx, fault: f, key: key}
}

type reader struct {
	io.ReadCloser
	ctx   context.Context // of the call that this reader serves
	fault *Fault
	key   string
	at    int64
}

func (r *reader) Read(p []byte) (int, error) {
	left := r.fault.At - r.at
	if left <= 0 && r.fault.Kind != Corrupt {
		switch r.fault.Kind {
		case Truncate:
			return 0, io.EOF
		case Stall:
			<-r.ctx.Done()
			return 0, &publish.Error{Op: "read", Target: r.key, Err: r.ctx.Err()}
		default:
			return 0, r.fault.err("read", r.key)
		}
	}
	if r.fault.Kind != Corrupt {
		p = p[:min(int64(len(p)), left)]
	}
	n, err := r.ReadCloser.Read(p)
	if r.fault.Kind == Corrupt && left >= 0 && left < int64(n) {
		p[left] ^= 0xff
	}
	r.at += int64(n)
	return n, err
}
