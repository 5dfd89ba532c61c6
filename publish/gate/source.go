package gate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// Source is where evidence is read.
type Source struct {
	// Name is its URL or file name, for people: no credentials.
	Name string
	// Open opens it from its start. What is not there yet wraps [fs.ErrNotExist].
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// File is a file as a source.
func File(fsys fs.FS, name string) Source {
	return Source{Name: name, Open: func(context.Context) (io.ReadCloser, error) { return fsys.Open(name) }}
}

// URL is what an http or https address gives as a source. An answer 404 means
// that it is not there yet. transport sends requests, and those that failed
// again; nil: one with time limits and the environment's proxies.
func URL(address string, transport http.RoundTripper) Source {
	s := Source{Name: httpx.RedactText(address)}
	u, err := url.Parse(address)
	if err == nil {
		s.Name = httpx.RedactURL(u)
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			err = fmt.Errorf("an address such as https://HOST/PATH is needed: %w", fs.ErrInvalid)
		}
	}
	if err != nil {
		err = httpx.Redact(err)
		s.Open = func(context.Context) (io.ReadCloser, error) { return nil, err }
		return s
	}
	client := httpx.NewClient(httpx.NewTransport(transport, nil))
	s.Open = func(ctx context.Context) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, httpx.Redact(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, httpx.Redact(err)
		}
		if resp.StatusCode == http.StatusOK {
			return resp.Body, nil
		}
		_ = resp.Body.Close()
		err = errors.New(httpx.Printable(resp.Status))
		if resp.StatusCode == http.StatusNotFound {
			err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		}
		return nil, err
	}
	return s
}

// read reads a source whole, at most limit bytes, and notes it as evidence.
func (s Source) read(ctx context.Context, limit int64) ([]byte, Evidence, error) {
	var buf bytes.Buffer
	e, err := s.stream(ctx, limit, func(r io.Reader) error {
		_, err := buf.ReadFrom(r)
		return err
	})
	return buf.Bytes(), e, err
}

// stream gives a source to a reader of its format, at most limit bytes, and
// notes all of it as evidence.
func (s Source) stream(ctx context.Context, limit int64, decode func(io.Reader) error) (Evidence, error) {
	e := Evidence{URL: s.Name}
	body, err := s.Open(ctx)
	if err != nil {
		return e, fmt.Errorf("%s: %w", s.Name, err)
	}
	defer func() { _ = body.Close() }()
	h := &measure{r: body, hash: sha256.New(), limit: limit}
	if err := decode(h); err != nil {
		return e, fmt.Errorf("%s: %w", s.Name, err)
	}
	if _, err := io.Copy(io.Discard, h); err != nil {
		return e, fmt.Errorf("%s: %w", s.Name, err)
	}
	e.Digest, e.Size = fmt.Sprintf("sha256:%x", h.hash.Sum(nil)), h.size
	return e, nil
}

// measure counts and hashes what is read.
type measure struct {
	r           io.Reader
	hash        hash.Hash
	size, limit int64
}

func (m *measure) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.hash.Write(p[:n])
	if m.size += int64(n); m.size > m.limit {
		return 0, fmt.Errorf("more than %d bytes", m.limit)
	}
	return n, err
}

// pending is the finding about a source that is not there yet.
func pending(name string) Finding {
	return Finding{State: Pending, Reason: strings.TrimSpace(name) + " is not there yet"}
}
