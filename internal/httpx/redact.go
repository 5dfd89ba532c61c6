package httpx

import (
	"net/url"
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// redacted stands for what is not shown.
const redacted = "REDACTED"

// plainQuery are query keys whose values are shown: paging and addressing of
// the registry and S3 protocols. Every other value may be a signature or token.
var plainQuery = map[string]bool{
	"n": true, "last": true, "digest": true, "mount": true, "from": true, "scope": true, "service": true,
	"artifactType": true, "list-type": true, "prefix": true, "delimiter": true, "max-keys": true, "start-after": true,
	"encoding-type": true, "partNumber": true, "uploads": true, "x-id": true, "versionId": true, "location": true,
	"region": true, "endpoint": true, "path-style": true, "acl": true, "anonymous": true,
}

// RedactURL prints u without user, password and query values that could be a
// credential. nil prints as "".
func RedactURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	out := *u
	if u.User != nil {
		out.User = url.User(redacted)
	}
	if u.RawQuery != "" {
		parts := strings.Split(u.RawQuery, "&")
		for i, part := range parts {
			key, value, ok := strings.Cut(part, "=")
			if !ok || value == "" {
				continue
			}
			name, keyErr := url.QueryUnescape(key)
			plain, valueErr := url.QueryUnescape(value)
			// A value with a user of its own is a URL within the URL.
			if keyErr != nil || valueErr != nil || !plainQuery[name] || strings.Contains(plain, "@") {
				parts[i] = key + "=" + redacted
			}
		}
		out.RawQuery = strings.Join(parts, "&")
	}
	return out.String()
}

var (
	urlText = lazyregexp.New(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>\x60]+`)
	// queryText is a query in an address without scheme and host, such as one
	// that a Location header has.
	queryText  = lazyregexp.New(`([?&])([A-Za-z0-9_.~%-]+)=([^\s"'<>\x60&#]+)`)
	headerText = lazyregexp.New(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/_.~-]{8,}=*`)
)

// RedactText replaces credentials in the URLs and Authorization values that a
// text holds.
func RedactText(text string) string {
	text = urlText.ReplaceAllStringFunc(text, func(s string) string {
		address := strings.TrimRight(s, ".,:;)]}")
		tail := s[len(address):]
		u, err := url.Parse(address)
		if err != nil {
			// Not understood, so not shown beyond its scheme.
			scheme, _, _ := strings.Cut(s, "://")
			return scheme + "://" + redacted + tail
		}
		return RedactURL(u) + tail
	})
	text = queryText.ReplaceAllStringFunc(text, func(s string) string {
		part := queryText.FindStringSubmatch(s)
		if plainQuery[part[2]] && !strings.Contains(part[3], "@") {
			return s
		}
		return part[1] + part[2] + "=" + redacted
	})
	return headerText.ReplaceAllString(text, "$1 "+redacted)
}

// Redact gives err with a text that went through [RedactText]; errors.Is and
// errors.As see the same chain.
func Redact(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := RedactText(text)
	if clean == text {
		return err
	}
	return &redactedError{text: clean, err: err}
}

type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }

// Printable is what a server says, fit for an error: without control
// characters, at most 300 bytes.
func Printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), 300)], "")
}
