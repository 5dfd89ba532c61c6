package bootimage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/okd-project/okd-streams/internal/decompress"
)

// Measurement is what a catalogue says of a file's bytes.
type Measurement struct {
	Size        int64  // bytes
	SHA256      string // lower-case hexadecimal
	Compression string // gz, xz, zst, or "" where the file is not compressed
	// Of the content of a compressed file; else 0 and "".
	UncompressedSize   int64
	UncompressedSHA256 string
}

// Image is the artifact with these measures.
func (m Measurement) Image(path string) Image {
	return Image{Path: path, SHA256: m.SHA256, Size: m.Size, UncompressedSHA256: m.UncompressedSHA256, UncompressedSize: m.UncompressedSize}
}

// MeasureOptions are options of [Measure].
type MeasureOptions struct {
	// Plain measures the bytes as they are. Kernels and initramfs are
	// compressed inside, yet their content is never spoken of.
	Plain bool
	// MaxUncompressed is the most bytes that the content may have; 0: 1 TiB.
	MaxUncompressed int64
}

// Measure reads r to its end, once, and measures it and, where it is gzip, xz
// or zstd, its content. A damaged file is an error, as is content of more than
// opts.MaxUncompressed bytes. Memory is bounded whatever the size; ctx is
// looked at with every block.
func Measure(ctx context.Context, r io.Reader, opts *MeasureOptions) (Measurement, error) {
	var o MeasureOptions
	if opts != nil {
		o = *opts
	}
	if o.MaxUncompressed <= 0 {
		o.MaxUncompressed = 1 << 40
	}
	var m Measurement
	outer := &counter{ctx: ctx, r: r, hash: sha256.New()}
	br := bufio.NewReaderSize(outer, 256<<10)
	magic, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("bootimage: measure: %w", err)
	}
	if !o.Plain {
		m.Compression = compression(magic)
	}
	if m.Compression != "" {
		content, err := decompress.NewParallelReader(br, decoders(), decompress.MaxXZAhead)
		if err != nil {
			return Measurement{}, fmt.Errorf("bootimage: measure %s content: %w", m.Compression, err)
		}
		inner := &counter{ctx: ctx, r: io.LimitReader(content, o.MaxUncompressed+1), hash: sha256.New()}
		_, err = io.CopyBuffer(io.Discard, onlyReader{inner}, make([]byte, 256<<10))
		if err := errors.Join(err, content.Close()); err != nil {
			return Measurement{}, fmt.Errorf("bootimage: measure %s content: after %d bytes: %w", m.Compression, inner.n, err)
		}
		if inner.n > o.MaxUncompressed {
			return Measurement{}, fmt.Errorf("bootimage: measure %s content: more than %d bytes", m.Compression, o.MaxUncompressed)
		}
		m.UncompressedSize, m.UncompressedSHA256 = inner.n, hex.EncodeToString(inner.hash.Sum(nil))
	}
	if _, err := io.CopyBuffer(io.Discard, onlyReader{br}, make([]byte, 256<<10)); err != nil {
		return Measurement{}, fmt.Errorf("bootimage: measure: after %d bytes: %w", outer.n, err)
	}
	m.Size, m.SHA256 = outer.n, hex.EncodeToString(outer.hash.Sum(nil))
	return m, nil
}

// compression tells a file's by its first bytes.
func compression(magic []byte) string {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		return "gz"
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zst"
	}
	return ""
}

// counter hashes and counts what passes, and stops with its context.
type counter struct {
	ctx  context.Context
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}

// onlyReader hides WriteTo, so that blocks stay as large as the buffer.
type onlyReader struct{ io.Reader }
