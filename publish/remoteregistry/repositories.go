package remoteregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxRepositories bounds a catalogue.
const maxRepositories = 10_000_000

// Repositories lists the repositories of a registry that the credentials may
// see, in the server's order. Many public registries have no such list:
// [errors.ErrUnsupported].
func (r *Registry) Repositories(ctx context.Context, reg name.Registry) iter.Seq2[name.Repository, error] {
	return func(yield func(name.Repository, error) bool) {
		if err := r.repositories(ctx, reg, func(repo name.Repository) bool { return yield(repo, nil) }); err != nil {
			yield(name.Repository{}, fail("repositories", reg, err))
		}
	}
}

func (r *Registry) repositories(ctx context.Context, reg name.Registry, yield func(name.Repository) bool) error {
	c, err := r.connect(ctx, reg, reg, []string{reg.Scope(transport.CatalogScope)})
	if err != nil {
		return err
	}
	n := 0
	err = c.pages(ctx, c.base+"/v2/_catalog"+pageSize(r.opts.PageSize), nil, func(_ *http.Response, data []byte) (bool, error) {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		if n += len(page.Repositories); n > maxRepositories {
			return false, fmt.Errorf("more than %d repositories: %w", maxRepositories, errors.ErrUnsupported)
		}
		for _, p := range page.Repositories {
			repo := reg.Repo(p)
			if err := checkRepository(repo); err != nil {
				return false, err
			}
			if !yield(repo) {
				return false, nil
			}
		}
		return true, nil
	})
	if e, ok := errors.AsType[*statusError](err); ok && n == 0 && errors.Is(e, fs.ErrNotExist) {
		return fmt.Errorf("registry has no list of repositories: %w: %s", errors.ErrUnsupported, e.Error())
	}
	if err != nil {
		return fmt.Errorf("list of repositories: %w", err)
	}
	return nil
}
