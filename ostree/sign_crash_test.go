package ostree_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

const signVariable = "OSTREE_TEST_SIGN_REPO"

// TestSignChild is the child of TestSignKilled: it signs, and takes signatures
// away, until it is killed.
func TestSignChild(t *testing.T) {
	repo := os.Getenv(signVariable)
	if repo == "" {
		return
	}
	r, err := ostree.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	c, err := r.Resolve(t.Context(), "os")
	require.NoError(t, err)
	fmt.Println("signing")
	for {
		for i := range byte(20) {
			require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, i)))
		}
		_, err := r.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
		require.NoError(t, err)
	}
}

// TestSignKilled kills a process that signs at many points: detached metadata is
// always whole, and the next signer cleans up.
func TestSignKilled(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	left := 0
	for i := range 12 {
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestSignChild$")
		cmd.Env = append(os.Environ(), signVariable+"="+r.Path())
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		require.True(t, bufio.NewScanner(out).Scan(), "the child signed nothing")
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		left += len(staging(t, r))
		items, err := r.ReadMetadata(t.Context(), c)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(items), 2)
		require.Equal(t, "z", items[0].Key)
		list, err := r.Signatures(t.Context(), c)
		require.NoError(t, err)
		for _, s := range list {
			require.Len(t, s.Data, 64)
		}
	}
	require.NotZero(t, left, "no kill hit a transaction")
	if interop.Enabled() {
		interop.Peer(t, "ostree")
		run(t, "ostree", "--repo="+r.Path(), "fsck")
	}
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 99)))
	noLitter(t, r)
}

// TestSignOnFullDisk leaves what was there.
func TestSignOnFullDisk(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	require.NoError(t, r.SetConfig(t.Context(), "core", "min-free-space-size", "1000000TB"))
	full, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer full.Close()
	before := snapshot(t, r.Path())
	require.ErrorIs(t, full.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 2)), syscall.ENOSPC)
	_, err = full.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, before, snapshot(t, r.Path()))
}

// TestSignWaits: as long as it may, for another who signs and for one who prunes.
func TestSignWaits(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	require.NoError(t, r.SetConfig(t.Context(), "core", "lock-timeout-secs", "0"))
	impatient, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer impatient.Close()
	for _, name := range []string{"tmp/okd-commitmeta-lock", ".lock"} {
		f, err := os.OpenFile(filepath.Join(r.Path(), name), os.O_RDWR|os.O_CREATE, 0o660)
		require.NoError(t, err)
		defer f.Close()
		lockFile(t, f, unix.F_WRLCK)
		require.ErrorContains(t, impatient.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)), "another process holds it", name)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, r.Sign(ctx, c, ostree.SignatureEd25519, edKey(t, 1)), context.DeadlineExceeded, name)
		cancel()
		require.NoError(t, f.Close())
	}
	require.NoError(t, impatient.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	noLitter(t, r)
}
