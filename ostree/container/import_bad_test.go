package container_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// tarEntry is an entry of a layer that a test changes.
type tarEntry struct {
	tar.Header
	data string
}

// importEntries reads the layers of an image.
func importEntries(t testing.TB, img v1.Image) [][]tarEntry {
	t.Helper()
	layers, err := img.Layers()
	require.NoError(t, err)
	out := make([][]tarEntry, len(layers))
	for i, l := range layers {
		rc, err := l.Uncompressed()
		require.NoError(t, err)
		for tr := tar.NewReader(rc); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			data, err := io.ReadAll(tr)
			require.NoError(t, err)
			h.Format = tar.FormatUnknown
			out[i] = append(out[i], tarEntry{*h, string(data)})
		}
		require.NoError(t, rc.Close())
	}
	return out
}

func importTar(t testing.TB, entries []tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.data))
		require.NoError(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// labelled gives an image labels. FinalDiffID may be the number of a layer.
func importLabelled(t testing.TB, img v1.Image, labels map[string]string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Config.Labels = map[string]string{}
	for key, value := range labels {
		var n int
		if _, err := fmt.Sscanf(value, "layer %d", &n); err == nil {
			value = config.RootFS.DiffIDs[n].String()
		}
		config.Config.Labels[key] = value
	}
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// importChunked makes an image of three layers: commit, content, the reserved one.
func importChunked(t testing.TB) (v1.Image, ostree.Checksum) {
	t.Helper()
	repo := newRepo(t)
	c := commit(t, repo, sample)
	components := split(t, repo, c)
	var all container.Component
	for _, other := range components {
		all.Objects = append(all.Objects, other.Objects...)
	}
	all.ID = "all"
	return encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Components: []container.Component{all}}), c
}

// badImage is an image that a test makes worse.
type badImage struct {
	layers [][]tarEntry
	labels map[string]string
	commit string
}

// at gives the index of the only entry that ends so.
func (b *badImage) at(t testing.TB, layer int, suffix string) int {
	t.Helper()
	found := -1
	for i, e := range b.layers[layer] {
		if strings.HasSuffix(e.Name, suffix) && e.Typeflag != tar.TypeDir && e.Typeflag != tar.TypeLink {
			found = i
		}
	}
	require.GreaterOrEqual(t, found, 0, suffix)
	return found
}

// file is the index of the largest content object of a layer.
func (b *badImage) file(layer int) int {
	best := -1
	for i, e := range b.layers[layer] {
		if strings.HasSuffix(e.Name, ".file") && (best < 0 || len(e.data) > len(b.layers[layer][best].data)) {
			best = i
		}
	}
	return best
}

func (b *badImage) insert(layer, at int, entries ...tarEntry) {
	b.layers[layer] = slices.Insert(b.layers[layer], at, entries...)
}

func (b *badImage) remove(layer, at int) tarEntry {
	e := b.layers[layer][at]
	b.layers[layer] = slices.Delete(b.layers[layer], at, at+1)
	return e
}

func badEntry(name string, kind byte, link, data string) tarEntry {
	return tarEntry{tar.Header{Name: name, Typeflag: kind, Linkname: link, Mode: 0o644}, data}
}

func objectName(data, kind string) string {
	sum := sha256.Sum256([]byte(data))
	text := hex.EncodeToString(sum[:])
	return "sysroot/ostree/repo/objects/" + text[:2] + "/" + text[2:] + "." + kind
}

// Each fault is told with its layer and entry, as import-refused.txt has them:
// the same in every mode, whether the whole image is wanted or its commit.
func TestImportRefuses(t *testing.T) {
	good, c := importChunked(t)
	var told strings.Builder
	rows, ran := 0, 0
	digests := regexp.MustCompile(`sha256:[0-9a-f]{64}`) // depend on the compressor
	const objects = "sysroot/ostree/repo/objects/"
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, b *badImage)
		want  string // in the error
		is    error
	}{
		{"commit's label", func(_ *testing.T, b *badImage) { b.labels["ostree.commit"] = strings.Repeat("0", 64) }, "layer 0 (sha256:", ostree.ErrCorrupt},
		{"commit's label is no checksum", func(_ *testing.T, b *badImage) { b.labels["ostree.commit"] = "x" }, "label ostree.commit", nil},
		{"last layer's label", func(_ *testing.T, b *badImage) { b.labels["ostree.final-diffid"] = "sha256:" + strings.Repeat("0", 64) }, "label ostree.final-diffid", ostree.ErrCorrupt},
		{"last layer's label is no digest", func(_ *testing.T, b *badImage) { b.labels["ostree.final-diffid"] = "x" }, "label ostree.final-diffid", nil},
		{"last layer's label too early", func(_ *testing.T, b *badImage) { b.labels["ostree.final-diffid"] = "layer 0" }, ".file", fs.ErrNotExist},
		{"last layer's label too late", func(_ *testing.T, b *badImage) {
			b.layers = append(b.layers, []tarEntry{badEntry("usr/x", tar.TypeReg, "", "x")})
			b.labels["ostree.final-diffid"] = "layer 3"
		}, `"usr/x": file of 1 bytes that is no object`, fs.ErrInvalid},
		{"whiteout", func(_ *testing.T, b *badImage) { b.insert(1, 5, badEntry("usr/.wh.x", tar.TypeReg, "", "")) }, `"usr/.wh.x": whiteout`, fs.ErrInvalid},
		{"bootable label", func(t *testing.T, b *badImage) { b.labels["ostree.bootable"] = "maybe" }, "label ostree.bootable", ostree.ErrCorrupt},

		{"content missing", func(_ *testing.T, b *badImage) {
			name := b.layers[1][b.file(1)].Name
			b.layers[1] = slices.DeleteFunc(b.layers[1], func(e tarEntry) bool {
				return e.Name == name || e.Linkname == name || e.Name == name+"-xattrs-link"
			})
		}, ".file and 0 others", fs.ErrNotExist},
		{"content missing, not its link", func(_ *testing.T, b *badImage) { b.remove(1, b.file(1)) }, "which the layer does not have", fs.ErrNotExist},
		{"hard link to nothing", func(_ *testing.T, b *badImage) {
			b.insert(2, len(b.layers[2]), badEntry("usr/x", tar.TypeLink, objectName("x", "file"), ""))
		}, `layer 2 (sha256:`, fs.ErrNotExist},
		{"hard link to no object", func(_ *testing.T, b *badImage) {
			b.insert(2, len(b.layers[2]), badEntry("usr/x", tar.TypeLink, "etc/shadow", ""))
		}, `"usr/x": hard link to "etc/shadow"`, fs.ErrInvalid},
		{"dirtree missing", func(t *testing.T, b *badImage) { b.remove(0, b.at(t, 0, ".dirtree")) }, ".dirtree", fs.ErrNotExist},
		{"dirmeta missing", func(t *testing.T, b *badImage) { b.remove(0, b.at(t, 0, ".dirmeta")) }, ".dirmeta", fs.ErrNotExist},
		{"commit missing", func(t *testing.T, b *badImage) { b.remove(0, b.at(t, 0, ".commit")) }, "comes before the commit", ostree.ErrCorrupt},
		{"nothing in the commit's layer", func(_ *testing.T, b *badImage) { b.layers[0] = nil }, "layer 0 (sha256:", ostree.ErrCorrupt},
		{"content too many", func(_ *testing.T, b *badImage) {
			e := b.layers[1][b.file(1)]
			e.Name = objectName("x", "file")
			b.insert(1, len(b.layers[1]), e)
		}, objectName("x", "file"), ostree.ErrCorrupt},
		{"content too many in the commit's layer", func(_ *testing.T, b *badImage) {
			// The object of a root-owned regular file of no bytes, mode 0600.
			e := badEntry("", tar.TypeReg, "", "")
			e.Mode = 0o600
			e.Name = objectName("\x00\x00\x00\x12\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\x80\x00\x00\x00\x00\x00\x11", "file")
			b.insert(0, len(b.layers[0]), e)
		}, "no part of the commit", ostree.ErrCorrupt},
		{"dirtree too many", func(_ *testing.T, b *badImage) {
			b.insert(0, len(b.layers[0]), badEntry(objectName("\x00", "dirtree"), tar.TypeReg, "", "\x00"))
		}, "no part of the commit", ostree.ErrCorrupt},
		{"content changed", func(_ *testing.T, b *badImage) { b.layers[1][b.file(1)].data += "x" }, "): sysroot/ostree/repo/objects/", ostree.ErrCorrupt},
		{"mode changed", func(_ *testing.T, b *badImage) { b.layers[1][b.file(1)].Mode ^= 0o100 }, "): sysroot/ostree/repo/objects/", ostree.ErrCorrupt},
		{"owner changed", func(_ *testing.T, b *badImage) { b.layers[1][b.file(1)].Uid = 7 }, "): sysroot/ostree/repo/objects/", ostree.ErrCorrupt},
		{"owner out of range", func(_ *testing.T, b *badImage) { b.layers[1][b.file(1)].Uid = 1 << 33 }, "owner 8589934592:0", fs.ErrInvalid},
		{"attributes changed", func(t *testing.T, b *badImage) { b.layers[1][b.at(t, 1, ".file-xattrs-link")].data = "x" }, "): sysroot/ostree/repo/objects/", ostree.ErrCorrupt},
		{"dirtree changed", func(t *testing.T, b *badImage) { b.layers[0][b.at(t, 0, ".dirtree")].data += "x" }, ".dirtree\"", ostree.ErrCorrupt},
		{"dirtree with a name that leads out", func(t *testing.T, b *badImage) {
			data := "..\x00" + strings.Repeat("x", 32) + "\x03" + "\x24" + "\x25"
			b.insert(0, b.at(t, 0, ".dirtree"), badEntry(objectName(data, "dirtree"), tar.TypeReg, "", data))
		}, objectName(objectName("", ""), "dirtree")[:len(objects)], ostree.ErrCorrupt},
		{"commit changed", func(t *testing.T, b *badImage) { b.layers[0][b.at(t, 0, ".commit")].data += "x" }, "commit has checksum", ostree.ErrCorrupt},
		{"detached metadata damaged", func(t *testing.T, b *badImage) {
			at := b.at(t, 0, ".commit")
			e := b.layers[0][at]
			e.Name, e.data = strings.Replace(e.Name, ".commit", ".commitmeta", 1), "x"
			b.insert(0, at+1, e)
		}, "detached metadata", ostree.ErrCorrupt},
		{"detached metadata of another", func(t *testing.T, b *badImage) {
			b.insert(0, b.at(t, 0, ".commit")+1, badEntry(objectName("x", "commitmeta"), tar.TypeReg, "", ""))
		}, "does not come after its commit", ostree.ErrCorrupt},
		{"two commits", func(t *testing.T, b *badImage) {
			e := b.layers[0][b.at(t, 0, ".commit")]
			e.Name = objectName("x", "commit")
			b.insert(0, len(b.layers[0]), e)
		}, "a commit, where none may be", ostree.ErrCorrupt},
		{"commit in a layer of content", func(t *testing.T, b *badImage) { b.insert(1, len(b.layers[1]), b.layers[0][b.at(t, 0, ".commit")]) }, "a commit, where none may be", ostree.ErrCorrupt},
		{"dirtree in a layer of content", func(t *testing.T, b *badImage) { b.insert(1, len(b.layers[1]), b.layers[0][b.at(t, 0, ".dirtree")]) }, "metadata object in a layer of content", ostree.ErrCorrupt},

		{"names lead out", func(_ *testing.T, b *badImage) { b.insert(1, 3, badEntry("usr/../../x", tar.TypeReg, "", "")) }, `"usr/../../x": name with ".."`, fs.ErrInvalid},
		{"objects lead out", func(_ *testing.T, b *badImage) { b.insert(1, 3, badEntry(objects+"../../x.file", tar.TypeReg, "", "")) }, `name with ".."`, fs.ErrInvalid},
		{"links lead out", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry("usr/x", tar.TypeLink, "../"+b.layers[1][b.file(1)].Name, ""))
		}, `name with ".."`, fs.ErrInvalid},
		{"name is not UTF-8", func(_ *testing.T, b *badImage) { b.insert(1, 3, badEntry("usr/\xff", tar.TypeReg, "", "")) }, "is not UTF-8", fs.ErrInvalid},
		{"object's name", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objects+"00/x.file", tar.TypeReg, "", ""))
		}, "is no object's name", fs.ErrInvalid},
		{"object's kind", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objectName("x", "xyz"), tar.TypeReg, "", ""))
		}, `object of kind "xyz"`, errors.ErrUnsupported},
		{"file in the repository", func(_ *testing.T, b *badImage) {
			b.insert(1, 3, badEntry("sysroot/ostree/repo/x", tar.TypeReg, "", ""))
		}, "is no object", fs.ErrInvalid},
		{"device", func(_ *testing.T, b *badImage) { b.insert(1, 3, badEntry("usr/null", tar.TypeChar, "", "")) }, `"usr/null": entry of type '3'`, errors.ErrUnsupported},
		{"pipe as object", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objectName("x", "file"), tar.TypeFifo, "", ""))
		}, "entry of type '6'", errors.ErrUnsupported},
		{"repository is a link", func(_ *testing.T, b *badImage) {
			b.insert(1, 0, badEntry("sysroot/ostree/repo", tar.TypeSymlink, "/etc", ""))
		}, `"sysroot/ostree/repo": symbolic link`, fs.ErrInvalid},
		{"objects is a link", func(_ *testing.T, b *badImage) {
			b.insert(1, 0, badEntry(strings.TrimSuffix(objects, "/"), tar.TypeSymlink, "/etc", ""))
		}, `symbolic link to "/etc"`, fs.ErrInvalid},
		{"folder of objects is a link", func(_ *testing.T, b *badImage) { b.insert(1, 0, badEntry(objects+"00", tar.TypeSymlink, "/etc", "")) }, `symbolic link to "/etc"`, fs.ErrInvalid},
		{"metadata is a link", func(t *testing.T, b *badImage) {
			at := b.at(t, 0, ".dirtree")
			b.layers[0][at] = badEntry(b.layers[0][at].Name, tar.TypeSymlink, "/etc/shadow", "")
		}, `symbolic link to "/etc/shadow"`, fs.ErrInvalid},
		{"content twice", func(_ *testing.T, b *badImage) {
			name := b.layers[1][b.file(1)].Name
			for _, e := range b.layers[1] {
				if e.Name == name {
					b.insert(1, len(b.layers[1]), e)
				}
			}
		}, "comes twice", fs.ErrExist},
		{"dirtree twice", func(t *testing.T, b *badImage) { b.insert(0, len(b.layers[0]), b.layers[0][b.at(t, 0, ".dirtree")]) }, "comes twice", fs.ErrExist},
		{"path twice", func(_ *testing.T, b *badImage) {
			name := b.layers[1][b.file(1)].Name
			b.insert(1, len(b.layers[1]), badEntry("usr/./x", tar.TypeLink, name, ""), badEntry("/usr/x", tar.TypeLink, name, ""))
		}, `"/usr/x": comes twice`, fs.ErrExist},
		{"attributes of nothing", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objectName("x", "file-xattrs-link"), tar.TypeReg, "", ""))
		}, "which does not come", ostree.ErrCorrupt},
		{"attributes of another", func(_ *testing.T, b *badImage) {
			b.insert(1, b.file(1), badEntry(objectName("x", "file-xattrs-link"), tar.TypeReg, "", ""))
		}, "comes after the attributes of", ostree.ErrCorrupt},
		{"attributes not there", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objectName("x", "file-xattrs-link"), tar.TypeLink, objectName("y", "file-xattrs"), ""))
		}, "which the layer does not have", fs.ErrNotExist},
		{"shared attributes changed", func(_ *testing.T, b *badImage) {
			b.insert(1, len(b.layers[1]), badEntry(objectName("x", "file-xattrs"), tar.TypeReg, "", "y"))
		}, "checksum is", ostree.ErrCorrupt},
		{"attributes too large", func(_ *testing.T, b *badImage) {
			data := strings.Repeat("x", 1<<20+1)
			b.insert(1, len(b.layers[1]), badEntry(objectName(data, "file-xattrs"), tar.TypeReg, "", data))
		}, "1048577 bytes, at most 1048576", ostree.ErrCorrupt},
	} {
		rows++
		t.Run(tc.name, func(t *testing.T) {
			b := &badImage{layers: importEntries(t, good), commit: c.String(), labels: map[string]string{
				"ostree.commit": c.String(), "ostree.final-diffid": "layer 2"}}
			if tc.name == "bootable label" {
				img, c, _ := importBootable(t)
				b = &badImage{layers: importEntries(t, img), commit: c.String(), labels: map[string]string{
					"ostree.commit": c.String(), "ostree.final-diffid": "layer 0"}}
			}
			tc.spoil(t, b)
			img := empty.Image
			for _, entries := range b.layers {
				img = importWith(t, img, importTar(t, entries))
			}
			img = importLabelled(t, img, b.labels)
			first := ""
			for _, mode := range importModes() {
				for _, opts := range []*container.ImportOptions{{CommitOnly: true, Ref: "os"}, {Name: "oci:x", Workers: 1}} {
					if opts.CommitOnly && tc.name == "last layer's label too early" {
						continue // it has more layers than those of the commit
					}
					repo := importRepo(t, mode)
					_, err := container.Import(t.Context(), repo, img, opts)
					require.Error(t, err)
					require.ErrorContains(t, err, tc.want)
					if tc.is != nil {
						require.ErrorIs(t, err, tc.is)
					}
					text := digests.ReplaceAllString(err.Error(), "sha256:")
					if opts.Name != "" { // what has no layer is the image's
						text = strings.Replace(text, "import oci:x: ", "import sha256:: ", 1)
					}
					if first == "" {
						first = text
						fmt.Fprintf(&told, "%s\n\t%s\n", tc.name, text)
					}
					require.Equal(t, first, text, "%s %+v", mode, opts)
					if opts.CommitOnly {
						requireClean(t, repo)
					}
					requireNoImage(t, repo, c)
				}
			}
			ran++
		})
	}
	if ran == rows { // not with -run
		requireGoldenFile(t, "import-refused.txt", []byte(told.String()))
	}
}

// importBootable makes an image of one layer whose commit says that it boots.
func importBootable(t testing.TB) (v1.Image, ostree.Checksum, *ostree.Repo) {
	t.Helper()
	repo := newRepo(t)
	c := commit(t, repo, sample, ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)})
	return encapsulate(t, openCache(t, t.TempDir()), repo, c, nil), c, repo
}

// requireNoImage is what a refused import leaves of layers that are right: their
// refs, and nothing in tmp/.
func requireNoImage(t testing.TB, repo *ostree.Repo, c ostree.Checksum) {
	t.Helper()
	for ref, err := range repo.Refs(t.Context()) {
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(ref.Name, "ostree/container/blob/"), ref.Name)
		require.NotEqual(t, c, ref.Commit)
	}
	ok, err := repo.Has(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	require.False(t, ok)
	entries, err := os.ReadDir(filepath.Join(repo.Path(), "tmp"))
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, "cache", e.Name())
	}
	require.NoError(t, repo.Fsck(t.Context(), nil))
}

// Layers above a commit, or of a plain image.
func TestImportRefusesLayers(t *testing.T) {
	base, c, _ := importBase(t, sample, nil)
	for _, tc := range []struct {
		name  string
		layer []byte
		want  string
		is    error
	}{
		{"pipe", importArchive(t, tar.Header{Name: "usr/fifo", Typeflag: tar.TypeFifo}), `layer 1 (sha256:`, errors.ErrUnsupported},
		{"device", importArchive(t, tar.Header{Name: "usr/null", Typeflag: tar.TypeChar}), `"usr/null": device or pipe`, errors.ErrUnsupported},
		{"device in etc", importArchive(t, tar.Header{Name: "etc/null", Typeflag: tar.TypeBlock}), `"etc/null": device or pipe`, errors.ErrUnsupported},
		{"name leads out", archive(t, "usr/../../etc/x=1"), `name with ".."`, fs.ErrInvalid},
		{"link leads out", archive(t, "usr/x=>../../etc/shadow"), `name with ".."`, fs.ErrInvalid},
		{"through a link", archive(t, "usr/l->/etc", "usr/l/x=1"), `"usr/l" above it is no directory`, fs.ErrInvalid},
		{"through a file", archive(t, "usr/l=1", "usr/l/x=1"), `"usr/l" above it is no directory`, fs.ErrInvalid},
		{"file in the place of a directory", archive(t, "usr/d/x=1", "usr/d=1"), "takes the place of a directory", fs.ErrExist},
		{"the root is a file", importArchive(t, tar.Header{Name: ".", Typeflag: tar.TypeSymlink, Linkname: "x"}), "root must be a directory", fs.ErrInvalid},
		{"hides nothing", archive(t, "usr/.wh.="), `hides ""`, fs.ErrInvalid},
		{"hides its parent", archive(t, "usr/.wh...="), `hides ".."`, fs.ErrInvalid},
		{"hard link to a directory", archive(t, "usr/d/", "usr/x=>usr/d"), "hard link to the directory", fs.ErrInvalid},
		{"hard link to nothing", archive(t, "usr/x=>usr/nothing"), "usr/nothing", fs.ErrNotExist},
		{"hard link to what is left out", archive(t, "opt/x=1", "usr/x=>opt/x"), "which is left out", errors.ErrUnsupported},
		{"link without target", importArchive(t, tar.Header{Name: "usr/l", Typeflag: tar.TypeSymlink}), `link target ""`, fs.ErrInvalid},
		{"attribute", importArchive(t, tar.Header{Name: "usr/x", PAXRecords: map[string]string{"LIBARCHIVE.xattr.a": "!"}}), "attribute", nil},
		{"comment", importArchive(t, tar.Header{Name: "usr/x", PAXRecords: map[string]string{"comment": "1"}}), "", nil},
		{"cut", archive(t, "usr/x="+strings.Repeat("x", 3000))[:2000], "layer 1 (sha256:", ostree.ErrCorrupt},
		{"data at the end", append(archive(t, "usr/x=1"), bytes.Repeat([]byte("x"), 512)...), "data after the end", ostree.ErrCorrupt},
		{"no archive", bytes.Repeat([]byte("x"), 2048), "layer 1 (sha256:", ostree.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := importWith(t, base, tc.layer)
			for _, mode := range importModes() {
				repo := importRepo(t, mode)
				_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:x"})
				if tc.want == "" {
					require.NoError(t, err)
					continue
				}
				require.Error(t, err)
				require.ErrorContains(t, err, "layer 1 (sha256:")
				require.ErrorContains(t, err, tc.want)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				// The commit below is there.
				_, err = repo.Resolve(t.Context(), "ostree/container/image/oci_3A_x")
				require.ErrorIs(t, err, fs.ErrNotExist)
				ok, err := repo.Has(t.Context(), ostree.TypeCommit, c)
				require.NoError(t, err)
				require.True(t, ok)
				require.NoError(t, repo.Fsck(t.Context(), nil))
			}
		})
	}
}

// liarLayer says of itself what it is not.
type liarLayer struct {
	v1.Layer
	digest *v1.Hash
	size   *int64
	diffID *v1.Hash
}

func (l liarLayer) Digest() (v1.Hash, error) {
	if l.digest != nil {
		return *l.digest, nil
	}
	return l.Layer.Digest()
}

func (l liarLayer) Size() (int64, error) {
	if l.size != nil {
		return *l.size, nil
	}
	return l.Layer.Size()
}

func (l liarLayer) DiffID() (v1.Hash, error) {
	if l.diffID != nil {
		return *l.diffID, nil
	}
	return l.Layer.DiffID()
}

func TestImportVerifiesLayers(t *testing.T) {
	good, c := importChunked(t)
	layers, err := good.Layers()
	require.NoError(t, err)
	wrong := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("1", 64)}
	size, err := layers[1].Size()
	require.NoError(t, err)
	small, large := size-1, size+1
	for _, tc := range []struct {
		name  string
		layer liarLayer
		opts  container.ImportOptions
		is    error
	}{
		{name: "digest", layer: liarLayer{digest: &wrong}, is: verify.ErrDigest},
		{name: "smaller than it is", layer: liarLayer{size: &small}, is: verify.ErrDigest},
		{name: "larger than it is", layer: liarLayer{size: &large}, is: verify.ErrDigest},
		{name: "diff ID", layer: liarLayer{diffID: &wrong}, is: ostree.ErrCorrupt},
		{name: "more than is allowed", opts: container.ImportOptions{MaxSize: 200 << 10}, is: ostree.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := empty.Image
			for i, l := range layers {
				if i == 1 {
					tc.layer.Layer = l
					l = tc.layer
				}
				img, err = mutate.AppendLayers(img, l)
				require.NoError(t, err)
			}
			img = importLabelled(t, img, map[string]string{"ostree.commit": c.String(), "ostree.final-diffid": "layer 2"})
			repo := importRepo(t, ostree.ModeArchive)
			tc.opts.Layers = 1
			_, err := container.Import(t.Context(), repo, img, &tc.opts)
			require.ErrorIs(t, err, tc.is)
			require.ErrorContains(t, err, "layer 1 (sha256:")
			requireNoImage(t, repo, c)
		})
	}
}

// An image whose documents do not fit its digests.
type liarImage struct {
	v1.Image
	manifest, config []byte
}

func (l liarImage) RawManifest() ([]byte, error) {
	if l.manifest != nil {
		return l.manifest, nil
	}
	return l.Image.RawManifest()
}

func (l liarImage) RawConfigFile() ([]byte, error) {
	if l.config != nil {
		return l.config, nil
	}
	return l.Image.RawConfigFile()
}

func TestImportVerifiesDocuments(t *testing.T) {
	good, _ := importChunked(t)
	manifest, err := good.RawManifest()
	require.NoError(t, err)
	config, err := good.RawConfigFile()
	require.NoError(t, err)
	foreign := imageOf(t, static.NewLayer([]byte("x"), types.MediaType("application/x-tar")))
	for _, img := range []v1.Image{
		liarImage{Image: good, manifest: append(slices.Clone(manifest), ' ')},
		liarImage{Image: good, manifest: make([]byte, 4<<20+1)},
		liarImage{Image: good, config: append(slices.Clone(config), ' ')},
		foreign,
		empty.Image,
	} {
		repo := importRepo(t, ostree.ModeArchive)
		_, err := container.Import(t.Context(), repo, img, nil)
		require.Error(t, err)
		requireClean(t, repo)
	}
}

func TestImportOptionsAreChecked(t *testing.T) {
	good, _ := importChunked(t)
	for _, opts := range []container.ImportOptions{
		{Name: "quay.io/x"}, {Name: "oci:"}, {Name: "oci:\x00"}, {Name: "docker://"}, {Name: "oci:" + strings.Repeat("x", 2000)},
		{Ref: ".."}, {Workers: -1}, {Workers: 65}, {Layers: -1}, {Layers: 17}, {MaxSize: -1}, {Name: "oci:x", CommitOnly: true},
	} {
		repo := importRepo(t, ostree.ModeArchive)
		_, err := container.Import(t.Context(), repo, good, &opts)
		require.Error(t, err, "%+v", opts)
		requireClean(t, repo)
	}
}
