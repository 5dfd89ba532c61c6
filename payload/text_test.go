package payload_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

// sampleRelease opens a release of the shared data as it was called when oc
// printed what the data has of it.
func sampleRelease(t testing.TB, src *memory, i int) *payload.Release {
	t.Helper()
	ref, err := name.NewTag("127.0.0.1:25118/fake/release:"+samples[i].version, name.Insecure)
	require.NoError(t, err)
	src.tags[ref.Name()] = mustHash(t, samples[i].digest)
	r, err := payload.Open(t.Context(), src, ref, nil)
	require.NoError(t, err)
	return r
}

func sampleText(t testing.TB, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(interop.SharedData(t, append([]string{"payload", "sample"}, elem...)...))
	require.NoError(t, err)
	return string(data)
}

func TestSampleText(t *testing.T) {
	r := sampleRelease(t, sampleImages(t), 0)
	var buf bytes.Buffer
	require.NoError(t, r.WriteText(&buf, nil))
	require.Equal(t, sampleText(t, "info.txt"), buf.String())
}

func TestSampleViews(t *testing.T) {
	src := sampleImages(t)
	r := sampleRelease(t, src, 0)
	components, err := r.Components(t.Context(), src, nil)
	require.NoError(t, err)
	require.Len(t, components, 22)
	for _, c := range components {
		require.Equal(t, r.References.Tag(c.Tag).Pullspec, c.Ref.Name())
	}
	view := func(v payload.View) string {
		var buf bytes.Buffer
		require.NoError(t, r.WriteText(&buf, &payload.TextOptions{View: v, Components: components, Now: sampleTime}))
		_, table, ok := strings.Cut(buf.String(), "\nImages:\n")
		require.True(t, ok)
		return table
	}
	require.Contains(t, view(payload.ViewPullspecs), "\n  cli                       127.0.0.1:25118/fake/content@sha256:6737d7322e46031f6734c5f55a2d9cb8ba7a84858aeb6b21ae670066ea8aa0a9\n")
	require.Contains(t, view(payload.ViewCommits), "https://github.com/openshift/hyperkube")
	require.Contains(t, view(payload.ViewCommitURLs), "https://github.com/openshift/cli/commit/1111111111111111111111111111111111111111\n")
	sizes := view(payload.ViewSize)
	require.Equal(t, 1+22+3, strings.Count(sizes, "\n"), sizes)
	require.Contains(t, sizes, " MB across ")
	require.Error(t, r.WriteText(io.Discard, &payload.TextOptions{View: "other"}))

	info, err := r.Info()
	require.NoError(t, err)
	info.Images = components
	data, err := json.Marshal(info)
	require.NoError(t, err)
	var got struct {
		Images map[string]struct {
			Name, Digest, ContentDigest, MediaType string
			Layers                                 []struct{ Digest string }
			Config                                 struct{ Architecture string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &got))
	require.Len(t, got.Images, 22)
	require.Equal(t, "amd64", got.Images["cli"].Config.Architecture)
	require.Equal(t, "sha256:6737d7322e46031f6734c5f55a2d9cb8ba7a84858aeb6b21ae670066ea8aa0a9", got.Images["cli"].Digest)

	var contents bytes.Buffer
	require.NoError(t, r.WriteContents(t.Context(), &contents))
	require.True(t, strings.HasPrefix(contents.String(), "# image-references\n{\n"))
	require.Equal(t, 21, strings.Count("\n"+contents.String(), "\n# image-references\n")+strings.Count(contents.String(), "\n# release-metadata\n")+strings.Count(contents.String(), "\n# 0000_"))
}

// What components share, counted by hand.
func TestSizes(t *testing.T) {
	w := newWorld(t)
	base, shared := tarOf(t, entry{name: "base", data: strings.Repeat("b", 5000)}), tarOf(t, entry{name: "shared"})
	w.put(t, "one", imageSpec{plain: true, layers: [][]byte{base, shared, tarOf(t, entry{name: "one"})}})
	w.put(t, "two", imageSpec{plain: true, layers: [][]byte{base, shared}})
	w.put(t, "three", imageSpec{plain: true, layers: [][]byte{tarOf(t, entry{name: "other"})}})
	_, r := w.must(t, w.spec(), nil)
	components, err := r.Components(t.Context(), w, &payload.ComponentsOptions{Workers: 2})
	require.NoError(t, err)
	sizes, total, layers := payload.Sizes(components)
	byTag := map[string]payload.Size{}
	for _, s := range sizes {
		byTag[s.Tag] = s
	}
	b, s := int64(len(base)), int64(len(shared))
	require.Equal(t, payload.Size{Tag: "one", Total: b + 2*s, Unique: s, Layers: 3, Base: 2}, byTag["one"])
	require.Equal(t, payload.Size{Tag: "two", Total: b + s, Layers: 2, Base: 2}, byTag["two"])
	require.Equal(t, payload.Size{Tag: "three", Total: s, Unique: s, Layers: 1, Base: 3}, byTag["three"])
	require.Equal(t, b+3*s+byTag[payload.BaseTag].Total, total)
	require.Equal(t, 4+2, layers)

	var buf bytes.Buffer
	require.NoError(t, r.WriteText(&buf, &payload.TextOptions{View: payload.ViewSize, Components: components, Now: testTime.Add(49 * time.Hour)}))
	require.Contains(t, buf.String(), "  NAME                     AGE LAYERS SIZE MB UNIQUE MB BASE\n  cluster-version-operator 2d  2      0.0     0.0       A\n  one                      2d  3      0.0     0.0       B\n")
}

// Text from the payload cannot move the cursor or break the table.
func TestTextHostile(t *testing.T) {
	refs := `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.20.0-test.1"},"spec":{"tags":[{"name":"a","from":{"kind":"DockerImage","name":"x\u001b[2J\n  b\tc"}}]}}`
	r, err := openEntries(t, entry{name: "release-manifests/image-references", data: refs}, releaseEntries()[2])
	require.NoError(t, err)
	for _, view := range []payload.View{payload.ViewDigests, payload.ViewPullspecs, payload.ViewCommits, payload.ViewCommitURLs} {
		var buf bytes.Buffer
		require.NoError(t, r.WriteText(&buf, &payload.TextOptions{View: view}))
		require.NotContains(t, buf.String(), "\x1b")
		require.NotContains(t, buf.String(), "\n  b")
	}
	require.ErrorContains(t, r.WriteText(failWriter{}, nil), "full")
	require.ErrorContains(t, r.WriteContents(t.Context(), failWriter{}), "full")
}

type failWriter struct{}

func (failWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

func TestTextOfFolder(t *testing.T) {
	r, err := payload.OpenFolder(t.Context(), rootOf(t, interop.SharedData(t, "payload", "sample", "layer")))
	require.NoError(t, err)
	var buf bytes.Buffer
	require.NoError(t, r.WriteText(&buf, nil))
	require.NotContains(t, buf.String(), "Pull From")
	require.Contains(t, buf.String(), "Manifests: 19\n\nRelease Metadata:\n")
}
