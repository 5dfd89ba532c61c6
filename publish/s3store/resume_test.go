package s3store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// noise is size bytes that depend on size alone.
func noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data) // never fails
	return data
}

func readAll(s publish.Store, t *testing.T, key string) ([]byte, error) {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	return data, errors.Join(err, body.Close())
}

// copyAll is readAll by the reader's own way of copying.
func copyAll(s publish.Store, t *testing.T, key string) ([]byte, error) {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	_, err = body.(io.WriterTo).WriteTo(&data)
	return data.Bytes(), errors.Join(err, body.Close())
}

// full takes so many bytes.
type full int

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// Who cannot take all leaves nothing running, and may go on by hand.
func TestCopyThatEndsEarly(t *testing.T) {
	content := noise(3 << 20)
	s := serveWithin(t, s3store.Config{}, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		object(w, r, content, digest(content))
	})
	body, _, err := s.Open(t.Context(), "key")
	require.NoError(t, err)
	room := full(1 << 20)
	n, err := io.Copy(&room, body)
	require.ErrorIs(t, err, errFull)
	require.LessOrEqual(t, n, int64(1<<20))
	_, err = io.Copy(io.Discard, struct{ io.Reader }{body})
	require.NoError(t, err, "the digest is of what was read, whoever took it")
	require.NoError(t, body.Close())
}

func TestBrokenReadGoesOn(t *testing.T) {
	content := noise(3 << 20)
	// ranged answers as a server that keeps the rules.
	ranged := func(w http.ResponseWriter, r *http.Request, data []byte, tag string) (from int) {
		if match := r.Header.Get("If-Match"); match != "" && match != tag {
			s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed", "")
			return -1
		}
		w.Header().Set("ETag", tag)
		w.Header().Set("X-Amz-Meta-Sha256", digest(content))
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
			w.WriteHeader(http.StatusPartialContent)
			return from
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		return 0
	}
	const piece = 1<<20 + 100
	for _, test := range []struct {
		name  string
		reply func(w http.ResponseWriter, r *http.Request, call int32)
		is    error
		text  string
		calls int32
	}{
		{"cut each time", func(w http.ResponseWriter, r *http.Request, _ int32) {
			from := ranged(w, r, content, `"a"`)
			_, _ = w.Write(content[from:min(len(content), from+piece)])
		}, nil, "", 3},
		{"stalled once", func(w http.ResponseWriter, r *http.Request, call int32) {
			from := ranged(w, r, content, `"a"`)
			if call > 1 {
				_, _ = w.Write(content[from:])
				return
			}
			_, _ = w.Write(content[:piece])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, nil, "", 2},
		{"never more", func(w http.ResponseWriter, r *http.Request, call int32) {
			from := ranged(w, r, content, `"a"`)
			_, _ = w.Write(content[from : from+1])
		}, io.ErrUnexpectedEOF, "broken off 3 times", 3},
		{"replaced", func(w http.ResponseWriter, r *http.Request, call int32) {
			if from := ranged(w, r, content, fmt.Sprintf(`"v%d"`, call)); from >= 0 {
				_, _ = w.Write(content[from : from+piece])
			}
		}, publish.ErrConflict, "replaced", 2},
		{"replaced and the condition ignored", func(w http.ResponseWriter, r *http.Request, call int32) {
			r.Header.Del("If-Match")
			from := ranged(w, r, content, fmt.Sprintf(`"v%d"`, call))
			_, _ = w.Write(content[from : from+piece])
		}, publish.ErrConflict, "replaced", 2},
		{"another range", func(w http.ResponseWriter, r *http.Request, call int32) {
			if call > 1 {
				r.Header.Set("Range", "bytes=5-")
			}
			from := ranged(w, r, content, `"a"`)
			_, _ = w.Write(content[from : from+piece])
		}, publish.ErrDigest, "server answers range", 2},
		{"right range, wrong bytes", func(w http.ResponseWriter, r *http.Request, call int32) {
			from := ranged(w, r, content, `"a"`)
			if call == 1 {
				_, _ = w.Write(content[:piece])
				return
			}
			_, _ = w.Write(make([]byte, len(content)-from))
		}, publish.ErrDigest, "promised was", 2},
		{"503 in between", func(w http.ResponseWriter, r *http.Request, call int32) {
			if call == 2 {
				s3Error(w, 503, "SlowDown", "")
				return
			}
			from := ranged(w, r, content, `"a"`)
			_, _ = w.Write(content[from:min(len(content), from+2*piece)])
		}, nil, "", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			silence := time.Minute
			if strings.HasPrefix(test.name, "stalled") {
				silence = 300 * time.Millisecond
			}
			for _, all := range []func(publish.Store, *testing.T, string) ([]byte, error){readAll, copyAll} {
				var calls atomic.Int32
				s := serveWithin(t, s3store.Config{}, silence, func(w http.ResponseWriter, r *http.Request) {
					test.reply(w, r, calls.Add(1))
				})
				data, err := all(s, t, "key")
				require.Equal(t, test.calls, calls.Load())
				if test.text == "" {
					require.NoError(t, err)
					require.Equal(t, digest(content), digest(data))
					continue
				}
				require.ErrorIs(t, err, test.is)
				require.ErrorContains(t, err, test.text)
				require.ErrorContains(t, err, "s3://bucket/key")
				require.Less(t, len(data), len(content), "the last bytes are kept back")
			}
		})
	}
}

func TestDigestOfAnotherSizeIsNotTrusted(t *testing.T) {
	size := "1"
	s := serve(t, s3store.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Meta-Sha256-Size", size)
		object(w, r, []byte("appended"), digest([]byte("x")))
	})
	info, err := s.Stat(t.Context(), "key")
	require.NoError(t, err)
	require.Empty(t, info.SHA256)
	size = "8"
	info, err = s.Stat(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, digest([]byte("x")), info.SHA256)
}

func TestSingleWriterLooksItself(t *testing.T) {
	b := newBucket() // ignores conditions
	s := serve(t, s3store.Config{SingleWriter: true}, b.ServeHTTP)
	for _, data := range [][]byte{[]byte("small"), noise(9 << 20)} {
		key := fmt.Sprint(len(data))
		info, err := s.Put(t.Context(), key, publish.BytesSource(data), &publish.PutOptions{IfAbsent: true})
		require.NoError(t, err)
		_, err = s.Put(t.Context(), key, publish.BytesSource(data), &publish.PutOptions{IfAbsent: true})
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = s.Put(t.Context(), key, publish.BytesSource(data), &publish.PutOptions{IfRevision: "stale"})
		require.ErrorIs(t, err, publish.ErrConflict)
		stat, err := s.Stat(t.Context(), key)
		require.NoError(t, err)
		_, err = s.Put(t.Context(), key, publish.BytesSource(data), &publish.PutOptions{IfRevision: stat.Revision})
		require.NoError(t, err)
		require.Equal(t, info.Size, int64(len(data)))
	}
}

func TestEndpointThatNamesTheBucket(t *testing.T) {
	var hosts, paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts, paths = append(hosts, r.Host), append(paths, r.URL.Path)
		object(w, r, nil, "")
	}))
	t.Cleanup(server.Close)
	to, err := url.Parse(server.URL)
	require.NoError(t, err)
	base := &http.Transport{Proxy: http.ProxyURL(to)} // which gets each request, whatever the host
	for _, endpoint := range []string{"http://s3.example.test", "http://okd-scos.s3.example.test"} {
		s, err := s3store.Open(t.Context(), s3store.Config{Bucket: "okd-scos", Prefix: "okd-scos/next", Endpoint: endpoint},
			&s3store.Options{AccessKey: "sample", SecretKey: "sample", Base: base})
		require.NoError(t, err)
		_, err = s.Stat(t.Context(), "builds/builds.json")
		require.NoError(t, err)
		require.Equal(t, "okd-scos.s3.example.test", hosts[len(hosts)-1])
		require.Equal(t, "/okd-scos/next/builds/builds.json", paths[len(paths)-1])
		require.NoError(t, s.Close())
	}
}

func TestCredentialsFile(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "FROMENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "from-environment")
	var seen atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.Store(r.Header.Get("Authorization")) }))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const keys = "aws_access_key_id = %s\naws_secret_access_key = very-secret\n"
	one := write("credentials-file", "[default]\n"+fmt.Sprintf(keys, "AKDEFAULT")+"[ci]\n"+fmt.Sprintf(keys, "AKCI"))
	asConfig := write("config-file", "[profile ci]\nregion = eu-west-1\n"+fmt.Sprintf(keys, "AKCONFIG"))
	write("mount/config", "[default]\nregion = eu-central-1\n")
	write("mount/credentials", "[default]\n"+fmt.Sprintf(keys, "AKMOUNT"))
	empty := write("empty", "[default]\nregion = us-east-1\n")
	for _, test := range []struct {
		path, profile, want string
		is                  error
	}{
		{path: one, want: "AKDEFAULT/"},
		{path: one, profile: "ci", want: "AKCI/"},
		{path: asConfig, profile: "ci", want: "AKCONFIG/"},
		{path: filepath.Join(dir, "mount"), want: "AKMOUNT/"},
		{path: empty, is: errors.ErrUnsupported},
		{path: filepath.Join(dir, "missing"), is: fs.ErrNotExist},
	} {
		s, err := s3store.Open(t.Context(), s3store.Config{Bucket: "bucket", Endpoint: server.URL, PathStyle: true},
			&s3store.Options{CredentialsFile: test.path, Profile: test.profile})
		if test.is != nil {
			require.ErrorIs(t, err, test.is)
			require.NotContains(t, err.Error(), "very-secret")
			continue
		}
		require.NoError(t, err)
		require.Contains(t, seen.Load(), "Credential="+test.want)
		if test.want == "AKMOUNT/" {
			require.Contains(t, seen.Load(), "/eu-central-1/")
		}
		require.NoError(t, s.Close())
	}
}

func TestUploadsTrustNothing(t *testing.T) {
	reply := ""
	s := serve(t, s3store.Config{}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, reply) })
	entry := func(key, id string) string {
		return "<Upload><Key>" + key + "</Key><UploadId>" + id + "</UploadId></Upload>"
	}
	for _, test := range []struct{ body, text string }{
		{"<IsTruncated>false</IsTruncated>" + entry("a", "1") + entry("a", "2") + entry("b", "1"), ""},
		{"<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>" + entry("a", "1"), "after"},
		{"<IsTruncated>true</IsTruncated>" + entry("a", "1"), "but not where"},
		{"<IsTruncated>false</IsTruncated>" + entry("b", "1") + entry("a", "1"), "after"},
	} {
		reply = "<ListMultipartUploadsResult>" + test.body + "</ListMultipartUploadsResult>"
		var last error
		n := 0
		for _, err := range s.Uploads(t.Context(), "") {
			last = err
			n++
		}
		require.Less(t, n, 5)
		if test.text == "" {
			require.NoError(t, last)
			require.Equal(t, 3, n)
			continue
		}
		require.ErrorContains(t, last, test.text)
	}
}

// counter is a proxy that counts what was answered well.
func counter(t *testing.T, endpoint string) (at string, seen func() map[string]int) {
	t.Helper()
	to, err := url.Parse(endpoint)
	require.NoError(t, err)
	var mu sync.Mutex
	counts := map[string]int{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ModifyResponse: func(resp *http.Response) error {
			mu.Lock()
			defer mu.Unlock()
			name := resp.Request.Method
			if number := resp.Request.URL.Query().Get("partNumber"); number != "" {
				name = "part " + number
			}
			if resp.StatusCode < 300 {
				counts[name]++
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(server.Close)
	return server.URL, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		out := map[string]int{}
		for name, n := range counts {
			out[name] = n
		}
		return out
	}
}

// slow is a source that takes its time, so that it can be killed.
type slow struct{ io.Reader }

func (r slow) Read(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return r.Reader.Read(p[:min(len(p), 256<<10)])
}

// TestKilledUploadGoesOn kills a process in the middle of a multipart upload.
// Another one sends only what is missing.
func TestKilledUploadGoesOn(t *testing.T) {
	const size = 100 << 20
	if text := os.Getenv("S3STORE_KILLED"); text != "" {
		var server interop.S3Server
		require.NoError(t, json.Unmarshal([]byte(text), &server))
		file := filepath.Join(os.Getenv("S3STORE_STATE"), "content")
		s := remembering(t, server, os.Getenv("S3STORE_STATE"))
		src, err := publish.FileSource(file)
		require.NoError(t, err)
		_, err = s.Put(t.Context(), "key", killable{src}, &publish.PutOptions{SHA256: os.Getenv("S3STORE_SHA256")})
		require.NoError(t, err)
		return
	}
	server := interop.S3(t)
	behind := server
	var seen func() map[string]int
	behind.Endpoint, seen = counter(t, server.Endpoint)
	state := t.TempDir()
	data := noise(size)
	require.NoError(t, os.WriteFile(filepath.Join(state, "content"), data, 0o600))
	text, err := json.Marshal(behind)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledUploadGoesOn$")
	child.Env = append(os.Environ(), "S3STORE_KILLED="+string(text), "S3STORE_STATE="+state, "S3STORE_SHA256="+digest(data))
	require.NoError(t, child.Start())
	require.Eventually(t, func() bool { return seen()["part 5"] == 1 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	killed := seen()
	require.NotContains(t, killed, "part 13")

	s := remembering(t, behind, state)
	left := 0
	for u, err := range s.Uploads(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "key", u.Key)
		left++
	}
	require.Equal(t, 1, left)
	info, err := s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)})
	require.NoError(t, err)
	require.Equal(t, digest(data), info.SHA256)
	for name, n := range seen() {
		if strings.HasPrefix(name, "part ") {
			require.Equal(t, 1, n, name)
		}
	}
	onDisk, err := os.ReadFile(filepath.Join(server.Folder, "key"))
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(data), sha256.Sum256(onDisk))
	for range s.Uploads(t.Context(), "") {
		t.Error("an upload is left")
	}
	entries, err := os.ReadDir(filepath.Join(state, "uploads"))
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, e.Name(), "s3-upload", "nothing is remembered of what is done")
	}
}

type killable struct{ publish.Source }

func (k killable) Open(ctx context.Context) (io.ReadCloser, error) {
	r, err := k.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{slow{r}, r}, nil
}

// remembering is a store that remembers its uploads in a folder.
func remembering(t *testing.T, server interop.S3Server, state string) *s3store.Store {
	t.Helper()
	uploads, err := dirstore.Open(t.Context(), filepath.Join(state, "uploads"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, uploads.Close()) })
	s, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: server.Bucket, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true,
	}, &s3store.Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey, Delay: time.Millisecond, Uploads: uploads})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestPartsAreTrustedByContent lets a Put go on with an upload that holds parts
// of other content of the same size.
func TestPartsAreTrustedByContent(t *testing.T) {
	server := interop.S3(t)
	data := noise(20 << 20)
	other := bytes.Clone(data)
	other[9<<20]++ // in the second of three parts
	state := t.TempDir()
	fault := interop.Fault{Status: http.StatusServiceUnavailable, Match: func(r *http.Request) bool {
		return r.URL.Query().Get("partNumber") == "3"
	}}
	proxy := interop.Proxy(t, server.Endpoint, fault)
	server.Endpoint = proxy.URL
	s := remembering(t, server, state)
	remembered := func() (files []string) {
		files, err := filepath.Glob(filepath.Join(state, "uploads", "s3-upload-*"))
		require.NoError(t, err)
		return files
	}
	put := func(data []byte) error {
		_, err := s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)})
		return err
	}
	err := put(other)
	pe, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok, "%v", err)
	require.True(t, pe.Retryable)
	require.Len(t, remembered(), 1)
	ofOther := remembered()[0]
	text, err := os.ReadFile(ofOther)
	require.NoError(t, err)
	require.Error(t, put(data))
	require.Len(t, remembered(), 2, "other content is another upload")
	for _, file := range remembered() {
		if file != ofOther {
			require.NoError(t, os.WriteFile(file, text, 0o600))
		}
	}

	var mu sync.Mutex
	var sent []string
	proxy.Set(interop.Fault{Match: func(r *http.Request) bool {
		if number := r.URL.Query().Get("partNumber"); number != "" {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, number)
		}
		return false
	}})
	require.NoError(t, put(data))
	require.ElementsMatch(t, []string{"2", "3"}, sent)
	onDisk, err := os.ReadFile(filepath.Join(server.Folder, "key"))
	require.NoError(t, err)
	require.Equal(t, digest(data), digest(onDisk))
	require.Len(t, remembered(), 1)

	// The server has forgotten the upload of the other content by now.
	require.NoError(t, put(other))
	require.Empty(t, remembered())
	require.Equal(t, 1, countUploads(t, s), "of the one whose memory was overwritten")
	for u, err := range s.Uploads(t.Context(), "") {
		require.NoError(t, err)
		require.NoError(t, s.AbortUpload(t.Context(), u))
	}
	require.Equal(t, 0, countUploads(t, s))
}

func countUploads(t *testing.T, s *s3store.Store) int {
	t.Helper()
	n := 0
	for _, err := range s.Uploads(t.Context(), "") {
		require.NoError(t, err)
		n++
	}
	return n
}

// TestRangesOfVersitygw reads through a proxy that lets three MiB of each answer
// through, then through one that flips a bit.
func TestRangesOfVersitygw(t *testing.T) {
	server := interop.S3(t)
	data := noise(20 << 20)
	_, err := open(t, server, "ranges").Put(t.Context(), "key", publish.BytesSource(data), nil)
	require.NoError(t, err)
	get := func(r *http.Request) bool { return r.Method == http.MethodGet }
	proxy := interop.Proxy(t, server.Endpoint, interop.Fault{Match: get, CutResponse: 3 << 20})
	server.Endpoint = proxy.URL
	s := open(t, server, "ranges")
	got, err := readAll(s, t, "key")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.Equal(t, 7, proxy.Hits())
	proxy.Set(interop.Fault{Match: get, Corrupt: 10 << 20})
	_, err = readAll(s, t, "key")
	require.ErrorIs(t, err, publish.ErrDigest)
}

// TestManyUpdates lets two hundred writers add to one document.
func TestManyUpdates(t *testing.T) {
	server := interop.S3(t)
	const writers = 200
	stores := []*s3store.Store{open(t, server, "updates"), open(t, server, "updates")}
	var group sync.WaitGroup
	errs := make(chan error, writers)
	for i := range writers {
		group.Go(func() {
			_, err := publish.Update(t.Context(), stores[i%2], "doc", func(old []byte) ([]byte, error) {
				return fmt.Appendf(old, "%d\n", i), nil
			}, &publish.UpdateOptions{Attempts: 5000, Delay: 5 * time.Millisecond, Jitter: rand.Float64})
			errs <- err
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	onDisk, err := os.ReadFile(filepath.Join(server.Folder, "updates", "doc"))
	require.NoError(t, err)
	lines := map[string]bool{}
	for line := range strings.Lines(string(onDisk)) {
		lines[line] = true
	}
	require.Len(t, lines, writers)
}

// TestPlanWithNothingChanged counts the requests for objects that are there.
func TestPlanWithNothingChanged(t *testing.T) {
	server := interop.S3(t)
	behind := server
	var seen func() map[string]int
	behind.Endpoint, seen = counter(t, server.Endpoint)
	s := open(t, behind, "plan")
	const objects = 1000
	plan := &publish.Plan{Version: publish.PlanVersion, Name: "nothing changed"}
	sources := map[string]publish.Source{}
	for i := range objects {
		data := fmt.Appendf(nil, "object %d", i)
		sources[digest(data)] = publish.BytesSource(data)
		plan.Steps = append(plan.Steps, publish.Step{Stage: publish.StageContent, Object: &publish.ObjectStep{
			Key: fmt.Sprintf("builds/%d", i), SHA256: digest(data), Size: int64(len(data)),
		}})
	}
	env := &publish.Env{Store: s, Object: func(_ context.Context, sha256 string) (publish.Source, error) { return sources[sha256], nil }}
	require.NoError(t, publish.Apply(t.Context(), plan, env, nil))
	before := seen()
	require.NoError(t, publish.Apply(t.Context(), plan, env, nil))
	after, n := seen(), 0
	for name := range after {
		n += after[name] - before[name]
	}
	require.LessOrEqual(t, n, objects)
	require.Equal(t, before["PUT"], after["PUT"])
}

func ExampleStore_Uploads() {
	ctx := context.Background()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("uploads") { // stands for a bucket in which a writer was killed
			fmt.Fprint(w, "<ListMultipartUploadsResult><Upload><Key>disk.xz</Key><UploadId>u1</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated></Upload></ListMultipartUploadsResult>")
		}
	}))
	defer server.Close()
	s, err := s3store.Open(ctx, s3store.Config{Bucket: "bucket", Endpoint: server.URL, PathStyle: true}, &s3store.Options{AccessKey: "sample", SecretKey: "sample"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	old := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for u, err := range s.Uploads(ctx, "") {
		if err == nil && u.Started.Before(old) {
			err = s.AbortUpload(ctx, u)
		}
		fmt.Println(u.Key, err)
	}
	// Output: disk.xz <nil>
}

func ExampleStore_AbortUpload() { ExampleStore_Uploads() }
