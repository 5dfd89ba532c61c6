package ostree_test

import (
	"bytes"
	"context"
	"errors"
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

func ExampleRepo_Prune() {
	ctx := context.Background()
	r, first, done := exampleRepo()
	defer done()
	// A second commit takes the ref; the first one is no longer needed.
	_, err := r.Commit(ctx, r.Tree(first), &ostree.CommitOptions{Ref: "os/x86_64/base", Subject: "second", Parent: first})
	if err != nil {
		log.Fatal(err)
	}
	stats, err := r.Prune(ctx, &ostree.PruneOptions{RefsOnly: true, Depth: -1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stats.Objects, "objects,", stats.Pruned, "removed")
	// Output: 11 objects, 1 removed
}

func ExampleRepo_Partial() {
	r, c, done := exampleRepo()
	defer done()
	fmt.Println(r.Partial(context.Background(), c))
	// Output: false <nil>
}

func ExampleRepo_RefsBelow() {
	r, _, done := exampleRepo()
	defer done()
	for ref, err := range r.RefsBelow(context.Background(), "os") {
		fmt.Println(ref, err)
	}
	// Output: os/x86_64/base <nil>
}

func ExampleRepo_SetAlias() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.SetAlias(ctx, "stable", "os/x86_64/base"); err != nil {
		log.Fatal(err)
	}
	got, err := r.Resolve(ctx, "stable")
	fmt.Println(got == c, err)
	fmt.Println(r.DeleteRef(ctx, "os/x86_64/base"))
	// Output:
	// true <nil>
	// ostree: delete ref os/x86_64/base: stable is an alias of it
}

func ExampleRepo_DeleteRef() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	fmt.Println(r.DeleteRef(ctx, "os/x86_64/base"))
	_, err := r.Resolve(ctx, "os/x86_64/base")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// <nil>
	// true
}

func ExampleRepo_Remotes() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	if err := r.SetConfig(ctx, `remote "fedora"`, "url", "https://example.com/repo"); err != nil {
		log.Fatal(err)
	}
	again, err := ostree.Open(ctx, r.Path(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Close()
	for _, remote := range again.Remotes() {
		fmt.Println(remote.Name, remote.URL())
	}
	// Output: fedora https://example.com/repo
}

func ExampleRemote_URL() {
	remote := ostree.Remote{Name: "fedora", Keys: map[string]string{"url": "https://example.com/repo"}}
	fmt.Println(remote.URL())
	// Output: https://example.com/repo
}

func ExampleRepo_FS() {
	r, c, done := exampleRepo()
	defer done()
	fsys, err := r.FS(context.Background(), c)
	if err != nil {
		log.Fatal(err)
	}
	data, err := fs.ReadFile(fsys, "usr/share/a-link")
	fmt.Printf("%q %v\n", data, err)
	// Output: "1\n" <nil>
}

func ExampleRepo_List() {
	r, c, done := exampleRepo()
	defer done()
	for e, err := range r.List(context.Background(), c, "/usr", nil) {
		fmt.Printf("%06o %s %v\n", e.Mode, e.Path, err)
	}
	// Output:
	// 040555 usr <nil>
	// 040555 usr/bin <nil>
	// 040555 usr/lib <nil>
	// 040555 usr/share <nil>
}

func ExampleRepo_Log() {
	r, c, done := exampleRepo()
	defer done()
	for e, err := range r.Log(context.Background(), c) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Subject, e.Timestamp.Format(time.DateOnly))
	}
	// Output: first 2023-11-14
}

func ExampleDiff() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	change := ostree.FS(fstest.MapFS{"usr/lib/release": {Data: []byte("2\n"), Mode: 0o644}})
	for c, err := range ostree.Diff(ctx, r.Tree(c), ostree.Overlay(r.Tree(c), change)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%c %s\n", c.Kind(), c.Path)
	}
	// Output: M usr/lib/release
}

func ExampleChange_Kind() {
	c := ostree.Change{Path: "usr/lib/new", To: &ostree.Entry{Path: "usr/lib/new"}}
	fmt.Printf("%c\n", c.Kind())
	// Output: A
}

func ExampleRepo_Export() {
	r, c, done := exampleRepo()
	defer done()
	var out bytes.Buffer
	if err := r.Export(context.Background(), &out, c, &ostree.ExportOptions{Subpath: "usr/bin"}); err != nil {
		log.Fatal(err)
	}
	show(ostree.Tar(&out))
	// Output:
	// 040555 .
	// 100755 hello
}

func ExampleRepo_Packages() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	c, err := r.Commit(ctx, ostree.FS(fstest.MapFS{
		"var/lib/dpkg/status":         {Data: []byte("Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n"), Mode: 0o644},
		"var/lib/dpkg/info/bash.list": {Data: []byte("/.\n"), Mode: 0o644},
	}), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Packages(ctx, c))
	// Output: [bash-5.2-1.amd64] <nil>
}

func ExampleDiffPackages() {
	before := []ostree.Package{{Name: "bash", Version: "5.1", Release: "1", Arch: "x86_64"}}
	after := []ostree.Package{{Name: "bash", Version: "5.2", Release: "1", Arch: "x86_64"}, {Name: "zsh", Epoch: "1", Version: "5", Arch: "x86_64"}}
	for _, c := range ostree.DiffPackages(before, after) {
		fmt.Println(c.From, c.To)
	}
	// Output:
	// bash-5.1-1.x86_64 bash-5.2-1.x86_64
	// <nil> zsh-1:5.x86_64
}

func ExamplePackage_EVR() {
	p := ostree.Package{Name: "zsh", Epoch: "1", Version: "5.9", Release: "2"}
	fmt.Println(p.EVR())
	// Output: 1:5.9-2
}

func ExamplePackage_String() {
	fmt.Println(ostree.Package{Name: "zsh", Version: "5.9", Release: "2", Arch: "x86_64"})
	// Output: zsh-5.9-2.x86_64
}

func ExampleRepo_PullLocal() {
	ctx := context.Background()
	src, c, done := exampleRepo()
	defer done()
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
	stats := &ostree.PullLocalStats{}
	if err := r.PullLocal(ctx, src, &ostree.PullLocalOptions{Stats: stats}); err != nil {
		log.Fatal(err)
	}
	got, err := r.Resolve(ctx, "os/x86_64/base")
	fmt.Println(got == c, err, stats.ContentWritten)
	// Output: true <nil> 3
}

func ExampleRepo_Edit() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	m, err := r.Edit(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Remove(ctx, "usr/share"); err != nil {
		log.Fatal(err)
	}
	edited, err := r.Commit(ctx, m, &ostree.CommitOptions{Parent: c})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range r.List(ctx, edited, "usr", nil) {
		fmt.Println(e.Path, err)
	}
	// Output:
	// usr <nil>
	// usr/bin <nil>
	// usr/lib <nil>
}

func ExampleMutableTree_SetFile() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	m, err := r.Edit(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	var object ostree.Checksum
	for e := range r.List(ctx, c, "usr/bin/hello", nil) {
		object = e.Object
	}
	if err := m.SetDir(ctx, "opt", ostree.DirMeta{Mode: ostree.ModeDir | 0o755}); err != nil {
		log.Fatal(err)
	}
	if err := m.SetFile(ctx, "opt/hello", object); err != nil {
		log.Fatal(err)
	}
	for e, err := range m.Entries(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			fmt.Println(e.Path)
		}
	}
	// Output:
	// opt/hello
	// usr/bin/hello
	// usr/lib/release
}

func ExampleMutableTree_Merge() {
	ctx := context.Background()
	r, base, done := exampleRepo()
	defer done()
	layer, err := r.Commit(ctx, ostree.FS(fstest.MapFS{"usr/lib/release": {Data: []byte("2\n"), Mode: 0o644}}), nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := r.Edit(ctx, base)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Merge(ctx, layer); err != nil {
		log.Fatal(err)
	}
	if err := m.Copy(ctx, "usr/lib/release.old", base, "usr/lib/release"); err != nil {
		log.Fatal(err)
	}
	for c, err := range ostree.Diff(ctx, r.Tree(base), m) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%c %s\n", c.Kind(), c.Path)
	}
	// Output:
	// M usr/lib/release
	// A usr/lib/release.old
}

func ExampleRepo_Repair() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	other, _, doneOther := exampleRepo()
	defer doneOther()
	digits := c.String()
	if err := os.Truncate(filepath.Join(r.Path(), "objects", digits[:2], digits[2:]+".commit"), 10); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Repair(ctx, other))
	fmt.Println(r.Fsck(ctx, nil))
	// Output:
	// 1 <nil>
	// <nil>
}
