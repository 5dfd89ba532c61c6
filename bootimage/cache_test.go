package bootimage_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/stretchr/testify/require"
)

func cacheOptions(now time.Time) *bootimage.CacheOptions {
	return &bootimage.CacheOptions{DownloadOptions: bootimage.DownloadOptions{Transport: http.DefaultTransport, RangeSize: 64 << 10, Now: now}}
}

func TestCache(t *testing.T) {
	data := noise(300_000)
	server := &fileServer{data: data, ranges: true}
	e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}
	root := openRoot(t)
	cache := bootimage.NewCache(root)
	o := cacheOptions(time.Unix(1764100000, 0))
	o.Offline = true
	_, _, err := cache.Open(t.Context(), e, o)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "offline, and not in the cache")
	o.Offline = false

	read := func(o *bootimage.CacheOptions) *bootimage.Downloaded {
		file, done, err := cache.Open(t.Context(), e, o)
		require.NoError(t, err)
		got, err := io.ReadAll(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		require.Equal(t, data, got)
		return done
	}
	require.Equal(t, int64(len(data)), read(o).Fetched)
	o.Offline = true
	require.Zero(t, read(o).Fetched)
	require.Equal(t, []string{e.SHA256}, names(t, root))
	info, err := root.Stat(e.SHA256)
	require.NoError(t, err)
	require.Equal(t, o.Now.Unix(), info.ModTime().Unix())

	// A file that was harmed in the cache is found out, and read again.
	require.NoError(t, root.WriteFile(e.SHA256, data[1:], 0o644))
	_, _, err = cache.Open(t.Context(), e, o)
	require.ErrorIs(t, err, fs.ErrNotExist)
	o.Offline = false
	require.Equal(t, int64(len(data)), read(o).Fetched)

	_, _, err = cache.Open(t.Context(), bootimage.Entry{URL: e.URL}, o)
	require.ErrorIs(t, err, fs.ErrInvalid)
	o.Decompress = true
	_, _, err = cache.Open(t.Context(), e, o)
	require.ErrorContains(t, err, "is not the SHA-256 of what is to be kept")
}

func TestCacheKeepsSignatures(t *testing.T) {
	dir := interop.SharedData(t, "bootimage", "coreos-installer", "verify")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	server := &fileServer{data: read("1M.xz"), sig: read("1M.xz.sig")}
	content := sum256(make([]byte, 1<<20))
	root := openRoot(t)
	cache := bootimage.NewCache(root)
	o := cacheOptions(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
	o.Keys = [][]byte{read("test-key.pub.asc")}
	e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(server.data), UncompressedSHA256: content}
	for range 2 {
		file, done, err := cache.Open(t.Context(), e, o)
		require.NoError(t, err)
		require.Len(t, done.SignedBy, 1)
		require.NoError(t, file.Close())
		require.Equal(t, []string{e.SHA256, e.SHA256 + ".sig"}, names(t, root))
		o.Offline = true
	}
	done, err := cache.Collect(t.Context(), &bootimage.CollectOptions{MaxBytes: 1})
	require.NoError(t, err)
	require.Equal(t, []string{e.SHA256}, done.Removed)
	require.Empty(t, names(t, root))
}

func TestCacheCollect(t *testing.T) {
	root := openRoot(t)
	cache := bootimage.NewCache(root)
	start := time.Unix(1764100000, 0)
	var sums []string
	for i := range 4 {
		data := noise(100_000 + i)
		e := bootimage.Entry{URL: serve(t, &fileServer{data: data, ranges: true}), SHA256: sum256(data)}
		file, _, err := cache.Open(t.Context(), e, cacheOptions(start.Add(time.Duration(i)*time.Hour)))
		require.NoError(t, err)
		require.NoError(t, file.Close())
		sums = append(sums, e.SHA256)
	}
	require.NoError(t, root.WriteFile("README", []byte("x"), 0o644))
	require.NoError(t, root.WriteFile("."+sum256(nil)+".part", []byte("stopped"), 0o644))
	require.NoError(t, root.Chtimes("."+sum256(nil)+".part", start, start))
	now := start.Add(4 * time.Hour)

	none, err := cache.Collect(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none.Removed)
	require.Equal(t, int64(400_006+7), none.LeftBytes)
	done, err := cache.Collect(t.Context(), &bootimage.CollectOptions{Now: now, MaxAge: 3*time.Hour + time.Minute})
	require.NoError(t, err)
	require.Equal(t, &bootimage.Collected{Removed: sums[:1], RemovedBytes: 100_007, LeftBytes: 300_006}, done)
	done, err = cache.Collect(t.Context(), &bootimage.CollectOptions{MaxBytes: 210_000})
	require.NoError(t, err)
	require.Equal(t, sums[1:2], done.Removed)
	require.ElementsMatch(t, []string{"README", sums[2], sums[3]}, names(t, root))
	_, err = cache.Collect(t.Context(), &bootimage.CollectOptions{MaxAge: 1})
	require.ErrorIs(t, err, fs.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = cache.Collect(ctx, &bootimage.CollectOptions{MaxBytes: 1})
	require.ErrorIs(t, err, context.Canceled)
}

// TestCacheAtOnce opens a file from many sides while others collect.
func TestCacheAtOnce(t *testing.T) {
	data := noise(200_000)
	server := &fileServer{data: data, ranges: true}
	e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}
	cache := bootimage.NewCache(openRoot(t))
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			if i%4 == 3 {
				_, errs[i] = cache.Collect(t.Context(), &bootimage.CollectOptions{MaxBytes: 1})
				return
			}
			file, _, err := cache.Open(t.Context(), e, cacheOptions(time.Time{}))
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(file); err == nil && sum256(got) != e.SHA256 {
					err = fmt.Errorf("other bytes")
				}
				_ = file.Close()
			}
			errs[i] = err
		})
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func ExampleCache_Open() {
	disk := []byte("a disk")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(disk) }))
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	cache := bootimage.NewCache(root)
	entry := bootimage.Entry{URL: server.URL + "/disk.raw", SHA256: sum256(disk)}
	opts := &bootimage.CacheOptions{}
	for range 2 {
		file, done, err := cache.Open(context.Background(), entry, opts)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(done.Size, done.Fetched)
		if err := file.Close(); err != nil {
			fmt.Println(err)
			return
		}
		server.Close() // the second time it is not asked
		opts.Offline = true
	}
	collected, err := cache.Collect(context.Background(), &bootimage.CollectOptions{MaxBytes: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(collected.Removed))
	// Output:
	// 6 6
	// 6 0
	// 1
}
