package convert_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/convert"
)

// exampleBuild makes the folder of a build with a raw disk that boots nothing.
func exampleBuild() (root *os.Root, remove func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	disk := make([]byte, 1<<20)
	sum := sha256.Sum256(disk)
	const path = "own-10.0.20261127-0-metal.x86_64.raw"
	meta, err := bootimage.NewDocument(bootimage.Meta{
		BuildID: "10.0.20261127-0", Name: "own", Arch: "x86_64", OSTreeVersion: "10.0.20261127-0", OSTreeCommit: hex.EncodeToString(sum[:]),
		OSTreeTimestamp: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC),
		Images:          map[string]bootimage.Image{"metal": {Path: path, SHA256: hex.EncodeToString(sum[:]), Size: 1 << 20}},
	})
	if err != nil {
		panic(err)
	}
	for name, data := range map[string][]byte{bootimage.MetaFile: meta.Bytes(), path: disk} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			panic(err)
		}
	}
	root, err = os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	return root, func() { root.Close(); os.RemoveAll(dir) }
}

func ExampleBuild() {
	build, remove := exampleBuild() // builds/10.0.20261127-0/x86_64
	defer remove()
	made, err := convert.Build(context.Background(), build, []string{"aws", "qemu"}, nil)
	if err != nil {
		panic(err)
	}
	for _, m := range made {
		fmt.Println(m.Image.Path, m.Image.Unstamped)
	}
	// Output:
	// own-10.0.20261127-0-aws.x86_64.vmdk true
	// own-10.0.20261127-0-qemu.x86_64.qcow2 true
}
