package imagecmd_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/examples/internal/imagecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
)

// run calls the command and gives what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(imagecmd.Command())
	var stdout bytes.Buffer
	root.SetArgs(append([]string{"image"}, args...))
	root.SetOut(&stdout)
	root.SetErr(&stdout)
	err := root.ExecuteContext(t.Context())
	return stdout.String(), err
}

// compile makes a small static program.
func compile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600))
	binary := filepath.Join(dir, "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// as copies a program with another machine in its header. Compiling for each
// would compile Go's runtime for each.
func as(t *testing.T, program string, machine elf.Machine) string {
	t.Helper()
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), machine.String())
	binary.LittleEndian.PutUint16(data[18:], uint16(machine))
	require.NoError(t, os.WriteFile(other, data, 0o700))
	return other
}

type built struct {
	Image     string
	Tag       string
	Platforms []struct {
		Architecture, Digest string
		Size                 int64
	}
}

func buildImage(t *testing.T, registry string, binaries ...string) built {
	t.Helper()
	args := []string{"build", "--json", "--registry", "dir:" + registry, "--label", "a=b"}
	for _, b := range binaries {
		args = append(args, "--binary", b)
	}
	out, err := run(t, append(args, "localhost/okd-streams:v1")...)
	require.NoError(t, err)
	var result built
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	return result
}

func openFolder(t *testing.T, dir string) publish.Registry {
	t.Helper()
	registry, err := open.Registry(t.Context(), "dir:"+dir, nil)
	require.NoError(t, err)
	return registry
}

func TestBuildOne(t *testing.T) {
	program, dir := compile(t), t.TempDir()
	first := buildImage(t, dir, program)
	require.Len(t, first.Platforms, 1)

	ref, err := name.ParseReference(first.Tag)
	require.NoError(t, err)
	img, err := openFolder(t, dir).Image(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, validate.Image(img))
	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "amd64", config.Architecture)
	require.Equal(t, "linux", config.OS)
	require.Equal(t, []string{"/usr/bin/okd-streams"}, config.Config.Entrypoint)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, map[string]string{"a": "b"}, config.Config.Labels)

	// Neither the time nor the place of the binary matters.
	moved := filepath.Join(t.TempDir(), "other-name")
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(moved, data, 0o700))
	require.Equal(t, first.Image, buildImage(t, t.TempDir(), moved).Image)

	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	require.NotEqual(t, first.Image, buildImage(t, t.TempDir(), program).Image)
}

func TestBuildSeveral(t *testing.T) {
	dir, program := t.TempDir(), compile(t)
	result := buildImage(t, dir, program, as(t, program, elf.EM_AARCH64), as(t, program, elf.EM_PPC64))
	ref, err := name.ParseReference(result.Tag)
	require.NoError(t, err)
	index, err := openFolder(t, dir).Index(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	var platforms []v1.Platform
	for _, m := range manifest.Manifests {
		platforms = append(platforms, *m.Platform)
	}
	require.Equal(t, []v1.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "ppc64le"},
	}, platforms)
}

func TestUsage(t *testing.T) {
	amd64, dir := compile(t), t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700))
	mips := as(t, amd64, elf.EM_MIPS)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"x"}, `unknown command "x"`},
		{[]string{"build", "UPPER"}, `"UPPER"`},
		{[]string{"build", "localhost/a@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}, "give a tag"},
		{[]string{"build", "--registry", "docker://localhost", "localhost/a:v1"}, "want dir:PATH"},
		{[]string{"build", "--label", "=x", "localhost/a:v1"}, "want KEY=VALUE"},
		{[]string{"build", "--binary", text, "localhost/a:v1"}, "not a Linux program"},
		{[]string{"build", "--binary", mips, "localhost/a:v1"}, "for which there is no stream"},
		{[]string{"build", "--binary", "/bin/true", "localhost/a:v1"}, "needs shared libraries"},
		{[]string{"build", "--binary", amd64, "--binary", amd64, "localhost/a:v1"}, "both for amd64"},
	} {
		_, err := run(t, tc.args...)
		usage := (*ui.UsageError)(nil)
		require.ErrorAs(t, err, &usage, "%v", tc.args)
		require.ErrorContains(t, err, tc.want)
	}
	_, err := run(t, "build", "--binary", filepath.Join(dir, "missing"), "localhost/a:v1")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestRunsAsAnyone runs the image's program as a task would: an unknown user, a
// root that can't be written to, no home, and one folder of its own.
func TestRunsAsAnyone(t *testing.T) {
	interop.Peer(t, "umoci")
	program := filepath.Join(t.TempDir(), "okd-streams")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "../../okd-streams")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	info, err := os.Stat(program)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(45_000_000))

	images := t.TempDir()
	buildImage(t, images, program)
	bundle := filepath.Join(t.TempDir(), "bundle")
	out, err = exec.CommandContext(t.Context(), "umoci", "unpack", "--image", filepath.Join(images, "okd-streams")+":v1", bundle).CombinedOutput()
	require.NoError(t, err, "%s", out)
	rootfs := filepath.Join(bundle, "rootfs")
	require.NoError(t, os.Mkdir(filepath.Join(rootfs, "mine"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(rootfs, "proc"), 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(rootfs)), 0o755))

	const uid = 1_234_567
	work := t.TempDir()
	require.NoError(t, os.Chown(work, uid, uid))
	mount := func(source, target string, flags uintptr) {
		t.Helper()
		require.NoError(t, unix.Mount(source, target, "", flags, ""))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(target, unix.MNT_DETACH)) })
	}
	mount(rootfs, rootfs, unix.MS_BIND)
	require.NoError(t, unix.Mount("", rootfs, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	mount(work, filepath.Join(rootfs, "mine"), unix.MS_BIND)
	mount("/proc", filepath.Join(rootfs, "proc"), unix.MS_BIND)

	for _, args := range [][]string{{"version"}, {"stream", "list"}, {"build", "--state", "/mine/state", "--quiet"}} {
		task := exec.CommandContext(t.Context(), "/usr/bin/okd-streams", args...)
		task.Dir, task.Env = "/", []string{"PATH=/usr/bin"}
		task.SysProcAttr = &syscall.SysProcAttr{Chroot: rootfs, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := task.CombinedOutput()
		require.NoError(t, err, "%v on %s: %s", args, runtime.GOARCH, out)
	}
}
