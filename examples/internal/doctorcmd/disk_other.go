//go:build !unix

package doctorcmd

// disk has nothing to look at where repositories are only read.
func (d *doctor) disk(string) {
	d.warn("files", "OSTree repositories are only read on this system", "build on Linux")
}
