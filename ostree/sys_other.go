//go:build !linux

package ostree

import (
	"fmt"
	"runtime"

	"github.com/okd-project/okd-streams/internal/unix"
)

// supports refuses repositories whose files need what Linux's have: owners,
// modes and attributes.
func supports(mode Mode) error {
	if mode == ModeArchive {
		return nil
	}
	return fmt.Errorf("mode %s on %s: %w", mode, runtime.GOOS, errUnsupported)
}

func canWrite() error {
	return fmt.Errorf("writing to a repository on %s: %w", runtime.GOOS, errUnsupported)
}

func direntInodes(int) bool { return false }

func mountsBelow(int) bool { return true }

func listxattrat(int, string, []byte) (int, error) { return 0, unix.ENOSYS }

func getxattrat(int, string, string, []byte) (int, error) { return 0, unix.ENOSYS }
