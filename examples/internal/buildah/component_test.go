package buildah_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/buildah"
	"github.com/okd-project/okd-streams/publish/components"
)

func TestBuildComponentCallsBuildah(t *testing.T) {
	var out bytes.Buffer
	b := &buildah.Builder{Program: script(t, `echo "$PWD: $@" >&2; [ "$1" != pull ] || echo 0123abc`), Isolation: "chroot", Volumes: []string{"/a:/b:ro"}, Output: &out}
	base := filepath.Join(t.TempDir(), "base")
	require.NoError(t, b.BuildComponent(t.Context(), &components.Build{
		Component: "x", Containerfile: "/w/Containerfile", Context: "/c", Bases: []components.Base{{Name: "localhost/base:1", Layout: base}},
		Args: []string{"A=1"}, Labels: []string{"x=y"}, Platform: v1.Platform{OS: "linux", Architecture: "s390x"}, Created: time.Unix(1795608000, 0), Output: "/o",
	}))
	text := out.String()
	require.Contains(t, text, filepath.Dir(base)+": pull --quiet oci:base\n")
	require.Contains(t, text, ": tag 0123abc localhost/base:1\n")
	build := text[strings.Index(text, " build "):]
	for _, want := range []string{
		" --pull=never ", " --no-cache ", " --format oci ", " --file /w/Containerfile ", " --tag oci:/o ", " --timestamp 1795608000 ", " --platform linux/s390x ", " --isolation chroot ",
		" --build-arg A=1 ", " --label x=y ", " --volume /a:/b:ro ",
	} {
		require.Contains(t, build, want)
	}
	require.NotContains(t, build, "--layers")
	require.True(t, strings.HasSuffix(build, " /c\n"), build)

	b.Program = script(t, `[ "$1" != tag ] || { echo no >&2; exit 3; }`)
	require.ErrorContains(t, b.BuildComponent(t.Context(), &components.Build{Bases: []components.Base{{Name: "x", Layout: base}}}), "tag: exit status 3: no")
}
