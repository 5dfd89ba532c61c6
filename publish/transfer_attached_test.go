package publish_test

import (
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// about is an image whose subject is another one.
func about(t testing.TB, subject v1.Descriptor, text string) v1.Image {
	t.Helper()
	img, ok := mutate.Subject(textImage(t, text), subject).(v1.Image)
	require.True(t, ok)
	return img
}

// TestTransferAttached copies what refers to an image and to those in an index,
// also what refers to that, and cosign's tags, also when the image itself is
// there already.
func TestTransferAttached(t *testing.T) {
	t.Parallel()
	from := layoutAt(t, t.TempDir())
	repo := repoOf(t, sourceRepo)
	idx := multiArch(t, "x", "linux/amd64", "linux/arm64")
	spec := put(t, from, repo, idx)[0]
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	subject, err := partial.Descriptor(idx)
	require.NoError(t, err)
	signature, attestation := about(t, *subject, "signature"), about(t, m.Manifests[1], "attestation")
	desc, err := partial.Descriptor(attestation)
	require.NoError(t, err)
	put(t, from, repo, signature, attestation, about(t, v1.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, "signature of the attestation"))
	for text, of := range map[string]v1.Hash{".sig": subject.Digest, ".att": m.Manifests[0].Digest} {
		at := put(t, from, repo, textImage(t, "cosign "+text))[0]
		digest, err := v1.NewHash(at[strings.Index(at, "@")+1:])
		require.NoError(t, err)
		require.NoError(t, from.Tag(t.Context(), repo.Tag("sha256-"+of.Hex+text), digest))
	}
	referrers := func(r *layoutregistry.Registry, of v1.Hash) (n int) {
		for _, err := range r.Referrers(t.Context(), repoOf(t, mirrorRepo).Digest(of.String()), "") {
			require.NoError(t, err)
			n++
		}
		return n
	}
	for _, before := range []bool{false, true} {
		to := layoutAt(t, t.TempDir())
		c := publish.Copy{From: spec, To: mirrorRepo, Tags: []string{"t"}}
		if before {
			_, err := publish.Transfer(t.Context(), to, from, []publish.Copy{c}, nil)
			require.NoError(t, err)
			require.Zero(t, referrers(to, subject.Digest))
		}
		c.Referrers, c.Signatures = true, true
		rec := &recorder{}
		_, err := publish.Transfer(t.Context(), to, from, []publish.Copy{c}, &publish.TransferOptions{Progress: rec.event})
		require.NoError(t, err)
		require.Equal(t, 1, referrers(to, subject.Digest))
		require.Equal(t, 1, referrers(to, m.Manifests[1].Digest))
		require.Equal(t, 1, referrers(to, desc.Digest))
		for text, of := range map[string]v1.Hash{".sig": subject.Digest, ".att": m.Manifests[0].Digest} {
			_, err := to.Head(t.Context(), repoOf(t, mirrorRepo).Tag("sha256-"+of.Hex+text))
			require.NoError(t, err)
		}
		var tags []string
		for _, e := range rec.events {
			if e.Step.Action == publish.ActionTag {
				tags = append(tags, e.Step.Target)
			}
		}
		if before {
			require.Len(t, tags, 2)
		} else {
			require.Len(t, tags, 3)
			require.Equal(t, mirrorRepo+":t", tags[2], "who sees the tag can verify")
		}
		got, err := publish.Transfer(t.Context(), to, from, []publish.Copy{c}, nil)
		require.NoError(t, err)
		require.Zero(t, got.Totals.Moved+got.Totals.Written+got.Totals.Tagged)
	}
	_, err = publish.Transfer(t.Context(), layoutAt(t, t.TempDir()), imagesOnly{from}, []publish.Copy{{From: spec, To: mirrorRepo, Referrers: true}}, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func FuzzDecodeCopies(f *testing.F) {
	digest := sourceRepo + "@sha256:" + strings.Repeat("ab", 32)
	for doc := range mutants.Of(
		`[{"from":"`+digest+`","to":"`+mirrorRepo+`","tags":["a"],"platforms":["linux/arm64/v8"],"sparse":true,"stage":3}]`,
		`[{"from":"a/b:c","to":"x/y","tags":["../x"]}]`,
		`[]`,
	) {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, text string) {
		copies, err := fuzzbound.Read(t, 512, publish.DecodeCopies, []byte(text))
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(copies), len(text)/2+1, "bounded by the input")
		require.NoError(t, publish.CheckCopies(copies))
		for _, c := range copies {
			require.NotContains(t, strings.Join(c.Tags, ""), "/")
		}
	})
}
