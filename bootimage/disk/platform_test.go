package disk_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// TestTargetFor has a target for every platform that disks are stamped for.
func TestTargetFor(t *testing.T) {
	formats := make(map[disk.Format]int)
	for _, platform := range disk.Platforms() {
		formats[disk.TargetFor(platform).Format]++
	}
	for _, f := range []disk.Format{disk.Raw, disk.QCOW2, disk.VMDK, disk.VHD, disk.VHDX, disk.OVA, disk.GCP, disk.KubeVirt} {
		require.Positive(t, formats[f], f)
	}
}

func ExampleTargetFor() {
	for _, platform := range []string{"aws", "azure", "nutanix", "openstack"} {
		target := disk.TargetFor(platform)
		fmt.Println(platform, target.Format, target.Compression != "")
	}
	// Output:
	// aws vmdk false
	// azure vhd false
	// nutanix qcow2 true
	// openstack qcow2 false
}
