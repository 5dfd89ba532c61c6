package s3store

import (
	"context"
	"crypto/md5" //nolint:gosec // what S3's entity tags of parts are
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/okd-project/okd-streams/publish"
)

// noSuchUpload is the code of an upload that was completed or aborted.
const noSuchUpload = "NoSuchUpload"

// abortTimeout bounds the clean-up after a fault.
const abortTimeout = 30 * time.Second

// upload is a multipart upload under way.
type upload struct {
	id    *string
	state string               // key in Options.Uploads, "": not remembered
	parts map[int32]types.Part // that were there before

	checksums bool // the server checks the CRC-32 of each part
}

// saved is what Options.Uploads holds of an upload.
type saved struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Upload string `json:"upload"`

	Checksums bool `json:"checksums,omitempty"`
}

// identity is the name of an upload in Options.Uploads: uploads that differ in
// content, parts or headers must never be mixed, as these are fixed when an
// upload begins.
func (w *write) identity() string {
	s := w.s
	text := fmt.Sprintf("%q", []any{
		s.config.Endpoint, s.config.Bucket, *w.full, w.opts.SHA256, w.size, partSizeOf(w.size, s.partSize),
		s.config.ACL, w.opts.ContentType, w.opts.CacheControl,
	})
	sum := sha256.Sum256([]byte(text))
	return "s3-upload-" + hex.EncodeToString(sum[:]) + ".json"
}

// begin makes an upload, or finds the one that an earlier Put left.
func (w *write) begin(ctx context.Context) (*upload, error) {
	s, u := w.s, &upload{}
	if s.uploads != nil && w.size > s.partSize {
		u.state = w.identity()
		found, err := w.recall(ctx, u)
		if err != nil || found {
			return u, err
		}
	}
	input := &s3.CreateMultipartUploadInput{
		Bucket: &s.config.Bucket, Key: w.full, ACL: types.ObjectCannedACL(s.config.ACL),
		Metadata:    w.metadata(w.opts.SHA256),
		ContentType: text(w.opts.ContentType), CacheControl: text(w.opts.CacheControl),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	}
	made, err := s.client.CreateMultipartUpload(ctx, input)
	if status := statusOf(err); status == http.StatusNotImplemented || status == http.StatusBadRequest {
		// Of a server that does not know checksums; if it was something else, it
		// will be that again.
		input.ChecksumAlgorithm = ""
		made, err = s.client.CreateMultipartUpload(ctx, input)
	}
	if err != nil {
		return nil, err
	}
	// Servers that check say so; others pass over what they do not know.
	u.checksums = made.ChecksumAlgorithm == types.ChecksumAlgorithmCrc32
	if u.id = made.UploadId; aws.ToString(u.id) == "" {
		return nil, errors.New("server gives no upload id")
	}
	if u.state == "" {
		return u, nil
	}
	data, err := json.Marshal(saved{Bucket: s.config.Bucket, Key: *w.full, Upload: *u.id, Checksums: u.checksums})
	if err == nil {
		_, err = s.uploads.Put(ctx, u.state, publish.BytesSource(data), nil)
	}
	if err != nil {
		w.abort(ctx, u)
		return nil, fmt.Errorf("remember the upload: %w", err)
	}
	return u, nil
}

// recall fills u from what is remembered, and reports whether the server still
// has it.
func (w *write) recall(ctx context.Context, u *upload) (bool, error) {
	s := w.s
	data, _, err := publish.ReadDocument(ctx, s.uploads, u.state)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recall the upload: %w", err)
	}
	var found saved
	if json.Unmarshal(data, &found) != nil || found.Bucket != s.config.Bucket || found.Key != *w.full || found.Upload == "" {
		return false, nil // what a crash left; it is replaced
	}
	u.id, u.parts, u.checksums = &found.Upload, map[int32]types.Part{}, found.Checksums
	input := &s3.ListPartsInput{Bucket: &s.config.Bucket, Key: w.full, UploadId: u.id}
	for last := int32(0); ; {
		out, err := s.client.ListParts(ctx, input)
		if err != nil {
			if code := codeOf(err); code == noSuchUpload || statusOf(err) == 404 && code != "NoSuchBucket" {
				*u = upload{state: u.state}
				return false, nil
			}
			return false, fmt.Errorf("list the parts of the upload: %w", err)
		}
		for _, part := range out.Parts {
			number := aws.ToInt32(part.PartNumber)
			if number <= last || number > maxParts {
				return false, fmt.Errorf("server lists part %d after %d: %w", number, last, errors.ErrUnsupported)
			}
			last = number
			u.parts[number] = part
		}
		if !aws.ToBool(out.IsTruncated) {
			return true, nil
		}
		if len(out.Parts) == 0 {
			return false, fmt.Errorf("server says there are more parts but not which: %w", errors.ErrUnsupported)
		}
		input.PartNumberMarker = aws.String(fmt.Sprint(last))
	}
}

// holds gives the tag of a part that the server has already, with these very
// bytes, or nil. Servers whose tags of parts are no MD5, such as those that
// encrypt with keys of their own, get each part again.
func (u *upload) holds(number int32, data []byte) *string {
	part, ok := u.parts[number]
	if !ok || part.Size == nil || *part.Size != int64(len(data)) {
		return nil
	}
	sum := md5.Sum(data) //nolint:gosec // as above
	if revision(part.ETag) != hex.EncodeToString(sum[:]) {
		return nil
	}
	return part.ETag
}

// stop ends an upload after a fault: what is remembered stays for a later Put
// where that may do better.
func (w *write) stop(ctx context.Context, u *upload, err error) error {
	if u.state != "" && (ctx.Err() != nil || retryable(err)) {
		return err
	}
	w.abort(ctx, u)
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	// At worst a later Put finds out that the upload is gone.
	_ = w.forget(cleanCtx, u)
	return err
}

// forget removes a finished upload from what is remembered.
func (w *write) forget(ctx context.Context, u *upload) error {
	if u.state == "" {
		return nil
	}
	if err := w.s.uploads.Delete(ctx, u.state); err != nil {
		return fmt.Errorf("forget the upload: %w", err)
	}
	return nil
}

// abort removes the parts, also when the caller has given up.
func (w *write) abort(ctx context.Context, u *upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	// Parts that stay are invisible, and [Store.Uploads] finds them.
	_, _ = w.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &w.s.config.Bucket, Key: w.full, UploadId: u.id})
}

// turn waits until no other conditional write of this Store is under way; done
// ends it.
func (s *Store) turn(ctx context.Context) error {
	select {
	case s.commit <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) done() { <-s.commit }

// Upload is a multipart upload that was begun and neither completed nor aborted.
// Its parts are invisible and cost what objects cost.
type Upload struct {
	Key     string
	ID      string // the server's name of it
	Started time.Time
}

// Uploads gives the multipart uploads under way at keys that begin with prefix,
// ascending by key: those of writers at work, and what killed ones left.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		fail := func(err error) { yield(Upload{}, s.fail(ctx, "list uploads", prefix, err)) }
		base := ""
		if s.config.Prefix != "" {
			base = s.config.Prefix + "/"
		}
		input := &s3.ListMultipartUploadsInput{Bucket: &s.config.Bucket, Prefix: aws.String(base + prefix)}
		last, ids := "", map[string]bool{} // of last
		for {
			out, err := s.client.ListMultipartUploads(ctx, input)
			if err != nil {
				fail(err)
				return
			}
			for _, u := range out.Uploads {
				full, id := aws.ToString(u.Key), aws.ToString(u.UploadId)
				if full != last {
					clear(ids)
				}
				if !strings.HasPrefix(full, base+prefix) || full < last || ids[id] || id == "" {
					fail(fmt.Errorf("server lists upload %.80q of %.200q after %.200q: %w", id, full, last, errors.ErrUnsupported))
					return
				}
				last, ids[id] = full, true
				if publish.CheckKey(full[len(base):]) != nil {
					continue
				}
				if !yield(Upload{Key: full[len(base):], ID: id, Started: aws.ToTime(u.Initiated)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if len(out.Uploads) == 0 || aws.ToString(out.NextKeyMarker) == "" {
				fail(fmt.Errorf("server says there is more but not where: %w", errors.ErrUnsupported))
				return
			}
			input.KeyMarker, input.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
		}
	}
}

// AbortUpload removes an upload and its parts; one that is gone is no error. A
// writer that is still at work on it fails.
func (s *Store) AbortUpload(ctx context.Context, u Upload) error {
	full, err := s.check(ctx, u.Key)
	if err != nil {
		return s.fail(ctx, "abort upload", u.Key, err)
	}
	_, err = s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.config.Bucket, Key: full, UploadId: &u.ID})
	if err != nil && statusOf(err) != 404 {
		return s.fail(ctx, "abort upload", u.Key, err)
	}
	return nil
}
