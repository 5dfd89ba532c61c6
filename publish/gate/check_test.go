package gate_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/stream"
)

func clock() time.Time { return now }

// text is a source that holds text; a nil one is not there.
func source(text *string) gate.Source {
	fsys := fstest.MapFS{}
	if text != nil {
		fsys["file"] = &fstest.MapFile{Data: []byte(*text)}
	}
	return gate.File(fsys, "file")
}

// outcome is what a check is to give: a state, and a part of the reason; or an
// error, of which it is a part, with the result pending.
type outcome struct {
	state  gate.State
	reason string
	err    bool
}

func passed(reason string) outcome  { return outcome{state: gate.Passed, reason: reason} }
func failed(reason string) outcome  { return outcome{state: gate.Failed, reason: reason} }
func waiting(reason string) outcome { return outcome{state: gate.Pending, reason: reason} }
func unknown(reason string) outcome {
	return outcome{state: gate.Pending, reason: reason, err: true}
}

func (o outcome) require(t *testing.T, check gate.Check, opts *gate.RunOptions) gate.Result {
	t.Helper()
	r, err := gate.Run(t.Context(), stream.Gate{Name: "g", Kind: stream.GateExternal}, subject, check, clock, opts)
	require.Equal(t, o.err, err != nil, "%v", err)
	require.Equal(t, o.state, r.State, r.Reason)
	require.Contains(t, r.Reason, o.reason)
	require.NoError(t, gate.Book{Store: memstore.New()}.Record(t.Context(), r), "every result can be recorded")
	return r
}

func TestCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		output string
		code   int
		err    error
		want   outcome
	}{
		"passed":                {"checking\nall good\n", 0, nil, passed("all good")},
		"silent":                {"", 0, nil, passed("")},
		"failed":                {"node 3 is not ready", 1, nil, failed("exit code 1: node 3 is not ready")},
		"not yet":               {"installing", gate.ExitPending, nil, waiting("installing")},
		"killed":                {"", -1, nil, failed("exit code -1")},
		"missing":               {"", 0, fs.ErrNotExist, unknown("file does not exist")},
		"much output":           {strings.Repeat("0123456789\n", 100_000) + "end", 0, nil, passed("end")},
		"one long line":         {strings.Repeat("x", 100_000), 0, nil, passed("xxx")},
		"a terminal's command":  {"\x1b[2Jgone\xff", 1, nil, failed("gone")},
		"a secret in the error": {"", 0, errors.New("get https://user:secret@example.com/: refused"), unknown("example.com")},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.want.require(t, gate.Command(func(_ context.Context, s gate.Subject, w io.Writer) (int, error) {
				require.Equal(t, subject, s)
				_, err := io.WriteString(w, tc.output)
				require.NoError(t, err)
				return tc.code, tc.err
			}), nil)
			require.NotContains(t, r.Reason, "secret")
			if tc.err == nil {
				require.EqualValues(t, len(tc.output), r.Evidence[0].Size)
			}
		})
	}
}

func TestHTTP(t *testing.T) {
	answer := func(digest, state string) string {
		return fmt.Sprintf(`{"digest":%q,"state":%q,"reason":"so it is","more":1}`, digest, state)
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		want   outcome
	}{
		"passed":           {200, answer(subject.Digest, "passed"), passed("so it is")},
		"failed":           {200, answer(subject.Digest, "failed"), failed("so it is")},
		"pending":          {200, answer(subject.Digest, "pending"), waiting("so it is")},
		"missing":          {404, "", waiting("not there yet")},
		"another digest":   {200, answer(digest("2"), "passed"), waiting("the answer is of")},
		"no digest":        {200, `{"state":"passed"}`, waiting("the answer is of")},
		"waived by itself": {200, answer(subject.Digest, "waived"), unknown("state")},
		"just OK":          {200, "OK", unknown("invalid character")},
		"nothing":          {200, "", unknown("JSON")},
		"an empty object":  {200, "{}", unknown("state")},
		"forbidden":        {403, answer(subject.Digest, "passed"), unknown("403")},
		"too much":         {200, strings.Repeat(" ", 2<<20), unknown("more than")},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "/gates/"+subject.Digest, r.URL.Path)
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer server.Close()
			tc.want.require(t, gate.HTTP(server.URL+"/gates/{digest}", server.Client().Transport), nil)
		})
	}
	unknown("an address such as").require(t, gate.HTTP("file:///etc/passwd", nil), nil)
	r := unknown("").require(t, gate.HTTP("https://user:secret@ bad/", nil), nil)
	require.NotContains(t, r.Reason, "secret")
}

func ptr(s string) *string { return &s }

func TestProwJob(t *testing.T) {
	good := ptr(`{"timestamp":1781092800,"passed":true,"result":"SUCCESS"}`) // 12:00
	job := func(annotation, pullSpec string) *string {
		return ptr(fmt.Sprintf(`{"kind":"ProwJob","metadata":{"annotations":{"release.openshift.io/tag":%q}},"spec":{"job":"e2e","pod_spec":{"containers":[{"env":[{"name":"RELEASE_IMAGE_LATEST","value":%q}]}]}}}`, annotation, pullSpec))
	}
	for name, tc := range map[string]struct {
		finished, job *string
		since         time.Time
		want          outcome
	}{
		"passed":               {good, job(subject.Release, "example.com/origin/release-scos:"+subject.Release), time.Time{}, passed("passed")},
		"by digest":            {good, job("", "example.com/origin/release-scos@"+subject.Digest), time.Time{}, passed("passed")},
		"by its tag":           {good, job("", "example.com/origin/release-scos:"+subject.Release), time.Time{}, passed("passed")},
		"failed":               {ptr(`{"timestamp":1781092800,"result":"FAILURE"}`), job(subject.Release, ""), time.Time{}, failed("FAILURE")},
		"aborted":              {ptr(`{"timestamp":1781092800,"passed":false,"result":"ABORTED"}`), job(subject.Release, ""), time.Time{}, failed("ABORTED")},
		"running":              {nil, job(subject.Release, ""), time.Time{}, waiting("not there yet")},
		"not begun":            {nil, nil, time.Time{}, waiting("not there yet")},
		"says nothing":         {ptr(`{}`), job(subject.Release, ""), time.Time{}, unknown("neither passed nor result")},
		"contradicts itself":   {ptr(`{"passed":true,"result":"FAILURE"}`), job(subject.Release, ""), time.Time{}, unknown("passed is true")},
		"not JSON":             {ptr(`<html>`), job(subject.Release, ""), time.Time{}, unknown("invalid character")},
		"a job of no JSON":     {good, ptr(`x`), time.Time{}, unknown("invalid character")},
		"another digest":       {good, job(subject.Release, "example.com/origin/release-scos@"+digest("2")), time.Time{}, waiting("tested sha256:2222")},
		"another release":      {good, job("4.21.0-okd-scos.0", ""), time.Time{}, waiting(`tested "4.21.0-okd-scos.0"`)},
		"a job that tells not": {good, job("", ""), time.Time{}, waiting("does not say")},
		"stale":                {good, job(subject.Release, ""), now.Add(time.Minute), waiting("before the release was made")},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.want.require(t, gate.ProwJob(source(tc.finished), source(tc.job)), &gate.RunOptions{Since: tc.since})
			if tc.want.state == gate.Passed {
				require.Len(t, r.Evidence, 2)
				require.Equal(t, now, r.Evidence[1].At)
			}
		})
	}
	passed("").require(t, gate.ProwJob(source(good), gate.Source{}), nil)
}

func TestJUnit(t *testing.T) {
	for name, tc := range map[string]struct {
		files []*string
		want  outcome
	}{
		"passed":      {[]*string{ptr(`<testsuite name="e"><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>`)}, passed("1 tests passed, 1 skipped")},
		"failed":      {[]*string{ptr(`<testsuite name="e"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>`)}, failed("1 of 2 tests failed: e b")},
		"run again":   {[]*string{ptr(`<testsuite name="e"><testcase name="a"><failure/></testcase></testsuite>`), ptr(`<testsuite name="e"><testcase name="a"/></testsuite>`)}, passed("1 tests passed")},
		"many failed": {[]*string{ptr(`<testsuite name="e">` + strings.Repeat(`<testcase name="a"><error/></testcase>`, 2) + `<testcase name="b"><error/></testcase><testcase name="c"><error/></testcase><testcase name="d"><error/></testcase><testcase name="f"><error/></testcase><testcase name="g"><error/></testcase></testsuite>`)}, failed("6 of 6 tests failed: e a, e b, e c, e d, e f and 1 more")},
		"no test":     {[]*string{ptr(`<testsuite/>`)}, waiting("no test passed")},
		"all skipped": {[]*string{ptr(`<testsuite><testcase name="a"><skipped/></testcase></testsuite>`)}, waiting("no test passed")},
		"one missing": {[]*string{ptr(`<testsuite><testcase name="a"/></testsuite>`), nil}, waiting("not there yet")},
		"cut short":   {[]*string{ptr(`<testsuite><testcase name="a"/>`)}, unknown("unexpected EOF")},
		"no JUnit":    {[]*string{ptr(`<html/>`)}, unknown("no test suite")},
		"nothing":     {[]*string{ptr(``)}, unknown("no test suite")},
		"no files":    {nil, unknown("no file")},
		"a bomb":      {[]*string{ptr(`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>`)}, unknown("invalid character entity")},
		"deep":        {[]*string{ptr(strings.Repeat("<testsuite>", 10_000))}, unknown("nested deeper")},
	} {
		t.Run(name, func(t *testing.T) {
			var files []gate.Source
			for _, f := range tc.files {
				files = append(files, source(f))
			}
			tc.want.require(t, gate.JUnit(files...), nil)
		})
	}
}

func TestKola(t *testing.T) {
	report := func(result, version string, tests ...string) *string {
		var list []string
		for i, r := range tests {
			list = append(list, fmt.Sprintf(`{"name":"test.%d","subtests":null,"result":%q,"duration":1000000000,"output":"..."}`, i, r))
		}
		return ptr(fmt.Sprintf(`{"tests":[%s],"result":%q,"platform":"qemu","version":%q}`, strings.Join(list, ","), result, version))
	}
	for name, tc := range map[string]struct {
		report  *string
		version string
		want    outcome
	}{
		"passed":               {report("PASS", "9.0.20260610-0", "PASS", "SKIP", "WARN"), "", passed("1 tests passed, 1 warned, 1 skipped")},
		"of the version":       {report("PASS", "9.0.20260610-0", "PASS"), "9.0.20260610-0", passed("1 tests passed")},
		"of another version":   {report("PASS", "9.0.20260609-0", "PASS"), "9.0.20260610-0", waiting("the report is of")},
		"of no version":        {report("PASS", "", "PASS"), "9.0.20260610-0", waiting("the report is of")},
		"failed":               {report("FAIL", "", "PASS", "FAIL"), "", failed("1 of 2 tests failed: test.1")},
		"the run alone failed": {report("FAIL", "", "PASS"), "", failed("the run failed; 1 tests passed")},
		"no test":              {report("PASS", ""), "", waiting("no test passed")},
		"all skipped":          {report("PASS", "", "SKIP"), "", waiting("no test passed")},
		"all warned":           {report("PASS", "", "WARN"), "", waiting("no test passed")},
		"missing":              {nil, "", waiting("not there yet")},
		"no result":            {report("", "", "PASS"), "", unknown(`result ""`)},
		"contradicts itself":   {report("PASS", "", "FAIL"), "", unknown("the result is PASS")},
		"an unknown result":    {report("PASS", "", "OK"), "", unknown(`tests[0]: result "OK"`)},
		"not JSON":             {ptr("PASS"), "", unknown("no JSON object")},
		"null":                 {ptr("null"), "", unknown("no JSON object")},
		"a duration in words":  {ptr(`{"tests":[{"name":"a","result":"PASS","duration":"1s"}],"result":"PASS"}`), "", unknown("cannot unmarshal")},
	} {
		t.Run(name, func(t *testing.T) { tc.want.require(t, gate.Kola(source(tc.report), tc.version), nil) })
	}
}

func TestController(t *testing.T) {
	ended := `"transitionTime":"2026-06-10T11:00:00Z"`
	for name, tc := range map[string]struct {
		release string // the answer
		job     string
		digest  string
		since   time.Time
		want    outcome
	}{
		"accepted":        {`{"name":"%s","phase":"Accepted"}`, "", subject.Digest, time.Time{}, passed("the release is Accepted")},
		"rejected":        {`{"name":"%s","phase":"Rejected"}`, "", subject.Digest, time.Time{}, failed("the release is Rejected")},
		"failed":          {`{"name":"%s","phase":"Failed"}`, "", subject.Digest, time.Time{}, failed("the release is Failed")},
		"ready":           {`{"name":"%s","phase":"Ready"}`, "", subject.Digest, time.Time{}, waiting("the release is Ready")},
		"a new phase":     {`{"name":"%s","phase":"Great"}`, "", subject.Digest, time.Time{}, unknown("phase")},
		"a job passed":    {`{"name":"%s","phase":"Ready","results":{"blockingJobs":{"aws":{"state":"Succeeded","url":"https://u:p@example.com/1",` + ended + `}}}}`, "aws", subject.Digest, time.Time{}, passed("the job is Succeeded")},
		"a job failed":    {`{"name":"%s","phase":"Accepted","results":{"informingJobs":{"aws":{"state":"Failed"}}}}`, "aws", subject.Digest, time.Time{}, failed("the job is Failed")},
		"a job runs":      {`{"name":"%s","phase":"Ready","results":{"asyncJobs":{"aws":{"state":"Pending"}}}}`, "aws", subject.Digest, time.Time{}, waiting("the job is Pending")},
		"a job waits":     {`{"name":"%s","phase":"Ready","results":{"pendingJobs":{"aws":{}}}}`, "aws", subject.Digest, time.Time{}, waiting("the job is")},
		"a state in blue": {`{"name":"%s","phase":"Ready","results":{"blockingJobs":{"aws":{"state":"Blue"}}}}`, "aws", subject.Digest, time.Time{}, unknown("state")},
		"no such job":     {`{"name":"%s","phase":"Accepted","results":{}}`, "aws", subject.Digest, time.Time{}, waiting("has no job aws")},
		"no results":      {`{"name":"%s","phase":"Accepted"}`, "aws", subject.Digest, time.Time{}, waiting("has no job aws")},
		"another digest":  {`{"name":"%s","phase":"Accepted"}`, "", digest("2"), time.Time{}, waiting("means sha256:2222")},
		"another release": {`{"name":"4.21.0","phase":"Accepted","x":"%s"}`, "", subject.Digest, time.Time{}, unknown("the answer is of")},
		"stale":           {`{"name":"%s","phase":"Ready","results":{"blockingJobs":{"aws":{"state":"Succeeded",` + ended + `}}}}`, "aws", subject.Digest, now, waiting("before the release was made")},
		"missing":         {"", "", subject.Digest, time.Time{}, waiting("does not know the release")},
		"not JSON":        {"<html>%s", "", subject.Digest, time.Time{}, unknown("invalid character")},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/tags"):
					fmt.Fprintf(w, `{"name":"4-scos","tags":[{"name":%q,"phase":"Ready","pullSpec":"example.com/release:%s"}]}`, subject.Release, subject.Release)
				case tc.release == "":
					http.NotFound(w, r)
				default:
					fmt.Fprintf(w, tc.release, subject.Release)
				}
			}))
			defer server.Close()
			client, err := controller.NewClient(server.URL, &controller.ClientOptions{Transport: server.Client().Transport})
			require.NoError(t, err)
			resolve := func(_ context.Context, pullSpec string) (string, error) {
				require.Equal(t, "example.com/release:"+subject.Release, pullSpec)
				return tc.digest, nil
			}
			r := tc.want.require(t, gate.Controller(client, "4-scos", tc.job, resolve), &gate.RunOptions{Since: tc.since})
			for _, e := range r.Evidence {
				require.NotContains(t, e.URL, "u:p")
			}
			if name != "another digest" {
				tc.want.require(t, gate.Controller(client, "4-scos", tc.job, nil), &gate.RunOptions{Since: tc.since})
			}
		})
	}
}

// TestReleaseThatAControllerDoesNotKnow has a controller whose list lacks it.
func TestReleaseThatAControllerDoesNotKnow(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"tags":[]}`) }))
	defer server.Close()
	client, err := controller.NewClient(server.URL, &controller.ClientOptions{Transport: server.Client().Transport})
	require.NoError(t, err)
	waiting("does not know").require(t, gate.Controller(client, "4-scos", "", func(context.Context, string) (string, error) { return subject.Digest, nil }), nil)
}

// comparison is what a comparison of packages gives.
type comparison struct {
	Faults []string `json:"faults"`
}

func (c *comparison) Err() error {
	if len(c.Faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(c.Faults, ", "))
}

func TestRegression(t *testing.T) {
	for name, tc := range map[string]struct {
		c    gate.Comparison
		err  error
		want outcome
	}{
		"passed":     {&comparison{}, nil, passed("no package that matters")},
		"failed":     {&comparison{Faults: []string{"kernel is gone"}}, nil, failed("kernel is gone")},
		"not looked": {nil, nil, unknown("nothing was compared")},
		"an error":   {nil, errors.New("no packages"), unknown("no packages")},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.require(t, gate.Regression(func(context.Context, gate.Subject) (gate.Comparison, error) { return tc.c, tc.err }), nil)
		})
	}
}

func TestLinks(t *testing.T) {
	store := memstore.New()
	_, err := store.Put(t.Context(), "disk.raw", publish.BytesSource([]byte("disk")), nil)
	require.NoError(t, err)
	document := func(file string) []linkcheck.Document {
		return []linkcheck.Document{{Name: "stream.json", URL: "https://example.com/stream.json", Data: []byte(`{"stream":"s","metadata":{},"architectures":{"x86_64":{"artifacts":{"metal":{"formats":{"raw":{"disk":{"location":"` + file + `"}}}}}}}}`)}}
	}
	for name, tc := range map[string]struct {
		docs []linkcheck.Document
		opts linkcheck.Options
		err  error
		want outcome
	}{
		"passed":      {document("https://example.com/disk.raw"), linkcheck.Options{}, nil, passed("1 links of 1 documents")},
		"failed":      {document("https://example.com/gone.raw"), linkcheck.Options{}, nil, failed("gone.raw")},
		"elsewhere":   {document("https://example.org/disk.raw"), linkcheck.Options{}, nil, waiting("no link could be followed")},
		"no document": {nil, linkcheck.Options{}, nil, waiting("no link could be followed")},
		"not JSON":    {[]linkcheck.Document{{Name: "x", Data: []byte("{")}}, linkcheck.Options{}, nil, unknown("x")},
		"no answer":   {document("https://example.com/disk.raw"), linkcheck.Options{Mounts: []linkcheck.Mount{{URL: "https://example.com", Store: deadStore{}}}}, nil, unknown("the network is down")},
		"an error":    {nil, linkcheck.Options{}, errors.New("no documents"), unknown("no documents")},
	} {
		t.Run(name, func(t *testing.T) {
			opts := tc.opts
			opts.Offline = true
			if opts.Mounts == nil {
				opts.Mounts = []linkcheck.Mount{{URL: "https://example.com", Store: store}}
			}
			tc.want.require(t, gate.Links(func(context.Context, gate.Subject) ([]linkcheck.Document, error) { return tc.docs, tc.err }, &opts), nil)
		})
	}
}

type deadStore struct{}

var errDown = errors.New("the network is down")

func (deadStore) Open(context.Context, string) (io.ReadCloser, publish.Info, error) {
	return nil, publish.Info{}, errDown
}
func (deadStore) Stat(context.Context, string) (publish.Info, error) { return publish.Info{}, errDown }

func TestReachable(t *testing.T) {
	const before = "4.22.0-0.okd-scos-2026-06-09-015300"
	node := func(version, d string) graph.Node {
		return graph.Node{Version: version, Payload: "example.com/release@" + d, Metadata: map[string]string{}}
	}
	for name, tc := range map[string]struct {
		graph *graph.Graph
		err   error
		want  outcome
	}{
		"passed":         {&graph.Graph{Nodes: []graph.Node{node(before, digest("2")), node(subject.Release, subject.Digest)}, Edges: [][2]int{{0, 1}}}, nil, passed("updates from 1 releases")},
		"failed":         {&graph.Graph{Nodes: []graph.Node{node(before, digest("2")), node(subject.Release, subject.Digest)}}, nil, failed("no update from " + before)},
		"the wrong way":  {&graph.Graph{Nodes: []graph.Node{node(before, digest("2")), node(subject.Release, subject.Digest)}, Edges: [][2]int{{1, 0}}}, nil, failed("no update from")},
		"missing":        {&graph.Graph{}, nil, waiting("not in the graph")},
		"another digest": {&graph.Graph{Nodes: []graph.Node{node(before, digest("2")), node(subject.Release, digest("3"))}, Edges: [][2]int{{0, 1}}}, nil, waiting("the graph means")},
		"malformed":      {&graph.Graph{Nodes: []graph.Node{node(before, digest("2")), node(subject.Release, subject.Digest)}, Edges: [][2]int{{0, 7}}}, nil, unknown("edge 0")},
		"no graph":       {nil, errors.New("502"), unknown("502")},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.require(t, gate.Reachable(func(context.Context) (*graph.Graph, error) { return tc.graph, tc.err }, []string{before}, nil), nil)
		})
	}
}

func TestManual(t *testing.T) {
	later := now.Add(24 * time.Hour)
	for name, tc := range map[string]struct {
		check gate.Check
		want  gate.State
		err   string
	}{
		"passed":       {gate.Manual("A. Person", gate.Passed, "I ran it", later), gate.Passed, ""},
		"failed":       {gate.Manual("A. Person", gate.Failed, "I saw it", later), gate.Failed, ""},
		"waived":       {gate.Manual("A. Person", gate.Waived, "the cloud is down", later), gate.Waived, ""},
		"no name":      {gate.Manual(" ", gate.Passed, "so", later), gate.Pending, "needs a name"},
		"no reason":    {gate.Manual("A. Person", gate.Passed, "", later), "", "gives no reason"},
		"no end":       {gate.Manual("A. Person", gate.Passed, "so", time.Time{}), "", "must expire"},
		"over already": {gate.Manual("A. Person", gate.Passed, "so", now), "", "expires before"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := gate.Run(t.Context(), stream.Gate{Name: "g"}, subject, tc.check, clock, nil)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				require.ErrorIs(t, err, gate.ErrInvalid)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, tc.want, r.State)
		})
	}
}

func TestSigned(t *testing.T) {
	signer, keys := pgpKeys(t)
	repo, err := name.NewRepository("example.com/okd/release")
	require.NoError(t, err)
	sign := func(digest string) []byte {
		h, err := v1.NewHash(digest)
		require.NoError(t, err)
		sig, err := payload.Sign(t.Context(), &payload.Message{Digest: h, Reference: repo.Digest(digest).Name(), Creator: "okd-streams", Timestamp: now}, signer)
		require.NoError(t, err)
		return sig
	}
	at := func(digest string) string {
		h, err := v1.NewHash(digest)
		require.NoError(t, err)
		return payload.SignatureKey(h, 1)
	}
	for name, tc := range map[string]struct {
		stores fstest.MapFS
		keys   map[string]*payload.Keyring
		want   outcome
	}{
		"passed":         {fstest.MapFS{at(subject.Digest): {Data: sign(subject.Digest)}}, map[string]*payload.Keyring{"okd": keys}, passed("signed by")},
		"missing":        {fstest.MapFS{}, map[string]*payload.Keyring{"okd": keys}, failed("no signature found")},
		"another digest": {fstest.MapFS{at(subject.Digest): {Data: sign(digest("2"))}}, map[string]*payload.Keyring{"okd": keys}, failed("sha256:2222")},
		"malformed":      {fstest.MapFS{at(subject.Digest): {Data: []byte("x")}}, map[string]*payload.Keyring{"okd": keys}, failed("signature")},
		"no keys":        {fstest.MapFS{}, nil, unknown("policy without keys")},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &payload.Policy{Keyrings: tc.keys, Stores: []payload.SignatureStore{payload.FileSignatures(tc.stores)}}
			r := tc.want.require(t, gate.Signed(repo, policy, clock), nil)
			if tc.want.state == gate.Passed {
				require.Len(t, r.Evidence, 1)
			}
		})
	}
}

func TestPayload(t *testing.T) {
	registry, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/okd/release")
	require.NoError(t, err)
	push := push(t, registry, repo)
	release := func(version, manifest string) gate.Subject {
		built, err := payload.Assemble(t.Context(), registry, &payload.Spec{Version: version, Created: now, Components: map[string]name.Reference{
			"cluster-version-operator": push(nil, "usr/bin/cvo", "x"),
			"op":                       push(map[string]string{payload.LabelOperator: "true"}, "manifests/a.yaml", manifest),
		}}, &payload.AssembleOptions{Compatible: true})
		require.NoError(t, err)
		_, err = registry.WriteImage(t.Context(), repo, built.Image, nil)
		require.NoError(t, err)
		return gate.Subject{Release: subject.Release, Digest: built.Digest.String()}
	}
	good := "kind: Namespace\napiVersion: v1\nmetadata: {name: a}\n"
	other := push(nil, "file", "no payload")
	for name, tc := range map[string]struct {
		s    gate.Subject
		want outcome
	}{
		"passed":          {release(subject.Release, good), passed("it reads back")},
		"failed":          {release(subject.Release, good+"---\n"+good), failed("a.yaml")},
		"missing":         {subject, waiting("not there yet")},
		"another release": {release("4.21.0", good), failed(`it is called "4.21.0"`)},
		"no payload":      {gate.Subject{Release: subject.Release, Digest: other.DigestStr()}, unknown("")},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := gate.Run(t.Context(), stream.Gate{Name: "g"}, tc.s, gate.Payload(registry, repo), clock, nil)
			require.Equal(t, tc.want.err, err != nil, "%v", err)
			require.Equal(t, tc.want.state, r.State, r.Reason)
			require.Contains(t, r.Reason, tc.want.reason)
		})
	}
}

// push writes images of these labels and files: name, content, name, content.
func push(t *testing.T, registry publish.Registry, repo name.Repository) func(labels map[string]string, files ...string) name.Digest {
	return func(labels map[string]string, files ...string) name.Digest {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for i := 0; i < len(files); i += 2 {
			require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}))
			_, err := io.WriteString(w, files[i+1])
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
		require.NoError(t, err)
		img, err := mutate.AppendLayers(empty.Image, layer)
		require.NoError(t, err)
		img, err = mutate.Config(img, v1.Config{Labels: labels})
		require.NoError(t, err)
		desc, err := registry.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		return repo.Digest(desc.Digest.String())
	}
}

// pgpKeys reads a key pair.
func pgpKeys(t testing.TB) (*pgpsigner.Signer, *payload.Keyring) {
	secret, err := os.ReadFile("../pgpsigner/testdata/ed.secret.asc")
	require.NoError(t, err)
	public, err := os.ReadFile("../pgpsigner/testdata/ed.asc")
	require.NoError(t, err)
	signer, err := pgpsigner.ParseSigner(secret, clock, &pgpsigner.SignerOptions{
		Form: pgpsigner.Packed, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	require.NoError(t, err)
	keys, err := pgpsigner.ParseKeyring(public)
	require.NoError(t, err)
	return signer, keys
}

// TestRunTriesAgain counts the attempts at a check.
func TestRunTriesAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		states  []gate.State
		retries int
		want    gate.State
		waits   []time.Duration
	}{
		"at once":          {[]gate.State{gate.Passed}, 2, gate.Passed, nil},
		"the second time":  {[]gate.State{gate.Failed, gate.Passed}, 2, gate.Passed, []time.Duration{time.Minute}},
		"never":            {[]gate.State{gate.Failed, gate.Failed, gate.Failed}, 2, gate.Failed, []time.Duration{time.Minute, 2 * time.Minute}},
		"not allowed":      {[]gate.State{gate.Failed}, 0, gate.Failed, nil},
		"pending is known": {[]gate.State{gate.Pending}, 2, gate.Pending, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			var waits []time.Duration
			r, err := gate.Run(t.Context(), stream.Gate{Name: "g", Retries: tc.retries}, subject, func(context.Context, gate.Subject) (gate.Finding, error) {
				n++
				return gate.Finding{State: tc.states[n-1]}, nil
			}, clock, &gate.RunOptions{Wait: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }})
			require.NoError(t, err)
			require.Equal(t, tc.want, r.State)
			require.Equal(t, len(tc.states), n)
			require.Equal(t, tc.waits, waits)
		})
	}
}

func TestRunKeepsTheTimeLimit(t *testing.T) {
	hang := func(ctx context.Context, _ gate.Subject) (gate.Finding, error) {
		<-ctx.Done()
		return gate.Finding{State: gate.Passed}, nil // whatever it says now
	}
	r, err := gate.Run(t.Context(), stream.Gate{Name: "g", Timeout: time.Millisecond}, subject, hang, clock, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, gate.Pending, r.State)
	require.Contains(t, r.Reason, "time limit of 1ms")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err = gate.Run(ctx, stream.Gate{Name: "g"}, subject, hang, clock, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, gate.Pending, r.State)

	_, err = gate.Run(t.Context(), stream.Gate{Name: "../g"}, subject, hang, clock, nil)
	require.ErrorIs(t, err, gate.ErrInvalid)
	_, err = gate.Run(t.Context(), stream.Gate{Name: "g"}, gate.Subject{}, hang, clock, nil)
	require.ErrorIs(t, err, gate.ErrInvalid)
}

func TestReasonsAreMadeFitToRecord(t *testing.T) {
	r := outcome{state: gate.Failed}.require(t, func(context.Context, gate.Subject) (gate.Finding, error) {
		return gate.Finding{State: gate.Failed, Reason: "\x1b[2J\xff" + strings.Repeat("ä", 5000)}, nil
	}, nil)
	require.LessOrEqual(t, len(r.Reason), gate.MaxReasonSize)
	require.True(t, strings.HasSuffix(r.Reason, "ä…"))
}

func FuzzDecodeKola(f *testing.F) {
	mutants.Add(f,
		`{"tests":[{"name":"a","subtests":["b"],"result":"PASS","duration":1,"output":""}],"result":"PASS","platform":"qemu","version":"9"}`,
		`{"result":"PASS"}`,
		`{"tests":[{"result":"FAIL"}],"result":"PASS"}`,
		`null`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := fuzzbound.Parse(t, 512, gate.DecodeKola, data)
		if err != nil {
			return
		}
		require.Contains(t, []gate.KolaResult{"PASS", "FAIL"}, r.Result)
		for _, test := range r.Tests {
			require.False(t, test.Result == "FAIL" && r.Result == "PASS")
		}
		r2, err := gate.Run(t.Context(), stream.Gate{Name: "kola"}, subject, gate.Kola(source(ptr(string(data))), ""), clock, nil)
		require.NoError(t, err)
		require.NoError(t, gate.Book{Store: memstore.New()}.Record(t.Context(), r2))
	})
}

// FuzzBook reads documents of others: what is read can be written again.
func FuzzBook(f *testing.F) {
	mutants.Add(f,
		`{"version":1,"subject":{"release":"r","digest":"`+digest("1")+`"},"results":[{"gate":"a","subject":{"release":"r","digest":"`+digest("1")+`"},"state":"passed","at":"2026-06-10T11:00:00Z"}]}`,
		`{"version":1,"subject":{"release":"r","digest":"`+digest("1")+`"},"results":[{"gate":"a","subject":{"release":"r","digest":"`+digest("1")+`"},"state":"passed","at":"9999-12-31T23:59:59-12:00"}]}`,
		`{"version":1}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		store := memstore.New()
		_, err := store.Put(t.Context(), "gates/"+strings.Repeat("1", 64)+".json", publish.BytesSource(data), nil)
		require.NoError(t, err)
		var got []gate.Result
		fuzzbound.Linear(t, len(data), 512, func() { got, err = gate.Book{Store: store}.Results(t.Context(), subject.Digest) })
		if err != nil {
			return
		}
		again := gate.Book{Store: memstore.New()}
		require.NoError(t, again.Record(t.Context(), got...))
		v := gate.Evaluate([]stream.Gate{{Name: "a"}}, subject, got, now, nil)
		if v.State == gate.Passed {
			require.NotEmpty(t, got)
		}
	})
}
