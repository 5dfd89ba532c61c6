package ostree_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

// exampleTree is a small tree.
func exampleTree() ostree.Tree {
	return ostree.FS(fstest.MapFS{
		"usr/bin/hello":    {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
		"usr/lib/release":  {Data: []byte("1\n"), Mode: 0o644},
		"usr/share/a-link": {Data: []byte("../lib/release"), Mode: fs.ModeSymlink | 0o777},
	})
}

// exampleRepo is a repository with a commit of exampleTree.
func exampleRepo() (*ostree.Repo, ostree.Checksum, func()) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	r, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeArchive, nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := r.Commit(ctx, exampleTree(), &ostree.CommitOptions{Ref: "os/x86_64/base", Subject: "first", Timestamp: time.Unix(1_700_000_000, 0)})
	if err != nil {
		log.Fatal(err)
	}
	return r, c, func() { r.Close(); os.RemoveAll(dir) }
}

func ExampleRepo_Commit() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	c, err := r.Commit(ctx, exampleTree(), &ostree.CommitOptions{
		Ref:                  "os/x86_64/base",
		Subject:              "first",
		Timestamp:            time.Unix(1_700_000_000, 0),
		CanonicalPermissions: true,
		Metadata: []ostree.MetadataItem{
			{Key: "version", Value: ostree.StringVariant("1.0")},
			ostree.RefBinding("os/x86_64/base"),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c)
	// Output: 6e6b629a1351feafb019b83f967f2533297c2a52a4febb2b63445f26c7014585
}

func ExampleInit() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeArchive, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	mode, _ := r.Config("core", "mode")
	fmt.Println(r.Mode(), mode)
	// Output: archive archive-z2
}

func ExampleOpen() {
	_, err := ostree.Open(context.Background(), "/does/not/exist", nil)
	fmt.Println(err)
	// Output: ostree: open /does/not/exist: open /does/not/exist: no such file or directory
}

func ExampleRepo_Tree() {
	r, c, done := exampleRepo()
	defer done()
	for e, err := range r.Tree(c).Entries(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%06o %s %q\n", e.Mode, e.Path, e.Target)
	}
	// Output:
	// 040555 . ""
	// 040555 usr ""
	// 040555 usr/bin ""
	// 100755 usr/bin/hello ""
	// 040555 usr/lib ""
	// 100644 usr/lib/release ""
	// 040555 usr/share ""
	// 120777 usr/share/a-link "../lib/release"
}

func ExampleRepo_Resolve() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	got, err := r.Resolve(ctx, "os/x86_64/base")
	fmt.Println(got == c, err)
	got, err = r.Resolve(ctx, c.String()[:8])
	fmt.Println(got == c, err)
	_, err = r.Resolve(ctx, "os/x86_64/base^")
	fmt.Println(err != nil)
	// Output:
	// true <nil>
	// true <nil>
	// true
}

func ExampleRepo_SetRef() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.SetRef(ctx, "os/x86_64/stable", c); err != nil {
		log.Fatal(err)
	}
	if err := r.SetRef(ctx, "os/x86_64/base", ostree.Checksum{}); err != nil {
		log.Fatal(err)
	}
	for ref, err := range r.Refs(ctx) {
		fmt.Println(ref, err)
	}
	// Output: os/x86_64/stable <nil>
}

func ExampleRepo_Checkout() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer root.Close()
	if err := r.Checkout(ctx, root, c, &ostree.CheckoutOptions{UserMode: true, Subpath: "usr/lib"}); err != nil {
		log.Fatal(err)
	}
	data, err := root.ReadFile("release")
	fmt.Printf("%q %v\n", data, err)
	// Output: "1\n" <nil>
}

func ExampleRepo_Fsck() {
	r, _, done := exampleRepo()
	defer done()
	fmt.Println(r.Fsck(context.Background(), nil))
	// Output: <nil>
}

func ExampleRepo_ReadCommit() {
	r, c, done := exampleRepo()
	defer done()
	commit, err := r.ReadCommit(context.Background(), c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(commit.Subject, commit.Timestamp)
	// Output: first 2023-11-14 22:13:20 +0000 UTC
}

func ExampleOpenDevInoCache() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cache, err := ostree.OpenDevInoCache(filepath.Join(dir, "cache")) // for CommitOptions.Cache
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cache.Save())
	// Output: <nil>
}

func ExampleMarshalXattrs() {
	fmt.Printf("%q\n", ostree.MarshalXattrs([]ostree.Xattr{{Name: "user.a", Value: []byte("1")}}))
	// Output: "user.a\x001\a\t"
}
