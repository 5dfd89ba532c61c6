package graph_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload/graph"
)

// TestIssues has the graphs that users of OKD reported, by the number of the
// issue at okd-project/okd: what the gap report says of each, and that the
// planner asks for the jobs that were missing.
func TestIssues(t *testing.T) {
	for name, tc := range map[string]struct {
		graph     *graph.Graph
		published []string
		opts      *graph.PlanOptions
		gaps      []string // those that must be found
		version   string   // of the release that could not be reached
		from      []string // the jobs that are planned for it
	}{
		// Tested from a candidate in place of the final release before it.
		"okd#2082": {
			chain("4.16.0-okd-scos.1 4.17.0-okd-scos.0", "4.16.0-okd-scos.1 4.17.0-okd-scos.1", "4.17.0-okd-scos.0", "4.17.0-okd-scos.ec.4 4.17.0-okd-scos.1"),
			[]string{"4.16.0-okd-scos.1", "4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0", "4.17.0-okd-scos.1"}, &graph.PlanOptions{Previous: 1},
			[]string{"no update from 4.17.0-okd-scos.0 to 4.17.0-okd-scos.1", "no update from 4.17.0-okd-scos.0 to any newer version"},
			"4.17.0-okd-scos.1", []string{"4.17.0-okd-scos.0", "4.16.0-okd-scos.1"},
		},
		// .5 and .6 are out, clusters at .4 see neither.
		"okd#2218": {
			chain("4.19.0-okd-scos.3 4.19.0-okd-scos.4", "4.19.0-okd-scos.4", "4.19.0-okd-scos.5", "4.19.0-okd-scos.6"),
			[]string{"4.19.0-okd-scos.3", "4.19.0-okd-scos.4", "4.19.0-okd-scos.5", "4.19.0-okd-scos.6"}, nil,
			[]string{"no update from 4.19.0-okd-scos.4 to any newer version", "no update to 4.19.0-okd-scos.5 from any older version", "no update to 4.19.0-okd-scos.6 from any older version"},
			"4.19.0-okd-scos.6", []string{"4.19.0-okd-scos.5", "4.19.0-okd-scos.4", "4.19.0-okd-scos.3"},
		},
		// From .0 to none of .1 to .5.
		"okd#2263": {
			chain("4.20.0-okd-scos.0", "4.20.0-okd-scos.1", "4.20.0-okd-scos.2", "4.20.0-okd-scos.3", "4.20.0-okd-scos.4", "4.20.0-okd-scos.5"),
			[]string{"4.20.0-okd-scos.0", "4.20.0-okd-scos.1", "4.20.0-okd-scos.2", "4.20.0-okd-scos.3", "4.20.0-okd-scos.4", "4.20.0-okd-scos.5"}, nil,
			[]string{"no update from 4.20.0-okd-scos.0 to any newer version", "no update from 4.20.0-okd-scos.0 to 4.20.0-okd-scos.1", "no update to 4.20.0-okd-scos.5 from any older version"},
			"4.20.0-okd-scos.1", []string{"4.20.0-okd-scos.0"},
		},
		// .3 and older get on, .4 does not.
		"okd#2340": {
			chain("4.22.0-okd-scos.2 4.22.0-okd-scos.5", "4.22.0-okd-scos.2 4.22.0-okd-scos.6", "4.22.0-okd-scos.3 4.22.0-okd-scos.5", "4.22.0-okd-scos.3 4.22.0-okd-scos.6", "4.22.0-okd-scos.4"),
			[]string{"4.22.0-okd-scos.2", "4.22.0-okd-scos.3", "4.22.0-okd-scos.4", "4.22.0-okd-scos.5", "4.22.0-okd-scos.6"}, nil,
			[]string{"no update from 4.22.0-okd-scos.4 to any newer version", "no update from 4.22.0-okd-scos.4 to 4.22.0-okd-scos.5", "no update from 4.22.0-okd-scos.4 to 4.22.0-okd-scos.6"},
			"4.22.0-okd-scos.5", []string{"4.22.0-okd-scos.4", "4.22.0-okd-scos.3", "4.22.0-okd-scos.2"},
		},
		// The job from .7 fails; older ones pass.
		"okd#2348": {
			chain("4.22.0-okd-scos.2 4.22.0-okd-scos.8", "4.22.0-okd-scos.3 4.22.0-okd-scos.8", "4.22.0-okd-scos.7", "4.22.0-okd-scos.8"),
			[]string{"4.22.0-okd-scos.2", "4.22.0-okd-scos.3", "4.22.0-okd-scos.7", "4.22.0-okd-scos.8"}, nil,
			[]string{"no update from 4.22.0-okd-scos.7 to 4.22.0-okd-scos.8", "no update from 4.22.0-okd-scos.7 to any newer version"},
			"4.22.0-okd-scos.8", []string{"4.22.0-okd-scos.7", "4.22.0-okd-scos.3", "4.22.0-okd-scos.2"},
		},
		// The same between consecutive releases; of which, the reports at hand do
		// not say, so these versions stand for them.
		"okd#2226, okd-scos#16": {
			chain("4.18.0-okd-scos.0", "4.18.0-okd-scos.1"),
			[]string{"4.18.0-okd-scos.0", "4.18.0-okd-scos.1"}, nil,
			[]string{"no update from 4.18.0-okd-scos.0 to 4.18.0-okd-scos.1", "no update from 4.18.0-okd-scos.0 to any newer version", "no update to 4.18.0-okd-scos.1 from any older version"},
			"4.18.0-okd-scos.1", []string{"4.18.0-okd-scos.0"},
		},
		// Of OKD on Fedora CoreOS: releases are days.
		"okd#1113": {
			chain("4.9.0-0.okd-2021-12-12-025847 4.9.0-0.okd-2022-01-29-035536", "4.9.0-0.okd-2022-01-29-035536", "4.9.0-0.okd-2022-02-12-140851"),
			[]string{"4.9.0-0.okd-2021-12-12-025847", "4.9.0-0.okd-2022-01-29-035536", "4.9.0-0.okd-2022-02-12-140851"}, nil,
			[]string{"no update from 4.9.0-0.okd-2022-01-29-035536 to any newer version"},
			"4.9.0-0.okd-2022-02-12-140851", []string{"4.9.0-0.okd-2022-01-29-035536", "4.9.0-0.okd-2021-12-12-025847"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Subset(t, texts(graph.Gaps(tc.graph, tc.published, tc.opts)), tc.gaps)
			require.ErrorIs(t, graph.Reachable(tc.graph, tc.version, tc.published, tc.opts), fs.ErrNotExist)
			edges, err := graph.Plan(tc.version, tc.published, tc.opts)
			require.NoError(t, err)
			var from []string
			for _, e := range edges {
				from = append(from, e.From)
				tc.graph.Edges = append(tc.graph.Edges, [2]int{tc.graph.Index(e.From), tc.graph.Index(e.To)})
			}
			require.Equal(t, tc.from, from)
			require.NoError(t, graph.Reachable(tc.graph, tc.version, tc.published, tc.opts), "once these jobs passed")
		})
	}

	// A job that passed once is enough, however often it failed.
	t.Run("okd#1016", func(t *testing.T) {
		const from, to = "4.9.0-0.okd-2021-11-28-035710", "4.9.0-0.okd-2021-12-12-025847"
		job := func(passed bool) graph.Evidence {
			return graph.Evidence{From: from, To: to, Job: &graph.Job{Name: "upgrade", Passed: passed}}
		}
		g := chain(from+" "+to, to)
		proven, candidates := g.Prove([]graph.Evidence{job(false), job(true), job(false)}, time.Now())
		require.Len(t, proven.Edges, 1)
		require.Empty(t, candidates)
	})

	// A nightly that is gone: its clusters are told so by name.
	t.Run("okd#1059", func(t *testing.T) {
		g := chain("4.8.0-0.okd-2021-11-14-052418")
		_, err := g.Updates("4.8.0-0.okd-2021-11-24-062209")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "4.8.0-0.okd-2021-11-24-062209")
		require.Contains(t, texts(graph.Gaps(g, []string{"4.8.0-0.okd-2021-11-24-062209"}, nil)), "4.8.0-0.okd-2021-11-24-062209 is published but not in the graph")
	})

	// The job that always fails: the edge is a candidate with the reason, until
	// somebody answers for it.
	t.Run("okd#2348 waived", func(t *testing.T) {
		now := time.Date(2026, 8, 24, 0, 0, 0, 0, time.UTC)
		const from, to = "4.22.0-okd-scos.7", "4.22.0-okd-scos.8"
		evidence := []graph.Evidence{{From: from, To: to, Job: &graph.Job{Name: "launch-aws-modern", URL: "https://prow.example.com/1"}}}
		_, candidates := chain(from+" "+to, to).Prove(evidence, now)
		require.Len(t, candidates, 1)
		require.Contains(t, candidates[0].Why, "launch-aws-modern failed")
		proven, candidates := chain(from+" "+to, to).Prove(append(evidence, graph.Evidence{From: from, To: to, Waiver: &graph.Waiver{By: "A. Person", Reason: "tried by hand", Expires: now.AddDate(0, 0, 7)}}), now)
		require.Empty(t, candidates)
		require.Len(t, proven.Edges, 1)
	})
}
