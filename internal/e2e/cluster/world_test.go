package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"knative.dev/pkg/apis"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// buildEpoch is when builds of tests say that they are made.
const buildEpoch = "1795608000"

const (
	storeSecret = "store"
	storeFile   = "credentials"
)

// world is a namespace of the cluster with a stream, and where it publishes to.
type world struct {
	*cluster.Cluster
	namespace string
	def       *stream.Definition
	s3        interop.S3Server
	volume    string // folder behind the claim of the shared workspace
	params    map[string]string
	rendered  *tekton.Rendered
}

// newWorld renders the sample's stream for a namespace of its own and applies it.
// change may be nil.
func newWorld(t *testing.T, change func(def *stream.Definition)) *world {
	t.Helper()
	return newWorldOf(t, change, nil)
}

// newWorldOf has runs with parameters, too.
func newWorldOf(t *testing.T, change func(def *stream.Definition), params map[string]string) *world {
	t.Helper()
	c := cluster.Get(t)
	w := &world{Cluster: c, params: map[string]string{"source-date-epoch": buildEpoch}, namespace: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), s3: interop.S3(t)}
	maps.Copy(w.params, params)
	var err error
	w.def, err = stream.Builtin("sample")
	require.NoError(t, err)
	w.def.Store.URL, w.def.Store.Endpoint, w.def.Store.Region, w.def.Store.PathStyle = "s3://"+w.s3.Bucket+"/"+w.namespace, w.s3.Endpoint, w.s3.Region, true
	w.def.Store.Credentials = &stream.Credentials{Secret: storeSecret, Keys: map[string]string{"file": storeFile}}
	w.def.Registry.Repository = w.Registry + "/" + w.namespace
	if change != nil {
		change(w.def)
	}
	w.volume = t.TempDir()
	require.NoError(t, os.Chmod(w.volume, 0o777))
	w.render(t)
	w.apply(t)
	return w
}

func (w *world) render(t *testing.T) {
	t.Helper()
	var err error
	w.rendered, err = tekton.Render(w.def, &tekton.Options{
		Image: w.TaskImage, Namespace: w.namespace, HostNetwork: true, Params: w.params,
	})
	require.NoError(t, err)
}

// store is the URL of the world's store.
func (w *world) store() string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s&path-style=true", w.s3.Bucket, w.namespace, w.s3.Endpoint, w.s3.Region)
}

// apply makes all that was rendered, and what an administrator adds to it: the
// secret, and a volume for each claim.
func (w *world) apply(t *testing.T) {
	t.Helper()
	var claims []string
	for _, object := range w.rendered.Objects {
		if claim, ok := object.(*tekton.VolumeClaim); ok {
			claims = append(claims, claim.Metadata.Name)
			w.addVolume(t, claim.Metadata.Name)
		}
		require.NoError(t, w.applyObject(t, object))
	}
	_, err := w.Kubernetes.CoreV1().Secrets(w.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: storeSecret},
		StringData: map[string]string{storeFile: fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", w.s3.AccessKey, w.s3.SecretKey)},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, claim := range claims { // as they are on any day but the first
		until(t, "the volume of "+claim, func() bool {
			got, err := w.Kubernetes.CoreV1().PersistentVolumeClaims(w.namespace).Get(t.Context(), claim, metav1.GetOptions{})
			require.NoError(t, err)
			return got.Status.Phase == corev1.ClaimBound
		})
	}
}

// unstructuredOf is an object as it is in the YAML that render writes.
func unstructuredOf(t *testing.T, object tekton.Object) *unstructured.Unstructured {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, tekton.Encode(&text, object))
	objects, err := cluster.Decode(text.Bytes())
	require.NoError(t, err)
	require.Len(t, objects, 1)
	return objects[0]
}

func (w *world) applyObject(t *testing.T, object tekton.Object) error {
	t.Helper()
	_, err := w.Apply(t.Context(), unstructuredOf(t, object))
	return err
}

// addVolume makes a volume for a claim, in a folder of this machine.
func (w *world) addVolume(t *testing.T, claim string) {
	t.Helper()
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace + "-" + claim},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Ti")},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: w.volume}},
			ClaimRef:                      &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: w.namespace, Name: claim},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpExists}},
			}}}},
		},
	}
	_, err := w.Kubernetes.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{})
	require.NoError(t, err)
}

// run creates a run of the pipeline of a name, with parameters of its own.
func (w *world) run(t *testing.T, pipeline string, params map[string]string) string {
	t.Helper()
	at := slices.IndexFunc(w.rendered.Runs, func(r *tekton.PipelineRun) bool { return r.Spec.PipelineRef.Name == pipeline })
	require.GreaterOrEqual(t, at, 0, "no run of %s is rendered", pipeline)
	object := unstructuredOf(t, w.rendered.Runs[at])
	given, _, err := unstructured.NestedSlice(object.Object, "spec", "params")
	require.NoError(t, err)
	given = slices.DeleteFunc(given, func(p any) bool { _, ok := params[p.(map[string]any)["name"].(string)]; return ok })
	for name, value := range params {
		given = append(given, map[string]any{"name": name, "value": value})
	}
	require.NoError(t, unstructured.SetNestedSlice(object.Object, given, "spec", "params"))
	made, err := w.Apply(t.Context(), object)
	require.NoError(t, err)
	return made.GetName()
}

// rendered is an object of a name.
func rendered[T tekton.Object](t *testing.T, w *world, name string) T {
	t.Helper()
	var found T
	for _, object := range w.rendered.Objects {
		if o, ok := object.(T); ok && unstructuredOf(t, object).GetName() == name {
			found = o
		}
	}
	require.NotNil(t, found, name)
	return found
}

// runTask runs a task of the daily pipeline on its own, with parameters in place of those that
// the pipeline has by default, and gives how it ended, and its log.
func (w *world) runTask(t *testing.T, name string, params map[string]string) (reason, logs string) {
	t.Helper()
	run := unstructuredOf(t, w.rendered.Runs[0])
	spec := map[string]any{"taskRef": map[string]any{"name": name}}
	for _, field := range []string{"serviceAccountName", "podTemplate"} {
		spec[field], _, _ = unstructured.NestedFieldNoCopy(run.Object, "spec", "taskRunTemplate", field)
	}
	params = maps.Clone(params)
	for _, s := range rendered[*tekton.Pipeline](t, w, dailyPipeline).Spec.Params {
		if _, ok := params[s.Name]; !ok && s.Default != nil {
			params[s.Name] = s.Default.Text
		}
	}
	var given, bound []any
	task := rendered[*tekton.Task](t, w, name)
	for _, s := range task.Spec.Params {
		given = append(given, map[string]any{"name": s.Name, "value": params[s.Name]})
	}
	all, _, err := unstructured.NestedSlice(run.Object, "spec", "workspaces")
	require.NoError(t, err)
	for _, s := range task.Spec.Workspaces {
		bound = append(bound, all[slices.IndexFunc(all, func(w any) bool { return w.(map[string]any)["name"] == s.Name })])
	}
	spec["params"], spec["workspaces"] = given, bound
	made, err := w.Apply(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": map[string]any{"generateName": name + "-", "namespace": w.namespace}, "spec": spec,
	}})
	require.NoError(t, err)
	var ended *pipelinev1.TaskRun
	w.follow(t, taskRuns, made.GetName(), func(object map[string]any) bool {
		ended = &pipelinev1.TaskRun{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object, ended))
		return ended.IsDone()
	})
	return ended.Status.GetCondition(apis.ConditionSucceeded).Reason, w.describe(made.GetName())
}

var (
	pipelineRuns = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "pipelineruns"}
	taskRuns     = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "taskruns"}
)

// get gives a run as it is now.
func (w *world) get(t *testing.T, run string) *pipelinev1.PipelineRun {
	t.Helper()
	object, err := w.Dynamic.Resource(pipelineRuns).Namespace(w.namespace).Get(t.Context(), run, metav1.GetOptions{})
	require.NoError(t, err)
	out := &pipelinev1.PipelineRun{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, out))
	return out
}

// patience is far more than any run of a sample takes.
const patience = 4 * time.Minute

// until waits until what is asked for is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begin := time.Now(); !is(); time.Sleep(250 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// follow looks at an object each time that it changes, until it is as wanted. Asking again
// and again would keep the API server busy, and with it all other tests.
func (w *world) follow(t *testing.T, kind schema.GroupVersionResource, name string, is func(object map[string]any) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		changes, err := w.Dynamic.Resource(kind).Namespace(w.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		require.NoError(t, err)
		for change := range changes.ResultChan() {
			object, ok := change.Object.(*unstructured.Unstructured)
			if ok && change.Type != watch.Deleted && is(object.Object) {
				changes.Stop()
				return
			}
		}
	}
	t.Fatalf("waited %s for the end of %s", patience, name)
}

// finish waits for the end of a run.
func (w *world) finish(t *testing.T, run string) *pipelinev1.PipelineRun {
	t.Helper()
	var got *pipelinev1.PipelineRun
	defer func() {
		if t.Failed() {
			t.Log(w.describe(run))
		}
	}()
	w.follow(t, pipelineRuns, run, func(object map[string]any) bool {
		got = &pipelinev1.PipelineRun{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object, got))
		return got.IsDone()
	})
	return got
}

// succeed waits for the end of a run, which must be a good one.
func (w *world) succeed(t *testing.T, run string) *pipelinev1.PipelineRun {
	t.Helper()
	got := w.finish(t, run)
	if condition := got.Status.GetCondition(apis.ConditionSucceeded); !condition.IsTrue() {
		t.Fatalf("%s: %s: %s\n%s", run, condition.Reason, condition.Message, w.describe(run))
	}
	return got
}

// fail waits for the end of a run, which must be a bad one, and gives the logs of
// its tasks.
func (w *world) fail(t *testing.T, run string) (*pipelinev1.PipelineRun, string) {
	t.Helper()
	got := w.finish(t, run)
	logs := w.describe(run)
	require.True(t, got.Status.GetCondition(apis.ConditionSucceeded).IsFalse(), "%s", logs)
	return got, logs
}

// results are those of a run, by name.
func results(run *pipelinev1.PipelineRun) map[string]string {
	out := map[string]string{}
	for _, r := range run.Status.Results {
		out[r.Name] = r.Value.StringVal
	}
	return out
}

// taskResults are those of all tasks of a run, by name: there are some where the
// run has failed, too.
func (w *world) taskResults(t *testing.T, run *pipelinev1.PipelineRun) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, child := range run.Status.ChildReferences {
		for _, r := range w.task(t, child.Name).Status.Results {
			out[r.Name] = r.Value.StringVal
		}
	}
	return out
}

// task gives a run of a task.
func (w *world) task(t *testing.T, name string) *pipelinev1.TaskRun {
	t.Helper()
	object, err := w.Dynamic.Resource(taskRuns).Namespace(w.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	out := &pipelinev1.TaskRun{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, out))
	return out
}

// describe says what became of a run of a pipeline or a task, with the logs of each task.
func (w *world) describe(run string) string {
	ctx := context.Background()
	var out strings.Builder
	list, err := w.Dynamic.Resource(taskRuns).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, item := range list.Items {
		if item.GetName() != run && item.GetLabels()["tekton.dev/pipelineRun"] != run {
			continue
		}
		task := &pipelinev1.TaskRun{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, task); err != nil {
			return err.Error()
		}
		if c := task.Status.GetCondition(apis.ConditionSucceeded); c != nil {
			fmt.Fprintf(&out, "--- %s: %s %s: %s\n", task.Name, c.Status, c.Reason, c.Message)
		}
		pod, err := w.Kubernetes.CoreV1().Pods(w.namespace).Get(ctx, task.Status.PodName, metav1.GetOptions{})
		if err != nil {
			continue
		}
		for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
			text, err := w.Kubernetes.CoreV1().Pods(w.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container.Name}).DoRaw(ctx)
			if err != nil {
				text = []byte(err.Error())
			}
			if len(text) > 0 && strings.HasPrefix(container.Name, "step-") {
				fmt.Fprintf(&out, "%s: %s\n", container.Name, bytes.TrimSpace(text))
			}
		}
	}
	return out.String()
}

// reasons are how the tasks of a run ended, by task of the pipeline; of a task
// that was tried again, the last time.
func (w *world) reasons(t *testing.T, run *pipelinev1.PipelineRun) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, child := range run.Status.ChildReferences {
		task := w.task(t, child.Name)
		out[child.PipelineTaskName] = task.Status.GetCondition(apis.ConditionSucceeded).Reason
	}
	return out
}

// times say when each task of a run was made, had its pod running, and ended, in
// seconds since the run began.
func (w *world) times(t *testing.T, run *pipelinev1.PipelineRun) string {
	t.Helper()
	var out strings.Builder
	since := func(at time.Time) float64 { return at.Sub(run.Status.StartTime.Time).Seconds() }
	for _, child := range run.Status.ChildReferences {
		task := w.task(t, child.Name)
		fmt.Fprintf(&out, "%s: made %.0f, ", child.PipelineTaskName, since(task.CreationTimestamp.Time))
		for _, step := range task.Status.Steps {
			if step.Terminated != nil {
				fmt.Fprintf(&out, "%s %.0f-%.0f, ", step.Name, since(step.Terminated.StartedAt.Time), since(step.Terminated.FinishedAt.Time))
			}
		}
		fmt.Fprintf(&out, "ended %.0f; ", since(task.Status.CompletionTime.Time))
	}
	return out.String()
}

// command is okd-streams on this machine, with the credentials of the store.
func (w *world) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), w.Program, args...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+w.s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+w.s3.SecretKey, "SOURCE_DATE_EPOCH="+buildEpoch)
	return cmd
}

// output runs okd-streams on this machine and reads the JSON that it prints.
func (w *world) output(t *testing.T, out any, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := w.command(t, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", stderr.String())
	require.NoError(t, json.Unmarshal(stdout.Bytes(), out), "%s", stdout.String())
}

// definitionFile is the stream's definition as a file.
func (w *world) definitionFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stream.yaml")
	out, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, w.def.Encode(out))
	require.NoError(t, out.Close())
	return file
}

// objects are the SHA-256 sums, by sha256sum, of all that is in the world's folder
// of the bucket, by path.
func (w *world) objects(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "find", ".", "-type", "f", "!", "-path", "*/.sgwtmp/*", "-exec", "sha256sum", "{}", "+")
	cmd.Dir = filepath.Join(w.s3.Folder, w.namespace)
	out, err := cmd.Output()
	require.NoError(t, err)
	sums := map[string]string{}
	for line := range strings.Lines(string(out)) {
		sum, path, ok := strings.Cut(strings.TrimSpace(line), "  ")
		require.True(t, ok, line)
		sums[strings.TrimPrefix(path, "./")] = sum
	}
	return sums
}

// skopeo asks the registry what an image is, with the field's own tool.
func (w *world) skopeo(t *testing.T, args ...string) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, interop.InsecureHome(home, w.Registry))
	cmd := exec.CommandContext(t.Context(), "skopeo", args...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	var stderr strings.Builder
	cmd.Stderr = io.Writer(&stderr)
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return strings.TrimSpace(string(out))
}
