package ext4_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/ext4"
	"github.com/okd-project/okd-streams/internal/interop"
)

// checked runs e2fsck on a file system; it must find nothing.
func checked(t *testing.T, data []byte) string {
	t.Helper()
	file := written(t, data)
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// written puts a file system into a file, with holes for zeros.
func written(t *testing.T, data []byte) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "fs"))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Truncate(int64(len(data))))
	const piece = 64 << 10
	zeros := make([]byte, piece)
	for at := 0; at < len(data); at += piece {
		if p := data[at:min(at+piece, len(data))]; !bytes.Equal(p, zeros[:len(p)]) {
			_, err := file.WriteAt(p, int64(at))
			require.NoError(t, err)
		}
	}
	return file.Name()
}

// debugfs runs one command of the tool of that name.
func debugfs(t *testing.T, file, command string) string {
	t.Helper()
	var diag bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "debugfs", "-R", command, file)
	cmd.Stderr = &diag
	out, err := cmd.Output()
	require.NoError(t, err, "%s", diag.String())
	return string(out)
}

// systems are file systems as mke2fs makes them.
var systems = []struct {
	name, size string
	many       int // files in the largest directory
	args       []string
}{
	{"coreos", "48M", 20, []string{"-t", "ext4", "-b", "4096", "-I", "256", "-O", "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,dir_index,filetype,sparse_super,large_file"}},
	{"today's default", "48M", 20, []string{"-t", "ext4", "-O", "has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize,orphan_file,dir_index,filetype"}},
	{"no checksums", "32M", 20, []string{"-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^64bit,extent,flex_bg,uninit_bg,has_journal,dir_index"}},
	{"uninit_bg of 64 bit", "32M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,64bit,extent,uninit_bg,has_journal"}},
	{"no journal", "8M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "metadata_csum,64bit,extent,^has_journal"}},
	{"blocks of 1 KiB", "64M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "metadata_csum,64bit,extent,has_journal,flex_bg"}},
	{"blocks of 2 KiB", "32M", 20, []string{"-t", "ext4", "-b", "2048", "-O", "metadata_csum,^64bit,extent,has_journal"}},
	{"blocks of 64 KiB", "64M", 20, []string{"-t", "ext4", "-b", "65536", "-O", "metadata_csum,64bit,extent,^has_journal"}},
	{"content in inodes", "16M", 20, []string{"-t", "ext4", "-b", "4096", "-I", "1024", "-O", "inline_data,metadata_csum,64bit,extent,has_journal"}},
	{"content in small inodes", "16M", 20, []string{"-t", "ext4", "-b", "1024", "-I", "256", "-O", "inline_data,^metadata_csum,extent,has_journal"}},
	{"no flex_bg", "64M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "^flex_bg,metadata_csum,64bit,extent,has_journal"}},
	{"meta_bg", "64M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,metadata_csum,64bit,extent,has_journal"}},
	{"sparse_super2", "64M", 20, []string{"-t", "ext4", "-b", "1024", "-O", "sparse_super2,meta_bg,^resize_inode,metadata_csum,64bit,extent"}},
	{"large directories", "64M", 700, []string{"-t", "ext4", "-b", "1024", "-O", "dir_index,metadata_csum,64bit,extent,has_journal"}},
	{"inodes of 128 bytes", "8M", 20, []string{"-t", "ext4", "-b", "1024", "-I", "128", "-O", "metadata_csum,64bit,extent"}},
	{"ext3", "32M", 20, []string{"-t", "ext3", "-b", "1024", "-O", "has_journal,^extent,^metadata_csum,^64bit"}},
	{"ext2", "8M", 20, []string{"-t", "ext2", "-b", "1024", "-O", "^extent,^metadata_csum,^64bit,^has_journal"}},
}

func TestE2fsprogs(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	for _, sys := range systems {
		t.Run(sys.name, func(t *testing.T) {
			tree := t.TempDir()
			bootTree(t, tree, sys.many)
			data, err := os.ReadFile(mke2fs(t, tree, sys.size, sys.args...))
			require.NoError(t, err)
			checked(t, data)
			f := open(t, data)
			names, err := f.ReadDir("/many")
			require.NoError(t, err)
			require.Len(t, names, sys.many)

			// One file in many ways, one after the other.
			const name = "/loader/entries/ostree-1.conf"
			many := strings.Repeat(entryText, 100)
			for _, want := range []string{
				entryText + "# longer\n", "", "short\n", strings.Repeat("x", 60), strings.Repeat("y", 3000), many, entryText,
			} {
				require.NoError(t, f.WriteFile(name, []byte(want)))
				file := checked(t, apply(data, f.Steps()))
				require.Equal(t, want, debugfs(t, file, "cat "+"/loader.1/entries/ostree-1.conf"))
			}
			require.NoError(t, f.WriteFile("/grub2/grub.cfg", []byte("short")))
			require.NoError(t, f.WriteFile("/tiny", []byte(many)))
			require.NoError(t, f.WriteFile("/many/"+names[sys.many-1], []byte("not empty now")))
			var created []string
			for i, content := range []string{many, "", "1", strings.Repeat("x", 5000)} {
				name := "/grub2/new-" + strings.Repeat("n", 40*i)
				err := f.CreateFile(name, "grub.cfg", []byte(content))
				if strings.Contains(sys.name, "content in") {
					require.ErrorIs(t, err, errors.ErrUnsupported) // the directory is within its inode
					continue
				}
				require.NoError(t, err)
				created = append(created, name, content)
			}
			after := apply(data, f.Steps())
			file := checked(t, after)
			for pair := range slices.Chunk(created, 2) {
				require.Equal(t, pair[1], debugfs(t, file, "cat "+pair[0]))
				require.Contains(t, debugfs(t, file, "stat "+pair[0]), "Mode:  0644   Flags:")
			}
			require.Equal(t, many, debugfs(t, file, "cat /tiny"))
			require.Equal(t, "not empty now", debugfs(t, file, "cat /many/"+names[sys.many-1]))
			require.Equal(t, len(data), len(after))
		})
	}
}

// Extended attributes of a file stay when its content moves out of the inode.
func TestAttributesStay(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	tree := t.TempDir()
	bootTree(t, tree, 1)
	file := mke2fs(t, tree, "16M", "-t", "ext4", "-b", "4096", "-I", "512", "-O", "inline_data,metadata_csum,64bit,extent,has_journal")
	const name = "/loader.1/entries/ostree-1.conf"
	for _, set := range []string{"security.selinux system_u:object_r:boot_t:s0", "user.a 1", "user.long " + strings.Repeat("v", 77)} {
		out, err := exec.CommandContext(t.Context(), "debugfs", "-w", "-R", "ea_set "+name+" "+set, file).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	checked(t, data)
	require.Contains(t, debugfs(t, file, "ea_list "+name), "system.data")
	f := open(t, data)
	require.NoError(t, f.WriteFile(name, []byte(strings.Repeat(entryText, 3))))
	file = checked(t, apply(data, f.Steps()))
	attrs := debugfs(t, file, "ea_list "+name)
	require.NotContains(t, attrs, "system.data")
	for _, want := range []string{`security.selinux (27) = "system_u:object_r:boot_t:s0"`, `user.a (1) = "1"`, "user.long (77)"} {
		require.Contains(t, attrs, want)
	}
	require.Contains(t, debugfs(t, file, "ea_get "+name+" user.long"), strings.Repeat("v", 77))
	require.Equal(t, strings.Repeat(entryText, 3), debugfs(t, file, "cat "+name))
}

// Files in pieces and with holes, as the kernel and debugfs make them.
func TestFragments(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	for _, args := range [][]string{
		{"-t", "ext4", "-b", "1024", "-O", "metadata_csum,64bit,extent,^has_journal"},
		{"-t", "ext2", "-b", "1024", "-O", "^extent"},
	} {
		tree := t.TempDir()
		bootTree(t, tree, 1)
		// Every second block a hole: an extent of its own for each, in a tree that has
		// more than its root.
		holes, err := os.Create(filepath.Join(tree, "holes"))
		require.NoError(t, err)
		want := make([]byte, 800<<10)
		for at := 0; at < len(want); at += 2 << 10 {
			copy(want[at:], bytes.Repeat([]byte{byte(at>>11) | 1}, 1<<10))
			_, err := holes.WriteAt(want[at:at+1<<10], int64(at))
			require.NoError(t, err)
		}
		require.NoError(t, holes.Truncate(int64(len(want))))
		require.NoError(t, holes.Close())
		data, err := os.ReadFile(mke2fs(t, tree, "16M", args...))
		require.NoError(t, err)
		f := open(t, data)
		got, err := f.ReadFile("/holes")
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		require.NoError(t, f.WriteFile("/holes", []byte("all blocks are free again")))
		file := checked(t, apply(data, f.Steps()))
		require.Equal(t, "all blocks are free again", debugfs(t, file, "cat /holes"))
	}
}

// Whatever of the patches is on the disk when the power fails, in any order
// within a step, files have their old or their new content, and e2fsck repairs
// what it finds.
func TestPowerFails(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	tree := t.TempDir()
	bootTree(t, tree, 1)
	data, err := os.ReadFile(mke2fs(t, tree, "8M", "-t", "ext4", "-b", "1024", "-O", "metadata_csum,64bit,extent,has_journal"))
	require.NoError(t, err)
	const entry, tiny = "/loader.1/entries/ostree-1.conf", "/tiny"
	now := strings.Repeat(entryText, 30)
	f := open(t, data)
	require.NoError(t, f.WriteFile(entry, []byte(now)))
	require.NoError(t, f.WriteFile(tiny, []byte("z")))
	steps := f.Steps()
	require.Len(t, steps, 8)

	was := map[string]string{entry: entryText, tiny: "x"}
	will := map[string]string{entry: now, tiny: "z"}
	for done := range steps {
		for only := -1; only < len(steps[done]); only++ { // of the step that was begun: nothing, or one patch
			cut := apply(data, steps[:done])
			if only >= 0 {
				cut = apply(cut, []ext4.Step{{steps[done][only]}})
			}
			file := written(t, cut)
			out, err := exec.CommandContext(t.Context(), "e2fsck", "-fp", file).CombinedOutput()
			if code, ok := err.(*exec.ExitError); ok {
				require.Equal(t, 1, code.ExitCode(), "after %d steps and patch %d: %s", done, only, out) // repaired, nothing else
			} else {
				require.NoError(t, err)
			}
			for name := range was {
				got := debugfs(t, file, "cat "+name)
				require.Contains(t, []string{was[name], will[name]}, got, "after %d steps and patch %d", done, only)
			}
			fixed, err := os.ReadFile(file)
			require.NoError(t, err)
			checked(t, fixed)
		}
	}
}
