package interop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// DayTwoSeed chooses the packages that change on the second day.
const DayTwoSeed = 2

// MakeSecondDay gives, for a tree of [MakeDebianTree] or [MakeRPMTree], the
// same system a day later: 3 % of its packages have changed. Unchanged files of
// a Debian tree are hard links to those of the first day; an RPM tree's changed
// packages are built again with a new release and change log, and installed.
func MakeSecondDay(ctx context.Context, tree string) (string, error) {
	return cached(ctx, filepath.Base(tree)+"-day2", func(ctx context.Context, dir string) error {
		if err := run(ctx, "", nil, "cp", "-al", tree+"/.", dir); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "var", "lib", "dpkg", "status")); err == nil {
			return debianDayTwo(dir, DayTwoSeed)
		}
		return rpmDayTwo(ctx, dir, DayTwoSeed)
	})
}

// SecondDay is [MakeSecondDay] for a test; t has called [DebianTree] or
// [RPMTree] before.
func SecondDay(t testing.TB, tree string) string {
	t.Helper()
	dir, err := MakeSecondDay(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// pick chooses 3 % of names, at least one, always the same for one seed.
func pick(names []string, seed uint64) []string {
	names = slices.Clone(names)
	random := rand.New(rand.NewPCG(seed, 0x0d4d))
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:max(1, (3*len(names)+50)/100)]
}

// rewrite gives the regular file name a content of the same length that
// differs a little everywhere, as that of a rebuilt package does.
func rewrite(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	} else if err != nil {
		return err
	}
	return replaceFile(root, name, func(data []byte) []byte {
		for i := 64; i < len(data); i += 4096 {
			data[i] ^= 1
		}
		return append(data, '\n')
	})
}

// replaceFile writes a changed copy of a file under its name: other links to
// the old one keep the old content. Owner and mode stay, the time is a day later.
func replaceFile(root *os.Root, name string, change func([]byte) []byte) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	data, err := root.ReadFile(name)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("stat of %s: %w", name, errors.ErrUnsupported)
	}
	temp := name + ".day2"
	if err := root.WriteFile(temp, change(data), 0o600); err != nil {
		return err
	}
	if err := root.Lchown(temp, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := root.Chmod(temp, info.Mode()); err != nil { // after chown, which clears set-user-ID
		return err
	}
	later := info.ModTime().Add(24 * time.Hour)
	if err := root.Chtimes(temp, later, later); err != nil {
		return err
	}
	return root.Rename(temp, name)
}
