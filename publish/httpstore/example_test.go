package httpstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/httpstore"
)

// published is a web server with one document.
func published() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prod/streams/stable.json" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"5d41402a"`)
		http.ServeContent(w, r, "stable.json", time.Time{}, bytes.NewReader([]byte(`{"stream": "stable"}`)))
	}))
}

func ExampleNew() {
	server := published()
	defer server.Close()
	s, err := httpstore.New(server.URL+"/prod", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	ctx := context.Background()
	info, err := s.Stat(ctx, "streams/stable.json")
	fmt.Println(info.Size, info.Revision, info.ContentType, err)
	body, _, err := s.Open(ctx, "streams/stable.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), err)
	// Output:
	// 20 "5d41402a" application/json <nil>
	// {"stream": "stable"} <nil>
}

// A web server is only read.
func ExampleStore_Put() {
	s, err := httpstore.New("https://builds.example/prod", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	ctx := context.Background()
	_, err = s.Put(ctx, "streams/next.json", publish.BytesSource([]byte("{}")), nil)
	fmt.Println(err)
	fmt.Println(errors.Is(s.Delete(ctx, "streams/next.json"), errors.ErrUnsupported))
	for _, err := range s.List(ctx, "streams/") {
		fmt.Println(errors.Is(err, errors.ErrUnsupported))
	}
	// Output:
	// publish: put https://builds.example/prod/streams/next.json: a web server is only read: unsupported operation
	// true
	// true
}

func ExampleStore_OpenRange() {
	server := published()
	defer server.Close()
	s, err := httpstore.New(server.URL+"/prod", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	body, info, err := s.OpenRange(context.Background(), "streams/stable.json", 2, 6)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), info.Size, err)
	// Output: stream 20 <nil>
}
