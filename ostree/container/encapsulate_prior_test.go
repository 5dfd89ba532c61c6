package container_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// Whatever image came before, the new one is right: what can't be used of it is
// made, and its faults are told.
func TestPriorOfOtherShapes(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	components := split(t, repo, c)
	cache := openCache(t, t.TempDir())
	opts := container.EncapsulateOptions{Components: components}
	same := encapsulate(t, cache, repo, c, &opts)
	made := func(o container.EncapsulateOptions) v1.Image {
		o.Components = components
		return encapsulate(t, cache, repo, c, &o)
	}
	// again makes same anew, its layers with other descriptors.
	again := func(change func(i int, a *mutate.Addendum)) v1.Image {
		config, err := same.ConfigFile()
		require.NoError(t, err)
		m, err := same.Manifest()
		require.NoError(t, err)
		img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
		for i, d := range m.Layers {
			layer, err := same.LayerByDigest(d.Digest)
			require.NoError(t, err)
			a := mutate.Addendum{Layer: layer, Annotations: d.Annotations, MediaType: d.MediaType}
			change(i, &a)
			img, err = mutate.Append(img, a)
			require.NoError(t, err)
		}
		img, err = mutate.Config(img, config.Config)
		require.NoError(t, err)
		return img
	}
	unlike, err := random.Image(1000, 3)
	require.NoError(t, err)
	none, err := mutate.Config(empty.Image, v1.Config{Labels: map[string]string{container.LabelFinalDiffID: "sha256:" + strings.Repeat("0", 64)}})
	require.NoError(t, err)
	docker := map[types.MediaType]types.MediaType{types.OCILayer: types.DockerLayer}
	for _, tc := range []struct {
		name   string
		prior  v1.Image
		reused int    // layers taken from it; 0: not looked at
		none   bool   // none is
		want   string // of the error; "": none
	}{
		{name: "the same", prior: same, reused: 8},
		{name: "no layers", prior: empty.Image, none: true},
		{name: "no layers but labels", prior: none, want: "prior image"},
		{name: "another system", prior: unlike, none: true},
		{name: "without the commit", prior: made(container.EncapsulateOptions{Dialect: container.Plain})},
		{name: "as before", prior: made(container.EncapsulateOptions{Dialect: container.V1a})},
		{name: "directories in each layer", prior: made(container.EncapsulateOptions{FormatVersion: 2})},
		{name: "one layer", prior: encapsulate(t, cache, repo, c, nil)},
		{name: "uncompressed", prior: made(container.EncapsulateOptions{Codec: container.None}), reused: 8},
		{name: "derived", prior: importWith(t, same, archive(t, "usr/more=1")), reused: 8},
		{name: "of docker's types", prior: again(func(_ int, a *mutate.Addendum) { a.MediaType = docker[a.MediaType] }), reused: 8},
		{name: "encrypted", prior: again(func(_ int, a *mutate.Addendum) { a.MediaType += "+encrypted" }), none: true},
		{name: "blobs elsewhere", prior: again(func(_ int, a *mutate.Addendum) { a.URLs = []string{"https://example.com/blob"} }), none: true},
		{name: "no annotations", prior: again(func(_ int, a *mutate.Addendum) { a.Annotations = nil })},
		{name: "one component in each layer", prior: again(func(_ int, a *mutate.Addendum) {
			a.Annotations = map[string]string{container.AnnotationComponents: "usr/lib"}
		})},
		{name: "components without end", prior: again(func(i int, a *mutate.Addendum) {
			var names []string
			for n := range 5000 {
				names = append(names, fmt.Sprint(i, "-", n))
			}
			a.Annotations = map[string]string{container.AnnotationComponents: strings.Join(names, ",")}
		})},
		{name: "no manifest", prior: goneImage{Image: same, manifest: true}, want: "prior image: registry is gone"},
		{name: "no configuration", prior: goneImage{Image: same, config: true}, want: "prior image: registry is gone"},
		{name: "no layer", prior: goneImage{Image: same, layer: true}, want: "prior image: registry is gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := opts
			o.Prior = tc.prior
			var stats container.EncapsulateStats
			o.Stats = &stats
			img, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, &o)
			if tc.want != "" {
				require.ErrorContains(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			requireValid(t, img)
			m, err := img.Manifest()
			require.NoError(t, err)
			for _, l := range m.Layers {
				require.Contains(t, []types.MediaType{types.OCILayer, types.OCIUncompressedLayer, types.OCILayerZStd}, l.MediaType)
				require.Empty(t, l.URLs)
			}
			if tc.reused > 0 {
				require.Len(t, m.Layers, tc.reused)
			}
			if tc.reused > 0 || tc.none {
				require.Equal(t, tc.reused, stats.Reused)
			}
			dst := importRepo(t, ostree.ModeArchive)
			got, err := container.Import(t.Context(), dst, img, &container.ImportOptions{CommitOnly: true, Ref: "x"})
			require.NoError(t, err)
			require.Equal(t, c, got.Commit)
			require.NoError(t, dst.Fsck(t.Context(), nil))
		})
	}

	// A layer that was to be used and is gone when it is read is told by who reads.
	o := opts
	o.Prior = goneImage{Image: same, content: true}
	img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &o)
	require.ErrorIs(t, readAll(img), errRegistryGone)
	dst := importRepo(t, ostree.ModeBareUser)
	_, err = container.Import(t.Context(), dst, img, &container.ImportOptions{Name: "oci:x"})
	require.ErrorIs(t, err, errRegistryGone)
	require.ErrorContains(t, err, "layer 0 (sha256:")
	require.NoError(t, dst.Fsck(t.Context(), nil))
}

var errRegistryGone = errors.New("registry is gone")

// goneImage is an image of a registry that went away.
type goneImage struct {
	v1.Image
	manifest, config, layer, content bool
}

func (g goneImage) Manifest() (*v1.Manifest, error) {
	if g.manifest {
		return nil, errRegistryGone
	}
	return g.Image.Manifest()
}

func (g goneImage) ConfigFile() (*v1.ConfigFile, error) {
	if g.config {
		return nil, errRegistryGone
	}
	return g.Image.ConfigFile()
}

func (g goneImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if g.layer {
		return nil, errRegistryGone
	}
	l, err := g.Image.LayerByDigest(h)
	if g.content && err == nil {
		return goneLayer{l}, nil
	}
	return l, err
}

type goneLayer struct{ v1.Layer }

func (goneLayer) Compressed() (io.ReadCloser, error) { return nil, errRegistryGone }

// There and back in every way that the options allow, with any number of
// workers: the same commit, complete. There are more components than layers, of
// which each planner makes its own split.
func TestEveryWayAndBack(t *testing.T) {
	repo := newRepo(t)
	files := maps.Clone(sample)
	for i := range 12 {
		for k := range i%3 + 1 {
			files[fmt.Sprintf("usr/lib/package%02d/file%d", i, k)] = strings.Repeat(fmt.Sprintf("%d of %d\n", k, i), 40<<(i*5%9))
		}
	}
	c := commit(t, repo, files)
	components := split(t, repo, c)
	for i := range components {
		components[i].Frequency = uint32(i * 7 % 30)
		for path, text := range files {
			if filepath.Dir(path) == components[i].ID {
				components[i].Size += int64(len(text))
			}
		}
	}
	require.Len(t, components, 18)
	const layers = 8 // beside the commit's, with the reserved one
	cache := openCache(t, t.TempDir())
	modes := importModes()
	splits := map[string]string{} // by planner
	n := 0
	for _, dialect := range []container.Dialect{container.V1b, container.V1a} {
		for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
			for _, planner := range []container.Planner{nil, container.Frugal{}, container.Stable{}, container.OstreeExt{}, container.Separate{}} {
				var want string
				for _, workers := range []int{1, 3} {
					opts := container.EncapsulateOptions{Dialect: dialect, Codec: codec, Components: components, Planner: planner, MaxLayers: layers, Workers: workers}
					if _, ok := planner.(container.Separate); ok {
						opts.MaxLayers = 0
					}
					if workers == 3 {
						cache = openCache(t, t.TempDir())
					}
					img := encapsulate(t, cache, repo, c, &opts)
					if want == "" {
						want = digest(t, img)
					}
					require.Equal(t, want, digest(t, img), "%s %s %T", dialect, codec, planner)
					m, err := img.Manifest()
					require.NoError(t, err)
					if opts.MaxLayers != 0 {
						require.LessOrEqual(t, len(m.Layers), 1+layers, "%T", planner)
					} else {
						require.Len(t, m.Layers, 1+len(components)+1)
					}
					var members []string
					for _, l := range m.Layers {
						members = append(members, l.Annotations[container.AnnotationComponents])
					}
					slices.Sort(members)
					name, made := fmt.Sprintf("%T", planner), strings.Join(members, "; ")
					if splits[name] == "" {
						splits[name] = made
					}
					require.Equal(t, splits[name], made, "%s %s %s", dialect, codec, name)
					mode := modes[n%len(modes)]
					n++
					dst := importRepo(t, mode)
					got, err := container.Import(t.Context(), dst, img, &container.ImportOptions{CommitOnly: true, Ref: "x"})
					require.NoError(t, err, "%s %s %T into %s", dialect, codec, planner, mode)
					require.Equal(t, c, got.Commit)
					require.NoError(t, dst.Fsck(t.Context(), nil))
				}
			}
		}
	}
	require.Equal(t, splits["container.Stable"], splits["<nil>"], "the default without a prior image")
	delete(splits, "<nil>")
	require.Len(t, slices.Compact(slices.Sorted(maps.Values(splits))), 4, "%q", splits)
}
