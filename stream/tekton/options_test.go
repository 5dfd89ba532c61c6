package tekton_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

func TestRenderRefuses(t *testing.T) {
	next := func(change func(d *stream.Definition)) func(testing.TB) *stream.Definition {
		return builtin("okd-scos-next", func(_ testing.TB, d *stream.Definition) {
			d.OS.Builder.Image = builderImage
			if change != nil {
				change(d)
			}
		})
	}
	source := map[string]string{"source": "tar:/x"}
	for name, tc := range map[string]struct {
		definition func(testing.TB) *stream.Definition
		opts       *tekton.Options
		want       []string
	}{
		"nothing":       {builtin("sample", nil), nil, []string{`task image "" is not named by digest`}},
		"task image":    {builtin("sample", nil), &tekton.Options{Image: "quay.io/okd/okd-streams:latest"}, []string{"not named by digest"}},
		"all at once":   {builtin("sample", nil), &tekton.Options{Namespace: "Upper", Prefix: "-", Platform: "vms", Insecure: []string{"http://x"}}, []string{"namespace \"Upper\"", "prefix \"-\"", "platform \"vms\"", "insecure registry", "task image"}},
		"no builder":    {builtin("okd-scos-next", nil), &tekton.Options{Image: taskImage, Params: source}, []string{"os.builder.image: a build of kind layer runs in an image that the definition must name by digest"}},
		"source":        {next(nil), &tekton.Options{Image: taskImage}, []string{"parameter source of pipeline okd-coreos, which its CronJob has to give, is said neither by the definition nor by Options.Params"}},
		"unknown param": {next(nil), &tekton.Options{Image: taskImage, Params: map[string]string{"source": "tar:/x", "sauce": "y"}}, []string{`no pipeline has the parameter "sauce"`}},
		"list":          {builtin("sample", nil), &tekton.Options{Image: taskImage, Params: map[string]string{"inputs-args": "--x"}}, []string{"parameter inputs-args is a list"}},
		"bad version":   {next(func(d *stream.Definition) { d.Version = stream.Minor{Major: 4, Minor: 3} }), &tekton.Options{Image: taskImage, Params: source}, []string{"4.3"}},
		"key of secret": {next(func(d *stream.Definition) { d.Registry.Credentials.Keys["file"] = "config.json" }), &tekton.Options{Image: taskImage, Params: source}, []string{"the key of the file is .dockerconfigjson"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tekton.Render(tc.definition(t), tc.opts)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			_, err = tekton.Tree(tc.definition(t), tc.opts)
			if tc.opts == nil || tc.opts.Platform == "" {
				require.Error(t, err)
			}
		})
	}
	var p tekton.Platform
	require.NoError(t, p.UnmarshalText([]byte("openshift")))
	require.Equal(t, tekton.OpenShift, p)
	require.ErrorContains(t, p.UnmarshalText([]byte("vms")), "there are plain, kind and openshift")
}

// TestProbe has the first task of a compose meet coreos-assemblers of several years.
func TestProbe(t *testing.T) {
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	r, err := tekton.Render(cases["okd-scos-4.18"].definition(t), cases["okd-scos-4.18"].opts)
	require.NoError(t, err)
	script := ""
	for _, o := range r.Objects {
		if task, ok := o.(*tekton.Task); ok && task.Metadata.Name == "okd-418-cosa-init" {
			require.Equal(t, "lock", task.Spec.Steps[0].Name)
			script = task.Spec.Steps[1].Script
		}
	}
	probe, _, ok := strings.Cut(script, "rm -rf src/config")
	require.True(t, ok)
	all := "init fetch build kola buildextend-extensions-container buildextend-metal buildextend-metal4k buildextend-live buildextend-openstack buildextend-qemu"
	for name, tc := range map[string]struct {
		commands, build string
		missing         []string
	}{
		"of 2024":         {all, "--force --force-nocache", nil},
		"of January 2026": {strings.ReplaceAll(all, "buildextend-extensions-container ", ""), "--force --force-nocache", []string{"cosa extensions-container"}},
		"of April 2026":   {strings.ReplaceAll(all, "buildextend-extensions-container ", ""), "--force", []string{"cosa extensions-container", "cosa build --force-nocache"}},
		"without metal4k": {strings.ReplaceAll(all, "buildextend-metal4k ", ""), "--force-nocache", []string{"cosa buildextend-metal4k"}},
		"another program": {"", "", []string{"cosa init", "cosa fetch", "cosa build"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tool := "#!/bin/sh\nif [ \"$1\" = build ]; then echo 'options: " + tc.build + "'; exit 0; fi\nfor c in " + tc.commands + "; do echo \"  $c\"; done\nexit 1\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "cosa"), []byte(tool), 0o755))
			cmd := exec.CommandContext(t.Context(), bash)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			cmd.Stdin = strings.NewReader(strings.ReplaceAll(probe, "/workspace/shared-workspace", dir))
			out, err := cmd.CombinedOutput()
			if tc.missing == nil {
				require.NoError(t, err, "%s", out)
				require.Empty(t, string(out))
				return
			}
			require.Error(t, err)
			require.Contains(t, string(out), "this coreos-assembler cannot build the stream")
			for _, m := range tc.missing {
				require.Contains(t, string(out), "  "+m+"\n")
			}
		})
	}
}

func BenchmarkRender(b *testing.B) {
	for name, tc := range cases {
		b.Run(name, func(b *testing.B) {
			def := tc.definition(b)
			var out bytes.Buffer
			for b.Loop() {
				r, err := tekton.Render(def, tc.opts)
				require.NoError(b, err)
				out.Reset()
				require.NoError(b, r.Encode(&out))
			}
			b.SetBytes(int64(out.Len()))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	r, err := tekton.Render(cases["okd-scos-4.18"].definition(b), cases["okd-scos-4.18"].opts)
	require.NoError(b, err)
	var out bytes.Buffer
	require.NoError(b, r.Encode(&out))
	b.SetBytes(int64(out.Len()))
	for b.Loop() {
		_, err := tekton.Decode(bytes.NewReader(out.Bytes()))
		require.NoError(b, err)
	}
}
