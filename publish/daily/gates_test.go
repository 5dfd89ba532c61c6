package daily_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// TestGatesOfABook: what others recorded of this digest opens the gate, and what
// the build finds is recorded beside it.
func TestGatesOfABook(t *testing.T) {
	book := gate.Book{Store: memstore.New(), Prefix: "okd/"}
	w := newWorld(t)
	w.env.Book = book
	w.env.Clock = func() time.Time { return w.opts.Time.Add(time.Hour) }
	w.opts.Gates = nil
	_, err := w.run(t.Context())
	require.ErrorIs(t, err, publish.ErrPending)

	var subject gate.Subject
	for h, err := range book.All(t.Context()) {
		require.NoError(t, err)
		subject = h.Subject
	}
	require.Equal(t, "4.21.0-okd-scos.0", subject.Release)
	record := func(state gate.State, digest string) {
		s := subject
		s.Digest = digest
		require.NoError(t, book.Record(t.Context(), gate.Result{Gate: "cluster", Subject: s, State: state, Reason: "3 nodes", At: w.opts.Time.Add(time.Hour)}))
	}
	record(gate.Passed, "sha256:"+strings.Repeat("0", 64))
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, publish.ErrPending, "a result of another image is none")

	record(gate.Failed, subject.Digest)
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, daily.ErrRejected)
	require.ErrorContains(t, err, "cluster: 3 nodes")

	record(gate.Passed, subject.Digest)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, subject.Digest, s.Release.Digest)
	require.Equal(t, gate.Passed, s.Published.Verdict.State)
	var got []string
	for _, g := range s.Published.Verdict.Gates {
		got = append(got, g.Gate+" "+string(g.State)+" "+g.Reason)
	}
	require.Equal(t, []string{
		"links passed 8 links of 4 documents lead where they should", "lint passed the commit is an operating system",
		"payload passed the payload was read back and verified", "cluster passed 3 nodes", "look pending no result",
	}, got)
	page, err := os.ReadFile(s.Report)
	require.NoError(t, err)
	require.Contains(t, string(page), "<th scope=\"row\">look (informs)</th><td class=\"warn\">pending</td>")
	require.Contains(t, string(page), "3 nodes")

	results, err := book.Results(t.Context(), subject.Digest)
	require.NoError(t, err)
	require.Len(t, results, 5, "what did not change is not recorded again")
}

// TestGatesWithoutABook are kept in the state folder, those too that inform.
func TestGatesWithoutABook(t *testing.T) {
	w := newWorld(t)
	w.opts.Gates["look"] = daily.GateResult{Reason: "ugly"}
	s, err := w.run(t.Context())
	require.NoError(t, err)
	v := s.Published.Verdict
	require.Equal(t, gate.Passed, v.State)
	require.Equal(t, gate.Failed, v.Gates[4].State)
	require.Equal(t, "ugly", v.Gates[4].Reason)
	require.Equal(t, w.opts.Time, v.Gates[4].Result.At, "there is no clock")
	require.NotEmpty(t, v.Gates[0].Result.Evidence)
}
