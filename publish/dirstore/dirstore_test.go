package dirstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func open(t *testing.T, dir string, opts *dirstore.Options) *dirstore.Store {
	t.Helper()
	s, err := dirstore.Open(t.Context(), dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		return open(t, t.TempDir(), &dirstore.Options{NoSync: true})
	})
}
