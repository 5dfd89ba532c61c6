package github_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish/github"
)

// zeros is a source of that many zero bytes.
type zeros int64

func (z zeros) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, int64(z))), nil
}
func (z zeros) Size() int64 { return int64(z) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// sink is as much of GitHub as one upload needs, and keeps nothing of it.
func sink(tb testing.TB, sum string) *github.Client {
	tb.Helper()
	const asset = `{"id":2,"name":"x","state":"uploaded","size":67108864,"digest":"sha256:`
	uploaded := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, err := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost && err == nil {
			uploaded = true
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, asset+sum+`"}`)
			return
		}
		list := ""
		if uploaded && r.URL.Path == "/repos/okd-project/okd/releases/1" {
			uploaded = false
			list = asset + sum + `"}`
		}
		_, _ = io.WriteString(w, `{"id":1,"tag_name":"v1","name":"v1","draft":true,"upload_url":"http://`+r.Host+`/assets{?name,label}","assets":[`+list+`]}`)
	}))
	tb.Cleanup(server.Close)
	client, err := github.NewClient(repository, &github.ClientOptions{API: server.URL, Token: token})
	require.NoError(tb, err)
	return client
}

const large = 64 << 20

func zeroSum(tb testing.TB) string {
	tb.Helper()
	hash := sha256.New()
	_, err := io.CopyN(hash, zeroReader{}, large)
	require.NoError(tb, err)
	return hex.EncodeToString(hash.Sum(nil))
}

// TestMemory: assets stream, whatever their size.
func TestMemory(t *testing.T) {
	client := sink(t, zeroSum(t))
	fuzzbound.Within(t, 8<<20, func() {
		_, err := client.Prepare(t.Context(), &github.Spec{Tag: "v1", Assets: []github.Upload{{Name: "x", Source: zeros(large)}}})
		require.NoError(t, err)
	})
}

func BenchmarkPrepare(b *testing.B) {
	sum := zeroSum(b)
	client := sink(b, sum)
	b.SetBytes(large)
	b.ReportAllocs()
	for b.Loop() {
		_, err := client.Prepare(b.Context(), &github.Spec{Tag: "v1", Assets: []github.Upload{{Name: "x", Source: zeros(large), SHA256: sum}}})
		require.NoError(b, err)
	}
}
