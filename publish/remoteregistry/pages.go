package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Limits of what servers give in pages.
const (
	maxPages    = 100_000
	maxPageBody = 8 << 20 // bytes
)

// pageSize is the query of a first page.
func pageSize(n int) string { return "?n=" + strconv.Itoa(n) }

// pages gets one page after the other, until one has no successor or fn wants
// no more.
func (c *client) pages(ctx context.Context, first string, header http.Header, fn func(resp *http.Response, data []byte) (more bool, err error)) error {
	seen := map[string]bool{}
	for page := first; page != ""; {
		if seen[page] || len(seen) >= maxPages {
			return errors.New("the list does not end")
		}
		seen[page] = true
		resp, data, err := c.document(ctx, page, header, maxPageBody)
		if err != nil {
			return err
		}
		more, err := fn(resp, data)
		if !more || err != nil {
			return err
		}
		next := nextLink(resp.Header.Values("Link"))
		if next == "" {
			return nil
		}
		u, err := resolve(resp, next)
		if err != nil {
			return err
		}
		// The next page is on the same server: credentials go with the request.
		if at := resp.Request.URL; u.Scheme != at.Scheme || u.Host != at.Host {
			return fmt.Errorf("the next page is on another server, %.100q", u.Host)
		}
		page = u.String()
	}
	return nil
}

// nextLink finds the target of rel="next" in Link headers, RFC 8288; "" if
// there is none.
func nextLink(headers []string) string {
	for _, h := range headers {
		for h != "" {
			_, rest, ok := strings.Cut(h, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			// Parameters reach to the comma outside of quotes.
			var param string
			for next := byte(';'); next == ';'; {
				param, rest, next = cutUnquoted(rest)
				key, value, _ := strings.Cut(param, "=")
				if strings.EqualFold(strings.TrimSpace(key), "rel") && slices.Contains(strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)), "next") {
					return target
				}
			}
			h = rest
		}
	}
	return ""
}

// cutUnquoted cuts s at the first ';' or ',' outside of quotes and says which it
// was; 0 at the end.
func cutUnquoted(s string) (before, after string, at byte) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ';' || s[i] == ','):
			return s[:i], s[i+1:], s[i]
		}
	}
	return s, "", 0
}
