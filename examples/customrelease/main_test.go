package main

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

func image(t *testing.T, labels map[string]string, file, text string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	require.NoError(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Size: int64(len(text)), ModTime: time.Unix(1700000000, 0)}))
	_, err := io.WriteString(tw, text)
	require.NoError(t, err)
	require.NoError(t, tw.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	img, err = mutate.Config(img, v1.Config{Labels: labels})
	require.NoError(t, err)
	return img
}

func TestRun(t *testing.T) {
	published, mine := t.TempDir(), t.TempDir()
	registry, err := layoutregistry.Open(t.Context(), published, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	repo, err := name.NewRepository("registry.example.com/okd/release")
	require.NoError(t, err)
	push := func(img v1.Image) name.Digest {
		desc, err := registry.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		return repo.Digest(desc.Digest.String())
	}
	system := func(version string) name.Digest {
		return push(image(t, map[string]string{"ostree.bootable": "true", "org.opencontainers.image.version": version}, "usr/lib/os-release", version))
	}
	built, err := payload.Assemble(t.Context(), registry, &payload.Spec{
		Version: "4.20.0-okd-scos.1", Created: time.Unix(1795600000, 0).UTC(), Components: map[string]name.Reference{
			"cluster-version-operator": push(image(t, nil, "usr/bin/cvo", "x")), "stream-coreos": system("9.0.1"),
			"op": push(image(t, map[string]string{payload.LabelOperator: "true"}, "manifests/a.yaml", "kind: A\napiVersion: v1\nmetadata: {name: a}\n")),
		},
	}, nil)
	require.NoError(t, err)
	release, own := push(built.Image), system("9.0.2")

	call := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := ui.Exit(&stderr, "customrelease", run(t.Context(), args, &stdout, &stderr))
		return code, stdout.String(), stderr.String()
	}
	args := []string{"-from", "dir:" + published, "-release", release.Name(), "-version", "4.20.0-mine.1", "-into", "dir:" + mine}
	code, stdout, stderr := call(append(args, "stream-coreos="+own.Name())...)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "Name:      4.20.0-mine.1\n")
	require.Contains(t, stdout, "  stream-coreos            "+own.Name()+"\n")
	require.Contains(t, stdout, "\nPull From: localhost/okd/release@sha256:")

	code, stdout, stderr = call(append(args, "stream-coreos="+repo.Name()+":latest")...)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "component stream-coreos: registry.example.com/okd/release:latest has no digest")
	require.Empty(t, stdout)
	for _, wrong := range [][]string{nil, {"-x"}, args, append(args, "nonsense"), {"-release", "!", "-version", "1.0.0", "a=b"}, append(args, "-to", "!", "a=b")} {
		code, _, _ = call(wrong...)
		require.Equal(t, ui.ExitUsage, code, wrong)
	}
	code, _, stderr = call("-h")
	require.Zero(t, code)
	require.Contains(t, stderr, "-into")
}
