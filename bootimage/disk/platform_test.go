package disk_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// TestTargetFor holds the targets to what coreos-assembler makes, and every platform
// that disks are stamped for to be one of these.
func TestTargetFor(t *testing.T) {
	want := map[disk.Format][]string{
		disk.Raw:      {"applehv", "hetzner", "metal", "metal4k", "vultr"},
		disk.QCOW2:    {"aliyun", "digitalocean", "exoscale", "ibmcloud", "nutanix", "openstack", "oraclecloud", "proxmoxve", "qemu"},
		disk.VMDK:     {"aws"},
		disk.OVA:      {"virtualbox", "vmware"},
		disk.PowerVS:  {"powervs"},
		disk.VHD:      {"azure", "azurestack"},
		disk.VHDX:     {"hyperv"},
		disk.GCP:      {"gcp"},
		disk.KubeVirt: {"kubevirt"},
		"":            {"dasd", "nvidiabluefield", "qemu-secex"},
	}
	// Of these it has no images of their own: Equinix Metal booted those of metal.
	want[disk.QCOW2] = append(want[disk.QCOW2], "packet", "scaleway")
	var all []string
	for format, platforms := range want {
		for _, platform := range platforms {
			all = append(all, platform)
			target, err := disk.TargetFor(platform)
			if format == "" {
				require.ErrorIs(t, err, errors.ErrUnsupported, platform)
				require.ErrorContains(t, err, platform)
				require.Zero(t, target)
				continue
			}
			require.NoError(t, err, platform)
			compression := ""
			if platform == "nutanix" {
				compression = "zlib"
			}
			require.Equal(t, disk.Target{Format: format, Compression: compression}, target, platform)
		}
	}
	require.Subset(t, all, disk.Platforms())
}

func ExampleTargetFor() {
	for _, platform := range []string{"aws", "azure", "nutanix", "openstack", "nvidiabluefield"} {
		target, err := disk.TargetFor(platform)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(platform, target.Format, target.Compression != "")
	}
	// Output:
	// aws vmdk false
	// azure vhd false
	// nutanix qcow2 true
	// openstack qcow2 false
	// disk: target nvidiabluefield: it wants a BFB, which NVIDIA's mkbfb makes: unsupported operation
}

// TestExtension: as the files of platforms are named.
func TestExtension(t *testing.T) {
	for platform, want := range map[string]string{
		"aws": "vmdk", "azure": "vhd", "gcp": "tar.gz", "hyperv": "vhdx", "kubevirt": "ociarchive", "metal": "raw", "powervs": "ova", "qemu": "qcow2", "vmware": "ova",
	} {
		target, err := disk.TargetFor(platform)
		require.NoError(t, err)
		require.Equal(t, want, target.Format.Extension(), platform)
	}
}
