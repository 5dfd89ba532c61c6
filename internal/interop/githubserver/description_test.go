package githubserver_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
)

// TestDescriptionJudges: GitHub's own examples pass, and each that lacks what is
// required or has it in another type does not.
func TestDescriptionJudges(t *testing.T) {
	d, err := githubserver.Load(interop.GitHubOpenAPI(t))
	require.NoError(t, err)
	for example, schema := range map[string]string{
		"release": "release", "release-asset": "release-asset", "installation-token": "installation-token", "installation": "installation",
	} {
		value, err := d.Example(example)
		require.NoError(t, err)
		members := value.(map[string]any)
		require.NoError(t, d.Check(value, schema), example)
		wrong := 0
		for _, name := range slices.Sorted(maps.Keys(members)) {
			for _, other := range []any{[]any{json.Number("1")}, "text", json.Number("1"), true, map[string]any{"x": nil}} {
				broken := maps.Clone(members)
				broken[name] = other
				if d.Check(broken, schema) != nil {
					wrong++
				}
			}
			broken := maps.Clone(members)
			delete(broken, name)
			if err := d.Check(broken, schema); err != nil {
				require.ErrorContains(t, err, name+" is missing")
				wrong++
			}
		}
		require.Greater(t, wrong, 4*len(members), "%s: of each member, four other types and the lack", example)
	}
	require.ErrorContains(t, d.Check(map[string]any{}, "none"), "leads nowhere")
	require.ErrorContains(t, d.Check("x", "release"), "string is no object")
	value, err := d.Example("release-asset")
	require.NoError(t, err)
	value.(map[string]any)["state"] = "odd"
	require.ErrorContains(t, d.Check(value, "release-asset"), ".state: odd is none of")
}
