package ostree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/xxhash"
)

// DevInoCache remembers the checksums of files on this machine, so that a
// commit does not read those that did not change: same device, inode, size,
// times of last change of content and inode, owner, mode, attributes. The time of
// the inode's last change (ctime) can't be set by programs; a file system that
// forges it can make a commit hold old content, which is why the cache is for
// those who ask for it. The objects of the tree that the cache was last used for are
// taken to be there if a ref leads to that tree. It is safe for concurrent use.
type DevInoCache struct {
	path string

	// old are the records of the file, which do not change; needed says which
	// of them were.
	old    []byte
	needed []atomic.Bool

	// tree is the dirtree of a tree that has the objects of all records of age 1;
	// zero: not known.
	tree Checksum

	mu      sync.Mutex
	added   map[cacheKey]cacheValue
	since   int64    // files that changed later are not remembered
	commits int      // that used the cache
	latest  Checksum // what tree will be, if there was only one of them
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
	bare bool // the file has no attributes
}

// maxCacheAge is after how many saves without use a record is dropped.
const maxCacheAge = 8

// cacheMagic begins the file. The checksum of the dirtree of the latest tree follows,
// which has the objects of all records last needed one save ago, or zeros; then records
// of key, checksum and flags, sorted, and the check of all that. A key is dev, ino,
// ctime and state, integers big-endian; the flags are how many saves ago the record was
// last needed, at least 1, and a bit that says that there are no attributes. Objects that
// no regular file stands for have their type as ino of a device that does not exist, and
// half of their checksum as state. The end, XXH64 of all before it, is there to find damage:
// who can write the file can have any tree committed.
const cacheMagic = "okd-streams devino 4\n"

const (
	cacheHead   = len(cacheMagic) + ChecksumSize
	cacheInode  = 8 + 8 + 8 // what a key has of an inodeState
	cacheRecord = keySize + ChecksumSize + 1
	keySize     = cacheInode + 16
	bareBit     = 0x80
	cacheCheck  = 8
	noDevice    = math.MaxUint64
)

// maxCacheSize bounds the file: ten million files.
const maxCacheSize = 10_000_000 * cacheRecord

// OpenDevInoCache reads the cache in the file path. A file that is not there,
// or that is damaged, is an empty cache.
func OpenDevInoCache(path string) (*DevInoCache, error) {
	c := &DevInoCache{path: path, added: make(map[cacheKey]cacheValue)}
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

// decode takes the records of an undamaged file.
func (c *DevInoCache) decode(data []byte) {
	body, ok := bytes.CutPrefix(data, []byte(cacheMagic))
	if !ok || len(body) < ChecksumSize+cacheCheck || (len(body)-ChecksumSize-cacheCheck)%cacheRecord != 0 {
		return
	}
	end := len(data) - cacheCheck
	if binary.BigEndian.Uint64(data[end:]) != xxhash.Sum64(data[:end]) {
		return
	}
	records := body[ChecksumSize : len(body)-cacheCheck]
	for at := cacheRecord; at < len(records); at += cacheRecord {
		if bytes.Compare(records[at-cacheRecord:][:keySize], records[at:][:keySize]) >= 0 {
			return
		}
	}
	c.tree = Checksum(body[:ChecksumSize])
	c.old, c.needed = records, make([]atomic.Bool, len(records)/cacheRecord)
}

// find gives the place of the first record whose key is not below prefix.
func (c *DevInoCache) find(prefix []byte) int {
	return sort.Search(len(c.needed), func(i int) bool { return bytes.Compare(c.old[i*cacheRecord:][:len(prefix)], prefix) >= 0 })
}

// record is a record of the file, if there is one at that place.
func (c *DevInoCache) record(i int, prefix []byte) ([]byte, bool) {
	if i >= len(c.needed) {
		return nil, false
	}
	r := c.old[i*cacheRecord:][:cacheRecord]
	return r, bytes.HasPrefix(r, prefix)
}

func (k *cacheKey) append(b []byte) []byte { return append(k.inodeState.append(b), k.state[:]...) }

func (s *inodeState) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.dev)
	b = binary.BigEndian.AppendUint64(b, s.ino)
	return binary.BigEndian.AppendUint64(b, uint64(s.ctime))
}

// Save writes the cache to its file if it changed: whole or not at all. What
// the last eight saves did not need is dropped.
func (c *DevInoCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := make([][]byte, 0, len(c.added))
	for k, v := range c.added {
		record := append(k.append(make([]byte, 0, cacheRecord)), v.sum[:]...)
		flags := byte(1)
		if v.bare {
			flags |= bareBit
		}
		added = append(added, append(record, flags))
	}
	slices.SortFunc(added, bytes.Compare)
	data := append(make([]byte, 0, cacheHead+len(c.old)+len(added)*cacheRecord+cacheCheck), cacheMagic...)
	latest := c.latest
	if c.commits != 1 {
		latest = Checksum{}
	}
	data = append(data, latest[:]...)
	for i := range c.needed {
		record := c.old[i*cacheRecord:][:cacheRecord]
		for len(added) > 0 && bytes.Compare(added[0][:keySize], record[:keySize]) < 0 {
			data, added = append(data, added[0]...), added[1:]
		}
		flags, age := record[cacheRecord-1]&bareBit, record[cacheRecord-1]&^bareBit
		switch again := len(added) > 0 && bytes.Equal(added[0][:keySize], record[:keySize]); {
		case again:
			continue // the newer one comes next
		case c.needed[i].Load():
			age = 0
		case age >= maxCacheAge:
			continue
		}
		data = append(append(data, record[:cacheRecord-1]...), flags|(age+1))
	}
	data = append(data, bytes.Join(added, nil)...)
	// A file that is larger would not be read again.
	data = data[:min(len(data), cacheHead+(maxCacheSize/cacheRecord-1)*cacheRecord)]
	if latest == c.tree && bytes.Equal(data[cacheHead:], c.old) {
		return nil
	}
	if err := c.replace(binary.BigEndian.AppendUint64(data, xxhash.Sum64(data))); err != nil {
		return &Error{Op: "save cache", Target: c.path, Err: err}
	}
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
	c.commits++
	c.mu.Unlock()
}

// stored says that the records needed since start are of files of a tree, if all is true,
// or of files that are perhaps not in it.
func (c *DevInoCache) stored(tree Checksum, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = Checksum{}
	if all {
		c.latest = tree
	}
}

// newCacheKey makes the key of a regular file. header has owner, mode and
// attributes; what is behind it is overwritten.
func newCacheKey(e *Entry, header []byte) cacheKey {
	// In what room header has behind it.
	b := binary.BigEndian.AppendUint64(header, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Identity.MtimeNs))
	full := sha256.Sum256(b)
	k := cacheKey{inodeState: stateOf(&e.Identity)}
	copy(k.state[:], full[:])
	return k
}

func stateOf(id *FileID) inodeState { return inodeState{id.Dev, id.Ino, id.CtimeNs} }

// search gives what [Entry] keeps as cached, 0 of a file without record, and
// whether it is known to have no attributes: setting one would have changed the
// ctime, so they need not be asked for again.
func (c *DevInoCache) search(id FileID) (at int32, bare bool) {
	var buf [cacheInode]byte
	state := stateOf(&id)
	prefix := state.append(buf[:0])
	first := c.find(prefix)
	for i := first; ; i++ {
		record, ok := c.record(i, prefix)
		if !ok {
			return at, false
		}
		at = int32(first + 1)
		if record[cacheRecord-1]&bareBit != 0 {
			return at, true
		}
	}
}

// lookup finds a file. at is what search gave for it; 0: it has to be found. latest says
// that its object is one of c.tree.
func (c *DevInoCache) lookup(k *cacheKey, at int32) (object Checksum, latest, ok bool) {
	var buf [keySize]byte
	key := k.append(buf[:0])
	i := int(at) - 1
	if at == 0 {
		i = c.find(key)
	}
	for ; ; i++ {
		record, ok := c.record(i, key[:cacheInode])
		if !ok {
			break
		}
		if bytes.HasPrefix(record, key) {
			c.needed[i].Store(true)
			return Checksum(record[keySize:]), record[cacheRecord-1]&^bareBit == 1, true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.added[*k]
	return v.sum, false, ok
}

// Granularities of time stamps: of the kernel's clock, and of file systems that
// keep whole or every second second.
const (
	fineTime   = 20_000_000
	coarseTime = 2_000_000_000
)

// object reports whether an object that stands for no regular file, a dirtree or a symbolic
// link, is one of c.tree, and remembers that the latest tree has it.
func (c *DevInoCache) object(kind ObjectType, sum *Checksum) bool {
	k := cacheKey{inodeState: inodeState{dev: noDevice, ino: uint64(kind)}, state: [16]byte(sum[:])}
	var buf [keySize]byte
	key := k.append(buf[:0])
	i := c.find(key)
	if record, ok := c.record(i, key); ok && Checksum(record[keySize:]) == *sum {
		c.needed[i].Store(true)
		return record[cacheRecord-1]&^bareBit == 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added[k] = cacheValue{sum: *sum}
	return false
}

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
	c.added[*k] = cacheValue{sum: *sum, bare: e.bare}
}
