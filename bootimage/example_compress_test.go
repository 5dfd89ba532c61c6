package bootimage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
)

func ExampleCompress() {
	var file bytes.Buffer
	m, err := bootimage.Compress(context.Background(), &file, strings.NewReader(strings.Repeat("a disk ", 1000)), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Compression, m.UncompressedSize, m.Size == int64(file.Len()))
	fmt.Println(m.UncompressedSHA256[:16])
	// Output:
	// gz 7000 true
	// 065306408a6df3c9
}

func ExampleUncompress() {
	var file, content bytes.Buffer
	want, err := bootimage.Compress(context.Background(), &file, strings.NewReader("a disk"), &bootimage.CompressOptions{Compressor: bootimage.CompressZstd})
	if err != nil {
		panic(err)
	}
	packed := file.Bytes()
	_, err = bootimage.Uncompress(context.Background(), &content, bytes.NewReader(packed), want)
	fmt.Println(content.String(), err)

	want.UncompressedSHA256 = strings.Repeat("0", 64) // what a record that is wrong says
	_, err = bootimage.Uncompress(context.Background(), &content, bytes.NewReader(packed), want)
	fmt.Println(errors.Is(err, bootimage.ErrVerification))
	// Output:
	// a disk <nil>
	// true
}

// exampleBuild makes a folder with a build of one disk.
func exampleBuild() (*os.Root, func()) {
	dir, err := os.MkdirTemp("", "build-")
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte("a disk"))
	meta, err := bootimage.NewDocument(bootimage.Meta{
		BuildID: "10.0.20261125-0", Name: "own", Arch: "x86_64", OSTreeCommit: strings.Repeat("ab", 32), OSTreeVersion: "10.0.20261125-0",
		OSTreeTimestamp: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC),
		Images:          map[string]bootimage.Image{"qemu": {Path: "own-10.0.20261125-0-qemu.x86_64.qcow2", SHA256: hex.EncodeToString(sum[:]), Size: 6}},
	})
	if err != nil {
		panic(err)
	}
	for name, data := range map[string][]byte{bootimage.MetaFile: meta.Bytes(), "own-10.0.20261125-0-qemu.x86_64.qcow2": []byte("a disk")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			panic(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	return root, func() { root.Close(); os.RemoveAll(dir) }
}

func ExampleCompressBuild() {
	build, remove := exampleBuild() // builds/10.0.20261125-0/x86_64
	defer remove()
	done, err := bootimage.CompressBuild(context.Background(), build, &bootimage.CompressBuildOptions{
		Compress: bootimage.CompressOptions{Compressor: bootimage.CompressZstd},
	})
	if err != nil {
		panic(err)
	}
	for _, a := range done {
		fmt.Println(a.Artifact, a.New.Path, a.New.UncompressedSize)
	}
	// Output: qemu own-10.0.20261125-0-qemu.x86_64.qcow2.zst 6
}

func ExampleUncompressBuild() {
	build, remove := exampleBuild()
	defer remove()
	if _, err := bootimage.CompressBuild(context.Background(), build, nil); err != nil {
		panic(err)
	}
	done, err := bootimage.UncompressBuild(context.Background(), build, nil)
	if err != nil {
		panic(err)
	}
	for _, a := range done {
		fmt.Println(a.Artifact, a.Old.Path, "->", a.New.Path)
	}
	// Output: qemu own-10.0.20261125-0-qemu.x86_64.qcow2.gz -> own-10.0.20261125-0-qemu.x86_64.qcow2
}

func ExampleAddArtifacts() {
	build, remove := exampleBuild()
	defer remove()
	err := bootimage.AddArtifacts(context.Background(), build, time.Time{}, func(_ context.Context, meta *bootimage.Meta) (map[string]bootimage.Image, error) {
		name := bootimage.ArtifactPath(meta.Name, meta.BuildID, "vmware", meta.Arch, "ova")
		data := []byte("another disk")
		sum := sha256.Sum256(data)
		return map[string]bootimage.Image{"vmware": {Path: name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}}, build.WriteFile(name, data, 0o444)
	})
	if err != nil {
		panic(err)
	}
	file, err := build.Open(bootimage.MetaFile)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	meta, err := bootimage.DecodeMeta(file)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(meta.Value().Images), meta.Value().Images["vmware"].Path)
	// Output: 2 own-10.0.20261125-0-vmware.x86_64.ova
}
