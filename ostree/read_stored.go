package ostree

import (
	"io"
	"sync"

	"github.com/okd-project/okd-streams/internal/inflate"
)

// storedHead is how much of an archive object is read at once with its header:
// all of most.
const storedHead = 16 << 10

// storedObject reads an archive object as it is stored: with few calls, of which none
// finds out about the end, for the length is known.
type storedObject struct {
	raw      *rawFile
	left     int64  // bytes of the file that were not read yet
	head     []byte // of buf, what was read and not given yet
	buf      [storedHead]byte
	inflater *inflate.Reader
}

// storeds are reusable, which inflaters are worth.
var storeds = sync.Pool{New: func() any { return &storedObject{inflater: inflate.NewReader(nil)} }}

// newStored reads the file raw of size bytes from its start. It has to be
// released.
func newStored(raw *rawFile, size int64) *storedObject {
	s := storeds.Get().(*storedObject)
	s.raw, s.left, s.head = raw, size, nil
	return s
}

// release gives s back, which may be nil.
func (s *storedObject) release() {
	if s != nil {
		s.raw, s.head = nil, nil
		s.inflater.Reset(nil)
		storeds.Put(s)
	}
}

func (s *storedObject) Read(p []byte) (int, error) {
	if len(s.head) == 0 && s.left > 0 && len(p) < len(s.buf) {
		n, err := s.fill(s.buf[:])
		if err != nil {
			return 0, err
		}
		s.head = s.buf[:n]
	}
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	return s.fill(p)
}

// fill reads from the file.
func (s *storedObject) fill(p []byte) (int, error) {
	n, err := s.raw.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, err
}
