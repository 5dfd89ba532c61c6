package stream_test

import (
	"fmt"

	"github.com/okd-project/okd-streams/stream"
)

func ExampleArches() {
	for _, arch := range stream.Arches() {
		fmt.Println(arch, arch.GOARCH())
	}
	// Output:
	// x86_64 amd64
	// aarch64 arm64
	// ppc64le ppc64le
	// s390x s390x
}

func ExampleArchOf() {
	fmt.Println(stream.ArchOf("arm64"))
	// Output: aarch64
}

func ExampleBuiltinNames() {
	fmt.Println(stream.BuiltinNames())
	// Output: [okd-fcos-stable okd-scos-next okd-scos-stable sample]
}

func ExampleSchemes() {
	fmt.Println(stream.Schemes())
	// Output: [scos-build scos-base fcos sample okd okd-scos-ci okd-scos-nightly okd-scos-ec okd-scos]
}

func ExampleParseMinor() {
	minor, err := stream.ParseMinor("4.21.0-okd-scos.3")
	fmt.Println(minor, err)
	// Output: 4.21 <nil>
}
