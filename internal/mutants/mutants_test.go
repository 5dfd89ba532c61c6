package mutants_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/mutants"
)

// TestOf: what mutants are for is among them, and they are the same each time.
func TestOf(t *testing.T) {
	const doc = `{"name":"n","list":[{"a":1.50},2],"own":{"b":"c"}}`
	list := slices.Collect(mutants.Of(doc, "no JSON"))
	require.Equal(t, []string{doc, "no JSON"}, list[:2])
	require.Equal(t, list, slices.Collect(mutants.Of(doc, "no JSON")))
	for _, m := range list[2:] {
		require.True(t, json.Valid([]byte(m)), "%q", m)
	}
	for name, want := range map[string]string{
		"null": `"list":null`, "missing": `{"list":[{"a":1.50},2],"own":{"b":"c"}}`, "twice": `"own":{"b":"c"},"own":`, "other case": `"NAME":`,
		"another type": `"name":{`, "in a list": `"name":["n"]`, "empty": `"list":[]`, "another value of it": `"list":{"b":"c"}`,
	} {
		require.True(t, slices.ContainsFunc(list, func(m string) bool {
			return strings.Contains(strings.NewReplacer(" ", "", "\n", "").Replace(m), want)
		}), name)
	}
	require.Contains(t, slices.Collect(mutants.Of("a: 1\n")), `{"a":null}`)
	for range mutants.Of(doc) {
		break // as a test that has seen enough does
	}
	t.Setenv(mutants.Env, "1000")
	more := slices.Collect(mutants.Of(doc))
	require.Greater(t, len(more), 1001)
	require.NotEqual(t, more, slices.Collect(mutants.Of(doc)))
}
