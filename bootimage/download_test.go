package bootimage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/stretchr/testify/require"
)

// fileServer serves one file, with the faults that servers have.
type fileServer struct {
	mu       sync.Mutex
	data     []byte
	etag     string
	ranges   bool        // answers ranges
	cut      int         // bytes after which an answer ends; 0: none does
	cuts     int         // how many answers are cut
	length   int64       // added to the size that it tells
	chunked  bool        // tells no length
	encoding string      // says that it encoded
	status   int         // answers this
	shift    int64       // answers from another byte
	after    func(n int) // is called before each answer
	sig      []byte
	requests atomic.Int32
	asked    atomic.Int64 // bytes, of all answers
}

func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, ".sig") {
		if s.sig == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(s.sig)
		return
	}
	n := int(s.requests.Add(1))
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if after != nil {
		after(n)
	}
	s.mu.Lock()
	data, etag, ranges, cut := s.data, s.etag, s.ranges, 0
	if s.cuts > 0 {
		s.cuts--
		cut = s.cut
	}
	s.mu.Unlock()
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if s.encoding != "" {
		w.Header().Set("Content-Encoding", s.encoding)
	}
	status, size := http.StatusOK, int64(len(data))+s.length
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && ranges {
		a, b, _ := strings.Cut(text, "-")
		from, _ := strconv.ParseInt(a, 10, 64)
		to, _ := strconv.ParseInt(b, 10, 64)
		if from >= int64(len(data)) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		to = min(to, int64(len(data))-1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from+s.shift, to, size))
		data, status, size = data[from:to+1], http.StatusPartialContent, to-from+1
	}
	s.asked.Add(int64(len(data)))
	if !s.chunked {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(status)
	if cut > 0 && cut < len(data) {
		_, _ = w.Write(data[:cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if s.chunked {
		w.(http.Flusher).Flush()
	}
	_, _ = w.Write(data)
}

// before has fn called before each answer; nil: nothing.
func (s *fileServer) before(fn func(n int)) {
	s.mu.Lock()
	s.after = fn
	s.mu.Unlock()
}

func serve(t testing.TB, s *fileServer) string {
	t.Helper()
	server := httptest.NewServer(s)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	return server.URL + "/d.raw"
}

// noise are bytes that don't repeat.
func noise(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	return data
}

func sum256(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func openRoot(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}

// names lists a folder.
func names(t testing.TB, root *os.Root) (all []string) {
	t.Helper()
	entries, err := fs.ReadDir(root.FS(), ".")
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func download(t testing.TB, root *os.Root, e bootimage.Entry, o bootimage.DownloadOptions) (*bootimage.Downloaded, error) {
	t.Helper()
	if o.RangeSize == 0 {
		o.RangeSize = 64 << 10
	}
	o.Transport = http.DefaultTransport
	return bootimage.Download(t.Context(), root, "d.raw", e, &o)
}

// TestDownload reads from servers of every kind.
func TestDownload(t *testing.T) {
	data := noise(1<<20 + 123)
	for name, server := range map[string]*fileServer{
		"ranges":                    {ranges: true, etag: `"1"`},
		"no ranges":                 {},
		"no length":                 {chunked: true},
		"cut ranges":                {ranges: true, cut: 10_000, cuts: 20},
		"cut without ranges":        {cut: 300_000, cuts: 3},
		"cut without length":        {chunked: true, cut: 300_000, cuts: 3},
		"says it encodes not":       {ranges: true, encoding: "identity"},
		"weak mark":                 {ranges: true, etag: `W/"1"`},
		"cut in the very beginning": {ranges: true, cut: 1, cuts: 3},
	} {
		t.Run(name, func(t *testing.T) {
			server.data = data
			e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}
			root := openRoot(t)
			var last atomic.Int64
			want := int64(len(data))
			if server.chunked {
				want = 0 // not known
			}
			done, err := download(t, root, e, bootimage.DownloadOptions{Progress: func(n, total int64) {
				last.Store(max(last.Load(), n))
				if total != want {
					t.Errorf("of %d bytes, want %d", total, want)
				}
			}})
			require.NoError(t, err)
			require.Equal(t, int64(len(data)), done.Size)
			require.Equal(t, e.SHA256, done.SHA256)
			require.Equal(t, int64(len(data)), done.Fetched)
			require.Equal(t, int64(len(data)), last.Load())
			got, err := root.ReadFile("d.raw")
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
			require.Equal(t, []string{"d.raw"}, names(t, root))

			before := server.requests.Load()
			done, err = download(t, root, e, bootimage.DownloadOptions{})
			require.NoError(t, err)
			require.Zero(t, done.Fetched)
			require.Equal(t, before, server.requests.Load(), "what is there is not read again")
			require.NoError(t, root.WriteFile("d.raw", []byte("other"), 0o644))
			_, err = download(t, root, e, bootimage.DownloadOptions{})
			require.NoError(t, err)
			got, err = root.ReadFile("d.raw")
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), "a file is not trusted by its name")
		})
	}
}

// TestDownloadFails: what is wrong is named, and nothing has the file's name.
func TestDownloadFails(t *testing.T) {
	data := noise(300_000)
	for name, tt := range map[string]struct {
		server *fileServer
		entry  func(*bootimage.Entry)
		opts   bootimage.DownloadOptions
		is     error
		want   string
	}{
		"other bytes":            {&fileServer{ranges: true}, func(e *bootimage.Entry) { e.SHA256 = sum256([]byte("x")) }, bootimage.DownloadOptions{}, bootimage.ErrVerification, "SHA-256 is"},
		"other bytes, no ranges": {&fileServer{}, func(e *bootimage.Entry) { e.SHA256 = sum256([]byte("x")) }, bootimage.DownloadOptions{}, bootimage.ErrVerification, "SHA-256 is"},
		"other size":             {&fileServer{ranges: true}, func(e *bootimage.Entry) { e.Size = 5 }, bootimage.DownloadOptions{}, bootimage.ErrVerification, "has 300000 bytes, want 5"},
		"other size, no length":  {&fileServer{chunked: true}, func(e *bootimage.Entry) { e.Size = 5 }, bootimage.DownloadOptions{}, bootimage.ErrVerification, "more than 5 bytes"},
		"smaller, no length":     {&fileServer{chunked: true}, func(e *bootimage.Entry) { e.Size = 300_001 }, bootimage.DownloadOptions{}, bootimage.ErrVerification, "has 300000 bytes, want 300001"},
		"says it is longer":      {&fileServer{ranges: true, length: 100_000}, nil, bootimage.DownloadOptions{}, nil, "changed on the server"},
		"says it is shorter":     {&fileServer{ranges: true, length: -100_000}, nil, bootimage.DownloadOptions{}, bootimage.ErrVerification, "SHA-256 is"},
		"length is longer":       {&fileServer{length: 100_000}, nil, bootimage.DownloadOptions{}, nil, "unexpected EOF"},
		"empty":                  {&fileServer{ranges: true, length: -300_000}, nil, bootimage.DownloadOptions{}, fs.ErrInvalid, "size 0"},
		"enormous":               {&fileServer{ranges: true, length: 1 << 50}, nil, bootimage.DownloadOptions{}, fs.ErrInvalid, "size "},
		"other range":            {&fileServer{ranges: true, shift: 1}, nil, bootimage.DownloadOptions{}, nil, "answered from byte 1, not 0"},
		"missing":                {&fileServer{status: 404}, nil, bootimage.DownloadOptions{}, fs.ErrNotExist, "/d.raw: file does not exist"},
		"forbidden":              {&fileServer{status: 403}, nil, bootimage.DownloadOptions{}, fs.ErrPermission, "permission denied"},
		"encoded":                {&fileServer{encoding: "gzip"}, nil, bootimage.DownloadOptions{}, errors.ErrUnsupported, `encoded as "gzip"`},
		"always cut at once":     {&fileServer{ranges: true, cut: 1, cuts: 1 << 30}, nil, bootimage.DownloadOptions{}, nil, "EOF"},
		"always cut, no ranges":  {&fileServer{cut: 1, cuts: 1 << 30}, nil, bootimage.DownloadOptions{}, nil, "EOF"},
		"nothing to verify by":   {&fileServer{}, func(e *bootimage.Entry) { e.SHA256 = "" }, bootimage.DownloadOptions{}, fs.ErrInvalid, "neither a checksum nor keys"},
		"scheme":                 {&fileServer{}, func(e *bootimage.Entry) { e.URL = "ftp://a.example/x" }, bootimage.DownloadOptions{}, errors.ErrUnsupported, "not an address of https or http"},
		"keys without a time":    {&fileServer{}, nil, bootimage.DownloadOptions{Keys: [][]byte{{1}}}, fs.ErrInvalid, "keys without a time"},
		"checksum":               {&fileServer{}, func(e *bootimage.Entry) { e.SHA256 = "x" }, bootimage.DownloadOptions{}, fs.ErrInvalid, "not a SHA-256"},
		"content of another SHA": {&fileServer{ranges: true}, func(e *bootimage.Entry) { e.UncompressedSHA256 = sum256([]byte("x")) }, bootimage.DownloadOptions{Decompress: true}, bootimage.ErrVerification, "SHA-256 of the content is"},
		"content of too many":    {&fileServer{ranges: true}, nil, bootimage.DownloadOptions{Decompress: true, MaxContent: 5}, bootimage.ErrVerification, "content of more than 5 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.server.data = data
			e := bootimage.Entry{URL: serve(t, tt.server), SHA256: sum256(data)}
			if tt.entry != nil {
				tt.entry(&e)
			}
			root := openRoot(t)
			done, err := download(t, root, e, tt.opts)
			require.Nil(t, done)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "bootimage: download d.raw: ")
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			_, err = root.Stat("d.raw")
			require.ErrorIs(t, err, fs.ErrNotExist)
			if errors.Is(tt.is, bootimage.ErrVerification) {
				require.Empty(t, names(t, root), "wrong bytes are not kept")
			}
		})
	}
	root := openRoot(t)
	for _, name := range []string{"", "../x", "a/b", ".hidden"} {
		_, err := bootimage.Download(t.Context(), root, name, bootimage.Entry{URL: "https://a.example/", SHA256: sum256(nil)}, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

// TestDownloadGoesOn stops a download in its middle, and starts it again.
func TestDownloadGoesOn(t *testing.T) {
	data := noise(1 << 20)
	server := &fileServer{data: data, ranges: true, etag: `"1"`}
	e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}
	root := openRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	server.after = func(n int) {
		if n == 9 {
			cancel()
		}
	}
	opts := &bootimage.DownloadOptions{RangeSize: 64 << 10, Connections: 1, Transport: http.DefaultTransport}
	_, err := bootimage.Download(ctx, root, "d.raw", e, opts)
	require.ErrorIs(t, err, context.Canceled)
	require.ElementsMatch(t, []string{".d.raw.part", ".d.raw.part.json"}, names(t, root))

	server.before(nil)
	done, err := bootimage.Download(t.Context(), root, "d.raw", e, opts)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), done.Size)
	require.Equal(t, int64(8*64<<10), done.Fetched, "eight of sixteen ranges were there")
	require.Equal(t, []string{"d.raw"}, names(t, root))

	// What was left is of another file, or harmed.
	for name, harm := range map[string]func(*testing.T, *os.Root){
		"of another file": func(t *testing.T, r *os.Root) {
			require.NoError(t, r.WriteFile(".d.raw.part.json", []byte(`{"version":1,"sha256":"x","size":5,"range":65536,"done":[true]}`), 0o644))
		},
		"not JSON": func(t *testing.T, r *os.Root) {
			require.NoError(t, r.WriteFile(".d.raw.part.json", []byte("{"), 0o644))
		},
		"wrong bytes": func(t *testing.T, r *os.Root) {
			require.NoError(t, r.WriteFile(".d.raw.part", make([]byte, 1<<20), 0o644))
			require.NoError(t, r.WriteFile(".d.raw.part.json", []byte(`{"version":1,"sha256":"`+e.SHA256+`","size":1048576,"range":65536,"done":[`+strings.Repeat("true,", 15)+`true]}`), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := openRoot(t)
			harm(t, root)
			_, err := bootimage.Download(t.Context(), root, "d.raw", e, opts)
			if name == "wrong bytes" { // found out, thrown away, right the next time
				require.ErrorIs(t, err, bootimage.ErrVerification)
				require.Empty(t, names(t, root))
				_, err = bootimage.Download(t.Context(), root, "d.raw", e, opts)
			}
			require.NoError(t, err)
			require.Equal(t, []string{"d.raw"}, names(t, root))
		})
	}
	link := openRoot(t)
	require.NoError(t, link.Symlink("x", ".d.raw.part"))
	_, err = bootimage.Download(t.Context(), link, "d.raw", e, opts)
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// TestDownloadOfChangedFile: a server that swaps the file between ranges.
func TestDownloadOfChangedFile(t *testing.T) {
	old, changed := noise(1<<20), bytes.Repeat([]byte("x"), 1<<20)
	for name, etags := range map[string][2]string{"with marks": {`"1"`, `"2"`}, "without": {"", ""}} {
		t.Run(name, func(t *testing.T) {
			server := &fileServer{data: old, ranges: true, etag: etags[0]}
			server.after = func(n int) {
				if n == 5 {
					server.mu.Lock()
					server.data, server.etag = changed, etags[1]
					server.mu.Unlock()
				}
			}
			url := serve(t, server)
			root := openRoot(t)
			_, err := download(t, root, bootimage.Entry{URL: url, SHA256: sum256(changed)}, bootimage.DownloadOptions{Connections: 2})
			if etags[0] == "" { // found out by the checksum alone
				require.ErrorIs(t, err, bootimage.ErrVerification)
				require.Empty(t, names(t, root))
				_, err = download(t, root, bootimage.Entry{URL: url, SHA256: sum256(changed)}, bootimage.DownloadOptions{})
			}
			require.NoError(t, err)
			got, err := root.ReadFile("d.raw")
			require.NoError(t, err)
			require.True(t, bytes.Equal(changed, got))
		})
	}
}

func TestDownloadFromMirrors(t *testing.T) {
	data := noise(1 << 20)
	good := &fileServer{data: data, ranges: true, etag: `"a"`}
	dead := &fileServer{status: http.StatusNotFound}
	plain := &fileServer{data: data, etag: `"b"`}
	e := bootimage.Entry{URL: serve(t, dead), SHA256: sum256(data)}
	root := openRoot(t)
	done, err := download(t, root, e, bootimage.DownloadOptions{Mirrors: []string{serve(t, good), serve(t, plain), e.URL}})
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), done.Size)
	require.Positive(t, plain.requests.Load())

	_, err = download(t, openRoot(t), e, bootimage.DownloadOptions{Mirrors: []string{serve(t, &fileServer{status: 404})}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	// A mirror of another file.
	other := &fileServer{data: data[:5000], ranges: true}
	_, err = download(t, openRoot(t), bootimage.Entry{URL: serve(t, good), SHA256: sum256(data)}, bootimage.DownloadOptions{Mirrors: []string{serve(t, other)}})
	require.ErrorContains(t, err, "changed on the server")
}

func TestDownloadDecompresses(t *testing.T) {
	content := bytes.Repeat(noise(1000), 3000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	e := bootimage.Entry{URL: serve(t, &fileServer{data: packed.Bytes(), ranges: true}), SHA256: sum256(packed.Bytes()), UncompressedSHA256: sum256(content)}
	root := openRoot(t)
	done, err := download(t, root, e, bootimage.DownloadOptions{Decompress: true})
	require.NoError(t, err)
	require.Equal(t, &bootimage.Downloaded{
		Size: int64(packed.Len()), SHA256: e.SHA256, ContentSize: int64(len(content)), ContentSHA256: e.UncompressedSHA256, Fetched: int64(packed.Len()),
	}, done)
	got, err := root.ReadFile("d.raw")
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.Equal(t, []string{"d.raw"}, names(t, root))
	done, err = download(t, root, e, bootimage.DownloadOptions{Decompress: true})
	require.NoError(t, err)
	require.Zero(t, done.Fetched)

	// Cut compressed bytes, by who made the file.
	short := packed.Bytes()[:packed.Len()-20]
	_, err = download(t, openRoot(t), bootimage.Entry{URL: serve(t, &fileServer{data: short, ranges: true}), SHA256: sum256(short)}, bootimage.DownloadOptions{Decompress: true})
	require.ErrorIs(t, err, bootimage.ErrVerification)
	// What is not compressed is its own content.
	plain := noise(5000)
	root = openRoot(t)
	_, err = download(t, root, bootimage.Entry{URL: serve(t, &fileServer{data: plain}), SHA256: sum256(plain)}, bootimage.DownloadOptions{Decompress: true})
	require.NoError(t, err)
	got, err = root.ReadFile("d.raw")
	require.NoError(t, err)
	require.Equal(t, plain, got)
}

// TestDownloadVerifiesSignatures uses what coreos-installer tests itself with.
func TestDownloadVerifiesSignatures(t *testing.T) {
	dir := interop.SharedData(t, "bootimage", "coreos-installer", "verify")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	key, at := read("test-key.pub.asc"), time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{"1M.gz", "1M.xz", "1M.zst"} {
		t.Run(name, func(t *testing.T) {
			data := read(name)
			server := &fileServer{data: data, ranges: true, sig: read(name + ".sig")}
			e := bootimage.Entry{URL: serve(t, server)}
			opts := bootimage.DownloadOptions{Keys: [][]byte{key}, Now: at, Decompress: true}
			root := openRoot(t)
			done, err := download(t, root, e, opts)
			require.NoError(t, err)
			require.Len(t, done.SignedBy, 1)
			require.Equal(t, int64(1<<20), done.ContentSize)
			got, err := root.ReadFile("d.raw")
			require.NoError(t, err)
			require.Equal(t, make([]byte, 1<<20), got)

			server.data = append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1)
			root = openRoot(t)
			_, err = download(t, root, e, opts)
			require.ErrorIs(t, err, bootimage.ErrVerification)
			require.Empty(t, names(t, root))
			server.data = data
			opts.Now = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
			_, err = download(t, root, e, opts)
			require.ErrorIs(t, err, bootimage.ErrVerification, "a signature of the future")
			opts.Now, opts.Signature = at, read("1M.sig")
			_, err = download(t, root, e, opts)
			require.ErrorIs(t, err, bootimage.ErrVerification, "a signature of another file")
			opts.Signature, server.sig = nil, nil
			_, err = download(t, root, e, opts)
			require.ErrorIs(t, err, fs.ErrNotExist, "no signature")
			require.Empty(t, names(t, root))
		})
	}
	// Unknown keys, those that Fedora and Red Hat sign with.
	shipped, err := os.ReadFile(interop.SharedData(t, "bootimage", "coreos-installer", "signing-keys.asc"))
	require.NoError(t, err)
	_, err = download(t, openRoot(t), bootimage.Entry{URL: serve(t, &fileServer{data: read("1M.gz"), sig: read("1M.gz.sig")})}, bootimage.DownloadOptions{Keys: [][]byte{shipped}, Now: at})
	require.ErrorIs(t, err, bootimage.ErrVerification)
}

// TestDownloadOnceAtATime starts the same download many times at once.
func TestDownloadOnceAtATime(t *testing.T) {
	data := noise(1 << 20)
	server := &fileServer{data: data, ranges: true}
	e := bootimage.Entry{URL: serve(t, server), SHA256: sum256(data)}
	root := openRoot(t)
	var fetched atomic.Int64
	var wait sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wait.Go(func() {
			done, err := download(t, root, e, bootimage.DownloadOptions{})
			if errs[i] = err; err == nil {
				fetched.Add(done.Fetched)
			}
		})
	}
	wait.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, int64(1<<20), fetched.Load())
	require.Equal(t, []string{"d.raw"}, names(t, root))
}

func ExampleDownload() {
	disk := []byte("a disk")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "disk", time.Time{}, bytes.NewReader(disk))
	}))
	defer server.Close()
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
	entry := bootimage.Entry{URL: server.URL + "/disk.raw", SHA256: sum256(disk)}
	done, err := bootimage.Download(context.Background(), root, "disk.raw", entry, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(done.Size, done.SHA256 == entry.SHA256)
	// Output: 6 true
}

func BenchmarkDownload(b *testing.B) {
	data := noise(64 << 20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "d", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	e := bootimage.Entry{URL: server.URL + "/d", SHA256: sum256(data)}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		root, err := os.OpenRoot(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bootimage.Download(b.Context(), root, "d", e, nil); err != nil {
			b.Fatal(err)
		}
		if err := root.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
