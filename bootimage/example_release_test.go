package bootimage_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
)

func ExampleArtifactPath() {
	fmt.Println(bootimage.ArtifactPath("scos", "9.0.20250222-0", "qemu", "x86_64", "qcow2.gz"))
	fmt.Println(bootimage.ArtifactPath("scos", "9.0.20250222-0", "live-kernel", "x86_64", ""))
	// Output:
	// scos-9.0.20250222-0-qemu.x86_64.qcow2.gz
	// scos-9.0.20250222-0-live-kernel.x86_64
}

// archMeta is the record of one architecture.
func archMeta(arch string) bootimage.Meta {
	return bootimage.Meta{
		BuildID: "9.0.20250222-0", Name: "scos", Arch: arch,
		OSTreeCommit: strings.Repeat("ab", 32), OSTreeTimestamp: time.Unix(0, 0).UTC(), OSTreeVersion: "9.0.20250222-0",
		Images: map[string]bootimage.Image{"metal": {Path: bootimage.ArtifactPath("scos", "9.0.20250222-0", "metal", arch, "raw.gz"), SHA256: strings.Repeat("cd", 32)}},
	}
}

// A second architecture joins the release of the first; the stream then
// recommends both.
func ExampleUpdateRelease() {
	opts := &bootimage.ReleaseOptions{Stream: "c9s", BaseURL: "https://example.org/c9s/builds"}
	var document []byte
	for _, arch := range []string{"x86_64", "aarch64"} {
		var err error
		if document, err = bootimage.UpdateRelease([]bootimage.Meta{archMeta(arch)}, opts)(document); err != nil {
			fmt.Println(err)
			return
		}
	}
	release, err := bootimage.DecodeRelease(strings.NewReader(string(document)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(release.Value().Release, len(release.Value().Architectures))
	// Output: 9.0.20250222-0 2
}

func ExampleUpdateStream() {
	release, err := bootimage.ReleaseFor([]bootimage.Meta{archMeta("x86_64")}, &bootimage.ReleaseOptions{Stream: "c9s", BaseURL: "https://example.org/c9s/builds"})
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err := bootimage.UpdateStream(release.Value(), &bootimage.StreamOptions{LastModified: time.Unix(0, 0)})(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The same release again changes nothing, not even the time.
	second, err := bootimage.UpdateStream(release.Value(), &bootimage.StreamOptions{LastModified: time.Unix(86400, 0)})(first)
	if err != nil {
		fmt.Println(err)
		return
	}
	stream, err := bootimage.DecodeStream(strings.NewReader(string(second)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(first) == string(second), stream.Value().Architectures["x86_64"].Artifacts["metal"].Release)
	// Output: true 9.0.20250222-0
}
