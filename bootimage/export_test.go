package bootimage

import "encoding/json"

// DecodeAny reads a document of which nothing is known.
func DecodeAny(data []byte) (*Document[map[string]json.RawMessage], error) {
	return decode[map[string]json.RawMessage](data)
}
