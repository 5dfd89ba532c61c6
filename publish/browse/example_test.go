package browse_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/browse"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// sample is a store with one build.
func sample(ctx context.Context) publish.Store {
	store := memstore.New()
	_, err := publish.Update(ctx, store, "sample/builds/builds.json", bootimage.AddBuild(bootimage.Build{
		ID: "9.0.20261125-0", Arch: "x86_64", Time: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC),
	}), nil)
	if err == nil {
		_, err = store.Put(ctx, "streams/sample.json", publish.BytesSource([]byte("{}")), nil)
	}
	if err != nil {
		fmt.Println(err)
	}
	return store
}

// Pages are written beside what they are about.
func ExampleSite_Write() {
	ctx := context.Background()
	store := sample(ctx)
	site, err := browse.New(store, &browse.Options{Title: "My streams", Files: "../"})
	if err != nil {
		fmt.Println(err)
		return
	}
	done, err := site.Write(ctx, store, &browse.WriteOptions{Prefix: "pages/"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(done.Pages, "pages,", done.New, "of them new")
	for info, err := range store.List(ctx, "pages/") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(info.Key)
	}
	// Output:
	// 3 pages, 3 of them new
	// pages/index.html
	// pages/sample/builds/9.0.20261125-0.html
	// pages/sample/index.html
}

func ExampleNew() {
	site, err := browse.New(sample(context.Background()), &browse.Options{Files: "/store/"})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/browse/", http.StripPrefix("/browse", site))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/browse/sample/index.html", nil))
	fmt.Println(answer.Code, answer.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}

func ExampleFind() {
	ctx := context.Background()
	streams, err := browse.Find(ctx, sample(ctx), "https://files.example.org")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range streams {
		fmt.Println(s.Bucket.Stream, "in", s.Bucket.Prefix)
	}
	// Output: sample in sample
}

func ExampleSite_Pages() {
	ctx := context.Background()
	site, err := browse.New(sample(ctx), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for page, err := range site.Pages(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(page.Path)
	}
	// Output:
	// index.html
	// sample/index.html
	// sample/builds/9.0.20261125-0.html
}

func ExampleSite_Page() {
	ctx := context.Background()
	site, err := browse.New(sample(ctx), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = site.Page(ctx, "sample/builds/9.0.20261126-0.html")
	fmt.Println(err)
	// Output: browse: page "sample/builds/9.0.20261126-0.html": file does not exist
}
