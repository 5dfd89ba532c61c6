package controller_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
)

func put(t testing.TB, s publish.Store, key, text string) {
	t.Helper()
	_, err := s.Put(t.Context(), key, publish.BytesSource([]byte(text)), nil)
	require.NoError(t, err)
}
