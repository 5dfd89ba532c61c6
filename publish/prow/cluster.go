package prow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// MaxAnswerSize bounds an answer of the API server, bytes; an image stream with
// the history of some hundred tags has some MB.
const MaxAnswerSize = 32 << 20

// ClusterOptions are options of [NewCluster]; nil and the zero value are useful.
type ClusterOptions struct {
	// Token gives the bearer token of a request; nil: none is sent.
	Token func(ctx context.Context) (string, error)
	// Transport sends requests, and those that failed again where that is safe;
	// nil: one with time limits and the environment's proxies. A cluster's own
	// certificates are for it to know.
	Transport http.RoundTripper
}

// Cluster speaks with the API server of a cluster about image streams, which
// are named NAMESPACE/NAME. What it sends and reads is checked against the
// published types of the API, and is not proven on OpenShift. It may be used from
// any goroutine.
type Cluster struct {
	base *url.URL
	http *http.Client
	opts ClusterOptions
}

// NewCluster speaks with the API server at an https address, such as
// https://api.example.com:6443; http is for this machine alone.
func NewCluster(address string, opts *ClusterOptions) (*Cluster, error) {
	u, err := url.Parse(address)
	if err == nil && (u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))) {
		err = fmt.Errorf("an address such as https://HOST:6443 is needed: %w", fs.ErrInvalid)
	}
	if err != nil {
		return nil, &Error{Op: "open", Target: httpx.RedactText(address), Err: httpx.Redact(err)}
	}
	c := &Cluster{base: u}
	if opts != nil {
		c.opts = *opts
	}
	c.http = httpx.NewClient(httpx.NewTransport(c.opts.Transport, nil))
	return c, nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// ImageStream gives an image stream as it is; that there is none is an error that
// wraps [fs.ErrNotExist].
func (c *Cluster) ImageStream(ctx context.Context, stream string) (*ImageStream, error) {
	out := &ImageStream{}
	return out, c.call(ctx, "look at", stream, "", http.MethodGet, "imagestreams", true, nil, out)
}

// ImageStreamTag gives a tag of an image stream and its image; that there is no tag,
// or that it has no image yet, is an error that wraps [fs.ErrNotExist].
func (c *Cluster) ImageStreamTag(ctx context.Context, stream, tag string) (*ImageStreamTag, error) {
	if err := checkTag("look at", stream, tag); err != nil {
		return nil, err
	}
	out := &ImageStreamTag{}
	return out, c.call(ctx, "look at", stream, tag, http.MethodGet, "imagestreamtags", true, nil, out)
}

// Import imports images into an image stream, which is made if it is not there, and
// waits until that is done: the tags follow the images then as the policies say. An
// image that could not be imported is an error that names it; the others are imported
// all the same, and the answer is given beside the error.
func (c *Cluster) Import(ctx context.Context, stream string, images ...ImportImage) (*ImageStreamImport, error) {
	fail := func(err error) (*ImageStreamImport, error) {
		return nil, &Error{Op: "import", Target: stream, Err: err}
	}
	namespace, streamName, err := splitStream(stream)
	if err != nil {
		return fail(err)
	}
	if len(images) == 0 {
		return fail(fmt.Errorf("no image: %w", fs.ErrInvalid))
	}
	in := &ImageStreamImport{
		Kind: "ImageStreamImport", APIVersion: groupVersion, Metadata: ObjectMeta{Name: streamName, Namespace: namespace},
		Spec: ImageStreamImportSpec{Import: true, Images: slices.Clone(images)},
	}
	for i := range in.Spec.Images {
		img := &in.Spec.Images[i]
		if img.From.Kind == "" {
			img.From.Kind = "DockerImage"
		}
		if img.From.Kind != "DockerImage" {
			return fail(fmt.Errorf("images[%d]: kind %.40q: %w", i, img.From.Kind, errors.ErrUnsupported))
		}
		if _, err := name.ParseReference(img.From.Name); err != nil {
			return fail(fmt.Errorf("images[%d]: %w", i, err))
		}
		if img.To == nil || !tagName.MatchString(img.To.Name) {
			return fail(fmt.Errorf("images[%d]: no tag to import to: %w", i, fs.ErrInvalid))
		}
		if img.ReferencePolicy.Type == "" {
			img.ReferencePolicy.Type = "Source"
		}
	}
	out := &ImageStreamImport{}
	if err := c.call(ctx, "import", stream, "", http.MethodPost, "imagestreamimports", false, in, out); err != nil {
		return nil, err
	}
	if len(out.Status.Images) != len(images) {
		return fail(fmt.Errorf("%d images were asked for, the answer is about %d", len(images), len(out.Status.Images)))
	}
	var faults []error
	for i, s := range out.Status.Images {
		switch {
		case s.Status.Status != "Success":
			faults = append(faults, fmt.Errorf("%s: %w", in.Spec.Images[i].From.Name, s.Status.err()))
		case s.Image == nil:
			faults = append(faults, fmt.Errorf("%s: the answer has no image", in.Spec.Images[i].From.Name))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return out, &Error{Op: "import", Target: stream, Err: err}
	}
	return out, nil
}

// Tag makes a tag of an image stream follow an image by digest. A tag that
// follows it already is left as it is; one that follows another is an error that
// wraps [fs.ErrExist].
func (c *Cluster) Tag(ctx context.Context, stream, tag, pullSpec string) error {
	fail := func(err error) error { return &Error{Op: "tag", Target: stream + ":" + tag, Err: err} }
	if err := checkTag("tag", stream, tag); err != nil {
		return err
	}
	namespace, streamName, err := splitStream(stream)
	if err != nil {
		return fail(err)
	}
	if _, err := name.NewDigest(pullSpec); err != nil {
		return fail(err)
	}
	in := &ImageStreamTag{
		Kind: "ImageStreamTag", APIVersion: groupVersion, Metadata: ObjectMeta{Name: streamName + ":" + tag, Namespace: namespace},
		Tag: &TagReference{Name: tag, From: &ObjectReference{Kind: "DockerImage", Name: pullSpec}, ReferencePolicy: ReferencePolicy{Type: "Source"}},
	}
	err = c.call(ctx, "tag", stream, tag, http.MethodPost, "imagestreamtags", false, in, nil)
	if !errors.Is(err, fs.ErrExist) && !errors.Is(err, publish.ErrConflict) {
		return err
	}
	// Somebody tagged meanwhile; perhaps we, and the answer was lost.
	old, lookErr := c.follows(ctx, stream, tag)
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case old == pullSpec:
		return nil
	case old == "":
		return err
	}
	return fail(fmt.Errorf("it follows %s: %w", old, fs.ErrExist))
}

// Untag removes a tag of an image stream if it follows an image; one that
// follows another, or is not there, is left as it is.
func (c *Cluster) Untag(ctx context.Context, stream, tag, pullSpec string) error {
	if err := checkTag("untag", stream, tag); err != nil {
		return err
	}
	old, err := c.follows(ctx, stream, tag)
	if errors.Is(err, fs.ErrNotExist) || err == nil && old != pullSpec {
		return nil
	}
	if err != nil {
		return err
	}
	err = c.call(ctx, "untag", stream, tag, http.MethodDelete, "imagestreamtags", true, nil, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// follows gives what a tag follows, "" if there is no such tag.
func (c *Cluster) follows(ctx context.Context, stream, tag string) (string, error) {
	s, err := c.ImageStream(ctx, stream)
	if err != nil {
		return "", err
	}
	for _, t := range s.Spec.Tags {
		if t.Name == tag && t.From != nil {
			return t.From.Name, nil
		}
	}
	return "", nil
}

// Map puts an image that is in the registry of the cluster, or in one that it may
// pull from, into a tag of an image stream that is there, without importing it.
func (c *Cluster) Map(ctx context.Context, stream, tag, pullSpec string) error {
	fail := func(err error) error { return &Error{Op: "map", Target: stream + ":" + tag, Err: err} }
	if err := checkTag("map", stream, tag); err != nil {
		return err
	}
	namespace, streamName, err := splitStream(stream)
	if err != nil {
		return fail(err)
	}
	ref, err := name.NewDigest(pullSpec)
	if err != nil {
		return fail(err)
	}
	return c.call(ctx, "map", stream, tag, http.MethodPost, "imagestreammappings", false, &ImageStreamMapping{
		Kind: "ImageStreamMapping", APIVersion: groupVersion, Metadata: ObjectMeta{Name: streamName, Namespace: namespace},
		Image: Image{Metadata: ObjectMeta{Name: ref.DigestStr()}, DockerImageReference: pullSpec}, Tag: tag,
	}, nil)
}

var (
	objectName = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	tagName    = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

// splitStream splits NAMESPACE/NAME.
func splitStream(stream string) (namespace, streamName string, err error) {
	namespace, streamName, ok := strings.Cut(stream, "/")
	if !ok || !objectName.MatchString(namespace) || !objectName.MatchString(streamName) || len(stream) > 507 || strings.Contains(stream, "..") {
		return "", "", fmt.Errorf("image stream %.80q, want NAMESPACE/NAME: %w", stream, fs.ErrInvalid)
	}
	return namespace, streamName, nil
}

func checkTag(op, stream, tag string) error {
	if !tagName.MatchString(tag) {
		return &Error{Op: op, Target: stream, Err: fmt.Errorf("tag %.80q: %w", tag, fs.ErrInvalid)}
	}
	return nil
}

// call sends a request about an image stream, or a tag of one, and reads the
// answer into out, if it is wanted. named: the object's name is part of the
// address.
func (c *Cluster) call(ctx context.Context, op, stream, tag, method, resource string, named bool, in, out any) error {
	target := stream
	if tag != "" {
		target += ":" + tag
	}
	fail := func(err error) error { return &Error{Op: op, Target: target, Err: err} }
	namespace, object, err := splitStream(stream)
	if err != nil {
		return fail(err)
	}
	if tag != "" {
		object += ":" + tag
	}
	u := c.base.JoinPath("apis", groupVersion, "namespaces", namespace, resource)
	if named {
		u = u.JoinPath(object)
	}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return fail(err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fail(httpx.Redact(err))
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Token != nil {
		token, err := c.opts.Token(ctx)
		if err != nil {
			return fail(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail(httpx.Redact(err))
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := httpx.ReadBody(resp.Body, MaxAnswerSize)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode/100 != 2 {
		s := Status{Code: resp.StatusCode}
		if json.Unmarshal(data, &s) != nil || s.Message == "" {
			s = Status{Message: resp.Status}
		}
		s.Code = resp.StatusCode
		return fail(s.err())
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fail(err)
	}
	return nil
}

// err is the error that a status tells.
func (s *Status) err() error {
	text := httpx.Printable(strings.TrimSpace(s.Message))
	if text == "" {
		text = strings.TrimSpace("the server says " + httpx.Printable(s.Status+" "+s.Reason))
	}
	var kind error
	switch {
	case s.Reason == "AlreadyExists":
		kind = fs.ErrExist
	case s.Code == http.StatusNotFound || s.Reason == "NotFound":
		kind = fs.ErrNotExist
	case s.Code == http.StatusConflict || s.Reason == "Conflict":
		kind = publish.ErrConflict
	case s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden:
		kind = fs.ErrPermission
	default:
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, kind)
}
