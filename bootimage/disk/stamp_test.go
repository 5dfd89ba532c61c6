package disk_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
)

var updateBoot = flag.Bool("update-boot", false, "make testdata/boot.gz anew, with mke2fs")

// What a CoreOS disk has in /boot, as osbuild writes it.
const (
	bootEntry = `title Fedora CoreOS 43.20260301.3.0 (ostree:0)
version 1
options rw $ignition_firstboot mitigations=auto,nosmt ostree=/ostree/boot.1/fedora-coreos/0f/0 ignition.platform.id=metal
linux /ostree/fedora-coreos-0f/vmlinuz-6.18.0
initrd /ostree/fedora-coreos-0f/initramfs-6.18.0.img
aboot /ostree/deploy/fedora-coreos/deploy/0f.0/usr/lib/ostree-boot/aboot.img
`
	bootConsole = `# Any non-default console settings will be inserted here.
# CONSOLE-SETTINGS-START

# CONSOLE-SETTINGS-END
`
	entryPath   = "/loader/entries/ostree-1.conf"
	consolePath = "/grub2/console.cfg"
)

// bootFolder makes a folder with what a boot file system has; "" for a content:
// the file is not there.
func bootFolder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	for name, target := range map[string]string{"loader": "loader.1", "boot": "."} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	return dir
}

func coreosFiles() map[string]string {
	return map[string]string{
		"loader.1/entries/ostree-1.conf": bootEntry,
		"grub2/console.cfg":              bootConsole,
		"grub2/grub.cfg":                 "# sources console.cfg\n",
	}
}

// mkfsArgs are osbuild's for /boot, with all that is random fixed.
var mkfsArgs = []string{
	"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-L", "boot", "-U", "96d15588-3596-4b3c-adca-a2ff7279ea63",
	"-O", "metadata_csum_seed", "-E", "hash_seed=96d15588-3596-4b3c-adca-a2ff7279ea64",
}

func mke2fs(t testing.TB, folder, file, size string, args ...string) {
	t.Helper()
	args = append(append(append([]string{}, mkfsArgs...), args...), "-d", folder, file, size)
	cmd := exec.CommandContext(t.Context(), "mke2fs", args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1700000000")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// bootSystem is a small boot file system; with -update-boot it is made anew first.
func bootSystem(t testing.TB) []byte {
	t.Helper()
	return packedSystem(t, "testdata/boot.gz", func() string { return bootFolder(t, coreosFiles()) })
}

// packedSystem is a file system that is kept, made of a folder.
func packedSystem(t testing.TB, packed string, folder func() string) []byte {
	t.Helper()
	return packedFile(t, packed, func() string {
		file := filepath.Join(t.TempDir(), "boot")
		mke2fs(t, folder(), file, "512k", "-O", "^has_journal,^resize_inode", "-N", "64")
		return file
	})
}

// packedFile is a file that is kept; with -update-boot it is made anew first.
func packedFile(t testing.TB, packed string, create func() string) []byte {
	t.Helper()
	if *updateBoot {
		data, err := os.ReadFile(create())
		require.NoError(t, err)
		var out bytes.Buffer
		z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		require.NoError(t, err)
		_, err = z.Write(data)
		require.NoError(t, errors.Join(err, z.Close()))
		require.NoError(t, os.WriteFile(packed, out.Bytes(), 0o644))
	}
	f, err := os.Open(packed)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	return data
}

// rootType is the partition type of the root of an x86_64 machine, as it is in a
// GPT.
const rootType = "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09"

// bootDisk is a disk with a boot partition, and a root partition of a type.
func bootDisk(t testing.TB, sector int64, root string) []byte {
	t.Helper()
	system := bootSystem(t)
	first := uint64(1<<20) / uint64(sector)
	last := first + uint64(len(system))/uint64(sector) - 1
	raw := newGPT(sector, 4<<20, gptPart{first, last, "boot"}, gptPart{last + 1, last + 8, "root"})
	copy(raw[1<<20:], system)
	if root != "" {
		copy(raw[2*sector+128:], root)
		resum(raw, sector)
	}
	return raw
}

// bootFile reads a file of a boot file system with our own disk reader.
func stampOf(t testing.TB, raw []byte) string {
	t.Helper()
	platform, err := disk.PlatformOf(t.Context(), bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	return platform
}

func stamp(t testing.TB, raw []byte, platform string, opts *disk.StampOptions) *disk.Stamped {
	t.Helper()
	s, err := disk.Stamp(t.Context(), bytes.NewReader(raw), int64(len(raw)), platform, opts)
	require.NoError(t, err)
	return s
}

func over(t testing.TB, s *disk.Stamped, raw []byte) []byte {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(s.Over(bytes.NewReader(raw)), 0, int64(len(raw))))
	require.NoError(t, err)
	return got
}

const kernelArguments = "rw $ignition_firstboot mitigations=auto,nosmt ostree=/ostree/boot.1/fedora-coreos/0f/0 ignition.platform.id="

func TestStamp(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			raw := bootDisk(t, sector, rootType)
			before := bytes.Clone(raw)
			require.Equal(t, "metal", stampOf(t, raw))

			s := stamp(t, raw, "aws", nil)
			require.Equal(t, before, raw)
			require.Equal(t, "aws", s.Platform)
			require.Equal(t, "metal", s.Was)
			require.Equal(t, "x86_64", s.Arch)
			require.Equal(t, []string{entryPath, consolePath}, s.Files)
			require.Equal(t, kernelArguments+"aws console=tty0 console=ttyS0,115200n8", strings.Join(s.KernelArguments, " "))
			aws := over(t, s, raw)
			require.Equal(t, "aws", stampOf(t, aws))
			// Outside of the boot partition nothing changes.
			require.Equal(t, raw[:1<<20], aws[:1<<20])
			require.Equal(t, raw[2<<20:], aws[2<<20:])

			// Again: nothing to do. To another platform and back: the entry of before.
			require.Empty(t, stamp(t, aws, "aws", nil).Files)
			azure := stamp(t, aws, "azure", nil)
			require.Equal(t, "aws", azure.Was)
			require.Equal(t, kernelArguments+"azure console=tty0 console=ttyS0,115200n8", strings.Join(azure.KernelArguments, " "))
			metal := stamp(t, over(t, azure, aws), "metal", nil)
			require.Equal(t, kernelArguments+"metal", strings.Join(metal.KernelArguments, " "))
			require.Equal(t, "metal", stampOf(t, over(t, metal, over(t, azure, aws))))
		})
	}
}

// A file system without a partition table is a disk, too.
func TestStampFileSystem(t *testing.T) {
	raw := bootSystem(t)
	_, err := disk.Stamp(t.Context(), bytes.NewReader(raw), int64(len(raw)), "aws", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "architecture")
	s := stamp(t, raw, "aws", &disk.StampOptions{Arch: "aarch64", KernelArguments: []string{"quiet"}, KeepGRUB: true})
	require.Equal(t, []string{entryPath}, s.Files)
	require.Equal(t, kernelArguments+"aws console=ttyS0,115200n8 quiet", strings.Join(s.KernelArguments, " "))
}

// file is a disk in memory that counts what is written and synced.
type file struct {
	data  []byte
	syncs int
	limit int // writes until there is an error; 0: none
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if f.limit--; f.limit == 0 {
		return 0, fs.ErrClosed
	}
	return copy(f.data[off:], p), nil
}
func (f *file) Sync() error { f.syncs++; return nil }

func TestStampApply(t *testing.T) {
	raw := bootDisk(t, 512, rootType)
	s := stamp(t, raw, "gcp", nil)
	f := &file{data: bytes.Clone(raw)}
	require.NoError(t, s.Apply(t.Context(), f))
	require.Equal(t, over(t, s, raw), f.data)
	require.Equal(t, 8, f.syncs, "two files of data, bitmap, inode, bitmap")

	// Wherever it stops, the disk is of one platform or of the other.
	seen := map[string]int{}
	for limit := 1; ; limit++ {
		f := &file{data: bytes.Clone(raw), limit: limit}
		err := s.Apply(t.Context(), f)
		seen[stampOf(t, f.data)]++
		if err == nil {
			break
		}
		require.ErrorIs(t, err, fs.ErrClosed)
	}
	require.Len(t, seen, 2)
	require.Positive(t, seen["metal"])
	require.Positive(t, seen["gcp"])

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Apply(ctx, f), context.Canceled)
	_, err := disk.Stamp(ctx, bytes.NewReader(raw), int64(len(raw)), "gcp", nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestStampRefused(t *testing.T) {
	raw := bootDisk(t, 512, rootType)
	edit := func(at int, b ...byte) []byte {
		raw := bytes.Clone(raw)
		copy(raw[at:], b)
		return raw
	}
	const super = 1<<20 + 1024
	for _, tc := range []struct {
		name, platform string
		raw            []byte
		opts           *disk.StampOptions
		want           error
		text           string
	}{
		{"platform", "asw", raw, nil, errors.ErrUnsupported, `platform "asw"; there are aliyun,`},
		{"no platform", "", raw, nil, errors.ErrUnsupported, "platform"},
		{"s390x", "qemu", raw, &disk.StampOptions{Arch: "s390x"}, errors.ErrUnsupported, "zipl"},
		{"argument", "qemu", raw, &disk.StampOptions{KernelArguments: []string{"a b"}}, fs.ErrInvalid, `"a b"`},
		{"argument of two lines", "qemu", raw, &disk.StampOptions{KernelArguments: []string{"a\ninitrd"}}, fs.ErrInvalid, "kernel argument"},
		{"no table", "qemu", make([]byte, 1<<20), nil, fs.ErrNotExist, "stamp qemu"},
		{"no file system", "qemu", newGPT(512, 1<<20, gptPart{64, 127, "boot"}), nil, fs.ErrNotExist, "no ext4"},
		{"journal", "qemu", edit(super+0x60, raw[super+0x60]|4), nil, errors.ErrUnsupported, "partition 1: ext4: was not unmounted cleanly"},
		{"encrypted", "qemu", edit(super+0x62, raw[super+0x62]|1), nil, errors.ErrUnsupported, "encrypt"},
		{"checksum", "qemu", edit(super+0x78, 'x'), nil, disk.ErrCorrupt, "superblock: checksum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := disk.Stamp(t.Context(), bytes.NewReader(tc.raw), int64(len(tc.raw)), tc.platform, tc.opts)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
			e, ok := errors.AsType[*disk.Error](err)
			require.True(t, ok)
			require.Equal(t, "stamp", e.Op)
		})
	}
	_, err := disk.PlatformOf(t.Context(), bytes.NewReader(make([]byte, 4096)), 4096)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// stamped makes a boot file system of files, stamps it and gives the files as
// debugfs has them; e2fsck finds nothing.
func stamped(t *testing.T, files map[string]string, platform string, opts *disk.StampOptions) (map[string]string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "boot")
	mke2fs(t, bootFolder(t, files), file, "8M")
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	s, err := disk.Stamp(t.Context(), f, 8<<20, platform, opts)
	if err != nil {
		return nil, err
	}
	require.NoError(t, s.Apply(t.Context(), f))
	for _, name := range s.Files {
		files[strings.Replace(strings.TrimPrefix(name, "/"), "loader/", "loader.1/", 1)] = "" // also those that are new
	}
	return filesOf(t, file, files), nil
}

// filesOf checks a file system, or the one in a disk if the name ends with
// ?offset=, and gives the files.
func filesOf(t *testing.T, file string, files map[string]string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := map[string]string{}
	for name := range files {
		out, err := exec.CommandContext(t.Context(), "debugfs", "-R", "cat /"+name, file).Output()
		require.NoError(t, err)
		got[name] = string(out)
	}
	return got
}

func TestStampFiles(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs")
	const entry = "loader.1/entries/ostree-1.conf"
	console := func(commands string) string { return strings.Replace(bootConsole, "\n\n", "\n"+commands, 1) }
	const serial = "serial --speed=115200\nterminal_input serial console\nterminal_output serial console\n"
	x86 := &disk.StampOptions{Arch: "x86_64"}
	for _, tc := range []struct {
		name     string
		files    map[string]string // beside and instead of those of CoreOS
		platform string
		opts     *disk.StampOptions
		want     map[string]string
		err      string
	}{
		{"metal to vmware", nil, "vmware", x86, map[string]string{
			entry:               strings.Replace(bootEntry, "id=metal", "id=vmware console=ttyS0,115200n8 console=tty0", 1),
			"grub2/console.cfg": console(serial),
		}, ""},
		{"platform without consoles", nil, "nutanix", x86, map[string]string{entry: strings.Replace(bootEntry, "id=metal", "id=nutanix", 1)}, ""},
		{"ppc64le", map[string]string{"grub2/console.cfg": "", "grub2/grub.cfg": ""}, "openstack", &disk.StampOptions{Arch: "ppc64le"}, map[string]string{
			entry: strings.Replace(bootEntry, "id=metal", "id=openstack console=hvc0 console=tty0", 1),
		}, ""},
		{"no platform yet", map[string]string{entry: "title x\noptions root=1\n"}, "azure", x86, map[string]string{
			entry: "title x\noptions root=1 ignition.platform.id=azure console=tty0 console=ttyS0,115200n8\n",
		}, ""},
		{"no options yet", map[string]string{entry: "title x"}, "nutanix", x86, map[string]string{entry: "title x\noptions ignition.platform.id=nutanix\n"}, ""},
		{"consoles of someone else stay", map[string]string{entry: "options console=tty0 ignition.platform.id=azure console=tty0 console=ttyS0,115200n8 debug\n"}, "nutanix", x86, map[string]string{
			entry: "options console=tty0 debug ignition.platform.id=nutanix\n",
		}, ""},
		{"several entries, tabs, several lines", map[string]string{
			entry:                            "options\ta  ignition.platform.id=metal b\r\noptions c ignition.platform.id=metal\n",
			"loader.1/entries/ostree-2.conf": "options x ignition.platform.id=qemu console=tty0 console=ttyS0,115200n8\n",
			"loader.1/entries/README":        "options ignition.platform.id=metal\n",
		}, "nutanix", x86, map[string]string{
			entry:                            "options\ta b ignition.platform.id=nutanix\r\noptions c\n",
			"loader.1/entries/ostree-2.conf": "options x ignition.platform.id=nutanix\n",
		}, ""},
		{"platform again, with consoles of someone else in another line", map[string]string{
			entry: "options a ignition.platform.id=aws console=tty0 console=ttyS0,115200n8\noptions console=tty0 b\n",
		}, "aws", x86, map[string]string{
			entry:               "options a ignition.platform.id=aws console=tty0 console=ttyS0,115200n8\noptions console=tty0 b\n",
			"grub2/console.cfg": console(serial),
		}, ""},
		{"all blanks of the kernel, and none of Unicode", map[string]string{
			entry: "options a\vignition.platform.id=metal\fb\noptions c\rignition.platform.id=qemu\u00a0d\u2003e\n",
		}, "nutanix", x86, map[string]string{entry: "options a\v\fb ignition.platform.id=nutanix\noptions c\r\n"}, ""},
		{"settings in grub.cfg", map[string]string{
			"grub2/console.cfg": "", "grub2/grub.cfg": "a\n# CONSOLE-SETTINGS-START\nold\n# CONSOLE-SETTINGS-END\nb\n",
		}, "gcp", x86, map[string]string{
			entry:            strings.Replace(bootEntry, "id=metal", "id=gcp console=tty0 console=ttyS0,115200n8", 1),
			"grub2/grub.cfg": "a\n# CONSOLE-SETTINGS-START\n" + serial + "# CONSOLE-SETTINGS-END\nb\n",
		}, ""},
		{"table of the disk", map[string]string{
			"coreos/platforms.json": `{"metal":{"kernel_arguments":["ostree=/ostree/boot.1/fedora-coreos/0f/0"]},"mycloud":{"kernel_arguments":["console=hvc7"],"grub_commands":["serial x"]}}`,
		}, "mycloud", nil, map[string]string{
			entry:               strings.Replace(bootEntry, "ostree=/ostree/boot.1/fedora-coreos/0f/0 ignition.platform.id=metal", "ignition.platform.id=mycloud console=hvc7", 1),
			"grub2/console.cfg": console("serial x\n"),
		}, ""},
		{"console.cfg that is not there yet", map[string]string{"grub2/console.cfg": ""}, "gcp", x86, map[string]string{
			entry:               strings.Replace(bootEntry, "id=metal", "id=gcp console=tty0 console=ttyS0,115200n8", 1),
			"grub2/console.cfg": console(serial),
		}, ""},
		{"console.cfg that is not needed", map[string]string{"grub2/console.cfg": ""}, "nutanix", x86, map[string]string{
			entry: strings.Replace(bootEntry, "id=metal", "id=nutanix", 1),
		}, ""},
		{"no place in GRUB's configuration", map[string]string{"grub2/console.cfg": "", "grub2/grub.cfg": "menu\n"}, "gcp", x86, nil, "no place"},
		{"no GRUB configuration", map[string]string{"grub2/console.cfg": "", "grub2/grub.cfg": "", "grub2/grubenv": "x"}, "gcp", x86, nil, "neither console.cfg nor grub.cfg"},
		{"bad table", map[string]string{"coreos/platforms.json": `{"metal":{"kernel_arguments":["a\nlinux /evil"]}}`}, "metal", x86, nil, "kernel argument"},
		{"bad name in table", map[string]string{"coreos/platforms.json": `{"a b":{}}`}, "metal", x86, nil, `platform "a b"`},
		{"table that is none", map[string]string{"coreos/platforms.json": `[]`}, "metal", x86, nil, "platforms.json"},
		{"entry is a folder", map[string]string{entry: "", entry + "/x": "x"}, "metal", x86, nil, "not a file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := coreosFiles()
			for name, content := range tc.files {
				files[name] = content
				if content == "" {
					delete(files, name)
				}
			}
			got, err := stamped(t, files, tc.platform, tc.opts)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			for name, content := range tc.want {
				files[name] = content
			}
			require.Equal(t, files, got)
		})
	}
}

// A disk as coreos-assembler lays it out, for both sector sizes, is stamped in
// place and as a layer over the disk.
func TestStampDisk(t *testing.T) {
	interop.Peer(t, "mke2fs", "e2fsck", "debugfs", "sgdisk", "truncate")
	const start, size = 129 << 20, 64 << 20
	for _, tc := range []struct {
		arch, root, console string
		grub                string
	}{
		{"x86_64", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", " console=tty0 console=ttyS0,115200n8", "serial --speed=115200\n"},
		{"aarch64", "B921B045-1DF0-41C3-AF44-4C6F280D3FAE", " console=ttyS0,115200n8", "serial --speed=115200 efi0\n"},
	} {
		t.Run(tc.arch, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk.raw")
			run := func(name string, args ...string) {
				out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
				require.NoError(t, err, "%s", out)
			}
			run("truncate", "-s", "320M", file)
			run("sgdisk", "-n1:1M:+1M", "-t1:21686148-6449-6E6F-744E-656564454649", "-c1:BIOS-BOOT", "-n2:2M:+127M", "-tef00", "-c2:EFI-SYSTEM",
				"-n3:129M:+64M", "-t3:BC13C2FF-59E6-4262-A352-B275FD6F7172", "-c3:boot", "-n4:193M:+64M", "-t4:"+tc.root, "-c4:root", file)
			mke2fs(t, bootFolder(t, coreosFiles()), file, "64M", "-E", fmt.Sprintf("offset=%d", start))
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()

			s, err := disk.Stamp(t.Context(), f, 320<<20, "aws", nil)
			require.NoError(t, err)
			require.Equal(t, tc.arch, s.Arch)
			part := filepath.Join(t.TempDir(), "part")
			p, err := os.Create(part)
			require.NoError(t, err)
			defer p.Close()
			_, err = io.Copy(p, io.NewSectionReader(s.Over(f), start, size))
			require.NoError(t, err)
			laid := filesOf(t, part, coreosFiles())

			require.NoError(t, s.Apply(t.Context(), f))
			got := filesOf(t, fmt.Sprintf("%s?offset=%d", file, start), coreosFiles())
			require.Equal(t, laid, got)
			require.Contains(t, got["loader.1/entries/ostree-1.conf"], "ignition.platform.id=aws"+tc.console+"\n")
			require.Contains(t, got["grub2/console.cfg"], tc.grub)

			// The platforms of the table, one after the other, on the same disk.
			for _, platform := range disk.Platforms() {
				s, err := disk.Stamp(t.Context(), f, 320<<20, platform, nil)
				require.NoError(t, err, platform)
				require.NoError(t, s.Apply(t.Context(), f), platform)
			}
			s, err = disk.Stamp(t.Context(), f, 320<<20, "metal", nil)
			require.NoError(t, err)
			require.NoError(t, s.Apply(t.Context(), f))
			got = filesOf(t, fmt.Sprintf("%s?offset=%d", file, start), coreosFiles())
			require.Equal(t, bootEntry, got["loader.1/entries/ostree-1.conf"])
		})
	}
}

func FuzzStamp(f *testing.F) {
	system := bootSystem(f)
	f.Add([]byte(bootEntry), []byte(bootConsole), "aws", uint32(0))
	f.Add([]byte("options a console=tty0\noptions console=tty0\vignition.platform.id=x\n"), []byte(bootConsole), "aws", uint32(0))
	f.Add([]byte("options\ta ignition.platform.id=\r\n"), []byte("# CONSOLE-SETTINGS-START\n# CONSOLE-SETTINGS-END\n"), "qemu", uint32(1<<8))
	f.Fuzz(func(t *testing.T, entry, config []byte, platform string, flip uint32) {
		raw := bytes.Clone(system)
		// The content of both files, where it is: no checksum covers it.
		for content, now := range map[string][]byte{bootEntry: entry, bootConsole: config} {
			at := bytes.Index(raw, []byte(content))
			copy(raw[at:at+len(content)], now)
		}
		if flip != 0 {
			raw[int(flip>>8)%len(raw)] ^= byte(flip)
		}
		size := int64(len(raw))
		opts := &disk.StampOptions{Arch: "x86_64"}
		var s *disk.Stamped
		var err error
		fuzzbound.Linear(t, len(raw), 16, func() { s, err = disk.Stamp(t.Context(), bytes.NewReader(raw), size, platform, opts) })
		if err != nil {
			return
		}
		stamped := over(t, s, raw)
		got, err := disk.PlatformOf(t.Context(), bytes.NewReader(stamped), size)
		require.NoError(t, err)
		require.Equal(t, platform, got)
		again, err := disk.Stamp(t.Context(), bytes.NewReader(stamped), size, platform, opts)
		require.NoError(t, err)
		require.Equal(t, s.KernelArguments, again.KernelArguments)
	})
}

func BenchmarkStamp(b *testing.B) {
	raw := bootDisk(b, 512, rootType)
	b.SetBytes(int64(len(bootEntry)))
	b.ReportAllocs()
	for b.Loop() {
		stamp(b, raw, "aws", nil)
	}
}
