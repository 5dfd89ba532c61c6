package bootimage_test

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	"github.com/okd-project/okd-streams/bootimage"
)

// published is stream metadata as some stream has it.
const published = `{
    "stream": "own",
    "metadata": {"last-modified": "2026-11-25T20:54:07Z"},
    "architectures": {
        "x86_64": {
            "artifacts": {
                "metal": {
                    "release": "10.0.20261125-0",
                    "formats": {
                        "iso": {"disk": {
                            "location": "https://example.org/own/builds/10.0.20261125-0/x86_64/live.iso",
                            "sha256": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
                        }}
                    }
                }
            },
            "images": {"aws": {"regions": {"us-east-1": {"release": "10.0.20261125-0", "image": "ami-0123"}}}}
        }
    }
}
`

func ExampleDecodeStream() {
	d, err := bootimage.DecodeStream(strings.NewReader(published))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bootimage.ValidateStream(d.Value(), nil))
	for _, e := range bootimage.Entries(d.Value()) {
		fmt.Println(e.Arch, e.Platform, cmp.Or(e.Format, e.Region), e.Image != "")
	}
	// Output:
	// <nil>
	// x86_64 metal iso false
	// x86_64 aws us-east-1 true
}

// A stream's own generator adds what only it knows.
func ExampleDocument_Override() {
	d, err := bootimage.DecodeStream(strings.NewReader(published))
	if err != nil {
		fmt.Println(err)
		return
	}
	before := *d.Value()
	err = d.Override([]byte(`{"architectures": {"x86_64": {"images": {"aws": {"regions": {"us-east-1": {"image": "ami-4567"}}}}}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range bootimage.CompareStreams(&before, d.Value()) {
		fmt.Println(c)
	}
	// Output: x86_64 aws us-east-1: image: ami-0123 -> ami-4567
}

func ExampleMirrorStream() {
	d, err := bootimage.DecodeStream(strings.NewReader(published))
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := bootimage.MirrorStream(d, &bootimage.MirrorOptions{BaseURL: "https://mirror.example/os", Flat: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range m.Copies {
		fmt.Println(c.From, "->", c.Key)
	}
	fmt.Println(bootimage.Entries(m.Document.Value())[0].URL)
	// Output:
	// https://example.org/own/builds/10.0.20261125-0/x86_64/live.iso -> live.iso
	// https://mirror.example/os/live.iso
}

func ExampleUpdateIndex() {
	release := &releasemd.Release{Release: "10.0.20261125-0", Stream: "own", Architectures: map[string]releasemd.Arch{
		"x86_64": {Commit: strings.Repeat("ab", 32)},
	}}
	data, err := bootimage.UpdateIndex(release, &bootimage.IndexOptions{
		URL: "https://example.org/own/builds/10.0.20261125-0/release.json", LastModified: time.Unix(1764100000, 0),
	})(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := bootimage.DecodeIndex(strings.NewReader(string(data)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bootimage.ValidateIndex(index.Value()), index.Value().Releases[0].Version)
	// Output: <nil> 10.0.20261125-0
}

// A release reaches all machines within two days.
func ExampleAddUpdate() {
	start := time.Unix(1764100000, 0)
	twoDays := uint64(48 * 60)
	data, err := bootimage.AddUpdate(bootimage.UpdatesRelease{
		Version:  "10.0.20261125-0",
		Metadata: bootimage.UpdatesMetadata{Rollout: &bootimage.UpdatesRollout{StartEpoch: start.Unix(), DurationMinutes: &twoDays}},
	}, &bootimage.UpdatesOptions{Stream: "own", Now: start})(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	updates, err := bootimage.DecodeUpdates(strings.NewReader(string(data)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(updates.Value().Releases[0].Metadata.Rollout.At(start.Add(12 * time.Hour)))
	if data, err = bootimage.CleanUpdates(start.Add(72 * time.Hour))(data); err != nil {
		fmt.Println(err)
		return
	}
	if updates, err = bootimage.DecodeUpdates(strings.NewReader(string(data))); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(updates.Value().Releases[0].Metadata.Rollout.StartPercentage, bootimage.ValidateUpdates(updates.Value(), nil))
	// Output:
	// 0.25
	// 1 <nil>
}

func ExampleUpdateGraphFor() {
	index := &releasemd.Index{Stream: "own"}
	for _, v := range []string{"1", "2", "3"} {
		index.Releases = append(index.Releases, releasemd.IndexRelease{
			Version: v, Commits: []releasemd.IndexReleaseCommit{{Architecture: "x86_64", Checksum: strings.Repeat("0"+v, 32)}},
		})
	}
	updates := &bootimage.Updates{Stream: "own", Releases: []bootimage.UpdatesRelease{
		{Version: "2", Metadata: bootimage.UpdatesMetadata{Barrier: &bootimage.UpdatesReason{Reason: "https://example.org/why"}}},
		{Version: "3", Metadata: bootimage.UpdatesMetadata{Rollout: &bootimage.UpdatesRollout{StartPercentage: 0.3}}},
	}}
	graph, err := bootimage.UpdateGraphFor(index, updates, "x86_64", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Unix(1764100000, 0)
	for _, node := range []string{"8ff7c0ac08ab4ee798b3d1e6b4e9b1d5", "a"} {
		path, err := graph.Throttle(now, bootimage.Wariness(node)).Path("1")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(path)
	}
	// Output:
	// [2 3]
	// [2]
}
