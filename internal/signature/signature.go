package signature

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrSignature is wrapped by every error that says that a signature is not
// accepted, whatever the reason: malformed, not of this message, or one of the
// reasons below, which wrap it.
var ErrSignature = errors.New("signature not accepted")

// Reasons that a caller may want to tell apart.
var (
	ErrUnknownKey error = reason("made by a key that is not trusted")
	ErrExpired    error = reason("expired")
	ErrRevoked    error = reason("made by a revoked key")
	ErrWeak       error = reason("too weak")
)

type reason string

func (r reason) Error() string { return string(r) }
func (r reason) Unwrap() error { return ErrSignature }

// Copy copies src to dst until its end or the end of ctx.
func Copy(ctx context.Context, dst io.Writer, src io.Reader) error {
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
	}
}

// ReadAll reads a document of at most limit bytes; a larger one gives
// [ErrSignature] and what in its text.
func ReadAll(ctx context.Context, r io.Reader, limit int64, what string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s of more than %d bytes: %w", what, limit, ErrSignature)
	}
	return data, nil
}
