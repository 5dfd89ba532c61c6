package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/unix"
)

// A transaction writes objects to tmp/staging-<boot id>-XXXXXX, whose lock
// tmp/staging-<boot id>-XXXXXX-lock says that it is in use, as libostree does.
// In it, the folder okd has the layout of objects/: where a repository has no
// folder for the first two digits yet, publish moves the whole one; elsewhere,
// file by file. Directly in the staging folder there is nothing of two
// characters, so that an `ostree` that takes over an abandoned one finds nothing
// to resume and removes it.
type txn struct {
	repo    *Repo
	fsync   bool
	filled  bool   // the repository had objects
	single  bool   // never move whole folders: in them may be files that are not whole
	locked  int    // the repository's lock
	name    string // of the staging folder, below tmp/
	staging int    // its folder okd
	lock    int    // the staging folder's lock
	started int64  // the kernel's time at the start, nanoseconds
	shelves []*shelf

	present present
	mu      sync.Mutex
	claims  claims

	limited bool
	free    atomic.Int64 // bytes that may still be written, if limited
}

// shelf is what one goroutine needs to stage files.
type shelf struct {
	txn    *txn
	number int
	count  int
	path   []byte
	made   [256]bool // which folders of staging are there for sure: by first byte, or the first alone
}

type claimKey struct {
	kind ObjectType
	sum  Checksum
}

// stagingPrefix begins the names of staging folders.
const stagingPrefix = "staging-"

// stagingRoot is the folder in our staging folders. Never two characters.
const stagingRoot = "okd"

// bootID is the kernel's name for this run of the machine.
func bootID() (string, error) {
	const path = "/proc/sys/kernel/random/boot_id"
	data, err := os.ReadFile(path) // its size is given as 0
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if strings.Trim(id, "0123456789abcdef-") != "" || id == "" {
		return "", fmt.Errorf("%s: %.80q is no boot id", path, id)
	}
	return id, nil
}

func (r *Repo) begin(ctx context.Context, workers int, noFsync bool) (_ *txn, err error) {
	t := &txn{repo: r, present: present{repo: r}, fsync: r.settings.fsync && !noFsync, locked: -1, staging: -1, lock: -1, claims: newClaims()}
	defer func() {
		if err != nil {
			t.end()
		}
	}()
	if t.locked, err = r.lockShared(ctx); err != nil {
		return nil, err
	}
	if t.filled, err = r.hasContent(); err != nil {
		return nil, err
	}
	if err := mkdirat(r.dir, "tmp", 0o775); err != nil {
		return nil, err
	}
	if err := r.removeStale(ctx); err != nil {
		return nil, err
	}
	if err := t.allocate(); err != nil {
		return nil, err
	}
	for i := range workers {
		t.shelves = append(t.shelves, &shelf{txn: t, number: i})
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.staging, &st); err != nil {
		return nil, pathError("stat", t.name, err)
	}
	t.started = st.Ctim.Nano()
	return t, t.measure()
}

// allocate makes and locks a staging folder.
func (t *txn) allocate() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	// The six characters need only be free: a process starts at its own number.
	for i := range 10000 {
		name := stagingPrefix + boot + "-" + suffix(unix.Getpid()*31+i)
		// Locked before it is made: nobody finds it unlocked.
		lock, ok, err := t.repo.lockStaging(name, true)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		err = unix.Mkdirat(t.repo.dir, "tmp/"+name, 0o775)
		if err == unix.EEXIST {
			unix.Close(lock) // somebody's who has not locked it yet, or was killed
			continue
		}
		t.lock, t.name = lock, name
		if err != nil {
			return pathError("mkdir", "tmp/"+name, err)
		}
		root := "tmp/" + name + "/" + stagingRoot
		if err := unix.Mkdirat(t.repo.dir, root, 0o775); err != nil {
			return pathError("mkdir", root, err)
		}
		t.staging, err = openDir(t.repo.dir, root)
		return err
	}
	return fmt.Errorf("tmp: no free name for a staging folder: %w", fs.ErrExist)
}

// suffix is n as six letters and digits.
func suffix(n int) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	var s [6]byte
	for i := range s {
		s[len(s)-1-i] = letters[n%len(letters)]
		n /= len(letters)
	}
	return string(s[:])
}

// lockStaging locks a staging folder; false: somebody has it, or removed it just
// now.
func (r *Repo) lockStaging(name string, create bool) (int, bool, error) {
	flags := unix.O_RDWR | unix.O_NOFOLLOW
	if create {
		flags |= unix.O_CREAT
	}
	fd, err := openat(r.dir, "tmp/"+name+"-lock", flags, 0o600)
	if err != nil {
		return -1, false, err
	}
	// Who had it before may have removed the file that was opened here.
	ok, err := lockNamed(fd)
	if err != nil || !ok {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, true, nil
}

// removeStale removes staging folders that this package left when its process
// was killed: those with our folders in them, or empty, whose lock is free.
// Those of libostree, which resumes them, are left to it.
func (r *Repo) removeStale(ctx context.Context) error {
	entries, err := readNames(r.dir, "tmp")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, replacementPrefix) && e.Type().IsRegular() {
			if err := r.removeReplacement(name); err != nil {
				return err
			}
			continue
		}
		if !strings.HasPrefix(name, stagingPrefix) {
			continue
		}
		if e.IsDir() {
			if inside, err := readNames(r.dir, "tmp/"+name); err != nil || len(inside) > 0 && inside[0].Name() != stagingRoot {
				continue // gone by now, or not ours
			}
		} else {
			// A lock whose folder was not made yet, or is removed already.
			folder, isLock := strings.CutSuffix(name, "-lock")
			var st unix.Stat_t
			if !isLock || unix.Fstatat(r.dir, "tmp/"+folder, &st, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT {
				continue
			}
			name = folder
		}
		// Without a lock file it is one of libostree's, which makes that second.
		lock, ok, err := r.lockStaging(name, false)
		if err != nil || !ok {
			continue // in use, or not ours to touch
		}
		err = r.removeStaging(name)
		unix.Close(lock)
		if err != nil {
			return fmt.Errorf("remove abandoned tmp/%s: %w", name, err)
		}
		r.log.LogAttrs(ctx, slog.LevelInfo, "removed abandoned staging folder", slog.String("name", name))
	}
	return nil
}

// removeStaging removes a staging folder and its lock file, which the caller
// holds.
func (r *Repo) removeStaging(name string) error {
	if err := removeTree(r.dir, "tmp/"+name); err != nil {
		return err
	}
	if err := unix.Unlinkat(r.dir, "tmp/"+name+"-lock", 0); err != nil && err != unix.ENOENT {
		return pathError("unlink", "tmp/"+name+"-lock", err)
	}
	return nil
}

// removeTree removes a folder that only this process changes.
func removeTree(dir int, path string) error {
	entries, err := readNames(dir, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		fd, err := openDir(dir, path)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, e := range entries {
			if e.IsDir() {
				err = removeTree(fd, e.Name())
			} else {
				err = pathError("unlink", e.Name(), unix.Unlinkat(fd, e.Name(), 0))
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := unix.Unlinkat(dir, path, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return pathError("rmdir", path, err)
	}
	return nil
}

// measure finds how much may be written before core.min-free-space-percent or
// -size of the file system is left.
func (t *txn) measure() error {
	s := &t.repo.settings
	if s.freeBytes == 0 && s.freePercent == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(t.staging, &st) }); err != nil {
		return pathError("statfs", t.name, err)
	}
	size := int64(st.Bsize)
	if st.Frsize > 0 {
		size = int64(st.Frsize)
	}
	reserved := s.freeBytes
	if reserved == 0 {
		reserved = int64(float64(st.Blocks) * float64(size) * float64(s.freePercent) / 100)
	}
	t.limited = true
	t.free.Store(int64(st.Bavail)*size - reserved)
	return nil
}

// take accounts for n bytes about to be written.
func (t *txn) take(n int64) error {
	if !t.limited {
		return nil
	}
	// Whole blocks, as most file systems allocate.
	n = (n + 4095) &^ 4095
	if left := t.free.Add(-n); left < 0 {
		s := &t.repo.settings
		what := fmt.Sprintf("core.min-free-space-percent %d%%", s.freePercent)
		if s.freeBytes > 0 {
			what = fmt.Sprintf("core.min-free-space-size %d bytes", s.freeBytes)
		}
		return fmt.Errorf("%s would be exceeded by %d bytes: %w", what, -left, unix.ENOSPC)
	}
	return nil
}

// give takes back what take accounted for.
func (t *txn) give(n int64) {
	if t.limited {
		t.free.Add((n + 4095) &^ 4095)
	}
}

// claim reports whether the caller is to write the object: false if it is in
// the repository or another worker has it.
func (t *txn) claim(kind ObjectType, c *Checksum, path []byte) (bool, error) {
	key := claimKey{kind, *c}
	t.mu.Lock()
	_, ok := t.claims.get(&key)
	t.mu.Unlock()
	if ok {
		return false, nil
	}
	// What is there needs no claim: most objects, if a tree was committed before.
	if there, err := t.present.has(&key, path); err != nil || there {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.claims.get(&key); ok {
		return false, nil
	}
	t.claims.set(&key, 0)
	return true, nil
}

// disclaim takes a claim back: the object may be claimed again.
func (t *txn) disclaim(kind ObjectType, c *Checksum) {
	t.mu.Lock()
	t.claims.remove(&claimKey{kind, *c})
	t.mu.Unlock()
}

// staged says that a claimed object was written.
func (s *shelf) staged(kind ObjectType, c *Checksum) {
	s.txn.mu.Lock()
	s.txn.claims.set(&claimKey{kind, *c}, uint8(s.number+1))
	s.txn.mu.Unlock()
}

// stagingPath is where a shelf has the object whose path below objects/ is given.
func (t *txn) stagingPath(shelf int, path string) string {
	if !t.filled {
		return path
	}
	return "shelf-" + strconv.Itoa(shelf) + "/" + path[:2] + path[3:]
}

// create makes the file of a claimed object, path below objects/. Nobody else
// sees it before publish.
func (s *shelf) create(path []byte, first byte) (*rawFile, error) {
	name, err := s.name(path, first)
	if err != nil {
		return nil, err
	}
	return s.open(name)
}

// name is the name in the staging folder of an object, whose folder is made.
func (s *shelf) name(path []byte, first byte) (string, error) {
	name := s.txn.stagingPath(s.number, string(path))
	if s.txn.filled {
		first = 0
	}
	if !s.made[first] {
		folder, _, _ := strings.Cut(name, "/")
		if err := mkdirat(s.txn.staging, folder, 0o777); err != nil {
			return "", err
		}
		s.made[first] = true
	}
	return name, nil
}

func (s *shelf) open(name string) (*rawFile, error) {
	fd, err := openat(s.txn.staging, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	return &rawFile{fd, name}, nil
}

// temporary makes a file for an object whose checksum is not known yet.
func (s *shelf) temporary() (*rawFile, error) {
	s.count++
	return s.open("new-" + strconv.Itoa(s.number) + "-" + strconv.Itoa(s.count))
}

// settle gives a temporary file the name of its object.
func (s *shelf) settle(f *rawFile, path []byte, first byte) error {
	name, err := s.name(path, first)
	if err != nil {
		return err
	}
	return pathError("rename", name, retry(func() error { return unix.Renameat(s.txn.staging, f.name, s.txn.staging, name) }))
}

// drop removes a temporary file.
func (s *shelf) drop(f *rawFile) error {
	return pathError("unlink", f.name, unix.Unlinkat(s.txn.staging, f.name, 0))
}

// flush makes one object durable if the repository asks for it.
func (t *txn) flush(f *rawFile) error {
	if !t.fsync || !t.repo.settings.perObjectFsync {
		return nil
	}
	return pathError("fdatasync", f.name, retry(func() error { return unix.Fdatasync(f.fd) }))
}

// checkSize refuses what could not be read again.
func checkSize(kind ObjectType, data []byte) error {
	if len(data) > MaxMetadataSize {
		return fmt.Errorf("%s of %d bytes, at most %d", kind, len(data), MaxMetadataSize)
	}
	return nil
}

// metadata writes a metadata object, unless it is there, and gives its
// checksum. Only the one goroutine that owns s calls it.
func (s *shelf) metadata(kind ObjectType, data []byte) (Checksum, bool, error) {
	c := sum(data)
	fresh, err := s.metadataOf(kind, &c, data)
	return c, fresh, err
}

// metadataOf is metadata for data of a known checksum.
func (s *shelf) metadataOf(kind ObjectType, c *Checksum, data []byte) (fresh bool, err error) {
	if err := checkSize(kind, data); err != nil {
		return false, err
	}
	s.path = appendObjectPath(s.path[:0], c, kind.String())
	write, err := s.txn.claim(kind, c, s.path)
	if err != nil || !write {
		return false, err
	}
	f, err := s.create(s.path, c[0])
	if err != nil {
		return false, err
	}
	if err := s.write(f, data); err != nil {
		return false, err
	}
	s.staged(kind, c)
	return true, nil
}

// last stages a file that publish moves behind all others: a commit or its
// detached metadata.
func (s *shelf) last(kind ObjectType, data []byte) error {
	if err := checkSize(kind, data); err != nil {
		return err
	}
	f, err := s.open(kind.String())
	if err != nil {
		return err
	}
	return s.write(f, data)
}

// write writes and closes a file with the mode of metadata and archive objects.
func (s *shelf) write(f *rawFile, data []byte) error {
	err := s.txn.take(int64(len(data)))
	if err == nil {
		_, err = f.Write(data)
	}
	return s.finish(f, err, 0o644)
}

// finish sets the mode, flushes and closes.
func (s *shelf) finish(f *rawFile, err error, mode uint32) error {
	if err == nil {
		err = pathError("chmod", f.name, retry(func() error { return unix.Fchmod(f.fd, mode) }))
	}
	if err == nil {
		err = s.txn.flush(f)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// publish flushes what was staged and moves it to objects/: content, dirtrees
// and dirmetas first, less what wanted says is not needed, then the rest, which
// names them, so that a killed process leaves no commit that lacks an object.
func (t *txn) publish(ctx context.Context, wanted func(ObjectType, *Checksum) bool, c *Checksum, last []ObjectType) error {
	if t.fsync {
		if err := retry(func() error { return unix.Syncfs(t.staging) }); err != nil {
			return pathError("syncfs", t.name, err)
		}
	}
	// Numbers of claims, by folder: there may be half a million.
	var moves [256][]uint32
	for i, m := range t.claims.all() {
		if m.shelf == 0 {
			continue
		}
		if wanted(m.kind, &m.sum) {
			moves[m.sum[0]] = append(moves[m.sum[0]], i)
			continue
		}
		from, _ := t.way(&m)
		if err := unix.Unlinkat(t.staging, from, 0); err != nil {
			return pathError("unlink", from, err)
		}
	}
	// Whole folders one after the other: the kernel lets one rename between folders happen
	// at a time in a file system, and others that wait for it only take processor time.
	workers := 1
	if t.filled || t.single {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range moves {
		if len(moves[i]) > 0 {
			group.Go(func() error { return t.moveAll(gctx, i, t.claims.those(moves[i])) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := t.fsyncDirs(func(i int) bool { return len(moves[i]) > 0 }); err != nil {
		return err
	}
	for _, kind := range last {
		path := t.repo.objectPath(kind, *c)
		if err := mkdirat(t.repo.objects, path[:2], 0o777); err != nil {
			return err
		}
		err := retry(func() error { return unix.Renameat(t.staging, kind.String(), t.repo.objects, path) })
		if err != nil {
			return pathError("rename to", "objects/"+path, err)
		}
	}
	return t.fsyncDirs(func(i int) bool { return i == int(c[0]) && len(last) > 0 })
}

// fsyncDirs makes the names in folders of objects/ durable.
func (t *txn) fsyncDirs(changed func(i int) bool) error {
	if !t.fsync {
		return nil
	}
	for i := range 256 {
		if changed(i) {
			if err := fsyncDir(t.repo.objects, fmt.Sprintf("%02x", i)); err != nil {
				return err
			}
		}
	}
	return pathError("fsync", "objects", retry(func() error { return unix.Fsync(t.repo.objects) }))
}

// move is an object to be moved to objects/, and 1 + number of the shelf that
// staged it.
type move struct {
	claimKey
	shelf uint8
}

// way gives the paths of an object in the staging folder and in objects/.
func (t *txn) way(m *move) (from, to string) {
	to = t.repo.objectPath(m.kind, m.sum)
	return t.stagingPath(int(m.shelf)-1, to), to
}

// moveAll moves the files of one two-digit folder, of which there are some.
func (t *txn) moveAll(ctx context.Context, first int, moves iter.Seq[move]) error {
	dir := fmt.Sprintf("%02x", first)
	if !t.filled && !t.single {
		err := retry(func() error { return unix.Renameat2(t.staging, dir, t.repo.objects, dir, unix.RENAME_NOREPLACE) })
		switch err {
		case nil:
			return nil
		case unix.EEXIST, unix.EINVAL, unix.ENOSYS: // is there, or can't be asked for
		default:
			return pathError("rename to", "objects/"+dir, err)
		}
	}
	if err := mkdirat(t.repo.objects, dir, 0o777); err != nil {
		return err
	}
	for m := range moves {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := t.way(&m)
		// A link and the removal of the other each take hold of one folder. Where there are
		// no hard links, or the object is to be replaced, it is a rename.
		err := unix.Linkat(t.staging, from, t.repo.objects, to, 0)
		if err == nil {
			if err := unix.Unlinkat(t.staging, from, 0); err != nil {
				return pathError("unlink", from, err)
			}
			continue
		}
		if err := retry(func() error { return unix.Renameat(t.staging, from, t.repo.objects, to) }); err != nil {
			return pathError("rename to", "objects/"+to, err)
		}
	}
	return nil
}

// end removes what is left and releases the locks. It may be called again.
func (t *txn) end() error {
	var err error
	if t.staging >= 0 {
		unix.Close(t.staging)
		t.staging = -1
	}
	if t.lock >= 0 {
		err = t.repo.removeStaging(t.name)
		unix.Close(t.lock)
		t.lock = -1
	}
	unlock(t.locked)
	t.locked = -1
	return err
}
