package publish_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

var update = flag.Bool("update", false, "write golden files")

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

const repo = "registry.example/okd/release"

// release is something to publish, and where to.
type release struct {
	plan     *publish.Plan
	env      publish.Env
	contents map[string]string // by digest
	img      v1.Image
	idx      v1.ImageIndex

	mu    sync.Mutex
	gates map[string]publish.GateResult
}

// appendLine is a transform that adds a line to a document once.
func appendLine(argument json.RawMessage) (func([]byte) ([]byte, error), error) {
	var line string
	if err := json.Unmarshal(argument, &line); err != nil {
		return nil, err
	}
	return func(old []byte) ([]byte, error) {
		if slices.Contains(strings.Split(string(old), "\n"), line) {
			return old, nil
		}
		return append(old, line+"\n"...), nil
	}, nil
}

func newRelease(t *testing.T) *release {
	t.Helper()
	reg, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	img, err := random.Image(1000, 2, random.WithSource(newSource(1)))
	require.NoError(t, err)
	other, err := random.Image(500, 1, random.WithSource(newSource(2)))
	require.NoError(t, err)
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: other})
	r := &release{img: img, idx: idx, contents: map[string]string{}, gates: map[string]publish.GateResult{"kola": publish.GatePassed}}
	imgDigest, err := img.Digest()
	require.NoError(t, err)
	idxDigest, err := idx.Digest()
	require.NoError(t, err)
	imgType, err := img.MediaType()
	require.NoError(t, err)
	idxType, err := idx.MediaType()
	require.NoError(t, err)

	object := func(stage publish.Stage, key, content string) publish.Step {
		r.contents[sum(content)] = content
		return publish.Step{Stage: stage, Object: &publish.ObjectStep{Key: key, SHA256: sum(content), Size: int64(len(content)), ContentType: "application/json", CacheControl: "max-age=300"}}
	}
	line := func(stage publish.Stage, key, text string) publish.Step {
		argument, err := json.Marshal(text)
		require.NoError(t, err)
		return publish.Step{Stage: stage, Document: &publish.DocumentStep{Key: key, Transform: "append-line", Argument: argument, CacheControl: "max-age=60"}}
	}
	r.plan = &publish.Plan{Version: publish.PlanVersion, Name: "0.0.0-sample", Steps: []publish.Step{
		{Stage: publish.StagePointers, Tag: &publish.TagStep{Reference: repo + ":0.0.0-sample", Digest: imgDigest.String()}},
		{Stage: publish.StagePointers, Tag: &publish.TagStep{Reference: repo + ":latest", Digest: idxDigest.String()}},
		line(publish.StageAnnouncement, "releases.txt", "meta/x86_64.json"),
		line(publish.StageAnnouncement, "streams/next.txt", "disks/b.raw"),
		{Stage: publish.StageGates, Gate: &publish.GateStep{Name: "kola"}},
		object(publish.StageCatalogue, "meta/x86_64.json", `{"sample": true}`),
		line(publish.StageCatalogue, "builds.txt", "meta/x86_64.json"),
		object(publish.StageContent, "disks/a.raw", "a disk"),
		object(publish.StageContent, "disks/b.raw", "another disk"),
		{Stage: publish.StageContent, Image: &publish.ImageStep{Repository: repo, Digest: imgDigest.String(), Size: 1, MediaType: imgType, From: []string{"registry.example/okd/base"}}},
		{Stage: publish.StageContent, Index: &publish.ImageStep{Repository: repo, Digest: idxDigest.String(), Size: 1, MediaType: idxType}},
	}}
	r.env = publish.Env{
		Store: memstore.New(), Registry: reg,
		Object: func(_ context.Context, sha256 string) (publish.Source, error) {
			content, ok := r.contents[sha256]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return publish.BytesSource([]byte(content)), nil
		},
		Image:      func(context.Context, v1.Hash) (v1.Image, error) { return img, nil },
		Index:      func(context.Context, v1.Hash) (v1.ImageIndex, error) { return idx, nil },
		Transforms: map[string]publish.Transform{"append-line": appendLine},
		Gate: func(_ context.Context, gate string) (publish.GateResult, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.gates[gate], nil
		},
	}
	return r
}

// reader polls the pointers and follows them, through env's plain backends.
type reader struct {
	store    publish.Store
	registry publish.Registry
	// order of documents: a line of the first names an object; a line of the
	// second one must be in the first.
}

// check looks once; the pointers first.
func (r *reader) check(ctx context.Context) error {
	for _, tag := range []string{"0.0.0-sample", "latest"} {
		ref, err := name.NewTag(repo + ":" + tag)
		if err != nil {
			return err
		}
		desc, err := r.registry.Head(ctx, ref)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := r.registry.Head(ctx, ref.Repository.Digest(desc.Digest.String())); err != nil {
			return fmt.Errorf("tag %s points to nothing: %w", tag, err)
		}
		if _, err := r.store.Stat(ctx, "releases.txt"); err != nil {
			return fmt.Errorf("tag %s before its announcement: %w", tag, err)
		}
	}
	for _, document := range []string{"streams/next.txt", "releases.txt", "builds.txt"} {
		data, _, err := publish.ReadDocument(ctx, r.store, document)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if _, err := r.store.Stat(ctx, strings.TrimSpace(line)); err != nil {
				return fmt.Errorf("%s points to nothing: %w", document, err)
			}
		}
		if document != "builds.txt" {
			if _, err := r.store.Stat(ctx, "builds.txt"); err != nil {
				return fmt.Errorf("%s before the catalogue: %w", document, err)
			}
		}
	}
	return nil
}

// requirePublished checks the end state.
func (r *release) requirePublished(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for _, s := range r.plan.Steps {
		switch {
		case s.Object != nil:
			data, info, err := publish.ReadDocument(ctx, r.env.Store, s.Object.Key)
			require.NoError(t, err)
			require.Equal(t, s.Object.SHA256, sum(string(data)))
			require.Equal(t, s.Object.ContentType, info.ContentType)
		case s.Document != nil:
			data, _, err := publish.ReadDocument(ctx, r.env.Store, s.Document.Key)
			require.NoError(t, err)
			var line string
			require.NoError(t, json.Unmarshal(s.Document.Argument, &line))
			require.Equal(t, line+"\n", string(data), "applied once")
		case s.Tag != nil:
			tag, err := name.NewTag(s.Tag.Reference)
			require.NoError(t, err)
			desc, err := r.env.Registry.Head(ctx, tag)
			require.NoError(t, err)
			require.Equal(t, s.Tag.Digest, desc.Digest.String())
		}
	}
}

func TestApply(t *testing.T) {
	r := newRelease(t)
	var mu sync.Mutex
	phases := map[string]publish.Phase{}
	opts := &publish.ApplyOptions{
		Journal: publish.FileJournal(filepath.Join(t.TempDir(), "journal.jsonl")),
		Progress: func(e publish.Event) {
			mu.Lock()
			defer mu.Unlock()
			phases[e.Step.String()] = e.Phase
		},
	}
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	r.requirePublished(t)
	for step, phase := range phases {
		require.Equal(t, publish.PhaseDone, phase, step)
	}
	require.Len(t, phases, len(r.plan.Steps))

	// Again: nothing is written, with and without the journal.
	for _, journal := range []publish.Journal{opts.Journal, nil} {
		writes := 0
		env := r.env
		env.Store = publishtest.Faulty(r.env.Store, func(c publishtest.Call) error {
			if c.Op == "put" {
				writes++
			}
			return nil
		})
		env.Registry = publishtest.FaultyRegistry(r.env.Registry, func(c publishtest.Call) error {
			if c.Op == "write" || c.Op == "tag" {
				writes++
			}
			return nil
		})
		clear(phases)
		require.NoError(t, publish.Apply(t.Context(), r.plan, &env, &publish.ApplyOptions{Journal: journal, Progress: opts.Progress}))
		require.Zero(t, writes)
		for step, phase := range phases {
			if journal != nil || !strings.HasPrefix(step, "gate") {
				require.Equal(t, publish.PhaseReused, phase, step)
			}
		}
		r.requirePublished(t)
	}
}

// TestApplyStoppedAnywhere stops the plan before and after each call of a
// backend, in turn, applies it again, and polls what readers see all the time.
func TestApplyStoppedAnywhere(t *testing.T) {
	fault := errors.New("power cut")
	for _, journal := range []string{"none", "file", "store"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth++ {
				r := newRelease(t)
				watch := &reader{store: r.env.Store, registry: r.env.Registry}
				var kept publish.Journal
				switch journal {
				case "file":
					kept = publish.FileJournal(filepath.Join(t.TempDir(), "journal.jsonl"))
				case "store":
					kept = publish.StoreJournal(r.env.Store, "journal/")
				}
				var mu sync.Mutex
				calls, hit := 0, ""
				var seen error
				ask := func(c publishtest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if seen == nil {
						seen = watch.check(t.Context())
					}
					if calls++; calls == nth {
						hit = fmt.Sprintf("%s %s after=%v", c.Op, c.Target, c.After)
						return fault
					}
					return nil
				}
				env := r.env
				env.Store = publishtest.Faulty(r.env.Store, ask)
				env.Registry = publishtest.FaultyRegistry(r.env.Registry, ask)
				err := publish.Apply(t.Context(), r.plan, &env, &publish.ApplyOptions{Journal: kept, Workers: 2})
				require.NoError(t, seen, "call %d: %s", nth, hit)
				if hit == "" {
					require.NoError(t, err)
					require.Greater(t, nth, 30)
					return // every call had its turn
				}
				require.ErrorIs(t, err, fault, "call %d: %s", nth, hit)
				// On, elsewhere: another Env over the same backends.
				again := r.env
				require.NoError(t, publish.Apply(t.Context(), r.plan, &again, &publish.ApplyOptions{Journal: kept}), "after %s", hit)
				r.requirePublished(t)
				require.NoError(t, watch.check(t.Context()))
			}
		})
	}
}

func TestApplyTriesAgainWhereThatHelps(t *testing.T) {
	r := newRelease(t)
	left := 2
	env := r.env
	env.Store = publishtest.Faulty(r.env.Store, func(c publishtest.Call) error {
		if c.Op == "put" && c.Target == "disks/a.raw" && !c.After && left > 0 {
			left--
			return &publish.Error{Op: "put", Target: c.Target, Err: errors.New("cut"), Retryable: true}
		}
		return nil
	})
	require.NoError(t, publish.Apply(t.Context(), r.plan, &env, &publish.ApplyOptions{Delay: 1}))
	require.Zero(t, left)
	r.requirePublished(t)

	r = newRelease(t)
	env = r.env
	env.Store = publishtest.Faulty(r.env.Store, func(c publishtest.Call) error {
		if c.Op == "put" {
			return &publish.Error{Op: "put", Target: c.Target, Err: errors.New("cut"), Retryable: true}
		}
		return nil
	})
	err := publish.Apply(t.Context(), r.plan, &env, &publish.ApplyOptions{Delay: 1, Workers: 1})
	require.EqualError(t, err, `publish: apply plan "0.0.0-sample": stage content: object disks/a.raw: publish: put disks/a.raw: cut`)
	pe, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok)
	require.True(t, pe.Retryable)
}

func TestApplyGates(t *testing.T) {
	r := newRelease(t)
	r.plan.Steps = append(r.plan.Steps, publish.Step{Stage: publish.StageGates, Gate: &publish.GateStep{Name: "upgrade"}})
	check := func() error {
		return publish.Apply(t.Context(), r.plan, &r.env, &publish.ApplyOptions{Journal: publish.StoreJournal(r.env.Store, "journal/")})
	}
	err := check()
	require.ErrorIs(t, err, publish.ErrPending)
	pending, ok := errors.AsType[*publish.PendingError](err)
	require.True(t, ok)
	require.Equal(t, []string{"upgrade"}, pending.Gates)
	// The catalogue is there, the announcement is not.
	_, err = r.env.Store.Stat(t.Context(), "builds.txt")
	require.NoError(t, err)
	_, err = r.env.Store.Stat(t.Context(), "releases.txt")
	require.ErrorIs(t, err, fs.ErrNotExist)

	r.gates["upgrade"] = publish.GateFailed
	err = check()
	require.ErrorIs(t, err, publish.ErrGate)
	require.EqualError(t, err, `publish: apply plan "0.0.0-sample": stage gates: failed: upgrade`)
	_, err = r.env.Store.Stat(t.Context(), "releases.txt")
	require.ErrorIs(t, err, fs.ErrNotExist)

	r.gates["upgrade"] = "perhaps"
	require.ErrorIs(t, check(), publish.ErrPending)
	r.gates["upgrade"] = publish.GatePassed
	require.NoError(t, check())
	r.requirePublished(t)
	// What passed is known from the journal.
	clear(r.gates)
	require.NoError(t, check())

	r = newRelease(t)
	r.env.Gate = nil
	require.ErrorIs(t, check(), publish.ErrPending)
}

func TestApplyDryRun(t *testing.T) {
	r := newRelease(t)
	r.gates["kola"] = publish.GatePending
	phases := map[string]publish.Phase{}
	var mu sync.Mutex
	opts := &publish.ApplyOptions{DryRun: true, Journal: publish.StoreJournal(r.env.Store, "journal/"), Progress: func(e publish.Event) {
		mu.Lock()
		defer mu.Unlock()
		phases[e.Step.String()] = e.Phase
	}}
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	for info, err := range r.env.Store.List(t.Context(), "") {
		t.Errorf("dry run wrote %v, %v", info.Key, err)
	}
	for step, phase := range phases {
		want := publish.PhaseWould
		if strings.HasPrefix(step, "gate") {
			want = publish.PhasePending
		}
		require.Equal(t, want, phase, step)
	}
	r.gates["kola"] = publish.GatePassed
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, nil))
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	require.Equal(t, publish.PhaseReused, phases["document releases.txt"])
}

func TestApplyLeavesLaterPointersAlone(t *testing.T) {
	r := newRelease(t)
	opts := &publish.ApplyOptions{Journal: publish.StoreJournal(r.env.Store, "journal/")}
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	// Somebody moves the tag on; the old plan, applied again, doesn't move it back.
	latest, err := name.NewTag(repo + ":latest")
	require.NoError(t, err)
	moved, err := r.img.Digest()
	require.NoError(t, err)
	require.NoError(t, r.env.Registry.Tag(t.Context(), latest, moved))
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	desc, err := r.env.Registry.Head(t.Context(), latest)
	require.NoError(t, err)
	require.Equal(t, moved, desc.Digest)
	// Content that went missing is put there again, journal or not.
	require.NoError(t, r.env.Store.Delete(t.Context(), "disks/a.raw"))
	require.NoError(t, publish.Apply(t.Context(), r.plan, &r.env, opts))
	_, err = r.env.Store.Stat(t.Context(), "disks/a.raw")
	require.NoError(t, err)
}

func TestApplyRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(t *testing.T, r *release)
		text string
		is   error
	}{
		{"no store", func(_ *testing.T, r *release) { r.env.Store = nil }, "environment has no store", fs.ErrInvalid},
		{"no transform", func(_ *testing.T, r *release) { r.env.Transforms = nil }, `environment has no transform "append-line"`, fs.ErrInvalid},
		{"invalid plan", func(_ *testing.T, r *release) { r.plan.Steps[7].Object.Key = "../x" }, "steps[7].object.key", fs.ErrInvalid},
		{"content is missing", func(_ *testing.T, r *release) { clear(r.contents) }, "object disks/", fs.ErrNotExist},
		{"content lies", func(_ *testing.T, r *release) { r.contents[sum("a disk")] = "b disk" }, "object disks/a.raw", publish.ErrDigest},
		{"content has another size", func(_ *testing.T, r *release) { r.contents[sum("a disk")] = "a disk too large" }, "planned were 6", publish.ErrDigest},
		{"image lies", func(_ *testing.T, r *release) {
			r.env.Image = func(context.Context, v1.Hash) (v1.Image, error) { return empty.Image, nil }
		}, "environment gives", publish.ErrDigest},
		{"immutable object", func(t *testing.T, r *release) {
			r.plan.Steps[7].Object.Immutable = true
			_, err := r.env.Store.Put(t.Context(), "disks/a.raw", publish.BytesSource([]byte("taken!")), nil)
			require.NoError(t, err)
		}, "other content", fs.ErrExist},
		{"transform fails", func(_ *testing.T, r *release) {
			r.env.Transforms = map[string]publish.Transform{"append-line": func(json.RawMessage) (func([]byte) ([]byte, error), error) {
				return func([]byte) ([]byte, error) { return nil, io.ErrNoProgress }, nil
			}}
		}, "document builds.txt", io.ErrNoProgress},
		{"tag of nothing", func(_ *testing.T, r *release) { r.plan.Steps[0].Tag.Digest = "sha256:" + sum("nothing") }, "tag " + repo, fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRelease(t)
			test.edit(t, r)
			err := publish.Apply(t.Context(), r.plan, &r.env, nil)
			require.ErrorIs(t, err, test.is)
			require.ErrorContains(t, err, test.text)
		})
	}
}

func TestPlanText(t *testing.T) {
	r := newRelease(t)
	golden(t, "plan.txt", r.plan.String())
	var b strings.Builder
	require.NoError(t, r.plan.Encode(&b))
	golden(t, "plan.json", b.String())
	decoded, err := publish.DecodePlan(strings.NewReader(b.String()))
	require.NoError(t, err)
	var again strings.Builder
	require.NoError(t, decoded.Encode(&again))
	require.Equal(t, b.String(), again.String())
	want, err := r.plan.Digest()
	require.NoError(t, err)
	got, err := decoded.Digest()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// What is shown of a document's argument is one line, however it was written.
func TestPlanTextOfArguments(t *testing.T) {
	p := &publish.Plan{Version: publish.PlanVersion, Name: "n", Steps: []publish.Step{{Stage: publish.StagePointers, Document: &publish.DocumentStep{
		Key: "k\u009b2J", Transform: "t", Argument: json.RawMessage("{\n\t\"a\": [\"\u009b\x7f\xff\",\r\n 1]}"),
	}}}}
	require.NoError(t, p.Validate())
	require.Contains(t, p.String(), "  document  k\ufffd2J  t {\"a\":[\"\ufffd\ufffd\ufffd\",1]}\n")
	p.Steps[0].Document.Argument = nil
	require.Contains(t, p.String(), "  t\n")
	p.Steps[0].Document.Argument = append(append([]byte{'"'}, bytes.Repeat([]byte("<"), publish.MaxPlanSize/6)...), '"')
	require.NoError(t, p.Validate())
	require.ErrorContains(t, p.Encode(io.Discard), "at most", "DecodePlan would refuse it")
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestDecodePlanRefuses(t *testing.T) {
	ok := `{"version":1,"name":"n","steps":[%s]}`
	hex := strings.Repeat("a", 64)
	document := func(argument string) string {
		return `{"stage":"pointers","document":{"key":"k","transform":"t","argument":` + argument + `}}`
	}
	_, err := publish.DecodePlan(strings.NewReader(fmt.Sprintf(ok, document(`["\"[[[",`+strings.Repeat(`[`, 99)+strings.Repeat(`]`, 99)+`]`))))
	require.NoError(t, err)
	for _, test := range []struct {
		name, in, text string
		is             error
	}{
		{"nothing", "", "unexpected end of JSON", nil},
		{"other version", `{"version":2,"steps":[]}`, "version 2", errors.ErrUnsupported},
		{"unknown field", `{"version":1,"name":"n","steps":[],"extra":1}`, "extra", nil},
		{"more", `{"version":1,"name":"n","steps":[]} {}`, "after top-level value", nil},
		{"no kind", fmt.Sprintf(ok, `{"stage":"content"}`), "steps[0]: a step has exactly one of", fs.ErrInvalid},
		{"two kinds", fmt.Sprintf(ok, `{"stage":"content","gate":{"name":"g"},"tag":{"reference":"a.b/c:d","digest":"sha256:`+hex+`"}}`), "exactly one of", fs.ErrInvalid},
		{"no stage", fmt.Sprintf(ok, `{"gate":{"name":"g"}}`), `stage ""`, fs.ErrInvalid},
		{"stage", fmt.Sprintf(ok, `{"stage":"content","gate":{"name":"g"}}`), "steps[0].gate: not allowed in stage content", fs.ErrInvalid},
		{"escape", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"../../etc/passwd","sha256":"`+hex+`","size":1}}`), `steps[0].object.key: key "../../etc/passwd"`, fs.ErrInvalid},
		{"sha256", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"k","sha256":"abc","size":1}}`), "steps[0].object.sha256", fs.ErrInvalid},
		{"size", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"k","sha256":"`+hex+`","size":-1}}`), "steps[0].object.size", fs.ErrInvalid},
		{"header injection", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"k","sha256":"`+hex+`","size":1,"contentType":"a\r\nX: y"}}`), "control character", fs.ErrInvalid},
		{"twice", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"k","sha256":"`+hex+`","size":1}},{"stage":"catalogue","object":{"key":"k","sha256":"`+hex+`","size":1}}`), `steps[1].object.key: "k" is at steps[0].object.key already`, fs.ErrInvalid},
		{"object and document", fmt.Sprintf(ok, `{"stage":"content","object":{"key":"k","sha256":"`+hex+`","size":1}},{"stage":"catalogue","document":{"key":"k","transform":"t"}}`), "is an object at", fs.ErrInvalid},
		{"repository", fmt.Sprintf(ok, `{"stage":"content","image":{"repository":"UPPER","digest":"sha256:`+hex+`","size":1,"mediaType":"application/vnd.oci.image.manifest.v1+json"}}`), "steps[0].image.repository", fs.ErrInvalid},
		{"media type", fmt.Sprintf(ok, `{"stage":"content","index":{"repository":"a.b/c","digest":"sha256:`+hex+`","size":1,"mediaType":"application/vnd.oci.image.manifest.v1+json"}}`), "steps[0].index.mediaType", fs.ErrInvalid},
		{"tag without tag", fmt.Sprintf(ok, `{"stage":"pointers","tag":{"reference":"a.b/c","digest":"sha256:`+hex+`"}}`), "steps[0].tag.reference", fs.ErrInvalid},
		{"digest", fmt.Sprintf(ok, `{"stage":"pointers","tag":{"reference":"a.b/c:d","digest":"md5:`+hex+`"}}`), "steps[0].tag.digest", fs.ErrInvalid},
		{"long reference", fmt.Sprintf(ok, `{"stage":"pointers","tag":{"reference":"a.b/c:d","digest":"sha256:`+hex+`"}},{"stage":"pointers","tag":{"reference":"`+strings.Repeat("a.", 520)+`b/c:d","digest":"sha256:`+hex+`"}}`), "steps[1].tag.reference", fs.ErrInvalid},
		{"long repository", fmt.Sprintf(ok, `{"stage":"content","image":{"repository":"`+strings.Repeat("a.", 520)+`b/c","digest":"sha256:`+hex+`","size":1,"mediaType":"application/vnd.oci.image.manifest.v1+json"}}`), "steps[0].image.repository", fs.ErrInvalid},
		{"deep argument", fmt.Sprintf(ok, document(`["\"]]]]",`+strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100)+`]`)), "steps[0].document.argument: nested 101 deep", fs.ErrInvalid},
		{"long unknown field", `{"version":1,"` + strings.Repeat("\x7f", 300<<10) + `":1}`, "unknown field", nil},
		{"all faults at once", fmt.Sprintf(ok, `{"stage":"gates","gate":{"name":""}},{"stage":"catalogue","document":{"key":"","transform":""}}`), "steps[1].document.transform: missing", fs.ErrInvalid},
		{"too many faults", fmt.Sprintf(ok, strings.TrimSuffix(strings.Repeat(`{},`, 500), ",")), "and 400 more", fs.ErrInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := publish.DecodePlan(strings.NewReader(test.in))
			require.ErrorContains(t, err, test.text)
			require.Less(t, len(err.Error()), 64<<10)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
}

func FuzzDecodePlan(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "plan.json"))
	require.NoError(f, err)
	mutants.Add(f, string(data), `{"version":1,"name":"n","steps":[{"stage":"gates","gate":{"name":"g"}}]}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 512, publish.DecodePlan, data)
		if err != nil {
			if len(err.Error()) > 1<<20 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		var out strings.Builder
		require.NoError(t, p.Encode(&out))
		again, err := publish.DecodePlan(strings.NewReader(out.String()))
		require.NoError(t, err)
		want, err := p.Digest()
		require.NoError(t, err)
		got, err := again.Digest()
		require.NoError(t, err)
		require.Equal(t, want, got)
		text := p.String()
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }) {
			t.Fatal("the printed plan holds control characters")
		}
	})
}

func TestFileJournalSurvivesACutLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j := publish.FileJournal(path)
	none, err := j.Load(t.Context(), "p")
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, j.Append(t.Context(), "p", []publish.Entry{{Step: "1"}}))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"plan":"p","step":"2","ki`)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.NoError(t, j.Append(t.Context(), "p", []publish.Entry{{Step: "3"}}))
	require.NoError(t, j.Append(t.Context(), "other", []publish.Entry{{Step: "4"}}))
	entries, err := j.Load(t.Context(), "p")
	require.NoError(t, err)
	require.Equal(t, []publish.Entry{{Plan: "p", Step: "1"}, {Plan: "p", Step: "3"}}, entries)
}

// bigPlan is of n small objects.
func bigPlan(n int) (*publish.Plan, *publish.Env) {
	p := &publish.Plan{Version: publish.PlanVersion, Name: "big"}
	for i := range n {
		content := fmt.Sprint(i)
		p.Steps = append(p.Steps, publish.Step{Stage: publish.StageContent, Object: &publish.ObjectStep{
			Key: fmt.Sprintf("dir%d/%d", i%100, i), SHA256: sum(content), Size: int64(len(content))}})
	}
	contents := map[string]string{}
	for i := range n {
		contents[sum(fmt.Sprint(i))] = fmt.Sprint(i)
	}
	return p, &publish.Env{Store: memstore.New(), Object: func(_ context.Context, sha256 string) (publish.Source, error) {
		return publish.BytesSource([]byte(contents[sha256])), nil
	}}
}

func TestApplyAsksOnceAnObject(t *testing.T) {
	p, env := bigPlan(1000)
	journal := publish.StoreJournal(memstore.New(), "journal/")
	require.NoError(t, publish.Apply(t.Context(), p, env, &publish.ApplyOptions{Journal: journal}))
	for _, kept := range []publish.Journal{nil, journal} {
		calls := map[string]int{}
		var mu sync.Mutex
		again := *env
		again.Store = publishtest.Faulty(env.Store, func(c publishtest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if !c.After {
				calls[c.Op]++
			}
			return nil
		})
		require.NoError(t, publish.Apply(t.Context(), p, &again, &publish.ApplyOptions{Journal: kept}))
		require.Equal(t, map[string]int{"stat": 1000}, calls)
	}
}

func BenchmarkApplyUnchanged(b *testing.B) {
	p, env := bigPlan(10_000)
	require.NoError(b, publish.Apply(b.Context(), p, env, nil))
	for b.Loop() {
		if err := publish.Apply(b.Context(), p, env, nil); err != nil {
			b.Fatal(err)
		}
	}
}
