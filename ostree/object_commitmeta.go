package ostree

import "github.com/okd-project/okd-streams/internal/gvariant"

// MarshalMetadata serializes a commit's detached metadata, a commitmeta object:
// the GVariant type a{sv}. It is not content-addressed: its name is that of the
// commit it belongs to. The order of items is kept. The source is libostree's
// ostree-repo-commit.c.
func MarshalMetadata(items []MetadataItem) ([]byte, error) { return marshalDict(items) }

// DecodeMetadata reads a commitmeta object. Every fault wraps [ErrCorrupt]. The
// Data of the items are views into data.
func DecodeMetadata(data []byte) ([]MetadataItem, error) {
	if err := gvariant.Check(gvariant.Dict, data); err != nil {
		return nil, corrupt(err)
	}
	items, err := decodeDict(data)
	if err != nil {
		return nil, corrupt(err)
	}
	return items, nil
}
