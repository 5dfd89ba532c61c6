package disk_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// readBoot reads the small boot file system that the examples change.
func readBoot() []byte {
	f, err := os.Open("testdata/boot.gz")
	if err != nil {
		return nil
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return nil
	}
	return data
}

// One disk becomes one for each platform, and stays as it is.
func ExampleStamp() {
	ctx := context.Background()
	raw := readBoot()
	for _, platform := range []string{"aws", "nutanix"} {
		s, err := disk.Stamp(ctx, bytes.NewReader(raw), int64(len(raw)), platform, &disk.StampOptions{Arch: "aarch64"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.Was, "->", s.Platform, s.Files)
		now, err := disk.PlatformOf(ctx, s.Over(bytes.NewReader(raw)), int64(len(raw)))
		fmt.Println(now, err)
	}
	// Output:
	// metal -> aws [/loader/entries/ostree-1.conf /grub2/console.cfg]
	// aws <nil>
	// metal -> nutanix [/loader/entries/ostree-1.conf]
	// nutanix <nil>
}

// A file is changed in place.
func ExampleStamped_Apply() {
	ctx := context.Background()
	f, err := os.CreateTemp("", "disk")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	raw := readBoot()
	if _, err := f.Write(raw); err != nil {
		fmt.Println(err)
		return
	}
	s, err := disk.Stamp(ctx, f, int64(len(raw)), "azure", &disk.StampOptions{Arch: "x86_64"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Apply(ctx, f); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.KernelArguments[len(s.KernelArguments)-3:])
	// Output:
	// [ignition.platform.id=azure console=tty0 console=ttyS0,115200n8]
}

func ExamplePlatformOf() {
	raw := readBoot()
	platform, err := disk.PlatformOf(context.Background(), bytes.NewReader(raw), int64(len(raw)))
	fmt.Println(platform, err)
	// Output:
	// metal <nil>
}

func ExamplePlatforms() {
	fmt.Println(disk.Platforms()[:4])
	// Output:
	// [aliyun applehv aws azure]
}
