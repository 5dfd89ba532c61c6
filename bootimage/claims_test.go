package bootimage_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// meeting is where so many wait for each other, or not for ever.
type meeting struct {
	mu    sync.Mutex
	here  int
	want  int
	all   chan struct{}
	alone atomic.Bool // somebody waited in vain
}

func newMeeting(n int) *meeting { return &meeting{want: n, all: make(chan struct{})} }

func (m *meeting) wait() {
	if m.alone.Load() {
		return
	}
	m.mu.Lock()
	if m.here++; m.here == m.want {
		close(m.all)
	}
	m.mu.Unlock()
	select {
	case <-m.all:
	case <-time.After(10 * time.Second):
		m.alone.Store(true)
	}
}

// TestDownloadAtOnce: as many ranges are asked for at once as there are connections.
func TestDownloadAtOnce(t *testing.T) {
	data := noise(1 << 20)
	for _, connections := range []int{0, 7} { // 0: 4
		want := connections
		if want == 0 {
			want = bootimage.DefaultConnections
		}
		all := newMeeting(want)
		var open, most atomic.Int32
		file := &fileServer{data: data, ranges: true}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := open.Add(1)
			defer open.Add(-1)
			for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
			}
			if !strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") { // the first one tells the size, and is alone
				all.wait()
			}
			file.ServeHTTP(w, r)
		}))
		_, err := download(t, openRoot(t), bootimage.Entry{URL: server.URL, SHA256: sum256(data)}, bootimage.DownloadOptions{Connections: connections})
		server.Close()
		require.NoError(t, err)
		require.False(t, all.alone.Load(), "fewer than %d at once", want)
		require.Equal(t, int32(want), most.Load())
	}
}

// TestCompressBuildAtOnce: artifacts are read at once, as many as was said, and each with
// its size as the total.
func TestCompressBuildAtOnce(t *testing.T) {
	contents := make(map[string][]byte)
	for i, artifact := range []string{"qemu", "metal", "aws", "gcp"} {
		contents[artifact] = noise(100_000 + i)
	}
	for _, parallel := range []int{0, 4} { // 0: 2
		_, root, meta := buildFolder(t, contents)
		want := max(parallel, 2)
		all := newMeeting(want)
		var seen, last sync.Map
		opts := &bootimage.CompressBuildOptions{Parallel: parallel, Progress: func(artifact string, done, total int64) {
			if _, was := seen.LoadOrStore(artifact, true); !was {
				all.wait()
			}
			last.Store(artifact, [2]int64{done, total})
		}}
		_, err := bootimage.CompressBuild(t.Context(), root, opts)
		require.NoError(t, err)
		require.False(t, all.alone.Load(), "fewer than %d at once", want)
		for artifact := range contents {
			got, _ := last.Load(artifact)
			require.Equal(t, [2]int64{meta.Images[artifact].Size, meta.Images[artifact].Size}, got, artifact)
		}
	}
}

// TestDownloadUnderItsName: as long as a file arrives and is verified, what has its name is
// what had it before.
func TestDownloadUnderItsName(t *testing.T) {
	data := noise(4 << 20)
	packed, m := compressed(t, data, nil)
	for _, before := range []string{"", "what was there"} {
		for name, o := range map[string]bootimage.DownloadOptions{"file": {}, "content": {Decompress: true}} {
			for _, good := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%q/%v", name, before, good), func(t *testing.T) {
					dir := t.TempDir()
					root, err := os.OpenRoot(dir)
					require.NoError(t, err)
					defer root.Close()
					path := filepath.Join(dir, "d.raw")
					if before != "" {
						require.NoError(t, os.WriteFile(path, []byte(before), 0o644))
					}
					// As it was, or whole.
					whole := packed
					if o.Decompress {
						whole = data
					}
					look := func() (changed bool) {
						got, err := os.ReadFile(path)
						switch {
						case err != nil:
							return before != ""
						case good && bytes.Equal(got, whole):
							return false
						}
						return string(got) != before
					}
					var calls, changes atomic.Int64
					o.Progress = func(done, total int64) {
						calls.Add(1)
						// Who verifies cannot have seen the last bytes yet.
						if got, err := os.ReadFile(path); err == nil != (before != "") || string(got) != before {
							changes.Add(1)
						}
					}
					stop, stopped := make(chan struct{}), make(chan struct{})
					go func() {
						defer close(stopped)
						for {
							select {
							case <-stop:
								return
							default:
								if look() {
									changes.Add(1)
								}
							}
						}
					}()
					e := bootimage.Entry{URL: serve(t, &fileServer{data: packed, ranges: true}), SHA256: m.SHA256, UncompressedSHA256: m.UncompressedSHA256}
					if !good {
						e.UncompressedSHA256 = sum256(nil)
						if !o.Decompress {
							e.SHA256 = sum256(nil)
						}
					}
					_, err = download(t, root, e, o)
					close(stop)
					<-stopped
					require.Positive(t, calls.Load())
					require.Zero(t, changes.Load())
					if good {
						require.NoError(t, err)
						got, err := os.ReadFile(path)
						require.NoError(t, err)
						require.True(t, bytes.Equal(whole, got))
						return
					}
					require.ErrorIs(t, err, bootimage.ErrVerification)
					require.False(t, look())
				})
			}
		}
	}
}

// bytesRead is how many bytes this process has read, of files and of connections.
func bytesRead(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // not Linux
	}
	_, err = fmt.Sscanf(string(text), "rchar: %d", &n)
	require.NoError(t, err)
	return n
}

// TestOnePass: checksums of both sides are of the bytes as they pass by; no file is read
// again for one.
func TestOnePass(t *testing.T) {
	const size = 16 << 20
	content := noise(size) // which does not compress: all sides have its size
	packed, m := compressed(t, content, nil)
	dir, root, _ := buildFolder(t, map[string][]byte{"qemu": content})
	folder := openRoot(t)
	e := bootimage.Entry{URL: serve(t, &fileServer{data: packed, ranges: true}), SHA256: m.SHA256, UncompressedSHA256: m.UncompressedSHA256}
	for _, step := range []struct {
		name  string
		reads int64
		do    func() error
	}{
		{"compress", 1, func() error { _, err := bootimage.CompressBuild(t.Context(), root, nil); return err }},
		{"uncompress", 1, func() error { _, err := bootimage.UncompressBuild(t.Context(), root, nil); return err }},
		// From the connection, and from the file of ranges that came in any order.
		{"download", 2, func() error { _, err := download(t, folder, e, bootimage.DownloadOptions{}); return err }},
		{"download content", 2, func() error {
			require.NoError(t, folder.Remove("d.raw"))
			_, err := download(t, folder, e, bootimage.DownloadOptions{Decompress: true})
			return err
		}},
	} {
		before := bytesRead(t)
		require.NoError(t, step.do(), step.name)
		if before > 0 {
			require.Less(t, bytesRead(t)-before, step.reads*size+size/2, step.name)
		}
	}
	require.Len(t, folderOf(t, dir), 2)
}

// TestDownloadByKeysAlone: without a checksum nobody knows of what file a part is, so a
// download that was stopped starts anew.
func TestDownloadByKeysAlone(t *testing.T) {
	secret, err := os.ReadFile("../publish/pgpsigner/testdata/ed.secret.asc")
	require.NoError(t, err)
	public, err := os.ReadFile("../publish/pgpsigner/testdata/ed.asc")
	require.NoError(t, err)
	signer, err := pgpsigner.ParseSigner(secret, func() time.Time { return time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC) }, &pgpsigner.SignerOptions{
		Form: pgpsigner.Detached, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	require.NoError(t, err)
	data := noise(1 << 20)
	sig, err := signer.Sign(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	for name, sum := range map[string]string{"keys alone": "", "checksum, too": sum256(data)} {
		t.Run(name, func(t *testing.T) {
			server := &fileServer{data: data, ranges: true, sig: sig}
			server.after = func(n int) {
				if n >= 9 {
					panic(http.ErrAbortHandler)
				}
			}
			e := bootimage.Entry{URL: serve(t, server), SHA256: sum}
			o := bootimage.DownloadOptions{Keys: [][]byte{public}, Now: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), Connections: 1}
			root := openRoot(t)
			_, err := download(t, root, e, o)
			require.Error(t, err)
			server.before(nil)
			done, err := download(t, root, e, o)
			require.NoError(t, err)
			require.Len(t, done.SignedBy, 1)
			if sum == "" {
				require.Equal(t, int64(1<<20), done.Fetched)
			} else {
				require.Equal(t, int64(1<<19), done.Fetched)
			}
			require.Equal(t, []string{"d.raw"}, names(t, root))
		})
	}
}
