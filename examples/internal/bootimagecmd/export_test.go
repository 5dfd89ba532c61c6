package bootimagecmd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
)

// buildsFolder writes a folder of coreos-assembler's with a build of two architectures.
func buildsFolder(t *testing.T) string {
	t.Helper()
	const id = "10.0.20261125-0"
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("builds.json", `{"schema-version": "1.0.0", "own.key": 1.50, "builds": [{"id": "`+id+`", "arches": ["x86_64", "aarch64"], "own.key": 2.50}],
 "tags": [{"name": "5.0", "created": "2026-11-25T20:54:07Z", "target": "`+id+`", "own.key": 3.50}], "tombstone-builds": [{"id": "9", "arches": ["x86_64"], "own.key": 4.50}], "timestamp": "2026-11-25T20:54:07Z"}`)
	var releases []string
	for _, arch := range []string{"x86_64", "aarch64"} {
		images := map[string]any{}
		extensions := sha256.Sum256([]byte("extensions"))
		write(id+"/"+arch+"/extensions.tar", "extensions")
		releases = append(releases, `"`+arch+`": {"own.key": 1.50, "media": {"newcloud": {}}}`)
		for artifact, ext := range map[string]string{"metal": "raw.gz", "metal4k": "raw.gz", "qemu": "qcow2", "live-iso": "iso", "live-kernel": "", "ostree": "ociarchive"} {
			file := strings.TrimSuffix("own-"+id+"-"+artifact+"."+arch+"."+ext, ".")
			content := "content of " + file
			write(id+"/"+arch+"/"+file, content)
			write(id+"/"+arch+"/"+file+".sig", "signature of "+file)
			sum := sha256.Sum256([]byte(content))
			images[artifact] = map[string]any{"path": file, "sha256": hex.EncodeToString(sum[:]), "size": len(content)}
		}
		record, err := json.Marshal(map[string]any{
			"buildid": id, "name": "own", "coreos-assembler.basearch": arch, "ostree-commit": strings.Repeat("ab", 32), "own.key": 1.5,
			"ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": id, "images": images,
			"extensions": map[string]any{"path": "extensions.tar", "sha256": hex.EncodeToString(extensions[:]), "manifest": map[string]any{}},
		})
		require.NoError(t, err)
		write(id+"/"+arch+"/meta.json", string(record))
		write(id+"/"+arch+"/commitmeta.json", `{"version": "`+id+`"}`)
	}
	write(id+"/release.json", `{"release": "`+id+`", "stream": "own", "own.key": 1.50, "architectures": {`+strings.Join(releases, ", ")+`}}`)
	return dir
}

// contents are the files below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, ".okd-streams/") {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(data)
		return err
	}))
	return all
}

// TestExport takes builds from a folder into a registry and back, where they are the
// same but for the time of the catalogue.
func TestExport(t *testing.T) {
	from, to := buildsFolder(t), filepath.Join(t.TempDir(), "made")
	registry := "dir:" + t.TempDir()
	export := func(args ...string) string {
		code, stdout, stderr := call(t.Context(), "", append([]string{"export", "--quiet", "--registry", registry}, args...)...)
		require.Zero(t, code, stderr)
		return stdout
	}
	stdout := export("builds:"+from, "images:a.example/os:10")
	require.Regexp(t, `10\.0\.20261125-0 +x86_64 +14 +\d+ B +images:a\.example/os:10`, stdout)
	export("images:a.example/os:10", "builds:"+to)
	was, got := contents(t, from), contents(t, to)
	for name := range was {
		if name != "builds.json" {
			require.Equal(t, was[name], got[name], name)
		}
	}
	require.Len(t, got, len(was))
	var catalogue map[string]any
	require.NoError(t, json.Unmarshal([]byte(got["builds.json"]), &catalogue))
	require.NotEqual(t, "2026-11-25T20:54:07Z", catalogue["timestamp"])
	catalogue["timestamp"] = "2026-11-25T20:54:07Z"
	text, err := json.Marshal(catalogue)
	require.NoError(t, err)
	require.JSONEq(t, was["builds.json"], string(text))
	for _, kept := range []string{"1.50", "2.50", "3.50", "4.50"} {
		require.Contains(t, got["builds.json"], kept)
	}

	// Again, there and back: nothing changes, not even the catalogue.
	export("images:a.example/os:10", "builds:"+to)
	export("builds:"+to, "images:a.example/os:11")
	require.Equal(t, got, contents(t, to))
	digests := map[string]string{}
	for _, tag := range []string{"10", "11"} {
		code, stdout, stderr := call(t.Context(), "", "find", "--registry", registry, "-o", "json", "images:a.example/os:"+tag)
		require.Zero(t, code, stderr)
		digests[tag] = stdout
	}
	require.Equal(t, digests["10"], digests["11"])
	code, stdout, stderr := call(t.Context(), "", "find", "--registry", registry, "--arch=arm64", "--platform=baremetal", "images:a.example/os:10")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "a.example/os@sha256:")
	require.Contains(t, stdout, "from: index of disk images")

	// One architecture of it; between folders, too.
	part := filepath.Join(t.TempDir(), "part")
	export("--arch", "aarch64", "--build", "10.0.20261125-0", "images:a.example/os:10", "builds:"+part)
	require.Contains(t, contents(t, part)["builds.json"], `"arches": ["aarch64"]`)
	require.NotContains(t, contents(t, part), "10.0.20261125-0/x86_64/meta.json")
	export("builds:"+from, "builds:"+part)
	require.Len(t, contents(t, part), len(was))

	// Into a folder that knows the build already: what it does not know joins.
	known := filepath.Join(t.TempDir(), "known")
	require.NoError(t, os.CopyFS(known, os.DirFS(from)))
	record := filepath.Join(known, "10.0.20261125-0/x86_64/meta.json")
	require.NoError(t, os.WriteFile(record, []byte(strings.Replace(was["10.0.20261125-0/x86_64/meta.json"], `"own.key":1.5`, `"their.key":2.50`, 1)), 0o644))
	require.NoError(t, os.Rename(filepath.Join(known, "10.0.20261125-0/release.json"), filepath.Join(known, "10.0.20261125-0/x86_64/release.json")))
	export("builds:"+from, "builds:"+known)
	joined := contents(t, known)["10.0.20261125-0/x86_64/meta.json"]
	require.Contains(t, joined, `"own.key":1.5`)
	require.Contains(t, joined, `"their.key":2.50`)
	// A release.json of an architecture is found, and written where it belongs.
	export("builds:"+known, "images:a.example/os:13")
	placed := filepath.Join(t.TempDir(), "placed")
	require.NoError(t, os.Remove(filepath.Join(known, "10.0.20261125-0/release.json")))
	export("--arch=x86_64", "builds:"+known, "builds:"+placed)
	require.Equal(t, was["10.0.20261125-0/release.json"], contents(t, placed)["10.0.20261125-0/release.json"])
	require.NotContains(t, contents(t, placed), "10.0.20261125-0/x86_64/release.json")

	// A file of other bytes where one is to be.
	path := filepath.Join(part, "10.0.20261125-0/aarch64/own-10.0.20261125-0-qemu.aarch64.qcow2")
	require.NoError(t, os.WriteFile(path, []byte("other"), 0o644))
	code, _, stderr = call(t.Context(), "", "export", "--quiet", "--registry", registry, "images:a.example/os:10", "builds:"+part)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "qemu.aarch64.qcow2 is there already, with SHA-256")
	require.Contains(t, stderr, "\n  a build's files never change")
	// A folder whose file is not what its record says is not pushed.
	code, _, stderr = call(t.Context(), "", "export", "--quiet", "--registry", registry, "builds:"+part, "images:a.example/os:12")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "has 5 bytes, the record says")
	code, _, stderr = call(t.Context(), "", "find", "--registry", registry, "images:a.example/os:12")
	require.Equal(t, ui.ExitFailed, code, stderr)
	code, _, stderr = call(t.Context(), "", "export", "--registry", registry, "--arch=s390x", "images:a.example/os:10", "builds:"+part)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "no disks of build")
}

// TestExportToSkopeo: what is exported is an index that skopeo copies.
func TestExportToSkopeo(t *testing.T) {
	interop.Peer(t, "skopeo")
	registry := t.TempDir()
	code, _, stderr := call(t.Context(), "", "export", "--quiet", "--registry", "dir:"+registry, "builds:"+buildsFolder(t), "images:a.example/os:10")
	require.Zero(t, code, stderr)
	to := filepath.Join(t.TempDir(), "layout")
	out, err := exec.CommandContext(t.Context(), "skopeo", "--insecure-policy", "copy", "--all", fmt.Sprintf("oci:%s/os:10", registry), "oci:"+to+":10").CombinedOutput()
	require.NoError(t, err, string(out))
	was, got := contents(t, filepath.Join(registry, "os", "blobs")), contents(t, filepath.Join(to, "blobs"))
	for name, text := range was {
		if !strings.Contains(text, `"manifests"`) { // old versions write the index anew
			require.Equal(t, text, got[name])
		}
	}
}
