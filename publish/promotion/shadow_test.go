package promotion_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/stream"
)

var errWrite = errors.New("a write")

// readOnly fails the test's promotion at the first write.
func readOnly(w *world) {
	w.fault = func(c publishtest.Call) error {
		if changes(c.Op) || c.Op == "write blob" || c.Op == "mount blob" || c.Op == "prepare" || c.Op == "notify" || c.Op == "discard" {
			return errWrite
		}
		return nil
	}
}

// TestShadowOfOurs replays a promotion of our own: nothing is different.
func TestShadowOfOurs(t *testing.T) {
	t.Parallel()
	w := small(t)
	put(t, w, "graph.json", `{"version":1,"nodes":[{"version":"4.21.0-okd-scos.0+amd64","payload":"`+releases+"@"+w.tags(releases)["4.21.0-okd-scos.0"]+`","metadata":{}}],"edges":[],"conditionalEdges":[]}`)
	r, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	before := w.outcome()
	readOnly(w)
	c, err := promotion.Shadow(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	require.Empty(t, c.Differences)
	require.Empty(t, c.Unknown)
	require.Equal(t, []promotion.Subject{
		promotion.SubjectVersion, promotion.SubjectPrevious, promotion.SubjectImages, promotion.SubjectManifests, promotion.SubjectMetadata,
		promotion.SubjectLayer, promotion.SubjectTags, promotion.SubjectSignature, promotion.SubjectGraph, promotion.SubjectNotes,
	}, c.Same)
	require.Equal(t, r.Pullspec, c.Pullspec)
	require.Equal(t, r.Source, c.Source)
	require.Equal(t, before, w.outcome())
}

// TestShadowOfPipeline replays one as okd-release-pipeline makes it: previous
// versions are nightlies and the early candidate, it is not signed, latest points
// to a release before, the notes have no changes.
func TestShadowOfPipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.published("4.21.0-okd-scos.0", "4.21.0-okd-scos.ec.4", "4.20.0-okd-scos.3")
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-19-080000", "zero")
	picked := w.payload(source, "one")
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-22-080000", "two")
	built, err := payload.Assemble(t.Context(), w.registry, &payload.Spec{
		Version: "4.21.0-okd-scos.1", Created: now, FromRelease: picked, Mirror: mustRef(content + ":x").Context(),
		Previous: []string{"4.21.0-okd-scos.ec.4", "4.21.0-0.okd-scos-nightly-2026-11-19-080000"},
	}, nil)
	require.NoError(t, err)
	ref := w.push(releases, built.Image)
	for _, tag := range []string{"4.21.0-okd-scos.1", "4.21"} {
		require.NoError(t, w.registry.Tag(t.Context(), mustRef(releases+":"+tag).(name.Tag), mustHash(t, ref.DigestStr())))
	}
	readOnly(w)
	s := settings()
	s.Graph = ""
	c, err := promotion.Shadow(t.Context(), w.env(), s, &promotion.ShadowOptions{Notes: []byte("## Client tools for OKD/SCOS\n")})
	require.NoError(t, err)
	require.Equal(t, picked.Name(), c.Source, "found by its images")
	require.Empty(t, c.Unknown)
	require.Equal(t, []promotion.Subject{promotion.SubjectVersion, promotion.SubjectImages, promotion.SubjectManifests}, c.Same)
	byWhat := map[string]promotion.Difference{}
	for _, d := range c.Differences {
		byWhat[string(d.Subject)+": "+d.What+" "+d.Published+" "+d.Ours] = d
	}
	for _, want := range []string{
		"previous: a promoted release leads nowhere  4.21.0-okd-scos.0",
		"previous: a promoted release leads nowhere  4.20.0-okd-scos.3",
		"previous: a release that is not asked for 4.21.0-okd-scos.ec.4 ",
		"previous: a version that was never promoted: no cluster has it 4.21.0-0.okd-scos-nightly-2026-11-19-080000 ",
		"metadata: metadata url  https://example.com/4.21.0-okd-scos.1",
		"tags: tag latest  " + ref.DigestStr(),
		"signature: signature over the release's digest and name none " + releases + ":4.21.0-okd-scos.1",
		"notes: release notes, by their sections Client tools for OKD/SCOS Updates, Changes from 4.21.0-okd-scos.0, Images",
	} {
		require.Contains(t, byWhat, want)
	}
	require.Contains(t, string(c.Notes), "## Changes from 4.21.0-okd-scos.0\n")
	data, err := json.Marshal(c)
	require.NoError(t, err)
	require.Contains(t, string(data), `"subject":"previous"`)
}

func TestShadowUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := promotion.Shadow(t.Context(), w.env(), settings(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no release of scheme okd-scos was promoted")
	w.published("4.21.0-okd-scos.0")
	readOnly(w)
	env := w.env()
	env.Keys = nil
	// Without the payload that it was made of, the rest is compared.
	c, err := promotion.Shadow(t.Context(), env, settings(), &promotion.ShadowOptions{Version: "4.21.0-okd-scos.0"})
	require.NoError(t, err)
	require.Empty(t, c.Source)
	var subjects []promotion.Subject
	for _, u := range c.Unknown {
		subjects = append(subjects, u.Subject)
	}
	require.Equal(t, []promotion.Subject{"version", "images", "manifests", "metadata", "layer", "signature", "graph", "notes"}, subjects)
	_, err = promotion.Shadow(t.Context(), w.env(), settings(), &promotion.ShadowOptions{Version: "4.21.0-okd-scos.7"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = promotion.Shadow(t.Context(), w.env(), settings(), &promotion.ShadowOptions{Version: "4.21.0"})
	require.ErrorContains(t, err, "not of scheme")
}

func TestDue(t *testing.T) {
	t.Parallel()
	w := small(t)
	sprintly := stream.Cadence{Schedule: "0 5 * * 1", MinInterval: 21 * 24 * time.Hour}
	due, err := promotion.Due(t.Context(), w.env(), "4-scos-stable", sprintly)
	require.NoError(t, err)
	require.True(t, due.Due, "nothing was promoted yet")
	w.gates["aws"] = "pending"
	_, err = promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.Error(t, err)
	due, err = promotion.Due(t.Context(), w.env(), "4-scos-stable", sprintly)
	require.NoError(t, err)
	require.True(t, due.Due)
	require.Equal(t, "4.21.0-okd-scos.1", due.Open.Name)
	w.gates["aws"] = "passed"
	_, err = promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	for days, want := range map[int]bool{0: false, 7: false, 14: false, 20: false, 21: true, 28: true} {
		w.clock = now.AddDate(0, 0, days)
		due, err = promotion.Due(t.Context(), w.env(), "4-scos-stable", sprintly)
		require.NoError(t, err)
		require.Equal(t, want, due.Due, days)
		require.Equal(t, now, due.Last)
		require.Equal(t, now.AddDate(0, 0, 21), due.At)
		require.Nil(t, due.Open)
	}
}

// TestDocuments refuses documents of other promotions, other programs and
// nobody; what is there stays as it is.
func TestDocuments(t *testing.T) {
	t.Parallel()
	w := small(t)
	w.gates["aws"] = "pending"
	_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.Error(t, err)
	register, journal := "promotions/4-scos-stable/register.json", "promotions/4-scos-stable/4.21.0-okd-scos.1/journal.json"
	good := w.objects()
	id := func() string {
		var j promotion.Journal
		require.NoError(t, json.Unmarshal([]byte(good[journal]), &j))
		return j.ID
	}()
	for name, tc := range map[string]struct {
		key, text string
		is        error
		says      string
	}{
		"journal of another promotion": {journal, strings.ReplaceAll(good[journal], id, strings.Repeat("0", 64)), promotion.ErrOther, "has id 000"},
		"journal of another release":   {journal, strings.Replace(good[journal], `"name": "4.21.0-okd-scos.1"`, `"name": "4.21.0-okd-scos.9"`, 1), promotion.ErrOther, "it is of"},
		"journal of a newer program":   {journal, strings.Replace(good[journal], `"version": 1`, `"version": 2`, 1), errors.ErrUnsupported, "version 2"},
		"journal cut short":            {journal, good[journal][:len(good[journal])/2], nil, "decode journal of 4.21.0-okd-scos.1"},
		"journal with an odd state":    {journal, strings.Replace(good[journal], `"state": "reserved"`, `"state": "green"`, 1), nil, `state "green"`},
		"journal with a step twice":    {journal, strings.Replace(good[journal], `"name": "mirror"`, `"name": "verify"`, 1), nil, "twice"},
		"journal with odd output":      {journal, strings.Replace(good[journal], `"mediaType": "`, `"mediaType": 7, "x": "`, 1), nil, "assemble: journal"},
		"journal with more":            {journal, good[journal] + "{}", nil, "after top-level value"},
		"register of another stream":   {register, strings.Replace(good[register], `"stream": "4-scos-stable"`, `"stream": "4-scos-next"`, 1), promotion.ErrOther, "4-scos-next"},
		"register of a newer program":  {register, strings.Replace(good[register], `"version": 1`, `"version": 2`, 1), errors.ErrUnsupported, "version 2"},
		"register cut short":           {register, good[register][:100], nil, "decode register of 4-scos-stable"},
		"register with an odd name":    {register, strings.Replace(good[register], `"name": "4.21.0-okd-scos.1"`, `"name": "../../x"`, 1), errors.ErrUnsupported, "reservations[0]"},
		"register without digest":      {register, strings.Replace(good[register], "@sha256:", ":x", 1), nil, "not by digest"},
		"register with odd settings":   {register, strings.Replace(good[register], `"edges": "tested-or-previous"`, `"edges": "odd"`, 1), nil, "edge rule"},
		"register with odd member":     {register, strings.Replace(good[register], `"by":`, `"buy":`, 1), nil, "buy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEqual(t, good[tc.key], tc.text)
			w := w.clone(t)
			for key, text := range good {
				if key == tc.key {
					text = tc.text
				}
				put(t, w, key, text)
			}
			before := w.objects()
			_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
			require.Error(t, err)
			require.NotErrorIs(t, err, errKilled)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.ErrorContains(t, err, tc.says)
			require.Equal(t, before, w.objects())
			require.Empty(t, w.public)
			put(t, w, tc.key, good[tc.key])
			r, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
			require.NoError(t, err, "repaired, it goes on")
			require.Equal(t, promotion.Promoted, r.State)
		})
	}
}

// TestEnvironment: a machine that lacks something does not release without it.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	w := small(t)
	s := settings()
	s.Verify = true
	_, err := promotion.Promote(t.Context(), &promotion.Env{Store: w.store, Registry: w.registry, Now: w.env().Now}, s, nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, what := range []string{"whom to trust", "a signer", "keys", "a folder", "an announcer for okd-project/okd", "release-scos", "notification"} {
		require.ErrorContains(t, err, what)
	}
	for _, env := range []*promotion.Env{nil, {}, {Store: w.store, Registry: w.registry, Now: w.env().Now, Prefix: "x"}} {
		_, err := promotion.Promote(t.Context(), env, settings(), nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	w.gates["aws"] = "pending"
	_, err = promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.Error(t, err)
	env := w.env()
	env.Announcer = nil
	_, err = promotion.Resume(t.Context(), env, "4-scos-stable", "4.21.0-okd-scos.1")
	require.ErrorContains(t, err, "an announcer for okd-project/okd")
	require.ErrorContains(t, promotion.Abort(t.Context(), env, "4-scos-stable", "4.21.0-okd-scos.1", "a", "b"), "an announcer for okd-project/okd")
	require.ErrorContains(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "", "b"), "a name and a reason")
	require.ErrorIs(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.2", "a", "b"), fs.ErrNotExist)
	require.ErrorIs(t, promotion.Abort(t.Context(), w.env(), "../x", "4.21.0-okd-scos.2", "a", "b"), fs.ErrInvalid)
	_, err = promotion.JournalOf(t.Context(), w.env(), "4-scos-stable", "../register")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.NoError(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "a", "b"))
	require.NoError(t, promotion.Abort(t.Context(), w.env(), "4-scos-stable", "4.21.0-okd-scos.1", "a", "b"), "again")
}

// TestNobodyNotified: that people cannot be told is noted, and no fault of the
// release.
func TestNobodyNotified(t *testing.T) {
	t.Parallel()
	w := small(t)
	w.fault = func(c publishtest.Call) error {
		if c.Op == "notify" {
			return errors.New("503 from the room\x1b[2J")
		}
		return nil
	}
	r, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	require.Equal(t, promotion.Promoted, r.State)
	j, err := promotion.JournalOf(t.Context(), w.env(), "4-scos-stable", r.Version)
	require.NoError(t, err)
	last := j.Steps[len(j.Steps)-1]
	require.Equal(t, "notify", last.Name)
	require.Contains(t, string(last.Output), "503 from the room")
	require.NotContains(t, string(last.Output), `\u001b`)
}

func FuzzDocuments(f *testing.F) {
	w := small(f)
	w.gates["aws"] = "pending"
	if _, err := promotion.Promote(f.Context(), w.env(), settings(), nil); err == nil {
		f.Fatal("gates are pending")
	}
	for _, key := range []string{"promotions/4-scos-stable/register.json", "promotions/4-scos-stable/4.21.0-okd-scos.1/journal.json"} {
		mutants.Add(f, w.objects()[key])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		for _, key := range []string{"promotions/s/register.json", "promotions/4-scos-stable/register.json", "promotions/4-scos-stable/4.21.0-okd-scos.1/journal.json"} {
			put(t, w, key, string(data))
		}
		env := w.env()
		for _, stream := range []string{"s", "4-scos-stable"} {
			all, err := fuzzbound.Parse(t, 512, func([]byte) ([]promotion.Reservation, error) {
				return promotion.Reservations(t.Context(), env, stream)
			}, data)
			if err == nil {
				for _, r := range all {
					require.NotEmpty(t, r.Name)
					require.NotContains(t, r.Name, "/")
				}
			}
		}
		j, err := fuzzbound.Parse(t, 512, func([]byte) (*promotion.Journal, error) {
			return promotion.JournalOf(t.Context(), env, "4-scos-stable", "4.21.0-okd-scos.1")
		}, data)
		if err == nil {
			require.Equal(t, "4.21.0-okd-scos.1", j.Name)
			again, err := json.Marshal(j)
			require.NoError(t, err)
			put(t, w, "promotions/4-scos-stable/4.21.0-okd-scos.1/journal.json", string(again))
			back, err := promotion.JournalOf(t.Context(), env, "4-scos-stable", "4.21.0-okd-scos.1")
			require.NoError(t, err)
			require.Equal(t, j.ID, back.ID)
			require.Len(t, back.Steps, len(j.Steps))
		}
		_, _ = promotion.Resume(t.Context(), env, "4-scos-stable", "4.21.0-okd-scos.1")
	})
}
