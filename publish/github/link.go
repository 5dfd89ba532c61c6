package github

import (
	"net/http"
	"strings"
)

// nextLink gives the address of the next page in a Link header (RFC 8288), ""
// for none.
func nextLink(h http.Header) string {
	for _, value := range h.Values("Link") {
		for value != "" {
			_, rest, ok := strings.Cut(value, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			params := rest
			// The next link begins at a comma outside of quotes.
			quoted := false
			end := strings.IndexFunc(rest, func(r rune) bool {
				if r == '"' {
					quoted = !quoted
				}
				return r == ',' && !quoted
			})
			value = ""
			if end >= 0 {
				params, value = rest[:end], rest[end+1:]
			}
			for param := range strings.SplitSeq(params, ";") {
				name, relation, _ := strings.Cut(strings.TrimSpace(param), "=")
				if strings.EqualFold(strings.TrimSpace(name), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(relation), `"`), "next") {
					return target
				}
			}
		}
	}
	return ""
}
