//go:build unix

package doctorcmd

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// enough is the room that a build of an operating system takes.
const enough = 20 << 30

// disk looks at room and what the file system can do.
func (d *doctor) disk(dir string) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		d.failure("room", err.Error(), "name another folder with --state")
		return
	}
	free, inodes := int64(s.Bavail)*int64(s.Bsize), int64(s.Ffree)
	switch found := ui.Size(free) + " free"; {
	case free < enough:
		d.warn("room", found, fmt.Sprintf("a whole operating system takes up to %s; the sample far less", ui.Size(enough)))
	case s.Files > 0 && inodes < 200_000:
		d.warn("room", fmt.Sprintf("%d inodes free", inodes), "a whole operating system has up to 100,000 files, once in the repository")
	default:
		d.ok("room", found)
	}
	if err := unix.Setxattr(dir, "user.okd-streams", []byte("x"), 0); err != nil {
		d.failure("attributes", "the file system has no extended attributes of users: "+err.Error(), "name a folder on ext4, xfs, btrfs, or tmpfs of a kernel from 6.6 on, with --state")
		return
	}
	d.ok("attributes", "extended attributes of users can be kept")
}
