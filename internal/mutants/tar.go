package mutants

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
)

const block = 512

// entry is a header of a tar file and what follows it, filled up to a block. The
// headers of PAX and GNU, which name what comes next, are entries, too.
type entry struct {
	header  [block]byte
	content []byte
}

// The fields of a header, https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html.
var (
	nameField     = field{0, 100}
	linkField     = field{157, 100}
	typeField     = field{156, 1}
	sizeField     = field{124, 12}
	checksumField = field{148, 8}
	magicField    = field{257, 8}
	prefixField   = field{345, 155}
	// mode, owner, group, time
	numberFields = []field{{100, 8}, {108, 8}, {116, 8}, {136, 12}}
)

type field struct{ at, size int }

func (e *entry) get(f field) string {
	value, _, _ := bytes.Cut(e.header[f.at:f.at+f.size], []byte{0})
	return string(value)
}

func (e *entry) set(f field, value string) {
	clear(e.header[f.at : f.at+f.size])
	copy(e.header[f.at:f.at+f.size], value)
}

// fill gives an entry other content.
func (e *entry) fill(content string) {
	e.set(sizeField, fmt.Sprintf("%011o", len(content)))
	e.content = append([]byte(content), make([]byte, -len(content)&(block-1))...)
}

// readTar gives the entries of data up to one that is none.
func readTar(data []byte) (list []entry) {
	for len(data) >= block && data[0] != 0 {
		e := entry{header: [block]byte(data)}
		data = data[block:]
		var size int
		if _, err := fmt.Sscanf(strings.TrimSpace(e.get(sizeField)), "%o", &size); err != nil || size < 0 || size > len(data) {
			return list
		}
		size = min(len(data), (size+block-1)&^(block-1))
		e.content, data = data[:size:size], data[size:]
		list = append(list, e)
	}
	return list
}

func writeTar(list []entry) []byte {
	var b []byte
	for _, e := range list {
		e.set(checksumField, strings.Repeat(" ", checksumField.size))
		var sum int
		for _, c := range e.header {
			sum += int(c)
		}
		e.set(checksumField, fmt.Sprintf("%06o\x00 ", sum))
		b = append(append(b, e.header[:]...), e.content...)
	}
	return append(b, make([]byte, 2*block)...)
}

var (
	strangeNames = []string{
		"", ".", "..", "/", "./", "../x", "/etc/x", "a/../b", "a//b", "a/./b", "d/", "x\xffy", "a\nb", "a\\b", "\u2028", strings.Repeat("n", 100), strings.Repeat("d/", 49) + "f",
		".wh.", ".wh..", ".wh.x", ".wh..wh..opq", ".wh..wh.plnk", "d/.wh.x", "usr/x", "etc/x", "var/x", "sysroot/ostree/repo/objects", "manifest.json", "index.json", "oci-layout",
	}
	strangeNumbers = []string{
		"", "0000000", "0000001", "7777777", "77777777777", "0040755", "-1", "x", " 1 ", "\x80\x00\x00\x00\x00\x00\x00\x01", "\x80\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff",
		"\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\x00\x00\x00\xff\xff\xff\xff",
	}
	strangeRecords = []string{
		"path", "linkpath", "size", "uid", "gid", "uname", "mtime", "hdrcharset", "SCHILY.xattr.", "SCHILY.xattr.user.x", "SCHILY.xattr.security.selinux", "SCHILY.xattr.security.capability",
		"GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.size", "GNU.sparse.map", "LIBARCHIVE.xattr.user.x", "x",
	}
	strangeValues = []string{"", "0", "1", "-1", "1.5", "4294967296", "9223372036854775807", "9223372036854775808", "x", "0,1", "1,0,0,1", "\xff", "BINARY", "a=b"}
	kinds         = []string{"0", "\x00", "1", "2", "3", "4", "5", "6", "7", "g", "x", "L", "K", "S", "V", "D"}
	magics        = []string{"ustar\x0000", "ustar  \x00", ""}
)

// AddTars adds tar files as seeds, and mutants of them.
func AddTars(f *testing.F, tars ...[]byte) {
	f.Helper()
	for data := range Tars(tars...) {
		f.Add(data)
	}
}

// Tars gives tar files, and mutants of them: names that lead elsewhere, links,
// entries of other kinds, numbers out of range, records of PAX, long names of GNU,
// with checksums that are right; the same in each run. While Go is fuzzing, which
// makes its own, there are none.
func Tars(tars ...[]byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, data := range tars {
			if !yield(data) {
				return
			}
		}
		m, n := newMutator()
		var files [][]entry
		var entries []entry
		for _, data := range tars {
			if list := readTar(data); len(list) > 0 && len(data) <= maxSize {
				files = append(files, list)
				entries = append(entries, list...)
			}
		}
		if len(files) == 0 || fuzzing() {
			return
		}
		for range n {
			list := slices.Clone(pick(m, files))
			for range 1 + m.rand.IntN(changes) {
				list = m.changeTar(list, entries)
			}
			if !yield(writeTar(list)) {
				return
			}
		}
	}
}

// changeTar gives list, which it may change, with one change somewhere.
func (m *mutator) changeTar(list, known []entry) []entry {
	i := m.rand.IntN(len(list))
	e := &list[i]
	switch m.rand.IntN(14) {
	case 0:
		if len(list) > 1 {
			return slices.Delete(list, i, i+1)
		}
	case 1:
		return append(list, *e)
	case 2:
		j := m.rand.IntN(len(list))
		list[i], list[j] = list[j], list[i]
	case 3:
		return slices.Insert(list, i, pick(m, known))
	case 4, 5:
		e.set(nameField, m.name(list))
	case 6:
		e.set(linkField, m.name(list))
	case 7:
		e.set(typeField, pick(m, kinds))
	case 8: // a link, and something that is reached through it
		link := *e
		link.fill("")
		link.set(typeField, pick(m, []string{"1", "2", "2"}))
		link.set(linkField, m.name(list))
		e.set(nameField, link.get(nameField)+"/"+m.name(list))
		return slices.Insert(list, i, link)
	case 9:
		e.set(pick(m, numberFields), pick(m, strangeNumbers))
	case 10:
		if m.rand.IntN(2) == 0 {
			e.fill(pick(m, strangeValues))
		} else {
			e.set(sizeField, pick(m, strangeNumbers))
		}
	case 11:
		e.set(magicField, pick(m, magics))
		e.set(prefixField, m.name(list))
	case 12:
		var records string
		for range 1 + m.rand.IntN(3) {
			records += m.record(list)
		}
		pax := entry{}
		pax.set(nameField, "pax")
		pax.set(magicField, magics[0])
		pax.set(typeField, pick(m, []string{"x", "x", "x", "g"}))
		pax.fill(records)
		return slices.Insert(list, i, pax)
	case 13:
		long := entry{}
		long.set(nameField, "././@LongLink")
		long.set(magicField, magics[1])
		long.set(typeField, pick(m, []string{"L", "K"}))
		long.fill(m.name(list) + "\x00")
		return slices.Insert(list, i, long)
	}
	return list
}

// name gives a name of an entry, a strange one, or both.
func (m *mutator) name(list []entry) string {
	one := pick(m, list)
	name := strings.TrimSuffix(one.get(nameField), "/")
	switch m.rand.IntN(5) {
	case 0:
		return name
	case 1:
		return name + "/" + pick(m, strangeNames)
	case 2:
		return m.other(name)
	}
	return pick(m, strangeNames)
}

func (m *mutator) record(list []entry) string {
	value := pick(m, strangeValues)
	if m.rand.IntN(2) == 0 {
		value = m.name(list)
	}
	text := " " + pick(m, strangeRecords) + "=" + value + "\n"
	size := len(text) + 1
	for size != len(text)+len(fmt.Sprint(size)) {
		size++
	}
	return fmt.Sprint(size) + text
}
