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
