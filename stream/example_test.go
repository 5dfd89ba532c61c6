package stream_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/stream"
)

func ExampleDecode() {
	const text = `apiVersion: streams.okd.io/v1alpha1
kind: Stream
identity:
  name: mine
  distribution: custom
  osName: mine
version: 4.21
naming:
  release: okd-scos
architectures: [amd64]
os:
  kind: given
  sorce: {dir: /srv/tree}
`
	_, err := stream.Decode(strings.NewReader(text))
	for _, fault := range stream.Faults(err) {
		fmt.Printf("%d:%d %s: %v\n  %s\n", fault.Line, fault.Column, fault.Path, fault.Err, fault.Hint)
	}
	// Output:
	// 7:10 version: want text, got a number with a point
	//   quote it: "4.21"
	// 10:17 architectures[0]: unknown architecture "amd64"
	//   use the RPM spelling x86_64
	// 13:3 os.sorce: unknown key "sorce"
	//   did you mean "source"?
}

func ExampleBuiltin() {
	d, err := stream.Builtin("okd-scos-stable")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, version := range []string{"4.12", "4.15", "4.19", "4.21"} {
		p, err := d.Profile(version)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(version, p.Kind, p.NodeTags, p.ExtensionsTags, *p.ExtensionsRequired)
	}
	// Output:
	// 4.12 compose [centos-stream-coreos-9] [] false
	// 4.15 compose [centos-stream-coreos-9] [centos-stream-coreos-9-extensions] true
	// 4.19 compose [stream-coreos] [stream-coreos-extensions] true
	// 4.21 layer [stream-coreos] [stream-coreos-extensions] true
}

func ExampleBuiltinSource() {
	head, _, _ := strings.Cut(string(stream.BuiltinSource("sample")), "\napiVersion")
	fmt.Println(head)
	// Output:
	// # A stream to try the tools: a small tree, images and operators made on the
	// # spot. It says "sample" everywhere and is published only to a folder or to
	// # loopback; no cluster runs it.
}

func ExampleDefinition_Profile() {
	d, _ := stream.Builtin("okd-fcos-stable")
	_, err := d.Profile("4.16")
	fmt.Println(err)
	// Output:
	// stream: okd-fcos-stable has no version 4.16, it ended with 4.15: OKD on Fedora CoreOS ended with 4.15; use okd-scos-stable.: unsupported operation
}

func ExampleDefinition_Needs() {
	d, _ := stream.Builtin("okd-scos-next")
	needs, _ := d.Needs("4.22")
	for _, need := range needs {
		fmt.Println(need.Path+":", need.What)
	}
	// Output:
	// os.source: root filesystem of the node image built from the base image
	// payload.base: release image to start from, by digest
	// extensions.image: extensions image, by digest
}

func ExampleDefinition_Next() {
	d, _ := stream.Builtin("okd-scos-next")
	v, _ := d.Next(nil, true, time.Date(2026, 6, 10, 1, 53, 0, 0, time.UTC))
	fmt.Println(v)
	// Output: 4.22.0-0.okd-scos-nightly-2026-06-10-015300
}

func ExampleDefinition_Encode() {
	d, _ := stream.Builtin("sample")
	d.Artifacts, d.Gates, d.Store, d.Registry, d.Payload = nil, nil, stream.Store{}, stream.Registry{}, stream.Payload{}
	_ = d.Encode(os.Stdout)
	// Output:
	// apiVersion: streams.okd.io/v1alpha1
	// kind: Stream
	// identity:
	//   name: sample
	//   title: Sample stream
	//   description: A small operating system and payload, made on the spot to try the tools.
	//   distribution: sample
	//   osName: sample
	// version: "0.0"
	// naming:
	//   release: sample
	//   build: scos-base
	// architectures:
	//   - x86_64
	// os:
	//   kind: given
	// extensions:
	//   required: true
	// graph:
	//   channels:
	//     - sample
	//   edges: previous
}

func ExampleScheme_Parse() {
	v, err := stream.SchemeSCOS.Parse("4.20.0-okd-scos.10")
	fmt.Println(v.Line(), v.N, err)
	_, err = stream.SchemeSCOS.Parse("4.20.0-okd-scos.ec.1")
	fmt.Println(err)
	// Output:
	// 4.20 10 <nil>
	// stream: version "4.20.0-okd-scos.ec.1" is not of scheme okd-scos (as 4.21.0-okd-scos.1)
}

func ExampleScheme_Next() {
	// The picked nightly moves X.Y.Z on, so the count starts again.
	var existing []stream.Version
	for _, text := range []string{"4.20.0-okd-scos.9", "4.20.0-okd-scos.10", "4.21.0-0.okd-scos-nightly-2026-06-10-015300"} {
		v, err := stream.ParseVersion(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		existing = append(existing, v)
	}
	now := time.Date(2026, 6, 15, 5, 0, 0, 0, time.UTC)
	v, err := stream.SchemeSCOS.Next(existing, now)
	fmt.Println(v, err)
	v, err = stream.SchemeSCOS.Next(existing[:2], now)
	fmt.Println(v, err)
	// Output:
	// 4.21.0-okd-scos.0 <nil>
	// 4.20.0-okd-scos.11 <nil>
}

func ExampleVersion_Compare() {
	texts := []string{"4.17.0-okd-scos.0", "4.17.0-okd-scos.ec.4", "4.17.0-0.okd-scos-nightly-2024-10-01-000000"}
	slices.SortFunc(texts, func(a, b string) int {
		x, _ := stream.ParseVersion(a)
		y, _ := stream.ParseVersion(b)
		return x.Compare(y)
	})
	fmt.Println(texts)
	// Output: [4.17.0-0.okd-scos-nightly-2024-10-01-000000 4.17.0-okd-scos.ec.4 4.17.0-okd-scos.0]
}

func ExampleCompareSemver() {
	n, _ := stream.CompareSemver("4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0")
	fmt.Println(n, "the early candidate is higher for semver")
	// Output: 1 the early candidate is higher for semver
}

func ExampleEdit() {
	old := `# My stream.
identity:
  name: mine # short
version: "4.20" # bumped each sprint
`
	text, err := stream.Edit([]byte(old),
		stream.Set{Path: "version", Value: "4.21"},
		stream.Set{Path: "identity.title", Value: "My stream"},
	)
	fmt.Print(string(text), err, "\n")
	// Output:
	// # My stream.
	// identity:
	//   name: mine # short
	//   title: My stream
	// version: "4.21" # bumped each sprint
	// <nil>
}

func ExampleTemplate_Expand() {
	tag, err := stream.Template("${BUILD}-${ARCH}").Expand(stream.Vars{Build: "9.0.20250222-0", Arch: "x86_64"})
	fmt.Println(tag, err)
	// Output: 9.0.20250222-0-x86_64 <nil>
}
