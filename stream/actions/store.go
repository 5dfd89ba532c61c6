package actions

import (
	"net/url"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// storeURL is a store as the commands take it.
func storeURL(s stream.Store) string {
	query := url.Values{}
	for key, value := range map[string]string{"endpoint": s.Endpoint, "region": s.Region, "acl": s.ACL} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if s.PathStyle {
		query.Set("path-style", "true")
	}
	if len(query) == 0 || !strings.HasPrefix(s.URL, "s3:") {
		return s.URL
	}
	return s.URL + "?" + query.Encode()
}
