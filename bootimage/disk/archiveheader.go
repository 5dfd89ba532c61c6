package disk

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
)

// tarBlock is the unit of tar archives, bytes.
const tarBlock = 512

// tarRecord is what tar fills the end of an archive to.
const tarRecord = 20 * tarBlock

// tarHeader is the header of a member without owner and time, in one block: as POSIX's
// ustar, or as GNU's where the size needs it.
func tarHeader(h tar.Header) ([]byte, error) {
	h.Format = tar.FormatUSTAR
	if h.Size >= 1<<33 {
		h.Format = tar.FormatGNU
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		return nil, err
	}
	if b.Len() != tarBlock {
		return nil, fmt.Errorf("%q is too long a name for an archive: %w", h.Name, fs.ErrInvalid)
	}
	return b.Bytes(), nil
}

// tarEnd is what follows n bytes of an archive.
func tarEnd(n int64) []byte {
	return make([]byte, (n+2*tarBlock+tarRecord-1)/tarRecord*tarRecord-n)
}

// atWriter writes from an offset on.
type atWriter struct {
	f  *output
	at int64
}

func (w *atWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

// sparseRange is a piece of a sparse file, in bytes.
type sparseRange struct{ off, n int64 }

// sparseHeader is GNU tar's header, of the old form that Google asks for, of a sparse
// file of size bytes that has data in ranges: four are in it, the others in blocks of
// 21 behind it. https://www.gnu.org/software/tar/manual/html_node/Standard.html
func sparseHeader(name string, size int64, ranges []sparseRange) []byte {
	if n := len(ranges); n == 0 || ranges[n-1].off+ranges[n-1].n < size {
		ranges = append(ranges, sparseRange{size, 0}) // says where the file ends
	}
	var stored int64
	for _, r := range ranges {
		stored += r.n
	}
	h := make([]byte, tarBlock)
	copy(h, name)
	for _, field := range []struct {
		p []byte
		n int64
	}{{h[100:108], 0o644}, {h[108:116], 0}, {h[116:124], 0}, {h[124:136], stored}, {h[136:148], 0}, {h[483:495], size}} {
		tarNumber(field.p, field.n)
	}
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	put := func(p []byte, most int) {
		for i := range min(most, len(ranges)) {
			tarNumber(p[24*i:][:12], ranges[i].off)
			tarNumber(p[24*i+12:][:12], ranges[i].n)
		}
		ranges = ranges[min(most, len(ranges)):]
		if len(ranges) > 0 {
			p[24*most] = 1 // more follow
		}
	}
	put(h[386:], 4)
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	for len(ranges) > 0 {
		more := make([]byte, tarBlock)
		put(more, 21)
		h = append(h, more...)
	}
	return h
}

// tarNumber writes an octal number, or where it has no room a binary one.
func tarNumber(p []byte, n int64) {
	digits := len(p) - 1
	if n < 1<<(3*digits) {
		copy(p, fmt.Sprintf("%0*o", digits, n))
		return
	}
	for i := range p {
		p[len(p)-1-i] = byte(n)
		n >>= 8
	}
	p[0] |= 0x80
}

// copyTo copies n bytes of a file to w.
func (f *output) copyTo(w io.Writer, n int64) error {
	got, err := io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(f.file, 0, n)}, make([]byte, chunkSize))
	if err == nil && got != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
