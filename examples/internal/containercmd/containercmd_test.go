package containercmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/containercmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

var update = flag.Bool("update", false, "write golden files")

// shop is a folder with a repository of two commits, a registry and a cache.
type shop struct {
	t    *testing.T
	dir  string
	repo *ostree.Repo
}

// system is a tree that can be booted, with dpkg's database.
func system(packages ...string) fstest.MapFS {
	files := map[string]string{
		"boot/vmlinuz-6.1.0": "kernel", "boot/initrd.img-6.1.0": "initramfs",
		"usr/lib/modules/6.1.0/modules": "x", "usr/lib/os-release": "ID=sample\n", "etc/hosts": "127.0.0.1 localhost\n",
	}
	status := ""
	for _, p := range packages {
		name, version, _ := strings.Cut(p, " ")
		status += "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"
		files["usr/share/"+name] = strings.Repeat(name+version, 100)
		files["var/lib/dpkg/info/"+name+".list"] = "/usr/share/" + name + "\n"
	}
	files["var/lib/dpkg/status"] = status
	fsys := fstest.MapFS{}
	for path, text := range files {
		fsys[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return fsys
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, dir: t.TempDir()}
	s.policy("", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	var err error
	s.repo, err = ostree.Init(t.Context(), filepath.Join(s.dir, "repo"), ostree.ModeBareUser, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.repo.Close()) })
	require.NoError(t, s.repo.SetConfig(t.Context(), "core", "fsync", "false"))
	s.commit("one", "9.1.0", "bash 5.2-1", "kernel 6.1-1", "sed 4.9-1", "systemd 252-2")
	s.commit("two", "9.2.0", "bash 5.2-1", "grep 3.8-1", "kernel 6.1-1", "sed 4.9-2", "systemd 252-1")
	return s
}

func (s *shop) commit(ref, version string, packages ...string) {
	s.t.Helper()
	_, err := s.repo.Commit(s.t.Context(), ostree.Postprocess(ostree.FS(system(packages...)), nil), &ostree.CommitOptions{
		Ref: ref, Subject: "sample " + version, Timestamp: time.Unix(1700000000, 0), NoFsync: true, Metadata: []ostree.MetadataItem{
			{Key: "version", Value: ostree.StringVariant(version)}, {Key: "ostree.bootable", Value: ostree.BoolVariant(true)},
			{Key: "coreos-assembler.basearch", Value: ostree.StringVariant("x86_64")},
		},
	})
	require.NoError(s.t, err)
}

// call runs `okd-streams container` as a shell would, in the shop.
func (s *shop) call(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	s.t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	s.t.Setenv("OSTREE_REPO", "")
	s.t.Setenv("HOME", s.dir+"/home") // whatever signature policy there is
	var out, diagnostics bytes.Buffer
	cmd := containercmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{"--quiet", "--registry=dir:" + s.dir + "/registry", "--repo=" + s.dir + "/repo", "--cache=" + s.dir + "/cache"}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(s.t.Context()))
	plain := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), s.dir, "DIR") }
	return code, plain(&out), plain(&diagnostics)
}

func (s *shop) must(args ...string) string {
	s.t.Helper()
	code, stdout, stderr := s.call(args...)
	require.Zero(s.t, code, "%v: %s%s", args, stdout, stderr)
	return stdout
}

const pullspec = "registry.example.org/okd/scos:"

// filled has both commits as images, the second beside the first.
func filled(t *testing.T) *shop {
	t.Helper()
	s := newShop(t)
	s.must("encapsulate", "one", pullspec+"one")
	s.must("encapsulate", "--prior="+pullspec+"one", "two", pullspec+"two")
	return s
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestHelp(t *testing.T) {
	var text strings.Builder
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		require.NoError(t, cmd.Help())
		local, _, _ := strings.Cut(out.String(), "\nGlobal Flags:")
		fmt.Fprintf(&text, "=== %s\n%s\n", cmd.CommandPath(), strings.TrimSpace(local))
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(containercmd.Command())
	golden(t, "help.txt", text.String())
}

// What is printed, for people and for programs: same input, same bytes.
func TestOutput(t *testing.T) {
	s := filled(t)
	for _, tc := range []struct {
		name string
		args []string
		code int
	}{
		{"encapsulate", []string{"encapsulate", "--compression=zstd", "one", "oci:" + s.dir + "/layout:one"}, 0},
		{"inspect", []string{"inspect", "--packages", "--labels", pullspec + "two"}, 0},
		{"history", []string{"history", pullspec + "one"}, 0},
		{"compare", []string{"compare", "--packages", "--files", pullspec + "one", pullspec + "two"}, 0},
		{"lint", []string{"lint", pullspec + "two"}, 0},
		{"check-regression", []string{"check-regression", pullspec + "one", pullspec + "two"}, 1},
		{"check-regression-allowed", []string{"check-regression", "--markdown", "--allow=systemd", pullspec + "one", pullspec + "two"}, 0},
		{"node-check", []string{"node", "check", "--base=" + pullspec + "one", pullspec + "two", pullspec + "one"}, 1},
		{"import", []string{"import", pullspec + "one"}, 0},
		{"list", []string{"list"}, 0},
		{"reexport", []string{"reexport", "docker://" + pullspec + "one", "oci:" + s.dir + "/again"}, 0},
		{"rechunk", []string{"rechunk", "--planner=ostree-ext", "--max-layers=4", pullspec + "two", pullspec + "three"}, 0},
		{"prune", []string{"prune"}, 0},
	} {
		for _, kind := range []string{"text", "json"} {
			if tc.name == "import" && kind == "json" { // what is there is not read again
				s.must("remove", "docker://"+pullspec+"one")
				s.must("prune")
			}
			code, stdout, stderr := s.call(append(tc.args, "-o", kind)...)
			require.Equal(t, tc.code, code, "%s: %s", tc.name, stderr)
			if kind == "json" {
				require.True(t, json.Valid([]byte(stdout)), stdout)
			}
			if code == 0 {
				require.Empty(t, stderr)
			} else {
				stdout += "--- stderr\n" + stderr
			}
			golden(t, tc.name+"."+kind, stdout)
		}
	}
}

func TestIndex(t *testing.T) {
	s := newShop(t)
	s.must("encapsulate", "one", pullspec+"one")
	s.must("encapsulate", "--arch=aarch64", "one", pullspec+"arm")
	for _, to := range []string{pullspec + "list", "oci:" + s.dir + "/index:list"} {
		require.Contains(t, s.must("index", to, pullspec+"one", pullspec+"arm"), "linux/arm64:  sha256:")
	}
	code, _, stderr := s.call("index", pullspec+"list", pullspec+"one", pullspec+"one")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "two images for linux/amd64")
}

// A commit goes out and comes back.
func TestThereAndBack(t *testing.T) {
	s := newShop(t)
	commit, err := s.repo.Resolve(t.Context(), "one")
	require.NoError(t, err)
	for _, flags := range [][]string{nil, {"--compression=none"}, {"--dialect=v1a"}, {"--format-version=2", "--planner=stable", "--max-layers=8"}} {
		s.must(append([]string{"encapsulate", "one", "oci:" + s.dir + "/layout:x"}, flags...)...)
		other := filepath.Join(s.dir, "other")
		r, err := ostree.Init(t.Context(), other, ostree.ModeArchive, nil)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		out := s.must("import", "--commit-only", "--write-ref=back", "--repo="+other, "oci:"+s.dir+"/layout:x")
		require.Contains(t, out, commit.String())
		require.NoError(t, os.RemoveAll(other))
	}
}

func TestNodeRender(t *testing.T) {
	s := newShop(t)
	spec := filepath.Join(s.dir, "spec.json")
	require.NoError(t, os.WriteFile(spec, []byte(`{"base": "quay.io/okd/scos-base:9", "version": "9.0.1", "packages": ["cri-o"],
  "extensions": [{"name": "usbguard", "packages": ["usbguard"]}]}`), 0o600))
	golden(t, "node-render.text", s.must("node", "render", spec))
	golden(t, "node-render.json", s.must("node", "render", "-o", "json", spec))
	require.Empty(t, s.must("node", "render", "--write="+s.dir, spec))
	for _, name := range []string{"Containerfile", "Containerfile.extensions"} {
		require.FileExists(t, filepath.Join(s.dir, name))
	}
}

func TestFailures(t *testing.T) {
	s := filled(t)
	spec := filepath.Join(s.dir, "spec.json")
	require.NoError(t, os.WriteFile(spec, []byte(`{"base": "x", "version": "1.0.0", "manager": "none", "files": "root"}`), 0o600))
	bad := filepath.Join(s.dir, "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"base": "x", "version": "1", "extra": 1}`), 0o600))
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nonsense"}, 2, `unknown command "nonsense"`},
		{[]string{"node", "nonsense"}, 2, `unknown command "nonsense" for "container node"`},
		{[]string{"inspect"}, 2, "0 arguments, but it is container inspect [FLAGS] IMAGE"},
		{[]string{"inspect", "--nonsense"}, 2, "unknown flag: --nonsense"},
		{[]string{"inspect", "-o", "xml", pullspec + "one"}, 2, "it is one of text, json, yaml"},
		{[]string{"inspect", "oci-archive:x.tar"}, 2, "skopeo copy oci-archive:x.tar oci:PATH makes one that is"},
		{[]string{"inspect", "UPPER"}, 2, `"UPPER"`},
		{[]string{"inspect", "oci:"}, 2, "names no folder"},
		{[]string{"inspect", "oci:" + s.dir + "/nothing"}, 1, "check the name and where it is looked for"},
		{[]string{"inspect", pullspec + "nothing"}, 1, "scos:nothing"},
		{[]string{"inspect", "--registry=ftp://x", pullspec + "one"}, 2, "--registry=ftp://x"},
		{[]string{"encapsulate", "nothing", pullspec + "x"}, 1, "okd-streams ostree refs its refs"},
		{[]string{"encapsulate", "--repo=" + s.dir + "/none", "one", pullspec + "x"}, 1, "okd-streams ostree --repo=DIR/none init"},
		{[]string{"encapsulate", "--planner=x", "one", pullspec + "x"}, 2, "none of frugal, stable and ostree-ext"},
		{[]string{"encapsulate", "--label=x", "one", pullspec + "x"}, 2, `"x" is not NAME=VALUE`},
		{[]string{"encapsulate", "--compression=lzma", "one", pullspec + "x"}, 2, "none of gzip, zstd and none"},
		{[]string{"encapsulate", "--prior=" + pullspec + "none", "one", pullspec + "x"}, 1, "--prior: "},
		{[]string{"encapsulate", "one", "oci:" + s.dir + "/repo"}, 1, "the folder has something else than an OCI layout"},
		{[]string{"encapsulate", "one", "registry.example.org/x@sha256:" + strings.Repeat("0", 64)}, 2, "the image is sha256:"},
		{[]string{"reexport", "docker://nothing", pullspec + "x"}, 1, "image docker://nothing: file does not exist"},
		{[]string{"remove", "docker://nothing"}, 1, "remove image docker://nothing"},
		{[]string{"import", "--name=x:y", pullspec + "one"}, 1, "begins with none of docker://"},
		{[]string{"node", "render", bad}, 1, `unknown field "extra"`},
		{[]string{"node", "render", s.dir + "/none"}, 1, "no such file"},
		{[]string{"node", "build", spec, pullspec + "one", pullspec + "node", pullspec + "ext"}, 2, "the spec has no extensions"},
		{[]string{"node", "build", "--buildah=" + s.dir + "/none", spec, pullspec + "one", pullspec + "node"}, 1, "no such file"},
		{[]string{"node", "build", "--buildah=no-such-buildah", spec, pullspec + "one", pullspec + "node"}, 2, "install buildah, or name the program with --buildah"},
		{[]string{"node", "build", "--buildah=false", spec, pullspec + "one", pullspec + "node"}, 1, "node image: build: false pull: exit status 1"},
	} {
		code, stdout, stderr := s.call(tc.args...)
		require.Equal(t, tc.code, code, "%v: %s", tc.args, stderr)
		require.Contains(t, stderr, tc.want)
		require.Contains(t, stderr, "\n  ", "%v: an advice", tc.args)
		require.Empty(t, stdout)
	}
	// Something else than the digest says: exit code 3.
	changed := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "registry"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 || data[0] != 0x1f { // gzip
			return err
		}
		changed++
		data[len(data)/2] ^= 1
		return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o644))
	}))
	require.NotZero(t, changed)
	code, _, stderr := s.call("import", pullspec+"one")
	require.Equal(t, 3, code, stderr)
}

// The whole way with buildah, hermetic.
func TestNodeBuild(t *testing.T) {
	interop.Peer(t, "buildah")
	if os.Getuid() != 0 {
		t.Skip("buildah keeps owners only for root")
	}
	s := newShop(t)
	s.must("encapsulate", "one", pullspec+"one")
	for path, text := range map[string]string{
		"context/root/usr/bin/kubelet": "kubelet\n", "context/ext/extensions.json": `{"usbguard":"1.0-1.x86_64"}`, "context/ext/usbguard.rpm": "rpm\n",
		"spec.json": `{"base": "x", "version": "9.1.1", "manager": "none", "files": "root", "extensionDir": "ext"}`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(s.dir, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, path), []byte(text), 0o644))
	}
	build := []string{
		"node", "build", "--context=" + s.dir + "/context", "--storage-root=" + s.dir + "/storage", "--storage-runroot=" + s.dir + "/run", "--storage-driver=vfs", "--isolation=chroot",
		s.dir + "/spec.json", pullspec + "one",
	}
	out := s.must(append(build, pullspec+"node", pullspec+"ext")...)
	require.Equal(t, []string{"extensions:", "node:"}, []string{strings.Fields(out)[0], strings.Fields(strings.Split(out, "\n")[1])[0]})
	require.Equal(t, "docker://"+pullspec+"node: no disagreement\n", s.must("node", "check", "--base="+pullspec+"one", pullspec+"node", pullspec+"ext"))
	require.Contains(t, s.must("inspect", pullspec+"node"), "machine-os:    9.1.1\n")
	require.Contains(t, s.must("compare", pullspec+"one", pullspec+"node"), "0 removed, 0 recompressed")
	code, _, stderr := s.call(append(build, pullspec+"node")...)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "nothing says where they shall be")
	// The same again: the same digests.
	require.Equal(t, out, s.must(append(build, pullspec+"node", pullspec+"ext")...))
}
