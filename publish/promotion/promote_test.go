package promotion_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/stream"
)

const source = "4.21.0-0.okd-scos-nightly-2026-11-20-080000"

func TestPromote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.published("4.21.0-okd-scos.0", "4.20.0-okd-scos.7")
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-19-080000", "zero")
	picked := w.payload(source, "one")
	r, err := promotion.Promote(t.Context(), w.env(), settings(), &promotion.Options{By: "somebody"})
	require.NoError(t, err)
	require.Equal(t, promotion.Promoted, r.State)
	require.Equal(t, "4.21.0-okd-scos.1", r.Version)
	require.Equal(t, []string{"4.21.0-okd-scos.0", "4.20.0-okd-scos.7"}, r.Previous)
	require.Equal(t, picked.Name(), r.Source, "the newest")

	// The release.
	ref, err := name.NewDigest(r.Pullspec)
	require.NoError(t, err)
	release, err := payload.Open(t.Context(), w.registry, ref, nil)
	require.NoError(t, err)
	require.Equal(t, r.Version, release.Version())
	require.ElementsMatch(t, r.Previous, release.Metadata.Previous)
	require.Equal(t, "https://example.com/4.21.0-okd-scos.1", release.Metadata.Metadata["url"])
	require.Equal(t, now, release.References.Created)
	for _, tag := range release.References.Tags {
		require.True(t, strings.HasPrefix(tag.Pullspec, content+"@"), tag.Pullspec)
		require.Equal(t, tag.Pullspec, content+"@"+w.tags(content)[r.Version+"-x86_64-"+tag.Name])
	}
	tags := w.tags(releases)
	for _, tag := range []string{r.Version, "latest", "4.21"} {
		require.Equal(t, ref.DigestStr(), tags[tag], tag)
	}

	// Its signature: over its own digest and name.
	env := w.env()
	sig := w.objects()["signatures/"+payload.SignatureKey(mustHash(t, ref.DigestStr()), 1)]
	text, _, err := pgpsigner.NewVerifier(env.Keys, func() time.Time { return now }, nil).Open(t.Context(), strings.NewReader(sig))
	require.NoError(t, err)
	message, err := payload.DecodeMessage(text)
	require.NoError(t, err)
	require.Equal(t, ref.DigestStr(), message.Digest.String())
	require.Equal(t, releases+":"+r.Version, message.Reference)

	// What people are told.
	require.Contains(t, w.public[r.Version], "openshift-client-linux-4.21.0-okd-scos.1.tar.gz=")
	require.Contains(t, w.public[r.Version], "sha256sum.txt.asc=")
	require.Contains(t, w.public[r.Version], "signature-sha256-")
	require.Equal(t, r.Version, w.latest)
	notes := w.objects()["promotions/4-scos-stable/4.21.0-okd-scos.1/release-notes.txt"]
	require.Contains(t, notes, "## Changes from 4.21.0-okd-scos.0\n")
	require.Contains(t, notes, "openshift/example/compare/")
	require.Equal(t, []string{r.Version}, w.notified)
	require.Equal(t, map[string]string{"release-scos:4.21.0-okd-scos.1": r.Pullspec}, w.streams)
	g := w.graph()
	require.Equal(t, r.Pullspec, g.Nodes[g.Index("4.21.0-okd-scos.1+amd64")].Payload)
	require.Equal(t, []string{"stable-scos", "stable-scos-4.21"}, g.Nodes[0].Channels())

	// Again: nothing to do, and it says so.
	before := w.outcome()
	again, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	require.True(t, again.Unchanged)
	require.Equal(t, r.Release, again.Release)
	require.Equal(t, before, w.outcome())

	// The next one follows it, with an edge in the graph.
	w.payload("4.21.0-0.okd-scos-nightly-2026-12-01-080000", "two")
	w.clock = now.Add(21 * 24 * time.Hour)
	next, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.2", next.Version)
	require.Equal(t, []string{"4.21.0-okd-scos.1", "4.21.0-okd-scos.0", "4.20.0-okd-scos.7"}, next.Previous)
	g = w.graph()
	require.Equal(t, [][2]int{{g.Index("4.21.0-okd-scos.1+amd64"), g.Index("4.21.0-okd-scos.2+amd64")}}, g.Edges)
	all, err := promotion.Reservations(t.Context(), w.env(), "4-scos-stable")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "somebody", all[0].By)
	require.Equal(t, picked.Name(), all[0].Source)
}

func mustHash(t testing.TB, text string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(text)
	require.NoError(t, err)
	return h
}

// TestOKD2082 is okd-project/okd#2082: by the order of semantic versions the
// early candidate 4.17.0-okd-scos.ec.4 is newer than 4.17.0-okd-scos.0, took
// its place before 4.17.0-okd-scos.1, and clusters at .0 had no way on.
func TestOKD2082(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.published("4.17.0-okd-scos.0", "4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.ec.10", "4.16.0-okd-scos.1", "4.16.0-okd-scos.ec.9", "4.16.0-okd-scos.0")
	order, err := stream.CompareSemver("4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0")
	require.NoError(t, err)
	require.Positive(t, order, "the trap")
	w.payload("4.17.0-0.okd-scos-nightly-2026-11-20-080000", "one")
	s := settings()
	s.Patches = 1
	r, err := promotion.Promote(t.Context(), w.env(), s, nil)
	require.NoError(t, err)
	require.Equal(t, "4.17.0-okd-scos.1", r.Version, "the next after .0, whatever the candidates are called")
	require.Equal(t, []string{"4.17.0-okd-scos.0", "4.16.0-okd-scos.1"}, r.Previous)

	// Tenth releases are newer than second ones.
	w.published("4.17.0-okd-scos.10")
	w.payload("4.17.0-0.okd-scos-nightly-2026-11-21-080000", "two")
	r, err = promotion.Promote(t.Context(), w.env(), s, nil)
	require.NoError(t, err)
	require.Equal(t, "4.17.0-okd-scos.11", r.Version)
	require.Equal(t, []string{"4.17.0-okd-scos.10", "4.16.0-okd-scos.1"}, r.Previous)
}

// TestCandidates promotes early candidates of a new minor version.
func TestCandidates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.published("4.21.0-okd-scos.3", "4.21.0-okd-scos.ec.8")
	w.payload("4.22.0-0.okd-scos-nightly-2026-11-20-080000", "one")
	s := settings()
	s.Stream, s.Scheme, s.Latest, s.Prerelease, s.Tags = "4-scos-next", stream.SchemeSCOSCandidate, false, true, nil
	r, err := promotion.Promote(t.Context(), w.env(), s, nil)
	require.NoError(t, err)
	require.Equal(t, "4.22.0-okd-scos.ec.0", r.Version)
	require.Equal(t, []string{"4.21.0-okd-scos.3"}, r.Previous)
	require.Contains(t, w.public[r.Version], "prerelease=true")
}

// TestOlderMinor promotes a release that is not the newest: what follows the
// newest stays where it is.
func TestOlderMinor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.payload("4.22.0-0.okd-scos-nightly-2026-11-20-080000", "one")
	newest, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	ref := w.payload("4.21.0-0.okd-scos-nightly-2026-11-21-080000", "two")
	older, err := promotion.Promote(t.Context(), w.env(), settings(), &promotion.Options{Source: ref})
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.0", older.Version)
	tags := w.tags(releases)
	require.Equal(t, digest(newest.Pullspec), tags["latest"])
	require.Equal(t, digest(newest.Pullspec), tags["4.22"])
	require.Equal(t, digest(older.Pullspec), tags["4.21"])
	require.Equal(t, newest.Version, w.latest)
}

func digest(pullspec string) string { _, d, _ := strings.Cut(pullspec, "@"); return d }

// TestNotes has the packages of the node image in the notes.
func TestNotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node = true
	w.published("4.21.0-okd-scos.0")
	w.payload(source, "one")
	env := w.env()
	env.History = history{}
	r, err := promotion.Promote(t.Context(), env, settings(), nil)
	require.NoError(t, err)
	notes := w.objects()["promotions/4-scos-stable/"+r.Version+"/release-notes.txt"]
	require.Contains(t, notes, "## Packages of stream-coreos\n")
	require.Contains(t, notes, "kernel")
	require.NotContains(t, notes, "systemd")
	require.Contains(t, notes, "Fix the thing [#7](https://github.com/openshift/oc/pull/7)")
	require.Contains(t, notes, "### Not known\n", "what could not be read is said")
	require.Contains(t, notes, "no clone of")
}

// history knows one repository.
type history struct{}

func (history) Log(_ context.Context, location, _, to string) ([]payload.Commit, error) {
	if !strings.HasSuffix(location, "/oc") {
		return nil, errors.New("no clone of " + location)
	}
	return []payload.Commit{{ID: to, Merge: true, Time: sourceTime, Message: "Merge pull request #7 from x/y\n\nFix the thing"}}, nil
}

// TestCosign signs what is pushed as cosign does too, and takes that back.
func TestCosign(t *testing.T) {
	t.Parallel()
	w := small(t)
	s := settings()
	s.Cosign = true
	_, err := promotion.Promote(t.Context(), w.env(), s, nil)
	require.ErrorContains(t, err, "a signer of images")
	w.gates["aws"] = publish.GatePending
	env := cosigned(t, w.env())
	env.Registry = w.registry // which can delete tags
	r, err := promotion.Promote(t.Context(), env, s, nil)
	require.ErrorIs(t, err, publish.ErrPending)
	tag := strings.Replace(digest(r.Pullspec), ":", "-", 1) + ".sig"
	require.Contains(t, w.tags(releases), tag)
	policy := &payload.Policy{CosignKeys: env.ImageKeys, Images: w.registry, Identities: []string{releases + ":" + r.Version}}
	_, err = policy.Verify(t.Context(), mustRef(r.Pullspec).(name.Digest), now)
	require.NoError(t, err)
	policy.Identities = []string{releases + ":4.21.0-okd-scos.0"}
	_, err = policy.Verify(t.Context(), mustRef(r.Pullspec).(name.Digest), now)
	require.ErrorIs(t, err, publish.ErrSignature, "the name is signed too")

	// Signatures that are gone, or of something else, hold the release.
	w.gates["aws"] = publish.GatePassed
	require.NoError(t, w.registry.(*memory).Untag(t.Context(), mustRef(releases+":"+tag).(name.Tag)))
	_, err = promotion.Promote(t.Context(), env, s, nil)
	require.ErrorIs(t, err, publish.ErrSignature)
	require.Empty(t, w.public)
	require.NoError(t, promotion.Abort(t.Context(), env, s.Stream, r.Version, "somebody", "a signature was lost"))
	r, err = promotion.Promote(t.Context(), env, s, nil)
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.2", r.Version)
	w.gates["aws"] = publish.GateFailed
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-22-080000", "two")
	r, err = promotion.Promote(t.Context(), env, s, nil)
	require.ErrorIs(t, err, publish.ErrGate)
	require.Len(t, signatureTags(w), 2)
	require.NoError(t, promotion.Abort(t.Context(), env, s.Stream, r.Version, "somebody", "red"))
	require.Len(t, signatureTags(w), 1)
}

func signatureTags(w *world) []string {
	var out []string
	for tag := range w.tags(releases) {
		if strings.HasSuffix(tag, ".sig") {
			out = append(out, tag)
		}
	}
	return out
}

// TestMulti promotes a payload of several architectures: the index is what is
// signed, tagged and in the graph.
func TestMulti(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.multi = true
	w.payload(source, "one")
	s := settings()
	s.NoTools, s.Cosign = true, true
	r, err := promotion.Promote(t.Context(), cosigned(t, w.env()), s, nil)
	require.NoError(t, err)
	require.Len(t, signatureTags(w), 3, "of the index and both images")
	ref, err := name.NewDigest(r.Pullspec)
	require.NoError(t, err)
	idx, err := w.registry.Index(t.Context(), ref)
	require.NoError(t, err)
	manifest, err := idx.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 2)
	require.Equal(t, ref.DigestStr(), w.tags(releases)[r.Version])
	require.Contains(t, w.tags(content), r.Version+"-multi-cli")
	g := w.graph()
	require.Equal(t, "4.21.0-okd-scos.0+multi", g.Nodes[0].Version)
	require.Contains(t, w.objects(), "signatures/"+payload.SignatureKey(mustHash(t, ref.DigestStr()), 1))
	// The next one is made of it as well.
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-22-080000", "two")
	next, err := promotion.Promote(t.Context(), cosigned(t, w.env()), s, nil)
	require.NoError(t, err)
	require.Equal(t, []string{r.Version}, next.Previous)
	c, err := promotion.Shadow(t.Context(), w.env(), s, nil)
	require.NoError(t, err)
	require.Empty(t, c.Differences)
}

func TestGates(t *testing.T) {
	t.Parallel()
	w := small(t)
	before := w.tags(releases)
	w.gates["upgrade"] = publish.GatePending
	for _, tc := range []struct {
		result publish.GateResult
		want   error
	}{
		{publish.GatePending, publish.ErrPending},
		{"green, really", publish.ErrPending},
		{publish.GateFailed, publish.ErrGate},
	} {
		w.gates["upgrade"] = tc.result
		r, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
		require.ErrorIs(t, err, tc.want)
		require.ErrorContains(t, err, "upgrade")
		require.NotContains(t, err.Error(), "aws")
		require.Equal(t, promotion.Reserved, r.State)
		require.Equal(t, "4.21.0-okd-scos.1", r.Version)
		require.NotEmpty(t, r.Pullspec, "content is there")
		require.Empty(t, w.public)
		require.Empty(t, w.drafts)
		require.Empty(t, w.streams)
		require.Empty(t, w.notified)
		require.Empty(t, w.graph().Nodes)
		require.Equal(t, before, w.tags(releases))
		require.Empty(t, w.tags(content))
	}
	env := w.env()
	env.Gate = nil
	_, err := promotion.Promote(t.Context(), env, settings(), nil)
	require.ErrorIs(t, err, publish.ErrPending, "never green by default")
	var failed *promotion.Error
	require.ErrorAs(t, err, &failed)
	require.True(t, failed.Retryable)
	w.gates["upgrade"] = publish.GatePassed
	r, err := promotion.Resume(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1")
	require.NoError(t, err)
	require.Equal(t, promotion.Promoted, r.State)
}

// TestTagForGates hands the release to a release controller before its gates.
func TestTagForGates(t *testing.T) {
	t.Parallel()
	w := small(t)
	s := settings()
	s.TagForGates = true
	w.gates["upgrade"] = publish.GatePending
	r, err := promotion.Promote(t.Context(), w.env(), s, nil)
	require.ErrorIs(t, err, publish.ErrPending)
	require.Equal(t, map[string]string{"release-scos:4.21.0-okd-scos.1": r.Pullspec}, w.streams)
	require.Empty(t, w.public)
	require.NoError(t, promotion.Abort(t.Context(), w.env(), s.Stream, r.Version, "somebody", "no luck"))
	require.Empty(t, w.streams)
}

// TestTwoPromoters has two machines promote at once: the same payload, which
// gets one name and one release, or two payloads, of which one waits.
func TestTwoPromoters(t *testing.T) {
	t.Parallel()
	w := small(t)
	other := w.payload("4.21.0-0.okd-scos-nightly-2026-11-19-080000", "zero")
	run := func(opts ...*promotion.Options) (results []*promotion.Result, errs []error) {
		results, errs = make([]*promotion.Result, len(opts)), make([]error, len(opts))
		var group sync.WaitGroup
		for i, o := range opts {
			env := w.env()
			group.Go(func() { results[i], errs[i] = promotion.Promote(t.Context(), env, settings(), o) })
		}
		group.Wait()
		return results, errs
	}
	results, errs := run(&promotion.Options{By: "a"}, &promotion.Options{By: "b"}, &promotion.Options{By: "c"})
	for i := range results {
		require.NoError(t, errs[i])
		require.Equal(t, results[0].Release, results[i].Release)
	}
	require.Equal(t, "4.21.0-okd-scos.1", results[0].Version)
	require.Len(t, w.public, 1)

	third := w.payload("4.21.0-0.okd-scos-nightly-2026-11-23-080000", "three")
	results, errs = run(&promotion.Options{Source: other}, &promotion.Options{Source: third})
	for i := range results { // who is second waits, or comes after
		if errs[i] != nil {
			require.ErrorIs(t, errs[i], promotion.ErrBusy)
			again, err := run([]*promotion.Options{{Source: other}, {Source: third}}[i])
			require.NoError(t, err[0])
			results[i] = again[0]
		}
	}
	require.ElementsMatch(t, []string{"4.21.0-okd-scos.2", "4.21.0-okd-scos.3"}, []string{results[0].Version, results[1].Version})
	require.Len(t, w.public, 3)
	all, err := promotion.Reservations(t.Context(), w.env(), "4-scos-stable")
	require.NoError(t, err)
	require.Len(t, all, 3)
}

// TestBusy names who is in the way, since when, and with what.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := small(t)
	w.gates["aws"] = publish.GatePending
	_, err := promotion.Promote(t.Context(), w.env(), settings(), &promotion.Options{By: "alice"})
	require.ErrorIs(t, err, publish.ErrPending)
	other := w.payload("4.21.0-0.okd-scos-nightly-2026-11-22-080000", "two")
	_, err = promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.ErrorIs(t, err, publish.ErrPending, "a job that runs each week goes on with what is open, whatever was accepted since")
	_, err = promotion.Promote(t.Context(), w.env(), settings(), &promotion.Options{Source: other})
	require.EqualError(t, err, "publish/promotion: promote 4-scos-stable: 4.21.0-okd-scos.1, from "+source+", begun by alice at 2026-11-23T05:00:00Z, comes first; finish or abort it: another promotion of the stream is not finished")
	require.NoError(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "bob", "superseded"))
	w.gates["aws"] = publish.GatePassed
	r, err := promotion.Promote(t.Context(), w.env(), settings(), &promotion.Options{Source: other})
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.2", r.Version, "the name of an aborted one is not used again")
	require.Equal(t, []string{"4.21.0-okd-scos.0"}, r.Previous, "nor does it lead anywhere")
	_, err = promotion.Resume(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1")
	require.ErrorIs(t, err, promotion.ErrAborted)
	require.ErrorContains(t, err, "bob: superseded")
}

// TestAbort takes a promotion back wherever it is, killed or not: until pointers
// are moved.
func TestAbort(t *testing.T) {
	t.Parallel()
	template := small(t)
	w := template.clone(t)
	calls := 0
	var mu sync.Mutex
	first := 0 // call after the gates
	w.fault = func(c publishtest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if c.Op == "prepare" && first == 0 {
			first = calls
		}
		return nil
	}
	_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	require.ErrorIs(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "a", "b"), promotion.ErrStarted)
	for kill := 5; kill <= calls; kill += 13 {
		w := template.clone(t)
		before := w.outcome()
		n := 0
		w.fault = func(publishtest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n >= kill {
				return errKilled
			}
			return nil
		}
		_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
		if n < kill {
			require.NoError(t, err) // transfers ask a little more or less each time
			continue
		}
		require.ErrorIs(t, err, errKilled)
		// The abort is killed too, and called again.
		n = kill - 7
		err = promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "somebody", "no luck")
		w.fault = nil
		if !errors.Is(err, promotion.ErrStarted) && !errors.Is(err, fs.ErrNotExist) {
			err = promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "somebody", "no luck")
		}
		all, regErr := promotion.Reservations(t.Context(), w.env(), "4-scos-stable")
		require.NoError(t, regErr)
		switch {
		case len(all) == 0:
			require.ErrorIs(t, err, fs.ErrNotExist)
			continue
		case errors.Is(err, promotion.ErrStarted):
			require.Greater(t, kill, first)
			continue
		}
		require.NoError(t, err, "killed at %d", kill)
		require.Equal(t, promotion.Aborted, all[0].State)
		require.Equal(t, "somebody: no luck", all[0].Reason)
		after := w.outcome()
		require.Equal(t, before.tags, after.tags)
		require.Empty(t, after.public)
		require.Empty(t, after.drafts)
		require.Empty(t, w.graph().Nodes)
		for key := range after.objects {
			require.True(t, slices.Contains([]string{"promotions/4-scos-stable/register.json", "promotions/4-scos-stable/4.21.0-okd-scos.1/journal.json", "graph.json"}, key), key)
		}
	}
}

// TestBadInput: each fault is one clear error, and the next run goes on.
func TestBadInput(t *testing.T) {
	t.Parallel()
	template := small(t)
	unauthorized := errors.New("401 Unauthorized")
	for name, tc := range map[string]struct {
		fault func(w *world, env *promotion.Env, s *promotion.Settings, o *promotion.Options)
		is    error
		says  string
		after string // the version that the next run promotes, default .1
	}{
		"wrong credentials": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Registry = publishtest.FaultyRegistry(w.registry, func(c publishtest.Call) error {
				if strings.HasPrefix(c.Op, "write") || c.Op == "mount blob" {
					return &publish.Error{Op: c.Op, Target: c.Target, Err: unauthorized}
				}
				return nil
			})
		}, unauthorized, "mirror: ", ""},
		"short upload": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Announcer = shortUpload{w}
		}, publish.ErrDigest, "prepare: ", ""},
		"signature over another digest": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Signer = func(at time.Time) (payload.Signer, error) { return otherDigest{signer(w.t, pgpsigner.Packed), at}, nil }
		}, publish.ErrSignature, "the signer's signature", ""},
		"signature with another name": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Signer = func(at time.Time) (payload.Signer, error) { return otherName{signer(w.t, pgpsigner.Packed), at}, nil }
		}, publish.ErrSignature, "and not of " + releases + ":4.21.0-okd-scos.1", ""},
		"signature by another key": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			keys, err := pgpsigner.ParseKeyring(fixture(w.t, "sub.asc"))
			require.NoError(w.t, err)
			env.Keys = keys
		}, publish.ErrUnknownKey, "sign: ", ""},
		"clock before the payload": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Now = func() time.Time { return sourceTime.Add(-time.Hour) }
		}, promotion.ErrClock, "2026-11-20T08:00:00Z", ""},
		"clock before the last promotion": {func(w *world, env *promotion.Env, s *promotion.Settings, o *promotion.Options) {
			_, err := promotion.Promote(context.Background(), w.env(), s, nil)
			require.NoError(w.t, err)
			w.public = map[string]string{}
			o.Source = w.payload("4.21.0-0.okd-scos-nightly-2026-11-20-090000", "two")
			env.Now = func() time.Time { return now.Add(-24 * time.Hour) }
		}, promotion.ErrClock, "4.21.0-okd-scos.1 was reserved at 2026-11-23T05:00:00Z", "4.21.0-okd-scos.2"},
		"clock before the promotion": {func(w *world, env *promotion.Env, s *promotion.Settings, _ *promotion.Options) {
			w.gates["aws"] = publish.GatePending
			_, err := promotion.Promote(context.Background(), w.env(), s, nil)
			require.ErrorIs(w.t, err, publish.ErrPending)
			w.gates["aws"] = publish.GatePassed
			env.Now = func() time.Time { return now.Add(-24 * time.Hour) }
		}, promotion.ErrClock, "4.21.0-okd-scos.1 was reserved at 2026-11-23T05:00:00Z", ""},
		"no clock": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Now = func() time.Time { return time.Time{} }
		}, promotion.ErrClock, "", ""},
		"unknown version of the payload": {func(w *world, _ *promotion.Env, _ *promotion.Settings, o *promotion.Options) {
			accepted := w.accepted
			o.Source = w.payload("4.21.0-rc.1", "odd")
			w.accepted = accepted
		}, errors.ErrUnsupported, "4.21.0-rc.1", ""},
		"version of another scheme": {func(_ *world, _ *promotion.Env, _ *promotion.Settings, o *promotion.Options) {
			o.Version = "4.21.0-okd-scos.ec.4"
		}, nil, "not of scheme okd-scos", ""},
		"version that is taken": {func(_ *world, _ *promotion.Env, _ *promotion.Settings, o *promotion.Options) {
			o.Version = "4.21.0-okd-scos.0"
		}, fs.ErrExist, "4.21.0-okd-scos.0", ""},
		"unsigned payload": {func(w *world, env *promotion.Env, s *promotion.Settings, _ *promotion.Options) {
			s.Verify = true
			env.Trust = &payload.Policy{Keyrings: map[string]*payload.Keyring{"ci": env.Keys}, Stores: []payload.SignatureStore{payload.FileSignatures(emptyFS{})}}
		}, publish.ErrSignature, "verify: ", "4.21.0-okd-scos.2"},
		"payload that is gone": {func(_ *world, _ *promotion.Env, _ *promotion.Settings, o *promotion.Options) {
			o.Source = mustRef(nightly + "@sha256:" + strings.Repeat("a", 64))
		}, fs.ErrNotExist, "", ""},
		"nothing accepted": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			env.Accepted = func(context.Context) ([]controllerTag, error) { return nil, nil }
		}, fs.ErrNotExist, "no payload is accepted", ""},
		"settings": {func(_ *world, _ *promotion.Env, s *promotion.Settings, _ *promotion.Options) {
			*s = promotion.Settings{Stream: "../x", Scheme: "odd", Release: "quay.io", Content: "x y", Tags: []stream.Template{"a/b", "${ODD}"}, Latest: true, Prerelease: true, Edges: "odd", Channels: []stream.Template{"A"}, Gates: []string{""}, Minors: -2, TagForGates: true, Assets: stream.Filter{Include: []string{"["}}}
		}, fs.ErrInvalid, "assets: ", ""},
		"the name is somebody else's meanwhile": {func(w *world, env *promotion.Env, _ *promotion.Settings, _ *promotion.Options) {
			gate := env.Gate
			env.Registry = publishtest.FaultyRegistry(w.registry, func(c publishtest.Call) error {
				if c.Op == "head" && strings.HasSuffix(c.Target, ":4.21.0-okd-scos.1") {
					other := w.tags(releases)["4.21.0-okd-scos.0"]
					require.NoError(w.t, w.registry.Tag(context.Background(), mustRef(releases+":4.21.0-okd-scos.1").(name.Tag), mustHash(w.t, other)))
				}
				return nil
			})
			env.Gate = gate
		}, fs.ErrExist, "4.21.0-okd-scos.1", "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := template.clone(t)
			w.t = t
			env, s, o := w.env(), settings(), &promotion.Options{}
			before := w.tags(releases)
			tc.fault(w, env, s, o)
			failed, err := promotion.Promote(t.Context(), env, s, o)
			require.Error(t, err)
			if failed != nil {
				require.Equal(t, promotion.Reserved, failed.State, "it can be taken back")
			}
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.ErrorContains(t, err, tc.says)
			require.Empty(t, w.public)
			if tc.after == "taken" {
				return
			}
			want := "4.21.0-okd-scos.1"
			if strings.HasPrefix(name, "clock before the last") {
				want = tc.after
			} else {
				require.Equal(t, before, w.tags(releases))
			}
			if tc.after != "" && want != tc.after {
				want = tc.after
				require.NoError(t, promotion.Abort(t.Context(), w.env(), s.Stream, "4.21.0-okd-scos.1", "somebody", "other settings"))
			}
			r, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
			require.NoError(t, err)
			require.Equal(t, want, r.Version)
		})
	}
}

type shortUpload struct{ *world }

func (shortUpload) Prepare(context.Context, *promotion.Announcement) error {
	return &publish.Error{Op: "upload", Target: "release.txt", Err: publish.ErrDigest, Retryable: true}
}
