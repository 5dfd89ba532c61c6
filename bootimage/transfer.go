package bootimage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/pgp"
)

// transfer moves a file into its part and verifies it on the way. out is the file
// with the content, where that was wanted.
func (d *download) transfer(ctx context.Context, p *part) (done *Downloaded, out string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &fetcher{download: d, part: p, marks: make([]string, len(d.urls)), ranges: make([]bool, len(d.urls))}
	f.changed = sync.NewCond(&f.mu)
	f.start()
	// Waiting readers look at the context when they wake up.
	defer context.AfterFunc(ctx, func() { f.mu.Lock(); f.changed.Broadcast(); f.mu.Unlock() })()
	fetched := make(chan error, 1)
	go func() {
		err := f.fetch(ctx)
		f.finish(err)
		fetched <- err
	}()
	done, out, err = d.verify(ctx, &follower{ctx: ctx, f: f})
	if err != nil {
		cancel(err)
	}
	fetchErr := <-fetched
	switch {
	case fetchErr != nil && (err == nil || errors.Is(err, fetchErr) || !errors.Is(err, ErrVerification)):
		err = fetchErr // what the reader says follows from it
	case err == nil && d.entry.Size > 0 && done.Size != d.entry.Size:
		err = fmt.Errorf("has %d bytes, want %d: %w", done.Size, d.entry.Size, ErrVerification)
	}
	if cause := context.Cause(ctx); err != nil && errors.Is(err, context.Canceled) && cause != nil {
		err = cause
	}
	if err != nil && out != "" {
		err = errors.Join(err, d.root.Remove(out))
		out = ""
	}
	if err != nil {
		return nil, out, err
	}
	done.Fetched = f.moved
	return done, out, nil
}

// verify reads the file once, as it arrives.
func (d *download) verify(ctx context.Context, r io.Reader) (done *Downloaded, out string, err error) {
	outer := &counter{ctx: ctx, r: r, hash: sha256.New()}
	var source io.Reader = outer
	type verdict struct {
		signatures []pgp.Signature
		err        error
	}
	verdicts := make(chan verdict, 1)
	var signed *io.PipeWriter
	if d.keyring != nil {
		var message *io.PipeReader
		message, signed = io.Pipe()
		source = io.TeeReader(source, signed)
		go func() {
			signatures, err := d.keyring.Verify(ctx, message, d.opts.Signature, d.opts.Now, nil)
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrVerification, err)
			}
			message.CloseWithError(err) // nil: writes end well, as all was read
			verdicts <- verdict{signatures, err}
		}()
	}
	done = &Downloaded{}
	if d.opts.Decompress {
		out, err = d.content(ctx, source, done)
	} else {
		_, err = io.CopyBuffer(io.Discard, onlyReader{source}, make([]byte, 256<<10))
	}
	if signed != nil {
		signed.CloseWithError(err) // nil: the end
		v := <-verdicts
		if err == nil {
			err = v.err
		}
		done.SignedBy = signers(v.signatures)
	}
	if err != nil {
		return nil, out, err
	}
	done.Size, done.SHA256 = outer.n, hex.EncodeToString(outer.hash.Sum(nil))
	switch {
	case d.entry.SHA256 != "" && done.SHA256 != d.entry.SHA256:
		err = fmt.Errorf("SHA-256 is %s, want %s: %w", done.SHA256, d.entry.SHA256, ErrVerification)
	case done.ContentSHA256 != "" && d.entry.UncompressedSHA256 != "" && done.ContentSHA256 != d.entry.UncompressedSHA256:
		err = fmt.Errorf("SHA-256 of the content is %s, want %s: %w", done.ContentSHA256, d.entry.UncompressedSHA256, ErrVerification)
	}
	return done, out, err
}

// content writes what is in a compressed file; of another it is the file itself.
func (d *download) content(ctx context.Context, r io.Reader, done *Downloaded) (out string, err error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	var content io.ReadCloser = io.NopCloser(br)
	if compression(magic) != "" {
		if content, err = decompress.NewParallelReader(br, decoders(), decompress.MaxXZAhead); err != nil {
			return "", fmt.Errorf("%w: %w", ErrVerification, err)
		}
	}
	out = partNamesOf(d.name).content
	file, err := d.root.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return "", errors.Join(err, content.Close())
	}
	inner := &counter{ctx: ctx, r: &damaged{io.LimitReader(content, d.opts.MaxContent+1)}, hash: sha256.New()}
	_, err = io.CopyBuffer(struct{ io.Writer }{file}, onlyReader{inner}, make([]byte, 256<<10))
	if closeErr := content.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err == nil && inner.n > d.opts.MaxContent:
		err = fmt.Errorf("content of more than %d bytes: %w", d.opts.MaxContent, ErrVerification)
	case err == nil:
		// What follows the content belongs to the file.
		_, err = io.CopyBuffer(io.Discard, onlyReader{br}, make([]byte, 256<<10))
	}
	if err == nil {
		err = file.Sync()
	}
	done.ContentSize, done.ContentSHA256 = inner.n, hex.EncodeToString(inner.hash.Sum(nil))
	return out, errors.Join(err, file.Close())
}

// damaged marks errors of a decompressor: they are of the bytes that it got, or of
// getting them.
type damaged struct{ r io.Reader }

func (d *damaged) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: content: %w", ErrVerification, err)
	}
	return n, err
}

// fetcher fills a part, range by range.
type fetcher struct {
	*download
	part *part

	mu       sync.Mutex
	changed  *sync.Cond // progress was made
	marks    []string   // of the file at each address: its ETag, else its time
	ranges   []bool     // whether the address knows ranges, as far as was seen
	have     []int64    // bytes of each range, from its start
	size     int64      // 0: not known yet
	streamed int64      // bytes from the start, as long as the size is not known
	ended    bool       // no more bytes come
	err      error
	moved    int64
}

// start takes over what is there.
func (f *fetcher) start() {
	if f.part.Size > 0 {
		f.sized(f.part.Size)
		for i, done := range f.part.Done {
			if done {
				f.have[i] = f.length(i)
			}
		}
	}
}

func (f *fetcher) sized(size int64) {
	f.size = size
	f.have = make([]int64, (size+f.part.Range-1)/f.part.Range)
}

func (f *fetcher) length(i int) int64 { return min(f.part.Range, f.size-int64(i)*f.part.Range) }

func (f *fetcher) finish(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended, f.err = true, err
	f.changed.Broadcast()
}

// prefix is how many bytes from the start are there. f.mu is held.
func (f *fetcher) prefix() (n int64) {
	if f.size == 0 {
		return f.streamed
	}
	for i, have := range f.have {
		n += have
		if have < f.length(i) {
			break
		}
	}
	return n
}

// follower reads a part from its start as it is filled.
type follower struct {
	ctx context.Context
	f   *fetcher
	at  int64
	// known is how much of the file is there at least.
	known int64
}

func (r *follower) Read(p []byte) (int, error) {
	f := r.f
	for r.at >= r.known {
		f.mu.Lock()
		for {
			r.known = f.prefix()
			if r.known > r.at || f.ended || r.ctx.Err() != nil {
				break
			}
			f.changed.Wait()
		}
		ended, err := f.ended, f.err
		f.mu.Unlock()
		if r.known > r.at {
			break
		}
		switch {
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case err != nil:
			return 0, err
		case ended:
			return 0, io.EOF
		}
	}
	return r.readAt(p)
}

func (r *follower) readAt(p []byte) (int, error) {
	n, err := r.f.part.file.ReadAt(p[:min(int64(len(p)), r.known-r.at)], r.at)
	r.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// fetch reads all ranges that are missing.
func (f *fetcher) fetch(ctx context.Context) error {
	// The first range tells the size, and whether there are ranges. A server without
	// is read from the start until it gives all.
	for tries := 1; ; tries++ {
		before := f.moved
		whole, err := f.first(ctx)
		if whole && err == nil {
			return nil
		}
		if err == nil || slices.Contains(f.ranges, true) {
			if err != nil && f.size == 0 {
				return err
			}
			break
		}
		if f.moved-before >= minProgress {
			tries = 1
		}
		if tries >= rangeAttempts || f.size+f.streamed == 0 || ctx.Err() != nil || errors.Is(err, errChanged) || errors.Is(err, ErrVerification) {
			return err
		}
	}
	todo := make(chan int, len(f.have))
	for i := range f.have {
		if f.have[i] < f.length(i) {
			todo <- i
		}
	}
	close(todo)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for range min(f.opts.Connections, len(todo)) {
		wait.Go(func() {
			for i := range todo {
				if err := f.complete(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

// first reads the first range that is missing, from the first address that gives
// it. whole says that all of the file was read.
func (f *fetcher) first(ctx context.Context) (whole bool, err error) {
	at := 0
	for at < len(f.have) && f.have[at] == f.length(at) {
		at++
	}
	if f.size > 0 && at == len(f.have) {
		return true, nil
	}
	var errs []error
	for i := range f.urls {
		whole, err = f.read(ctx, i, at, true)
		if err == nil || errors.Is(err, errChanged) || errors.Is(err, ErrVerification) || ctx.Err() != nil {
			return whole, err
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

// complete reads a range until it is whole, from one address after the other.
func (f *fetcher) complete(ctx context.Context, at int) error {
	var err error
	for tries, turn := 0, at; tries < rangeAttempts*len(f.urls); turn++ {
		f.mu.Lock()
		before := f.have[at]
		f.mu.Unlock()
		if before == f.length(at) {
			return nil
		}
		_, err = f.read(ctx, turn%len(f.urls), at, false)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errChanged) || errors.Is(err, ErrVerification):
			return err
		case err != nil:
			f.opts.Logger.DebugContext(ctx, "range is asked for again", slog.Int("range", at), slog.Any("error", err))
		}
		f.mu.Lock()
		if f.have[at]-before < minProgress {
			tries++
		} else {
			tries = 0
		}
		f.mu.Unlock()
	}
	return err
}

// read asks an address for what is missing of a range. alone says that nothing else
// is read, so that an answer with the whole file may be taken.
func (f *fetcher) read(ctx context.Context, address, at int, alone bool) (whole bool, err error) {
	f.mu.Lock()
	from := int64(at) * f.part.Range
	to := from + f.part.Range
	if f.size > 0 {
		from += f.have[at]
		to = int64(at)*f.part.Range + f.length(at)
	}
	f.mu.Unlock()
	where := f.urls[address]
	resp, err := f.get(ctx, where, fmt.Sprintf("bytes=%d-%d", from, to-1))
	if err != nil {
		return false, err
	}
	defer func() {
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			err = fmt.Errorf("%s: %w", where, err)
		}
	}()
	if err := f.mark(address, resp); err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusOK {
		if alone {
			return true, f.readWhole(resp)
		}
		if resp.ContentLength >= 0 {
			if err := f.learn(resp.ContentLength); err != nil {
				return false, err
			}
		}
		if err := skip(resp.Body, from); err != nil {
			return false, err
		}
		return false, f.copy(io.LimitReader(resp.Body, to-from), from, to)
	}
	start, size, err := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return false, err
	case start != from:
		return false, fmt.Errorf("answered from byte %d, not %d", start, from)
	}
	if err := f.learn(size); err != nil {
		return false, err
	}
	f.mu.Lock()
	to = min(to, f.size)
	f.ranges[address] = true
	f.mu.Unlock()
	return false, f.copy(io.LimitReader(resp.Body, to-from), from, to)
}

// mark compares what tells versions of the file apart with what it was at the
// address before.
func (f *fetcher) mark(address int, resp *http.Response) error {
	mark := resp.Header.Get("ETag")
	if mark == "" || strings.HasPrefix(mark, "W/") {
		mark = resp.Header.Get("Last-Modified")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if was := f.marks[address]; was != "" && mark != was {
		return errChanged
	}
	f.marks[address] = mark
	return nil
}

// learn takes the size that an answer tells, and holds further ones to it.
func (f *fetcher) learn(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case size <= 0 || size > maxDownloadSize || (size+f.part.Range-1)/f.part.Range > maxParts:
		return fmt.Errorf("size %d: %w", size, fs.ErrInvalid)
	case f.size == size:
		return nil
	case f.entry.Size > 0 && size != f.entry.Size:
		return fmt.Errorf("has %d bytes, want %d: %w", size, f.entry.Size, ErrVerification)
	case f.size != 0:
		return fmt.Errorf("%w: %d bytes, and it had %d", errChanged, size, f.size)
	}
	if err := f.part.file.Truncate(size); err != nil {
		return err
	}
	f.sized(size)
	f.part.Size, f.part.Done = size, make([]bool, len(f.have))
	return nil
}

// copy writes what arrives of a range.
func (f *fetcher) copy(body io.Reader, from, to int64) error {
	buf := make([]byte, 128<<10)
	for at := from; at < to; {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := f.part.file.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
			if err := f.progress(int(from/f.part.Range), int64(n)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && at < to:
			return io.ErrUnexpectedEOF
		case err != nil && at < to:
			return err
		}
	}
	return nil
}

// progress counts bytes of a range.
func (f *fetcher) progress(at int, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have[at] += n
	f.moved += n
	f.changed.Broadcast()
	if f.opts.Progress != nil {
		var done int64
		for _, have := range f.have {
			done += have
		}
		f.opts.Progress(done, f.size)
	}
	if f.have[at] < f.length(at) || f.part.SHA256 == "" {
		return nil
	}
	f.part.Done[at] = true
	return f.part.save()
}

// skip passes bytes over.
func skip(r io.Reader, n int64) error {
	got, err := io.CopyBuffer(io.Discard, onlyReader{io.LimitReader(r, n)}, make([]byte, 128<<10))
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readWhole reads an answer that is all of the file: the server knows no ranges.
// What is there already is passed over.
func (f *fetcher) readWhole(resp *http.Response) error {
	if resp.ContentLength < 0 {
		return f.readStream(resp.Body)
	}
	if err := f.learn(resp.ContentLength); err != nil {
		return err
	}
	for i := range f.have {
		have, length := f.have[i], f.length(i)
		if err := skip(resp.Body, have); err != nil {
			return err
		}
		from := int64(i) * f.part.Range
		if err := f.copy(io.LimitReader(resp.Body, length-have), from+have, from+length); err != nil {
			return err
		}
	}
	return nil
}

// readStream reads an answer that does not say how long it is.
func (f *fetcher) readStream(body io.Reader) error {
	if f.size != 0 {
		return fmt.Errorf("%w: no length any more", errChanged)
	}
	if err := skip(body, f.streamed); err != nil {
		return err
	}
	limit := int64(maxDownloadSize)
	if f.entry.Size > 0 {
		limit = f.entry.Size
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := f.part.file.WriteAt(buf[:n], f.streamed); err != nil {
				return err
			}
			f.mu.Lock()
			f.streamed += int64(n)
			f.moved += int64(n)
			f.changed.Broadcast()
			f.mu.Unlock()
			if f.streamed > limit {
				return fmt.Errorf("has more than %d bytes: %w", limit, ErrVerification)
			}
			if f.opts.Progress != nil {
				f.opts.Progress(f.streamed, 0)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return f.part.file.Truncate(f.streamed)
		case err != nil:
			return err
		}
	}
}

// contentRange reads bytes FROM-TO/SIZE.
func contentRange(text string) (from, size int64, err error) {
	span, total, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	start, _, ok2 := strings.Cut(span, "-")
	from, errFrom := strconv.ParseInt(start, 10, 64)
	size, errSize := strconv.ParseInt(total, 10, 64)
	if !ok || !ok2 || errFrom != nil || errSize != nil || from < 0 {
		return 0, 0, fmt.Errorf("content range %.80q: %w", text, fs.ErrInvalid)
	}
	return from, size, nil
}
