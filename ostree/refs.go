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
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/unix"
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
	refName    = lazyregexp.New(`^(?:[\w\d][-._\w\d]*/)*[\w\d][-._\w\d]*$`)
	remoteName = lazyregexp.New(`^[\w\d][-._\w\d]*$`)
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
	if errors.Is(err, unix.ENOTDIR) {
		// The name of another ref comes first in it.
		return Checksum{}, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
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

// eachRef calls fn for every ref's file, mirrors' too, by its path below the
// repository, with what it names or the fault of reading it.
func (r *Repo) eachRef(ctx context.Context, fn func(name string, c Checksum, err error) error) error {
	for _, sub := range []string{"heads", "remotes", "mirrors"} {
		root, err := r.openRefs(sub)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || d.IsDir() {
				return err
			}
			c, err := readRef(root, name)
			return fn("refs/"+sub+"/"+name, c, err)
		})
		root.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Refs yields the refs of this repository, then those of remotes, both sorted
// by their paths. A ref that can't be read ends the sequence.
func (r *Repo) Refs(ctx context.Context) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for _, sub := range []string{"heads", "remotes"} {
			if !r.refsIn(ctx, sub, ".", yield) {
				return
			}
		}
	}
}

// RefsBelow yields the ref prefix itself, or those whose names have it as their
// first components, sorted: "os" has "os/x86_64" but not "os2". With "remote:" in
// front they are those of a remote, of which "remote:" alone gives all; without,
// this repository's own. None is no error.
func (r *Repo) RefsBelow(ctx context.Context, prefix string) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		var p string
		var err error
		if remote, ok := strings.CutSuffix(prefix, ":"); ok && remoteName.MatchString(remote) {
			p = "remotes/" + remote
		} else if p, err = refPath(prefix); err != nil {
			yield(Ref{}, &Error{Op: "refs", Target: prefix, Err: err})
			return
		}
		sub, name, _ := strings.Cut(p, "/")
		r.refsIn(ctx, sub, name, yield)
	}
}

// refsIn yields the refs at and below a path in heads/ or remotes/.
func (r *Repo) refsIn(ctx context.Context, sub, from string, yield func(Ref, error) bool) bool {
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
	err = fs.WalkDir(root.FS(), from, func(name string, d fs.DirEntry, err error) error {
		if name == from && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
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
		if d.Type()&fs.ModeSymlink != 0 || name == from { // which the walk has followed
			target, err := root.Readlink(name)
			if err == nil {
				ref.Alias = path.Join(path.Dir(name), target)
			} else if name != from {
				return err
			}
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
		return r.writeRef(p, c, r.settings.fsync)
	}()
	if err != nil {
		return &Error{Op: "set ref", Target: name, Err: err}
	}
	return nil
}

// DeleteRef deletes a ref, [remote:]name. One that is not there is an error that
// wraps [fs.ErrNotExist]; one that an alias stands for is refused.
func (r *Repo) DeleteRef(ctx context.Context, name string) error {
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
		for other, err := range r.Refs(ctx) {
			if err != nil {
				return err
			}
			if other.Alias != "" && other.Remote == "" && other.Alias == name {
				return fmt.Errorf("%s is an alias of it", other)
			}
		}
		if err := unix.Unlinkat(r.dir, "refs/"+p, 0); err != nil {
			return pathError("unlink", "refs/"+p, err)
		}
		return r.touch()
	}()
	if err != nil {
		return &Error{Op: "delete ref", Target: name, Err: err}
	}
	return nil
}

// SetAlias lets name mean whatever commit the ref target means, at any time.
// Both are refs of this repository; target must be there and no alias itself.
func (r *Repo) SetAlias(ctx context.Context, name, target string) error {
	err := func() error {
		var paths [2]string
		for i, ref := range []string{name, target} {
			p, err := refPath(ref)
			if err != nil {
				return err
			}
			if strings.Contains(ref, ":") {
				return fmt.Errorf("%.80q is a remote's ref, which an alias can't be or stand for", ref)
			}
			paths[i] = p
		}
		lock, err := r.lockShared(ctx)
		if err != nil {
			return err
		}
		defer unlock(lock)
		var st unix.Stat_t
		if err := unix.Fstatat(r.dir, "refs/"+paths[1], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return pathError("stat", "refs/"+paths[1], err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Errorf("%s is no ref of its own", target)
		}
		link := strings.Repeat("../", strings.Count(name, "/")) + target
		return r.writeAlias(paths[0], link)
	}()
	if err != nil {
		return &Error{Op: "set alias", Target: name, Err: err}
	}
	return nil
}

// writeAlias makes a symbolic link of a ref's path, by way of tmp/.
func (r *Repo) writeAlias(p, link string) error {
	if err := r.makeRefDirs(p); err != nil {
		return err
	}
	for i := range 1000 {
		tmp := fmt.Sprintf("tmp/okd-alias-%d-%d", unix.Getpid(), i)
		err := unix.Symlinkat(link, r.dir, tmp)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return pathError("symlink", tmp, err)
		}
		if err := unix.Renameat(r.dir, tmp, r.dir, "refs/"+p); err != nil {
			unix.Unlinkat(r.dir, tmp, 0)
			return pathError("rename", "refs/"+p, err)
		}
		return r.touch()
	}
	return fmt.Errorf("tmp: no free name: %w", fs.ErrExist)
}

// makeRefDirs makes the folders of a ref's path.
func (r *Repo) makeRefDirs(p string) error {
	for i, b := range []byte(p) {
		if b == '/' {
			if err := mkdirat(r.dir, "refs/"+p[:i], 0o775); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeRef writes a ref's file, p below refs/, with fsync durably.
func (r *Repo) writeRef(p string, c Checksum, fsync bool) error {
	if err := r.makeRefDirs(p); err != nil {
		return err
	}
	if err := r.replace("refs/"+p, append([]byte(c.String()), '\n'), fsync); err != nil {
		return err
	}
	if fsync {
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

// Resolve gives the commit that rev names, as `ostree rev-parse` does: a
// checksum; the beginning of a commit's checksum, which must be that of no other
// in the repository; a ref, remote:ref, or a ref that a remote has and this
// repository has not, with or without its remote in front and a slash between.
// Each "^" at the end stands for the commit's parent. What does not exist wraps
// [fs.ErrNotExist]; a full checksum is not looked up. A ref comes before a commit
// whose checksum begins like it.
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
	// A parent repository's refs count where this one has none of that name.
	for repo := r; repo != nil; repo = repo.parent {
		c, err := repo.readRefPath(p)
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if c, err := r.resolvePrefix(rev); err != nil || !c.IsZero() {
		return c, err
	}
	if !strings.Contains(rev, ":") {
		for repo := r; repo != nil; repo = repo.parent {
			c, err := repo.resolveRemotes(rev)
			if !errors.Is(err, fs.ErrNotExist) {
				return c, err
			}
		}
	}
	return Checksum{}, fmt.Errorf("no such ref or commit: %w", fs.ErrNotExist)
}

// resolvePrefix gives the one commit whose checksum begins with rev; zero: there
// is none.
func (r *Repo) resolvePrefix(rev string) (Checksum, error) {
	found := make(map[Checksum]struct{})
	if rev == "" || len(rev) > 2*ChecksumSize || strings.Trim(rev, "0123456789abcdef") != "" {
		return Checksum{}, nil
	}
	for repo := r; repo != nil; repo = repo.parent {
		dirs := []string{rev[:min(2, len(rev))]}
		if len(rev) == 1 {
			dirs = dirs[:0]
			for _, digit := range "0123456789abcdef" {
				dirs = append(dirs, rev+string(digit))
			}
		}
		for _, dir := range dirs {
			entries, err := readNames(repo.objects, dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Checksum{}, err
			}
			for _, e := range entries {
				name, ok := strings.CutSuffix(e.Name(), ".commit")
				if !ok || !strings.HasPrefix(dir+name, rev) {
					continue
				}
				if c, err := ParseChecksum(dir + name); err == nil {
					found[c] = struct{}{}
				}
			}
		}
	}
	if len(found) > 1 {
		return Checksum{}, fmt.Errorf("%d commits begin so", len(found))
	}
	for c := range found {
		return c, nil
	}
	return Checksum{}, nil
}

// resolveRemotes finds a ref of any remote, by remote/ref or by its name alone.
func (r *Repo) resolveRemotes(rev string) (Checksum, error) {
	root, err := r.openRefs("remotes")
	if err != nil {
		return Checksum{}, err
	}
	defer root.Close()
	c, err := readRef(root, rev)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	remotes, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return Checksum{}, err
	}
	for _, remote := range remotes {
		if c, err := readRef(root, remote.Name()+"/"+rev); !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return Checksum{}, fs.ErrNotExist
}
