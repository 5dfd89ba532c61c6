package layoutregistry

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// maxNesting bounds how deep repositories are looked for.
const maxNesting = 32

// Repositories lists the repositories, as ones of reg, whose host is not used:
// the folders, at most 32 deep, that are OCI layouts. Symbolic links are not
// followed. They ascend by component: okd/a/b comes before okd/a-b.
func (r *Registry) Repositories(ctx context.Context, reg name.Registry) iter.Seq2[name.Repository, error] {
	return func(yield func(name.Repository, error) bool) {
		root, err := os.OpenRoot(r.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(name.Repository{}, fail("repositories", target(r.dir), err))
			return
		}
		defer root.Close()
		if _, err := walk(ctx, root, "", func(p string) bool { return yield(reg.Repo(p), nil) }); err != nil {
			yield(name.Repository{}, fail("repositories", target(r.dir), err))
		}
	}
}

// walk visits what is below at, and reports false when yield wants no more.
func walk(ctx context.Context, root *os.Root, at string, yield func(string) bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	f, err := root.Open(path.Join(".", at))
	if err != nil {
		return false, err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if at != "" && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == layoutFile }) && !yield(at) {
		return false, nil
	}
	if strings.Count(at, "/") >= maxNesting {
		return true, nil
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		below := path.Join(at, e.Name())
		if !e.IsDir() || checkPath(below) != nil {
			continue
		}
		more, err := walk(ctx, root, below, yield)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if !more || err != nil {
			return false, err
		}
	}
	return true, nil
}
