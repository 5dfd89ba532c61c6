package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	code = ui.Exit(&diagnostics, "release", run(t.Context(), args, &out, &diagnostics))
	return code, out.String(), diagnostics.String()
}

// TestSample makes payloads and a key itself.
func TestSample(t *testing.T) {
	to := filepath.Join(t.TempDir(), "out")
	code, stdout, stderr := call(t, "-to", to)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "4.22.0-okd-scos.0 of 4.22.0-0.okd-scos-")
	require.Contains(t, stdout, "4.22.0-okd-scos.1 of 4.22.0-0.okd-scos-")
	page, err := os.ReadFile(filepath.Join(to, "index.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "<code>4.22.0-okd-scos.1</code>")
	require.Contains(t, string(page), "Nothing to say against a release.")
	require.Contains(t, string(page), "✓ signed")
}

// TestRelease takes a folder of payloads: what comes out is what clusters and
// people need, and a second run finds it done.
func TestRelease(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	folder, to := filepath.Join(dir, "registry"), filepath.Join(dir, "out")
	registry, err := layoutregistry.Open(ctx, folder, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	repo, err := name.NewRepository("registry.example.com/okd/payload")
	require.NoError(t, err)
	const first, second = "4.21.0-0.okd-scos-2026-01-05-000000", "4.22.0-0.okd-scos-2026-01-06-000000"
	for i, version := range []string{second, first} {
		_, err := sample.Release(ctx, registry, repo, version, sample.Epoch.AddDate(0, 0, i))
		require.NoError(t, err)
	}
	secret, public, err := sample.Key()
	require.NoError(t, err)
	key, ring := filepath.Join(dir, "secret"), filepath.Join(dir, "public")
	require.NoError(t, os.WriteFile(key, secret, 0o600))
	require.NoError(t, os.WriteFile(ring, public, 0o600))

	args := []string{"-registry", "dir:" + folder, "-payloads", repo.Name(), "-to", to, "-key", key, "-public", ring}
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	lines := strings.Split(stdout, "\n")
	require.True(t, strings.HasPrefix(lines[0], "4.21.0-okd-scos.0 of "+first+": registry.example.com/okd/release@sha256:"), stdout)
	require.True(t, strings.HasPrefix(lines[1], "4.22.0-okd-scos.0 of "+second+": "), stdout)

	// The release is signed by its digest and name.
	keys, err := pgpsigner.ParseKeyring(public)
	require.NoError(t, err)
	tag, err := name.NewTag("registry.example.com/okd/release:4.22.0-okd-scos.0")
	require.NoError(t, err)
	r, err := payload.Open(ctx, registry, tag, nil)
	require.NoError(t, err)
	require.Equal(t, "4.22.0-okd-scos.0", r.Version())
	require.Equal(t, []string{"4.21.0-okd-scos.0"}, r.Metadata.Previous, "promoted ones, not payloads")
	policy := &payload.Policy{Keyrings: map[string]*payload.Keyring{"okd": keys}, Stores: []payload.SignatureStore{payload.FileSignatures(os.DirFS(filepath.Join(to, "signatures")))}}
	_, err = policy.Verify(ctx, r.Pullspec(), r.References.Created)
	require.NoError(t, err)

	// Notes and graph.
	notes, err := os.ReadFile(filepath.Join(to, "releases", "stable", "4.22.0-okd-scos.0", "release-notes.txt"))
	require.NoError(t, err)
	require.Contains(t, string(notes), "4.21.0-okd-scos.0")
	served, err := os.Open(filepath.Join(to, "graph", "stable-4.22", "amd64", "graph"))
	require.NoError(t, err)
	defer served.Close()
	g, err := graph.Decode(served)
	require.NoError(t, err)
	require.Equal(t, r.Digest, digest(t, g.Nodes[g.Index("4.22.0-okd-scos.0")].Payload))
	_, err = os.Stat(filepath.Join(to, "graph.svg"))
	require.NoError(t, err)

	code, again, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	require.Equal(t, stdout, again)
}

func digest(t *testing.T, pullSpec string) v1.Hash {
	ref, err := name.NewDigest(pullSpec)
	require.NoError(t, err)
	h, err := v1.NewHash(ref.DigestStr())
	require.NoError(t, err)
	return h
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	secret, public, err := sample.Key()
	require.NoError(t, err)
	_, other, err := sample.Key()
	require.NoError(t, err)
	files := map[string]string{}
	for file, data := range map[string][]byte{"secret": secret, "public": public, "other": other} {
		files[file] = filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(files[file], data, 0o600))
	}
	for i, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-x"}, 2, "-x"},
		{[]string{"-payloads", "!"}, 2, "!"},
		{[]string{"-registry", "dir:" + filepath.Join(dir, "empty")}, 1, "no such file"},
		{[]string{"-registry", "dir:" + filepath.Join(dir, "empty"), "-key", files["secret"], "-public", files["public"]}, 1, "localhost/okd/payload"},
		{[]string{"-key", files["secret"], "-public", files["other"]}, 1, "sign"},
		{[]string{"-key", files["public"], "-public", files["public"]}, 1, "sign"},
	} {
		code, _, stderr := call(t, append(tc.args, "-to", filepath.Join(dir, fmt.Sprint(i)))...)
		require.Equal(t, tc.code, code, stderr)
		require.Contains(t, stderr, tc.want)
	}
	code, _, stderr := call(t, "-h")
	require.Zero(t, code)
	require.Contains(t, stderr, "-registry")
}
