package cluster_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/okd-project/okd-streams/stream"
)

// TestDailyBuild runs the pipeline on the cluster, and the same build in one
// process: both make and publish the same. Then the release is promoted, and
// another is made of it.
func TestDailyBuild(t *testing.T) {
	w := newWorld(t, nil)
	begin := time.Now()
	run := w.succeed(t, w.run(t, dailyPipeline, nil))
	onCluster := time.Since(begin)
	got := results(run)
	require.Equal(t, "true", got["published"], got)
	require.Equal(t, "passed", got["gates"])
	t.Log(w.times(t, run))
	for task, reason := range w.reasons(t, run) {
		require.Equal(t, "Succeeded", reason, task)
	}
	require.Len(t, run.Status.ChildReferences, 5)
	require.Empty(t, run.Status.SkippedTasks)

	uploaded := w.objects(t)
	maps.DeleteFunc(uploaded, func(path, _ string) bool { // what only a cluster keeps in the store
		return strings.HasSuffix(path, "/lease.json") || strings.HasPrefix(path, "gates/")
	})

	// One process does it again, under the same names, where nothing is yet.
	folder := filepath.Join(w.s3.Folder, w.namespace)
	aside := folder + "-of-the-cluster"
	require.NoError(t, os.Rename(folder, aside))
	var summary struct {
		Build, Version         string
		Commit                 struct{ Commit, Ref string }
		Base, Node, Extensions struct{ Digest, Reference string }
		Release                struct{ Digest, Reference string }
	}
	begin = time.Now()
	w.output(t, &summary, "build", "--stream="+w.definitionFile(t), "--state="+t.TempDir(), "--version="+got["release-name"], "--publish-report", "--quiet", "--json")
	alone := time.Since(begin)
	t.Logf("daily build: the cluster adds %.1f s (limit 30): %.1f s there, %.1f s in one process", (onCluster - alone).Seconds(), onCluster.Seconds(), alone.Seconds())

	require.Equal(t, map[string]string{
		"build": summary.Build, "release-name": summary.Version, "commit": summary.Commit.Commit, "ref": summary.Commit.Ref,
		"base-image": summary.Base.Reference, "base-digest": summary.Base.Digest, "node-image": summary.Node.Reference, "node-digest": summary.Node.Digest,
		"extensions-image": summary.Extensions.Reference, "extensions-digest": summary.Extensions.Digest,
		"release-pullspec": summary.Release.Reference, "release-digest": summary.Release.Digest,
		"published": "true", "gates": "passed", "tags": got["tags"],
	}, got)
	for _, image := range []string{"base", "node", "extensions"} {
		reference := got[image+"-image"]
		require.Equal(t, got[image+"-digest"], w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+reference))
	}
	require.Equal(t, got["release-digest"], w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+w.Registry+"/"+w.namespace+"/sample-release:"+summary.Version))

	again, reports := w.objects(t), 0
	for path := range uploaded {
		if strings.HasSuffix(path, "/report.html") { // says how long each step took
			require.Contains(t, again, path)
			uploaded[path] = again[path]
			reports++
		}
	}
	require.Equal(t, again, uploaded)
	require.Equal(t, 1, reports)

	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.Rename(aside, folder))
	t.Parallel() // the time of the build is that of a cluster that does nothing else
	t.Run("promotion", func(t *testing.T) { t.Parallel(); w.promote(t, got) })
	t.Run("payload", func(t *testing.T) { t.Parallel(); w.swap(t, got) })
}

// promote releases what the daily build made. A second time, there is nothing to do.
func (w *world) promote(t *testing.T, built map[string]string) {
	got := results(w.succeed(t, w.run(t, releasePipeline, map[string]string{"source": built["release-pullspec"]})))
	require.Equal(t, built["release-digest"], got["release-digest"])
	require.Equal(t, got["mirrored-digest"], w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+got["mirrored-pullspec"]))
	again := results(w.succeed(t, w.run(t, releasePipeline, map[string]string{"source": built["release-pullspec"]})))
	require.Equal(t, got["mirrored-digest"], again["mirrored-digest"])
	require.Equal(t, "false", again["changed"])
}

// swap makes a release of the daily build's with another node image in it, on the
// cluster and in one process.
func (w *world) swap(t *testing.T, built map[string]string) {
	const version = "0.0.0-sample.swap"
	repository := w.Registry + "/" + w.namespace + "/payload"
	component := "stream-coreos=" + built["base-image"]
	object := unstructuredOf(t, w.rendered.Runs[0])
	object.SetGenerateName(payloadPipeline + "-")
	object.Object["spec"].(map[string]any)["pipelineRef"] = map[string]any{"name": payloadPipeline}
	unstructured.RemoveNestedField(object.Object, "spec", "workspaces") // no secret is needed
	param := func(name string, value any) any { return map[string]any{"name": name, "value": value} }
	require.NoError(t, unstructured.SetNestedSlice(object.Object, []any{
		param("initial-payload", built["release-pullspec"]), param("components", []any{component}), param("release-image", repository+":cluster"),
		param("release-image-name", version), param("release-mirror-location", repository+"-images"), param("source-date-epoch", buildEpoch),
	}, "spec", "params"))
	made, err := w.Apply(t.Context(), object)
	require.NoError(t, err)
	run := w.succeed(t, made.GetName())
	require.Equal(t, map[string]string{"new-release": "Succeeded", "verify-release": "Succeeded"}, w.reasons(t, run))
	got := results(run)
	require.Equal(t, version, got["release-name"])

	var alone struct{ Digest, Pullspec string }
	w.output(t, &alone, "payload", "swap", built["release-pullspec"], component, "--to="+repository+":alone", "--version="+version, "--mirror="+repository+"-images", "--output=json")
	require.NotEqual(t, built["release-digest"], alone.Digest)
	require.Equal(t, alone.Digest, got["release-digest"])
	require.Equal(t, alone.Pullspec, got["release-pullspec"])
	for _, tag := range []string{":cluster", ":alone"} {
		require.Equal(t, alone.Digest, w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+repository+tag))
	}
	require.Equal(t, built["base-digest"], w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+repository+"-images@"+built["base-digest"]))
}

// TestGates has a gate that somebody else answers: until it has passed, and when it
// has failed, nothing is announced.
func TestGates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(def *stream.Definition) {
		def.Gates = append(def.Gates, stream.Gate{Name: "aws", Kind: stream.GateExternal})
	})
	record := func(got map[string]string, state string) {
		out, err := w.command(t, "gate", "record", "aws="+state, "--reason=the test says so", "--release="+got["release-name"], "--digest="+got["release-digest"], "--results="+w.store()).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	run, logs := w.fail(t, w.run(t, dailyPipeline, nil))
	require.Contains(t, logs, "aws")
	w.nothingAnnounced(t)
	got := w.taskResults(t, run)
	require.Equal(t, "pending", got["gates"], logs)
	require.NotEmpty(t, got["release-digest"])

	// The task alone, as a run of it that goes on would have it: a pod in place of five.
	record(got, "failed")
	reason, logs := w.runTask(t, "build-publish", map[string]string{"build": got["build"]})
	require.Equal(t, "StepFailed", reason, logs)
	require.Contains(t, logs, "the test says so")
	w.nothingAnnounced(t)

	record(got, "passed")
	run = w.succeed(t, w.run(t, dailyPipeline, map[string]string{"build": got["build"]}))
	require.Equal(t, got["release-digest"], results(run)["release-digest"])
	require.Equal(t, "true", results(run)["published"])
}
