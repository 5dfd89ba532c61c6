package ostree

import (
	"errors"
	"io/fs"
	"sync"
)

// present answers which objects a repository has, for many questions while it
// is locked against prune and before anything is added: the first few about a
// two-digit folder by a call each, then by a listing of it.
type present struct {
	repo    *Repo
	folders [256]struct {
		sync.Mutex
		asked int
		names map[string]struct{} // without the folder's; nil: not listed
	}
}

// listAfter is how many calls about one folder cost about as much as listing it.
const listAfter = 16

// has reports whether the object is there whose path below objects/ is given.
func (p *present) has(c *Checksum, path []byte) (bool, error) {
	f := &p.folders[c[0]]
	f.Lock()
	defer f.Unlock()
	if f.names == nil {
		if f.asked++; f.asked <= listAfter {
			return p.repo.hasPath(string(path))
		}
		entries, err := readNames(p.repo.objects, string(path[:2]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		f.names = make(map[string]struct{}, len(entries))
		for _, e := range entries {
			if e.Type().IsRegular() {
				f.names[e.Name()] = struct{}{}
			}
		}
	}
	_, ok := f.names[string(path[3:])]
	return ok, nil
}
