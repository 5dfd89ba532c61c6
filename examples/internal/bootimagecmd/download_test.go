package bootimagecmd_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// site serves a stream with an ISO and a compressed disk, signed.
func site(t *testing.T) (url, stream string, content []byte) {
	t.Helper()
	secret, err := os.ReadFile("../../../publish/pgpsigner/testdata/ed.secret.asc")
	require.NoError(t, err)
	signer, err := pgpsigner.ParseSigner(secret, func() time.Time { return time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC) }, &pgpsigner.SignerOptions{
		Form: pgpsigner.Detached, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	require.NoError(t, err)
	content = bytes.Repeat([]byte("a disk "), 20_000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	files := map[string][]byte{"own-10.0.20261125-0-live.x86_64.iso": []byte("an ISO"), "own-10.0.20261125-0-metal.x86_64.raw.gz": packed.Bytes()}
	data, err := os.ReadFile("testdata/stream.json")
	require.NoError(t, err)
	text := string(data)
	for name, old := range map[string]string{"own-10.0.20261125-0-live.x86_64.iso": "cdcd", "own-10.0.20261125-0-metal.x86_64.raw.gz": "efef"} {
		text = strings.ReplaceAll(text, strings.Repeat(old, 16), fmt.Sprintf("%x", sha256.Sum256(files[name])))
		if files[name+".sig"], err = signer.Sign(t.Context(), bytes.NewReader(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	text = strings.ReplaceAll(text, "https://example.org", server.URL)
	d, err := bootimage.DecodeStream(strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, d.Override([]byte(fmt.Sprintf(`{"architectures": {"x86_64": {"artifacts": {"metal": {"formats": {"raw.gz": {"disk": {
		"signature": "%s/own/builds/10.0.20261125-0/x86_64/own-10.0.20261125-0-metal.x86_64.raw.gz.sig", "uncompressed-sha256": "%x"}}}}}}}}`, server.URL, sha256.Sum256(content)))))
	files["stream.json"] = d.Bytes()
	if files["stream.json.sig"], err = signer.Sign(t.Context(), bytes.NewReader(d.Bytes())); err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		file, ok := files[filepath.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	})
	return server.URL, server.URL + "/stream.json", content
}

const publicKey = "../../../publish/pgpsigner/testdata/ed.asc"

func TestDownload(t *testing.T) {
	_, stream, content := site(t)
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	code, stdout, stderr := call(t.Context(), "", "download", "--platform=metal", "--dir", dir, "--key", publicKey, "--quiet", stream)
	require.Zero(t, code, stderr)
	require.Equal(t, 2, strings.Count(stdout, "\n"))
	require.Contains(t, stdout, "6 B")

	for _, offline := range []bool{false, true} {
		dir = t.TempDir()
		args := []string{"download", "--format=raw.gz", "--decompress", "--dir", dir, "--cache", cache, "-o=json", fmt.Sprintf("--offline=%v", offline), stream}
		code, stdout, stderr = call(t.Context(), "", args...)
		require.Zero(t, code, stderr)
		require.Contains(t, stdout, `own-10.0.20261125-0-metal.x86_64.raw"`)
		got, err := os.ReadFile(filepath.Join(dir, "own-10.0.20261125-0-metal.x86_64.raw"))
		require.NoError(t, err)
		require.Equal(t, content, got)
	}

	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"clouds":        {[]string{"--platform=aws"}, ui.ExitUsage, "images in clouds, no files\n  okd-streams bootimage find"},
		"folder":        {[]string{"--dir", filepath.Join(dir, "none")}, ui.ExitFailed, "\n  make the folder"},
		"no cache":      {[]string{"--offline"}, ui.ExitUsage, "--offline takes files from a --cache"},
		"not in cache":  {[]string{"--offline", "--cache", t.TempDir()}, ui.ExitFailed, "offline, and not in the cache"},
		"other key":     {[]string{"--key", "../../../publish/pgpsigner/testdata/expired.asc", "--dir", t.TempDir()}, ui.ExitVerification, "\n  nothing was left under the file's name"},
		"no key":        {[]string{"--key", "none.asc"}, ui.ExitFailed, "\n  give a file of public keys"},
		"no such image": {[]string{"--arch=s390x"}, ui.ExitFailed, "\n  okd-streams bootimage find"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(t.Context(), "", append(append([]string{"download"}, tt.args...), stream)...)
			require.Equal(t, tt.code, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
		})
	}
}

func TestMirror(t *testing.T) {
	url, stream, _ := site(t)
	dir := t.TempDir()
	for range 2 {
		code, stdout, stderr := call(t.Context(), "", "mirror", "--url", "https://mirror.example/os", "--dir", dir, "--drop-images", "-q", stream)
		require.Zero(t, code, stderr)
		require.Equal(t, 3, strings.Count(stdout, "\n"))
		require.Contains(t, stderr, "signatures: 1, copied as they are; there is no --key to verify them by\n")
	}
	data, err := os.ReadFile(filepath.Join(dir, "own.json"))
	require.NoError(t, err)
	require.NotContains(t, string(data), url)
	d, err := bootimage.DecodeStream(bytes.NewReader(data))
	require.NoError(t, err)
	for _, e := range bootimage.Entries(d.Value()) {
		for _, address := range []string{e.URL, e.Signature} {
			if address != "" {
				_, err := os.Stat(filepath.Join(dir, strings.TrimPrefix(address, "https://mirror.example/os/")))
				require.NoError(t, err)
			}
		}
	}
	code, _, stderr := call(t.Context(), "", "mirror", "--dir", dir, stream)
	require.Equal(t, ui.ExitUsage, code)
	require.Contains(t, stderr, "--url is not given")
	code, _, stderr = call(t.Context(), "", "mirror", "--url=https://m.example", "--arch=s390x", "--dir", dir, stream)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "no file of stream own is chosen")
}

// TestMirrorVerifies: with a key, files without a good signature are not copied.
func TestMirrorVerifies(t *testing.T) {
	_, stream, _ := site(t)
	args := []string{"mirror", "--url=https://mirror.example/os", "--drop-images", "-q", "-o=json", "--platform=metal"}
	dir := t.TempDir()
	code, stdout, stderr := call(t.Context(), "", append(args, "--format=raw.gz", "--key", publicKey, "--dir", dir, stream)...)
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	require.Equal(t, 1, strings.Count(stdout, `"signedBy"`))
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"other key":    {[]string{"--format=raw.gz", "--key", "../../../publish/pgpsigner/testdata/expired.asc"}, ui.ExitVerification, "verification failed"},
		"no key":       {[]string{"--key", "none.asc"}, ui.ExitFailed, "\n  give a file of public keys"},
		"no signature": {[]string{"--key", publicKey}, ui.ExitVerification, "live.x86_64.iso: the stream names no signature of it\n  leave --key out"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			code, stdout, stderr := call(t.Context(), "", append(append(args, tt.args...), "--dir", dir, stream)...)
			require.Equal(t, tt.code, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
			require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				require.True(t, d.IsDir(), path)
				return err
			}))
		})
	}
}

func TestCheckSignature(t *testing.T) {
	_, stream, _ := site(t)
	code, stdout, stderr := call(t.Context(), "", "check", "--key", publicKey, stream)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "no faults")
	code, _, stderr = call(t.Context(), "", "check", "--key", publicKey, "--signature", stream+".sig", "testdata/stream.json")
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stderr, "\n  don't use the document")
	code, _, stderr = call(t.Context(), "", "check", "--key", "testdata/stream.json", "testdata/stream.json")
	require.Equal(t, ui.ExitUsage, code, stderr)
}

func TestFindInCatalogue(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"builds.json": `{"schema-version": "1.0.0", "builds": [{"id": "10.0.20261125-0", "arches": ["x86_64"]}]}`,
		"10.0.20261125-0/x86_64/meta.json": `{"buildid": "10.0.20261125-0", "name": "own", "coreos-assembler.basearch": "x86_64", "ostree-commit": "` + strings.Repeat("ab", 32) + `",
			"ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "1", "images": {"live-iso": {"path": "own-live-iso.x86_64.iso", "sha256": "` + strings.Repeat("cd", 32) + `", "size": 1073741824}}}`,
	} {
		path := filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	code, stdout, stderr := call(t.Context(), "", "find", "--platform=baremetal", "--base-url=https://e.example/builds", "builds:"+dir)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "1.0 GiB")
	require.Contains(t, stdout, "https://e.example/builds/10.0.20261125-0/x86_64/own-live-iso.x86_64.iso")
	code, _, stderr = call(t.Context(), "", "find", "builds:"+t.TempDir())
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "\n  give the folder with builds.json")
}
