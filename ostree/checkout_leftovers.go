package ostree

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// A killed checkout leaves names of its own: files and directories that are not
// whole. The next one into the same folder removes them if it is alone there,
// which a lock (flock) of the folder says. A union makes such names in any
// directory; so it has one in the folder itself as long as it runs, by which the
// next knows that it has to look everywhere.

// tempPrefix begins these names; two numbers follow.
const tempPrefix = ".okd-checkout-"

// isTemp reports whether a name is one that [checkout.temp] makes.
func isTemp(name string) bool {
	numbers, ok := strings.CutPrefix(name, tempPrefix)
	process, count, both := strings.Cut(numbers, "-")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return ok && both && digits(process) && digits(count)
}

// lockPatience is how long a checkout waits for another that cleans up.
const lockPatience = 2 * time.Second

// enter removes what killed checkouts left in the folder root, and locks it for
// as long as root is open. Where there are no such locks nothing is removed.
func (co *checkout) enter(ctx context.Context, root int) error {
	if retry(func() error { return unix.Flock(root, unix.LOCK_EX|unix.LOCK_NB) }) == nil {
		if err := removeTemps(ctx, root); err != nil {
			return err
		}
	}
	for waited := time.Duration(0); waited < lockPatience; waited += lockRetry {
		if err := retry(func() error { return unix.Flock(root, unix.LOCK_SH|unix.LOCK_NB) }); err != unix.EAGAIN {
			break
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if co.opts.Union == UnionNone {
		return nil // has other names in the folder itself only
	}
	mark := co.temp()
	fd, err := openat(root, mark, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil // nothing is left in a folder that can't be written to
	}
	if err != nil {
		return err
	}
	unix.Close(fd)
	co.mark = mark
	return nil
}

// leave removes the name that says that the checkout runs.
func (co *checkout) leave(root int) error {
	if co.mark == "" {
		return nil
	}
	mark := co.mark
	co.mark = ""
	err := retry(func() error { return unix.Unlinkat(root, mark, 0) })
	if err == unix.ENOENT {
		return nil // an opaque whiteout of the folder itself takes all names
	}
	return pathError("unlink", mark, err)
}

// removeTemps removes the names of checkouts in a folder and, if there are any,
// below it.
func removeTemps(ctx context.Context, root int) error {
	entries, err := readNames(root, ".")
	if err != nil {
		return err
	}
	var temps []string
	for _, e := range entries {
		if isTemp(e.Name()) {
			temps = append(temps, e.Name())
		}
	}
	if len(temps) == 0 {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && !isTemp(e.Name()) {
			if err := removeTempsBelow(ctx, root, e.Name(), 1); err != nil {
				return err
			}
		}
	}
	// Last: they say that there may be more.
	for _, name := range temps {
		if err := removeAll(root, name, 0); err != nil {
			return err
		}
	}
	return nil
}

func removeTempsBelow(ctx context.Context, dir int, name string, depth int) error {
	if err := ctx.Err(); err != nil || depth > maxDepth {
		return err
	}
	fd, err := openDir(dir, name)
	if err != nil {
		return nil // not ours to look into, or gone by now
	}
	defer unix.Close(fd)
	entries, err := readNames(fd, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case isTemp(e.Name()):
			err = removeAll(fd, e.Name(), depth)
		case e.IsDir():
			err = removeTempsBelow(ctx, fd, e.Name(), depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
