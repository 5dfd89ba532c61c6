package linkcheck_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/linkcheck"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestLinksOfPublished enumerates the links of every published document there
// is: how many of each kind, and what is no address.
func TestLinksOfPublished(t *testing.T) {
	var out strings.Builder
	total := map[linkcheck.Kind]int{}
	documents := 0
	for _, folder := range []string{"bootimage", "graph"} {
		root := interop.SharedData(t, folder)
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(filepath.Dir(root), p)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if ext := filepath.Ext(p); ext != ".json" && !(ext == ".yaml" && strings.Contains(rel, "/configmap/")) {
				return nil
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			// Relative names are beside the document.
			links, err := linkcheck.Links(linkcheck.Document{Name: rel, URL: "https://example.org/" + rel, Data: data})
			if err != nil {
				return err
			}
			documents++
			counts := map[linkcheck.Kind]int{}
			faults := ""
			for _, l := range links {
				counts[l.Kind]++
				total[l.Kind]++
				if l.Fault != "" {
					faults += fmt.Sprintf(" %s %q: %s", l.Path, l.URL, l.Fault)
				}
				if l.Kind == linkcheck.KindFile {
					require.NotEmpty(t, l.SHA256, "%s %s", rel, l.Path)
				}
			}
			if len(links) > 0 {
				fmt.Fprintf(&out, "%s%s%s\n", rel, countText(counts), faults)
			}
			return nil
		})
		require.NoError(t, err)
	}
	fmt.Fprintf(&out, "%d documents%s\n", documents, countText(total))
	golden := filepath.Join("testdata", "published.txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

func countText(counts map[linkcheck.Kind]int) (text string) {
	for _, k := range []linkcheck.Kind{linkcheck.KindFile, linkcheck.KindSignature, linkcheck.KindDocument, linkcheck.KindAddress, linkcheck.KindImage} {
		if counts[k] > 0 {
			text += fmt.Sprintf(" %s=%d", k, counts[k])
		}
	}
	return text
}
