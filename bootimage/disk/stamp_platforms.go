package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// console is what a platform's machines are told about their consoles.
type console struct {
	GRUB   []string `json:"grub_commands"`
	Kernel []string `json:"kernel_arguments"`
}

// platformIDs are the platforms that Ignition knows and images are made for.
var platformIDs = []string{
	"aliyun", "applehv", "aws", "azure", "azurestack", "digitalocean", "exoscale", "gcp", "hetzner", "hyperv", "ibmcloud", "kubevirt", "metal",
	"nutanix", "nvidiabluefield", "openstack", "oraclecloud", "packet", "powervs", "proxmoxve", "qemu", "scaleway", "virtualbox", "vmware", "vultr",
}

// serial is GRUB on the screen and on the first serial port.
var serial = []string{"serial --speed=115200", "terminal_input serial console", "terminal_output serial console"}

// consoles is the table of platforms, by architecture, in what platforms.yaml of
// Fedora CoreOS says of them; those that are not here have the defaults of GRUB
// and the kernel. The last console is the one that /dev/console is.
var consoles = map[string]map[string]console{
	"aarch64": {
		"aws": {
			GRUB:   []string{"serial --speed=115200 efi0", "terminal_input serial_efi0", "terminal_output serial_efi0"},
			Kernel: []string{"console=ttyS0,115200n8"},
		},
		"azure":     {Kernel: []string{"console=tty0", "console=ttyAMA0,115200n8"}}, // GRUB's screen is copied to the serial port
		"openstack": {GRUB: serial, Kernel: []string{"console=ttyAMA0,115200n8", "console=tty0"}},
		"packet": {
			GRUB:   []string{"serial --speed=115200", "terminal_input serial", "terminal_output serial"},
			Kernel: []string{"console=ttyAMA0,115200"},
		},
		"qemu": {GRUB: serial},
	},
	"ppc64le": { // petitboot does not run GRUB's commands
		"openstack": {Kernel: []string{"console=hvc0", "console=tty0"}},
		"qemu":      {Kernel: []string{"console=hvc0", "console=tty0"}},
	},
	"x86_64": {
		"aws":       {GRUB: serial, Kernel: []string{"console=tty0", "console=ttyS0,115200n8"}},
		"azure":     {Kernel: []string{"console=tty0", "console=ttyS0,115200n8"}},
		"gcp":       {GRUB: serial, Kernel: []string{"console=tty0", "console=ttyS0,115200n8"}},
		"ibmcloud":  {GRUB: serial, Kernel: []string{"console=tty0", "console=ttyS0,115200n8"}},
		"kubevirt":  {GRUB: serial, Kernel: []string{"console=ttyS0,115200n8", "console=tty0"}},
		"openstack": {GRUB: serial, Kernel: []string{"console=ttyS0,115200n8", "console=tty0"}},
		"packet": {
			GRUB:   []string{"serial --unit=1 --speed=115200", "terminal_input serial", "terminal_output serial"},
			Kernel: []string{"console=ttyS1,115200n8"},
		},
		"qemu":       {GRUB: serial, Kernel: []string{"console=tty0", "console=ttyS0,115200n8"}},
		"virtualbox": {GRUB: serial, Kernel: []string{"console=ttyS0,115200n8", "console=tty0"}},
		"vmware":     {GRUB: serial, Kernel: []string{"console=ttyS0,115200n8", "console=tty0"}},
	},
}

// Platforms gives the ids of the platforms that [Stamp] knows without the disk's
// own table, sorted.
func Platforms() []string { return slices.Clone(platformIDs) }

// rootTypes are the partition types of the Discoverable Partitions Specification
// that say what machines a disk is for.
var rootTypes = map[string]string{
	"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "x86_64",
	"B921B045-1DF0-41C3-AF44-4C6F280D3FAE": "aarch64",
	"C31C45E6-3F39-412E-80FB-4809C4980599": "ppc64le",
	"5EEAD9A9-FE09-4A1E-A1D7-520D00531306": "s390x",
	"72EC70A6-CF74-40E6-BD49-4BDA08E8F224": "riscv64",
}

// maxArguments is how many commands or arguments a platform may have.
const maxArguments = 64

// decodeConsoles reads the table that a disk may have of its own.
func decodeConsoles(data []byte) (map[string]console, error) {
	var table map[string]console
	if err := json.Unmarshal(data, &table); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	for name, c := range table {
		if !isPlatform(name) {
			return nil, fmt.Errorf("platform %.80q: %w", name, ErrCorrupt)
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("platform %s: %w: %w", name, err, ErrCorrupt)
		}
	}
	return table, nil
}

// isPlatform reports whether a name can be a platform's.
func isPlatform(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 40
}

// check refuses what would be something else in a boot entry or in GRUB's
// configuration.
func (c *console) check() error {
	if len(c.GRUB) > maxArguments || len(c.Kernel) > maxArguments {
		return errors.New("too many commands or arguments")
	}
	for _, command := range c.GRUB {
		if command == "" || len(command) > 400 || !printable(command, true) || command[0] == '#' {
			return fmt.Errorf("command %.80q", command)
		}
	}
	return checkArguments(c.Kernel)
}

func checkArguments(arguments []string) error {
	for _, a := range arguments {
		if a == "" || len(a) > 400 || !printable(a, false) {
			return fmt.Errorf("kernel argument %.80q", a)
		}
	}
	return nil
}

func printable(text string, spaces bool) bool {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == ' ' && !spaces {
			return false
		}
	}
	return true
}
