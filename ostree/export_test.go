package ostree

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
)

// What tests outside of the package fuzz, and the way of old kernels.
var (
	DirByProc    = func(root *os.Root) Tree { return &dirTree{root: root, byProc: true} }
	ParseKeyFile = func(data []byte) ([]byte, error) {
		k, err := parseKeyFile(data)
		if err != nil {
			return nil, err
		}
		return k.bytes(), nil
	}
	DecodeFilez = readFilez
	MountsBelow = mountsBelow
	DeltaPath   = func(n DeltaName) string { return n.path("") }
	// CountDeltaPart counts the objects of a part whose size and checksum are right.
	CountDeltaPart = func(ctx context.Context, objects, file []byte) (n int, err error) {
		part := &deltaPart{checksum: sum(file), size: uint64(len(file)), objects: objects}
		s := &spool{limit: 8 << 20}
		if err := unpackPart(ctx, s, part, bytes.NewReader(file)); err != nil {
			return 0, err
		}
		p, err := decodePayload(s, s.size)
		if err != nil {
			return 0, err
		}
		return n, p.eachObject(part, func(byte) {}, func(*deltaObject) error { n++; return nil })
	}
	DecodeDelta = func(data []byte) (DeltaName, error) {
		d, err := decodeDelta(data)
		if err != nil {
			return DeltaName{}, err
		}
		return d.DeltaName, nil
	}
	DecodePackages = func(data []byte) (int, error) {
		list, err := decodePackages(Variant{Type: "a(sssss)", Data: data})
		return len(list), err
	}
	DecodeFileMeta = func(data []byte) ([]byte, error) {
		uid, gid, mode, xattrs, err := decodeMeta(data)
		if err != nil {
			return nil, err
		}
		return appendMeta(nil, uid, gid, mode, marshalXattrs(xattrs)), nil
	}
	EncodeFilez = func(f *File) []byte {
		return appendFilezHeader(nil, f.Size, f.UID, f.GID, f.Mode, f.Target, marshalXattrs(f.Xattrs))
	}
	// DecodeDevIno gives the folders of a cache's file, those whose names are trusted, and the
	// files with checksums.
	DecodeDevIno = func(data []byte) (folders, trusted, files int) {
		c := &DevInoCache{}
		_ = c.read(bytes.NewReader(data), len(data))
		return c.counts()
	}
	// DecodeDevInoUnchecked is DecodeDevIno for what would follow the head.
	DecodeDevInoUnchecked = func(data []byte) (folders, trusted, files int) {
		head := binary.BigEndian.AppendUint32([]byte(cacheMagic), uint32(os.Geteuid()))
		c := &DevInoCache{}
		c.decode(string(append(head, data...)))
		return c.counts()
	}
)

func (c *DevInoCache) counts() (folders, trusted, files int) {
	for _, d := range c.old {
		folders++
		if d.ctime != 0 {
			trusted++
		}
		if !d.check() {
			continue
		}
		for at := uint32(0); int(at) < len(d.entries); {
			var e cacheEntry
			if e, at = entryAt(d.entries, at); e.flags&hasSum != 0 {
				files++
			}
		}
	}
	return folders, trusted, files
}

// ClaimTable is [claims] with one key of bytes for kind and checksum.
type ClaimTable struct{ t claims }

func NewClaimTable() *ClaimTable { return &ClaimTable{newClaims()} }

func (c *ClaimTable) Get(kind ObjectType, sum Checksum) (uint8, bool) {
	return c.t.get(&claimKey{kind, sum})
}

func (c *ClaimTable) Set(kind ObjectType, sum Checksum, shelf uint8) {
	c.t.set(&claimKey{kind, sum}, shelf)
}

func (c *ClaimTable) Remove(kind ObjectType, sum Checksum) { c.t.remove(&claimKey{kind, sum}) }

func (c *ClaimTable) Len() int { return c.t.len() }

// Each gives all claims, by way of their numbers.
func (c *ClaimTable) Each(fn func(kind ObjectType, sum Checksum, shelf uint8)) {
	var numbers []uint32
	for i := range c.t.all() {
		numbers = append(numbers, i)
	}
	for m := range c.t.those(numbers) {
		fn(m.kind, m.sum, m.shelf)
	}
}
