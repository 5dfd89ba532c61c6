package ostree

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// Summary is the file summary of a repository: its refs and what those who pull
// want to know first. The serialized form is the GVariant type
// (a(s(taya{sv}))a{sv}): for each ref, sorted by name, the length of the commit
// object, its checksum and metadata; then the repository's metadata. The source
// is libostree's ostree-repo.h, OSTREE_SUMMARY_GVARIANT_FORMAT.
type Summary struct {
	Refs     []SummaryRef   // sorted by name
	Metadata []MetadataItem // in stored order
}

// SummaryRef is what a summary says of one ref.
type SummaryRef struct {
	Name   string
	Commit Checksum
	// Size is the length of the commit object in bytes, read as little-endian:
	// libostree writes it in the byte order of its machine. Nothing relies on it.
	Size     uint64
	Metadata []MetadataItem // in stored order
}

// The keys of a summary's metadata, and of that of its refs.
const (
	summaryMode         = "ostree.summary.mode"              // s: core.mode as written
	summaryTombstones   = "ostree.summary.tombstone-commits" // b
	summaryIndexed      = "ostree.summary.indexed-deltas"    // b: static deltas are listed in delta-indexes/
	summaryLastModified = "ostree.summary.last-modified"     // t, big-endian seconds
	summaryDeltas       = "ostree.static-deltas"             // a{sv}: name of a delta, checksum of its superblock
	summaryTimestamp    = "ostree.commit.timestamp"          // t, big-endian seconds
	summaryVersion      = "ostree.commit.version"            // s
)

var (
	typeSummary     = gvariant.TupleOf(typeSummaryRefs, gvariant.Dict)
	typeSummaryRefs = gvariant.ArrayOf(typeSummaryRef)
	typeSummaryRef  = gvariant.TupleOf(gvariant.String, typeSummaryInfo)
	typeSummaryInfo = gvariant.TupleOf(gvariant.Uint64, gvariant.Bytes, gvariant.Dict)
)

// Ref finds a ref by its name.
func (s *Summary) Ref(name string) (SummaryRef, bool) {
	i, ok := slices.BinarySearchFunc(s.Refs, name, func(r SummaryRef, name string) int { return cmp.Compare(r.Name, name) })
	if !ok {
		return SummaryRef{}, false
	}
	return s.Refs[i], true
}

// Lookup gives the repository's metadata value of key.
func (s *Summary) Lookup(key string) (Variant, bool) { return lookupItem(s.Metadata, key) }

// LastModified is when the summary was made, to the second; zero: it does not say.
func (s *Summary) LastModified() time.Time { return bigEndianTime(s.Metadata, summaryLastModified) }

// Deltas gives the static deltas that the summary names, with the checksums of
// their superblocks. None is no error.
func (s *Summary) Deltas() (map[DeltaName]Checksum, error) { return decodeSummaryDeltas(s.Metadata) }

// Lookup gives the ref's metadata value of key.
func (r *SummaryRef) Lookup(key string) (Variant, bool) { return lookupItem(r.Metadata, key) }

// Timestamp is the time of the ref's commit; zero: the summary does not say.
func (r *SummaryRef) Timestamp() time.Time { return bigEndianTime(r.Metadata, summaryTimestamp) }

func lookupItem(items []MetadataItem, key string) (Variant, bool) {
	for _, item := range items {
		if item.Key == key {
			return item.Value, true
		}
	}
	return Variant{}, false
}

// bigEndianTime reads a value of type t that libostree stores swapped.
func bigEndianTime(items []MetadataItem, key string) time.Time {
	v, ok := lookupItem(items, key)
	if !ok || v.want("t") != nil {
		return time.Time{}
	}
	seconds := binary.BigEndian.Uint64(v.Data)
	if seconds > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

func timeVariant(t time.Time) Variant {
	return Variant{"t", binary.BigEndian.AppendUint64(nil, uint64(t.Unix()))}
}

// decodeSummaryDeltas reads the static deltas that a summary or a file of
// delta-indexes/ lists.
func decodeSummaryDeltas(items []MetadataItem) (map[DeltaName]Checksum, error) {
	v, ok := lookupItem(items, summaryDeltas)
	if !ok {
		return nil, nil
	}
	if v.Type != "a{sv}" {
		return nil, corruptf("%s has type %.80q, not \"a{sv}\"", summaryDeltas, v.Type)
	}
	list, err := decodeDict(v.Data)
	if err != nil {
		return nil, corrupt(err)
	}
	deltas := make(map[DeltaName]Checksum, len(list))
	for _, item := range list {
		name, err := ParseDeltaName(item.Key)
		if err != nil {
			return nil, corruptf("%.140q is no name of a static delta", item.Key)
		}
		if item.Value.Type != "ay" {
			return nil, corruptf("static delta %s has type %.80q, not \"ay\"", name, item.Value.Type)
		}
		if deltas[name], err = decodeChecksum(item.Value.Data); err != nil {
			return nil, err
		}
	}
	return deltas, nil
}

// Marshal serializes s, whose refs must be as [DecodeSummary] gives them.
func (s *Summary) Marshal() ([]byte, error) {
	var refs gvariant.ArrayBuilder
	refs.Reset(typeSummaryRefs)
	if err := s.check(); err != nil {
		return nil, err
	}
	for i := range s.Refs {
		r := &s.Refs[i]
		items, err := marshalDict(r.Metadata)
		if err != nil {
			return nil, fmt.Errorf("ref %s: %w", r.Name, err)
		}
		info, err := gvariant.AppendTuple(nil, typeSummaryInfo, binary.LittleEndian.AppendUint64(nil, r.Size), r.Commit[:], items)
		if err == nil {
			err = refs.AddTuple(gvariant.AppendString(nil, r.Name), info)
		}
		if err != nil {
			return nil, err
		}
	}
	items, err := marshalDict(s.Metadata)
	if err != nil {
		return nil, err
	}
	return gvariant.AppendTuple(nil, typeSummary, refs.Bytes(), items)
}

// check checks the refs' names and their order.
func (s *Summary) check() error {
	for i := range s.Refs {
		name := s.Refs[i].Name
		if _, err := refPath(name); err != nil || strings.Contains(name, ":") {
			return fmt.Errorf("%.80q is no valid ref name", name)
		}
		if i > 0 && s.Refs[i-1].Name >= name {
			return fmt.Errorf("ref %.80q comes after %.80q", name, s.Refs[i-1].Name)
		}
	}
	return nil
}

// DecodeSummary reads a summary, at most [MaxMetadataSize] bytes. Names of refs
// that are not valid (see [CheckRef]), out of order or not unique are faults;
// every fault wraps [ErrCorrupt]. The metadata's Data are views into data.
func DecodeSummary(data []byte) (*Summary, error) {
	if len(data) > MaxMetadataSize {
		return nil, corruptf("summary of %d bytes, at most %d", len(data), MaxMetadataSize)
	}
	if err := gvariant.Check(typeSummary, data); err != nil {
		return nil, corrupt(err)
	}
	var room, pair [3][]byte
	m, err := gvariant.AppendMembers(room[:0], typeSummary, data)
	if err != nil {
		return nil, corrupt(err)
	}
	s := &Summary{}
	if s.Metadata, err = decodeDict(m[1]); err != nil {
		return nil, corrupt(err)
	}
	refs, err := gvariant.OpenArray(typeSummaryRefs, m[0])
	if err != nil {
		return nil, corrupt(err)
	}
	// An element holds a checksum, so that the allocation is bounded by the data.
	if refs.Len() > len(m[0])/ChecksumSize {
		return nil, corruptf("%d refs in %d bytes", refs.Len(), len(m[0]))
	}
	if refs.Len() > 0 {
		s.Refs = make([]SummaryRef, refs.Len())
	}
	for i := range s.Refs {
		r := &s.Refs[i]
		elem, err := refs.At(i)
		if err != nil {
			return nil, corrupt(err)
		}
		m, err := gvariant.AppendMembers(pair[:0], typeSummaryRef, elem)
		if err != nil {
			return nil, corrupt(err)
		}
		if r.Name, err = gvariant.DecodeString(m[0]); err != nil {
			return nil, corrupt(err)
		}
		if m, err = gvariant.AppendMembers(room[:0], typeSummaryInfo, m[1]); err != nil {
			return nil, corrupt(err)
		}
		r.Size = binary.LittleEndian.Uint64(m[0])
		if r.Commit, err = decodeChecksum(m[1]); err != nil {
			return nil, err
		}
		if r.Metadata, err = decodeDict(m[2]); err != nil {
			return nil, corrupt(err)
		}
	}
	if err := s.check(); err != nil {
		return nil, corrupt(err)
	}
	return s, nil
}
