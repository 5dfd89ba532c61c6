package gate_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/stream"
)

func ExampleEvaluate() {
	ctx := context.Background()
	now := time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC)
	release := gate.Subject{Release: "4.22.0-okd-scos.1", Digest: digest("1")}
	book := gate.Book{Store: memstore.New()}
	err := book.Record(ctx,
		gate.Result{Gate: "install", Subject: release, State: gate.Passed, Reason: "3 tests passed", At: now},
		gate.Result{Gate: "upgrade", Subject: release, State: gate.Waived, Reason: "the cloud is down", By: "A. Person", At: now, Expires: now.AddDate(0, 0, 7)},
		gate.Result{Gate: "vsphere", Subject: release, State: gate.Failed, Reason: "1 of 20 tests failed", At: now},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := book.Results(ctx, release.Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict := gate.Evaluate([]stream.Gate{
		{Name: "install", Kind: stream.GateInstall},
		{Name: "upgrade", Kind: stream.GateUpgrade},
		{Name: "vsphere", Kind: stream.GateExternal, Mode: stream.Informing},
		{Name: "kola", Kind: stream.GateKola},
	}, release, results, now, nil)
	for _, g := range verdict.Gates {
		fmt.Printf("%-8s %-8s %s\n", g.Gate, g.State, g.Reason)
	}
	fmt.Println(verdict.Err())
	result, err := verdict.Gate(ctx, "kola") // as publish.Env asks
	fmt.Printf("%q %v\n", result, err)
	// Output:
	// install  passed   3 tests passed
	// upgrade  waived   A. Person: the cloud is down (until 2026-06-17T12:00:00Z)
	// vsphere  failed   1 of 20 tests failed
	// kola     pending  no result
	// waiting for kola
	// "" <nil>
}

// Each kind of gate is a check; Run gives the result to record.
func ExampleRun() {
	files := fstest.MapFS{
		"finished.json":    {Data: []byte(`{"timestamp":1781092800,"passed":true,"result":"SUCCESS"}`)},
		"prowjob.json":     {Data: []byte(`{"metadata":{"annotations":{"release.openshift.io/tag":"4.22.0-okd-scos.1"}},"spec":{"job":"e2e-aws"}}`)},
		"junit_e2e.xml":    {Data: []byte(`<testsuite name="e2e"><testcase name="pods start"/><testcase name="pods stop"><failure/></testcase></testsuite>`)},
		"kola/report.json": {Data: []byte(`{"tests":[{"name":"basic","result":"PASS","duration":1}],"result":"PASS","version":"9.0.20260610-0"}`)},
	}
	file := func(name string) gate.Source { return gate.File(files, name) }
	checks := []struct {
		name  string
		check gate.Check
	}{
		{"e2e", gate.ProwJob(file("finished.json"), file("prowjob.json"))},
		{"tests", gate.JUnit(file("junit_e2e.xml"))},
		{"kola", gate.Kola(file("kola/report.json"), "9.0.20260610-0")},
		{"tomorrow", gate.JUnit(file("junit_later.xml"))},
		{"smoke", gate.Command(func(_ context.Context, s gate.Subject, output io.Writer) (int, error) {
			fmt.Fprintln(output, s.Release, "starts") // os/exec in a program
			return 0, nil
		})},
		{"person", gate.Manual("A. Person", gate.Waived, "tried at home", time.Date(2026, 6, 17, 0, 0, 0, 0, time.UTC))},
	}
	release := gate.Subject{Release: "4.22.0-okd-scos.1", Digest: digest("1")}
	clock := func() time.Time { return time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC) }
	book := gate.Book{Store: memstore.New()}
	for _, c := range checks {
		result, err := gate.Run(context.Background(), stream.Gate{Name: c.name}, release, c.check, clock, nil)
		if err != nil {
			fmt.Println(err)
		}
		if err := book.Record(context.Background(), result); err != nil {
			fmt.Println(err)
		}
	}
	for h, err := range book.All(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, r := range h.Results {
			fmt.Printf("%-8s %-7s %s\n", r.Gate, r.State, r.Reason)
		}
	}
	// Output:
	// e2e      passed  the job passed
	// tests    failed  1 of 2 tests failed: e2e pods stop
	// kola     passed  1 tests passed
	// tomorrow pending junit_later.xml is not there yet
	// smoke    passed  4.22.0-okd-scos.1 starts
	// person   waived  tried at home
}

// Services that know a release by its digest, or by its name.
func ExampleHTTP() {
	release := gate.Subject{Release: "4.22.0-okd-scos.1", Digest: digest("1")}
	mux := http.NewServeMux()
	mux.HandleFunc("/verdict", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"digest":%q,"state":"passed","reason":"12 clusters run it"}`, r.FormValue("image"))
	})
	mux.HandleFunc("/api/v1/releasestream/4-scos/release/"+release.Release, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"name":%q,"phase":"Ready","results":{"blockingJobs":{"aws":{"state":"Failed"}}}}`, release.Release)
	})
	mux.HandleFunc("/finished.json", http.NotFound)
	server := httptest.NewServer(mux)
	defer server.Close()
	client, err := controller.NewClient(server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, check := range []gate.Check{
		gate.HTTP(server.URL+"/verdict?image={digest}", nil),
		gate.Controller(client, "4-scos", "aws", nil),
		gate.ProwJob(gate.URL(server.URL+"/finished.json", nil), gate.Source{}),
	} {
		f, err := check(context.Background(), release)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(f.State, "-", strings.ReplaceAll(f.Reason, server.URL, "https://ci.example"))
	}
	// Output:
	// passed - 12 clusters run it
	// failed - the job is Failed
	// pending - https://ci.example/finished.json is not there yet
}

// What the library itself finds out about a release.
func ExampleReachable() {
	ctx := context.Background()
	release := gate.Subject{Release: "4.22.0-okd-scos.1", Digest: digest("1")}
	repo, err := name.NewRepository("example.com/okd/release")
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "gate-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	updates := func(context.Context) (*graph.Graph, error) {
		return &graph.Graph{Nodes: []graph.Node{
			{Version: "4.22.0-okd-scos.0", Payload: repo.Digest(digest("0")).Name()},
			{Version: release.Release, Payload: repo.Digest(release.Digest).Name()},
		}}, nil
	}
	packages := func(context.Context, gate.Subject) (gate.Comparison, error) {
		before := []ostree.Package{{Name: "cri-o", Version: "1.35.1", Release: "1"}}
		after := []ostree.Package{{Name: "cri-o", Version: "1.35.0", Release: "1"}}
		return container.CheckRegression(before, after, nil), nil
	}
	documents := func(context.Context, gate.Subject) ([]linkcheck.Document, error) {
		return []linkcheck.Document{{Name: "updates.json", Data: []byte(`{"nodes":[{"version":"4.22.0-okd-scos.1","payload":"example.com/okd/release@` + digest("1") + `"}],"edges":[]}`)}}, nil
	}
	for _, check := range []gate.Check{
		gate.Reachable(updates, []string{"4.22.0-okd-scos.0"}, nil),
		gate.Regression(packages),
		gate.Links(documents, &linkcheck.Options{Offline: true}),
		gate.Payload(registry, repo),
		gate.Signed(repo, &payload.Policy{Keyrings: map[string]*payload.Keyring{"okd": {}}}, time.Now),
	} {
		f, err := check(ctx, release)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(f.State, "-", f.Reason)
	}
	// Output:
	// failed - payload/graph: reach 4.22.0-okd-scos.1: no update from 4.22.0-okd-scos.0; run their upgrade jobs, or waive them: file does not exist
	// failed - container: regression cri-o: packages regress: downgraded, was 1.35.1-1, is 1.35.0-1
	// pending - no link could be followed
	// pending - example.com/okd/release@sha256:1111111111111111111111111111111111111111111111111111111111111111 is not there yet
	// failed - payload: verify example.com/okd/release@sha256:1111111111111111111111111111111111111111111111111111111111111111: no accepted signature for okd: signature not accepted: no signature found
}
