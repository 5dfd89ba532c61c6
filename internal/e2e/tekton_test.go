package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tektonv1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/stream/tekton"
)

// goldens is where stream/tekton keeps what it rendered.
const goldens = "../../stream/tekton/testdata/golden"

// published gives an empty object of the published type of a kind.
func published(kind string) any {
	switch kind {
	case "Task":
		return &tektonv1.Task{}
	case "Pipeline":
		return &tektonv1.Pipeline{}
	case "PipelineRun":
		return &tektonv1.PipelineRun{}
	case "CronJob":
		return &batchv1.CronJob{}
	case "ConfigMap":
		return &corev1.ConfigMap{}
	case "Namespace":
		return &corev1.Namespace{}
	case "ServiceAccount":
		return &corev1.ServiceAccount{}
	case "PersistentVolumeClaim":
		return &corev1.PersistentVolumeClaim{}
	case "Role":
		return &rbacv1.Role{}
	case "RoleBinding":
		return &rbacv1.RoleBinding{}
	}
	return nil
}

// admit decodes a document as an API server with strict validation does, and has
// Tekton's types fill in defaults and judge it, as the webhook does.
func admit(ctx context.Context, doc []byte) (object any, err error) {
	var head struct{ Kind string }
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return nil, err
	}
	object = published(head.Kind)
	if object == nil {
		return nil, fmt.Errorf("kind %q", head.Kind)
	}
	if err := yaml.UnmarshalStrict(doc, object); err != nil {
		return nil, err
	}
	if d, ok := object.(apis.Defaultable); ok {
		d.SetDefaults(ctx)
	}
	// The API server makes up names before objects are validated.
	if m, ok := object.(metav1.Object); ok && m.GetName() == "" && m.GetGenerateName() != "" {
		m.SetName(m.GetGenerateName() + "x7k2p")
	}
	if v, ok := object.(apis.Validatable); ok {
		if fault := v.Validate(apis.WithinCreate(ctx)); fault != nil {
			return nil, fault
		}
	}
	return object, nil
}

// pruned is a document without what is empty: published types write more of
// that than we do.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			if p := pruned(item); p != nil {
				out[k] = p
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			out = append(out, pruned(item))
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}

func documents(data []byte) [][]byte { return bytes.Split(data, []byte("\n---\n")) }

// eachGolden calls fn for each document that was rendered.
func eachGolden(t *testing.T, fn func(t *testing.T, doc []byte)) {
	count := 0
	require.NoError(t, filepath.WalkDir(goldens, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(path) == "kustomization.yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, doc := range documents(data) {
			var head struct {
				Kind     string
				Metadata struct{ Name, GenerateName string }
			}
			require.NoError(t, yaml.Unmarshal(doc, &head), path)
			rel, err := filepath.Rel(goldens, path)
			require.NoError(t, err)
			count++
			t.Run(fmt.Sprintf("%s/%s %s%s", rel, head.Kind, head.Metadata.Name, head.Metadata.GenerateName), func(t *testing.T) { fn(t, doc) })
		}
		return nil
	}))
	require.Greater(t, count, 100)
}

// TestTektonConformance holds every rendered object to the published types:
// decoded strictly, defaulted and validated; and none of its fields gets lost on
// the way through them.
func TestTektonConformance(t *testing.T) {
	eachGolden(t, func(t *testing.T, doc []byte) {
		_, err := admit(t.Context(), doc)
		require.NoError(t, err)

		var ours, theirs any
		require.NoError(t, yaml.Unmarshal(doc, &ours))
		object := published(ours.(map[string]any)["kind"].(string))
		require.NoError(t, yaml.UnmarshalStrict(doc, object))
		data, err := json.Marshal(object)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &theirs))
		require.Equal(t, pruned(ours), pruned(theirs))
	})
}

// TestTektonReads has our own reader read what kustomize and kubectl do.
func TestTektonReads(t *testing.T) {
	eachGolden(t, func(t *testing.T, doc []byte) {
		objects, err := tekton.Decode(bytes.NewReader(doc))
		require.NoError(t, err)
		require.Len(t, objects, 1)
		var ours, theirs any
		data, err := json.Marshal(objects[0])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &ours))
		require.NoError(t, yaml.Unmarshal(doc, &theirs)) // sigs.k8s.io/yaml, as kubectl
		require.Equal(t, pruned(theirs), pruned(ours))
	})
}

// TestTektonRefuses changes what was rendered for the worse: Tekton's types refuse
// it, or else our Check does, which finds what admission lets pass.
func TestTektonRefuses(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(goldens, "sample/base/objects.yaml"))
	require.NoError(t, err)
	run, err := os.ReadFile(filepath.Join(goldens, "sample/runs/plain/okd-coreos-x86-64.yaml"))
	require.NoError(t, err)
	good := string(data) + "---\n" + string(run)
	const ours, both = "Check alone", "Tekton's types and Check"
	for _, tc := range []struct {
		name, from, to string
		by             string // who refuses it
		want           string // what is said
	}{
		{"unknown field", "    runAfter:\n", "    runsAfter:\n", both, "runsAfter"},
		{"bad name", "kind: Task\nmetadata:\n  name: build-node\n", "kind: Task\nmetadata:\n  name: Build_Node\n", both, ""},
		{"cycle", "    runAfter:\n    - build-inputs\n", "    runAfter:\n    - build-publish\n", both, ""},
		{"task waits for itself", "    runAfter:\n    - build-inputs\n", "    runAfter:\n    - build-node\n", both, ""},
		{"waits for no task", "    runAfter:\n    - build-inputs\n", "    runAfter:\n    - nobody\n", both, "nobody"},
		{"task twice", "  - name: build-node\n    taskRef:", "  - name: build-inputs\n    taskRef:", both, ""},
		{"unknown parameter of the pipeline", "      value: $(params.store)", "      value: $(params.stores)", both, "stores"},
		{"unknown parameter of the task", "    - --store=$(params.store)", "    - --store=$(params.nope)", both, "nope"},
		{"result of no task", "$(tasks.build-inputs.results.build)", "$(tasks.zzz.results.build)", both, ""},
		{"workspace that the pipeline has not", "      workspace: shared-workspace", "      workspace: nowhere", both, "nowhere"},
		{"two steps of a name", "  - name: lock\n", "  - name: inputs\n", both, ""},
		{"list in a string", "- --wait=$(params.wait)", "- --wait=$(params.inputs-args)", both, ""},
		{"no default of the type", "    default: []\n", "    default: \"\"\n", both, ""},
		{"negative retries", "    retries: 2\n", "    retries: -2\n", ours, "retries"},
		{"no operator", "    runAfter:\n    - build-inputs\n", "    when:\n    - input: a\n      operator: is\n      values:\n      - a\n", both, "is"},
		{"time limits that contradict", "    tasks: \"4h0m0s\"\n", "    tasks: \"9h0m0s\"\n", both, ""},
		{"workspace bound twice", "  - name: definition\n    configMap:", "  - name: shared-workspace\n    configMap:", both, ""},

		{"no such task", "      name: build-node\n      kind: Task", "      name: build-nod\n      kind: Task", ours, "build-nod"},
		{"no such pipeline", "  pipelineRef:\n    name: okd-coreos\n", "  pipelineRef:\n    name: okd-core\n", ours, "okd-core"},
		{"required parameter missing", "    - name: build\n      value: $(tasks.build-inputs.results.build)\n", "", ours, "build is required"},
		{"required parameter of the run missing", "    description: how long to wait for another run of this stream, as 90m\n    default: \"1h\"\n", "    description: how long\n", ours, "wait is required"},
		{"unknown parameter of a run", "  params:\n  - name: arch\n    value:", "  params:\n  - name: architecture\n    value:", ours, "architecture"},
		{"workspace not bound", "    - name: definition\n      workspace: definition\n", "", ours, "definition is not bound"},
		{"workspace of the run not bound", "  - name: definition\n    configMap:\n      name: sample-definition-", "  - name: definitions\n    configMap:\n      name: sample-definition-", ours, "definition is not bound"},
		{"result that the task does not declare", "$(tasks.build-inputs.results.build)", "$(tasks.build-inputs.results.nothing)", ours, "nothing"},
		{"list for a string", "  - name: arch\n    value: x86_64\n", "  - name: arch\n    value:\n    - x86_64\n", ours, "arch"},
		{"schedule that never comes", "", "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: never\nspec:\n  schedule: \"0 0 31 2 *\"\n  jobTemplate:\n    spec:\n      backoffLimit: 0\n      template:\n        spec:\n          restartPolicy: Never\n          containers: []\n---\n", ours, "never comes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Contains(t, good, tc.from, "nothing to change")
			at := strings.Index(good, tc.from)
			if tc.name == "required parameter of the run missing" {
				at = strings.LastIndex(good, tc.from) // the pipeline's, behind the task's
			}
			bad := good[:at] + tc.to + good[at+len(tc.from):]
			if tc.by == both {
				var faults []string
				for _, doc := range documents([]byte(bad)) {
					if _, err := admit(t.Context(), doc); err != nil {
						faults = append(faults, err.Error())
					}
				}
				require.NotEmpty(t, faults, "Tekton takes it")
				require.Contains(t, strings.Join(faults, "\n"), tc.want)
			} else {
				for _, doc := range documents([]byte(bad)) {
					_, err := admit(t.Context(), doc)
					require.NoError(t, err, "Tekton refuses it")
				}
			}
			objects, err := tekton.Decode(strings.NewReader(bad))
			if err == nil {
				err = tekton.Check(objects...)
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}
