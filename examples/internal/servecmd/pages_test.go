package servecmd_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// TestPagesInABrowser looks at the pages that are made here alone, as those of
// builds and stores are looked at in internal/page.
func TestPagesInABrowser(t *testing.T) {
	browser := interop.OpenBrowser(t)
	state := t.TempDir()
	for _, file := range []string{"store/streams/s.json", "registry/x"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(state, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(state, file), []byte("{}"), 0o600))
	}
	urls := serve(t, "--state", state)
	for _, url := range []string{urls[""] + "/", urls["store"], urls["store"] + "streams/", urls["browse"]} {
		for _, o := range []interop.LookOptions{{Width: 400}, {Dark: true}} {
			look := browser.Look(url, &o)
			require.Empty(t, look.Violations, url)
			require.Empty(t, look.Complaints, url)
			require.Zero(t, look.Overflow, url)
			require.Empty(t, look.Requests, url)
		}
	}
}
