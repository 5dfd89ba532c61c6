package ociimage

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Lock waits for the exclusive advisory lock (flock) of an open file or folder,
// or until ctx ends. Closing f lets it go. It is what the writers of a layout
// folder agree on. The kernel's own waiting could not be ended by ctx.
func Lock(ctx context.Context, f *os.File) error {
	wait := time.Millisecond
	for {
		err := TryLock(f)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// TryLock is [Lock] without waiting.
func TryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
