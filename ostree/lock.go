package ostree

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// The locks are libostree's: record locks of an open file description
// (F_OFD_SETLK) over the whole of a file. On file systems without those,
// libostree falls back to flock; so does this.

// lockRetry is how often a lock that another process holds is tried again.
const lockRetry = 20 * time.Millisecond

// tryLock locks fd with the lock type F_RDLCK or F_WRLCK; false: another has it.
func tryLock(fd int, kind int16) (bool, error) {
	lock := unix.Flock_t{Type: kind, Whence: io.SeekStart}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock) })
	if err == unix.EINVAL || err == unix.ENOLCK || err == unix.EOPNOTSUPP {
		how := unix.LOCK_SH
		if kind == unix.F_WRLCK {
			how = unix.LOCK_EX
		}
		err = retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
	}
	switch err {
	case nil:
		return true, nil
	case unix.EAGAIN, unix.EACCES:
		return false, nil
	}
	return false, err
}

// lockShared takes the repository's lock for a transaction: many may hold it,
// but none while another prunes.
func (r *Repo) lockShared(ctx context.Context) (int, error) { return r.lock(ctx, unix.F_RDLCK) }

// lock takes the repository's lock, F_RDLCK or F_WRLCK. Closing the descriptor
// given releases it; it is -1 if core.locking is off.
func (r *Repo) lock(ctx context.Context, kind int16) (int, error) {
	if !r.settings.locking {
		return -1, nil
	}
	fd, err := openat(r.dir, ".lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o660)
	if err != nil {
		return -1, err
	}
	limit := time.Duration(r.settings.lockTimeout) * time.Second
	for waited := time.Duration(0); ; waited += lockRetry {
		ok, err := tryLock(fd, kind)
		if err == nil && ok {
			return fd, nil
		}
		if err == nil && r.settings.lockTimeout >= 0 && waited >= limit {
			err = fmt.Errorf("another process holds it since %s (core.lock-timeout-secs)", limit)
		}
		if err == nil {
			select {
			case <-time.After(lockRetry):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		unix.Close(fd)
		return -1, fmt.Errorf("lock .lock: %w", err)
	}
}

// unlock releases what lockShared gave.
func unlock(fd int) {
	if fd < 0 {
		return
	}
	// Closing is not enough: a child that another goroutine starts just now has
	// a copy of the descriptor until it runs its program.
	lock := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart}
	if retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock) }) != nil {
		_ = unix.Flock(fd, unix.LOCK_UN)
	}
	unix.Close(fd)
}
