package bootimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/pgp"
)

// ErrVerification is wrapped by errors that say that bytes are not those that a
// document names or a key signed.
var ErrVerification = errors.New("verification failed")

// errChanged says that a server has another file than it had a moment ago.
var errChanged = errors.New("the file changed on the server")

// Limits and defaults of [Download].
const (
	DefaultConnections = 4
	DefaultRangeSize   = 8 << 20 // bytes
	// DefaultMaxContent is the most bytes that content may have whose size the
	// document does not say.
	DefaultMaxContent = 100 << 30

	maxConnections  = 32
	minRangeSize    = 64 << 10
	maxDownloadSize = 1 << 40
	maxSignature    = 64 << 10
	maxParts        = 1 << 16
	// rangeAttempts is how many answers in a row may bring less than minProgress
	// bytes.
	rangeAttempts = 5
	minProgress   = 4 << 10
)

// DownloadOptions are options of [Download].
type DownloadOptions struct {
	// Mirrors are further addresses of the same bytes. All are used at once.
	Mirrors []string
	// Connections is how many ranges are read at once; 0: [DefaultConnections],
	// at most 32.
	Connections int
	// RangeSize is the size of one range in bytes; 0: [DefaultRangeSize], at least
	// 64 KiB. A download goes on where it stopped by ranges of this size; a file has
	// at most 65,536 of them.
	RangeSize int64
	// Transport sends the requests, and repeats them where that helps; nil: one
	// with time limits and the environment's proxies.
	Transport http.RoundTripper
	// Keys are OpenPGP public keys, binary or armoured. With any, the file must
	// have a good signature by one of them, made before Now by a key that was good
	// then.
	Keys [][]byte
	// Signature is the detached signature; nil: it is read at the entry's address
	// of one, or where that is "" at the file's address and ".sig".
	Signature []byte
	// Now is the time at which keys and signatures must be good. Required with
	// Keys.
	Now time.Time
	// Unverified permits files of which neither a checksum is known nor Keys are
	// given.
	Unverified bool
	// Decompress writes the content of a file that is gzip, xz or zstd, as it is
	// read.
	Decompress bool
	// MaxContent is the most bytes that the content may have; 0: the size that the
	// entry has, else [DefaultMaxContent].
	MaxContent int64
	// Progress is called as bytes arrive, from several goroutines; it must not
	// block. total is 0 as long as it is not known.
	Progress func(done, total int64)
	// Logger gets what is repeated at debug level; nil: silent.
	Logger *slog.Logger
}

// Downloaded is what a download did.
type Downloaded struct {
	Size   int64  // of the file as published, in bytes
	SHA256 string // of the file as published
	// Of its content, where it was decompressed; else 0 and "".
	ContentSize   int64
	ContentSHA256 string
	// Fetched are the bytes that were moved now; what an earlier download left is
	// not moved again.
	Fetched int64
	// SignedBy are the fingerprints of the keys whose signatures are good.
	SignedBy []string
}

// Download reads the file of an entry to name in dst. Nothing is under the name
// before all of it is there and verified: its size and SHA-256, with Keys its
// signature, with Decompress the SHA-256 of its content; all in one pass beside
// the transfer. Then it takes the place of what was there. A file that is there
// already, with the right bytes, is not fetched again.
//
// Ranges are read at once, from all mirrors. What a server cuts is asked for
// again from there; servers that know no ranges are read in one go. A download
// that was stopped goes on where it was, in files beside name that begin with a
// point; one whose bytes were wrong starts anew. Errors wrap [ErrVerification]
// where bytes are not as they should be, [io/fs.ErrNotExist] where no address has
// the file.
func Download(ctx context.Context, dst *os.Root, name string, e Entry, opts *DownloadOptions) (*Downloaded, error) {
	var o DownloadOptions
	if opts != nil {
		o = *opts
	}
	d := &download{root: dst, name: name, entry: e, opts: o}
	done, err := d.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("bootimage: download %s: %w", name, httpx.Redact(err))
	}
	return done, nil
}

// download is one that is under way.
type download struct {
	root  *os.Root
	name  string
	entry Entry
	opts  DownloadOptions

	client  *http.Client
	urls    []string
	keyring *pgp.Keyring
}

// prepare checks what was asked for.
func (d *download) prepare() error {
	if !reFile.MatchString(d.name) {
		return fmt.Errorf("%.255q is not a file name: %w", d.name, fs.ErrInvalid)
	}
	o := &d.opts
	if o.Connections <= 0 {
		o.Connections = DefaultConnections
	}
	o.Connections = min(o.Connections, maxConnections)
	if o.RangeSize <= 0 {
		o.RangeSize = DefaultRangeSize
	}
	o.RangeSize = max(o.RangeSize, minRangeSize)
	if o.MaxContent <= 0 {
		o.MaxContent = DefaultMaxContent
		if d.entry.UncompressedSize > 0 {
			o.MaxContent = d.entry.UncompressedSize
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case d.entry.SHA256 != "" && !reSHA256.MatchString(d.entry.SHA256),
		d.entry.UncompressedSHA256 != "" && !reSHA256.MatchString(d.entry.UncompressedSHA256):
		return fmt.Errorf("a checksum is not a SHA-256: %w", fs.ErrInvalid)
	case d.entry.Size < 0 || d.entry.Size > maxDownloadSize:
		return fmt.Errorf("size %d: %w", d.entry.Size, fs.ErrInvalid)
	case d.entry.SHA256 == "" && len(o.Keys) == 0 && !o.Unverified:
		return fmt.Errorf("neither a checksum nor keys to verify it by: %w", fs.ErrInvalid)
	case len(o.Keys) > 0 && o.Now.IsZero():
		return fmt.Errorf("keys without a time: %w", fs.ErrInvalid)
	}
	for _, address := range append([]string{d.entry.URL}, o.Mirrors...) {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("not an address of https or http: %w", errors.ErrUnsupported)
		}
		if !slices.Contains(d.urls, address) {
			d.urls = append(d.urls, address)
		}
	}
	if len(o.Keys) > 0 {
		var err error
		if d.keyring, err = pgp.ParseKeyring(o.Keys...); err != nil {
			return err
		}
	}
	transport := o.Transport
	if transport == nil {
		transport = httpx.NewTransport(nil, &httpx.Options{Logger: o.Logger})
	}
	d.client = httpx.NewClient(transport)
	return nil
}

func (d *download) do(ctx context.Context) (*Downloaded, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if d.keyring != nil && d.opts.Signature == nil {
		if err := d.fetchSignature(ctx); err != nil {
			return nil, err
		}
	}
	for attempt := 0; ; attempt++ {
		done, err := d.once(ctx)
		if !errors.Is(err, errChanged) || attempt > 0 {
			return done, err
		}
		d.opts.Logger.DebugContext(ctx, "file changed on the server, starting anew", slog.String("file", d.name))
	}
}

// once downloads and verifies, and puts the result under its name.
func (d *download) once(ctx context.Context) (_ *Downloaded, err error) {
	part, err := d.openPart(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if errors.Is(err, ErrVerification) || errors.Is(err, errChanged) {
			err = errors.Join(err, part.discard())
		}
		err = errors.Join(err, part.close())
	}()
	// With the lock: whoever had it may have left the file.
	if done, err := d.there(ctx); err != nil {
		return nil, err
	} else if done != nil {
		return done, part.discard()
	}
	done, out, err := d.transfer(ctx, part)
	if err != nil {
		return nil, err
	}
	if out != "" { // the content takes the name, the file itself goes
		if err := d.root.Rename(out, d.name); err != nil {
			return nil, err
		}
		return done, part.discard()
	}
	return done, part.rename(d.name)
}

// there looks whether the file is there already, by its bytes.
func (d *download) there(ctx context.Context) (*Downloaded, error) {
	want := d.entry.SHA256
	if d.opts.Decompress {
		want = d.entry.UncompressedSHA256
	}
	info, err := d.root.Lstat(d.name)
	if errors.Is(err, fs.ErrNotExist) || want == "" || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// A signature is of the file as it was published.
	if d.keyring != nil && d.opts.Decompress {
		return nil, nil
	}
	file, err := d.root.Open(d.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m, err := Measure(ctx, file, &MeasureOptions{Plain: true})
	if err != nil || m.SHA256 != want {
		return nil, err
	}
	done := &Downloaded{Size: m.Size, SHA256: m.SHA256}
	if d.opts.Decompress {
		done = &Downloaded{SHA256: d.entry.SHA256, Size: d.entry.Size, ContentSize: m.Size, ContentSHA256: m.SHA256}
	}
	if d.keyring == nil {
		return done, nil
	}
	if _, err := file.Seek(0, 0); err != nil {
		return nil, err
	}
	signatures, err := d.keyring.Verify(ctx, file, d.opts.Signature, d.opts.Now, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	done.SignedBy = signers(signatures)
	return done, nil
}

func signers(signatures []pgp.Signature) (keys []string) {
	for _, s := range signatures {
		if s.Err == nil {
			keys = append(keys, s.Fingerprint)
		}
	}
	return keys
}

// fetchSignature reads the detached signature.
func (d *download) fetchSignature(ctx context.Context) error {
	addresses := []string{d.entry.Signature}
	if d.entry.Signature == "" {
		addresses = nil
		for _, u := range d.urls {
			addresses = append(addresses, u+".sig")
		}
	}
	var errs []error
	for _, address := range addresses {
		resp, err := d.get(ctx, address, "")
		if err == nil {
			var data []byte
			data, err = httpx.ReadBody(resp.Body, maxSignature)
			if err := errors.Join(err, resp.Body.Close()); err == nil {
				d.opts.Signature = data
				return nil
			}
		}
		errs = append(errs, fmt.Errorf("signature: %w", err))
	}
	return errors.Join(errs...)
}

// get sends a request; the answer is 200, or 206 to one for a range.
func (d *download) get(ctx context.Context, address, ranges string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // the bytes as they are
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && ranges != "":
		if encoding == "" || strings.EqualFold(encoding, "identity") {
			return resp, nil
		}
		err = fmt.Errorf("%s: answer is encoded as %.20q: %w", address, encoding, errors.ErrUnsupported)
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		err = fmt.Errorf("%s: %w", address, fs.ErrNotExist)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		err = fmt.Errorf("%s: %w", address, fs.ErrPermission)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		err = fmt.Errorf("%s: %w: shorter than it was", address, errChanged)
	default:
		err = fmt.Errorf("%s: answer %s", address, resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}
