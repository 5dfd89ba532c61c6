// Package readers has readers that are wrapped around others.
package readers

import (
	"context"
	"io"
)

// Context ends with its context's error once that is done.
type Context struct {
	Ctx context.Context // of the call that this reader serves
	R   io.Reader
}

func (r Context) Read(p []byte) (int, error) {
	if err := r.Ctx.Err(); err != nil {
		return 0, err
	}
	return r.R.Read(p)
}

// Counter counts what was read.
type Counter struct {
	R io.Reader
	N int64 // bytes
}

func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.R.Read(p)
	c.N += int64(n)
	return n, err
}
