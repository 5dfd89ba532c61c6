package daily_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// FuzzClaimOf reads a claim that anybody who writes to the store may have made.
func FuzzClaimOf(f *testing.F) {
	for doc := range mutants.Of(`{"build": "1", "version": "4.21.0-okd-scos.7", "arch": "x86_64", "input": "00", "time": "2026-11-25T00:00:00Z"}`) {
		f.Add([]byte(doc), "1")
	}
	f.Add([]byte(`{"build": "2"}`), "1")
	f.Add([]byte("null"), "../1")
	f.Add([]byte(`{"time": "`+strings.Repeat("x", 5000)+`"}`), "1") // which the error of package time quotes
	f.Fuzz(func(t *testing.T, data []byte, build string) {
		store := memstore.New()
		if _, err := store.Put(t.Context(), "s/names/build-"+build+".json", publish.BytesSource(data), nil); err != nil {
			return // no key
		}
		var c *daily.Claim
		var err error
		fuzzbound.Linear(t, len(data)+len(build), 64, func() {
			c, err = daily.ClaimOf(t.Context(), store, bootimage.Bucket{Stream: "s", Prefix: "s"}, build)
		})
		if err != nil {
			require.Nil(t, c)
			require.Less(t, len(err.Error()), 2000+8*len(build))
			return
		}
		require.Equal(t, build, c.Build)
	})
}

// FuzzRecord reads what a step left in the state folder, cut by a crash or
// edited by hand.
func FuzzRecord(f *testing.F) {
	mutants.Add(f,
		`{"step":"commit","build":"1","input":"00","outputs":{"a":[1]},"started":"2026-11-25T00:00:00Z","seconds":1.5,"reused":true,"reuse":{"files":{"items":1,"ofItems":2}}}`,
		`{"step":"commit","outputs":`,
		"null",
	)
	path := filepath.Join(f.TempDir(), "commit.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o644))
		r, err := fuzzbound.Parse(t, 64, func([]byte) (*daily.Record, error) { return daily.ReadRecord(path) }, data)
		if err != nil {
			require.ErrorContains(t, err, path)
			return
		}
		require.LessOrEqual(t, len(r.Outputs), len(data))
	})
}
