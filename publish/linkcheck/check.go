package linkcheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// Defaults of [Options].
const (
	DefaultWorkers      = 8
	DefaultMaxLinks     = 100_000
	DefaultMaxFileBytes = 64 << 30
)

// Store is where files are looked up; a [publish.Store] is one.
type Store interface {
	Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error)
	Stat(ctx context.Context, key string) (publish.Info, error)
}

// Registry is where images are looked up; a [publish.Registry] is one.
type Registry interface {
	Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error)
}

// Mount says that what readers find below an address is in a store.
type Mount struct {
	URL   string // without slash at its end; of any scheme
	Store Store
}

// Mirror says that what is below one address is to be below another, too.
type Mirror struct {
	Of, At string // without slash at the end
}

// Options of [Check]; nil is the zero value. Time is bounded by the context
// alone: a slow server is not a dead one.
type Options struct {
	// Mounts are looked at first; of several that fit, the one with the longest
	// address counts.
	Mounts []Mount
	// Offline leaves addresses below no mount unchecked ([Skipped]).
	Offline bool
	// Transport sends the requests for other addresses, and repeats them where
	// that helps; nil: one of this package, which refuses to dial hosts that are
	// not public and repeats by the rules of internal/httpx.
	Transport http.RoundTripper
	// AllowPrivate permits hosts within this machine and its network, also in
	// the names of images.
	AllowPrivate bool
	// Registry is asked for images; nil: they are left unchecked.
	Registry Registry
	// Checksums reads and hashes every file of which a document says the SHA-256.
	Checksums bool
	// RequireSignatures looks for a signature of each file, at its address and
	// ".sig" where the document names none.
	RequireSignatures bool
	// Mirrors are looked at beside what documents name: each link below Of once
	// more at At, as a link of its own. Documents are not followed there.
	Mirrors []Mirror
	// Follow reads the documents that documents name, and checks their links,
	// too: the files of all releases of an index, of all builds of a catalogue.
	// What those name in turn is followed once more, and no further.
	Follow bool
	// MaxLinks limits the links of all documents; 0: [DefaultMaxLinks].
	MaxLinks int
	// MaxFileBytes limits what is read of one file; 0: [DefaultMaxFileBytes].
	MaxFileBytes int64
	// Workers is how many links are looked up at once; 0: [DefaultWorkers].
	Workers int
	// Progress is called from one goroutine at a time; total grows where
	// documents are followed.
	Progress func(done, total int)
}

// followRounds is one more than how deep documents are followed: a catalogue
// names a record, an index a release, and those name none.
const followRounds = 3

// Check looks up every link of the documents, and reports in their order; what
// following documents adds comes after. An answer that is not as it should be
// is in the report. The error is of documents that cannot be read, of limits,
// and the context's; a [*publish.Error].
func Check(ctx context.Context, docs []Document, opts *Options) (*Report, error) {
	c := &checker{targets: map[string]*target{}}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.Workers <= 0 {
		c.opts.Workers = DefaultWorkers
	}
	if c.opts.MaxLinks <= 0 {
		c.opts.MaxLinks = DefaultMaxLinks
	}
	if c.opts.MaxFileBytes <= 0 {
		c.opts.MaxFileBytes = DefaultMaxFileBytes
	}
	c.web = newWeb(c.opts.Transport, c.opts.AllowPrivate)
	defer c.web.close()
	var all []Link
	for _, doc := range docs {
		found, err := Links(doc)
		if err != nil {
			return nil, err
		}
		c.read(doc.URL)
		all = append(all, found...)
	}
	report := &Report{Documents: len(docs), Counts: map[Verdict]int{}, Links: []Result{}}
	for n := range followRounds {
		more, err := c.round(ctx, report, all, c.opts.Follow && n < followRounds-1)
		if err != nil {
			return nil, &publish.Error{Op: "check", Target: "links", Err: err}
		}
		if len(more) == 0 {
			break
		}
		all = more
	}
	return report, nil
}

type checker struct {
	opts    Options
	web     *web
	targets map[string]*target // by address
	seen    map[string]bool    // documents that are read
	total   int

	mu   sync.Mutex
	done int
}

// read notes that a document's links are known.
func (c *checker) read(address string) {
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[address] = true
}

// target is an address that links name, and what is found there.
type target struct {
	link   Link // the first that names it
	hash   bool // its content is to be hashed
	follow bool // its content is a document to be read
	looked bool
	hashed bool

	found found
	links []Link // of the document
}

// found is what is at an address.
type found struct {
	size   int64  // -1: not told
	sha256 string // "": not known
	html   bool
	err    error // nil: it is there
}

// round checks links and gives those of the documents that they name.
func (c *checker) round(ctx context.Context, report *Report, all []Link, follow bool) (more []Link, err error) {
	all = c.mirrors(c.signatures(all))
	if c.total += len(all); c.total > c.opts.MaxLinks {
		return nil, fmt.Errorf("more than %d links", c.opts.MaxLinks)
	}
	var fresh []*target
	of := make([]*target, len(all))
	for i, l := range all {
		if l.Fault != "" || l.Removed {
			continue
		}
		t := c.targets[l.URL]
		if t == nil {
			t = &target{link: l}
			c.targets[l.URL] = t
			fresh = append(fresh, t)
		}
		if l.Kind == KindDocument && follow && !l.mirror && !c.seen[l.URL] {
			c.read(l.URL)
			t.follow = true
			t.link = l // its build's cleanup, and what it should be
		}
		t.hash = t.hash || c.opts.Checksums && l.Kind == KindFile && isSHA256(l.SHA256)
		if t.looked && (t.hash && !t.hashed || t.follow) {
			t.looked = false // found in an earlier round, and now more is asked
			fresh = append(fresh, t)
		}
		of[i] = t
	}
	before := c.total - len(all)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Workers)
	for i, t := range fresh {
		group.Go(func() error {
			c.look(groupCtx, t)
			c.progress(before+i+1, c.total)
			return groupCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, l := range all {
		r := judge(l, of[i])
		report.Links = append(report.Links, r)
		report.Counts[r.Verdict]++
		if t := of[i]; t != nil && t.follow {
			t.follow = false
			if t.found.err == nil {
				report.Documents++
				more = append(more, t.links...)
				t.links = nil
			}
		}
	}
	c.progress(c.total, c.total)
	return more, nil
}

func (c *checker) progress(done, total int) {
	if c.opts.Progress == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = max(c.done, done) // several finish in any order
	c.opts.Progress(c.done, total)
}

// signatures adds those that should be and are not named.
func (c *checker) signatures(all []Link) []Link {
	if !c.opts.RequireSignatures {
		return all
	}
	named := map[string]bool{}
	for _, l := range all {
		if l.Kind == KindSignature {
			named[l.URL] = true
		}
	}
	var out []Link
	for _, l := range all {
		out = append(out, l)
		if l.Kind != KindFile || l.Fault != "" {
			continue
		}
		sig := Link{Document: l.Document, Path: l.Path, Kind: KindSignature, Removed: l.Removed}
		if u, err := url.Parse(l.URL); err == nil {
			u.Path, u.RawPath, u.RawQuery, u.Fragment = u.Path+".sig", "", "", ""
			sig.URL = u.String()
		}
		if !named[sig.URL] {
			named[sig.URL] = true
			out = append(out, sig)
		}
	}
	return out
}

// mirrors adds the links' other addresses.
func (c *checker) mirrors(all []Link) []Link {
	if len(c.opts.Mirrors) == 0 {
		return all
	}
	var out []Link
	for _, l := range all {
		out = append(out, l)
		if l.Fault != "" || l.Kind == KindImage {
			continue
		}
		for _, m := range c.opts.Mirrors {
			if rest, ok := strings.CutPrefix(l.URL, m.Of+"/"); ok {
				copied := l
				copied.URL, copied.mirror = m.At+"/"+rest, true
				out = append(out, copied)
			}
		}
	}
	return out
}

// look finds out what is at a target's address.
func (c *checker) look(ctx context.Context, t *target) {
	t.looked, t.hashed = true, t.hash || t.follow
	read := t.reader(c.opts.MaxFileBytes)
	if t.link.Kind == KindImage {
		t.found = c.image(ctx, t.link.URL)
		return
	}
	if store, key, ok := c.mount(t.link.URL); ok {
		t.found = inStore(ctx, store, key, read)
	} else if c.opts.Offline {
		t.found = found{err: errSkipped}
	} else {
		t.found = c.web.look(ctx, t.link.URL, read)
	}
}

// reader gives what reads the target's content; nil where it isn't to be read.
// It is called once at most.
func (t *target) reader(limit int64) func(body io.Reader) (found, error) {
	switch {
	case t.follow:
		return func(body io.Reader) (found, error) {
			data, err := httpx.ReadBody(body, MaxDocumentSize)
			if err != nil {
				return found{}, err
			}
			if t.links, err = links(Document{Name: httpx.RedactText(t.link.URL), URL: t.link.URL, Data: data}, t.link.kept); err != nil {
				return found{}, &wrongError{err}
			}
			sum := sha256.Sum256(data)
			return found{size: int64(len(data)), sha256: hex.EncodeToString(sum[:])}, nil
		}
	case t.hash:
		return func(body io.Reader) (found, error) {
			hash := sha256.New()
			n, err := io.CopyBuffer(hash, onlyReader{io.LimitReader(body, limit+1)}, make([]byte, 128<<10))
			if err != nil {
				return found{}, fmt.Errorf("after %d bytes: %w", n, err)
			}
			if n > limit {
				return found{}, fmt.Errorf("more than %d bytes", limit)
			}
			return found{size: n, sha256: hex.EncodeToString(hash.Sum(nil))}, nil
		}
	}
	return nil
}

// onlyReader hides WriteTo, so that blocks stay as large as the buffer.
type onlyReader struct{ io.Reader }

// mount finds the store that an address is in.
func (c *checker) mount(address string) (Store, string, bool) {
	var best *Mount
	for i := range c.opts.Mounts {
		m := &c.opts.Mounts[i]
		if strings.HasPrefix(address, m.URL+"/") && (best == nil || len(m.URL) > len(best.URL)) {
			best = m
		}
	}
	if best == nil {
		return nil, "", false
	}
	rest, _, _ := strings.Cut(address[len(best.URL)+1:], "#")
	rest, _, _ = strings.Cut(rest, "?")
	key, err := url.PathUnescape(rest)
	if err != nil {
		key = rest
	}
	return best.Store, key, true
}

func inStore(ctx context.Context, store Store, key string, read func(io.Reader) (found, error)) found {
	if read == nil {
		info, err := store.Stat(ctx, key)
		return found{size: info.Size, sha256: info.SHA256, err: err}
	}
	body, info, err := store.Open(ctx, key)
	if err != nil {
		return found{err: err}
	}
	f, err := read(body)
	if err == nil && f.size != info.Size {
		err = &wrongError{fmt.Errorf("the store says %d bytes and sends %d", info.Size, f.size)}
	}
	f.err = errors.Join(err, body.Close())
	return f
}

func (c *checker) image(ctx context.Context, pullspec string) found {
	ref, err := name.ParseReference(pullspec, name.StrictValidation)
	if err != nil {
		return found{err: &refusedError{"not a pullspec with registry, and tag or digest"}}
	}
	if c.opts.Registry == nil {
		return found{err: errSkipped}
	}
	if !c.opts.AllowPrivate && privateHost(hostname(ref.Context().RegistryStr())) {
		return found{err: errPrivate}
	}
	at, err := c.opts.Registry.Head(ctx, ref)
	switch {
	case err != nil:
		return found{err: err}
	case at == nil:
		return found{err: fs.ErrNotExist}
	}
	if digest, ok := ref.(name.Digest); ok && at.Digest.String() != digest.DigestStr() {
		return found{err: &wrongError{fmt.Errorf("the registry answers with %s", at.Digest)}}
	}
	return found{size: -1}
}

// errSkipped: nobody was asked.
var errSkipped = errors.New("not looked up")

// refusedError is why an address is not followed.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// wrongError is what is there and not as it should be.
type wrongError struct{ err error }

func (e *wrongError) Error() string { return e.err.Error() }
func (e *wrongError) Unwrap() error { return e.err }

var reSHA256 = lazyregexp.New(`^[0-9a-fA-F]{64}$`)

func isSHA256(text string) bool { return reSHA256.MatchString(text) }

// judge compares what a document says with what was found; t is nil for what is
// not looked up.
func judge(l Link, t *target) Result {
	r := Result{Link: l, FoundSize: -1}
	r.URL = printable(httpx.RedactText(l.URL))
	verdict := func(v Verdict, err error) Result {
		r.Verdict, r.Err = v, err
		if err != nil {
			r.Cause = printable(httpx.Redact(err).Error())
		}
		return r
	}
	switch {
	case l.Fault != "":
		return verdict(Refused, &refusedError{l.Fault})
	case l.Removed:
		return verdict(Skipped, errors.New("removed by policy-cleanup"))
	}
	f := t.found
	if f.err == nil {
		r.FoundSize, r.FoundSHA256 = f.size, f.sha256
	}
	_, refused := errors.AsType[*refusedError](f.err)
	_, wrong := errors.AsType[*wrongError](f.err)
	switch err := f.err; {
	case errors.Is(err, errSkipped):
		return verdict(Skipped, err)
	case refused, errors.Is(err, fs.ErrInvalid):
		return verdict(Refused, err)
	case wrong, errors.Is(err, publish.ErrDigest):
		return verdict(Wrong, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return verdict(Missing, err)
	case err != nil:
		return verdict(Failed, err)
	case l.SHA256 != "" && !isSHA256(l.SHA256):
		return verdict(Wrong, fmt.Errorf("the document's sha256 %.80q is none", l.SHA256))
	case l.Size > 0 && f.size >= 0 && f.size != l.Size:
		return verdict(Wrong, fmt.Errorf("has %d bytes, the document says %d", f.size, l.Size))
	case l.SHA256 != "" && f.sha256 != "" && !strings.EqualFold(f.sha256, l.SHA256):
		return verdict(Wrong, fmt.Errorf("has sha256 %s, the document says %s", f.sha256, strings.ToLower(l.SHA256)))
	case f.html && (l.Kind == KindFile || l.Kind == KindSignature || l.Kind == KindDocument):
		return verdict(Wrong, errors.New("the answer is a web page"))
	}
	return verdict(OK, nil)
}
