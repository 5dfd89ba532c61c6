package layoutregistry

import (
	"context"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// roomStep is how much of a large blob the file system is asked to keep room for
// at a time, bytes. Writing goes faster then and the file lies in one piece, and
// a size that is a lie takes no more of the disk than this.
const roomStep = 64 << 20

// writeStep is how much is written at a time, bytes. The larger it is, the larger
// are the pages that the kernel looks for, which is dear where memory is in use.
const writeStep = 32 << 10

// roomy writes a new file from its start until ctx ends.
type roomy struct {
	ctx      context.Context // of the call that this writer serves
	f        *os.File
	size     int64 // that the file will have
	progress func(n int64)

	at, room int64
	refused  bool // the file system does not keep room
}

func (w *roomy) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.at+int64(len(p)) > w.room && w.room < w.size && !w.refused {
		more := min(roomStep, w.size-w.room)
		// A disk that is full says so when it is written to.
		w.refused = unix.Fallocate(int(w.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, w.room, more) != nil
		w.room += more
	}
	n := 0
	for n < len(p) {
		wrote, err := w.f.Write(p[n:min(len(p), n+writeStep)])
		n += wrote
		if err != nil {
			return n, err
		}
	}
	w.at += int64(n)
	w.progress(int64(n))
	return n, nil
}
