package page_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/page"
)

func TestParse(t *testing.T) {
	tmpl := page.Parse("x", `{{template "head" .}}<main><p>{{shout .}} {{size 2048}} {{count 1 "thing"}} {{count 2 "thing"}}</p></main>{{template "foot"}}`,
		map[string]any{"shout": strings.ToUpper})
	var b strings.Builder
	require.NoError(t, tmpl().Execute(&b, "a<b"))
	require.Contains(t, b.String(), "<title>a&lt;b</title>")
	require.Contains(t, b.String(), "<p>A&lt;B 2.0 KiB 1 thing 2 things</p>")
	require.Contains(t, b.String(), "default-src &#39;none&#39;")
	require.Contains(t, b.String(), "prefers-color-scheme: dark")
	require.NotContains(t, b.String(), "ZgotmplZ", "the styles are styles")
	require.NotContains(t, b.String(), "url(", "nothing is fetched")
	require.Panics(t, func() { page.Parse("x", "{{", nil)() })
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 20: "1.5 GiB", 1 << 62: "4096.0 PiB"} {
		require.Equal(t, want, page.Size(n))
	}
	require.Equal(t, "111111111111", page.Short("example.org/x@sha256:"+strings.Repeat("1", 64)))
	require.Equal(t, "abc", page.Short("abc"))
	for state, want := range map[string]string{"Succeeded": "good", "passed": "good", "Pending": "warn", "rejected": "bad", `x" onload="`: ""} {
		require.Equal(t, want, page.Class(state))
	}
}
