package cluster_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/okd-project/okd-streams/stream"
)

// tick does what Kubernetes does when a CronJob is due, and gives how the pod
// ended and what it said.
func (w *world) tick(t *testing.T, name string) (corev1.PodPhase, string) {
	t.Helper()
	ctx := t.Context()
	cron, err := w.Kubernetes.BatchV1().CronJobs(w.namespace).Get(ctx, dailyPipeline, metav1.GetOptions{})
	require.NoError(t, err)
	spec := cron.Spec.JobTemplate.Spec
	never := int32(0)
	spec.BackoffLimit = &never
	_, err = w.Kubernetes.BatchV1().Jobs(w.namespace).Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	require.NoError(t, err)
	var pod corev1.Pod
	until(t, "the pod of "+name, func() bool {
		pods, err := w.Kubernetes.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
		require.NoError(t, err)
		for _, p := range pods.Items {
			pod = p
		}
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	})
	text, err := w.Kubernetes.CoreV1().Pods(w.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	require.NoError(t, err)
	return pod.Status.Phase, string(text)
}

// TestTimer has the CronJob that was rendered start the pipeline, with the rights
// of its own account.
func TestTimer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(def *stream.Definition) { def.Cadences.Daily.Schedule = "0 4 * * *" })
	phase, said := w.tick(t, "first")
	require.Equal(t, corev1.PodSucceeded, phase, said)
	namespace, run, ok := strings.Cut(strings.TrimSpace(said), "/")
	require.True(t, ok && namespace == w.namespace, said)
	phase, said = w.tick(t, "second")
	require.Equal(t, corev1.PodSucceeded, phase, said)
	require.Contains(t, said, "not now", "the first one goes on")
	require.Equal(t, "true", results(w.succeed(t, run))["published"])

	bindings := w.Kubernetes.RbacV1().RoleBindings(w.namespace)
	require.NoError(t, bindings.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	until(t, "the rights to be gone", func() bool {
		phase, said = w.tick(t, "third"+metav1.Now().Format("150405"))
		return phase == corev1.PodFailed
	})
	require.Contains(t, said, "403")
	require.Contains(t, said, "pipelineruns")
	t.Log(said)
}
