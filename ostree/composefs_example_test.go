package ostree_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleRepo_ComposefsDigest() {
	r, c, done := exampleRepo()
	defer done()
	digest, err := r.ComposefsDigest(context.Background(), c, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(digest)
	// Output: 4bc60cfb8690a24de3d08ceae53bbfacb500a72c6531bd0c3a95ed38b73a168d
}

func ExampleRepo_WriteComposefs() {
	r, c, done := exampleRepo()
	defer done()
	var image bytes.Buffer
	digest, err := r.WriteComposefs(context.Background(), &image, c, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Len(), digest)
	// Output: 16384 4bc60cfb8690a24de3d08ceae53bbfacb500a72c6531bd0c3a95ed38b73a168d
}

// A commit with the digest of its files' image, which needs them committed.
func ExampleComposefsMetadata() {
	ctx := context.Background()
	r, files, done := exampleRepo()
	defer done()
	digest, err := r.ComposefsDigest(ctx, files, nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := r.Commit(ctx, r.Tree(files), &ostree.CommitOptions{
		Ref:      "os/x86_64/base",
		Metadata: []ostree.MetadataItem{ostree.ComposefsMetadata(digest)},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.VerifyComposefs(ctx, c, nil))
	// Output: <nil>
}

func ExampleRepo_VerifyComposefs() {
	r, c, done := exampleRepo()
	defer done()
	fmt.Println(r.VerifyComposefs(context.Background(), c, nil))
	// Output: ostree: composefs d7128f579cd1b078a9aa15ba503ccdecf6bf93c71321711f16dc69fd4788b098.commit: no metadata ostree.composefs.digest.v0: file does not exist
}

func ExampleCommit_ComposefsDigest() {
	c := &ostree.Commit{Metadata: []ostree.MetadataItem{ostree.ComposefsMetadata(ostree.Checksum{1})}}
	digest, ok, err := c.ComposefsDigest()
	fmt.Println(digest, ok, err)
	// Output: 0100000000000000000000000000000000000000000000000000000000000000 true <nil>
}
