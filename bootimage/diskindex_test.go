package bootimage_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

// blobs answers as a registry does.
func blobs(d *bootimage.DiskIndex) func(digest string) ([]byte, error) {
	return func(digest string) ([]byte, error) {
		for _, m := range d.Manifests {
			if m.Digest == digest {
				return m.Data, nil
			}
		}
		return nil, fs.ErrNotExist
	}
}

func disks(t testing.TB) (all []bootimage.Entry) {
	t.Helper()
	m := sampleMeta()
	entries, err := bootimage.MetaEntries(&m, "")
	require.NoError(t, err)
	for _, e := range entries {
		if e.File == "disk" {
			all = append(all, e)
		}
	}
	return all
}

func TestDiskIndex(t *testing.T) {
	want := disks(t)
	d, err := bootimage.NewDiskIndex(want)
	require.NoError(t, err)
	again, err := bootimage.NewDiskIndex(want)
	require.NoError(t, err)
	require.Equal(t, d, again)
	got, err := bootimage.DiskIndexEntries(d.Index.Data, "q.example/os", blobs(d))
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i, e := range got {
		w := want[i]
		require.Equal(t, bootimage.Entry{
			Arch: w.Arch, Platform: w.Platform, Format: w.Format, File: "disk", SHA256: w.SHA256, Size: w.Size,
			Image: "q.example/os@sha256:" + w.SHA256, Path: fmt.Sprintf("manifests[%d]", i),
		}, e)
	}
	require.Contains(t, string(d.Index.Data), `"artifactType":"application/vnd.diskimage.qcow2.gzip"`)
	require.Contains(t, string(d.Index.Data), `"platform":{"architecture":"amd64","os":"metal4k"}`)
}

// TestDiskIndexOfKonflux is how others push: of Linux, with images beside.
func TestDiskIndexOfKonflux(t *testing.T) {
	manifest := `{"schemaVersion": 2, "layers": [{"digest": "sha256:` + hash("d") + `", "size": 5}]}`
	index := func(kind string) string {
		return fmt.Sprintf(`{"schemaVersion": 2, "manifests": [{"digest": "sha256:00", "size": 1, "platform": {"architecture": "amd64", "os": "linux"}},
			{"artifactType": "application/vnd.diskimage.%s", "digest": "sha256:%s", "size": %d, "platform": {"architecture": "arm64", "os": "linux"}}]}`, kind, sum256([]byte(manifest)), len(manifest))
	}
	give := func(string) ([]byte, error) { return []byte(manifest), nil }
	for kind, want := range map[string]string{"qcow2": "qemu qcow2", "raw.gzip": "metal raw.gz", "iso": "metal iso", "ova.gzip": "vmware ova.gz", "new.zstd": "new new.zst"} {
		got, err := bootimage.DiskIndexEntries([]byte(index(kind)), "r", give)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, "aarch64 "+want, got[0].Arch+" "+got[0].Platform+" "+got[0].Format)
	}
	for name, tt := range map[string]struct {
		index string
		give  func(string) ([]byte, error)
		is    error
		want  string
	}{
		"JSON":        {"{", give, nil, "index of disk images: unexpected end"},
		"huge":        {strings.Repeat(" ", 1<<20+1), give, nil, "more than 1048576 bytes"},
		"many":        {`{"manifests": [` + strings.Repeat("{},", 1024) + `{}]}`, give, nil, "more than 1024"},
		"no platform": {strings.Replace(index("raw"), `"platform": {"architecture": "arm64", "os": "linux"}`, `"x": 1`, 1), give, nil, "manifests[1]: no platform"},
		"missing":     {index("raw"), func(string) ([]byte, error) { return nil, fs.ErrNotExist }, fs.ErrNotExist, "manifests[1]"},
		"other bytes": {index("raw"), func(string) ([]byte, error) { return []byte(manifest + " "), nil }, bootimage.ErrVerification, "not the bytes of its digest"},
		"format":      {index("../x"), give, fs.ErrInvalid, "format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootimage.DiskIndexEntries([]byte(tt.index), "r", tt.give)
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
	for _, e := range []bootimage.Entry{{File: "kernel"}, {File: "disk", SHA256: hash("x"), Arch: "x86_64"}, {File: "disk", Size: 5, Arch: "x86_64"}} {
		_, err := bootimage.NewDiskIndex([]bootimage.Entry{e})
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

// TestSkopeoReadsDiskIndex copies an index of disks, in a layout, with skopeo.
func TestSkopeoReadsDiskIndex(t *testing.T) {
	interop.Peer(t, "skopeo")
	disk := []byte("a disk")
	d, err := bootimage.NewDiskIndex([]bootimage.Entry{
		{Arch: "x86_64", Platform: "qemu", Format: "qcow2", File: "disk", SHA256: sum256(disk), Size: int64(len(disk))},
		{Arch: "aarch64", Platform: "metal", Format: "raw.gz", File: "disk", SHA256: sum256(disk), Size: int64(len(disk))},
	})
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	for _, b := range append(append([]bootimage.DiskBlob{d.Index}, d.Manifests...), d.Configs...) {
		write("blobs/sha256/"+strings.TrimPrefix(b.Digest, "sha256:"), b.Data)
	}
	write("blobs/sha256/"+sum256(disk), disk)
	write("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`))
	write("index.json", fmt.Appendf(nil, `{"schemaVersion": 2, "manifests": [{"mediaType": %q, "digest": %q, "size": %d}]}`, d.Index.MediaType, d.Index.Digest, len(d.Index.Data)))
	to := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "skopeo", "--insecure-policy", "copy", "--all", "oci:"+dir, "oci:"+to).CombinedOutput()
	require.NoError(t, err, string(out))
	got, err := os.ReadFile(filepath.Join(to, "blobs/sha256", sum256(disk)))
	require.NoError(t, err)
	require.Equal(t, disk, got)
	// Old versions write the index anew, without artifact types.
	for _, b := range append(d.Manifests, d.Configs...) {
		copied, err := os.ReadFile(filepath.Join(to, "blobs/sha256", strings.TrimPrefix(b.Digest, "sha256:")))
		require.NoError(t, err)
		require.Equal(t, b.Data, copied)
	}
}

// A build's disks are pushed as an index, and found in it again.
func ExampleNewDiskIndex() {
	index, err := bootimage.NewDiskIndex([]bootimage.Entry{
		{Arch: "x86_64", Platform: "metal", Format: "raw.gz", File: "disk", SHA256: strings.Repeat("cd", 32), Size: 5},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	entries, err := bootimage.DiskIndexEntries(index.Index.Data, "example.org/scos", func(digest string) ([]byte, error) {
		if index.Manifests[0].Digest == digest {
			return index.Manifests[0].Data, nil
		}
		return nil, errors.New("no such manifest")
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(entries[0].Arch, entries[0].Platform, entries[0].Format, entries[0].Size)
	// Output: x86_64 metal raw.gz 5
}

func FuzzDiskIndex(f *testing.F) {
	d, err := bootimage.NewDiskIndex(disks(f))
	require.NoError(f, err)
	for index := range mutants.Of(d.Index.Data) {
		f.Add([]byte(index), d.Manifests[0].Data)
	}
	for manifest := range mutants.Of(d.Manifests[0].Data) {
		f.Add(d.Index.Data, []byte(manifest))
	}
	f.Fuzz(func(t *testing.T, index, manifest []byte) {
		given := len(index)
		var entries []bootimage.Entry
		var err error
		alloc := fuzzbound.Allocated(func() {
			entries, err = bootimage.DiskIndexEntries(index, "r", func(string) ([]byte, error) {
				given += len(manifest)
				return manifest, nil
			})
		})
		require.Less(t, alloc, 1<<20+500*given)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Size > 0 {
				_, err := bootimage.NewDiskIndex([]bootimage.Entry{e})
				require.NoError(t, err)
			}
		}
	})
}
