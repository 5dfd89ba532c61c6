package interop

import (
	"context"
	"path/filepath"
	"testing"
)

// ActionlintVersion is that of its Go module.
const ActionlintVersion = "v1.7.12"

// BuildActionlint gives the path of actionlint, which judges workflows of GitHub
// Actions, built from its Go module the first time.
func BuildActionlint(ctx context.Context) (string, error) {
	dir, err := cached(ctx, "actionlint-"+ActionlintVersion, func(ctx context.Context, dir string) error {
		// Outside of our module, so that its requirements are its own.
		return run(ctx, dir, []string{"GOBIN=" + dir, "GOFLAGS=-trimpath", "GOWORK=off"},
			"go", "install", "github.com/rhysd/actionlint/cmd/actionlint@"+ActionlintVersion)
	})
	return filepath.Join(dir, "actionlint"), err
}

// Actionlint is [BuildActionlint] for a test that is gated like [Peer].
func Actionlint(t testing.TB) string {
	t.Helper()
	Peer(t)
	path, err := BuildActionlint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}
