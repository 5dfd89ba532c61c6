package cluster_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
)

// TestDailyBuild runs the pipeline on the cluster, and the same build in one
// process: both make and publish the same.
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
	require.Len(t, run.Status.ChildReferences, 8)
	require.Empty(t, run.Status.SkippedTasks)

	uploaded := w.objects(t)
	maps.DeleteFunc(uploaded, func(path, _ string) bool { // what only a cluster keeps in the store
		return strings.HasSuffix(path, "/lease.json") || strings.HasPrefix(path, "gates/")
	})

	// One process does it again, under the same names, where nothing is yet.
	require.NoError(t, os.RemoveAll(filepath.Join(w.s3.Folder, w.namespace)))
	var summary struct {
		Build, Version         string
		Commit                 struct{ Commit, Ref string }
		Base, Node, Extensions struct{ Digest, Reference string }
		Release                struct{ Digest, Reference string }
	}
	begin = time.Now()
	w.output(t, &summary, "build", "--stream="+w.definitionFile(t), "--state="+t.TempDir(), "--version="+got["release-name"], "--quiet", "--json")
	alone := time.Since(begin)
	t.Logf("daily build: %.1f s on the cluster, %.1f s in one process", onCluster.Seconds(), alone.Seconds())

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

	require.Equal(t, w.objects(t), uploaded)
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

	record(got, "failed")
	_, logs = w.fail(t, w.run(t, dailyPipeline, map[string]string{"build": got["build"]}))
	require.Contains(t, logs, "the test says so")
	w.nothingAnnounced(t)

	record(got, "passed")
	run = w.succeed(t, w.run(t, dailyPipeline, map[string]string{"build": got["build"]}))
	require.Equal(t, got["release-digest"], results(run)["release-digest"])
	require.Equal(t, "true", results(run)["published"])
}

// TestPromotion promotes what the daily build made.
func TestPromotion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	built := results(w.succeed(t, w.run(t, dailyPipeline, nil)))
	run := w.succeed(t, w.run(t, releasePipeline, map[string]string{"source": built["release-pullspec"]}))
	got := results(run)
	t.Log(got)
	require.Equal(t, built["release-digest"], got["release-digest"])
	require.Equal(t, got["mirrored-digest"], w.skopeo(t, "inspect", "--format", "{{.Digest}}", "docker://"+got["mirrored-pullspec"]))
	// Again, there is nothing to do.
	again := results(w.succeed(t, w.run(t, releasePipeline, map[string]string{"source": built["release-pullspec"]})))
	require.Equal(t, got["mirrored-digest"], again["mirrored-digest"])
	require.Equal(t, "false", again["changed"])
}
