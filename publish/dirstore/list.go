package dirstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
)

// List gives the objects whose keys begin with prefix, reading one folder at a
// time. Files that are no objects (names that make no key, links, devices) are
// passed over.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		l := &lister{s: s, ctx: ctx, prefix: prefix, yield: yield}
		err := l.encoded()
		if err == nil {
			err = l.walk(nil, "")
		}
		if err == nil {
			err = l.flush("")
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(publish.Info{}, fail("list", prefix, err))
		}
	}
}

// errStop says that the caller wants no more.
var errStop = errors.New("stop")

type lister struct {
	s      *Store
	ctx    context.Context // of the List that this serves
	prefix string
	yield  func(publish.Info, error) bool
	others []string // keys that lie at encoded paths, ascending
}

// encoded finds the keys below the folder of encoded ones. There are few.
func (l *lister) encoded() error {
	var visit func(path []string) error
	visit = func(path []string) error {
		dir, err := l.s.walk(append([]string{ownDir, keysDir}, path...), false)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		found, err := entries(dir.fd)
		dir.close()
		if err != nil {
			return err
		}
		for _, entry := range found {
			if err := l.ctx.Err(); err != nil {
				return err
			}
			below := append(slices.Clone(path), entry.Name())
			if entry.IsDir() {
				if err := visit(below); err != nil {
					return err
				}
			} else if key, ok := decodeKey(below); ok && strings.HasPrefix(key, l.prefix) {
				l.others = append(l.others, key)
			}
		}
		return nil
	}
	if err := visit(nil); err != nil {
		return err
	}
	slices.Sort(l.others)
	return nil
}

// walk gives the objects of one folder, whose keys begin with under, and below.
func (l *lister) walk(path []string, under string) error {
	dir, err := l.s.walk(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	found, err := entries(dir.fd)
	dir.close()
	if err != nil {
		return err
	}
	// In the order of the keys: a-b comes before a/b, and a/b before a0.
	slices.SortFunc(found, func(a, b os.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, entry := range found {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		key := under + entry.Name()
		if len(path) == 0 && entry.Name() == ownDir || publish.CheckKey(key) != nil {
			continue
		}
		if entry.IsDir() {
			folder := key + "/"
			if strings.HasPrefix(folder, l.prefix) || strings.HasPrefix(l.prefix, folder) {
				if err := l.walk(append(slices.Clone(path), entry.Name()), folder); err != nil {
					return err
				}
			}
			continue
		}
		if entry.Type().IsRegular() && strings.HasPrefix(key, l.prefix) {
			if err := l.flush(key); err != nil {
				return err
			}
			if err := l.give(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush gives the keys at encoded paths that come before key ("": all).
func (l *lister) flush(key string) error {
	for len(l.others) > 0 && (key == "" || l.others[0] <= key) {
		other := l.others[0]
		l.others = l.others[1:]
		if other == key { // also at its plain path, which wins
			continue
		}
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err := l.give(other); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) give(key string) error {
	file, info, err := l.s.find(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return fail("list", key, err)
	}
	file.Close()
	if !l.yield(info, nil) {
		return errStop
	}
	return nil
}

func sortName(e os.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// entries reads an open folder.
func entries(fd int) ([]os.DirEntry, error) {
	// A handle of its own: reading moves it.
	own, err := openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(own), ".")
	defer file.Close()
	found, err := file.ReadDir(-1)
	return found, cause(err)
}
