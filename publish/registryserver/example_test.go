package registryserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/registryserver"
)

// What is in a folder is served, also what somebody else puts there.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	server, err := registryserver.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	// A program would call Server.Serve.
	front := httptest.NewServer(server)
	defer front.Close()

	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	tag := name.MustParseReference("localhost/okd/scos:next").(name.Tag)
	desc, err := registry.WriteImage(ctx, tag.Context(), empty.Image, nil)
	if err == nil {
		err = registry.Tag(ctx, tag, desc.Digest)
	}
	if err != nil {
		fmt.Println(err)
		return
	}

	resp, err := http.Get(front.URL + "/v2/okd/scos/tags/list")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output:
	// 200 {"name":"okd/scos","tags":["next"]} <nil>
}

// A registry on a free port of loopback, until the context ends.
func ExampleServer_Serve() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server, err := registryserver.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := server.Listen(ctx, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/v2/okd/release/tags/list")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	stop()
	fmt.Println(<-served)
	// Output:
	// 404
	// <nil>
}
