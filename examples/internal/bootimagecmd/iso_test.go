package bootimagecmd_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
)

// isoImage is an image like machine-os-images, with an ISO for x86_64.
func isoImage(t *testing.T, iso []byte, sum string) v1.Image {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, file := range []struct{ name, text string }{{"coreos-x86_64.iso", string(iso)}, {"coreos-x86_64.iso.sha256", sum}} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "coreos/" + file.name, Mode: 0o644, Size: int64(len(file.text))}))
		_, err := io.WriteString(w, file.text)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, l)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// isoRelease is a release with a stream that names an ISO, and the image that has
// it.
func isoRelease(t *testing.T, said string, img interface{ Digest() (v1.Hash, error) }) (registry, pullspec string) {
	t.Helper()
	data, err := os.ReadFile("testdata/stream.json")
	require.NoError(t, err)
	stream, err := bootimage.DecodeStream(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, stream.Edit(func(s *streammd.Stream) error {
		s.Architectures["x86_64"].Artifacts["metal"].Formats["iso"].Disk.Sha256 = said
		return nil
	}))
	c, err := bootimage.NewConfigMap("5.0.0-okd-scos.0", stream, nil)
	require.NoError(t, err)
	var manifest bytes.Buffer
	require.NoError(t, c.Encode(&manifest))
	digest, err := img.Digest()
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/release")
	require.NoError(t, err)
	registry, pullspec = releaseIn(t, map[string]string{
		"image-references": fmt.Sprintf(`{"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "5.0.0-okd-scos.0"}, "spec": {"tags": [
			{"name": "machine-os-images", "from": {"kind": "DockerImage", "name": %q}}]}}`, repo.Digest(digest.String())),
		"release-metadata":          `{"kind": "cincinnati-metadata-v0", "version": "5.0.0-okd-scos.0", "previous": []}`,
		bootimage.ConfigMapManifest: manifest.String(),
	})
	r, err := open.Registry(t.Context(), registry, &open.RegistryOptions{NoSync: true})
	require.NoError(t, err)
	switch img := img.(type) {
	case v1.Image:
		_, err = r.WriteImage(t.Context(), repo, img, nil)
	case v1.ImageIndex:
		_, err = r.WriteIndex(t.Context(), repo, img, nil)
	}
	require.NoError(t, err)
	return registry, pullspec
}

// TestPayloadISOOfIndex takes the image of an architecture from a component that
// has several.
func TestPayloadISOOfIndex(t *testing.T) {
	iso := []byte("the bytes of a live ISO")
	bytesSum := sha256.Sum256(iso)
	sum := hex.EncodeToString(bytesSum[:])
	platform := func(arch string) v1.Descriptor {
		return v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}
	}
	index := func(arches ...string) v1.ImageIndex {
		var list []mutate.IndexAddendum
		for _, arch := range arches {
			text := iso
			if arch != "amd64" {
				text = []byte("of " + arch)
			}
			list = append(list, mutate.IndexAddendum{Add: isoImage(t, text, sum), Descriptor: platform(arch)})
		}
		return mutate.AppendManifests(empty.Index, list...)
	}
	find := func(img v1.ImageIndex) []bootimage.Found {
		registry, pullspec := isoRelease(t, sum, img)
		code, stdout, stderr := call(t.Context(), "", "find", "-o=json", "--registry", registry, "--platform=metal", "--format=iso", "release:"+pullspec)
		require.Zero(t, code, stderr)
		var result struct{ Found []bootimage.Found }
		require.NoError(t, json.Unmarshal([]byte(stdout), &result))
		return result.Found
	}
	both := find(index("arm64", "amd64"))
	inside := 0
	for _, f := range both {
		if f.Image != "" {
			inside++
			require.Equal(t, "x86_64", f.Arch)
			require.Equal(t, int64(len(iso)), f.Size)
		}
	}
	require.Equal(t, 1, inside)
	require.Len(t, find(index("s390x")), len(both)-1, "no image of these architectures")
}

func TestPayloadISO(t *testing.T) {
	iso := bytes.Repeat([]byte("the bytes of a live ISO\n"), 10_000)
	bytesSum := sha256.Sum256(iso)
	sum := hex.EncodeToString(bytesSum[:])
	img := isoImage(t, iso, sum)
	registry, pullspec := isoRelease(t, sum, img)
	digest, err := img.Digest()
	require.NoError(t, err)

	code, stdout, stderr := call(t.Context(), "", "find", "-o=json", "--registry", registry, "--platform=baremetal", "--arch=amd64", "release:"+pullspec)
	require.Zero(t, code, stderr)
	var result struct{ Found []bootimage.Found }
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Len(t, result.Found, 2)
	inside := result.Found[1]
	require.Equal(t, "localhost/release@"+digest.String(), inside.Image)
	require.Equal(t, "coreos/coreos-x86_64.iso", inside.Path)
	require.Equal(t, int64(len(iso)), inside.Size)
	require.Equal(t, sum, inside.SHA256)
	require.Equal(t, bootimage.StateAlive, inside.State)
	code, stdout, stderr = call(t.Context(), "", "find", "--registry", registry, "--platform=baremetal", "--arch=x86_64", "--print=image", "release:"+pullspec)
	require.Zero(t, code, stderr)
	require.Equal(t, "localhost/release@"+digest.String()+"\n", stdout)

	dir := t.TempDir()
	code, stdout, stderr = call(t.Context(), "", "download", "-q", "--payload-iso", "--dir", dir, "--registry", registry, "--platform=baremetal", "--arch=x86_64", "release:"+pullspec)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "sha256:"+sum)
	file := filepath.Join(dir, filepath.Base(result.Found[0].URL))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(iso, got))

	// No ISO of another architecture, and none but those.
	code, _, stderr = call(t.Context(), "", "download", "-q", "--payload-iso", "--dir", dir, "--registry", registry, "--platform=aws", "release:"+pullspec)
	require.Equal(t, ui.ExitUsage, code)
	require.Contains(t, stderr, "no live ISO is among what is chosen")
	code, _, stderr = call(t.Context(), "", "download", "-q", "--payload-iso", "--dir", dir, "testdata/stream.json")
	require.Equal(t, ui.ExitUsage, code)
	require.Contains(t, stderr, "no release payload with the component machine-os-images")

	// The ConfigMap says other bytes than are inside.
	other := hex.EncodeToString(make([]byte, 32))
	registry, pullspec = isoRelease(t, other, img)
	empty := t.TempDir()
	code, _, stderr = call(t.Context(), "", "download", "-q", "--payload-iso", "--dir", empty, "--registry", registry, "--platform=baremetal", "--arch=x86_64", "release:"+pullspec)
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stderr, "want "+other)
	entries, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Empty(t, entries)
}
