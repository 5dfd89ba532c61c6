package dirstore

import "encoding/json"

// DecodeKept gives the checksum in the value of the extended attribute, and what
// the value is as we write it.
func DecodeKept(data []byte) (sha256 string, again []byte, ok bool) {
	k, ok := decodeKept(data)
	if !ok {
		return "", nil, false
	}
	again, err := json.Marshal(k)
	return k.SHA256, again, err == nil
}
