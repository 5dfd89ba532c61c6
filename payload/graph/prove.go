package graph

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Evidence says that an update works, or that somebody answers for it.
type Evidence struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Arch is the architecture it holds for; empty: every one.
	Arch string `json:"arch,omitempty"`

	// Job is an upgrade job that ended, nil in a waiver.
	Job *Job `json:"job,omitempty"`
	// Waiver stands in for a job.
	Waiver *Waiver `json:"waiver,omitempty"`
}

// Job is the result of an upgrade job.
type Job struct {
	Name   string    `json:"name"`
	URL    string    `json:"url,omitempty"` // its page
	Passed bool      `json:"passed"`
	Ended  time.Time `json:"ended"`
}

// Waiver lets an edge out that no job has passed.
type Waiver struct {
	By      string    `json:"by"`      // a person's name
	Reason  string    `json:"reason"`  // why it may go out
	Expires time.Time `json:"expires"` // the edge is taken back then
}

// Candidate is an edge that is not published, and why.
type Candidate struct {
	Edge
	Why string `json:"why"`
}

// Prove gives g with those edges alone, conditional ones too, that have
// evidence: at least one job that passed, whatever others did (that a job
// failed once is not what stops people, see [Block]), or a waiver that is
// complete and has not expired at now. The others are the candidates, in the
// order of g's edges, each with what is missing.
//
// Evidence about edges that g has not is passed over.
func (g *Graph) Prove(evidence []Evidence, now time.Time) (*Graph, []Candidate) {
	byEdge := map[Edge][]Evidence{}
	for _, e := range evidence {
		from, _ := splitArch(e.From)
		to, _ := splitArch(e.To)
		byEdge[Edge{from, to}] = append(byEdge[Edge{from, to}], e)
	}
	missing := map[Edge]string{}
	proven := func(e Edge) bool {
		if _, ok := missing[e]; ok {
			return false
		}
		from, _ := splitArch(e.From)
		to, arch := splitArch(e.To)
		why := judge(byEdge[Edge{from, to}], arch, now)
		if why != "" {
			missing[e] = why
		}
		return why == ""
	}
	out := g.clone()
	var candidates []Candidate
	listed := map[Edge]bool{}
	note := func(e Edge) {
		if !listed[e] {
			listed[e] = true
			candidates = append(candidates, Candidate{e, missing[e]})
		}
	}
	out.Edges = slices.DeleteFunc(out.Edges, func(p [2]int) bool {
		e := Edge{g.Nodes[p[0]].Version, g.Nodes[p[1]].Version}
		if proven(e) {
			return false
		}
		note(e)
		return true
	})
	out.keepConditional(func(e Edge) bool {
		if proven(e) {
			return true
		}
		note(e)
		return false
	})
	return out, candidates
}

// judge gives what is missing, empty if nothing is.
func judge(evidence []Evidence, arch string, now time.Time) string {
	var whys []string
	for _, e := range evidence {
		if e.Arch != "" && arch != "" && e.Arch != arch {
			continue
		}
		if j := e.Job; j != nil {
			if j.Passed {
				return ""
			}
			whys = append(whys, strings.TrimSpace("job "+j.Name+" failed "+j.URL))
		}
		if w := e.Waiver; w != nil {
			switch {
			case strings.TrimSpace(w.By) == "" || strings.TrimSpace(w.Reason) == "" || w.Expires.IsZero():
				whys = append(whys, "a waiver needs a name, a reason and an end")
			case !now.Before(w.Expires):
				whys = append(whys, fmt.Sprintf("the waiver of %s ended %s", w.By, w.Expires.UTC().Format(time.RFC3339)))
			default:
				return ""
			}
		}
	}
	if len(whys) == 0 {
		return "no upgrade job has run"
	}
	slices.Sort(whys)
	return strings.Join(slices.Compact(whys), "; ")
}
