package bootimage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
)

// documents gives what a registry has of an index, beside files.
func documents(d *bootimage.DiskIndex, files ...[]byte) func(digest string) ([]byte, error) {
	return func(digest string) ([]byte, error) {
		for _, b := range append(append([]bootimage.DiskBlob{}, d.Manifests...), d.Configs...) {
			if b.Digest == digest {
				return b.Data, nil
			}
		}
		for _, data := range files {
			if "sha256:"+sum256(data) == digest {
				return data, nil
			}
		}
		return nil, fs.ErrNotExist
	}
}

// wholeFolder is a folder of coreos-assembler's with files of all kinds.
func wholeFolder(t testing.TB) fstest.MapFS {
	t.Helper()
	files := map[string]string{"metal": "m.raw.gz", "metal4k": "m-metal4k.x86_64.raw.gz", "live-iso": "m-live-iso.x86_64.iso", "live-kernel": "vmlinuz", "live-initramfs": "initramfs.img"}
	fsys := cosaFolder(t, func(m *bootimage.Meta) {
		for name, file := range files {
			m.Images[name] = bootimage.Image{Path: file, SHA256: sum256([]byte(file)), Size: int64(len(file))}
		}
	})
	for _, file := range files {
		fsys["9.0.20250222-0/x86_64/"+file] = &fstest.MapFile{Data: []byte(file)}
	}
	return fsys
}

// TestBuildIndex takes a build from a folder into an index and back: all of it is the
// same, and the disks are what others find.
func TestBuildIndex(t *testing.T) {
	fsys := wholeFolder(t)
	const dir = "9.0.20250222-0/x86_64/"
	commitMeta := fsys[dir+"commitmeta.json"].Data
	fsys["builds.json"].Data = []byte(`{"schema-version": "1.0.0", "builds": [{"id": "9.0.20250223-0", "arches": ["aarch64"]}, {"id": "9.0.20250222-0", "arches": ["aarch64", "x86_64"]}],
		"tags": [{"name": "keep", "target": "9.0.20250222-0"}, {"name": "other", "target": "9.0.20250223-0"}], "tombstone-builds": [{"id": "8.0.20240222-0", "arches": []}], "timestamp": "2026-01-01T00:00:00Z"}`)
	want, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", &bootimage.ImportOptions{Checksums: true})
	require.NoError(t, err)
	index, err := bootimage.NewBuildIndex([]*bootimage.ImportedBuild{want})
	require.NoError(t, err)
	again, err := bootimage.NewBuildIndex([]*bootimage.ImportedBuild{want})
	require.NoError(t, err)
	require.Equal(t, index, again)

	blob := documents(index, commitMeta)
	builds, err := bootimage.BuildsOfIndex(index.Index.Data, blob)
	require.NoError(t, err)
	require.Len(t, builds, 1)
	got := builds[0]
	require.Equal(t, string(want.Meta.Bytes()), string(got.Meta.Bytes()))
	require.Equal(t, commitMeta, got.CommitMeta.Bytes())
	require.Zero(t, got.Cleanup)
	require.Equal(t, [2]string{want.ID, want.Arch}, [2]string{got.ID, got.Arch})
	require.Len(t, got.Files, 12)
	require.Equal(t, string(want.Release.Bytes()), string(got.Release.Bytes()))
	require.Equal(t, string(want.Catalogue.Bytes()), string(got.Catalogue.Bytes()))
	require.Equal(t, []bootimage.BuildTag{{Name: "keep", Target: want.ID}}, got.Catalogue.Value().Tags)
	require.Equal(t, "8.0.20240222-0", got.Catalogue.Value().Tombstones[0].ID)
	require.NotContains(t, string(got.Catalogue.Bytes()), "9.0.20250223-0", "another build")
	byName := map[string]bootimage.ImportedFile{}
	for _, f := range want.Files {
		f.Path = ""
		byName[f.Name] = f
	}
	for _, f := range got.Files {
		require.Equal(t, byName[f.Name], f)
	}
	// What was read is the same index.
	second, err := bootimage.NewBuildIndex(builds)
	require.NoError(t, err)
	require.Equal(t, index.Index.Digest, second.Index.Digest)

	disks, err := bootimage.DiskIndexEntries(index.Index.Data, "q.example/os", blob)
	require.NoError(t, err)
	var found []string
	for _, e := range disks {
		found = append(found, e.Platform+" "+e.Format)
	}
	require.ElementsMatch(t, []string{"qemu qcow2", "metal raw.gz", "metal 4k.raw.gz", "metal iso"}, found)
	// By the names that coreos-assembler records them under.
	for _, os := range []string{"qemu", "metal", "metal4k", "live-iso"} {
		require.Contains(t, string(index.Index.Data), `"platform":{"architecture":"amd64","os":"`+os+`"}`)
	}

	// Files that a policy removed are not there, and said not to be.
	cleaned, err := bootimage.CleanBuild(want.ID, bootimage.Cleanup{Images: true, ImagesKept: []string{"metal"}}, later)(fsys["builds.json"].Data)
	require.NoError(t, err)
	fsys["builds.json"].Data = cleaned
	short, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", &bootimage.ImportOptions{Checksums: true})
	require.NoError(t, err)
	require.Equal(t, bootimage.Cleanup{Images: true, ImagesKept: []string{"metal"}}, short.Cleanup)
	index, err = bootimage.NewBuildIndex([]*bootimage.ImportedBuild{short})
	require.NoError(t, err)
	builds, err = bootimage.BuildsOfIndex(index.Index.Data, documents(index, commitMeta))
	require.NoError(t, err)
	require.Equal(t, short.Cleanup, builds[0].Cleanup)
	require.Len(t, builds[0].Files, 5)
}

func TestBuildIndexFaults(t *testing.T) {
	fsys := wholeFolder(t)
	const dir = "9.0.20250222-0/x86_64/"
	unread, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", nil)
	require.NoError(t, err)
	_, err = bootimage.NewBuildIndex([]*bootimage.ImportedBuild{unread})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "q.qcow2.sig: its SHA-256 is not known")

	build, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", &bootimage.ImportOptions{Checksums: true})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		change func(b *bootimage.ImportedBuild)
		is     error
		want   string
	}{
		"twice":         {func(b *bootimage.ImportedBuild) {}, nil, "9.0.20250222-0/x86_64 is there twice"},
		"other bytes":   {func(b *bootimage.ImportedBuild) { b.Files[5].SHA256 = hash("x") }, bootimage.ErrVerification, "the record says"},
		"a name":        {func(b *bootimage.ImportedBuild) { b.Files[len(b.Files)-1].Name = "../x" }, fs.ErrInvalid, `file "../x"`},
		"two of a name": {func(b *bootimage.ImportedBuild) { b.Files[len(b.Files)-1].Name = b.Files[len(b.Files)-2].Name }, fs.ErrInvalid, "commitmeta.json"},
		"the record":    {func(b *bootimage.ImportedBuild) { b.Files[len(b.Files)-1].Name = "meta.json" }, fs.ErrInvalid, "meta.json"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := *build
			changed.Files = append([]bootimage.ImportedFile{}, build.Files...)
			tt.change(&changed)
			all := []*bootimage.ImportedBuild{&changed}
			if name == "twice" {
				all = append(all, build)
			}
			index, err := bootimage.NewBuildIndex(all)
			require.NoError(t, err)
			_, err = bootimage.BuildsOfIndex(index.Index.Data, documents(index, fsys[dir+"commitmeta.json"].Data))
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
	index, err := bootimage.NewBuildIndex([]*bootimage.ImportedBuild{build})
	require.NoError(t, err)
	_, err = bootimage.BuildsOfIndex(index.Index.Data, documents(index))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.BuildsOfIndex(index.Index.Data, func(digest string) ([]byte, error) {
		data, err := documents(index, fsys[dir+"commitmeta.json"].Data)(digest)
		return bytes.ReplaceAll(data, []byte(`"buildid"`), []byte(`"bUildid"`)), err
	})
	require.ErrorIs(t, err, bootimage.ErrVerification)
}

// konflux is an index as others push it: of Linux, with the container image beside.
func konflux(labels string) (index []byte, blob func(string) ([]byte, error)) {
	blobs := map[string]string{}
	put := func(data string) string {
		digest := "sha256:" + sum256([]byte(data))
		blobs[digest] = data
		return fmt.Sprintf(`"digest": %q, "size": %d`, digest, len(data))
	}
	config := put(`{"created": "2026-11-25T20:54:07.5Z", "config": {"Labels": {` + labels + `}}}`)
	image := put(`{"schemaVersion": 2, "config": {` + config + `}, "layers": [{"digest": "sha256:00", "size": 1}]}`)
	disk := put(`{"schemaVersion": 2, "layers": [{"digest": "sha256:` + hash("d") + `", "size": 5}]}`)
	iso := put(`{"schemaVersion": 2, "layers": [{"digest": "sha256:` + hash("i") + `", "size": 6}]}`)
	return []byte(`{"schemaVersion": 2, "manifests": [
			{` + image + `, "platform": {"architecture": "arm64", "os": "linux"}},
			{"artifactType": "application/vnd.diskimage.qcow2.gzip", ` + disk + `, "platform": {"architecture": "arm64", "os": "linux"}},
			{"artifactType": "application/vnd.diskimage.iso", ` + iso + `, "platform": {"architecture": "arm64", "os": "linux"}}]}`), func(digest string) ([]byte, error) {
			if data, ok := blobs[digest]; ok {
				return []byte(data), nil
			}
			return nil, fs.ErrNotExist
		}
}

const konfluxLabels = `"org.opencontainers.image.version": "10.0.20261125-0", "com.coreos.osname": "scos", "ostree.commit": "abababababababababababababababababababababababababababababababab",
	"com.coreos.stream": "c10s", "org.opencontainers.image.source": "https://git.example/os", "org.opencontainers.image.revision": "0123abc"`

// TestBuildsOfOthers makes records of what others pushed, as coreos-assembler does.
func TestBuildsOfOthers(t *testing.T) {
	index, blob := konflux(konfluxLabels)
	builds, err := bootimage.BuildsOfIndex(index, blob)
	require.NoError(t, err)
	require.Len(t, builds, 1)
	b := builds[0]
	require.Equal(t, [2]string{"10.0.20261125-0", "aarch64"}, [2]string{b.ID, b.Arch})
	m := b.Meta.Value()
	require.Equal(t, map[string]bootimage.Image{
		"qemu":     {Path: "scos-10.0.20261125-0-qemu.aarch64.qcow2.gz", SHA256: hash("d"), Size: 5, SkipCompression: true},
		"live-iso": {Path: "scos-10.0.20261125-0-live-iso.aarch64.iso", SHA256: hash("i"), Size: 6, SkipCompression: true},
	}, m.Images)
	require.Equal(t, &bootimage.Git{Origin: "https://git.example/os", Commit: "0123abc"}, m.ConfigGit)
	require.True(t, m.OCIImported)
	require.Equal(t, "c10s", m.OCILabels["com.coreos.stream"])
	require.Equal(t, "2026-11-25T20:54:07Z", m.OSTreeTimestamp.Format("2006-01-02T15:04:05Z07:00"))
	require.Len(t, b.Files, 2)

	// To our index and back it is the same.
	ours, err := bootimage.NewBuildIndex(builds)
	require.NoError(t, err)
	again, err := bootimage.BuildsOfIndex(ours.Index.Data, documents(ours))
	require.NoError(t, err)
	require.Equal(t, builds, again)

	for name, tt := range map[string]struct {
		labels, want string
		is           error
	}{
		"no version": {`"ostree.commit": "x"`, "container image for aarch64: label org.opencontainers.image.version", fs.ErrNotExist},
		"no commit":  {`"org.opencontainers.image.version": "1"`, "label ostree.commit", fs.ErrNotExist},
		"a path":     {strings.Replace(konfluxLabels, "10.0.20261125-0", "../x", 1), "buildid", nil},
		"not labels": {`"a": 5`, "cannot unmarshal number", nil},
	} {
		t.Run(name, func(t *testing.T) {
			index, blob := konflux(tt.labels)
			_, err := bootimage.BuildsOfIndex(index, blob)
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
	_, err = bootimage.BuildsOfIndex(bytes.Replace(index, []byte(`"os": "linux"`), []byte(`"os": "plan9"`), 1), blob)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "its labels would be the record")
}

// A build goes from a folder into a registry's index and comes back.
func ExampleNewBuildIndex() {
	fsys := fstest.MapFS{
		"builds.json":                      {Data: []byte(`{"schema-version": "1.0.0", "builds": [{"id": "1", "arches": ["x86_64"]}]}`)},
		"1/x86_64/meta.json":               {Data: []byte(`{"buildid": "1", "name": "own", "coreos-assembler.basearch": "x86_64", "ostree-commit": "` + strings.Repeat("ab", 32) + `", "ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "1", "images": {"qemu": {"path": "own-1-qemu.x86_64.qcow2", "sha256": "` + sum256([]byte("disk")) + `"}}}`)},
		"1/x86_64/own-1-qemu.x86_64.qcow2": {Data: []byte("disk")},
	}
	build, err := bootimage.ImportBuild(context.Background(), fsys, "x86_64", &bootimage.ImportOptions{Checksums: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := bootimage.NewBuildIndex([]*bootimage.ImportedBuild{build})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(index.Manifests), "manifests")
	builds, err := bootimage.BuildsOfIndex(index.Index.Data, func(digest string) ([]byte, error) {
		for _, b := range append(index.Manifests, index.Configs...) {
			if b.Digest == digest {
				return b.Data, nil
			}
		}
		return nil, errors.New("no such blob")
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(builds[0].ID, builds[0].Arch, builds[0].Files[0].Name)
	// Output:
	// 2 manifests
	// 1 x86_64 own-1-qemu.x86_64.qcow2
}

// ExampleBuildsOfIndex reads what others pushed.
func ExampleBuildsOfIndex() {
	index, blob := konflux(konfluxLabels)
	builds, err := bootimage.BuildsOfIndex(index, blob)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range builds[0].Files {
		fmt.Println(f.Name, f.Size)
	}
	// Output:
	// scos-10.0.20261125-0-live-iso.aarch64.iso 6
	// scos-10.0.20261125-0-qemu.aarch64.qcow2.gz 5
}

// FuzzBuildsOfIndex: what is read is written and read again the same.
func FuzzBuildsOfIndex(f *testing.F) {
	build, err := bootimage.ImportBuild(f.Context(), wholeFolder(f), "x86_64", &bootimage.ImportOptions{Checksums: true})
	require.NoError(f, err)
	ours, err := bootimage.NewBuildIndex([]*bootimage.ImportedBuild{build})
	require.NoError(f, err)
	last := ours.Manifests[len(ours.Manifests)-1].Data
	for outer := range mutants.Of(last) {
		f.Add([]byte(outer), build.Meta.Bytes(), true)
	}
	index, _ := konflux(konfluxLabels)
	for outer := range mutants.Of(index) {
		f.Add([]byte(outer), build.Meta.Bytes(), false)
	}
	f.Add(index, []byte(`{"created": "2026-11-25T20:54:07.5Z", "config": {"Labels": {`+konfluxLabels+`}}}`), false)
	f.Fuzz(func(t *testing.T, outer, inner []byte, record bool) {
		index := outer
		if record { // a manifest with a record, within an index that is right
			index = fmt.Appendf(nil, `{"manifests": [{"artifactType": "application/vnd.okd-streams.build", "digest": "sha256:%s", "size": %d}]}`, sum256(outer), len(outer))
		}
		given := len(index)
		blob := func(digest string) ([]byte, error) {
			given += len(inner) + len(outer)
			if digest == "sha256:"+sum256(outer) {
				return outer, nil
			}
			return inner, nil
		}
		var builds []*bootimage.ImportedBuild
		var err error
		alloc := fuzzbound.Allocated(func() { builds, err = bootimage.BuildsOfIndex(index, blob) })
		require.Less(t, alloc, 1<<20+500*given)
		if err != nil {
			return
		}
		for _, b := range builds {
			for _, file := range b.Files {
				require.NotContains(t, file.Name, "/")
				require.NotEqual(t, "meta.json", file.Name)
			}
		}
	})
}
