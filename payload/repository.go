package payload

import (
	"net/url"
	"strings"
)

// repository is where a component's source code is.
type repository struct{ host, path string }

// parseRepository reads a source location: an https URL, or what git has for
// SSH (git@host:path, ssh://git@host/path).
func parseRepository(location string) (repository, bool) {
	if rest, ok := strings.CutPrefix(location, "git@"); ok {
		location = "ssh://" + strings.Replace(rest, ":", "/", 1)
	}
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return repository{}, false
	}
	switch u.Scheme {
	case "http", "https", "ssh", "git":
	default:
		return repository{}, false
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if path == "" || strings.Contains(path, "..") {
		return repository{}, false
	}
	return repository{u.Hostname(), path}, true
}

func (r repository) url() string {
	return (&url.URL{Scheme: "https", Host: r.host, Path: "/" + r.path}).String()
}

// isCommit: a name of a commit that can be in a URL and after git's options.
func isCommit(text string) bool {
	if len(text) < 7 || len(text) > 64 {
		return false
	}
	for i := range len(text) {
		if !isHex(text[i]) {
			return false
		}
	}
	return true
}
