package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/ostree"
)

// NodeBuild is an image that a builder is asked to make. All paths are absolute.
type NodeBuild struct {
	Containerfile string
	Context       string // folder of the build context
	// From is the folder of an OCI layout with one image that takes the place of
	// the first FROM.
	From string
	// Args and Labels are NAME=VALUE, sorted by name; labels are set on the image.
	Args, Labels []string
	// Created is the time of all files and of the image; zero: now.
	Created time.Time
	// Output is the folder where an OCI layout with the one image is to be made.
	Output string
}

// BuildNodeOptions are for [BuildNode]. Context, Dir and Build are required.
type BuildNodeOptions struct {
	// Context is the folder that the spec's paths are in.
	Context string
	// Dir is an empty folder for files on the way. It is the caller's to remove,
	// when the images are no longer read.
	Dir string
	// Build runs a builder, buildah for instance.
	Build func(ctx context.Context, b *NodeBuild) error
	// Codec and Level are as in [EncapsulateOptions], for layers that are added.
	Codec Codec
	Level int
}

// BuildNode builds the node image on a base image and then its extensions image,
// nil if the spec has none, and checks them by [CheckNode].
//
// A builder unpacks images and packs them again: the base image's layers come
// back under other digests. So the images given have the base's own layers, which
// registries and machines have already, and the others compressed as
// [Encapsulate] does it, through cache, which must stay open. A node image without
// a list of packages in its last layer, as OpenShift wants it, gets a layer with
// that. Same files from the builder, same digests.
func BuildNode(ctx context.Context, cache *Cache, base v1.Image, spec *NodeSpec, opts *BuildNodeOptions) (node, extensions v1.Image, err error) {
	if opts == nil || opts.Context == "" || opts.Dir == "" || opts.Build == nil {
		return nil, nil, &Error{"node", "options", fmt.Errorf("context, dir and build are needed: %w", fs.ErrInvalid)}
	}
	b := &nodeBuilder{cache: cache, spec: spec, opts: opts}
	if node, extensions, err = b.run(ctx, base); err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = &Error{"node", "image", err}
		}
		return nil, nil, err
	}
	return node, extensions, CheckNode(ctx, base, node, extensions)
}

type nodeBuilder struct {
	cache    *Cache
	spec     *NodeSpec
	opts     *BuildNodeOptions
	encoding encoding
}

func (b *nodeBuilder) run(ctx context.Context, base v1.Image) (node, extensions v1.Image, err error) {
	if b.encoding, err = newEncoding(b.opts.Codec, b.opts.Level); err != nil {
		return nil, nil, err
	}
	nodeFile, extensionsFile, err := RenderNode(b.spec)
	if err != nil {
		return nil, nil, err
	}
	build := &NodeBuild{}
	if build.From, err = b.write("base", base); err != nil {
		return nil, nil, err
	}
	if build.Containerfile, err = b.containerfile("Containerfile", nodeFile, b.spec.Containerfile); err != nil {
		return nil, nil, err
	}
	if b.spec.Containerfile != "" {
		build.Labels = nodePairs(b.spec.nodeLabels())
	}
	built, err := b.build(ctx, build, "node")
	if err != nil {
		return nil, nil, fmt.Errorf("build: %w", err)
	}
	if node, err = b.graft(ctx, base, built); err != nil {
		return nil, nil, err
	}
	if !b.spec.hasExtensions() {
		return node, nil, nil
	}
	build = &NodeBuild{}
	if build.From, err = b.write("node-image", node); err != nil {
		return nil, nil, err
	}
	if build.Containerfile, err = b.containerfile("Containerfile.extensions", extensionsFile, b.spec.ExtensionsContainerfile); err != nil {
		return nil, nil, err
	}
	if b.spec.ExtensionsContainerfile != "" {
		build.Labels = nodePairs(b.spec.extensionsLabels())
	} else if b.spec.manager() == ManagerNone {
		build.From = "" // it has no stage of the node image
	}
	if built, err = b.build(ctx, build, "extensions"); err != nil {
		return nil, nil, fmt.Errorf("build extensions: %w", err)
	}
	extensions, err = b.graft(ctx, nil, built)
	return node, extensions, err
}

// containerfile gives the path of what was rendered, or of the spec's own.
func (b *nodeBuilder) containerfile(name, text, own string) (string, error) {
	if own != "" {
		return filepath.Abs(filepath.Join(b.opts.Context, filepath.FromSlash(own)))
	}
	file, err := filepath.Abs(filepath.Join(b.opts.Dir, name))
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// write makes a layout with one image.
func (b *nodeBuilder) write(name string, img v1.Image) (string, error) {
	dir, err := filepath.Abs(filepath.Join(b.opts.Dir, name))
	if err != nil {
		return "", err
	}
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	return dir, to.AppendImage(img)
}

// build has one image made.
func (b *nodeBuilder) build(ctx context.Context, build *NodeBuild, name string) (_ v1.Image, err error) {
	if build.Context, err = filepath.Abs(b.opts.Context); err != nil {
		return nil, err
	}
	if build.Output, err = filepath.Abs(filepath.Join(b.opts.Dir, name)); err != nil {
		return nil, err
	}
	build.Args, build.Created = nodePairs(b.spec.Args), b.spec.Created
	if err := b.opts.Build(ctx, build); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(build.Output)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("the builder made %d images, not one", len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// nodePairs gives NAME=VALUE, sorted by name.
func nodePairs(m map[string]string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return out
}

// graft gives a built image with the base's layers as the base has them and the
// others encoded here.
func (b *nodeBuilder) graft(ctx context.Context, base, built v1.Image) (v1.Image, error) {
	config, err := built.RawConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := layersToRead(built)
	if err != nil {
		return nil, err
	}
	out := &image{config: config}
	annotations := map[string]string{}
	if base != nil {
		if out.layers, annotations, err = nodeBaseLayers(base, layers); err != nil {
			return nil, err
		}
	}
	for i := len(out.layers); i < len(layers); i++ {
		l, err := b.encode(ctx, layers[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i, layers[i].descriptor.Digest, err)
		}
		out.layers = append(out.layers, l)
	}
	if err := out.rewrite(annotations); err != nil {
		return nil, err
	}
	if base != nil {
		if err := b.addMetaLayer(ctx, out); err != nil {
			return nil, fmt.Errorf("list of packages: %w", err)
		}
	}
	final, err := out.ConfigFile()
	if err != nil {
		return nil, err
	}
	for key := range annotations {
		if v, ok := final.Config.Labels[key]; ok {
			annotations[key] = v
		}
	}
	return out, out.rewrite(annotations)
}

// nodeBaseLayers are the layers that a built image has of its base.
func nodeBaseLayers(base v1.Image, built []builtLayer) ([]builtLayer, map[string]string, error) {
	layers, err := layersToRead(base)
	if err != nil {
		return nil, nil, err
	}
	for i := range layers {
		if i == len(built) || layers[i].diffID != built[i].diffID {
			return nil, nil, fmt.Errorf("layer %d is not that of the base image: the image was built of another", i)
		}
		layers[i].Layer = &priorLayer{layers[i].Layer, layers[i].diffID, layers[i].descriptor}
	}
	m, err := base.Manifest()
	if err != nil {
		return nil, nil, err
	}
	annotations := maps.Clone(m.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	return layers, annotations, nil
}

// rewrite makes the manifest of config and layers.
func (i *image) rewrite(annotations map[string]string) error {
	digest, size, err := v1.SHA256(bytes.NewReader(i.config))
	if err != nil {
		return err
	}
	descriptors := make([]any, len(i.layers))
	for k, l := range i.layers {
		descriptors[k] = describe(l.descriptor)
	}
	m := map[string]any{
		"config":        describe(v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: digest, Size: size}),
		"layers":        descriptors,
		"mediaType":     string(types.OCIManifestSchema1),
		"schemaVersion": 2,
	}
	if len(annotations) > 0 {
		m["annotations"] = annotations
	}
	i.manifest, err = canonicalJSON(m)
	return err
}

// encode gives a layer compressed by this package.
func (b *nodeBuilder) encode(ctx context.Context, l builtLayer) (builtLayer, error) {
	made, err := b.cached(ctx, "okd-streams layer", l.diffID.String(), func(w io.Writer) error {
		plain, err := uncompressed(&priorLayer{l.Layer, l.diffID, l.descriptor})
		if err != nil {
			return err
		}
		_, err = io.Copy(w, contextReader{ctx, plain})
		return errors.Join(err, plain.Close())
	})
	if err == nil && made.diffID != l.diffID {
		err = fmt.Errorf("content is %s, not %s: %w", made.diffID, l.diffID, ostree.ErrCorrupt)
	}
	return made, err
}

// cached gives the layer of that content from the cache, where write makes it if
// need be.
func (b *nodeBuilder) cached(ctx context.Context, kind, name string, write func(io.Writer) error) (builtLayer, error) {
	k := newKeyHash()
	k.text(kind)
	k.text(name)
	key := k.key().with(b.encoding)
	if r, ok, err := b.cache.lookup(ctx, key); err != nil {
		return builtLayer{}, err
	} else if ok {
		return cachedBuilt(b.cache, b.encoding, r), nil
	}
	c, err := newCompressor(b.encoding, b.encoding.workers(0), 1)
	if err != nil {
		return builtLayer{}, err
	}
	defer c.stop()
	file, err := b.cache.create()
	if err != nil {
		return builtLayer{}, err
	}
	s := c.newStream(ctx, file)
	if err := write(s); err != nil {
		s.abort()
		file.drop()
		return builtLayer{}, err
	}
	made, err := s.finish()
	if err != nil {
		file.drop()
		return builtLayer{}, err
	}
	r, err := file.keep(key, made)
	if err != nil {
		return builtLayer{}, err
	}
	return cachedBuilt(b.cache, b.encoding, r), nil
}

// addMetaLayer appends the list of packages, where there is none in the last
// layer, and says so by the label. An image without a package database has none.
func (b *nodeBuilder) addMetaLayer(ctx context.Context, img *image) error {
	i, err := inspect(ctx, img)
	if err != nil {
		return err
	}
	if n := len(i.Layers); n > 0 && i.Labels[LabelMetaLayer] == "true" {
		if _, err := readFromLayer(ctx, img, i.Layers[n-1], metaLayerFile); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	packages, err := databasePackages(ctx, &Flattened{Image: img, TempDir: b.opts.Dir})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	created := time.Unix(0, 0)
	if !b.spec.Created.IsZero() {
		created = b.spec.Created
	}
	archive, err := metaLayer(packages, created)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(archive)
	l, err := b.cached(ctx, "okd-streams meta layer", hexString(sum[:]), func(w io.Writer) error {
		_, err := w.Write(archive)
		return err
	})
	if err != nil {
		return err
	}
	img.layers = append(img.layers, l)
	img.config, err = editJSON(img.config, func(config map[string]any) bool {
		rootfs, ok := config["rootfs"].(map[string]any)
		if !ok {
			return false
		}
		ids, _ := rootfs["diff_ids"].([]any)
		rootfs["diff_ids"] = append(ids, l.diffID.String())
		history, _ := config["history"].([]any)
		config["history"] = append(history, map[string]any{"created": timestamp(created), "created_by": "okd-streams: list of packages"})
		inner, ok := config["config"].(map[string]any)
		if !ok {
			inner = map[string]any{}
			config["config"] = inner
		}
		labels, ok := inner["Labels"].(map[string]any)
		if !ok {
			labels = map[string]any{}
			inner["Labels"] = labels
		}
		labels[LabelMetaLayer] = "true"
		return true
	})
	return err
}

// metaLayer is a layer with the list of packages that OpenShift reads.
func metaLayer(packages []ostree.Package, created time.Time) ([]byte, error) {
	var rows [][5]string
	for _, p := range packages {
		epoch := p.Epoch
		if epoch == "" {
			epoch = "0"
		}
		rows = append(rows, [5]string{p.Name, epoch, p.Version, p.Release, p.Arch})
	}
	slices.SortFunc(rows, func(a, b [5]string) int { return slices.Compare(a[:], b[:]) })
	data, err := json.Marshal(map[string]any{metaLayerKey: rows})
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var dirs []string
	for dir := path.Dir(metaLayerFile); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: created, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: metaLayerFile, Mode: 0o644, Size: int64(len(data)), ModTime: created, Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return buf.Bytes(), err
}
