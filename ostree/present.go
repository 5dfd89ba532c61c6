package ostree

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/unix"
)

// present answers which objects a repository has, for many questions while it
// is locked against prune and before anything is added: the first few about a
// two-digit folder by a call each, then by a listing of it.
type present struct {
	repo    *Repo
	broken  map[claimKey]struct{} // objects that are there and to be replaced
	many    bool                  // so many questions will come that all is listed
	usual   atomic.Int32          // how many objects the folder listed last has: others have about as many
	folders [256]struct {
		sync.Mutex
		asked int
		names map[claimKey]struct{} // nil: not listed
	}
}

// mostUsual bounds the room that is made before a folder is listed.
const mostUsual = 1 << 12

// listAfter is how many calls about one folder cost about as much as listing it.
const listAfter = 32

// has reports whether an object is there; path is its path below objects/.
func (p *present) has(key *claimKey, path []byte) (bool, error) {
	if _, ok := p.broken[*key]; ok {
		return false, nil
	}
	f := &p.folders[key.sum[0]]
	f.Lock()
	defer f.Unlock()
	if f.names == nil {
		if f.asked++; f.asked <= listAfter && !p.many {
			return p.repo.hasPath(key.kind, string(path))
		}
		var err error
		if f.names, err = p.list(string(path[:2]), nil); err != nil {
			return false, err
		}
	}
	_, ok := f.names[*key]
	return ok, nil
}

// list gives the objects in one folder, and each to also unless that is nil.
func (p *present) list(folder string, also func(*listed) error) (map[claimKey]struct{}, error) {
	names := make(map[claimKey]struct{}, p.usual.Load())
	defer func() { p.usual.Store(int32(min(len(names), mostUsual))) }()
	return names, p.repo.listFolder(folder, func(o *listed) error {
		if o.dtype == unix.DT_UNKNOWN {
			if ok, err := p.repo.hasPath(o.key.kind, o.path()); err != nil || !ok {
				return err
			}
		}
		names[o.key] = struct{}{}
		if also == nil {
			return nil
		}
		return also(o)
	})
}

// listed is an object as the listing of its folder has it.
type listed struct {
	key    claimKey
	ino    uint64
	dtype  byte // DT_REG, DT_LNK or DT_UNKNOWN
	dir    int  // the folder, open
	name   []byte
	folder string
}

// path is the object's path below objects/.
func (o *listed) path() string { return o.folder + "/" + string(o.name) }

// listFolder gives fn the objects in one folder, which may not be there. It
// parses what the kernel gives itself: tens of thousands of names are a
// measurable share of a commit of cached files.
func (r *Repo) listFolder(folder string, fn func(*listed) error) error {
	dir, err := openDir(r.objects, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	kinds := make(map[string]ObjectType)
	for kind := TypeFile; kind <= TypeCommitMeta; kind++ {
		kinds[r.ext(kind)] = kind
	}
	links := r.settings.mode.hasLinks()
	o := listed{dir: dir, folder: folder}
	if !decodeHex(o.key.sum[:1], []byte(folder)) {
		return fmt.Errorf("objects/%s is no folder of objects", folder)
	}
	buf := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(buf)
	for {
		n, err := unix.ReadDirent(dir, *buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return pathError("read", "objects/"+folder, err)
		}
		if n == 0 {
			return nil
		}
		err = eachDirent((*buf)[:n], func(ino uint64, dtype byte, name []byte) error {
			o.ino, o.dtype, o.name = ino, dtype, name
			const digits = 2*ChecksumSize - 2
			if dtype != unix.DT_REG && dtype != unix.DT_UNKNOWN && (dtype != unix.DT_LNK || !links) || len(name) <= digits || name[digits] != '.' {
				return nil
			}
			o.key.kind = kinds[string(name[digits+1:])]
			if o.key.kind == 0 || dtype == unix.DT_LNK && o.key.kind != TypeFile || !decodeHex(o.key.sum[1:], name[:digits]) {
				return nil
			}
			return fn(&o)
		})
		if err != nil {
			return err
		}
	}
}

var direntBuffers = sync.Pool{New: func() any { return new(make([]byte, 32<<10)) }}

// decodeHex decodes lower-case hexadecimal digits, two for each byte of dst;
// false: src is something else.
func decodeHex(dst, src []byte) bool {
	for _, b := range src {
		if b >= 'A' && b <= 'F' {
			return false
		}
	}
	n, err := hex.Decode(dst, src)
	return err == nil && n == len(dst)
}
