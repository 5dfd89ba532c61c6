package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// statusOf is the HTTP status behind err, or 0.
func statusOf(err error) int {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}

// codeOf is S3's error code behind err, or "".
func codeOf(err error) string {
	if ae, ok := errors.AsType[smithy.APIError](err); ok {
		return ae.ErrorCode()
	}
	return ""
}

// retryable reports whether the same call may succeed later.
func retryable(err error) bool {
	if status := statusOf(err); status != 0 {
		return httpx.TemporaryStatus(status)
	}
	return httpx.Temporary(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// absent gives both meanings to a 403 that an anonymous reader gets.
func (s *Store) absent(err error) error {
	if s.config.Anonymous && statusOf(err) == http.StatusForbidden {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// secrets are what a server's message may repeat of a signed request.
var secrets = lazyregexp.New(`(?i)(signature|credential|accesskeyid|security-token|token)[=: ]+[^\s,;<>&]+`)

// fail makes the package's error of err.
func (s *Store) fail(ctx context.Context, op, key string, err error) error {
	if pe, ok := err.(*publish.Error); ok {
		return pe
	}
	target := "s3://" + s.config.Bucket + "/" + key
	if s.config.Prefix != "" {
		target = "s3://" + s.config.Bucket + "/" + s.config.Prefix + "/" + key
	}
	e := &publish.Error{Op: op, Target: target, Err: err, Retryable: retryable(err)}
	if ctxErr := ctx.Err(); ctxErr != nil {
		e.Err, e.Retryable = ctxErr, false
		return e
	}
	status, code := statusOf(err), codeOf(err)
	if status == 0 {
		if op, ok := errors.AsType[*smithy.OperationError](err); ok {
			e.Err = op.Err // "operation error S3: PutObject, " says nothing new
		}
		e.Err = httpx.Redact(e.Err)
		return e
	}
	var kind error
	switch {
	case code == noSuchUpload: // somebody aborted or completed it; a new one may do
		e.Retryable = true
	case errors.Is(err, fs.ErrNotExist) && status == http.StatusForbidden:
		kind = errors.Join(fs.ErrNotExist, fs.ErrPermission)
	case status == http.StatusNotFound:
		kind = fs.ErrNotExist
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		kind = fs.ErrPermission
	case status == http.StatusNotImplemented,
		// A key that this server has no room for: too long, or one that begins
		// another where objects are files.
		code == "KeyTooLongError", code == "ObjectParentIsFile", code == "ExistingObjectIsDirectory", code == "ExistingObjectIsDir":
		kind = errors.ErrUnsupported
	}
	text := fmt.Sprintf("server answers %d", status)
	if code != "" && code != http.StatusText(status) {
		text += " " + fmt.Sprintf("%.80q", code)
	}
	if ae, ok := errors.AsType[smithy.APIError](err); ok && ae.ErrorMessage() != "" && ae.ErrorMessage() != code {
		text += ": " + httpx.RedactText(secrets.ReplaceAllString(fmt.Sprintf("%.200q", ae.ErrorMessage()), "$1=REDACTED"))
	}
	e.Err = &answer{text: text, kind: kind, err: err}
	return e
}

// answer is a server's refusal in our words.
type answer struct {
	text string
	kind error // what it means, or nil
	err  error
}

func (a *answer) Error() string {
	if a.kind == nil {
		return a.text
	}
	if joined, ok := a.kind.(interface{ Unwrap() []error }); ok {
		return fmt.Sprintf("%s: %v or %v", a.text, joined.Unwrap()[0], joined.Unwrap()[1])
	}
	return a.text + ": " + a.kind.Error()
}

func (a *answer) Unwrap() []error {
	if a.kind == nil {
		return []error{a.err}
	}
	return []error{a.kind, a.err}
}
