package daily_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/daily"
)

// cosaFolder is a folder of coreos-assembler's whose build has data as archive.
func cosaFolder(t testing.TB, archive string, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	sum := sha256.Sum256(data)
	meta, err := bootimage.NewDocument(bootimage.Meta{
		BuildID: "9.0.20250222-0", Name: "own", OSTreeCommit: strings.Repeat("ab", 32), OSTreeTimestamp: time.Unix(1, 0).UTC(),
		OSTreeVersion: "9.0.20250222-0", Arch: "x86_64",
		Images: map[string]bootimage.Image{"ostree": {Path: archive, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}},
	})
	require.NoError(t, err)
	builds, err := bootimage.AddBuild(bootimage.Build{ID: "9.0.20250222-0", Arch: "x86_64", Time: time.Unix(1, 0)})(nil)
	require.NoError(t, err)
	build := filepath.Join(dir, "9.0.20250222-0", "x86_64")
	require.NoError(t, os.MkdirAll(build, 0o755))
	for path, content := range map[string][]byte{
		filepath.Join(dir, "builds.json"): builds, filepath.Join(build, "meta.json"): meta.Bytes(), filepath.Join(build, archive): data,
	} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	return dir
}

func tarOf(t testing.TB, files ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range files {
		content := h.Linkname // of a regular file
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		h.Mode = 0o644
		require.NoError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(content))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// hostileArchives are archives that lie, by what is said of them.
func hostileArchives(t testing.TB) map[string][]byte {
	file := func(name, content string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
	}
	manifest := `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `","size":2},"layers":[]}`
	sum := sha256.Sum256([]byte(manifest))
	digest := hex.EncodeToString(sum[:])
	index := func(entries string) tar.Header {
		return file("index.json", `{"schemaVersion":2,"manifests":[`+entries+`]}`)
	}
	entry := func(digest string) string {
		return `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + digest + `","size":` + strconv.Itoa(len(manifest)) + `}`
	}
	return map[string][]byte{
		"archive/tar": []byte(strings.Repeat("this is no archive\n", 60)),
		"index.json: index.json: file does not exist": tarOf(t, file("oci-layout", "{}")),
		"index.json: invalid character":               tarOf(t, file("index.json", "nonsense")),
		"want one image, it has 0 entries":            tarOf(t, index("")),
		"want one image, it has 2 entries":            tarOf(t, index(entry(digest)+","+entry(digest))),
		"index.json has more than 4194304 bytes":      tarOf(t, file("index.json", strings.Repeat(" ", 4<<20+1))),
		"file does not exist":                         tarOf(t, index(entry(strings.Repeat("1", 64)))),
		"digest mismatch":                             tarOf(t, index(entry(digest)), file("blobs/sha256/"+digest, manifest[:len(manifest)-1]+" ")),
	}
}

func TestHostileArchives(t *testing.T) {
	for want, data := range hostileArchives(t) {
		_, err := daily.OpenSource(t.Context(), "cosa:"+cosaFolder(t, "o.ociarchive", data), nil)
		require.ErrorContains(t, err, "o.ociarchive: ", want)
		require.ErrorContains(t, err, want)
	}
	scratch := t.TempDir()
	for want, data := range map[string][]byte{
		"neither file nor folder":    tarOf(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "objects", Linkname: "/etc"}),
		"escapes from parent":        tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "../outside", Linkname: "x"}),
		"open objects: no such file": tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "refs/heads/x", Linkname: "x"}),
	} {
		_, err := daily.OpenSource(t.Context(), "cosa:"+cosaFolder(t, "o.tar", data), &daily.SourceOptions{Scratch: scratch})
		require.ErrorContains(t, err, want)
		left, err := os.ReadDir(scratch)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// FuzzCosaArchive: whatever a record says is the archive, an error is all that
// comes of it.
func FuzzCosaArchive(f *testing.F) {
	archives := hostileArchives(f)
	var seeds [][]byte
	for _, name := range slices.Sorted(maps.Keys(archives)) {
		seeds = append(seeds, archives[name])
	}
	mutants.AddTars(f, seeds...)
	f.Fuzz(func(t *testing.T, data []byte) {
		src, err := daily.OpenSource(t.Context(), "cosa:"+cosaFolder(t, "o.ociarchive", data), nil)
		if err == nil {
			require.NoError(t, src.Close())
			t.Fatal("an archive that carries a commit of another checksum")
		}
	})
}
