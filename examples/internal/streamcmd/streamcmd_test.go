package streamcmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/streamcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
)

func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(streamcmd.Command())
	var out, errs bytes.Buffer
	root.SetArgs(append([]string{"stream"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// releases makes a folder of release images, small ones of real parts, with
// these versions.
func releases(t *testing.T, versions ...string) (registry, repository string) {
	t.Helper()
	registry = "dir:" + t.TempDir()
	images, err := open.Registry(t.Context(), registry, nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/okd/release")
	require.NoError(t, err)
	components, err := sample.Components(t.Context(), images, repo)
	require.NoError(t, err)
	for _, component := range []string{"stream-coreos", "stream-coreos-extensions"} {
		img, err := random.Image(64, 1)
		require.NoError(t, err)
		written, err := images.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		components[component] = repo.Digest(written.Digest.String())
	}
	for _, version := range versions {
		built, err := payload.Assemble(t.Context(), images, &payload.Spec{
			Version: version, Components: components, Created: sample.Epoch, Previous: []string{},
		}, &payload.AssembleOptions{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}})
		require.NoError(t, err)
		_, err = images.WriteImage(t.Context(), repo, built.Image, nil)
		require.NoError(t, err)
		require.NoError(t, images.Tag(t.Context(), repo.Tag(version), built.Digest))
	}
	return registry, repo.Name()
}

func TestInit(t *testing.T) {
	registry, repo := releases(t, "4.21.0-okd-scos.ec.3", "4.21.0-okd-scos.2", "4.20.0-okd-scos.17")
	file := filepath.Join(t.TempDir(), "mine.yaml")
	_, next, err := run(t, "init", "--registry", registry, "--from-release", repo, file)
	require.NoError(t, err)
	require.Contains(t, next, "okd-streams build --stream "+file+" --plan")

	out, _, err := run(t, "lint", file)
	require.NoError(t, err)
	require.Equal(t, file+": stream mine, no faults\n", out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	def, err := stream.Decode(bytes.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, "mine", def.Identity.Name)
	require.Equal(t, stream.Layer, def.OS.Kind)
	require.Equal(t, "4.21", def.Version.String())
	require.Equal(t, stream.SchemeSCOS, def.Naming.Release)
	require.Contains(t, string(text), "4.21.0-okd-scos.2\n", "the newest, as OKD orders them")
	require.True(t, def.Extensions.Required)
	needs, err := def.Needs("4.21")
	require.NoError(t, err)
	require.Empty(t, needs)

	// The pins are those of the release.
	images, err := open.Registry(t.Context(), registry, nil)
	require.NoError(t, err)
	base, err := name.NewDigest(def.Payload.Base)
	require.NoError(t, err)
	opened, err := payload.Open(t.Context(), images, base, nil)
	require.NoError(t, err)
	node, err := opened.Image("stream-coreos")
	require.NoError(t, err)
	require.Equal(t, node.Name(), def.OS.Source.Image)

	_, _, err = run(t, "init", "--registry", registry, "--from-release", repo, file)
	require.ErrorIs(t, err, fs.ErrExist)
	out, _, err = run(t, "init", "--registry", registry, "--from-release", repo+":4.20.0-okd-scos.17", "--name", "other", "-")
	require.NoError(t, err)
	require.Contains(t, out, `version: "4.20"`)
	require.Contains(t, out, "name: other")
}

func TestInitFails(t *testing.T) {
	registry, repo := releases(t, "4.21.0-okd-scos.2")
	file := filepath.Join(t.TempDir(), "mine.yaml")
	for _, tc := range []struct {
		args  []string
		want  string
		usage bool
	}{
		{[]string{"init"}, "0 arguments", true},
		{[]string{"init", "--from", "okd-scos-next", "--from-release", repo, file}, "give one of them", true},
		{[]string{"init", "--from", "okd-scos-old", file}, "okd-scos-old", true},
		{[]string{"init", "--registry", registry, "--from-release", repo, "--name", "Not Good", file}, "identity.name", true},
		{[]string{"init", "--registry", registry, "--from-release", repo, "--arch", "vax", file}, "x86_64", true},
		{[]string{"init", "--registry", registry, "--from-release", repo, "--arch", "aarch64", file}, "amd64", false},
		{[]string{"init", "--registry", registry, "--from-release", "UPPER", file}, "UPPER", true},
		{[]string{"init", "--registry", registry, "--from-release", repo + ":4.1.0", file}, "--from-release names another release", false},
		{[]string{"init", "--registry", registry, "--from-release", "localhost/okd/none", file}, "--from-release names a release", false},
		{[]string{"init", "--registry", "ftp:x", "--from-release", repo, file}, "--registry ftp:x", true},
	} {
		_, _, err := run(t, tc.args...)
		require.ErrorContains(t, err, tc.want, "%v", tc.args)
		_, usage := errors.AsType[*ui.UsageError](err)
		require.Equal(t, tc.usage, usage, "%v: %v", tc.args, err)
		require.NoFileExists(t, file)
	}
}

func TestInitCopies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy.yaml")
	_, _, err := run(t, "init", "--from", "okd-scos-next", file)
	require.NoError(t, err)
	out, _, err := run(t, "diff", "okd-scos-next", file)
	require.NoError(t, err)
	require.Equal(t, "  identity.name: okd-scos-next -> copy\n  identity.title: OKD/SCOS next -> copy\n", out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "# Kubelet, oc and credential providers. Not open to all.")
}

func TestDiff(t *testing.T) {
	out, _, err := run(t, "diff", "okd-scos-stable", "okd-scos-stable")
	require.NoError(t, err)
	require.Empty(t, out)

	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	text := string(stream.BuiltinSource("okd-scos-next"))
	require.NoError(t, os.WriteFile(a, []byte(text), 0o600))
	text = strings.Replace(text, "  - {name: lint, kind: lint}\n", "", 1) // all others move up
	text = strings.Replace(text, `OPENSHIFT_CI: "1"`, `OPENSHIFT_CI: "2"`, 1)
	text = strings.Replace(text, "    variant: c9s\n", "    variant: c9s\n    extensionsRequired: false\n", 1)
	text = strings.Replace(text, "timeout: 90m", "timeout: 2h", 1)
	text = strings.Replace(text, "memory: 16Gi", "memory: 16Gi\n    image: quay.io/a/b@sha256:"+strings.Repeat("0", 64), 1)
	require.NoError(t, os.WriteFile(b, []byte(text), 0o600))
	out, _, err = run(t, "diff", a, b)
	require.NoError(t, err)
	require.Equal(t, `- gates[lint].kind: lint
- gates[lint].name: lint
  os.buildArgs["OPENSHIFT_CI"]: 1 -> 2
+ os.builder.image: quay.io/a/b@sha256:`+strings.Repeat("0", 64)+`
  os.builder.timeout: 1h30m0s -> 2h0m0s
+ profiles[4.13].extensionsRequired: false
`, out)

	out, _, err = run(t, "diff", "--json", a, b)
	require.NoError(t, err)
	var changes []struct{ Path, From, To string }
	require.NoError(t, json.Unmarshal([]byte(out), &changes))
	require.Len(t, changes, 6)

	_, _, err = run(t, "diff", a, filepath.Join(dir, "none.yaml"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestBump(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	before := string(stream.BuiltinSource("okd-scos-next"))
	require.NoError(t, os.WriteFile(file, []byte(before), 0o600))

	out, _, err := run(t, "bump", "--dry-run", file)
	require.NoError(t, err)
	require.Equal(t, `  gates[aws].job: periodic-ci-openshift-release-main-okd-scos-4.22-e2e-aws-ovn -> periodic-ci-openshift-release-main-okd-scos-4.23-e2e-aws-ovn
  version: 4.22 -> 4.23
`, out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, string(text))

	_, stderr, err := run(t, "bump", file)
	require.NoError(t, err)
	require.Empty(t, stderr)
	text, err = os.ReadFile(file)
	require.NoError(t, err)
	want := strings.Replace(before, `version: "4.22"`, `version: "4.23"`, 1)
	want = strings.Replace(want, "okd-scos-4.22-e2e", "okd-scos-4.23-e2e", 1)
	require.Equal(t, want, string(text), "every other byte stays")

	_, _, err = run(t, "bump", "--to", "4.22", file)
	require.ErrorContains(t, err, "4.22 is before that")
	out, _, err = run(t, "bump", "--to", "4.23", file)
	require.NoError(t, err)
	require.Equal(t, file+": nothing to change\n", out)
}

func TestBumpEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fcos.yaml")
	require.NoError(t, os.WriteFile(file, stream.BuiltinSource("okd-fcos-stable"), 0o600))
	_, _, err := run(t, "bump", "--to", "4.16", file)
	require.ErrorContains(t, err, "ended with 4.15")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, stream.BuiltinSource("okd-fcos-stable"), text)
}

func TestBumpToRelease(t *testing.T) {
	registry, repo := releases(t, "4.21.0-okd-scos.2", "4.21.0-okd-scos.3", "4.22.0-okd-scos.0")
	file := filepath.Join(t.TempDir(), "mine.yaml")
	_, _, err := run(t, "init", "--registry", registry, "--from-release", repo+":4.21.0-okd-scos.2", file)
	require.NoError(t, err)

	// The next of the same version: pins alone.
	out, _, err := run(t, "bump", "--registry", registry, "--from-release", repo+":4.21.0-okd-scos.3", file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(out, "\n"), out)
	require.Contains(t, out, "  payload.base: ")

	// Alone, the version moves and what is pinned is named.
	out, stderr, err := run(t, "bump", "--dry-run", file)
	require.NoError(t, err)
	require.Equal(t, "  version: 4.21 -> 4.22\n", out)
	for _, pin := range []string{"os.source.image", "payload.base", "extensions.image"} {
		require.Contains(t, stderr, pin+" is pinned, and so still of 4.21: ")
	}

	out, stderr, err = run(t, "bump", "--registry", registry, "--from-release", repo, file)
	require.NoError(t, err)
	require.Contains(t, out, "  version: 4.21 -> 4.22\n")
	require.Empty(t, stderr)
	_, _, err = run(t, "bump", "--registry", registry, "--from-release", repo, "--to", "4.23", file)
	require.ErrorContains(t, err, "the release is of 4.22")
}

func TestLintNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	require.NoError(t, os.WriteFile(file, stream.BuiltinSource("okd-scos-next"), 0o600))
	out, _, err := run(t, "lint", file)
	require.NoError(t, err)
	require.Contains(t, out, "payload.base does not say")
	require.NoError(t, os.WriteFile(file, []byte("apiVersion: x\n"), 0o600))
	_, _, err = run(t, "lint", file)
	require.ErrorContains(t, err, "apiVersion")
}
