package buildah_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/buildah"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
)

// script is a program that stands for buildah.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
	return path
}

func TestBuildCallsBuildah(t *testing.T) {
	var out bytes.Buffer
	volume := t.TempDir()
	require.NoError(t, os.Chmod(volume, 0o775|os.ModeSetgid)) // as an fsGroup has it
	root, runRoot := filepath.Join(volume, "r"), filepath.Join(volume, "rr")
	b := &buildah.Builder{
		Program: script(t, `echo "$PWD: $@" >&2; [ "$5" != pull ] && [ "$7" != pull ] || echo 0123abc`), Root: root, RunRoot: runRoot, Driver: "vfs", Isolation: "chroot",
		Volumes: []string{"/a:/b:ro"}, Secrets: []string{"id=yumrepos,src=/s"}, Output: &out,
	}
	from := filepath.Join(t.TempDir(), "base")
	require.NoError(t, b.Build(t.Context(), &container.NodeBuild{
		Containerfile: "/c/Containerfile", Context: "/c", From: from, Args: []string{"A=1", "B=2"}, Labels: []string{"x=y"}, Created: time.Unix(1795608000, 0), Output: "/o",
	}))
	text := out.String()
	require.Contains(t, text, filepath.Dir(from)+": --root "+root+" --runroot "+runRoot+" --storage-driver vfs pull --quiet oci:base\n")
	for _, dir := range []string{root, runRoot} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.ModeDir|0o700, info.Mode(), "the volume's group would own what is in images")
	}
	build := text[strings.Index(text, " build "):]
	for _, want := range []string{
		" --layers --no-cache ", " --format oci ", " --file /c/Containerfile ", " --tag oci:/o ", " --from 0123abc ", " --isolation chroot ", " --timestamp 1795608000 ",
		" --build-arg A=1 --build-arg B=2 ", " --label x=y ", " --volume /a:/b:ro ", " --secret id=yumrepos,src=/s ",
	} {
		require.Contains(t, build, want)
	}
	require.True(t, strings.HasSuffix(build, " /c\n"), build)
}

func TestBuildFails(t *testing.T) {
	n := &container.NodeBuild{Containerfile: "x", Context: ".", Output: "y"}
	var usage *ui.UsageError
	require.ErrorAs(t, (&buildah.Builder{Program: "no-such-buildah"}).Build(t.Context(), n), &usage)

	err := (&buildah.Builder{Program: script(t, "i=0; while [ $i -lt 300 ]; do echo line $i of many >&2; i=$((i+1)); done; echo the last >&2; exit 7")}).Build(t.Context(), n)
	require.ErrorContains(t, err, "exit status 7: …")
	require.ErrorContains(t, err, "the last")
	require.Less(t, len(err.Error()), 2200)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, (&buildah.Builder{Program: script(t, "true")}).Build(ctx, n), context.Canceled)
}

func TestBuildsWithBuildah(t *testing.T) {
	interop.Peer(t, "buildah")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM scratch\nARG A\nLABEL a=${A}\nCOPY Containerfile /file\n"), 0o600))
	b := &buildah.Builder{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "vfs", Isolation: "chroot"}
	require.NoError(t, b.Build(t.Context(), &container.NodeBuild{
		Containerfile: filepath.Join(dir, "Containerfile"), Context: dir, Args: []string{"A=$1 \"2\""}, Labels: []string{"b=$2"}, Created: time.Unix(1795608000, 0), Output: filepath.Join(dir, "out"),
	}))
	index, err := layout.ImageIndexFromPath(filepath.Join(dir, "out"))
	require.NoError(t, err)
	m, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, m.Manifests, 1)
	img, err := index.Image(m.Manifests[0].Digest)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": `$1 "2"`, "b": "$2"}, config.Config.Labels)
	require.EqualValues(t, 1795608000, config.Created.Unix())
}
