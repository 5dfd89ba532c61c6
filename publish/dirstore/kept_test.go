package dirstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/dirstore"
)

// FuzzKept reads the attribute of a file that others may write.
func FuzzKept(f *testing.F) {
	for _, sum := range []string{strings.Repeat("0a", 32), strings.Repeat("0A", 32), strings.Repeat("../x", 16), "", strings.Repeat("a", 65)} {
		mutants.Add(f, fmt.Sprintf(`{"sha256":%q,"size":1,"mtime":2,"type":"text/plain","cache":"no-store"}`, sum))
	}
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var sum string
		var again []byte
		var ok bool
		fuzzbound.Linear(t, len(data), 64, func() { sum, again, ok = dirstore.DecodeKept(data) })
		if !ok {
			require.Empty(t, sum)
			return
		}
		require.Regexp(t, "^[0-9a-f]{64}$", sum)
		_, same, ok := dirstore.DecodeKept(again)
		require.True(t, ok)
		require.Equal(t, string(again), string(same))
	})
}
