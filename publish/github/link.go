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
			var parameters string
			parameters, value = cutUnquoted(rest, ',')
			for parameters != "" {
				var parameter string
				parameter, parameters = cutUnquoted(parameters, ';')
				name, relation, _ := strings.Cut(parameter, "=")
				if strings.EqualFold(strings.TrimSpace(name), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(relation), `"`), "next") {
					return target
				}
			}
		}
	}
	return ""
}

// cutUnquoted cuts text at the first separator outside of quotes.
func cutUnquoted(text string, separator rune) (before, after string) {
	quoted := false
	i := strings.IndexFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == separator && !quoted
	})
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i+1:]
}
