package publishtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// full is a registry with all that may be claimed.
type full = *layoutregistry.Registry

// Each of these breaks one promise of the optional seams.
type (
	mountsNothing       struct{ full }
	mountsThenRefuses   struct{ full }
	inventsOnMount      struct{ full }
	opensUnverified     struct{ full }
	opensDeaf           struct{ full }
	storesLies          struct{ full }
	hidesBroken         struct{ full }
	oneStoreForAll      struct{ full }
	emptyForMissing     struct{ full }
	wrongSize           struct{ full }
	acceptsIncomplete   struct{ full }
	believesTypes       struct{ full }
	reformatsManifests  struct{ full }
	listsUnfiltered     struct{ full }
	listsByNothing      struct{ full }
	listsTwice          struct{ full }
	losesArtifactType   struct{ full }
	firstPageOfReferrer struct{ full }
	untagsAll           struct{ full }
	deletesTagsAlone    struct{ full }
	remembersDeleted    struct {
		full
		memory map[string]v1.Image
	}
	neededSubject      struct{ full }
	losesBlobsUnderWay struct {
		full
		under *atomic.Int64
	}
	failsWithoutEnd struct{ full }
)

// losesBlobsUnderWay fails where it has much to do.
func (r losesBlobsUnderWay) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if r.under.Add(1) == 3 {
		return errors.New("busy")
	}
	return r.full.WriteBlob(ctx, repo, blob, src)
}

func (r failsWithoutEnd) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		for d, err := range r.full.Referrers(ctx, subject, artifactType) {
			if !yield(d, err) || err != nil && !yield(d, err) {
				return
			}
		}
	}
}

func (r mountsNothing) MountBlob(context.Context, name.Repository, v1.Hash, name.Repository) error {
	return nil
}

func (r mountsThenRefuses) MountBlob(ctx context.Context, repo name.Repository, h v1.Hash, from name.Repository) error {
	if err := r.full.MountBlob(ctx, repo, h, from); err != nil {
		return err
	}
	return errors.ErrUnsupported
}

func (r inventsOnMount) MountBlob(ctx context.Context, repo name.Repository, h v1.Hash, from name.Repository) error {
	if err := r.full.MountBlob(ctx, repo, h, from); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func (r opensUnverified) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	size, err := r.StatBlob(ctx, repo, blob.Digest)
	if err != nil {
		return nil, err
	}
	blob.Size = size
	return r.full.OpenBlob(ctx, repo, blob)
}

func (r opensDeaf) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	return r.full.OpenBlob(context.WithoutCancel(ctx), repo, blob)
}

func (r storesLies) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := r.full.WriteBlob(ctx, repo, blob, src); !errors.Is(err, publish.ErrDigest) {
		return err
	}
	return nil
}

func (r hidesBroken) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := r.full.WriteBlob(ctx, repo, blob, src); err != nil {
		return fmt.Errorf("it did not work: %w", publish.ErrDigest)
	}
	return nil
}

func (r oneStoreForAll) StatBlob(ctx context.Context, repo name.Repository, h v1.Hash) (int64, error) {
	for other := range r.Repositories(ctx, repo.Registry) {
		if size, err := r.full.StatBlob(ctx, other, h); err == nil {
			return size, nil
		}
	}
	return r.full.StatBlob(ctx, repo, h)
}

func (r emptyForMissing) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	rc, err := r.full.OpenBlob(ctx, repo, blob)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return rc, err
}

func (r wrongSize) StatBlob(ctx context.Context, repo name.Repository, h v1.Hash) (int64, error) {
	_, err := r.full.StatBlob(ctx, repo, h)
	return 0, err
}

func (r acceptsIncomplete) WriteManifest(ctx context.Context, repo name.Repository, mt types.MediaType, raw []byte) (v1.Descriptor, error) {
	desc, err := r.full.WriteManifest(ctx, repo, mt, raw)
	if errors.Is(err, fs.ErrNotExist) {
		h, size, err := v1.SHA256(bytes.NewReader(raw))
		return v1.Descriptor{MediaType: mt, Digest: h, Size: size}, err
	}
	return desc, err
}

func (r believesTypes) WriteManifest(ctx context.Context, repo name.Repository, _ types.MediaType, raw []byte) (v1.Descriptor, error) {
	return r.full.WriteManifest(ctx, repo, "", raw)
}

func (r reformatsManifests) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, raw, err := r.full.Manifest(ctx, ref)
	return desc, bytes.ReplaceAll(raw, []byte("\n"), nil), err
}

func (r listsUnfiltered) Referrers(ctx context.Context, subject name.Digest, _ string) iter.Seq2[v1.Descriptor, error] {
	return r.full.Referrers(ctx, subject, "")
}

// listsByNothing lists the referrers of everything.
func (r listsByNothing) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		for _, layer := range []string{"one", "two"} {
			repo := subject.Context()
			for d, err := range r.full.Referrers(ctx, repo.Digest(publishtest.SubjectOf(layer).String()), artifactType) {
				if !yield(d, err) {
					return
				}
			}
		}
	}
}

func (r listsTwice) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		for d, err := range r.full.Referrers(ctx, subject, artifactType) {
			for range 2 {
				if !yield(d, err) {
					return
				}
			}
		}
	}
}

func (r losesArtifactType) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		for d, err := range r.full.Referrers(ctx, subject, artifactType) {
			d.ArtifactType = ""
			if !yield(d, err) {
				return
			}
		}
	}
}

func (r firstPageOfReferrer) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		n := 0
		for d, err := range r.full.Referrers(ctx, subject, artifactType) {
			if n++; n > 50 || !yield(d, err) {
				return
			}
		}
	}
}

// neededSubject knows no referrers of what is not there.
func (r neededSubject) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	if _, err := r.Head(ctx, subject); err != nil {
		return func(func(v1.Descriptor, error) bool) {}
	}
	return r.full.Referrers(ctx, subject, artifactType)
}

func (r untagsAll) Untag(ctx context.Context, tag name.Tag) error {
	head, err := r.Head(ctx, tag)
	if err != nil {
		return err
	}
	return r.Delete(ctx, tag.Context().Digest(head.Digest.String()))
}

func (r deletesTagsAlone) Delete(ctx context.Context, ref name.Digest) error {
	for tag, err := range r.Tags(ctx, ref.Context()) {
		if err != nil {
			return err
		}
		head, err := r.Head(ctx, ref.Context().Tag(tag))
		if err == nil && head.Digest.String() == ref.DigestStr() {
			err = r.Untag(ctx, ref.Context().Tag(tag))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remembersDeleted answers from a cache that nobody told.
func (r remembersDeleted) Delete(ctx context.Context, ref name.Digest) error {
	img, err := r.full.Image(ctx, ref)
	if err != nil {
		return err
	}
	r.memory[ref.DigestStr()] = img
	return r.full.Delete(ctx, ref)
}

func (r remembersDeleted) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	if img, ok := r.memory[ref.Identifier()]; ok {
		return img, nil
	}
	return r.full.Image(ctx, ref)
}

// Without its fault each passes: see TestHonestRegistry.
func TestBrokenOptionalSeamsFail(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		wrap  func(full) publish.Registry
		cases []string
	}{
		{func(r full) publish.Registry { return mountsNothing{r} }, []string{"mounted blob", "mounted blob that is missing"}},
		{func(r full) publish.Registry { return mountsThenRefuses{r} }, []string{"mounted blob"}},
		{func(r full) publish.Registry { return inventsOnMount{r} }, []string{"mounted blob that is missing"}},
		{func(r full) publish.Registry { return opensUnverified{r} }, []string{"blob read as another"}},
		{func(r full) publish.Registry { return opensDeaf{r} }, []string{"context ended over blobs"}},
		{func(r full) publish.Registry { return storesLies{r} }, []string{"blob with wrong bytes"}},
		{func(r full) publish.Registry { return hidesBroken{r} }, []string{"blob whose source breaks off"}},
		{func(r full) publish.Registry { return oneStoreForAll{r} }, []string{"blob of another repository"}},
		{func(r full) publish.Registry { return emptyForMissing{r} }, []string{"missing blob"}},
		{func(r full) publish.Registry { return wrongSize{r} }, []string{"blob comes back"}},
		{func(r full) publish.Registry { return acceptsIncomplete{r} }, []string{"manifest whose blobs are missing"}},
		{func(r full) publish.Registry { return believesTypes{r} }, []string{"manifest that is none"}},
		{func(r full) publish.Registry { return reformatsManifests{r} }, []string{"manifest alone"}},
		{func(r full) publish.Registry { return listsUnfiltered{r} }, []string{"referrers of one type"}},
		{func(r full) publish.Registry { return listsByNothing{r} }, []string{"referrers of another subject"}},
		{func(r full) publish.Registry { return listsTwice{r} }, []string{"referrer written twice", "referrers"}},
		{func(r full) publish.Registry { return losesArtifactType{r} }, []string{"referrers"}},
		{func(r full) publish.Registry { return firstPageOfReferrer{r} }, []string{"60 referrers"}},
		{func(r full) publish.Registry { return neededSubject{r} }, []string{"referrer before its subject"}},
		{func(r full) publish.Registry { return losesBlobsUnderWay{r, new(atomic.Int64)} }, []string{"image of blobs"}},
		{func(r full) publish.Registry { return failsWithoutEnd{r} }, []string{"referrers stopped early"}},
		{func(r full) publish.Registry { return untagsAll{r} }, []string{"removed tag"}},
		{func(r full) publish.Registry { return deletesTagsAlone{r} }, []string{"deleted manifest"}},
		{func(r full) publish.Registry { return remembersDeleted{r, map[string]v1.Image{}} }, []string{"deleted manifest"}},
	} {
		for _, c := range b.cases {
			r, ok := honest(t).(full)
			require.True(t, ok)
			broken := b.wrap(r)
			t.Run(strings.TrimPrefix(fmt.Sprintf("%T", broken), "publishtest_test.")+"/"+c, func(t *testing.T) {
				t.Parallel()
				require.True(t, judge(t, broken, c).failed, "the case did not notice")
			})
		}
	}
}

// Without faults a faulty registry is an honest one, with one it is not.
func TestFaultyRegistry(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for _, c := range []string{"image of blobs", "mounted blob", "referrers", "manifest alone", "blob with wrong bytes"} {
		v := judge(t, publishtest.FaultyRegistry(honest(t), func(publishtest.Call) error { return nil }), c)
		require.False(t, v.failed, "%s: %s", c, v.log)
	}
	for op, c := range map[string]string{
		"manifest": "manifest alone", "write manifest": "manifest alone", "stat blob": "blob comes back", "open blob": "blob comes back",
		"write blob": "blob comes back", "mount blob": "mounted blob", "referrers": "referrers",
	} {
		for _, after := range []bool{false, true} {
			if op == "referrers" && after {
				continue
			}
			v := judge(t, publishtest.FaultyRegistry(honest(t), func(call publishtest.Call) error {
				if call.Op == op && call.After == after {
					return gone
				}
				return nil
			}), c)
			require.True(t, v.failed, "%s, after: %v", op, after)
			require.Contains(t, strings.Join(v.log, " "), "gone")
		}
	}
	_, ok := publishtest.FaultyRegistry(tagsWhatItWrites{honest(t)}, nil).(publish.Blobs)
	require.False(t, ok, "it offers nothing that is not there")
}
