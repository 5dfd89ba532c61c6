package actionscmd_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/actionscmd"
	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := actionscmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

var image = "registry.example/okd-streams@sha256:" + strings.Repeat("0", 64)

func TestRender(t *testing.T) {
	dir := t.TempDir()
	args := []string{"render", "--image", image, "--runner", "x86_64=mine", "--state", "/srv/state", "--output", dir, "sample"}
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	path := filepath.Join(dir, ".github", "workflows", "okd-streams-sample-daily.yml")
	require.Equal(t, path+"\n", stdout)
	require.Empty(t, stderr)
	code, stdout, _ = call(t, append(args, "--check")...)
	require.Zero(t, code)
	require.Empty(t, stdout)
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o644))
	code, _, stderr = call(t, append(args, "--check")...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, path+" is not what the definition gives\n  run it without --check, and commit what it writes\n")

	code, stdout, stderr = call(t, "render", "--image", image, "--input", "source=tar:/os.tar", "--input", "extensions=y", "--public-key", "../../../publish/pgpsigner/testdata/ed.asc",
		"--action", "actions/cache="+strings.Repeat("a", 40), "okd-scos-next")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "--- # .github/workflows/okd-streams-okd-scos-next-promotion.yml\n")
	require.Contains(t, stdout, "uses: \"actions/cache@aaaa")
	require.Contains(t, stderr, "secrets that the repository must have: OKD_GITHUBAPP_AUTH_GITHUBAPP_PRIVATE_KEY, ")
}

func TestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown command \"x\"":       {"x"},
		"0 arguments":                 {"render"},
		"give --image IMAGE":          {"render", "sample"},
		"--check needs --output":      {"render", "--image", image, "--check", "sample"},
		"--input x: it is NAME=VALUE": {"render", "--image", image, "--input", "x", "sample"},
		"--runner x: it is":           {"render", "--image", image, "--runner", "x", "sample"},
		"--action x: it is":           {"render", "--image", image, "--action", "x", "sample"},
		"nowhere":                     {"render", "--image", image, "nowhere"},
	} {
		code, stdout, stderr := call(t, args...)
		require.Equal(t, 2, code, "%v: %s", args, stderr)
		require.Contains(t, stderr, want)
		require.Empty(t, stdout)
	}
	code, _, stderr := call(t, "render", "--image", image, "okd-scos-next")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "name it in the definition, or give the input source")
}

// TestRunsAsWritten runs the steps of a workflow as a runner does: each in a shell of
// its own, with the environment that earlier steps left.
func TestRunsAsWritten(t *testing.T) {
	interop.Peer(t, "bash", "git")
	dir := t.TempDir()
	program := filepath.Join(dir, "okd-streams")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../okd-streams").CombinedOutput()
	require.NoError(t, err, "%s", out)
	r := newRunner(t, dir)
	// What the step does with a container engine is to copy a file out of an image.
	docker := "case $1 in create) echo id ;; cp) cp " + program + " \"$3\" ;; rm) echo id ;; *) exit 1 ;; esac\n"
	r.tool("docker", docker)
	r.repository("os/Containerfile", "FROM scratch\n")

	code, stdout, stderr := call(t, "render", "--image", image, "--runner", "x86_64=mine", "--checkout", "sample")
	require.Zero(t, code, stderr)
	require.NoError(t, r.run(stdout, map[string]string{"inputs.release-name": "0.0.0-sample.20261125"}), r.log.String())
	require.FileExists(t, filepath.Join(r.workspace, "os", "Containerfile"))
	summary, err := os.ReadFile(r.summary)
	require.NoError(t, err)
	require.Contains(t, string(summary), "**success**\n\n| result | value |\n| --- | --- |\n")
	require.Contains(t, string(summary), "| release-name | 0.0.0-sample.20261125 |\n")
	require.Regexp(t, `\| release-pullspec \| localhost/\S+@sha256:[0-9a-f]{64} \|\n`, string(summary))
	require.Contains(t, string(summary), "| published | true |\n")
	require.NoDirExists(t, filepath.Join(r.temp, "okd-streams", "secrets"))

	// A payload that was accepted is promoted when it is due, and not again.
	server, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	host := strings.TrimPrefix(listener.URL, "http://")
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository(host + "/okd/payload")
	require.NoError(t, err)
	payload, err := sample.Release(t.Context(), registry, repo, "4.21.0-0.okd-scos-2026-11-20-080000", sample.Epoch)
	require.NoError(t, err)
	stored := filepath.Join(dir, "store")
	store, err := open.Store(t.Context(), "dir:"+stored, nil)
	require.NoError(t, err)
	flow := &controller.Engine{Store: store, Key: "flow.json", Config: &controller.Config{Name: "4.21.0-0.okd-scos"}}
	require.NoError(t, flow.Edit(t.Context(), func(f *controller.Flow) error {
		f.Releases = append(f.Releases, controller.FlowRelease{Name: "4.21.0-0.okd-scos-2026-11-20-080000", Phase: controller.Accepted, PullSpec: payload.Name()})
		return nil
	}))
	promoted := filepath.Join(dir, "promoted.yaml")
	require.NoError(t, os.WriteFile(promoted, fmt.Appendf(nil, promotedYAML, stored, host), 0o600))
	code, stdout, stderr = call(t, "render", "--image", image, "--runner", "x86_64=mine", "--flow", "flow.json", promoted)
	require.Zero(t, code, stderr)
	_, promotion, ok := strings.Cut(stdout, "\n---")
	require.True(t, ok)
	for _, want := range []string{"| target-release-name | 4.21.0-okd-scos.0 |\n", "| due | false |\n"} {
		r := newRunner(t, t.TempDir())
		r.tool("docker", docker)
		require.NoError(t, r.run(promotion, nil), r.log.String())
		summary, err := os.ReadFile(r.summary)
		require.NoError(t, err)
		require.Contains(t, string(summary), want, r.log.String())
	}
	released, err := name.ParseReference(host + "/okd/release:4.21.0-okd-scos.0")
	require.NoError(t, err)
	_, err = registry.Head(t.Context(), released)
	require.NoError(t, err)

	// A secret that is missing is named before anything is done.
	definition := filepath.Join(dir, "mine.yaml")
	text, err := os.ReadFile("../../../stream/builtin/sample.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(definition, []byte(string(text)+"notifications:\n  - {kind: slack, on: [failure], credentials: {secret: chat, keys: {url: hook}}}\n"), 0o600))
	code, stdout, stderr = call(t, "render", "--image", image, "--runner", "x86_64=mine", definition)
	require.Zero(t, code, stderr)
	r = newRunner(t, t.TempDir())
	r.tool("docker", docker)
	require.ErrorContains(t, r.run(stdout, nil), "Prepare: exit status 1")
	require.Contains(t, r.log.String(), "::error::the repository has no secret CHAT_HOOK\n")
	summary, err = os.ReadFile(r.summary)
	require.NoError(t, err)
	require.Contains(t, string(summary), "**failure**\n")
	require.NotContains(t, r.log.String(), "okd-streams build")
}

const promotedYAML = `apiVersion: streams.okd.io/v1alpha1
kind: Stream
identity: {name: promoted, title: Promoted, distribution: custom, osName: scos}
version: "4.21"
naming: {release: okd-scos, candidate: okd-scos-ci, build: scos-base}
architectures: [x86_64]
os:
  kind: given
  source: {dir: root}
payload:
  base: quay.io/okd/scos-release@sha256:2222222222222222222222222222222222222222222222222222222222222222
  nodeTags: [stream-coreos]
store: {url: "dir:%s", prefix: "${STREAM}"}
registry:
  repository: %s/okd
  node: {name: stream-coreos, tags: [latest]}
  release: {name: release, tags: ["${VERSION}"]}
  content: content
cadences:
  promotion: {schedule: "0 5 * * 1", minInterval: 21d}
`

// runner does what GitHub's does with the steps of one job.
type runner struct {
	t                                              *testing.T
	temp, workspace, home, tools, server, commit   string
	envFile, pathFile, outputFile, summary, script string
	log                                            bytes.Buffer
}

func newRunner(t *testing.T, dir string) *runner {
	r := &runner{t: t, temp: filepath.Join(dir, "temp"), workspace: filepath.Join(dir, "work"), home: filepath.Join(dir, "home"), tools: filepath.Join(dir, "tools"), server: filepath.Join(dir, "server")}
	for _, d := range []string{r.temp, r.workspace, r.home, r.tools, r.server} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	for name, at := range map[string]*string{"env": &r.envFile, "path": &r.pathFile, "output": &r.outputFile, "summary": &r.summary, "script": &r.script} {
		*at = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(*at, nil, 0o600))
	}
	return r
}

func (r *runner) tool(name, script string) {
	require.NoError(r.t, os.WriteFile(filepath.Join(r.tools, name), []byte("#!/bin/sh\n"+script), 0o755))
}

// repository makes the one that the workflow is in.
func (r *runner) repository(file, text string) {
	repo := filepath.Join(r.server, "me", "mine")
	path := filepath.Join(repo, file)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o644))
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}, {"-c", "user.name=x", "-c", "user.email=x@example", "commit", "--quiet", "--message=x"}, {"rev-parse", "HEAD"}} {
		out, err := exec.CommandContext(r.t.Context(), "git", append([]string{"-C", repo}, args...)...).CombinedOutput()
		require.NoError(r.t, err, "%s", out)
		r.commit = strings.TrimSpace(string(out))
	}
}

var (
	expression  = regexp.MustCompile(`\$\{\{ (.*?) \}\}`)
	alternative = regexp.MustCompile(`^(\S+) \|\| '(.*)'$`)
)

// run runs the first workflow of what render printed.
func (r *runner) run(printed string, contexts map[string]string) error {
	first, _, _ := strings.Cut(strings.TrimPrefix(printed, "---"), "\n---")
	if !strings.HasPrefix(first, " #") {
		first = "#" + first
	}
	var w struct {
		Jobs map[string]struct {
			Env   map[string]string `yaml:"env"`
			Steps []struct {
				Name string            `yaml:"name"`
				If   string            `yaml:"if"`
				Run  string            `yaml:"run"`
				Env  map[string]string `yaml:"env"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	require.NoError(r.t, yaml.Unmarshal([]byte(first), &w))
	status := "success"
	value := func(text string) string {
		return expression.ReplaceAllStringFunc(text, func(whole string) string {
			inner := expression.FindStringSubmatch(whole)[1]
			switch {
			case inner == "'${{'":
				return "${{"
			case inner == "job.status":
				return status
			case inner == "matrix.arch":
				return "x86_64"
			case inner == "github.token":
				return "token"
			case inner == "github.event_name == 'workflow_dispatch'":
				return "false"
			}
			if m := alternative.FindStringSubmatch(inner); m != nil {
				if v := contexts[m[1]]; v != "" {
					return v
				}
				return m[2]
			}
			return contexts[inner]
		})
	}
	var failed error
	for _, job := range w.Jobs {
		for _, s := range job.Steps {
			switch s.If {
			case "always()":
			case "failure()":
				if failed == nil {
					continue
				}
			case "", "success()":
				if failed != nil {
					continue
				}
			case "steps.due.outputs.due == 'true'", "success() && steps.due.outputs.due == 'true'":
				if failed != nil || !strings.Contains(r.read(r.outputFile, "\n"), "due=true\n") {
					continue
				}
			default:
				r.t.Fatalf("condition %s", s.If)
			}
			env := []string{
				"PATH=" + r.read(r.pathFile, ":") + r.tools + ":" + os.Getenv("PATH"), "HOME=" + r.home, "RUNNER_TEMP=" + r.temp, "GITHUB_WORKSPACE=" + r.workspace,
				"GITHUB_ENV=" + r.envFile, "GITHUB_PATH=" + r.pathFile, "GITHUB_OUTPUT=" + r.outputFile, "GITHUB_STEP_SUMMARY=" + r.summary,
				"GITHUB_SERVER_URL=file://" + r.server, "GITHUB_REPOSITORY=me/mine", "GITHUB_SHA=" + r.commit, "GITHUB_RUN_ID=1", "GITHUB_ACTOR=me",
			}
			for _, vars := range []map[string]string{job.Env, s.Env} {
				for key, v := range vars {
					env = append(env, key+"="+value(v))
				}
			}
			env = append(env, strings.Split(r.read(r.envFile, "\n"), "\n")...)
			require.NoError(r.t, os.WriteFile(r.script, []byte(s.Run), 0o600))
			cmd := exec.CommandContext(r.t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", r.script)
			cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.workspace, env, &r.log, &r.log
			if err := cmd.Run(); err != nil && failed == nil {
				failed, status = fmt.Errorf("%s: %w", s.Name, err), "failure"
			}
		}
	}
	return failed
}

// read gives the lines of a file, each with an end.
func (r *runner) read(file, end string) string {
	text, err := os.ReadFile(file)
	require.NoError(r.t, err)
	return strings.ReplaceAll(string(text), "\n", end)
}
