package gate_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/memstore"
)

func TestBookKeepsEveryResult(t *testing.T) {
	ctx := t.Context()
	book := gate.Book{Store: memstore.New(), Prefix: "okd/"}
	none, err := book.Results(ctx, subject.Digest)
	require.NoError(t, err)
	require.Empty(t, none)

	first, second := result("install", gate.Failed), result("install", gate.Passed)
	second.Evidence = []gate.Evidence{{URL: "finished.json", Digest: digest("a"), Size: 12, At: now}}
	require.NoError(t, book.Record(ctx, first))
	require.NoError(t, book.Record(ctx, second, result("kola", gate.Passed)))
	require.NoError(t, book.Record(ctx, second), "whose answer was lost")
	other := result("install", gate.Passed, func(r *gate.Result) { r.Subject = gate.Subject{Release: "4.21.0", Digest: digest("2")} })
	require.NoError(t, book.Record(ctx, other))

	got, err := book.Results(ctx, subject.Digest)
	require.NoError(t, err)
	require.Equal(t, []gate.Result{first, second, result("kola", gate.Passed)}, got)

	var all []string
	for h, err := range book.All(ctx) {
		require.NoError(t, err)
		require.NoError(t, h.Fault)
		all = append(all, fmt.Sprintf("%s: %d", h.Subject.Release, len(h.Results)))
	}
	require.Equal(t, []string{subject.Release + ": 3", "4.21.0: 1"}, all)
}

// TestWritersLoseNothing lets many gates of one release end at once.
func TestWritersLoseNothing(t *testing.T) {
	book := gate.Book{Store: memstore.New()}
	var wait sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wait.Go(func() { errs[i] = book.Record(t.Context(), result(fmt.Sprintf("gate-%d", i), gate.Passed)) })
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	got, err := book.Results(t.Context(), subject.Digest)
	require.NoError(t, err)
	require.Len(t, got, len(errs))
}

func TestRecordRefuses(t *testing.T) {
	long := strings.Repeat("x", gate.MaxReasonSize+1)
	for name, tc := range map[string]struct {
		change func(*gate.Result)
		want   string
	}{
		"no gate":               {func(r *gate.Result) { r.Gate = "" }, "name of a gate"},
		"a path":                {func(r *gate.Result) { r.Gate = "../x" }, "name of a gate"},
		"no release":            {func(r *gate.Result) { r.Subject.Release = "" }, "no release"},
		"no digest":             {func(r *gate.Result) { r.Subject.Digest = "" }, "no sha256 digest"},
		"a tag":                 {func(r *gate.Result) { r.Subject.Digest = "4.22" }, "no sha256 digest"},
		"a digest in capitals":  {func(r *gate.Result) { r.Subject.Digest = "sha256:" + strings.Repeat("A", 64) }, "no sha256 digest"},
		"no time":               {func(r *gate.Result) { r.At = time.Time{} }, "no time"},
		"a year of five digits": {func(r *gate.Result) { r.At = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -2*3600)) }, "time: year 10000"},
		"an end that late":      {func(r *gate.Result) { r.By, r.Expires = "A. Person", now.AddDate(9000, 0, 0) }, "end: year 11026"},
		"evidence that late":    {func(r *gate.Result) { r.Evidence = []gate.Evidence{{At: now.AddDate(9000, 0, 0)}} }, "evidence[0]: time: year 11026"},
		"no state":              {func(r *gate.Result) { r.State = "" }, "state"},
		"waived by nobody":      {func(r *gate.Result) { r.State = gate.Waived }, "waived by nobody"},
		"without end":           {func(r *gate.Result) { r.By = "A. Person" }, "must expire"},
		"over before it begins": {func(r *gate.Result) { r.By, r.Expires = "A. Person", r.At }, "before it is decided"},
		"without reason":        {func(r *gate.Result) { r.By, r.Expires, r.Reason = "A. Person", now, " " }, "no reason"},
		"a name of spaces":      {func(r *gate.Result) { r.By, r.Expires = "  ", now }, "name of spaces"},
		"an end of a check's":   {func(r *gate.Result) { r.Expires = now }, "no person decided"},
		"a terminal's command":  {func(r *gate.Result) { r.Reason = "\x1b[2J" }, "control characters"},
		"a long reason":         {func(r *gate.Result) { r.Reason = long }, "limit"},
		"evidence of no digest": {func(r *gate.Result) { r.Evidence = []gate.Evidence{{Digest: "md5:1"}} }, "evidence[0]"},
		"too much evidence":     {func(r *gate.Result) { r.Evidence = make([]gate.Evidence, gate.MaxEvidence+1) }, "pieces of evidence"},
		"evidence of size -1":   {func(r *gate.Result) { r.Evidence = []gate.Evidence{{Size: -1}} }, "-1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			store := memstore.New()
			err := gate.Book{Store: store}.Record(t.Context(), result("good", gate.Passed), result("install", gate.Passed, tc.change))
			require.ErrorIs(t, err, gate.ErrInvalid)
			require.ErrorContains(t, err, tc.want)
			for info := range store.List(t.Context(), "") {
				t.Errorf("%s was written", info.Key)
			}
		})
	}
}

// TestForeignDocuments: what others put at a book's keys is an error, never a
// result, and is not overwritten.
func TestForeignDocuments(t *testing.T) {
	key := "gates/" + strings.TrimPrefix(subject.Digest, "sha256:") + ".json"
	good := fmt.Sprintf(`{"gate":"a","subject":{"release":"r","digest":%q},"state":"passed","at":"2026-06-10T11:00:00Z"}`, subject.Digest)
	document := func(subject, result string) string {
		return fmt.Sprintf(`{"version":1,"subject":{"release":"r","digest":%q},"results":[%s]}`, subject, result)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":           {"", "JSON"},
		"not JSON":          {"<html>", "invalid character"},
		"a newer version":   {`{"version":2}`, "version 2"},
		"an unknown member": {`{"version":1,"approved":true}`, "unknown field"},
		"two documents":     {document(subject.Digest, good) + "{}", "after top-level value"},
		"of another image":  {document(digest("2"), ""), "the document is of sha256:2"},
		"another's result":  {document(digest("1"), strings.ReplaceAll(good, digest("1"), digest("2"))), "it is of sha256:2"},
		"a state of theirs": {document(subject.Digest, strings.ReplaceAll(good, "passed", "green")), `state "green"`},
		"deep":              {strings.Repeat("[", 100_000), "depth"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, store := t.Context(), memstore.New()
			_, err := store.Put(ctx, key, publish.BytesSource([]byte(tc.text)), nil)
			require.NoError(t, err)
			book := gate.Book{Store: store}
			_, err = book.Results(ctx, subject.Digest)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, book.Record(ctx, result("a", gate.Passed)), tc.want)
			data, _, err := publish.ReadDocument(ctx, store, key)
			require.NoError(t, err)
			require.Equal(t, tc.text, string(data))
			for h, err := range book.All(ctx) {
				require.NoError(t, err)
				require.ErrorContains(t, h.Fault, tc.want)
				require.Empty(t, h.Results)
			}
		})
	}
}

func TestAllPassesOverWhatIsNotOurs(t *testing.T) {
	store := memstore.New()
	for _, key := range []string{"gates/readme.txt", "gates/x.json", "gates/deep/" + strings.Repeat("1", 64) + ".json", "gatesx/a"} {
		_, err := store.Put(t.Context(), key, publish.BytesSource([]byte("x")), nil)
		require.NoError(t, err)
	}
	book := gate.Book{Store: store}
	for range 40 { // more than are read at once
		r := result("a", gate.Passed)
		r.Subject.Digest = fmt.Sprintf("sha256:%064d", len(keys(t, store)))
		require.NoError(t, book.Record(t.Context(), r))
	}
	n := 0
	for h, err := range book.All(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, h.Subject.Digest, h.Results[0].Subject.Digest)
		if n++; n == 30 {
			break
		}
	}
	require.Equal(t, 30, n)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range book.All(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func keys(t *testing.T, store publish.Store) (out []string) {
	for info, err := range store.List(t.Context(), "") {
		require.NoError(t, err)
		out = append(out, info.Key)
	}
	return out
}

func TestRecordSaysWhatTheStoreSays(t *testing.T) {
	book := gate.Book{Store: memstore.New(), Prefix: "/"}
	require.ErrorIs(t, book.Record(t.Context(), result("a", gate.Passed)), fs.ErrInvalid)
}
