package ui_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 3 << 50: "3.0 PiB"} {
		require.Equal(t, want, ui.Size(n))
	}
}

func TestExit(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, 0, ui.Exit(&out, "x", nil))
	require.Empty(t, out.String())
	require.Equal(t, 1, ui.Exit(&out, "x", errors.New("broken")))
	require.Equal(t, 2, ui.Exit(&out, "x", fmt.Errorf("while: %w", ui.Usagef("no %s", "source"))))
	require.Equal(t, 3, ui.Exit(&out, "x", fmt.Errorf("while: %w", &ui.VerificationError{Err: errors.New("damaged")})))
	require.Equal(t, `x: broken
  mend what it says; if there is nothing to mend, report it with the text above and the output of okd-streams version
x: while: no source
  x --help shows what there is, and COMMAND --help how it is called
x: while: damaged
  don't use it: get it again from where it comes from
`, out.String())
}

func TestAdvice(t *testing.T) {
	require.NoError(t, ui.Next(nil, "x"))
	known := ui.Next(fs.ErrNotExist, "look elsewhere")
	require.EqualError(t, known, "file does not exist\n  look elsewhere")
	require.ErrorIs(t, known, fs.ErrNotExist)
	again := ui.Next(fmt.Errorf("while: %w", known), "never said")
	require.EqualError(t, again, "while: file does not exist\n  look elsewhere")

	for _, tc := range []struct {
		err  error
		want string
	}{
		{context.Canceled, "it was stopped"},
		{context.DeadlineExceeded, "did not answer in time"},
		{os.ErrDeadlineExceeded, "did not answer in time"},
		{syscall.ENOSPC, "make room"},
		{syscall.EROFS, "read-only"},
		{syscall.ECONNREFUSED, "nobody listens"},
		{&net.DNSError{Name: "no.example", Err: "no such host"}, "how no.example is spelled"},
		{x509.UnknownAuthorityError{}, "--cert-dir"},
		{syscall.EADDRINUSE, "another program listens"},
		{syscall.EADDRNOTAVAIL, "no such address"},
		{syscall.ENOTDIR, "has to be a folder"},
		{syscall.EISDIR, "has to be a file"},
		{&fs.PathError{Op: "open", Path: "x", Err: errors.New("not a directory")}, "has to be a folder"},
		{json.Unmarshal([]byte("{"), new(any)), "not the JSON"},
		{fs.ErrPermission, "who may do this"},
		{fs.ErrExist, "another name"},
		{fs.ErrNotExist, "check the name"},
		{errors.ErrUnsupported, "x --help shows what can"},
	} {
		var out bytes.Buffer
		require.Equal(t, 1, ui.Exit(&out, "x", fmt.Errorf("while: %w", tc.err)))
		_, advice, ok := strings.Cut(out.String(), "\n  ")
		require.True(t, ok)
		require.Contains(t, advice, tc.want)
	}
}

func TestProgressInPlainLines(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := ui.NewProgress(&out, func() time.Time { return now }, false)
	p.Update("commit", "files", 0, 1<<20, true)
	now = now.Add(time.Second)
	p.Update("commit", "files", 100, 1<<20, true) // too soon
	now = now.Add(9 * time.Second)
	p.Update("commit", "files", 1<<19, 1<<20, true)
	p.Update("push", "", 0, 0, false)
	p.Done()
	require.Equal(t, "commit files\ncommit files: 512.0 KiB of 1.0 MiB (50 %), 51.2 KiB/s, 10s left\npush\n", out.String())
}

func TestProgressQuiet(t *testing.T) {
	var out bytes.Buffer
	ui.NewProgress(&out, time.Now, true).Update("commit", "files", 1, 2, true)
	require.Empty(t, out.String())
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, ui.Table(&out, [][]string{{"a", "long"}, {"longer", "b"}}))
	require.Equal(t, "a       long\nlonger  b\n", out.String())
}

// TestWrite: what cannot be written is named as it was asked for.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	none := func(io.Writer) error { return nil }
	require.EqualError(t, ui.Output(io.Discard, dir, none), "write "+dir+": is a directory")
	missing := filepath.Join(dir, "missing", "file")
	require.EqualError(t, ui.Output(io.Discard, missing, none), "write "+missing+": no such file or directory")
	require.NoError(t, ui.Exists("dir:"+dir))
	require.NoError(t, ui.Exists("s3://bucket"))
	require.ErrorIs(t, ui.Exists("dir:"+missing), fs.ErrNotExist)
}
