package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/daily"
)

// call runs the program and gives its exit code.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000") // 2026-11-25 12:00 UTC
	var out, diagnostics bytes.Buffer
	code = ui.Exit(&diagnostics, "dailybuild", run(t.Context(), args, &out, &diagnostics))
	return code, out.String(), diagnostics.String()
}

func decode(t *testing.T, text string) *daily.Summary {
	t.Helper()
	var s daily.Summary
	require.NoError(t, json.Unmarshal([]byte(text), &s), text)
	return &s
}

func TestSample(t *testing.T) {
	state := t.TempDir()
	code, stdout, stderr := call(t, "-state", state)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "0.0.0-sample.20261125")
	require.Contains(t, stdout, "localhost/sample/sample-release:0.0.0-sample.20261125")
	require.Contains(t, stderr, "publish")

	code, stdout, stderr = call(t, "-state", state, "-json", "-quiet")
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	s := decode(t, stdout)
	require.True(t, s.Unchanged)
	require.FileExists(t, s.Report)
	require.Greater(t, s.Base.Layers, 4, "each package has a layer")
	require.Equal(t, s.Base.Layers+1, s.Node.Layers)
	require.Equal(t, 5, s.Release.Components)

	code, stdout, _ = call(t, "-state", state)
	require.Zero(t, code)
	require.Contains(t, stdout, "Nothing changed since build 0.0.20261125-0")
}

func TestSampleIsTheSameEverywhere(t *testing.T) {
	digests := map[string]bool{}
	for range 2 {
		code, stdout, stderr := call(t, "-state", t.TempDir(), "-json", "-quiet")
		require.Zero(t, code, stderr)
		s := decode(t, stdout)
		digests[fmt.Sprint(s.Commit.Commit, s.Base.Digest, s.Node.Digest, s.Extensions.Digest, s.Release.Digest)] = true
	}
	require.Len(t, digests, 1)
}

func TestPlanDoesNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	code, stdout, stderr := call(t, "-state", state, "-plan")
	require.Zero(t, code, stderr)
	for _, step := range daily.Steps() {
		require.Contains(t, stdout, step)
	}
	require.NoDirExists(t, state)
}

func TestUsage(t *testing.T) {
	state := t.TempDir()
	broken := filepath.Join(state, "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("apiVersion: streams.okd.io/v1alpha1\nkind: Stream\nidentity:\n  nam: x\n"), 0o600))
	for _, tc := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"needs of a real stream", []string{"-stream", "okd-scos-next", "-store", "dir:" + state, "-registry", "dir:" + state}, 2, []string{"root filesystem", "release image", "extensions image", "-source"}},
		{"unknown stream", []string{"-stream", "nonsense"}, 2, []string{"nonsense", "okd-scos-next"}},
		{"unknown flag", []string{"-nonsense"}, 2, []string{"nonsense"}},
		{"argument", []string{"nonsense"}, 2, []string{"nonsense"}},
		{"source", []string{"-source", "nonsense"}, 2, []string{"dir:PATH"}},
		{"component", []string{"-component", "nonsense"}, 2, []string{"NAME=PULLSPEC"}},
		{"sample to the world", []string{"-registry", "docker://registry.example.org/x"}, 2, []string{"loopback"}},
		{"sample to the world's store", []string{"-store", "s3://bucket"}, 2, []string{"loopback"}},
		{"missing folder", []string{"-source", "dir:" + state + "/none"}, 1, []string{"none", "no such file"}},
		{"no definition", []string{"-stream", state + "/none.yaml"}, 1, []string{"none.yaml"}},
		{"definition with faults", []string{"-stream", broken}, 1, []string{"broken.yaml", "unknown key \"nam\"", "line 4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := call(t, append([]string{"-state", filepath.Join(state, "state")}, tc.args...)...)
			require.Equal(t, tc.code, code, stderr)
			require.Empty(t, stdout)
			for _, want := range tc.want {
				require.Contains(t, stderr, want)
			}
		})
	}
}

// smallSystem is a root filesystem of many files that the lint accepts.
func smallSystem(t *testing.T, files int) string {
	t.Helper()
	root := t.TempDir()
	write := func(path string, data []byte) {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	write("boot/vmlinuz-6.1", []byte("kernel"))
	write("boot/initrd.img-6.1", []byte("initramfs"))
	write("usr/lib/modules/6.1/modules.dep", nil)
	write("usr/lib/os-release", []byte("VERSION_ID=12\n"))
	write("etc/hosts", []byte("127.0.0.1 localhost\n"))
	random := rand.NewChaCha8([32]byte{1})
	for i := range files {
		data := make([]byte, 1+int(random.Uint64()%(40<<10)))
		_, err := random.Read(data)
		require.NoError(t, err)
		write(fmt.Sprintf("usr/share/data/%d/%d", i%61, i), data)
	}
	return root
}

func TestSources(t *testing.T) {
	tree := smallSystem(t, 50)
	digests := map[string]string{}
	build := func(name, source string) {
		code, stdout, stderr := call(t, "-state", filepath.Join(t.TempDir(), name), "-source", source, "-json", "-quiet")
		require.Zero(t, code, stderr)
		digests[name] = decode(t, stdout).Commit.Content.String()
		if name == "dir" {
			digests["repo"] = decode(t, stdout).Report
		}
	}
	build("dir", "dir:"+tree)
	archive := filepath.Join(t.TempDir(), "tree.tar.gz")
	out, err := exec.CommandContext(t.Context(), "tar", "-C", tree, "--sort=name", "-czf", archive, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	build("tar", "tar:"+archive)
	build("ostree", "ostree:"+filepath.Join(filepath.Dir(filepath.Dir(digests["repo"])), "repo")+":sample/x86_64/sample")
	require.Equal(t, digests["dir"], digests["tar"])
	require.Equal(t, digests["dir"], digests["ostree"])
}

// TestKilled kills the build without warning at random points and runs it
// again: the digests and each byte that is published are those of a run that
// nobody disturbed, and nothing is left behind.
func TestKilled(t *testing.T) {
	interop.Peer(t, "ostree", "go")
	program := filepath.Join(t.TempDir(), "dailybuild")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	tree := smallSystem(t, 1500)
	// One folder for all, as what is published names it: where a store is a
	// folder, its files are what people download.
	state := filepath.Join(t.TempDir(), "state")

	start := func() (*exec.Cmd, *bytes.Buffer) {
		var stdout bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, "-state", state, "-source", "dir:"+tree, "-json", "-quiet")
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1795608000")
		cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
		require.NoError(t, cmd.Start())
		return cmd, &stdout
	}
	digests := func(s *daily.Summary) string {
		return fmt.Sprint(s.Version, s.Build, s.Commit.Commit, s.Base.Digest, s.Node.Digest, s.Extensions.Digest, s.Release.Digest)
	}
	begin := time.Now()
	cmd, stdout := start()
	require.NoError(t, cmd.Wait())
	whole := time.Since(begin)
	want, wantFiles := digests(decode(t, stdout.String())), published(t, state)
	require.Greater(t, len(wantFiles), 30)

	random := rand.New(rand.NewPCG(3, 5))
	for killed, tries := 0, 0; killed < 20; tries++ {
		require.Less(t, tries, 200, "runs end before they are killed")
		require.NoError(t, os.RemoveAll(state))
		cmd, _ := start()
		// Spread over the run, at a random place in each part.
		after := time.Duration((float64(killed) + random.Float64()) / 20 * float64(whole))
		time.Sleep(after)
		require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
		if cmd.Wait() == nil {
			whole = whole * 9 / 10 // it was done: this machine is faster now
			continue
		}
		killed++
		cmd, stdout := start()
		require.NoError(t, cmd.Wait(), "run after a kill at %s", after)
		require.Equal(t, want, digests(decode(t, stdout.String())), "after a kill at %s", after)
		require.Equal(t, wantFiles, published(t, state), "after a kill at %s", after)
		out, err := exec.CommandContext(t.Context(), "ostree", "fsck", "-q", "--repo="+filepath.Join(state, "repo")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		requireNoLeftovers(t, state)
	}
}

// published is all that is in the store and the registry of a state folder:
// modes of folders and files, checksums of files.
func published(t *testing.T, state string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, place := range []string{"store", "registry"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(state, place), func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(state, path)
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			out[rel] = info.Mode().String()
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				out[rel] += fmt.Sprintf(" %x", sha256.Sum256(data))
			}
			return nil
		}))
	}
	return out
}

// requireNoLeftovers looks for temporary files of all rooms.
func requireNoLeftovers(t *testing.T, state string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(state, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(state, path)
		require.NoError(t, err)
		inTemp := false
		for dir := filepath.Dir(rel); dir != "."; dir = filepath.Dir(dir) {
			base := filepath.Base(dir)
			inTemp = inTemp || base == "tmp" || base == ".tmp"
		}
		if inTemp && rel != filepath.Join("repo", "tmp", "cache") {
			t.Errorf("left behind: %s", rel)
		}
		if !e.IsDir() && strings.HasSuffix(rel, ".tmp") {
			t.Errorf("left behind: %s", rel)
		}
		return nil
	}))
}
