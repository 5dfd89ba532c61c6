package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
)

// archive makes a tar file of headers; every regular file would do as
// os-release.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := "VERSION_ID=12\n# " + h.Name
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		require.NoError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(content))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func compressed(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// requireNothingPublished looks at a state folder whose store and registry are
// in it.
func requireNothingPublished(t *testing.T, state string) {
	t.Helper()
	require.NoFileExists(t, filepath.Join(state, "store", "sample", "builds", "builds.json"))
	require.NoFileExists(t, filepath.Join(state, "store", "streams", "sample.json"))
	require.NoDirExists(t, filepath.Join(state, "registry", "sample", "sample-release"))
	refs, err := fs.Glob(os.DirFS(filepath.Join(state, "repo", "refs", "heads")), "*")
	require.NoError(t, err)
	require.Empty(t, refs)
}

func TestBadSource(t *testing.T) {
	good := []tar.Header{{Name: "usr/lib/modules/6.1/vmlinuz"}, {Name: "usr/lib/modules/6.1/initramfs.img"}, {Name: "usr/lib/os-release"}, {Name: "etc/hosts"}}
	with := func(h ...tar.Header) []byte { return archive(t, append(good[:len(good):len(good)], h...)...) }
	whole := with(tar.Header{Name: "usr/share/big"})
	folder := func(change func(root string)) string {
		root := smallSystem(t, 3)
		change(root)
		return "dir:" + root
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return "tar:" + path
	}
	for _, tc := range []struct {
		name, source string
		want         []string
	}{
		{"truncated tar", file("cut.tar", whole[:len(whole)-1600]), []string{"cut.tar", "etc/hosts", "ends early"}},
		{"truncated gzip", file("cut.tar.gz", compressed(t, whole)[:100]), []string{"cut.tar.gz"}},
		{"no tar", file("text.tar", []byte(strings.Repeat("this is no archive\n", 100))), []string{"text.tar"}},
		{"path out of the tree", file("up.tar", with(tar.Header{Name: "../escaped"})), []string{"../escaped"}},
		{"path in the middle", file("mid.tar", with(tar.Header{Name: "usr/../../escaped"})), []string{"escaped"}},
		{"through a link", file("link.tar", with(tar.Header{Name: "usr/out", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "usr/out/passwd"})), []string{"usr/out/passwd"}},
		{"hard link to nothing", file("hard.tar", with(tar.Header{Name: "usr/hard", Typeflag: tar.TypeLink, Linkname: "usr/none"})), []string{"usr/hard", "usr/none"}},
		{"device node", file("dev.tar", with(tar.Header{Name: "usr/lib/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})), []string{"usr/lib/null"}},
		{"name that is not UTF-8", file("name.tar", with(tar.Header{Name: "usr/share/\xff\xfe", Format: tar.FormatGNU})), []string{`\xff\xfe`}},
		{"pipe in a folder", folder(func(root string) { require.NoError(t, unix.Mkfifo(filepath.Join(root, "usr/pipe"), 0o600)) }), []string{"usr/pipe"}},
		{"name in a folder", folder(func(root string) {
			require.NoError(t, os.WriteFile(filepath.Join(root, "usr/\xff"), nil, 0o600))
		}), []string{`\xff`}},
		{"two etcs", folder(func(root string) {
			require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/etc"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(root, "usr/etc/x"), nil, 0o600))
		}), []string{"etc"}},
		{"no kernel", folder(func(root string) { require.NoError(t, os.Remove(filepath.Join(root, "boot/vmlinuz-6.1"))) }), []string{"no operating system", "vmlinuz"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := t.TempDir()
			code, stdout, stderr := call(t, "-state", state, "-source", tc.source, "-quiet")
			require.Equal(t, 1, code, stderr)
			require.Empty(t, stdout)
			for _, want := range tc.want {
				require.Contains(t, stderr, want)
			}
			requireNothingPublished(t, state)
			requireNoLeftovers(t, state)
			// The folder is as good as new.
			code, _, stderr = call(t, "-state", state, "-source", file("good.tar", whole), "-quiet")
			require.Zero(t, code, stderr)
		})
	}
}

// command is the program as a process of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), "dailybuild")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1795608000")
	return cmd
}

func TestUnreadableFile(t *testing.T) {
	interop.Peer(t, "go")
	if os.Getuid() != 0 {
		t.Fatal("needs root, to be somebody else")
	}
	tree := smallSystem(t, 3)
	require.NoError(t, os.WriteFile(filepath.Join(tree, "usr/share/secret"), []byte("x"), 0o600))
	state := t.TempDir()
	require.NoError(t, os.Chown(state, 65534, 65534))
	cmd := command(t, "-state", state, "-source", "dir:"+tree, "-quiet")
	for dir := tree; dir != "/"; dir = filepath.Dir(dir) {
		openFolder(t, dir)
	}
	openFolder(t, filepath.Dir(state))
	openFolder(t, filepath.Dir(cmd.Path))
	openFolder(t, filepath.Dir(filepath.Dir(cmd.Path)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), "%s", out)
	require.Contains(t, string(out), "usr/share/secret")
	require.Contains(t, string(out), "permission denied")
	requireNothingPublished(t, state)
}

// openFolder lets others pass through a folder of this test.
func openFolder(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	require.NoError(t, err)
	if dir != os.TempDir() {
		require.NoError(t, os.Chmod(dir, info.Mode().Perm()|0o055))
	}
}

func TestFullDisk(t *testing.T) {
	interop.Peer(t, "mount", "umount")
	state := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", state, "tmpfs", 0, "size=6m"), "this test mounts a small disk")
	t.Cleanup(func() { _ = unix.Unmount(state, unix.MNT_DETACH) })
	tree := smallSystem(t, 600) // some 12 MB
	code, _, stderr := call(t, "-state", state, "-source", "dir:"+tree, "-quiet")
	require.Equal(t, 1, code, stderr)
	require.Contains(t, stderr, "no space left on device")
	requireNothingPublished(t, state)
	// With room, it goes on.
	require.NoError(t, unix.Mount("tmpfs", state, "tmpfs", unix.MS_REMOUNT, "size=200m"))
	code, _, stderr = call(t, "-state", state, "-source", "dir:"+tree, "-quiet")
	require.Zero(t, code, stderr)
	requireNoLeftovers(t, state)
}

// TestServerFaults runs the build against a registry and a store that
// misbehave: for good, which is one clear error, or for a while, which is none.
func TestServerFaults(t *testing.T) {
	interop.Peer(t, "docker-registry")
	s3 := interop.S3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	uploads := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/uploads/") }
	puts := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "builds.json")
	}
	for _, tc := range []struct {
		name     string
		registry []interop.Fault
		store    []interop.Fault
		want     []string // none: the build succeeds
	}{
		{name: "registry asks who we are", registry: []interop.Fault{{Match: uploads, Status: 401}}, want: []string{"401", "sample-"}},
		{name: "registry forbids", registry: []interop.Fault{{Match: uploads, Status: 403}}, want: []string{"403", "sample-"}},
		{name: "registry has no such place", registry: []interop.Fault{{Match: uploads, Status: 404}}, want: []string{"404"}},
		{name: "registry is busy for a while", registry: []interop.Fault{{Match: uploads, Status: 429, RetryAfter: 1, Times: 2}}},
		{name: "registry is broken for a while", registry: []interop.Fault{{Match: uploads, Status: 503, Times: 2}}},
		{name: "registry cuts uploads for a while", registry: []interop.Fault{{Match: uploads, CutRequest: 10, Times: 2}}},
		{name: "registry lies about what it has", registry: []interop.Fault{{
			Match: func(r *http.Request) bool {
				return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
			}, Corrupt: 5,
		}}, want: []string{"sha256"}},
		{name: "store forbids", store: []interop.Fault{{Match: puts, Status: 403}}, want: []string{"permission denied", "builds.json"}},
		{name: "store is broken for a while", store: []interop.Fault{{Match: puts, Status: 500, Times: 2}}},
		{name: "store cuts for a while", store: []interop.Fault{{Match: puts, CutRequest: 5, Times: 1}}},
		{name: "registry cuts each upload", registry: []interop.Fault{{Match: uploads, CutRequest: 10}}, want: []string{"sample-", "attempts"}},
		{name: "registry is slow for a while", registry: []interop.Fault{{Match: uploads, Stall: time.Second, Times: 2}}},
		{name: "store asks who we are", store: []interop.Fault{{Match: puts, Status: 401}}, want: []string{"builds.json"}},
		{name: "store has no such place", store: []interop.Fault{{Match: puts, Status: 404}}, want: []string{"builds.json"}},
		{name: "store is busy for a while", store: []interop.Fault{{Match: puts, Status: 429, RetryAfter: 1, Times: 2}}},
		{name: "store is slow for a while", store: []interop.Fault{{Match: puts, Stall: time.Second, Times: 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			registry := interop.Proxy(t, "http://"+interop.Registry(t), tc.registry...)
			store := interop.Proxy(t, s3.Endpoint, tc.store...)
			state := t.TempDir()
			args := []string{
				"-state", state, "-quiet", "-json", "-registry", "docker://" + registry.Host + "/okd",
				"-store", "s3://" + s3.Bucket + "/" + strings.ReplaceAll(tc.name, " ", "-") + "?endpoint=" + store.URL + "&region=" + s3.Region + "&path-style=true",
			}
			code, stdout, stderr := call(t, args...)
			if tc.want == nil {
				require.Zero(t, code, stderr)
				return
			}
			require.Equal(t, 1, code, stderr)
			require.Empty(t, stdout)
			for _, want := range tc.want {
				require.Contains(t, stderr, want)
			}
			require.NotContains(t, stderr, s3.SecretKey)
			requireNotAnnounced(t, registry, store)
			// The servers are well again: the run goes on.
			registry.Set()
			store.Set()
			code, stdout, stderr = call(t, args...)
			require.Zero(t, code, stderr)
			require.False(t, decode(t, stdout).Unchanged)
		})
	}
}

// TestServerFaultsForGood: a server that is busy or broken for longer than
// anybody waits is one clear error, too. That takes minutes of waiting and
// hardly any work, so that all cases wait together, beside the other tests.
func TestServerFaultsForGood(t *testing.T) {
	interop.Peer(t, "go", "docker-registry")
	s3 := interop.S3(t)
	program := command(t).Path
	uploads := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/uploads/") }
	puts := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "builds.json")
	}
	const hours = 7200 // longer than a Retry-After that is waited for
	cases := []*struct {
		name            string
		registry, store []interop.Fault
		want            []string

		proxies        [2]*interop.FaultProxy
		args           []string
		cmd            *exec.Cmd
		stdout, stderr bytes.Buffer
	}{
		{name: "registry is busy", registry: []interop.Fault{{Match: uploads, Status: 429}}, want: []string{"429", "sample-", "after 6 attempts"}},
		{name: "registry is broken", registry: []interop.Fault{{Match: uploads, Status: 503}}, want: []string{"503", "sample-", "after 6 attempts"}},
		{name: "registry is busy for hours", registry: []interop.Fault{{Match: uploads, Status: 429, RetryAfter: hours}}, want: []string{"429", "sample-"}},
		{name: "store is busy", store: []interop.Fault{{Match: puts, Status: 429}}, want: []string{"429", "builds.json", "after 3 attempts"}},
		{name: "store is broken", store: []interop.Fault{{Match: puts, Status: 503}}, want: []string{"503", "builds.json", "after 3 attempts"}},
		{name: "store is busy for hours", store: []interop.Fault{{Match: puts, Status: 429, RetryAfter: hours}}, want: []string{"429", "builds.json"}},
	}
	for _, tc := range cases {
		registry, store := interop.Proxy(t, "http://"+interop.Registry(t), tc.registry...), interop.Proxy(t, s3.Endpoint, tc.store...)
		tc.proxies = [...]*interop.FaultProxy{registry, store}
		tc.args = []string{
			"-state", t.TempDir(), "-quiet", "-json", "-registry", "docker://" + registry.Host + "/okd",
			"-store", "s3://" + s3.Bucket + "/" + strings.ReplaceAll(tc.name, " ", "-") + "?endpoint=" + store.URL + "&region=" + s3.Region + "&path-style=true",
		}
		tc.cmd = exec.CommandContext(t.Context(), program, tc.args...)
		tc.cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1795608000", "AWS_ACCESS_KEY_ID="+s3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3.SecretKey)
		tc.cmd.Stdout, tc.cmd.Stderr = &tc.stdout, &tc.stderr
		require.NoError(t, tc.cmd.Start())
	}
	t.Parallel() // goes on when the other tests have ended, while these wait
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			require.Error(t, tc.cmd.Wait())
			stderr := tc.stderr.String()
			require.Equal(t, 1, tc.cmd.ProcessState.ExitCode(), stderr)
			require.Empty(t, tc.stdout.String())
			for _, want := range tc.want {
				require.Contains(t, stderr, want)
			}
			require.NotContains(t, stderr, s3.SecretKey)
			requireNotAnnounced(t, tc.proxies[:]...)
			// The servers are well again: the run goes on.
			for _, proxy := range tc.proxies {
				proxy.Set()
			}
			again := exec.CommandContext(t.Context(), program, tc.args...)
			again.Env = tc.cmd.Env
			out, err := again.Output()
			require.NoError(t, err)
			require.False(t, decode(t, string(out)).Unchanged)
		})
	}
}

// requireNotAnnounced requires that nobody was told of a build.
func requireNotAnnounced(t *testing.T, servers ...*interop.FaultProxy) {
	t.Helper()
	for _, server := range servers {
		for _, request := range server.Requests() {
			require.False(t, strings.HasPrefix(request, "PUT ") && (strings.Contains(request, "/streams/sample.json") || strings.Contains(request, "/manifests/0.0.0")), "announced: %s", request)
		}
	}
}
