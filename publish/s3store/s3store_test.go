package s3store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/publish/s3store"
)

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// open is a store in a part of its own of the server's bucket.
func open(t testing.TB, server interop.S3Server, prefix string) *s3store.Store {
	t.Helper()
	s, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: server.Bucket, Prefix: prefix, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true,
	}, &s3store.Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey, Delay: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformanceOfVersitygw(t *testing.T) {
	server := interop.S3(t)
	var n atomic.Int32
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		return open(t, server, fmt.Sprintf("case%02d", n.Add(1)))
	})
}

// TestVersitygwBehindFaults harms requests to a real server.
func TestVersitygwBehindFaults(t *testing.T) {
	server := interop.S3(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
	for name, fault := range map[string]interop.Fault{
		"503":         {Status: http.StatusServiceUnavailable, Times: 1, After: 2},
		"429":         {Status: http.StatusTooManyRequests, Times: 2, After: 1},
		"cut request": {CutRequest: 1000, Times: 1, After: 2, Match: func(r *http.Request) bool { return r.Method == http.MethodPut }},
		"cut answer":  {CutResponse: 1, Times: 1, After: 1},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := interop.Proxy(t, server.Endpoint, fault)
			behind := server
			behind.Endpoint = proxy.URL
			s := open(t, behind, "faults/"+name)
			if _, err := s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)}); err != nil {
				require.ErrorContains(t, err, "publish: put s3://")
				_, err = s.Stat(t.Context(), "key")
				require.Error(t, err, "nothing half-written")
				_, err = s.Put(t.Context(), "key", publish.BytesSource(data), &publish.PutOptions{SHA256: digest(data)})
				require.NoError(t, err)
			}
			body, info, err := s.Open(t.Context(), "key")
			require.NoError(t, err)
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.NoError(t, body.Close())
			require.Equal(t, digest(data), digest(got))
			require.Equal(t, digest(data), info.SHA256)
		})
	}
}

// zeros is a source of any size without any memory.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }
func (z zeros) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, int64(z))), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestRealInputMemory moves 512 MiB up and down in a process of its own, which must stay
// below 100 MiB.
func TestRealInputMemory(t *testing.T) {
	if endpoint := os.Getenv("S3STORE_MEMORY"); endpoint != "" {
		s := open(t, interop.S3Server{Endpoint: endpoint, Bucket: "sample", Region: "us-east-1", AccessKey: os.Getenv("S3STORE_ACCESS"), SecretKey: os.Getenv("S3STORE_SECRET")}, "memory")
		info, err := s.Put(t.Context(), "zeros", zeros(512<<20), nil)
		require.NoError(t, err)
		body, _, err := s.Open(t.Context(), "zeros")
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.Equal(t, info.Size, n)
		fmt.Printf("peak %d MiB\n", peakMiB(t))
		require.Less(t, peakMiB(t), 100)
		return
	}
	server := interop.S3(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealInputMemory$", "-test.v")
	child.Env = append(os.Environ(), "S3STORE_MEMORY="+server.Endpoint, "S3STORE_ACCESS="+server.AccessKey, "S3STORE_SECRET="+server.SecretKey)
	out, err := child.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}

func BenchmarkPut(b *testing.B) {
	s := open(b, interop.S3(b), "bench")
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.Put(b.Context(), "key", publish.BytesSource(data), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleOpen() {
	ctx := context.Background()
	server := httptest.NewServer(newBucket()) // stands for a real one
	defer server.Close()
	config, err := s3store.ParseURL("s3://bucket/prod?path-style=true&region=us-east-1&endpoint=" + url.QueryEscape(server.URL))
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := s3store.Open(ctx, config, &s3store.Options{AccessKey: "sample", SecretKey: "sample"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	info, err := s.Put(ctx, "next.json", publish.BytesSource([]byte("{}")), &publish.PutOptions{CacheControl: "max-age=60"})
	fmt.Println(info.Key, info.Size, err)
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, err)
	}
	fmt.Println(s.Delete(ctx, "next.json"))
	_, err = s.Stat(ctx, "next.json")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// next.json 2 <nil>
	// next.json <nil>
	// <nil>
	// true
}
