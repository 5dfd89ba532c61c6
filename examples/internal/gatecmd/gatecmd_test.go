package gatecmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/gatecmd"
	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

const (
	when    = "2026-06-10T12:00:00Z"
	version = "4.22.0-0.okd-scos-nightly-2026-06-10-015300"
)

// shop has a release in a folder, and calls `okd-streams gate` about it.
type shop struct {
	dir   string
	image name.Digest
}

func newShop(t *testing.T) *shop {
	s := &shop{dir: t.TempDir()}
	registry, err := layoutregistry.Open(t.Context(), filepath.Join(s.dir, "registry"), &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/okd/release")
	require.NoError(t, err)
	s.image, err = sample.Release(t.Context(), registry, repo, version, sample.Epoch)
	require.NoError(t, err)
	return s
}

// call runs the command as a shell would.
func (s *shop) call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := gatecmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(nil)
	cmd.SetArgs(append([]string{"--results", "dir:" + filepath.Join(s.dir, "results"), "--image", s.image.Name(), "--from", "dir:" + filepath.Join(s.dir, "registry"), "--now", when}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

func (s *shop) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// TestEachKind runs a gate of each kind, and then has all of them shown.
func TestEachKind(t *testing.T) {
	s := newShop(t)
	digest := s.image.DigestStr()
	mux := http.NewServeMux()
	answer := func(path, format string, args ...any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, format, args...) })
	}
	answer("/http/"+digest, `{"digest":%q,"state":"passed","reason":"12 clusters run it"}`, digest)
	answer("/api/v1/releasestream/s/tags", `{"tags":[{"name":%q,"pullSpec":%q}]}`, version, s.image.Name())
	answer("/api/v1/releasestream/s/release/"+version, `{"name":%q,"phase":"Ready","results":{"blockingJobs":{"aws":{"state":"Failed"}}}}`, version)
	answer("/graph", `{"nodes":[{"version":%q,"payload":%q,"metadata":{}}],"edges":[]}`, version, s.image.Name())
	answer("/job/finished.json", `{"timestamp":1781092800,"result":"SUCCESS"}`)
	answer("/job/prowjob.json", `{"metadata":{"annotations":{"release.openshift.io/tag":%q}},"spec":{"job":"e2e"}}`, version)
	server := httptest.NewServer(mux)
	defer server.Close()
	answer("/stream.json", `{"stream":"s","metadata":{},"architectures":{"x86_64":{"artifacts":{"metal":{"formats":{"raw":{"disk":{"location":"%s/gone.raw"}}}}}}}}`, server.URL)

	kola := s.file(t, "report.json", `{"tests":[{"name":"basic","result":"PASS"}],"result":"PASS","version":"9"}`)
	junit := s.file(t, "junit.xml", `<testsuite name="e"><testcase name="a"/></testsuite>`)
	s.file(t, "job/finished.json", `{"timestamp":1781092800,"passed":false,"result":"FAILURE"}`)
	s.file(t, "job/prowjob.json", `{"metadata":{"annotations":{"release.openshift.io/tag":"4.21.0"}},"spec":{"job":"e2e"}}`)
	keys, signatures := s.sign(t)

	for _, tc := range []struct {
		gate string
		args []string
		code int
		want string
	}{
		{"true", []string{"--", "sh", "-c", `echo "$RELEASE $DIGEST is good"`}, 0, "passed   " + version + " " + digest + " is good"},
		{"false", []string{"--", "sh", "-c", "exit 3"}, 1, "failed  exit code 3"},
		{"later", []string{"--", "sh", "-c", "echo installing; exit 75"}, 1, "pending  installing"},
		{"gone", []string{"--", filepath.Join(s.dir, "no-such-program")}, 1, "pending"},
		{"kola", []string{"--kola", kola, "--os-version", "9"}, 0, "passed  1 tests passed"},
		{"kola-10", []string{"--kola", kola, "--os-version", "10"}, 1, "pending  the report is of"},
		{"junit", []string{"--junit", junit}, 0, "passed  1 tests passed"},
		{"junit-2", []string{"--junit", junit, "--junit", junit + ".2"}, 1, "not there yet"},
		{"prow", []string{"--prow-job", server.URL + "/job"}, 0, "passed  the job passed"},
		{"prow-old", []string{"--prow-job", server.URL + "/job/", "--since", "2026-06-10T12:00:01Z"}, 1, "before the release was made"},
		{"prow-other", []string{"--prow-job", filepath.Join(s.dir, "job")}, 1, `pending  the job tested "4.21.0"`},
		{"http", []string{"--http", server.URL + "/http/{digest}"}, 0, "passed  12 clusters run it"},
		{"controller", []string{"--controller", server.URL, "--controller-stream", "s"}, 1, "pending  the release is Ready"},
		{"job", []string{"--controller", server.URL, "--controller-stream", "s", "--job", "aws"}, 1, "failed  the job is Failed"},
		{"graph", []string{"--graph", server.URL + "/graph", "--promoted", "4.21.0-okd-scos.0"}, 1, "failed"},
		{"links", []string{"--links", server.URL + "/stream.json", "--allow-private"}, 1, "failed"},
		{"signed", []string{"--signed", "localhost/okd/release", "--key", keys, "--signatures", signatures}, 0, "passed"},
		{"unsigned", []string{"--signed", "localhost/okd/release", "--key", keys, "--signatures", s.dir}, 1, "failed"},
		{"payload", []string{"--payload", "localhost/okd/release"}, 0, "passed it reads back"},
		{"payload-2", []string{"--payload", "localhost/okd/other"}, 1, "pending localhost/okd/other@" + digest + " is not there yet"},
		{"regression", []string{"--regression", s.image.Name()}, 1, "pending payload: packages component stream-coreos"},
	} {
		t.Run(tc.gate, func(t *testing.T) {
			code, stdout, stderr := s.call(t, append([]string{"run", tc.gate}, tc.args...)...)
			require.Equal(t, tc.code, code, stderr)
			require.Contains(t, strings.Join(strings.Fields(stdout), " "), strings.Join(strings.Fields(tc.want), " "))
		})
	}
	_, stdout, _ := s.call(t, "show", "-o", "json")
	var results []gate.Result
	require.NoError(t, json.Unmarshal([]byte(stdout), &results))
	require.Len(t, results, 21, "each was recorded, those too that could not be found out")
}

// sign signs the release and gives the key's file and the signature store.
func (s *shop) sign(t *testing.T) (keys, signatures string) {
	const testdata = "../../../publish/pgpsigner/testdata/"
	secret, err := os.ReadFile(testdata + "ed.secret.asc")
	require.NoError(t, err)
	at := func() time.Time { return time.Date(2026, 6, 10, 11, 0, 0, 0, time.UTC) }
	signer, err := pgpsigner.ParseSigner(secret, at, &pgpsigner.SignerOptions{Form: pgpsigner.Packed, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil }})
	require.NoError(t, err)
	registry, err := layoutregistry.Open(t.Context(), filepath.Join(s.dir, "registry"), nil)
	require.NoError(t, err)
	release, err := payload.Open(t.Context(), registry, s.image, nil)
	require.NoError(t, err)
	message, err := release.Message("test", at())
	require.NoError(t, err)
	sig, err := payload.Sign(t.Context(), message, signer)
	require.NoError(t, err)
	s.file(t, filepath.Join("signatures", payload.SignatureKey(message.Digest, 1)), string(sig))
	return testdata + "ed.asc", filepath.Join(s.dir, "signatures")
}

const definition = `
apiVersion: streams.okd.io/v1alpha1
kind: Stream
identity: {name: test, title: Test, distribution: custom, osName: testos}
version: "4.22"
naming: {release: okd-scos, candidate: okd-scos-nightly, build: scos-base}
architectures: [x86_64]
os: {kind: given}
gates:
- {name: install, kind: install, job: e2e-aws}
- {name: look, kind: external, mode: informing}
store: {url: "dir:store"}
registry:
  repository: example.org/okd
  node: {name: testos, tags: ["${BUILD}-${ARCH}"]}
  release: {name: release, tags: ["${VERSION}"]}
  content: content
payload: {nodeTags: [stream-coreos]}
`

// TestVerdict goes from nothing known to a waiver and past its end.
func TestVerdict(t *testing.T) {
	s := newShop(t)
	def := s.file(t, "test.yaml", definition)
	show := func(want string, args ...string) string {
		t.Helper()
		_, stdout, stderr := s.call(t, append([]string{"show", "--stream", def}, args...)...)
		require.True(t, strings.HasPrefix(stdout, version+" "+s.image.DigestStr()+": "+want+"\n"), stdout+stderr)
		return stderr
	}
	require.Contains(t, show("pending"), "waiting for install")

	code, stdout, stderr := s.call(t, "record", "--stream", def, "--reason", "no quota", "install=failed", "look=failed")
	require.Zero(t, code, stderr)
	require.Equal(t, when+"  install  failed  no quota\n"+when+"  look     failed  no quota\n", stdout)
	require.Contains(t, show("failed"), "failed: install")

	code, stdout, stderr = s.call(t, "record", "--by", "A. Person", "--reason", "tried at home", "--expires", "72h", "install=waived")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "A. Person: tried at home (until 2026-06-13T12:00:00Z)")
	require.Empty(t, show("passed"))
	require.Contains(t, show("pending", "--now", "2026-06-13T12:00:00Z"), "waiting for install")

	code, stdout, stderr = s.call(t, "show", "--stream", def, "-o", "json")
	require.Zero(t, code, stderr)
	var v gate.Verdict
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.Equal(t, gate.Passed, v.State)
	code, stdout, stderr = s.call(t, "show", "--stream", def, "--all")
	require.Zero(t, code, stderr)
	require.Equal(t, 3, strings.Count(stdout, "\n"))
}

func TestFailures(t *testing.T) {
	s := newShop(t)
	def := s.file(t, "test.yaml", definition)
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no such command":    {[]string{"wait"}, 2, "unknown command"},
		"no gate":            {[]string{"run"}, 2, "0 arguments"},
		"no kind":            {[]string{"run", "a"}, 2, "not none"},
		"two kinds":          {[]string{"run", "a", "--kola", "x", "--http", "x"}, 2, "not --http, --kola"},
		"a forgotten --":     {[]string{"run", "a", "true"}, 2, "2 arguments"},
		"no gate of it":      {[]string{"run", "b", "--stream", def, "--", "true"}, 2, "no gate b, but install, look"},
		"no such stream":     {[]string{"run", "b", "--stream", "nothing", "--", "true"}, 2, "nothing"},
		"no state":           {[]string{"record", "install"}, 2, "want NAME=STATE"},
		"a state of theirs":  {[]string{"record", "install=green"}, 2, `state "green"`},
		"waived by nobody":   {[]string{"record", "install=waived"}, 2, "waived by nobody"},
		"no end":             {[]string{"record", "--by", "A. Person", "--reason", "x", "install=waived"}, 2, "must expire"},
		"an end in words":    {[]string{"record", "--expires", "soon", "install=waived"}, 2, "want 2006-01-02"},
		"another digest":     {[]string{"record", "--digest", "sha256:" + strings.Repeat("0", 64), "install=passed"}, 3, "--digest says"},
		"another release":    {[]string{"record", "--release", "4.21.0", "install=passed"}, 3, "--release says"},
		"no release":         {[]string{"record", "--image", "", "install=passed"}, 2, "which release?"},
		"no results":         {[]string{"show", "--results", ""}, 2, "give --results STORE"},
		"a store of theirs":  {[]string{"show", "--results", "ftp:x"}, 2, "--results"},
		"a format of theirs": {[]string{"show", "-o", "xml"}, 2, "it is one of text, json, yaml"},
		"no image there":     {[]string{"show", "--image", "localhost/okd/release:gone"}, 1, "gone"},
		"no time":            {[]string{"show", "--now", "noon"}, 2, "--now"},
		"a stream is needed": {[]string{"run", "a", "--controller", "https://example.com"}, 2, "--controller-stream"},
		"keys are needed":    {[]string{"run", "a", "--signed", "example.com/r"}, 2, "--key"},
		"no URL":             {[]string{"run", "a", "--links", "file"}, 2, "want a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := s.call(t, tc.args...)
			require.Equal(t, tc.code, code, stdout+stderr)
			require.Contains(t, stderr, tc.want)
		})
	}
	_, stdout, _ := s.call(t, "show")
	require.Empty(t, stdout, "nothing was recorded")
}
