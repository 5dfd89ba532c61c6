package cluster_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// gitServer serves repositories of one commit each, on the branch main, with git's own server.
func gitServer(t *testing.T, repositories map[string]map[string]string) (url, folder string) {
	t.Helper()
	folder = t.TempDir()
	for of, files := range repositories {
		dir := filepath.Join(folder, of)
		writeFiles(t, dir, files)
		for _, args := range [][]string{
			{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
			{"-c", "user.name=x", "-c", "user.email=x@example", "commit", "--quiet", "--message=x", "--date=2026-01-01T00:00:00Z"},
		} {
			cmd := exec.CommandContext(t.Context(), "git", args...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "git %v: %s", args, out)
		}
	}
	program, err := exec.LookPath("git")
	require.NoError(t, err)
	server := httptest.NewServer(&cgi.Handler{Path: program, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(server.Close)
	return server.URL, folder
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path, text := range files {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// shellTree is a root filesystem with this machine's shell, in which a build step can run.
func shellTree(t *testing.T, dir string) {
	t.Helper()
	writeFiles(t, dir, map[string]string{
		"usr/lib/os-release": "NAME=sample\nID=sample\nVERSION_ID=0\n", "usr/lib/modules/0.0.0/vmlinuz": "kernel\n", "usr/lib/modules/0.0.0/initramfs.img": "initramfs\n",
		"usr/etc/os": "sample\n",
	})
	for _, sub := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	for of, target := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "ostree": "sysroot/ostree"} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, of)))
	}
	libraries, err := cluster.Libraries("/bin/sh")
	require.NoError(t, err)
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	copyProgram(t, shell, filepath.Join(dir, "usr/bin/sh"))
	for _, from := range libraries {
		copyProgram(t, from, filepath.Join(dir, "usr", strings.TrimPrefix(from, "/usr")))
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(t, os.WriteFile(to, data, 0o755))
}

// components is a list of one that is built of its source.
const components = `apiVersion: streams.okd.io/v1alpha1
kind: Components
ref: main
components:
  - {name: agent, repository: URL/agent, args: {TEXT: built}}
`

// TestBuilder builds in the cluster, with buildah in pods: a node image on the base image of the
// day, from a Containerfile in git, and then a component of its source. Both have the files that
// buildah makes here.
func TestBuilder(t *testing.T) {
	t.Parallel()
	c := cluster.Get(t)
	interop.Peer(t, "buildah", "git")
	url, sources := gitServer(t, map[string]map[string]string{
		"os": {
			"Containerfile": "FROM localhost/base\nCOPY kubelet /usr/bin/kubelet\nRUN echo made > /usr/lib/node-release\n" +
				"LABEL io.openshift.metalayer=true\nCOPY meta.json /usr/share/openshift/base/meta.json\n",
			"extensions/Containerfile": "FROM localhost/node AS packages\nFROM scratch\nCOPY extensions.json /usr/share/rpm-ostree/extensions.json\n", "extensions.json": "{}",
			"kubelet": "kubelet\n", "meta.json": `{"rpmdb.pkglist":[["kubelet","0","1.35.4","1","x86_64"]]}`,
		},
		"agent": {"Dockerfile": "FROM scratch\nARG TEXT\nCOPY agent /usr/bin/${TEXT}\n", "agent": "agent\n"},
	})
	const tree = "tree.tar" // a folder in a volume would become its group's
	w := newWorldOf(t, func(def *stream.Definition) {
		def.OS.Kind, def.OS.Source.Git, def.OS.Source.Ref, def.OS.Containerfile = stream.Layer, url+"/os", "main", "Containerfile"
		def.OS.Builder.Image = c.BuilderImage(t)
	}, map[string]string{"source": "tar:/workspace/shared-workspace/" + tree})
	folder := t.TempDir()
	shellTree(t, folder)
	out, err := exec.CommandContext(t.Context(), "tar", "--create", "--numeric-owner", "--owner=0", "--group=0", "--file="+filepath.Join(w.volume, tree), "--directory="+folder, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := w.succeed(t, w.run(t, dailyPipeline, nil))
	got := results(run)
	require.Equal(t, "true", got["published"], got)
	require.NotEqual(t, got["base-digest"], got["node-digest"])
	files := pulled(t, got["node-image"])
	require.Contains(t, files["usr/bin/kubelet"], "kubelet\n")
	require.Contains(t, files["usr/lib/node-release"], "made\n")
	t.Log(w.times(t, run))

	here := []string{"--buildah-isolation=chroot", "--buildah-driver=vfs", "--buildah-storage=" + t.TempDir()}
	state := t.TempDir()
	w.output(t, &struct{}{}, append(here, "build", "node", "--stream="+w.definitionFile(t), "--state="+state, "--store=dir:"+t.TempDir(), "--version="+got["release-name"],
		"--source=tar:"+filepath.Join(w.volume, tree), "--node-context="+filepath.Join(sources, "os"), "--quiet", "--json")...)
	kept, err := filepath.Glob(filepath.Join(state, "node", "buildah-*", "node"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	index, err := layout.ImageIndexFromPath(kept[0])
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	alone, err := index.Image(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	require.Equal(t, filesOf(t, alone), files)

	// A component of its source, in a release of that one.
	list := filepath.Join(w.volume, "list.yaml")
	require.NoError(t, os.WriteFile(list, []byte(strings.ReplaceAll(components, "URL", url)), 0o644))
	const version = "0.0.0-sample.built"
	repository := w.Registry + "/" + w.namespace + "/payload"
	object := unstructuredOf(t, w.rendered.Runs[0])
	object.SetGenerateName(payloadPipeline + "-")
	spec := object.Object["spec"].(map[string]any)
	spec["pipelineRef"] = map[string]any{"name": payloadPipeline}
	param := func(of string, value any) any { return map[string]any{"name": of, "value": value} }
	spec["params"] = []any{
		param("initial-payload", got["release-pullspec"]), param("release-image", repository+":cluster"), param("release-image-name", version),
		param("release-mirror-location", repository+"-images"), param("source-date-epoch", buildEpoch), param("build-args", []any{"--list=/workspace/payload-workspace/list.yaml"}),
	}
	claim := rendered[*tekton.VolumeClaim](t, w, dailyPipeline+"-x86-64").Metadata.Name
	spec["workspaces"] = []any{map[string]any{"name": "payload-workspace", "persistentVolumeClaim": map[string]any{"claimName": claim}}}
	made, err := w.Apply(t.Context(), &unstructured.Unstructured{Object: object.Object})
	require.NoError(t, err)
	run = w.succeed(t, made.GetName())
	require.Equal(t, version, results(run)["release-name"])
	_, inCluster, ok := strings.Cut(strings.TrimSpace(w.taskResults(t, run)["images"]), "agent=")
	require.True(t, ok)
	var built struct {
		Components []struct{ Name, Image string }
	}
	w.output(t, &built, append(here, "payload", "build", got["release-pullspec"], "--images="+repository+"-alone", "--state="+t.TempDir(), "--list="+list, "--output=json")...)
	require.Len(t, built.Components, 1)
	component := pulled(t, inCluster)
	require.Contains(t, component["usr/bin/built"], "agent\n")
	require.Equal(t, pulled(t, built.Components[0].Image), component)
}

// pulled are the files of an image in a registry.
func pulled(t *testing.T, image string) map[string]string {
	t.Helper()
	ref, err := name.ParseReference(image, name.Insecure)
	require.NoError(t, err)
	img, err := remote.Image(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	return filesOf(t, img)
}

// filesOf are those of an image, by path, with mode, owner, and what is in small ones. What buildah
// leaves in /run depends on the container that it is in.
func filesOf(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	whole := mutate.Extract(img)
	defer whole.Close()
	out := map[string]string{}
	for archive := tar.NewReader(whole); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if h.Name == "run" || strings.HasPrefix(h.Name, "run/") {
			continue
		}
		require.Zero(t, h.Uid+h.Gid, h.Name)
		text := fmt.Sprintf("%c %o %d %s ", h.Typeflag, h.Mode&0o7777, h.Size, h.Linkname)
		if h.Size <= 4096 {
			data, err := io.ReadAll(archive)
			require.NoError(t, err)
			text += string(data)
		}
		out[h.Name] = text
	}
}
