package ostree

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/unix"
)

// DevInoCache remembers folders on this machine, what is in them and the checksums of
// it, so that a commit neither reads files that did not change nor lists folders that
// did not: same device, inode, size, times of last change of content and inode, owner
// and mode. The time of the inode's last change (ctime) can't be set by programs, and
// a change of attributes sets it; a file system that forges it can make a commit hold
// old content, which is why the cache is for those who ask for it. The objects of the
// tree that the cache was last used for are taken to be there if a ref leads to that
// tree. It is for one user: that of another is empty. It is safe for concurrent use.
type DevInoCache struct {
	path string

	// old are the folders of the file, in the order of their keys, which do not change;
	// needed says which of them were.
	old    []cachedDir
	needed []atomic.Bool

	// tree is the dirtree of a tree that has all objects of the folders of age 1, and of
	// trees, sorted checksums of dirtrees; zero: not known.
	tree  Checksum
	trees string

	mu      sync.Mutex
	fresh   map[dirKey]cachedDir
	commits int      // that used the cache
	latest  Checksum // what tree will be, if there was only one of them
	staged  []Checksum
}

// dirKey is a folder as it was committed in one way: two that change owners, say,
// differently do not disturb each other.
type dirKey struct {
	dev, ino uint64
	variant  uint32
}

// Variants of commits: others are hashes of what they change.
const (
	asItIs     uint32 = iota // each object has what the inode has; see prune.asIs
	rearranged               // the same, but what gives the entries may have changed them
)

func (k dirKey) compare(o dirKey) int {
	return cmp.Or(cmp.Compare(k.dev, o.dev), cmp.Compare(k.ino, o.ino), cmp.Compare(k.variant, o.variant))
}

// cachedDir is what is remembered of a folder.
type cachedDir struct {
	key     dirKey
	ctime   int64  // nanoseconds; 0: the folder may have changed since without a trace
	age     byte   // how many saves ago it was last needed, at least 1; 0: it is of this run
	tree    string // the checksum of its dirtree; zeros: not known
	entries string // see cacheEntry
}

// cacheMagic begins the file. What follows, integers big-endian: the user's number; the
// checksum of the dirtree of the latest tree, which has the objects of all folders last
// needed one save ago, or zeros; the numbers of that tree's dirtrees that are of no folder
// alone, and of the folders; the checksums of these dirtrees, sorted; the folders (device,
// inode, variant, ctime, age, dirtree, length of the entries, entries), sorted; a CRC-32C
// of all that. It is there to find damage: who can write the file can have any tree
// committed.
const cacheMagic = "okd-streams devino 5\n"

const (
	cacheHead    = len(cacheMagic) + 4 + ChecksumSize + 4 + 4
	cacheDirHead = 8 + 8 + 4 + 8 + 1 + ChecksumSize + 4
	cacheCheck   = 4
	cacheBuffer  = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cacheEntry is a name in a folder, as it is in the file: flags, the name's length and the
// name; with hasState the state of the inode; with hasSum, too, the checksum, and unless it
// is of what the inode has a hash of what else it is of. Names are sorted; none is missing
// if ctime says so.
type cacheEntry struct {
	flags byte
	name  string
	inode string // an inodeState
	sum   string
	rest  string // half of a SHA-256 checksum
}

// Flags of a cacheEntry.
const (
	hasState = 1 << iota
	hasSum
	hasRest
	noXattrs // the file has no attributes
)

const (
	cacheNameHead = 2
	maxCacheName  = 255 // as Linux and most file systems have it
	restSize      = 16
)

// inodeState is an inode as it was until something of it changed: number, ctime, and a
// CRC-32C of mtime, size, mode and owner, which change with ctime or, where users are
// numbered otherwise, without it.
type inodeState [8 + 8 + 4]byte

func stateOf(st *unix.Stat_t) (s inodeState) {
	var more [8 + 8 + 4 + 4 + 4]byte
	binary.BigEndian.PutUint64(more[0:], uint64(st.Mtim.Nano()))
	binary.BigEndian.PutUint64(more[8:], uint64(st.Size))
	binary.BigEndian.PutUint32(more[16:], st.Mode)
	binary.BigEndian.PutUint32(more[20:], st.Uid)
	binary.BigEndian.PutUint32(more[24:], st.Gid)
	binary.BigEndian.PutUint64(s[0:], st.Ino)
	binary.BigEndian.PutUint64(s[8:], uint64(st.Ctim.Nano()))
	binary.BigEndian.PutUint32(s[16:], crc32.Checksum(more[:], castagnoli))
	return s
}

// maxCacheSize bounds the file: ten million files with names of 24 bytes.
const maxCacheSize = 10_000_000 * (cacheNameHead + 24 + len(inodeState{}) + restSize + ChecksumSize)

// entryAt gives the entry that begins at a place, and where the next does.
func entryAt(entries string, at uint32) (e cacheEntry, next uint32) {
	s := entries[at:]
	e.flags = s[0]
	n := cacheNameHead + int(s[1])
	e.name = s[cacheNameHead:n]
	if e.flags&hasState != 0 {
		e.inode, n = s[n:n+len(inodeState{})], n+len(inodeState{})
	}
	if e.flags&hasSum != 0 {
		e.sum, n = s[n:n+ChecksumSize], n+ChecksumSize
	}
	if e.flags&hasRest != 0 {
		e.rest, n = s[n:n+restSize], n+restSize
	}
	return e, at + uint32(n)
}

// check reports whether entryAt can be asked of all entries. It is called when they are
// needed, by whoever needs them.
func (d *cachedDir) check() bool {
	last := ""
	for entries := d.entries; len(entries) > 0; {
		if len(entries) < cacheNameHead {
			return false
		}
		flags, n := entries[0], cacheNameHead+int(entries[1])
		size := n
		if flags&hasState != 0 {
			size += len(inodeState{})
		}
		if flags&hasSum != 0 {
			size += ChecksumSize
		}
		if flags&hasRest != 0 {
			size += restSize
		}
		if size > len(entries) {
			return false
		}
		name := entries[cacheNameHead:n]
		if name <= last {
			return false
		}
		last, entries = name, entries[size:]
	}
	return true
}

// OpenDevInoCache reads the cache in the file path. A file that is not there,
// or that is damaged, is an empty cache.
func OpenDevInoCache(path string) (*DevInoCache, error) {
	c := &DevInoCache{path: path, fresh: make(map[dirKey]cachedDir)}
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
	if st.Size() > int64(maxCacheSize) {
		return c, nil
	}
	f, err := os.Open(path)
	if err == nil {
		err = c.read(f, int(st.Size()))
		f.Close()
	}
	if err != nil {
		return nil, &Error{Op: "open cache", Target: path, Err: err}
	}
	return c, nil
}

// read reads a file of that size, and takes what is in it if it is undamaged.
func (c *DevInoCache) read(r io.Reader, size int) error {
	var text strings.Builder
	text.Grow(size)
	buf, sum := make([]byte, min(size, cacheBuffer)), uint32(0)
	for left := size - cacheCheck; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, len(buf))])
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		text.Write(buf[:n])
		left -= n
	}
	var check [cacheCheck]byte
	if _, err := io.ReadFull(r, check[:min(size, cacheCheck)]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(check[:]) == sum {
		c.decode(text.String())
	}
	return nil
}

// decode takes the folders of a file without its check.
func (c *DevInoCache) decode(text string) {
	head, ok := strings.CutPrefix(text, cacheMagic)
	if !ok || len(text) < cacheHead || bigEndian32(head) != uint32(os.Geteuid()) {
		return
	}
	tree, head := Checksum([]byte(head[4:4+ChecksumSize])), head[4+ChecksumSize:]
	trees, dirs := int64(bigEndian32(head))*ChecksumSize, int64(bigEndian32(head[4:]))
	text = text[cacheHead:]
	if trees > int64(len(text)) || dirs > (int64(len(text))-trees)/cacheDirHead {
		return
	}
	all := make([]cachedDir, 0, dirs)
	for text := text[trees:]; len(text) > 0; {
		if len(text) < cacheDirHead || len(all) == cap(all) {
			return
		}
		d := cachedDir{
			key:   dirKey{bigEndian64(text), bigEndian64(text[8:]), bigEndian32(text[16:])},
			ctime: int64(bigEndian64(text[20:])), age: text[28], tree: text[29 : 29+ChecksumSize],
		}
		n := int64(bigEndian32(text[29+ChecksumSize:]))
		text = text[cacheDirHead:]
		if n > int64(len(text)) || len(all) > 0 && all[len(all)-1].key.compare(d.key) >= 0 {
			return
		}
		d.entries, text = text[:n], text[n:]
		all = append(all, d)
	}
	c.tree, c.trees, c.old, c.needed = tree, text[:trees], all, make([]atomic.Bool, len(all))
}

func bigEndian32(s string) uint32 { return binary.BigEndian.Uint32([]byte(s[:4])) }

func bigEndian64(s string) uint64 { return binary.BigEndian.Uint64([]byte(s[:8])) }

// Save writes the cache to its file if it changed: whole or not at all. What
// the last eight saves did not need is dropped.
func (c *DevInoCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest, trees := c.latest, c.staged
	if c.commits != 1 || latest.IsZero() {
		latest, trees = Checksum{}, nil
	}
	slices.SortFunc(trees, func(a, b Checksum) int { return bytes.Compare(a[:], b[:]) })
	trees = slices.Compact(trees)
	dirs := c.dirs()
	if latest == c.tree && slices.Equal(dirs, c.old) {
		return nil
	}
	if err := c.replace(func(w io.Writer) error { return encodeCache(w, latest, trees, dirs) }); err != nil {
		return &Error{Op: "save cache", Target: c.path, Err: err}
	}
	return nil
}

// dirs are the folders that the file is to have.
func (c *DevInoCache) dirs() []cachedDir {
	fresh := slices.SortedFunc(maps.Values(c.fresh), func(a, b cachedDir) int { return a.key.compare(b.key) })
	dirs, size := make([]cachedDir, 0, len(c.old)+len(fresh)), int64(cacheHead+len(c.staged)*ChecksumSize+cacheCheck)
	add := func(d cachedDir, age byte) {
		// A file that is larger would not be read again.
		if size += int64(cacheDirHead + len(d.entries)); size <= int64(maxCacheSize) {
			d.age = age
			dirs = append(dirs, d)
		}
	}
	for i := range c.old {
		d := &c.old[i]
		for len(fresh) > 0 && fresh[0].key.compare(d.key) < 0 {
			add(fresh[0], 1)
			fresh = fresh[1:]
		}
		switch again := len(fresh) > 0 && fresh[0].key == d.key; {
		case again: // the newer one comes next
		case c.needed[i].Load():
			add(*d, 1)
		case d.age < maxCacheAge:
			add(*d, d.age+1)
		}
	}
	for _, d := range fresh {
		add(d, 1)
	}
	return dirs
}

// encodeCache writes a cache's file.
func encodeCache(w io.Writer, tree Checksum, trees []Checksum, dirs []cachedDir) error {
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), cacheBuffer)
	b := append(out.AvailableBuffer(), cacheMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(os.Geteuid()))
	b = append(b, tree[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(trees)))
	out.Write(binary.BigEndian.AppendUint32(b, uint32(len(dirs))))
	for i := range trees {
		out.Write(trees[i][:])
	}
	for i := range dirs {
		d := &dirs[i]
		b := binary.BigEndian.AppendUint64(out.AvailableBuffer(), d.key.dev)
		b = binary.BigEndian.AppendUint64(b, d.key.ino)
		b = binary.BigEndian.AppendUint32(b, d.key.variant)
		b = binary.BigEndian.AppendUint64(b, uint64(d.ctime))
		b = append(append(b, d.age), d.tree...)
		out.Write(binary.BigEndian.AppendUint32(b, uint32(len(d.entries))))
		out.WriteString(d.entries)
	}
	// An error of a bufio.Writer stays.
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// maxCacheAge is after how many saves without use a folder is dropped.
const maxCacheAge = 8

func (c *DevInoCache) replace(write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".tmp-*")
	if err != nil {
		return err
	}
	err = write(f)
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

// files tells about how many files the cache knows.
func (c *DevInoCache) files() int {
	n := 0
	for i := range c.old {
		n += len(c.old[i].entries)
	}
	return n / (cacheNameHead + 16 + len(inodeState{}) + ChecksumSize)
}

// find gives the folder of a key and its number in old, or one without entries.
func (c *DevInoCache) find(key dirKey) (cachedDir, int) {
	i := sort.Search(len(c.old), func(i int) bool { return c.old[i].key.compare(key) >= 0 })
	there := i < len(c.old) && c.old[i].key == key
	c.mu.Lock()
	d, ok := c.fresh[key]
	c.mu.Unlock()
	switch {
	case ok:
		return d, -1
	case there:
		return c.old[i], i
	}
	return cachedDir{}, -1
}

// cacheUse is the use of a cache by one commit.
type cacheUse struct {
	cache   *DevInoCache
	variant uint32 // of folders that do not come as they are
	since   int64  // what changed later is not remembered
	whole   bool   // the repository has all objects of the cache's tree

	mu     sync.Mutex
	dirs   []*walkedDir
	staged []Checksum
}

// use begins a commit whose first file is read after now, nanoseconds by the
// kernel's clock.
func (c *DevInoCache) use(now int64, variant uint32) *cacheUse {
	c.mu.Lock()
	c.commits++
	c.mu.Unlock()
	return &cacheUse{cache: c, variant: variant, since: now}
}

// walkedDir is a folder that a commit comes by. Its parts are listed one after the other.
type walkedDir struct {
	key    dirKey
	ctime  int64
	known  cachedDir // as it was
	number int       // of known in the cache, or -1
	listed bool      // the names of known are those of the folder
	latest bool      // the latest tree has the objects of known
	keeps  bool      // files that did not change need not be looked at further
	kept   []uint32  // entries of known that still are so, by their places
	slots  [][]cacheSlot
	tree   Checksum // once it is staged, if the dirtree has what is in the folder
}

// keptFiles are files of a folder that did not change.
type keptFiles struct {
	dir          *walkedDir
	files, bytes int64
}

// cacheSlot is what is known of a file, link or directory that is looked at, and what is
// learned of it.
type cacheSlot struct {
	name    string
	inode   inodeState
	changed int64 // when the inode last changed, nanoseconds
	flags   byte
	latest  bool // the latest tree has the object
	learned bool // the commit has the entry
	asItIs  bool
	rest    [restSize]byte
	sum     Checksum
}

// dir begins the walk of a folder. list: its inode tells when names change.
func (u *cacheUse) dir(st *unix.Stat_t, list, asIs bool) *walkedDir {
	d := &walkedDir{key: dirKey{uint64(st.Dev), st.Ino, u.variant}, ctime: st.Ctim.Nano()}
	if asIs {
		d.key.variant = asItIs
	}
	if d.known, d.number = u.cache.find(d.key); !d.known.check() {
		d.known, d.number = cachedDir{}, -1
	}
	d.listed = list && d.known.ctime != 0 && d.known.ctime == d.ctime
	d.latest = u.whole && d.known.age == 1
	d.keeps = d.latest && asIs
	if !u.settled(d.ctime) {
		d.ctime = 0
	}
	u.mu.Lock()
	u.dirs = append(u.dirs, d)
	u.mu.Unlock()
	return d
}

// Granularities of time stamps: of the kernel's clock, and of file systems that
// keep whole or every second second.
const (
	fineTime   = 20_000_000
	coarseTime = 2_000_000_000
)

// settled reports whether what changed then changed so long before it was read that
// another change has another time stamp.
func (u *cacheUse) settled(changed int64) bool {
	granularity := int64(fineTime)
	if changed%1_000_000_000 == 0 {
		granularity = coarseTime
	}
	return changed <= u.since-granularity
}

// same reports whether the folder is as it was, but for what is in folders in it.
func (d *walkedDir) same() bool { return d.listed && len(d.slots) == 0 }

// files gives those that were kept, in the order of their names.
func (d *walkedDir) files(yield func(name, sum string) bool) {
	if d == nil || !d.keeps {
		return
	}
	for _, at := range d.kept {
		if e, _ := entryAt(d.known.entries, at); e.flags&hasSum != 0 && !yield(e.name, e.sum) {
			return
		}
	}
}

// cachePart is a part of a walkedDir that is being listed. Without one it does nothing.
type cachePart struct {
	*walkedDir
	size    int
	counted keptFiles
	slots   []cacheSlot
}

func newCachePart(d *walkedDir, size int) cachePart {
	if d != nil && d.known.entries != "" {
		d.kept = slices.Grow(d.kept, size)
	}
	return cachePart{walkedDir: d, size: size}
}

// slot makes room for a name. What is there does not move.
func (p *cachePart) slot(name string) *cacheSlot {
	if p.slots == nil {
		p.slots = make([]cacheSlot, 0, p.size)
	}
	p.slots = append(p.slots, cacheSlot{name: name, asItIs: p.key.variant == asItIs})
	return &p.slots[len(p.slots)-1]
}

// skip says that nothing but its name is to be remembered of an entry.
func (p *cachePart) skip(name string) {
	if p.walkedDir != nil {
		p.slot(name)
	}
}

// look compares an inode with the entry at a place less 1; 0: none. kept: it is known
// and need not be looked at further; bare: it has no attributes.
func (p *cachePart) look(st *unix.Stat_t, name string, cached uint32) (slot *cacheSlot, bare, kept bool) {
	if p.walkedDir == nil {
		return nil, false, false
	}
	if uint64(st.Dev) != p.key.dev { // mounted
		p.skip(name)
		return nil, false, false
	}
	dir := st.Mode&ModeType == ModeDir
	state := stateOf(st)
	if cached != 0 {
		e, _ := entryAt(p.known.entries, cached-1)
		if same := e.inode == string(state[:]); same {
			bare = e.flags&noXattrs != 0
			known := e.flags&hasSum != 0
			if kept = known && p.keeps; kept || dir {
				p.kept = append(p.kept, cached-1)
				if kept {
					p.counted.files++
					if st.Mode&ModeType == ModeRegular {
						p.counted.bytes += st.Size
					}
				}
				return nil, bare, kept
			}
			slot = p.slot(name)
			if slot.flags = e.flags & (noXattrs | hasSum | hasRest); known {
				slot.latest = p.latest
				copy(slot.rest[:], e.rest)
				copy(slot.sum[:], e.sum)
			}
		}
	}
	if slot == nil {
		slot = p.slot(name)
	}
	slot.inode, slot.changed, slot.learned = state, max(st.Ctim.Nano(), st.Mtim.Nano()), dir
	return slot, bare, false
}

// end gives the files of the part that are kept, of a folder that comes as it is.
func (p *cachePart) end() keptFiles {
	if len(p.slots) > 0 {
		p.walkedDir.slots = append(p.walkedDir.slots, p.slots)
	}
	if p.walkedDir != nil && p.key.variant == asItIs {
		p.counted.dir = p.walkedDir
	}
	return p.counted
}

// describe says what the checksum of a file or link is of besides its content, which may
// be another than that of the inode. What is behind header is overwritten.
func (s *cacheSlot) describe(e *Entry, header []byte) {
	// In what room header has behind it.
	b := binary.BigEndian.AppendUint64(header, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Identity.MtimeNs))
	full := sha256.Sum256(b)
	if rest := [restSize]byte(full[:restSize]); s.flags&hasRest == 0 || s.rest != rest {
		s.flags &^= hasSum
		s.flags |= hasRest
		s.rest = rest
	}
}

func (s *cacheSlot) set(c *Checksum) {
	s.sum, s.learned, s.latest = *c, true, false
	s.flags |= hasSum
}

// entries are those of the folder as the commit left it; false: not all of them.
func (u *cacheUse) entries(d *walkedDir) (_ string, all bool) {
	size := 0
	for _, part := range d.slots {
		for i := range part {
			size += cacheNameHead + len(part[i].name) + len(inodeState{}) + restSize + ChecksumSize
		}
	}
	for _, at := range d.kept {
		_, next := entryAt(d.known.entries, at)
		size += int(next - at)
	}
	b := make([]byte, 0, size)
	all = true
	kept := d.kept
	keep := func(before string) {
		for len(kept) > 0 {
			e, next := entryAt(d.known.entries, kept[0])
			if before != "" && e.name >= before {
				return
			}
			b, kept = append(b, d.known.entries[kept[0]:next]...), kept[1:]
		}
	}
	for _, part := range d.slots {
		for i := range part {
			s := &part[i]
			keep(s.name)
			if len(s.name) > maxCacheName {
				all = false
				continue
			}
			flags := s.flags | hasState
			if !s.learned || !u.settled(s.changed) {
				flags = 0
			}
			b = append(append(b, flags, byte(len(s.name))), s.name...)
			if flags&hasState != 0 {
				b = append(b, s.inode[:]...)
			}
			if flags&hasSum != 0 {
				b = append(b, s.sum[:]...)
			}
			if flags&hasRest != 0 {
				b = append(b, s.rest[:]...)
			}
		}
	}
	keep("")
	return string(b), all
}

// dirtree reports whether a dirtree is one of the latest tree that is in the repository,
// and remembers that the tree has it.
func (u *cacheUse) dirtree(c *Checksum) bool {
	u.mu.Lock()
	u.staged = append(u.staged, *c)
	u.mu.Unlock()
	trees := u.cache.trees
	at := func(i int) string { return trees[i*ChecksumSize:][:ChecksumSize] }
	n := len(trees) / ChecksumSize
	i := sort.Search(n, func(i int) bool { return at(i) >= string(c[:]) })
	return u.whole && i < n && at(i) == string(c[:])
}

// learn puts what a commit came by into the cache. all: there is nothing in it that is
// not in the tree.
func (u *cacheUse) learn(tree Checksum, all bool) {
	made := make(map[dirKey]cachedDir)
	for _, d := range u.dirs {
		now := cachedDir{key: d.key, ctime: d.ctime, age: d.known.age, tree: d.known.tree, entries: d.known.entries}
		if !d.same() {
			var all bool
			if now.entries, all = u.entries(d); !all {
				now.ctime = 0
			}
			if len(now.entries) > maxCacheSize {
				continue
			}
		}
		if string(d.tree[:]) != now.tree {
			now.tree = string(d.tree[:])
		}
		if d.number >= 0 && now == d.known {
			u.cache.needed[d.number].Store(true)
			continue
		}
		now.age = 0
		made[d.key] = now
	}
	u.dirs = nil
	c := u.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.fresh, made)
	c.latest, c.staged = Checksum{}, nil
	if all {
		c.latest, c.staged = tree, u.staged
	}
}
