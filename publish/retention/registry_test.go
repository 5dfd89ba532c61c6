package retention_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/retention"
)

// registry is what tests need of one.
type registry interface {
	publish.Registry
	retention.Registry
}

// yard is a stream's store and registry: three old builds of which nothing else
// knows, four of which something is needed, and the newest.
type yard struct {
	t     testing.TB
	reg   registry
	repo  name.Repository
	store publish.Store
	keep  []retention.Root

	names map[string]string // pullspec to what a test calls it
}

func (y *yard) image(text string) v1.Image {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, static.NewLayer([]byte(text), types.OCIUncompressedLayer))
	require.NoError(y.t, err)
	return mutate.Annotations(img, map[string]string{"is": text}).(v1.Image)
}

func (y *yard) write(what string, img v1.Image, tags ...string) v1.Descriptor {
	desc, err := y.reg.WriteImage(y.t.Context(), y.repo, img, nil)
	require.NoError(y.t, err)
	y.named(what, desc, tags)
	return desc
}

func (y *yard) named(what string, desc v1.Descriptor, tags []string) {
	y.names[y.repo.Digest(desc.Digest.String()).String()] = what
	for _, tag := range tags {
		require.NoError(y.t, y.reg.Tag(y.t.Context(), y.repo.Tag(tag), desc.Digest))
		y.names[y.repo.Tag(tag).String()] = what
	}
}

func (y *yard) index(what string, tags []string, images ...v1.Image) v1.Descriptor {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, img := range images {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]}}})
	}
	desc, err := y.reg.WriteIndex(y.t.Context(), y.repo, idx, nil)
	require.NoError(y.t, err)
	y.named(what, desc, tags)
	for i, img := range images {
		d, err := partial.Descriptor(img)
		require.NoError(y.t, err)
		y.named(fmt.Sprintf("%s/%d", what, i), *d, nil)
	}
	return desc
}

func (y *yard) attach(what string, to v1.Descriptor) v1.Descriptor {
	return y.write(what, mutate.Subject(y.image(what), to).(v1.Image))
}

// release is a payload that names one component.
func (y *yard) release(component v1.Descriptor) v1.Descriptor {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for file, text := range map[string]string{
		"image-references": fmt.Sprintf(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.21.0","creationTimestamp":null},"spec":{"tags":[{"name":"stream-coreos","from":{"kind":"DockerImage","name":%q}}]},"status":{}}`,
			y.repo.Digest(component.Digest.String())),
		"release-metadata": `{"kind":"cincinnati-metadata-v0","version":"4.21.0","previous":[]}`,
	} {
		require.NoError(y.t, tw.WriteHeader(&tar.Header{Name: "release-manifests/" + file, Mode: 0o644, Size: int64(len(text))}))
		_, err := io.WriteString(tw, text)
		require.NoError(y.t, err)
	}
	require.NoError(y.t, tw.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	require.NoError(y.t, err)
	img, err := mutate.AppendLayers(empty.Image, l)
	require.NoError(y.t, err)
	img, err = mutate.Config(img, v1.Config{Labels: map[string]string{"io.openshift.release": "4.21.0"}})
	require.NoError(y.t, err)
	return y.write("release", img)
}

func signature(d v1.Descriptor, kind string) string {
	return d.Digest.Algorithm + "-" + d.Digest.Hex + kind
}

// newYard makes one; a small one has builds 0, 1, 4 and the newest alone.
func newYard(t testing.TB, reg registry, repo string, small bool) *yard {
	r, err := name.NewRepository(repo)
	require.NoError(t, err)
	y := &yard{t: t, reg: reg, repo: r, store: memstore.New(), names: map[string]string{}}
	id := func(i int) string { return fmt.Sprintf("9.0.%d-0", i) }

	// 0: an index with all that can hang on it.
	lists, images := map[int]v1.Descriptor{}, map[int]v1.Descriptor{}
	arm := y.image("zero arm")
	amd := y.image("zero amd")
	lists[0] = y.index("list0", []string{id(0)}, amd, arm)
	d, err := partial.Descriptor(amd)
	require.NoError(t, err)
	images[0] = *d
	sbom := y.attach("sbom of list0", lists[0])
	y.attach("signature of the sbom", sbom)
	y.write("cosign of list0", y.image("cosign of list0"), signature(lists[0], ".sig"))
	y.write("cosign of list0/0", y.image("cosign of list0/0"), signature(*d, ".sig"))
	// 1 to 3: a tag, a payload and a promotion need an image each, 3 under an index.
	images[1] = y.write("image1", y.image("image1"), id(1), "next")
	y.attach("sbom of image1", images[1])
	// 4 shares its image with the newest.
	images[4] = y.write("shared", y.image("shared"), id(4))
	images[6] = images[4]
	if !small {
		images[2] = y.write("image2", y.image("image2"), id(2))
		y.keep = append(y.keep, retention.Root{Image: y.repo.Digest(y.release(images[2]).Digest.String()).String(), Reason: "release 4.21.0", Payload: true})
		third := y.image("image3")
		images[3] = y.write("image3", third, id(3))
		promoted := y.index("promoted", []string{"promotion"}, third)
		y.keep = append(y.keep, retention.Root{Image: y.repo.Digest(promoted.Digest.String()).String(), Reason: "promotion of 4.21.1"})
		// 5 has one bill of materials in common with 1.
		images[5] = y.write("image5", y.image("image5"), id(5)+"-x86_64")
		y.write("bill", y.image("bill"), signature(images[5], ".sbom"), signature(images[1], ".sbom"))
	}

	var entries []string
	for i := range 7 {
		if _, ok := images[i]; !ok {
			continue
		}
		age := 100
		if i == 6 {
			age = 0
		}
		list := ""
		if l, ok := lists[i]; ok {
			list = fmt.Sprintf(`,"manifest-list-digest":%q`, l.Digest)
		}
		put(t, y.store, "builds/"+id(i)+"/x86_64/meta.json", fmt.Sprintf(`{"buildid":%q,"name":"scos","ostree-commit":%q,"ostree-timestamp":%q,"ostree-version":"9.0","base-oscontainer":{"image":%q,"digest":%q%s}}`,
			id(i), strings.Repeat("a", 64), now.AddDate(0, 0, -age).Format("2006-01-02T15:04:05Z"), y.repo, images[i].Digest, list))
		entries = append([]string{fmt.Sprintf(`{"id":%q,"arches":["x86_64"]}`, id(i))}, entries...)
	}
	put(t, y.store, "builds/builds.json", `{"schema-version":"1.0.0","builds":[`+strings.Join(entries, ",")+`],"timestamp":"2026-11-26T00:00:00Z"}`)
	return y
}

// run makes a plan and, unless it is dry, applies it.
func (y *yard) run(ctx context.Context, reg retention.Registry, policy retention.Policy, dry bool) (*retention.Plan, error) {
	p, err := retention.New(ctx, y.store, "builds/", policy, now, &retention.Options{Registry: reg, Keep: y.keep})
	if err != nil || dry {
		return p, err
	}
	return p, p.Apply(ctx, y.store, now, &retention.ApplyOptions{Registry: reg, Keep: y.keep})
}

// there are the manifests that can be had, by what they are called.
func (y *yard) there() []string {
	found := map[string]bool{}
	for ref, what := range y.names {
		parsed, err := name.ParseReference(ref)
		require.NoError(y.t, err)
		_, err = y.reg.Head(y.t.Context(), parsed)
		if err == nil {
			found[what] = true
		} else {
			require.ErrorIs(y.t, err, fs.ErrNotExist)
		}
	}
	var out []string
	for what := range found {
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}

var (
	stays      = []string{"bill", "image1", "image2", "image3", "promoted", "promoted/0", "release", "sbom of image1", "shared"}
	staysSmall = []string{"image1", "sbom of image1", "shared"}
)

var containersOnly = retention.Policy{Containers: day}

func testYard(t *testing.T, reg registry, repo string) {
	y := newYard(t, reg, repo, false)
	before := y.there()
	p, err := y.run(t.Context(), reg, containersOnly, true)
	require.NoError(t, err)
	require.Equal(t, before, y.there(), "a plan removes nothing")
	var got []string
	for _, s := range p.Steps {
		got = append(got, s.Build)
		for _, m := range s.Manifests {
			what := y.names[m.Image]
			if what == "" {
				what = strings.TrimPrefix(m.Image, y.repo.String()+":")
				what = what[:6] // the list that stands in for the referrers API
			}
			got = append(got, string(m.Role)+" "+what)
		}
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "attached sha256" })
	require.Equal(t, []string{
		"9.0.0-0", "image list0", "child list0/0", "attached cosign of list0/0", "child list0/1", "attached signature of the sbom", "attached sbom of list0", "attached cosign of list0",
		"9.0.4-0",
		"9.0.5-0", "image image5",
	}, got)
	require.Equal(t, []retention.Pin{
		{Build: "9.0.1-0", Reason: "tag next", Kinds: []retention.Kind{retention.Containers}},
		{Build: "9.0.2-0", Reason: "release 4.21.0, component stream-coreos", Kinds: []retention.Kind{retention.Containers}},
		{Build: "9.0.3-0", Reason: "promotion of 4.21.1", Kinds: []retention.Kind{retention.Containers}},
	}, p.Kept)
	require.NoError(t, p.Apply(t.Context(), y.store, now, &retention.ApplyOptions{Registry: reg, Keep: y.keep}))
	require.Equal(t, stays, y.there())
	p, err = y.run(t.Context(), reg, containersOnly, true)
	require.NoError(t, err)
	require.Empty(t, p.Steps, "nothing is left to do")
}

func TestRegistryOfLayouts(t *testing.T) {
	testYard(t, layouts(t), "registry.example/okd/scos")
}

func TestDockerRegistry(t *testing.T) {
	host := interop.Registry(t)
	reg, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	testYard(t, reg, host+"/okd/scos")
}

// A registry that keeps no list of referrers itself and cannot untag, interrupted
// at each removal: the same plan, applied again, does the rest.
func TestDockerRegistryInterrupted(t *testing.T) {
	host := interop.Registry(t)
	reg, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	removals := 1
	for n := 0; n < removals; n++ {
		y := newYard(t, reg, fmt.Sprintf("%s/okd/scos-%d", host, n), true)
		p, err := y.run(t.Context(), reg, containersOnly, true)
		require.NoError(t, err)
		removals = 0
		for _, s := range p.Steps {
			removals += len(s.Manifests)
		}
		// Before and after it was done in turn; [TestRegistryInterrupted] has both.
		opts := &retention.ApplyOptions{Registry: &faulty{registry: reg, at: n + 1, after: n%2 == 1, removals: true}, Keep: y.keep}
		require.ErrorIs(t, p.Apply(t.Context(), y.store, now, opts), errFault)
		require.Subset(t, y.there(), staysSmall)
		opts.Registry = reg
		require.NoError(t, p.Apply(t.Context(), y.store, now, opts))
		require.Equal(t, staysSmall, y.there())
		p, err = y.run(t.Context(), reg, containersOnly, true)
		require.NoError(t, err)
		require.Empty(t, p.Steps)
	}
}

func layouts(t testing.TB) registry {
	reg, err := layoutregistry.Open(t.Context(), t.TempDir(), &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	return reg
}

// Whichever call fails, a removal also after it was done: what is needed is
// whole, and the next run does the rest.
func TestRegistryInterrupted(t *testing.T) {
	for _, policy := range []retention.Policy{containersOnly, {Build: day}} {
		clean := &faulty{registry: layouts(t)}
		_, err := newYard(t, clean, "registry.example/okd/scos", true).run(t.Context(), clean, policy, false)
		require.NoError(t, err)
		require.Contains(t, clean.deletes, true)
		for n, deletes := range clean.deletes {
			for _, after := range []bool{false, true} {
				if after && !deletes || policy.Build > 0 && !deletes {
					continue
				}
				y := newYard(t, layouts(t), "registry.example/okd/scos", true)
				f := &faulty{registry: y.reg, at: n + 1, after: after}
				_, err := y.run(t.Context(), f, policy, false)
				require.ErrorIs(t, err, errFault)
				require.Subset(t, y.there(), staysSmall, "call %d", n)
				_, err = y.run(t.Context(), y.reg, policy, false)
				require.NoError(t, err)
				require.Equal(t, staysSmall, y.there(), "call %d", n)
			}
		}
	}
}

// What is referred to since the plan was made stays.
func TestReferredToSince(t *testing.T) {
	y := newYard(t, layouts(t), "registry.example/okd/scos", false)
	p, err := y.run(t.Context(), y.reg, containersOnly, true)
	require.NoError(t, err)
	before := y.there()
	desc, err := y.reg.Head(t.Context(), y.repo.Tag("9.0.5-0-x86_64"))
	require.NoError(t, err)
	require.NoError(t, y.reg.Tag(t.Context(), y.repo.Tag("latest"), desc.Digest))
	err = p.Apply(t.Context(), y.store, now, &retention.ApplyOptions{Registry: y.reg, Keep: append(y.keep, retention.Root{Image: y.repo.Tag("9.0.0-0").String(), Reason: "promotion of 4.21.2"})})
	require.ErrorIs(t, err, publish.ErrConflict)
	require.ErrorContains(t, err, "tag latest")
	require.ErrorContains(t, err, "promotion of 4.21.2")
	require.Equal(t, before, y.there())
	require.NotContains(t, string(catalogue(t, y.store).Builds[1].PolicyCleanup), "containers", "nor is it noted")
}

func TestRootsThatCannotBeRead(t *testing.T) {
	y := newYard(t, layouts(t), "registry.example/okd/scos", false)
	missing := y.repo.Digest("sha256:" + strings.Repeat("0", 64)).String()
	for what, root := range map[string]retention.Root{
		"missing release": {Image: missing, Payload: true}, "no release": {Image: y.repo.Tag("next").String(), Payload: true},
		"missing tag": {Image: y.repo.Tag("none").String()}, "no reference": {Image: "::"},
	} {
		root.Reason = what
		_, err := retention.New(t.Context(), y.store, "builds/", containersOnly, now, &retention.Options{Registry: y.reg, Keep: []retention.Root{root}})
		require.ErrorContains(t, err, what)
	}
	_, err := retention.New(t.Context(), y.store, "builds/", containersOnly, now, &retention.Options{Registry: y.reg, Keep: append(y.keep, retention.Root{Image: missing, Reason: "elsewhere"})})
	require.NoError(t, err, "an image by digest may be in another place")
}

func TestPlanNamesNoOtherManifests(t *testing.T) {
	image := "registry.example/okd/scos@sha256:" + strings.Repeat("1", 64)
	for other, want := range map[string]string{
		"registry.example/okd/other@sha256:" + strings.Repeat("1", 64): "is in no repository of its images",
		"registry.example/okd/scos:next":                               "is a tag",
		"::":                                                           "could not parse",
	} {
		_, err := retention.DecodePlan(strings.NewReader(fmt.Sprintf(`{"prefix":"builds/","steps":[{"build":"9.0.1-0","kind":"containers","images":[%q],"manifests":[{"image":%q,"role":"image"}]}]}`, image, other)))
		require.ErrorContains(t, err, want)
	}
}

// faulty fails at one call.
type faulty struct {
	registry
	at       int // from 1
	after    bool
	removals bool   // they alone count
	deletes  []bool // of each call
}

var errFault = errors.New("injected")

// do counts and, where it is to fail, does the work before or not at all.
func (f *faulty) do(deletes bool, work func() error) error {
	if f.removals && !deletes {
		return work()
	}
	f.deletes = append(f.deletes, deletes)
	if len(f.deletes) != f.at {
		return work()
	}
	if f.after {
		_ = work() // its answer is lost
	}
	return errFault
}

func (f *faulty) Delete(ctx context.Context, ref name.Digest) error {
	return f.do(true, func() error { return f.registry.Delete(ctx, ref) })
}

func (f *faulty) Referrers(ctx context.Context, subject name.Digest, kind string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		if err := f.do(false, func() error { return nil }); err != nil {
			yield(v1.Descriptor{}, err)
			return
		}
		f.registry.Referrers(ctx, subject, kind)(yield)
	}
}

func (f *faulty) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.do(false, func() error { return nil }); err != nil {
			yield("", err)
			return
		}
		f.registry.Tags(ctx, repo)(yield)
	}
}
