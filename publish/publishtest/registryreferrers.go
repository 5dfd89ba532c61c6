package publishtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
)

// referrerCases are the promises of [publish.Referrers].
var referrerCases = []registryCase{
	{Name: "referrers", needs: ClaimReferrers, Run: caseReferrers},
	{Name: "referrers of one type", needs: ClaimReferrers, Run: caseReferrersFiltered},
	{Name: "referrers of another subject", needs: ClaimReferrers, Run: caseReferrersElsewhere},
	{Name: "referrer before its subject", needs: ClaimReferrers, Run: caseReferrerFirst},
	{Name: "referrer written twice", needs: ClaimReferrers, Run: caseReferrerTwice},
	{Name: "referrers stopped early", needs: ClaimReferrers, Run: caseReferrersStopped},
	{Name: "60 referrers", needs: ClaimReferrers, Run: caseReferrersMany},
}

// deleteCases are the promises of registries that also remove.
var deleteCases = []registryCase{
	{Name: "removed tag", needs: ClaimDelete, Run: caseUntag},
	{Name: "deleted manifest", needs: ClaimDelete, Run: caseDelete},
}

// deleter is what backends offer that remove tags and manifests.
type deleter interface {
	Untag(ctx context.Context, tag name.Tag) error
	Delete(ctx context.Context, ref name.Digest) error
}

// newReferrer makes an image about subject.
func newReferrer(t testing.TB, subject v1.Descriptor, artifactType, layer string) *testImage {
	t.Helper()
	m := newImage(t, types.OCIManifestSchema1, layer)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(m.raw, &fields))
	fields["subject"] = v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	fields["artifactType"] = artifactType
	fields["annotations"] = map[string]string{"layer": layer}
	raw, err := json.Marshal(fields)
	require.NoError(t, err)
	m.setManifest(t, raw)
	return m
}

func writeReferrer(t testing.TB, r publish.Registry, repo name.Repository, m *testImage) {
	t.Helper()
	desc, err := r.WriteImage(t.Context(), repo, m.image(t), nil)
	require.NoError(t, err)
	require.Equal(t, m.desc, desc)
}

// referrersOf lists referrers by digest; of a repository that does not exist
// there are none.
func referrersOf(t testing.TB, r publish.Registry, repo name.Repository, subject v1.Descriptor, artifactType string) []v1.Descriptor {
	t.Helper()
	lister, ok := r.(publish.Referrers)
	require.True(t, ok, "%T lists no referrers", r)
	out := []v1.Descriptor{}
	for d, err := range lister.Referrers(t.Context(), repo.Digest(subject.Digest.String()), artifactType) {
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		out = append(out, d)
	}
	return out
}

func requireReferrers(t testing.TB, got []v1.Descriptor, want ...*testImage) {
	t.Helper()
	digests := func(n int, at func(int) v1.Hash) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = at(i).String()
		}
		slices.Sort(out)
		return out
	}
	require.Equal(t, digests(len(want), func(i int) v1.Hash { return want[i].desc.Digest }), digests(len(got), func(i int) v1.Hash { return got[i].Digest }))
}

func caseReferrers(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, "")) // no repository
	writeReferrer(t, r, repo, subject)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""))
	a := newReferrer(t, subject.desc, "application/a", "a")
	writeReferrer(t, r, repo, a)
	got := referrersOf(t, r, repo, subject.desc, "")
	require.Len(t, got, 1)
	require.Equal(t, a.desc.Digest, got[0].Digest)
	require.Equal(t, a.desc.Size, got[0].Size)
	require.Equal(t, a.desc.MediaType, got[0].MediaType)
	require.Equal(t, "application/a", got[0].ArtifactType)
	require.Equal(t, map[string]string{"layer": "a"}, got[0].Annotations)
	checkImage(t, r, repo, a)
	// What refers may be referred to.
	b := newReferrer(t, a.desc, "application/b", "b")
	writeReferrer(t, r, repo, b)
	requireReferrers(t, referrersOf(t, r, repo, a.desc, ""), b)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), a)
}

func caseReferrersFiltered(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	writeReferrer(t, r, repo, subject)
	a, b := newReferrer(t, subject.desc, "application/a", "1"), newReferrer(t, subject.desc, "application/a", "2")
	c := newReferrer(t, subject.desc, "application/c", "3")
	for _, m := range []*testImage{a, c, b} {
		writeReferrer(t, r, repo, m)
	}
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), a, b, c)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, "application/a"), a, b)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, "application/c"), c)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, "application/none"))
}

func caseReferrersElsewhere(t testing.TB, r publish.Registry, repo name.Repository) {
	one, two := newImage(t, types.OCIManifestSchema1, "one"), newImage(t, types.OCIManifestSchema1, "two")
	other := repo.Registry.Repo(repo.RepositoryStr() + "-other")
	for _, m := range []*testImage{one, two} {
		writeReferrer(t, r, repo, m)
		writeReferrer(t, r, other, m)
	}
	a, b := newReferrer(t, one.desc, "application/a", "a"), newReferrer(t, two.desc, "application/a", "b")
	writeReferrer(t, r, repo, a)
	writeReferrer(t, r, repo, b)
	requireReferrers(t, referrersOf(t, r, repo, one.desc, ""), a)
	requireReferrers(t, referrersOf(t, r, repo, two.desc, ""), b)
	requireReferrers(t, referrersOf(t, r, other, one.desc, ""))
}

func caseReferrerFirst(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	a := newReferrer(t, subject.desc, "application/a", "a")
	writeReferrer(t, r, repo, a)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), a)
	writeReferrer(t, r, repo, subject)
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), a)
}

func caseReferrerTwice(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	writeReferrer(t, r, repo, subject)
	a := newReferrer(t, subject.desc, "application/a", "a")
	for range 3 {
		writeReferrer(t, r, repo, a)
		requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), a)
	}
}

func caseReferrersStopped(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	writeReferrer(t, r, repo, subject)
	for _, layer := range []string{"a", "b"} {
		writeReferrer(t, r, repo, newReferrer(t, subject.desc, "application/a", layer))
	}
	lister := r.(publish.Referrers)
	for _, err := range lister.Referrers(t.Context(), repo.Digest(subject.desc.Digest.String()), "") {
		require.NoError(t, err)
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := 0
	for _, err := range lister.Referrers(ctx, repo.Digest(subject.desc.Digest.String()), "") {
		require.ErrorIs(t, err, context.Canceled)
		ended++
	}
	require.Equal(t, 1, ended, "one error, then the end")
}

func caseReferrersMany(t testing.TB, r publish.Registry, repo name.Repository) {
	subject := newImage(t, types.OCIManifestSchema1, "subject")
	writeReferrer(t, r, repo, subject)
	var want []*testImage
	for i := range 60 {
		m := newReferrer(t, subject.desc, fmt.Sprintf("application/%d", i%2), fmt.Sprint(i))
		writeReferrer(t, r, repo, m)
		want = append(want, m)
	}
	requireReferrers(t, referrersOf(t, r, repo, subject.desc, ""), want...)
	require.Len(t, referrersOf(t, r, repo, subject.desc, "application/1"), 30)
}

// allowed skips where a server lets nobody delete.
func allowed(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the registry lets nobody delete")
	}
	require.NoError(t, err)
}

func caseUntag(t testing.TB, r publish.Registry, repo name.Repository) {
	d := r.(deleter)
	a, b := newImage(t, types.OCIManifestSchema1, "a"), newImage(t, types.OCIManifestSchema1, "b")
	for _, m := range []*testImage{a, b} {
		writeReferrer(t, r, repo, m)
	}
	for tag, m := range map[string]*testImage{"a": a, "also-a": a, "b": b} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), m.desc.Digest))
	}
	allowed(t, d.Untag(t.Context(), repo.Tag("a")))
	require.Equal(t, []string{"also-a", "b"}, tagsOf(t, r, repo))
	_, err := r.Head(t.Context(), repo.Tag("a"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, d.Untag(t.Context(), repo.Tag("a")), fs.ErrNotExist)
	require.NoError(t, d.Untag(t.Context(), repo.Tag("also-a")))
	checkImage(t, r, repo, a) // by digest
	require.Equal(t, []string{"b"}, tagsOf(t, r, repo))
}

func caseDelete(t testing.TB, r publish.Registry, repo name.Repository) {
	d := r.(deleter)
	a, b := newImage(t, types.OCIManifestSchema1, "shared", "a"), newImage(t, types.OCIManifestSchema1, "shared", "b")
	for _, m := range []*testImage{a, b} {
		writeReferrer(t, r, repo, m)
	}
	for tag, m := range map[string]*testImage{"a": a, "also-a": a, "b": b} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), m.desc.Digest))
	}
	ref := repo.Digest(a.desc.Digest.String())
	allowed(t, d.Delete(t.Context(), ref))
	for _, ref := range []name.Reference{ref, repo.Tag("a"), repo.Tag("also-a")} {
		_, err := r.Head(t.Context(), ref)
		require.ErrorIs(t, err, fs.ErrNotExist, "Head %s", ref)
		_, err = r.Image(t.Context(), ref)
		require.ErrorIs(t, err, fs.ErrNotExist, "Image %s", ref)
	}
	require.Error(t, r.Tag(t.Context(), repo.Tag("back"), a.desc.Digest))
	require.ErrorIs(t, d.Delete(t.Context(), ref), fs.ErrNotExist)
	require.Equal(t, []string{"b"}, tagsOf(t, r, repo))
	checkImage(t, r, repo, b)
	writeReferrer(t, r, repo, a) // it can come back
	checkImage(t, r, repo, a)
}
