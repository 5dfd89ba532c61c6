package ostree

import (
	"encoding/binary"
	"fmt"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// Variant is a GVariant value with its type: what commit metadata holds. Data is
// the serialized value in normal form, integers little-endian. (libostree's own
// metadata keys that hold big-endian integers swap the value, not the format.)
type Variant struct {
	Type string // a definite GVariant type string, as "s" or "a{sv}"
	Data []byte
}

// MetadataItem is one entry of an a{sv} dictionary, as a commit's metadata is.
type MetadataItem struct {
	Key   string
	Value Variant
}

// StringVariant is s as a variant of type s. s must be UTF-8 without NUL.
func StringVariant(s string) Variant { return Variant{"s", gvariant.AppendString(nil, s)} }

// BoolVariant is b as a variant of type b.
func BoolVariant(b bool) Variant {
	if b {
		return Variant{"b", []byte{1}}
	}
	return Variant{"b", []byte{0}}
}

// BytesVariant is b as a variant of type ay.
func BytesVariant(b []byte) Variant { return Variant{"ay", append([]byte(nil), b...)} }

// StringsVariant is list as a variant of type as. See [StringVariant].
func StringsVariant(list []string) Variant {
	size := 0
	for _, s := range list {
		size += len(s) + 1
	}
	body, end := size, 0
	data := make([]byte, 0, size+len(gvariant.AppendOffset(nil, 0, body, len(list)))*len(list))
	for _, s := range list {
		data = gvariant.AppendString(data, s)
	}
	for _, s := range list {
		end += len(s) + 1
		data = gvariant.AppendOffset(data, end, body, len(list))
	}
	return Variant{"as", data}
}

// Uint32Variant is v as a variant of type u.
func Uint32Variant(v uint32) Variant {
	return Variant{"u", binary.LittleEndian.AppendUint32(nil, v)}
}

// Uint64Variant is v as a variant of type t.
func Uint64Variant(v uint64) Variant {
	return Variant{"t", binary.LittleEndian.AppendUint64(nil, v)}
}

// AsString gives the value of a variant of type s.
func (v Variant) AsString() (string, error) {
	if err := v.want("s"); err != nil {
		return "", err
	}
	return gvariant.DecodeString(v.Data)
}

// AsBool gives the value of a variant of type b.
func (v Variant) AsBool() (bool, error) {
	if err := v.want("b"); err != nil {
		return false, err
	}
	return v.Data[0] == 1, nil
}

// AsBytes gives the value of a variant of type ay, not copied.
func (v Variant) AsBytes() ([]byte, error) {
	if err := v.want("ay"); err != nil {
		return nil, err
	}
	return v.Data, nil
}

// AsStrings gives the value of a variant of type as.
func (v Variant) AsStrings() ([]string, error) {
	if err := v.want("as"); err != nil {
		return nil, err
	}
	a, err := gvariant.OpenArray(gvariant.Strings, v.Data)
	if err != nil {
		return nil, err
	}
	list := make([]string, a.Len())
	for i := range list {
		elem, err := a.At(i)
		if err != nil {
			return nil, err
		}
		if list[i], err = gvariant.DecodeString(elem); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// AsUint32 gives the value of a variant of type u.
func (v Variant) AsUint32() (uint32, error) {
	if err := v.want("u"); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(v.Data), nil
}

// AsUint64 gives the value of a variant of type t.
func (v Variant) AsUint64() (uint64, error) {
	if err := v.want("t"); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(v.Data), nil
}

// want checks that v is a whole value of type text.
func (v Variant) want(text string) error {
	if v.Type != text {
		return fmt.Errorf("ostree: variant has type %.80q, not %q", v.Type, text)
	}
	return v.check()
}

// check checks type string and value.
func (v Variant) check() error {
	t, err := gvariant.ParseType(v.Type)
	if err != nil {
		return err
	}
	return gvariant.Check(t, v.Data)
}

// marshalDict serializes items, in their order, as a{sv}.
func marshalDict(items []MetadataItem) ([]byte, error) {
	var b gvariant.ArrayBuilder
	b.Reset(gvariant.Dict)
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		key := gvariant.AppendString(nil, item.Key)
		if _, err := gvariant.DecodeString(key); err != nil {
			return nil, fmt.Errorf("metadata key %.80q: %w", item.Key, err)
		}
		if seen[item.Key] {
			return nil, fmt.Errorf("metadata key %.80q comes twice", item.Key)
		}
		seen[item.Key] = true
		if err := item.Value.check(); err != nil {
			return nil, fmt.Errorf("metadata key %.80q: %w", item.Key, err)
		}
		if err := b.AddTuple(key, gvariant.AppendVariant(nil, item.Value.Type, item.Value.Data)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// decodeDict reads a checked a{sv}. Data of the values are views.
func decodeDict(data []byte) ([]MetadataItem, error) {
	a, err := gvariant.OpenArray(gvariant.Dict, data)
	if err != nil {
		return nil, err
	}
	var items []MetadataItem
	var room [2][]byte
	for i := range a.Len() {
		elem, err := a.At(i)
		if err != nil {
			return nil, err
		}
		entry, err := gvariant.AppendMembers(room[:0], gvariant.Dict.Elem(), elem)
		if err != nil {
			return nil, err
		}
		key, err := gvariant.DecodeString(entry[0])
		if err != nil {
			return nil, err
		}
		t, value, err := gvariant.DecodeVariant(entry[1])
		if err != nil {
			return nil, err
		}
		items = append(items, MetadataItem{key, Variant{t.String(), value}})
	}
	return items, nil
}
