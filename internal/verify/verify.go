package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrDigest is wrapped by every error that says bytes do not have the digest
// or size promised for them. It is publish.ErrDigest.
var ErrDigest = errors.New("digest mismatch")

// SizeUnknown stands for a size that nobody promised: only the digest is
// checked, at the end of the stream.
const SizeUnknown = -1

// Reader passes bytes on and checks them. Make one with [NewReader].
type Reader struct {
	inner io.Reader
	hash  hash.Hash // nil: the digest is somebody else's to check
	want  v1.Hash
	size  int64 // promised, or SizeUnknown
	got   int64
	err   error // sticky
	// damaged is told that the bytes of a relaxed reader are others; may be nil.
	damaged func()
}

// Relaxer is a reader that checks what it gives against a digest, and can leave
// that to the one who reads from it, so that bytes are hashed once on their way.
type Relaxer interface {
	// Relax reports whether the reader was to check this digest and size, and
	// had given nothing yet; then it does not check the digest any more.
	Relax(want v1.Hash, size int64) bool
}

// NewReader gives a reader of r's bytes that fails with [ErrDigest] unless
// they are exactly size bytes with the digest want; a [Relaxer] of the same
// digest is relaxed, and where it has a method Damaged() is told by a call of it
// if its bytes are others. The check is made with the
// last promised byte, or at the end of r where size is [SizeUnknown]; never
// more than size bytes are passed on. Digests other than sha256 and sha512
// give [errors.ErrUnsupported].
func NewReader(r io.Reader, want v1.Hash, size int64) (*Reader, error) {
	h, err := hasher(want)
	if err != nil {
		return nil, err
	}
	if size < SizeUnknown {
		return nil, fmt.Errorf("verify: %s has a size of %d bytes: %w", want, size, ErrDigest)
	}
	reader := &Reader{inner: r, hash: h, want: want, size: size}
	if inner, ok := r.(Relaxer); ok && inner.Relax(want, size) {
		if owner, ok := r.(interface{ Damaged() }); ok {
			reader.damaged = owner.Damaged
		}
	}
	return reader, nil
}

// Relax makes r a [Relaxer].
func (r *Reader) Relax(want v1.Hash, size int64) bool {
	if r.got > 0 || r.err != nil || want != r.want || size != r.size {
		return false
	}
	r.hash = nil
	return true
}

// Read reads, and checks when the end is reached.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.size >= 0 && r.got == r.size {
		return 0, r.end()
	}
	if len(p) == 0 {
		return 0, nil
	}
	if left := r.size - r.got; r.size >= 0 && int64(len(p)) > left {
		p = p[:left]
	}
	n, err := r.inner.Read(p)
	if n < 0 || n > len(p) {
		r.err = fmt.Errorf("verify: %s: reader returned a count of %d for %d bytes", r.want, n, len(p))
		return 0, r.err
	}
	if r.hash != nil {
		r.hash.Write(p[:n])
	}
	r.got += int64(n)
	switch {
	case r.size >= 0 && r.got == r.size:
		if bad := r.sum(); bad != nil {
			r.err = bad
			return n, bad
		}
		if err != nil && err != io.EOF {
			err = nil // all is here and right; end() looks at what follows
		}
		if err == io.EOF {
			r.err = io.EOF
		}
		return n, err
	case err == io.EOF:
		r.err = io.EOF
		if r.size >= 0 {
			r.err = fmt.Errorf("verify: %s ends after %d of %d bytes: %w", r.want, r.got, r.size, ErrDigest)
		} else if bad := r.sum(); bad != nil {
			r.err = bad
		}
		return n, r.err
	case err != nil:
		r.err = err
	}
	return n, err
}

// end makes sure that nothing follows the promised bytes.
func (r *Reader) end() error {
	if r.size == 0 && r.got == 0 {
		if bad := r.sum(); bad != nil {
			r.err = bad
			return bad
		}
	}
	var one [1]byte
	for range 100 {
		n, err := r.inner.Read(one[:])
		switch {
		case n > 0:
			r.err = fmt.Errorf("verify: %s goes on after its %d bytes: %w", r.want, r.size, ErrDigest)
		case err == io.EOF:
			r.err = io.EOF
		case err != nil:
			r.err = err
		default:
			continue
		}
		return r.err
	}
	r.err = io.ErrNoProgress
	return r.err
}

func (r *Reader) sum() error {
	if r.hash == nil {
		return nil
	}
	if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.want.Hex {
		if r.damaged != nil {
			r.damaged()
		}
		return fmt.Errorf("verify: %d bytes have digest %s:%s, want %s: %w", r.got, r.want.Algorithm, got, r.want, ErrDigest)
	}
	return nil
}

// Err is the error that ended reading: [io.EOF] once everything was read and
// found right, nil while there is more.
func (r *Reader) Err() error { return r.err }

// Count is the number of bytes read so far.
func (r *Reader) Count() int64 { return r.got }

type readCloser struct {
	*Reader
	io.Closer
}

// ReadCloser is [NewReader] for what must be closed. It closes rc when it
// returns an error.
func ReadCloser(rc io.ReadCloser, want v1.Hash, size int64) (io.ReadCloser, error) {
	r, err := NewReader(rc, want, size)
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return readCloser{r, rc}, nil
}

// Bytes checks data against its digest and size ([SizeUnknown]: any).
func Bytes(data []byte, want v1.Hash, size int64) error {
	h, err := hasher(want)
	if err != nil {
		return err
	}
	if size != SizeUnknown && int64(len(data)) != size {
		return fmt.Errorf("verify: %s has %d bytes, want %d: %w", want, len(data), size, ErrDigest)
	}
	h.Write(data)
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return fmt.Errorf("verify: %d bytes have digest %s:%s, want %s: %w", len(data), want.Algorithm, got, want, ErrDigest)
	}
	return nil
}

// hasher also refuses digests that were not made by [v1.NewHash].
func hasher(want v1.Hash) (hash.Hash, error) {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("verify: digest algorithm %.40q: %w", want.Algorithm, errors.ErrUnsupported)
	}
	if len(want.Hex) != hex.EncodedLen(h.Size()) {
		return nil, fmt.Errorf("verify: %s digest of %d characters: %w", want.Algorithm, len(want.Hex), ErrDigest)
	}
	return h, nil
}
