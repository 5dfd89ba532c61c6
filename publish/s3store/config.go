package s3store

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// Config says where a store is.
type Config struct {
	Bucket string
	// Prefix is put before each key, with a slash between; "": none.
	Prefix string
	// Endpoint is the URL of the server; "": Amazon's of the region. Its host
	// may begin with the bucket already, unless PathStyle is set.
	Endpoint string
	// Region; "": the one the SDK's environment names, else us-east-1.
	Region string
	// PathStyle puts the bucket into the path, not the host name.
	PathStyle bool
	// ACL is the canned ACL of objects that are written, such as "public-read"
	// or "bucket-owner-full-control"; "": the bucket's rule.
	ACL string
	// Anonymous signs nothing.
	Anonymous bool
	// SingleWriter says that nobody but this Store writes here. Where the server
	// ignores conditions, IfAbsent and IfRevision are then checked by a look
	// before the write instead of being refused.
	SingleWriter bool
}

// bucketName is the general rule; old buckets and other servers allow more
// length and capitals than new ones of Amazon.
var bucketName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)

// Lengths of the longest URL that is read and of its endpoint, in bytes. A prefix
// of [publish.MaxKeySize] and an endpoint fit in also where all is escaped.
const (
	maxURL      = 16 << 10
	maxEndpoint = 2 << 10
)

// acls are the canned ones, https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl.
var acls = []string{
	"private", "public-read", "public-read-write", "aws-exec-read", "authenticated-read",
	"bucket-owner-read", "bucket-owner-full-control", "log-delivery-write",
}

// ParseURL reads "s3://bucket/prefix?endpoint=URL&region=R&path-style=true&acl=A&anonymous=true&single-writer=true".
// Each parameter may be missing; unknown ones are errors. A URL holds no
// credentials: see [Options]. The error wraps [io/fs.ErrInvalid].
func ParseURL(text string) (Config, error) {
	fail := func(err error) (Config, error) {
		return Config{}, &publish.Error{Op: "parse", Target: httpx.RedactText(text), Err: err}
	}
	if len(text) > maxURL {
		return Config{}, &publish.Error{Op: "parse", Target: "URL", Err: fmt.Errorf("%d bytes, at most %d are allowed: %w", len(text), maxURL, fs.ErrInvalid)}
	}
	u, err := url.Parse(text)
	if err != nil {
		// The parser's text repeats the URL, unredacted.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return fail(fmt.Errorf("%w: %w", err, fs.ErrInvalid))
	}
	switch {
	case u.Scheme != "s3":
		return fail(fmt.Errorf("scheme %q, want s3: %w", u.Scheme, fs.ErrInvalid))
	case u.User != nil:
		return fail(fmt.Errorf("credentials in the URL: %w", fs.ErrInvalid))
	case u.Fragment != "" || u.Opaque != "":
		return fail(fmt.Errorf("want s3://bucket/prefix?parameters: %w", fs.ErrInvalid))
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", err, fs.ErrInvalid))
	}
	for key, values := range query {
		if len(values) != 1 {
			return fail(fmt.Errorf("parameter %q is given %d times: %w", key, len(values), fs.ErrInvalid))
		}
		value, flag := values[0], false
		switch key {
		case "endpoint":
			c.Endpoint = value
		case "region":
			c.Region = value
		case "acl":
			c.ACL = value
		case "path-style", "anonymous", "single-writer":
			switch value {
			case "true", "1", "":
				flag = true
			case "false", "0":
			default:
				return fail(fmt.Errorf("parameter %q is %q, want true or false: %w", key, value, fs.ErrInvalid))
			}
			switch key {
			case "anonymous":
				c.Anonymous = flag
			case "single-writer":
				c.SingleWriter = flag
			default:
				c.PathStyle = flag
			}
		default:
			return fail(fmt.Errorf("unknown parameter %q: %w", key, fs.ErrInvalid))
		}
	}
	if err := c.check(); err != nil {
		return fail(err)
	}
	return c, nil
}

// String is the URL that [ParseURL] reads.
func (c Config) String() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	query := url.Values{}
	set := func(key, value string) {
		if value != "" {
			query.Set(key, value)
		}
	}
	set("endpoint", c.Endpoint)
	set("region", c.Region)
	set("acl", c.ACL)
	if c.PathStyle {
		query.Set("path-style", "true")
	}
	if c.Anonymous {
		query.Set("anonymous", "true")
	}
	if c.SingleWriter {
		query.Set("single-writer", "true")
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// endpoint is the URL to which the SDK adds the bucket.
func (c *Config) endpoint() string {
	scheme, host, ok := strings.Cut(c.Endpoint, "://")
	if rest, found := strings.CutPrefix(host, c.Bucket+"."); ok && found && !c.PathStyle {
		return scheme + "://" + rest
	}
	return c.Endpoint
}

func (c *Config) check() error {
	if !bucketName.MatchString(c.Bucket) {
		return fmt.Errorf("bucket %.80q: %w", c.Bucket, fs.ErrInvalid)
	}
	if c.Prefix != "" {
		if err := publish.CheckKey(c.Prefix); err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || len(c.Endpoint) > maxEndpoint || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("endpoint %.200q is no http or https URL without credentials and query: %w", httpx.RedactText(c.Endpoint), fs.ErrInvalid)
		}
	}
	if strings.ContainsFunc(c.Region, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) || len(c.Region) > 64 {
		return fmt.Errorf("region %.80q: %w", c.Region, fs.ErrInvalid)
	}
	if c.ACL != "" && !slices.Contains(acls, c.ACL) {
		return fmt.Errorf("acl %.80q is none of %s: %w", c.ACL, strings.Join(acls, ", "), fs.ErrInvalid)
	}
	return nil
}
