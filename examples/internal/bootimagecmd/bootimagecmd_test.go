package bootimagecmd_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/bootimagecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/open"
)

var update = flag.Bool("update", false, "write golden files")

// call runs a command as the program does.
func call(ctx context.Context, stdin string, args ...string) (code int, stdout, stderr string) {
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(bootimagecmd.Command())
	var out, diagnostics bytes.Buffer
	root.SetArgs(append([]string{"bootimage"}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", root.ExecuteContext(ctx))
	return code, out.String(), diagnostics.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestFind(t *testing.T) {
	for name, args := range map[string][]string{
		"find.txt":        {"find", "testdata/stream.json"},
		"find-iso.txt":    {"find", "--platform", "baremetal", "--arch", "amd64", "testdata/stream.json"},
		"find-region.txt": {"find", "--platform=aws", "--region=eu-west-1", "testdata/stream.json"},
		"find.json":       {"find", "-o", "json", "--platform", "metal", "--node", "10.0.20261203-0", "testdata/stream.json"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(t.Context(), "", args...)
			require.Zero(t, code, stderr)
			golden(t, name, stdout)
			if strings.HasSuffix(name, ".json") {
				require.True(t, json.Valid([]byte(stdout)))
			}
		})
	}
	code, stdout, _ := call(t.Context(), "", "find", "--print=url", "--platform=metal", "--format=iso", "testdata/stream.json")
	require.Zero(t, code)
	require.Equal(t, "https://example.org/own/builds/10.0.20261125-0/x86_64/own-10.0.20261125-0-live.x86_64.iso\n", stdout)

	code, stdout, stderr := call(t.Context(), "", "find", "--node", "10.0.20261203-0", "testdata/old.json", "--platform", "aws")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "skew: boots 9.0.20250222-0, runs 10.0.20261203-0: 649 days older")
	code, _, stderr = call(t.Context(), "", "find", "--node", "39.20231101.3.0", "testdata/old.json", "--platform", "aws")
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stderr, "machines boot EL 9 and change to Fedora 39 on first boot")
	require.Contains(t, stderr, "\n  take newer boot images into the cluster")
}

func TestFindProbes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".iso") {
			w.Header().Set("Content-Length", "1073741824")
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	data, err := os.ReadFile("testdata/stream.json")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(data), "https://example.org", server.URL)
	code, stdout, stderr := call(t.Context(), text, "find", "--probe", "--allow-private", "--format=iso", "-")
	require.Zero(t, code, stderr)
	require.Regexp(t, `iso +- +10\.0\.20261125-0 +1\.0 GiB +alive`, stdout)
	code, stdout, stderr = call(t.Context(), text, "find", "--probe", "--allow-private", "--format=raw.gz", "-")
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stdout, "dead")
	require.Contains(t, stderr, "\n  report it to who publishes the stream")
}

func TestFindByAddress(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.Dir("testdata")))
	defer server.Close()
	code, stdout, stderr := call(t.Context(), "", "find", "--print", "image", server.URL+"/stream.json")
	require.Zero(t, code, stderr)
	require.Equal(t, "ami-0123\n", stdout)
	code, _, stderr = call(t.Context(), "", "find", server.URL+"/none.json")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "\n  check the address")
}

// releaseIn writes a release payload with these files into a folder.
func releaseIn(t *testing.T, files map[string]string) (registry, pullspec string) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "release-manifests/", Mode: 0o755, Typeflag: tar.TypeDir}))
	for file, text := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "release-manifests/" + file, Mode: 0o644, Size: int64(len(text))}))
		_, err := io.WriteString(w, text)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, l)
	require.NoError(t, err)
	img, err = mutate.Config(img, v1.Config{Labels: map[string]string{"io.openshift.release": "5.0.0-okd-scos.0"}})
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)

	registry = "dir:" + t.TempDir()
	r, err := open.Registry(t.Context(), registry, &open.RegistryOptions{NoSync: true})
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/release")
	require.NoError(t, err)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	return registry, repo.Digest(desc.Digest.String()).String()
}

func TestFindInRelease(t *testing.T) {
	data, err := os.ReadFile("testdata/stream.json")
	require.NoError(t, err)
	stream, err := bootimage.DecodeStream(bytes.NewReader(data))
	require.NoError(t, err)
	c, err := bootimage.NewConfigMap("5.0.0-okd-scos.0", stream, nil)
	require.NoError(t, err)
	var manifest bytes.Buffer
	require.NoError(t, c.Encode(&manifest))
	files := map[string]string{
		"image-references": fmt.Sprintf(`{"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "5.0.0-okd-scos.0"}, "spec": {"tags": [
			{"name": "stream-coreos", "annotations": {"io.openshift.build.versions": "machine-os=10.0.20261203-0", "io.openshift.build.version-display-names": "machine-os=CentOS Stream CoreOS"},
			 "from": {"kind": "DockerImage", "name": "q.example/os@sha256:%064d"}}]}}`, 1),
		"release-metadata":          `{"kind": "cincinnati-metadata-v0", "version": "5.0.0-okd-scos.0", "previous": []}`,
		bootimage.ConfigMapManifest: manifest.String(),
	}
	registry, pullspec := releaseIn(t, files)
	code, stdout, stderr := call(t.Context(), "", "find", "--registry", registry, "--platform=baremetal", "release:"+pullspec)
	require.Zero(t, code, stderr)
	golden(t, "find-release.txt", strings.NewReplacer(registry, "REGISTRY", pullspec, "PULLSPEC").Replace(stdout))

	// As people name releases: by the pullspec alone, and by the version.
	_, same, _ := call(t.Context(), "", "find", "--registry", registry, "--platform=baremetal", pullspec)
	require.Equal(t, strings.ReplaceAll(stdout, "release:localhost", "localhost"), same)
	require.NoError(t, os.MkdirAll(filepath.Join(strings.TrimPrefix(registry, "dir:"), "okd"), 0o755))
	require.NoError(t, os.Rename(filepath.Join(strings.TrimPrefix(registry, "dir:"), "release"), filepath.Join(strings.TrimPrefix(registry, "dir:"), "okd", "scos-release")))
	r, err := open.Registry(t.Context(), registry, nil)
	require.NoError(t, err)
	tag, err := name.NewTag("localhost/okd/scos-release:5.0.0-okd-scos.0")
	require.NoError(t, err)
	_, digest, _ := strings.Cut(pullspec, "@")
	hash, err := v1.NewHash(digest)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), tag, hash))
	for _, version := range []string{"5.0.0-okd-scos.0", "release:5.0.0-okd-scos.0"} {
		code, byVersion, stderr := call(t.Context(), "", "find", "--registry", registry, "--platform=baremetal", version)
		require.Zero(t, code, stderr)
		require.Equal(t, strings.ReplaceAll(stdout, "release:"+pullspec, version), byVersion)
	}

	registry, pullspec = releaseIn(t, files)
	code, stdout, stderr = call(t.Context(), "", "check", "--registry", registry, "release:"+pullspec)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "ConfigMap, no faults")

	delete(files, bootimage.ConfigMapManifest)
	registry, pullspec = releaseIn(t, files)
	code, _, stderr = call(t.Context(), "", "find", "--registry", registry, "release:"+pullspec)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "0000_50_installer_coreos-bootimages.yaml: file does not exist\n  releases before 4.8 have no boot images")
}

func TestDrift(t *testing.T) {
	code, stdout, stderr := call(t.Context(), "", "drift", "testdata/stream.json", "testdata/stream.json")
	require.Zero(t, code, stderr)
	require.Equal(t, "nothing differs\n", stdout)
	code, stdout, stderr = call(t.Context(), "", "drift", "--all", "testdata/old.json", "testdata/stream.json")
	require.Equal(t, ui.ExitVerification, code)
	golden(t, "drift.txt", stdout)
	require.Equal(t, "okd-streams: 2 platforms differ\n  update the cluster to a release that has newer boot images, or enroll its machine sets in boot image management\n", stderr)
	_, stdout, _ = call(t.Context(), "", "drift", "-o=json", "testdata/old.json", "testdata/stream.json")
	golden(t, "drift.json", stdout)
}

// TestDriftOfConfigMap holds the ConfigMap of a cluster against the stream that it is of,
// and against one that is newer.
func TestDriftOfConfigMap(t *testing.T) {
	shared := interop.SharedData(t, "bootimage")
	data, err := os.ReadFile(filepath.Join(shared, "configmap/derived-scos-coreos-bootimages.yaml"))
	require.NoError(t, err)
	code, stdout, stderr := call(t.Context(), string(data), "drift", "-", filepath.Join(shared, "installer/main/scos.json"))
	require.Zero(t, code, stderr)
	require.Equal(t, "nothing differs\n", stdout)
	code, stdout, stderr = call(t.Context(), "", "drift", filepath.Join(shared, "configmap/hypershift-4.10-installer-coreos-bootimages.yaml"), filepath.Join(shared, "installer/rhcos/release-4.12.json"))
	require.Equal(t, ui.ExitVerification, code, stderr)
	require.Regexp(t, `(?m)^x86_64 +metal +410\.84\.202111111322-0 +412\.86\.\S+ +[1-9]\d+ `, stdout)
	require.Regexp(t, `^okd-streams: \d+ platforms differ\n  update the cluster`, stderr)
	require.NotContains(t, stdout, "nothing differs")
}

func TestCheck(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "document")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	index := `{"note": "n", "stream": "own", "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "releases": [{"version": "1", "metadata": "https://example.org/1/release.json", "commits": [{"architecture": "x86_64", "checksum": "` + strings.Repeat("ab", 32) + `"}]}]}`
	updates := `{"stream": "own", "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "releases": [{"version": "1", "metadata": {"rollout": {"start_percentage": 1.0}}}]}`
	release := `{"release": "1", "stream": "own", "architectures": {"x86_64": {"commit": "` + strings.Repeat("ab", 32) + `", "media": {}}}}`
	for _, tt := range []struct {
		name string
		text string
		args []string
		want string // "": no fault
	}{
		{"stream", "testdata/stream.json", nil, ""},
		{"stream without signatures", "testdata/stream.json", []string{"--signatures"}, "architectures.x86_64.artifacts.metal.formats.iso.disk.signature: missing"},
		{"stream that goes back", "testdata/old.json", []string{"--previous=testdata/stream.json"}, "metadata.last-modified: before that of the document it replaces"},
		{"index", index, nil, ""},
		{"index at fault", strings.Replace(index, "https:", "ftp:", 1), nil, "releases[0].metadata: address of scheme ftp, want https"},
		{"updates", updates, []string{"--index=" + write(index)}, ""},
		{"percentage", strings.Replace(updates, "1.0", "100", 1), nil, "releases[0].metadata.rollout.start_percentage: 100 is not a part from 0 to 1"},
		{"release", release, []string{"--aleph=" + write(`{"version": "1"}`)}, ""},
		{"disk of another release", release, []string{"--aleph=" + write(`{"version": "2"}`)}, "version: is 2, the release is 1"},
		{"builds", `{"schema-version": "1.0.0", "builds": []}`, nil, ""},
		{"builds at fault", `{"schema-version": "2.0.0", "builds": [{"id": "..", "arches": []}]}`, nil, `builds[0].id: ".." is not a build id`},
		{"meta", `{"buildid": "1"}`, nil, "ostree-commit: \"\" is not a commit"},
		{"meta by the schema", `{"buildid": "1", "name": "own", "ostree-commit": "` + strings.Repeat("ab", 32) + `", "ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "1", "own": 1}`, nil, "own: not a key of the schema"},
		{"release at fault", strings.Replace(release, `{}`, `{"metal": {"artifacts": {"iso": {"disk": {"location": "x"}}}}}`, 1), nil, `architectures.x86_64.media.metal.artifacts.iso.disk.location: "x" is not an address`},
		{"release at fault, of a disk", strings.Replace(release, strings.Repeat("ab", 32), "x", 1), []string{"--aleph=" + write(`{"version": "1"}`)}, `architectures.x86_64.commit: "x" is not a commit`},
		{"pin", `{"buildid": "1", "baseURI": "x"}`, nil, "baseURI: not an address"},
		{"unknown", `{}`, nil, "none of stream metadata"},
		{"nothing", "x", nil, "not an object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := tt.text
			if !strings.HasPrefix(file, "testdata") {
				file = write(tt.text)
			}
			code, stdout, stderr := call(t.Context(), "", append(append([]string{"check"}, tt.args...), file)...)
			if tt.want == "" {
				require.Zero(t, code, stdout+stderr)
				require.Contains(t, stdout, "no faults")
				return
			}
			require.Equal(t, ui.ExitVerification, code, stderr)
			require.Contains(t, stdout, tt.want)
			require.Contains(t, stderr, "\n  correct them where the document is made")
		})
	}
	_, stdout, _ := call(t.Context(), "", "check", "-o", "json", "--signatures", "testdata/stream.json")
	golden(t, "check.json", stdout)
}

// TestCheckDisk takes what a disk says of itself from the disk.
func TestCheckDisk(t *testing.T) {
	system := func(name string) []byte {
		packed, err := os.Open("../../../bootimage/disk/testdata/" + name)
		require.NoError(t, err)
		defer packed.Close()
		z, err := gzip.NewReader(packed)
		require.NoError(t, err)
		raw, err := io.ReadAll(z)
		require.NoError(t, err)
		return raw
	}
	raw, plain, coreos := system("root.gz"), system("boot.gz"), system("coreos.gz")
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		return filepath.Join(dir, name)
	}
	release := func(version string) string {
		return write(version, []byte(`{"release": "`+version+`", "stream": "own", "architectures": {"x86_64": {"commit": "`+strings.Repeat("ab", 32)+`", "media": {}}}}`))
	}
	code, stdout, stderr := call(t.Context(), "", "check", "--aleph", write("disk", raw), release("10.0.20261125-0"))
	require.Zero(t, code, stdout+stderr)
	disks := []string{write("disk", raw), write("coreos", coreos)}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	image, err := disk.Open(t.Context(), bytes.NewReader(coreos), int64(len(coreos)), nil)
	require.NoError(t, err)
	for _, format := range []disk.Format{disk.QCOW2, disk.VMDK} {
		name := "coreos." + string(format)
		_, err := disk.Convert(t.Context(), root, image, []disk.Target{{Name: name, Format: format}}, &disk.ConvertOptions{NoSync: true})
		require.NoError(t, err)
		disks = append(disks, filepath.Join(dir, name))
	}
	for _, file := range disks {
		code, stdout, stderr := call(t.Context(), "", "check", "--aleph", file, release("10.0.20261125-0"))
		require.Zero(t, code, file+stdout+stderr)
		code, stdout, _ = call(t.Context(), "", "check", "--aleph", file, release("1"))
		require.Equal(t, ui.ExitVerification, code)
		require.Contains(t, stdout, "version: is 10.0.20261125-0, the release is 1")
	}
	running := bytes.Clone(coreos) // its log has a record behind that of the unmount
	log := bytes.Index(running, []byte("\xfe\xed\xba\xbe"))
	copy(running[log+1024:], running[log:log+512])
	btrfs := make([]byte, 1<<17)
	copy(btrfs[65536+64:], "_BHRfS_M")
	for _, tt := range []struct {
		data   []byte
		want   string
		advice string
	}{
		{running, "was not unmounted cleanly", "give the file itself: virt-cat"},
		{btrfs, "its root file system is btrfs, and only ext4 and xfs are read", "give the file itself: virt-cat"},
		{plain, "file does not exist", "give a disk of CoreOS"},
	} {
		code, stdout, stderr = call(t.Context(), "", "check", "--aleph", write("other", tt.data), release("1"))
		require.Equal(t, ui.ExitFailed, code, stdout)
		require.Contains(t, stderr, tt.want)
		require.Contains(t, stderr, "\n  "+tt.advice)
	}
}

// TestCheckBuilds checks a catalogue, its newest build's records and its release.json.
func TestCheckBuilds(t *testing.T) {
	dir := buildsFolder(t)
	code, stdout, stderr := call(t.Context(), "", "check", "builds:"+dir)
	require.Equal(t, ui.ExitVerification, code, stderr)
	require.Equal(t, `10.0.20261125-0/x86_64/meta.json: ["own.key"]: not a key of the schema: strict readers refuse the record
10.0.20261125-0/release.json: architectures.aarch64: neither commit nor oci-image
10.0.20261125-0/release.json: architectures.x86_64: neither commit nor oci-image
10.0.20261125-0/aarch64/meta.json: ["own.key"]: not a key of the schema: strict readers refuse the record
`, stdout)
	require.NoError(t, os.Remove(filepath.Join(dir, "10.0.20261125-0/release.json")))
	for _, arch := range []string{"x86_64", "aarch64"} {
		at := filepath.Join(dir, "10.0.20261125-0", arch, "meta.json")
		data, err := os.ReadFile(at)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(at, []byte(strings.Replace(string(data), `,"own.key":1.5`, "", 1)), 0o644))
	}
	code, stdout, stderr = call(t.Context(), "", "check", dir)
	require.Zero(t, code, stdout+stderr)
	require.Equal(t, dir+": catalogue, no faults\n", stdout)
	require.NoError(t, os.Remove(filepath.Join(dir, "10.0.20261125-0/x86_64/meta.json")))
	_, stdout, _ = call(t.Context(), "", "check", dir)
	require.Contains(t, stdout, "10.0.20261125-0/x86_64/meta.json: ")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "builds.json"), []byte(`{"schema-version": "2.0.0"}`), 0o644))
	_, stdout, _ = call(t.Context(), "", "check", "-o=json", dir)
	require.Contains(t, stdout, `"file": "builds.json",`)
}

func TestCompare(t *testing.T) {
	code, stdout, stderr := call(t.Context(), "", "compare", "testdata/stream.json", "testdata/stream.json")
	require.Zero(t, code, stderr)
	require.Equal(t, "nothing differs\n", stdout)
	code, stdout, stderr = call(t.Context(), "", "compare", "testdata/old.json", "testdata/stream.json")
	require.Zero(t, code, stderr)
	require.Regexp(t, `(?m)^x86_64 metal .*: release: .* -> `, stdout)
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "document")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	for kind, texts := range map[string][3]string{
		"updates":       {`{"stream": "own", "releases": [{"version": "1", "metadata": {"rollout": {"start_percentage": 0.5}}}]}`, "0.5", "releases.1.metadata.rollout.start_percentage"},
		"releases.json": {`{"stream": "own", "note": "0.5", "releases": []}`, "0.5", "note"},
		"release.json":  {`{"release": "1", "stream": "own", "architectures": {"x86_64": {"commit": "0.5"}}}`, "0.5", "architectures.x86_64.commit"},
		"builds.json":   {`{"schema-version": "1.0.0", "builds": [{"id": "0.5", "arches": []}]}`, "0.5", `builds["0.7"]`},
		"meta.json":     {`{"buildid": "1", "name": "own", "ostree-commit": "` + strings.Repeat("ab", 32) + `", "ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "0.5"}`, "0.5", "ostree-version"},
	} {
		older, newer := write(texts[0]), write(strings.Replace(texts[0], texts[1], "0.7", 1))
		code, stdout, stderr := call(t.Context(), "", "compare", older, newer)
		require.Zero(t, code, kind+stderr)
		require.Contains(t, stdout, texts[2]+": ", kind)
		_, stdout, _ = call(t.Context(), "", "compare", "-o=json", older, newer)
		require.Contains(t, stdout, `"kind": "`+kind+`"`)
		require.Contains(t, stdout, `"changes": [`)
	}
}

// TestFailures holds every failure to its exit code and its advice.
func TestFailures(t *testing.T) {
	var lines []string
	for _, args := range [][]string{
		{"fetch"},
		{"find"},
		{"find", "--own", "x"},
		{"find", "-o", "xml", "testdata/stream.json"},
		{"find", "testdata/none.json"},
		{"find", "bootimagecmd.go"},
		{"find", "--arch", "vax", "testdata/stream.json"},
		{"find", "--platform", "vsphere", "testdata/stream.json"},
		{"find", "--print", "name", "testdata/stream.json"},
		{"find", "--node", "x", "testdata/stream.json"},
		{"find", "release:"},
		{"find", "--registry", "x:y", "release:a.example/b:c"},
		{"find", "https://a.example/"},
		{"find", "--platform", "iso", "testdata/stream.json"},
		{"find", "testdata/builds.json"},
		{"find", "images:a.example/none@sha256:short"},
		{"find", "--registry", "dir:testdata/none", "images:a.example/none:tag"},
		{"find", "--registry", "dir:testdata/none", "a.example/release:4.21"},
		{"export", "builds:testdata"},
		{"export", "testdata", "images:a.example/b:c"},
		{"export", "images:a.example/b:c", "images:a.example/d:e"},
		{"export", "builds:testdata/none", "images:a.example/b:c"},
		{"export", "builds:testdata", "images:a.example/b:c"},
		{"export", "--build", "7", "builds:testdata", "images:a.example/b:c"},
		{"drift", "testdata/stream.json"},
		{"compare", "testdata/stream.json", "testdata/builds.json"},
		{"compare", "bootimagecmd.go", "bootimagecmd.go"},
		{"check", "--aleph", "x", "testdata/stream.json"},
		{"check", "--previous", "testdata/none.json", "testdata/stream.json"},
	} {
		code, stdout, stderr := call(t.Context(), "", args...)
		require.NotZero(t, code, args)
		require.Empty(t, stdout, args)
		require.Regexp(t, `\n  \S.*\n$`, stderr, args)
		lines = append(lines, fmt.Sprintf("$ okd-streams bootimage %s\n%s[exit %d]\n", strings.Join(args, " "), stderr, code))
	}
	golden(t, "failures.txt", strings.Join(lines, "\n"))
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"find", "--help"}, {"drift", "--help"}, {"check", "--help"}} {
		code, stdout, stderr := call(t.Context(), "", args...)
		require.Zero(t, code)
		require.Contains(t, stdout, "bootimage")
		require.Empty(t, stderr)
	}
}
