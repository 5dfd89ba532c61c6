package remoteregistry

import "encoding/json"

// Parsers of what servers say.
var (
	NextLink  = nextLink
	Uploaded  = uploaded
	Printable = printable
)

// EditIndex adds an entry to an index that stands in for the referrers API, or
// drops one, and says whether that changed it.
func EditIndex(raw []byte, add string, drop string) ([]byte, bool, error) {
	return editIndex(raw, func(old []json.RawMessage) (list []json.RawMessage, changed bool) {
		for _, e := range old {
			if digestIn(e) != drop || drop == "" {
				list = append(list, e)
			}
		}
		changed = len(list) != len(old)
		if add != "" {
			return append(list, json.RawMessage(`{"digest":"`+add+`"}`)), true
		}
		return list, changed
	})
}
