package rpmdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of what a header may have. RPM's own are 65535 tags and 256 MiB; the
// largest of Fedora's packages has 2 MiB and 60,000 files.
const (
	maxHeaderTags = 1<<16 - 1
	maxHeaderData = 64 << 20
	maxValues     = 1 << 20  // of one tag
	maxPath       = 4096     // bytes, as the kernel has it
	maxPathBytes  = 32 << 20 // of all paths together, for short headers can claim long ones
	maxPathRatio  = 1000     // also, for each byte of the header: real ones have less than one
)

// The tags of a header that are read.
const (
	tagName          = 1000
	tagVersion       = 1001
	tagRelease       = 1002
	tagEpoch         = 1003
	tagBuildTime     = 1006
	tagSize          = 1009
	tagArch          = 1022
	tagOldFileNames  = 1027
	tagFileStates    = 1029
	tagSourceRPM     = 1044
	tagChangelogTime = 1080
	tagDirIndexes    = 1116
	tagBaseNames     = 1117
	tagDirNames      = 1118
	tagLongSize      = 5009
)

// The types of a tag's data.
const (
	typeChar        = 1
	typeInt8        = 2
	typeInt32       = 4
	typeInt64       = 5
	typeString      = 6
	typeStringArray = 8
	typeI18NString  = 9
)

var errHeader = errors.New("damaged package header")

func badHeader(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errHeader}, args...)...)
}

// tag is where a header keeps one tag's data.
type tag struct {
	kind  uint32
	count int
	data  []byte // from the tag's offset to the end of the header
}

// ParseHeader reads a package header as the database has it: without the magic
// number and padding of package files. Errors are those of damaged data.
func ParseHeader(blob []byte) (Package, error) {
	h, err := headerTags(blob)
	if err != nil {
		return Package{}, err
	}
	var p Package
	for _, f := range []struct {
		tag uint32
		to  *string
	}{{tagName, &p.Name}, {tagVersion, &p.Version}, {tagRelease, &p.Release}, {tagArch, &p.Arch}, {tagSourceRPM, &p.Source}} {
		if *f.to, err = h.text(f.tag); err != nil {
			return Package{}, err
		}
	}
	if p.Name == "" || p.Version == "" {
		return Package{}, badHeader("no name or version")
	}
	fail := func(err error) (Package, error) { return Package{}, fmt.Errorf("package %q: %w", p.Name, err) }
	epoch, err := h.ints(tagEpoch)
	if err != nil {
		return fail(err)
	}
	if len(epoch) > 0 {
		p.Epoch = strconv.FormatInt(epoch[0], 10)
	}
	for _, tag := range []uint32{tagSize, tagLongSize} {
		size, err := h.ints(tag)
		if err != nil {
			return fail(err)
		}
		if len(size) > 0 {
			p.Size = max(size[0], 0)
		}
	}
	built, err := h.ints(tagBuildTime)
	if err != nil {
		return fail(err)
	}
	if len(built) > 0 {
		p.Built = time.Unix(built[0], 0).UTC()
	}
	changes, err := h.ints(tagChangelogTime)
	if err != nil {
		return fail(err)
	}
	for _, t := range changes {
		p.Changes = append(p.Changes, time.Unix(t, 0).UTC())
	}
	if p.Files, err = h.files(); err != nil {
		return fail(err)
	}
	return p, nil
}

// headerIndex has the tags of a header of so many bytes.
type headerIndex struct {
	tags map[uint32]tag
	size int
}

// headerTags finds the tags. Where one comes twice the later counts: RPM adds
// what it changes at installation behind what the package had.
func headerTags(blob []byte) (*headerIndex, error) {
	if len(blob) < 8 {
		return nil, badHeader("%d bytes", len(blob))
	}
	n, size := binary.BigEndian.Uint32(blob), binary.BigEndian.Uint32(blob[4:])
	if n > maxHeaderTags || size > maxHeaderData || 8+16*int64(n)+int64(size) > int64(len(blob)) {
		return nil, badHeader("%d tags and %d bytes of data in %d bytes", n, size, len(blob))
	}
	index := blob[8 : 8+16*n]
	data := blob[8+16*n:][:size]
	tags := make(map[uint32]tag)
	for ; len(index) > 0; index = index[16:] {
		number := binary.BigEndian.Uint32(index)
		if !wanted(number) {
			continue
		}
		kind, offset, count := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:]), binary.BigEndian.Uint32(index[12:])
		// Every value has a byte at least.
		if offset > size || count > size-offset || count > maxValues {
			return nil, badHeader("tag %d has %d values at %d of %d bytes", number, count, offset, size)
		}
		tags[number] = tag{kind, int(count), data[offset:]}
	}
	return &headerIndex{tags, len(blob)}, nil
}

func wanted(number uint32) bool {
	switch number {
	case tagName, tagVersion, tagRelease, tagEpoch, tagBuildTime, tagSize, tagArch, tagOldFileNames, tagFileStates, tagSourceRPM,
		tagChangelogTime, tagDirIndexes, tagBaseNames, tagDirNames, tagLongSize:
		return true
	}
	return false
}

// text gives a tag's first string; "" if there is none.
func (h *headerIndex) text(number uint32) (string, error) {
	list, err := h.strings(number)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return string(list[0]), nil
}

// strings gives a tag's strings, which share the header's memory.
func (h *headerIndex) strings(number uint32) ([][]byte, error) {
	t, ok := h.tags[number]
	if !ok {
		return nil, nil
	}
	if t.kind != typeString && t.kind != typeStringArray && t.kind != typeI18NString {
		return nil, badHeader("tag %d has type %d, not strings", number, t.kind)
	}
	list := make([][]byte, 0, t.count)
	rest := t.data
	for range t.count {
		i := bytes.IndexByte(rest, 0)
		if i < 0 {
			return nil, badHeader("tag %d: no end of a string", number)
		}
		list = append(list, rest[:i:i])
		rest = rest[i+1:]
	}
	return list, nil
}

// ints gives a tag's numbers; 8 and 32 bits are unsigned.
func (h *headerIndex) ints(number uint32) ([]int64, error) {
	t, ok := h.tags[number]
	if !ok {
		return nil, nil
	}
	width := 0
	switch t.kind {
	case typeChar, typeInt8:
		width = 1
	case typeInt32:
		width = 4
	case typeInt64:
		width = 8
	default:
		return nil, badHeader("tag %d has type %d, not numbers", number, t.kind)
	}
	if t.count > len(t.data)/width {
		return nil, badHeader("tag %d has %d numbers in %d bytes", number, t.count, len(t.data))
	}
	list := make([]int64, t.count)
	for i := range list {
		switch at := t.data[i*width:]; width {
		case 1:
			list[i] = int64(at[0])
		case 4:
			list[i] = int64(binary.BigEndian.Uint32(at))
		case 8:
			list[i] = int64(binary.BigEndian.Uint64(at))
		}
	}
	return list, nil
}

// The states of a file for which RPM answers that the package owns it; others
// were left out at installation (documentation, other languages), replaced by
// another package's or are of another architecture.
const (
	stateNormal    = 0
	stateNetShared = 3
)

// files gives the paths that the package owns as "rpm -qf" sees it: those that
// are installed, relative to the root.
func (h *headerIndex) files() ([]string, error) {
	states, err := h.ints(tagFileStates)
	if err != nil {
		return nil, err
	}
	bases, err := h.strings(tagBaseNames)
	if err != nil {
		return nil, err
	}
	dirs, err := h.strings(tagDirNames)
	if err != nil {
		return nil, err
	}
	indexes, err := h.ints(tagDirIndexes)
	if err != nil {
		return nil, err
	}
	if len(indexes) != len(bases) {
		return nil, badHeader("%d names in %d directories", len(bases), len(indexes))
	}
	var prefix, full []byte
	if len(bases) == 0 { // packages older than RPM 4
		if bases, err = h.strings(tagOldFileNames); err != nil {
			return nil, err
		}
	}
	if len(states) > 0 && len(states) != len(bases) {
		return nil, badHeader("%d names with %d states", len(bases), len(states))
	}
	files := make([]string, 0, len(bases))
	bytes, limit := 0, min(maxPathBytes, maxPathRatio*h.size)
	for i, base := range bases {
		if len(states) > 0 && states[i] != stateNormal && states[i] != stateNetShared {
			continue
		}
		if len(indexes) > 0 {
			if indexes[i] >= int64(len(dirs)) {
				return nil, badHeader("name %q in directory %d of %d", base, indexes[i], len(dirs))
			}
			prefix = dirs[indexes[i]]
		}
		if bytes += len(prefix) + len(base); bytes > limit {
			return nil, badHeader("more than %d bytes of paths", limit)
		}
		if len(prefix)+len(base) > maxPath {
			return nil, badHeader("path %.80q… of %d bytes", prefix, len(prefix)+len(base))
		}
		full = append(append(full[:0], prefix...), base...)
		file := string(full)
		if !strings.HasPrefix(file, "/") {
			return nil, badHeader("path %q is not absolute", file)
		}
		if file = strings.TrimPrefix(path.Clean(file), "/"); file == "" {
			file = "."
		}
		// RPM allows other bytes than UTF-8; no tree has such a path.
		if utf8.ValidString(file) {
			files = append(files, file)
		}
	}
	return files, nil
}
