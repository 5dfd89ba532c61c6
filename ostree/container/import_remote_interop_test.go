package container_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// goingRegistry stands before a registry and goes away in the middle of a blob:
// from then on nobody answers, until it comes back.
type goingRegistry struct {
	target string // host:port of the registry

	mu    sync.Mutex
	cut   string // digest of the blob in whose middle it goes; "": it stays
	gone  bool
	asked map[string]int // blobs asked for, by digest
}

func (g *goingRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, digest, isBlob := strings.Cut(r.URL.Path, "/blobs/")
	g.mu.Lock()
	if isBlob && r.Method == http.MethodGet {
		g.asked[digest]++
	}
	going := isBlob && digest == g.cut
	g.gone = g.gone || going
	gone := g.gone
	g.mu.Unlock()
	if gone && !going {
		panic(http.ErrAbortHandler)
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+g.target+r.URL.RequestURI(), r.Body)
	if err != nil {
		panic(err)
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	for key, values := range resp.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(resp.StatusCode)
	if !going {
		_, _ = io.Copy(w, resp.Body)
		return
	}
	_, _ = io.CopyN(w, resp.Body, resp.ContentLength/2)
	panic(http.ErrAbortHandler)
}

// back lets the registry answer again, and cut the blob, unless that is "".
func (g *goingRegistry) back(cut string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut, g.gone, g.asked = cut, false, map[string]int{}
}

// A registry that goes away while an image is imported over HTTP: one error that
// names the layer, a repository without fault, and an import afterwards that asks
// for what lacks and nothing else.
func TestImportFromRegistryThatGoesAway(t *testing.T) {
	proxy := &goingRegistry{target: interop.Registry(t)}
	proxy.back("")
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/os/image:1")
	require.NoError(t, err)
	registry, err := remoteregistry.Open(t.Context(), &remoteregistry.Options{Attempts: 2, Delay: time.Millisecond})
	require.NoError(t, err)

	source, c := importTree(t, 11)
	made := encapsulate(t, openCache(t, t.TempDir()), source, c, &container.EncapsulateOptions{Components: importSplit(t, source, c)})
	made = importWith(t, made, archive(t, "usr/new=1"), archive(t, "usr/newer=2"))
	desc, err := registry.WriteImage(t.Context(), ref.Context(), made, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(t.Context(), ref.Context().Tag("1"), desc.Digest))
	m, err := made.Manifest()
	require.NoError(t, err)
	n := len(m.Layers)
	for i, bad := range []int{0, 1, n - 4, n - 2, n - 1} {
		digest := m.Layers[bad].Digest.String()
		t.Run(fmt.Sprint("layer ", bad), func(t *testing.T) {
			repo := importRepo(t, importModes()[i%len(importModes())])
			opts := container.ImportOptions{Name: "docker://" + ref.Name(), Layers: 1}
			proxy.back(digest)
			img, err := registry.Image(t.Context(), ref)
			require.NoError(t, err)
			_, err = container.Import(t.Context(), repo, img, &opts)
			require.Error(t, err)
			require.ErrorContains(t, err, fmt.Sprintf("import layer %d (%s): ", bad, digest))
			require.NotContains(t, err.Error(), "\n", "one error")
			require.Equal(t, 1, strings.Count(err.Error(), "import "), "of one import: %v", err)
			require.NotErrorIs(t, err, ostree.ErrCorrupt, "nothing is wrong with the image")
			t.Log(err)
			require.NoError(t, repo.Fsck(t.Context(), nil))
			for image, err := range container.ListImages(t.Context(), repo) {
				require.NoError(t, err)
				require.Fail(t, "an image is listed", image.Name)
			}
			stored := map[string]bool{}
			for i := range m.Layers {
				layer := "ostree/container/blob/" + strings.Replace(m.Layers[i].Digest.String(), ":", "_3A_", 1)
				if _, err := repo.Resolve(t.Context(), layer); err == nil {
					stored[m.Layers[i].Digest.String()] = true
				} else {
					require.ErrorIs(t, err, fs.ErrNotExist)
				}
			}
			require.NotContains(t, stored, digest)
			if bad >= n-2 {
				require.Len(t, stored, bad, "all before it")
			}

			proxy.back("")
			var stats container.ImportStats
			opts.Stats = &stats
			img, err = registry.Image(t.Context(), ref)
			require.NoError(t, err)
			got, err := container.Import(t.Context(), repo, img, &opts)
			require.NoError(t, err)
			require.Equal(t, c, got.Base)
			require.Equal(t, len(stored), stats.Reused)
			want := map[string]int{m.Config.Digest.String(): 1}
			for i := range m.Layers {
				if d := m.Layers[i].Digest.String(); !stored[d] {
					want[d] = 1
				}
			}
			require.Equal(t, want, proxy.asked)
			require.NoError(t, repo.Fsck(t.Context(), nil))
		})
	}
}
