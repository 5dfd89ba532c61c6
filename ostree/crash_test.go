package ostree_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

const crashVariable = "OSTREE_TEST_CRASH_REPO"

// TestMain is the child of TestKilled where its variable is set: it commits
// without end until it is killed.
func TestMain(m *testing.M) {
	if repo := os.Getenv(durableVariable); repo != "" {
		if err := durableChild(repo); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if repo := os.Getenv(crashVariable); repo != "" {
		if delta := os.Getenv(crashDeltaVariable); delta != "" {
			fmt.Fprintln(os.Stderr, crashDelta(repo, delta))
		}
		if mode := os.Getenv(crashInitVariable); mode != "" {
			if _, err := ostree.Init(context.Background(), repo, ostree.Mode(mode), nil); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(4)
		}
		fmt.Fprintln(os.Stderr, crashChild(repo))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func crashChild(repo string) error {
	ctx := context.Background()
	r, err := ostree.Open(ctx, repo, nil)
	if err != nil {
		return err
	}
	for seed := uint64(os.Getpid()); ; seed++ {
		fmt.Println("commit")
		if _, err := r.Commit(ctx, treegen.Tree(seed, &treegen.Options{Files: 80, MaxSize: 3 << 19}), &ostree.CommitOptions{Ref: "crash"}); err != nil {
			return err
		}
	}
}

// TestKilled kills a process that commits at many points; each time the
// repository must be without faults and the next commit must clean up.
func TestKilled(t *testing.T) {
	rounds := 6
	peer := interop.Enabled()
	if peer {
		interop.Peer(t, "ostree")
		rounds = 20
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			killed(t, newRepo(t, mode), exe, rounds, peer)
		})
	}
}

func killed(t *testing.T, r *ostree.Repo, exe string, rounds int, peer bool) {
	left := 0
	for i := range rounds {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), crashVariable+"="+r.Path())
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan(), "the child committed nothing")
		time.Sleep(time.Duration(i) * 7 * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		require.Equal(t, syscall.SIGKILL, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
		left += len(staging(t, r))
		require.NoError(t, r.Fsck(t.Context(), nil))
		if peer {
			run(t, "ostree", "--repo="+r.Path(), "fsck")
		}
		if i%2 == 1 {
			_, err = r.Commit(t.Context(), literal(dir(".")), nil)
			require.NoError(t, err)
			requireClean(t, r)
		}
	}
	require.NotZero(t, left, "no kill hit a transaction")
}

func staging(t testing.TB, r *ostree.Repo) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.Path(), "tmp", "staging-*-??????"))
	require.NoError(t, err)
	return names
}

// TestStagingOfOthers: what a running process or libostree stages is left alone.
func TestStagingOfOthers(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	name := func(suffix string) string {
		return filepath.Join(r.Path(), "tmp", "staging-"+strings.TrimSpace(string(boot))+"-"+suffix)
	}
	require.NoError(t, os.MkdirAll(name("theirs")+"/ab", 0o755))
	require.NoError(t, os.WriteFile(name("theirs")+"-lock", nil, 0o600))
	require.NoError(t, os.MkdirAll(name("inuse0")+"/okd/ab", 0o755))
	f, err := os.Create(name("inuse0") + "-lock")
	require.NoError(t, err)
	defer f.Close()
	lockFile(t, f, unix.F_WRLCK)
	require.NoError(t, os.MkdirAll(name("stale0")+"/okd/ab", 0o755))
	require.NoError(t, os.WriteFile(name("stale0")+"/okd/ab/file", []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(name("stale0")+"-lock", nil, 0o600))
	_, err = r.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err)
	require.DirExists(t, name("theirs"))
	require.DirExists(t, name("inuse0"))
	require.NoDirExists(t, name("stale0"))
	require.NoFileExists(t, name("stale0")+"-lock")
	require.NoError(t, f.Close())
	_, err = r.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err)
	require.NoDirExists(t, name("inuse0"))
}

func lockFile(t testing.TB, f *os.File, kind int16) {
	t.Helper()
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind}))
}

func TestLocks(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	require.NoError(t, r.SetConfig(t.Context(), "core", "lock-timeout-secs", "0"))
	impatient, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer impatient.Close()

	f, err := os.OpenFile(filepath.Join(r.Path(), ".lock"), os.O_RDWR|os.O_CREATE, 0o660)
	require.NoError(t, err)
	defer f.Close()
	lockFile(t, f, unix.F_RDLCK)
	_, err = impatient.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err, "shared locks don't exclude each other")
	lockFile(t, f, unix.F_WRLCK)
	_, err = impatient.Commit(t.Context(), literal(dir(".")), nil)
	require.ErrorContains(t, err, "lock-timeout-secs")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = r.Commit(ctx, literal(dir(".")), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	done := make(chan error)
	go func() {
		_, err := r.Commit(t.Context(), literal(dir(".")), nil)
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	lockFile(t, f, unix.F_UNLCK)
	require.NoError(t, <-done)
}

// TestLocksWithPeer: while we hold the lock, `ostree prune` waits, and the other
// way round; two commits go on at once.
func TestLocksWithPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	r := newRepo(t, ostree.ModeBareUser)
	run(t, "ostree", "--repo="+r.Path(), "config", "set", "core.lock-timeout-secs", "0")
	source := t.TempDir()
	require.NoError(t, os.WriteFile(source+"/a", []byte("1"), 0o644))
	// A tree whose sequence stops until it is told to go on holds a transaction
	// open.
	begun, proceed := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := r.Commit(t.Context(), ostree.TreeFunc(func(ctx context.Context) seq {
			return func(yield func(ostree.Entry, error) bool) {
				close(begun)
				<-proceed
				if yield(dir("."), nil) {
					yield(file("b", "2"), nil)
				}
			}
		}), &ostree.CommitOptions{Ref: "ours"})
		done <- err
	}()
	<-begun
	require.Len(t, staging(t, r), 1)
	out, err := exec.CommandContext(t.Context(), "ostree", "--repo="+r.Path(), "prune", "--refs-only").CombinedOutput()
	require.Error(t, err, "prune did not respect our lock")
	require.Contains(t, strings.ToLower(string(out)), "lock")
	run(t, "ostree", "--repo="+r.Path(), "commit", "-b", "theirs", source)
	require.Len(t, staging(t, r), 1, "ostree took our staging folder")
	close(proceed)
	require.NoError(t, <-done)
	run(t, "ostree", "--repo="+r.Path(), "prune", "--refs-only")
	run(t, "ostree", "--repo="+r.Path(), "fsck")
	require.Equal(t, "ours\ntheirs\n", run(t, "ostree", "--repo="+r.Path(), "refs"))

	// Many of both at once.
	ends := make(chan error)
	for i := range 4 {
		go func() {
			_, err := r.Commit(t.Context(), treegen.Tree(uint64(i), nil), &ostree.CommitOptions{Ref: fmt.Sprint("ours", i)})
			ends <- err
		}()
		go func() {
			ends <- peerCommit(t.Context(), r.Path(), fmt.Sprint("theirs", i), source)
		}()
	}
	var errs error
	for range 8 {
		errs = errors.Join(errs, <-ends)
	}
	require.NoError(t, errs)
	run(t, "ostree", "--repo="+r.Path(), "fsck")
	require.NoError(t, r.Fsck(t.Context(), nil))
}

// peerCommit runs `ostree commit` beside others. Two of its processes may take a
// staging folder for theirs that one has made and not yet opened (libostree 2022.7);
// the second removes it at its end, and the first fails before it did anything.
func peerCommit(ctx context.Context, repo, branch, source string) error {
	for again := 0; ; again++ {
		out, err := exec.CommandContext(ctx, "ostree", "--repo="+repo, "commit", "-b", branch, source).CombinedOutput()
		if err == nil {
			return nil
		}
		if again == 10 || !strings.HasPrefix(string(out), "error: opendir(staging-") {
			return fmt.Errorf("ostree commit: %w: %s", err, out)
		}
	}
}

// TestFullDisk commits into a file system that is too small.
func TestFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
		if interop.Enabled() && isRoot() {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("mount tmpfs: %v", err)
	}
	defer func() { require.NoError(t, unix.Unmount(mount, 0)) }()
	for _, mode := range modes {
		for _, percent := range []string{"0", "3"} {
			path := filepath.Join(mount, string(mode)+percent)
			r, err := ostree.Init(t.Context(), path, mode, nil)
			require.NoError(t, err)
			require.NoError(t, r.SetConfig(t.Context(), "core", "min-free-space-percent", percent))
			require.NoError(t, r.Close())
			r, err = ostree.Open(t.Context(), path, nil)
			require.NoError(t, err)
			entries := []ostree.Entry{dir(".")}
			for i := range 300 {
				entries = append(entries, file(fmt.Sprint("f", i), noise(uint64(i), 100_000)))
			}
			_, err = r.Commit(t.Context(), literal(entries...), &ostree.CommitOptions{Ref: "x"})
			if mode == ostree.ModeBareUser && err != nil && strings.Contains(err.Error(), "not supported") {
				t.Logf("no user attributes on this tmpfs: %v", err)
			} else {
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.NotContains(t, err.Error(), "\n", "one error")
				if percent != "0" {
					require.ErrorContains(t, err, "min-free-space-percent 3%")
				}
			}
			require.Empty(t, objectNames(t, path))
			requireClean(t, r)
			require.NoError(t, r.Fsck(t.Context(), nil))
			require.NoError(t, r.Close())
			require.NoError(t, os.RemoveAll(path))
		}
	}
}

// noise is n bytes that don't compress.
func noise(seed uint64, n int) string {
	var b strings.Builder
	x := seed*2654435761 + 1
	for b.Len() < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte(byte(x >> 32))
	}
	return b.String()
}
