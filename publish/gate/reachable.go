package gate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload/graph"
)

// Reachable passes if clusters of the releases that [graph.Plan] names can be
// updated to the subject in a graph, as [graph.Graph.Select] gives it, and the
// graph names the subject's image.
func Reachable(updates func(ctx context.Context) (*graph.Graph, error), promoted []string, opts *graph.PlanOptions) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		g, err := updates(ctx)
		if err != nil {
			return Finding{}, err
		}
		i := g.Index(s.Release)
		if i < 0 {
			return Finding{State: Pending, Reason: "the release is not in the graph"}, nil
		}
		if ref, err := name.NewDigest(g.Nodes[i].Payload); err != nil || ref.DigestStr() != s.Digest {
			return Finding{State: Pending, Reason: fmt.Sprintf("the graph means %.200q", g.Nodes[i].Payload)}, nil
		}
		edges, err := graph.Plan(s.Release, promoted, opts)
		if err != nil {
			return Finding{}, err
		}
		h := sha256.New()
		m := &counter{w: h}
		if err := g.Encode(m); err != nil {
			return Finding{}, err
		}
		f := Finding{State: Passed, Reason: fmt.Sprintf("updates from %d releases lead to it", len(edges)), Evidence: []Evidence{{URL: "graph", Digest: fmt.Sprintf("sha256:%x", h.Sum(nil)), Size: m.n}}}
		if err := graph.Reachable(g, s.Release, promoted, opts); err != nil {
			f.State, f.Reason = Failed, err.Error()
		}
		return f, nil
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
