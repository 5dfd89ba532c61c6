package stream_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
)

// layered is a definition of a node image that packages are installed in.
func layered(t *testing.T, change func(d *stream.Definition)) *stream.Definition {
	t.Helper()
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	d.Profiles, d.OS.Kind = nil, stream.Layer
	d.Payload.ExtensionsTags = []string{"stream-coreos-extensions"}
	d.OS.Containerfile, d.OS.BuildArgs, d.OS.Source.Variant = "", nil, ""
	d.OS.Source.Image, d.OS.Source.Follow = "", "quay.io/okd/scos:4.22"
	d.OS.Manager, d.OS.Packages = stream.RPMOSTree, []string{"cri-o-1.33.0", "openshift-kubelet"}
	d.Extensions.Sets = []stream.Extension{
		{Name: "usbguard", Packages: []string{"usbguard"}}, {Name: "kernel-devel", Packages: []string{"kernel-devel"}, Architectures: []stream.Arch{stream.X8664}, MatchVersion: "kernel"},
	}
	change(d)
	return d
}

func TestPackages(t *testing.T) {
	good := layered(t, func(*stream.Definition) {})
	require.NoError(t, good.Validate())
	var text strings.Builder
	require.NoError(t, good.Encode(&text))
	back, err := stream.Decode(strings.NewReader(text.String()))
	require.NoError(t, err)
	require.Equal(t, good, back)

	digest := "quay.io/okd/x@sha256:" + strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		change func(d *stream.Definition)
		want   string
	}{
		"beside a Containerfile":  {func(d *stream.Definition) { d.OS.Containerfile = "Containerfile" }, "os.containerfile: says already what is installed (keep it, or manager and packages)"},
		"manager beside one":      {func(d *stream.Definition) { d.OS.Containerfile, d.OS.Packages = "Containerfile", nil }, "os.containerfile: says already"},
		"another kind":            {func(d *stream.Definition) { d.OS.Kind = stream.Compose }, "os.packages: not for kind compose (only for kind layer)"},
		"manager of another kind": {func(d *stream.Definition) { d.OS.Kind = stream.Compose }, "os.manager: not for kind compose"},
		"sets of another kind":    {func(d *stream.Definition) { d.OS.Kind = stream.Compose }, "extensions.sets: not for kind compose"},
		"no name of a package":    {func(d *stream.Definition) { d.OS.Packages[0] = "a; rm -rf /" }, `os.packages[0]: "a; rm -rf /" is not possible here`},
		"twice":                   {func(d *stream.Definition) { d.OS.Packages[1] = d.OS.Packages[0] }, "os.packages[1]"},
		"apt with repositories":   {func(d *stream.Definition) { d.OS.Manager = stream.APT }, "os.repositories: are for RPM packages, not for apt"},
		"sets and an image":       {func(d *stream.Definition) { d.Extensions.Image = digest }, "extensions.sets: extensions.image is handed in"},
		"set without name":        {func(d *stream.Definition) { d.Extensions.Sets[0].Name = "" }, "extensions.sets[0].name: missing"},
		"set twice":               {func(d *stream.Definition) { d.Extensions.Sets[0].Name = "kernel-devel" }, "extensions.sets[1].name"},
		"set without packages":    {func(d *stream.Definition) { d.Extensions.Sets[0].Packages = nil }, "extensions.sets[0].packages: missing"},
		"package of a set":        {func(d *stream.Definition) { d.Extensions.Sets[0].Packages[0] = "-x" }, `extensions.sets[0].packages[0]: "-x"`},
		"version of a set":        {func(d *stream.Definition) { d.Extensions.Sets[1].MatchVersion = "a b" }, `extensions.sets[1].matchVersion: "a b"`},
		"architecture of a set": {func(d *stream.Definition) { d.Extensions.Sets[1].Architectures[0] = stream.S390X },
			"extensions.sets[1].architectures[0]: the stream has no s390x"},
	} {
		require.ErrorContains(t, layered(t, tc.change).Validate(), tc.want, name)
	}
	for bad, want := range map[string]string{
		"  manager: rpm-ostree":      "  manager: yum",
		"      matchVersion: kernel": "      matchversion: kernel",
	} {
		_, err := stream.Decode(strings.NewReader(strings.Replace(text.String(), bad, want, 1)))
		require.ErrorContains(t, err, strings.Fields(want)[0][:len("manager")], bad)
	}
}
