package payload_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

// readDir gives the files of a folder.
func readDir(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	out := map[string]string{}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(data)
	}
	return out
}

func TestSampleExtract(t *testing.T) {
	r := sampleRelease(t, sampleImages(t), 0)
	raw, normal := t.TempDir(), t.TempDir()
	n, err := r.Extract(t.Context(), raw, nil)
	require.NoError(t, err)
	require.Equal(t, 21, n)
	require.Equal(t, readDir(t, interop.SharedData(t, "payload", "sample", "layer", "release-manifests")), readDir(t, raw))
	_, err = r.Extract(t.Context(), normal, &payload.FilesOptions{Normalised: true})
	require.NoError(t, err)
	require.Equal(t, readDir(t, interop.SharedData(t, "payload", "sample", "extract-to")), readDir(t, normal))

	data, err := r.File("release-metadata")
	require.NoError(t, err)
	require.Equal(t, string(r.Metadata.Raw), string(data))
	data, err = r.File("image-references")
	require.NoError(t, err)
	require.Equal(t, string(r.References.Raw), string(data))
	data, err = r.File("0000_90_cluster-update-keys_configmap.yaml")
	require.NoError(t, err)
	require.Contains(t, string(data), "verifier-public-key-fake")
	_, err = r.File("nothing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFiles(t *testing.T) {
	request := func(name, kind string) string {
		return fmt.Sprintf("apiVersion: cloudcredential.openshift.io/v1\nkind: CredentialsRequest\nmetadata:\n  name: %s\n  annotations: {include.release.openshift.io/self-managed-high-availability: \"true\"}\nspec:\n  providerSpec: {kind: %s}\n", name, kind)
	}
	preview := "# why\nkind: B\nmetadata: {name: b, annotations: {include.release.openshift.io/self-managed-high-availability: \"true\", release.openshift.io/feature-set: TechPreviewNoUpgrade}}\n"
	usual := "kind: A\nmetadata: {name: a, annotations: {include.release.openshift.io/self-managed-high-availability: \"true\"}}\n"
	r, err := openEntries(t, releaseEntries(
		entry{name: "release-manifests/a.yaml", data: usual + "---\n" + preview},
		entry{name: "release-manifests/b.yaml", data: preview},
		entry{name: "release-manifests/c.yaml", data: request("aws", "AWSProviderSpec") + "---\n" + request("gcp", "GCPProviderSpec")},
		entry{name: "release-manifests/readme", data: "x"},
		entry{name: "release-manifests/e.yaml", data: "# nothing\n"},
	)...)
	require.NoError(t, err)
	files := func(opts *payload.FilesOptions) map[string]string {
		out := map[string]string{}
		for f, err := range r.Files(t.Context(), opts) {
			require.NoError(t, err)
			out[f.Name] = string(f.Data)
		}
		return out
	}
	require.Len(t, files(nil), 7)
	require.Equal(t, map[string]string{"a.yaml": usual, "c.yaml": request("aws", "AWSProviderSpec") + "---\n" + request("gcp", "GCPProviderSpec")}, files(&payload.FilesOptions{Cluster: &payload.Cluster{}}))
	require.Equal(t, map[string]string{"a.yaml": usual + "---\n" + preview, "b.yaml": preview, "c.yaml": request("aws", "AWSProviderSpec") + "---\n" + request("gcp", "GCPProviderSpec")},
		files(&payload.FilesOptions{Cluster: &payload.Cluster{FeatureSet: "TechPreviewNoUpgrade"}}))
	require.Len(t, files(&payload.FilesOptions{CredentialsRequests: true}), 1)
	require.Equal(t, map[string]string{"c.yaml": "---\n" + request("gcp", "GCPProviderSpec")}, files(&payload.FilesOptions{Cloud: "gcp"}))
	require.Empty(t, files(&payload.FilesOptions{Cloud: "azure"}))
	normal := files(&payload.FilesOptions{Normalised: true})
	require.Equal(t, "---\nkind: A\nmetadata:\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n  name: a\n---\nkind: B\nmetadata:\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n    release.openshift.io/feature-set: TechPreviewNoUpgrade\n  name: b\n", normal["a.yaml"])
	require.Equal(t, "x", normal["readme"])

	for range r.Files(t.Context(), nil) {
		break // may be left early
	}
	for _, err := range r.Files(t.Context(), &payload.FilesOptions{Cloud: "moon"}) {
		require.ErrorContains(t, err, `cloud "moon" is none of`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Extract(ctx, t.TempDir(), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Extract(t.Context(), filepath.Join(t.TempDir(), "none"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	var e *payload.Error
	require.ErrorAs(t, err, &e)

	broken, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a.yaml", data: "["})...)
	require.NoError(t, err)
	_, err = broken.Extract(t.Context(), t.TempDir(), &payload.FilesOptions{Normalised: true})
	require.ErrorContains(t, err, "manifest a.yaml:1")
	_, err = broken.Extract(t.Context(), t.TempDir(), nil)
	require.NoError(t, err, "as it is")
}

// Names that are no plain file names never reach the disk.
func TestExtractNames(t *testing.T) {
	r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/-rf", data: "x"}, entry{name: "release-manifests/ ", data: "y"}, entry{name: "release-manifests/CON", data: "z"})...)
	require.NoError(t, err)
	dir := t.TempDir()
	_, err = r.Extract(t.Context(), dir, nil)
	require.NoError(t, err)
	require.Len(t, readDir(t, dir), 5)
}

func BenchmarkExtract(b *testing.B) {
	w, size := largeWorld(b)
	_, r := w.must(b, w.spec(), nil)
	for name, opts := range map[string]*payload.FilesOptions{"raw": nil, "normalised": {Normalised: true}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				for f, err := range r.Files(b.Context(), opts) {
					require.NoError(b, err)
					require.False(b, bytes.HasPrefix(f.Data, []byte("~")) || strings.Contains(f.Name, "/"))
				}
			}
		})
	}
}
