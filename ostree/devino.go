package ostree

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// DevInoCache remembers the checksums of files on this machine, so that a
// commit does not read those that did not change: same device, inode, size,
// times of last change of content and inode, owner, mode, attributes. The time of
// the inode's last change (ctime) can't be set by programs; a file system that
// forges it can make a commit hold old content, which is why the cache is for
// those who ask for it. It is safe for concurrent use.
type DevInoCache struct {
	path string

	// bare are the inodes of the cache's file that have no attributes; it does
	// not change.
	bare map[inodeState]struct{}

	mu      sync.Mutex
	entries map[cacheKey]cacheValue
	since   int64 // files that changed later are not remembered
	dirty   bool
}

// inodeState is an inode as it was until something of it changed: content,
// owner, mode or attributes.
type inodeState struct {
	dev, ino uint64
	ctime    int64 // nanoseconds
}

// cacheKey is a file and, as a hash, everything that changes its checksum.
type cacheKey struct {
	inodeState
	state [16]byte
}

type cacheValue struct {
	sum  Checksum
	bare bool  // the file has no attributes
	age  uint8 // how many saves ago it was last used
}

// maxCacheAge is after how many saves without use an entry is dropped.
const maxCacheAge = 8

// cacheMagic begins the file, which has records of dev, ino, ctime, state,
// checksum and age, sorted, integers big-endian, and ends with the SHA-256 of all
// that. A bit beside the age says that there are no attributes.
const cacheMagic = "okd-streams devino 2\n"

const (
	cacheRecord = 8 + 8 + 8 + 16 + ChecksumSize + 1
	bareBit     = 0x80
)

// maxCacheSize bounds the file: ten million files.
const maxCacheSize = 10_000_000 * cacheRecord

// OpenDevInoCache reads the cache in the file path. A file that is not there,
// or that is damaged, is an empty cache.
func OpenDevInoCache(path string) (*DevInoCache, error) {
	c := &DevInoCache{path: path, bare: make(map[inodeState]struct{}), entries: make(map[cacheKey]cacheValue)}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, &Error{Op: "open cache", Target: path, Err: err}
	}
	if !st.Mode().IsRegular() {
		return nil, &Error{Op: "open cache", Target: path, Err: errors.New("not a regular file")}
	}
	if st.Size() > maxCacheSize {
		return c, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{Op: "open cache", Target: path, Err: err}
	}
	c.decode(data)
	return c, nil
}

// decode fills in the entries of an undamaged file.
func (c *DevInoCache) decode(data []byte) {
	body, ok := bytes.CutPrefix(data, []byte(cacheMagic))
	if !ok || len(body) < sha256.Size || (len(body)-sha256.Size)%cacheRecord != 0 {
		return
	}
	end := len(data) - sha256.Size
	if Checksum(data[end:]) != sum(data[:end]) {
		return
	}
	for body = body[:len(body)-sha256.Size]; len(body) > 0; body = body[cacheRecord:] {
		k := cacheKey{
			inodeState{binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:]), int64(binary.BigEndian.Uint64(body[16:]))},
			[16]byte(body[24:]),
		}
		v := cacheValue{Checksum(body[40:]), body[72]&bareBit != 0, body[72] &^ bareBit}
		c.entries[k] = v
		if v.bare {
			c.bare[k.inodeState] = struct{}{}
		}
	}
}

// Save writes the cache to its file if it changed: whole or not at all. What
// the last eight saves did not need is dropped.
func (c *DevInoCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	keys := make([]cacheKey, 0, len(c.entries))
	for k, v := range c.entries {
		if v.age < maxCacheAge && len(keys) < maxCacheSize/cacheRecord-1 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b cacheKey) int {
		return cmp.Or(cmp.Compare(a.dev, b.dev), cmp.Compare(a.ino, b.ino), cmp.Compare(a.ctime, b.ctime), bytes.Compare(a.state[:], b.state[:]))
	})
	data := append(make([]byte, 0, len(cacheMagic)+len(keys)*cacheRecord+sha256.Size), cacheMagic...)
	for _, k := range keys {
		v := c.entries[k]
		data = binary.BigEndian.AppendUint64(data, k.dev)
		data = binary.BigEndian.AppendUint64(data, k.ino)
		data = binary.BigEndian.AppendUint64(data, uint64(k.ctime))
		data = append(data, k.state[:]...)
		data = append(data, v.sum[:]...)
		flags := v.age + 1
		if v.bare {
			flags |= bareBit
		}
		data = append(data, flags)
	}
	check := sum(data)
	if err := c.replace(append(data, check[:]...)); err != nil {
		return &Error{Op: "save cache", Target: c.path, Err: err}
	}
	c.dirty = false
	return nil
}

func (c *DevInoCache) replace(data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		return fmt.Errorf("%w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// start begins a commit whose first file is read after now, nanoseconds by the
// kernel's clock.
func (c *DevInoCache) start(now int64) {
	c.mu.Lock()
	c.since = now
	c.mu.Unlock()
}

// newCacheKey makes the key of a regular file. header has owner, mode and
// attributes.
func newCacheKey(e *Entry, header []byte) cacheKey {
	h := sha256.New()
	h.Write(header)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.Size))
	binary.BigEndian.PutUint64(b[8:], uint64(e.Identity.MtimeNs))
	h.Write(b[:])
	k := cacheKey{inodeState: stateOf(&e.Identity)}
	var full [sha256.Size]byte
	copy(k.state[:], h.Sum(full[:0]))
	return k
}

func stateOf(id *FileID) inodeState { return inodeState{id.Dev, id.Ino, id.CtimeNs} }

// isBare reports whether a file is known to have no attributes.
func (c *DevInoCache) isBare(id *FileID) bool {
	_, ok := c.bare[stateOf(id)]
	return ok
}

func (c *DevInoCache) lookup(k *cacheKey) (Checksum, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.entries[*k]
	if ok && v.age > 0 {
		v.age = 0
		c.entries[*k] = v
		c.dirty = true
	}
	return v.sum, ok
}

// Granularities of time stamps: of the kernel's clock, and of file systems that
// keep whole or every second second.
const (
	fineTime   = 20_000_000
	coarseTime = 2_000_000_000
)

// add remembers a file unless it changed so shortly before it was read that it
// could have changed again with the same time stamp.
func (c *DevInoCache) add(k *cacheKey, e *Entry, sum *Checksum) {
	changed := max(e.Identity.MtimeNs, e.Identity.CtimeNs)
	granularity := int64(fineTime)
	if changed%1_000_000_000 == 0 {
		granularity = coarseTime
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if changed > c.since-granularity {
		return
	}
	c.entries[*k] = cacheValue{sum: *sum, bare: e.bare}
	c.dirty = true
}
