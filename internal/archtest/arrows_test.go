package archtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// everything stands for all rooms in [arrows].
const everything = "*"

// arrows say which of our packages a room may import, beside its own
// sub-packages named internal and the module's internal folder; the first
// pattern that a room is under counts. A room without a line fails: draw its
// arrows first.
var arrows = []struct {
	room string
	may  []string
	not  []string
}{
	{room: "stream/tekton", may: []string{"stream"}}, {room: "stream/actions", may: []string{"stream"}},
	{room: "stream", may: nil},

	{room: "ostree/container", may: []string{"ostree"}},
	{room: "ostree", may: nil},

	{room: "bootimage/disk", may: nil},
	{room: "bootimage/convert", may: []string{"bootimage", "bootimage/disk"}},
	{room: "bootimage/live", may: []string{"bootimage", "bootimage/disk", "ostree"}},
	{room: "bootimage", may: []string{"stream"}},

	{room: "payload/graph", may: []string{"payload", "stream"}},
	{room: "payload", may: []string{"ostree/container"}},

	{room: "publish/open", may: append([]string{"publish", "publish/registryserver"}, backends...)},
	{room: "publish/daily", may: []string{everything}, not: append([]string{"publish/open", "publish/registryserver", "publish/publishtest", "examples"}, backends...)},
	{room: "publish/prow", may: verbs}, {room: "publish/controller", may: verbs}, {room: "publish/github", may: verbs}, {room: "publish/notify", may: verbs},
	{room: "publish/gate", may: append([]string{"publish/controller", "publish/linkcheck", "publish/prow"}, verbs...)},
	{room: "publish/promotion", may: append([]string{"publish/controller", "publish/gate", "publish/github", "publish/notify", "publish/prow"}, verbs...)},
	{room: "publish/status", may: append([]string{"publish/controller", "publish/gate"}, verbs...)}, {room: "publish/retention", may: verbs},
	{room: "publish/linkcheck", may: verbs}, {room: "publish/rpmrepo", may: verbs},
	{room: "publish/components", may: append([]string{"ostree/container"}, verbs...)},
	{room: "publish/registryserver", may: []string{"publish", "publish/layoutregistry"}},
	{room: "publish/browse", may: append([]string{"publish/daily", "publish/status", "publish/gate", "publish/controller", "ostree/container"}, verbs...)},
	{room: "publish", may: []string{"publish"}}, // backends, publishtest; the root imports none

	{room: "examples", may: []string{everything}, not: []string{"internal", "publish/publishtest"}},
	{room: "internal", may: nil},
	{room: ".", may: nil},
}

var (
	backends = []string{
		"publish/dirstore", "publish/memstore", "publish/s3store", "publish/httpstore", "publish/layoutregistry", "publish/remoteregistry", "publish/ocregistry",
		"publish/pgpsigner", "publish/cosignsigner", "publish/ed25519signer",
		"publish/cachestore", "publish/dryrunstore", "publish/faultstore", "publish/limitstore", "publish/logstore",
	}
	verbs = []string{"publish", "stream", "bootimage", "ostree", "payload", "payload/graph"}
	// support is what only tests and measurements use: it may import every
	// room, and no room may import it.
	support = []string{
		"internal/archtest", "internal/bench", "internal/determinism", "internal/deps", "internal/docs", "internal/fuzzbound", "internal/interop", "internal/treegen",
	}
)

func TestArrows(t *testing.T) {
	_, ours := packages(t)
	exempt := allow(t, "arrow")
	for _, p := range ours {
		for _, imported := range p.Imports {
			to, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				continue
			}
			if arrow := p.room() + " -> " + to; !mayImport(p.room(), to) && !exempt.ok(arrow) {
				t.Errorf("%s is not an arrow of the design", arrow)
			}
		}
	}
}

// mayImport judges one import between our packages.
func mayImport(from, to string) bool {
	isSupport := func(s string) func(string) bool { return func(folder string) bool { return under(s, folder) } }
	if slices.ContainsFunc(support, isSupport(from)) {
		return true
	}
	if slices.ContainsFunc(support, isSupport(to)) {
		return false
	}
	if parent, _, ok := strings.Cut(to, "/internal/"); ok { // examples/internal/x is of examples
		return under(from, parent)
	}
	for _, a := range arrows {
		if !under(from, a.room) {
			continue
		}
		if slices.ContainsFunc(a.not, func(folder string) bool { return under(to, folder) }) {
			return false
		}
		return under(to, "internal") || slices.Contains(a.may, everything) || slices.Contains(a.may, to)
	}
	return false
}

func TestArrowsJudge(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"stream", "internal/gvariant", true},
		{"stream", "ostree", false},
		{"ostree", "ostree/container", false},
		{"ostree/container", "ostree", true},
		{"payload", "ostree", false},
		{"payload", "publish", false},
		{"publish", "publish/dirstore", false},
		{"publish/s3store", "publish", true},
		{"publish/s3store", "publish/dirstore", false},
		{"publish/registryserver", "publish/layoutregistry", true},
		{"publish/registryserver", "publish/remoteregistry", false},
		{"publish/open", "publish/s3store", true},
		{"publish/daily", "payload", true},
		{"publish/daily", "publish/dirstore", false},
		{"publish/daily", "publish/open", false},
		{"examples/dailybuild", "publish/open", true},
		{"examples/dailybuild", "examples/internal/flags", true},
		{"examples/dailybuild", "internal/gvariant", false},
		{"internal/rpmdb", "ostree", false},
		{"internal/bench", "publish/open", true},
		{"ostree", "internal/interop", false},
		{"newroom", "ostree", false},
	} {
		require.Equal(t, tc.want, mayImport(tc.from, tc.to), "%s -> %s", tc.from, tc.to)
	}
}

// TestModules holds each public room to the modules that compile into it.
func TestModules(t *testing.T) {
	all, ours := packages(t)
	kept := []struct {
		module string
		rooms  []string
	}{
		{"github.com/aws/", []string{"publish/s3store", "publish/open"}},
		{"github.com/olareg/", nil},
		{"github.com/spf13/", nil},
		{"golang.org/x/term", nil},
		{"github.com/stretchr/testify", []string{"publish/publishtest"}},
		{"github.com/google/go-cmp", []string{"publish/publishtest"}},
	}
	var text strings.Builder
	for _, p := range ours {
		if !p.library() {
			continue
		}
		var modules []string
		for _, path := range p.Deps {
			if dep := all[path]; dep != nil && dep.Module != nil && !dep.ours() && !slices.Contains(modules, dep.Module.Path) {
				modules = append(modules, dep.Module.Path)
			}
		}
		slices.Sort(modules)
		for _, k := range kept {
			for _, m := range modules {
				if strings.HasPrefix(m, k.module) && !slices.Contains(k.rooms, p.room()) {
					t.Errorf("%s compiles %s, which is for %v", p.room(), m, append(k.rooms, "examples"))
				}
			}
		}
		if p.public() && p.room() != "." {
			fmt.Fprintf(&text, "%s\n", p.room())
			for _, m := range modules {
				fmt.Fprintf(&text, "\t%s\n", m)
			}
		}
	}
	golden(t, "modules.golden", text.String())
}

// TestNoCgo holds our packages to pure Go.
func TestNoCgo(t *testing.T) {
	_, ours := packages(t)
	for _, p := range ours {
		require.Empty(t, p.CgoFiles, p.room())
	}
}

// TestDependenciesAreExplained wants a line in dependencies.md for each module
// that go.mod requires directly.
func TestDependenciesAreExplained(t *testing.T) {
	root, err := interop.Root()
	require.NoError(t, err)
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	explained, err := os.ReadFile(filepath.Join(root, "internal", "docs", "dependencies.md"))
	require.NoError(t, err)
	for line := range strings.Lines(string(gomod)) {
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") || len(fields) != 2 { // "// indirect" makes more
			continue
		}
		parts := strings.Split(strings.TrimPrefix(fields[0], "github.com/"), "/")
		if name := strings.Join(parts[:min(2, len(parts))], "/"); !strings.Contains(string(explained), name) {
			t.Errorf("internal/docs/dependencies.md says nothing of %s", fields[0])
		}
	}
}
