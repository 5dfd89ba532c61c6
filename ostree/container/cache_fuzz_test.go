package container_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree/container"
)

// FuzzCacheRecord reads records of the layer cache as a crash or somebody else
// left them: only one that names a blob that is there and right is found, and
// none is an error.
func FuzzCacheRecord(f *testing.F) {
	const content = "blob"
	dir := f.TempDir()
	cache, err := container.OpenCache(f.Context(), dir, nil)
	require.NoError(f, err)
	f.Cleanup(func() { cache.Close() })
	blob, _, err := v1.SHA256(strings.NewReader(content))
	require.NoError(f, err)
	file := filepath.Join(dir, "blobs", "sha256", blob.Hex)
	good := fmt.Sprintf(`{"diffID":%q,"digest":%[1]q,"size":4,"tarSize":7}`, blob)
	for _, seed := range []string{good, strings.Replace(good, ":4", ":5", 1), strings.Replace(good, blob.Hex, "../../x", 1), `{"size":-1}`, "null", ""} {
		f.Add([]byte(seed), true)
	}
	f.Add([]byte(strings.Repeat("0", 64)+"\n"+good), false)
	for doc := range mutants.Of(good) {
		f.Add([]byte(doc), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
		var digest v1.Hash
		var size int64
		var found bool
		var err error
		fuzzbound.Linear(t, len(data), 64, func() { digest, size, found, err = cache.LookupRecord(t.Context(), data, whole) })
		require.NoError(t, err)
		if found {
			require.Equal(t, blob, digest)
			require.EqualValues(t, len(content), size)
		}
		// The same as change logs: a key of two checksums and a count, eight bytes a time.
		var packages, times int
		fuzzbound.Linear(t, len(data), 64, func() { packages, times, err = cache.CountChanges(data, whole) })
		require.NoError(t, err)
		require.LessOrEqual(t, 8*times, len(data))
		require.LessOrEqual(t, packages, len(data)/36)
	})
}
