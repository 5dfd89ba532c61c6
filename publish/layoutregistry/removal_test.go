package layoutregistry_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// later is a time at which everything of this test is old.
func later() time.Time { return time.Now().Add(48 * time.Hour) }

func write1(t testing.TB, r *layoutregistry.Registry, repo name.Repository, seed uint64, tags ...string) (v1.Image, v1.Descriptor) {
	t.Helper()
	img := randomImage(t, seed, 1000, 2)
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	for _, tag := range tags {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), desc.Digest))
	}
	return img, desc
}

func readable(t testing.TB, r *layoutregistry.Registry, ref name.Reference) {
	t.Helper()
	img, err := r.Image(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, r.Verify(t.Context(), ref.Context(), nil))
	_, err = img.RawConfigFile()
	require.NoError(t, err)
}

func referrer(t testing.TB, subject v1.Descriptor, artifactType string, seed uint64) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(randomImage(t, seed, 100, 1), types.MediaType(artifactType))
	return mutate.Subject(img, subject).(v1.Image)
}

func referrersOf(t testing.TB, r publish.Referrers, subject name.Digest, artifactType string) []v1.Hash {
	t.Helper()
	var out []v1.Hash
	for d, err := range r.Referrers(t.Context(), subject, artifactType) {
		require.NoError(t, err)
		out = append(out, d.Digest)
	}
	return out
}

func TestGC(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, kept := write1(t, r, repo, 1, "kept")
	_, lost := write1(t, r, repo, 2, "moving")
	_, moved := write1(t, r, repo, 3, "moving")
	idx, err := random.Index(500, 1, 2)
	require.NoError(t, err)
	multi, err := r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("multi"), multi.Digest))
	sig, err := r.WriteImage(t.Context(), repo, referrer(t, kept, "application/x.sig", 10), nil)
	require.NoError(t, err)
	sigOfSig, err := r.WriteImage(t.Context(), repo, referrer(t, sig, "application/x.sig", 11), nil)
	require.NoError(t, err)
	lostSig, err := r.WriteImage(t.Context(), repo, referrer(t, lost, "application/x.sig", 12), nil)
	require.NoError(t, err)
	_, other := write1(t, r, testRepo(t, "okd/a/nested"), 2) // shares all its bytes with lost

	stray, _, err := v1.SHA256(strings.NewReader("stray"))
	require.NoError(t, err)
	require.NoError(t, r.WriteBlob(t.Context(), repo, v1.Descriptor{Digest: stray, Size: 5}, publish.BytesSource([]byte("stray"))))

	var report layoutregistry.GCReport
	for _, dry := range []bool{true, false} {
		report, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: time.Now(), DryRun: dry})
		require.NoError(t, err)
		require.Equal(t, layoutregistry.GCReport{Repositories: 2}, report, "everything is young")
	}

	before := files(t, dir)
	var would, did []layoutregistry.Garbage
	opts := layoutregistry.GCOptions{
		Now: later(), DryRun: true, Removed: func(g layoutregistry.Garbage) { would = append(would, g) },
		Keep: func(repository string, d v1.Descriptor) bool {
			return repository == "okd/a/nested" && d.Digest == other.Digest
		},
	}
	report, err = r.GC(t.Context(), &opts)
	require.NoError(t, err)
	require.Equal(t, before, files(t, dir), "a dry run removes nothing")
	opts.DryRun, opts.Removed = false, func(g layoutregistry.Garbage) { did = append(did, g) }
	real, err := r.GC(t.Context(), &opts)
	require.NoError(t, err)
	require.Equal(t, report, real)
	require.Equal(t, would, did)
	var bytes int64
	for _, g := range did {
		require.Equal(t, "okd/a", g.Repository)
		require.NoFileExists(t, filepath.Join(dir, g.Repository, g.File))
		bytes += g.Size
	}
	require.Equal(t, bytes, real.Bytes)
	require.Equal(t, 2, real.Manifests, "the one without a tag and its signature")
	// Two layers and a config of the image, one of each of the signature, and
	// the blob that nothing names. The list that it was on stays for readers until the next run.
	require.Equal(t, 6, real.Blobs)

	for _, h := range []v1.Hash{lost.Digest, lostSig.Digest} {
		_, err = r.Head(t.Context(), repo.Digest(h.String()))
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.StatBlob(t.Context(), repo, h)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	for _, ref := range []name.Reference{repo.Tag("kept"), repo.Tag("moving"), repo.Digest(sig.Digest.String()), repo.Digest(sigOfSig.Digest.String()), testRepo(t, "okd/a/nested").Digest(other.Digest.String())} {
		readable(t, r, ref)
	}
	_, err = r.Index(t.Context(), repo.Tag("multi"))
	require.NoError(t, err)
	require.Equal(t, []v1.Hash{sig.Digest}, referrersOf(t, r, repo.Digest(kept.Digest.String()), ""))
	require.Equal(t, []v1.Hash{sigOfSig.Digest}, referrersOf(t, r, repo.Digest(sig.Digest.String()), ""))
	require.Empty(t, referrersOf(t, r, repo.Digest(lost.Digest.String()), ""))
	require.NotEqual(t, kept.Digest, moved.Digest)

	// The list goes last; then there is nothing left to do.
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later(), KeepUntagged: true})
	require.NoError(t, err)
	report, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: later(), KeepUntagged: true})
	require.NoError(t, err)
	require.Equal(t, layoutregistry.GCReport{Repositories: 2}, report)
	readable(t, r, repo.Tag("kept"))

	// What went can be written again.
	write1(t, r, repo, 2, "again")
	readable(t, r, repo.Tag("again"))
}

func TestGCAges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	img, desc := write1(t, r, repo, 1, "a")
	layers, err := img.Layers()
	require.NoError(t, err)
	layer, err := layers[0].Digest()
	require.NoError(t, err)
	blob := filepath.Join(dir, "okd/a/blobs/sha256", layer.Hex)
	ctime := func() time.Time {
		info, err := os.Stat(blob)
		require.NoError(t, err)
		return time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
	}
	first := ctime()
	modified := func() time.Time {
		info, err := os.Stat(blob)
		require.NoError(t, err)
		return info.ModTime()
	}
	content := modified()
	require.Eventually(t, func() bool {
		// A writer that finds it there makes it young, without a new time of
		// its content.
		_, err := r.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		return ctime().After(first)
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, content, modified())

	// So does losing its tag: the grace period begins then.
	manifest := filepath.Join(dir, "okd/a/blobs/sha256", desc.Digest.Hex)
	info, err := os.Stat(manifest)
	require.NoError(t, err)
	old := time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
	time.Sleep(30 * time.Millisecond) // longer than the clock of a file system's tick
	require.NoError(t, r.Untag(t.Context(), repo.Tag("a")))
	require.ErrorIs(t, r.Untag(t.Context(), repo.Tag("a")), fs.ErrNotExist)
	info, err = os.Stat(manifest)
	require.NoError(t, err)
	now := time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
	require.True(t, now.After(old))
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: now.Add(time.Hour), Grace: time.Hour})
	require.NoError(t, err)
	require.Zero(t, report.Manifests)
	readable(t, r, repo.Digest(desc.Digest.String()))
	report, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: now.Add(time.Hour + time.Second), Grace: time.Hour})
	require.NoError(t, err)
	require.Equal(t, 1, report.Manifests)

	_, err = r.GC(t.Context(), nil)
	require.ErrorContains(t, err, "no time")
	_, err = r.GC(t.Context(), &layoutregistry.GCOptions{Now: now, Grace: -1})
	require.ErrorContains(t, err, "grace")
}

// What cannot be read hides what it names: nothing may go then.
func TestGCRefusesDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, desc := write1(t, r, repo, 1, "a")
	write1(t, r, repo, 2)
	write1(t, r, testRepo(t, "okd/b"), 3)
	write("blobs/sha256/"+desc.Digest.Hex, strings.Repeat("x", int(desc.Size)))(t, filepath.Join(dir, "okd/a"))
	before := files(t, filepath.Join(dir, "okd/a"))
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, "collect garbage okd/a")
	require.ErrorContains(t, err, desc.Digest.String())
	require.Equal(t, before, files(t, filepath.Join(dir, "okd/a")))
	require.Equal(t, 1, report.Manifests, "the other repository is collected")
}

func TestGCLeavings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	write1(t, r, repo, 1, "a")
	for _, name := range []string{".tmp/1-1", "_uploads/upload.1", "index.json.77", "blobs/sha256/not-a-digest", "mine"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, "okd/a", name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "okd/a", name), []byte("x"), 0o644))
	}
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, nil, 0o644))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "okd/a/blobs/sha256", strings.Repeat("0", 64))))
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later()})
	require.NoError(t, err)
	require.Equal(t, layoutregistry.GCReport{Repositories: 1, Blobs: 2, Bytes: 2}, report)
	left := files(t, filepath.Join(dir, "okd/a"))
	for _, name := range []string{".tmp", "_uploads/upload.1", "index.json.77"} {
		require.NotContains(t, left, name)
	}
	for _, name := range []string{"mine", "blobs/sha256/not-a-digest", "blobs/sha256/" + strings.Repeat("0", 64)} {
		require.Contains(t, left, name, "not ours to remove")
	}
	require.FileExists(t, secret)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	_, a := write1(t, r, repo, 1, "a", "b")
	_, b := write1(t, r, repo, 2, "c")
	sig, err := r.WriteImage(t.Context(), repo, referrer(t, b, "application/x.sig", 3), nil)
	require.NoError(t, err)
	require.NoError(t, r.Delete(t.Context(), repo.Digest(a.Digest.String())))
	require.ErrorIs(t, r.Delete(t.Context(), repo.Digest(a.Digest.String())), fs.ErrNotExist)
	_, err = r.Head(t.Context(), repo.Tag("a"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, r.Tag(t.Context(), repo.Tag("a"), a.Digest), fs.ErrNotExist)
	readable(t, r, repo.Tag("c"))
	require.NoError(t, r.Delete(t.Context(), repo.Digest(sig.Digest.String())))
	require.Empty(t, referrersOf(t, r, repo.Digest(b.Digest.String()), ""))

	idx, err := random.Index(500, 1, 2)
	require.NoError(t, err)
	multi, err := r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	child := repo.Digest(m.Manifests[0].Digest.String())
	require.NoError(t, r.Tag(t.Context(), repo.Tag("child"), m.Manifests[0].Digest))
	require.ErrorIs(t, r.Delete(t.Context(), child), fs.ErrPermission)
	readable(t, r, repo.Tag("child"))
	require.NoError(t, r.Delete(t.Context(), repo.Digest(multi.Digest.String())))
	require.NoError(t, r.Delete(t.Context(), child))
	require.NoError(t, r.Verify(t.Context(), repo, nil))
}

// Children that came on their own are no entries once an index names them.
func TestIndexAdoptsChildren(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	idx, err := random.Index(500, 1, 3)
	require.NoError(t, err)
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	for i, d := range m.Manifests {
		img, err := idx.Image(d.Digest)
		require.NoError(t, err)
		_, err = r.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		if i == 0 {
			require.NoError(t, r.Tag(t.Context(), repo.Tag("first"), d.Digest))
		}
	}
	raw, err := idx.RawManifest()
	require.NoError(t, err)
	desc, err := r.WriteManifest(t.Context(), repo, types.OCIImageIndex, raw)
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "okd/a/index.json"))
	require.NoError(t, err)
	var got v1.IndexManifest
	require.NoError(t, json.Unmarshal(data, &got))
	require.Len(t, got.Manifests, 2, "the tagged child and the index")
	for _, d := range m.Manifests {
		readable(t, r, repo.Digest(d.Digest.String()))
	}
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later(), Keep: func(_ string, d v1.Descriptor) bool { return d.Digest == desc.Digest }})
	require.NoError(t, err)
	require.Zero(t, report.Bytes)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	repo := testRepo(t, "okd/a")
	idx, err := random.Index(500, 1, 2)
	require.NoError(t, err)
	desc, err := r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.NoError(t, r.Verify(t.Context(), repo, nil))
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	blobs := filepath.Join(dir, "okd/a/blobs/sha256")
	missing := m.Manifests[0].Digest
	require.NoError(t, os.Remove(filepath.Join(blobs, missing.Hex)))
	require.NoError(t, r.Verify(t.Context(), repo, &layoutregistry.VerifyOptions{Sparse: true}))
	img, err := idx.Image(m.Manifests[1].Digest)
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	damaged, err := layers[0].Digest()
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(blobs, damaged.Hex))
	require.NoError(t, err)
	data[3] ^= 1
	write("blobs/sha256/"+damaged.Hex, string(data))(t, filepath.Join(dir, "okd/a"))
	config, err := img.ConfigName()
	require.NoError(t, err)
	write("blobs/sha256/"+config.Hex, "{}")(t, filepath.Join(dir, "okd/a"))
	write("blobs/sha256/README", "x")(t, filepath.Join(dir, "okd/a"))
	err = r.Verify(t.Context(), repo, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, err, publish.ErrDigest)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 4, err)
	for i, want := range []string{missing.Hex, config.Hex, "README", damaged.Hex} {
		require.True(t, slices.ContainsFunc(lines, func(l string) bool {
			return strings.Contains(l, "verify registry.example/okd/a: blobs/sha256/"+want)
		}), "%d %s: %v", i, want, err)
	}
	require.Len(t, strings.Split(r.Verify(t.Context(), repo, &layoutregistry.VerifyOptions{Sparse: true, Quick: true}).Error(), "\n"), 2)
	write("index.json", `{"manifests":[{"digest":"`+desc.Digest.String()+`","size":1}]}`)(t, filepath.Join(dir, "okd/a"))
	require.ErrorIs(t, r.Verify(t.Context(), repo, nil), publish.ErrDigest)
	write("index.json", `{`)(t, filepath.Join(dir, "okd/a"))
	require.ErrorContains(t, r.Verify(t.Context(), repo, nil), "index.json")
	require.ErrorIs(t, r.Verify(t.Context(), testRepo(t, "okd/none"), nil), fs.ErrNotExist)
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, filepath.Join(dir, "registry"))
	reg := testRepo(t, "any").Registry
	for range r.Repositories(t.Context(), reg) {
		t.Fatal("there is none")
	}
	for i, p := range []string{"b", "a/deep/est", "a", "a-b"} {
		write1(t, r, testRepo(t, p), uint64(i))
	}
	require.NoError(t, os.Symlink(filepath.Join(dir, "registry/a"), filepath.Join(dir, "registry/link")))
	var got []string
	for repo, err := range r.Repositories(t.Context(), reg) {
		require.NoError(t, err)
		require.Equal(t, reg, repo.Registry)
		got = append(got, repo.RepositoryStr())
	}
	require.Equal(t, []string{"a", "a/deep/est", "a-b", "b"}, got)
	for range r.Repositories(t.Context(), reg) {
		break
	}
}

func TestMountCopiesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	a, b := testRepo(t, "okd/a"), testRepo(t, "okd/b")
	data := []byte("a layer")
	h, _, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, r.WriteBlob(t.Context(), a, v1.Descriptor{Digest: h, Size: int64(len(data))}, publish.BytesSource(data)))
	// Also a file that its owner may write to, as the server's are.
	require.NoError(t, os.Chmod(filepath.Join(dir, "okd/a/blobs/sha256", h.Hex), 0o600))
	require.NoError(t, r.MountBlob(t.Context(), b, h, a))
	require.NoError(t, r.MountBlob(t.Context(), b, h, a), "again")
	x, err := os.Stat(filepath.Join(dir, "okd/a/blobs/sha256", h.Hex))
	require.NoError(t, err)
	y, err := os.Stat(filepath.Join(dir, "okd/b/blobs/sha256", h.Hex))
	require.NoError(t, err)
	require.True(t, os.SameFile(x, y))
	// The other repository goes on when this one is collected.
	report, err := r.GC(t.Context(), &layoutregistry.GCOptions{Now: later(), Repositories: []name.Repository{a}})
	require.NoError(t, err)
	require.Equal(t, 1, report.Blobs)
	size, err := r.StatBlob(t.Context(), b, h)
	require.NoError(t, err)
	require.EqualValues(t, len(data), size)
	require.NoError(t, r.Verify(t.Context(), b, nil))
}
