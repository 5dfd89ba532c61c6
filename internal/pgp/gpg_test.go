package pgp_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// gpg runs GnuPG in a home of its own.
type gpg struct {
	t    testing.TB
	home string
	pass string // that protects new keys; "": nothing does, which is quicker
}

// newGPG makes an empty home, with a path short enough for the agent's socket.
func newGPG(t testing.TB) *gpg {
	t.Helper()
	interop.Peer(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg")
	require.NoError(t, err)
	g := &gpg{t: t, home: home}
	g.file("gpg-agent.conf", []byte("s2k-count 65536\n")) // as little work for a passphrase as may be
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--homedir", home, "--kill", "all")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("gpgconf: %v: %s", err, out)
		}
		require.NoError(t, os.RemoveAll(home))
	})
	return g
}

// try runs gpg at a time and gives what it wrote and how it ended.
func (g *gpg) try(at time.Time, stdin []byte, args ...string) (stdout, stderr string, err error) {
	g.t.Helper()
	base := []string{"--homedir", g.home, "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", g.pass,
		"--faked-system-time", at.UTC().Format("20060102T150405") + "!", "--trust-model", "always", "--allow-weak-key-signatures"}
	cmd := exec.CommandContext(g.t.Context(), "gpg", append(base, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(stdin)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err = cmd.Run()
	return out.String(), diag.String(), err
}

// run is try that must work.
func (g *gpg) run(at time.Time, stdin []byte, args ...string) []byte {
	g.t.Helper()
	out, diag, err := g.try(at, stdin, args...)
	require.NoError(g.t, err, "gpg %s\n%s", strings.Join(args, " "), diag)
	return []byte(out)
}

// file writes a file into the home and gives its path.
func (g *gpg) file(name string, data []byte) string {
	g.t.Helper()
	path := filepath.Join(g.home, name)
	require.NoError(g.t, os.WriteFile(path, data, 0o600))
	return path
}

// verdict is what gpg says of the signatures of a file: the status word of
// each, and ERRSIG with its reason.
func (g *gpg) verdict(at time.Time, args ...string) []string {
	g.t.Helper()
	out, _, _ := g.try(at, nil, append([]string{"--status-fd", "1"}, args...)...)
	var all []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "[GNUPG:]" {
			continue
		}
		switch fields[1] {
		case "GOODSIG", "BADSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG":
			all = append(all, fields[1])
		case "ERRSIG":
			all = append(all, fmt.Sprintf("ERRSIG %s", fields[7]))
		}
	}
	return all
}

// fingerprint of a user's primary key, and of its first subkey.
func (g *gpg) fingerprints(user string) []string {
	g.t.Helper()
	var all []string
	for line := range strings.Lines(string(g.run(day(0), nil, "--with-colons", "--list-keys", "="+user))) {
		if f := strings.Split(strings.TrimSpace(line), ":"); f[0] == "fpr" {
			all = append(all, f[9])
		}
	}
	return all
}

// passphrase protects the secret keys of the fixtures.
const passphrase = "correct horse"

// day is so many days after the first, at noon.
func day(n int) time.Time { return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, n) }
