package s3store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/publish"
)

// Put stores an object. Where the digest is not promised and the object is
// larger than a part, the source is read twice: the metadata goes first.
func (s *Store) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	info, err := s.put(ctx, key, src, opts)
	if err != nil {
		return publish.Info{}, s.fail(ctx, "put", key, err)
	}
	return info, nil
}

func (s *Store) put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	o, err := publish.CheckPut(key, src, opts)
	if err != nil {
		return publish.Info{}, err
	}
	full, err := s.check(ctx, key)
	if err != nil {
		return publish.Info{}, err
	}
	size := src.Size()
	if size > maxSize {
		return publish.Info{}, fmt.Errorf("object of %d bytes, at most %d are possible: %w", size, int64(maxSize), errors.ErrUnsupported)
	}
	multi, look := size > s.partSize, false
	if o.IfAbsent || o.IfRevision != "" {
		err := s.conditions(ctx, full, multi)
		if look = s.config.SingleWriter && errors.Is(err, errors.ErrUnsupported); err != nil && !look {
			return publish.Info{}, err
		}
		if multi {
			// A condition that fails already is told before parts are moved.
			if err := s.condition(ctx, key, full, &o); err != nil {
				return publish.Info{}, err
			}
		}
	}
	if multi && o.SHA256 == "" {
		if o.SHA256, err = digest(ctx, src); err != nil {
			return publish.Info{}, err
		}
	}
	r, err := publish.OpenSource(ctx, src, &publish.PutOptions{SHA256: o.SHA256})
	if err != nil {
		return publish.Info{}, err
	}
	defer r.Close()
	w := &write{s: s, key: key, full: full, opts: &o, size: size, look: look}
	if multi {
		return w.multipart(ctx, r)
	}
	return w.single(ctx, r)
}

// digest reads the source once for its SHA-256.
func digest(ctx context.Context, src publish.Source) (string, error) {
	r, err := publish.OpenSource(ctx, src, nil)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	return r.SHA256(), nil
}

// write is one Put under way.
type write struct {
	s    *Store
	key  string
	full *string
	opts *publish.PutOptions
	size int64
	look bool // conditions are checked before the write, not by the server

	mu   sync.Mutex
	done int64
}

// progress counts n more bytes.
func (w *write) progress(n int) {
	if w.opts.Progress == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += int64(n)
	w.opts.Progress(w.done, w.size)
}

// text is nil for what is not to be sent.
func text(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

// conditions are the values of If-None-Match and If-Match.
func (w *write) conditions() (ifNoneMatch, ifMatch *string) {
	if w.look {
		return nil, nil
	}
	if w.opts.IfAbsent {
		return aws.String("*"), nil
	}
	if w.opts.IfRevision != "" {
		return nil, aws.String(`"` + w.opts.IfRevision + `"`)
	}
	return nil, nil
}

// withBody lets a request with this body be repeated.
func withBody(ctx context.Context, data []byte) context.Context {
	return context.WithValue(ctx, bodyKey{}, func() io.Reader { return bytes.NewReader(data) })
}

func (w *write) single(ctx context.Context, r *publish.Reader) (publish.Info, error) {
	data := make([]byte, w.size)
	if err := readAll(r, data); err != nil {
		return publish.Info{}, err
	}
	if err := atEnd(r); err != nil {
		return publish.Info{}, err
	}
	if w.look {
		if err := w.s.turn(ctx); err != nil {
			return publish.Info{}, err
		}
		defer w.s.done()
		if err := w.s.condition(ctx, w.key, w.full, w.opts); err != nil {
			return publish.Info{}, err
		}
	}
	ifNoneMatch, ifMatch := w.conditions()
	out, err := w.s.client.PutObject(withBody(ctx, data), &s3.PutObjectInput{
		Bucket: &w.s.config.Bucket, Key: w.full, Body: bytes.NewReader(data), ContentLength: &w.size,
		Metadata: w.metadata(r.SHA256()), ACL: types.ObjectCannedACL(w.s.config.ACL),
		ContentType: text(w.opts.ContentType), CacheControl: text(w.opts.CacheControl),
		IfNoneMatch: ifNoneMatch, IfMatch: ifMatch,
	})
	if err != nil {
		return publish.Info{}, w.refused(ctx, err)
	}
	w.progress(len(data))
	return w.info(ctx, out.ETag, r.SHA256())
}

// metadata is what is kept beside the content.
func (w *write) metadata(sha256 string) map[string]string {
	return map[string]string{digestKey: sha256, sizeKey: strconv.FormatInt(w.size, 10)}
}

// readAll fills data.
func readAll(r io.Reader, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	// The reader itself says what is wrong with a short source.
	_, err := io.ReadFull(r, data)
	return err
}

// atEnd makes the source's last check.
func atEnd(r io.Reader) error {
	for {
		n, err := r.Read(make([]byte, 1))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("source has more bytes than promised: %w", publish.ErrDigest)
		}
	}
}

// info is what is known of a written object.
func (w *write) info(ctx context.Context, etag *string, sha256 string) (publish.Info, error) {
	if revision(etag) == "" {
		return w.s.head(ctx, w.key, w.full)
	}
	return publish.Info{Key: w.key, Size: w.size, Revision: revision(etag), SHA256: sha256, ContentType: w.opts.ContentType}, nil
}

// partSizeOf is the size of the parts of an object.
func partSizeOf(size, least int64) int64 {
	part := least
	if need := (size + maxParts - 1) / maxParts; need > part {
		part = (need + 1<<20 - 1) >> 20 << 20
	}
	return part
}

// multipart sends the parts of one upload and completes it.
func (w *write) multipart(ctx context.Context, r *publish.Reader) (publish.Info, error) {
	s := w.s
	u, err := w.begin(ctx)
	if err != nil {
		return publish.Info{}, err
	}
	parts, err := w.parts(ctx, r, u)
	if err != nil {
		return publish.Info{}, w.stop(ctx, u, err)
	}
	if w.look {
		if err := s.turn(ctx); err != nil {
			return publish.Info{}, w.stop(ctx, u, err)
		}
		defer s.done()
		if err := s.condition(ctx, w.key, w.full, w.opts); err != nil {
			return publish.Info{}, w.stop(ctx, u, err)
		}
	}
	ifNoneMatch, ifMatch := w.conditions()
	out, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.config.Bucket, Key: w.full, UploadId: u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		IfNoneMatch:     ifNoneMatch, IfMatch: ifMatch,
	})
	if err != nil {
		// The answer may have been lost after the work was done.
		if ifNoneMatch == nil && ifMatch == nil && (retryable(err) || codeOf(err) == noSuchUpload) && ctx.Err() == nil {
			if info, headErr := s.head(ctx, w.key, w.full); headErr == nil && info.SHA256 == w.opts.SHA256 && info.Size == w.size {
				return info, w.forget(ctx, u)
			}
		}
		return publish.Info{}, w.refused(ctx, w.stop(ctx, u, err))
	}
	if err := w.forget(ctx, u); err != nil {
		return publish.Info{}, err
	}
	return w.info(ctx, out.ETag, w.opts.SHA256)
}

// parts reads the source part by part and sends each while the next ones are
// read. Nothing is completed unless the whole source was as promised.
func (w *write) parts(ctx context.Context, r *publish.Reader, u *upload) ([]types.CompletedPart, error) {
	s := w.s
	partSize := partSizeOf(w.size, s.partSize)
	concurrency := int(max(1, min(int64(s.concurrency), s.partSize*int64(s.concurrency)/partSize)))
	count := int((w.size + partSize - 1) / partSize)
	parts := make([]types.CompletedPart, count)
	buffers := make(chan []byte, concurrency)
	for range min(concurrency, count) {
		buffers <- make([]byte, partSize)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	var readErr error
	for i := range count {
		var buffer []byte
		select {
		case buffer = <-buffers:
		case <-groupCtx.Done():
		}
		if groupCtx.Err() != nil {
			break
		}
		data := buffer[:min(partSize, w.size-int64(i)*partSize)]
		if readErr = readAll(r, data); readErr == nil && i == count-1 {
			readErr = atEnd(r)
		}
		if readErr != nil {
			break
		}
		group.Go(func() error {
			defer func() { buffers <- buffer }()
			number := int32(i + 1) //nolint:gosec // at most maxParts
			part, err := w.part(groupCtx, u, number, data)
			if err != nil {
				return fmt.Errorf("part %d of %d: %w", number, count, err)
			}
			parts[i] = part
			w.progress(len(data))
			return nil
		})
	}
	err := group.Wait()
	if readErr != nil {
		return nil, readErr
	}
	if err == nil {
		err = ctx.Err()
	}
	return parts, err
}

// part sends one part, unless the server holds it.
func (w *write) part(ctx context.Context, u *upload, number int32, data []byte) (types.CompletedPart, error) {
	part := types.CompletedPart{PartNumber: &number, ETag: u.holds(number, data)}
	input := &s3.UploadPartInput{
		Bucket: &w.s.config.Bucket, Key: w.full, UploadId: u.id, PartNumber: &number,
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
	}
	var how []func(*s3.Options)
	if u.checksums {
		// The server looks whether it got what was sent; the signature, which is of
		// headers alone then, need not be of another SHA-256.
		part.ChecksumCRC32 = checksumOf(data)
		input.ChecksumAlgorithm, input.ChecksumCRC32 = types.ChecksumAlgorithmCrc32, part.ChecksumCRC32
		how = append(how, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
	}
	if part.ETag != nil {
		return part, nil
	}
	out, err := w.s.client.UploadPart(withBody(ctx, data), input, how...)
	if err != nil {
		return part, err
	}
	if part.ETag = out.ETag; aws.ToString(part.ETag) == "" {
		return part, errors.New("server gives no entity tag")
	}
	if got := aws.ToString(out.ChecksumCRC32); u.checksums && got != "" && got != *part.ChecksumCRC32 {
		return part, fmt.Errorf("server has a part with the CRC-32 %.20q, sent was %s: %w", got, *part.ChecksumCRC32, publish.ErrDigest)
	}
	return part, nil
}

// checksumOf is the CRC-32 of a part as S3 writes it.
func checksumOf(data []byte) *string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	return aws.String(base64.StdEncoding.EncodeToString(sum))
}

// condition looks whether the conditions hold now.
func (s *Store) condition(ctx context.Context, key string, full *string, o *publish.PutOptions) error {
	info, err := s.head(ctx, key, full)
	switch {
	case err == nil && o.IfAbsent:
		return fs.ErrExist
	case err == nil && o.IfRevision != "" && info.Revision != o.IfRevision:
		return fmt.Errorf("revision %q, want %q: %w", info.Revision, o.IfRevision, publish.ErrConflict)
	case err != nil && statusOf(err) == http.StatusNotFound && o.IfRevision != "":
		return fmt.Errorf("no object, want revision %q: %w", o.IfRevision, publish.ErrConflict)
	case err != nil && statusOf(err) != http.StatusNotFound:
		return err
	}
	return nil
}

// refused tells what the answer to a conditional write means.
func (w *write) refused(ctx context.Context, err error) error {
	if !w.opts.IfAbsent && w.opts.IfRevision == "" {
		return err
	}
	status := statusOf(err)
	conflict := status == http.StatusPreconditionFailed || status == http.StatusConflict && codeOf(err) == "ConditionalRequestConflict"
	if w.opts.IfRevision != "" && (conflict || status == http.StatusNotFound && codeOf(err) != "NoSuchBucket" && codeOf(err) != "NoSuchUpload") {
		return fmt.Errorf("want revision %q: %w", w.opts.IfRevision, publish.ErrConflict)
	}
	switch {
	case w.opts.IfAbsent && status == http.StatusPreconditionFailed:
		return fs.ErrExist
	case w.opts.IfAbsent && conflict:
		// Somebody else writes at this moment; who comes first is open.
		if existErr := w.s.condition(ctx, w.key, w.full, w.opts); existErr != nil {
			return existErr
		}
		return fmt.Errorf("somebody else writes: %w", publish.ErrConflict)
	}
	return err
}

// conditions finds out, once, whether the server honours conditions: it writes
// a probe object, tries to replace it under conditions that do not hold, and
// removes it.
func (s *Store) conditions(ctx context.Context, full *string, multi bool) error {
	if s.trust {
		return nil
	}
	p := &s.probe[0]
	if multi {
		p = &s.probe[1]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return p.err
	}
	// Beside the object that is to be written: writers may be allowed only there.
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %p %v", *full, s, multi))
	name := ".probe-" + hex.EncodeToString(sum[:8])
	if slash := bytes.LastIndexByte([]byte(*full), '/'); slash >= 0 {
		name = (*full)[:slash+1] + name
	}
	err := s.tryConditions(ctx, &name, multi)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("find out whether the server honours conditions: %w", err)
	}
	p.asked, p.err = true, err
	return err
}

func (s *Store) tryConditions(ctx context.Context, name *string, multi bool) (err error) {
	data := []byte("okd-streams asks whether this server honours conditional writes\n")
	put := func(o *publish.PutOptions, multi bool) error {
		w := &write{s: s, key: *name, full: name, opts: o, size: int64(len(data))}
		r, err := publish.OpenSource(ctx, publish.BytesSource(data), o)
		if err != nil {
			return err
		}
		defer r.Close()
		if multi {
			_, err = w.multipart(ctx, r)
		} else {
			_, err = w.single(ctx, r)
		}
		return err
	}
	if err := put(&publish.PutOptions{}, false); err != nil {
		return err
	}
	defer func() {
		cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_, deleteErr := s.client.DeleteObject(cleanCtx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: name})
		if err == nil {
			err = deleteErr
		}
	}()
	for header, o := range map[string]*publish.PutOptions{
		"If-None-Match": {IfAbsent: true},
		"If-Match":      {IfRevision: "00000000000000000000000000000000"},
	} {
		switch err := put(o, multi); {
		case err == nil:
			return fmt.Errorf("server ignores %s: %w", header, errors.ErrUnsupported)
		case errors.Is(err, fs.ErrExist), errors.Is(err, publish.ErrConflict):
		case statusOf(err) == http.StatusNotImplemented || statusOf(err) == http.StatusBadRequest:
			return fmt.Errorf("server refuses %s: %w", header, errors.ErrUnsupported)
		default:
			return err
		}
	}
	return nil
}
