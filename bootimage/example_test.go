package bootimage_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
)

var exampleTime = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)

func exampleMeta() bootimage.Meta {
	const id, kernel = "9.0.20261125-0", "kernel"
	return bootimage.Meta{
		BuildID: id, Name: "scos", Arch: "x86_64",
		OSTreeCommit: hash("commit"), OSTreeTimestamp: exampleTime, OSTreeVersion: id,
		Images: map[string]bootimage.Image{
			"live-kernel": {Path: bootimage.ArtifactPath("scos", id, "live-kernel", "x86_64", ""), SHA256: hash(kernel), Size: 6},
		},
	}
}

func ExampleAddBuild() {
	add := bootimage.AddBuild(bootimage.Build{ID: "9.0.20261125-0", Arch: "x86_64", Time: exampleTime})
	// A document of other hands, with a key of its own.
	data, err := add([]byte(`{
  "schema-version": "1.0.0",
  "builds": [
    {"id": "9.0.20261124-0", "arches": ["x86_64"], "note": "kept"}
  ],
  "timestamp": "2026-11-24T20:54:07Z"
}
`))
	fmt.Print(string(data), err, "\n")
	// Output:
	// {
	//   "schema-version": "1.0.0",
	//   "builds": [
	//     {
	//       "id": "9.0.20261125-0",
	//       "arches": [
	//         "x86_64"
	//       ]
	//     },
	//     {"id": "9.0.20261124-0", "arches": ["x86_64"], "note": "kept"}
	//   ],
	//   "timestamp": "2026-11-25T20:54:07Z"
	// }
	// <nil>
}

func ExampleDecodeBuilds() {
	d, err := bootimage.DecodeBuilds(strings.NewReader(`{"schema-version": "1.0.0", "builds": [{"id": "b", "arches": ["x86_64"]}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Value().Builds[0].ID)
	_, err = bootimage.DecodeBuilds(strings.NewReader(`{"schema-version": "2.0.0", "builds": [{"id": "../b"}]}`))
	fmt.Println(err)
	// Output:
	// b
	// bootimage: builds.json: schema-version: "2.0.0" is not supported, want 1.x: unsupported operation
	// bootimage: builds.json: builds[0].id: "../b" is not a build id
}

func ExamplePutMeta() {
	data, err := bootimage.PutMeta(exampleMeta())(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	fmt.Println(d.Value().Images["live-kernel"].Path, err)
	// Output: scos-9.0.20261125-0-live-kernel.x86_64 <nil>
}

func ExampleDecodeMeta() {
	_, err := bootimage.DecodeMeta(strings.NewReader(`{"buildid": "b", "name": "scos", "ostree-commit": "0123", "ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "b"}`))
	fmt.Println(err)
	// Output: bootimage: meta.json: ostree-commit: "0123" is not a commit
}

func ExampleDocument_Edit() {
	d, err := bootimage.DecodeStream(strings.NewReader("{\"stream\": \"next\", \"own\": 1.50,\n \"metadata\": {\"last-modified\": \"\"}, \"architectures\": {}}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	err = d.Edit(func(s *streammd.Stream) error {
		s.Metadata.LastModified = exampleTime.Format(time.RFC3339)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = d.Encode(os.Stdout)
	// Output:
	// {"stream": "next", "own": 1.50,
	//  "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "architectures": {}}
}

func ExampleNewDocument() {
	d, err := bootimage.NewDocument(bootimage.Builds{SchemaVersion: bootimage.SchemaVersion, Builds: []bootimage.BuildEntry{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(d.Bytes()))
	// Output:
	// {
	//     "schema-version": "1.0.0",
	//     "builds": []
	// }
}

func ExampleReleaseFor() {
	d, err := bootimage.ReleaseFor([]bootimage.Meta{exampleMeta()}, &bootimage.ReleaseOptions{Stream: "next", BaseURL: "https://example.com/next/builds"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Value().Architectures["x86_64"].Media.Metal.Artifacts["pxe"].Kernel.Location)
	// Output: https://example.com/next/builds/9.0.20261125-0/x86_64/scos-9.0.20261125-0-live-kernel.x86_64
}

func ExampleStreamFor() {
	release, err := bootimage.ReleaseFor([]bootimage.Meta{exampleMeta()}, &bootimage.ReleaseOptions{Stream: "next", BaseURL: "https://example.com/next/builds"})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := bootimage.StreamFor(release.Value(), &bootimage.StreamOptions{LastModified: exampleTime})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(d.Bytes()))
	// Output:
	// {
	//     "stream": "next",
	//     "metadata": {
	//         "last-modified": "2026-11-25T20:54:07Z"
	//     },
	//     "architectures": {
	//         "x86_64": {
	//             "artifacts": {
	//                 "metal": {
	//                     "release": "9.0.20261125-0",
	//                     "formats": {
	//                         "pxe": {
	//                             "kernel": {
	//                                 "location": "https://example.com/next/builds/9.0.20261125-0/x86_64/scos-9.0.20261125-0-live-kernel.x86_64",
	//                                 "sha256": "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c"
	//                             }
	//                         }
	//                     }
	//                 }
	//             },
	//             "images": {}
	//         }
	//     }
	// }
}

func ExampleMeasure() {
	m, err := bootimage.Measure(context.Background(), strings.NewReader("kernel"), &bootimage.MeasureOptions{Plain: true})
	fmt.Println(m.Size, m.SHA256, err)
	// Output: 6 6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c <nil>
}
