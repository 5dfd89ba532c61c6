package ostree

import (
	"io"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// clone lets f, which is empty, share the blocks of the file that body is, if the
// file systems can. What is read from f after it no writer of that file changes.
func (w *contentWriter) clone(f *rawFile, body io.Reader, size int64) bool {
	src, ok := body.(*os.File)
	if !ok || w.noClone.Load() {
		return false
	}
	conn, err := src.SyscallConn()
	if err != nil {
		return false
	}
	cloned := false
	err = conn.Control(func(fd uintptr) {
		// Only a whole file that nothing was read of is what body would give.
		at, err := unix.Seek(int(fd), 0, io.SeekCurrent)
		if err != nil || at != 0 {
			return
		}
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) != nil || st.Mode&ModeType != ModeRegular || st.Size != size {
			return
		}
		if retry(func() error { return unix.IoctlFileClone(f.fd, int(fd)) }) != nil {
			w.noClone.Store(true) // the next would fail as well
			return
		}
		cloned = true
	})
	return err == nil && cloned
}
