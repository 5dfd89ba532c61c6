package bootimage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/verify"
)

// Uncompress reads src, a gzip, xz or zstd file, to its end and writes its
// content to dst; blocks of xz whose sizes are in their headers are decoded on several
// processors. Both must be as want says: size and SHA-256 of the file and of
// its content, where want has them (what it does not have is 0 or ""). Content of more
// than want.UncompressedSize bytes, or 1 TiB where that is 0, is not written. An
// error that wraps [ErrVerification] says that bytes are wrong or damaged; what was
// written then is to be thrown away, as of [UncompressBuild] it is.
func Uncompress(ctx context.Context, dst io.Writer, src io.Reader, want Measurement) (Measurement, error) {
	m, err := uncompressStream(ctx, dst, src, want, decompress.MaxXZAhead)
	if err != nil {
		return Measurement{}, fmt.Errorf("bootimage: uncompress: %w", err)
	}
	return m, nil
}

func uncompressStream(ctx context.Context, dst io.Writer, src io.Reader, want Measurement, memory int64) (m Measurement, err error) {
	outer := &counter{ctx: ctx, r: src, hash: sha256.New()}
	// The file is read and hashed, decoded, and its content hashed and written by three
	// goroutines.
	packed := verify.NewAhead(outer)
	defer packed.Close()
	file := &keptError{r: packed}
	br := bufio.NewReaderSize(file, 256<<10)
	magic, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return m, err
	}
	if m.Compression = compression(magic); m.Compression == "" {
		return m, fmt.Errorf("neither gzip nor xz nor zstd: %w", errors.ErrUnsupported)
	}
	content, err := decompress.NewParallelReader(br, decoders(), memory)
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	limit := int64(1 << 40)
	if want.UncompressedSize > 0 {
		limit = want.UncompressedSize
	}
	unpacked := verify.NewAhead(&unpackReader{content, file})
	inner := &counter{ctx: ctx, r: unpacked, hash: sha256.New()}
	_, err = io.CopyBuffer(struct{ io.Writer }{dst}, onlyReader{io.LimitReader(inner, limit)}, make([]byte, 256<<10))
	if err == nil {
		// The decoder checks the end of the file when it is asked for more.
		var more int
		if more, err = io.ReadFull(inner, make([]byte, 1)); more > 0 {
			err = fmt.Errorf("content of more than %d bytes: %w", limit, ErrVerification)
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	unpacked.Close() // it reads content
	if closeErr := content.Close(); err == nil {
		err = closeErr
	}
	if err == nil { // what follows the content belongs to the file
		_, err = io.CopyBuffer(io.Discard, onlyReader{br}, make([]byte, 256<<10))
	}
	if err != nil {
		return m, err
	}
	m.Size, m.SHA256 = outer.n, hex.EncodeToString(outer.hash.Sum(nil))
	m.UncompressedSize, m.UncompressedSHA256 = inner.n, hex.EncodeToString(inner.hash.Sum(nil))
	return m, m.match(want)
}

// decoders is how many blocks of a file are decoded at once.
func decoders() int { return min(runtime.GOMAXPROCS(0), 4) }

// match says how m differs from what want has.
func (m Measurement) match(want Measurement) error {
	for _, c := range []struct {
		what       string
		got, want  string
		size, must int64
	}{
		{"the file", m.SHA256, want.SHA256, m.Size, want.Size},
		{"the content", m.UncompressedSHA256, want.UncompressedSHA256, m.UncompressedSize, want.UncompressedSize},
	} {
		switch {
		case c.must != 0 && c.size != c.must:
			return fmt.Errorf("%s has %d bytes, want %d: %w", c.what, c.size, c.must, ErrVerification)
		case c.want != "" && c.got != c.want:
			return fmt.Errorf("SHA-256 of %s is %s, want %s: %w", c.what, c.got, c.want, ErrVerification)
		}
	}
	return nil
}

// keptError keeps the error of a reader.
type keptError struct {
	r   io.Reader
	err error
}

func (k *keptError) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		k.err = err
	}
	return n, err
}

// unpackReader tells damage, an error of the decoder, from an error of reading the
// file.
type unpackReader struct {
	content io.Reader
	file    *keptError
}

func (u *unpackReader) Read(p []byte) (int, error) {
	n, err := u.content.Read(p)
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case u.file.err != nil:
		err = u.file.err
	default:
		err = fmt.Errorf("damaged: %w: %w", ErrVerification, err)
	}
	return n, err
}
