package payload_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const repo = "registry.test/okd/content"

// entry is an entry of a layer; without a type it is a regular file, or a
// folder if the name ends in a slash.
type entry struct {
	name, data string
	kind       byte
	link       string
	modTime    time.Time
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	size := 1024
	for _, e := range entries {
		size += len(e.data) + 1024
	}
	buf.Grow(size)
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{Name: e.name, Typeflag: cmp.Or(e.kind, tar.TypeReg), Linkname: e.link, Mode: 0o644, Size: int64(len(e.data)), ModTime: e.modTime}
		if e.modTime.IsZero() {
			hdr.ModTime = testTime
		}
		if e.modTime.Nanosecond() != 0 {
			hdr.Format = tar.FormatPAX
		}
		if e.kind == 0 && e.name[len(e.name)-1] == '/' {
			hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
		}
		require.NoError(t, tw.WriteHeader(hdr))
		_, err := io.WriteString(tw, e.data)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	return buf.Bytes()
}

type imageSpec struct {
	oci    bool
	zstd   bool
	plain  bool // not compressed
	labels map[string]string
	layers [][]byte // tar
}

func makeImage(t testing.TB, spec imageSpec) v1.Image {
	t.Helper()
	img := empty.Image
	layerType, manifestType, configType := types.DockerLayer, types.DockerManifestSchema2, types.DockerConfigJSON
	if spec.oci {
		layerType, manifestType, configType = types.OCILayer, types.OCIManifestSchema1, types.OCIConfigJSON
	}
	var adds []mutate.Addendum
	for _, data := range spec.layers {
		opts := []tarball.LayerOption{tarball.WithMediaType(layerType)}
		if spec.zstd {
			opts = []tarball.LayerOption{tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd)}
		}
		var layer v1.Layer = static.NewLayer(data, types.DockerUncompressedLayer)
		if !spec.plain { // what looks compressed is read by this
			var err error
			layer, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, opts...)
			require.NoError(t, err)
		}
		adds = append(adds, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "test"}})
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, manifestType), configType)
	img, err := mutate.Append(img, adds...)
	require.NoError(t, err)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", Created: v1.Time{Time: testTime},
		Config:  v1.Config{Env: []string{"PATH=/usr/bin"}, Entrypoint: []string{"/bin/cvo"}, Labels: spec.labels},
		RootFS:  configOf(t, img).RootFS,
		History: configOf(t, img).History,
	})
	require.NoError(t, err)
	return img
}

func configOf(t testing.TB, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	require.NoError(t, err)
	return c
}

// world is a memory with a few components, by tag name.
type world struct {
	*memory
	components map[string]name.Reference
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{newMemory(), map[string]name.Reference{}}
	w.put(t, payload.BaseTag, imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/"}, entry{name: "usr/cvo", data: "cvo"}), tarOf(t, entry{name: "manifests/"}, entry{name: "manifests/0000_00_cvo.yaml", data: namespace("cvo")})}})
	return w
}

func (w *world) put(t testing.TB, tag string, spec imageSpec) name.Digest {
	t.Helper()
	ref := w.add(t, repo, makeImage(t, spec))
	w.components[tag] = ref
	return ref
}

// operator adds an operator with these files in its last layer; files is
// name, content, name, content.
func (w *world) operator(t testing.TB, tag string, files ...string) name.Digest {
	t.Helper()
	return w.put(t, tag, operatorSpec(t, files...))
}

func operatorSpec(t testing.TB, files ...string) imageSpec {
	t.Helper()
	entries := []entry{{name: "manifests/"}}
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, entry{name: "manifests/" + files[i], data: files[i+1]})
	}
	return imageSpec{
		labels: map[string]string{payload.LabelOperator: "true"},
		layers: [][]byte{tarOf(t, entry{name: "usr/"}, entry{name: "usr/bin", data: fmt.Sprint(files)}), tarOf(t, entries...)},
	}
}

func (w *world) plain(t testing.TB, tag string, labels map[string]string) name.Digest {
	t.Helper()
	return w.put(t, tag, imageSpec{labels: labels, layers: [][]byte{tarOf(t, entry{name: "usr/"}, entry{name: "usr/" + tag, data: tag})}})
}

func (w *world) spec() *payload.Spec {
	return &payload.Spec{Version: "4.20.0-test.1", Created: testTime, Components: w.components}
}

// stream gives the components as an image stream, as oc would be given them.
func (w *world) stream(t testing.TB) *payload.ImageStream {
	t.Helper()
	s := &payload.ImageStream{Name: "test"}
	for _, tag := range slices.Sorted(maps.Keys(w.components)) {
		s.Tags = append(s.Tags, payload.Tag{Name: tag, Kind: "DockerImage", Pullspec: w.components[tag].Name()})
	}
	return s
}

func (w *world) assemble(t testing.TB, spec *payload.Spec, opts *payload.AssembleOptions) (*payload.Built, *payload.Release, error) {
	t.Helper()
	built, err := payload.Assemble(t.Context(), w, spec, opts)
	if err != nil {
		return nil, nil, err
	}
	r, err := payload.Open(t.Context(), w, w.add(t, "registry.test/okd/release", built.Image), nil)
	require.NoError(t, err)
	require.Equal(t, built.DiffID, r.DiffID)
	return built, r, nil
}

// must is assemble without an error.
func (w *world) must(t testing.TB, spec *payload.Spec, opts *payload.AssembleOptions) (*payload.Built, *payload.Release) {
	t.Helper()
	built, r, err := w.assemble(t, spec, opts)
	require.NoError(t, err)
	return built, r
}

func filesOf(r *payload.Release) map[string]string {
	out := map[string]string{}
	for name, data := range r.Manifests() {
		out[name] = string(data)
	}
	return out
}

func tagsOf(r *payload.Release) []string {
	var out []string
	for _, t := range r.References.Tags {
		out = append(out, t.Name)
	}
	return out
}

func namespace(name string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + name + "\n"
}

// references is an operator's image-references; list is tag, placeholder, …
func references(list ...string) string {
	out := "kind: ImageStream\napiVersion: image.openshift.io/v1\nspec:\n  tags:\n"
	for i := 0; i < len(list); i += 2 {
		out += "  - name: " + list[i] + "\n    from:\n      kind: DockerImage\n      name: " + list[i+1] + "\n"
	}
	return out
}

func checksOf(t testing.TB, err error) []payload.Check {
	t.Helper()
	var out []payload.Check
	var found payload.Findings
	require.ErrorAs(t, err, &found)
	for _, f := range found {
		out = append(out, f.Check)
	}
	return out
}

var compatible = &payload.AssembleOptions{Compatible: true}

// rawImage makes an image from a configuration and layers that need not agree.
func rawImage(t testing.TB, config *v1.ConfigFile, layers []v1.Layer) v1.Image {
	t.Helper()
	r := &raw{layers: layers}
	var err error
	r.config, err = json.Marshal(config)
	require.NoError(t, err)
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Size: int64(len(r.config))}}
	m.Config.Digest, _, err = v1.SHA256(bytes.NewReader(r.config))
	require.NoError(t, err)
	for _, l := range layers {
		desc, err := partial.Descriptor(l)
		require.NoError(t, err)
		m.Layers = append(m.Layers, *desc)
	}
	r.manifest, err = json.Marshal(m)
	require.NoError(t, err)
	img, err := partial.CompressedToImage(r)
	require.NoError(t, err)
	return img
}

type raw struct {
	manifest, config []byte
	layers           []v1.Layer
}

func (r *raw) RawConfigFile() ([]byte, error)      { return r.config, nil }
func (r *raw) RawManifest() ([]byte, error)        { return r.manifest, nil }
func (r *raw) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }
func (r *raw) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range r.layers {
		if d, err := l.Digest(); err == nil && d == h {
			return l, nil
		}
	}
	return nil, fs.ErrNotExist
}
