package publishtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/publish"
)

// Claim names what a registry may offer beside [publish.Registry].
type Claim string

// What may be claimed.
const (
	ClaimBlobs     Claim = "publish.Blobs"
	ClaimReferrers Claim = "publish.Referrers"
	// ClaimDelete is for the methods Untag(context.Context, name.Tag) error and
	// Delete(context.Context, name.Digest) error.
	ClaimDelete Claim = "deletion"
)

// offers says whether r has the methods that c is about.
func (c Claim) offers(r publish.Registry) bool {
	ok := true
	switch c {
	case ClaimBlobs:
		_, ok = r.(publish.Blobs)
	case ClaimReferrers:
		_, ok = r.(publish.Referrers)
	case ClaimDelete:
		_, ok = r.(deleter)
	}
	return ok
}

// TestRegistry runs the conformance suite of [publish.Registry], and those of
// [publish.Blobs], [publish.Referrers] and of deletion on registries that
// implement them; what claims name must be implemented. open gives a
// registry and a repository in it that does not exist yet; it is called once
// for each case, from parallel subtests. Repositories beside the given one, its
// path with a suffix, are used too.
//
// Each case is a subtest, independent of the others and of their order. One
// case moves a layer of 65 MiB and is skipped with -short. The last looks for
// goroutines that are left and wants no other test to run beside it.
func TestRegistry(t *testing.T, open func(t *testing.T) (publish.Registry, name.Repository), claims ...Claim) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Run("cases", func(t *testing.T) {
		for _, c := range registryCases {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				r, repo := open(t)
				if c.needs != "" && !c.needs.offers(r) {
					if slices.Contains(claims, c.needs) {
						t.Fatalf("%T does not offer %s", r, c.needs)
					}
					t.Logf("%T does not offer %s: nothing is promised here", r, c.needs)
					return
				}
				c.Run(t, r, repo)
			})
		}
	})
	t.Run("goroutines", func(t *testing.T) { checkGoroutines(t, before) })
}

// checkGoroutines fails t if goroutines are left that do not serve an idle
// connection.
func checkGoroutines(t testing.TB, before goleak.Option) {
	t.Helper()
	require.NoError(t, goleak.Find(before,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("testing.(*T).Run"),
	))
}

// registryCase is one promise of the interface.
type registryCase struct {
	Name  string
	Run   func(t testing.TB, r publish.Registry, repo name.Repository)
	needs Claim // "": all registries
}

var registryCases = slices.Concat(baseCases, blobCases, referrerCases, deleteCases)

var baseCases = []registryCase{
	{Name: "missing reference", Run: caseMissing},
	{Name: "image comes back", Run: caseImage},
	{Name: "nothing is tagged by writing", Run: caseUntagged},
	{Name: "tag of a missing manifest", Run: caseTagMissing},
	{Name: "tag and move", Run: caseTag},
	{Name: "tags are sorted", Run: caseTagsSorted},
	{Name: "120 tags", Run: caseTagsMany},
	{Name: "tags stopped early", Run: caseTagsStopped},
	{Name: "index with children", Run: caseIndex},
	{Name: "index in an index", Run: caseNestedIndex},
	{Name: "index as image and image as index", Run: caseWrongKind},
	{Name: "image with a false digest", Run: caseFalseDigest},
	{Name: "index with a false child", Run: caseFalseChild},
	{Name: "layer with wrong bytes", Run: caseLyingLayer},
	{Name: "layer that breaks off", Run: caseBrokenLayer},
	{Name: "layer that is not computed", Run: caseStreamLayer},
	{Name: "context ended before", Run: caseCancelledBefore},
	{Name: "context ended while writing", Run: caseCancelledDuring},
	{Name: "context ended while reading", Run: caseCancelledReading},
	{Name: "reader closed early", Run: caseClosedEarly},
	{Name: "concurrent writers", Run: caseConcurrentWriters},
	{Name: "concurrent tags", Run: caseConcurrentTags},
	{Name: "reuse is reported", Run: caseReused},
	{Name: "progress", Run: caseProgress},
	{Name: "mount", Run: caseMount},
	{Name: "mount from nowhere", Run: caseMountMissing},
	{Name: "manifest bytes are kept", Run: caseBytesKept},
	{Name: "docker media types", Run: caseDocker},
	{Name: "empty and repeated layers", Run: caseEmptyLayers},
	{Name: "layer from go-containerregistry", Run: caseForeignValue},
	{Name: "large layer", Run: caseLarge},
	{Name: "names that escape", Run: caseNames},
}

func caseMissing(t testing.TB, r publish.Registry, repo name.Repository) {
	check := func() {
		for _, ref := range []name.Reference{repo.Tag("missing"), repo.Digest(digestOf([]byte("missing")).String())} {
			_, err := r.Head(t.Context(), ref)
			require.ErrorIs(t, err, fs.ErrNotExist, "Head %s", ref)
			_, err = r.Image(t.Context(), ref)
			require.ErrorIs(t, err, fs.ErrNotExist, "Image %s", ref)
			_, err = r.Index(t.Context(), ref)
			require.ErrorIs(t, err, fs.ErrNotExist, "Index %s", ref)
		}
	}
	check() // no repository
	_, err := r.WriteImage(t.Context(), repo, newImage(t, types.OCIManifestSchema1, "a").image(t), nil)
	require.NoError(t, err)
	check() // a repository with something else
}

func caseImage(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "one layer", "another layer")
	desc, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	require.Equal(t, src.desc, desc)
	checkImage(t, r, repo, src)
}

// checkImage reads src back by digest, to the last byte.
func checkImage(t testing.TB, r publish.Registry, repo name.Repository, src *testImage) {
	t.Helper()
	ref := repo.Digest(src.desc.Digest.String())
	head, err := r.Head(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, src.desc.Digest, head.Digest)
	require.Equal(t, src.desc.MediaType, head.MediaType)
	require.Equal(t, src.desc.Size, head.Size)
	img, err := r.Image(t.Context(), ref)
	require.NoError(t, err)
	checkValue(t, img, src)
}

func checkValue(t testing.TB, img v1.Image, src *testImage) {
	t.Helper()
	raw, err := img.RawManifest()
	require.NoError(t, err)
	require.Equal(t, string(src.raw), string(raw), "the manifest is kept byte for byte")
	mt, err := img.MediaType()
	require.NoError(t, err)
	require.Equal(t, src.desc.MediaType, mt)
	digest, err := img.Digest()
	require.NoError(t, err)
	require.Equal(t, src.desc.Digest, digest)
	config, err := img.RawConfigFile()
	require.NoError(t, err)
	require.Equal(t, string(src.config), string(config))
	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, len(src.layers))
	for i, l := range layers {
		require.Equal(t, string(src.layers[i]), string(readLayer(t, l)))
	}
}

func readLayer(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Compressed()
	require.NoError(t, err)
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	return data
}

// tagsOf lists tags; a repository that does not exist has none.
func tagsOf(t testing.TB, r publish.Registry, repo name.Repository) []string {
	t.Helper()
	var tags []string
	for tag, err := range r.Tags(t.Context(), repo) {
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		tags = append(tags, tag)
	}
	return tags
}

func caseUntagged(t testing.TB, r publish.Registry, repo name.Repository) {
	require.Empty(t, tagsOf(t, r, repo))
	_, err := r.WriteImage(t.Context(), repo, newImage(t, types.OCIManifestSchema1, "a").image(t), nil)
	require.NoError(t, err)
	require.Empty(t, tagsOf(t, r, repo))
	_, err = r.WriteIndex(t.Context(), repo, newIndex(t, types.OCIImageIndex, newImage(t, types.OCIManifestSchema1, "b")).index(t), nil)
	require.NoError(t, err)
	require.Empty(t, tagsOf(t, r, repo))
}

func caseTagMissing(t testing.TB, r publish.Registry, repo name.Repository) {
	err := r.Tag(t.Context(), repo.Tag("t"), digestOf([]byte("missing")))
	require.ErrorIs(t, err, fs.ErrNotExist)
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err = r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	// A blob is no manifest, though it has a digest and is there.
	for _, h := range []v1.Hash{digestOf([]byte("missing")), digestOf([]byte("a"))} {
		require.Error(t, r.Tag(t.Context(), repo.Tag("t"), h))
	}
	require.Empty(t, tagsOf(t, r, repo))
}

func caseTag(t testing.TB, r publish.Registry, repo name.Repository) {
	a, b := newImage(t, types.OCIManifestSchema1, "a"), newImage(t, types.OCIManifestSchema1, "b")
	for _, src := range []*testImage{a, b} {
		_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
		require.NoError(t, err)
	}
	at := func(tag string, want *testImage) {
		t.Helper()
		head, err := r.Head(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
		require.Equal(t, want.desc.Digest, head.Digest)
		img, err := r.Image(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
		checkValue(t, img, want)
	}
	require.NoError(t, r.Tag(t.Context(), repo.Tag("moving"), a.desc.Digest))
	require.NoError(t, r.Tag(t.Context(), repo.Tag("fixed"), a.desc.Digest))
	at("moving", a)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("moving"), b.desc.Digest))
	at("moving", b)
	at("fixed", a)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("moving"), b.desc.Digest), "again")
	at("moving", b)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("fixed"), b.desc.Digest))
	require.Equal(t, []string{"fixed", "moving"}, tagsOf(t, r, repo))
	checkImage(t, r, repo, a) // without a tag it is still there
	checkImage(t, r, repo, b)
}

func caseTagsSorted(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	for _, tag := range []string{"b", "a.1", "Z", "10", "9", "a-1", "_x", "a_1"} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), src.desc.Digest))
	}
	require.Equal(t, []string{"10", "9", "Z", "_x", "a-1", "a.1", "a_1", "b"}, tagsOf(t, r, repo))
}

func caseTagsMany(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	var want []string
	for i := range 120 {
		want = append(want, fmt.Sprintf("v%03d", i))
		require.NoError(t, r.Tag(t.Context(), repo.Tag(want[i]), src.desc.Digest))
	}
	require.Equal(t, want, tagsOf(t, r, repo))
}

func caseTagsStopped(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	for _, tag := range []string{"a", "b"} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), src.desc.Digest))
	}
	for tag, err := range r.Tags(t.Context(), repo) {
		require.NoError(t, err)
		require.Equal(t, "a", tag)
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := 0
	for _, err := range r.Tags(ctx, repo) {
		require.ErrorIs(t, err, context.Canceled)
		ended++
	}
	require.Equal(t, 1, ended, "one error, then the end")
}

func caseIndex(t testing.TB, r publish.Registry, repo name.Repository) {
	a, b := newImage(t, types.OCIManifestSchema1, "shared", "a"), newImage(t, types.OCIManifestSchema1, "shared", "b")
	src := newIndex(t, types.OCIImageIndex, a, b)
	desc, err := r.WriteIndex(t.Context(), repo, src.index(t), nil)
	require.NoError(t, err)
	require.Equal(t, src.desc, desc)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("multi"), desc.Digest))
	for _, ref := range []name.Reference{repo.Tag("multi"), repo.Digest(desc.Digest.String())} {
		head, err := r.Head(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, types.OCIImageIndex, head.MediaType)
		idx, err := r.Index(t.Context(), ref)
		require.NoError(t, err)
		raw, err := idx.RawManifest()
		require.NoError(t, err)
		require.Equal(t, string(src.raw), string(raw))
		for _, child := range []*testImage{a, b} {
			img, err := idx.Image(child.desc.Digest)
			require.NoError(t, err)
			checkValue(t, img, child)
		}
		_, err = idx.Image(digestOf([]byte("missing")))
		require.Error(t, err)
	}
	// Children are manifests of their own.
	checkImage(t, r, repo, a)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("child"), b.desc.Digest))
	img, err := r.Image(t.Context(), repo.Tag("child"))
	require.NoError(t, err)
	checkValue(t, img, b)
	require.Equal(t, []string{"child", "multi"}, tagsOf(t, r, repo))
}

func caseNestedIndex(t testing.TB, r publish.Registry, repo name.Repository) {
	a := newImage(t, types.OCIManifestSchema1, "a")
	inner := newIndex(t, types.OCIImageIndex, a)
	outer := newIndex(t, types.OCIImageIndex, inner)
	_, err := r.WriteIndex(t.Context(), repo, outer.index(t), nil)
	require.NoError(t, err)
	idx, err := r.Index(t.Context(), repo.Digest(outer.desc.Digest.String()))
	require.NoError(t, err)
	sub, err := idx.ImageIndex(inner.desc.Digest)
	require.NoError(t, err)
	img, err := sub.Image(a.desc.Digest)
	require.NoError(t, err)
	checkValue(t, img, a)
	checkImage(t, r, repo, a)
}

func caseWrongKind(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newIndex(t, types.OCIImageIndex, newImage(t, types.OCIManifestSchema1, "a"))
	_, err := r.WriteIndex(t.Context(), repo, src.index(t), nil)
	require.NoError(t, err)
	_, err = r.Image(t.Context(), repo.Digest(src.desc.Digest.String()))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.Index(t.Context(), repo.Digest(src.children[0].Digest.String()))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// absent makes sure that nothing of that digest can be had.
func absent(t testing.TB, r publish.Registry, repo name.Repository, h v1.Hash) {
	t.Helper()
	_, err := r.Head(t.Context(), repo.Digest(h.String()))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Empty(t, tagsOf(t, r, repo))
}

type falseDigest struct {
	v1.Image
	digest v1.Hash
}

func (f falseDigest) Digest() (v1.Hash, error) { return f.digest, nil }

func caseFalseDigest(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	claimed := digestOf([]byte("something else"))
	_, err := r.WriteImage(t.Context(), repo, falseDigest{src.image(t), claimed}, nil)
	require.ErrorIs(t, err, publish.ErrDigest)
	absent(t, r, repo, claimed)
	absent(t, r, repo, src.desc.Digest)
}

// anIndex embeds under another name than its method's.
type anIndex = v1.ImageIndex

type falseChild struct {
	anIndex
	image v1.Image
}

func (f falseChild) Image(v1.Hash) (v1.Image, error) { return f.image, nil }

func caseFalseChild(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newIndex(t, types.OCIImageIndex, newImage(t, types.OCIManifestSchema1, "a"))
	_, err := r.WriteIndex(t.Context(), repo, falseChild{src.index(t), newImage(t, types.OCIManifestSchema1, "b").image(t)}, nil)
	require.ErrorIs(t, err, publish.ErrDigest)
	absent(t, r, repo, src.desc.Digest)
}

func caseLyingLayer(t testing.TB, r publish.Registry, repo name.Repository) {
	for _, lie := range []string{"LAYER", "lay", "layer and more", ""} {
		src := newImage(t, types.OCIManifestSchema1, "good", "layer")
		src.serve(digestOf([]byte("layer")), func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(lie))), nil
		})
		_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
		require.ErrorIs(t, err, publish.ErrDigest, "%q", lie)
		absent(t, r, repo, src.desc.Digest)
	}
	// Whatever was stored, it is not taken for the layer now.
	src := newImage(t, types.OCIManifestSchema1, "good", "layer")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	checkImage(t, r, repo, src)
}

func caseBrokenLayer(t testing.TB, r publish.Registry, repo name.Repository) {
	broken := errors.New("the disk is gone")
	for _, open := range []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return nil, broken },
		func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader([]byte("la")), errReader{broken})), nil
		},
	} {
		src := newImage(t, types.OCIManifestSchema1, "layer")
		src.serve(digestOf([]byte("layer")), open)
		_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
		require.ErrorIs(t, err, broken)
		absent(t, r, repo, src.desc.Digest)
	}
	src := newImage(t, types.OCIManifestSchema1, "layer")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	checkImage(t, r, repo, src)
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func caseStreamLayer(t testing.TB, r publish.Registry, repo name.Repository) {
	img, err := mutate.AppendLayers(empty.Image, stream.NewLayer(io.NopCloser(bytes.NewReader([]byte("later")))))
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), repo, img, nil)
	require.Error(t, err, "its digest is not known")
	require.Empty(t, tagsOf(t, r, repo))
}

func caseCancelledBefore(t testing.TB, r publish.Registry, repo name.Repository) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(ctx, repo, src.image(t), nil)
	require.ErrorIs(t, err, context.Canceled)
	absent(t, r, repo, src.desc.Digest)
	_, err = r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	ref := repo.Digest(src.desc.Digest.String())
	_, err = r.Head(ctx, ref)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Image(ctx, ref)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, r.Tag(ctx, repo.Tag("t"), src.desc.Digest), context.Canceled)
	require.Empty(t, tagsOf(t, r, repo))
}

func caseCancelledDuring(t testing.TB, r publish.Registry, repo name.Repository) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	src := newImage(t, types.OCIManifestSchema1, "first", "layer")
	src.serve(digestOf([]byte("layer")), func() (io.ReadCloser, error) {
		cancel()
		return io.NopCloser(bytes.NewReader([]byte("layer"))), nil
	})
	_, err := r.WriteImage(ctx, repo, src.image(t), nil)
	require.ErrorIs(t, err, context.Canceled)
	absent(t, r, repo, src.desc.Digest)
}

func caseCancelledReading(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "layer")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	img, err := r.Image(ctx, repo.Digest(src.desc.Digest.String()))
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	cancel()
	rc, err := layers[0].Compressed()
	if err == nil {
		_, err = io.ReadAll(rc)
		rc.Close()
	}
	require.ErrorIs(t, err, context.Canceled, "ctx governs the later reads of an image that it made")
}

func caseClosedEarly(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16)))
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	img, err := r.Image(t.Context(), repo.Digest(src.desc.Digest.String()))
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	for range 3 {
		rc, err := layers[0].Compressed()
		require.NoError(t, err)
		_, err = io.ReadFull(rc, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, rc.Close())
	}
	require.Equal(t, src.layers[0], readLayer(t, layers[0]), "each reader starts at the start")
}

func caseConcurrentWriters(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a", "b", "c")
	errs := make([]error, 4)
	descs := make([]v1.Descriptor, len(errs))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { descs[i], errs[i] = r.WriteImage(t.Context(), repo, src.image(t), nil) })
	}
	wg.Wait()
	for i := range errs {
		require.NoError(t, errs[i])
		require.Equal(t, src.desc, descs[i])
	}
	checkImage(t, r, repo, src)
}

func caseConcurrentTags(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	errs := make([]error, 8)
	want := []string{"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"}
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = r.Tag(t.Context(), repo.Tag(want[i]), src.desc.Digest) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, want, tagsOf(t, r, repo))
}

// reuse collects what Reused is called with.
type reuse struct {
	mu    sync.Mutex
	descs []v1.Hash
}

func (u *reuse) add(d v1.Descriptor) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.descs = append(u.descs, d.Digest)
}

func (u *reuse) sorted() []string {
	var out []string
	for _, h := range u.descs {
		out = append(out, h.String())
	}
	slices.Sort(out)
	return out
}

func caseReused(t testing.TB, r publish.Registry, repo name.Repository) {
	a := newImage(t, types.OCIManifestSchema1, "shared", "a", "shared")
	var first, again, other reuse
	_, err := r.WriteImage(t.Context(), repo, a.image(t), &publish.WriteOptions{Reused: first.add})
	require.NoError(t, err)
	require.Empty(t, first.sorted())
	// Nothing of an image that is there may be read again.
	for i := range a.layers {
		a.serve(digestOf(a.layers[i]), func() (io.ReadCloser, error) { return nil, errors.New("read again") })
	}
	desc, err := r.WriteImage(t.Context(), repo, a.image(t), &publish.WriteOptions{Reused: again.add})
	require.NoError(t, err)
	require.Equal(t, a.desc, desc)
	want := []string{a.desc.Digest.String(), digestOf(a.config).String(), digestOf([]byte("shared")).String(), digestOf([]byte("a")).String()}
	slices.Sort(want)
	require.Equal(t, want, again.sorted(), "each blob and manifest once")
	b := newImage(t, types.OCIManifestSchema1, "shared", "b")
	_, err = r.WriteImage(t.Context(), repo, b.image(t), &publish.WriteOptions{Reused: other.add})
	require.NoError(t, err)
	require.Equal(t, []string{digestOf([]byte("shared")).String()}, other.sorted())
}

func caseProgress(t testing.TB, r publish.Registry, repo name.Repository) {
	a := newImage(t, types.OCIManifestSchema1, "a", "bb", "a")
	want := int64(len(a.raw)+len(a.config)) + 3
	for _, how := range []string{"moved", "skipped"} {
		var mu sync.Mutex
		var last int64
		_, err := r.WriteImage(t.Context(), repo, a.image(t), &publish.WriteOptions{Progress: func(done, total int64) {
			mu.Lock()
			defer mu.Unlock()
			if done < last || done > total || total != want {
				t.Errorf("%s: %d of %d bytes after %d, want %d in all", how, done, total, last, want)
			}
			last = done
		}})
		require.NoError(t, err)
		require.Equal(t, want, last, how)
	}
}

func caseMount(t testing.TB, r publish.Registry, repo name.Repository) {
	from := repo.Registry.Repo(repo.RepositoryStr() + "-from")
	src := newImage(t, types.OCIManifestSchema1, "a", "b")
	_, err := r.WriteImage(t.Context(), from, src.image(t), nil)
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), repo, src.image(t), &publish.WriteOptions{From: []name.Repository{from}})
	require.NoError(t, err)
	checkImage(t, r, repo, src)
	require.Empty(t, tagsOf(t, r, repo))
}

func caseMountMissing(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), &publish.WriteOptions{From: []name.Repository{
		repo.Registry.Repo(repo.RepositoryStr() + "-nowhere"), repo,
	}})
	require.NoError(t, err)
	checkImage(t, r, repo, src)
}

func caseBytesKept(t testing.TB, r publish.Registry, repo name.Repository) {
	// Spacing, key order, an unknown key and a number's text are part of the digest.
	src := newImage(t, types.OCIManifestSchema1, "a")
	src.setManifest(t, bytes.Replace(src.raw, []byte(`{"schemaVersion":2,`), []byte("{\n\t\"x-unknown\": 1.50,\n  \"schemaVersion\" : 2, "), 1))
	desc, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	require.Equal(t, src.desc, desc)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), desc.Digest))
	head, err := r.Head(t.Context(), repo.Tag("t"))
	require.NoError(t, err)
	require.Equal(t, desc.Digest, head.Digest)
	checkImage(t, r, repo, src)
}

func caseDocker(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.DockerManifestSchema2, "a", "b")
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), src.desc.Digest))
	checkImage(t, r, repo, src)
	head, err := r.Head(t.Context(), repo.Tag("t"))
	require.NoError(t, err)
	require.Equal(t, types.DockerManifestSchema2, head.MediaType)
	list := newIndex(t, types.DockerManifestList, src)
	_, err = r.WriteIndex(t.Context(), repo, list.index(t), nil)
	require.NoError(t, err)
	idx, err := r.Index(t.Context(), repo.Digest(list.desc.Digest.String()))
	require.NoError(t, err)
	raw, err := idx.RawManifest()
	require.NoError(t, err)
	require.Equal(t, string(list.raw), string(raw))
	mt, err := idx.MediaType()
	require.NoError(t, err)
	require.Equal(t, types.DockerManifestList, mt)
}

func caseEmptyLayers(t testing.TB, r publish.Registry, repo name.Repository) {
	for _, layers := range [][]string{{""}, {"a", "a", "b", "a"}, {"", "a", ""}} {
		src := newImage(t, types.OCIManifestSchema1, layers...)
		_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
		require.NoError(t, err, "%q", layers)
		checkImage(t, r, repo, src)
	}
}

func caseForeignValue(t testing.TB, r publish.Registry, repo name.Repository) {
	img := tarImage(t)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	want, err := img.Digest()
	require.NoError(t, err)
	require.Equal(t, want, desc.Digest)
	got, err := r.Image(t.Context(), repo.Digest(want.String()))
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
}

func caseLarge(t testing.TB, r publish.Registry, repo name.Repository) {
	if testing.Short() {
		t.Skip("65 MiB")
	}
	const size = 65<<20 + 1
	digest, _, err := v1.SHA256(io.LimitReader(pattern{new(atomic.Int64)}, size))
	require.NoError(t, err)
	src := newImageOf(t, types.OCIManifestSchema1, v1.Descriptor{MediaType: types.OCILayer, Digest: digest, Size: size})
	src.serve(digest, func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(pattern{new(atomic.Int64)}, size)), nil
	})
	_, err = r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	img, err := r.Image(t.Context(), repo.Digest(src.desc.Digest.String()))
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	rc, err := layers[0].Compressed()
	require.NoError(t, err)
	got, n, err := v1.SHA256(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	require.EqualValues(t, size, n)
	require.Equal(t, digest, got)
}

// pattern is an endless stream that does not repeat soon.
type pattern struct{ at *atomic.Int64 }

func (p pattern) Read(b []byte) (int, error) {
	at := p.at.Add(int64(len(b))) - int64(len(b))
	for i := 0; i < len(b); {
		// Eight bytes that depend on their position, from any offset.
		n := at + int64(i)
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], uint64(n/8)*0x9e3779b97f4a7c15)
		i += copy(b[i:], word[n%8:])
	}
	return len(b), nil
}

func caseNames(t testing.TB, r publish.Registry, repo name.Repository) {
	src := newImage(t, types.OCIManifestSchema1, "a")
	for _, path := range []string{"../escaped", "..", "a/../../b", ""} {
		bad := repo.Registry.Repo(path)
		_, err := r.WriteImage(t.Context(), bad, src.image(t), nil)
		require.Error(t, err, "%q", path)
		_, err = r.Head(t.Context(), bad.Tag("t"))
		require.Error(t, err, "%q", path)
	}
	_, err := r.WriteImage(t.Context(), repo, src.image(t), nil)
	require.NoError(t, err)
	for _, tag := range []string{"../t", "a/b", "a b", "-a", ".a", "a:b", "a?b", "a#b", "a%2e", "\x00"} {
		require.Error(t, r.Tag(t.Context(), repo.Tag(tag), src.desc.Digest), "%q", tag)
	}
	require.Error(t, r.Tag(t.Context(), repo.Tag("t"), v1.Hash{Algorithm: "sha256", Hex: "../../x"}))
	require.Error(t, r.Tag(t.Context(), repo.Tag("t"), v1.Hash{}))
	require.Empty(t, tagsOf(t, r, repo))
}
