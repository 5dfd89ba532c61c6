package prow_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/prow"
)

func ExampleDecodeJobSpec() {
	spec, err := prow.DecodeJobSpec(`{"type":"periodic","job":"okd-scos-e2e-aws","buildid":"17"}`)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(spec.Path())
	// Output: logs/okd-scos-e2e-aws/17
}

func ExampleDecodeFinished() {
	f, err := prow.DecodeFinished([]byte(`{"timestamp":1764115200,"passed":true,"result":"SUCCESS"}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Success(), f.Time().Format(time.DateOnly))
	// Output: true 2025-11-26
}

func ExampleDecodeJUnit() {
	j, err := prow.DecodeJUnit(strings.NewReader(`<testsuite name="e2e"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>`))
	if err != nil {
		log.Fatal(err)
	}
	passed, failed, skipped := j.Count()
	fmt.Println(passed, failed, skipped)
	// Output: 1 1 0
}

func ExampleJUnit_Encode() {
	j := &prow.JUnit{Cases: []prow.Case{{Suite: "build", Name: "lint", Duration: time.Second}}}
	if err := j.Encode(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// <?xml version="1.0" encoding="UTF-8"?>
	// <testsuites>
	//   <testsuite name="build" tests="1" failures="0" skipped="0" time="1.000">
	//     <testcase name="lint" time="1.000"></testcase>
	//   </testsuite>
	// </testsuites>
}

func ExampleCheckProducers() {
	fmt.Println(prow.CheckProducers([]prow.Producer{
		{Name: "okd-scos-next", Namespace: "origin", ImageStream: "scos-4.22", Tag: "stream-coreos"},
		{Name: "ART", Namespace: "origin", ImageStream: "scos-4.22", Tag: "stream-coreos"},
	}))
	// Output: publish/prow: check origin/scos-4.22:stream-coreos: written by okd-scos-next and ART
}

func ExampleImageStream_Imported() {
	s := &prow.ImageStream{Metadata: prow.ObjectMeta{Name: "scos-4.22", Namespace: "origin"}}
	fmt.Println(s.Imported("stream-coreos", v1.Hash{}))
	// Output: origin/scos-4.22:stream-coreos has no image: not imported yet
}

// pushed gives a registry in a folder, and an image in it that has a tag.
func pushed(ctx context.Context, dir string) (publish.Registry, name.Tag, v1.Hash, error) {
	tag := name.MustParseReference("registry.example.com/okd/scos:4.22").(name.Tag)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		return nil, tag, v1.Hash{}, err
	}
	desc, err := registry.WriteImage(ctx, tag.Context(), empty.Image, nil)
	if err == nil {
		err = registry.Tag(ctx, tag, desc.Digest)
	}
	return registry, tag, desc.Digest, err
}

// After a push the image stream is waited for.
func ExampleHandOver() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	registry, tag, digest, err := pushed(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	looks := 0
	err = prow.HandOver(ctx, registry, tag, digest, &prow.HandOverOptions{
		StreamTag: "stream-coreos",
		// Elsewhere Cluster.ImageStream asks the API server.
		Stream: func(context.Context) (*prow.ImageStream, error) {
			looks++
			s := &prow.ImageStream{}
			if looks > 1 { // the import has run
				s.Status.Tags = []prow.TagStatus{{Tag: "stream-coreos", Items: []prow.TagItem{{Image: digest.String()}}}}
			}
			return s, nil
		},
		Wait: func(context.Context, time.Duration) error { return nil },
	})
	fmt.Println(looks, "looks,", err)
	// Output: 2 looks, <nil>
}

// Each image that a tag gets is printed.
func ExampleWatch() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	registry, tag, _, err := pushed(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	for digest, err := range prow.Watch(ctx, registry, tag, nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(tag.TagStr(), "is at", digest.Hex[:12])
		break // instead of looking again each half minute
	}
	// Output: 4.22 is at 732112270d7e
}
