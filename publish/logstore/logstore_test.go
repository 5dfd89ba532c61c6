package logstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/logstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(*testing.T) publish.Store {
		return logstore.New(memstore.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	})
}

// logger writes lines without the time.
func logger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	s := logstore.New(memstore.New(), logger(&out, slog.LevelDebug))
	_, err := s.Put(t.Context(), "a/b", publish.BytesSource([]byte("xyz")), &publish.PutOptions{IfAbsent: true})
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "a/b", publish.BytesSource([]byte("xyz")), &publish.PutOptions{IfRevision: "7"})
	require.ErrorIs(t, err, publish.ErrConflict)
	body, _, err := s.Open(t.Context(), "a/b")
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 2))
	require.NoError(t, err)
	require.NoError(t, body.Close())
	_, err = s.Stat(t.Context(), "missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for range s.List(t.Context(), "a") {
	}
	require.NoError(t, s.Delete(t.Context(), "a/b"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{
		"level=INFO msg=store op=put key=a/b size=3 revision=1 if_absent=true",
		"level=INFO msg=store op=put key=a/b size=0 revision=\"\" if_revision=7 error=",
		"level=DEBUG msg=store op=open key=a/b size=3 revision=1",
		"level=DEBUG msg=store op=close key=a/b read=2",
		"level=DEBUG msg=store op=stat key=missing size=0 revision=\"\" error=",
		"level=DEBUG msg=store op=list key=a objects=1",
		"level=INFO msg=store op=delete key=a/b",
	} {
		require.Contains(t, lines[i], want)
	}
	require.Len(t, lines, 7)
}

func TestNoSecretIsLogged(t *testing.T) {
	var out bytes.Buffer
	inner := publishtest.Faulty(memstore.New(), func(publishtest.Call) error {
		return errors.New(`Put "https://u:s3cr3ts3cr3t@h.example/?X-Amz-Signature=s3cr3ts3cr3t": refused (Authorization: Bearer s3cr3ts3cr3t)`)
	})
	s := logstore.New(inner, logger(&out, slog.LevelDebug))
	_, err := s.Put(t.Context(), "key", publish.BytesSource([]byte("s3cr3ts3cr3t")), nil)
	require.Error(t, err)
	_, _, err = s.Open(t.Context(), "https://u:s3cr3ts3cr3t@h.example")
	require.Error(t, err)
	require.Contains(t, out.String(), "refused")
	require.NotContains(t, out.String(), "s3cr3t")
	require.Equal(t, inner, s.Unwrap())
}

func ExampleNew() {
	ctx := context.Background()
	s := logstore.New(memstore.New(), logger(os.Stdout, slog.LevelDebug))
	if _, err := s.Put(ctx, "builds.json", publish.BytesSource([]byte("{}")), nil); err != nil {
		return // it is in the log
	}
	if _, err := s.Stat(ctx, "builds.json"); err != nil {
		return
	}
	body, _, err := s.Open(ctx, "builds.json")
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, body)
	body.Close()
	for info, err := range s.List(ctx, "") {
		if err == nil {
			_ = s.Delete(ctx, info.Key)
		}
	}
	// Output:
	// level=INFO msg=store op=put key=builds.json size=2 revision=1
	// level=DEBUG msg=store op=stat key=builds.json size=2 revision=1
	// level=DEBUG msg=store op=open key=builds.json size=2 revision=1
	// level=DEBUG msg=store op=close key=builds.json read=2
	// level=INFO msg=store op=delete key=builds.json
	// level=DEBUG msg=store op=list key="" objects=1
}
