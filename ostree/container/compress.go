package container

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/compress"
)

// compressor is a set of workers that compress the blocks of any number of
// layers at once.
type compressor struct {
	encoding encoding
	pool     *compress.Pool
}

// newCompressor starts workers; layers is how many streams may be open at a
// time. Call stop when all of them are closed.
func newCompressor(e encoding, workers, layers int) (*compressor, error) {
	pool, err := compress.NewPool(e.engine(), workers, layers)
	if err != nil {
		return nil, err
	}
	return &compressor{e, pool}, nil
}

func (c *compressor) stop() { c.pool.Close() }

// blob is what a stream became.
type blob struct {
	diffID, digest v1.Hash
	tarSize, size  int64
}

// stream compresses what is written to it, and takes both digests on the way.
type stream struct{ *compress.Writer }

// newStream starts a stream into to. Exactly one of finish and abort must follow.
func (c *compressor) newStream(ctx context.Context, to io.Writer) stream {
	return stream{c.pool.NewWriter(ctx, to)}
}

// finish ends the stream and gives its digests.
func (s stream) finish() (blob, error) {
	r, err := s.Finish()
	return blob{
		diffID: v1SHA256(r.ContentSHA256), digest: v1SHA256(r.SHA256), tarSize: r.ContentSize, size: r.Size,
	}, err
}

// abort gives up: what was written so far is of no use.
func (s stream) abort() { s.Abort() }

func v1SHA256(sum [sha256.Size]byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hexString(sum[:])}
}

func sum256(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hexString(h.Sum(nil))}
}
