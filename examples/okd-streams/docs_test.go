package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// TestDocs runs every command of the pages in docs as it is written there, a
// page at a time from top to bottom, and looks for the output that is shown.
// What the pages say is published is made here, of small real parts, and found
// where registries.conf says that quay.io is mirrored.
func TestDocs(t *testing.T) {
	for _, peer := range []string{"buildah", "skopeo", "gpg", "curl"} {
		interop.Peer(t, peer)
	}
	bin := t.TempDir()
	install := exec.CommandContext(t.Context(), "go", "install", "../../examples/okd-streams")
	install.Env = append(os.Environ(), "GOBIN="+bin)
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)
	conf := published(t)

	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			commands := shown(t, string(text))
			if len(commands) == 0 {
				t.Logf("%s shows no commands", page)
				return
			}
			home := t.TempDir()
			script := exec.CommandContext(t.Context(), "bash", "-c", bashOf(commands))
			script.Dir = t.TempDir()
			script.Env = []string{
				"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "GNUPGHOME=" + filepath.Join(home, "gnupg"), "LC_ALL=C.UTF-8",
				"OKD_STREAMS_REGISTRIES_CONF=" + conf,
				"OKD_STREAMS_BUILDAH_DRIVER=vfs", "OKD_STREAMS_BUILDAH_ISOLATION=chroot", "OKD_STREAMS_BUILDAH_STORAGE=" + filepath.Join(home, "storage"),
			}
			out, err := script.CombinedOutput()
			require.NoError(t, err, "%s", out)
			said := strings.Split(string(out), marker)
			require.Len(t, said, len(commands)+1)
			for i, c := range commands {
				require.Regexp(t, c.want(), said[i+1]+"\n", "%s: $ %s", page, c.text)
			}
		})
	}
}

// command is one that a page shows, with the output that it shows.
type command struct {
	text  string
	lines []string
}

// marker stands before the output of each command.
const marker = "\n--- next command ---\n"

// bashOf runs commands one after the other in one shell.
func bashOf(commands []command) string {
	var b strings.Builder
	b.WriteString("set -e -o pipefail\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "printf %%s '%s'\n%s\n", marker, c.text)
	}
	return b.String()
}

// want matches output that has the lines shown, in order. "…" stands for
// anything within a line, a line of "..." for any lines.
func (c command) want() *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s)")
	for _, line := range c.lines {
		if strings.TrimSpace(line) == "..." {
			b.WriteString(".*")
			continue
		}
		parts := strings.Split(strings.TrimRight(line, " "), "…")
		for i, p := range parts {
			parts[i] = strings.Join(strings.Fields(p), " ")
			parts[i] = strings.ReplaceAll(regexp.QuoteMeta(parts[i]), " ", `[ \t]+`)
		}
		b.WriteString(`[ \t]*` + strings.Join(parts, `[^\n]*?`) + `[ \t]*\n.*?`)
	}
	return regexp.MustCompile(b.String())
}

// shown gives the commands of a page: lines after "$ " in its console blocks,
// with those that go on after a backslash or until the end of a here document.
func shown(t *testing.T, page string) []command {
	t.Helper()
	var all []command
	var end string // of what goes on
	inside := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			require.Empty(t, end, "a command does not end")
			inside = line == "```console"
		case !inside:
		case end != "":
			all[len(all)-1].text += "\n" + line
			if end == `\` && !strings.HasSuffix(line, `\`) || line == end {
				end = ""
			}
		case strings.HasPrefix(line, "$ "):
			text := strings.TrimPrefix(line, "$ ")
			all = append(all, command{text: text})
			if _, word, ok := strings.Cut(text, "<<"); ok {
				end = strings.Trim(strings.Fields(word)[0], "'")
			} else if strings.HasSuffix(text, `\`) {
				end = `\`
			}
		default:
			require.NotEmpty(t, all, "output before any command")
			all[len(all)-1].lines = append(all[len(all)-1].lines, line)
		}
	}
	return all
}

// published makes what the pages say that OKD published, and gives the
// registries.conf by which it is found.
func published(t *testing.T) (conf string) {
	t.Helper()
	server, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	host := strings.TrimPrefix(listener.URL, "http://")
	dir := t.TempDir()
	conf = filepath.Join(dir, "registries.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "[[registry]]\nprefix = \"quay.io/okd\"\nlocation = %q\ninsecure = true\n", host+"/okd"), 0o600))

	// A daily build of the sample makes a node image that is an OS.
	code, _, stderr := call(t, "build", "--state", filepath.Join(dir, "state"), "--registry", "docker://"+host+"/okd", "--quiet")
	require.Zero(t, code, stderr)
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository(host + "/okd/scos-content")
	require.NoError(t, err)
	components, err := sample.Components(t.Context(), registry, repo)
	require.NoError(t, err)
	for component, image := range map[string]string{"stream-coreos": "sample-coreos", "stream-coreos-extensions": "sample-coreos-extensions"} {
		ref, err := name.ParseReference(host + "/okd/" + image + ":latest")
		require.NoError(t, err)
		components[component] = copied(t, registry, ref, repo)
	}
	components["installer"] = installer(t, registry, repo)
	content, err := name.NewRepository("quay.io/okd/scos-content")
	require.NoError(t, err)
	releases, err := name.NewRepository(host + "/okd/scos-release")
	require.NoError(t, err)
	previous := []string{}
	for _, version := range []string{"4.20.0-okd-scos.17", "4.21.0-okd-scos.1", "4.21.0-okd-scos.2"} {
		built, err := payload.Assemble(t.Context(), registry, &payload.Spec{
			Version: version, Components: components, Include: []string{"stream-coreos", "stream-coreos-extensions"}, Created: sample.Epoch, Previous: previous, Mirror: content,
		}, &payload.AssembleOptions{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}})
		require.NoError(t, err)
		_, err = registry.WriteImage(t.Context(), releases, built.Image, nil)
		require.NoError(t, err)
		require.NoError(t, registry.Tag(t.Context(), releases.Tag(version), built.Digest))
		previous = append(previous, version)
	}
	return conf
}

// installer is a component that brings the ConfigMap of boot images.
func installer(t *testing.T, registry publish.Registry, repo name.Repository) name.Reference {
	t.Helper()
	const document = `{"stream": "scos", "metadata": {"last-modified": "2026-01-01T00:00:00Z"}, "architectures": {"x86_64": {"artifacts": {"metal": {"release": "9.0.20260101-0",
    "formats": {"iso": {"disk": {"location": "https://files.example/9.0.20260101-0/x86_64/scos-9.0.20260101-0-live-iso.x86_64.iso", "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}}}}}}}}`
	manifests := map[string]string{
		"manifests/0000_50_installer_coreos-bootimages.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coreos-bootimages, namespace: openshift-machine-config-operator}\ndata:\n  stream: '" + document + "'\n",
		"manifests/image-references":                         `{"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "spec": {"tags": []}}`,
	}
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for _, path := range slices.Sorted(maps.Keys(manifests)) {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(manifests[path]))}))
		_, err := tw.Write([]byte(manifests[path]))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer))
	require.NoError(t, err)
	img, err = mutate.Config(img, v1.Config{Labels: map[string]string{"io.openshift.release.operator": "true"}})
	require.NoError(t, err)
	written, err := registry.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	return repo.Digest(written.Digest.String())
}

// copied brings an image into another repository.
func copied(t *testing.T, registry publish.Registry, from name.Reference, to name.Repository) name.Reference {
	t.Helper()
	img, err := registry.Image(t.Context(), from)
	require.NoError(t, err)
	written, err := registry.WriteImage(t.Context(), to, img, nil)
	require.NoError(t, err)
	return to.Digest(written.Digest.String())
}
