package page_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// pages are those that the packages keep as golden files.
func pages(t *testing.T) (all []string) {
	root, err := interop.Root()
	require.NoError(t, err)
	for _, pattern := range []string{
		"publish/*/testdata/*.html", "publish/browse/testdata/site/*.html",
		"publish/browse/testdata/site/okd-scos-next/index.html", "publish/browse/testdata/site/okd-scos-next/builds/9.0.20261125-0.html",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		all = append(all, found...)
	}
	return all
}

// TestPagesInABrowser looks at each kind of page in Chromium as people have it:
// light on a telephone and dark on a wide screen, with scripts turned off. Nothing
// is fetched, nothing is blocked, nothing is wider than the screen, and axe-core
// finds nothing serious.
func TestPagesInABrowser(t *testing.T) {
	browser := interop.OpenBrowser(t)
	all := pages(t)
	looks := []interop.LookOptions{{Width: 400}, {Dark: true}}
	shots := os.Getenv("OKD_STREAMS_SCREENSHOTS") // a folder, for people who want to see
	if shots != "" {
		looks = append(looks, interop.LookOptions{Width: 400, Dark: true}, interop.LookOptions{})
	}
	for _, file := range all {
		for _, o := range looks {
			o.Picture = shots != ""
			look := browser.Look("file://"+file, &o)
			at := fmt.Sprintf("%s, %+v", file, o)
			require.Empty(t, look.Violations, at)
			require.Empty(t, look.Requests, at)
			require.Empty(t, look.Complaints, at)
			require.Zero(t, look.Overflow, at)
			require.Greater(t, len(strings.Fields(look.Text)), 10, at)
			if shots != "" {
				name := strings.NewReplacer("/", "_", ".html", "").Replace(file[strings.Index(file, "publish"):])
				require.NoError(t, os.WriteFile(filepath.Join(shots, fmt.Sprintf("%s-%d-%t.png", name, o.Width, o.Dark)), look.Picture, 0o644))
			}
		}
	}
}

// TestTheBrowserJudges shows it a page with each fault.
func TestTheBrowserJudges(t *testing.T) {
	browser := interop.OpenBrowser(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><html><title>x</title><style>p { color: #ccc; background: #fff; width: 3000px }</style>
			<p>barely to be seen<img src="/x.png"><p id="s"><script>document.getElementById("s").textContent = "from a script"</script>`)
	}))
	defer server.Close()
	look := browser.Look(server.URL+"/", &interop.LookOptions{Width: 400})
	found := strings.Join(look.Violations, "\n")
	require.Contains(t, found, "color-contrast")
	require.Contains(t, found, "image-alt")
	require.Contains(t, found, "html-has-lang")
	require.Contains(t, look.Requests, server.URL+"/x.png")
	require.NotEmpty(t, look.Complaints)
	require.Greater(t, look.Overflow, 2000)
	require.NotContains(t, look.Text, "from a script")
	require.Contains(t, look.Text, "barely to be seen")
}
