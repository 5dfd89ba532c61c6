package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// TestRealInputDebian is the main job on a Debian system, TestRealInputRPM on
// one of RPM packages: two days each, published to a registry and an S3
// service on loopback, and read by the peers' own tools.
func TestRealInputDebian(t *testing.T) {
	interop.Peer(t, "ostree", "skopeo", "docker-registry", "debootstrap")
	realInput(t, interop.DebianTree(t), 30_000, 0)
}

func TestRealInputRPM(t *testing.T) {
	interop.Peer(t, "ostree", "skopeo", "docker-registry", "rpm", "rpmbuild")
	realInput(t, interop.RPMTree(t), 1000, 200)
}

// site is where a test publishes.
type site struct {
	dir, host, home string
	s3              interop.S3Server
	registry        *remoteregistry.Registry
	components      []string // flags
	packages        int      // of RPM, with files; 0: another system
}

func realInput(t *testing.T, tree string, leastFiles int64, packages int) {
	s := &site{packages: packages, dir: t.TempDir(), host: interop.Registry(t), s3: interop.S3(t)}
	s.home = filepath.Join(s.dir, "home")
	require.NoError(t, interop.InsecureHome(s.home, s.host))
	var err error
	s.registry, err = remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	s.pushComponents(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s.s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.s3.SecretKey)

	one := s.build(t, tree, time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC))
	require.False(t, one.Unchanged)
	require.GreaterOrEqual(t, one.Commit.Files, leastFiles)
	require.Greater(t, one.Base.Layers, 10, "a layer for groups of packages")
	s.checkOSTree(t, tree, one)
	s.checkImages(t, one)
	s.checkStore(t, one)

	again := s.build(t, tree, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	require.True(t, again.Unchanged)
	require.Equal(t, one.Release.Digest, again.Release.Digest)

	second := interop.SecondDay(t, tree)
	two := s.build(t, second, time.Date(2026, 11, 25, 6, 0, 0, 0, time.UTC))
	require.False(t, two.Unchanged)
	require.NotEqual(t, one.Commit.Commit, two.Commit.Commit)
	s.checkOSTree(t, second, two)
	s.checkImages(t, two)
	s.checkStore(t, two)
	s.checkShared(t, one, two)
}

// build runs dailybuild for the built-in stream OKD/SCOS next.
func (s *site) build(t *testing.T, tree string, at time.Time) *daily.Summary {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", fmt.Sprint(at.Unix()))
	args := append([]string{
		"-stream", "okd-scos-next", "-source", "dir:" + tree, "-state", filepath.Join(s.dir, "state"),
		"-store", "s3://" + s.s3.Bucket + "?endpoint=" + s.s3.Endpoint + "&region=" + s.s3.Region + "&path-style=true",
		"-registry", "docker://" + s.host + "/okd", "-gate", "aws=passed", "-json", "-quiet",
	}, s.components...)
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), args, &stdout, &stderr), "%s", stderr.String())
	var summary daily.Summary
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &summary))
	for _, step := range summary.Steps {
		t.Logf("%s %s: %.2f s, reused %v %v", summary.Build, step.Step, step.Seconds, step.Reused, step.Reuse)
	}
	return &summary
}

func componentImage(t *testing.T, labels map[string]string, files map[string][]byte) v1.Image {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for file, content := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, tarball.WithMediaType(types.DockerLayer))
	require.NoError(t, err)
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.DockerManifestSchema2), mutate.Addendum{Layer: layer, MediaType: types.DockerLayer})
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	file = file.DeepCopy()
	file.Config.Labels, file.OS, file.Architecture = labels, "linux", "amd64"
	img, err = mutate.ConfigFile(img, file)
	require.NoError(t, err)
	return img
}

// pushComponents makes a payload around the OS: the cluster-version operator
// with its own real manifests, and an operator that refers to the OS images.
func (s *site) pushComponents(t *testing.T) {
	install := interop.SharedData(t, "payload", "cvo", "install")
	entries, err := os.ReadDir(install)
	require.NoError(t, err)
	cvo := map[string][]byte{}
	for _, e := range entries {
		cvo["manifests/"+e.Name()], err = os.ReadFile(filepath.Join(install, e.Name()))
		require.NoError(t, err)
	}
	const references = `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","spec":{"tags":[
		{"name":"stream-coreos","from":{"kind":"DockerImage","name":"ph.example.org/os:node"}},
		{"name":"stream-coreos-extensions","from":{"kind":"DockerImage","name":"ph.example.org/os:extensions"}}]}}`
	const config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: machine-config-osimageurl}\ndata:\n  version: 0.0.1-snapshot\n  machineOS: 0.0.1-snapshot-machine-os\n  os: ph.example.org/os:node\n  extensions: ph.example.org/os:extensions\n"
	repo, err := name.NewRepository(s.host + "/okd/scos-content")
	require.NoError(t, err)
	for component, img := range map[string]v1.Image{
		"cluster-version-operator": componentImage(t, nil, cvo),
		"machine-config-operator": componentImage(t, map[string]string{"io.openshift.release.operator": "true"}, map[string][]byte{
			"manifests/image-references": []byte(references), "manifests/50_osimageurl.yaml": []byte(config),
		}),
		"extensions": componentImage(t, map[string]string{"io.openshift.os.extensions": "true"}, map[string][]byte{"usr/share/rpm-ostree/extensions.json": []byte("{}")}),
	} {
		desc, err := s.registry.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		pullspec := repo.Digest(desc.Digest.String()).Name()
		if component == "extensions" {
			s.components = append(s.components, "-extensions", pullspec)
			continue
		}
		s.components = append(s.components, "-component", component+"="+pullspec)
	}
}

func (s *site) command(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "XDG_DATA_HOME=", "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		require.NoError(t, err, "%s %v: %s", program, args, exit.Stderr)
	}
	require.NoError(t, err)
	return string(out)
}

// checkOSTree reads the repository with ostree; tree is what was committed.
func (s *site) checkOSTree(t *testing.T, tree string, summary *daily.Summary) {
	repo := "--repo=" + filepath.Join(s.dir, "state", "repo")
	s.command(t, "ostree", repo, "fsck", "-q")
	require.Equal(t, summary.Commit.Commit.String(), strings.TrimSpace(s.command(t, "ostree", repo, "rev-parse", summary.Commit.Ref)))
	s.checkTree(t, tree, summary)
}

// checkImages reads the images with skopeo, go-containerregistry and ostree-ext.
func (s *site) checkImages(t *testing.T, summary *daily.Summary) {
	for _, out := range []*daily.ImageOutputs{summary.Base, summary.Node, summary.Extensions, &summary.Release.ImageOutputs} {
		ref, err := name.ParseReference(out.Reference)
		require.NoError(t, err)
		img, err := s.registry.Image(t.Context(), ref)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img), out.Reference)
	}
	var inspected struct {
		Digest string
		Labels map[string]string
	}
	tag := fmt.Sprintf("docker://%s/okd/scos-release:%s", s.host, summary.Version)
	require.NoError(t, json.Unmarshal([]byte(s.command(t, "skopeo", "inspect", "--tls-verify=false", tag)), &inspected))
	require.Equal(t, summary.Release.Digest, inspected.Digest)
	require.Equal(t, summary.Version, inspected.Labels["io.openshift.release"])
	base := "docker://" + summary.Base.Reference
	require.NoError(t, json.Unmarshal([]byte(s.command(t, "skopeo", "inspect", "--tls-verify=false", base)), &inspected))
	require.Equal(t, summary.Base.Digest, inspected.Digest)
	require.Equal(t, summary.Commit.Commit.String(), inspected.Labels["ostree.commit"])

	// skopeo copies it, and ostree-ext makes the same commit of it again.
	layout := filepath.Join(s.dir, "layout-"+summary.Build)
	s.command(t, "skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", base, "oci:"+layout)
	imported := filepath.Join(s.dir, "imported-"+summary.Build)
	s.command(t, "ostree", "init", "--repo="+imported, "--mode=bare-user")
	s.command(t, "ostree", "--repo="+imported, "config", "set", "core.fsync", "false")
	s.command(t, interop.OstreeExt(t), "container", "unencapsulate", "--repo="+imported, "--write-ref=imported", "ostree-unverified-image:oci:"+layout)
	require.Equal(t, summary.Commit.Commit.String(), strings.TrimSpace(s.command(t, "ostree", "--repo="+imported, "rev-parse", "imported")))
	s.command(t, "ostree", "fsck", "-q", "--repo="+imported)
	require.NoError(t, os.RemoveAll(imported))
	require.NoError(t, os.RemoveAll(layout))
}

// checkStore reads the objects from the folder behind the S3 service.
func (s *site) checkStore(t *testing.T, summary *daily.Summary) {
	for _, a := range summary.Boot.Artifacts {
		data := s.object(t, a.Key)
		sum := sha256.Sum256(data)
		require.Equal(t, a.SHA256, hex.EncodeToString(sum[:]), a.Key)
	}
	prefix := "okd-scos-next/builds/"
	meta, err := bootimage.DecodeMeta(bytes.NewReader(s.object(t, prefix+summary.Build+"/x86_64/meta.json")))
	require.NoError(t, err)
	require.Equal(t, summary.Commit.Commit.String(), meta.Value().OSTreeCommit)
	builds, err := bootimage.DecodeBuilds(bytes.NewReader(s.object(t, prefix+"builds.json")))
	require.NoError(t, err)
	require.Equal(t, summary.Build, builds.Value().Builds[0].ID)
	stream, err := bootimage.DecodeStream(bytes.NewReader(s.object(t, "streams/okd-scos-next.json")))
	require.NoError(t, err)
	require.Equal(t, summary.Build, stream.Value().Architectures["x86_64"].Artifacts["metal"].Release)
}

func (s *site) object(t *testing.T, key string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.s3.Folder, filepath.FromSlash(key)))
	require.NoError(t, err, key)
	return data
}

// checkShared requires that the second day's image is mostly the first's.
func (s *site) checkShared(t *testing.T, one, two *daily.Summary) {
	layers := func(out *daily.ImageOutputs) map[v1.Hash]int64 {
		ref, err := name.ParseReference(out.Reference)
		require.NoError(t, err)
		img, err := s.registry.Image(context.WithoutCancel(t.Context()), ref)
		require.NoError(t, err)
		manifest, err := img.Manifest()
		require.NoError(t, err)
		sizes := map[v1.Hash]int64{}
		for _, l := range manifest.Layers {
			sizes[l.Digest] = l.Size
		}
		return sizes
	}
	before := layers(one.Base)
	var same, all int64
	for digest, size := range layers(two.Base) {
		all += size
		if _, ok := before[digest]; ok {
			same += size
		}
	}
	t.Logf("second day: %d of %d bytes of layers are the first day's (%d %%)", same, all, 100*same/all)
	require.Greater(t, 2*same, all)
}
