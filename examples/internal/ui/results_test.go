package ui_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func TestResults(t *testing.T) {
	dir := t.TempDir()
	declared := []ui.Result{{Name: "image"}, {Name: "tags", Text: true}, {Name: "reason", Text: true}, {Name: "none"}}
	results := &ui.Results{}
	ctx := ui.WithResults(t.Context(), results)
	ui.SetResult(ctx, "image", "old")
	ui.SetResult(ctx, "image", "quay.io/x/y@sha256:1")
	ui.SetResult(ctx, "tags", []string{"one", strings.Repeat("t", 504), "three"}) // 3+1+504 and " ..." fit
	ui.SetResult(ctx, "reason", "because\n"+strings.Repeat("ü", 300))
	ui.SetResult(t.Context(), "image", "nobody wants it")
	require.NoError(t, results.Write(dir, declared))
	require.Equal(t, map[string]string{
		"image": "quay.io/x/y@sha256:1", "tags": "one " + strings.Repeat("t", 504) + " ...", "reason": "because ...", "none": "",
	}, files(t, dir))

	// One word that is too long ends between letters.
	ui.SetResult(ctx, "reason", "x"+strings.Repeat("ü", 300))
	require.NoError(t, results.Write(dir, declared))
	require.Equal(t, "x"+strings.Repeat("ü", 253)+" ...", files(t, dir)["reason"])

	// All or none.
	other := t.TempDir()
	ui.SetResult(ctx, "image", strings.Repeat("n", ui.MaxResults))
	require.ErrorContains(t, results.Write(other, declared), "the longest is image of 4096")
	require.Empty(t, files(t, other))
	ui.SetResult(ctx, "image", "short")
	ui.SetResult(ctx, "imgae", "x")
	require.ErrorContains(t, results.Write(other, declared), "imgae")
	require.Empty(t, files(t, other))
	require.ErrorIs(t, (&ui.Results{}).Write(filepath.Join(other, "no"), declared), os.ErrNotExist)
}

func files(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		all[e.Name()] = string(data)
	}
	return all
}
