package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// BytesSource is data as a [Source]; data must not change afterwards.
func BytesSource(data []byte) Source { return bytesSource(data) }

type bytesSource []byte

func (b bytesSource) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b)), nil
}
func (b bytesSource) Size() int64 { return int64(len(b)) }

// FileSource is the regular file at path as a [Source]. Its size is taken now;
// a file that has another one when it is opened gives [ErrDigest]. The readers
// are *os.File. A symbolic link at path is not followed.
func FileSource(path string) (Source, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, &Error{Op: "source", Target: path, Err: cause(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Op: "source", Target: path, Err: fmt.Errorf("not a regular file but %s: %w", info.Mode().Type(), fs.ErrInvalid)}
	}
	return &fileSource{path: path, size: info.Size()}, nil
}

type fileSource struct {
	path string
	size int64
}

func (f *fileSource) Size() int64 { return f.size }

func (f *fileSource) Open(context.Context) (io.ReadCloser, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &Error{Op: "source", Target: f.path, Err: cause(err)}
	}
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != f.size) {
		err = fmt.Errorf("was %d bytes, is %d: %w", f.size, info.Size(), ErrDigest)
	}
	if err != nil {
		file.Close()
		return nil, &Error{Op: "source", Target: f.path, Err: cause(err)}
	}
	return file, nil
}

// cause takes the path away from an error whose place is named already.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}

// Reader reads the content of a [Source] and checks it: instead of [io.EOF] it
// gives [ErrDigest] unless exactly the promised bytes were read, and it fails
// with the context's error once that is done. It is for backends.
type Reader struct {
	ctx      context.Context // of the call that this reader serves
	body     io.ReadCloser
	size     int64
	want     string
	hash     hash.Hash
	read     int64
	progress func(done, total int64)
	err      error
}

// maxEmptyReads is how often a source may give neither bytes nor an end.
const maxEmptyReads = 100

// OpenSource opens src for reading it once under the promises of opts.
func OpenSource(ctx context.Context, src Source, opts *PutOptions) (*Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body, err := src.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	r := &Reader{ctx: ctx, body: body, size: src.Size(), hash: sha256.New()}
	if opts != nil {
		r.want, r.progress = opts.SHA256, opts.Progress
	}
	return r, nil
}

// Read reads, and checks at the end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.err = r.ctx.Err(); r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	r.hash.Write(p[:n])
	r.read += int64(n)
	// What follows the promised bytes is known before the last of them is given away:
	// who sends them would have an answer, or not, by the time of another call.
	for range maxEmptyReads {
		if err != nil || r.read != r.size {
			break
		}
		var one [1]byte
		var more int
		more, err = r.body.Read(one[:])
		r.read += int64(more)
	}
	switch {
	case r.read > r.size:
		r.err = fmt.Errorf("source has more than the promised %d bytes: %w", r.size, ErrDigest)
		return 0, r.err
	case err == io.EOF && r.read < r.size:
		r.err = fmt.Errorf("source has %d bytes, promised were %d: %w", r.read, r.size, ErrDigest)
		return 0, r.err
	case err == io.EOF:
		if got := r.SHA256(); r.want != "" && got != r.want {
			r.err = fmt.Errorf("source has sha256 %s, promised was %s: %w", got, r.want, ErrDigest)
			return 0, r.err
		}
		r.err = io.EOF
	case err != nil:
		r.err = fmt.Errorf("read source: %w", err)
		return 0, r.err
	}
	if r.progress != nil && n > 0 {
		r.progress(r.read, r.size)
	}
	return n, r.err
}

// Close closes the source.
func (r *Reader) Close() error { return r.body.Close() }

// SHA256 is of what was read so far, lower-case hexadecimal.
func (r *Reader) SHA256() string { return hex.EncodeToString(r.hash.Sum(nil)) }

// File is the open file behind the source where it is one whole regular file
// and nothing was read yet, else nil.
func (r *Reader) File() *os.File {
	file, ok := r.body.(*os.File)
	if !ok || r.read > 0 {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != r.size {
		return nil
	}
	if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil
	}
	return file
}
