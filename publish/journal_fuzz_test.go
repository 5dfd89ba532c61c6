package publish_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// FuzzJournal loads a journal as crashes and other programs left it: entries are
// of the plan that is asked for, no more than there are lines, and what is
// appended behind them is found.
func FuzzJournal(f *testing.F) {
	const plan = "p"
	mutants.Add(f,
		`{"plan":"p","step":"s","kind":"object","target":"a/b","revision":"1"}`+"\n"+`{"plan":"q","step":"s"}`+"\n\n"+`{"plan":"p","step":"cut`,
		"{\"plan\":\"p\",\"step\":\"\"}\nnull\n[]\n{}",
		strings.Repeat("x", 70<<10)+"\n{}\n",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := memstore.New()
		_, err := s.Put(t.Context(), "j/p.jsonl", publish.BytesSource(data), nil)
		require.NoError(t, err)
		j := publish.StoreJournal(s, "j/")
		var entries []publish.Entry
		fuzzbound.Linear(t, len(data), 64, func() { entries, err = j.Load(t.Context(), plan) })
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(entries), 1+strings.Count(string(data), "\n"))
		for _, e := range entries {
			require.Equal(t, plan, e.Plan)
			require.NotEmpty(t, e.Step)
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			return // a store has all of an object or nothing: only files are cut
		}
		require.NoError(t, j.Append(t.Context(), plan, []publish.Entry{{Step: "last", Kind: "k", Target: "t"}}))
		entries, err = j.Load(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, publish.Entry{Plan: plan, Step: "last", Kind: "k", Target: "t"}, entries[len(entries)-1])
	})
}
