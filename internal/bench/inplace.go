package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// copyTree copies the tree before to work, which is not there.
func copyTree(ctx context.Context, work, before string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=never", before, work).CombinedOutput(); err != nil {
		return fmt.Errorf("cp -a: %w\n%s", err, out)
	}
	return rest(ctx)
}

// update makes of work, a copy of before, what is in after, as a package manager does:
// what did not change stays where it is. It takes files that are hard links to
// those of before for unchanged.
func update(ctx context.Context, work, before, after string) error {
	var changed bytes.Buffer
	err := filepath.WalkDir(after, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(after, p)
		if err != nil {
			return err
		}
		now, err := d.Info()
		if err != nil {
			return err
		}
		was, err := os.Lstat(filepath.Join(before, rel))
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err == nil && (os.SameFile(was, now) || was.IsDir() && now.IsDir() && was.Mode() == now.Mode()):
			return nil
		}
		changed.WriteString(rel)
		changed.WriteByte(0)
		return nil
	})
	if err != nil {
		return err
	}
	err = filepath.WalkDir(before, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(before, p)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(after, rel)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(filepath.Join(work, rel)); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
	if err != nil {
		return err
	}
	pack := exec.CommandContext(ctx, "tar", "-C", after, "--xattrs", "--no-recursion", "--null", "-T", "-", "-cf", "-")
	pack.Stdin = &changed
	unpack := exec.CommandContext(ctx, "tar", "-C", work, "--xattrs", "--xattrs-include=*", "--unlink-first", "-xpf", "-")
	var said bytes.Buffer
	pack.Stderr, unpack.Stderr = &said, &said
	if unpack.Stdin, err = pack.StdoutPipe(); err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	if err := errors.Join(unpack.Run(), pack.Wait()); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, said.String())
	}
	return rest(ctx)
}

// rest lets files become so old that a cache trusts their time stamps.
func rest(ctx context.Context) error {
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
