package container

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
)

// Cache keeps compressed layers by what they are made from, so that a layer
// whose content did not change is neither read nor compressed again. It is safe
// for concurrent use, by several processes too, and may be removed or lose any
// file at any time: what is missing or damaged is made again.
//
// The folder holds blobs/sha256/HEX, the layers; layers/KEY, what each key
// gave; tars/KEY, diff IDs alone; values/NAME, small derived facts; tmp, which
// is emptied when nobody else has the cache open; and lock.
type Cache struct {
	dir  string
	lock *os.File
	boot string

	mu   sync.Mutex
	used map[string]bool // files under layers and blobs that this value gave out
	busy sync.RWMutex    // held for reading while a file in tmp is being written
	last *snapshot       // that Components read and Encapsulate will ask for
}

// CacheOptions are for [OpenCache]. There are none yet.
type CacheOptions struct{}

// OpenCache opens the layer cache in dir, and makes it if need be. Close it
// when the images made with it are no longer read.
func OpenCache(ctx context.Context, dir string, opts *CacheOptions) (*Cache, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Cache{dir: dir, used: map[string]bool{}}
	for _, sub := range []string{"blobs/sha256", "layers", "tars", "values", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return nil, &Error{"cache", dir, err}
		}
	}
	// A blob written before the machine went down may be on disk in part, with
	// its right size. Rather than flush each, one of an earlier boot is hashed
	// before it is used for the first time.
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		c.boot = strings.TrimSpace(string(id))
	}
	var err error
	if c.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, &Error{"cache", dir, err}
	}
	// Whoever gets the lock alone knows that files in tmp are left over.
	if flock(c.lock, unix.LOCK_EX|unix.LOCK_NB) == nil {
		err = c.sweep()
	}
	if err == nil {
		err = flock(c.lock, unix.LOCK_SH)
	}
	if err != nil {
		c.lock.Close()
		return nil, &Error{"cache", dir, err}
	}
	return c, nil
}

// Close lets another process prune the cache. Images made with it can no
// longer be relied on. Closing again does nothing.
func (c *Cache) Close() error {
	c.keepSnapshot(nil)
	if err := c.lock.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// keepSnapshot keeps a commit's tree in memory for takeSnapshot: reading it is
// most of the work of a day on which little changed.
func (c *Cache) keepSnapshot(s *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = s
}

// takeSnapshot gives the kept tree if it is that of this commit, and keeps it
// no longer.
func (c *Cache) takeSnapshot(repo *ostree.Repo, commit ostree.Checksum) *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.last
	if s == nil || s.repo != repo || s.commit != commit {
		return nil
	}
	c.last = nil
	return s
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sweep removes what killed processes left in tmp.
func (c *Cache) sweep() error {
	tmp := filepath.Join(c.dir, "tmp")
	list, err := os.ReadDir(tmp)
	for _, e := range list {
		err = cmp.Or(err, os.RemoveAll(filepath.Join(tmp, e.Name())))
	}
	return err
}

// cacheKey names what a layer is made from.
type cacheKey [sha256.Size]byte

func (k cacheKey) String() string { return hexString(k[:]) }

func hexString(b []byte) string { return hex.EncodeToString(b) }

// with derives the key of this content in an encoding.
func (k cacheKey) with(e encoding) cacheKey {
	return sha256.Sum256(append(k[:len(k):len(k)], e.String()...))
}

// layerRecord is what layers/KEY holds.
type layerRecord struct {
	DiffID  v1.Hash `json:"diffID"`
	Digest  v1.Hash `json:"digest"`
	Size    int64   `json:"size"`    // of the blob, in bytes
	TarSize int64   `json:"tarSize"` // of the tar stream, in bytes
	// What the blob's file was like when its digest was last seen to be right,
	// and the boot that was in. While they hold, its bytes are not read again.
	Mtime int64  `json:"mtime"` // nanoseconds since 1970
	Inode uint64 `json:"inode"`
	Boot  string `json:"boot,omitempty"`
}

// lookup finds the blob of a key. A record or blob that is missing or damaged
// is not found; it is removed, so that it is made again.
func (c *Cache) lookup(ctx context.Context, key cacheKey) (layerRecord, bool, error) {
	name := filepath.Join("layers", key.String())
	var r layerRecord
	if !c.readRecord(name, &r) || checkHash(r.DiffID) != nil || checkHash(r.Digest) != nil {
		return r, false, nil
	}
	stat, err := os.Lstat(c.blobPath(r.Digest))
	if err != nil || !stat.Mode().IsRegular() || stat.Size() != r.Size {
		return r, false, nil
	}
	if mtime, inode := fileTimes(stat); mtime != r.Mtime || inode != r.Inode || r.Boot != c.boot {
		if err := c.rehash(ctx, r); err != nil {
			if ctx.Err() != nil {
				return r, false, context.Cause(ctx)
			}
			return r, false, nil
		}
		r.Mtime, r.Inode, r.Boot = mtime, inode, c.boot
		if err := c.writeRecord(name, &r); err != nil {
			return r, false, err
		}
	}
	c.use(name, r.Digest)
	return r, true, nil
}

// use marks files as given out and as recently used, by the kernel's clock.
func (c *Cache) use(record string, digest v1.Hash) {
	c.mu.Lock()
	c.used[record] = true
	c.used[c.blobName(digest)] = true
	c.mu.Unlock()
	// Only Prune's choice depends on it, so a failure doesn't matter.
	_ = unix.Utimes(filepath.Join(c.dir, record), nil)
}

// rehash reads a whole blob.
func (c *Cache) rehash(ctx context.Context, r layerRecord) error {
	f, err := c.openBlob(r)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, contextReader{ctx, f})
	return err
}

// openBlob opens a blob; reading it to the end checks size and digest. A blob
// that is found damaged is removed.
func (c *Cache) openBlob(r layerRecord) (io.ReadCloser, error) {
	f, err := os.OpenFile(c.blobPath(r.Digest), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &Error{"cache", r.Digest.String(), err}
	}
	checked, err := verify.NewReader(f, r.Digest, r.Size)
	if err != nil {
		f.Close()
		return nil, &Error{"cache", r.Digest.String(), err}
	}
	return &blobReader{checked, f, c, r.Digest}, nil
}

type blobReader struct {
	checked *verify.Reader
	file    *os.File
	cache   *Cache
	digest  v1.Hash
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.checked.Read(p)
	if err != nil && err != io.EOF {
		if errors.Is(err, verify.ErrDigest) {
			b.remove()
		}
		err = &Error{"cache", b.digest.String(), err}
	}
	return n, err
}

func (b *blobReader) Close() error { return b.file.Close() }

// Relax leaves the check to whoever reads and checks the same; see
// [verify.Relaxer].
func (b *blobReader) Relax(want v1.Hash, size int64) bool { return b.checked.Relax(want, size) }

// Damaged hears of what that check found: see [verify.NewReader].
func (b *blobReader) Damaged() { b.remove() }

// remove removes a damaged blob. A record without one is not found, so the
// layer is made again.
func (b *blobReader) remove() { _ = os.Remove(b.cache.blobPath(b.digest)) }

// File is the blob's file, which nobody may change: it stands where the reader
// does. Who stores the blob on the same file system may link it (and verify it
// as what it is).
func (b *blobReader) File() *os.File { return b.file }

func (c *Cache) blobName(digest v1.Hash) string {
	return filepath.Join("blobs", digest.Algorithm, digest.Hex)
}

func (c *Cache) blobPath(digest v1.Hash) string { return filepath.Join(c.dir, c.blobName(digest)) }

// create gives a file in tmp. Exactly one of keep and drop must follow.
func (c *Cache) create() (*pendingBlob, error) {
	c.busy.RLock()
	f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), "")
	if err != nil {
		c.busy.RUnlock()
		return nil, &Error{"cache", c.dir, err}
	}
	return &pendingBlob{cache: c, File: f}, nil
}

type pendingBlob struct {
	*os.File
	cache *Cache
}

func (p *pendingBlob) drop() {
	p.File.Close()
	os.Remove(p.Name())
	p.cache.busy.RUnlock()
}

// keep moves the blob to its place and records it under key.
func (p *pendingBlob) keep(key cacheKey, b blob) (layerRecord, error) {
	c := p.cache
	r := layerRecord{DiffID: b.diffID, Digest: b.digest, Size: b.size, TarSize: b.tarSize, Boot: c.boot}
	err := os.Chmod(p.Name(), 0o444)
	var stat fs.FileInfo
	if err == nil {
		stat, err = p.Stat()
	}
	if err == nil {
		r.Mtime, r.Inode = fileTimes(stat)
		err = os.Rename(p.Name(), c.blobPath(b.digest))
	}
	err = cmp.Or(err, p.Close())
	if err != nil {
		os.Remove(p.Name())
		c.busy.RUnlock()
		return r, &Error{"cache", b.digest.String(), err}
	}
	c.busy.RUnlock()
	name := filepath.Join("layers", key.String())
	if err := c.writeRecord(name, &r); err != nil {
		return r, err
	}
	c.use(name, r.Digest)
	return r, nil
}

func fileTimes(stat fs.FileInfo) (mtime int64, inode uint64) {
	if s, ok := unix.InfoOf(stat); ok {
		inode = s.Ino
	}
	return stat.ModTime().UnixNano(), inode
}

// maxRecord is the longest file under layers, tars and values that is read, in
// bytes: room for the sizes of some five million objects.
const maxRecord = 256 << 20

// readRecord reads a file that writeRecord wrote; false if it is missing or
// damaged.
func (c *Cache) readRecord(name string, v any) bool {
	data, ok := c.readValue(name)
	return ok && json.Unmarshal(data, v) == nil
}

func (c *Cache) writeRecord(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return &Error{"cache", name, err}
	}
	return c.writeValue(name, data)
}

// readValue reads a file that writeValue wrote: the SHA-256 of what follows, in
// hexadecimal, a newline, the bytes.
func (c *Cache) readValue(name string) ([]byte, bool) {
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil || stat.Size() > maxRecord {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, false
	}
	want, data, ok := bytes.Cut(data, []byte{'\n'})
	got := sha256.Sum256(data)
	return data, ok && string(want) == hexString(got[:])
}

func (c *Cache) writeValue(name string, data []byte) error {
	p, err := c.create()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	_, err = p.Write(append([]byte(hexString(sum[:])), '\n'))
	if err == nil {
		_, err = p.Write(data)
	}
	err = cmp.Or(err, p.Close())
	if err == nil {
		err = os.Rename(p.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		p.drop()
		return &Error{"cache", name, err}
	}
	c.busy.RUnlock()
	return nil
}

// Prune removes the layers that were not used for longest until the blobs that
// are left have at most limit bytes together, and gives how many bytes went.
// Those that this Cache has made or found since it was opened stay, so what is
// left can be more. While another process has the cache open, nothing is
// removed.
func (c *Cache) Prune(ctx context.Context, limit int64) (removed int64, err error) {
	// No file of ours may be in tmp when others get to sweep it, which they can
	// while the lock is being changed.
	c.busy.Lock()
	defer c.busy.Unlock()
	if err := flock(c.lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return 0, flock(c.lock, unix.LOCK_SH)
		}
		return 0, &Error{"prune", c.dir, err}
	}
	defer func() { err = cmp.Or(err, flock(c.lock, unix.LOCK_SH)) }()

	c.mu.Lock()
	used := maps.Clone(c.used)
	c.mu.Unlock()

	type candidate struct {
		name string
		blob string
		size int64
		last int64
	}
	var list []candidate
	live := map[string]int{} // records by blob
	records, err := os.ReadDir(filepath.Join(c.dir, "layers"))
	if err != nil {
		return 0, &Error{"prune", c.dir, err}
	}
	for _, e := range records {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		name := filepath.Join("layers", e.Name())
		var r layerRecord
		stat, err := e.Info()
		if err != nil || !c.readRecord(name, &r) || checkHash(r.Digest) != nil {
			_ = os.Remove(filepath.Join(c.dir, name))
			continue
		}
		list = append(list, candidate{name, c.blobName(r.Digest), r.Size, stat.ModTime().UnixNano()})
		live[c.blobName(r.Digest)]++
	}
	// Blobs without a record are of no use to anyone.
	var total int64
	blobs, err := os.ReadDir(filepath.Join(c.dir, "blobs", "sha256"))
	if err != nil {
		return 0, &Error{"prune", c.dir, err}
	}
	remove := func(name string, size int64) error {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &Error{"prune", name, err}
		}
		removed += size
		return nil
	}
	for _, e := range blobs {
		name := filepath.Join("blobs", "sha256", e.Name())
		stat, err := e.Info()
		if err != nil {
			continue
		}
		if live[name] == 0 && !used[name] {
			if err := remove(name, stat.Size()); err != nil {
				return removed, err
			}
			continue
		}
		total += stat.Size()
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.last, b.last), strings.Compare(a.name, b.name))
	})
	for _, e := range list {
		if total <= limit {
			break
		}
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		if used[e.name] || used[e.blob] {
			continue
		}
		if err := remove(e.name, 0); err != nil {
			return removed, err
		}
		if live[e.blob]--; live[e.blob] == 0 {
			if err := remove(e.blob, e.size); err != nil {
				return removed, err
			}
			total -= e.size
		}
	}
	return removed, nil
}

func checkHash(h v1.Hash) error {
	if h.Algorithm != "sha256" {
		return fmt.Errorf("digest %q: %w", h.String(), errors.ErrUnsupported)
	}
	_, err := ostree.ParseChecksum(h.Hex)
	return err
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
