package bootimage_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

// TestUpdatesTypes: values of wrong types and numbers that are none of their kind are
// named by their path, when the document is read or when it is checked.
func TestUpdatesTypes(t *testing.T) {
	const document = `{"stream": "own", "metadata": {"last-modified": "2025-11-25T19:46:40Z"}, "releases": [{"version": "1", "metadata": {"rollout": %s}}]}`
	for value, want := range map[string]string{
		`{"start_epoch": "1764100000"}`:                  "start_epoch: want int64, got string",
		`{"start_epoch": 1764100000.5}`:                  "start_epoch: want int64, got number 1764100000.5",
		`{"start_epoch": 1e30}`:                          "start_epoch: want int64, got number 1e30",
		`{"start_epoch": 1764100000000}`:                 "seconds, not milliseconds",
		`{"start_percentage": "0.5"}`:                    "start_percentage: want",
		`{"start_percentage": 100}`:                      "start_percentage: 100 is not a part from 0 to 1",
		`{"start_percentage": -0.5}`:                     "start_percentage: -0.5 is not a part from 0 to 1",
		`{"start_percentage": 1.0000001}`:                "is not a part from 0 to 1",
		`{"start_percentage": 1e400}`:                    "start_percentage",
		`{"start_percentage": NaN}`:                      "invalid character",
		`{"duration_minutes": 0.5}`:                      "duration_minutes: want",
		`{"duration_minutes": -5}`:                       "duration_minutes: want uint64, got number -5",
		`{"duration_minutes": 1e9}`:                      "duration_minutes",
		`{"start_percentage": 0, "start_percentage": 1}`: "key is there twice",
		`[]`:     "rollout: want",
		`"soon"`: "rollout: want",
	} {
		d, err := bootimage.DecodeUpdates(strings.NewReader(fmt.Sprintf(document, value)))
		if err == nil {
			err = bootimage.ValidateUpdates(d.Value(), nil)
		}
		require.ErrorContains(t, err, want, value)
		require.ErrorContains(t, err, "bootimage: updates: ", value)
	}
}
