package ostree_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/ostree"
)

func TestCommits(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	want := map[ostree.Checksum]bool{}
	for _, name := range []string{"a", "b", "c"} {
		c, err := r.Commit(t.Context(), literal(dir("."), file(name, name)), nil)
		require.NoError(t, err)
		want[c] = true
	}
	var before string
	for c, err := range r.Commits(t.Context()) {
		require.NoError(t, err)
		require.True(t, want[c])
		require.Less(t, before, c.String())
		before = c.String()
		delete(want, c)
	}
	require.Empty(t, want)
	for range r.Commits(t.Context()) { // which can be stopped
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range r.Commits(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

// TestConfigBound: lines without anything cost as little as others.
func TestConfigBound(t *testing.T) {
	_, err := fuzzbound.Parse(t, 64, ostree.ParseKeyFile, bytes.Repeat([]byte("\n"), 50_000))
	require.NoError(t, err)
}

func TestUnsetConfig(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	config := filepath.Join(r.Path(), "config")
	before, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append(before, "\n# kept\n[remote \"a\"]\nurl=x\ngpg-verify=false\n"...), 0o644))

	for range 2 {
		found, err := r.UnsetConfig(t.Context(), `remote "b"`, "")
		require.NoError(t, err)
		require.False(t, found)
	}
	found, err := r.UnsetConfig(t.Context(), `remote "a"`, "url")
	require.NoError(t, err)
	require.True(t, found)
	data, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, string(before)+"\n# kept\n[remote \"a\"]\ngpg-verify=false\n", string(data))
	found, err = r.UnsetConfig(t.Context(), `remote "a"`, "")
	require.NoError(t, err)
	require.True(t, found)

	_, err = r.UnsetConfig(t.Context(), "core", "mode") // without which it is no repository
	require.ErrorContains(t, err, "core.mode")
	data, err = os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, string(before)+"\n# kept\n", string(data))
}
