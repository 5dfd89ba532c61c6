package ostree

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// Commit is a commit object. The serialized form is the GVariant type
// (a{sv}aya(say)sstayay): metadata, parent (0 or 32 bytes), related objects
// (always none), subject, body, time (big-endian seconds since 1970, UTC), root
// dirtree, root dirmeta. The source is libostree's ostree-core.h,
// OSTREE_COMMIT_GVARIANT_FORMAT.
type Commit struct {
	Metadata           []MetadataItem // in stored order
	Parent             Checksum       // zero: none
	Subject, Body      string
	Timestamp          time.Time // whole seconds, UTC
	RootTree, RootMeta Checksum
}

// Lookup gives the metadata value of key.
func (c *Commit) Lookup(key string) (Variant, bool) {
	for _, item := range c.Metadata {
		if item.Key == key {
			return item.Value, true
		}
	}
	return Variant{}, false
}

// ContentChecksum is a checksum of the tree alone: commits with the same one
// hold the same files. It is the SHA-256 of the root dirtree's checksum followed
// by the root dirmeta's, as `ostree show` prints it.
func (c *Commit) ContentChecksum() Checksum {
	return sum(append(c.RootTree[:len(c.RootTree):len(c.RootTree)], c.RootMeta[:]...))
}

// Marshal serializes c. A zero time is the epoch; a fraction of a second is cut
// off; times before the epoch are refused.
func (c *Commit) Marshal() ([]byte, error) {
	metadata, err := marshalDict(c.Metadata)
	if err != nil {
		return nil, err
	}
	for _, text := range []string{c.Subject, c.Body} {
		if _, err := gvariant.DecodeString(gvariant.AppendString(nil, text)); err != nil {
			return nil, fmt.Errorf("subject or body: %w", err)
		}
	}
	var seconds int64
	if !c.Timestamp.IsZero() {
		if seconds = c.Timestamp.Unix(); seconds < 0 {
			return nil, fmt.Errorf("time %s is before 1970", c.Timestamp)
		}
	}
	if c.RootTree.IsZero() || c.RootMeta.IsZero() {
		return nil, fmt.Errorf("no root directory")
	}
	parent := []byte{}
	if !c.Parent.IsZero() {
		parent = c.Parent[:]
	}
	return gvariant.AppendTuple(nil, typeCommit, metadata, parent, nil, gvariant.AppendString(nil, c.Subject), gvariant.AppendString(nil, c.Body),
		binary.BigEndian.AppendUint64(nil, uint64(seconds)), c.RootTree[:], c.RootMeta[:])
}

// DecodeCommit reads a commit object, at most [MaxMetadataSize] bytes. Every
// fault wraps [ErrCorrupt]. The metadata's Data are views into data.
func DecodeCommit(data []byte) (*Commit, error) {
	if len(data) > MaxMetadataSize {
		return nil, corruptf("commit of %d bytes, at most %d", len(data), MaxMetadataSize)
	}
	if err := gvariant.Check(typeCommit, data); err != nil {
		return nil, corrupt(err)
	}
	var room [8][]byte
	m, err := gvariant.AppendMembers(room[:0], typeCommit, data)
	if err != nil {
		return nil, corrupt(err)
	}
	c := &Commit{Subject: strings.TrimSuffix(string(m[3]), "\x00"), Body: strings.TrimSuffix(string(m[4]), "\x00")}
	if c.Metadata, err = decodeDict(m[0]); err != nil {
		return nil, corrupt(err)
	}
	if len(m[1]) > 0 {
		if c.Parent, err = decodeChecksum(m[1]); err != nil {
			return nil, err
		}
	}
	seconds := binary.BigEndian.Uint64(m[5])
	if seconds > math.MaxInt64 {
		return nil, corruptf("time %d is out of range", seconds)
	}
	c.Timestamp = time.Unix(int64(seconds), 0).UTC()
	if c.RootTree, err = decodeChecksum(m[6]); err != nil {
		return nil, err
	}
	if c.RootMeta, err = decodeChecksum(m[7]); err != nil {
		return nil, err
	}
	return c, nil
}

// RefBinding is the metadata item "ostree.ref-binding", which names the refs
// that a commit is meant for. `ostree commit` adds it behind all others, sorted;
// [Repo.Commit] writes only what it is given.
func RefBinding(refs ...string) MetadataItem {
	return MetadataItem{"ostree.ref-binding", StringsVariant(refs)}
}
