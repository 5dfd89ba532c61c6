package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// others print no result of their own, but bytes that somebody else's format says.
var others = map[string]string{
	"okd-streams man":           "writes pages",
	"okd-streams ostree export": "writes a tar archive",
	// The others of tekton print a line that the task around them reads.
	"okd-streams actions render": "writes workflows", "okd-streams tekton render": "writes objects",
	"okd-streams tekton check": "a line", "okd-streams tekton install": "a line", "okd-streams tekton lock": "a line", "okd-streams tekton pick": "a line",
	"okd-streams tekton run": "a line", "okd-streams tekton unlock": "a line",
}

// TestOutput: every command that prints has -o text|json|yaml.
func TestOutput(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			look(c)
		}
		if cmd.HasSubCommands() && cmd.CommandPath() != "okd-streams build" || others[cmd.CommandPath()] != "" {
			return
		}
		_ = cmd.InheritedFlags() // which are merged by it
		f := cmd.Flags().Lookup("output")
		if f == nil {
			f = cmd.InheritedFlags().Lookup("output")
		}
		require.NotNil(t, f, cmd.CommandPath())
		require.Equal(t, "o", f.Shorthand, cmd.CommandPath())
		require.Contains(t, f.Usage, "|yaml", cmd.CommandPath())
	}
	look(newRoot())
}

// TestOutputFormats: YAML is the JSON in other letters.
func TestOutputFormats(t *testing.T) {
	state := t.TempDir()
	code, _, stderr := call(t, "build", "--state", state, "--quiet")
	require.Zero(t, code, stderr)
	registry := "dir:" + filepath.Join(state, "registry")
	for _, args := range [][]string{
		{"build", "--state", state, "--quiet"}, {"build", "--state", state, "--plan"}, {"stream", "list"}, {"stream", "show", "sample"}, {"stream", "diff", "sample", "okd-scos-next"},
		{"stream", "status", "sample", "--state", state, "--now", "2026-11-26T00:00:00Z"}, {"version"},
		{"payload", "info", "--from", registry, "localhost/sample/sample-release:0.0.0-sample.20261125"},
		{"payload", "info", "--from", registry, "--packages", "localhost/sample/sample-release:0.0.0-sample.20261125"},
		{"payload", "lint", "--from", registry, "localhost/sample/sample-release:0.0.0-sample.20261125"},
		{"container", "inspect", "--registry", registry, "localhost/sample/sample-coreos:latest"},
		{"ostree", "--repo", filepath.Join(state, "repo"), "refs"}, {"ostree", "--repo", filepath.Join(state, "repo"), "log", "sample/x86_64/sample"},
		{"disk", "probe", filepath.Join(state, "last.json")},
	} {
		code, first, _ := call(t, append(args, "-o", "json")...)
		require.True(t, json.Valid([]byte(first)), "%v %d: %s", args, code, first)
		again, second, _ := call(t, append(args, "-o", "yaml")...)
		require.Equal(t, code, again, args)
		back, err := yaml.YAMLToJSON([]byte(second))
		require.NoError(t, err, args)
		require.JSONEq(t, first, string(back), args)
		code, _, stderr := call(t, append(args, "-o", "xml")...)
		require.Equal(t, 2, code, args)
		require.Contains(t, stderr, "it is one of text, json, yaml")
	}
}
