package payload_test

import (
	"io/fs"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// TestIssues: what users reported of releases and architectures, and what is
// said now.
func TestIssues(t *testing.T) {
	arm := v1.Platform{OS: "linux", Architecture: "arm64"}

	// A list of architectures with one in it.
	t.Run("okd#1165", func(t *testing.T) {
		w := newWorld(t)
		built, _ := w.must(t, w.spec(), nil)
		ref := w.addIndex(t, "q.io/o/release", map[string]v1.Image{"amd64": built.Image})
		_, err := payload.Open(t.Context(), w, ref, &payload.OpenOptions{Platform: arm})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "linux/arm64")
		release, err := payload.Open(t.Context(), w, ref, nil)
		require.NoError(t, err)
		require.Equal(t, "multi (linux/amd64)", release.Platform())
	})

	// A release of one architecture that says it is of several, which installers
	// refuse.
	t.Run("okd#2345", func(t *testing.T) {
		w := newWorld(t)
		spec := w.spec()
		spec.Metadata = map[string]any{payload.MetadataArchitecture: "multi"}
		_, _, err := w.assemble(t, spec, nil)
		require.ErrorContains(t, err, string(payload.CheckArchitecture))
		_, release := w.must(t, w.spec(), nil)
		require.NotContains(t, release.Metadata.Metadata, payload.MetadataArchitecture)
	})
}
