package cachestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/cachestore"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func dir(t *testing.T) (*dirstore.Store, string) {
	t.Helper()
	path := t.TempDir()
	s, err := dirstore.Open(t.Context(), path, &dirstore.Options{NoSync: true})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, path
}

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		local, _ := dir(t)
		return cachestore.New(memstore.New(), local, nil)
	})
}

// counting counts the opens of a store.
func counting(inner publish.Store, opens *int) publish.Store {
	var mu sync.Mutex
	return publishtest.Faulty(inner, func(c publishtest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == "open" && !c.After {
			*opens++
		}
		return nil
	})
}

func put(t *testing.T, s publish.Store, key, text string) publish.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, publish.BytesSource([]byte(text)), nil)
	require.NoError(t, err)
	return info
}

func text(t *testing.T, s publish.Store, key string) (string, error) {
	t.Helper()
	body, info, err := s.Open(t.Context(), key)
	if err != nil {
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok)
		return "", err
	}
	require.Equal(t, key, info.Key)
	data, err := io.ReadAll(body)
	require.NoError(t, body.Close())
	return string(data), err
}

func requireText(t *testing.T, s publish.Store, key, want string) {
	t.Helper()
	got, err := text(t, s, key)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBytesMoveOnce(t *testing.T) {
	for _, digests := range []bool{true, false} {
		var inner publish.Store = memstore.New()
		if !digests {
			inner = quiet{inner}
		}
		opens := 0
		remote := counting(inner, &opens)
		local, _ := dir(t)
		s := cachestore.New(remote, local, &cachestore.Options{MaxSize: 10})
		require.Equal(t, remote, s.Unwrap())
		put(t, s, "a", "one")
		for range 3 {
			requireText(t, s, "a", "one")
		}
		require.Equal(t, 1, opens)
		// Another process has the same local store.
		requireText(t, cachestore.New(remote, local, nil), "a", "one")
		require.Equal(t, 1, opens)
		// What changes is read again.
		put(t, inner, "a", "two")
		requireText(t, s, "a", "two")
		requireText(t, s, "a", "two")
		require.Equal(t, 2, opens)
		put(t, inner, "b", "two")
		requireText(t, s, "b", "two")
		if digests {
			require.Equal(t, 2, opens, "the same bytes")
		}
		// What is gone is gone, though its bytes are here.
		require.NoError(t, s.Delete(t.Context(), "a"))
		_, err := text(t, s, "a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		// What is too large is not kept.
		opens = 0
		put(t, s, "large", "eleven more")
		for range 2 {
			requireText(t, s, "large", "eleven more")
		}
		require.Equal(t, 2, opens)
	}
}

// quiet is a store that tells no digests at all.
type quiet struct{ publish.Store }

func (q quiet) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	body, info, err := q.Store.Open(ctx, key)
	info.SHA256 = ""
	return body, info, err
}

func (q quiet) Stat(ctx context.Context, key string) (publish.Info, error) {
	info, err := q.Store.Stat(ctx, key)
	info.SHA256 = ""
	return info, err
}

func TestManyReadersMoveBytesOnce(t *testing.T) {
	opens := 0
	local, _ := dir(t)
	remote := memstore.New()
	s := cachestore.New(counting(remote, &opens), local, nil)
	want := strings.Repeat("x", 1<<20)
	put(t, remote, "key", want)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			got, err := text(t, s, "key")
			if err == nil && got != want {
				err = errors.New("other bytes")
			}
			errs[i] = err
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 1, opens)
}

// files are those of a folder, with what they hold.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	}))
	return out
}

func TestDamageIsFound(t *testing.T) {
	remote := memstore.New()
	local, root := dir(t)
	s := cachestore.New(remote, local, nil)
	put(t, remote, "key", "right")
	requireText(t, s, "key", "right")
	for _, damage := range []string{"wrong", "longer", ""} {
		for path, data := range files(t, root) {
			if data == "right" {
				require.NoError(t, os.WriteFile(path, []byte(damage), 0o600))
			}
		}
		got, err := text(t, s, "key")
		if err != nil {
			require.ErrorIs(t, err, publish.ErrDigest)
			got, err = text(t, s, "key") // it was thrown away
		}
		require.NoError(t, err)
		require.Equal(t, "right", got)
	}
}

func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	t.Run("local", func(t *testing.T) {
		remote := memstore.New()
		put(t, remote, "key", "right")
		s := cachestore.New(remote, publishtest.Faulty(memstore.New(), func(publishtest.Call) error { return broken }), nil)
		requireText(t, s, "key", "right")
	})
	t.Run("remote", func(t *testing.T) {
		inner, opens := memstore.New(), 0
		put(t, inner, "key", "right")
		remote := publishtest.Faulty(inner, func(c publishtest.Call) error {
			if c.Op == "open" {
				opens++
				return broken
			}
			return nil
		})
		s := cachestore.New(remote, memstore.New(), nil)
		_, err := text(t, s, "key")
		require.ErrorIs(t, err, broken)
		require.Equal(t, 1, opens)
	})
	t.Run("remote lies", func(t *testing.T) {
		remote, local := memstore.New(), memstore.New()
		put(t, remote, "key", "right")
		s := cachestore.New(liar{remote}, local, nil)
		_, err := text(t, s, "key")
		require.ErrorIs(t, err, publish.ErrDigest)
		for info := range local.List(t.Context(), "") {
			t.Errorf("%s is cached", info.Key)
		}
	})
	t.Run("digest that is none", func(t *testing.T) {
		for _, sum := range []string{"../../escape", "x", strings.Repeat("Z", 64), strings.Repeat("a/", 32)} {
			remote, local := memstore.New(), memstore.New()
			put(t, remote, "key", "right")
			_, err := text(t, cachestore.New(claims{remote, sum}, local, nil), "key")
			require.True(t, err == nil || errors.Is(err, publish.ErrDigest), "%v", err)
			for info := range local.List(t.Context(), "") {
				t.Errorf("%s is cached", info.Key)
			}
		}
	})
	t.Run("replaced meanwhile", func(t *testing.T) {
		inner := memstore.New()
		put(t, inner, "key", "old")
		remote := publishtest.Faulty(inner, func(c publishtest.Call) error {
			if c.Op == "stat" && c.After {
				put(t, inner, "key", "new")
			}
			return nil
		})
		requireText(t, cachestore.New(remote, memstore.New(), nil), "key", "new")
	})
}

// liar has other bytes than it says.
type liar struct{ publish.Store }

func (l liar) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	body, info, err := l.Store.Open(ctx, key)
	if err == nil {
		body.Close()
	}
	return io.NopCloser(bytes.NewReader([]byte("wrong"))), info, err
}

// claims says that every object has one digest.
type claims struct {
	publish.Store
	sum string
}

func (c claims) Stat(ctx context.Context, key string) (publish.Info, error) {
	info, err := c.Store.Stat(ctx, key)
	info.SHA256 = c.sum
	return info, err
}

func ExampleNew() {
	ctx := context.Background()
	bucket, cache := memstore.New(), memstore.New()
	s := cachestore.New(bucket, cache, nil)
	_, err := s.Put(ctx, "builds.json", publish.BytesSource([]byte("{}")), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, info, err := s.Open(ctx, "builds.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(info.Key, string(data), err)
	for info, err := range cache.List(ctx, "") {
		fmt.Println(info.Key[:16], info.Size, err)
	}
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, err, s.Delete(ctx, info.Key))
	}
	_, err = s.Stat(ctx, "builds.json")
	fmt.Println(err)
	// Output:
	// builds.json {} <nil>
	// sha256/44/44136f 2 <nil>
	// builds.json <nil> <nil>
	// publish: stat builds.json: file does not exist
}
