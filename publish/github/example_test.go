package github_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/github"
)

// example is a client of a stand-in for GitHub.
func example() (*github.Client, func()) {
	server := httptest.NewServer(githubserver.New(githubserver.Options{
		Repository: "okd-project/okd", Tokens: []string{"secret"}, Now: func() time.Time { return time.Unix(1795669200, 0) },
	}))
	client, err := github.NewClient("okd-project/okd", &github.ClientOptions{API: server.URL, Token: "secret"})
	if err != nil {
		panic(err)
	}
	return client, server.Close
}

func ExampleNewClient() {
	_, err := github.NewClient("okd-project", nil)
	fmt.Println(err)
	// Output: publish/github: connect okd-project: a repository is OWNER/NAME: invalid argument
}

func ExampleClient_Publish() {
	client, done := example()
	defer done()
	ctx := context.Background()
	spec := &github.Spec{
		Tag: "4.21.0-okd-scos.3", Body: "# Release notes\n", Latest: github.IsLatest,
		Assets: []github.Upload{{Name: "sha256sum.txt", Source: publish.BytesSource([]byte("…"))}},
	}
	// Before the gates: a draft that nobody sees.
	draft, err := client.Prepare(ctx, spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(draft.Tag, "draft:", draft.Draft)
	// After them. It may be called again at any time.
	release, err := client.Publish(ctx, spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(release.Tag, "draft:", release.Draft, release.Assets[0].Name, release.Assets[0].Digest[:19])
	// Output:
	// 4.21.0-okd-scos.3 draft: true
	// 4.21.0-okd-scos.3 draft: false sha256sum.txt sha256:b4935894c8ce
}

func ExampleClient_Prepare() {
	client, done := example()
	defer done()
	_, err := client.Prepare(context.Background(), &github.Spec{Tag: "4.22.0-okd-scos.ec.0", Prerelease: true, Latest: github.IsLatest})
	fmt.Println(err)
	// Output: publish/github: prepare okd-project/okd 4.22.0-okd-scos.ec.0: a pre-release cannot be the latest: invalid argument
}

func ExampleClient_Discard() {
	client, done := example()
	defer done()
	ctx := context.Background()
	_, err := client.Prepare(ctx, &github.Spec{Tag: "4.21.0-okd-scos.3"})
	fmt.Println(err)
	fmt.Println(client.Discard(ctx, "4.21.0-okd-scos.3"))
	_, err = client.Release(ctx, "4.21.0-okd-scos.3")
	fmt.Println(strings.ReplaceAll(err.Error(), ": ", ":\n  "))
	// Output:
	// <nil>
	// <nil>
	// publish/github:
	//   find okd-project/okd 4.21.0-okd-scos.3:
	//   no release and no draft of this tag:
	//   file does not exist
}

func ExampleClient_Releases() {
	client, done := example()
	defer done()
	ctx := context.Background()
	for _, tag := range []string{"4.21.0-okd-scos.0", "4.21.0-okd-scos.1"} {
		if _, err := client.Publish(ctx, &github.Spec{Tag: tag}); err != nil {
			fmt.Println(err)
			return
		}
	}
	for release, err := range client.Releases(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(release.Tag)
	}
	// Output:
	// 4.21.0-okd-scos.1
	// 4.21.0-okd-scos.0
}

func ExampleClient_Latest() {
	client, done := example()
	defer done()
	ctx := context.Background()
	if _, err := client.Publish(ctx, &github.Spec{Tag: "4.21.0-okd-scos.0"}); err != nil {
		fmt.Println(err)
		return
	}
	release, err := client.Latest(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(release.Tag)
	// Output: 4.21.0-okd-scos.0
}

func ExampleClient_Release() {
	client, done := example()
	defer done()
	_, err := client.Release(context.Background(), "4.21.0/../x")
	fmt.Println(err)
	// Output: publish/github: find okd-project/okd 4.21.0/../x: tag "4.21.0/../x": invalid argument
}
