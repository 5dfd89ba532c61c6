package rpmrepo

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/publish"
)

// MaxPrimarySize bounds what is in primary.xml, bytes; Fedora's has 300 MB.
const MaxPrimarySize = 4 << 30

// errStatus is an answer that is not the document.
type errStatus struct {
	status int
	text   string
}

func (e *errStatus) Error() string { return "the server says " + e.text }

// Is makes 401 and 403 [fs.ErrPermission], and 404 and 410 [fs.ErrNotExist].
func (e *errStatus) Is(target error) bool {
	switch target {
	case fs.ErrPermission:
		return e.status == http.StatusUnauthorized || e.status == http.StatusForbidden
	case fs.ErrNotExist:
		return e.status == http.StatusNotFound || e.status == http.StatusGone
	}
	return false
}

// remote is a repository on a server.
type remote struct {
	client *http.Client
	base   *url.URL
	auth   string // the Authorization header; "": none
	secret []string
}

func (r *remote) get(ctx context.Context, file string) (io.ReadCloser, error) {
	u := r.base.JoinPath(file)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // checksums are of the files as they are
	if r.auth != "" {
		req.Header.Set("Authorization", r.auth)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // the address is known
		}
		return nil, httpx.RedactSecrets(err, r.secret...)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, &errStatus{resp.StatusCode, httpx.Printable(resp.Status)}
	}
	return resp.Body, nil
}

func (r *remote) document(ctx context.Context, file string, limit int64) ([]byte, error) {
	body, err := r.get(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	data, err := httpx.ReadBody(body, limit)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return data, nil
}

const repomdFile = "repodata/repomd.xml"

// errUnsigned says that there is no signature.
var errUnsigned = errors.New("its metadata are not signed")

// open reads and checks repomd.xml. Without keys, and with no signature beside
// it, signer is "" (for the latter unsigned is true).
func (r *remote) open(ctx context.Context, keys *pgp.Keyring, now time.Time) (p *primary, signer string, err error) {
	data, err := r.document(ctx, repomdFile, MaxRepomdSize)
	if err != nil {
		return nil, "", err
	}
	if keys != nil {
		if signer, err = r.verify(ctx, data, keys, now); err != nil && !errors.Is(err, errUnsigned) {
			return nil, "", err
		}
	}
	unsigned := err
	if p, err = decodeRepomd(bytes.NewReader(data)); err != nil {
		return nil, "", fmt.Errorf("%s: %w", repomdFile, err)
	}
	return p, signer, unsigned
}

func (r *remote) verify(ctx context.Context, data []byte, keys *pgp.Keyring, now time.Time) (string, error) {
	signature, err := r.document(ctx, repomdFile+".asc", pgp.MaxSignatureSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errUnsigned
	}
	if err != nil {
		return "", err
	}
	all, err := keys.Verify(ctx, bytes.NewReader(data), signature, now, nil)
	if err != nil {
		return "", fmt.Errorf("%s.asc: %w", repomdFile, err)
	}
	for _, s := range all {
		if s.Err == nil {
			return s.Primary, nil
		}
	}
	return "", fmt.Errorf("%s.asc: no good signature", repomdFile)
}

// packages calls each for every package of primary.xml, and fails unless all of
// it was what repomd.xml promises. each must forget what it was told then.
func (r *remote) packages(ctx context.Context, p *primary, wanted func([]byte) bool, each func(*pkg)) (count int, err error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("%s: %w", p.href, err) }
	body, err := r.get(ctx, p.href)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = body.Close() }()
	limit := p.size
	if limit < 0 {
		limit = MaxPrimarySize
	}
	packed := newChecked(body, p.sum, p.size, limit)
	plain, err := uncompress(packed)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = plain.Close() }()
	if limit = p.openSize; limit < 0 || limit > MaxPrimarySize {
		limit = MaxPrimarySize
	}
	content := newChecked(plain, p.open, p.openSize, limit)
	for one, err := range decodePrimary(content, wanted) {
		if err != nil {
			return fail(err)
		}
		count++
		each(one)
	}
	// What is behind the last element, and behind the compressed data, counts too.
	for _, c := range []*checked{content, packed} {
		if _, err := io.Copy(io.Discard, c); err != nil {
			return fail(err)
		}
		if err := c.verify(); err != nil {
			return fail(err)
		}
	}
	return count, nil
}

// uncompress reads what createrepo_c writes: gzip, bzip2, xz, zstd or plain.
func uncompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if head, err := b.Peek(4); err == nil && bytes.HasPrefix(head, []byte("BZh")) && '1' <= head[3] && head[3] <= '9' {
		return io.NopCloser(bzip2.NewReader(b)), nil
	}
	return decompress.NewReader(b)
}

// checked counts and hashes what is read.
type checked struct {
	r     io.Reader
	hash  hash.Hash // nil: not checked
	want  sum
	size  int64 // -1: not told
	left  int64
	bytes int64
}

func newChecked(r io.Reader, want sum, size, limit int64) *checked {
	c := &checked{r: r, want: want, size: size, left: limit}
	if want.kind != "" {
		c.hash = hashes[want.kind]()
	}
	return c
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		return 0, fmt.Errorf("more than %d bytes: %w", c.bytes+c.left, publish.ErrDigest)
	}
	c.left -= int64(n)
	c.bytes += int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	return n, err
}

func (c *checked) verify() error {
	if c.size >= 0 && c.bytes != c.size {
		return fmt.Errorf("%d bytes, not %d: %w", c.bytes, c.size, publish.ErrDigest)
	}
	if c.hash == nil {
		return nil
	}
	if got := hex.EncodeToString(c.hash.Sum(nil)); !strings.EqualFold(got, c.want.hex) {
		return fmt.Errorf("%s is %s, not %s: %w", c.want.kind, got, c.want.hex, publish.ErrDigest)
	}
	return nil
}
