package interop_test

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

func TestRootIsFoundFromBelow(t *testing.T) {
	want, err := interop.Root()
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(want, "go.mod"))

	t.Chdir(filepath.Join(want, "internal", "tools")) // a nested module is not the root
	got, err := interop.Root()
	require.NoError(t, err)
	require.Equal(t, want, got)

	t.Chdir(t.TempDir())
	_, err = interop.Root()
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestProxyFaults(t *testing.T) {
	const body = "0123456789"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.Method == http.MethodPut {
			w.Header().Set("Location", "http://"+r.Host+"/next")
			_, _ = w.Write(got)
			return
		}
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()

	get := func(t *testing.T, p *interop.FaultProxy) (*http.Response, string, error) {
		t.Helper()
		resp, err := http.Get(p.URL + "/x")
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		return resp, string(got), err
	}
	t.Run("none", func(t *testing.T) {
		p := interop.Proxy(t, server.URL)
		_, got, err := get(t, p)
		require.NoError(t, err)
		require.Equal(t, body, got)
		require.Zero(t, p.Hits())
		require.Equal(t, []string{"GET /x"}, p.Requests())
	})
	t.Run("status once after one", func(t *testing.T) {
		p := interop.Proxy(t, server.URL, interop.Fault{After: 1, Times: 1, Status: 429, RetryAfter: 7})
		var codes []int
		for i := range 3 {
			resp, _, err := get(t, p)
			require.NoError(t, err)
			codes = append(codes, resp.StatusCode)
			if i == 1 {
				require.Equal(t, "7", resp.Header.Get("Retry-After"))
			}
		}
		require.Equal(t, []int{200, 429, 200}, codes)
		require.Equal(t, 1, p.Hits())
	})
	t.Run("match", func(t *testing.T) {
		p := interop.Proxy(t, server.URL, interop.Fault{Match: func(r *http.Request) bool { return r.Method == http.MethodPut }, Status: 503})
		_, got, err := get(t, p)
		require.NoError(t, err)
		require.Equal(t, body, got)
	})
	t.Run("cut answer", func(t *testing.T) {
		_, got, err := get(t, interop.Proxy(t, server.URL, interop.Fault{CutResponse: 4}))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.LessOrEqual(t, len(got), 4)
	})
	t.Run("corrupt", func(t *testing.T) {
		_, got, err := get(t, interop.Proxy(t, server.URL, interop.Fault{Corrupt: 3}))
		require.NoError(t, err)
		require.Equal(t, "01\"3456789", got)
	})
	t.Run("cut request", func(t *testing.T) {
		p := interop.Proxy(t, server.URL, interop.Fault{CutRequest: 5, Times: 1})
		req, err := http.NewRequest(http.MethodPut, p.URL, strings.NewReader(body))
		require.NoError(t, err)
		_, err = http.DefaultClient.Do(req)
		require.Error(t, err)

		req, err = http.NewRequest(http.MethodPut, p.URL, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, p.URL+"/next", resp.Header.Get("Location"), "the client's Host is kept")
	})
	t.Run("stall", func(t *testing.T) {
		p := interop.Proxy(t, server.URL, interop.Fault{Stall: time.Hour})
		client := http.Client{Timeout: 50 * time.Millisecond}
		_, err := client.Get(p.URL)
		require.True(t, os.IsTimeout(err), "%v", err)
	})
}

func TestRegistryAnswers(t *testing.T) {
	host := interop.Registry(t)
	resp, err := http.Get("http://" + host + "/v2/")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestS3HoldsAnObject(t *testing.T) {
	at := interop.S3(t)
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(at.Endpoint), Region: at.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(at.AccessKey, at.SecretKey, ""),
	})
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &at.Bucket, Key: aws.String("a/b"), Body: bytes.NewReader([]byte("x"))})
	require.NoError(t, err)
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &at.Bucket, Key: aws.String("a/b"), Body: bytes.NewReader([]byte("y")), IfNoneMatch: aws.String("*")})
	require.ErrorContains(t, err, "PreconditionFailed")

	resp, err := http.Get(at.Endpoint + "/" + at.Bucket + "/a/b")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode, "anonymous")
}

func TestOstreeExtRuns(t *testing.T) {
	bin := interop.OstreeExt(t)
	out, err := exec.Command(bin, "container", "encapsulate", "--help").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--contentmeta")
}

// TestRealTrees proves that the trees are of the size and kind that the tests
// which use them rely on.
func TestRealTrees(t *testing.T) {
	for _, tc := range []struct {
		name         string
		tree         func(testing.TB) string
		files        int
		bytes        int64
		kernel, list string
		packages     int // at least
		changed      int // files of day two, at least
	}{
		{"debian", interop.DebianTree, 30_000, 500 << 20, "boot/vmlinuz-*", "var/lib/dpkg/info/*.list", 250, 200},
		{"rpm", interop.RPMTree, 4_000, 100 << 20, "usr/lib/modules/*/vmlinuz", "usr/share/rpm/rpmdb.sqlite", 1, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.tree(t)
			files, bytes, inodes := measure(t, dir)
			require.GreaterOrEqual(t, files, tc.files)
			require.GreaterOrEqual(t, bytes, tc.bytes)
			for _, pattern := range []string{tc.kernel, tc.list} {
				found, err := filepath.Glob(filepath.Join(dir, pattern))
				require.NoError(t, err)
				require.NotEmpty(t, found, pattern)
				if pattern == tc.list {
					require.GreaterOrEqual(t, len(found), tc.packages)
				}
			}

			files2, bytes2, inodes2 := measure(t, interop.SecondDay(t, dir))
			require.InDelta(t, files, files2, float64(files)/100)
			require.InEpsilon(t, bytes, bytes2, 0.02)
			var changed int
			var changedBytes int64
			for inode, size := range inodes2 {
				if _, same := inodes[inode]; !same {
					changed++
					changedBytes += size
				}
			}
			t.Logf("%d files, %d MB; second day %d files, %d MB changed", files, bytes>>20, changed, changedBytes>>20)
			require.GreaterOrEqual(t, changed, tc.changed)
			require.Less(t, changedBytes, bytes/10)
		})
	}
}

func TestRPMOwners(t *testing.T) {
	tree := interop.RPMTree(t)
	database := filepath.Join(tree, "usr", "share", "rpm")
	before, err := os.ReadDir(database)
	require.NoError(t, err)
	owners, err := interop.RPMOwners(t.Context(), tree)
	require.NoError(t, err)
	require.Equal(t, []string{"sample04-1.4-1.el10.x86_64"}, owners["/usr/bin/sample04-net"])
	require.Contains(t, owners["/usr/lib/os-release"], "sample-release-10-1.el10.x86_64")
	after, err := os.ReadDir(database)
	require.NoError(t, err)
	require.Len(t, after, len(before), "asking leaves the tree as it was")
}
