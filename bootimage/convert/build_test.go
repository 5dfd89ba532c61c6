package convert_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/convert"
	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

const (
	id       = "9.0.20261127-0"
	diskSize = 12<<20 + 512<<10
)

// bootDisk is a disk that is the boot file system of the tests of bootimage/disk, with
// more behind it and holes between.
func bootDisk(t testing.TB) []byte {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "disk", "testdata", "boot.gz"))
	require.NoError(t, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	require.NoError(t, err)
	system, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	raw := make([]byte, diskSize)
	copy(raw, system)
	noise(raw[3<<20:][:1<<20])
	noise(raw[diskSize-512:])
	return raw
}

// blankDisk has no boot file system.
func blankDisk() []byte {
	raw := make([]byte, diskSize)
	noise(raw[5<<20:][:1<<20])
	return raw
}

// noise does not compress.
func noise(p []byte) {
	for i := 0; i < len(p); i += sha256.Size {
		sum := sha256.Sum256(fmt.Append(nil, i))
		copy(p[i:], sum[:])
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// newBuild makes the folder of a build with a raw disk, with holes where it is zero.
func newBuild(t testing.TB, raw []byte, edit func(*bootimage.Meta)) (dir string, root *os.Root) {
	t.Helper()
	m := bootimage.Meta{
		BuildID: id, Name: "scos", Summary: "CentOS Stream CoreOS", OSTreeCommit: sum(nil), OSTreeTimestamp: time.Unix(1764000000, 0).UTC(), OSTreeVersion: id, Arch: "x86_64", MetaStamp: "1",
		Images: map[string]bootimage.Image{
			"metal":  {Path: "scos-" + id + "-metal.x86_64.raw", SHA256: sum(raw), Size: int64(len(raw))},
			"ostree": {Path: "scos-" + id + "-ostree.x86_64.ociarchive", SHA256: sum([]byte("archive")), Size: 7, SkipCompression: true},
		},
	}
	if edit != nil {
		edit(&m)
	}
	dir = t.TempDir()
	for _, image := range m.Images {
		if filepath.Ext(image.Path) != ".raw" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, image.Path), []byte("archive"), 0o444))
			continue
		}
		file, err := os.Create(filepath.Join(dir, image.Path))
		require.NoError(t, err)
		for at := 0; at < len(raw); at += 4096 {
			block := raw[at:min(at+4096, len(raw))]
			if len(bytes.Trim(block, "\x00")) > 0 {
				_, err = file.WriteAt(block, int64(at))
				require.NoError(t, err)
			}
		}
		require.NoError(t, errors.Join(file.Truncate(int64(len(raw))), file.Close()))
	}
	d, err := bootimage.NewDocument(m)
	require.NoError(t, err)
	require.NoError(t, d.Override([]byte(`{"pkgdiff": [1.50]}`)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
	root, err = os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return dir, root
}

func readMeta(t testing.TB, dir string) *bootimage.Document[bootimage.Meta] {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, bootimage.MetaFile))
	require.NoError(t, err)
	defer file.Close()
	d, err := bootimage.DecodeMeta(file)
	require.NoError(t, err)
	return d
}

// filesIn gives the SHA-256 of the files in a folder, but of coreos-assembler's lock.
func filesIn(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		files[e.Name()] = sum(data)
	}
	delete(files, ".meta.json.lock")
	return files
}

// made is what Build makes: all platforms but metal, which is there.
func made() []string {
	return slices.DeleteFunc(disk.Platforms(), func(name string) bool { return name == "metal" || name == "nvidiabluefield" })
}

var extensions = map[string]string{
	"applehv": "raw", "hetzner": "raw", "vultr": "raw", "aws": "vmdk", "azure": "vhd", "azurestack": "vhd", "gcp": "tar.gz",
	"hyperv": "vhdx", "kubevirt": "ociarchive", "powervs": "ova", "virtualbox": "ova", "vmware": "ova",
}

// TestBuild makes the artifacts of all platforms, each stamped for its own.
func TestBuild(t *testing.T) {
	raw := bootDisk(t)
	dir, root := newBuild(t, raw, nil)
	before := readMeta(t, dir).Value().Images
	var last, shown int64
	now := time.Unix(1764200000, 5)
	got, err := convert.Build(t.Context(), root, made(), &convert.Options{Now: now, Progress: func(artifact string, done, total int64) {
		require.Empty(t, artifact)
		require.Equal(t, int64(diskSize), total)
		require.GreaterOrEqual(t, done, last)
		last, shown = done, shown+1
	}})
	require.NoError(t, err)
	require.Equal(t, int64(diskSize), last)
	require.Greater(t, shown, int64(1))
	require.Len(t, got, len(made()))
	d := readMeta(t, dir)
	require.Contains(t, string(d.Bytes()), "1.50", "what others wrote stays")
	require.Equal(t, fmt.Sprint(now.UnixNano()), d.Value().MetaStamp.String())
	files := filesIn(t, dir)
	require.Len(t, files, len(got)+3, "nothing else is left")
	for i, m := range got {
		require.Equal(t, made()[i], m.Platform)
		require.Empty(t, m.Why)
		require.Equal(t, d.Value().Images[m.Platform], m.Image)
		extension := extensions[m.Platform]
		if extension == "" {
			extension = "qcow2"
		}
		require.Equal(t, "scos-"+id+"-"+m.Platform+".x86_64."+extension, m.Image.Path)
		info, err := os.Stat(filepath.Join(dir, m.Image.Path))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o444), info.Mode())
		packed := slices.Contains([]string{"gcp", "kubevirt", "nutanix", "virtualbox", "vmware"}, m.Platform)
		require.Equal(t, bootimage.Image{Path: m.Image.Path, SHA256: files[m.Image.Path], Size: info.Size(), SkipCompression: packed}, m.Image)
		switch extension {
		case "raw", "qcow2", "vmdk", "vhd", "vhdx":
			size := int64(diskSize)
			if extension == "vhd" {
				size = 13 << 20 // Azure takes whole MiB
			}
			require.Equal(t, overFor(t, raw, m.Platform, size), contentOf(t, filepath.Join(dir, m.Image.Path)), m.Platform)
		case "tar.gz":
			file, err := os.Open(filepath.Join(dir, m.Image.Path))
			require.NoError(t, err)
			unpacked, err := gzip.NewReader(file)
			require.NoError(t, err)
			head := make([]byte, 512)
			_, err = io.ReadFull(unpacked, head)
			require.NoError(t, err)
			require.Equal(t, "00010000000000", "000"+strings.TrimRight(string(head[483:494]), "\x00"), "Google takes whole GiB")
			require.NoError(t, file.Close())
		}
	}
	for name, image := range before {
		require.Equal(t, image, d.Value().Images[name])
	}

	// Again there is nothing to do.
	again, err := convert.Build(t.Context(), root, made(), &convert.Options{Now: now.Add(time.Hour), Progress: func(string, int64, int64) { t.Error("it was read") }})
	require.NoError(t, err)
	require.Empty(t, again)
	require.Equal(t, files, filesIn(t, dir))

	// Where one is missing, one is made.
	next, err := convert.Build(t.Context(), root, []string{"aws", "metal", "aws"}, nil)
	require.NoError(t, err)
	require.Empty(t, next)
}

// overFor is the disk stamped for a platform, grown to a size.
func overFor(t testing.TB, raw []byte, platform string, size int64) []byte {
	t.Helper()
	s, err := disk.Stamp(t.Context(), bytes.NewReader(raw), int64(len(raw)), platform, &disk.StampOptions{Arch: "x86_64"})
	require.NoError(t, err)
	data, err := io.ReadAll(io.NewSectionReader(s.Over(bytes.NewReader(raw)), 0, int64(len(raw))))
	require.NoError(t, err)
	return append(data, make([]byte, size-int64(len(raw)))...)
}

// contentOf is the disk in an image.
func contentOf(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	image, err := disk.Open(t.Context(), file, info.Size(), &disk.OpenOptions{Format: disk.Format(strings.TrimPrefix(filepath.Ext(path), "."))})
	require.NoError(t, err)
	data, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	require.NoError(t, err)
	return data
}

// TestBuildReadsOnce counts the bytes that are read: of the source once, whatever the number
// of platforms, and of results that are hashed as they are written nothing.
func TestBuildReadsOnce(t *testing.T) {
	counted := func() (n int64) {
		text, err := os.ReadFile("/proc/self/io")
		if err != nil {
			return 0 // not Linux
		}
		_, err = fmt.Sscanf(string(text), "rchar: %d", &n)
		require.NoError(t, err)
		return n
	}
	raw := bootDisk(t)
	noise(raw[4<<20:])
	const used = diskSize - 2<<20 // in whole MiB; the rest is a hole
	for _, platforms := range [][]string{{"hetzner"}, {"hetzner", "applehv", "vultr", "azure", "azurestack", "aws"}} {
		_, root := newBuild(t, raw, nil)
		before := counted()
		_, err := convert.Build(t.Context(), root, platforms, nil)
		require.NoError(t, err)
		if before == 0 {
			continue
		}
		got := counted() - before
		require.Greater(t, got, int64(used))
		require.Less(t, got, int64(used+700<<10), "%d platforms", len(platforms))
	}
}

// TestBuildUnstamped: a disk without boot entries becomes artifacts that say so, also in what
// is made of the record, and when they are compressed.
func TestBuildUnstamped(t *testing.T) {
	raw := blankDisk()
	dir, root := newBuild(t, raw, nil)
	got, err := convert.Build(t.Context(), root, []string{"qemu", "aws"}, &convert.Options{Compress: &bootimage.CompressOptions{}})
	require.NoError(t, err)
	require.Len(t, got, 2)
	d := readMeta(t, dir)
	for _, m := range got {
		require.Contains(t, m.Why, "stamp "+m.Platform+": no partition table and no ext4 file system")
		require.True(t, m.Image.Unstamped)
		require.Equal(t, m.Image, d.Value().Images[m.Platform])
		require.Equal(t, ".gz", filepath.Ext(m.Image.Path))
	}
	require.False(t, d.Value().Images["metal"].Unstamped)
	require.Equal(t, 2, strings.Count(string(d.Bytes()), `"unstamped": true`))
	require.NoError(t, bootimage.ValidateMeta(d), "coreos-assembler's schema takes it")

	release, err := bootimage.ReleaseFor([]bootimage.Meta{*d.Value()}, &bootimage.ReleaseOptions{Stream: "next", BaseURL: "https://example.com/builds"})
	require.NoError(t, err)
	media := release.Value().Architectures["x86_64"].Media
	require.Equal(t, got[0].Image.SHA256, media.Aws.Artifacts["vmdk.gz"].Disk.Sha256)
	require.Equal(t, got[1].Image.UncompressedSHA256, media.Qemu.Artifacts["qcow2.gz"].Disk.UncompressedSha256)
	metadata, err := bootimage.StreamFor(release.Value(), &bootimage.StreamOptions{LastModified: time.Unix(1764200000, 0)})
	require.NoError(t, err)
	require.Equal(t, got[1].Image.SHA256, metadata.Value().Architectures["x86_64"].Artifacts["qemu"].Formats["qcow2.gz"].Disk.Sha256)

	// zipl's copy of the boot entry is nothing that is stamped here.
	_, root = newBuild(t, bootDisk(t), func(m *bootimage.Meta) { m.Arch = "s390x" })
	got, err = convert.Build(t.Context(), root, []string{"ibmcloud"}, nil)
	require.NoError(t, err)
	require.Contains(t, got[0].Why, "zipl")
	require.True(t, got[0].Image.Unstamped)
}

// TestBuildCompresses: both sides are recorded, and what is compressed already stays.
func TestBuildCompresses(t *testing.T) {
	raw := bootDisk(t)
	plainDir, plain := newBuild(t, raw, nil)
	platforms := []string{"qemu", "gcp", "nutanix", "powervs", "hyperv"}
	_, err := convert.Build(t.Context(), plain, platforms, nil)
	require.NoError(t, err)
	want := readMeta(t, plainDir).Value().Images

	dir, root := newBuild(t, raw, nil)
	opts := &convert.Options{Compress: &bootimage.CompressOptions{Compressor: bootimage.CompressZstd}}
	_, err = convert.Build(t.Context(), root, []string{"qemu"}, nil)
	require.NoError(t, err, "of a run that was stopped before it compressed")
	got, err := convert.Build(t.Context(), root, platforms, opts)
	require.NoError(t, err)
	require.Len(t, got, len(platforms))
	files := filesIn(t, dir)
	require.Len(t, files, len(platforms)+3)
	for _, m := range got {
		was := want[m.Platform]
		require.Equal(t, files[m.Image.Path], m.Image.SHA256)
		require.Equal(t, readMeta(t, dir).Value().Images[m.Platform], m.Image)
		if was.SkipCompression {
			require.Equal(t, was, m.Image)
			continue
		}
		extension := ".zst"
		if m.Platform == "powervs" {
			extension = ".gz"
		}
		require.Equal(t, was.Path+extension, m.Image.Path)
		require.Equal(t, was.SHA256, m.Image.UncompressedSHA256)
		require.Equal(t, was.Size, m.Image.UncompressedSize)
	}
	require.Equal(t, readMeta(t, plainDir).Value().Images["metal"], readMeta(t, dir).Value().Images["metal"], "of which nobody spoke")
	again, err := convert.Build(t.Context(), root, platforms, opts)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Equal(t, files, filesIn(t, dir))
	require.NoError(t, bootimage.ValidateMeta(readMeta(t, dir)), "coreos-assembler's schema takes it")
}

// TestBuildOptions: another source, a larger disk, a descriptor.
func TestBuildOptions(t *testing.T) {
	raw := bootDisk(t)
	dir, root := newBuild(t, raw, func(m *bootimage.Meta) {
		m.Images["own"] = bootimage.Image{Path: "own.raw", SHA256: sum(raw), Size: int64(len(raw))}
		delete(m.Images, "metal")
	})
	_, err := convert.Build(t.Context(), root, []string{"hetzner"}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = convert.Build(t.Context(), root, []string{"hetzner", "powervs"}, &convert.Options{From: "own", Sizes: map[string]int64{"hetzner": 20 << 20}, Workers: 1})
	require.NoError(t, err)
	require.Equal(t, overFor(t, raw, "hetzner", 20<<20), contentOf(t, filepath.Join(dir, "scos-"+id+"-hetzner.x86_64.raw")))
	ova, err := os.ReadFile(filepath.Join(dir, "scos-"+id+"-powervs.x86_64.ova"))
	require.NoError(t, err)
	require.Contains(t, string(ova[:4096]), "<ovf:Description>CentOS Stream CoreOS</ovf:Description>")
	require.Contains(t, string(ova[:8192]), "scos-"+id+"-disk.raw")
	_, err = convert.Build(t.Context(), root, []string{"vmware"}, &convert.Options{From: "own", OVF: &disk.OVF{Name: "another name"}})
	require.NoError(t, err)
	ova, err = os.ReadFile(filepath.Join(dir, "scos-"+id+"-vmware.x86_64.ova"))
	require.NoError(t, err)
	require.Contains(t, string(ova[:8192]), "<Name>another name</Name>")
}

// TestBuildRefuses: nothing is recorded, and nothing has a final name.
func TestBuildRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		platform string
		edit     func(*bootimage.Meta)
		damage   func(t *testing.T, path string)
		opts     *convert.Options
		want     error
		text     string
	}{
		"other bytes": {damage: func(t *testing.T, path string) { write(t, path, 7<<20, "x") }, want: bootimage.ErrVerification, text: "recorded is"},
		"other size":  {damage: func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, diskSize+512)) }, want: bootimage.ErrVerification, text: "recorded are"},
		"no file":     {damage: func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, want: fs.ErrNotExist},
		"a link": {damage: func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+".moved"))
			require.NoError(t, os.Symlink(filepath.Base(path)+".moved", path))
		}, want: fs.ErrInvalid, text: "no regular file"},
		"compressed": {edit: func(m *bootimage.Meta) {
			m.Images["metal"] = bootimage.Image{Path: "m.raw.gz", SHA256: sum(nil), UncompressedSHA256: sum(nil)}
		}, want: fs.ErrNotExist, text: "uncompress it first"},
		"no raw disk": {edit: func(m *bootimage.Meta) {
			m.Images["metal"] = bootimage.Image{Path: "m.qcow2", SHA256: sum([]byte("archive"))}
		}, want: fs.ErrNotExist, text: "no artifact metal or qemu with a raw disk"},
		"no such artifact": {opts: &convert.Options{From: "own"}, want: fs.ErrNotExist, text: "no artifact own"},
		"no architecture":  {edit: func(m *bootimage.Meta) { m.Arch = "" }, want: fs.ErrInvalid, text: "names no architecture"},
		"misspelled":       {platform: "asw", want: errors.ErrUnsupported, text: "there are aliyun"},
		"misspelled, no boot entry": {platform: "asw", damage: func(t *testing.T, path string) { write(t, path, 1024+0x38, "\x00\x00") },
			want: errors.ErrUnsupported, text: "there are aliyun"},
		"not made": {platform: "nvidiabluefield", want: errors.ErrUnsupported, text: "mkbfb"},
		"metal4k":  {platform: "metal4k", want: errors.ErrUnsupported, text: "sectors of 512 bytes"},
		"unclean":  {damage: func(t *testing.T, path string) { write(t, path, 1024+0x60, "\xff") }, text: "stamp aws"},
		"shrunk":   {opts: &convert.Options{Sizes: map[string]int64{"aws": 1 << 20}}, want: fs.ErrInvalid, text: "less than the source's"},
		"taken": {edit: func(m *bootimage.Meta) {
			m.Images["own"] = bootimage.Image{Path: "scos-" + id + "-aws.x86_64.vmdk", SHA256: sum([]byte("archive"))}
		}, want: fs.ErrExist, text: "is the file of artifact own"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newBuild(t, bootDisk(t), test.edit)
			if test.damage != nil {
				test.damage(t, filepath.Join(dir, "scos-"+id+"-metal.x86_64.raw"))
			}
			if test.platform == "" {
				test.platform = "aws"
			}
			before := filesIn(t, dir)
			got, err := convert.Build(t.Context(), root, []string{test.platform, "hetzner"}, test.opts)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			require.ErrorContains(t, err, test.text)
			require.Empty(t, got)
			require.Equal(t, before, filesIn(t, dir))
		})
	}
}

func write(t testing.TB, path string, at int64, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte(text), at)
	require.NoError(t, errors.Join(err, file.Close()))
}

// TestBuildTwoWriters: two conversions and one that compresses at a time lose nothing.
func TestBuildTwoWriters(t *testing.T) {
	raw := bootDisk(t)
	dir, root := newBuild(t, raw, func(m *bootimage.Meta) {
		m.Images["openstack"] = bootimage.Image{Path: "o.qcow2", SHA256: sum([]byte("archive")), Size: 7}
	})
	var wg sync.WaitGroup
	var count [3]int
	for i, platforms := range [][]string{{"aws", "qemu"}, {"qemu", "hetzner"}} {
		wg.Go(func() {
			got, err := convert.Build(t.Context(), root, platforms, nil)
			if err != nil {
				t.Error(err)
			}
			count[i] = len(got)
		})
	}
	wg.Go(func() {
		got, err := bootimage.CompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Artifacts: []string{"openstack"}})
		if err != nil {
			t.Error(err)
		}
		count[2] = len(got)
	})
	wg.Wait()
	require.Equal(t, 3, count[0]+count[1])
	require.Equal(t, 1, count[2])
	images := readMeta(t, dir).Value().Images
	require.Equal(t, []string{"aws", "hetzner", "metal", "openstack", "ostree", "qemu"}, slices.Sorted(maps.Keys(images)))
	files := filesIn(t, dir)
	for _, image := range images {
		require.Equal(t, image.SHA256, files[image.Path])
	}
}

func TestBuildCancelled(t *testing.T) {
	dir, root := newBuild(t, bootDisk(t), nil)
	before := filesIn(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := convert.Build(ctx, root, made(), &convert.Options{Progress: func(string, int64, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, filesIn(t, dir))
}

const killedVariable = "OKD_STREAMS_TEST_CONVERT"

// TestBuildKilled kills a process in the midst: nothing has a final name or is recorded, and
// the next run makes all.
func TestBuildKilled(t *testing.T) {
	if dir := os.Getenv(killedVariable); dir != "" { // the process
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		_, err = convert.Build(t.Context(), root, made(), &convert.Options{Progress: func(_ string, done, _ int64) {
			if done > 3<<20 {
				fmt.Println("reached")
				select {}
			}
		}})
		require.NoError(t, err)
		return
	}
	dir, root := newBuild(t, bootDisk(t), nil)
	before := filesIn(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBuildKilled$")
	cmd.Env = append(os.Environ(), killedVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 7)
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	require.Equal(t, "reached", string(line))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	left := filesIn(t, dir)
	parts := 0
	for name := range left {
		if strings.HasPrefix(name, ".scos-") {
			delete(left, name)
			parts++
		}
	}
	require.GreaterOrEqual(t, parts, len(made()))
	require.Equal(t, before, left)

	got, err := convert.Build(t.Context(), root, made(), nil)
	require.NoError(t, err)
	require.Len(t, got, len(made()))
	require.Len(t, filesIn(t, dir), len(made())+3)
}

// TestBuildInterop has QEMU check every result, and compare it with the stamped disk, or
// with the source where it is not stamped.
func TestBuildInterop(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar")
	tool := func(t *testing.T, dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
	}
	for name, raw := range map[string][]byte{"stamped": bootDisk(t), "unstamped": blankDisk()} {
		t.Run(name, func(t *testing.T) {
			dir, root := newBuild(t, raw, nil)
			got, err := convert.Build(t.Context(), root, made(), nil)
			require.NoError(t, err)
			for _, m := range got {
				require.Equal(t, name == "unstamped", m.Image.Unstamped)
				want, into := filepath.Join(t.TempDir(), "want.raw"), t.TempDir()
				data := raw
				if !m.Image.Unstamped {
					data = overFor(t, raw, m.Platform, diskSize)
				}
				require.NoError(t, os.WriteFile(want, data, 0o600))
				path, format := filepath.Join(dir, m.Image.Path), strings.TrimPrefix(filepath.Ext(m.Image.Path), ".")
				switch m.Platform {
				case "vmware", "virtualbox":
					tool(t, into, "tar", "xf", path)
					path, format = filepath.Join(into, "disk.vmdk"), "vmdk"
				case "powervs":
					tool(t, into, "tar", "xf", path)
					path, format = filepath.Join(into, "scos-"+id+"-disk.raw"), "raw"
				case "gcp":
					tool(t, into, "tar", "xzf", path)
					path, format = filepath.Join(into, "disk.raw"), "raw"
				case "kubevirt":
					tool(t, into, "tar", "xf", path)
					layers, err := filepath.Glob(filepath.Join(into, "blobs", "sha256", "*"))
					require.NoError(t, err)
					largest := slices.MaxFunc(layers, func(a, b string) int { return int(sizeOf(t, a) - sizeOf(t, b)) })
					tool(t, into, "tar", "xzf", largest)
					path, format = filepath.Join(into, "disk", m.Image.Path), "qcow2"
					path = strings.TrimSuffix(path, "ociarchive") + "qcow2"
				}
				if format == "vhd" {
					format = "vpc"
				}
				if format == "qcow2" || format == "vmdk" || format == "vhdx" {
					tool(t, dir, "qemu-img", "check", "-f", format, path)
				}
				if m.Platform == "gcp" || format == "vpc" { // whole GiB and MiB, of zeros
					require.NoError(t, os.Truncate(want, map[string]int64{"gcp": 1 << 30, "azure": 13 << 20, "azurestack": 13 << 20}[m.Platform]))
				}
				tool(t, dir, "qemu-img", "compare", "-f", "raw", "-F", format, want, path)
			}
		})
	}
}

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}
