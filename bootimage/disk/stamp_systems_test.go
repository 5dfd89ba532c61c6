package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

// TestStampSystems stamps file systems of several kinds, with boot entries of several
// sizes, and has e2fsck look at them after each stamp. Where a feature is not known,
// nothing is changed.
func TestStampSystems(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	// An entry within one block, one that a stamp takes into the next, and a long one.
	entries := map[string]string{
		"short":  "title x\noptions root=1 ignition.platform.id=metal\n",
		"block":  "title x\noptions " + strings.Repeat("x", 1024-len("title x\noptions  ignition.platform.id=metal\n")) + " ignition.platform.id=metal\n",
		"long":   "title " + strings.Repeat("t", 9000) + "\noptions a ignition.platform.id=metal\n",
		"coreos": bootEntry,
	}
	require.Len(t, entries["block"], 1024)
	for _, system := range []struct {
		name    string
		args    []string
		refused bool
	}{
		{"CoreOS", nil, false},
		{"no checksums", []string{"-O", "^metadata_csum_seed,^metadata_csum,^64bit", "-b", "1024"}, false},
		{"checksums, 32 bit", []string{"-O", "metadata_csum,^64bit", "-b", "1024"}, false},
		{"64 bit without checksums", []string{"-O", "^metadata_csum_seed,^metadata_csum,64bit", "-b", "1024"}, false},
		{"content in inodes", []string{"-O", "inline_data", "-I", "1024"}, false},
		{"content in small inodes", []string{"-O", "inline_data", "-b", "1024"}, false},
		{"clusters of blocks", []string{"-O", "bigalloc"}, true},
	} {
		t.Run(system.name, func(t *testing.T) {
			for name, entry := range entries {
				files := coreosFiles()
				files["loader.1/entries/ostree-1.conf"] = entry
				path := filepath.Join(t.TempDir(), "boot")
				mke2fs(t, bootFolder(t, files), path, "8M", system.args...)
				read := func() map[string]string {
					got := filesOf(t, path, files)
					for name, text := range got { // debugfs shows all of an inode's room
						got[name] = strings.TrimRight(text, "\x00")
					}
					return got
				}
				was := read()
				require.Equal(t, files, was)
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				require.NoError(t, err)
				for _, platform := range []string{"aws", "nutanix", "vmware", "metal"} {
					s, err := disk.Stamp(t.Context(), file, 8<<20, platform, &disk.StampOptions{Arch: "x86_64"})
					if system.refused {
						require.ErrorIs(t, err, errors.ErrUnsupported)
						require.ErrorContains(t, err, "bigalloc")
						continue
					}
					require.NoError(t, err, "%s: %s", name, platform)
					require.NoError(t, s.Apply(t.Context(), file))
					got := read()
					require.Contains(t, got["loader.1/entries/ostree-1.conf"], " ignition.platform.id="+platform, name)
					if platform == "metal" {
						require.Equal(t, entry, got["loader.1/entries/ostree-1.conf"], "%s: back to what it was", name)
					}
				}
				if system.refused {
					require.Equal(t, was, read())
				}
				require.NoError(t, file.Close())
			}
		})
	}
}
