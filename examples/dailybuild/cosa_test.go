package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/daily"
)

// cosaBuild is a folder as coreos-assembler works in, with one build in it.
type cosaBuild struct {
	folder, id string
	content    ostree.Checksum
	disks      map[string]string // content, by platform
}

// newCosaBuild makes the folder by a build of our own: it has the layout and an
// archive of the commit.
func newCosaBuild(t *testing.T) *cosaBuild {
	t.Helper()
	b := &cosaBuild{disks: map[string]string{
		"qemu": "a qcow2", "metal": "a raw disk", "live-iso": "an iso", "live-kernel": "a kernel", "live-initramfs": "an initramfs", "live-rootfs": "a squashfs",
	}}
	files := map[string]string{
		"qemu": "q.qcow2", "metal": "m.raw", "live-iso": "l.iso", "live-kernel": "x-live-kernel.x86_64", "live-initramfs": "i.img", "live-rootfs": "r.img",
	}
	state := t.TempDir()
	args := []string{"-state", state, "-source", "dir:" + smallSystem(t, 30), "-json", "-quiet"}
	for platform, content := range b.disks {
		path := filepath.Join(t.TempDir(), files[platform])
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		args = append(args, "-disk", platform+"="+path)
	}
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	s := decode(t, stdout)
	b.folder, b.id, b.content = filepath.Join(state, "store", "sample"), s.Build, s.Commit.Content
	return b
}

// path is that of a file in the folder of builds, of one in the build where the
// name begins with a slash.
func (b *cosaBuild) path(name string) string {
	if strings.HasPrefix(name, "/") {
		name = filepath.Join(b.id, "x86_64", name)
	}
	return filepath.Join(b.folder, "builds", name)
}

func (b *cosaBuild) change(t *testing.T, name string, change func([]byte) ([]byte, error)) {
	t.Helper()
	data, err := os.ReadFile(b.path(name))
	require.NoError(t, err)
	data, err = change(data)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.path(name), data, 0o600))
}

// meta edits the build's record.
func (b *cosaBuild) meta(t *testing.T, edit func(*bootimage.Meta)) {
	t.Helper()
	b.change(t, "/meta.json", func(data []byte) ([]byte, error) {
		d, err := bootimage.DecodeMeta(strings.NewReader(string(data)))
		require.NoError(t, err)
		require.NoError(t, d.Edit(func(m *bootimage.Meta) error { edit(m); return nil }))
		return d.Bytes(), nil
	})
}

// archive is the artifact with the commit.
func (b *cosaBuild) archive() string { return "/sample-" + b.id + "-ostree.x86_64.ociarchive" }

// requireRebuilt looks at a build whose source was the folder.
func (b *cosaBuild) requireRebuilt(t *testing.T, state string, s *daily.Summary) {
	t.Helper()
	require.Equal(t, b.content, s.Commit.Content)
	dir := filepath.Join(state, "store", filepath.FromSlash(s.Boot.Prefix))
	file, err := os.Open(filepath.Join(dir, "meta.json"))
	require.NoError(t, err)
	defer file.Close()
	meta, err := bootimage.DecodeMeta(file)
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateMeta(meta))
	images := meta.Value().Images
	require.Len(t, images, len(b.disks)+1)
	for platform, content := range b.disks {
		data, err := os.ReadFile(filepath.Join(dir, images[platform].Path))
		require.NoError(t, err, platform)
		require.Equal(t, content, string(data), platform)
	}
	require.Contains(t, images["qemu"].Path, "-qemu.x86_64.qcow2")
	require.True(t, strings.HasSuffix(images["live-kernel"].Path, "-live-kernel.x86_64"), images["live-kernel"].Path)
}

// TestCosaSource: a build of coreos-assembler's gives the commit and its disks.
func TestCosaSource(t *testing.T) {
	b := newCosaBuild(t)
	for _, source := range []string{b.folder, b.folder + "/builds", b.folder + "#" + b.id} {
		state := t.TempDir()
		code, stdout, stderr := call(t, "-state", state, "-source", "cosa:"+source, "-json", "-quiet")
		require.Zero(t, code, stderr)
		s := decode(t, stdout)
		b.requireRebuilt(t, state, s)

		code, stdout, stderr = call(t, "-state", state, "-source", "cosa:"+source, "-json", "-quiet")
		require.Zero(t, code, stderr)
		require.True(t, decode(t, stdout).Unchanged)
	}

	// What is not stamped stays so.
	b.meta(t, func(m *bootimage.Meta) {
		image := m.Images["metal"]
		image.Unstamped = true
		m.Images["metal"] = image
	})
	unstamped := t.TempDir()
	code, stdout, stderr := call(t, "-state", unstamped, "-source", "cosa:"+b.folder, "-json", "-quiet")
	require.Zero(t, code, stderr)
	data, err := os.ReadFile(filepath.Join(unstamped, "store", filepath.FromSlash(decode(t, stdout).Boot.Prefix), "meta.json"))
	require.NoError(t, err)
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	require.NoError(t, err)
	for name, image := range d.Value().Images {
		require.Equal(t, name == "metal", image.Unstamped, name)
	}

	// A disk that is named takes the place of the build's.
	other := filepath.Join(t.TempDir(), "other.qcow2")
	require.NoError(t, os.WriteFile(other, []byte("another qcow2"), 0o600))
	b.disks["qemu"] = "another qcow2"
	state := t.TempDir()
	code, stdout, stderr = call(t, "-state", state, "-source", "cosa:"+b.folder, "-disk", "qemu="+other, "-json", "-quiet")
	require.Zero(t, code, stderr)
	b.requireRebuilt(t, state, decode(t, stdout))

	// A plan opens nothing, and does not ask for the disks.
	required := sampleWith(t, "artifacts:\n", "artifacts:\n  - {platform: qemu, format: qcow2, required: true}\n")
	code, stdout, stderr = call(t, "-state", state+"/none", "-stream", required, "-source", "cosa:"+b.folder+"/none", "-plan")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "read cosa:")
	code, _, stderr = call(t, "-state", t.TempDir(), "-stream", required, "-source", "cosa:"+b.folder, "-quiet")
	require.Zero(t, code, stderr)
}

// TestCosaSourceOfOldFolders: builds of before 2021 have a tar of a repository,
// and of those that were cleaned up only the repository is left.
func TestCosaSourceOfOldFolders(t *testing.T) {
	b := newCosaBuild(t)
	repo := filepath.Join(b.folder, "tmp", "repo")
	require.NoError(t, os.MkdirAll(filepath.Dir(repo), 0o755))
	work, err := ostree.Init(t.Context(), repo, ostree.ModeArchive, nil)
	require.NoError(t, err)
	mine, err := ostree.Open(t.Context(), filepath.Join(b.folder, "..", "..", "repo"), nil)
	require.NoError(t, err)
	commit, err := mine.Resolve(t.Context(), "sample/x86_64/sample")
	require.NoError(t, err)
	copied, err := work.Commit(t.Context(), mine.Tree(commit), &ostree.CommitOptions{Ref: "old", Timestamp: time.Unix(1, 0)})
	require.NoError(t, err)
	require.NoError(t, mine.Close())
	require.NoError(t, work.Close())

	packed := "/sample-" + b.id + "-ostree.x86_64.tar"
	out, err := exec.CommandContext(t.Context(), "tar", "-C", repo, "-cf", b.path(packed), ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	data, err := os.ReadFile(b.path(packed))
	require.NoError(t, err)
	b.meta(t, func(m *bootimage.Meta) {
		m.OSTreeCommit = copied.String()
		m.Images["ostree"] = bootimage.Image{Path: filepath.Base(packed), SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Size: int64(len(data))}
	})
	require.NoError(t, os.Remove(b.path(b.archive())))
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	rebuild := func() {
		state := t.TempDir()
		code, stdout, stderr := call(t, "-state", state, "-source", "cosa:"+b.folder, "-json", "-quiet")
		require.Zero(t, code, stderr)
		b.requireRebuilt(t, state, decode(t, stdout))
		left, err := filepath.Glob(filepath.Join(scratch, "okd-streams-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
	rebuild()

	require.NoError(t, os.Remove(b.path(packed)))
	kept := []string{"qemu", "metal", "live-iso", "live-kernel", "live-initramfs", "live-rootfs"}
	b.change(t, "builds.json", bootimage.CleanBuild(b.id, bootimage.Cleanup{Images: true, ImagesKept: kept}, time.Unix(1, 0)))
	rebuild()

	require.NoError(t, os.RemoveAll(repo))
	code, _, stderr := call(t, "-state", t.TempDir(), "-source", "cosa:"+b.folder, "-quiet")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, `no artifact "ostree" that is still there, and there is no `+repo)
}

func TestCosaSourceFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*cosaBuild)
		args   []string // more of them
		build  string   // asked for
		want   []string
	}{
		{name: "no folder", change: func(b *cosaBuild) { b.folder += "/none" }, want: []string{"none/builds", "no such file"}},
		{name: "no catalogue", change: func(b *cosaBuild) { require.NoError(t, os.Remove(b.path("builds.json"))) }, want: []string{"builds.json"}},
		{name: "missing archive", change: func(b *cosaBuild) { require.NoError(t, os.Remove(b.path(b.archive()))) }, want: []string{"artifact ostree", "ociarchive", "no such file"}},
		{name: "archive of another checksum", change: func(b *cosaBuild) {
			b.change(t, b.archive(), func(data []byte) ([]byte, error) { data[len(data)-1] = 1; return data, nil })
		}, want: []string{"ociarchive has SHA-256", "the record says"}},
		{name: "archive of another size", change: func(b *cosaBuild) {
			b.change(t, b.archive(), func(data []byte) ([]byte, error) { return append(data, 0), nil })
		}, want: []string{"ociarchive has", "the record says"}},
		{name: "archive that is none", change: func(b *cosaBuild) {
			text := strings.Repeat("this is no archive\n", 100)
			b.change(t, b.archive(), func([]byte) ([]byte, error) { return []byte(text), nil })
			b.meta(t, func(m *bootimage.Meta) {
				image := m.Images["ostree"]
				image.SHA256, image.Size = fmt.Sprintf("%x", sha256.Sum256([]byte(text))), int64(len(text))
				m.Images["ostree"] = image
			})
		}, want: []string{"ociarchive: ", "archive/tar"}},
		{name: "archive without image", change: func(b *cosaBuild) {
			empty := archive(t, tar.Header{Name: "oci-layout"})
			b.change(t, b.archive(), func([]byte) ([]byte, error) { return empty, nil })
			b.meta(t, func(m *bootimage.Meta) {
				image := m.Images["ostree"]
				image.SHA256, image.Size = fmt.Sprintf("%x", sha256.Sum256(empty)), int64(len(empty))
				m.Images["ostree"] = image
			})
		}, want: []string{"index.json", "does not exist"}},
		{name: "another commit", change: func(b *cosaBuild) {
			b.meta(t, func(m *bootimage.Meta) { m.OSTreeCommit = strings.Repeat("ab", 32) })
		}, want: []string{"carries commit", strings.Repeat("ab", 32)}},
		{name: "disk of another checksum", change: func(b *cosaBuild) {
			b.meta(t, func(m *bootimage.Meta) {
				image := m.Images["qemu"]
				image.SHA256 = strings.Repeat("ab", 32)
				m.Images["qemu"] = image
			})
		}, want: []string{"disk ", "qcow2 has SHA-256", strings.Repeat("ab", 32)}},
		{name: "missing disk", change: func(b *cosaBuild) {
			require.NoError(t, os.Remove(b.path("/sample-"+b.id+"-qemu.x86_64.qcow2")))
		}, want: []string{"artifact qemu", "no such file"}},
		{name: "no build for the architecture", change: func(*cosaBuild) {}, args: []string{"-stream", sampleWith(t, "[x86_64]", "[x86_64, aarch64]"), "-arch", "aarch64"}, want: []string{"no build for aarch64"}},
		{name: "no such build", change: func(*cosaBuild) {}, build: "#41.20200101.3.0", want: []string{`build "41.20200101.3.0"`}},
		{name: "tombstone", change: func(b *cosaBuild) {
			b.change(t, "builds.json", bootimage.DeleteBuild(b.id, time.Unix(1, 0)))
		}, build: "#ID", want: []string{"was deleted"}},
		{name: "only tombstones", change: func(b *cosaBuild) {
			b.change(t, "builds.json", bootimage.DeleteBuild(b.id, time.Unix(1, 0)))
		}, want: []string{"no build for x86_64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newCosaBuild(t)
			tt.change(b)
			state := t.TempDir()
			source := "cosa:" + b.folder + strings.Replace(tt.build, "ID", b.id, 1)
			code, stdout, stderr := call(t, append([]string{"-state", state, "-source", source, "-quiet"}, tt.args...)...)
			require.Equal(t, 1, code, stderr)
			require.Empty(t, stdout)
			for _, want := range tt.want {
				require.Contains(t, stderr, want)
			}
			requireNothingPublished(t, state)
			_, err := os.Stat(filepath.Join(state, "store", "streams"))
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}
