package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// componentsOf reads a release of a registry in a folder: digest by component.
func componentsOf(t *testing.T, registry, pullspec string) map[string]string {
	t.Helper()
	images, err := layoutregistry.Open(t.Context(), registry, nil)
	require.NoError(t, err)
	ref, err := name.NewDigest(pullspec)
	require.NoError(t, err)
	release, err := payload.Open(t.Context(), images, ref, nil)
	require.NoError(t, err)
	out := map[string]string{}
	for _, tag := range release.References.Tags {
		_, out[tag.Name], _ = strings.Cut(tag.Pullspec, "@")
	}
	return out
}

// TestPayloadOfARelease: what flags and definition say of the payload comes out
// of it.
func TestPayloadOfARelease(t *testing.T) {
	registry := filepath.Join(t.TempDir(), "registry")
	run := func(t *testing.T, args ...string) *daily.Summary {
		t.Helper()
		code, stdout, stderr := call(t, append([]string{"-state", t.TempDir(), "-registry", "dir:" + registry, "-json", "-quiet"}, args...)...)
		require.Zero(t, code, stderr)
		return decode(t, stdout)
	}
	base := run(t)
	before := componentsOf(t, registry, base.Release.Reference)
	operators := []string{"cluster-version-operator", "machine-config-operator", "sample-operator"}
	all := slices.Sorted(maps.Keys(before))
	require.Equal(t, append(slices.Clone(operators), "stream-coreos", "stream-coreos-extensions"), all)
	tree := "dir:" + smallSystem(t, 3)

	for i, tt := range []struct {
		name    string
		changes []string // of the definition
		args    []string
		want    map[string]string // other than those of the base
		without string
		node    string // "": the build's own
	}{
		{name: "from release", args: []string{"-from-release", base.Release.Reference}},
		{name: "from release by tag", args: []string{"-from-release", "localhost/sample/sample-release:" + base.Version}},
		{name: "definition's base", changes: []string{"payload:\n", "payload:\n  base: " + base.Release.Reference + "\n"}},
		{name: "component", args: []string{"-from-release", base.Release.Reference, "-component", "sample-operator=" + base.Extensions.Reference},
			want: map[string]string{"sample-operator": base.Extensions.Digest}},
		{name: "exclude", changes: []string{"payload:\n", "payload:\n  exclude: [sample-operator]\n"}, args: []string{"-from-release", base.Release.Reference},
			without: "sample-operator"},
		{name: "overrides", changes: []string{
			"payload:\n", "payload:\n  overrides:\n  - {name: sample-operator, image: '" + base.Extensions.Reference + "'}\n  - {name: sample-more, image: '" + base.Extensions.Reference + "'}\n",
		}, args: []string{"-from-release", base.Release.Reference},
			want: map[string]string{"sample-operator": base.Extensions.Digest, "sample-more": base.Extensions.Digest}},
		{name: "component over override", changes: []string{
			"payload:\n", "payload:\n  overrides:\n  - {name: sample-operator, image: '" + base.Extensions.Reference + "'}\n",
		}, args: []string{"-from-release", base.Release.Reference, "-component", "sample-operator=localhost/sample/sample-content@" + before["sample-operator"]}},
		{name: "node", args: []string{"-from-release", base.Release.Reference, "-node", base.Node.Reference, "-extensions", base.Extensions.Reference},
			node: base.Node.Digest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"-source", tree, "-version", "0.0.0-sample.2026112" + string(rune('0'+i))}, tt.args...)
			if tt.changes != nil {
				args = append(args, "-stream", sampleWith(t, tt.changes...))
			}
			s := run(t, args...)
			got := componentsOf(t, registry, s.Release.Reference)
			want := maps.Clone(before)
			want["stream-coreos"], want["stream-coreos-extensions"] = s.Node.Digest, s.Extensions.Digest
			maps.Copy(want, tt.want)
			delete(want, tt.without)
			require.Equal(t, want, got)
			if tt.node != "" {
				require.Equal(t, tt.node, s.Node.Digest)
				require.Equal(t, base.Extensions.Digest, s.Extensions.Digest)
			} else {
				require.NotEqual(t, base.Node.Digest, s.Node.Digest)
			}
			require.NotEqual(t, base.Commit.Content, s.Commit.Content)
		})
	}
}

func TestPlanForPrograms(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	code, stdout, stderr := call(t, "-state", state, "-plan", "-json", "-source", "tar:none.tar", "-node", "localhost/n:1")
	require.Zero(t, code, stderr)
	var o daily.Outline
	require.NoError(t, json.Unmarshal([]byte(stdout), &o))
	require.Equal(t, "sample", o.Stream)
	require.Equal(t, "0.0.0-sample.20261125", o.Version)
	var steps []string
	for _, step := range o.Steps {
		require.NotEmpty(t, step.Does, step.Step)
		steps = append(steps, step.Step)
	}
	require.Equal(t, daily.Steps(), steps)
	require.Contains(t, stdout, "read tar:none.tar")
	require.Contains(t, stdout, "the node image is localhost/n:1")
	require.NoDirExists(t, state)
}

// TestMissingNeeds: what a stream needs and was not given is said once, all of
// it and nothing else, before anything is made.
func TestMissingNeeds(t *testing.T) {
	const (
		source     = "a root filesystem"
		base       = "a release image to start from"
		extensions = "an extensions image"
		disk       = "a qemu qcow2 disk"
	)
	digest := "example.org/x@sha256:" + strings.Repeat("a", 64)
	disks := sampleWith(t, "artifacts:\n", "artifacts:\n  - {platform: qemu, format: qcow2, required: true}\n")
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"all", []string{"-stream", "okd-scos-next"}, []string{source, base, extensions}},
		{"source given", []string{"-stream", "okd-scos-next", "-source", "dir:none"}, []string{base, extensions}},
		{"base given", []string{"-stream", "okd-scos-next", "-from-release", digest}, []string{source, extensions}},
		{"operator given", []string{"-stream", "okd-scos-next", "-component", "cluster-version-operator=" + digest}, []string{source, extensions}},
		{"extensions given", []string{"-stream", "okd-scos-next", "-source", "dir:none", "-extensions", digest}, []string{base}},
		{"stream that ended", []string{"-stream", "okd-fcos-stable"}, []string{source, base, "OKD on Fedora CoreOS ended with 4.15"}},
		{"disks", []string{"-stream", disks}, []string{disk}},
	} {
		for _, plan := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				dir := t.TempDir()
				args := append([]string{"-state", dir + "/state", "-store", "dir:" + dir + "/store", "-registry", "dir:" + dir + "/registry"}, tt.args...)
				if plan {
					args = append(args, "-plan")
				}
				code, stdout, stderr := call(t, args...)
				require.Equal(t, 2, code, stderr)
				require.Empty(t, stdout)
				for _, need := range []string{source, base, extensions, disk, "OKD on Fedora CoreOS ended with 4.15"} {
					times := 0
					if slices.Contains(tt.want, need) {
						times = 1
					}
					require.Equal(t, times, strings.Count(stderr, need), "%s in %s", need, stderr)
				}
				require.Equal(t, 1, strings.Count(stderr, " needs:"), stderr)
				if tt.name != "disks" || plan { // the sample's images are made before
					for _, made := range []string{"state", "store", "registry"} {
						require.NoDirExists(t, filepath.Join(dir, made))
					}
				}
			})
		}
	}
}

// TestFaultyDefinitionHasAdvice: it names the program that has the command.
func TestFaultyDefinitionHasAdvice(t *testing.T) {
	code, _, stderr := call(t, "-state", t.TempDir(), "-stream", sampleWith(t, "distribution: sample", "distribution: sampel"))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "okd-streams stream lint FILE")
	require.NotContains(t, stderr, "dailybuild stream")
}
