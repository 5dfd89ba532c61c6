package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
)

// What the process outside tells those inside.
const (
	stageVariable   = "OKD_STREAMS_CLUSTER_STAGE"   // "init" or "tests"; outside empty
	peersVariable   = "OKD_STREAMS_CLUSTER_PEERS"   // folder of buildPeers
	programVariable = "OKD_STREAMS_CLUSTER_PROGRAM" // okd-streams
)

const (
	// runFolder is on a file system of its own that nobody else sees.
	runFolder = "/run/okd-streams"
	// cgroupName is the folder of the cluster in each hierarchy of cgroups.
	cgroupName = "okd-streams-e2e"
	cgroupRoot = "/sys/fs/cgroup"
	// scratchName is the pattern of the folder outside, with the program.
	scratchName = "okd-streams-cluster-*"
)

// Main runs the tests of a package in namespaces of their own, in which [Get]
// may start a cluster, and gives the exit code for TestMain. Before, it builds
// what is missing.
func Main(m *testing.M) int {
	switch os.Getenv(stageVariable) {
	case "init":
		return report(initMain())
	case "tests":
		return m.Run()
	}
	if !interop.Enabled() {
		return m.Run() // all that need a cluster skip
	}
	return report(outside())
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return code
}

// check says what is missing on this machine.
func check() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the cluster needs root: %w", fs.ErrPermission)
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "docker-registry", "skopeo"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("the cluster needs Debian's packages containerd, runc, docker-registry and skopeo: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(cniPlugins, "bridge")); err != nil {
		return fmt.Errorf("the cluster needs Debian's package containernetworking-plugins: %w", err)
	}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "memory", "cgroup.procs")); err != nil {
		return fmt.Errorf("the cluster needs cgroups version 1: %w", err)
	}
	return nil
}

// outside prepares all that needs the network and the machine's own folders,
// runs the tests inside, and cleans up.
func outside() (int, error) {
	if err := check(); err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	peers, err := buildPeers(ctx)
	if err != nil {
		return 1, err
	}
	if _, err := interop.BuildVersitygw(ctx); err != nil {
		return 1, err
	}

	// One cluster at a time: what they share is the cgroups' names. Whoever has the
	// lock removes what a run that was killed left.
	lock, err := os.Open(cgroupRoot)
	if err != nil {
		return 1, err
	}
	defer lock.Close()
	if err := waitLock(ctx, lock); err != nil {
		return 1, err
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), scratchName))
	if err != nil {
		return 1, err
	}
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err := errors.Join(err, removeCgroups()); err != nil {
		return 1, err
	}
	scratch, err := os.MkdirTemp("", scratchName)
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	program := filepath.Join(scratch, "okd-streams")
	if err := buildProgram(ctx, program); err != nil {
		return 1, err
	}
	code, err := inside(ctx, peers, program)
	return code, errors.Join(err, removeCgroups())
}

// waitLock takes the lock as soon as no other run has it.
func waitLock(ctx context.Context, file *os.File) error {
	for told := false; ; told = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !told {
			fmt.Fprintln(os.Stderr, "cluster: waiting for another cluster on this machine")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// inside runs this program again as the first process of new namespaces. All
// processes in them end when it does, and it ends when we do.
func inside(ctx context.Context, peers, program string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"=init", peersVariable+"="+peers, programVariable+"="+program)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// initMain is the first process: it makes the namespaces livable, starts the
// tests, and takes the exit codes of all that lost their parents.
func initMain() (int, error) {
	if err := prepareMounts(); err != nil {
		return 1, err
	}
	if err := prepareNetwork(); err != nil {
		return 1, err
	}
	temp := filepath.Join(runFolder, "tmp")
	if err := os.MkdirAll(temp, 0o777); err != nil {
		return 1, err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, stageVariable+"=") })
	process, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env: append(env, stageVariable+"=tests", "TMPDIR="+temp), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid != process.Pid:
		case status.Signaled():
			return 1, fmt.Errorf("the tests were ended by %s", status.Signal())
		default:
			return status.ExitStatus(), nil
		}
	}
}

// prepareMounts makes mounts private, and gives the namespace a /proc and an
// empty /run in memory, where containerd, runc and CNI keep what they have.
func prepareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"tmpfs", "/run", "mode=755,size=6g"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	// Kubelet wants to pass mounts on to containers.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("shared mounts: %w", err)
	}
	return os.MkdirAll(runFolder, 0o755)
}

// cgroupHierarchies gives the folders of all hierarchies.
func cgroupHierarchies() ([]string, error) {
	procs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	var dirs []string
	for _, p := range procs {
		dirs = append(dirs, filepath.Dir(p))
	}
	return dirs, err
}

// makeCgroups makes the cluster's folder in each hierarchy.
func makeCgroups() error {
	dirs, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		own := filepath.Join(dir, cgroupName)
		if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new one
			value, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(own, name), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes these folders. What was in them has ended; the kernel
// may need a moment to see it.
func removeCgroups() error {
	dirs, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var folders []string
		err := filepath.WalkDir(filepath.Join(dir, cgroupName), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err == nil && d.IsDir() {
				folders = append(folders, path)
			}
			return err
		})
		if err != nil {
			return err
		}
		slices.Reverse(folders) // those within first
		for _, folder := range folders {
			err := unix.Rmdir(folder)
			for wait := time.Millisecond; errors.Is(err, unix.EBUSY) && wait < 10*time.Second; wait *= 2 {
				time.Sleep(wait)
				err = unix.Rmdir(folder)
			}
			if err != nil {
				return fmt.Errorf("remove cgroup %s: %w", folder, err)
			}
		}
	}
	return nil
}
