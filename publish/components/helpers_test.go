package components_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/components"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

var commitTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// world is a registry, repositories with sources, and a builder.
type world struct {
	t        testing.TB
	registry publish.Registry
	repo     name.Repository
	sources  string // a folder for each repository, by the last part of its URL

	mu      sync.Mutex
	builds  []components.Build
	fetched []components.Source
}

func newWorld(t testing.TB) *world {
	registry, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("registry.example/okd/content")
	require.NoError(t, err)
	return &world{t: t, registry: registry, repo: repo, sources: t.TempDir()}
}

func (w *world) env() *components.Env {
	return &components.Env{Fetch: w.fetch, Registry: w.registry, Repository: w.repo, Build: w.build, Dir: w.t.TempDir()}
}

// write makes a file of a repository.
func (w *world) write(repository, file, text string) {
	path := filepath.Join(w.sources, repository, file)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(w.t, os.WriteFile(path, []byte(text), 0o644))
}

// commit is what the files of a repository come to.
func (w *world) commit(repository string) string {
	h := sha1.New()
	err := filepath.WalkDir(filepath.Join(w.sources, repository), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %s\n", path, data)
		return err
	})
	require.NoError(w.t, err)
	return hex.EncodeToString(h.Sum(nil))
}

func (w *world) fetch(_ context.Context, s components.Source) (*components.Tree, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched = append(w.fetched, s)
	if dir, ok := strings.CutPrefix(s.Repository, "file://"); ok {
		return &components.Tree{Dir: dir}, nil
	}
	repository := s.Repository[strings.LastIndexByte(s.Repository, '/')+1:]
	if _, err := os.Stat(filepath.Join(w.sources, repository)); err != nil {
		return nil, err
	}
	return &components.Tree{Dir: filepath.Join(w.sources, repository), Commit: w.commit(repository), Time: commitTime}, nil
}

// image writes an image with one file to the registry.
func (w *world) image(repository, file string, labels map[string]string) name.Digest {
	layer := layerOf(w.t, map[string]string{file: "content of " + file}, gzip.BestCompression)
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	require.NoError(w.t, err)
	config, err := img.ConfigFile()
	require.NoError(w.t, err)
	config.OS, config.Architecture, config.Config.Labels = "linux", "amd64", labels
	img, err = mutate.ConfigFile(img, config)
	require.NoError(w.t, err)
	repo, err := name.NewRepository(repository)
	require.NoError(w.t, err)
	desc, err := w.registry.WriteImage(w.t.Context(), repo, img, nil)
	require.NoError(w.t, err)
	return repo.Digest(desc.Digest.String())
}

func (w *world) tag(ref name.Digest, tag string) {
	digest, err := v1.NewHash(ref.DigestStr())
	require.NoError(w.t, err)
	require.NoError(w.t, w.registry.Tag(w.t.Context(), ref.Context().Tag(tag), digest))
}

// release makes a release of these components, each with the labels given.
func (w *world) release(labels map[string]map[string]string) *payload.Release {
	images := map[string]name.Reference{"cluster-version-operator": w.image("registry.example/okd/base", "usr/bin/cvo", nil)}
	for component, l := range labels {
		images[component] = w.image("registry.example/okd/base", "usr/bin/"+component, l)
	}
	built, err := payload.Assemble(w.t.Context(), w.registry, &payload.Spec{Version: "4.20.0-okd-scos.1", Created: commitTime, Components: images}, nil)
	require.NoError(w.t, err)
	repo, err := name.NewRepository("registry.example/okd/release")
	require.NoError(w.t, err)
	_, err = w.registry.WriteImage(w.t.Context(), repo, built.Image, nil)
	require.NoError(w.t, err)
	r, err := payload.Open(w.t.Context(), w.registry, repo.Digest(built.Digest.String()), nil)
	require.NoError(w.t, err)
	return r
}

func layerOf(t testing.TB, files map[string]string, level int) v1.Layer {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for path, text := range files {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(text))}))
		_, err := tw.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithCompressionLevel(level), tarball.WithMediaType(types.OCILayer))
	require.NoError(t, err)
	return l
}

// build is a builder that knows FROM of one image, COPY of one file, and LABEL. As
// real ones it packs the layers of the base again.
func (w *world) build(ctx context.Context, b *components.Build) error {
	w.mu.Lock()
	w.builds = append(w.builds, *b)
	w.mu.Unlock()
	text, err := os.ReadFile(b.Containerfile)
	if err != nil {
		return err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	config := &v1.ConfigFile{OS: b.Platform.OS, Architecture: b.Platform.Architecture, Created: v1.Time{Time: b.Created}, RootFS: v1.RootFS{Type: "layers"}}
	var layers []v1.Layer
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "FROM":
			layers = nil
			if words[1] == "scratch" {
				continue
			}
			i := slices.IndexFunc(b.Bases, func(base components.Base) bool { return base.Name == words[1] })
			if i < 0 {
				return fmt.Errorf("no image %s", words[1])
			}
			if layers, err = repacked(b.Bases[i].Layout); err != nil {
				return err
			}
		case words[0] == "COPY" && strings.HasPrefix(words[1], "--from="):
			from := strings.TrimPrefix(words[1], "--from=")
			if strings.Contains(from, "/") && !slices.ContainsFunc(b.Bases, func(base components.Base) bool { return base.Name == from }) {
				return fmt.Errorf("no image %s", from)
			}
		case words[0] == "COPY":
			data, err := os.ReadFile(filepath.Join(b.Context, words[1]))
			if err != nil {
				return err
			}
			layers = append(layers, layerOf(w.t, map[string]string{words[2]: string(data)}, gzip.BestSpeed))
		case words[0] == "RUN" && words[1] == "false":
			return errors.New("exit status 1")
		}
	}
	labels := map[string]string{}
	for _, l := range b.Labels {
		key, value, _ := strings.Cut(l, "=")
		labels[key] = value
	}
	config.Config.Labels = labels
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layers...); err != nil {
		return err
	}
	to, err := layout.Write(b.Output, empty.Index)
	if err != nil {
		return err
	}
	return to.AppendImage(img)
}

func repacked(dir string) ([]v1.Layer, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		if layers[i], err = tarball.LayerFromOpener(l.Uncompressed, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer)); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

func list(t testing.TB, text string) *components.List {
	t.Helper()
	l, err := components.DecodeList(strings.NewReader("apiVersion: streams.okd.io/v1alpha1\nkind: Components\n" + text))
	require.NoError(t, err)
	return l
}

// names gives the components of each batch.
func names(batches [][]components.Step) [][]string {
	var out [][]string
	for _, batch := range batches {
		var list []string
		for _, s := range batch {
			list = append(list, s.Name)
		}
		out = append(out, list)
	}
	return out
}
