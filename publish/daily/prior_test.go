package daily_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/stream"
)

// install gives the world packages in Debian's form, "name version" each, with
// a file of its own.
func (w *world) install(packages ...string) {
	var status strings.Builder
	for _, p := range packages {
		name, version, _ := strings.Cut(p, " ")
		status.WriteString("Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n")
		w.files["usr/share/"+name] = &fstest.MapFile{Data: []byte(name + version), Mode: 0o644}
		w.files["var/lib/dpkg/info/"+name+".list"] = &fstest.MapFile{Data: []byte("/usr/share/" + name + "\n"), Mode: 0o644}
	}
	w.files["var/lib/dpkg/status"] = &fstest.MapFile{Data: []byte(status.String()), Mode: 0o644}
}

// A gate of kind regression holds a build back that has an older systemd.
func TestGateRegression(t *testing.T) {
	w := newWorld(t)
	w.def.Gates = append(w.def.Gates, stream.Gate{Name: "packages", Kind: stream.GateRegression})
	w.install("systemd 252.38-1", "runc 1.1.5-1", "nano 7.2-1")
	first, err := w.run(t.Context())
	require.NoError(t, err)
	require.Contains(t, first.Published.Gates, "packages")

	w.install("systemd 252.38~rc1-1", "runc 1.1.5-1")
	w.opts.Time = w.opts.Time.Add(24 * time.Hour)
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, daily.ErrRejected)
	require.ErrorIs(t, err, container.ErrRegression)
	require.ErrorContains(t, err, "systemd: packages regress: downgraded, was 252.38-1, is 252.38~rc1-1")
	reports, err := filepath.Glob(filepath.Join(w.env.State, "*", "regression.md"))
	require.NoError(t, err)
	require.Len(t, reports, 2)
	text, err := os.ReadFile(reports[1])
	require.NoError(t, err)
	require.Contains(t, string(text), "| nano | 7.2-1 |  |")

	// The next build is compared with the last that was finished, not with that.
	w.install("systemd 252.39-1", "runc 1.1.5-1")
	w.opts.Time = w.opts.Time.Add(24 * time.Hour)
	third, err := w.run(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first.Build, third.Build)
}

// Where the node image is another than the base image, it is its packages that
// count.
func TestGateRegressionOfNodeImages(t *testing.T) {
	w := newWorld(t)
	w.def.Gates = append(w.def.Gates, stream.Gate{Name: "packages", Kind: stream.GateRegression})
	repo, err := name.NewRepository("example.org/okd/testos")
	require.NoError(t, err)
	node := func(list string) name.Reference {
		img := image(t, map[string]string{"io.openshift.build.versions": "machine-os=9.0.0"}, map[string]string{"extensions": ""})
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			var buf bytes.Buffer
			tw := tar.NewWriter(&buf)
			require.NoError(t, tw.WriteHeader(&tar.Header{Name: "usr/share/openshift/base/meta.json", Mode: 0o644, Size: int64(len(list))}))
			_, err := io.WriteString(tw, list)
			require.NoError(t, err)
			require.NoError(t, tw.Close())
			return io.NopCloser(&buf), nil
		})
		require.NoError(t, err)
		img, err = mutate.AppendLayers(img, layer)
		require.NoError(t, err)
		config, err := img.ConfigFile()
		require.NoError(t, err)
		config = config.DeepCopy()
		config.Config.Labels["io.openshift.metalayer"] = "true"
		img, err = mutate.ConfigFile(img, config)
		require.NoError(t, err)
		desc, err := w.registry.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		return repo.Digest(desc.Digest.String())
	}
	w.opts.Node = node(`{"rpmdb.pkglist":[["cri-o","0","1.33.4","1.el10","x86_64"]]}`)
	_, err = w.run(t.Context())
	require.NoError(t, err)
	w.opts.Time = w.opts.Time.Add(24 * time.Hour)
	w.opts.Node = node(`{"rpmdb.pkglist":[["cri-o","0","1.33.3","9.el10","x86_64"]]}`)
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, container.ErrRegression)
	require.ErrorContains(t, err, "was 1.33.4-1.el10, is 1.33.3-9.el10")
}

// A build's base image is split like the one before: what was together stays
// together.
func TestSplitIsKept(t *testing.T) {
	w := newWorld(t)
	packages := make([]string, 40)
	for i := range packages {
		packages[i] = "package" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + " 1.0"
	}
	w.install(packages...)
	w.opts.MaxLayers = 10
	split := func(s *daily.Summary) container.Split {
		ref, err := name.NewDigest(s.Base.Reference)
		require.NoError(t, err)
		img, err := w.registry.Image(t.Context(), ref)
		require.NoError(t, err)
		split, err := container.SplitOf(img)
		require.NoError(t, err)
		return split
	}
	build := func() *daily.Summary {
		s, err := w.run(t.Context())
		require.NoError(t, err)
		w.opts.Time = w.opts.Time.Add(24 * time.Hour)
		return s
	}
	first := split(build()) // has nothing to keep to
	packages[0] = strings.Replace(packages[0], "1.0", "1.1", 1)
	w.install(packages...)
	second := build()
	before := split(second)
	require.NotEqual(t, first, before) // such a system is cheap to split better
	w.install(append(packages, "another 1.0")...)
	third := build()
	for _, layer := range split(third) {
		layer = slices.DeleteFunc(slices.Clone(layer), func(n string) bool { return n == "another" })
		require.True(t, len(layer) == 0 || slices.ContainsFunc(before, func(old []string) bool { return slices.Equal(layer, old) }), layer)
	}
	// It is an input, so that going on with a build does not ask again.
	data, err := os.ReadFile(filepath.Join(w.env.State, third.Build, "inputs.json"))
	require.NoError(t, err)
	var in daily.Inputs
	require.NoError(t, json.Unmarshal(data, &in))
	require.Equal(t, before, in.Split)
}
