package bootimage_test

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// shipped is a stream with its files as a server has them, and who reads it.
type shipped struct {
	files  sync.Map // []byte by path; the server reads while tests change
	url    string
	stream *bootimage.Document[streammd.Stream]
	raw    []byte // the disk in the artifacts of metal
	public string // file of the key
	gpg    string // folder of a gpg that trusts the key
}

// gpgKey makes a key with gpg and gives its secret part and a file of its public
// part.
func gpgKey(t *testing.T) (secret []byte, public string) {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // a short name, for its socket
	require.NoError(t, err)
	gpg := func(args ...string) []byte {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", ""}, args...)...)
		var diag bytes.Buffer
		cmd.Stderr = &diag
		out, err := cmd.Output()
		require.NoError(t, err, "%s", diag.String())
		return out
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // it may have ended already
		_ = os.RemoveAll(home)
	})
	gpg("--quick-generate-key", "boot images <images@example.org>", "ed25519", "sign", "0")
	public = filepath.Join(t.TempDir(), "public.asc")
	require.NoError(t, os.WriteFile(public, gpg("--armor", "--export"), 0o600))
	return gpg("--pinentry-mode", "loopback", "--armor", "--export-secret-keys"), public
}

// ship makes a build of two architectures, its release and its stream,
// measured and signed by this package and pgpsigner, and serves them.
func ship(t *testing.T) *shipped {
	t.Helper()
	const id, name = "43.20261101.3.0", "fedora-coreos"
	secret, public := gpgKey(t)
	signer, err := pgpsigner.ParseSigner(secret, time.Now, nil)
	require.NoError(t, err)
	p := &shipped{public: public, gpg: interop.TrustingGPG(t, public), raw: append(noise(1<<20), make([]byte, 1<<20)...)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data := p.file(r.URL.Path)
		if data == nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	p.url = server.URL

	raws := make(map[string][]byte)
	for compressor, extension := range compressors {
		raws[extension], _ = compressed(t, p.raw, &bootimage.CompressOptions{Compressor: compressor})
	}
	const least = 1 << 20 // coreos-installer holds the first MiB back until the signature is good, and so wants one
	var metas []bootimage.Meta
	for _, arch := range []string{"x86_64", "aarch64"} {
		meta := bootimage.Meta{
			BuildID: id, Name: name, Arch: arch, Images: map[string]bootimage.Image{},
			OSTreeCommit: strings.Repeat("ab", 32), OSTreeTimestamp: time.Unix(0, 0).UTC(), OSTreeVersion: id,
		}
		for artifact, file := range map[string]struct {
			ext  string
			data []byte
		}{
			"metal":          {"raw.xz", raws["xz"]},
			"metal4k":        {"raw.gz", raws["gz"]},
			"qemu":           {"qcow2", convert(t, p.raw)},
			"openstack":      {"raw.zst", raws["zst"]},
			"live-iso":       {"iso", noise(least + 3)},
			"live-kernel":    {"", noise(least + 2)},
			"live-initramfs": {"img", noise(least + 1)},
			"live-rootfs":    {"img", noise(least)},
		} {
			measured, err := bootimage.Measure(t.Context(), bytes.NewReader(file.data), nil)
			require.NoError(t, err)
			base := bootimage.ArtifactPath(name, id, artifact, arch, file.ext)
			meta.Images[artifact] = measured.Image(base)
			sig, err := signer.Sign(t.Context(), bytes.NewReader(file.data))
			require.NoError(t, err)
			p.files.Store(path.Join("/builds", id, arch, base), file.data)
			p.files.Store(path.Join("/builds", id, arch, base+".sig"), sig)
		}
		metas = append(metas, meta)
	}
	release, err := bootimage.ReleaseFor(metas, &bootimage.ReleaseOptions{Stream: "mine", BaseURL: p.url + "/builds", Signatures: true})
	require.NoError(t, err)
	p.stream, err = bootimage.StreamFor(release.Value(), &bootimage.StreamOptions{LastModified: time.Unix(1_790_000_000, 0)})
	require.NoError(t, err)
	p.put(t, "/streams/mine.json", p.stream)
	return p
}

// file is what the server has at a path, nil if nothing.
func (p *shipped) file(at string) []byte {
	data, ok := p.files.Load(at)
	if !ok {
		return nil
	}
	return data.([]byte)
}

func (p *shipped) put(t *testing.T, at string, d *bootimage.Document[streammd.Stream]) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, d.Encode(&out))
	p.files.Store(at, out.Bytes())
}

// convert makes a qcow2 image of a disk.
func convert(t *testing.T, raw []byte) []byte {
	t.Helper()
	root := openRoot(t)
	require.NoError(t, root.WriteFile("disk.raw", raw, 0o644))
	file, err := root.Open("disk.raw")
	require.NoError(t, err)
	defer file.Close()
	image, err := disk.Open(t.Context(), file, int64(len(raw)), nil)
	require.NoError(t, err)
	_, err = disk.Convert(t.Context(), root, image, []disk.Target{{Name: "disk.qcow2", Format: disk.QCOW2, Compression: "zlib"}}, nil)
	require.NoError(t, err)
	data, err := root.ReadFile("disk.qcow2")
	require.NoError(t, err)
	return data
}

// installer runs coreos-installer in a folder, with the test's key trusted or
// with its own keys alone.
func (p *shipped) installer(t *testing.T, trusted bool, args ...string) (dir, stdout, stderr string, err error) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), interop.CoreosInstaller(t), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "RUST_BACKTRACE=0")
	if trusted {
		cmd.Env = append(cmd.Env, "PATH="+p.gpg+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err = cmd.Run()
	return dir, out.String(), diag.String(), err
}

// TestCoreosInstallerReads shows that coreos-installer finds in our stream what
// we put there, verifies what we signed with its own code, and refuses what was
// changed.
func TestCoreosInstallerReads(t *testing.T) {
	interop.CoreosInstaller(t)
	p := ship(t)
	base := []string{"--stream-base-url", p.url + "/streams/", "-s", "mine"}
	download := append([]string{"download"}, base...)

	t.Run("list-stream", func(t *testing.T) {
		_, stdout, stderr, err := p.installer(t, false, append([]string{"list-stream"}, base...)...)
		require.NoError(t, err, stderr)
		var got []string
		for line := range strings.Lines(stdout) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		require.Equal(t, []string{
			"Architecture Platform Format",
			"aarch64 metal 4k.raw.gz", "aarch64 metal iso", "aarch64 metal pxe", "aarch64 metal raw.xz", "aarch64 openstack raw.zst", "aarch64 qemu qcow2",
			"x86_64 metal 4k.raw.gz", "x86_64 metal iso", "x86_64 metal pxe", "x86_64 metal raw.xz", "x86_64 openstack raw.zst", "x86_64 qemu qcow2",
		}, got)
	})
	for _, tc := range []struct {
		name string
		args []string
		want map[string]string // file that is there after it: path on the server
	}{
		{"its defaults", nil, map[string]string{"fedora-coreos-43.20261101.3.0-metal.x86_64.raw.xz": ""}},
		{"iso of another architecture", []string{"-a", "aarch64", "-f", "iso"}, map[string]string{"fedora-coreos-43.20261101.3.0-live-iso.aarch64.iso": ""}},
		{"platform", []string{"-p", "qemu", "-f", "qcow2"}, map[string]string{"fedora-coreos-43.20261101.3.0-qemu.x86_64.qcow2": ""}},
		{"three files", []string{"-f", "pxe"}, map[string]string{
			"fedora-coreos-43.20261101.3.0-live-kernel.x86_64": "", "fedora-coreos-43.20261101.3.0-live-initramfs.x86_64.img": "",
			"fedora-coreos-43.20261101.3.0-live-rootfs.x86_64.img": "",
		}},
	} {
		t.Run("download "+tc.name, func(t *testing.T) {
			dir, _, stderr, err := p.installer(t, true, append(download, tc.args...)...)
			require.NoError(t, err, stderr)
			require.Contains(t, stderr, `Good signature from "boot images <images@example.org>"`)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 2*len(tc.want))
			for name := range tc.want {
				arch := "x86_64"
				if strings.Contains(name, "aarch64") {
					arch = "aarch64"
				}
				for _, name := range []string{name, name + ".sig"} {
					got, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					require.True(t, bytes.Equal(p.file("/builds/43.20261101.3.0/"+arch+"/"+name), got), name)
				}
			}
		})
	}
	metal := "/builds/43.20261101.3.0/x86_64/fedora-coreos-43.20261101.3.0-metal.x86_64.raw.xz"
	for artifact, extension := range map[string]string{"metal": ".raw.xz", "metal4k": ".raw.gz", "openstack": ".raw.zst"} {
		t.Run("by address, decompressed"+extension, func(t *testing.T) {
			file := "/builds/43.20261101.3.0/x86_64/fedora-coreos-43.20261101.3.0-" + artifact + ".x86_64" + extension
			dir, stdout, stderr, err := p.installer(t, true, "download", "-u", p.url+file, "-d")
			require.NoError(t, err, stderr)
			got, err := os.ReadFile(filepath.Join(dir, strings.TrimSpace(stdout)))
			require.NoError(t, err)
			want := p.raw
			if extension == ".raw.zst" { // which it decodes only as it installs
				want = p.file(file)
			}
			require.True(t, bytes.Equal(want, got))
		})
	}
	// Only its own keys, not ours: it refuses, so it was the signature that counted.
	t.Run("unknown key", func(t *testing.T) {
		dir, _, stderr, err := p.installer(t, false, download...)
		require.Error(t, err)
		require.Contains(t, stderr, "No public key")
		requireEmpty(t, dir)
	})
	t.Run("changed file", func(t *testing.T) {
		was := p.file(metal)
		p.files.Store(metal, append(bytes.Clone(was[:len(was)-100]), append([]byte{was[len(was)-100] ^ 1}, was[len(was)-99:]...)...))
		defer p.files.Store(metal, was)
		dir, _, stderr, err := p.installer(t, true, download...)
		require.Error(t, err)
		require.Contains(t, stderr, "BAD signature")
		requireEmpty(t, dir)
	})
	t.Run("no signature", func(t *testing.T) {
		was := p.file(metal + ".sig")
		p.files.Delete(metal + ".sig")
		defer p.files.Store(metal+".sig", was)
		dir, _, stderr, err := p.installer(t, true, download...)
		require.Error(t, err)
		require.Contains(t, stderr, "signature not found")
		requireEmpty(t, dir)
		_, _, stderr, err = p.installer(t, true, append(download, "--insecure")...)
		require.NoError(t, err, stderr)
	})
	t.Run("our mirror of it", func(t *testing.T) {
		folder := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "go", "run", "../examples/okd-streams", "bootimage", "mirror", "--quiet", "--url", p.url+"/mirror", "--dir", folder,
			"--key", p.public, "--arch=x86_64", "--platform=metal", p.url+"/streams/mine.json")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(name)
			p.files.Store("/mirror"+strings.TrimPrefix(name, folder), data)
			return err
		}))
		dir, stdout, stderr, err := p.installer(t, true, "download", "--stream-base-url", p.url+"/mirror/", "-s", "mine", "-f", "4k.raw.gz", "-d")
		require.NoError(t, err, stderr)
		got, err := os.ReadFile(filepath.Join(dir, strings.TrimSpace(stdout)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(p.raw, got))
	})
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
