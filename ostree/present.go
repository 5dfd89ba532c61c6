package ostree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"sync"

	"github.com/okd-project/okd-streams/internal/unix"
)

// present answers which objects a repository has, for many questions while it
// is locked against prune and before anything is added: the first few about a
// two-digit folder by a call each, then by a listing of it.
type present struct {
	repo    *Repo
	broken  map[claimKey]struct{} // objects that are there and to be replaced
	folders [256]struct {
		sync.Mutex
		asked int
		names map[claimKey]struct{} // nil: not listed
	}
}

// listAfter is how many calls about one folder cost about as much as listing it.
const listAfter = 16

// has reports whether an object is there; path is its path below objects/.
func (p *present) has(key *claimKey, path []byte) (bool, error) {
	if _, ok := p.broken[*key]; ok {
		return false, nil
	}
	f := &p.folders[key.sum[0]]
	f.Lock()
	defer f.Unlock()
	if f.names == nil {
		if f.asked++; f.asked <= listAfter {
			return p.repo.hasPath(key.kind, string(path))
		}
		var err error
		if f.names, err = p.list(string(path[:2])); err != nil {
			return false, err
		}
	}
	_, ok := f.names[*key]
	return ok, nil
}

// list gives the objects in one folder. It parses what the kernel gives itself:
// tens of thousands of names are a measurable share of a commit of cached files.
func (p *present) list(folder string) (map[claimKey]struct{}, error) {
	names := make(map[claimKey]struct{})
	dir, err := openDir(p.repo.objects, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	kinds := make(map[string]ObjectType)
	for kind := TypeFile; kind <= TypeCommitMeta; kind++ {
		kinds[p.repo.ext(kind)] = kind
	}
	links := p.repo.settings.mode.hasLinks()
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, pathError("read", "objects/"+folder, err)
		}
		if n == 0 {
			return names, nil
		}
		// struct linux_dirent64: inode and offset of 8 bytes each, the record's
		// length, the file's type, the name and NUL.
		for rest := buf[:n]; len(rest) > 19; {
			length := min(max(int(binary.NativeEndian.Uint16(rest[16:])), 19), len(rest))
			kind, name := rest[18], rest[19:length]
			rest = rest[length:]
			name, _, _ = bytes.Cut(name, []byte{0})
			const digits = 2*ChecksumSize - 2
			if kind != unix.DT_REG && kind != unix.DT_UNKNOWN && (kind != unix.DT_LNK || !links) || len(name) <= digits || name[digits] != '.' {
				continue
			}
			key := claimKey{kind: kinds[string(name[digits+1:])]}
			if key.kind == 0 || kind == unix.DT_LNK && key.kind != TypeFile {
				continue
			}
			if kind == unix.DT_UNKNOWN {
				if ok, err := p.repo.hasPath(key.kind, folder+"/"+string(name)); err != nil {
					return nil, err
				} else if !ok {
					continue
				}
			}
			if sum, err := ParseChecksum(folder + string(name[:digits])); err == nil {
				key.sum = sum
				names[key] = struct{}{}
			}
		}
	}
}
