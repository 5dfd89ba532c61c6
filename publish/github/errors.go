package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// Error says what failed at which release.
type Error struct {
	Op         string // "prepare", "publish", "discard", "find", "list", "connect"
	Repository string // OWNER/NAME
	Tag        string // "" where it is about none
	Err        error
}

func (e *Error) Error() string {
	target := e.Repository
	if e.Tag != "" {
		target += " " + e.Tag
	}
	return "publish/github: " + e.Op + " " + target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// statusError is an answer that refuses.
type statusError struct {
	status int
	exists bool // "already_exists"
	text   string
}

func (e *statusError) Error() string { return e.text }

// Is maps what has a meaning of its own.
func (e *statusError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.status == http.StatusNotFound || e.status == http.StatusGone
	case fs.ErrPermission:
		return e.status == http.StatusUnauthorized || e.status == http.StatusForbidden
	case fs.ErrExist:
		return e.exists
	}
	return false
}

// maxFaultSize bounds what is read of an answer that refuses, bytes.
const maxFaultSize = 64 << 10

// fault makes an error of an answer that refuses, and closes it.
func fault(resp *http.Response) *statusError {
	defer func() { _ = resp.Body.Close() }()
	e := &statusError{status: resp.StatusCode, text: httpx.Printable(resp.Status)}
	body, err := httpx.ReadBody(resp.Body, maxFaultSize)
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case kind == "text/html":
		e.text += ": an HTML page, no answer of GitHub's API"
	case err == nil:
		e.explain(body)
	}
	if after, ok := httpx.RetryAfter(resp.Header); ok && resp.StatusCode == http.StatusTooManyRequests {
		e.text += fmt.Sprintf("; the limit of requests is reached, more are allowed in %s", after.Round(time.Second))
	}
	return e
}

// explain adds what the body says.
func (e *statusError) explain(body []byte) {
	var said struct {
		Message string            `json:"message"`
		Errors  []json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &said) != nil {
		return
	}
	var details []string
	for _, raw := range said.Errors[:min(len(said.Errors), 5)] {
		var text string
		var detail struct{ Resource, Field, Code, Message string }
		switch {
		case json.Unmarshal(raw, &text) == nil:
		case json.Unmarshal(raw, &detail) == nil:
			e.exists = e.exists || detail.Code == "already_exists"
			text = strings.Join(strings.Fields(detail.Resource+" "+detail.Field+" "+detail.Code+" "+detail.Message), " ")
		}
		if text != "" {
			details = append(details, httpx.Printable(text))
		}
	}
	if said.Message != "" {
		e.text += ": " + httpx.Printable(said.Message)
	}
	if len(details) > 0 {
		e.text += " (" + strings.Join(details, "; ") + ")"
	}
}

// uncertain reports whether a request that failed may have been carried out.
func uncertain(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		return httpx.TemporaryStatus(e.status) && e.status != http.StatusTooManyRequests
	}
	return httpx.Temporary(err)
}
