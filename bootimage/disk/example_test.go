package disk_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

func ExamplePartitions() {
	raw := newGPT(512, 1<<20, gptPart{64, 127, "boot"}, gptPart{128, 1000, "root"})
	table, err := disk.Partitions(context.Background(), bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range table.Partitions {
		fmt.Println(p.Number, p.Name, p.Start, p.Size)
	}
	// Output:
	// 1 boot 32768 32768
	// 2 root 65536 446976
}

func ExampleProbe() {
	raw := newGPT(512, 1<<20, gptPart{64, 127, "boot"})
	info, err := disk.Probe(context.Background(), bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.Format, info.VirtualSize, info.Table.Kind, info.Table.Partitions[0].Name)
	// Output: raw 1048576 gpt boot
}

func ExampleOpen() {
	raw := newGPT(512, 1<<20, gptPart{64, 127, "boot"})
	image, err := disk.Open(context.Background(), bytes.NewReader(raw), int64(len(raw)), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var signature [8]byte
	if _, err := image.ReadAt(signature[:], 512); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d %s\n", image.Size(), signature)
	// Output: 1048576 EFI PART
}

func ExampleConvert() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	dst, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dst.Close()
	raw := newGPT(512, 8<<20, gptPart{2048, 4095, "boot"})
	ctx := context.Background()
	image, err := disk.Open(ctx, bytes.NewReader(raw), int64(len(raw)), &disk.OpenOptions{Format: disk.Raw})
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := disk.Convert(ctx, dst, image, []disk.Target{
		{Name: "coreos-qemu.x86_64.qcow2", Format: disk.QCOW2},
		{Name: "coreos-aws.x86_64.vmdk", Format: disk.VMDK},
		{Name: "coreos-azure.x86_64.vhd", Format: disk.VHD},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range results {
		fmt.Println(r.Name, r.VirtualSize)
	}
	// Output:
	// coreos-qemu.x86_64.qcow2 8388608
	// coreos-aws.x86_64.vmdk 8388608
	// coreos-azure.x86_64.vhd 8388608
}

func ExampleFormat_Extension() {
	target, err := disk.TargetFor("gcp")
	if err != nil {
		panic(err)
	}
	fmt.Println(target.Format, target.Format.Extension())
	// Output: gcp tar.gz
}
