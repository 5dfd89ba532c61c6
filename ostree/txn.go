package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A transaction writes objects to tmp/staging-<boot id>-XXXXXX, whose lock
// tmp/staging-<boot id>-XXXXXX-lock says that it is in use, as libostree does.
// In it, each worker has a folder okd-<number> of its own, so that workers don't
// wait for each other's directory, and names files by number. Nothing there has
// the two-digit folders of libostree's staging, so that an `ostree` that takes
// over an abandoned one finds nothing to resume and removes it. publish moves
// the files to objects/.
type txn struct {
	repo    *Repo
	fsync   bool
	locked  int    // the repository's lock
	name    string // of the staging folder, below tmp/
	staging int
	lock    int   // the staging folder's lock
	started int64 // the kernel's time at the start, nanoseconds
	shelves []*shelf

	mu     sync.Mutex
	claims map[claimKey]claim

	limited bool
	free    atomic.Int64 // bytes that may still be written, if limited
}

// shelf is one worker's folder. Only that worker uses it before publish.
type shelf struct {
	txn    *txn
	number int
	dir    int
	count  int
	path   []byte
	made   [256]bool // which objects/xx this shelf made or saw
}

type claimKey struct {
	kind ObjectType
	sum  Checksum
}

// claim says where an object is: on disk already, or in a shelf.
type claim struct {
	shelf  int32 // -1: in the repository
	number int32
}

// stagingPrefix begins the names of staging folders.
const stagingPrefix = "staging-"

// shelfPrefix begins the folders in our staging folders. Never two characters.
const shelfPrefix = "okd-"

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
	t := &txn{repo: r, fsync: r.settings.fsync && !noFsync, locked: -1, staging: -1, lock: -1, claims: make(map[claimKey]claim)}
	defer func() {
		if err != nil {
			t.end()
		}
	}()
	if t.locked, err = r.lockShared(ctx); err != nil {
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
		name := shelfPrefix + strconv.Itoa(i)
		if err := mkdirat(t.staging, name, 0o700); err != nil {
			return nil, err
		}
		dir, err := openDir(t.staging, name)
		if err != nil {
			return nil, err
		}
		t.shelves = append(t.shelves, &shelf{txn: t, number: i, dir: dir})
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
		err := unix.Mkdirat(t.repo.dir, "tmp/"+name, 0o775)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return pathError("mkdir", "tmp/"+name, err)
		}
		lock, ok, err := t.repo.lockStaging(name, true)
		if err != nil {
			return err
		}
		if !ok {
			continue // another took it for abandoned before it was locked
		}
		t.lock, t.name = lock, name
		t.staging, err = openDir(t.repo.dir, "tmp/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			// Another took it and removed it again. Its lock is ours to remove.
			t.staging = -1
			unix.Unlinkat(t.repo.dir, "tmp/"+name+"-lock", 0)
			unix.Close(lock)
			t.lock, t.name = -1, ""
			continue
		}
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

// lockStaging locks a staging folder; false: another process has it.
func (r *Repo) lockStaging(name string, create bool) (int, bool, error) {
	flags := unix.O_RDWR | unix.O_NOFOLLOW
	if create {
		flags |= unix.O_CREAT
	}
	fd, err := openat(r.dir, "tmp/"+name+"-lock", flags, 0o600)
	if err != nil {
		return -1, false, err
	}
	ok, err := tryLock(fd, unix.F_WRLCK)
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
		if !strings.HasPrefix(name, stagingPrefix) || !e.IsDir() {
			continue
		}
		if inside, err := readNames(r.dir, "tmp/"+name); err != nil || len(inside) > 0 && !strings.HasPrefix(inside[0].Name(), shelfPrefix) {
			continue // gone by now, or not ours
		}
		lock, ok, err := r.lockStaging(name, true)
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
func (t *txn) claim(kind ObjectType, c *Checksum, path string) (bool, error) {
	key := claimKey{kind, *c}
	t.mu.Lock()
	_, ok := t.claims[key]
	if !ok {
		t.claims[key] = claim{shelf: -1}
	}
	t.mu.Unlock()
	if ok {
		return false, nil
	}
	there, err := t.repo.hasPath(path)
	return !there, err
}

// placed says where a claimed object was written.
func (t *txn) placed(kind ObjectType, c *Checksum, s *shelf, number int) {
	t.mu.Lock()
	t.claims[claimKey{kind, *c}] = claim{int32(s.number), int32(number)}
	t.mu.Unlock()
}

// create makes the shelf's next file.
func (s *shelf) create() (*rawFile, int, error) {
	s.count++
	name := strconv.Itoa(s.count)
	fd, err := openat(s.dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, 0, err
	}
	return &rawFile{fd, name}, s.count, nil
}

// drop removes a file that turned out not to be needed.
func (s *shelf) drop(number int) error {
	return pathError("unlink", strconv.Itoa(number), unix.Unlinkat(s.dir, strconv.Itoa(number), 0))
}

// flush makes one object durable if the repository asks for it.
func (t *txn) flush(f *rawFile) error {
	if !t.fsync || !t.repo.settings.perObjectFsync {
		return nil
	}
	return pathError("fdatasync", f.name, retry(func() error { return unix.Fdatasync(f.fd) }))
}

// metadata writes a metadata object, unless it is there, and gives its
// checksum. Only the one goroutine that owns s calls it.
func (s *shelf) metadata(kind ObjectType, data []byte) (Checksum, bool, error) {
	c := sum(data)
	if len(data) > MaxMetadataSize {
		return c, false, fmt.Errorf("%s of %d bytes, at most %d", kind, len(data), MaxMetadataSize)
	}
	s.path = appendObjectPath(s.path[:0], &c, kind.String())
	write, err := s.txn.claim(kind, &c, string(s.path))
	if err != nil || !write {
		return c, false, err
	}
	number, err := s.write(data)
	if err != nil {
		return c, false, err
	}
	s.txn.placed(kind, &c, s, number)
	return c, true, nil
}

// write writes a file with the mode of metadata and archive objects.
func (s *shelf) write(data []byte) (int, error) {
	if err := s.txn.take(int64(len(data))); err != nil {
		return 0, err
	}
	f, number, err := s.create()
	if err != nil {
		return 0, err
	}
	_, err = f.Write(data)
	return number, s.finish(f, err, 0o644)
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

// move is one rename from a shelf to objects/.
type move struct {
	number int32
	sum    Checksum
}

// publish flushes what was staged and moves what wanted says to objects/, in
// the order of kinds: what is named comes before what names it, so that a
// killed process leaves no object that lacks another.
func (t *txn) publish(ctx context.Context, wanted func(ObjectType, *Checksum) bool, kinds []ObjectType) error {
	if t.fsync {
		if err := retry(func() error { return unix.Syncfs(t.staging) }); err != nil {
			return pathError("syncfs", t.name, err)
		}
	}
	lists := make(map[ObjectType][][]move, len(kinds))
	for _, kind := range kinds {
		lists[kind] = make([][]move, len(t.shelves))
	}
	for key, c := range t.claims {
		if list, ok := lists[key.kind]; ok && c.shelf >= 0 && wanted(key.kind, &key.sum) {
			list[c.shelf] = append(list[c.shelf], move{c.number, key.sum})
		}
	}
	for _, kind := range kinds {
		group, gctx := errgroup.WithContext(ctx)
		for i, s := range t.shelves {
			list := lists[kind][i]
			if len(list) == 0 {
				continue
			}
			group.Go(func() error {
				for j := range list {
					if j%256 == 0 && gctx.Err() != nil {
						return gctx.Err()
					}
					if err := s.moveTo(kind, &list[j]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	if !t.fsync {
		return nil
	}
	for i := range 256 {
		for _, s := range t.shelves {
			if s.made[i] {
				if err := fsyncDir(t.repo.objects, fmt.Sprintf("%02x", i)); err != nil {
					return err
				}
				break
			}
		}
	}
	return pathError("fsync", "objects", retry(func() error { return unix.Fsync(t.repo.objects) }))
}

// moveTo renames one file to its place.
func (s *shelf) moveTo(kind ObjectType, m *move) error {
	s.path = appendObjectPath(s.path[:0], &m.sum, s.txn.repo.ext(kind))
	if first := m.sum[0]; !s.made[first] {
		if err := mkdirat(s.txn.repo.objects, string(s.path[:2]), 0o777); err != nil {
			return err
		}
		s.made[first] = true
	}
	path := string(s.path)
	return pathError("rename to", "objects/"+path, retry(func() error {
		return unix.Renameat(s.dir, strconv.Itoa(int(m.number)), s.txn.repo.objects, path)
	}))
}

// end removes what is left and releases the locks. It may be called again.
func (t *txn) end() error {
	for _, s := range t.shelves {
		unix.Close(s.dir)
	}
	t.shelves = nil
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
