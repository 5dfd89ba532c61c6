package releasecmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/releasecmd"
	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/prow"
)

// call runs `okd-streams release` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := releasecmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

// site is a registry and a release controller with accepted payloads, and what
// a promotion is called with there.
type site struct {
	dir      string
	registry *layoutregistry.Registry
	engine   *controller.Engine
	args     []string
}

const (
	repository = "registry.example.com/okd"
	keys       = "../../../publish/pgpsigner/testdata/"
)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), engine: &controller.Engine{Store: memstore.New(), Key: "flow.json", Config: &controller.Config{Name: "4.21.0-0.okd-scos-nightly"}}}
	var err error
	s.registry, err = layoutregistry.Open(t.Context(), filepath.Join(s.dir, "registry"), &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	server := httptest.NewServer(controller.Handler(s.engine, &controller.Engine{Store: memstore.New(), Key: "x", Config: &controller.Config{Name: "4-scos-stable"}}))
	t.Cleanup(server.Close)
	passphrase := filepath.Join(s.dir, "passphrase")
	require.NoError(t, os.WriteFile(passphrase, []byte("correct horse\n"), 0o600))
	s.args = []string{
		"--store=dir:" + filepath.Join(s.dir, "store"), "--registry=dir:" + filepath.Join(s.dir, "registry"), "--repository=" + repository, "--state=" + filepath.Join(s.dir, "state"), "--quiet",
		"--param=release-controller=" + server.URL, "--param=target-release-stream=4-scos-stable", "--param=github-org-repo=none", "--param=enable-notifications=false",
		"--public-key=" + keys + "ed.asc", "--no-image-stream", "--no-tools", "--graph=graph.json", "--now=2026-11-23T05:00:00Z",
	}
	return s
}

func (s *site) call(t *testing.T, command string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	all := append([]string{command}, s.args...)
	if command == "promote" || command == "resume" {
		all = append(all, "--key="+keys+"ed.secret.asc", "--passphrase-file="+filepath.Join(s.dir, "passphrase"),
			"--cosign-key="+keys+"../../cosignsigner/testdata/cosign.key", "--cosign-passphrase-file="+filepath.Join(s.dir, "passphrase"))
	}
	return call(t, append(all, args...)...)
}

// accept makes an accepted payload.
func (s *site) accept(t *testing.T, version string) {
	t.Helper()
	repo, err := name.NewRepository("registry.example.com/origin/release")
	require.NoError(t, err)
	components, err := sample.Components(t.Context(), s.registry, repo)
	require.NoError(t, err)
	delete(components, "machine-config-operator")
	built, err := payload.Assemble(t.Context(), s.registry, &payload.Spec{Version: version, Created: sample.Epoch, Components: components}, nil)
	require.NoError(t, err)
	d, err := s.registry.WriteImage(t.Context(), repo, built.Image, nil)
	require.NoError(t, err)
	require.NoError(t, s.engine.Edit(t.Context(), func(f *controller.Flow) error {
		f.Releases = append(f.Releases, controller.FlowRelease{Name: version, Phase: controller.Accepted, PullSpec: repo.Digest(d.Digest.String()).Name()})
		return nil
	}))
}

func TestRelease(t *testing.T) {
	s := newSite(t)
	s.accept(t, "4.21.0-0.okd-scos-nightly-2026-11-20-080000")
	code, stdout, stderr := s.call(t, "due")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "due  since 2026-11-23T05:00:00Z")

	// The gates have no results yet.
	code, stdout, stderr = s.call(t, "promote", "--by=weekly")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "waiting for lint, payload, aws, upgrade, upgrade-minor")
	require.Contains(t, stderr, "okd-streams release resume 4.21.0-okd-scos.0")
	require.Contains(t, stdout, "reserved")
	pullspec := ""
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); f[0] == "image" {
			pullspec = f[1]
		}
	}
	code, stdout, _ = s.call(t, "due", "--exit-code")
	require.Zero(t, code)
	require.Contains(t, stdout, "4.21.0-okd-scos.0 is to be finished")

	// Some come from the book of results, one is said.
	store, err := open.Store(t.Context(), "dir:"+filepath.Join(s.dir, "store"), nil)
	require.NoError(t, err)
	_, digest, _ := strings.Cut(pullspec, "@")
	record := func(release, digest string, gates ...string) {
		for _, g := range gates {
			require.NoError(t, gate.Book{Store: store}.Record(t.Context(), gate.Result{
				Gate: g, Subject: gate.Subject{Release: release, Digest: digest}, State: gate.Passed, At: time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC),
			}))
		}
	}
	flow, err := s.engine.Load(t.Context())
	require.NoError(t, err)
	_, picked, _ := strings.Cut(flow.Releases[0].PullSpec, "@")
	record(flow.Releases[0].Name, picked, "lint", "payload", "upgrade", "upgrade-minor") // of the payload
	code, _, stderr = s.call(t, "resume", "4.21.0-okd-scos.0", "--gate=aws=passed")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "waiting for upgrade, upgrade-minor\n")
	record("4.21.0-okd-scos.0", digest, "upgrade", "upgrade-minor")
	code, _, stderr = s.call(t, "resume", "4.21.0-okd-scos.0", "--gate=aws=failed")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "failed: aws")
	require.Contains(t, stderr, "okd-streams release abort 4.21.0-okd-scos.0")
	code, stdout, stderr = s.call(t, "resume", "4.21.0-okd-scos.0", "--gate=aws=passed", "--json")
	require.Zero(t, code, stderr)
	var result struct{ Version, State, Pullspec string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Equal(t, "promoted", result.State)
	require.Equal(t, pullspec, result.Pullspec)
	require.FileExists(t, filepath.Join(s.dir, "store", "graph.json"))
	require.FileExists(t, filepath.Join(s.dir, "store", "signatures", "openshift", "release", strings.Replace(digest, ":", "=", 1), "signature-1"))

	tag, err := name.NewTag(repository + "/scos-release:" + strings.Replace(digest, ":", "-", 1) + ".sig")
	require.NoError(t, err)
	_, err = s.registry.Head(t.Context(), tag)
	require.NoError(t, err, "cosign's")

	code, stdout, _ = s.call(t, "promote")
	require.Zero(t, code)
	require.Contains(t, stdout, "nothing to do")
	code, _, stderr = s.call(t, "due", "--exit-code")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "not due")
	code, stdout, _ = s.call(t, "list")
	require.Zero(t, code)
	require.Equal(t, "4.21.0-okd-scos.0  promoted  2026-11-23T05:00:00Z  weekly  4.21.0-0.okd-scos-nightly-2026-11-20-080000  \n", stdout)

	code, stdout, stderr = s.call(t, "show", "4.21.0-okd-scos.0")
	require.Zero(t, code, stderr)
	require.Regexp(t, `(?m)^state +promoted$`, stdout)
	require.Regexp(t, `(?m)^assemble +2026-11-23T05:00:00Z +\{"digest": ?"sha256:`, stdout)
	code, _, stderr = s.call(t, "show", "4.21.0-okd-scos.9")
	require.Equal(t, ui.ExitFailed, code, stderr)

	// A replay finds nothing to say.
	code, stdout, stderr = s.call(t, "shadow", "--exit-code", "--write-notes="+filepath.Join(s.dir, "notes.md"))
	require.Zero(t, code, stdout+stderr)
	require.Contains(t, stdout, "same     previous")
	require.NotContains(t, stdout, "different")
	require.FileExists(t, filepath.Join(s.dir, "notes.md"))
	code, stdout, _ = s.call(t, "shadow", "--exit-code", "--is-release-latest=false", "--notes="+filepath.Join(s.dir, "passphrase"))
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stdout, "different  notes")

	// The next one is taken back.
	s.accept(t, "4.21.0-0.okd-scos-nightly-2026-11-21-080000")
	code, _, _ = s.call(t, "promote")
	require.Equal(t, ui.ExitFailed, code)
	code, _, stderr = s.call(t, "abort", "4.21.0-okd-scos.1")
	require.Equal(t, ui.ExitUsage, code, stderr)
	code, stdout, stderr = s.call(t, "abort", "4.21.0-okd-scos.1", "--by=me", "--reason=a try")
	require.Zero(t, code, stderr)
	require.Equal(t, "4.21.0-okd-scos.1 is aborted\n", stdout)
	code, stdout, _ = s.call(t, "list", "--json")
	require.Zero(t, code)
	require.Contains(t, stdout, `"reason": "me: a try"`)
}

// TestImageStream has a program in place of oc, which keeps tags in files.
func TestImageStream(t *testing.T) {
	s := newSite(t)
	s.accept(t, "4.21.0-0.okd-scos-nightly-2026-11-20-080000")
	program := filepath.Join(s.dir, "oc")
	require.NoError(t, os.WriteFile(program, []byte(`#!/bin/sh
# get imagestreamtag NAME:TAG … --namespace=N, tag --source=docker PULLSPEC NAME:TAG, tag --delete NAME:TAG
cd "`+s.dir+`" || exit 1
echo "$@" >> oc.log
case "$1 $2" in
"get imagestreamtag") cat "istag-$3" 2>/dev/null; exit 0 ;;
"tag --source=docker") printf %s "$3" > "istag-$4" ;;
"tag --delete") rm "istag-$3" ;;
esac
`), 0o755))
	for i, a := range s.args {
		if a == "--no-image-stream" {
			s.args[i] = "--oc=" + program
		}
	}
	gates := []string{"--gate=lint=passed", "--gate=payload=passed", "--gate=upgrade=passed", "--gate=upgrade-minor=passed"}
	code, _, stderr := s.call(t, "promote", append(gates, "--tag-for-gates")...)
	require.Equal(t, ui.ExitFailed, code, stderr)
	tag := filepath.Join(s.dir, "istag-release-scos:4.21.0-okd-scos.0")
	require.FileExists(t, tag)
	code, _, stderr = s.call(t, "abort", "4.21.0-okd-scos.0", "--by=me", "--reason=a try")
	require.Zero(t, code, stderr)
	require.NoFileExists(t, tag)
	code, stdout, stderr := s.call(t, "promote", append(gates, "--gate=aws=passed")...)
	require.Zero(t, code, stderr)
	data, err := os.ReadFile(filepath.Join(s.dir, "istag-release-scos:4.21.0-okd-scos.1"))
	require.NoError(t, err)
	require.Contains(t, stdout, string(data))
	log, err := os.ReadFile(filepath.Join(s.dir, "oc.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "--namespace=origin")
}

func TestUsage(t *testing.T) {
	s := newSite(t)
	for want, args := range map[string][]string{
		"no stream":              {"list"},
		"unknown command":        {"odd"},
		"arguments, but":         {"resume"},
		"NAME=VALUE":             {"list", "--param=odd=x"},
		"no store":               {"list", "--stream=okd-scos-stable"},
		"it is true or false":    {"list", "--stream=okd-scos-stable", "--is-release-latest=perhaps"},
		"a room of Matrix needs": {"list", "--stream=sample", "--matrix-room=!x:y", "--store=dir:" + s.dir},
		"it is NAME=passed":      {"promote", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--gate=x", "--unsigned", "--github-org-repo=none"},
		"by which keys":          {"promote", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--github-org-repo=none"},
		"okd-release-gpg-signing-key/private.key": {"promote", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--github-org-repo=none", "--public-key=" + keys + "ed.asc", "--secrets=" + s.dir},
		"--source":                   {"promote", "--stream=okd-scos-stable", "--source=x y"},
		"--now":                      {"list", "--stream=okd-scos-stable", "--now=today"},
		"--registry":                 {"list", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--registry=odd:x"},
		"an address such as https":   {"list", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--release-controller=odd"},
		"protected by a passphrase,": {"promote", "--stream=okd-scos-stable", "--store=dir:" + s.dir, "--github-org-repo=none", "--public-key=" + keys + "ed.asc", "--key=" + keys + "ed.secret.asc"},
	} {
		code, _, stderr := call(t, args...)
		require.NotZero(t, code, fmt.Sprint(args))
		require.Contains(t, stderr, want, fmt.Sprint(args))
	}
	code, stdout, _ := call(t)
	require.Zero(t, code)
	require.Contains(t, stdout, "promote")
}

// TestGitHub has GitHub refuse, and then know nothing of the release.
func TestGitHub(t *testing.T) {
	s := newSite(t)
	s.accept(t, "4.21.0-0.okd-scos-nightly-2026-11-20-080000")
	refuses := true
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case refuses:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"message":"Bad credentials"}`)
		case req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/releases"):
			_, _ = io.WriteString(w, "[]")
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"Not Found"}`)
		}
	}))
	defer github.Close()
	token := filepath.Join(s.dir, "token")
	require.NoError(t, os.WriteFile(token, []byte("ghp_secret\n"), 0o600))
	for i, a := range s.args {
		if strings.Contains(a, "github-org-repo") {
			s.args[i] = "--param=github-org-repo=okd-project/okd"
		}
	}
	access := []string{"--github-api=" + github.URL, "--github-token-file=" + token}
	passed := append([]string{"--gate=lint=passed", "--gate=payload=passed", "--gate=aws=passed", "--gate=upgrade=passed", "--gate=upgrade-minor=passed"}, access...)
	code, stdout, stderr := s.call(t, "promote", passed...)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "prepare: ")
	require.Contains(t, stderr, "401")
	require.NotContains(t, stderr+stdout, "ghp_secret")
	require.Contains(t, stdout, "reserved")
	code, _, stderr = s.call(t, "abort", append([]string{"4.21.0-okd-scos.0", "--by=me", "--reason=no token"}, access...)...)
	require.Equal(t, ui.ExitFailed, code, "the draft could not be looked for")
	require.Contains(t, stderr, "401")
	refuses = false
	code, _, stderr = s.call(t, "abort", append([]string{"4.21.0-okd-scos.0", "--by=me", "--reason=no token"}, access...)...)
	require.Zero(t, code, stderr)
}

// TestPromotesToGitHub walks a whole promotion beside GitHub's stand-in: what is
// announced is a draft until the gates have passed, and is there whole then. The
// image stream is tagged through the API of a cluster.
func TestPromotesToGitHub(t *testing.T) {
	s := newSite(t)
	s.accept(t, "4.21.0-0.okd-scos-nightly-2026-11-20-080000")
	server := githubserver.New(githubserver.Options{Repository: "okd-project/okd", Tokens: []string{"ghp_secret"}, Now: time.Now})
	github := httptest.NewServer(server)
	defer github.Close()
	token := filepath.Join(s.dir, "token")
	require.NoError(t, os.WriteFile(token, []byte("ghp_secret\n"), 0o600))
	follows := ""
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case req.Method == http.MethodPost && req.URL.Path == "/apis/image.openshift.io/v1/namespaces/origin/imagestreamtags":
			var tag prow.ImageStreamTag
			if json.NewDecoder(req.Body).Decode(&tag) == nil && tag.Tag != nil {
				follows = tag.Metadata.Name + " " + tag.Tag.From.Name
			}
			w.WriteHeader(http.StatusCreated)
			_ = json.NewEncoder(w).Encode(&tag)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}))
	defer cluster.Close()
	for i, a := range s.args {
		switch {
		case strings.Contains(a, "github-org-repo"):
			s.args[i] = "--param=github-org-repo=okd-project/okd"
		case a == "--no-image-stream":
			s.args[i] = "--api-server=" + cluster.URL
		}
	}
	access := []string{"--github-api=" + github.URL, "--github-token-file=" + token, "--gate=lint=passed", "--gate=payload=passed", "--gate=upgrade=passed", "--gate=upgrade-minor=passed"}
	code, _, stderr := s.call(t, "promote", access...)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "waiting for aws")
	require.Empty(t, server.Releases(), "nothing before the gates")
	require.Empty(t, follows)

	code, stdout, stderr := s.call(t, "resume", append([]string{"4.21.0-okd-scos.0", "--gate=aws=passed", "--json"}, access...)...)
	require.Zero(t, code, stderr)
	var result struct{ Pullspec string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Equal(t, "release-scos:4.21.0-okd-scos.0 "+result.Pullspec, follows)
	releases := server.Releases()
	require.Len(t, releases, 1)
	require.Equal(t, "4.21.0-okd-scos.0", releases[0].Tag)
	require.False(t, releases[0].Draft)
	require.Contains(t, releases[0].Body, result.Pullspec)
	require.Equal(t, "4.21.0-okd-scos.0", server.Latest())
	require.Empty(t, server.Faults())

	// Once more changes nothing there.
	server.Requests()
	code, _, stderr = s.call(t, "promote", access...)
	require.Zero(t, code, stderr)
	for _, request := range server.Requests() {
		require.True(t, strings.HasPrefix(request, http.MethodGet), request)
	}
	require.Equal(t, releases, server.Releases())
}
