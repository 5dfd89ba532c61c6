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

// Repositories lists the paths of the repositories in ascending order: the
// folders, at most 32 deep, that are OCI layouts. Symbolic links are not
// followed. The order is by component, so that okd/a/b comes before okd/a-b.
func (r *Registry) Repositories(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		root, err := os.OpenRoot(r.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield("", fail("repositories", target(r.dir), err))
			return
		}
		defer root.Close()
		if _, err := walk(ctx, root, "", yield); err != nil {
			yield("", fail("repositories", target(r.dir), err))
		}
	}
}

// walk visits what is below at, and reports false when yield wants no more.
func walk(ctx context.Context, root *os.Root, at string, yield func(string, error) bool) (bool, error) {
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
	if at != "" && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == layoutFile }) && !yield(at, nil) {
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

// repository gives the reference of a repository's path. The host is not used.
func (r *Registry) repository(p string) (name.Repository, error) {
	return name.NewRepository("localhost/"+p, name.WeakValidation)
}
