package promotion_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// command runs a program and gives what it prints.
func command(t *testing.T, dir string, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append(env, "LC_ALL=C")...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s %v: %v\n%s", program, args, err, exit.Stderr)
	}
	require.NoError(t, err)
	return string(out)
}

// TestDockerRegistry promotes in a real registry: skopeo reads the release and
// judges its signature, gpg the one of the checksums.
func TestDockerRegistry(t *testing.T) {
	interop.Peer(t, "docker-registry", "skopeo", "gpg", "gpgconf", "sha256sum")
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	w := newWorld(t)
	w.registry, w.host = registry, interop.Registry(t)
	w.published("4.21.0-okd-scos.0")
	w.payload(source, "one")
	s, env := settingsAt(w.host), w.env()
	w.gates["aws"] = publish.GatePending
	_, err = promotion.Promote(t.Context(), env, s, nil)
	require.ErrorIs(t, err, publish.ErrPending)
	w.gates["aws"] = publish.GatePassed
	r, err := promotion.Resume(t.Context(), env, s.Stream, "4.21.0-okd-scos.1")
	require.NoError(t, err)
	require.Equal(t, promotion.Promoted, r.State)

	home, err := os.MkdirTemp("", "gpg") // short enough for its agent's socket
	require.NoError(t, err)
	gnupg := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		require.NoError(t, os.RemoveAll(home))
	})
	command(t, "../pgpsigner/testdata", gnupg, "gpg", "--batch", "--import", "ed.asc")

	// The release, by each of its tags.
	dir := t.TempDir()
	manifest := ""
	for _, tag := range []string{r.Version, "latest", "4.21"} {
		raw := command(t, dir, nil, "skopeo", "inspect", "--tls-verify=false", "--raw", "docker://"+s.Release+":"+tag)
		require.Equal(t, r.Pullspec, s.Release+"@sha256:"+sum([]byte(raw)))
		manifest = raw
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(manifest), 0o600))
	var inspected struct{ Labels map[string]string }
	require.NoError(t, json.Unmarshal([]byte(command(t, dir, nil, "skopeo", "inspect", "--tls-verify=false", "docker://"+r.Pullspec)), &inspected))
	require.Equal(t, r.Version, inspected.Labels[payload.LabelRelease])
	// All of it, and of a component, is there to be copied.
	command(t, dir, nil, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+r.Pullspec, "dir:release")
	command(t, dir, nil, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+s.Content+":"+r.Version+"-x86_64-cli", "dir:cli")

	// Its signature, over this manifest and this name.
	digest := strings.TrimPrefix(r.Pullspec, s.Release+"@")
	signature := w.objects()["signatures/"+payload.SignatureKey(mustHash(t, digest), 1)]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "signature"), []byte(signature), 0o600))
	fingerprint := env.Keys.Fingerprints()[0]
	out := command(t, dir, gnupg, "skopeo", "standalone-verify", "manifest.json", s.Release+":"+r.Version, fingerprint, "signature")
	require.Contains(t, out, digest)
	require.Error(t, exec.CommandContext(t.Context(), "skopeo", "standalone-verify", "manifest.json", s.Release+":4.21.0-okd-scos.0", fingerprint, "signature").Run())

	// The client tools.
	tools := filepath.Join(env.Dir, s.Stream, r.Version, "tools")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sha256sum.txt.asc"), []byte(w.objects()["promotions/4-scos-stable/4.21.0-okd-scos.1/sha256sum.txt.asc"]), 0o600))
	command(t, tools, gnupg, "gpg", "--batch", "--verify", filepath.Join(dir, "sha256sum.txt.asc"), "sha256sum.txt")
	require.Contains(t, command(t, tools, nil, "sha256sum", "--check", "sha256sum.txt"), "openshift-client-linux-4.21.0-okd-scos.1.tar.gz: OK")
}

// TestShadowOfOC replays a release that oc made.
func TestShadowOfOC(t *testing.T) {
	folders := []string{"components-a", "components-b", "release-images"}
	for i, f := range folders {
		folders[i] = interop.SharedData(t, "payload", "sample", f)
	}
	w := newWorld(t)
	// The components are where the payload says, the releases in a repository.
	data, err := os.ReadFile(interop.SharedData(t, "payload", "sample", "info.json"))
	require.NoError(t, err)
	var info struct {
		References struct {
			Spec struct {
				Tags []struct{ From struct{ Name string } }
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &info))
	components, _, _ := strings.Cut(info.References.Spec.Tags[0].From.Name, "@")
	for _, folder := range folders {
		idx, err := layout.ImageIndexFromPath(folder)
		require.NoError(t, err)
		list, err := idx.IndexManifest()
		require.NoError(t, err)
		for _, d := range list.Manifests {
			img, err := idx.Image(d.Digest)
			require.NoError(t, err)
			w.push(components, img)
			if !strings.HasSuffix(folder, "release-images") {
				continue
			}
			ref := w.push(releases, img)
			r, err := payload.Open(t.Context(), w.registry, ref, nil)
			require.NoError(t, err)
			require.NoError(t, w.registry.Tag(t.Context(), ref.Context().Tag(r.Version()), d.Digest))
		}
	}
	readOnly(w)
	s := settings()
	s.Compatible, s.Graph, s.URL, s.Tags, s.Content = true, "", "", nil, components
	env := w.env()
	env.Accepted = nil
	// It is its own source here: what it was made of was an image stream.
	c, err := promotion.Shadow(t.Context(), env, s, &promotion.ShadowOptions{Source: mustRef(releases + ":4.20.0-okd-scos.2").(name.Tag)})
	require.NoError(t, err)
	require.Equal(t, "4.20.0-okd-scos.2", c.Version)
	require.Contains(t, c.Same, promotion.SubjectVersion)
	require.Contains(t, c.Same, promotion.SubjectPrevious)
	require.Contains(t, c.Same, promotion.SubjectImages)
	require.Contains(t, c.Same, promotion.SubjectManifests)
	require.Contains(t, string(c.Notes), "## Changes from 4.20.0-okd-scos.1\n")
	require.Equal(t, []promotion.Unknown{{Subject: promotion.SubjectNotes, Why: "those that were published are not known"}}, c.Unknown)
}
