// Package readers has readers that are wrapped around others, and what has to be
// known of one before it is read.
package readers

import (
	"archive/tar"
	"context"
	"io"
	"strings"
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

// Sparse reports whether a file in a tar archive has holes, in any of GNU tar's
// formats: [tar.Reader] makes zeros of them, so that few bytes become as many as
// the header claims.
func Sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
