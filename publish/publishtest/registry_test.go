package publishtest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// honest is a registry that keeps all promises, for others to break one.
func honest(t testing.TB) publish.Registry {
	t.Helper()
	r, err := layoutregistry.Open(t.Context(), t.TempDir(), &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	return r
}

// verdict runs one case and reports whether it passed, without failing t.
type verdict struct {
	testing.TB

	mu     sync.Mutex
	failed bool
	log    []string
}

func (v *verdict) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
	v.log = append(v.log, text)
}

func (v *verdict) Errorf(format string, args ...any) { v.note(fmt.Sprintf(format, args...)) }
func (v *verdict) Error(args ...any)                 { v.note(fmt.Sprint(args...)) }
func (v *verdict) Fail()                             { v.note("failed") }
func (v *verdict) FailNow()                          { v.note("failed"); runtime.Goexit() }
func (v *verdict) Fatal(args ...any)                 { v.note(fmt.Sprint(args...)); runtime.Goexit() }
func (v *verdict) Fatalf(format string, args ...any) { v.Errorf(format, args...); runtime.Goexit() }

func judge(t *testing.T, broken publish.Registry, caseName string) *verdict {
	t.Helper()
	i := slices.IndexFunc(caseNames(), func(n string) bool { return n == caseName })
	require.GreaterOrEqual(t, i, 0, "no case %q", caseName)
	repo, err := name.NewRepository("registry.example/okd/release")
	require.NoError(t, err)
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				v.note(fmt.Sprint("panic: ", p))
			}
		}()
		publishtest.RegistryCases[i].Run(v, broken, repo)
	}()
	<-done
	return v
}

func caseNames() []string {
	var out []string
	for _, c := range publishtest.RegistryCases {
		out = append(out, c.Name)
	}
	return out
}

// Each of these breaks one promise, and the named case must see it.
type (
	tagsWhatItWrites   struct{ publish.Registry }
	findsEverything    struct{ publish.Registry }
	hidesTheCause      struct{ publish.Registry }
	tagsAnything       struct{ publish.Registry }
	neverMovesTags     struct{ publish.Registry }
	forgetsOldTagged   struct{ publish.Registry }
	backwards          struct{ publish.Registry }
	firstPageOnly      struct{ publish.Registry }
	twoErrors          struct{ publish.Registry }
	losesChildren      struct{ publish.Registry }
	anyKind            struct{ publish.Registry }
	believesImages     struct{ publish.Registry }
	acceptsLies        struct{ publish.Registry }
	deafToCancel       struct{ publish.Registry }
	silentAboutReuse   struct{ publish.Registry }
	reportsTwice       struct{ publish.Registry }
	countsBackwards    struct{ publish.Registry }
	needsItsSource     struct{ publish.Registry }
	rewritesManifests  struct{ publish.Registry }
	everythingIsOCI    struct{ publish.Registry }
	takesAnyName       struct{ publish.Registry }
	losesConcurrentTag struct {
		publish.Registry
		once *sync.Once
	}
)

func (r tagsWhatItWrites) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	desc, err := r.Registry.WriteImage(ctx, repo, img, opts)
	if err == nil {
		err = r.Tag(ctx, repo.Tag("latest"), desc.Digest)
	}
	return desc, err
}

func (r findsEverything) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	desc, err := r.Registry.Head(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return &v1.Descriptor{}, nil
	}
	return desc, err
}

func (r hidesTheCause) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	img, err := r.Registry.Image(ctx, ref)
	if err != nil {
		return nil, errors.New(err.Error())
	}
	return img, nil
}

func (r tagsAnything) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := r.Registry.Tag(ctx, tag, digest); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r neverMovesTags) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if _, err := r.Head(ctx, tag); err == nil {
		return nil
	}
	return r.Registry.Tag(ctx, tag, digest)
}

func (r forgetsOldTagged) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	if _, ok := ref.(name.Digest); ok {
		for tag := range r.Tags(ctx, ref.Context()) {
			if head, err := r.Head(ctx, ref.Context().Tag(tag)); err == nil && head.Digest.String() == ref.Identifier() {
				return r.Registry.Image(ctx, ref)
			}
		}
		return nil, fs.ErrNotExist
	}
	return r.Registry.Image(ctx, ref)
}

func (r backwards) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var all []string
		for tag, err := range r.Registry.Tags(ctx, repo) {
			if err != nil {
				yield("", err)
				return
			}
			all = append(all, tag)
		}
		for _, tag := range slices.Backward(all) {
			if !yield(tag, nil) {
				return
			}
		}
	}
}

func (r firstPageOnly) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		n := 0
		for tag, err := range r.Registry.Tags(ctx, repo) {
			if n++; n > 100 || !yield(tag, err) {
				return
			}
		}
	}
}

func (r twoErrors) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for tag, err := range r.Registry.Tags(ctx, repo) {
			if !yield(tag, err) || err != nil && !yield(tag, err) {
				return
			}
		}
	}
}

func (r losesChildren) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	// Writes them somewhere else.
	return r.Registry.WriteIndex(ctx, repo.Registry.Repo(repo.RepositoryStr()+"-lost"), idx, opts)
}

func (r anyKind) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	img, err := r.Registry.Image(ctx, ref)
	if errors.Is(err, errors.ErrUnsupported) {
		return empty.Image, nil
	}
	return img, err
}

type believed struct{ v1.Image }

func (b believed) Digest() (v1.Hash, error) {
	raw, err := b.RawManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	h, _, err := v1.SHA256(strings.NewReader(string(raw)))
	return h, err
}

func (r believesImages) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.Registry.WriteImage(ctx, repo, believed{img}, opts)
}

func (r acceptsLies) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	desc, err := r.Registry.WriteImage(ctx, repo, img, opts)
	if errors.Is(err, publish.ErrDigest) {
		return desc, nil
	}
	return desc, err
}

func (r deafToCancel) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.Registry.WriteImage(context.WithoutCancel(ctx), repo, img, opts)
}

func (r deafToCancel) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return r.Registry.Image(context.WithoutCancel(ctx), ref)
}

func (r silentAboutReuse) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, _ *publish.WriteOptions) (v1.Descriptor, error) {
	return r.Registry.WriteImage(ctx, repo, img, nil)
}

func (r reportsTwice) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	o := *opts
	if o.Reused != nil {
		o.Reused = func(d v1.Descriptor) { opts.Reused(d); opts.Reused(d) }
	}
	return r.Registry.WriteImage(ctx, repo, img, &o)
}

func (r countsBackwards) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	o := *opts
	o.Progress = func(done, total int64) { opts.Progress(total-done, total) }
	return r.Registry.WriteImage(ctx, repo, img, &o)
}

func (r needsItsSource) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	if opts != nil {
		for _, from := range opts.From {
			if _, err := r.Head(ctx, from.Tag("latest")); err != nil {
				return v1.Descriptor{}, err
			}
		}
	}
	return r.Registry.WriteImage(ctx, repo, img, opts)
}

func (r rewritesManifests) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.Registry.WriteImage(ctx, repo, mutate.Annotations(img, nil).(v1.Image), opts)
}

func (r everythingIsOCI) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	desc, err := r.Registry.Head(ctx, ref)
	if err == nil && desc.MediaType == types.DockerManifestSchema2 {
		desc.MediaType = types.OCIManifestSchema1
	}
	return desc, err
}

func (r takesAnyName) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.Registry.WriteImage(ctx, repo.Registry.Repo("x"), img, opts)
}

func (r losesConcurrentTag) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	lost := false
	r.once.Do(func() { lost = true })
	if lost {
		return nil
	}
	return r.Registry.Tag(ctx, tag, digest)
}

// Without its fault each passes: see TestHonestRegistry.
func TestBrokenRegistriesFail(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		wrap  func(publish.Registry) publish.Registry
		cases []string
	}{
		{func(r publish.Registry) publish.Registry { return tagsWhatItWrites{r} }, []string{"nothing is tagged by writing"}},
		{func(r publish.Registry) publish.Registry { return findsEverything{r} }, []string{"missing reference", "layer with wrong bytes"}},
		{func(r publish.Registry) publish.Registry { return hidesTheCause{r} }, []string{"missing reference"}},
		{func(r publish.Registry) publish.Registry { return tagsAnything{r} }, []string{"tag of a missing manifest"}},
		{func(r publish.Registry) publish.Registry { return neverMovesTags{r} }, []string{"tag and move"}},
		{func(r publish.Registry) publish.Registry { return forgetsOldTagged{r} }, []string{"tag and move", "image comes back"}},
		{func(r publish.Registry) publish.Registry { return backwards{r} }, []string{"tags are sorted"}},
		{func(r publish.Registry) publish.Registry { return firstPageOnly{r} }, []string{"120 tags"}},
		{func(r publish.Registry) publish.Registry { return twoErrors{r} }, []string{"tags stopped early"}},
		{func(r publish.Registry) publish.Registry { return losesChildren{r} }, []string{"index with children", "index in an index"}},
		{func(r publish.Registry) publish.Registry { return anyKind{r} }, []string{"index as image and image as index"}},
		{func(r publish.Registry) publish.Registry { return believesImages{r} }, []string{"image with a false digest"}},
		{func(r publish.Registry) publish.Registry { return acceptsLies{r} }, []string{"layer with wrong bytes", "image with a false digest"}},
		{func(r publish.Registry) publish.Registry { return deafToCancel{r} }, []string{"context ended before", "context ended while writing", "context ended while reading"}},
		{func(r publish.Registry) publish.Registry { return silentAboutReuse{r} }, []string{"reuse is reported", "progress"}},
		{func(r publish.Registry) publish.Registry { return reportsTwice{r} }, []string{"reuse is reported"}},
		{func(r publish.Registry) publish.Registry { return countsBackwards{r} }, []string{"progress"}},
		{func(r publish.Registry) publish.Registry { return needsItsSource{r} }, []string{"mount from nowhere"}},
		{func(r publish.Registry) publish.Registry { return rewritesManifests{r} }, []string{"manifest bytes are kept"}},
		{func(r publish.Registry) publish.Registry { return everythingIsOCI{r} }, []string{"docker media types"}},
		{func(r publish.Registry) publish.Registry { return takesAnyName{r} }, []string{"names that escape"}},
		{func(r publish.Registry) publish.Registry { return losesConcurrentTag{r, new(sync.Once)} }, []string{"concurrent tags"}},
	} {
		for _, c := range b.cases {
			broken := b.wrap(honest(t))
			t.Run(strings.TrimPrefix(fmt.Sprintf("%T", broken), "publishtest_test.")+"/"+c, func(t *testing.T) {
				t.Parallel()
				require.True(t, judge(t, broken, c).failed, "the case did not notice")
			})
		}
	}
}

func TestLeakIsSeen(t *testing.T) {
	before := goleak.IgnoreCurrent()
	stop := make(chan struct{})
	started := make(chan struct{})
	go func() { close(started); <-stop }()
	<-started
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); publishtest.CheckGoroutines(v, before) }()
	<-done
	close(stop)
	require.True(t, v.failed)
}

func TestHonestRegistry(t *testing.T) {
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		repo, err := name.NewRepository("registry.example/okd/release")
		require.NoError(t, err)
		return honest(t), repo
	}, publishtest.ClaimBlobs, publishtest.ClaimReferrers, publishtest.ClaimDelete)
}
