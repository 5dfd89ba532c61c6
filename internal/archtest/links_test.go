package archtest_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

var (
	reLink    = regexp.MustCompile(`\]\(\s*<?([^)>\s]+)>?(?:\s+"[^"]*")?\s*\)|^\[[^\]]+\]:\s+(\S+)`)
	reHeading = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	reCode    = regexp.MustCompile("`[^`]*`")
)

// document is what a Markdown file has that others may name, and what it names.
type document struct {
	links, anchors []string
}

// readMarkdown reads a Markdown file; what stands in code is no link.
func readMarkdown(text string) (d document) {
	code, seen := false, map[string]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		if code || strings.HasPrefix(line, "    ") {
			continue
		}
		if m := reHeading.FindStringSubmatch(line); m != nil {
			anchor := strings.Map(func(r rune) rune { // as forges make them
				switch {
				case r == ' ':
					return '-'
				case r == '-', r == '_', unicode.IsLetter(r), unicode.IsNumber(r):
					return unicode.ToLower(r)
				}
				return -1
			}, m[1])
			if n := seen[anchor]; n > 0 {
				d.anchors = append(d.anchors, anchor+"-"+string(rune('0'+n)))
			} else {
				d.anchors = append(d.anchors, anchor)
			}
			seen[anchor]++
		}
		for _, m := range reLink.FindAllStringSubmatch(reCode.ReplaceAllString(line, "`"), -1) {
			d.links = append(d.links, m[1]+m[2])
		}
	}
	return d
}

// TestLinks holds every relative link of a Markdown file to a file that is
// there, with the heading that it names.
func TestLinks(t *testing.T) {
	root, err := interop.Root()
	require.NoError(t, err)
	all := map[string]document{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		text, err := os.ReadFile(path)
		all[path] = readMarkdown(string(text))
		return err
	}))
	require.NotEmpty(t, all)
	links := 0
	for path, d := range all {
		name, _ := filepath.Rel(root, path)
		for _, link := range d.links {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %s: %v", name, link, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			links++
			to := path
			if u.Path != "" {
				to = filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path))
			}
			if strings.HasPrefix(u.Path, "/") || !strings.HasPrefix(to, root) {
				t.Errorf("%s: %s leads out of the repository", name, link)
				continue
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s is not there", name, link)
				continue
			}
			if target, ok := all[to]; ok && u.Fragment != "" && !slices.Contains(target.anchors, u.Fragment) {
				t.Errorf("%s: %s has no such heading", name, link)
			}
		}
	}
	require.Greater(t, links, 10, "the test finds links")
}

func TestLinksJudge(t *testing.T) {
	d := readMarkdown("# A `title`, with: signs\n[x](a.md#b) and ![y](p.svg \"t\")\n`[no](x)`\n```\n[no](y)\n```\n    [no](z)\n[r]: ref.md\n# B\n# B\n")
	require.Equal(t, []string{"a.md#b", "p.svg", "ref.md"}, d.links)
	require.Equal(t, []string{"a-title-with-signs", "b", "b-1"}, d.anchors)
}
