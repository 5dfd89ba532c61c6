package publish_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/cachestore"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/dryrunstore"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
	"github.com/okd-project/okd-streams/publish/faultstore"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/limitstore"
	"github.com/okd-project/okd-streams/publish/logstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// The seams between rooms fit.
var (
	_ publish.Store = (*dirstore.Store)(nil)
	_ publish.Store = (*memstore.Store)(nil)
	_ publish.Store = (*s3store.Store)(nil)
	_ publish.Store = (*httpstore.Store)(nil)
	_ publish.Store = (*cachestore.Store)(nil)
	_ publish.Store = (*dryrunstore.Store)(nil)
	_ publish.Store = (*faultstore.Store)(nil)
	_ publish.Store = (*limitstore.Store)(nil)
	_ publish.Store = (*logstore.Store)(nil)

	_ publish.Registry = (*layoutregistry.Registry)(nil)
	_ publish.Registry = (*remoteregistry.Registry)(nil)

	_ publish.Blobs     = (*layoutregistry.Registry)(nil)
	_ publish.Blobs     = (*remoteregistry.Registry)(nil)
	_ publish.Referrers = (*layoutregistry.Registry)(nil)
	_ publish.Referrers = (*remoteregistry.Registry)(nil)

	_ publish.Blobs     = (*layoutregistry.Registry)(nil)
	_ publish.Blobs     = (*remoteregistry.Registry)(nil)
	_ publish.Referrers = (*layoutregistry.Registry)(nil)
	_ publish.Referrers = (*remoteregistry.Registry)(nil)

	_ publish.Signer   = (*pgpsigner.Signer)(nil)
	_ publish.Signer   = (*cosignsigner.Signer)(nil)
	_ publish.Signer   = (*ed25519signer.Signer)(nil)
	_ publish.Verifier = (*pgpsigner.Verifier)(nil)
	_ publish.Verifier = (*cosignsigner.Verifier)(nil)
	_ publish.Verifier = (*ed25519signer.Verifier)(nil)
	_ ostree.Signer    = publish.Signer(nil)

	_ payload.Images = publish.Registry(nil)

	_ publish.Source = publish.BytesSource(nil)

	_ publish.Transform = func(json.RawMessage) (func([]byte) ([]byte, error), error) { return nil, nil }
)

func TestOneErrDigest(t *testing.T) {
	require.ErrorIs(t, verify.ErrDigest, publish.ErrDigest)
}
