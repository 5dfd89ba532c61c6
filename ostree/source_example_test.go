package ostree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/okd-project/okd-streams/ostree"
)

// show prints the paths of a tree.
func show(tree ostree.Tree) {
	for e, err := range tree.Entries(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%06o %s\n", e.Mode, e.Path)
	}
}

func ExampleDir() {
	dir, err := os.MkdirTemp("", "tree")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("hello\n"), 0o600); err != nil {
		panic(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	defer root.Close()
	show(ostree.Dir(root))
	// Output:
	// 040700 .
	// 100600 hello
}

func ExampleTar() {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	_ = w.WriteHeader(&tar.Header{Name: "./usr/hello", Mode: 0o644, Size: 6})
	_, _ = w.Write([]byte("hello\n"))
	_ = w.WriteHeader(&tar.Header{Name: "usr/../../escape", Mode: 0o644})
	_ = w.Close()
	show(ostree.Tar(&archive))
	// Output:
	// 040755 .
	// 040755 usr
	// 100644 usr/hello
	// ostree: tar usr/../../escape at byte 1024: ".." in the path, which could leave the tree: invalid argument
}

func ExampleFS() {
	show(ostree.FS(fstest.MapFS{"usr/hello": {Data: []byte("hello\n"), Mode: 0o644}}))
	// Output:
	// 040555 .
	// 040555 usr
	// 100644 usr/hello
}

func ExampleOverlay() {
	base := ostree.FS(fstest.MapFS{"etc/motd": {Data: []byte("hello\n"), Mode: 0o644}})
	change := ostree.FS(fstest.MapFS{"etc/motd": {Data: []byte("goodbye\n"), Mode: 0o600}})
	// What comes last counts.
	show(ostree.Overlay(base, change))
	// Output:
	// 040555 .
	// 040555 etc
	// 100644 etc/motd
	// 040555 .
	// 040555 etc
	// 100600 etc/motd
}

func ExamplePostprocess() {
	distribution := ostree.FS(fstest.MapFS{
		"boot/vmlinuz-6.1":    {Data: []byte("kernel"), Mode: 0o644},
		"boot/initrd.img-6.1": {Data: []byte("initramfs"), Mode: 0o644},
		"etc/passwd":          {Data: []byte("root"), Mode: 0o644},
		"usr/lib/os-release":  {Data: []byte("ID=sample"), Mode: 0o644},
		"var/log/install.log": {Data: []byte("done"), Mode: 0o644},
	})
	arranged := ostree.Postprocess(distribution, nil)
	fmt.Println(ostree.Lint(context.Background(), distribution) != nil)
	fmt.Println(ostree.Lint(context.Background(), arranged))
	version, vmlinuz, initramfs, err := ostree.Kernel(context.Background(), arranged)
	fmt.Println(version, vmlinuz.Path, initramfs.Path, err)
	// Output:
	// true
	// <nil>
	// 6.1 usr/lib/modules/6.1/vmlinuz usr/lib/modules/6.1/initramfs.img <nil>
}

func ExampleLint() {
	fmt.Println(ostree.Lint(context.Background(), ostree.FS(fstest.MapFS{
		"usr/etc/passwd": {}, "usr/lib/os-release": {Data: []byte("ID=sample")}, "usr/lib/modules/6.1/vmlinuz": {Data: []byte("kernel")},
		"boot": {Mode: os.ModeDir}, "dev": {Mode: os.ModeDir}, "proc": {Mode: os.ModeDir}, "run": {Mode: os.ModeDir}, "sys": {Mode: os.ModeDir}, "sysroot": {Mode: os.ModeDir}, "tmp": {Mode: os.ModeDir},
		"ostree": {Data: []byte("sysroot/ostree"), Mode: os.ModeSymlink}, "var/log/install.log": {},
	})))
	// Output:
	// ostree: lint var/log/install.log: /var belongs to the machine and must be empty: move the file to /usr or make it with tmpfiles.d
	// ostree: lint usr/lib/modules/6.1/initramfs.img: missing or empty: build it with ostree's module, for example by dracut
}

func ExampleKernel() {
	version, _, _, err := ostree.Kernel(context.Background(), ostree.FS(fstest.MapFS{"usr/lib/modules/6.1/vmlinuz": {}}))
	fmt.Println(version, err)
	// Output: 6.1 <nil>
}

func ExampleArrangedPath() {
	fmt.Println(ostree.ArrangedPath("etc/passwd"))
	fmt.Println(ostree.ArrangedPath("var/log/dpkg.log"))
	// Output:
	// usr/etc/passwd true
	//  false
}
