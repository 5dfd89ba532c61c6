package stream_test

import (
	"bytes"
	"testing"

	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

func TestBuiltin(t *testing.T) {
	require.Equal(t, []string{"okd-fcos-stable", "okd-scos-next", "okd-scos-stable", "sample"}, stream.BuiltinNames())
	for _, name := range stream.BuiltinNames() {
		t.Run(name, func(t *testing.T) {
			d, err := stream.Builtin(name)
			require.NoError(t, err)
			require.Equal(t, name, d.Identity.Name)
			require.NoError(t, d.Validate())

			var b bytes.Buffer
			require.NoError(t, d.Encode(&b))
			back, err := stream.Decode(&b)
			require.NoError(t, err)
			require.Equal(t, d, back)
		})
	}
}
