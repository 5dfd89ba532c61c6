package ostree_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing/fstest"

	"github.com/okd-project/okd-streams/ostree"
)

// What comes in pieces, as from the layers of an image, is kept once it is whole.
func ExampleRepo_Receive() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ostree")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	src, err := ostree.Init(ctx, dir+"/src", ostree.ModeBareUser, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer src.Close()
	commit, err := src.Commit(ctx, ostree.FS(fstest.MapFS{"hello": {Data: []byte("world\n"), Mode: 0o644}}), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	dst, err := ostree.Init(ctx, dir+"/dst", ostree.ModeArchive, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dst.Close()

	r, err := dst.Receive(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	d := r.Begin()
	data, err := src.Object(ctx, ostree.TypeCommit, commit)
	if err != nil {
		fmt.Println(err)
		return
	}
	head, err := ostree.DecodeCommit(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	for kind, c := range map[ostree.ObjectType]ostree.Checksum{ostree.TypeDirTree: head.RootTree, ostree.TypeDirMeta: head.RootMeta} {
		data, err := src.Object(ctx, kind, c)
		if err == nil {
			err = d.Metadata(ctx, kind, c, data)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	needed, err := d.Needs(ctx, head)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("content objects:", len(needed))
	whole := &ostree.ReceivedCommit{Checksum: commit, Data: data, Refs: []string{"os"}}
	for c := range needed {
		err = d.File(ctx, &ostree.ReceivedFile{Name: "hello", Checksum: c, Mode: ostree.ModeRegular | 0o644, Size: 6, Body: bytes.NewReader([]byte("world\n"))})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := d.Commit(ctx, whole); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dst.Resolve(ctx, "os"))
	fmt.Println(r.Stats().ContentWritten, dst.Fsck(ctx, nil))
	// Output:
	// content objects: 1
	// fabe5c6757171ce093d50b33639ebee34949e14d14c8c4f0879efaa71c0f55db <nil>
	// 1 <nil>
}

// Layers of a container image, each a commit, become one tree.
func ExampleRepo_Layers() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ostree")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	repo, err := ostree.Init(ctx, dir+"/repo", ostree.ModeBareUser, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	base, err := repo.Commit(ctx, ostree.FS(fstest.MapFS{"usr/bin/old": {}, "usr/bin/sh": {}}), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	layer, err := repo.Commit(ctx, ostree.FS(fstest.MapFS{"usr/bin/.wh.old": {}, "usr/bin/new": {}}), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	tree, err := repo.Layers(ctx, base, []ostree.Layer{{Commit: layer}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range tree.Entries(ctx) {
		fmt.Println(e.Path, err)
	}
	_, err = tree.Object(ctx, "usr/bin/sh")
	fmt.Println(err)
	// Output:
	// . <nil>
	// usr <nil>
	// usr/bin <nil>
	// usr/bin/new <nil>
	// usr/bin/sh <nil>
	// <nil>
}

// A layer of files alone is kept by a commit that names them by their checksums.
func ExampleDelivery_Set() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ostree")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	repo, err := ostree.Init(ctx, dir+"/repo", ostree.ModeBareUser, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	r, err := repo.Receive(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	d := r.Begin()
	object, err := ostree.ParseChecksum("30b0616406265d4eeff2823d98822ba45f89e1a82699fd94ec04577d3aa2644d")
	if err == nil {
		err = d.File(ctx, &ostree.ReceivedFile{Name: "hello", Checksum: object, Mode: ostree.ModeRegular | 0o644, Size: 6, Body: bytes.NewReader([]byte("world\n"))})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	commit, err := d.Set(ctx, "ostree/container/blob/example")
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range repo.List(ctx, commit, "/", &ostree.ListOptions{Recursive: true}) {
		fmt.Println(e.Path, err)
	}
	// Output:
	// . <nil>
	// 30b0616406265d4eeff2823d98822ba45f89e1a82699fd94ec04577d3aa2644d <nil>
}
