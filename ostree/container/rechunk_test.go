package container_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// requireSameFiles compares what a container engine sees.
func requireSameFiles(t testing.TB, a, b v1.Image) {
	t.Helper()
	for c, err := range ostree.Diff(t.Context(), container.Flatten(a), container.Flatten(b)) {
		require.NoError(t, err)
		require.Fail(t, "differs", "%c %s", c.Kind(), c.Path)
	}
}

func commitOf(t testing.TB, img v1.Image) string {
	t.Helper()
	i, err := container.Inspect(t.Context(), img)
	require.NoError(t, err)
	return i.Commit.String()
}

func TestRechunk(t *testing.T) {
	img := relabel(t, inspectImage(t, "bash 5.2-1", "sed 4.9-1", "grep 3.8-1", "nano 7.2-1", "less 5-1", "vim 9-1", "git 2-1"),
		map[string]string{"org.example.mine": "yes", "org.example.other": "no"})
	split, err := container.SplitOf(img)
	require.NoError(t, err)
	cache := openCache(t, t.TempDir())
	again, err := container.Rechunk(t.Context(), cache, importRepo(t, ostree.ModeArchive), img, &container.EncapsulateOptions{
		MaxLayers: 12, Codec: container.Zstd, Labels: map[string]string{"org.example.other": "yes"},
	})
	require.NoError(t, err)
	requireValid(t, again)
	requireSameFiles(t, img, again)
	require.Equal(t, commitOf(t, img), commitOf(t, again))
	finer, err := container.SplitOf(again)
	require.NoError(t, err)
	require.Greater(t, len(finer), len(split))
	config, err := again.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "yes", config.Config.Labels["org.example.mine"])
	require.Equal(t, "yes", config.Config.Labels["org.example.other"])
	require.Equal(t, "amd64", config.Architecture)

	// Back, with the split of the first: the same layers.
	back, err := container.Rechunk(t.Context(), cache, importRepo(t, ostree.ModeBareUser), again, &container.EncapsulateOptions{MaxLayers: 6, Prior: img})
	require.NoError(t, err)
	c, err := container.Compare(t.Context(), img, back, nil)
	require.NoError(t, err)
	require.Empty(t, c.Added)
}

// Layers that were added to the commit become part of a new one.
func TestRechunkDerived(t *testing.T) {
	base := inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	node := relabel(t, derive(t, base, "usr/bin/kubelet=1", "usr/share/.wh.sed=", "etc/kubernetes=x"), map[string]string{container.LabelVersions: "machine-os=9.1.0"})
	repo := importRepo(t, ostree.ModeBareUser)
	out, err := container.Rechunk(t.Context(), openCache(t, t.TempDir()), repo, node, nil)
	require.NoError(t, err)
	requireValid(t, out)
	requireSameFiles(t, node, out)
	i, err := container.Inspect(t.Context(), out)
	require.NoError(t, err)
	require.NotEqual(t, commitOf(t, base), i.Commit.String())
	require.Equal(t, container.KindNode, i.Kind)
	require.Equal(t, "9.1", i.Version)
	require.Equal(t, "system", i.Head.Subject)
	require.False(t, i.Layers[len(i.Layers)-1].Derived)
	require.NoError(t, container.Lint(t.Context(), out, nil))

	// Without a commit to begin with.
	plain, err := mutate.AppendLayers(empty.Image, layerOf(t, archive(t, "usr/bin/x=1", "etc/hosts=2")))
	require.NoError(t, err)
	plain = withPlatform(t, relabel(t, plain, map[string]string{container.LabelBootc: "1", container.LabelVersion: "3"}), "arm64")
	out, err = container.Rechunk(t.Context(), openCache(t, t.TempDir()), repo, plain, nil)
	require.NoError(t, err)
	i, err = container.Inspect(t.Context(), out)
	require.NoError(t, err)
	require.Equal(t, container.KindBase, i.Kind)
	require.Equal(t, "3", i.Version)
	require.Equal(t, "arm64", i.Architecture)
	require.True(t, i.Bootable)
}

func TestRechunkRefuses(t *testing.T) {
	img := inspectImage(t, "bash 5.2-1")
	cache := openCache(t, t.TempDir())
	_, err := container.Rechunk(t.Context(), cache, importRepo(t, ostree.ModeBareUserOnly), img, nil)
	require.ErrorContains(t, err, "bare-user-only")
	bad := relabel(t, img, map[string]string{container.LabelCommit: strings.Repeat("ab", 32)})
	_, err = container.Rechunk(t.Context(), cache, importRepo(t, ostree.ModeBareUser), bad, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// The recorded images, of both dialects, split anew: the same commit, and
// ostree-ext imports it.
func TestRechunkRecorded(t *testing.T) {
	peer := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	for _, name := range [][]string{{"image-v1-pack8.tar.zst"}, {"v1b", "image-v1b-edge.tar.zst"}, {"v1b", "image-v1a-edge.tar.zst"}} {
		img := golden(t, name...)
		out, err := container.Rechunk(t.Context(), openCache(t, t.TempDir()), importRepo(t, ostree.ModeArchive), img, nil)
		require.NoError(t, err, name)
		requireValid(t, out)
		if !strings.Contains(name[len(name)-1], "v1-") && !strings.Contains(name[len(name)-1], "v1a") {
			requireSameFiles(t, img, out) // the older dialect hides attributes from engines
		}
		require.Equal(t, commitOf(t, img), commitOf(t, out))
		if len(name) > 1 { // the small ones
			requirePeerImports(t, peer, out)
		}
	}
}

// requirePeerImports has ostree-ext import an image, and gives the repository.
func requirePeerImports(t testing.TB, peer string, img v1.Image) string {
	t.Helper()
	dir := writeLayout(t, img)
	repo := filepath.Join(t.TempDir(), "repo")
	run(t, "ostree", "--repo="+repo, "init", "--mode=bare-user")
	run(t, peer, "container", "unencapsulate", "--repo="+repo, "ostree-unverified-image:oci:"+dir, "--write-ref", "imported")
	require.Equal(t, commitOf(t, img), strings.TrimSpace(run(t, "ostree", "--repo="+repo, "rev-parse", "imported")))
	run(t, "ostree", "--repo="+repo, "fsck", "--quiet")
	return repo
}

func writeLayout(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, path.AppendImage(img))
	return dir
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out, diag bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &diag
	require.NoError(t, cmd.Run(), "%s %s", name, diag.String())
	return out.String()
}

func detached(t testing.TB, text string) []byte {
	t.Helper()
	data, err := ostree.MarshalMetadata([]ostree.MetadataItem{{Key: "note", Value: ostree.StringVariant(text)}})
	require.NoError(t, err)
	return data
}

func firstLayer(t testing.TB, img v1.Image) []byte {
	t.Helper()
	layers, err := img.Layers()
	require.NoError(t, err)
	rc, err := layers[0].Uncompressed()
	require.NoError(t, err)
	defer rc.Close()
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	return data
}

func TestReplaceDetachedMetadata(t *testing.T) {
	r := newRepo(t)
	c := commit(t, r, sample)
	cache := openCache(t, t.TempDir())
	for name, opts := range map[string]*container.EncapsulateOptions{
		"one layer": nil, "zstd": {Codec: container.Zstd, Components: split(t, r, c)}, "layers": {Components: split(t, r, c)}, "plain": {Codec: container.None},
	} {
		t.Run(name, func(t *testing.T) {
			img := encapsulate(t, cache, r, c, opts)
			replace := func(img v1.Image, metadata []byte) v1.Image {
				out, err := container.ReplaceDetachedMetadata(t.Context(), cache, img, metadata)
				require.NoError(t, err)
				requireValid(t, out)
				return out
			}
			with := replace(img, detached(t, "first"))
			imported := importRepo(t, ostree.ModeBareUser)
			_, err := container.Import(t.Context(), imported, with, &container.ImportOptions{CommitOnly: true})
			require.NoError(t, err)
			items, err := imported.ReadMetadata(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, "note", items[0].Key)

			other := replace(with, detached(t, strings.Repeat("second", 500)))
			require.NotEqual(t, digest(t, with), digest(t, other))
			require.Equal(t, digest(t, with), digest(t, replace(other, detached(t, "first"))))
			// And away: the bytes of the beginning.
			without := replace(other, nil)
			require.Equal(t, firstLayer(t, img), firstLayer(t, without))
			a, err := img.RawConfigFile()
			require.NoError(t, err)
			b, err := without.RawConfigFile()
			require.NoError(t, err)
			require.Equal(t, string(a), string(b))
			config, err := other.ConfigFile()
			require.NoError(t, err)
			i, err := container.Inspect(t.Context(), other)
			require.NoError(t, err)
			require.Equal(t, c, i.Commit)
			require.False(t, i.Layers[len(config.RootFS.DiffIDs)-1].Derived)

			// As if it had been encapsulated with it.
			signed := newRepo(t)
			_, err = signed.Commit(t.Context(), ostree.FS(mapFS(sample)), &ostree.CommitOptions{
				Subject: "sample", Timestamp: time.Unix(1700000000, 0), NoFsync: true,
				Detached: []ostree.MetadataItem{{Key: "note", Value: ostree.StringVariant("first")}},
			})
			require.NoError(t, err)
			fresh := encapsulate(t, openCache(t, t.TempDir()), signed, c, opts)
			require.Equal(t, firstLayer(t, fresh), firstLayer(t, with))
		})
	}
}

func TestReplaceDetachedMetadataRefuses(t *testing.T) {
	r := newRepo(t)
	img := encapsulate(t, openCache(t, t.TempDir()), r, commit(t, r, sample), nil)
	cache := openCache(t, t.TempDir())
	_, err := container.ReplaceDetachedMetadata(t.Context(), cache, img, []byte("x"))
	require.ErrorContains(t, err, "the metadata")
	_, err = container.ReplaceDetachedMetadata(t.Context(), cache, imageOf(t, layerOf(t, archive(t, "a=b"))), nil)
	require.ErrorContains(t, err, "unsupported")
	_, err = container.ReplaceDetachedMetadata(t.Context(), cache, mutate.MediaType(img, types.DockerManifestSchema2), nil)
	require.ErrorContains(t, err, "media type")
	// A layer that is not what the config says.
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	wrong := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	config.RootFS.DiffIDs[0], config.Config.Labels[container.LabelFinalDiffID] = wrong, wrong.String()
	bad, err := mutate.ConfigFile(img, config)
	require.NoError(t, err)
	_, err = container.ReplaceDetachedMetadata(t.Context(), cache, bad, nil)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	left, err := filepath.Glob(filepath.Join(t.TempDir(), "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// ostree-ext writes the same tar stream.
func TestReplaceDetachedMetadataLikeOstreeExt(t *testing.T) {
	peer := interop.OstreeExt(t)
	from := unpack(t, "image-v1-pack8.tar.zst")
	img := golden(t, "image-v1-pack8.tar.zst")
	file := filepath.Join(t.TempDir(), "metadata")
	require.NoError(t, os.WriteFile(file, detached(t, "signed"), 0o644))
	to := filepath.Join(t.TempDir(), "out")
	_, err := layout.Write(to, empty.Index)
	require.NoError(t, err)
	run(t, peer, "container", "image", "replace-detached-metadata", "--src=oci:"+from, "--dest=oci:"+to, file)
	theirs := importLayout(t, to)
	ours, err := container.ReplaceDetachedMetadata(t.Context(), openCache(t, t.TempDir()), img, detached(t, "signed"))
	require.NoError(t, err)
	a, err := theirs.ConfigFile()
	require.NoError(t, err)
	b, err := ours.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, a.RootFS.DiffIDs, b.RootFS.DiffIDs)
	repo := requirePeerImports(t, peer, ours)
	require.Contains(t, run(t, "ostree", "--repo="+repo, "show", "--print-detached-metadata-key=note", "imported"), "signed")
}

func ExampleRechunk() {
	ctx, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cache, err := container.OpenCache(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	scratch, err := ostree.Init(ctx, filepath.Join(dir, "scratch"), ostree.ModeBareUser, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer scratch.Close()
	again, err := container.Rechunk(ctx, cache, scratch, img, &container.EncapsulateOptions{Codec: container.Zstd})
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := container.ReplaceDetachedMetadata(ctx, cache, again, nil) // no signatures
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := signed.Manifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Layers[0].MediaType, m.Annotations[container.LabelCommit][:16])
	// Output: application/vnd.oci.image.layer.v1.tar+zstd 345aa1b17fa6a12e
}
