package limitstore

import (
	"context"
	"io"
	"time"
)

// maxRead is the most bytes of one read, so that a line is shared fairly.
const maxRead = 256 << 10

// line lets bytes pass at a speed, in the order in which they come. The time
// that a piece takes begins when it passes, so moving it and waiting for it
// happen at once.
type line struct {
	rate int64
	// last holds the timer of the piece that passed last, nil before the
	// first; who has it is next.
	last chan *time.Timer
}

func newLine(rate int64) *line {
	l := &line{rate: rate, last: make(chan *time.Timer, 1)}
	l.last <- nil
	return l
}

// pass waits until n bytes may pass.
func (l *line) pass(ctx context.Context, n int) error {
	var last *time.Timer
	select {
	case last = <-l.last:
	case <-ctx.Done():
		return ctx.Err()
	}
	if last != nil {
		select {
		case <-last.C:
		case <-ctx.Done():
			l.last <- last
			return ctx.Err()
		}
	}
	l.last <- time.NewTimer(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return nil
}

// reader reads body through the line; a nil line does not slow it.
func (l *line) reader(ctx context.Context, key string, body io.ReadCloser) io.ReadCloser {
	if l == nil {
		return body
	}
	return &slowReader{ReadCloser: body, ctx: ctx, line: l, key: key}
}

type slowReader struct {
	io.ReadCloser
	ctx  context.Context // of the call that this reader serves
	line *line
	key  string
}

func (r *slowReader) Read(p []byte) (int, error) {
	// A tenth of a second at most, so that the context is heard.
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), maxRead, max(1, r.line.rate/10))])
	if n > 0 {
		if passErr := r.line.pass(r.ctx, n); passErr != nil {
			return 0, fail("read", r.key, passErr)
		}
	}
	return n, err
}
