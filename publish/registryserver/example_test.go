package registryserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/okd-project/okd-streams/publish/registryserver"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server, err := registryserver.Open(context.Background(), dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	// A program would pass it to http.Server on a loopback address.
	front := httptest.NewServer(server)
	defer front.Close()
	resp, err := http.Get(front.URL + "/v2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output:
	// 200 {} <nil>
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
