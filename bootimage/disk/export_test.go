package disk

// CheckPlatforms reads the table of platforms that a disk has of its own, and gives
// their kernel arguments and commands.
func CheckPlatforms(data []byte) (kernel, grub map[string][]string, err error) {
	table, err := decodeConsoles(data)
	kernel, grub = map[string][]string{}, map[string][]string{}
	for name, c := range table {
		kernel[name], grub[name] = c.Kernel, c.GRUB
	}
	return kernel, grub, err
}
