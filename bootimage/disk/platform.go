package disk

import (
	"errors"
	"fmt"
)

// platformTargets are what coreos-assembler makes for platforms, where it is not
// plain qcow2.
var platformTargets = map[string]Target{
	"applehv":    {Format: Raw},
	"aws":        {Format: VMDK},
	"azure":      {Format: VHD},
	"azurestack": {Format: VHD},
	"gcp":        {Format: GCP},
	"hetzner":    {Format: Raw},
	"hyperv":     {Format: VHDX},
	"kubevirt":   {Format: KubeVirt},
	"metal":      {Format: Raw},
	"metal4k":    {Format: Raw},
	"nutanix":    {Format: QCOW2, Compression: "zlib"},
	"powervs":    {Format: PowerVS},
	"virtualbox": {Format: OVA},
	"vmware":     {Format: OVA},
	"vultr":      {Format: Raw},
}

// notMade are what platforms want that is not made here.
var notMade = map[string]string{
	"dasd":            "a disk with sectors and a partition table of its own, and zipl's boot map",
	"nvidiabluefield": "a BFB, which NVIDIA's mkbfb makes",
	"qemu-secex":      "an encrypted disk with a kernel that genprotimg signed",
}

// TargetFor gives how a platform wants its disk, as coreos-assembler makes it, without
// name, size and stamp. Platforms without a way of their own take QCOW2. The error
// wraps [errors.ErrUnsupported] for platforms whose disks are not made here: dasd,
// nvidiabluefield and qemu-secex. That of powervs is then to be compressed with gzip.
// One of metal4k is made of a disk with sectors of 4096 bytes alone, which it is a copy
// of.
func TargetFor(platform string) (Target, error) {
	if what, ok := notMade[platform]; ok {
		return Target{}, &Error{Op: "target", Target: platform, Err: fmt.Errorf("it wants %s: %w", what, errors.ErrUnsupported)}
	}
	if t, ok := platformTargets[platform]; ok {
		return t, nil
	}
	return Target{Format: QCOW2}, nil
}

// extensions are those of files whose format is not named by one.
var extensions = map[Format]string{GCP: "tar.gz", KubeVirt: "ociarchive", PowerVS: "ova"}

// Extension is what coreos-assembler's names of files in the format end with, without
// a dot: qcow2, tar.gz, …
func (f Format) Extension() string {
	if e, ok := extensions[f]; ok {
		return e
	}
	return string(f)
}
