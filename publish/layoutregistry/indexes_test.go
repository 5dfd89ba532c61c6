package layoutregistry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// What is remembered of index.json is what it says, whoever wrote it and how:
// also where inode, size and times are those of what it was before.
func TestIndexIsNeverOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, theirs := open(t, dir), open(t, dir)
	repo := testRepo(t, "okd/a")
	var digests []v1.Hash
	for range 3 {
		img, err := random.Image(100, 1)
		require.NoError(t, err)
		desc, err := ours.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		digests = append(digests, desc.Digest)
	}
	check := func(want v1.Hash) {
		t.Helper()
		for _, r := range []*layoutregistry.Registry{ours, theirs} {
			got, err := r.Head(t.Context(), repo.Tag("moves"))
			require.NoError(t, err)
			require.Equal(t, want, got.Digest)
		}
	}
	for i := range 30 {
		want := digests[i%len(digests)]
		r := ours
		if i%2 == 1 {
			r = theirs
		}
		require.NoError(t, r.Tag(t.Context(), repo.Tag("moves"), want))
		check(want)
	}
	// In place, with the times and the size that it had.
	file := filepath.Join(dir, "okd/a/index.json")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	head, err := ours.Head(t.Context(), repo.Tag("moves"))
	require.NoError(t, err)
	other := digests[0]
	if other == head.Digest {
		other = digests[1]
	}
	swapped := strings.NewReplacer(head.Digest.Hex, other.Hex, other.Hex, head.Digest.Hex).Replace(string(data))
	require.NoError(t, os.WriteFile(file, []byte(swapped), 0o666))
	require.NoError(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
	check(other)
	// What cannot be read is an error, not what was there once.
	require.NoError(t, os.WriteFile(file, data[:len(data)-3], 0o666))
	_, err = ours.Head(t.Context(), repo.Tag("moves"))
	require.Error(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o666))
	check(head.Digest)
}

// Readers of an index that is remembered do not see what a writer that fails,
// or has not finished, made of it.
func TestIndexIsNotShared(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	repo := testRepo(t, "okd/a")
	idx, err := random.Index(100, 1, 2)
	require.NoError(t, err)
	desc, err := r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("a"), desc.Digest))
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	child := m.Manifests[0].Digest
	require.NoError(t, r.Tag(t.Context(), repo.Tag("child"), child))
	// It is refused after its entries were taken away.
	require.ErrorIs(t, r.Delete(t.Context(), repo.Digest(child.String())), os.ErrPermission)
	got, err := r.Head(t.Context(), repo.Tag("child"))
	require.NoError(t, err)
	require.Equal(t, child, got.Digest)
}

// However many repositories there are, what is remembered of them is bounded.
func TestIndexesAreBounded(t *testing.T) {
	t.Parallel()
	layoutregistry.CheckIndexes(t)
}

// many is a repository of n tags, each of an image of its own, whose blobs are
// not there.
func many(t testing.TB, dir string, n int) name.Repository {
	t.Helper()
	repo := testRepo(t, "okd/many")
	at := filepath.Join(dir, "okd/many")
	require.NoError(t, os.MkdirAll(filepath.Join(at, "blobs/sha256"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(at, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o666))
	var entries []string
	for i := range n {
		raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%d"}}`, i)
		h, size, err := v1.SHA256(strings.NewReader(raw))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(at, "blobs/sha256", h.Hex), []byte(raw), 0o444))
		entries = append(entries, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.index.v1+json","size":%d,"digest":%q,"annotations":{"org.opencontainers.image.ref.name":"4.22.0-okd-scos.%05d"}}`, size, h, i))
	}
	require.NoError(t, os.WriteFile(filepath.Join(at, "index.json"), []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`), 0o666))
	return repo
}

func BenchmarkManyTags(b *testing.B) {
	dir := b.TempDir()
	repo := many(b, dir, 3000)
	info, err := os.Stat(filepath.Join(dir, "okd/many/index.json"))
	require.NoError(b, err)
	tag := repo.Tag("4.22.0-okd-scos.02000")
	cold := func() *layoutregistry.Registry {
		r, err := layoutregistry.Open(b.Context(), dir, &layoutregistry.Options{NoSync: true})
		require.NoError(b, err)
		return r
	}
	warm := cold()
	for _, bench := range []struct {
		name string
		run  func() error
	}{
		{"head/first", func() error { _, err := cold().Head(b.Context(), tag); return err }},
		{"head", func() error { _, err := warm.Head(b.Context(), tag); return err }},
		{"missing", func() error {
			if _, err := warm.Head(b.Context(), repo.Digest("sha256:"+strings.Repeat("0", 64))); err == nil {
				return os.ErrExist
			}
			return nil
		}},
		{"tags", func() error {
			for _, err := range warm.Tags(b.Context(), repo) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"tag", func() error {
			d, err := warm.Head(b.Context(), tag)
			if err != nil {
				return err
			}
			if err := warm.Tag(b.Context(), repo.Tag("moves"), d.Digest); err != nil {
				return err
			}
			return warm.Untag(b.Context(), repo.Tag("moves"))
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(info.Size())
			require.NoError(b, bench.run())
			for b.Loop() {
				require.NoError(b, bench.run())
			}
		})
	}
}
