package s3store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// Limits and defaults.
const (
	DefaultPartSize    = 8 << 20 // bytes
	DefaultConcurrency = 4

	minPartSize = 5 << 20 // S3's, but for the last part
	maxPartSize = 5 << 30
	maxParts    = 10_000
	maxSize     = 5 << 40 // of an object

	digestKey = "sha256"      // of an object's metadata
	sizeKey   = "sha256-size" // bytes that the digest is of
	// maxAnswer bounds answers that are documents: lists and errors.
	maxAnswer = 16 << 20
)

// Options of [Open]; nil is the zero value.
type Options struct {
	// AccessKey, SecretKey and SessionToken are used as they are. Without them
	// the SDK looks for credentials as it always does: environment, shared
	// files, web identity, container and instance roles.
	AccessKey, SecretKey, SessionToken string
	// PartSize is of the parts of large objects, bytes; 0: [DefaultPartSize],
	// at least 5 MiB. Objects beyond 10,000 parts get larger ones.
	PartSize int64
	// Concurrency is how many parts are sent at once; 0: [DefaultConcurrency].
	// A Put keeps PartSize times Concurrency bytes in memory.
	Concurrency int
	// Base sends requests, once each; nil: a new transport. Retries are made
	// above it.
	Base http.RoundTripper
	// Attempts is how often a request is sent at most, Delay the wait before the
	// second attempt, doubled for each later one. 0: 6 and 500 ms.
	Attempts int
	Delay    time.Duration
	// Jitter gives values in [0,1) that shorten each wait by up to a half; nil:
	// whole waits.
	Jitter func() float64
	// HeaderTimeout and StallTimeout bound how long a server may be silent
	// before its answer and within a body. 0: 2 min and 1 min.
	HeaderTimeout, StallTimeout time.Duration
	// TrustConditions skips the probe whether the server honours conditions.
	TrustConditions bool
	// CredentialsFile is a shared credentials or config file of the AWS tools,
	// or a folder that holds "credentials" and "config", as pipelines mount
	// them; Profile is the section to read, "": "default". The keys, and the
	// region where [Config] has none, are taken from there, and the environment
	// is not looked at. A profile without keys is [errors.ErrUnsupported].
	CredentialsFile, Profile string
	// Uploads remembers multipart uploads under way, below keys of their own, so
	// that a later Put of the same content to the same key, by whichever process
	// sees this store, goes on where an earlier one was killed or gave up. nil:
	// none are remembered, and a Put that fails aborts its upload.
	Uploads publish.Store
	// Logger gets each request at debug level; nil: silent.
	Logger *slog.Logger
}

// Store is a bucket, or the part of it below a prefix. It may be used from any
// goroutine. Close it when done.
type Store struct {
	config      Config
	client      *s3.Client
	transport   *httpx.Transport
	partSize    int64
	concurrency int

	attempts int
	delay    time.Duration
	uploads  publish.Store // or nil
	commit   chan struct{} // of SingleWriter: one conditional write at a time

	trust bool
	probe [2]probe // of single and multipart writes
}

// Open makes a store of the bucket, which must exist. It sends one request, and
// opts may be nil.
func Open(ctx context.Context, c Config, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	c.Prefix = strings.Trim(c.Prefix, "/")
	fail := func(err error) (*Store, error) {
		return nil, &publish.Error{Op: "open store", Target: c.String(), Err: httpx.Redact(err)}
	}
	if err := c.check(); err != nil {
		return fail(err)
	}
	if o.PartSize == 0 {
		o.PartSize = DefaultPartSize
	}
	if o.PartSize < minPartSize || o.PartSize > maxPartSize {
		return fail(fmt.Errorf("part size of %d bytes: %w", o.PartSize, fs.ErrInvalid))
	}
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	s := &Store{config: c, partSize: o.PartSize, concurrency: o.Concurrency, trust: o.TrustConditions || c.Endpoint == "",
		attempts: o.Attempts, delay: o.Delay, uploads: o.Uploads, commit: make(chan struct{}, 1)}
	if s.attempts <= 0 {
		s.attempts = httpx.DefaultAttempts
	}
	if s.delay <= 0 {
		s.delay = httpx.DefaultBaseDelay
	}
	s.transport = httpx.NewTransport(o.Base, &httpx.Options{
		Attempts: o.Attempts, BaseDelay: o.Delay, Jitter: o.Jitter, Logger: o.Logger,
		HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout, Repeatable: repeatable,
	})
	settings := aws.Config{Region: c.Region}
	switch {
	case c.Anonymous:
		settings.Credentials = aws.AnonymousCredentials{}
	case o.AccessKey != "":
		settings.Credentials = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken))
	case o.CredentialsFile != "":
		var err error
		if settings, err = shared(ctx, c.Region, o.CredentialsFile, o.Profile); err != nil {
			return fail(err)
		}
	default:
		load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
		if c.Region != "" {
			load = append(load, config.WithRegion(c.Region))
		}
		var err error
		if settings, err = config.LoadDefaultConfig(ctx, load...); err != nil {
			return fail(err)
		}
	}
	if settings.Region == "" {
		settings.Region = "us-east-1"
	}
	s.client = s3.NewFromConfig(settings, func(so *s3.Options) {
		so.HTTPClient = &sender{transport: s.transport}
		so.Retryer = aws.NopRetryer{}
		so.Logger = logging.Nop{}
		so.ClientLogMode = 0
		so.UsePathStyle = c.PathStyle
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		so.DisableLogOutputChecksumValidationSkipped = true
		if c.Endpoint != "" {
			so.BaseEndpoint = aws.String(c.endpoint())
		}
	})
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &c.Bucket})
	// Who may read objects need not be allowed to ask about the bucket.
	if err != nil && statusOf(err) != http.StatusForbidden {
		s.transport.CloseIdleConnections()
		err := s.fail(ctx, "open store", "", err)
		if errors.Is(err, fs.ErrNotExist) {
			return fail(fmt.Errorf("no such bucket: %w", fs.ErrNotExist))
		}
		return nil, err
	}
	return s, nil
}

// Close gives idle connections back.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// repeatable says which requests may be sent twice: beside httpx's rule the
// beginning of a multipart upload, where a second one is invisible.
func repeatable(req *http.Request) bool {
	return httpx.Repeatable(req) || req.Method == http.MethodPost && req.URL.Query().Has("uploads")
}

// sender is the SDK's HTTP client: one call of the transport, no redirects.
type sender struct{ transport *httpx.Transport }

// bodyKey is the context key of a func() io.Reader that makes the request's
// body anew; streamKey, of a call whose answer may be long.
type (
	bodyKey   struct{}
	streamKey struct{}
)

func (c *sender) Do(req *http.Request) (*http.Response, error) {
	if again, ok := req.Context().Value(bodyKey{}).(func() io.Reader); ok && req.Body != nil {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(again()), nil }
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 || req.Context().Value(streamKey{}) == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, nil
}

// key is the bucket's key of ours.
func (s *Store) key(key string) (*string, error) {
	if s.config.Prefix == "" {
		return &key, nil
	}
	full := s.config.Prefix + "/" + key
	if len(full) > publish.MaxKeySize {
		return nil, fmt.Errorf("key has %d bytes with its prefix, at most %d are possible: %w", len(full), publish.MaxKeySize, errors.ErrUnsupported)
	}
	return &full, nil
}

// check is the common beginning of every method.
func (s *Store) check(ctx context.Context, key string) (*string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := publish.CheckKey(key); err != nil {
		return nil, err
	}
	return s.key(key)
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	full, err := s.check(ctx, key)
	if err != nil {
		return publish.Info{}, s.fail(ctx, "stat", key, err)
	}
	info, err := s.head(ctx, key, full)
	if err != nil {
		return publish.Info{}, s.fail(ctx, "stat", key, s.absent(err))
	}
	return info, nil
}

func (s *Store) head(ctx context.Context, key string, full *string) (publish.Info, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.config.Bucket, Key: full})
	if err != nil {
		return publish.Info{}, err
	}
	return makeInfo(key, out.ContentLength, out.ETag, out.Metadata, out.ContentType, out.LastModified)
}

// makeInfo makes an Info of what a server said.
func makeInfo(key string, size *int64, etag *string, metadata map[string]string, contentType *string, modified *time.Time) (publish.Info, error) {
	info := publish.Info{Key: key, ContentType: aws.ToString(contentType), Modified: aws.ToTime(modified), Revision: revision(etag)}
	if size == nil || *size < 0 {
		return publish.Info{}, errors.New("server does not say how long the object is")
	}
	if info.Revision == "" {
		return publish.Info{}, errors.New("server gives no entity tag")
	}
	info.Size = *size
	hashed := ""                        // how long what the digest is of was
	for name, value := range metadata { // names come in any case
		switch {
		case strings.EqualFold(name, digestKey) && len(value) == 2*sha256.Size && strings.ToLower(value) == value:
			if _, err := hex.DecodeString(value); err == nil {
				info.SHA256 = value
			}
		case strings.EqualFold(name, sizeKey):
			hashed = value
		}
	}
	// Tools that change an object keep the metadata they do not know.
	if hashed != "" && hashed != strconv.FormatInt(info.Size, 10) {
		info.SHA256 = ""
	}
	return info, nil
}

// revision is an entity tag without its quotes.
func revision(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	full, err := s.check(ctx, key)
	if err != nil {
		return s.fail(ctx, "delete", key, err)
	}
	_, err = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: full})
	if err != nil && statusOf(err) != http.StatusNotFound {
		return s.fail(ctx, "delete", key, err)
	}
	return nil
}

// List gives the objects whose keys begin with prefix, without SHA-256 and
// content type. Keys of the bucket that no [publish.Store] can hold are passed
// over. A server that does not list in order is refused.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		fail := func(err error) { yield(publish.Info{}, s.fail(ctx, "list", prefix, err)) }
		if err := ctx.Err(); err != nil {
			fail(err)
			return
		}
		base := ""
		if s.config.Prefix != "" {
			base = s.config.Prefix + "/"
		}
		input := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: aws.String(base + prefix)}
		last := ""
		for {
			out, err := s.client.ListObjectsV2(ctx, input)
			if err != nil {
				fail(err)
				return
			}
			for _, object := range out.Contents {
				if err := ctx.Err(); err != nil {
					fail(err)
					return
				}
				full := aws.ToString(object.Key)
				if !strings.HasPrefix(full, base+prefix) || full <= last {
					fail(fmt.Errorf("server lists %.200q after %.200q: %w", full, last, errors.ErrUnsupported))
					return
				}
				last = full
				key := full[len(base):]
				if publish.CheckKey(key) != nil {
					continue
				}
				info, err := makeInfo(key, object.Size, object.ETag, nil, nil, object.LastModified)
				if err != nil {
					fail(err)
					return
				}
				if !yield(info, nil) {
					return
				}
			}
			if out.IsTruncated == nil { // S3 always says
				fail(fmt.Errorf("server's answer is no list: %w", io.ErrUnexpectedEOF))
				return
			}
			if !*out.IsTruncated {
				return
			}
			if len(out.Contents) == 0 || aws.ToString(out.NextContinuationToken) == "" {
				fail(fmt.Errorf("server says there is more but not where: %w", io.ErrUnexpectedEOF))
				return
			}
			input.ContinuationToken = out.NextContinuationToken
		}
	}
}

// probe remembers whether the server honours conditions.
type probe struct {
	mu    sync.Mutex
	asked bool
	err   error // errors.ErrUnsupported
}
