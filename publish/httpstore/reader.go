package httpstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// minGain is how many bytes make a resumed transfer worth while.
const minGain = 64 << 10

func newHash() hash.Hash { return sha256.New() }

// reader reads an object from at to end and takes up what broke off.
type reader struct {
	ctx     context.Context // of the call that this reader serves
	s       *Store
	answer  *answer
	key     string
	at, end int64
	hash    hash.Hash // nil: nothing to check
	idle    int       // resumes in turn that gained little
	gained  int64     // since the last resume
	err     error     // sticky
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 || r.err != nil {
		return 0, r.err
	}
	for {
		if err := r.ctx.Err(); err != nil {
			r.err = r.s.fail("read", r.key, err)
			return 0, r.err
		}
		if r.at >= r.end {
			r.err = r.finish()
			return 0, r.err
		}
		n, err := r.answer.body.Read(p[:min(int64(len(p)), r.end-r.at)])
		if n > 0 {
			r.at += int64(n)
			if r.gained += int64(n); r.gained >= minGain {
				r.idle = 0
			}
			if r.hash != nil {
				r.hash.Write(p[:n])
			}
			return n, nil // an error comes again
		}
		if err == nil {
			continue
		}
		if err := r.resume(unexpected(err)); err != nil {
			r.err = r.s.fail("read", r.key, err)
			return 0, r.err
		}
	}
}

// finish checks the whole, and that nothing follows it.
func (r *reader) finish() error {
	if r.hash != nil {
		if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.answer.info.SHA256 {
			return r.s.fail("read", r.key, fmt.Errorf("sha256 %s, the server promised %s: %w", got, r.answer.info.SHA256, publish.ErrDigest))
		}
	}
	return io.EOF
}

// resume asks for the rest after broken.
func (r *reader) resume(broken error) error {
	if r.idle >= r.s.resumes || r.ctx.Err() != nil || !httpx.Temporary(broken) {
		return broken
	}
	old := r.answer
	if old.validator == "" {
		return fmt.Errorf("server has no ETag to go on by: %w", broken)
	}
	r.idle++
	r.gained = 0
	old.body.Close()
	next, err := r.s.get(r.ctx, r.key, r.at, r.end, old)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleted while it was read: %w", publish.ErrConflict)
	}
	if err != nil {
		return err
	}
	next.info = old.info // the digest to check may not be sent again
	r.answer = next
	return nil
}

// Close ends the transfer.
func (r *reader) Close() error { return r.answer.body.Close() }
