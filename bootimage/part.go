package bootimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// partVersion is that of a partState.
const partVersion = 1

// partState is what is known of a file that is not whole yet. It lies beside it.
type partState struct {
	Version int    `json:"version"`
	SHA256  string `json:"sha256"` // of the whole file; a part of another one is not gone on with
	Size    int64  `json:"size"`
	Range   int64  `json:"range"` // size of one
	Done    []bool `json:"done"`  // by range
}

// part is a file that is not whole yet, with a lock.
type part struct {
	root *os.Root
	partNames
	file *os.File
	partState
}

// partNames are the files beside one that is not whole yet.
type partNames struct {
	name    string // its bytes; also the lock
	state   string
	content string // what was decompressed of them
}

func partNamesOf(name string) partNames {
	return partNames{"." + name + ".part", "." + name + ".part.json", "." + name + ".content"}
}

const lockPoll = 100 * time.Millisecond

// openPart opens what an earlier download left, or starts one. Only one download
// of a name runs at a time: others wait.
func (d *download) openPart(ctx context.Context) (*part, error) {
	p := &part{root: d.root, partNames: partNamesOf(d.name)}
	var err error
	if p.file, err = lockFile(ctx, d.root, p.name); err != nil {
		return nil, err
	}
	p.read()
	if p.Version != partVersion || p.SHA256 != d.entry.SHA256 || p.SHA256 == "" || p.Range != d.opts.RangeSize || !p.whole() {
		p.partState = partState{Version: partVersion, SHA256: d.entry.SHA256, Range: d.opts.RangeSize}
		if err := p.file.Truncate(0); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// lockFile opens a file that is locked until it is closed, and waits for who has it.
func lockFile(ctx context.Context, root *os.Root, name string) (*os.File, error) {
	for {
		file, err := tryLock(root, name)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return file, err
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// tryLock is lockFile without waiting.
func tryLock(root *os.Root, name string) (*os.File, error) {
	for {
		file, err := openLocked(root, name)
		if err != nil {
			return nil, err
		}
		// Who had the lock may have removed the file since it was opened, or given it another
		// name; others lock what has the name now.
		ours, err := file.Stat()
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		now, err := root.Lstat(name)
		if err == nil && os.SameFile(ours, now) {
			return file, nil
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

func openLocked(root *os.Root, name string) (*os.File, error) {
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %w", name, fs.ErrInvalid)
	}
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), file.Close())
	}
	return file, nil
}

// read reads the state; whatever is wrong with it, there is none.
func (p *part) read() {
	file, err := p.root.Open(p.state)
	if err != nil {
		return
	}
	data, err := io.ReadAll(io.LimitReader(file, 8*maxParts))
	if errors.Join(err, file.Close()) != nil || json.Unmarshal(data, &p.partState) != nil {
		p.partState = partState{}
	}
}

// whole reports whether the state fits itself and the file.
func (p *part) whole() bool {
	if p.Range <= 0 || p.Size <= 0 || p.Size > maxDownloadSize || int64(len(p.Done)) != (p.Size+p.Range-1)/p.Range {
		return false
	}
	info, err := p.file.Stat()
	return err == nil && info.Size() == p.Size
}

// save writes the state.
func (p *part) save() error {
	data, err := json.Marshal(p.partState)
	if err != nil {
		return err
	}
	if err := p.root.WriteFile(p.state+".new", data, 0o644); err != nil {
		return err
	}
	return p.root.Rename(p.state+".new", p.state)
}

// discard removes the file, what is known of it and what was made of it, also by one
// that was killed.
func (p *part) discard() error { return removeAll(p.root, p.name, p.state, p.state+".new", p.content) }

// removeAll removes those of the files that are there.
func removeAll(root *os.Root, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// rename gives the file its name.
func (p *part) rename(name string) error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := p.root.Rename(p.name, name); err != nil {
		return err
	}
	return p.discard()
}

// close also gives the lock back.
func (p *part) close() error { return p.file.Close() }
