package container_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// importModes are the modes that every import is tried in; a bare repository
// needs root.
func importModes() []ostree.Mode {
	modes := []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser}
	if os.Getuid() == 0 {
		modes = append(modes, ostree.ModeBare)
	}
	return modes
}

func importRepo(t testing.TB, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := ostree.Init(t.Context(), dir, mode, nil)
	require.NoError(t, err)
	// Nobody pulls the plug of a test.
	require.NoError(t, r.SetConfig(t.Context(), "core", "fsync", "false"))
	require.NoError(t, r.Close())
	return openRepo(t, dir)
}

// importOverlay opens an image of the derived overlays: its blobs over those of
// the image that it was made from.
func importOverlay(t testing.TB, overlays, base, name string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	require.NoError(t, os.MkdirAll(blobs, 0o755))
	for _, from := range []string{base, filepath.Join(overlays, name)} {
		entries, err := os.ReadDir(filepath.Join(from, "blobs", "sha256"))
		require.NoError(t, err)
		for _, e := range entries {
			to := filepath.Join(blobs, e.Name())
			if _, err := os.Lstat(to); err != nil {
				require.NoError(t, os.Link(filepath.Join(from, "blobs", "sha256", e.Name()), to))
			}
		}
	}
	for _, file := range []string{"index.json", "oci-layout"} {
		data, err := os.ReadFile(filepath.Join(overlays, name, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), data, 0o644))
	}
	return importLayout(t, dir)
}

func importLayout(t testing.TB, dir string) v1.Image {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	img, err := idx.Image(m.Manifests[0].Digest)
	require.NoError(t, err)
	return img
}

// importTable reads a table of the shared data: fields by column number.
func importTable(t testing.TB, elem ...string) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(string(readShared(t, elem...))) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

// Every image of the shared data gives the commit that is in it, in every mode.
func TestImportGivesTheRecordedCommit(t *testing.T) {
	quick := map[string]bool{"image-v1b-edge": true, "image-v1a-edge": true, "image-v1b-edge-emptychunk-fv2": true}
	for i, tc := range []struct {
		file   []string
		commit string
	}{
		{[]string{"image-v1-pack8"}, commit1},
		{[]string{"image-v1-single"}, commit1},
		{[]string{"v1b", "image-v1a-edge"}, commitEdge},
		{[]string{"v1b", "image-v1b-1-pack8"}, commit1},
		{[]string{"v1b", "image-v1b-1-pack8-fv2"}, commit1},
		{[]string{"v1b", "image-v1b-1-rawmeta"}, commit1},
		{[]string{"v1b", "image-v1b-1-single"}, commit1},
		{[]string{"v1b", "image-v1b-2-pack8-prior"}, commit2},
		{[]string{"v1b", "image-v1b-edge"}, commitEdge},
		// The reference takes the first of two layers without content for the
		// last of the commit.
		{[]string{"v1b", "image-v1b-edge-emptychunk-fv2"}, commitEdge},
	} {
		name := tc.file[len(tc.file)-1]
		t.Run(name, func(t *testing.T) {
			if !quick[name] && !interop.Enabled() {
				t.Skipf("takes seconds; set %s=1", interop.Variable)
			}
			img := golden(t, append(slices.Clone(tc.file[:len(tc.file)-1]), name+".tar.zst")...)
			modes := importModes()
			if !quick[name] {
				modes = modes[i%len(modes) : i%len(modes)+1] // thousands of files each
			}
			for _, mode := range modes {
				repo := importRepo(t, mode)
				got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{CommitOnly: true, Ref: "os", NoFsync: true})
				require.NoError(t, err, mode)
				require.Equal(t, tc.commit, got.Commit.String())
				require.Equal(t, got.Commit, got.Base)
				require.NoError(t, repo.Fsck(t.Context(), nil), mode)
				c, err := repo.Resolve(t.Context(), "os")
				require.NoError(t, err)
				require.Equal(t, got.Commit, c)
			}
		})
	}
}

// Merge commits are those of the reference's newer importer in a bare repository,
// whatever the mode of ours. All images go into one repository of each mode, so
// that layers which they share are read once.
func TestImportGivesTheRecordedMerge(t *testing.T) {
	if !interop.Enabled() {
		t.Skipf("takes seconds; set %s=1", interop.Variable)
	}
	overlays := unpack(t, "v1b", "derived-overlays.tar.zst")
	base := unpack(t, "v1b", "image-v1b-1-pack8.tar.zst")
	rows := importTable(t, "v1b", "expected", "image-pull.tsv")
	for _, mode := range importModes() {
		repo := importRepo(t, mode)
		for _, row := range rows {
			name := row[1]
			if row[0] != "bare" || row[2] != "new" || !strings.HasPrefix(row[3], "merge ") {
				continue
			}
			var img v1.Image
			switch {
			case strings.HasPrefix(name, "derived-"):
				img = importOverlay(t, overlays, base, name)
			case strings.HasPrefix(name, "v1b-"):
				img = golden(t, "v1b", "image-"+name+".tar.zst")
			default:
				img = golden(t, "image-"+name+".tar.zst")
			}
			var stats container.ImportStats
			got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:der/" + name, NoFsync: true, Stats: &stats})
			require.NoError(t, err, "%s %s", mode, name)
			commit, err := repo.ReadCommit(t.Context(), got.Commit)
			require.NoError(t, err)
			require.Equal(t, row[5], "root "+commit.RootTree.String()+" "+commit.RootMeta.String(), "%s %s", mode, name)
			require.Equal(t, row[4], "parent "+got.Base.String())
			require.Equal(t, row[3], "merge "+got.Commit.String(), "%s %s", mode, name)
			if strings.HasPrefix(name, "derived-") {
				require.GreaterOrEqual(t, stats.Reused, 8, "the layers of %s that it shares with others", name)
			}
		}
		require.NoError(t, repo.Fsck(t.Context(), nil), mode)
	}
}

// A recorded image whose last layer has a pipe and devices: nobody takes it.
func TestImportRefusesRecordedDevices(t *testing.T) {
	var row []string
	for _, r := range importTable(t, "v1b", "expected", "image-pull.tsv") {
		if r[0] == "bare" && r[1] == "derived-devs" && r[2] == "new" {
			row = r
		}
	}
	require.Len(t, row, 5)
	require.Equal(t, "rc=1", row[3])
	require.Contains(t, row[4], `Unsupported file type for path "usr/share/devs/fifo"`)
	_, rest, _ := strings.Cut(row[4], "layer blob ")
	digest, _, _ := strings.Cut(rest, ": ")
	img := importOverlay(t, unpack(t, "v1b", "derived-overlays.tar.zst"), unpack(t, "v1b", "image-v1b-1-pack8.tar.zst"), "derived-devs")
	for _, mode := range importModes() {
		repo := importRepo(t, mode)
		_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x", NoFsync: true})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "layer 8 ("+digest+`): "usr/share/devs/`)
		require.ErrorContains(t, err, "device or pipe")
		_, err = repo.Resolve(t.Context(), "ostree/container/image/oci_3A_x")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, repo.Fsck(t.Context(), nil))
	}
}

// An import sets the refs that the reference sets.
func TestImportSetsTheRecordedRefs(t *testing.T) {
	overlays := unpack(t, "v1b", "derived-overlays.tar.zst")
	base := unpack(t, "v1b", "image-v1b-1-pack8.tar.zst")
	repo := importRepo(t, ostree.ModeBareUser)
	got, err := container.Import(t.Context(), repo, importOverlay(t, overlays, base, "derived-plain"), &container.ImportOptions{Name: "oci:der/derived-plain", NoFsync: true})
	require.NoError(t, err)
	require.Empty(t, got.Filtered)
	requireRefs(t, repo, "derived-plain")
}

// requireRefs compares refs with those that were recorded, where they were. Those
// of layers that a build added name commits with a time in the reference: only
// their trees are compared.
func requireRefs(t testing.TB, repo *ostree.Repo, name string) {
	t.Helper()
	var want, got []string
	for line := range strings.Lines(string(readShared(t, "v1b", "expected", name+".refs-after-pull.txt"))) {
		want = append(want, strings.TrimSpace(line))
	}
	for ref, err := range repo.Refs(t.Context()) {
		require.NoError(t, err)
		c, err := repo.ReadCommit(t.Context(), ref.Commit)
		require.NoError(t, err)
		text := ref.Commit.String()
		if _, ok := c.Lookup("ostree.importer.version"); ok && strings.Contains(ref.Name, "/blob/") {
			text = "layer-commit"
		}
		got = append(got, ref.Name+" "+text+" root "+c.RootTree.String()+" "+c.RootMeta.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got)
}

// What a commit has in /sysroot is not in images that the reference made: it
// imports them all the same, and the repository is damaged.
func TestImportRefusesWhatIsIncomplete(t *testing.T) {
	img := golden(t, "v1b", "image-v1b-edge-sysroot.tar.zst")
	repo := importRepo(t, ostree.ModeArchive)
	_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{CommitOnly: true, Ref: "os"})
	require.ErrorContains(t, err, "0ccf479b1d43129c898871f531165a513d35ee1295a48a23037eb47a351acd44.dirtree")
	require.ErrorIs(t, err, os.ErrNotExist)
	requireClean(t, repo)

	img = golden(t, "v1b", "image-v1b-symlink-dots.tar.zst")
	_, err = container.Import(t.Context(), repo, img, &container.ImportOptions{CommitOnly: true, Ref: "os"})
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.ErrorContains(t, err, ".file: corrupt: checksum is ", "of one of several links")
	requireClean(t, repo)
}

// requireClean is what a refused import leaves: no ref, no commit, nothing in tmp/.
func requireClean(t testing.TB, repo *ostree.Repo) {
	t.Helper()
	for ref, err := range repo.Refs(t.Context()) {
		require.NoError(t, err)
		require.Fail(t, "a ref is left", ref.String())
	}
	require.NoError(t, filepath.WalkDir(filepath.Join(repo.Path(), "objects"), func(path string, d os.DirEntry, err error) error {
		require.NotEqual(t, ".commit", filepath.Ext(path))
		return err
	}))
	entries, err := os.ReadDir(filepath.Join(repo.Path(), "tmp"))
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, "cache", e.Name())
	}
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// Names of images are refs that ostree-ext reads, and come back.
func TestImportNames(t *testing.T) {
	repo := importRepo(t, ostree.ModeBareUser)
	img := imageOf(t, layerOf(t, archive(t, "usr/x=1")))
	names := map[string]string{
		"oci:foo":                        "oci_3A_foo",
		"oci:bar/baz-blah/foo":           "oci_3A_bar/baz-blah/foo",
		"docker://localhost:5000/foo:la": "docker_3A__2F__2F_localhost_3A_5000/foo_3A_la",
		"oci:/foo/":                      "oci_3A__2F_foo_2F_",
		"oci:a//b":                       "oci_3A_a/_2F_b",
		"dir:x_y":                        "dir_3A_x__y",
		"oci-archive:\u00fc.ociarchive":  "oci-archive_3A__FC__2E_ociarchive",
	}
	for name, ref := range names {
		got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: name})
		require.NoError(t, err, name)
		c, err := repo.Resolve(t.Context(), "ostree/container/image/"+ref)
		require.NoError(t, err, name)
		require.Equal(t, got.Commit, c)
	}
	// What skopeo calls docker:// was once registry:.
	_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "registry:localhost:5000/foo:la"})
	require.NoError(t, err)
	listed := map[string]bool{}
	for image, err := range container.ListImages(t.Context(), repo) {
		require.NoError(t, err)
		listed[image.Name] = true
	}
	require.Len(t, listed, len(names))
	for name := range names {
		require.True(t, listed[name], name)
	}
	// Others' refs that are no names end the list.
	for _, bad := range []string{"oci_3A", "_XX_", "_110000_", "_0_"} {
		c, err := repo.Resolve(t.Context(), "ostree/container/image/oci_3A_foo")
		require.NoError(t, err)
		ref := "ostree/container/image/" + bad
		require.NoError(t, repo.SetRef(t.Context(), ref, c))
		var last error
		for _, err := range container.ListImages(t.Context(), repo) {
			last = err
		}
		if bad == "oci_3A" {
			require.ErrorIs(t, last, fs.ErrInvalid)
		} else {
			require.Error(t, last)
		}
		require.NoError(t, repo.DeleteRef(t.Context(), ref))
	}
}
