package ostree_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleRepo_Pull() {
	ctx := context.Background()
	src, c, done := exampleRepo()
	defer done()
	if err := src.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	handler, err := ostree.Handler(src)
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	// With a remote in the config, URL and Verifier come from there.
	v, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte(exampleKey().Public())}})
	if err != nil {
		log.Fatal(err)
	}
	var stats ostree.PullStats
	err = r.Pull(ctx, "origin", &ostree.PullOptions{URL: server.URL, Revs: []string{"os/x86_64/base"}, Verifier: v, Stats: &stats})
	if err != nil {
		log.Fatal(err)
	}
	got, err := r.Resolve(ctx, "origin:os/x86_64/base")
	fmt.Println(got == c, stats.Commits, err)
	// Output: true 1 <nil>
}
