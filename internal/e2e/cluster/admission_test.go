package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// TestBadPipelines breaks what is rendered: the cluster refuses it, and so do we
// before.
func TestBadPipelines(t *testing.T) {
	t.Parallel()
	c := cluster.Get(t)
	def, err := stream.Builtin("sample")
	require.NoError(t, err)
	rendered, err := tekton.Render(def, &tekton.Options{Image: c.TaskImage, Namespace: "default"})
	require.NoError(t, err)
	require.NoError(t, rendered.Check())
	for _, tc := range []struct {
		name, want string // of the cluster's words
		change     func(p *tekton.Pipeline)
	}{
		{"cycle", "cycle detected", func(p *tekton.Pipeline) {
			first, last := &p.Spec.Tasks[0], p.Spec.Tasks[len(p.Spec.Tasks)-1]
			first.RunAfter = append(first.RunAfter, last.Name)
		}},
		{"result of no task", "nonexistent task", func(p *tekton.Pipeline) {
			p.Spec.Results[0].Value = "$(tasks.none.results.build)"
		}},
		{"workspace not declared", "none", func(p *tekton.Pipeline) {
			p.Spec.Tasks[0].Workspaces[0].Workspace = "none"
		}},
		{"parameter not declared", "params.none", func(p *tekton.Pipeline) {
			p.Spec.Tasks[0].When = append(p.Spec.Tasks[0].When, tekton.When{Input: "$(params.none)", Operator: "in", Values: []string{"x"}})
		}},
		{"two tasks of a name", "tasks[1].name", func(p *tekton.Pipeline) {
			p.Spec.Tasks[1].Name = p.Spec.Tasks[0].Name
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rendered, err := tekton.Render(def, &tekton.Options{Image: c.TaskImage, Namespace: "default"})
			require.NoError(t, err)
			for _, object := range rendered.Objects {
				if p, ok := object.(*tekton.Pipeline); ok && p.Metadata.Name == dailyPipeline {
					tc.change(p)
					_, err := c.Apply(t.Context(), unstructuredOf(t, p))
					require.ErrorContains(t, err, tc.want)
				}
			}
			err = rendered.Check()
			require.Error(t, err)
			t.Log(err)
		})
	}
	// What only we find: such a pipeline would be admitted, and fail when it runs.
	for _, object := range rendered.Objects {
		if p, ok := object.(*tekton.Pipeline); ok && p.Metadata.Name == dailyPipeline {
			p.Spec.Tasks[0].Params = p.Spec.Tasks[0].Params[1:]
			p.Spec.Tasks[1].Params = p.Spec.Tasks[1].Params[:len(p.Spec.Tasks[1].Params)-1]
			_, err := c.Apply(t.Context(), unstructuredOf(t, p))
			require.NoError(t, err)
		}
	}
	require.Error(t, rendered.Check())
}

// The names of the pipelines.
const (
	dailyPipeline   = "okd-coreos"
	releasePipeline = "okd-release-pipeline"
	payloadPipeline = "okd-payload"
)
