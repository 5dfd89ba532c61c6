package bootimage_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

const downloadVariable = "OKD_STREAMS_TEST_DOWNLOAD"

// childDownload is what TestDownloadChild does, into a cache or a folder.
type childDownload struct {
	Dir        string
	Entry      bootimage.Entry
	Cache      bool
	Decompress bool
}

func (c childDownload) options() *bootimage.CacheOptions {
	return &bootimage.CacheOptions{DownloadOptions: bootimage.DownloadOptions{
		RangeSize: 64 << 10, Connections: 1, Transport: http.DefaultTransport, Decompress: c.Decompress,
	}}
}

func (c childDownload) do(t *testing.T) *bootimage.Downloaded {
	t.Helper()
	root, err := os.OpenRoot(c.Dir)
	require.NoError(t, err)
	defer root.Close()
	if c.Cache {
		file, done, err := bootimage.NewCache(root).Open(t.Context(), c.Entry, c.options())
		require.NoError(t, err)
		require.NoError(t, file.Close())
		return done
	}
	done, err := bootimage.Download(t.Context(), root, "d.raw", c.Entry, &c.options().DownloadOptions)
	require.NoError(t, err)
	return done
}

// start runs it in a process of its own.
func (c childDownload) start(t *testing.T) (cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	data, err := json.Marshal(c)
	require.NoError(t, err)
	cmd, output = exec.CommandContext(t.Context(), self, "-test.run=^TestDownloadChild$"), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), downloadVariable+"="+string(data))
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	return cmd, output
}

// TestDownloadChild is a process of its own.
func TestDownloadChild(t *testing.T) {
	text := os.Getenv(downloadVariable)
	if text == "" {
		t.Skip("started by other tests")
	}
	var c childDownload
	require.NoError(t, json.Unmarshal([]byte(text), &c))
	c.do(t)
}

// stopAt gives a channel that is closed when a server gets its nth request, which is
// answered, or cut, when the other is closed.
func (s *fileServer) stopAt(n int, cut bool) (reached, goOn chan struct{}) {
	reached, goOn = make(chan struct{}), make(chan struct{})
	s.before(func(i int) {
		if i == n {
			close(reached)
			<-goOn
			if cut {
				panic(http.ErrAbortHandler)
			}
		}
	})
	return reached, goOn
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// TestDownloadKilled kills a process in the midst of a download, and another one goes on.
func TestDownloadKilled(t *testing.T) {
	content := noise(1 << 20)
	packed, m := compressed(t, content, nil)
	e := bootimage.Entry{SHA256: m.SHA256, UncompressedSHA256: m.UncompressedSHA256}
	for name, c := range map[string]childDownload{
		"file": {}, "content": {Decompress: true}, "cached file": {Cache: true}, "cached content": {Cache: true, Decompress: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := &fileServer{data: packed, ranges: true, etag: `"1"`}
			reached, goOn := server.stopAt(9, true)
			c.Dir, c.Entry = t.TempDir(), e
			c.Entry.URL = serve(t, server)
			final, want := "d.raw", packed
			if c.Decompress {
				want = content
			}
			if c.Cache {
				final = sum256(want)
			}
			kill := func() {
				cmd, output := c.start(t)
				select {
				case <-reached:
				case <-time.After(time.Minute):
					t.Error("no ninth request")
				}
				if c.Decompress { // it is written behind
					require.Eventually(t, func() bool { return exists(filepath.Join(c.Dir, "."+final+".content")) }, time.Minute, time.Millisecond)
				}
				require.NoError(t, cmd.Process.Kill())
				require.ErrorContains(t, cmd.Wait(), "killed", output.String())
				close(goOn)
				require.False(t, exists(filepath.Join(c.Dir, final)))
				require.True(t, exists(filepath.Join(c.Dir, "."+final+".part")))
			}
			kill()
			server.before(nil)
			server.asked.Store(0)
			done := c.do(t)
			require.Equal(t, int64(len(packed)), done.Size)
			require.Equal(t, int64(len(packed)-8*64<<10), done.Fetched, "eight ranges were there")
			require.Equal(t, done.Fetched, server.asked.Load())
			require.Equal(t, map[string]string{final: string(want)}, folderOf(t, c.Dir))

			// Nobody goes on: it is collected.
			require.NoError(t, os.Remove(filepath.Join(c.Dir, final)))
			server.requests.Store(0)
			reached, goOn = server.stopAt(9, true)
			kill()
			if !c.Cache {
				return
			}
			root, err := os.OpenRoot(c.Dir)
			require.NoError(t, err)
			defer root.Close()
			var size int64
			for _, data := range folderOf(t, c.Dir) {
				size += int64(len(data))
			}
			collected, err := bootimage.NewCache(root).Collect(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, &bootimage.Collected{LeftBytes: size}, collected)
			collected, err = bootimage.NewCache(root).Collect(t.Context(), &bootimage.CollectOptions{MaxBytes: 1})
			require.NoError(t, err)
			require.Equal(t, &bootimage.Collected{RemovedBytes: size}, collected)
			require.Empty(t, folderOf(t, c.Dir))
		})
	}
}

// TestCacheCollectLocked: what another process downloads is left.
func TestCacheCollectLocked(t *testing.T) {
	data := noise(1 << 20)
	server := &fileServer{data: data, ranges: true, etag: `"1"`}
	reached, goOn := server.stopAt(9, false)
	c := childDownload{Dir: t.TempDir(), Entry: bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}, Cache: true}
	answer := sync.OnceFunc(func() { close(goOn) })
	defer answer()
	cmd, output := c.start(t)
	<-reached
	root, err := os.OpenRoot(c.Dir)
	require.NoError(t, err)
	defer root.Close()
	cache := bootimage.NewCache(root)
	before := names(t, root)
	all := &bootimage.CollectOptions{MaxBytes: 1, MaxAge: 1, Now: time.Now().Add(time.Hour)}
	collected, err := cache.Collect(t.Context(), all)
	require.NoError(t, err)
	require.Zero(t, collected.RemovedBytes)
	require.Less(t, int64(len(data)), collected.LeftBytes)
	require.Equal(t, before, names(t, root))

	// The file is being verified: also with its name it is left.
	name := c.Entry.SHA256
	require.NoError(t, root.WriteFile(name, data, 0o644))
	collected, err = cache.Collect(t.Context(), all)
	require.NoError(t, err)
	require.Empty(t, collected.Removed)
	require.NoError(t, root.Remove(name))

	answer()
	require.NoError(t, cmd.Wait(), "%s", output)
	require.Equal(t, int32(16), server.requests.Load())
	collected, err = cache.Collect(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, &bootimage.Collected{Removed: []string{name}, RemovedBytes: int64(len(data))}, collected)
	require.Empty(t, names(t, root))
}

// TestCacheCollectLeftovers: all that a cache writes is counted and collected.
func TestCacheCollectLeftovers(t *testing.T) {
	start := time.Unix(1764100000, 0)
	for name, opts := range map[string]*bootimage.CollectOptions{
		"bytes": {MaxBytes: 1}, "age": {MaxAge: time.Hour, Now: start.Add(2 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			root := openRoot(t)
			a, b, c := sum256([]byte("a")), sum256([]byte("b")), sum256([]byte("c"))
			for _, name := range []string{
				"." + a + ".content", b + ".sig", "." + b + ".sig", c, c + ".sig", "." + c + ".part", "." + c + ".part.json", "." + c + ".part.json.new",
			} {
				require.NoError(t, root.WriteFile(name, make([]byte, 1000), 0o644))
				require.NoError(t, root.Chtimes(name, start, start))
			}
			of := []string{"." + a, "." + a + ".txt", a + ".", a + ".sig.sig", "x"} // others'
			for _, name := range of {
				require.NoError(t, root.WriteFile(name, make([]byte, 1000), 0o644))
			}
			done, err := bootimage.NewCache(root).Collect(t.Context(), opts)
			require.NoError(t, err)
			require.Equal(t, &bootimage.Collected{Removed: []string{c}, RemovedBytes: 8000}, done)
			require.ElementsMatch(t, of, names(t, root))
		})
	}
	// The size of a signature is its file's, and it goes with it.
	root := openRoot(t)
	a, b := sum256([]byte("a")), sum256([]byte("b"))
	for i, name := range []string{a + ".sig", a, b, b + ".sig"} {
		require.NoError(t, root.WriteFile(name, make([]byte, 1000), 0o644))
		require.NoError(t, root.Chtimes(name, start, start.Add(time.Duration(i)*time.Hour)))
	}
	done, err := bootimage.NewCache(root).Collect(t.Context(), &bootimage.CollectOptions{MaxBytes: 2000})
	require.NoError(t, err)
	require.Equal(t, &bootimage.Collected{Removed: []string{a}, RemovedBytes: 2000, LeftBytes: 2000}, done)
	require.ElementsMatch(t, []string{b, b + ".sig"}, names(t, root))
}
