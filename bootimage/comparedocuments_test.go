package bootimage_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

func TestCompareDocuments(t *testing.T) {
	const older = `{"stream": "own", "metadata": {"last-modified": "2026-01-01T00:00:00Z"}, "own.key": 1.0, "releases": [
		{"version": "1", "metadata": {"deadend": {"reason": "r"}}},
		{"version": "2", "metadata": {"barrier": {"reason": "r"}, "rollout": {"start_epoch": 1600000000, "start_percentage": 0.5}}}]}`
	const newer = `{"metadata": {"last-modified": "2026-02-01T00:00:00Z"}, "stream": "own", "releases": [
		{"version": "3", "metadata": {"rollout": {"start_percentage": 1.0}}},
		{"version": "2", "metadata": {"rollout": {"start_epoch": 1600000000, "start_percentage": 0.75}, "barrier": {"reason": "r"}}}]}`
	was, err := bootimage.DecodeUpdates(strings.NewReader(older))
	require.NoError(t, err)
	is, err := bootimage.DecodeUpdates(strings.NewReader(newer))
	require.NoError(t, err)
	changes := bootimage.CompareDocuments(was, is)
	require.Equal(t, []bootimage.FieldChange{
		{Path: "releases.3", Kind: "added", To: `{"version": "3", "metadata": {"rollout": {"start_percentage": 1.0}}}`},
		{Path: "releases.2.metadata.rollout.start_percentage", Kind: "changed", From: "0.5", To: "0.75"},
		{Path: "releases.1", Kind: "removed", From: `{"version": "1", "metadata": {"deadend": {"reason": "r"}}}`},
		{Path: `["own.key"]`, Kind: "removed", From: "1.0"},
	}, changes)
	require.Equal(t, "releases.2.metadata.rollout.start_percentage: 0.5 -> 0.75", changes[1].String())
	require.Equal(t, "releases.1: removed", changes[2].String())

	// Items without names, or of one name, are one value.
	builds := func(arches string) *bootimage.Document[bootimage.Builds] {
		d, err := bootimage.DecodeBuilds(strings.NewReader(`{"schema-version": "1.0.0", "builds": [{"id": "1", "arches": [` + arches + `], "x": [{"name": "a"}, {"name": "a"}]}]}`))
		require.NoError(t, err)
		return d
	}
	require.Equal(t, []bootimage.FieldChange{{Path: "builds.1.arches", Kind: "changed", From: `["x86_64"]`, To: `["x86_64", "aarch64"]`}},
		bootimage.CompareDocuments(builds(`"x86_64"`), builds(`"x86_64", "aarch64"`)))
}

// TestCompareRealDocuments: a document is like itself, and one of another checksum differs
// in this place alone.
func TestCompareRealDocuments(t *testing.T) {
	for _, file := range sharedFiles(t, releaseFiles...) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		older, err := bootimage.DecodeRelease(strings.NewReader(string(data)))
		require.NoError(t, err)
		require.Empty(t, bootimage.CompareDocuments(older, older), file)
		newer, err := bootimage.DecodeRelease(strings.NewReader(strings.Replace(string(data), `"sha256": "`, `"sha256": "0`, 1)))
		require.NoError(t, err)
		changes := bootimage.CompareDocuments(older, newer)
		require.Len(t, changes, 1, file)
		require.Regexp(t, `^architectures\.x86_64\.media\..*sha256$`, changes[0].Path)
	}
}

func TestValidateRelease(t *testing.T) {
	// What Fedora published and our own have no faults.
	for _, file := range sharedFiles(t, releaseFiles...) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		d, err := bootimage.DecodeRelease(strings.NewReader(string(data)))
		require.NoError(t, err)
		want := "" // what was published has no fault; the sample has one
		if strings.Contains(file, "tracker-metadata") {
			want = `bootimage: release.json: architectures.x86_64.media.oraclecloud.artifacts["qcow2.xz"].disk.signature: is ` +
				`"https://builds.coreos.fedoraproject.org/prod/streams/testing/builds/30.20190801.0/x86_64/fedora-coreos-30.20190801.0-oracecloud.qcow2.xz.sig", want location and .sig`
		}
		require.Equal(t, want, errorText(bootimage.ValidateRelease(d)), file)
	}
	own, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, sampleOptions())
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateRelease(own))

	d, err := bootimage.DecodeRelease(strings.NewReader(`{"release": "1.2", "stream": "own", "metadata": {"last-modified": "today"}, "architectures": {
		"amd64": {"commit": "` + hash("c") + `"},
		"s390x": {"oci-image": {"digest-ref": "q.example/os:tag"}},
		"x86_64": {"commit": "short", "media": {
			"aws": {"images": {"us-east-1": {"image": "not"}}}, "gcp": {"image": {"project": "p"}}, "ibmcloud": {"images": {"eu": {"bucket": "b"}}},
			"kubevirt": {"image": {"image": "q.example/os:1", "digest-ref": "q.example/os@sha256:1"}},
			"metal": {"artifacts": {"iso": {"disk": {"location": "ftp://e.example/1.2/iso", "sha256": "` + hash("s") + `", "signature": "https://e.example/other.sig"}}, "pxe": {}}},
			"newcloud": {"artifacts": {"raw": {"disk": {"location": "https://e.example/1.1/raw", "sha256": "x", "uncompressed-sha256": "y"}, "kernel": {}}}}},
			"rhel-coreos-extensions": {"aws-winli": {"images": {"us-east-1": {"image": "not"}}}, "azure-disk": {"url": "x"}}}}}`))
	require.NoError(t, err)
	require.Equal(t, `bootimage: release.json: architectures.amd64: not an architecture in RPM's spelling, such as aarch64, ppc64le, riscv64, s390x, x86_64
bootimage: release.json: architectures.s390x.oci-image.digest-ref: "q.example/os:tag" has no digest
bootimage: release.json: architectures.s390x.oci-image.image: missing
bootimage: release.json: architectures.x86_64.commit: "short" is not a commit
bootimage: release.json: architectures.x86_64.media.aws.images.us-east-1.image: "not" is not an AMI
bootimage: release.json: architectures.x86_64.media.gcp.image.name: missing
bootimage: release.json: architectures.x86_64.media.ibmcloud.images.eu: bucket or object missing
bootimage: release.json: architectures.x86_64.media.kubevirt.image.digest-ref: "q.example/os@sha256:1" has no digest
bootimage: release.json: architectures.x86_64.media.metal.artifacts.iso.disk.location: address of scheme ftp, want https
bootimage: release.json: architectures.x86_64.media.metal.artifacts.iso.disk.signature: is "https://e.example/other.sig", want location and .sig
bootimage: release.json: architectures.x86_64.media.metal.artifacts.pxe: no file
bootimage: release.json: architectures.x86_64.media.newcloud.artifacts.raw.disk.location: does not have the release 1.2 in it
bootimage: release.json: architectures.x86_64.media.newcloud.artifacts.raw.disk.sha256: "x" is not a SHA-256
bootimage: release.json: architectures.x86_64.media.newcloud.artifacts.raw.disk.uncompressed-sha256: "y" is not a SHA-256
bootimage: release.json: architectures.x86_64.media.newcloud.artifacts.raw.kernel.location: missing
bootimage: release.json: architectures.x86_64.rhel-coreos-extensions.aws-winli.images.us-east-1.image: "not" is not an AMI
bootimage: release.json: architectures.x86_64.rhel-coreos-extensions.azure-disk.url: "x" is not an address
bootimage: release.json: metadata.last-modified: "today" is not a time as in 2026-11-25T20:54:07Z`, errorText(bootimage.ValidateRelease(d)))
	d, err = bootimage.DecodeRelease(strings.NewReader(`{"release": "1", "stream": "own", "architectures": {"x86_64": {}}}`))
	require.NoError(t, err)
	require.EqualError(t, bootimage.ValidateRelease(d), "bootimage: release.json: architectures.x86_64: neither commit nor oci-image")
	d, err = bootimage.DecodeRelease(strings.NewReader(`{"release": "1", "stream": "own"}`))
	require.NoError(t, err)
	require.EqualError(t, bootimage.ValidateRelease(d), "bootimage: release.json: architectures: none")
}

func ExampleCompareDocuments() {
	read := func(text string) *bootimage.Document[bootimage.Updates] {
		d, err := bootimage.DecodeUpdates(strings.NewReader(text))
		if err != nil {
			panic(err)
		}
		return d
	}
	older := read(`{"stream": "own", "releases": [{"version": "43.1", "metadata": {"rollout": {"start_percentage": 0.1}}}]}`)
	newer := read(`{"stream": "own", "releases": [{"version": "43.1", "metadata": {"rollout": {"start_percentage": 1.0}}}, {"version": "43.2", "metadata": {"barrier": {"reason": "r"}}}]}`)
	for _, c := range bootimage.CompareDocuments(older, newer) {
		fmt.Println(c)
	}
	// Output:
	// releases["43.1"].metadata.rollout.start_percentage: 0.1 -> 1.0
	// releases["43.2"]: added
}

func ExampleValidateRelease() {
	d, err := bootimage.DecodeRelease(strings.NewReader(`{"release": "1", "stream": "own", "architectures": {"x86_64": {"oci-image": {"image": "q.example/os:1", "digest-ref": "q.example/os"}}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bootimage.ValidateRelease(d))
	// Output: bootimage: release.json: architectures.x86_64.oci-image.digest-ref: "q.example/os" has no digest
}
