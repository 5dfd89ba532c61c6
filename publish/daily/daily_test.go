package daily_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/stream"
)

const definition = `
apiVersion: streams.okd.io/v1alpha1
kind: Stream
identity: {name: test, title: Test, distribution: custom, osName: testos}
version: "4.21"
naming: {release: okd-scos, build: scos-base}
architectures: [x86_64]
os: {kind: given}
extensions: {required: true}
gates:
- {name: lint, kind: lint}
- {name: payload, kind: payload}
- {name: cluster, kind: external}
- {name: look, kind: external, mode: informing}
store: {url: "dir:store", prefix: "${STREAM}", publicURL: "https://example.org/files"}
registry:
  repository: example.org/okd
  node: {name: testos, tags: ["${BUILD}-${ARCH}", latest]}
  extensions: {name: testos-extensions, tags: [latest]}
  release: {name: release, tags: ["${VERSION}"]}
  content: content
payload: {nodeTags: [stream-coreos], extensionsTags: [stream-coreos-extensions]}
`

// world is what a run works in.
type world struct {
	env      *daily.Env
	def      *stream.Definition
	opts     daily.Options
	files    fstest.MapFS
	registry *layoutregistry.Registry
	store    publish.Store
}

func image(t *testing.T, labels map[string]string, files map[string]string) v1.Image {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, file := range []string{"manifests/00_namespace.yaml", "manifests/image-references", "manifests/10_config.yaml", "extensions"} {
		if content, ok := files[file]; ok {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}))
			_, err := io.WriteString(w, content)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.DockerManifestSchema2), layer)
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	file = file.DeepCopy()
	file.Config.Labels, file.OS, file.Architecture = labels, "linux", "amd64"
	img, err = mutate.ConfigFile(img, file)
	require.NoError(t, err)
	return img
}

func newWorld(t *testing.T) *world {
	ctx := t.Context()
	dir := t.TempDir()
	def, err := stream.Decode(strings.NewReader(definition))
	require.NoError(t, err)
	registry, err := layoutregistry.Open(ctx, filepath.Join(dir, "registry"), nil)
	require.NoError(t, err)
	w := &world{def: def, registry: registry, store: memstore.New(), files: fstest.MapFS{
		"boot/vmlinuz-6.1.0":            {Data: []byte("kernel"), Mode: 0o644},
		"boot/initrd.img-6.1.0":         {Data: []byte("initramfs"), Mode: 0o644},
		"usr/lib/modules/6.1.0/modules": {Data: []byte("x"), Mode: 0o644},
		"usr/lib/os-release":            {Data: []byte("VERSION_ID=\"9\"\n"), Mode: 0o644},
		"usr/bin/true":                  {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"etc/hosts":                     {Data: []byte("127.0.0.1 localhost\n"), Mode: 0o644},
	}}
	w.env = &daily.Env{State: filepath.Join(dir, "state"), Store: w.store, Registry: registry}
	content, err := name.NewRepository("example.org/okd/content")
	require.NoError(t, err)
	components := map[string]name.Reference{}
	for component, img := range map[string]v1.Image{
		"cluster-version-operator": image(t, nil, map[string]string{"extensions": ""}),
		"stream-coreos-extensions": image(t, map[string]string{"io.openshift.os.extensions": "true"}, map[string]string{"extensions": "x"}),
		"machine-config-operator": image(t, map[string]string{"io.openshift.release.operator": "true"}, map[string]string{
			"manifests/00_namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: mco}\n",
			"manifests/10_config.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: os}\ndata: {node: 'ph.example.org/os:node', ext: 'ph.example.org/os:ext', v: 0.0.1-snapshot, os: 0.0.1-snapshot-machine-os}\n",
			"manifests/image-references":  "kind: ImageStream\napiVersion: image.openshift.io/v1\nspec:\n  tags:\n  - {name: stream-coreos, from: {kind: DockerImage, name: 'ph.example.org/os:node'}}\n  - {name: stream-coreos-extensions, from: {kind: DockerImage, name: 'ph.example.org/os:ext'}}\n",
		}),
	} {
		desc, err := registry.WriteImage(ctx, content, img, nil)
		require.NoError(t, err)
		components[component] = content.Digest(desc.Digest.String())
	}
	w.opts = daily.Options{
		Time: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), SourceName: "test", Components: components,
		Extensions: components["stream-coreos-extensions"],
		Gates:      map[string]daily.GateResult{"cluster": {Passed: true}},
	}
	delete(components, "stream-coreos-extensions")
	return w
}

func (w *world) run(ctx context.Context) (*daily.Summary, error) {
	opts := w.opts
	if opts.Build == "" {
		opts.Source = ostree.FS(w.files)
	}
	return daily.Run(ctx, w.def, w.env, &opts)
}

func (w *world) head(t *testing.T, ref string) string {
	parsed, err := name.ParseReference(ref)
	require.NoError(t, err)
	desc, err := w.registry.Head(t.Context(), parsed)
	require.NoError(t, err)
	return desc.Digest.String()
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.False(t, s.Unchanged)
	require.Equal(t, "4.21.0-okd-scos.0", s.Version)
	require.Equal(t, "9.0.20261125-0", s.Build)
	require.Equal(t, "6.1.0", s.Commit.Kernel)

	// The tags are where they should be.
	require.Equal(t, s.Release.Digest, w.head(t, "example.org/okd/release:4.21.0-okd-scos.0"))
	require.Equal(t, s.Base.Digest, w.head(t, "example.org/okd/testos:latest"))
	require.Equal(t, s.Base.Digest, w.head(t, "example.org/okd/testos:9.0.20261125-0-x86_64"))

	// The payload names the image, and the OS version.
	ref, err := name.ParseReference(s.Release.Reference)
	require.NoError(t, err)
	release, err := payload.Open(t.Context(), w.registry, ref, nil)
	require.NoError(t, err)
	node, err := release.Image("stream-coreos")
	require.NoError(t, err)
	require.Equal(t, s.Base.Reference, node.Name())
	var manifests string
	for _, data := range release.Manifests() {
		manifests += string(data)
	}
	require.Contains(t, manifests, s.Base.Reference)
	require.Contains(t, manifests, "v: 4.21.0-okd-scos.0, os: 9.0.20261125-0")

	// The catalogue has the build, the stream file its kernel.
	body, _, err := w.store.Open(t.Context(), "test/builds/builds.json")
	require.NoError(t, err)
	builds, err := bootimage.DecodeBuilds(body)
	require.NoError(t, err)
	require.Equal(t, "9.0.20261125-0", builds.Value().Builds[0].ID)
	body, _, err = w.store.Open(t.Context(), "streams/test.json")
	require.NoError(t, err)
	meta, err := bootimage.DecodeStream(body)
	require.NoError(t, err)
	kernel := meta.Value().Architectures["x86_64"].Artifacts["metal"].Formats["pxe"].Kernel
	require.Equal(t, "https://example.org/files/test/builds/9.0.20261125-0/x86_64/testos-9.0.20261125-0-live-kernel.x86_64", kernel.Location)

	// The same again is nothing to do, even later.
	w.opts.Time = w.opts.Time.AddDate(0, 0, 1)
	again, err := w.run(t.Context())
	require.NoError(t, err)
	require.True(t, again.Unchanged)
	require.Equal(t, s.Release.Digest, again.Release.Digest)
	require.Equal(t, s.Build, again.Build)

	// Other content is another build, after this one.
	w.files["usr/bin/true"].Data = []byte("#!/bin/true\n")
	next, err := w.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.1", next.Version)
	require.Equal(t, "9.0.20261126-0", next.Build)
	require.Equal(t, next.Base.Digest, w.head(t, "example.org/okd/testos:latest"))
	for _, step := range next.Steps {
		switch step.Step {
		case daily.StepInputs:
			require.Equal(t, daily.Reuse{Items: 12, OfItems: 13}, subset(step.Reuse["files"]), "one of six files and seven links is new")
		case daily.StepEncapsulate:
			require.EqualValues(t, 1, step.Reuse["layers"].OfItems)
		}
	}

	// And the first content again is a build of its own, not the old one.
	w.files["usr/bin/true"].Data = []byte("#!/bin/sh\n")
	back, err := w.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "9.0.20261126-1", back.Build)
	require.Equal(t, s.Commit.Content, back.Commit.Content)
}

// TestLayersAreLinked: publishing to a folder on the same file system copies
// no layer.
func TestLayersAreLinked(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	ref, err := name.ParseReference(s.Base.Reference)
	require.NoError(t, err)
	img, err := w.registry.Image(t.Context(), ref)
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	for _, layer := range layers {
		digest, err := layer.Digest()
		require.NoError(t, err)
		blob := filepath.Join("blobs", digest.Algorithm, digest.Hex)
		cached, err := os.Stat(filepath.Join(w.env.State, "cache", blob))
		require.NoError(t, err)
		published, err := os.Stat(filepath.Join(w.registry.Dir(), "okd", "testos", blob))
		require.NoError(t, err)
		require.True(t, os.SameFile(cached, published), blob)
	}
}

// subset leaves bytes out, which depend on the compressor.
func subset(r daily.Reuse) daily.Reuse { return daily.Reuse{Items: r.Items, OfItems: r.OfItems} }

func TestRunPublishesAgainWhatWasLost(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.store.Delete(t.Context(), "test/builds/builds.json"))
	again, err := w.run(t.Context())
	require.NoError(t, err)
	require.False(t, again.Unchanged)
	require.Equal(t, s.Build, again.Build)
	_, err = w.store.Stat(t.Context(), "test/builds/builds.json")
	require.NoError(t, err)
}

// TestKilledBeforeTheLastRecord: what remains of a run that was killed when all
// was published is that build, not the start of another.
func TestKilledBeforeTheLastRecord(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	for _, lost := range []string{"publish.json", "report.html"} {
		require.NoError(t, os.Remove(filepath.Join(w.env.State, s.Build, lost)))
		again, err := w.run(t.Context())
		require.NoError(t, err)
		require.Equal(t, s.Build, again.Build, lost)
		require.Equal(t, s.Release.Digest, again.Release.Digest)
		require.FileExists(t, again.Report)
	}
}

func TestPendingGateHoldsPointersAndGoesOn(t *testing.T) {
	w := newWorld(t)
	w.opts.Gates = nil
	_, err := w.run(t.Context())
	require.ErrorIs(t, err, publish.ErrPending)
	require.ErrorContains(t, err, "cluster")
	tag, err := name.ParseReference("example.org/okd/release:4.21.0-okd-scos.0")
	require.NoError(t, err)
	_, err = w.registry.Head(t.Context(), tag)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = w.store.Stat(t.Context(), "streams/test.json")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = w.store.Stat(t.Context(), "test/builds/builds.json")
	require.NoError(t, err)

	w.opts.Gates = map[string]daily.GateResult{"cluster": {Reason: "no network"}}
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, daily.ErrRejected)
	require.ErrorContains(t, err, "no network")

	w.opts.Gates = map[string]daily.GateResult{"cluster": {Passed: true}}
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.0", s.Version)
	require.Equal(t, s.Release.Digest, w.head(t, tag.Name()))
}

func TestSourceIsTheDefinitionsImage(t *testing.T) {
	w := newWorld(t)
	// A tree as a tar stream, and as a container image.
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for file, f := range w.files {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: file, Mode: int64(f.Mode), Size: int64(len(f.Data))}))
		_, err := tw.Write(f.Data)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	opts := w.opts
	opts.Source = ostree.Tar(bytes.NewReader(buf.Bytes()))
	want, err := daily.Run(t.Context(), w.def, w.env, &opts)
	require.NoError(t, err)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	repo, err := name.NewRepository("example.org/okd/rootfs")
	require.NoError(t, err)
	desc, err := w.registry.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)

	w.def.OS.Source.Image = repo.Digest(desc.Digest.String()).Name()
	w.env.State = t.TempDir()
	opts = w.opts
	opts.Version = "4.21.0-okd-scos.7"
	got, err := daily.Run(t.Context(), w.def, w.env, &opts)
	require.NoError(t, err)
	require.Equal(t, want.Commit.Content, got.Commit.Content)
	require.Equal(t, "4.21.0-okd-scos.7", got.Version)
}

// TestTwoBuilders: builders of one stream on two machines, at once, lose nothing
// and use no name twice.
func TestTwoBuilders(t *testing.T) {
	w := newWorld(t)
	var group errgroup.Group
	summaries := make([]*daily.Summary, 3)
	for i := range summaries {
		group.Go(func() error {
			env, opts := *w.env, w.opts
			env.State = filepath.Join(t.TempDir(), "state")
			files := maps.Clone(w.files)
			files["etc/machine"] = &fstest.MapFile{Data: fmt.Append(nil, i), Mode: 0o644}
			opts.Source = ostree.FS(files)
			var err error
			summaries[i], err = daily.Run(t.Context(), w.def, &env, &opts)
			return err
		})
	}
	require.NoError(t, group.Wait())
	builds, versions, releases := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range summaries {
		builds[s.Build], versions[s.Version], releases[s.Release.Digest] = true, true, true
		ref, err := name.ParseReference(strings.Split(s.Release.Reference, "@")[0] + ":" + s.Version)
		require.NoError(t, err)
		d, err := w.registry.Head(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, s.Release.Digest, d.Digest.String(), "the tag of %s", s.Version)
	}
	require.Len(t, builds, 3)
	require.Len(t, versions, 3)
	require.Len(t, releases, 3)
	data, _, err := publish.ReadDocument(t.Context(), w.store, "test/builds/builds.json")
	require.NoError(t, err)
	for id := range builds {
		require.Contains(t, string(data), id)
	}
}

// An OSTree-native image as source gives the tree of its commit, with what a
// container engine does not see of it.
func TestSourceIsNativeImage(t *testing.T) {
	w := newWorld(t)
	opts := w.opts
	attributed := ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range ostree.FS(w.files).Entries(ctx) {
				if e.Mode&ostree.ModeType == 0o100000 {
					e.Xattrs = append(e.Xattrs, ostree.Xattr{Name: "security.selinux", Value: []byte("system_u:object_r:usr_t:s0\x00")})
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
	opts.Source = attributed
	want, err := daily.Run(t.Context(), w.def, w.env, &opts)
	require.NoError(t, err)

	w.def.OS.Source.Image = want.Base.Reference
	w.env.State = t.TempDir()
	opts = w.opts
	opts.Source, opts.Version = nil, "4.21.0-okd-scos.7"
	got, err := daily.Run(t.Context(), w.def, w.env, &opts)
	require.NoError(t, err)
	require.Equal(t, want.Commit.Content, got.Commit.Content)
}

func TestMissingIsNamedBeforeAnyWork(t *testing.T) {
	w := newWorld(t)
	w.opts.Extensions, w.opts.Components = nil, nil
	opts := w.opts
	_, err := daily.Run(t.Context(), w.def, w.env, &opts)
	require.ErrorIs(t, err, daily.ErrMissing)
	missing, ok := errors.AsType[*daily.MissingError](err)
	require.True(t, ok)
	require.Len(t, missing.Needs, 3, "%v", err)
	require.NoDirExists(t, filepath.Join(w.env.State, "repo"))
}

func TestStepsAlone(t *testing.T) {
	w := newWorld(t)
	whole := newWorld(t)
	want, err := whole.run(t.Context())
	require.NoError(t, err)

	opts := w.opts
	opts.Source = ostree.FS(w.files)
	first, err := daily.RunTo(t.Context(), w.def, w.env, &opts, daily.StepInputs)
	require.NoError(t, err)
	for _, step := range daily.Steps()[1:] {
		alone := daily.Options{Time: w.opts.Time, Build: first.Build, Gates: w.opts.Gates}
		s, err := daily.RunTo(t.Context(), w.def, w.env, &alone, step)
		require.NoError(t, err, step)
		require.False(t, s.Steps[len(s.Steps)-1].Reused, step)
		for _, before := range s.Steps[:len(s.Steps)-1] {
			require.True(t, before.Reused, "%s in %s", before.Step, step)
		}
		if step == daily.StepPublish {
			require.Equal(t, want.Release.Digest, s.Release.Digest)
			require.FileExists(t, s.Report)
		}
	}
	_, err = daily.RunTo(t.Context(), w.def, w.env, &daily.Options{Time: w.opts.Time, Build: "none"}, daily.StepCommit)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOnlyOneRunInAStateFolder(t *testing.T) {
	w := newWorld(t)
	inside := make(chan struct{})
	release := make(chan struct{})
	w.env.Progress = func(e daily.Event) {
		if e.Step == daily.StepCommit && e.Phase == "" {
			close(inside)
			<-release
		}
	}
	done := make(chan error)
	go func() {
		_, err := w.run(t.Context())
		done <- err
	}()
	<-inside
	env := *w.env
	env.Progress = nil
	other := *w
	other.env = &env
	_, err := other.run(t.Context())
	require.ErrorIs(t, err, daily.ErrBusy)
	close(release)
	require.NoError(t, <-done)
}

func TestTreeThatIsNoOperatingSystem(t *testing.T) {
	w := newWorld(t)
	delete(w.files, "boot/vmlinuz-6.1.0")
	_, err := w.run(t.Context())
	require.ErrorContains(t, err, "no operating system")
	require.ErrorContains(t, err, "kernel")
}
