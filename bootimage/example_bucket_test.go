package bootimage_test

import (
	"fmt"
	"io/fs"
	"slices"
	"testing/fstest"

	"github.com/okd-project/okd-streams/bootimage"
)

// What is uploaded of a build, and in which order.
func ExampleBucket() {
	bucket := bootimage.StreamBucket("okd-next", "https://builds.example.org", "https://mirror.example.org/okd")
	bucket.ACL = "public-read"
	var objects []bootimage.BucketObject
	for _, file := range []bootimage.BucketFile{
		{Kind: bootimage.FileStream},
		{Kind: bootimage.FileBuilds},
		{Kind: bootimage.FileMeta, Build: "10.0.20261125-0", Arch: "x86_64"},
		{Kind: bootimage.FileArtifact, Build: "10.0.20261125-0", Arch: "x86_64", Name: "scos-10.0.20261125-0-qemu.x86_64.qcow2.gz"},
	} {
		object, err := bucket.Object(file)
		if err != nil {
			fmt.Println(err)
			return
		}
		objects = append(objects, object)
	}
	slices.SortFunc(objects, bootimage.BucketObject.Compare)
	for _, object := range objects {
		fmt.Println(object.Stage, object.Key, object.ContentType, object.CacheControl)
	}
	urls, err := bucket.URLs(objects[len(objects)-1].File)
	fmt.Println(urls, err)
	// Output:
	// content prod/streams/okd-next/builds/10.0.20261125-0/x86_64/scos-10.0.20261125-0-qemu.x86_64.qcow2.gz application/gzip max-age=31536000
	// catalogue prod/streams/okd-next/builds/10.0.20261125-0/x86_64/meta.json application/json max-age=300
	// catalogue prod/streams/okd-next/builds/builds.json application/json max-age=300
	// announcement streams/okd-next.json application/json max-age=60
	// [https://builds.example.org/streams/okd-next.json https://mirror.example.org/okd/streams/okd-next.json] <nil>
}

// A folder of coreos-assembler becomes the objects of a stream, in order.
func ExampleBucket_Parse() {
	folder := fstest.MapFS{
		"builds/builds.json": {}, "builds/10.0.20261125-0/x86_64/meta.json": {}, "builds/10.0.20261125-0/x86_64/.meta.json.lock": {},
		"builds/10.0.20261125-0/x86_64/scos-10.0.20261125-0-qemu.x86_64.qcow2": {}, "tmp/builds-source.txt": {},
	}
	stream := bootimage.StreamBucket("c10s")
	var objects []bootimage.BucketObject
	err := fs.WalkDir(folder, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := bootimage.Bucket{}.Parse(path)
		if err != nil {
			return nil // a lock, a note: not published
		}
		object, err := stream.Object(file)
		objects = append(objects, object)
		return err
	})
	slices.SortFunc(objects, bootimage.BucketObject.Compare)
	for _, object := range objects {
		fmt.Println(object.Key)
	}
	fmt.Println(err)
	// Output:
	// prod/streams/c10s/builds/10.0.20261125-0/x86_64/scos-10.0.20261125-0-qemu.x86_64.qcow2
	// prod/streams/c10s/builds/10.0.20261125-0/x86_64/meta.json
	// prod/streams/c10s/builds/builds.json
	// <nil>
}

func ExampleStreamBucket() {
	key, err := bootimage.StreamBucket("c10s").Key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
	fmt.Println(key, err)
	// Output: prod/streams/c10s/builds/builds.json <nil>
}

func ExampleBucketOf() {
	bucket, file, err := bootimage.BucketOf("https://rhcos.mirror.openshift.com/art/storage/prod/streams/c10s/builds/10.0.20251103-0/x86_64/scos-10.0.20251103-0-live-iso.x86_64.iso")
	fmt.Println(bucket.Stream, bucket.Bases[0], file.Build, file.Arch, err)
	// Output: c10s https://rhcos.mirror.openshift.com/art/storage 10.0.20251103-0 x86_64 <nil>
}

func ExampleContentType() {
	fmt.Println(bootimage.ContentType("scos-10.0.20251103-0-metal.x86_64.raw.gz"))
	// Output: application/gzip
}
