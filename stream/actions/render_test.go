package actions_test

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/actions"
)

var update = flag.Bool("update", false, "write golden files")

const taskImage = "quay.io/okd/okd-streams@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// publicKeys look like keys.
const publicKeys = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: of a test (made up)\n\nxjMEYfKkZRYJKwYBBAHaRw8BAQdA\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"

// definition gives a built-in stream, or the one of a file in testdata.
func definition(t testing.TB, name string) *stream.Definition {
	t.Helper()
	if file, err := os.Open(filepath.Join("testdata", name+".yaml")); err == nil {
		defer file.Close()
		def, err := stream.Decode(file)
		require.NoError(t, err)
		return def
	}
	def, err := stream.Builtin(name)
	require.NoError(t, err)
	return def
}

// rendered are the streams of the golden files.
var rendered = map[string]*actions.Options{
	"mine": {Image: "ghcr.io/me/okd-streams@sha256:" + strings.Repeat("0", 64), Context: "os", Flow: "flows/mine.json"},
	"okd-scos-next": {
		Image: taskImage,
		Inputs: map[string]string{
			"source": "tar:/srv/os.tar", "extensions": "quay.io/okd/it's@sha256:" + strings.Repeat("2", 64),
		},
		Actions:    map[string]string{"actions/cache": strings.Repeat("a", 40), "actions/upload-artifact": strings.Repeat("b", 40)},
		PublicKeys: publicKeys,
	},
	"own-runner": {Image: taskImage, Runners: map[stream.Arch]string{"x86_64": "build-1", "s390x": "build-2"}, Checkout: true, State: "/srv/state"},
}

func TestRender(t *testing.T) {
	for name, opts := range rendered {
		t.Run(name, func(t *testing.T) {
			files, err := actions.Render(definition(t, name), opts)
			require.NoError(t, err)
			for _, f := range files {
				require.True(t, strings.HasPrefix(f.Path, ".github/workflows/okd-streams-"), f.Path)
				golden := filepath.Join("testdata", "golden", filepath.Base(f.Path))
				if *update {
					require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
					require.NoError(t, os.WriteFile(golden, f.Data, 0o644))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err)
				require.Equal(t, string(want), string(f.Data))
			}
		})
	}
}

// TestActionlint holds the workflows to actionlint.
func TestActionlint(t *testing.T) {
	program := interop.Actionlint(t)
	dir := t.TempDir()
	var names []string
	for name, opts := range rendered {
		files, err := actions.Render(definition(t, name), opts)
		require.NoError(t, err)
		for _, f := range files {
			path := filepath.Join(dir, f.Path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, f.Data, 0o644))
			names = append(names, path)
		}
	}
	// Runners of one's own are named by labels that it can't know.
	config := filepath.Join(t.TempDir(), "actionlint.yaml")
	require.NoError(t, os.WriteFile(config, []byte("self-hosted-runner:\n  labels: [build-1, build-2]\n"), 0o644))
	out, err := exec.CommandContext(t.Context(), program, append([]string{"-no-color", "-config-file", config}, names...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)

	// It is a judge: an unknown context and an unknown key are found.
	text, err := os.ReadFile(names[0])
	require.NoError(t, err)
	for _, bad := range []string{
		strings.Replace(string(text), "${{ job.status }}", "${{ nonsense.status }}", 1),
		strings.Replace(string(text), "    steps:", "    stepz:", 1),
	} {
		require.NotEqual(t, string(text), bad)
		require.NoError(t, os.WriteFile(names[0], []byte(bad), 0o644))
		require.Error(t, exec.CommandContext(t.Context(), program, "-config-file", config, names[0]).Run())
	}
}

func TestSecrets(t *testing.T) {
	require.Equal(t, []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "CHAT_HOOK_URL"}, actions.Secrets(definition(t, "mine")))
	require.Equal(t, []string{"OKD_GITHUBAPP_AUTH_GITHUBAPP_PRIVATE_KEY", "OKD_MATRIX_BOT_AUTH_TOKEN", "OKD_QUAY_PULL_SECRET_DOCKERCONFIGJSON", "OKD_RELEASE_GPG_SIGNING_KEY_PRIVATE_KEY", "OKD_S3_CONFIG_CREDENTIALS"},
		actions.Secrets(definition(t, "okd-scos-next")))
	require.Empty(t, actions.Secrets(definition(t, "own-runner")))
}

func TestRenderFaults(t *testing.T) {
	full := func() *actions.Options { o := *rendered["okd-scos-next"]; return &o }
	for _, tc := range []struct {
		name, stream string
		change       func(*actions.Options, *stream.Definition)
		want         []string
	}{
		{"nothing", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) { *o = actions.Options{} }, []string{"task image \"\" is not named by digest"}},
		{"a tag", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) { o.Image = "quay.io/okd/okd-streams:latest" }, []string{"is not named by digest"}},
		{"needs", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) { o.Inputs = nil }, []string{
			"os.source: a run needs it, the root filesystem of the node image built from the base image: name it in the definition, or give the input source",
			"extensions.image: a run needs it, the extensions image",
		}},
		{"base", "okd-scos-next", func(_ *actions.Options, d *stream.Definition) { d.Payload.Pick = nil }, []string{"payload.base: a run needs it, the release image", "payload.pick: no release controller"}},
		{"keys", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) { o.PublicKeys = "" }, []string{"trust.keys: the stream signs its releases"}},
		{"no keys", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) { o.PublicKeys = "x ${{ y }}" }, []string{"public keys are not OpenPGP keys"}},
		{"input", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) {
			o.Inputs = map[string]string{"nonsense": "x", "source": "${{ secrets.X }}"}
		}, []string{"no workflow has an input \"nonsense\"", "input source: more than a line, or an expression"}},
		{"action", "okd-scos-next", func(o *actions.Options, _ *stream.Definition) {
			o.Actions = map[string]string{"actions/checkout": "v4", "actions/cache": "v4"}
		}, []string{"action \"actions/checkout\" is not used", "action actions/cache: \"v4\" is no commit"}},
		{"context", "mine", func(o *actions.Options, _ *stream.Definition) { o.Context, o.State, o.Flow = "../x", "x", "a\nb" }, []string{"context \"../x\"", "state \"x\"", "flow"}},
		{"compose", "okd-scos-next", func(o *actions.Options, d *stream.Definition) {
			d.Version = stream.Minor{Major: 4, Minor: 19}
			o.Inputs["source"] = ""
		}, []string{"needs coreos-assembler and KVM"}},
		{"runner", "own-runner", func(o *actions.Options, _ *stream.Definition) { o.Runners = nil }, []string{"architecture s390x has no runner of GitHub's"}},
		{"label", "own-runner", func(o *actions.Options, _ *stream.Definition) {
			o.Runners = map[stream.Arch]string{"x86_64": "${{ x }}", "s390x": "x"}
		}, []string{"is no label"}},
		{"folders", "own-runner", func(o *actions.Options, d *stream.Definition) { o.Runners = nil; d.Architectures = d.Architectures[:1] }, []string{"store.url: dir:/srv/store is gone with GitHub's runner", "registry.repository"}},
		{"promoted in a folder", "own-runner", func(o *actions.Options, d *stream.Definition) {
			d.Cadences.Promotion.Schedule = "0 5 * * 1"
			o.Flow = "x"
		}, []string{"registry.repository: releases are promoted in a registry"}},
		{"flow", "mine", func(o *actions.Options, _ *stream.Definition) { o.Flow = "" }, []string{"payload.pick: no release controller"}},
		{"Sunday", "mine", func(_ *actions.Options, d *stream.Definition) { d.Cadences.Daily.Schedule = "0 5 * * 7" }, []string{"cadences.daily.schedule: \"0 5 * * 7\": GitHub knows Sunday as 0"}},
		{"secret", "mine", func(_ *actions.Options, d *stream.Definition) {
			d.Store.Credentials.Env["username"] = "GITHUB_X"
			d.Notifications[0].Credentials.Keys["url"] = ".."
		}, []string{"\"GITHUB_X\" can be no secret", "key \"..\" of secret \"chat\" is no name of a file"}},
		{"definition", "mine", func(_ *actions.Options, d *stream.Definition) { d.Architectures = nil }, []string{"architectures"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			def, opts := definition(t, tc.stream), full()
			if tc.stream != "okd-scos-next" {
				o := *rendered[tc.stream]
				opts = &o
			}
			opts.Inputs = maps.Clone(opts.Inputs)
			tc.change(opts, def)
			_, err := actions.Render(def, opts)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := actions.Render(nil, full())
	require.ErrorContains(t, err, "no definition")
}

// TestReadable reads the workflows as YAML: what comes from a definition stays a
// value, whatever it has in it.
func TestReadable(t *testing.T) {
	def := definition(t, "mine")
	def.Identity.Title = "a: \"b\" # c\\ ${{ secrets.X }} 'd'"
	files, err := actions.Render(def, rendered["mine"])
	require.NoError(t, err)
	for _, f := range files {
		var w struct {
			Jobs map[string]struct {
				Permissions map[string]string `yaml:"permissions"`
				Steps       []struct {
					Name, Run, Uses string
					Env             map[string]string `yaml:"env"`
				} `yaml:"steps"`
			} `yaml:"jobs"`
		}
		require.NoError(t, yaml.Unmarshal(f.Data, &w))
		for _, job := range w.Jobs {
			for _, s := range job.Steps {
				require.NotContains(t, s.Run, "${{", "a value becomes part of a program")
				require.Empty(t, s.Uses, "an action of somebody")
				if text := s.Env["DEFINITION"]; text != "" {
					again, err := stream.Decode(strings.NewReader(strings.ReplaceAll(text, "${{ '${{' }}", "${{")))
					require.NoError(t, err)
					require.Equal(t, def.Identity.Title, again.Identity.Title)
				}
			}
		}
	}
}
