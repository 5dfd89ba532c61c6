package payload_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// verbs are all that read images, each with the component or release image
// that it cannot do without; what they give before an error is output. before
// is a release with another node image.
func verbs(r, before *payload.Release) map[string]struct {
	image string // component, "": the release
	run   func(t *testing.T, src payload.Images, dir string) (output any, err error)
} {
	type verb = struct {
		image string
		run   func(t *testing.T, src payload.Images, dir string) (output any, err error)
	}
	nothing := func(v any, isNil bool) any {
		if isNil {
			return nil
		}
		return v
	}
	return map[string]verb{
		"open": {"", func(t *testing.T, src payload.Images, _ string) (any, error) {
			got, err := payload.Open(t.Context(), src, r.Pullspec(), nil)
			return nothing(got, got == nil), err
		}},
		"assemble from a release": {"", func(t *testing.T, src payload.Images, _ string) (any, error) {
			got, err := payload.Assemble(t.Context(), src, &payload.Spec{FromRelease: r.Pullspec()}, nil)
			return nothing(got, got == nil), err
		}},
		"assemble an operator": {"op", func(t *testing.T, src payload.Images, _ string) (any, error) {
			got, err := payload.Assemble(t.Context(), src, &payload.Spec{FromRelease: r.Pullspec(), Version: "4.20.0-x.1", Created: testTime}, nil)
			return nothing(got, got == nil), err
		}},
		"packages": {"stream-coreos", func(t *testing.T, src payload.Images, _ string) (any, error) {
			got, err := r.Packages(t.Context(), src, nil)
			return nothing(got, got == nil), err
		}},
		"packages from a database": {"fedora-coreos", func(t *testing.T, src payload.Images, dir string) (any, error) {
			got, err := r.Packages(t.Context(), src, &payload.PackagesOptions{Component: "fedora-coreos", TempDir: t.TempDir()})
			return nothing(got, got == nil), err
		}},
		"compare node images": {"stream-coreos", func(t *testing.T, src payload.Images, _ string) (any, error) {
			got, err := payload.CompareOS(t.Context(), src, before, r, &payload.CompareOSOptions{TempDir: t.TempDir()})
			return nothing(got, got == nil), err
		}},
		"tools": {"cli", func(t *testing.T, src payload.Images, dir string) (any, error) {
			got, err := r.Tools(t.Context(), src, dir, nil)
			return nothing(got, got == nil), err
		}},
	}
}

// A registry that serves forged bytes under the right digest: every verb
// refuses them, in every place where they could come from, and has given
// nothing before.
func TestForgedEverywhere(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	w.plain(t, "stream-coreos-extensions", nil)
	was := tarOf(t, entry{name: "usr/share/openshift/base/meta.json", data: `{"rpmdb.pkglist":[["a","0","0","1","x"]]}`})
	w.put(t, "stream-coreos", imageSpec{labels: map[string]string{"io.openshift.metalayer": "true"}, layers: [][]byte{was}})
	_, before := w.must(t, w.spec(), nil)
	meta := tarOf(t, entry{name: "usr/share/openshift/base/meta.json", data: `{"rpmdb.pkglist":[["a","0","1","1","x"]]}`})
	w.put(t, "stream-coreos", imageSpec{labels: map[string]string{"io.openshift.metalayer": "true"}, layers: [][]byte{meta}})
	w.put(t, "fedora-coreos", imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/share/rpm/rpmdb.sqlite", data: "SQLite format 3\x00"})}})
	w.put(t, "cli", imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/bin/oc", data: string(program(t, 1))})}})
	_, r := w.must(t, w.spec(), nil)

	forgeries := map[string]func(t *testing.T, img v1.Image) v1.Image{
		"manifest":      func(t *testing.T, img v1.Image) v1.Image { return liar{Image: img, manifest: forgedManifest(t, img)} },
		"configuration": func(t *testing.T, img v1.Image) v1.Image { return liar{Image: img, config: []byte(`{"rootfs":{}}`)} },
		"last layer": func(t *testing.T, img v1.Image) v1.Image {
			layers, err := img.Layers()
			require.NoError(t, err)
			rc, err := layers[len(layers)-1].Uncompressed()
			content := readAll(t, rc, err)
			// The same files with a byte changed, well compressed.
			content[512] ^= 1
			forged, err := makeImage(t, imageSpec{layers: [][]byte{content}}).Layers()
			require.NoError(t, err)
			return liar{Image: img, layer: forged[0]}
		},
	}
	for verbName, verb := range verbs(r, before) {
		for forgery, forge := range forgeries {
			t.Run(verbName+"/"+forgery, func(t *testing.T) {
				h := r.Digest
				if verb.image != "" {
					ref, err := r.Image(verb.image)
					require.NoError(t, err)
					h = mustHash(t, ref.DigestStr())
				}
				good := w.images[h]
				defer func() { w.images[h] = good }()
				w.images[h] = forge(t, good)
				// Asked for as whole images, and for manifests and blobs one by one.
				for _, src := range []payload.Images{w, &direct{memory: w.memory}} {
					dir := t.TempDir()
					output, err := verb.run(t, src, dir)
					require.ErrorIs(t, err, payload.ErrDigest)
					require.Nil(t, output)
					require.Empty(t, readDir(t, dir))
				}
			})
		}
	}
	for forgery, forge := range forgeries {
		if forgery == "last layer" {
			continue // layers are not read
		}
		ref, err := r.Image("cli")
		require.NoError(t, err)
		h := mustHash(t, ref.DigestStr())
		good := w.images[h]
		w.images[h] = forge(t, good)
		_, err = r.Components(t.Context(), w, nil)
		require.ErrorIs(t, err, payload.ErrDigest)
		require.ErrorContains(t, err, "component cli")
		w.images[h] = good
	}
}

func forgedManifest(t *testing.T, img v1.Image) []byte {
	t.Helper()
	raw, err := img.RawManifest()
	require.NoError(t, err)
	return append(raw, ' ')
}

// What is missing is named, all of it, and what is cancelled says so.
func TestVerbsMissing(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "cli", nil)
	w.plain(t, "tests", nil)
	_, r := w.must(t, w.spec(), nil)
	for _, tag := range []string{"cli", "tests"} {
		ref, err := r.Image(tag)
		require.NoError(t, err)
		delete(w.images, mustHash(t, ref.DigestStr()))
	}
	_, err := r.Components(t.Context(), w, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "component cli")
	require.ErrorContains(t, err, "component tests")
	_, err = r.Tools(t.Context(), w, t.TempDir(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Components(ctx, w, nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Tools(ctx, w, t.TempDir(), nil)
	require.ErrorIs(t, err, context.Canceled)
}

// Nothing depends on the machine's settings.
func TestSameEverywhere(t *testing.T) {
	w := newWorld(t)
	w.put(t, "cli", imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/bin/oc", data: string(program(t, 1))})}})
	w.put(t, "cli-artifacts", imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/share/openshift/windows/oc.exe", data: string(program(t, 2)), modTime: time.Unix(1700000000, 0).In(time.FixedZone("x", 3600))})}})
	_, r := w.must(t, w.spec(), nil)
	run := func() map[string]string {
		dir := t.TempDir()
		_, err := r.Tools(t.Context(), w, dir, nil)
		require.NoError(t, err)
		return readDir(t, dir)
	}
	want := run()
	t.Setenv("TZ", "Asia/Kolkata")
	t.Setenv("LANG", "tr_TR.UTF-8")
	temp := filepath.Join(t.TempDir(), "with blank")
	require.NoError(t, os.Mkdir(temp, 0o755))
	t.Setenv("TMPDIR", temp)
	t.Setenv("GOMAXPROCS", "1")
	require.Equal(t, want, run())
	list, err := os.ReadDir(temp)
	require.NoError(t, err)
	for _, e := range list {
		require.False(t, strings.HasPrefix(e.Name(), "payload-"), "nothing is left behind")
	}
}
