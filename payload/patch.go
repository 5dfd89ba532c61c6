package payload

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Markers are room in programs for what a release is: a zero byte, a name,
// a zero byte, padding and a zero byte. The program takes what stands from
// the first byte to a zero byte, unless it is the marker.
type marker struct {
	name    string
	padding int
}

var (
	markerImage        = marker{"_RELEASE_IMAGE_LOCATION_", 300}
	markerVersion      = marker{"_RELEASE_VERSION_LOCATION_", 64}
	markerArchitecture = marker{"_RELEASE_ARCHITECTURE_LOCATION_", 64}
)

func (m marker) bytes() []byte {
	return []byte("\x00" + m.name + "\x00" + strings.Repeat("X", m.padding) + "\x00")
}

// patch puts a value in the place of the first of a marker's occurrences in
// the first size bytes of f. A value that is too long, or has a zero byte, is
// an error; found is false where there is no such marker.
func (m marker) patch(f machoFile, size int64, value string) (found bool, err error) {
	room := m.bytes()
	if len(value) >= len(room) {
		return false, fmt.Errorf("%q has %d bytes, the place for it (%s) %d", value, len(value), m.name, len(room)-1)
	}
	if strings.IndexByte(value, 0) >= 0 || value == "" {
		return false, fmt.Errorf("%q cannot be a value for %s", value, m.name)
	}
	at, err := find(f, size, room)
	if err != nil || at < 0 {
		return false, err
	}
	_, err = f.WriteAt(append([]byte(value), 0), at)
	return true, err
}

// find gives the offset of text in the first size bytes of r, -1 if it is not
// there. It holds a small window of the file.
func find(r io.ReaderAt, size int64, text []byte) (int64, error) {
	window := make([]byte, 256<<10)
	for start := int64(0); start+int64(len(text)) <= size; {
		n := min(int64(len(window)), size-start)
		if _, err := r.ReadAt(window[:n], start); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.Index(window[:n], text); i >= 0 {
			return start + int64(i), nil
		}
		start += n - int64(len(text)) + 1
	}
	return -1, nil
}
