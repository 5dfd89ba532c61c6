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

func TestStoreJournalBehindWhatOthersLeft(t *testing.T) {
	entry := publish.Entry{Plan: "p", Step: "s", Kind: "k", Target: "t"}
	const line = `{"plan":"p","step":"s","kind":"k","target":"t"}` + "\n"
	for name, tc := range map[string]struct{ before, after string }{
		"nothing":                  {"", line},
		"a line":                   {"{}\n", "{}\n" + line},
		"a cut line":               {`{"pl`, `{"pl` + "\n" + line},
		"the same":                 {"{}\n" + line, "{}\n" + line},
		"the same at the end":      {"x" + line, "x" + line + line},
		"the same without its end": {strings.TrimSpace(line), line},
	} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New()
			_, err := s.Put(t.Context(), "j/p.jsonl", publish.BytesSource([]byte(tc.before)), nil)
			require.NoError(t, err)
			j := publish.StoreJournal(s, "j/")
			require.NoError(t, j.Append(t.Context(), "p", []publish.Entry{entry}))
			data, _, err := publish.ReadDocument(t.Context(), s, "j/p.jsonl")
			require.NoError(t, err)
			require.Equal(t, tc.after, string(data))
			entries, err := j.Load(t.Context(), "p")
			require.NoError(t, err)
			require.Equal(t, []publish.Entry{entry}, entries)
		})
	}
}

// FuzzJournal loads a journal as crashes and other programs left it: entries are
// of the plan that is asked for, no more than there are lines, and what is
// appended behind them is found.
func FuzzJournal(f *testing.F) {
	const plan = "p"
	mutants.Add(f,
		`{"plan":"p","step":"s","kind":"object","target":"a/b","revision":"1"}`+"\n"+`{"plan":"q","step":"s"}`+"\n\n"+`{"plan":"p","step":"cut`,
		"{\"plan\":\"p\",\"step\":\"\"}\nnull\n[]\n{}",
		`x{"plan":"p","step":"last","kind":"k","target":"t"}`+"\n",
		strings.Repeat("x", 70<<10)+"\n{}\n",
		strings.Repeat("\n", 20<<10),
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
		require.NoError(t, j.Append(t.Context(), plan, []publish.Entry{{Step: "last", Kind: "k", Target: "t"}}))
		entries, err = j.Load(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, publish.Entry{Plan: plan, Step: "last", Kind: "k", Target: "t"}, entries[len(entries)-1])
	})
}
