package ostree

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// A static delta's superblock has the GVariant type
// (a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt)):
//
//	a{sv}       metadata: "ostree.endianness", a byte, 'l' or 'B'; and, under the
//	            path of a file of the delta below the repository, what the file
//	            would hold: a part, of type (yay), or "commitmeta", the commit's
//	            detached metadata
//	t           time, big-endian
//	ay          the commit that the delta leads from, or nothing
//	ay          the commit that it leads to
//	(…)         that commit
//	ay          deltas to be applied before, two checksums each; never used
//	a(uayttay)  parts: version (0), checksum of the file, its size, size of the
//	            objects made of it, type and checksum of each object
//	a(yaytt)    objects that are to be fetched singly: type, checksum, size as
//	            stored in an archive repository, size of the content
//
// Version and sizes are in the byte order of the machine that made the delta.
// A signed delta is (taya{sv}): "OSTSGNDT", the superblock, signatures. The
// source is libostree's ostree-repo-static-delta-private.h.
var (
	typeDelta = gvariant.TupleOf(gvariant.Dict, gvariant.Uint64, gvariant.Bytes, gvariant.Bytes, typeCommit, gvariant.Bytes,
		gvariant.ArrayOf(typeDeltaPart), gvariant.ArrayOf(typeDeltaFallback))
	typeDeltaPart     = gvariant.TupleOf(gvariant.Uint32, gvariant.Bytes, gvariant.Uint64, gvariant.Uint64, gvariant.Bytes)
	typeDeltaFallback = gvariant.TupleOf(gvariant.Byte, gvariant.Bytes, gvariant.Uint64, gvariant.Uint64)
	typeSignedDelta   = gvariant.TupleOf(gvariant.Uint64, gvariant.Bytes, gvariant.Dict)
)

const signedDeltaMagic = "OSTSGNDT"

// maxDeltaSize is the length in bytes above which a superblock is refused. Parts
// that are within it count.
const maxDeltaSize = 512 << 20

// DeltaName says what a static delta makes of what.
type DeltaName struct {
	From Checksum // the commit that must be there; zero: none, all is in the delta
	To   Checksum // the commit that it gives
}

// ParseDeltaName reads a name as `ostree static-delta list` prints it: one
// checksum, or two with "-" between.
func ParseDeltaName(text string) (n DeltaName, err error) {
	from, to, isPair := strings.Cut(text, "-")
	if isPair {
		if n.From, err = ParseChecksum(from); err != nil {
			return DeltaName{}, err
		}
		from = to
	}
	if n.To, err = ParseChecksum(from); err != nil {
		return DeltaName{}, err
	}
	return n, nil
}

// String is the name as `ostree static-delta list` prints it.
func (n DeltaName) String() string {
	if n.From.IsZero() {
		return n.To.String()
	}
	return n.From.String() + "-" + n.To.String()
}

// deltaEncoding is base64 with "_" for "/", which a file's name can't hold.
var deltaEncoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_").WithPadding(base64.NoPadding).Strict()

// path is where a repository has a file of the delta.
func (n DeltaName) path(file string) string {
	name := deltaEncoding.EncodeToString(n.To[:])
	if !n.From.IsZero() {
		name = deltaEncoding.EncodeToString(n.From[:]) + "-" + name
	}
	return "deltas/" + name[:2] + "/" + name[2:] + "/" + file
}

// parseDeltaPath reads the names of the two folders that a delta lies in.
func parseDeltaPath(first, second string) (n DeltaName, ok bool) {
	const digits = 43
	name := first + second
	to := name
	if len(name) == 2*digits+1 && name[digits] == '-' {
		to = name[digits+1:]
		if k, err := deltaEncoding.Decode(n.From[:], []byte(name[:digits])); err != nil || k != ChecksumSize {
			return n, false
		}
	}
	if len(first) != 2 || len(to) != digits {
		return n, false
	}
	k, err := deltaEncoding.Decode(n.To[:], []byte(to))
	return n, err == nil && k == ChecksumSize
}

// delta is a decoded superblock.
type delta struct {
	DeltaName
	time       time.Time
	bigEndian  bool
	guessed    bool // bigEndian is not told by the delta
	commit     []byte
	commitMeta []byte // detached metadata; nil: none
	parents    int
	parts      []deltaPart
	fallbacks  []deltaFallback
	superblock []byte         // what is signed
	signatures []MetadataItem // nil: not signed
}

type deltaPart struct {
	checksum    Checksum // of the file
	size, usize uint64
	objects     []byte // deltaObjectSize each
	inline      []byte // what the file would hold; nil: there is one
}

// deltaObjectSize is the length of an object's type and checksum.
const deltaObjectSize = 1 + ChecksumSize

// deltaFallback is an object that is not in the delta.
type deltaFallback struct {
	kind        ObjectType
	sum         Checksum
	size, usize uint64
}

// object gives the type and checksum of one of the part's objects.
func (p *deltaPart) object(i int) claimKey {
	o := p.objects[i*deltaObjectSize:]
	return claimKey{ObjectType(o[0]), Checksum(o[1:deltaObjectSize])}
}

func (p *deltaPart) count() int { return len(p.objects) / deltaObjectSize }

// decodeDelta reads a superblock, signed or not. The signatures are not checked.
// What is returned has views into data.
func decodeDelta(data []byte) (*delta, error) {
	if len(data) > maxDeltaSize {
		return nil, corruptf("superblock of %d bytes, at most %d", len(data), maxDeltaSize)
	}
	var room [8][]byte
	var signatures []MetadataItem
	if bytes.HasPrefix(data, []byte(signedDeltaMagic)) {
		if err := gvariant.Check(typeSignedDelta, data); err != nil {
			return nil, corrupt(err)
		}
		m, err := gvariant.AppendMembers(room[:0], typeSignedDelta, data)
		if err == nil {
			signatures, err = decodeDict(m[2])
		}
		if err != nil {
			return nil, corrupt(err)
		}
		data = m[1]
		if signatures == nil {
			signatures = []MetadataItem{}
		}
	}
	if err := gvariant.Check(typeDelta, data); err != nil {
		return nil, corrupt(err)
	}
	m, err := gvariant.AppendMembers(room[:0], typeDelta, data)
	if err != nil {
		return nil, corrupt(err)
	}
	d := &delta{superblock: data, signatures: signatures, commit: m[4], parents: len(m[5]) / (2 * ChecksumSize)}
	seconds := binary.BigEndian.Uint64(m[1])
	if seconds > math.MaxInt64 {
		return nil, corruptf("time %d is out of range", seconds)
	}
	d.time = time.Unix(int64(seconds), 0).UTC()
	if len(m[2]) > 0 {
		if d.From, err = decodeChecksum(m[2]); err != nil {
			return nil, err
		}
	}
	if d.To, err = decodeChecksum(m[3]); err != nil {
		return nil, err
	}
	if d.To.IsZero() {
		return nil, corruptf("leads to no commit")
	}
	if got := sum(d.commit); got != d.To {
		return nil, corruptf("leads to commit %s but has %s", d.To, got)
	}
	if _, err := DecodeCommit(d.commit); err != nil {
		return nil, err
	}
	if len(m[5])%(2*ChecksumSize) != 0 {
		return nil, corruptf("%d bytes of names of other deltas", len(m[5]))
	}
	if err := d.decodeParts(m[6]); err != nil {
		return nil, err
	}
	if err := d.decodeFallbacks(m[7]); err != nil {
		return nil, err
	}
	return d, d.decodeMetadata(m[0])
}

// decodeParts reads versions and sizes as little-endian.
func (d *delta) decodeParts(data []byte) error {
	a, err := gvariant.OpenArray(gvariant.ArrayOf(typeDeltaPart), data)
	if err != nil {
		return corrupt(err)
	}
	var room [5][]byte
	for i := range a.Len() {
		elem, err := a.At(i)
		if err != nil {
			return corrupt(err)
		}
		m, err := gvariant.AppendMembers(room[:0], typeDeltaPart, elem)
		if err != nil {
			return corrupt(err)
		}
		if v := binary.LittleEndian.Uint32(m[0]); v != 0 {
			return fmt.Errorf("part %d is of version %d: %w", i, v, errUnsupported)
		}
		p := deltaPart{size: binary.LittleEndian.Uint64(m[2]), usize: binary.LittleEndian.Uint64(m[3]), objects: m[4]}
		if p.checksum, err = decodeChecksum(m[1]); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
		if len(p.objects)%deltaObjectSize != 0 {
			return corruptf("part %d: %d bytes of names of objects", i, len(p.objects))
		}
		for k := range p.count() {
			switch kind := p.object(k).kind; kind {
			case TypeFile, TypeDirTree, TypeDirMeta:
			default:
				return corruptf("part %d holds a %s", i, kind)
			}
		}
		d.parts = append(d.parts, p)
	}
	return nil
}

func (d *delta) decodeFallbacks(data []byte) error {
	a, err := gvariant.OpenArray(gvariant.ArrayOf(typeDeltaFallback), data)
	if err != nil {
		return corrupt(err)
	}
	var room [4][]byte
	for i := range a.Len() {
		elem, err := a.At(i)
		if err != nil {
			return corrupt(err)
		}
		m, err := gvariant.AppendMembers(room[:0], typeDeltaFallback, elem)
		if err != nil {
			return corrupt(err)
		}
		f := deltaFallback{kind: ObjectType(m[0][0]), size: binary.LittleEndian.Uint64(m[2]), usize: binary.LittleEndian.Uint64(m[3])}
		if f.sum, err = decodeChecksum(m[1]); err != nil {
			return fmt.Errorf("fallback %d: %w", i, err)
		}
		switch f.kind {
		case TypeFile, TypeDirTree, TypeDirMeta:
		default:
			return corruptf("fallback %d is a %s", i, f.kind)
		}
		d.fallbacks = append(d.fallbacks, f)
	}
	return nil
}

// decodeMetadata reads the byte order, by which it corrects the sizes, and what
// lies in the superblock instead of files.
func (d *delta) decodeMetadata(data []byte) error {
	items, err := decodeDict(data)
	if err != nil {
		return corrupt(err)
	}
	files := make(map[string]Variant)
	d.guessed = true
	for _, item := range items {
		switch {
		case item.Key == "ostree.endianness" && item.Value.Type == "y":
			switch order := item.Value.Data[0]; order {
			case 'l', 'B':
				d.bigEndian, d.guessed = order == 'B', false
			default:
				return corruptf("byte order %q", order)
			}
		case strings.HasPrefix(item.Key, "deltas/"):
			files[item.Key] = item.Value
		}
	}
	if v, ok := files[d.path("commitmeta")]; ok && v.Type == "a{sv}" {
		d.commitMeta = v.Data
	}
	for i := range d.parts {
		// One byte and the rest: serialized as in the file.
		if v, ok := files[d.path(strconv.Itoa(i))]; ok && v.Type == "(yay)" {
			d.parts[i].inline = v.Data
		}
	}
	if d.guessed {
		d.bigEndian = d.implausible()
	}
	if d.bigEndian {
		for i := range d.parts {
			p := &d.parts[i]
			p.size, p.usize = bits.ReverseBytes64(p.size), bits.ReverseBytes64(p.usize)
		}
		for i := range d.fallbacks {
			f := &d.fallbacks[i]
			f.size, f.usize = bits.ReverseBytes64(f.size), bits.ReverseBytes64(f.usize)
		}
	}
	return nil
}

// implausible reports whether the sizes look as if they were of the other byte
// order, by libostree's two rules: no part is a fifth larger than what it
// makes, and objects are not of 4 GiB on average.
func (d *delta) implausible() bool {
	var size uint64
	count := 0
	for i := range d.parts {
		p := &d.parts[i]
		count += p.count()
		size += p.size
		if p.size > p.usize && float64(p.size)/float64(p.usize) > 1.2 {
			return true
		}
	}
	return count > 0 && size/uint64(count) > math.MaxUint32
}
