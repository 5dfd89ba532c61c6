package controller_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/stream"
)

// local is a server in place of a controller.
func local() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, answers[req.URL.RequestURI()])
	}))
}

func client(address string) *controller.Client {
	c, err := controller.NewClient(address, nil)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func ExampleNewClient() {
	_, err := controller.NewClient("amd64.example.com", nil)
	fmt.Println(err)
	// Output: publish/controller: fetch amd64.example.com: an address such as https://HOST is needed: invalid argument
}

func ExampleClient_Streams() {
	server := local()
	defer server.Close()
	streams, err := client(server.URL).Streams(context.Background(), controller.Accepted)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(streams["4-scos-stable"])
	// Output: [4.21.0-okd-scos.4 4.21.0-okd-scos.3]
}

func ExampleClient_Tags() {
	server := local()
	defer server.Close()
	tags, err := client(server.URL).Tags(context.Background(), "4-scos-stable")
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range tags {
		fmt.Println(t.Name, t.Phase)
	}
	// Output:
	// 4.21.0-okd-scos.5 Ready
	// 4.21.0-okd-scos.4 Accepted
}

func ExampleClient_Latest() {
	server := local()
	defer server.Close()
	latest, err := client(server.URL).Latest(context.Background(), "4-scos-stable", &controller.LatestOptions{In: ">4.20.0", Prefix: "4.21", Before: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(latest.PullSpec)
	// Output: example.com/r:3
}

func ExampleClient_Candidate() {
	server := local()
	defer server.Close()
	next, err := client(server.URL).Candidate(context.Background(), "4-scos-stable")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(next.FromTag, "as", next.Name)
	// Output: 4.22.0-0.okd-scos-2026-11-20-010101 as 4.22.0-okd-scos.0
}

func ExampleClient_Config() {
	server := local()
	defer server.Close()
	config, err := client(server.URL).Config(context.Background(), "4-scos-stable")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.Name, config.As)
	// Output: 4-scos-stable Stable
}

func ExampleClient_Release() {
	server := local()
	defer server.Close()
	r, err := client(server.URL).Release(context.Background(), "4-scos-stable", "4.21.0-okd-scos.4", nil)
	if err != nil {
		log.Fatal(err)
	}
	for name, job := range r.Results.Blocking {
		fmt.Println(name, job.State, job.URL)
	}
	// Output: upgrade Succeeded https://example.com/2
}

func ExampleClient_Graph() {
	server := local()
	defer server.Close()
	g, err := client(server.URL).Graph(context.Background(), "stable-scos")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(g.Nodes), "release,", len(g.Edges), "updates")
	// Output: 1 release, 0 updates
}

func ExampleDecodeConfig() {
	c, err := controller.DecodeConfig([]byte(`{"name":"4.20.0-0.okd-scos","to":"release-scos","verify":{"aws":{"prowJob":{"name":"e2e-aws"}}}}`))
	if err != nil {
		log.Fatal(err)
	}
	blocking, _ := c.GateNames()
	fmt.Println(blocking)
	// Output: [aws]
}

func ExampleConfig_Encode() {
	c := &controller.Config{Name: "4.20.0-0.okd-scos", To: "release-scos", Expires: "72h"}
	data, err := c.Encode()
	if err != nil {
		log.Fatal(err)
	}
	_, _ = os.Stdout.Write(data)
	// Output: {"name":"4.20.0-0.okd-scos","to":"release-scos","expires":"72h"}
}

func ExampleConfig_GateNames() {
	c := &controller.Config{Verify: map[string]controller.Verify{"aws": {}, "gcp": {Optional: true}}}
	fmt.Println(c.GateNames())
	// Output: [aws] [gcp]
}

func ExampleFromDefinition() {
	d, err := stream.Builtin("okd-scos-next")
	if err != nil {
		log.Fatal(err)
	}
	c, err := controller.FromDefinition(d, "release-scos")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Name, c.Verify["aws"].ProwJob.Name)
	// Output: 4.22.0-0.okd-scos-nightly periodic-ci-openshift-release-main-okd-scos-4.22-e2e-aws-ovn
}

func ExampleInputHash() {
	fmt.Println(controller.InputHash(map[string]string{"cli": "sha256:1"})[:14])
	// Output: sha256:51ae7fa
}

func ExampleFlow_Plan() {
	f := &controller.Flow{}
	actions, err := f.Plan(config(), map[string]string{"cli": "sha256:1"}, start)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(actions[0].Kind, actions[0].Release)
	// Output: create 4.22.0-0.okd-scos-2026-11-26-000000
}

func ExampleFlow_Move() {
	f := &controller.Flow{Releases: []controller.FlowRelease{{Name: "4.22.0", Phase: controller.Pending}}}
	fmt.Println(f.Move("4.22.0", controller.Accepted, "", ""))
	// Output: publish/controller: release 4.22.0: Pending to Accepted: not a transition
}

func ExampleFlow_Override() {
	f := &controller.Flow{Releases: []controller.FlowRelease{{Name: "4.22.0", Phase: controller.Ready}}}
	if err := f.Override("4.22.0", controller.Accepted, "Ann", "the test's cloud is down", start); err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Release("4.22.0").Phase, "by", f.Release("4.22.0").Overrides[0].By)
	// Output: Accepted by Ann
}

func ExampleBackoff() {
	fmt.Println(controller.Backoff(1), controller.Backoff(3), controller.Backoff(9))
	// Output: 1m0s 4m0s 15m0s
}

// The flow of a stream in one process.
func ExampleEngine() {
	ctx := context.Background()
	e := &controller.Engine{
		Store: memstore.New(), Key: "flow.json", Config: config(),
		Env: controller.Environment{
			Inputs: func(context.Context) (map[string]string, error) { return map[string]string{"cli": "sha256:1"}, nil },
			Make: func(_ context.Context, r *controller.FlowRelease) (string, error) {
				return "example.com/r:" + r.Name, nil
			},
			Job: func(context.Context, *controller.FlowRelease, string, int) (controller.Job, error) {
				return controller.Job{State: controller.JobSucceeded}, nil
			},
		},
	}
	for range 4 {
		done, err := e.Step(ctx, start)
		if err != nil {
			log.Fatal(err)
		}
		for _, a := range done {
			fmt.Printf("%s:%s%s\n", a.Kind, a.Job, a.Phase)
		}
	}
	if err := e.Edit(ctx, func(f *controller.Flow) error { f.Releases[0].Keep = "promoted"; return nil }); err != nil {
		log.Fatal(err)
	}
	f, err := e.Load(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Releases[0].Phase)
	// Output:
	// create:Pending
	// make:
	// run:aws
	// run:gcp
	// run:late
	// move:Accepted
	// Accepted
}

func ExampleHandler() {
	e := &controller.Engine{Store: memstore.New(), Key: "flow.json", Config: config()}
	server := httptest.NewServer(controller.Handler(e))
	defer server.Close()
	streams, err := client(server.URL).Streams(context.Background(), "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(streams)
	// Output: map[4.22.0-0.okd-scos:[]]
}
