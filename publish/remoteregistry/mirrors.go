package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/registriesconf"
)

// Mirrors are the files that say from where to read a repository in place of
// itself, and which registries may not be used. The zero value reads nothing.
type Mirrors struct {
	// File is a containers-registries.conf(5) that must exist; "": the first of
	// Files that exists is read.
	File  string
	Files []string
	// Dirs are folders with drop-in files *.conf, read after it; those that do
	// not exist are skipped.
	Dirs []string
	// Sets are YAML files with ImageDigestMirrorSet, ImageTagMirrorSet and
	// ImageContentSourcePolicy objects of OpenShift, which must exist.
	Sets []string
}

// MirrorFiles lists the files that podman and skopeo read. getenv is
// [os.Getenv] of a program.
func MirrorFiles(getenv func(string) string) *Mirrors {
	found := registriesconf.Locate(getenv)
	return &Mirrors{File: found.File, Files: found.Files, Dirs: found.Dirs, Sets: found.MirrorSets}
}

func (m *Mirrors) load() (*registriesconf.Config, error) {
	if m == nil {
		return nil, nil
	}
	return registriesconf.Load(&registriesconf.Options{File: m.File, Files: m.Files, Dirs: m.Dirs, MirrorSets: m.Sets})
}

// checkDestination refuses to write where the configuration forbids it.
func (r *Registry) checkDestination(repo name.Repository) error {
	to, err := r.mirrors.Destination(repo)
	if err == nil && to.Insecure {
		r.guard.allow(repo.RegistryStr())
	}
	return err
}

// read calls fn for the place that ref names, or for its mirrors in turn until
// one has what is wanted.
func (r *Registry) read(ctx context.Context, ref name.Reference, fn func(c *client, id string) error) error {
	id, err := identifier(ref)
	if err != nil {
		return err
	}
	if err := checkRepository(ref.Context()); err != nil {
		return err
	}
	places, err := r.mirrors.Candidates(ref.Context(), strings.Contains(id, ":"))
	if err != nil {
		return err
	}
	var before []string // what went wrong at mirrors
	for i, place := range places {
		if place.Insecure {
			r.guard.allow(place.Repository.RegistryStr())
		}
		c, err := r.client(ctx, place.Repository, transport.PullScope)
		if err == nil {
			err = fn(c, id)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if i == len(places)-1 {
			// What kind of failure it is, the last place decides.
			if len(before) > 0 {
				err = fmt.Errorf("%w (mirrors: %s)", err, strings.Join(before, "; "))
			}
			return err
		}
		before = append(before, fmt.Sprintf("%s: %s", place.Repository, strings.TrimPrefix(clean(err).Error(), "publish: ")))
	}
	return errors.New("no place to read from")
}

// identifier gives the tag or digest of ref.
func identifier(ref name.Reference) (string, error) {
	if ref == nil {
		return "", errors.New("no reference is given")
	}
	id := ref.Identifier()
	if !strings.Contains(id, ":") {
		return id, ociimage.CheckTag(id)
	}
	h, err := v1.NewHash(id)
	return h.String(), err
}
