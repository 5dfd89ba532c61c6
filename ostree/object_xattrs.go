package ostree

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// MarshalXattrs serializes x as OSTree objects hold extended attributes: the
// GVariant type a(ayay), where a name includes its NUL and a value is as it is,
// sorted by name, bytewise. No attributes are no bytes. The source is
// libostree's ostree-core.h. x itself is not changed.
func MarshalXattrs(x []Xattr) []byte {
	return marshalXattrs(sortedXattrs(x))
}

// marshalXattrs keeps the order of x.
func marshalXattrs(x []Xattr) []byte {
	if len(x) == 0 {
		return nil
	}
	var b gvariant.ArrayBuilder
	b.Reset(typeXattrs)
	for _, a := range x {
		name := append([]byte(a.Name), 0)
		elem, _ := gvariant.AppendTuple(nil, typeXattrs.Elem(), name, a.Value) // two byte arrays always fit
		b.Add(elem)
	}
	return b.Bytes()
}

func compareXattrs(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) }

// sortedXattrs gives x itself if it is sorted.
func sortedXattrs(x []Xattr) []Xattr {
	if !slices.IsSortedFunc(x, compareXattrs) {
		x = slices.Clone(x)
		slices.SortStableFunc(x, compareXattrs)
	}
	return x
}

// checkXattrs checks sorted attributes.
func checkXattrs(x []Xattr) error {
	for i, a := range x {
		if a.Name == "" || strings.IndexByte(a.Name, 0) >= 0 {
			return fmt.Errorf("extended attribute name %.80q is empty or contains NUL", a.Name)
		}
		if i > 0 && x[i-1].Name == a.Name {
			return fmt.Errorf("extended attribute %.80q comes twice", a.Name)
		}
	}
	return nil
}

// decodeXattrs reads a(ayay) in its stored order. Values are copies: they
// outlive the buffer that data is in.
func decodeXattrs(data []byte) ([]Xattr, error) {
	a, err := gvariant.OpenArray(typeXattrs, data)
	if err != nil {
		return nil, corrupt(err)
	}
	if a.Len() == 0 {
		return nil, nil
	}
	// An element takes at least a name's NUL and two offsets, so that the
	// allocation is bounded by the data.
	if a.Len() > len(data)/3 {
		return nil, corruptf("%d extended attributes in %d bytes", a.Len(), len(data))
	}
	xattrs := make([]Xattr, 0, a.Len())
	var room [2][]byte
	for i := range a.Len() {
		elem, err := a.At(i)
		if err != nil {
			return nil, corrupt(err)
		}
		pair, err := gvariant.AppendMembers(room[:0], typeXattrs.Elem(), elem)
		if err != nil {
			return nil, corrupt(err)
		}
		name, ok := strings.CutSuffix(string(pair[0]), "\x00")
		if !ok {
			return nil, corruptf("extended attribute name %.80q without NUL", name)
		}
		xattrs = append(xattrs, Xattr{Name: name, Value: append([]byte{}, pair[1]...)})
	}
	if err := checkXattrs(sortedXattrs(xattrs)); err != nil {
		return nil, corrupt(err)
	}
	return xattrs, nil
}
