package remoteregistry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/verify"
)

// blob gives a blob, verified.
func (c *client) blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	body := &download{ctx: ctx, client: c, desc: desc}
	if err := body.open(); err != nil {
		return nil, err
	}
	verified, err := verify.ReadCloser(body, desc.Digest, desc.Size)
	if err != nil {
		return nil, err
	}
	return &blobReader{verified, c.repo.Digest(desc.Digest.String())}, nil
}

// download is a blob's bytes, not verified. When they break off it asks for the
// rest, as long as each answer brings something.
type download struct {
	ctx    context.Context // governs the reader until Close
	client *client
	desc   v1.Descriptor

	body    io.ReadCloser
	at      int64
	attempt int
}

// open asks for what is missing.
func (d *download) open() error {
	var header http.Header
	if d.at > 0 {
		header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.at)}}
	}
	resp, err := d.client.do(d.ctx, http.MethodGet, d.client.url("blobs", d.desc.Digest.String()), header, nil, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return err
	}
	want, skip := d.desc.Size-d.at, int64(0)
	if resp.StatusCode == http.StatusOK {
		want, skip = d.desc.Size, d.at
	} else if got := resp.Header.Get("Content-Range"); d.at == 0 || !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", d.at)) {
		resp.Body.Close()
		return fmt.Errorf("server answers with the range %.60q, want what follows byte %d: %w", got, d.at, verify.ErrDigest)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		resp.Body.Close()
		return fmt.Errorf("server sends %d bytes, want %d: %w", resp.ContentLength, want, verify.ErrDigest)
	}
	d.body = resp.Body
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		// It broke off before the place: the next attempt tells.
		resp.Body.Close()
		d.body = io.NopCloser(failing{err})
	}
	return nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (d *download) Read(p []byte) (int, error) {
	for {
		// What is under way already would still be given.
		if err := d.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := d.body.Read(p)
		d.at += int64(n)
		if n > 0 {
			d.attempt = 0
			if err != nil && err != io.EOF {
				err = nil // the body gives it again at the next call
			}
		}
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		if err := d.ctx.Err(); err != nil {
			return 0, err
		}
		d.attempt++
		if !httpx.Temporary(err) || d.attempt >= d.client.registry.opts.Attempts {
			return 0, err
		}
		d.body.Close()
		d.body = io.NopCloser(failing{err})
		if err := d.client.registry.wait(d.ctx, d.attempt, err); err != nil {
			return 0, err
		}
		if err := d.open(); err != nil {
			return 0, err
		}
	}
}

func (d *download) Close() error { return d.body.Close() }

// blobReader names the blob in the errors of its reader.
type blobReader struct {
	io.ReadCloser
	target name.Digest
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fail("read", b.target, err)
	}
	return n, err
}

// Relax leaves the check of the digest to the reader.
func (b *blobReader) Relax(want v1.Hash, size int64) bool {
	verified, ok := b.ReadCloser.(verify.Relaxer)
	return ok && verified.Relax(want, size)
}
