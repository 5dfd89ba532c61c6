package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Ref is a name for a commit.
type Ref struct {
	Remote string // the remote it was pulled from; "": a ref of this repository
	Name   string
	Commit Checksum
	Alias  string // the ref that this name is a symbolic link to; "": none
}

// String is [remote:]name, as [Repo.Resolve] takes it.
func (r Ref) String() string {
	if r.Remote == "" {
		return r.Name
	}
	return r.Remote + ":" + r.Name
}

// refName is libostree's rule for ref names; remoteName for those of remotes.
var (
	refName    = regexp.MustCompile(`^(?:[\w\d][-._\w\d]*/)*[\w\d][-._\w\d]*$`)
	remoteName = regexp.MustCompile(`^[\w\d][-._\w\d]*$`)
)

// CheckRef reports what is wrong with a ref's name, [remote:]name. Names are
// what libostree allows: letters, digits, "-", "." and "_" in components that
// start with a letter, digit or "_", separated by slashes; and not 64
// hexadecimal digits, which are a checksum.
func CheckRef(name string) error {
	_, err := refPath(name)
	return err
}

// refPath is where below refs/ a ref is.
func refPath(name string) (string, error) {
	remote, ref, ok := strings.Cut(name, ":")
	if !ok {
		remote, ref = "", name
	}
	if _, err := ParseChecksum(ref); len(ref) > 1024 || !refName.MatchString(ref) || err == nil {
		return "", fmt.Errorf("%.80q is no valid ref name", name)
	}
	if !ok {
		return "heads/" + ref, nil
	}
	if !remoteName.MatchString(remote) {
		return "", fmt.Errorf("%.80q is no valid remote name", remote)
	}
	return "remotes/" + remote + "/" + ref, nil
}

// openRefs opens refs/heads or refs/remotes. Symbolic links, which aliases are,
// can't leave it.
func (r *Repo) openRefs(sub string) (*os.Root, error) {
	return os.OpenRoot(filepath.Join(r.path, "refs", sub))
}

// readRef reads the checksum in a ref's file, a path below heads/ or remotes/.
func readRef(root *os.Root, name string) (Checksum, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Checksum{}, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return Checksum{}, err
	} else if !st.Mode().IsRegular() {
		return Checksum{}, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*ChecksumSize+2))
	if err != nil {
		return Checksum{}, err
	}
	c, err := ParseChecksum(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return c, corrupt(err)
	}
	return c, nil
}

func (r *Repo) readRefPath(p string) (Checksum, error) {
	sub, name, _ := strings.Cut(p, "/")
	root, err := r.openRefs(sub)
	if err != nil {
		return Checksum{}, err
	}
	defer root.Close()
	return readRef(root, name)
}

// Refs yields the refs of this repository, then those of remotes, both sorted
// by their paths. A ref that can't be read ends the sequence.
func (r *Repo) Refs(ctx context.Context) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for _, sub := range []string{"heads", "remotes"} {
			if !r.refsIn(ctx, sub, yield) {
				return
			}
		}
	}
}

func (r *Repo) refsIn(ctx context.Context, sub string, yield func(Ref, error) bool) bool {
	root, err := r.openRefs(sub)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		yield(Ref{}, &Error{Op: "refs", Target: sub, Err: err})
		return false
	}
	defer root.Close()
	stopped := false
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		ref := Ref{Name: name}
		if sub == "remotes" {
			var ok bool
			if ref.Remote, ref.Name, ok = strings.Cut(name, "/"); !ok {
				return nil
			}
		}
		if CheckRef(ref.String()) != nil {
			return nil // a temporary file, or not ours to judge
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := root.Readlink(name)
			if err != nil {
				return err
			}
			ref.Alias = path.Join(path.Dir(name), target)
		}
		if ref.Commit, err = readRef(root, name); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		if stopped = !yield(ref, nil); stopped {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		yield(Ref{}, &Error{Op: "refs", Target: sub, Err: err})
	}
	return err == nil && !stopped
}

// SetRef lets name, [remote:]ref, mean commit c, which must be in the
// repository. The zero checksum deletes the ref; one that is not there is no
// error. The change is atomic and durable unless core.fsync is off.
func (r *Repo) SetRef(ctx context.Context, name string, c Checksum) error {
	err := func() error {
		p, err := refPath(name)
		if err != nil {
			return err
		}
		lock, err := r.lockShared(ctx)
		if err != nil {
			return err
		}
		defer unlock(lock)
		if c.IsZero() {
			if err := unix.Unlinkat(r.dir, "refs/"+p, 0); err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
				return pathError("unlink", "refs/"+p, err)
			}
			return r.touch()
		}
		if ok, err := r.Has(ctx, TypeCommit, c); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("commit %s: %w", c, fs.ErrNotExist)
		}
		return r.writeRef(p, c)
	}()
	if err != nil {
		return &Error{Op: "set ref", Target: name, Err: err}
	}
	return nil
}

// writeRef writes a ref's file, p below refs/.
func (r *Repo) writeRef(p string, c Checksum) error {
	for i, b := range []byte(p) {
		if b == '/' {
			if err := mkdirat(r.dir, "refs/"+p[:i], 0o775); err != nil {
				return err
			}
		}
	}
	if err := r.replace("refs/"+p, append([]byte(c.String()), '\n')); err != nil {
		return err
	}
	if r.settings.fsync {
		if err := fsyncDir(r.dir, "refs/"+path.Dir(p)); err != nil {
			return err
		}
	}
	return r.touch()
}

// touch sets the repository's time of last change, by which others see that
// refs changed.
func (r *Repo) touch() error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	return pathError("utimensat", ".", retry(func() error { return unix.UtimesNanoAt(r.dir, ".", now, 0) }))
}

func fsyncDir(dir int, p string) error {
	fd, err := openDir(dir, p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pathError("fsync", p, retry(func() error { return unix.Fsync(fd) }))
}

// minPrefix is how many digits of a checksum Resolve takes for one.
const minPrefix = 4

// Resolve gives the commit that rev names: a ref, remote:ref, a checksum, or
// the beginning of a commit's checksum, at least four digits that no other
// commit of the repository shares. Each "^" at the end stands for the commit's
// parent. What does not exist wraps [fs.ErrNotExist]; a full checksum is not
// looked up. A ref comes before a commit whose checksum begins like it.
func (r *Repo) Resolve(ctx context.Context, rev string) (Checksum, error) {
	c, err := r.resolve(ctx, rev)
	if err != nil {
		return Checksum{}, &Error{Op: "resolve", Target: rev, Err: err}
	}
	return c, nil
}

func (r *Repo) resolve(ctx context.Context, rev string) (Checksum, error) {
	base := strings.TrimRight(rev, "^")
	c, err := r.resolveBase(ctx, base)
	for range len(rev) - len(base) {
		if err != nil {
			return c, err
		}
		var commit *Commit
		if commit, err = r.ReadCommit(ctx, c); err != nil {
			return c, err
		}
		if commit.Parent.IsZero() {
			return c, fmt.Errorf("commit %s has no parent: %w", c, fs.ErrNotExist)
		}
		c = commit.Parent
	}
	return c, err
}

func (r *Repo) resolveBase(ctx context.Context, rev string) (Checksum, error) {
	if err := ctx.Err(); err != nil {
		return Checksum{}, err
	}
	if c, err := ParseChecksum(rev); err == nil {
		return c, nil
	}
	p, err := refPath(rev)
	if err != nil {
		return Checksum{}, err
	}
	c, err := r.readRefPath(p)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if len(rev) < minPrefix || strings.Trim(rev, "0123456789abcdef") != "" {
		return c, fmt.Errorf("no such ref: %w", fs.ErrNotExist)
	}
	var found []Checksum
	entries, err := readNames(r.objects, rev[:2])
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".commit")
		if ok && strings.HasPrefix(name, rev[2:]) {
			if c, err := ParseChecksum(rev[:2] + name); err == nil {
				found = append(found, c)
			}
		}
	}
	switch len(found) {
	case 0:
		return c, fmt.Errorf("no such ref or commit: %w", fs.ErrNotExist)
	case 1:
		return found[0], nil
	default:
		return c, fmt.Errorf("%d commits begin so", len(found))
	}
}
