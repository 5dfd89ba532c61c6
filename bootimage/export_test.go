package bootimage

import "encoding/json"

// DecodeAny reads a document of which nothing is known.
func DecodeAny(data []byte) (*Document[map[string]json.RawMessage], error) {
	return decode[map[string]json.RawMessage](data)
}

// CompressWorkers is how many workers and streams at a time o gets.
func CompressWorkers(o CompressOptions, streams int) (workers, fitting int, err error) {
	e, err := o.encoding()
	if err == nil {
		workers, fitting = o.fit(e, streams)
	}
	return workers, fitting, err
}
