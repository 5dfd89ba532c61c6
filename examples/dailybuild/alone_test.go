package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// nobody has no rights that others do not have.
const nobody = 65534

// alone is how a process starts that is nobody, in a network of its own where
// not even the loopback interface is up.
func alone() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	same := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
	}
	return &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER, UidMappings: same(os.Getuid()), GidMappings: same(os.Getgid()),
	}
}

// TestAlone: the build of no flags needs no root, no network, no daemon and no
// other program. It runs as nobody in an empty network, and strace sees that it
// opens no socket, of any kind, and starts nothing.
func TestAlone(t *testing.T) {
	interop.Peer(t, "go", "strace")
	t.Parallel() // to be sure that there is no network takes its time
	program := command(t).Path
	home := t.TempDir()
	for dir := program; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		openFolder(t, dir)
	}
	if os.Getuid() == 0 {
		require.NoError(t, os.Chown(home, nobody, nobody))
	}
	trace := filepath.Join(home, "trace")
	// start gives what the program said and the calls that it made.
	start := func(args ...string) (stdout, calls string, err error) {
		cmd := exec.CommandContext(t.Context(), "strace", append([]string{"-f", "--seccomp-bpf", "-e", "trace=%network,execve", "-o", trace, program}, args...)...)
		cmd.Dir, cmd.SysProcAttr = home, alone()
		cmd.Env = []string{"HOME=" + home, "PATH=/nonexistent", "SOURCE_DATE_EPOCH=1795608000"}
		var out, diagnostics bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &diagnostics
		err = cmd.Run()
		t.Logf("%v: %v\n%s", args, err, diagnostics.String())
		data, readErr := os.ReadFile(trace)
		require.NoError(t, readErr)
		return out.String(), string(data), err
	}
	for _, want := range []string{"localhost/sample/sample-release:0.0.0-sample.20261125", "Nothing changed since build 0.0.20261125-0"} {
		stdout, calls, err := start()
		require.NoError(t, err)
		require.Contains(t, stdout, want)
		require.Equal(t, 1, strings.Count(calls, "execve("), "it starts no program:\n%s", calls)
		require.NotContains(t, calls, "socket", "it opens none")
	}
	report := filepath.Join(home, ".cache", "okd-streams", "sample", "0.0.20261125-0", "report.html")
	require.FileExists(t, report)

	// What is above shows something: a network that there is outside is none here,
	// and who asks for it is seen.
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	stdout, calls, err := start("-registry", "docker://"+server.Addr().String()+"/okd", "-quiet")
	require.Error(t, err)
	require.Empty(t, stdout)
	require.Contains(t, calls, "connect(")
	require.Contains(t, calls, "ENETUNREACH")
}
