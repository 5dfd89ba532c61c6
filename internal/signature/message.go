package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// MessageType is the type that an atomic container signature names.
const MessageType = "atomic container signature"

// Message is what is signed of an image, an "atomic container signature"
// (https://github.com/containers/image/blob/main/docs/containers-signature.5.md).
type Message struct {
	Digest    string // of the image's manifest, as the message spells it
	Reference string // a pullspec, never ""
	Creator   string
	Timestamp time.Time // in whole seconds; zero: none
}

// DecodeMessage reads a signed message. Unknown members, members that are there
// twice, another type, an empty reference and anything behind the object are
// errors.
func DecodeMessage(data []byte) (*Message, error) {
	var in struct {
		Critical *struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
			Identity struct {
				Reference string `json:"docker-reference"`
			} `json:"identity"`
		} `json:"critical"`
		Optional struct {
			Creator   string `json:"creator"`
			Timestamp int64  `json:"timestamp"`
		} `json:"optional"`
	}
	if err := CheckNames(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, err
	}
	switch {
	case in.Critical == nil:
		return nil, errors.New("no critical part")
	case in.Critical.Type != MessageType:
		return nil, fmt.Errorf("type %.100q, want %q", in.Critical.Type, MessageType)
	case in.Critical.Identity.Reference == "":
		return nil, errors.New("no docker-reference")
	}
	m := &Message{Digest: in.Critical.Image.Digest, Reference: in.Critical.Identity.Reference, Creator: in.Optional.Creator}
	if in.Optional.Timestamp != 0 {
		m.Timestamp = time.Unix(in.Optional.Timestamp, 0).UTC()
	}
	return m, nil
}

// CheckNames refuses what readers of JSON read differently: a member that is
// there twice, and anything behind the value.
func CheckNames(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var open []map[string]bool // nil: an array
	key := false
	for done := false; ; done = len(open) == 0 {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if done {
			return errors.New("something follows the value")
		}
		if len(open) > 32 {
			return errors.New("nested too deeply")
		}
		switch v := tok.(type) {
		case json.Delim:
			switch v {
			case '{':
				open = append(open, map[string]bool{})
				key = true
				continue
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
		case string:
			if key {
				names := open[len(open)-1]
				if names[v] {
					return fmt.Errorf("member %.100q is there twice", v)
				}
				names[v] = true
				key = false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}
