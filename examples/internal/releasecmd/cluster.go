package releasecmd

import (
	"context"

	"github.com/okd-project/okd-streams/publish/prow"
)

// cluster tags image streams of one namespace through the API server.
type cluster struct {
	api       *prow.Cluster
	namespace string
}

func (c cluster) Tag(ctx context.Context, imageStream, tag, pullspec string) error {
	return c.api.Tag(ctx, c.namespace+"/"+imageStream, tag, pullspec)
}

func (c cluster) Untag(ctx context.Context, imageStream, tag, pullspec string) error {
	return c.api.Untag(ctx, c.namespace+"/"+imageStream, tag, pullspec)
}
