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

	"github.com/okd-project/okd-streams/publish"
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

// After a push the image stream is waited for.
func ExampleHandOver() {
	var registry publish.Registry // that was pushed to
	var pushed v1.Hash
	tag, err := name.NewTag("registry.example.com/okd/scos:4.22")
	if err != nil {
		log.Fatal(err)
	}
	err = prow.HandOver(context.Background(), registry, tag, pushed, &prow.HandOverOptions{
		StreamTag: "stream-coreos",
		Stream: func(context.Context) (*prow.ImageStream, error) {
			return &prow.ImageStream{}, nil // GET …/namespaces/origin/imagestreams/scos-4.22
		},
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleWatch() {
	var registry publish.Registry
	tag, err := name.NewTag("registry.example.com/okd/scos:4.22")
	if err != nil {
		log.Fatal(err)
	}
	for digest, err := range prow.Watch(context.Background(), registry, tag, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("new image", digest)
	}
}
