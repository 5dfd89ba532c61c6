package tektoncmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/tektoncmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

const image = "quay.io/okd/okd-streams@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func call(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(tektoncmd.Command())
	var out, errs bytes.Buffer
	root.SetArgs(append([]string{"tekton"}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestRenderAndCheck(t *testing.T) {
	out, _, err := call(t, "", "render", "--image", image, "--namespace", "mine", "--param", "store=s3://x", "sample")
	require.NoError(t, err)
	objects, err := tekton.Decode(strings.NewReader(out))
	require.NoError(t, err)
	def, err := stream.Builtin("sample")
	require.NoError(t, err)
	want, err := tekton.Render(def, &tekton.Options{Image: image, Namespace: "mine", Params: map[string]string{"store": "s3://x"}})
	require.NoError(t, err)
	require.Equal(t, want.Objects, objects)

	said, _, err := call(t, out, "check", "-")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%d objects, no faults\n", len(objects)), said)
	_, _, err = call(t, strings.Replace(out, "name: build-node\n", "name: built-node\n", 1), "check", "-")
	require.ErrorContains(t, err, `there is no Task "build-node"`)

	dir := filepath.Join(t.TempDir(), "deploy")
	said, _, err = call(t, "", "render", "--image", image, "--output", dir, "--platform", "openshift", "--storage", "10Gi", "sample")
	require.NoError(t, err)
	require.Contains(t, said, "kubectl apply -k "+filepath.Join(dir, "overlays", "openshift"))
	said, _, err = call(t, "", "check", filepath.Join(dir, "base"), filepath.Join(dir, "overlays", "openshift"), filepath.Join(dir, "runs", "openshift", "okd-coreos-x86-64.yaml"))
	require.NoError(t, err)
	require.Contains(t, said, "no faults")
	_, _, err = call(t, "", "check", filepath.Join(dir, "runs", "openshift"))
	require.ErrorContains(t, err, `there is no Pipeline "okd-coreos"`)

	for name, args := range map[string][]string{
		"give --image":     {"render", "sample"},
		"--platform":       {"render", "--image", image, "--platform", "vms", "sample"},
		"--storage":        {"render", "--image", image, "--storage", "much", "sample"},
		"NAME=VALUE":       {"render", "--image", image, "--param", "x", "sample"},
		"2 arguments":      {"render", "--image", image, "sample", "sample"},
		"no path":          {"check"},
		"no file":          {"run"},
		"unknown command":  {"walk"},
		"give --holder":    {"lock", "--stream", "sample"},
		"give --stream":    {"unlock", "--holder", "x"},
		"not what to pick": {"pick", "--stream", "sample"},
		"--release":        {"pick", "--stream", "sample", "--release", "UPPER"},
		"in no cluster":    {"run", filepath.Join(dir, "runs", "openshift")},
		"a Task":           {"run", filepath.Join(dir, "base")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			_, _, err := call(t, "", args...)
			require.Error(t, err)
			if name == "a Task" {
				name = "not only PipelineRuns"
			}
			require.ErrorContains(t, err, name)
			var usage *ui.UsageError
			require.ErrorAs(t, err, &usage)
		})
	}
}

// apiServer keeps pipeline runs.
type apiServer struct {
	mu   sync.Mutex
	runs map[string]map[string]any
	down bool
}

func (s *apiServer) add(name, uid string, labels map[string]string, created, ended time.Time) {
	run := map[string]any{"metadata": map[string]any{"name": name, "uid": uid, "labels": labels, "creationTimestamp": created}}
	if !ended.IsZero() {
		run["status"] = map[string]any{"completionTime": ended}
	}
	s.runs[name] = run
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, ok := strings.CutPrefix(r.URL.Path, "/apis/tekton.dev/v1/namespaces/okd-coreos/pipelineruns")
	name = strings.TrimPrefix(name, "/")
	refuse := func(status int, reason string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"kind": "Status", "reason": reason, "message": reason + " " + name})
	}
	switch {
	case s.down || !ok || r.Header.Get("Authorization") != "Bearer secret":
		refuse(http.StatusForbidden, "Forbidden")
	case r.Method == http.MethodPost:
		var run map[string]any
		if err := json.NewDecoder(r.Body).Decode(&run); err != nil {
			refuse(http.StatusBadRequest, "BadRequest")
			return
		}
		m := run["metadata"].(map[string]any)
		m["name"] = fmt.Sprint(m["generateName"], "new", len(s.runs))
		m["creationTimestamp"] = time.Now()
		s.runs[m["name"].(string)] = run
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(run)
	case r.Method == http.MethodGet && name == "":
		var items []any
		for _, run := range s.runs {
			items = append(items, run)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items, "selector": r.URL.Query().Get("labelSelector")})
	case s.runs[name] == nil:
		refuse(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodDelete:
		delete(s.runs, name)
		_ = json.NewEncoder(w).Encode(map[string]string{"kind": "Status"})
	default:
		_ = json.NewEncoder(w).Encode(s.runs[name])
	}
}

// inCluster has commands find the server with flags.
func inCluster(t *testing.T) (*apiServer, []string) {
	s := &apiServer{runs: map[string]map[string]any{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	return s, []string{"--api-server", server.URL, "--token-file", token}
}

func TestRun(t *testing.T) {
	s, flags := inCluster(t)
	dir := filepath.Join(t.TempDir(), "deploy")
	_, _, err := call(t, "", "render", "--image", image, "--output", dir, "sample")
	require.NoError(t, err)
	file := filepath.Join(dir, "runs", "plain", "okd-coreos-x86-64.yaml")
	run := func(args ...string) string {
		out, _, err := call(t, "", append(append([]string{"run", file}, flags...), args...)...)
		require.NoError(t, err)
		return out
	}
	require.Equal(t, "okd-coreos/okd-coreos-x86-64-new0\n", run())
	require.Contains(t, run(), "okd-coreos-x86-64-: not now, okd-coreos-x86-64-new0 goes on since ")
	require.Equal(t, "okd-coreos/okd-coreos-x86-64-new1\n", run("--always"))

	// Three weeks, of which a day does not count.
	now := time.Now()
	for _, tc := range []struct {
		ago  time.Duration
		want string
	}{
		{19 * 24 * time.Hour, "not now, old began at "},
		{20*24*time.Hour + time.Minute, "okd-coreos/okd-coreos-x86-64-new1\n"},
	} {
		s.runs = map[string]map[string]any{}
		s.add("old", "1", nil, now.Add(-tc.ago), now.Add(-tc.ago+time.Hour))
		require.Contains(t, run("--min-interval", "504h"), tc.want)
	}

	// Those that have ended go, but for the newest.
	s.runs = map[string]map[string]any{}
	for i := range 5 {
		at := now.Add(-time.Duration(i+1) * time.Hour)
		s.add(fmt.Sprint("run", i), "1", nil, at, at.Add(time.Minute))
	}
	run("--keep", "2")
	require.Len(t, s.runs, 3)
	require.Contains(t, s.runs, "run0")
	require.Contains(t, s.runs, "run1")

	s.down = true
	_, _, err = call(t, "", append([]string{"run", file}, flags...)...)
	require.ErrorContains(t, err, "the cluster says 403: Forbidden")
	require.ErrorContains(t, err, "give the account a Role with create, delete and list")
}

func TestLock(t *testing.T) {
	store := "--store=dir:" + t.TempDir()
	lock := func(holder string, args ...string) (string, string, error) {
		return call(t, "", append([]string{"lock", "--stream=sample", store, "--holder=" + holder}, args...)...)
	}
	out, _, err := lock("one 1")
	require.NoError(t, err)
	require.Regexp(t, `^sample/lease.json: one 1 holds it until .*, turn 1\n$`, out)
	_, _, err = lock("two 2")
	require.ErrorContains(t, err, "one 1 holds it since")
	require.ErrorContains(t, err, "okd-streams tekton unlock")
	out, _, err = call(t, "", "unlock", "--stream=sample", store, "--holder=one 1")
	require.NoError(t, err)
	require.Equal(t, "sample/lease.json: the next may take it\n", out)
	_, _, err = lock("two 2")
	require.NoError(t, err)

	// A relative folder of the definition is in the state folder.
	state := t.TempDir()
	_, _, err = call(t, "", "lock", "--stream=sample", "--state="+state, "--holder=x")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(state, "store", "sample", "lease.json"))

	// A run that lacks a secret does not begin.
	for flag, of := range map[string]string{"--s3-credentials": "store", "--authfile": "registry"} {
		missing := filepath.Join(t.TempDir(), "credentials")
		_, _, err := lock("three 3", flag+"="+missing)
		require.ErrorContains(t, err, "credentials of the "+of+": stat "+missing+": no such file or directory")
		require.ErrorContains(t, err, "create the Secret")
	}
}

// A run that was cancelled cannot give its lease back.
func TestLockOfARunThatEnded(t *testing.T) {
	s, flags := inCluster(t)
	flags = append(flags, "--namespace=okd-coreos")
	now := time.Now()
	s.add("going", "1", nil, now, time.Time{})
	s.add("cancelled", "1", nil, now, now)
	s.add("again", "2", nil, now, time.Time{})
	for _, tc := range []struct {
		holder string
		taken  bool
		says   string
	}{
		{"going 1", false, ""},
		{"cancelled 1", true, "cancelled has ended and left the lease behind"},
		{"gone 1", true, "gone has ended"},
		{"again 1", true, "again has ended"}, // another of the same name goes on
		{"person", false, ""},
		{"../x 1", false, "warning: whether ../x goes on is not known"},
	} {
		t.Run(tc.holder, func(t *testing.T) {
			args := append([]string{"lock", "--stream=sample", "--store=dir:" + t.TempDir()}, flags...)
			_, _, err := call(t, "", append(args, "--holder="+tc.holder)...)
			require.NoError(t, err)
			_, said, err := call(t, "", append(args, "--holder=next 9")...)
			if tc.taken {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.holder+" holds it")
			}
			require.Contains(t, said, tc.says)
		})
	}
	s.down = true
	args := append([]string{"lock", "--stream=sample", "--store=dir:" + t.TempDir()}, flags...)
	_, _, err := call(t, "", append(args, "--holder=cancelled 1")...)
	require.NoError(t, err)
	_, said, err := call(t, "", append(args, "--holder=next 9")...)
	require.ErrorContains(t, err, "cancelled 1 holds it")
	require.Contains(t, said, "warning: whether cancelled goes on is not known")
}

func TestPick(t *testing.T) {
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	to, err := open.Registry(t.Context(), "docker://", nil)
	require.NoError(t, err)
	img, err := random.Image(64, 1)
	require.NoError(t, err)
	tag, err := name.NewTag(host + "/okd/release:4.22")
	require.NoError(t, err)
	d, err := to.WriteImage(t.Context(), tag.Context(), img, nil)
	require.NoError(t, err)
	require.NoError(t, to.Tag(t.Context(), tag, d.Digest))
	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/releasestream/4.22.0-0.okd-scos-nightly/latest" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprintf(w, `{"name":"4.22.0-0.okd-scos-nightly-2026-06-10-015300","phase":"Accepted","pullSpec":%q}`, tag.Name())
	}))
	t.Cleanup(controller.Close)
	want := tag.Context().Digest(d.Digest.String()).Name() + "\n"
	out, _, err := call(t, "", "pick", "--stream", "okd-scos-next", "--release-controller", controller.URL)
	require.NoError(t, err)
	require.Equal(t, want, out)
	out, _, err = call(t, "", "pick", "--stream", "sample", "--release", tag.Name())
	require.NoError(t, err)
	require.Equal(t, want, out)
	_, _, err = call(t, "", "pick", "--stream", "sample", "--release", host+"/okd/release:none")
	require.Error(t, err)
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	out, _, err := call(t, "", "install", dir)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "okd-streams")+"\n", out)
	self, err := os.Executable()
	require.NoError(t, err)
	want, err := os.ReadFile(self)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(dir, "okd-streams"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	info, err := os.Stat(filepath.Join(dir, "okd-streams"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())
	_, _, err = call(t, "", "install", filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "is no folder")
}
