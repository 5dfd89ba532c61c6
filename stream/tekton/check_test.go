package tekton_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// small is a pipeline with everything that Check looks at, without a fault.
const small = `apiVersion: tekton.dev/v1
kind: Task
metadata:
  name: make
spec:
  params:
  - name: what
  - name: flags
    type: array
    default: []
  workspaces:
  - name: work
  - name: extra
    optional: true
  results:
  - name: made
  steps:
  - name: run
    image: registry.local/tool:1
    args:
    - $(params.what)
    - $(params.flags[*])
    - "$(params['what'])"
    env:
    - name: WHERE
      value: $(workspaces.work.path)
    volumeMounts:
    - name: scratch
      mountPath: /scratch
  volumes:
  - name: scratch
    emptyDir: {}
---
apiVersion: tekton.dev/v1
kind: Pipeline
metadata:
  name: all
spec:
  params:
  - name: what
    default: bread
  - name: flags
    type: array
    default:
    - --hot
  workspaces:
  - name: work
  results:
  - name: made
    value: $(tasks.second.results.made)
  tasks:
  - name: first
    taskRef:
      name: make
    params:
    - name: what
      value: $(params.what)
    - name: flags
      value:
      - $(params.flags[*])
      - --more
    workspaces:
    - name: work
      workspace: work
  - name: second
    taskRef:
      name: make
    when:
    - input: $(tasks.first.results.made)
      operator: in
      values:
      - "yes"
    params:
    - name: what
      value: $(params.what) of $(context.pipelineRun.name)
    - name: flags
      value: $(params.flags[*])
    workspaces:
    - name: work
      workspace: work
  finally:
  - name: last
    taskRef:
      name: make
    params:
    - name: what
      value: $(tasks.status) $(tasks.first.status)
    workspaces:
    - name: work
      workspace: work
---
apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: all-
spec:
  pipelineRef:
    name: all
  params:
  - name: what
    value: cake
  workspaces:
  - name: work
    emptyDir: {}
  timeouts:
    pipeline: "2h"
    tasks: "1h"
    finally: "1h"
`

func TestCheck(t *testing.T) {
	check := func(text string) error {
		objects, err := tekton.Decode(strings.NewReader(text))
		require.NoError(t, err)
		return tekton.Check(objects...)
	}
	require.NoError(t, check(small))
	for _, tc := range []struct{ name, from, to, want string }{
		{"parameter of a step", "    - $(params.what)\n", "    - $(params.who)\n", `Task make: steps[run].args: $(params.who): there is no parameter "who"`},
		{"parameter in brackets", "$(params['what'])", "$(params['w.h.o'])", `there is no parameter "w.h.o"`},
		{"list without a star", "    - $(params.flags[*])\n    - \"", "    - $(params.flags)\n    - \"", "parameter flags is a list: write $(params.flags[*])"},
		{"list in a word", "    - $(params.flags[*])\n    - \"", "    - x$(params.flags[*])\n    - \"", "a list stands only alone"},
		{"star of a string", "    - $(params.what)\n", "    - $(params.what[*])\n", "parameter what is a string, not a list"},
		{"workspace of a step", "$(workspaces.work.path)", "$(workspaces.shop.path)", "steps[run].env[WHERE]: $(workspaces.shop.path): there is no such workspace"},
		{"result of a step", "$(workspaces.work.path)", "$(results.lost.path)", "$(results.lost.path): there is no such result"},
		{"task of a step", "$(workspaces.work.path)", "$(tasks.first.results.made)", "only a pipeline knows tasks"},
		{"volume", "    - name: scratch\n      mountPath", "    - name: scratchy\n      mountPath", `steps[run].volumeMounts: there is no volume "scratchy"`},
		{"parameter in a script", "    args:\n    - $(params.what)\n    - $(params.flags[*])\n    - \"$(params['what'])\"\n", "    script: echo $(params.what)\n", "a parameter in a script is run as a part of it"},
		{"default of another type", "    default: bread", "    default:\n    - bread", "params[what]: the default is of another type than string"},
		{"type", "    type: array\n    default: []", "    type: object\n    default: \"\"", `type "object" is not string or array`},
		{"twice", "  - name: flags\n    type: array\n    default: []", "  - name: what\n    type: array\n    default: []", `params: "what" is there twice`},

		{"no task", "    taskRef:\n      name: make\n    when", "    taskRef:\n      name: bake\n    when", `Pipeline all: tasks[second].taskRef: there is no Task "bake"`},
		{"another kind", "    taskRef:\n      name: make\n    when", "    taskRef:\n      name: make\n      kind: ClusterTask\n    when", `kind "ClusterTask" is not Task`},
		{"required parameter", "    params:\n    - name: what\n      value: $(params.what)\n    - name: flags\n      value:\n      - $(params.flags[*])\n      - --more\n", "", "tasks[first].params: what is required and not given"},
		{"unknown parameter", "    - name: what\n      value: $(tasks.status)", "    - name: why\n      value: $(tasks.status)", "finally[last].params[why]: there is no such parameter"},
		{"string for a list", "    - name: flags\n      value: $(params.flags[*])", "    - name: flags\n      value: --hot", "tasks[second].params[flags]: the value is of another type than array"},
		{"list for a string", "      value: $(params.what)\n    - name: flags\n      value:\n", "      value:\n      - a\n    - name: flags\n      value:\n", "tasks[first].params[what]: the value is of another type than string"},
		{"workspace not bound", "    - name: flags\n      value: $(params.flags[*])\n    workspaces:\n    - name: work\n      workspace: work\n", "    - name: flags\n      value: $(params.flags[*])\n", "tasks[second].workspaces: work is not bound"},
		{"workspace that may be missing", "  workspaces:\n  - name: work\n  results:\n  - name: made\n    value", "  workspaces:\n  - name: work\n    optional: true\n  results:\n  - name: made\n    value", `the pipeline's workspace "work" may be left out, and the task needs it`},
		{"workspace of the pipeline", "      workspace: work\n  finally", "      workspace: shop\n  finally", `the pipeline has no workspace "shop"`},
		{"workspace of the task", "    - name: work\n      workspace: work\n  finally", "    - name: work\n      workspace: work\n    - name: shop\n      workspace: work\n  finally", "workspaces[shop]: there is no such workspace"},
		{"result that no task has", "$(tasks.first.results.made)", "$(tasks.first.results.lost)", `task make has no result "lost"`},
		{"result of no task", "$(tasks.first.results.made)", "$(tasks.zeroth.results.made)", `there is no task "zeroth"`},
		{"result as a list", "$(tasks.first.results.made)", "$(tasks.first.results.made[*])", "result made is of type string"},
		{"result of the pipeline", "$(tasks.second.results.made)", "$(tasks.second.results.lost)", `results[made]: $(tasks.second.results.lost): task make has no result "lost"`},
		{"result without a task", "$(tasks.second.results.made)", "always", `the value "always" is no result of a task`},
		{"result of a last task", "$(tasks.second.results.made)", "$(tasks.last.results.made)", `there is no task "last"`},
		{"state too early", "$(tasks.first.results.made)", "$(tasks.status)", "is known only at the end"},
		{"state of no task", "$(tasks.first.status)", "$(tasks.zeroth.status)", "is not known here"},
		{"operator", "      operator: in\n", "      operator: equals\n", `operator "equals" is not in or notin`},
		{"cycle by results", "    params:\n    - name: what\n      value: $(params.what)\n    - name: flags\n      value:\n", "    params:\n    - name: what\n      value: $(tasks.second.results.made)\n    - name: flags\n      value:\n", "tasks: they wait for each other: first -> second -> first"},
		{"cycle by order", "  - name: first\n    taskRef:", "  - name: first\n    runAfter:\n    - second\n    taskRef:", "first -> second -> first"},
		{"order of nobody", "  - name: first\n    taskRef:", "  - name: first\n    runAfter:\n    - zeroth\n    taskRef:", `tasks[first].runAfter: there is no task "zeroth"`},
		{"order at the end", "  - name: last\n    taskRef:", "  - name: last\n    runAfter:\n    - first\n    taskRef:", "the last tasks have no order"},
		{"names at the end", "  - name: last\n    taskRef:", "  - name: first\n    taskRef:", `tasks: "first" is there twice`},
		{"timeout", "  - name: first\n    taskRef:", "  - name: first\n    timeout: soon\n    taskRef:", `tasks[first].timeout: "soon" is not a duration`},

		{"no pipeline", "  pipelineRef:\n    name: all", "  pipelineRef:\n    name: none", `PipelineRun all-: pipelineRef: there is no Pipeline "none"`},
		{"unknown parameter of a run", "  - name: what\n    value: cake", "  - name: who\n    value: cake", "run.params[who]: there is no such parameter"},
		{"workspace of a run", "  workspaces:\n  - name: work\n    emptyDir: {}\n", "", "run.workspaces: work is not bound"},
		{"two volumes", "    emptyDir: {}\n  timeouts", "    emptyDir: {}\n    configMap:\n      name: x\n  timeouts", "it is bound to 2 volumes, not to one"},
		{"no volume", "    emptyDir: {}\n  timeouts", "  timeouts", "it is bound to 0 volumes, not to one"},
		{"time limits", `finally: "1h"`, `finally: "2h"`, "tasks and finally take 3h0m0s, and the pipeline has 2h0m0s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Contains(t, small, tc.from)
			err := check(strings.Replace(small, tc.from, tc.to, 1))
			require.ErrorContains(t, err, tc.want)
			fault, ok := errors.AsType[*tekton.Error](err)
			require.True(t, ok)
			require.NotEmpty(t, fault.Object)
		})
	}
	// All faults are named, not the first alone.
	err := check(strings.NewReplacer("$(params.what)", "$(params.who)", "value: cake", "value:\n    - cake").Replace(small))
	require.ErrorContains(t, err, "Task make")
	require.ErrorContains(t, err, "Pipeline all: tasks[second]")
	require.ErrorContains(t, err, "PipelineRun all-")

	require.ErrorContains(t, check(small+"---\n"+strings.SplitAfter(small, "---\n")[0]), "Task make: there are two")
	require.ErrorContains(t, check("apiVersion: tekton.dev/v1\nkind: Task\nmetadata:\n  name: idle\nspec:\n  steps: []\n"), "steps: there are none")
	require.ErrorContains(t, check("apiVersion: tekton.dev/v1\nkind: Pipeline\nmetadata:\n  name: idle\nspec:\n  tasks: []\n"), "tasks: there are none")
	require.ErrorContains(t, check("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: b\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: nobody\nsubjects: []\n"), "roleRef: there is no Role nobody")
}

// Two claims in one task: Tekton's affinity assistant refuses the pod, long after admission.
func TestCheckClaims(t *testing.T) {
	text := strings.NewReplacer(
		"  workspaces:\n  - name: work\n  results:\n  - name: made\n    value", "  workspaces:\n  - name: work\n  - name: more\n  results:\n  - name: made\n    value",
		"    - name: work\n      workspace: work\n  finally", "    - name: work\n      workspace: work\n    - name: extra\n      workspace: more\n  finally",
		"    emptyDir: {}\n  timeouts", "    persistentVolumeClaim:\n      claimName: a\n  - name: more\n    persistentVolumeClaim:\n      claimName: b\n  timeouts",
	).Replace(small)
	objects, err := tekton.Decode(strings.NewReader(text))
	require.NoError(t, err)
	require.ErrorContains(t, tekton.Check(objects...), "workspaces: task second has 2 volume claims")
	objects, err = tekton.Decode(strings.NewReader(strings.Replace(text, "claimName: b", "claimName: a", 1)))
	require.NoError(t, err)
	require.NoError(t, tekton.Check(objects...))
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown kind":    {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n", `kind "Pod": unsupported operation`},
		"other version":   {"apiVersion: tekton.dev/v1beta1\nkind: Task\nmetadata:\n  name: t\n", `apiVersion "tekton.dev/v1beta1"`},
		"unknown field":   {"---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: n\nspec: {}\n", `document 2: Namespace n: json: unknown field "spec"`},
		"type":            {"apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\nautomountServiceAccountToken: maybe\n", "ServiceAccount a"},
		"anchor":          {"apiVersion: v1\nkind: &k Namespace\n", "an anchor"},
		"list":            {"- a\n", "not an object of Kubernetes"},
		"text":            {"hello\n", "not an object of Kubernetes"},
		"syntax":          {"a: b: c\n", "document 1"},
		"too many":        {strings.Repeat("---\n", 1001), "at most 1000"},
		"all are named":   {"a: b\n---\nc: d\n", "document 2"},
		"too large":       {strings.Repeat("#", tekton.MaxDocumentsSize+1), "more than"},
		"list for a text": {"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: [n]\n", "not an object of Kubernetes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tekton.Decode(strings.NewReader(tc.text))
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, err := tekton.Decode(strings.NewReader("apiVersion: v1\nkind: Pod\n"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, nothing := range []string{"", "---\n", "# a comment\n---\n# another\n"} {
		objects, err := tekton.Decode(strings.NewReader(nothing))
		require.NoError(t, err)
		require.Empty(t, objects)
	}
}

func FuzzDecode(f *testing.F) {
	mutants.Add(f, small)
	r, err := tekton.Render(cases["sample"].definition(f), cases["sample"].opts)
	require.NoError(f, err)
	for _, o := range r.Objects[:8] {
		var b bytes.Buffer
		require.NoError(f, tekton.Encode(&b, o))
		f.Add(b.Bytes())
	}
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\ndata: {\"a b\": \"\\u0000\\n x\", \"é\": \" |\\n\\n\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := fuzzbound.Read(t, 4096, tekton.Decode, data)
		if err != nil {
			return
		}
		_ = tekton.Check(objects...) // must not panic
		var b, again bytes.Buffer
		require.NoError(t, tekton.Encode(&b, objects...))
		text := b.String()
		read, err := tekton.Decode(&b)
		require.NoError(t, err, "%s", text)
		require.Equal(t, len(objects), len(read), "%s", text)
		require.NoError(t, tekton.Encode(&again, read...))
		require.Equal(t, text, again.String())
	})
}
