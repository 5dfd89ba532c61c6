// Package atomicfile writes small files that are whole or not there.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Write replaces the file path by what write gives, durably: readers see the
// old content or the new, after a crash too. It goes through a file beside it,
// ".NAME.tmp", whose name is always the same, so that what a killed writer left
// is overwritten by the next: path may have one writer at a time. A symbolic
// link under either name is not followed.
func Write(path string, write func(io.Writer) error) (err error) {
	dir, name := filepath.Split(path)
	if name == "" {
		return fmt.Errorf("atomicfile: %q names no file", path)
	}
	temp := filepath.Join(dir, "."+name+".tmp")
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(temp)))
		}
	}()
	buffered := bufio.NewWriter(file)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Join(dir, "."))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
