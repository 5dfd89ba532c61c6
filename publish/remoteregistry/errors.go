package remoteregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/containersauth"
	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// maxErrorBody bounds what is read of an error's body, bytes.
const maxErrorBody = 64 << 10

// statusError is a response that says no.
type statusError struct {
	method, url string
	status      int
	message     string // "CODE: message", or ""
	kind        error  // what errors.Is finds, or nil
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

func (e *statusError) Unwrap() error { return e.kind }

// newStatusError reads the body of resp for its registry error codes.
func newStatusError(resp *http.Response) error {
	e := &statusError{status: resp.StatusCode}
	if resp.Request != nil {
		e.method, e.url = resp.Request.Method, httpx.RedactURL(resp.Request.URL)
	}
	var codes []string
	if body, err := httpx.ReadBody(resp.Body, maxErrorBody); err == nil {
		var doc struct {
			Errors []struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"errors"`
		}
		if json.Unmarshal(body, &doc) == nil {
			var parts []string
			for _, d := range doc.Errors[:min(len(doc.Errors), 3)] {
				codes = append(codes, d.Code)
				parts = append(parts, d.Code+": "+d.Message)
			}
			e.message = printable(strings.Join(parts, "; "), resp.Request)
		}
	}
	e.kind = kindOf(resp.StatusCode, codes)
	return e
}

// printable makes what a server said fit for a log: short, one line, without
// what it was told in confidence. req may be nil.
func printable(text string, req *http.Request) string {
	var secrets []string
	if req != nil {
		_, header, _ := strings.Cut(req.Header.Get("Authorization"), " ")
		_, password, _ := req.BasicAuth()
		secrets = []string{header, password}
	}
	text = visible(hide(text, secrets...))
	// What was none before can be one now.
	for i := range secrets {
		secrets[i] = visible(secrets[i])
	}
	text = hide(httpx.RedactText(text), secrets...)
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

func hide(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "REDACTED")
		}
	}
	return text
}

// visible has a blank for each control character and byte that is no text.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, text)
}

// kindOf maps a status and the distribution specification's error codes to the
// standard library's errors.
func kindOf(status int, codes []string) error {
	for _, code := range codes {
		switch code {
		case "DIGEST_INVALID", "SIZE_INVALID":
			return verify.ErrDigest
		case "NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN":
			return fs.ErrNotExist
		case "UNAUTHORIZED", "DENIED":
			return fs.ErrPermission
		case "UNSUPPORTED":
			return errors.ErrUnsupported
		}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fs.ErrPermission
	case http.StatusNotFound, http.StatusGone:
		return fs.ErrNotExist
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return errors.ErrUnsupported
	}
	return nil
}

// clean takes URLs with query, and go-containerregistry's own error values,
// out of an error of the transport.
func clean(err error) error {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		out := &statusError{status: e.StatusCode, method: http.MethodGet}
		if e.Request != nil {
			out.method, out.url = e.Request.Method, httpx.RedactURL(e.Request.URL)
		}
		var codes, parts []string
		for _, d := range e.Errors[:min(len(e.Errors), 3)] {
			codes = append(codes, string(d.Code))
			parts = append(parts, string(d.Code)+": "+d.Message)
		}
		out.message = printable(strings.Join(parts, "; "), e.Request)
		out.kind = kindOf(e.StatusCode, codes)
		return out
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return httpx.Redact(e.Err)
	}
	return httpx.Redact(err)
}

// refused adds to an error where the credentials came from that were not good
// enough, and takes them out of a server's message: an identity token goes in a
// request's body, where printable does not look.
func refused(ctx context.Context, err error, auth authn.Authenticator) error {
	if e, ok := errors.AsType[*statusError](err); ok && e.message != "" {
		if config, configErr := authn.Authorization(ctx, auth); configErr == nil {
			for _, secret := range []string{config.Password, config.IdentityToken, config.RegistryToken, config.Auth} {
				if secret != "" {
					e.message = strings.ReplaceAll(e.message, secret, "REDACTED")
				}
			}
		}
	}
	return containersauth.Explain(err, auth)
}

// retryable says whether the same may succeed later.
func retryable(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		return httpx.TemporaryStatus(e.status)
	}
	return httpx.Temporary(err)
}

// fail gives err its operation and target.
func fail(op string, target fmt.Stringer, err error) error {
	if e, ok := errors.AsType[*publish.Error](err); ok {
		return e
	}
	text := "no reference"
	if target != nil {
		text = target.String()
	}
	return &publish.Error{Op: op, Target: text, Err: httpx.Redact(err), Retryable: retryable(err)}
}
