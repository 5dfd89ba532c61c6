package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSource(seed int64) rand.Source { return rand.NewSource(seed) }

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"", "a", "a/b", "../x", "a//b", "\x00", "a\\b", "\xff", strings.Repeat("k", 1025), "ü", "\x7f"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		var err error
		fuzzbound.Linear(t, len(key), 8, func() { err = publish.CheckKey(key) })
		if err != nil {
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.Less(t, len(err.Error()), 1024)
			return
		}
		require.True(t, utf8.ValidString(key))
		require.True(t, fs.ValidPath(key), key)
		require.NotEqual(t, ".", key)
		require.True(t, filepath.IsLocal(key))
		require.LessOrEqual(t, len(key), publish.MaxKeySize)
		require.NotContains(t, key, "\\")
	})
}

func TestFileSource(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	src, err := publish.FileSource(path)
	require.NoError(t, err)
	require.EqualValues(t, 7, src.Size())
	for range 2 { // can be opened again
		body, err := src.Open(t.Context())
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, "content", string(data))
		require.NoError(t, body.Close())
	}
	require.NoError(t, os.WriteFile(path, []byte("other content"), 0o600))
	_, err = src.Open(t.Context())
	require.ErrorIs(t, err, publish.ErrDigest)

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("file", link))
	_, err = publish.FileSource(link)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = publish.FileSource(dir)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = publish.FileSource(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, 1, strings.Count(err.Error(), "missing"), "the place is named once: %v", err)
}

func TestUpdate(t *testing.T) {
	ctx := t.Context()
	s := memstore.New()
	add := func(text string) func([]byte) ([]byte, error) {
		return func(old []byte) ([]byte, error) { return append(old, text...), nil }
	}
	info, err := publish.Update(ctx, s, "doc", func(old []byte) ([]byte, error) {
		require.Nil(t, old)
		return []byte("1"), nil
	}, &publish.UpdateOptions{ContentType: "text/plain"})
	require.NoError(t, err)
	require.Equal(t, "text/plain", info.ContentType)
	info, err = publish.Update(ctx, s, "doc", add("2"), nil)
	require.NoError(t, err)
	require.Equal(t, "text/plain", info.ContentType, "is kept")

	// Equal bytes are not written.
	same, err := publish.Update(ctx, s, "doc", func(old []byte) ([]byte, error) { return old, nil }, nil)
	require.NoError(t, err)
	require.Equal(t, info.Revision, same.Revision)
	// Nothing of nothing is nothing; empty is a document.
	_, err = publish.Update(ctx, s, "none", func([]byte) ([]byte, error) { return nil, nil }, nil)
	require.NoError(t, err)
	_, err = s.Stat(ctx, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = publish.Update(ctx, s, "empty", func([]byte) ([]byte, error) { return []byte{}, nil }, nil)
	require.NoError(t, err)
	_, err = publish.Update(ctx, s, "empty", func(old []byte) ([]byte, error) {
		require.NotNil(t, old, "exists")
		return old, nil
	}, nil)
	require.NoError(t, err)

	_, err = publish.Update(ctx, s, "doc", func([]byte) ([]byte, error) { return nil, io.ErrNoProgress }, nil)
	require.ErrorIs(t, err, io.ErrNoProgress)
	_, err = publish.Update(ctx, s, "doc", func([]byte) ([]byte, error) { return make([]byte, publish.MaxDocumentSize+1), nil }, nil)
	require.ErrorContains(t, err, "at most")
	_, err = publish.Update(ctx, s, "../doc", add("x"), nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = s.Put(ctx, "big", publish.BytesSource(make([]byte, publish.MaxDocumentSize+1)), nil)
	require.NoError(t, err)
	_, err = publish.Update(ctx, s, "big", add("x"), nil)
	require.ErrorContains(t, err, "at most")
}

func TestUpdateMeetsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := memstore.New()
		calls := 0
		start := time.Now()
		_, err := publish.Update(ctx, s, "doc", func(old []byte) ([]byte, error) {
			if calls++; calls <= 3 { // somebody else is faster
				_, err := s.Put(ctx, "doc", publish.BytesSource([]byte(strings.Repeat("x", calls))), nil)
				require.NoError(t, err)
			}
			return append(old, '!'), nil
		}, &publish.UpdateOptions{Delay: time.Second})
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, time.Since(start), "1 + 2 + 4")
		data, _, err := publish.ReadDocument(ctx, s, "doc")
		require.NoError(t, err)
		require.Equal(t, "xxx!", string(data))

		_, err = publish.Update(ctx, s, "doc", func(old []byte) ([]byte, error) {
			calls++
			_, err := s.Put(ctx, "doc", publish.BytesSource(fmt.Append(nil, calls)), nil)
			require.NoError(t, err)
			return []byte("mine"), nil
		}, &publish.UpdateOptions{Attempts: 3})
		require.ErrorIs(t, err, publish.ErrConflict)
		require.ErrorContains(t, err, "publish: update doc: after 3 attempts")
		pe, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok)
		require.True(t, pe.Retryable)
	})
}

func TestUpdateAfterALostAnswer(t *testing.T) {
	s := memstore.New()
	lost := false
	faulty := publishtest.Faulty(s, func(c publishtest.Call) error {
		if c.Op == "put" && c.After && !lost {
			lost = true
			return &publish.Error{Op: "put", Target: c.Target, Err: io.ErrUnexpectedEOF, Retryable: true}
		}
		return nil
	})
	fn, err := appendLine([]byte(`"line"`))
	require.NoError(t, err)
	_, err = publish.Update(t.Context(), faulty, "doc", fn, &publish.UpdateOptions{Delay: 1})
	require.NoError(t, err)
	data, _, err := publish.ReadDocument(t.Context(), s, "doc")
	require.NoError(t, err)
	require.Equal(t, "line\n", string(data), "written once")
}

// TestUpdateOfABrokenStore: what the store itself tried for long is not tried
// for ten times as long.
func TestUpdateOfABrokenStore(t *testing.T) {
	s := memstore.New()
	puts, conflicts := 0, 0
	faulty := publishtest.Faulty(s, func(c publishtest.Call) error {
		if c.Op != "put" || c.After {
			return nil
		}
		if puts++; puts == 3 && conflicts == 0 {
			conflicts++ // between failures: the store is there
			return &publish.Error{Op: "put", Target: c.Target, Err: publish.ErrConflict}
		}
		return &publish.Error{Op: "put", Target: c.Target, Err: errors.New("busy"), Retryable: true}
	})
	_, err := publish.Update(t.Context(), faulty, "doc", func([]byte) ([]byte, error) { return []byte("mine"), nil }, &publish.UpdateOptions{Delay: 1})
	require.ErrorContains(t, err, "publish: update doc: after 6 attempts")
	require.ErrorContains(t, err, "busy")
	pe, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok)
	require.True(t, pe.Retryable)
	require.Equal(t, 6, puts, "two failures, a conflict, three failures")
}

// unconditional refuses conditions.
type unconditional struct{ publish.Store }

func (u unconditional) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	if opts.IfAbsent || opts.IfRevision != "" {
		return publish.Info{}, &publish.Error{Op: "put", Target: key, Err: errors.ErrUnsupported}
	}
	return u.Store.Put(ctx, key, src, opts)
}

func TestUpdateWithoutConditions(t *testing.T) {
	s := unconditional{memstore.New()}
	add := func(old []byte) ([]byte, error) { return append(old, 'x'), nil }
	_, err := publish.Update(t.Context(), s, "doc", add, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for range 2 {
		_, err = publish.Update(t.Context(), s, "doc", add, &publish.UpdateOptions{SingleWriter: true})
		require.NoError(t, err)
	}
	data, _, err := publish.ReadDocument(t.Context(), s, "doc")
	require.NoError(t, err)
	require.Equal(t, "xx", string(data))
}

func ExampleUpdate() {
	ctx := context.Background()
	s := memstore.New()
	for _, build := range []string{"one", "two", "two"} {
		_, err := publish.Update(ctx, s, "builds.txt", func(old []byte) ([]byte, error) {
			if strings.Contains(string(old), build) {
				return old, nil // unchanged: nothing is written
			}
			return append(old, build+"\n"...), nil
		}, nil)
		if err != nil {
			fmt.Println(err)
		}
	}
	data, _, err := publish.ReadDocument(ctx, s, "builds.txt")
	fmt.Print(string(data), err)
	// Output:
	// one
	// two
	// <nil>
}

func ExampleApply() {
	ctx := context.Background()
	disk := "a disk image"
	plan := &publish.Plan{Version: publish.PlanVersion, Name: "0.0.0-sample", Steps: []publish.Step{
		{Stage: publish.StageContent, Object: &publish.ObjectStep{Key: "disk.raw", SHA256: sum(disk), Size: int64(len(disk))}},
		{Stage: publish.StageGates, Gate: &publish.GateStep{Name: "boots"}},
		{Stage: publish.StageAnnouncement, Document: &publish.DocumentStep{Key: "releases.txt", Transform: "append-line", Argument: []byte(`"0.0.0-sample"`)}},
	}}
	fmt.Print(plan)
	env := &publish.Env{
		Store: memstore.New(),
		Object: func(context.Context, string) (publish.Source, error) {
			return publish.BytesSource([]byte(disk)), nil
		},
		Transforms: map[string]publish.Transform{"append-line": appendLine},
	}
	fmt.Println(publish.Apply(ctx, plan, env, nil))
	env.Gate = func(context.Context, string) (publish.GateResult, error) { return publish.GatePassed, nil }
	fmt.Println(publish.Apply(ctx, plan, env, nil))
	// Output:
	// plan "0.0.0-sample", 3 steps
	// content:
	//   object  disk.raw  12 bytes, sha256 02052f41751f
	// gates:
	//   gate  boots  must have passed
	// announcement:
	//   document  releases.txt  append-line "0.0.0-sample"
	// publish: apply plan "0.0.0-sample": stage gates: waiting for boots
	// <nil>
}
