package promotion_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/stream"
)

const (
	host     = "registry.example.com"
	nightly  = host + "/origin/release"
	releases = host + "/okd/scos-release"
	content  = host + "/okd/scos-content"
)

var (
	sourceTime = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	now        = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
)

// layer is a layer of these files: name, content, name, content. An empty
// content is a folder.
func layer(t testing.TB, files ...string) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		hdr := &tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Mode: 0o755, ModTime: sourceTime}
		if files[i+1] == "" {
			hdr.Typeflag = tar.TypeDir
		}
		require.NoError(t, tw.WriteHeader(hdr))
		_, err := io.WriteString(tw, files[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, tarball.WithMediaType(types.DockerLayer))
	require.NoError(t, err)
	return l
}

func image(t testing.TB, arch string, labels map[string]string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.DockerManifestSchema2), layers...)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Config.Labels = arch, "linux", labels
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// marker is the room that a program has for what is written into it.
func marker(name string, size int) string {
	return "\x00_" + name + "_LOCATION_\x00" + strings.Repeat("X", size) + "\x00"
}

// world is everything around promotions.
type world struct {
	t        testing.TB
	store    *memstore.Store
	registry publish.Registry
	host     string
	node     bool // payloads have a node image
	multi    bool // and are of several architectures
	accepted []controller.Tag

	mu       sync.Mutex
	fault    func(publishtest.Call) error // of every backend
	drafts   map[string]string            // version to what it has
	public   map[string]string
	latest   string
	streams  map[string]string // image stream tags
	notified []string
	gates    map[string]publish.GateResult
	passed   bool // all gates were asked and passed
	clock    time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, store: memstore.New(), registry: newMemory(), host: host, clock: now,
		drafts: map[string]string{}, public: map[string]string{}, streams: map[string]string{},
		gates: map[string]publish.GateResult{"aws": publish.GatePassed, "upgrade": publish.GatePassed},
	}
	return w
}

// clone is the same world again; nothing was promoted in it yet.
func (w *world) clone(t testing.TB) *world {
	t.Helper()
	out := newWorld(t)
	out.accepted = w.accepted
	m, ok := w.registry.(*memory)
	require.True(t, ok)
	out.registry = m.clone()
	return out
}

func (w *world) push(repository string, img v1.Image) name.Digest {
	w.t.Helper()
	repo, err := name.NewRepository(repository, name.StrictValidation)
	require.NoError(w.t, err)
	d, err := w.registry.WriteImage(w.t.Context(), repo, img, nil)
	require.NoError(w.t, err)
	return repo.Digest(d.Digest.String())
}

func (w *world) pushIndex(repository string, idx v1.ImageIndex) name.Digest {
	w.t.Helper()
	repo, err := name.NewRepository(repository, name.StrictValidation)
	require.NoError(w.t, err)
	d, err := w.registry.WriteIndex(w.t.Context(), repo, idx, nil)
	require.NoError(w.t, err)
	return repo.Digest(d.Digest.String())
}

// payload makes and accepts a nightly whose components are of a revision.
func (w *world) payload(version, revision string) name.Digest {
	w.t.Helper()
	commit := fmt.Sprintf("%040x", []byte(revision))[:40]
	labels := func(repo string, more ...string) map[string]string {
		out := map[string]string{"io.openshift.build.commit.id": commit, "io.openshift.build.source-location": "https://github.com/openshift/" + repo}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	component := func(img v1.Image) name.Reference { return w.push(w.host+"/origin/scos", img) }
	oc := "#!oc " + marker("RELEASE_VERSION", 64)
	install := "#!install " + marker("RELEASE_IMAGE", 300) + marker("RELEASE_VERSION", 64) + marker("RELEASE_ARCHITECTURE", 64)
	spec := &payload.Spec{
		Version: version, Created: sourceTime, Previous: []string{"4.21.0-0.okd-scos-nightly-2026-01-01-000000"},
		Components: map[string]name.Reference{
			"cluster-version-operator": component(image(w.t, "amd64", labels("cvo"), layer(w.t, "usr/bin/cvo", "cvo"))),
			"example-operator": component(image(w.t, "amd64", labels("example", payload.LabelOperator, "true"), layer(w.t, "usr/bin/example", revision),
				layer(w.t, "manifests/", "", "manifests/10_deployment.yaml", "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\nimage: example.org/cli:v1\nversion: 0.0.1-snapshot\n",
					"manifests/image-references", "kind: ImageStream\napiVersion: image.openshift.io/v1\nspec:\n  tags:\n  - name: cli\n    from: {kind: DockerImage, name: example.org/cli:v1}\n"))),
			"cli":       component(image(w.t, "amd64", labels("oc"), layer(w.t, "usr/bin/oc", oc+revision))),
			"installer": component(image(w.t, "amd64", labels("installer"), layer(w.t, "usr/bin/openshift-install", install+revision))),
		},
	}
	if w.node {
		spec.Components["stream-coreos"] = component(image(w.t, "amd64", labels("os", "io.openshift.metalayer", "true", "io.openshift.build.versions", "machine-os=9.0.1"), layer(w.t, "usr/bin/sh", revision),
			layer(w.t, "usr/share/openshift/base/meta.json", `{"rpmdb.pkglist":[["kernel","0","5.14","`+revision+`","x86_64"],["systemd","0","252","1","x86_64"]]}`)))
		spec.Components["stream-coreos-extensions"] = component(image(w.t, "amd64", labels("os"), layer(w.t, "usr/share/rpm-ostree/extensions.json", "{}")))
	}
	if w.multi {
		idx := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
		for _, arch := range []string{"amd64", "arm64"} {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
				Add:        image(w.t, arch, labels("cvo"), layer(w.t, "usr/bin/cvo", "cvo "+arch)),
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
			})
		}
		spec.Components["cluster-version-operator"] = w.pushIndex(w.host+"/origin/scos", idx)
		spec.Metadata = map[string]any{payload.MetadataArchitecture: "multi"}
	}
	built, err := payload.Assemble(w.t.Context(), w.registry, spec, &payload.AssembleOptions{ManifestList: w.multi})
	require.NoError(w.t, err)
	var ref name.Digest
	if w.multi {
		ref = w.pushIndex(w.host+"/origin/release", built.Index)
	} else {
		ref = w.push(w.host+"/origin/release", built.Image)
	}
	w.accepted = append(w.accepted, controller.Tag{Name: version, Phase: controller.Accepted, PullSpec: ref.Name()})
	return ref
}

// published is a release that was promoted by others, in the repository.
func (w *world) published(versions ...string) {
	w.t.Helper()
	for _, version := range versions {
		before := w.accepted
		ref := w.payload(version, version)
		w.accepted = before
		img, err := w.registry.Image(w.t.Context(), ref)
		require.NoError(w.t, err)
		d := w.push(w.host+"/okd/scos-release", img)
		digest, err := v1.NewHash(d.DigestStr())
		require.NoError(w.t, err)
		require.NoError(w.t, w.registry.Tag(w.t.Context(), d.Context().Tag(version), digest))
	}
}

func settings() *promotion.Settings { return settingsAt(host) }

func settingsAt(host string) *promotion.Settings {
	return &promotion.Settings{
		Stream: "4-scos-stable", Scheme: stream.SchemeSCOS, Release: host + "/okd/scos-release", Content: host + "/okd/scos-content", Tags: []stream.Template{"latest", "${MINOR}"},
		URL: "https://example.com/${VERSION}", Gates: []string{"aws", "upgrade"}, Announce: "okd-project/okd", Latest: true, Notify: true, ImageStream: "release-scos",
		Graph: "graph.json", Channels: []stream.Template{"stable-scos", "stable-scos-${MINOR}"}, Edges: stream.TestedOrPrevious,
		OS: []string{"linux/amd64"},
	}
}

func fixture(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "pgpsigner", "testdata", file))
	require.NoError(t, err)
	return data
}

func signer(t testing.TB, form pgpsigner.Form) func(time.Time) (payload.Signer, error) {
	key := fixture(t, "ed.secret.asc")
	return func(at time.Time) (payload.Signer, error) {
		return pgpsigner.ParseSigner(key, func() time.Time { return at }, &pgpsigner.SignerOptions{
			Form: form, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
		})
	}
}

// env is a machine's view of the world, with a folder of its own.
func (w *world) env() *promotion.Env {
	keys, err := pgpsigner.ParseKeyring(fixture(w.t, "ed.asc"))
	require.NoError(w.t, err)
	return &promotion.Env{
		Store: publishtest.Faulty(w.store, w.ask), Registry: publishtest.FaultyRegistry(w.registry, w.ask), Prefix: "promotions/",
		Dir: w.t.TempDir(), Now: func() time.Time { return w.clock },
		Accepted: func(context.Context) ([]controller.Tag, error) { return w.accepted, w.call("accepted", "", func() {}) },
		Signer:   signer(w.t, pgpsigner.Packed), Keys: keys, SignaturePrefix: "signatures/", SumsSigner: signer(w.t, pgpsigner.Armored),
		Gate: w.gate, Announcer: w, ImageStreams: imageStreams{w},
		Notify: func(_ context.Context, r *promotion.Release) error {
			return w.call("notify", r.Version, func() { w.notified = append(w.notified, r.Version) })
		},
	}
}

// cosigned has a machine sign images as cosign does.
func cosigned(t testing.TB, env *promotion.Env) *promotion.Env {
	t.Helper()
	read := func(file string) []byte {
		data, err := os.ReadFile(filepath.Join("..", "cosignsigner", "testdata", file))
		require.NoError(t, err)
		return data
	}
	signer, err := cosignsigner.ParseSigner(read("cosign.key"), &cosignsigner.SignerOptions{Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil }})
	require.NoError(t, err)
	key, err := payload.ParseCosignKey(read("cosign.pub"))
	require.NoError(t, err)
	env.ImageSigner, env.ImageKeys = signer, []*payload.CosignKey{key}
	return env
}

func (w *world) ask(c publishtest.Call) error {
	w.mu.Lock()
	fault := w.fault
	w.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(c)
}

// call is a call of a backend that is not a store or registry.
func (w *world) call(op, target string, fn func()) error {
	if err := w.ask(publishtest.Call{Op: op, Target: target}); err != nil {
		return err
	}
	w.mu.Lock()
	fn()
	w.mu.Unlock()
	return w.ask(publishtest.Call{Op: op, Target: target, After: true})
}

func (w *world) gate(_ context.Context, _ *promotion.Release, gate string) (result publish.GateResult, err error) {
	err = w.call("gate", gate, func() {
		result = w.gates[gate]
		w.passed = !slices.ContainsFunc(slices.Collect(maps.Values(w.gates)), func(r publish.GateResult) bool { return r != publish.GatePassed })
	})
	return result, err
}

func describe(ctx context.Context, a *promotion.Announcement) (string, error) {
	text := fmt.Sprintf("latest=%v prerelease=%v %s", a.Latest, a.Prerelease, sum([]byte(a.Body)))
	for _, asset := range a.Assets {
		r, err := asset.Source.Open(ctx)
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return "", err
		}
		if sum(data) != asset.SHA256 {
			return "", fmt.Errorf("%s: %w", asset.Name, publish.ErrDigest)
		}
		text += " " + asset.Name + "=" + asset.SHA256
	}
	return text, nil
}

func sum(data []byte) string {
	h, _, _ := v1.SHA256(bytes.NewReader(data))
	return h.Hex
}

func (w *world) Prepare(ctx context.Context, a *promotion.Announcement) error {
	text, err := describe(ctx, a)
	if err != nil {
		return err
	}
	return w.call("prepare", a.Version, func() {
		if w.public[a.Version] == "" {
			w.drafts[a.Version] = text
		}
	})
}

func (w *world) Publish(ctx context.Context, a *promotion.Announcement) error {
	text, err := describe(ctx, a)
	if err != nil {
		return err
	}
	return w.call("publish", a.Version, func() {
		delete(w.drafts, a.Version)
		w.public[a.Version] = text
		if a.Latest {
			w.latest = a.Version
		}
	})
}

func (w *world) Discard(_ context.Context, version string) error {
	return w.call("discard", version, func() { delete(w.drafts, version) })
}

type imageStreams struct{ *world }

func (s imageStreams) Tag(_ context.Context, imageStream, tag, pullspec string) error {
	return s.call("stream tag", imageStream+":"+tag, func() { s.streams[imageStream+":"+tag] = pullspec })
}

func (s imageStreams) Untag(_ context.Context, imageStream, tag, _ string) error {
	return s.call("stream untag", imageStream+":"+tag, func() { delete(s.streams, imageStream+":"+tag) })
}

func (w *world) tags(repository string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	repo, err := name.NewRepository(repository)
	require.NoError(w.t, err)
	for tag, err := range w.registry.Tags(w.t.Context(), repo) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		require.NoError(w.t, err)
		d, err := w.registry.Head(w.t.Context(), repo.Tag(tag))
		require.NoError(w.t, err)
		out[tag] = d.Digest.String()
	}
	return out
}

func (w *world) objects() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for info, err := range w.store.List(w.t.Context(), "") {
		require.NoError(w.t, err)
		data, _, err := publish.ReadDocument(w.t.Context(), w.store, info.Key)
		require.NoError(w.t, err)
		out[info.Key] = string(data)
	}
	return out
}

func (w *world) graph() *graph.Graph {
	w.t.Helper()
	data, _, err := publish.ReadDocument(w.t.Context(), w.store, "graph.json")
	if errors.Is(err, fs.ErrNotExist) {
		return &graph.Graph{}
	}
	require.NoError(w.t, err)
	g, err := graph.Decode(bytes.NewReader(data))
	require.NoError(w.t, err)
	return g
}

// read is what somebody does who follows every pointer: nothing that is pointed
// to may be missing, and nobody may be told of a release before its gates.
func (w *world) read(old map[string]string) error {
	ctx := context.Background()
	complete := func(pullspec string) error {
		ref, err := name.ParseReference(pullspec)
		if err != nil {
			return err
		}
		r, err := payload.Open(ctx, w.registry, ref, nil)
		if err != nil {
			return err
		}
		for _, t := range r.References.Tags {
			ref, err := r.Image(t.Name)
			if err != nil {
				return err
			}
			if _, err := w.registry.Head(ctx, ref); err != nil {
				return err
			}
		}
		return nil
	}
	repo, err := name.NewRepository(releases)
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for tag, err := range w.registry.Tags(ctx, repo) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		d, err := w.registry.Head(ctx, repo.Tag(tag))
		if err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
		if old[tag] != d.Digest.String() {
			told["tag "+tag] = true
			if err := complete(repo.Digest(d.Digest.String()).Name()); err != nil {
				return fmt.Errorf("tag %s: %w", tag, err)
			}
		}
	}
	for _, n := range w.graph().Nodes {
		told["node "+n.Version] = true
		if err := complete(n.Payload); err != nil {
			return fmt.Errorf("node %s: %w", n.Version, err)
		}
	}
	w.mu.Lock()
	for version := range w.public {
		told["announcement of "+version] = true
	}
	for tag, pullspec := range w.streams {
		told["image stream "+tag] = true
		if err := complete(pullspec); err != nil {
			w.mu.Unlock()
			return fmt.Errorf("image stream %s: %w", tag, err)
		}
	}
	passed := w.passed
	w.mu.Unlock()
	if len(told) > 0 && !passed {
		return fmt.Errorf("told before the gates: %v", slices.Sorted(maps.Keys(told)))
	}
	return nil
}

type controllerTag = controller.Tag

func mustRef(text string) name.Reference {
	ref, err := name.ParseReference(text)
	if err != nil {
		panic(err) // of a test's own text
	}
	return ref
}

// emptyFS has nothing.
type emptyFS struct{}

func (emptyFS) Open(string) (fs.File, error) { return nil, fs.ErrNotExist }

// otherDigest signs the same message of another image, as a signer that mixes
// up its requests.
type otherDigest struct {
	make func(time.Time) (payload.Signer, error)
	at   time.Time
}

func resign(ctx context.Context, make func(time.Time) (payload.Signer, error), at time.Time, message io.Reader, change func(*payload.Message)) ([]byte, error) {
	text, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	m, err := payload.DecodeMessage(text)
	if err != nil {
		return nil, err
	}
	change(m)
	s, err := make(at)
	if err != nil {
		return nil, err
	}
	return payload.Sign(ctx, m, s)
}

func (o otherDigest) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return resign(ctx, o.make, o.at, message, func(m *payload.Message) { m.Digest.Hex = strings.Repeat("b", 64) })
}

// otherName signs the image under another name.
type otherName struct {
	make func(time.Time) (payload.Signer, error)
	at   time.Time
}

func (o otherName) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return resign(ctx, o.make, o.at, message, func(m *payload.Message) { m.Reference = releases + ":4.21.0-okd-scos.2" })
}

func put(t testing.TB, w *world, key, text string) {
	t.Helper()
	_, err := w.store.Put(t.Context(), key, publish.BytesSource([]byte(text)), nil)
	require.NoError(t, err)
}
