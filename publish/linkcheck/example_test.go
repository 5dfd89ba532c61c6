package linkcheck_test

import (
	"context"
	"fmt"
	"os"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/memstore"
)

var exampleStream = []byte(`{
  "stream": "okd-next",
  "architectures": {"x86_64": {"artifacts": {
    "metal": {"release": "10.0.20261125-0", "formats": {"iso": {"disk": {
      "location": "https://builds.example.org/okd-next/builds/10.0.20261125-0/x86_64/live.iso",
      "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}}},
    "qemu": {"release": "10.0.20261125-0", "formats": {"qcow2.gz": {"disk": {
      "location": "https://builds.example.org/okd-next/builds/10.0.20261125-0/x86_64/qemu.qcow2.gz",
      "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}}}}}}
}`)

// Stream metadata before it is published: are its files in the store?
func ExampleCheck() {
	ctx := context.Background()
	store := memstore.New()
	if _, err := store.Put(ctx, "okd-next/builds/10.0.20261125-0/x86_64/live.iso", publish.BytesSource([]byte("test")), nil); err != nil {
		fmt.Println(err)
		return
	}
	report, err := linkcheck.Check(ctx, []linkcheck.Document{{Name: "streams/okd-next.json", Data: exampleStream}}, &linkcheck.Options{
		Mounts: []linkcheck.Mount{{URL: "https://builds.example.org", Store: store}}, Offline: true, Checksums: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, link := range report.Links {
		fmt.Println(link.Verdict, link.Path)
	}
	fmt.Println(report.Counts[linkcheck.Missing], "missing")
	// Output:
	// ok architectures.x86_64.artifacts.metal.formats.iso.disk.location
	// missing architectures.x86_64.artifacts.qemu.formats["qcow2.gz"].disk.location
	// 1 missing
}

func ExampleLinks() {
	links, err := linkcheck.Links(linkcheck.Document{Name: "stream", Data: exampleStream})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, link := range links {
		fmt.Println(link.Kind, link.URL)
	}
	// Output:
	// file https://builds.example.org/okd-next/builds/10.0.20261125-0/x86_64/live.iso
	// file https://builds.example.org/okd-next/builds/10.0.20261125-0/x86_64/qemu.qcow2.gz
}

func ExampleReport_WriteText() {
	doc := linkcheck.Document{Name: "stream", Data: []byte(`{"location": "ftp://example.org/disk"}`)}
	report, err := linkcheck.Check(context.Background(), []linkcheck.Document{doc}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := report.WriteText(os.Stdout, false); err != nil {
		fmt.Println(err)
	}
	// Output:
	// refused: stream: location: ftp://example.org/disk: scheme "ftp" is neither http nor https
	// 1 links of 1 documents, 1 refused
}
