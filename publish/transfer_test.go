package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// textImage is an OCI image with these layers.
func textImage(t testing.TB, layers ...string) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer([]byte(l), types.OCILayer), MediaType: types.OCILayer})
		require.NoError(t, err)
	}
	return img
}

// multiArch is an index of images for platforms, each with a layer in common.
func multiArch(t testing.TB, text string, platforms ...string) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		platform, err := v1.ParsePlatform(p)
		require.NoError(t, err)
		img := textImage(t, "common of "+text, text+" for "+p)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return idx
}

func layoutAt(t testing.TB, dir string) *layoutregistry.Registry {
	t.Helper()
	r, err := layoutregistry.Open(t.Context(), dir, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	return r
}

func repoOf(t testing.TB, text string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(text)
	require.NoError(t, err)
	return r
}

// put writes images to a repository and gives pullspecs by digest.
func put(t testing.TB, r publish.Registry, repo name.Repository, values ...any) []string {
	t.Helper()
	var specs []string
	for _, value := range values {
		var desc v1.Descriptor
		var err error
		switch value := value.(type) {
		case v1.Image:
			desc, err = r.WriteImage(t.Context(), repo, value, nil)
		case v1.ImageIndex:
			desc, err = r.WriteIndex(t.Context(), repo, value, nil)
		}
		require.NoError(t, err)
		specs = append(specs, repo.Digest(desc.Digest.String()).String())
	}
	return specs
}

func writeJSON(t testing.TB, file string, value any) {
	t.Helper()
	data, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))
}

// recorder keeps events, by action of what was done.
type recorder struct {
	mu     sync.Mutex
	events []publish.TransferEvent
}

func (r *recorder) event(e publish.TransferEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// did lists the targets of an action.
func (r *recorder) did(action publish.TransferAction) (targets []string) {
	for _, e := range r.events {
		if e.Phase == publish.PhaseDone && e.Step.Action == action {
			targets = append(targets, e.Step.Target)
		}
	}
	slices.Sort(targets)
	return targets
}

// images only hides that a registry offers blobs.
type imagesOnly struct{ publish.Registry }

const (
	sourceRepo = "source.example/okd/content"
	mirrorRepo = "mirror.example/okd/content"
)

// TestTransfer copies images and indexes between folders, with and without the
// seam for blobs on either side.
func TestTransfer(t *testing.T) {
	t.Parallel()
	for what, wrap := range map[string]struct {
		to, from func(publish.Registry) publish.Registry
	}{
		"blobs":             {},
		"source of images":  {from: func(r publish.Registry) publish.Registry { return imagesOnly{r} }},
		"takes images":      {to: func(r publish.Registry) publish.Registry { return imagesOnly{r} }},
		"images in and out": {to: func(r publish.Registry) publish.Registry { return imagesOnly{r} }, from: func(r publish.Registry) publish.Registry { return imagesOnly{r} }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var from, to publish.Registry = layoutAt(t, t.TempDir()), layoutAt(t, t.TempDir())
			specs := put(t, from, repoOf(t, sourceRepo), textImage(t, "base", "a"), textImage(t, "base", "b"), multiArch(t, "node", "linux/amd64", "linux/arm64"))
			if wrap.from != nil {
				from = wrap.from(from)
			}
			plain := to
			if wrap.to != nil {
				to = wrap.to(to)
			}
			copies := []publish.Copy{
				{From: specs[0], To: mirrorRepo, Tags: []string{"a", "first"}},
				{From: specs[1], To: mirrorRepo},
				{From: specs[2], To: mirrorRepo + "/node", Tags: []string{"node"}, Stage: 1},
			}
			rec := &recorder{}
			got, err := publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{Progress: rec.event})
			require.NoError(t, err)
			require.Len(t, got.Copies, 3)
			for i, c := range got.Copies {
				require.True(t, strings.HasSuffix(specs[i], c.Digest.String()))
				require.Positive(t, c.Size)
				require.False(t, c.Complete)
			}
			for _, tag := range []string{"a", "first"} {
				img, err := plain.Image(t.Context(), repoOf(t, mirrorRepo).Tag(tag))
				require.NoError(t, err)
				require.NoError(t, validate.Image(img, validate.Fast))
			}
			idx, err := plain.Index(t.Context(), repoOf(t, mirrorRepo+"/node").Tag("node"))
			require.NoError(t, err)
			m, err := idx.IndexManifest()
			require.NoError(t, err)
			require.Len(t, m.Manifests, 2)
			require.Equal(t, []string{mirrorRepo + "/node:node", mirrorRepo + ":a", mirrorRepo + ":first"}, rec.did(publish.ActionTag))
			if wrap.to == nil {
				// base once; configs, own layers; the index's shared layer once.
				require.Equal(t, 3+2+2+3, got.Totals.Moved)
				require.Equal(t, got.Totals.Blobs, got.Totals.Moved+got.Totals.Mounted+got.Totals.Reused)
				require.Equal(t, got.Totals.Bytes, got.Totals.MovedBytes+got.Totals.MountedBytes+got.Totals.ReusedBytes)
				require.Equal(t, got.Totals.Manifests, got.Totals.Written)
				require.Equal(t, 3, got.Totals.Tagged)
			}

			rec = &recorder{}
			got, err = publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{Progress: rec.event})
			require.NoError(t, err)
			for _, c := range got.Copies {
				require.True(t, c.Complete)
			}
			require.Equal(t, publish.TransferTotals{}, got.Totals)
			require.Len(t, rec.did(publish.ActionReuse), 3)
			require.Len(t, rec.events, 3)
		})
	}
}

// A blob moves once, then it is mounted, also from where it was before.
func TestTransferMounts(t *testing.T) {
	t.Parallel()
	from, to := layoutAt(t, t.TempDir()), layoutAt(t, t.TempDir())
	var copies []publish.Copy
	for i := range 20 {
		spec := put(t, from, repoOf(t, sourceRepo), textImage(t, "base", fmt.Sprint(i)))[0]
		copies = append(copies, publish.Copy{From: spec, To: fmt.Sprintf("%s-%d", mirrorRepo, i), Tags: []string{"t"}})
	}
	rec := &recorder{}
	got, err := publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{Progress: rec.event})
	require.NoError(t, err)
	require.Equal(t, 41, got.Totals.Moved, "20 configs, 20 layers, one base")
	require.Equal(t, 19, got.Totals.Mounted)

	// Within one registry nothing moves at all.
	rec = &recorder{}
	for i := range copies {
		copies[i].From, copies[i].To = copies[i].To+":t", mirrorRepo+"/all"
		copies[i].Tags = []string{fmt.Sprint(i)}
	}
	got, err = publish.Transfer(t.Context(), to, to, copies[:10], &publish.TransferOptions{Progress: rec.event})
	require.NoError(t, err)
	require.Empty(t, rec.did(publish.ActionMove))
	require.Equal(t, 21, got.Totals.Mounted)

	// A tag in the same repository is a tag only.
	rec = &recorder{}
	_, err = publish.Transfer(t.Context(), to, to, []publish.Copy{{From: mirrorRepo + "-0:t", To: mirrorRepo + "-0", Tags: []string{"u"}}}, &publish.TransferOptions{Progress: rec.event})
	require.NoError(t, err)
	require.Empty(t, append(rec.did(publish.ActionMove), rec.did(publish.ActionMount)...))
	require.Len(t, rec.did(publish.ActionTag), 1)
}

func TestTransferPlatforms(t *testing.T) {
	t.Parallel()
	from := layoutAt(t, t.TempDir())
	spec := put(t, from, repoOf(t, sourceRepo), multiArch(t, "x", "linux/amd64", "linux/arm64/v8", "linux/ppc64le"))[0]
	plain := put(t, from, repoOf(t, sourceRepo), textImage(t, "plain"))[0]
	copyOne := func(c publish.Copy) (publish.CopyResult, *layoutregistry.Registry, error) {
		to := layoutAt(t, t.TempDir())
		c.To = mirrorRepo
		got, err := publish.Transfer(t.Context(), to, from, []publish.Copy{c}, nil)
		if err != nil {
			return publish.CopyResult{}, to, err
		}
		return got.Copies[0], to, nil
	}
	t.Run("one of three", func(t *testing.T) {
		got, to, err := copyOne(publish.Copy{From: spec, Platforms: []string{"linux/arm64"}, Tags: []string{"arm"}})
		require.NoError(t, err)
		require.False(t, strings.HasSuffix(spec, got.Digest.String()))
		idx, err := to.Index(t.Context(), repoOf(t, mirrorRepo).Tag("arm"))
		require.NoError(t, err)
		m, err := idx.IndexManifest()
		require.NoError(t, err)
		require.Len(t, m.Manifests, 1)
		img, err := idx.Image(m.Manifests[0].Digest)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img, validate.Fast))
		require.Equal(t, "v8", m.Manifests[0].Platform.Variant)
		again, _, err := copyOne(publish.Copy{From: spec, Platforms: []string{"linux/arm64"}})
		require.NoError(t, err)
		require.Equal(t, got.Digest, again.Digest, "the same choice is the same index")
	})
	t.Run("all of them is the index itself", func(t *testing.T) {
		got, _, err := copyOne(publish.Copy{From: spec, Platforms: []string{"linux/arm64", "linux/ppc64le", "linux/amd64"}})
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(spec, got.Digest.String()))
	})
	t.Run("none", func(t *testing.T) {
		_, _, err := copyOne(publish.Copy{From: spec, Platforms: []string{"linux/s390x"}})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "s390x")
	})
	t.Run("a plain image as it is", func(t *testing.T) {
		got, _, err := copyOne(publish.Copy{From: plain, Platforms: []string{"linux/s390x"}})
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(plain, got.Digest.String()))
	})
	t.Run("sparse", func(t *testing.T) {
		// A layout wants all entries, so this is refused, and nothing is tagged.
		_, to, err := copyOne(publish.Copy{From: spec, Platforms: []string{"linux/arm64"}, Sparse: true, Tags: []string{"x"}})
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = to.Head(t.Context(), repoOf(t, mirrorRepo).Tag("x"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		whole := imagesOnly{layoutAt(t, t.TempDir())}
		_, err = publish.Transfer(t.Context(), whole, from, []publish.Copy{{From: spec, To: mirrorRepo, Platforms: []string{"linux/arm64"}, Sparse: true}}, nil)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// Attestations go with what they are about, and keys nobody knows stay.
func TestTransferFilteredIndexKeepsTheRest(t *testing.T) {
	t.Parallel()
	from, to := layoutAt(t, t.TempDir()), layoutAt(t, t.TempDir())
	idx := multiArch(t, "x", "linux/amd64", "linux/arm64")
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	for _, desc := range m.Manifests {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: textImage(t, "about "+desc.Digest.String()), Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": desc.Digest.String()},
		}})
	}
	put(t, from, repoOf(t, sourceRepo), idx)
	raw, err := idx.RawManifest()
	require.NoError(t, err)
	raw = bytes.Replace(raw, []byte(`"schemaVersion":2`), []byte(`"schemaVersion":2,"annotations":{"k":"<v>"},"new":1.0`), 1)
	desc, err := from.WriteManifest(t.Context(), repoOf(t, sourceRepo), types.OCIImageIndex, raw)
	require.NoError(t, err)
	_, err = publish.Transfer(t.Context(), to, from, []publish.Copy{{From: sourceRepo + "@" + desc.Digest.String(), To: mirrorRepo, Platforms: []string{"linux/amd64"}, Tags: []string{"t"}}}, nil)
	require.NoError(t, err)
	_, got, err := to.Manifest(t.Context(), repoOf(t, mirrorRepo).Tag("t"))
	require.NoError(t, err)
	var doc struct {
		Manifests   []json.RawMessage
		Annotations map[string]string
		New         json.RawMessage
	}
	require.NoError(t, json.Unmarshal(got, &doc))
	require.Len(t, doc.Manifests, 2)
	require.Equal(t, map[string]string{"k": "<v>"}, doc.Annotations)
	require.Equal(t, "1.0", string(doc.New))
}

func TestTransferDryRun(t *testing.T) {
	t.Parallel()
	from, dir := layoutAt(t, t.TempDir()), filepath.Join(t.TempDir(), "mirror")
	to := layoutAt(t, dir)
	specs := put(t, from, repoOf(t, sourceRepo), textImage(t, "base", "a"), textImage(t, "base", "b"), multiArch(t, "node", "linux/amd64", "linux/arm64"))
	copies := []publish.Copy{
		{From: specs[2], To: mirrorRepo, Tags: []string{"node"}, Stage: 1},
		{From: specs[0], To: mirrorRepo, Tags: []string{"a"}},
		{From: specs[1], To: mirrorRepo + "-2", Tags: []string{"b"}},
	}
	journal := publish.StoreJournal(memstore.New(), "j/")
	rec := &recorder{}
	dry := func() *publish.Transferred {
		got, err := publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{DryRun: true, Journal: journal, Progress: rec.event})
		require.NoError(t, err)
		return got
	}
	got := dry()
	require.NoDirExists(t, dir)
	require.Equal(t, got.Steps, dry().Steps, "the order is always the same")
	count := map[publish.TransferAction]int{}
	for i, s := range got.Steps {
		count[s.Action]++
		if s.Action == publish.ActionTag {
			require.GreaterOrEqual(t, i, len(got.Steps)-3, "tags are last")
		}
	}
	require.Equal(t, map[publish.TransferAction]int{publish.ActionMove: 5 + 5, publish.ActionMount: 1, publish.ActionWrite: 5, publish.ActionTag: 3}, count)
	require.True(t, strings.HasPrefix(got.Steps[0].Target, mirrorRepo+"@"), "stage 0 before stage 1: %s", got.Steps[0].Target)
	require.Equal(t, sourceRepo, got.Steps[0].From)

	_, err := publish.Transfer(t.Context(), to, from, copies[1:2], nil)
	require.NoError(t, err)
	count = map[publish.TransferAction]int{}
	for _, s := range dry().Steps {
		count[s.Action]++
	}
	require.Equal(t, map[publish.TransferAction]int{publish.ActionReuse: 1, publish.ActionMove: 2 + 5, publish.ActionMount: 1, publish.ActionWrite: 4, publish.ActionTag: 2}, count)
	plain, err := json.Marshal(got)
	require.NoError(t, err)
	require.Contains(t, string(plain), `"action":"mount"`)
}

// TestTransferFaults fails every single call in turn: the next run goes on, no
// blob moves twice, no tag is there before its content.
func TestTransferFaults(t *testing.T) {
	t.Parallel()
	from := layoutAt(t, t.TempDir())
	specs := put(t, from, repoOf(t, sourceRepo), textImage(t, "base", "a"), textImage(t, "base", "b"), multiArch(t, "node", "linux/amd64", "linux/arm64"))
	copies := []publish.Copy{
		{From: specs[0], To: mirrorRepo, Tags: []string{"a"}},
		{From: specs[1], To: mirrorRepo + "-2", Tags: []string{"b"}},
		{From: specs[2], To: mirrorRepo, Tags: []string{"node"}, Stage: 1},
	}
	injected := errors.New("injected")
	for n := 1; ; n++ {
		to := &faultyBlobs{Registry: layoutAt(t, t.TempDir()), moved: map[string]int{}}
		calls := 0
		to.fault = func(call int) error {
			calls = call
			if call == n {
				return injected
			}
			return nil
		}
		_, err := publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{Delay: time.Millisecond})
		if n > calls {
			require.NoError(t, err)
			require.Greater(t, n, 30)
			break
		}
		if err != nil { // a mount that fails is no fault
			require.ErrorIs(t, err, injected)
			for _, c := range copies {
				head, err := to.Registry.Head(t.Context(), repoOf(t, c.To).Tag(c.Tags[0]))
				if err != nil {
					require.ErrorIs(t, err, fs.ErrNotExist)
					continue
				}
				require.True(t, strings.HasSuffix(c.From, head.Digest.String()))
			}
		}
		to.fault = func(int) error { return nil }
		_, err = publish.Transfer(t.Context(), to, from, copies, nil)
		require.NoError(t, err, "call %d", n)
		for blob, times := range to.moved {
			require.Equal(t, 1, times, "blob %s, call %d", blob, n)
		}
		for _, c := range copies {
			_, err := to.Head(t.Context(), repoOf(t, c.To).Tag(c.Tags[0]))
			require.NoError(t, err)
		}
	}
}

// A journal that lies costs requests and does no harm; nor does a registry that
// says it mounted what it didn't.
func TestTransferBelievesNobody(t *testing.T) {
	t.Parallel()
	from := layoutAt(t, t.TempDir())
	specs := put(t, from, repoOf(t, sourceRepo), textImage(t, "base", "a"), textImage(t, "base", "b"))
	copies := []publish.Copy{{From: specs[0], To: mirrorRepo, Tags: []string{"a"}}, {From: specs[1], To: mirrorRepo + "-2", Tags: []string{"b"}}}
	store := memstore.New()
	journal := publish.StoreJournal(store, "j/")
	_, err := publish.Transfer(t.Context(), layoutAt(t, t.TempDir()), from, copies, &publish.TransferOptions{Journal: journal})
	require.NoError(t, err)
	noted := 0
	for info, err := range store.List(t.Context(), "j/") {
		require.NoError(t, err)
		entries, err := journal.Load(t.Context(), strings.TrimSuffix(strings.TrimPrefix(info.Key, "j/"), ".jsonl"))
		require.NoError(t, err)
		noted += len(entries)
	}
	require.Equal(t, 6, noted)

	// The same journal, but the registry is empty.
	to := &faultyBlobs{Registry: layoutAt(t, t.TempDir()), moved: map[string]int{}, liar: true}
	got, err := publish.Transfer(t.Context(), to, from, copies, &publish.TransferOptions{Journal: journal})
	require.NoError(t, err)
	require.GreaterOrEqual(t, got.Totals.Moved, 5)
	for _, c := range copies {
		img, err := to.Image(t.Context(), repoOf(t, c.To).Tag(c.Tags[0]))
		require.NoError(t, err)
		require.NoError(t, validate.Image(img, validate.Fast))
	}
}

// faultyBlobs is a layout that can be made to fail, counts what is written and
// may claim to have mounted.
type faultyBlobs struct {
	*layoutregistry.Registry
	fault func(call int) error
	liar  bool

	mu    sync.Mutex
	calls int
	moved map[string]int
}

func (f *faultyBlobs) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fault == nil {
		return nil
	}
	return f.fault(f.calls)
}

func (f *faultyBlobs) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	return f.Registry.Head(ctx, ref)
}

func (f *faultyBlobs) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Registry.Tag(ctx, tag, digest)
}

func (f *faultyBlobs) WriteManifest(ctx context.Context, repo name.Repository, mt types.MediaType, raw []byte) (v1.Descriptor, error) {
	if err := f.next(); err != nil {
		return v1.Descriptor{}, err
	}
	return f.Registry.WriteManifest(ctx, repo, mt, raw)
}

func (f *faultyBlobs) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	if err := f.next(); err != nil {
		return 0, err
	}
	return f.Registry.StatBlob(ctx, repo, digest)
}

func (f *faultyBlobs) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := f.next(); err != nil {
		return err
	}
	err := f.Registry.WriteBlob(ctx, repo, blob, src)
	if err == nil {
		f.mu.Lock()
		f.moved[blob.Digest.String()]++
		f.mu.Unlock()
	}
	return err
}

func (f *faultyBlobs) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := f.next(); err != nil {
		return &publish.Error{Op: "mount", Target: repo.Name(), Err: err, Retryable: true}
	}
	if f.liar {
		return nil
	}
	return f.Registry.MountBlob(ctx, repo, digest, from)
}

func TestCheckCopies(t *testing.T) {
	t.Parallel()
	digest := sourceRepo + "@sha256:" + strings.Repeat("ab", 32)
	ok := publish.Copy{From: digest, To: mirrorRepo, Tags: []string{"t"}}
	for what, tc := range map[string]struct {
		copies []publish.Copy
		want   string
	}{
		"nothing":         {nil, ""},
		"good":            {[]publish.Copy{ok}, ""},
		"twice the same":  {[]publish.Copy{ok, ok}, ""},
		"no registry":     {[]publish.Copy{{From: "okd/x:t", To: mirrorRepo}}, "copies[0].from"},
		"no tag":          {[]publish.Copy{{From: sourceRepo, To: mirrorRepo}}, "copies[0].from"},
		"to a tag":        {[]publish.Copy{{From: digest, To: mirrorRepo + ":t"}}, "copies[0].to"},
		"bad tag":         {[]publish.Copy{{From: digest, To: mirrorRepo, Tags: []string{"ok", "../x"}}}, "copies[0].tags[1]"},
		"bad platform":    {[]publish.Copy{{From: digest, To: mirrorRepo, Platforms: []string{"linux"}}}, "copies[0].platforms[0]"},
		"sparse whole":    {[]publish.Copy{{From: digest, To: mirrorRepo, Sparse: true}}, "copies[0].sparse"},
		"stage":           {[]publish.Copy{{From: digest, To: mirrorRepo, Stage: -1}}, "copies[0].stage"},
		"one tag for two": {[]publish.Copy{ok, {From: sourceRepo + ":x", To: mirrorRepo, Tags: []string{"t"}}}, "copies[1].tags[0]"},
		"tag twice":       {[]publish.Copy{{From: digest, To: mirrorRepo, Tags: []string{"t", "t"}}}, ""},
		"other platforms": {[]publish.Copy{
			{From: digest, To: mirrorRepo, Tags: []string{"t"}, Platforms: []string{"a/b", "c/d"}},
			{From: digest, To: mirrorRepo, Tags: []string{"t"}, Platforms: []string{"a/b c/d"}},
		}, "copies[1].tags[0]"},
		"several at a time": {[]publish.Copy{{}, {}}, "copies[1].to"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			err := publish.CheckCopies(tc.copies)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.ErrorContains(t, err, tc.want)
			_, err = publish.Transfer(t.Context(), layoutAt(t, t.TempDir()), layoutAt(t, t.TempDir()), tc.copies, nil)
			require.ErrorIs(t, err, fs.ErrInvalid)
		})
	}
	_, err := publish.DecodeCopies(strings.NewReader(`[{"from":"` + digest + `","to":"` + mirrorRepo + `"},{"form":""}]`))
	require.ErrorContains(t, err, "form")
	_, err = publish.DecodeCopies(strings.NewReader(`[] []`))
	require.Error(t, err)
}

// Faults are counted where there are many; what each costs is bounded, and what a
// tag costs does not grow with the copy that it is of.
func TestDecodeCopiesAllocates(t *testing.T) {
	long := strings.Repeat("a", 30_000)
	for what, text := range map[string]string{
		"faults":          "[" + strings.Repeat("{},", 20_000) + "{}]",
		"long repository": `[{"to":"` + long + `.example/aa","tags":["x"` + strings.Repeat(`,"x"`, 8_000) + "]}]",
		"long platform":   `[{"platforms":["` + long + `/b"],"tags":["x"` + strings.Repeat(`,"x"`, 8_000) + "]}]",
	} {
		_, err := fuzzbound.Read(t, 512, publish.DecodeCopies, []byte(text))
		require.ErrorContains(t, err, "copies[0].from", what)
	}
}
