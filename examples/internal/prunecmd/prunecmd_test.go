package prunecmd_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/prunecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// call runs `okd-streams prune` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := prunecmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

// shop is a store with an old build and a new one, and a policy.
func shop(t *testing.T) (dir string, args []string) {
	t.Helper()
	dir = t.TempDir()
	meta := func(made string) string {
		return `{"buildid":"x","name":"scos","ostree-commit":"` + strings.Repeat("a", 64) + `","ostree-timestamp":"` + made + `","ostree-version":"9.0","amis":[{"name":"us-east-1","hvm":"ami-1"}],"images":{"qemu":{"path":"q.qcow2","sha256":"` + strings.Repeat("b", 64) + `"}}}`
	}
	for name, text := range map[string]string{
		"store/builds/builds.json":              `{"schema-version":"1.0.0","builds":[{"id":"9.0.2-0","arches":["x86_64"]},{"id":"9.0.1-0","arches":["x86_64"]}]}`,
		"store/builds/9.0.1-0/x86_64/meta.json": meta("2026-01-01T00:00:00Z"),
		"store/builds/9.0.1-0/x86_64/q.qcow2":   strings.Repeat("q", 2048),
		"store/builds/9.0.2-0/x86_64/meta.json": meta("2026-11-25T00:00:00Z"),
		"store/builds/other/x":                  "x",
		"policy.yaml":                           "scos:\n  images: 1m\n  cloud-uploads: 1m\nfcos:\n  build: 2m\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir, []string{"--store", "dir:" + filepath.Join(dir, "store"), "--policy", filepath.Join(dir, "policy.yaml"), "--stream", "scos", "--now", "2026-11-26T00:00:00Z"}
}

func TestPrune(t *testing.T) {
	dir, args := shop(t)
	disk := filepath.Join(dir, "store", "builds", "9.0.1-0", "x86_64", "q.qcow2")
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	require.Equal(t, "nothing was removed; --apply does it\n", stderr)
	require.Contains(t, stdout, "9.0.1-0  images         2.0 KiB  1 files  329 days old")
	require.Contains(t, stdout, "other")
	require.FileExists(t, disk)

	code, stdout, _ = call(t, append(args, "--pin", "9.0.1-0=release 4.21.0")...)
	require.Zero(t, code)
	require.Contains(t, stdout, "release 4.21.0")

	code, plan, stderr := call(t, append(args, "--json")...)
	require.Zero(t, code, stderr)
	file := filepath.Join(dir, "plan.json")
	require.NoError(t, os.WriteFile(file, []byte(plan), 0o644))
	code, _, stderr = call(t, append(args, "--plan", file, "--apply")...)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "removed: images of build 9.0.1-0, 2.0 KiB")
	require.Contains(t, stderr, "left: publish/retention: cloud-uploads of build 9.0.1-0: nobody removes from clouds")
	require.NoFileExists(t, disk)
	catalogue, err := os.ReadFile(filepath.Join(dir, "store", "builds", "builds.json"))
	require.NoError(t, err)
	require.Contains(t, string(catalogue), `"images"`)

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "store", "builds", "other")))
	code, stdout, _ = call(t, append(args, "--policy", filepath.Join(dir, "policy.yaml"), "--stream", "fcos", "--now", "2026-01-02T00:00:00Z")...)
	require.Zero(t, code)
	require.Equal(t, "nothing is old\n", stdout)
}

// Container images go with --registry, but those that something refers to.
func TestImages(t *testing.T) {
	dir, args := shop(t)
	registry, err := layoutregistry.Open(t.Context(), filepath.Join(dir, "registry"), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/scos")
	require.NoError(t, err)
	img, err := random.Image(10, 1)
	require.NoError(t, err)
	desc, err := registry.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	image := repo.Digest(desc.Digest.String())
	meta := filepath.Join(dir, "store", "builds", "9.0.1-0", "x86_64", "meta.json")
	text, err := os.ReadFile(meta)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(meta, []byte(strings.Replace(string(text), `"images"`, `"base-oscontainer":{"image":"`+repo.String()+`","digest":"`+desc.Digest.String()+`"},"images"`, 1)), 0o644))
	for name, text := range map[string]string{
		"policy.yaml":        "scos:\n  containers: 1m\n",
		"store/streams.json": `{"stream":"next","metadata":{"last-modified":"2026-01-02T03:04:05Z"},"architectures":{"x86_64":{"artifacts":{"metal":{"release":"9.0.1-0","formats":{}}}}}}`,
		"store/updates.json": `{"stream":"next","metadata":{"last-modified":"2026-01-02T03:04:05Z"},"releases":[{"version":"9.0.1-0","metadata":{"barrier":{"reason":"https://example.com/1"}}}]}`,
		"graph.json":         `{"nodes":[{"version":"4.21.0","payload":"` + image.String() + `"}],"edges":[]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	args = append(args, "--registry", "dir:"+filepath.Join(dir, "registry"))

	code, stdout, stderr := call(t, append(args, "--keep-graph", filepath.Join(dir, "graph.json"))...)
	require.Equal(t, 1, code, "it is no release")
	require.Contains(t, stderr, "release 4.21.0 of the graph")
	require.Empty(t, stdout)
	code, _, stderr = call(t, append(args, "--keep-release", image.String())...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "release "+image.String())
	for _, more := range [][]string{{"--keep", image.String() + "=promotion of 4.21.0"}, {"--streams", "streams.json"}, {"--updates", "updates.json"}} {
		code, stdout, stderr = call(t, append(append(args, more...), "--apply")...)
		require.Zero(t, code, stderr)
		require.Contains(t, stdout, "stays")
		_, err = registry.Head(t.Context(), image)
		require.NoError(t, err)
	}
	code, _, stderr = call(t, append(args, "--apply")...)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "removed: containers of build 9.0.1-0")
	_, err = registry.Head(t.Context(), image)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFailures(t *testing.T) {
	dir, args := shop(t)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"arguments":  {append(args, "x"), 2, "1 argument"},
		"no store":   {nil, 2, "give --store"},
		"bad store":  {[]string{"--store", "ftp://x"}, 2, "--store"},
		"no policy":  {args[:2], 2, "give --policy FILE and --stream NAME"},
		"stream":     {append(args, "--stream", "none"), 1, "it has fcos, scos"},
		"no file":    {append(args, "--policy", filepath.Join(dir, "none")), 1, "no such file"},
		"bad policy": {append(args, "--policy", filepath.Join(dir, "store", "builds", "builds.json")), 1, "builds.json: "},
		"pin":        {append(args, "--pin", "9.0.1-0"), 2, "BUILD=REASON"},
		"keep":       {append(args, "--keep", "x=y"), 2, "give --registry"},
		"reason":     {append(args, "--registry", "dir:"+dir, "--keep", "x"), 2, "PULLSPEC=REASON"},
		"registry":   {append(args, "--registry", "ftp://x"), 2, "--registry"},
		"graph":      {append(args, "--registry", "dir:"+dir, "--keep-graph", filepath.Join(dir, "none")), 1, "no such file"},
		"streams":    {append(args, "--streams", "none"), 1, "none"},
		"updates":    {append(args, "--updates", "builds/builds.json"), 1, "builds.json"},
		"time":       {append(args, "--now", "today"), 2, "--now"},
		"prefix":     {append(args, "--prefix", "none/"), 1, "none/builds.json"},
		"plan":       {append(args, "--plan", filepath.Join(dir, "policy.yaml")), 1, "publish/retention: plan"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(t, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stderr, test.want)
			require.Empty(t, stdout)
		})
	}
}
