package s3store_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/s3store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve opens a store on a server of our own, which answers the question for
// the bucket itself.
func serve(t *testing.T, c s3store.Config, handler http.HandlerFunc) *s3store.Store {
	t.Helper()
	return serveWithin(t, c, time.Minute, handler)
}

// serveWithin gives a silent server up after so long.
func serveWithin(t *testing.T, c s3store.Config, silence time.Duration, handler http.HandlerFunc) *s3store.Store {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.Trim(r.URL.Path, "/") == "bucket" {
			return
		}
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	c.Bucket, c.Endpoint, c.Region, c.PathStyle = "bucket", server.URL, "us-east-1", true
	s, err := s3store.Open(t.Context(), c, &s3store.Options{
		AccessKey: "AKSAMPLE", SecretKey: "very-secret", Attempts: 3, Delay: time.Millisecond,
		HeaderTimeout: silence, StallTimeout: silence,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func s3Error(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>", code)
	_ = xml.EscapeText(w, []byte(message))
	fmt.Fprint(w, "</Message></Error>")
}

func TestStatusBecomesAnError(t *testing.T) {
	for _, test := range []struct {
		status    int
		code      string
		anonymous bool
		is        []error
		retryable bool
		calls     int32
	}{
		{status: 401, code: "InvalidAccessKeyId", is: []error{fs.ErrPermission}, calls: 1},
		{status: 403, code: "AccessDenied", is: []error{fs.ErrPermission}, calls: 1},
		{status: 403, code: "AccessDenied", anonymous: true, is: []error{fs.ErrPermission, fs.ErrNotExist}, calls: 1},
		{status: 404, code: "NoSuchKey", is: []error{fs.ErrNotExist}, calls: 1},
		{status: 429, code: "TooManyRequests", retryable: true, calls: 3},
		{status: 500, code: "InternalError", retryable: true, calls: 3},
		{status: 503, code: "SlowDown", retryable: true, calls: 3},
		{status: 501, code: "NotImplemented", is: []error{errors.ErrUnsupported}, calls: 1},
		{status: 301, code: "PermanentRedirect", calls: 1},
	} {
		t.Run(fmt.Sprintf("%d anonymous=%v", test.status, test.anonymous), func(t *testing.T) {
			var calls atomic.Int32
			s := serve(t, s3store.Config{Anonymous: test.anonymous}, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				s3Error(w, test.status, test.code, "the signature=abcdef of AKSAMPLE")
			})
			_, _, err := s.Open(t.Context(), "dir/key")
			require.ErrorContains(t, err, fmt.Sprintf("publish: open s3://bucket/dir/key: server answers %d", test.status))
			require.NotContains(t, err.Error(), "abcdef")
			require.Equal(t, test.calls, calls.Load())
			for _, target := range test.is {
				require.ErrorIs(t, err, target)
			}
			pe, ok := errors.AsType[*publish.Error](err)
			require.True(t, ok)
			require.Equal(t, test.retryable, pe.Retryable)
			calls.Store(0)
			_, err = s.Stat(t.Context(), "dir/key")
			require.Error(t, err)
			require.Equal(t, test.calls, calls.Load())
			calls.Store(0)
			_, err = s.Put(t.Context(), "dir/key", publish.BytesSource([]byte("x")), nil)
			require.Error(t, err)
			require.Equal(t, test.calls, calls.Load())
		})
	}
}

// object answers a GET or HEAD of content.
func object(w http.ResponseWriter, r *http.Request, content []byte, sha256 string) {
	w.Header().Set("ETag", `"abc"`)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.Header().Set("X-Amz-Meta-Sha256", sha256)
	if r.Method == http.MethodGet {
		_, _ = w.Write(content)
	}
}

func TestReaderTrustsNothing(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100<<10)
	good := digest(content)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		is      error
		text    string
	}{
		{"right", func(w http.ResponseWriter, r *http.Request) { object(w, r, content, good) }, nil, ""},
		{"no digest", func(w http.ResponseWriter, r *http.Request) { object(w, r, content, "") }, nil, ""},
		{"digest that is none", func(w http.ResponseWriter, r *http.Request) { object(w, r, content, strings.Repeat("z", 64)) }, nil, ""},
		{"wrong bytes", func(w http.ResponseWriter, r *http.Request) {
			object(w, r, bytes.Repeat([]byte("y"), len(content)), good)
		}, publish.ErrDigest, "promised was"},
		{"cut", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"abc"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:50<<10])
		}, io.ErrUnexpectedEOF, "after 51200 of 102400 bytes"},
		{"stalled", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"abc"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:50<<10])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, nil, "no data for 200ms"},
		{"silent", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil, "after 3 attempts: no response header for 200ms"},
		{"no length", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"abc"`)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(content)
		}, nil, "does not say how long"},
		{"no tag", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("x")) }, nil, "no entity tag"},
		{"endless error", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, fs.ErrPermission, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			silence := time.Minute
			if strings.Contains(test.text, "200ms") {
				silence = 200 * time.Millisecond
			}
			s := serveWithin(t, s3store.Config{}, silence, test.handler)
			body, _, err := s.Open(t.Context(), "key")
			if err == nil {
				var data []byte
				data, err = io.ReadAll(body)
				require.NoError(t, body.Close())
				if err == nil {
					require.Equal(t, digest(content), digest(data))
				}
			}
			if test.is == nil && test.text == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.text)
			require.ErrorContains(t, err, "s3://bucket/key")
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			_, ok := errors.AsType[*publish.Error](err)
			require.True(t, ok)
		})
	}
}

func TestListTrustsNothing(t *testing.T) {
	page := func(truncated bool, token string, keys ...string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "<ListBucketResult><IsTruncated>%v</IsTruncated>", truncated)
		if token != "" {
			fmt.Fprintf(&b, "<NextContinuationToken>%s</NextContinuationToken>", token)
		}
		for _, key := range keys {
			fmt.Fprintf(&b, "<Contents><Key>%s</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>", key)
		}
		return b.String() + "</ListBucketResult>"
	}
	for _, test := range []struct {
		name, first, rest, text string
		keys                    []string
	}{
		{name: "two pages", first: page(true, "t", "a", "b"), rest: page(false, "", "c"), keys: []string{"a", "b", "c"}},
		{name: "folder markers and bad names", first: page(false, "", "a/", "a/../b", "a/b"), keys: []string{"a/b"}},
		{name: "the same page for ever", first: page(true, "t", "a", "b"), rest: page(true, "t", "a", "b"), keys: []string{"a", "b"}, text: `lists "a" after "b"`},
		{name: "out of order", first: page(false, "", "b", "a"), keys: []string{"b"}, text: `lists "a" after "b"`},
		{name: "more without a place", first: page(true, "", "a"), keys: []string{"a"}, text: "more but not where"},
		{name: "more of nothing", first: page(true, "t"), text: "more but not where"},
		{name: "cut", first: "<ListBucketResult><Contents><Key>a</Key>", text: "s3://bucket/"},
		{name: "no list", first: "hello", text: "no list"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, s3store.Config{}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("continuation-token") == "" {
					fmt.Fprint(w, test.first)
				} else {
					fmt.Fprint(w, test.rest)
				}
			})
			var keys []string
			var last error
			for info, err := range s.List(t.Context(), "") {
				if last = err; err == nil {
					keys = append(keys, info.Key)
				}
			}
			require.Equal(t, test.keys, keys)
			if test.text == "" {
				require.NoError(t, last)
			} else {
				require.ErrorContains(t, last, test.text)
			}
		})
	}
}

// bucket is a small server: single and multipart writes, no conditions.
type bucket struct {
	mu       sync.Mutex
	objects  map[string][]byte
	meta     map[string]http.Header
	parts    map[string][]byte // of the one upload
	aborted  int
	requests []string
}

func newBucket() *bucket {
	return &bucket{objects: map[string][]byte{}, meta: map[string]http.Header{}, parts: map[string][]byte{}}
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q := r.URL.Query()
	b.requests = append(b.requests, r.Method+" "+r.URL.Path)
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	switch {
	case r.Method == http.MethodHead && key == "/bucket":
	case r.Method == http.MethodGet && q.Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
		for _, key := range slices.Sorted(maps.Keys(b.objects)) {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><ETag>e</ETag></Contents>", key, len(b.objects[key]))
		}
		fmt.Fprint(w, "</ListBucketResult>")
	case r.Method == http.MethodPost && q.Has("uploads"):
		b.meta[key] = r.Header.Clone()
		fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodPut && q.Has("uploadId"):
		b.parts[q.Get("partNumber")] = data
		w.Header().Set("ETag", `"p`+q.Get("partNumber")+`"`)
	case r.Method == http.MethodPost && q.Has("uploadId"):
		var all []byte
		for i := range len(b.parts) {
			all = append(all, b.parts[fmt.Sprint(i+1)]...)
		}
		b.objects[key] = all
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"done"</ETag></CompleteMultipartUploadResult>`)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		b.aborted++
		clear(b.parts)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		b.objects[key], b.meta[key] = data, r.Header.Clone()
		w.Header().Set("ETag", `"`+digest(data)[:32]+`"`)
	case r.Method == http.MethodDelete:
		delete(b.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		data, ok := b.objects[key]
		if !ok {
			s3Error(w, 404, "NoSuchKey", "")
			return
		}
		object(w, r, data, b.meta[key].Get("X-Amz-Meta-Sha256"))
	}
}

func TestServerThatIgnoresConditions(t *testing.T) {
	b := newBucket()
	s := serve(t, s3store.Config{Prefix: "prefix"}, b.ServeHTTP)
	info, err := s.Put(t.Context(), "dir/key", publish.BytesSource([]byte("first")), nil)
	require.NoError(t, err)
	large := bytes.Repeat([]byte("x"), 9<<20)
	for _, opts := range []*publish.PutOptions{{IfAbsent: true}, {IfRevision: "stale"}, {IfRevision: info.Revision}} {
		for _, data := range [][]byte{[]byte("second"), large} {
			_, err = s.Put(t.Context(), "dir/key", publish.BytesSource(data), opts)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, "ignores If-")
		}
	}
	require.Equal(t, map[string][]byte{"prefix/dir/key": []byte("first")}, b.objects, "nothing else was written, and no probe is left")
	asked := len(b.requests)
	_, err = s.Put(t.Context(), "dir/other", publish.BytesSource(nil), &publish.PutOptions{IfAbsent: true})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Len(t, b.requests, asked, "asked once")
}

func TestHeadersOfObjects(t *testing.T) {
	b := newBucket()
	s := serve(t, s3store.Config{ACL: "public-read"}, b.ServeHTTP)
	large := bytes.Repeat([]byte("y"), 17<<20)
	for key, data := range map[string][]byte{"small": []byte("x"), "large": large} {
		_, err := s.Put(t.Context(), key, publish.BytesSource(data), &publish.PutOptions{ContentType: "application/json", CacheControl: "max-age=60"})
		require.NoError(t, err)
		require.Equal(t, digest(data), digest(b.objects[key]))
		h := b.meta[key]
		require.Equal(t, digest(data), h.Get("X-Amz-Meta-Sha256"))
		require.Equal(t, "public-read", h.Get("X-Amz-Acl"))
		require.Equal(t, "application/json", h.Get("Content-Type"))
		require.Equal(t, "max-age=60", h.Get("Cache-Control"))
		h.Del("X-Amz-Checksum-Algorithm") // a question to servers that know it
		for name := range h {
			require.NotContains(t, strings.ToLower(name), "checksum", "other servers do not know these")
		}
	}
}

// TestEachRequestHarmed cuts, refuses, or drops the answer of each request of a
// multipart upload in turn.
func TestEachRequestHarmed(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 9<<16) // 9 MiB: two parts
	for _, harm := range []string{"503", "cut before", "cut after", "403", "stalled", "not XML", "an error that says 200"} {
		t.Run(harm, func(t *testing.T) {
			t.Parallel()
			for nth := int32(1); ; nth++ {
				b := newBucket()
				var calls atomic.Int32
				var hit atomic.Bool
				silence := time.Minute
				if harm == "stalled" {
					silence = 500 * time.Millisecond
				}
				s := serveWithin(t, s3store.Config{}, silence, func(w http.ResponseWriter, r *http.Request) {
					if calls.Add(1) == nth {
						hit.Store(true)
						switch harm {
						case "stalled":
							_, _ = io.Copy(io.Discard, r.Body) // else nobody notices that the client left
							<-r.Context().Done()
							return
						case "not XML":
							_, _ = io.Copy(io.Discard, r.Body)
							fmt.Fprint(w, "all is well")
							return
						case "an error that says 200":
							_, _ = io.Copy(io.Discard, r.Body)
							s3Error(w, 200, "InternalError", "")
							return
						case "503":
							s3Error(w, 503, "SlowDown", "")
							return
						case "403":
							_, _ = io.Copy(io.Discard, r.Body) // else the answer may be lost
							s3Error(w, 403, "AccessDenied", "")
							return
						case "cut after":
							b.ServeHTTP(httptest.NewRecorder(), r)
						}
						panic(http.ErrAbortHandler)
					}
					b.ServeHTTP(w, r)
				})
				_, err := s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)})
				if !hit.Load() {
					require.NoError(t, err)
					return
				}
				if err != nil {
					require.ErrorContains(t, err, "publish: put s3://bucket/key: ")
					require.NotContains(t, b.objects, "key")
					_, err = s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)})
				} else {
					require.NotEqual(t, "403", harm, "request %d of %v", nth, b.requests)
				}
				require.NoError(t, err)
				require.Equal(t, digest(data), digest(b.objects["key"]))
			}
		})
	}
}

func TestFaultsOfASourceAbortTheUpload(t *testing.T) {
	b := newBucket()
	s := serve(t, s3store.Config{}, b.ServeHTTP)
	data := make([]byte, 20<<20)
	_, err := s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest([]byte("other"))})
	require.ErrorIs(t, err, publish.ErrDigest)
	require.Empty(t, b.objects)
	require.Equal(t, 1, b.aborted)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = s.Put(ctx, "key", publish.BytesSource(data), &publish.PutOptions{
		SHA256: digest(data), Progress: func(int64, int64) { cancel() },
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, b.objects)
	require.Equal(t, 2, b.aborted, "also when the caller gave up")
}

func TestOpenRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	t.Cleanup(server.Close)
	good := s3store.Config{Bucket: "bucket", Endpoint: server.URL, PathStyle: true, Anonymous: true}
	_, err := s3store.Open(t.Context(), good, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no such bucket")
	for name, edit := range map[string]func(c *s3store.Config, o *s3store.Options){
		"bucket":    func(c *s3store.Config, _ *s3store.Options) { c.Bucket = "a/b" },
		"prefix":    func(c *s3store.Config, _ *s3store.Options) { c.Prefix = "../x" },
		"endpoint":  func(c *s3store.Config, _ *s3store.Options) { c.Endpoint = "ftp://host" },
		"acl":       func(c *s3store.Config, _ *s3store.Options) { c.ACL = "everybody" },
		"region":    func(c *s3store.Config, _ *s3store.Options) { c.Region = "evil.example/" },
		"part size": func(_ *s3store.Config, o *s3store.Options) { o.PartSize = 1 << 20 },
	} {
		c, o := good, s3store.Options{}
		edit(&c, &o)
		_, err := s3store.Open(t.Context(), c, &o)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
}

func TestParseURL(t *testing.T) {
	for _, test := range []struct {
		in   string
		want s3store.Config
		text string // of the error
	}{
		{in: "s3://bucket", want: s3store.Config{Bucket: "bucket"}},
		{in: "s3://okd-scos/streams/next/", want: s3store.Config{Bucket: "okd-scos", Prefix: "streams/next"}},
		{in: "s3://b-1/a%20b?endpoint=http%3A%2F%2F127.0.0.1%3A7070&region=us-east-1&path-style=true&acl=public-read", want: s3store.Config{
			Bucket: "b-1", Prefix: "a b", Endpoint: "http://127.0.0.1:7070", Region: "us-east-1", PathStyle: true, ACL: "public-read"}},
		{in: "s3://bucket?single-writer=true", want: s3store.Config{Bucket: "bucket", SingleWriter: true}},
		{in: "s3://bucket?endpoint=https://host.example&anonymous", want: s3store.Config{Bucket: "bucket", Endpoint: "https://host.example", Anonymous: true}},
		{in: "https://bucket", text: `scheme "https"`},
		{in: "s3:bucket", text: "want s3://"},
		{in: "s3:///prefix", text: "bucket"},
		{in: "s3://key:secret@bucket", text: "credentials in the URL"},
		{in: "s3://bucket/a/../b", text: "prefix"},
		{in: "s3://bucket?pathstyle=true", text: `unknown parameter "pathstyle"`},
		{in: "s3://bucket?path-style=yes", text: "want true or false"},
		{in: "s3://bucket?region=a&region=b", text: "given 2 times"},
		{in: "s3://bucket?endpoint=host:80", text: "endpoint"},
		{in: "s3://bucket?endpoint=http://u:secret@host", text: "endpoint"},
		{in: "s3://bucket?endpoint=http://" + strings.Repeat("h", 2<<10), text: "endpoint"},
		{in: "s3://key:secret@" + strings.Repeat("b", 16<<10), text: "16400 bytes"},
		{in: "s3://bucket?acl=x", text: "acl"},
		{in: "s3://bucket/%zz", text: "escape"},
	} {
		c, err := s3store.ParseURL(test.in)
		if test.text != "" {
			require.ErrorContains(t, err, test.text, test.in)
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.NotContains(t, err.Error(), "secret")
			continue
		}
		require.NoError(t, err, test.in)
		require.Equal(t, test.want, c)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://bucket/prefix?endpoint=http%3A%2F%2F127.0.0.1%3A7070&region=us-east-1&path-style=true")
	f.Add("s3://b:80/../x")
	f.Add("s3://b/%2e%2e/x?acl=private&anonymous")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := fuzzbound.Parse(t, 64, s3store.ParseURL, text)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrInvalid)
			return
		}
		again, err := s3store.ParseURL(c.String())
		require.NoError(t, err, "%q", c.String())
		require.Equal(t, c, again)
		if c.Prefix != "" {
			require.NoError(t, publish.CheckKey(c.Prefix))
		}
		_, err = url.Parse(c.Endpoint)
		require.NoError(t, err)
	})
}

// peakMiB is the most memory this process had, in MiB.
func peakMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib >> 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func ExampleParseURL() {
	c, err := s3store.ParseURL("s3://okd-scos/streams/next?region=us-east-1&acl=bucket-owner-full-control")
	fmt.Println(c.Bucket, c.Prefix, c.ACL, err)
	// Output: okd-scos streams/next bucket-owner-full-control <nil>
}
