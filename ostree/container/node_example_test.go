package container_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/ostree/container"
)

func ExampleRenderNode() {
	spec := &container.NodeSpec{
		Base:    "quay.io/okd/scos-base@sha256:0000000000000000000000000000000000000000000000000000000000000001",
		Version: "9.0.20261126-0",
		Manager: container.ManagerNone,
		Files:   "overlay",
	}
	node, extensions, err := container.RenderNode(spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(node)
	fmt.Println("extensions:", extensions != "")
	// Output:
	// # Node image 9.0.20261126-0. Rendered by okd-streams: change what it is rendered from.
	// ARG BASE=quay.io/okd/scos-base@sha256:0000000000000000000000000000000000000000000000000000000000000001
	// FROM ${BASE} AS build
	// COPY overlay/ /
	//
	// FROM build
	// LABEL \
	//     containers.bootc="1" \
	//     io.openshift.build.versions="machine-os=9.0.20261126-0" \
	//     org.opencontainers.image.version="9.0.20261126-0"
	// extensions: false
}

func ExampleDecodeNodeSpec() {
	_, err := container.DecodeNodeSpec(strings.NewReader(`{"base": "quay.io/okd/scos-base:9", "version": "9.0", "packages": ["cri-o", "openshift kubelet"]}`))
	fmt.Println(strings.Count(err.Error(), "\n")+1, "faults")
	// Output: 2 faults
}

// The builder is the caller's: buildah, or a service.
func ExampleBuildNode() {
	ctx, dir, base, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cache, err := container.OpenCache(ctx, dir+"/cache", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	scratch, err := os.MkdirTemp(dir, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	spec := &container.NodeSpec{
		Base: "quay.io/okd/scos-base:9", Version: "9.0.20261126-0", Manager: container.ManagerNone, Files: "overlay",
		Created: time.Unix(1795608000, 0),
	}
	_, _, err = container.BuildNode(ctx, cache, base, spec, &container.BuildNodeOptions{
		Context: dir, Dir: scratch,
		Build: func(_ context.Context, b *container.NodeBuild) error {
			fmt.Printf("buildah build --timestamp %d ...\n", b.Created.Unix())
			return fmt.Errorf("there is no buildah")
		},
	})
	fmt.Println(err)
	// Output:
	// buildah build --timestamp 1795608000 ...
	// container: node image: build: there is no buildah
}

func ExampleCheckNode() {
	ctx, dir, base, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// A base image is no node image, and this one does not even boot.
	fmt.Println(container.CheckNode(ctx, base, base, nil))
	// Output:
	// container: node check node image: label io.openshift.build.versions is "", which names no machine-os
	// container: node check node image: label ostree.bootable: is "", want "true"
	// container: node check node image: label containers.bootc: is "", want "1"
}
