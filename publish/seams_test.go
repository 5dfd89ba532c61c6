package publish_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// The seams between rooms fit.
var (
	_ publish.Store = (*dirstore.Store)(nil)
	_ publish.Store = (*memstore.Store)(nil)
	_ publish.Store = (*s3store.Store)(nil)

	_ publish.Registry = (*layoutregistry.Registry)(nil)
	_ publish.Registry = (*remoteregistry.Registry)(nil)

	_ publish.Blobs     = (*layoutregistry.Registry)(nil)
	_ publish.Blobs     = (*remoteregistry.Registry)(nil)
	_ publish.Referrers = (*layoutregistry.Registry)(nil)
	_ publish.Referrers = (*remoteregistry.Registry)(nil)

	_ payload.Images = publish.Registry(nil)

	_ publish.Source = publish.BytesSource(nil)

	_ publish.Transform = func(json.RawMessage) (func([]byte) ([]byte, error), error) { return nil, nil }
)

func TestOneErrDigest(t *testing.T) {
	require.ErrorIs(t, verify.ErrDigest, publish.ErrDigest)
}
