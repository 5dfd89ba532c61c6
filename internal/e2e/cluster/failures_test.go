package cluster_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// uploads are requests that send the base image or the node image to a registry.
func uploads(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/sample-coreos/blobs/uploads/")
}

// stalled is a registry that takes nothing, until it is told to, and the
// parameter that has a run use it.
func (w *world) stalled(t *testing.T) (*interop.FaultProxy, map[string]string) {
	proxy := interop.Proxy(t, "http://"+w.Registry, interop.Fault{Match: uploads, Stall: time.Hour})
	return proxy, map[string]string{"target-registry": "docker://" + proxy.Host + "/" + w.namespace}
}

// nothingAnnounced fails if readers of the stream could see anything.
func (w *world) nothingAnnounced(t *testing.T) {
	t.Helper()
	folder := filepath.Join(w.s3.Folder, w.namespace)
	require.NoFileExists(t, filepath.Join(folder, "streams", "sample.json"))
	require.NoFileExists(t, filepath.Join(folder, "sample", "releases.json"))
}

// stuck waits for the pod of a run that tries to upload.
func (w *world) stuck(t *testing.T, run string, proxy *interop.FaultProxy) *corev1.Pod {
	t.Helper()
	until(t, "an upload of "+run, func() bool { return proxy.Hits() > 0 || w.get(t, run).IsDone() })
	var found *corev1.Pod
	until(t, "the pod of "+run, func() bool { // the kubelet says a moment later that it runs
		pods, err := w.Kubernetes.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "tekton.dev/pipelineRun=" + run, FieldSelector: "status.phase=Running"})
		require.NoError(t, err)
		for i := range pods.Items {
			if pods.Items[i].Labels["tekton.dev/taskRun"] != "" {
				found = &pods.Items[i]
			}
		}
		return found != nil || w.get(t, run).IsDone()
	})
	if found == nil {
		t.Fatalf("no pod of %s runs\n%s", run, w.describe(run))
	}
	return found
}

// TestKilledPod kills a pod at work: the task is tried again, and goes on with
// what the steps before left.
func TestKilledPod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy, params := w.stalled(t)
	run := w.run(t, dailyPipeline, params)
	pod := w.stuck(t, run, proxy)
	before := map[string]time.Time{}
	for _, step := range []string{"inputs", "commit", "encapsulate", "node", "bootimage", "payload"} {
		records, err := filepath.Glob(filepath.Join(w.volume, "state", "*", step+".json"))
		require.NoError(t, err)
		require.Len(t, records, 1)
		info, err := os.Stat(records[0])
		require.NoError(t, err)
		before[records[0]] = info.ModTime()
	}
	now := int64(0)
	require.NoError(t, w.Kubernetes.CoreV1().Pods(w.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	proxy.Set()
	got := w.succeed(t, run)
	require.Equal(t, "true", results(got)["published"])
	for record, at := range before {
		info, err := os.Stat(record)
		require.NoError(t, err)
		require.Equal(t, at, info.ModTime(), "%s: made again", record)
	}
}

// TestTwoRuns starts the builds of two architectures at once, each with a volume
// of its own: one waits for the other, and the index has both.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(def *stream.Definition) { def.Architectures = []stream.Arch{"x86_64", "aarch64"} })
	first, second := w.run(t, dailyPipeline, map[string]string{"arch": "x86_64"}), w.run(t, dailyPipeline, map[string]string{"arch": "aarch64"})
	want := map[string][]string{}
	for arch, run := range map[string]string{"x86_64": first, "aarch64": second} {
		got := results(w.succeed(t, run))
		require.Equal(t, "true", got["published"])
		want[got["build"]] = append(want[got["build"]], arch)
	}
	var index struct {
		Builds []struct {
			ID     string   `json:"id"`
			Arches []string `json:"arches"`
		} `json:"builds"`
	}
	data, err := os.ReadFile(filepath.Join(w.s3.Folder, w.namespace, "sample", "builds", "builds.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &index))
	have := map[string][]string{}
	for _, build := range index.Builds {
		have[build.ID] = build.Arches
	}
	require.Equal(t, want, have)
}

// TestCancelled ends runs as people do, one that has begun and one that publishes.
// The next one goes on.
func TestCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	cancel := func(run, how string) {
		_, err := w.Dynamic.Resource(pipelineRuns).Namespace(w.namespace).Patch(t.Context(), run, types.MergePatchType, []byte(`{"spec":{"status":"`+how+`"}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		got, _ := w.fail(t, run)
		require.Equal(t, "Cancelled", got.Status.GetCondition(apis.ConditionSucceeded).Reason)
		w.nothingAnnounced(t)
	}
	proxy, params := w.stalled(t)
	run := w.run(t, dailyPipeline, params)
	until(t, run+" to hold the lease", func() bool { return strings.HasPrefix(w.holder(t), run+" ") })
	cancel(run, "CancelledRunFinally")
	require.Empty(t, w.holder(t))

	run = w.run(t, dailyPipeline, params)
	w.stuck(t, run, proxy)
	cancel(run, "Cancelled")
	require.Contains(t, w.holder(t), run) // nothing of it ran any more

	run = w.run(t, dailyPipeline, nil)
	require.Equal(t, "true", results(w.succeed(t, run))["published"])
	require.Empty(t, w.holder(t))
}

// holder is who has the lease of the stream's index, "": nobody.
func (w *world) holder(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.s3.Folder, w.namespace, "sample", "lease.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	var lease struct{ Holder string }
	require.NoError(t, json.Unmarshal(data, &lease))
	return lease.Holder
}

// TestMissingSecrets runs before the secrets are there that the run needs: it says
// so at once, and not when a build is done.
func TestMissingSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(def *stream.Definition) {
		def.Registry.Credentials = &stream.Credentials{Secret: "registry", Keys: map[string]string{"file": corev1.DockerConfigJsonKey}}
	})
	secrets := w.Kubernetes.CoreV1().Secrets(w.namespace)
	store, err := secrets.Get(t.Context(), storeSecret, metav1.GetOptions{})
	require.NoError(t, err)
	require.NoError(t, secrets.Delete(t.Context(), storeSecret, metav1.DeleteOptions{}))
	for _, tc := range []struct {
		of, file string
		secret   *corev1.Secret
	}{
		{"store", storeFile, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: storeSecret}, Data: store.Data}},
		{"registry", corev1.DockerConfigJsonKey, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson, StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
		}},
	} {
		got, logs := w.fail(t, w.run(t, dailyPipeline, nil))
		said := "credentials of the " + tc.of + ": stat /workspace/"
		inputs, _, _ := strings.Cut(logs[strings.Index(logs, "-build-inputs: "):], "\n--- ")
		require.Equal(t, 1, strings.Count(inputs, said), logs)
		require.Contains(t, inputs, "/"+tc.file+": no such file or directory")
		require.Contains(t, inputs, "create the Secret")
		for task := range w.reasons(t, got) {
			require.Contains(t, []string{"build-inputs", "unlock"}, task)
		}
		require.NoFileExists(t, filepath.Join(w.s3.Folder, w.namespace, "sample", "builds", "builds.json"))
		w.nothingAnnounced(t)
		_, err := secrets.Create(t.Context(), tc.secret, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	require.Equal(t, "true", results(w.succeed(t, w.run(t, dailyPipeline, nil)))["published"])
}

// TestNoTekton starts a run on a cluster without Tekton, and on one whose Tekton
// is too old.
func TestNoTekton(t *testing.T) {
	t.Parallel()
	bare := cluster.Get(t).Bare(t)
	def, err := stream.Builtin("sample")
	require.NoError(t, err)
	rendered, err := tekton.Render(def, &tekton.Options{Image: bare.TaskImage, Namespace: "default"})
	require.NoError(t, err)
	dir := t.TempDir()
	file, token := filepath.Join(dir, "run.yaml"), filepath.Join(dir, "token")
	out, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, tekton.Encode(out, rendered.Runs[0]))
	require.NoError(t, out.Close())
	require.NoError(t, os.WriteFile(token, []byte(bare.Config.BearerToken), 0o600))
	refused := func() {
		out, err := exec.CommandContext(t.Context(), bare.Program, "tekton", "run", "--api-server="+bare.Config.Host, "--ca-file="+bare.Config.CAFile, "--token-file="+token, file).CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 1, strings.Count(string(out), "Tekton Pipelines with tekton.dev/v1 (0.44 or later) is not installed"), string(out))
		require.Contains(t, string(out), "install Tekton Pipelines, on OpenShift the operator")
	}
	refused()
	bare.InstallOldTekton(t)
	until(t, "the old version", func() bool {
		_, err := bare.Dynamic.Resource(pipelineRuns.GroupResource().WithVersion("v1beta1")).List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
	refused()
}

// TestLostNode loses the node twice while a run is on it: first as in a power cut, when
// the first task works, and then nobody speaks for it while a task ends. The run goes
// on each time.
func TestLostNode(t *testing.T) { // alone: the others ask the kubelet for logs
	w := newWorld(t, nil)
	store := interop.Proxy(t, w.s3.Endpoint, interop.Fault{Stall: time.Hour, Match: func(r *http.Request) bool { return !strings.HasSuffix(r.URL.Path, "/lease.json") }})
	proxy, params := w.stalled(t)
	goOn := make(chan struct{})
	proxy.Set(interop.Fault{Match: uploads, Stall: time.Hour, Release: goOn})
	params["store"] = strings.Replace(w.store(), w.s3.Endpoint, store.URL, 1)
	run := w.run(t, dailyPipeline, params)
	pod := w.stuck(t, run, store)
	require.Equal(t, "build-inputs", pod.Labels["tekton.dev/pipelineTask"])
	w.Kill(t, cluster.Kubelet)
	w.KillContainers(t, w.namespace)
	store.Set()
	w.Start(t, cluster.Kubelet)

	pod = w.stuck(t, run, proxy)
	require.Equal(t, "build-publish", pod.Labels["tekton.dev/pipelineTask"])
	w.nothingAnnounced(t)
	w.Kill(t, cluster.Kubelet)
	close(goOn)
	until(t, "the end of the step", func() bool {
		_, err := os.Stat(filepath.Join(w.s3.Folder, w.namespace, "streams", "sample.json"))
		return err == nil
	})
	w.Start(t, cluster.Kubelet)
	require.Equal(t, "true", results(w.succeed(t, run))["published"])
}

// TestFullVolume has too little room for what a build keeps, and then enough.
func TestFullVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	require.NoError(t, unix.Mount("tmpfs", w.volume, "tmpfs", 0, "size=64k,mode=777"))
	t.Cleanup(func() { _ = unix.Unmount(w.volume, unix.MNT_DETACH) })
	_, logs := w.fail(t, w.run(t, dailyPipeline, nil))
	require.Equal(t, 1, strings.Count(logs, "no space left on device"), logs)
	w.nothingAnnounced(t)
	require.NoError(t, unix.Mount("tmpfs", w.volume, "tmpfs", unix.MS_REMOUNT, "size=100m,mode=777"))
	require.Equal(t, "true", results(w.succeed(t, w.run(t, dailyPipeline, nil)))["published"])
}

// TestNoAccess has a key that is not the store's.
func TestNoAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	patch := []byte(`{"stringData":{"` + storeFile + `":"[default]\naws_access_key_id = sample-access\naws_secret_access_key = unknown-key\n"}}`)
	_, err := w.Kubernetes.CoreV1().Secrets(w.namespace).Patch(t.Context(), storeSecret, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	got, logs := w.fail(t, w.run(t, dailyPipeline, nil))
	require.NotContains(t, logs, "unknown-key")
	require.Contains(t, got.Status.GetCondition(apis.ConditionSucceeded).Message, "Failed")
	require.Contains(t, logs, "permission denied")
	w.nothingAnnounced(t)
}
