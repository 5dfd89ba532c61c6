package remoteregistry_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func repository(t testing.TB, host, path string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(host + "/" + path)
	require.NoError(t, err)
	return repo
}

// open makes a client whose connections end with t and that does not wait long.
func open(t testing.TB, opts *remoteregistry.Options) *remoteregistry.Registry {
	t.Helper()
	o := remoteregistry.Options{}
	if opts != nil {
		o = *opts
	}
	if o.Transport == nil {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.DisableCompression = true
		t.Cleanup(tr.CloseIdleConnections)
		o.Transport = tr
	}
	if o.Delay == 0 {
		o.Delay = time.Millisecond
	}
	r, err := remoteregistry.Open(t.Context(), &o)
	require.NoError(t, err)
	return r
}

// Bounds of what tests wait for.
const (
	waitLong  = 10 * time.Second
	waitShort = time.Millisecond
)
