package disk_test

import (
	"bytes"
	"context"
	"fmt"

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
