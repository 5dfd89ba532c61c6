package payloadcmd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// bundled is a release with all that a bundle can have: boot images on a web
// server, a signature, graph data, and an image of that.
type bundled struct {
	*shop
	store, graph string
	requests     *int
}

func newBundled(t *testing.T) *bundled {
	t.Helper()
	b := &bundled{shop: newShop(t), store: t.TempDir(), graph: t.TempDir(), requests: new(int)}
	content := strings.Repeat("boot image ", 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*b.requests++
		http.ServeContent(w, r, "", testTime, strings.NewReader(content))
	}))
	t.Cleanup(server.Close)
	sum := sha256.Sum256([]byte(content))
	stream := `{"stream":"c10s","metadata":{"last-modified":"2026-01-01T00:00:00Z"},"architectures":{"x86_64":{"artifacts":{"metal":{"release":"1","formats":{"iso":{"disk":{"location":"` +
		server.URL + `/c10s-live.x86_64.iso","sha256":"` + hex.EncodeToString(sum[:]) + `"}}}}}}}}`
	folder := t.TempDir()
	write := func(path, data string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
	}
	write(filepath.Join(folder, "image-references"), must(t, "extract", b.from, b.release, "--file=image-references"))
	write(filepath.Join(folder, "keys", "0000_90_keys.yaml"), must(t, "extract", b.from, b.release, "--file=0000_90_keys.yaml"))
	write(filepath.Join(folder, "installer", "0000_50_installer_coreos-bootimages.yaml"),
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: coreos-bootimages\n  namespace: openshift-machine-config-operator\ndata:\n  releaseVersion: 4.20.0\n  stream: |\n    "+stream+"\n")
	made := must(t, "new", b.from, "--folder="+folder, "--include=cli", "--version=4.20.0-bundle.1", "--to="+repo+":bundle", "--into=dir:"+b.dir)
	b.release = strings.Fields(made)[0]
	fixtures := "../../../publish/pgpsigner/testdata/"
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	write(passphrase, "correct horse\n")
	must(t, "sign", b.from, b.release, "--key="+fixtures+"ed.secret.asc", "--passphrase-file="+passphrase, "--to="+b.store)
	write(filepath.Join(b.graph, "version"), "1.0.0\n")
	write(filepath.Join(b.graph, "channels", "stable.yaml"), "name: stable-4.20\nversions:\n- 4.20.0-bundle.1\n")
	write(filepath.Join(b.graph, ".git", "HEAD"), "not carried")
	return b
}

func (b *bundled) args(dir string, more ...string) []string {
	return append([]string{"bundle", b.from, b.release, "--to=" + dir, "--store=" + b.store, "--tools", "--boot-images", "--graph-data=" + b.graph, "--graph-image=" + b.image}, more...)
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, p))
		out[p] = string(data)
		return err
	}))
	return out
}

// All that a site needs goes into one archive and out of it at a site without
// network.
func TestBundle(t *testing.T) {
	b := newBundled(t)
	dir, archive := t.TempDir(), filepath.Join(t.TempDir(), "okd.tar")
	out := must(t, b.args(dir, "--archive="+archive)...)
	sum := strings.Fields(out)[0]
	first, err := os.ReadFile(archive)
	require.NoError(t, err)
	fetched := *b.requests

	// Again: nothing is fetched, and it is the same archive.
	require.Equal(t, out, must(t, b.args(dir, "--archive="+archive)...))
	again, err := os.ReadFile(archive)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(first), sha256.Sum256(again))
	require.Equal(t, fetched, *b.requests)

	key := "../../../publish/pgpsigner/testdata/ed.asc"
	for _, from := range []string{"archive:" + archive, "folder:" + dir} {
		site, target := filepath.Join(t.TempDir(), "site"), t.TempDir()
		got := must(t, "unbundle", "--from="+from, "site.example.com/okd/release", "--into=dir:"+target, "--to="+site, "--key="+key, "--sha256="+sum)
		digest := strings.Split(b.release, "@")[1]
		require.True(t, strings.HasPrefix(got, "site.example.com/okd/release@"+digest+" 4.20.0-bundle.1, "), got)
		require.Contains(t, must(t, "info", "--from=dir:"+target, "site.example.com/okd/release@"+digest, "--include-images"), "Name:      4.20.0-bundle.1\n")
		require.Equal(t, b.image[strings.Index(b.image, "@"):], strings.TrimSpace(mustGraphImage(t, target)))
		have := files(t, site)
		require.Equal(t, strings.Repeat("boot image ", 1000), have["boot-images/c10s-live.x86_64.iso"])
		require.Contains(t, have["boot-images/0000_50_installer_coreos-bootimages.yaml"], "coreos-bootimages")
		require.Contains(t, have["graph-data/channels/stable.yaml"], "4.20.0-bundle.1")
		require.NotContains(t, have, "graph-data/.git/HEAD")
		require.Contains(t, have["tools/sha256sum.txt"], "openshift-client-linux-4.20.0-bundle.1.tar.gz")
		require.Contains(t, have["cluster/digest-mirrors.yaml"], "source: "+repo+"\n")
		require.Contains(t, have["cluster/install-config.yaml"], "site.example.com/okd/release")
		require.Contains(t, have["config/signature-sha256-"+digest[len("sha256:"):][:16]+".json"], `"kind":"ConfigMap"`)
		// Run again it changes nothing.
		require.Equal(t, got, must(t, "unbundle", "--from="+from, "site.example.com/okd/release", "--into=dir:"+target, "--to="+site, "--key="+key))
		require.Equal(t, have, files(t, site))
	}
}

// mustGraphImage gives the digest under the tag of the image with graph data.
func mustGraphImage(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "okd", "release", "index.json"))
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(data), `"graph-data"`)
	if !ok {
		return ""
	}
	before := string(data)[:len(data)-len(after)]
	return "@" + before[strings.LastIndex(before, "sha256:"):][:len("sha256:")+64]
}

// What was changed on the way is not unpacked, and nothing is written then.
func TestBundleForged(t *testing.T) {
	b := newBundled(t)
	key := "../../../publish/pgpsigner/testdata/ed.asc"
	dir := t.TempDir()
	out := must(t, b.args(dir)...)
	index, err := os.ReadFile(filepath.Join(dir, "bundle.json"))
	require.NoError(t, err)
	digest := strings.Split(b.release, "@")[1]
	manifest := filepath.Join(dir, "v2", "openshift", "release", "manifests", digest)
	restore := func(path string) func() {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path)) // of two names one
		return func() { require.NoError(t, os.WriteFile(path, data, 0o644)) }
	}
	for name, c := range map[string]struct {
		file, data string
		code       int
		args       []string
	}{
		"tool":        {"tools/sha256sum.txt", "x", ui.ExitVerification, nil},
		"boot image":  {"boot-images/c10s-live.x86_64.iso", strings.Repeat("boot imagE ", 1000), ui.ExitVerification, nil},
		"release":     {"v2/openshift/release/manifests/" + digest, "{}", ui.ExitVerification, nil},
		"path":        {"bundle.json", strings.Replace(string(index), `"config/`, `"../config/`, 1), 1, nil},
		"other path":  {"bundle.json", strings.Replace(string(index), `"config/`, `"etc/`, 1), 1, nil},
		"schema":      {"bundle.json", strings.Replace(string(index), `"schema": 1`, `"schema": 2`, 1), 1, nil},
		"field":       {"bundle.json", strings.Replace(string(index), `"schema": 1`, `"schema": 1, "x": 1`, 1), 1, nil},
		"digest":      {"bundle.json", strings.Replace(string(index), digest, "sha256:x", 1), 1, nil},
		"version":     {"bundle.json", strings.Replace(string(index), `"4.20.0-bundle.1"`, `"4.20.0-bundle.2"`, 1), 1, nil},
		"checksum":    {"bundle.json", string(index) + " ", ui.ExitVerification, []string{"--sha256=" + strings.Fields(out)[0]}},
		"no index":    {"bundle.json", "", 1, nil},
		"wrong key":   {"", "", ui.ExitVerification, []string{"--key=../../../publish/pgpsigner/testdata/sub.asc"}},
		"no checksum": {"", "", ui.ExitUsage, []string{"--to="}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.file != "" {
				defer restore(filepath.Join(dir, c.file))()
				require.NoError(t, os.WriteFile(filepath.Join(dir, c.file), []byte(c.data), 0o644))
			}
			site, target := filepath.Join(t.TempDir(), "site"), filepath.Join(t.TempDir(), "target")
			args := append([]string{"unbundle", "--from=folder:" + dir, "site.example.com/okd/release", "--into=dir:" + target, "--to=" + site}, c.args...)
			if c.args == nil {
				args = append(args, "--key="+key)
			}
			code, stdout, stderr := call(t, args...)
			require.Equal(t, c.code, code, stderr)
			require.Empty(t, stdout)
			require.NoDirExists(t, site)
			require.NoDirExists(t, target)
		})
	}
	require.FileExists(t, manifest)
	code, _, _ := call(t, "unbundle", b.from, "site.example.com/okd", "--to="+t.TempDir())
	require.Equal(t, ui.ExitUsage, code)
	code, _, _ = call(t, "bundle", b.from, b.release)
	require.Equal(t, ui.ExitUsage, code)
}
