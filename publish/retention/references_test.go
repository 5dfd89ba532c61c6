package retention_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/retention"
)

func TestStreamPins(t *testing.T) {
	d, err := bootimage.DecodeStream(strings.NewReader(`{"stream":"next","metadata":{"last-modified":"2026-01-02T03:04:05Z"},"architectures":{
		"x86_64":{"artifacts":{"metal":{"release":"9.0.2-0","formats":{}},"qemu":{"release":"9.0.1-0","formats":{}}},"images":{"aws":{"regions":{"us-east-1":{"release":"9.0.3-0","image":"ami-1"}}},"newcloud":{"list":[{"release":"9.0.4-0"}]}}}}}`))
	require.NoError(t, err)
	pins, err := retention.StreamPins(d)
	require.NoError(t, err)
	var got []string
	for _, p := range pins {
		require.Equal(t, "stream next", p.Reason)
		require.Empty(t, p.Kinds)
		got = append(got, p.Build)
	}
	require.Equal(t, []string{"9.0.1-0", "9.0.2-0", "9.0.3-0", "9.0.4-0"}, got)
}

// A stream's disk images are old, and stay.
func ExampleStreamPins() {
	d, err := bootimage.DecodeStream(strings.NewReader(`{"stream":"next","metadata":{"last-modified":"2026-01-02T03:04:05Z"},"architectures":{"x86_64":{"artifacts":{"metal":{"release":"9.0.1-0","formats":{}}}}}}`))
	if err != nil {
		log.Fatal(err)
	}
	pins, err := retention.StreamPins(d)
	if err != nil {
		log.Fatal(err)
	}
	p, err := retention.New(context.Background(), stored(), "builds/", retention.Policy{Build: 90 * 24 * time.Hour}, now, &retention.Options{Pins: pins})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(p.Steps), p.Kept[0].Reason)
	// Output: 0 stream next
}

func ExampleUpdatesPins() {
	d, err := bootimage.DecodeUpdates(strings.NewReader(`{"stream":"next","metadata":{"last-modified":"2026-01-02T03:04:05Z"},"releases":[{"version":"9.0.1-0","metadata":{"barrier":{"reason":"https://example.com/1"}}},{"version":"9.0.2-0","metadata":{"deadend":{"reason":"https://example.com/2"}}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	for _, pin := range retention.UpdatesPins(d.Value()) {
		fmt.Println(pin.Build, pin.Reason, pin.Kinds)
	}
	// Output: 9.0.1-0 barrier of stream next [containers build]
}

func ExampleGraphRoots() {
	g := &graph.Graph{Nodes: []graph.Node{{Version: "4.21.0", Payload: "registry.example.com/okd/release@sha256:" + strings.Repeat("1", 64)}}}
	for _, root := range retention.GraphRoots(g) {
		fmt.Println(root.Reason, root.Payload)
	}
	// Output: release 4.21.0 of the graph true
}

// An image that a tag refers to stays, whatever the policy says.
func ExampleNew_registry() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	repo, err := name.NewRepository("registry.example.com/scos")
	if err != nil {
		log.Fatal(err)
	}
	store := memstore.New()
	put := func(key, text string) {
		if _, err := store.Put(ctx, key, publish.BytesSource([]byte(text)), nil); err != nil {
			log.Fatal(err)
		}
	}
	put("builds/builds.json", `{"schema-version":"1.0.0","builds":[{"id":"9.0.3-0","arches":["x86_64"]},{"id":"9.0.2-0","arches":["x86_64"]},{"id":"9.0.1-0","arches":["x86_64"]}]}`)
	for _, id := range []string{"9.0.1-0", "9.0.2-0"} {
		img, err := random.Image(10, 1)
		if err != nil {
			log.Fatal(err)
		}
		desc, err := registry.WriteImage(ctx, repo, img, nil)
		if err == nil && id == "9.0.1-0" {
			err = registry.Tag(ctx, repo.Tag("stable"), desc.Digest)
		}
		if err != nil {
			log.Fatal(err)
		}
		put("builds/"+id+"/x86_64/meta.json", fmt.Sprintf(`{"buildid":%q,"name":"scos","ostree-commit":%q,"ostree-timestamp":"2026-01-01T00:00:00Z","ostree-version":"9.0","base-oscontainer":{"image":%q,"digest":%q}}`,
			id, strings.Repeat("a", 64), repo, desc.Digest))
	}
	p, err := retention.New(ctx, store, "builds/", retention.Policy{Containers: 90 * 24 * time.Hour}, now, &retention.Options{Registry: registry})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range p.Steps {
		fmt.Println(s.Build, len(s.Manifests))
	}
	for _, k := range p.Kept {
		fmt.Println(k.Build, "stays:", k.Reason)
	}
	// Output:
	// 9.0.2-0 1
	// 9.0.1-0 stays: tag stable
}
