package disk

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
	"nutanix":    {Format: QCOW2, Compression: "zlib"},
	"virtualbox": {Format: OVA},
	"vmware":     {Format: OVA},
	"vultr":      {Format: Raw},
}

// TargetFor gives how a platform wants its disk, as coreos-assembler makes it, without
// name, size and stamp. Platforms without a way of their own take QCOW2.
func TargetFor(platform string) Target {
	if t, ok := platformTargets[platform]; ok {
		return t
	}
	return Target{Format: QCOW2}
}
