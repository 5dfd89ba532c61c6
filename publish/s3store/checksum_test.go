package s3store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// seenParts collects what was said of the parts that passed.
type seenParts struct {
	mu        sync.Mutex
	hashes    []string // what the signature says of the body
	checksums []string
	complete  string
}

func (s *seenParts) note(r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodPut && r.URL.Query().Has("uploadId"):
		s.hashes = append(s.hashes, r.Header.Get("X-Amz-Content-Sha256"))
		s.checksums = append(s.checksums, r.Header.Get("X-Amz-Checksum-Crc32"))
	case r.Method == http.MethodPost && r.URL.Query().Has("uploadId"):
		s.complete = string(body)
	}
}

func (s *seenParts) unsigned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.hashes, "UNSIGNED-PAYLOAD")
}

func crc(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)))
}

// TestChecksumsOfParts asks servers of different knowledge.
func TestChecksumsOfParts(t *testing.T) {
	data := noise(9 << 20) // two parts
	first, second := data[:8<<20], data[8<<20:]
	for _, tc := range []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request) bool // false: as an old server
		checked bool
		wrong   bool
	}{
		{name: "knows nothing of them", handler: func(http.ResponseWriter, *http.Request) bool { return false }},
		{name: "refuses to hear of them", handler: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("X-Amz-Checksum-Algorithm") == "" {
				return false
			}
			s3Error(w, http.StatusNotImplemented, "NotImplemented", "")
			return true
		}},
		{name: "answers another one", handler: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("uploads") {
				w.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
			}
			return false
		}},
		{name: "checks them", checked: true, handler: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("uploads") {
				w.Header().Set("X-Amz-Checksum-Algorithm", "CRC32")
			}
			return false
		}},
		{name: "has other bytes", checked: true, wrong: true, handler: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X-Amz-Checksum-Algorithm", "CRC32")
			w.Header().Set("X-Amz-Checksum-Crc32", crc([]byte("other")))
			return false
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, seen := newBucket(), &seenParts{}
			s := serve(t, s3store.Config{}, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				seen.note(r, body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				if !tc.handler(w, r) {
					b.ServeHTTP(w, r)
				}
			})
			_, err := s.Put(t.Context(), "key", publish.BytesSource(data), nil)
			if tc.wrong {
				require.ErrorIs(t, err, publish.ErrDigest)
				require.ErrorContains(t, err, "server has a part with the CRC-32")
				require.Empty(t, b.objects)
				require.Equal(t, 1, b.aborted)
				return
			}
			require.NoError(t, err)
			require.Equal(t, digest(data), digest(b.objects["key"]))
			if tc.checked {
				require.Equal(t, []string{"UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD"}, seen.hashes)
				require.ElementsMatch(t, []string{crc(first), crc(second)}, seen.checksums)
				for _, sum := range seen.checksums {
					require.Contains(t, seen.complete, "<ChecksumCRC32>"+sum+"</ChecksumCRC32>")
				}
				return
			}
			require.ElementsMatch(t, []string{digest(first), digest(second)}, seen.hashes, "signed, as nothing else protects them")
			require.Equal(t, []string{"", ""}, seen.checksums)
			require.NotContains(t, seen.complete, "Checksum")
		})
	}
}

// TestDamagedPartIsRefused flips a bit on the way to a server.
func TestDamagedPartIsRefused(t *testing.T) {
	server := interop.S3(t)
	target, err := url.Parse(server.Endpoint)
	require.NoError(t, err)
	seen := &seenParts{}
	var damage atomic.Bool
	damage.Store(true)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
		if r.In.Body == nil {
			return
		}
		body, err := io.ReadAll(r.In.Body)
		if err == nil {
			seen.note(r.In, body)
			if damage.Load() && len(body) > 1<<20 {
				body[len(body)/2] ^= 1
			}
		}
		r.Out.Body = io.NopCloser(bytes.NewReader(body))
	}}
	behind := httptest.NewServer(proxy)
	t.Cleanup(behind.Close)
	server.Endpoint = behind.URL
	s := open(t, server, "damaged")
	data := noise(20 << 20)
	_, err = s.Put(t.Context(), "key", publish.BytesSource(data), nil)
	require.ErrorContains(t, err, "server answers 400")
	require.True(t, seen.unsigned(), "it was the checksum")
	_, err = s.Stat(t.Context(), "key")
	require.Error(t, err)
	require.Zero(t, countUploads(t, s))
	damage.Store(false)
	_, err = s.Put(t.Context(), "key", publish.BytesSource(data), nil)
	require.NoError(t, err)
	got, err := readAll(s, t, "key")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}
