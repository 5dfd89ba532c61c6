package sample

import (
	"context"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// Release makes a release of the sample's components and of a node image with
// nothing below it, writes them into repo and points a tag at the release. It
// is for programs that begin where a build ended.
func Release(ctx context.Context, registry publish.Registry, repo name.Repository, version string, created time.Time, previous ...string) (name.Digest, error) {
	components, err := Components(ctx, registry, repo)
	if err != nil {
		return name.Digest{}, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	node, extensions, err := Node(ctx, base)
	if err != nil {
		return name.Digest{}, err
	}
	for component, img := range map[string]v1.Image{"stream-coreos": node, "stream-coreos-extensions": extensions} {
		desc, err := registry.WriteImage(ctx, repo, img, nil)
		if err != nil {
			return name.Digest{}, err
		}
		components[component] = repo.Digest(desc.Digest.String())
	}
	built, err := payload.Assemble(ctx, registry, &payload.Spec{Version: version, Created: created, Previous: previous, Components: components}, nil)
	if err != nil {
		return name.Digest{}, err
	}
	if _, err := registry.WriteImage(ctx, repo, built.Image, nil); err != nil {
		return name.Digest{}, err
	}
	return repo.Digest(built.Digest.String()), registry.Tag(ctx, repo.Tag(version), built.Digest)
}
