package payload_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/ocregistry"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func planOf(t testing.TB, r *payload.Release, to name.Repository, opts *payload.MirrorOptions) []publish.Copy {
	t.Helper()
	copies, err := payload.Mirror(r, to, opts)
	require.NoError(t, err)
	out := make([]publish.Copy, len(copies))
	for i, c := range copies {
		out[i] = publish.Copy(c)
	}
	return out
}

func ocFolder(t testing.TB, dir string) *ocregistry.Registry {
	t.Helper()
	r, err := ocregistry.Open(t.Context(), dir, &ocregistry.Options{NoSync: true})
	require.NoError(t, err)
	return r
}

func layouts(t testing.TB, dir string) *layoutregistry.Registry {
	t.Helper()
	r, err := layoutregistry.Open(t.Context(), dir, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	return r
}

// The folder that `oc adm release mirror --to-dir` made of the sample, name by
// name, and the signatures beside it.
func TestSampleMirrorFolder(t *testing.T) {
	src := sampleImages(t)
	r := sampleRelease(t, src, 0)
	dir := t.TempDir()
	_, err := publish.Transfer(t.Context(), ocFolder(t, dir), publish.ReadOnly(src), planOf(t, r, mustRepo(t, "registry.test/openshift/release"), &payload.MirrorOptions{NoReferrers: true, NoSignatures: true}), nil)
	require.NoError(t, err)
	sig, err := os.ReadFile(interop.SharedData(t, "payload", "sample", "signature-1"))
	require.NoError(t, err)
	file, configMap, err := payload.EncodeSignatureConfigMap(mustHash(t, samples[0].digest), [][]byte{sig})
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "config"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config", file), configMap, 0o640))
	recorded, err := os.ReadFile(interop.SharedData(t, "payload", "sample", file))
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(string(recorded), "\n"), string(configMap))
	store, err := payload.MirrorSignatures(rootOf(t, dir))
	require.NoError(t, err)
	for got, err := range store.Signatures(t.Context(), mustHash(t, samples[0].digest)) {
		require.NoError(t, err)
		require.Equal(t, sig, got)
		sig = nil
	}
	require.Nil(t, sig, "it is found again")

	var got []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, p)
		require.NoError(t, relErr)
		if rel == "." {
			rel = ""
		}
		got = append(got, strings.TrimSuffix("./"+rel, "/"))
		return err
	}))
	want := strings.Split(strings.TrimSpace(sampleText(t, "mirror-dir.txt")), "\n")
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
	for _, p := range got {
		if base := filepath.Base(p); strings.Contains(p, "/manifests/") && strings.HasPrefix(base, "sha256:") {
			one, err := os.Stat(filepath.Join(dir, p))
			require.NoError(t, err)
			two, err := os.Stat(filepath.Join(dir, strings.Replace(p, "/manifests/", "/blobs/", 1)))
			require.NoError(t, err)
			require.True(t, os.SameFile(one, two), "a manifest and its blob are one file")
		}
	}
}

// decorated is a release in a folder of layouts, with an index, cosign's
// signatures and referrers.
func decorated(t testing.TB) (*layoutregistry.Registry, *payload.Release) {
	t.Helper()
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	w.plain(t, "x", nil)
	reg := layouts(t, t.TempDir())
	content := mustRepo(t, repo)
	for _, tag := range slices.Sorted(maps.Keys(w.components)) {
		_, err := reg.WriteImage(t.Context(), content, w.images[mustHash(t, w.components[tag].Identifier())], nil)
		require.NoError(t, err)
	}
	built, err := payload.Assemble(t.Context(), reg, w.spec(), nil)
	require.NoError(t, err)
	releases := mustRepo(t, "registry.test/okd/release")
	desc, err := reg.WriteImage(t.Context(), releases, built.Image, nil)
	require.NoError(t, err)
	// A signature by cosign's tag, and one that refers to the release.
	attached := func(text string, subject *v1.Descriptor) v1.Hash {
		img := mutate.MediaType(makeImage(t, imageSpec{oci: true, layers: [][]byte{tarOf(t, entry{name: text, data: text})}}), types.OCIManifestSchema1)
		if subject != nil {
			img = mutate.Subject(img, *subject).(v1.Image)
		}
		d, err := reg.WriteImage(t.Context(), releases, img, nil)
		require.NoError(t, err)
		return d.Digest
	}
	require.NoError(t, reg.Tag(t.Context(), releases.Tag("sha256-"+desc.Digest.Hex+".sig"), attached("signature", nil)))
	subject, err := partial.Descriptor(built.Image)
	require.NoError(t, err)
	attached("one", subject)
	attached("two", subject)
	r, err := payload.Open(t.Context(), reg, releases.Digest(desc.Digest.String()), nil)
	require.NoError(t, err)
	return reg, r
}

// requireMirrored looks at all that a mirror must have.
func requireMirrored(t testing.TB, at payload.Images, r *payload.Release, to name.Repository) {
	t.Helper()
	tag := to.Tag("4.20.0-test.1-x86_64")
	got, err := payload.Open(t.Context(), at, tag, nil)
	require.NoError(t, err)
	require.Equal(t, r.Digest, got.Digest)
	moved := got.References.Tags
	for i := range moved {
		moved[i].Pullspec = to.Name() + "@" + strings.SplitAfter(moved[i].Pullspec, "@")[1]
	}
	components, err := got.Components(t.Context(), at, nil)
	require.NoError(t, err)
	require.Len(t, components, 3)
	_, err = at.Head(t.Context(), to.Tag("sha256-"+r.Digest.Hex+".sig"))
	require.NoError(t, err)
	referrers, ok := at.(publish.Referrers)
	if !ok {
		referrers = publish.ReadOnly(at).(publish.Referrers)
	}
	n := 0
	for _, err := range referrers.Referrers(t.Context(), to.Digest(r.Digest.String()), "") {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 2, n)
}

// From a registry into oc's folder, from it and from an archive of it into
// others, in both directions, with what is attached.
func TestMirrorMoves(t *testing.T) {
	from, r := decorated(t)
	to := mustRepo(t, "mirror.test/okd/mirror")
	dir := t.TempDir()
	folder := ocFolder(t, dir)
	done, err := publish.Transfer(t.Context(), folder, from, planOf(t, r, to, nil), nil)
	require.NoError(t, err)
	require.Equal(t, done.Totals.Manifests, done.Totals.Written)
	require.Equal(t, 4+3, done.Totals.Written, "the release, its components, and what is attached")
	requireMirrored(t, folder, r, to)
	opened, err := payload.Folder(rootOf(t, dir))
	require.NoError(t, err)
	requireMirrored(t, opened, r, to)

	// In the air-gapped site the release is found in the folder, and its
	// components beside it.
	data := archiveOf(t, dir)
	fsys, err := payload.Archive(data, data.Size())
	require.NoError(t, err)
	archived, err := payload.Folder(fsys)
	require.NoError(t, err)
	local, err := payload.Open(t.Context(), archived, to.Tag("4.20.0-test.1-x86_64"), nil)
	require.NoError(t, err)
	site := mustRepo(t, "site.test/okd/release")
	plan := planOf(t, local, site, &payload.MirrorOptions{From: to})
	for name, source := range map[string]publish.Registry{"folder": folder, "folder that is only read": publish.ReadOnly(opened), "archive": publish.ReadOnly(archived)} {
		t.Run(name, func(t *testing.T) {
			for kind, target := range map[string]publish.Registry{"layouts": layouts(t, t.TempDir()), "oc": ocFolder(t, t.TempDir())} {
				_, err := publish.Transfer(t.Context(), target, source, plan, nil)
				require.NoError(t, err, kind)
				requireMirrored(t, target, r, site)
				again, err := publish.Transfer(t.Context(), target, source, plan, nil)
				require.NoError(t, err, kind)
				require.Zero(t, again.Totals.Moved+again.Totals.Written+again.Totals.Tagged, kind)
			}
		})
	}
	// A damaged blob in the folder stops at the border.
	blobs, err := filepath.Glob(filepath.Join(dir, "v2", "okd", "mirror", "blobs", "sha256:*"))
	require.NoError(t, err)
	raw, err := os.ReadFile(blobs[0])
	require.NoError(t, err)
	raw[len(raw)/2] ^= 1
	require.NoError(t, os.Chmod(blobs[0], 0o644))
	require.NoError(t, os.WriteFile(blobs[0], raw, 0o644))
	clean := layouts(t, t.TempDir())
	_, err = publish.Transfer(t.Context(), clean, publish.ReadOnly(opened), plan, &publish.TransferOptions{Attempts: 1})
	require.ErrorIs(t, err, publish.ErrDigest)
	_, err = clean.Head(t.Context(), site.Tag("4.20.0-test.1-x86_64"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// stopping is a registry whose writer is gone at a request: nothing that it is
// asked from then on is done. It counts the blobs that arrived.
type stopping struct {
	publish.Registry
	publish.Blobs
	cancel context.CancelFunc

	mu      sync.Mutex
	left    int
	arrived map[string]int
}

func (s *stopping) step() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
	if s.left < 0 {
		s.cancel()
		return context.Canceled
	}
	return nil
}

func (s *stopping) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Registry.Head(ctx, ref)
}

func (s *stopping) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Registry.Tag(ctx, tag, digest)
}

func (s *stopping) WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	if err := s.step(); err != nil {
		return v1.Descriptor{}, err
	}
	return s.Blobs.WriteManifest(ctx, repo, mediaType, raw)
}

func (s *stopping) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	if err := s.step(); err != nil {
		return 0, err
	}
	return s.Blobs.StatBlob(ctx, repo, digest)
}

func (s *stopping) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := s.step(); err != nil {
		return err
	}
	err := s.Blobs.WriteBlob(ctx, repo, blob, src)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.arrived[blob.Digest.String()]++
	}
	return err
}

func (s *stopping) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Blobs.MountBlob(ctx, repo, digest, from)
}

// A mirror that is killed at every request into oc's folder, and at every
// fourth into layouts and out of the folder: the next run goes on, and no blob
// comes twice.
func TestMirrorKilled(t *testing.T) {
	source, r := decorated(t)
	to := mustRepo(t, "mirror.test/okd/mirror")
	first := planOf(t, r, to, nil)
	folder := ocFolder(t, t.TempDir())
	_, err := publish.Transfer(t.Context(), folder, source, first, nil)
	require.NoError(t, err)
	back := planOf(t, r, mustRepo(t, "site.test/okd/site"), &payload.MirrorOptions{From: to})
	back[len(back)-1].From = to.Digest(r.Digest.String()).Name()
	for _, way := range []struct {
		name string
		from publish.Registry
		plan []publish.Copy
		open func(dir string) publish.Registry
		step int // layouts are slow to make
	}{
		{"into oc's folder", source, first, func(dir string) publish.Registry { return ocFolder(t, dir) }, 1},
		{"into layouts", source, first, func(dir string) publish.Registry { return layouts(t, dir) }, 4},
		{"out of oc's folder", folder, back, func(dir string) publish.Registry { return layouts(t, dir) }, 4},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			run := func(dir string, left int, arrived map[string]int) error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				reg := way.open(dir)
				to := &stopping{Registry: reg, Blobs: reg.(publish.Blobs), cancel: cancel, left: left, arrived: arrived}
				_, err := publish.Transfer(ctx, to, way.from, way.plan, &publish.TransferOptions{Workers: 2})
				return err
			}
			for n := 0; ; n += way.step {
				dir, arrived := t.TempDir(), map[string]int{}
				killed := run(dir, n, arrived)
				require.NoError(t, run(dir, 1<<30, arrived))
				for digest, times := range arrived {
					require.Equal(t, 1, times, "killed at request %d: %s", n, digest)
				}
				if killed == nil {
					require.Greater(t, n, 20)
					break
				}
			}
		})
	}
}

// The same over HTTP: into the reference registry, and out of a folder.
func TestMirrorRegistry(t *testing.T) {
	interop.Peer(t, "docker-registry")
	host := interop.Registry(t)
	from, r := decorated(t)
	mirror := mustRepo(t, "mirror.test/okd/mirror")
	dir := t.TempDir()
	_, err := publish.Transfer(t.Context(), ocFolder(t, dir), from, planOf(t, r, mirror, nil), nil)
	require.NoError(t, err)
	data := archiveOf(t, dir)
	fsys, err := payload.Archive(data, data.Size())
	require.NoError(t, err)
	archived, err := payload.Folder(fsys)
	require.NoError(t, err)
	remote, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	site := mustRepo(t, host+"/okd/site")
	local, err := payload.Open(t.Context(), archived, mirror.Tag("4.20.0-test.1-x86_64"), nil)
	require.NoError(t, err)
	_, err = publish.Transfer(t.Context(), remote, publish.ReadOnly(archived), planOf(t, local, site, &payload.MirrorOptions{From: mirror}), nil)
	require.NoError(t, err)
	requireMirrored(t, remote, r, site)

	back := t.TempDir()
	there, err := payload.Open(t.Context(), remote, site.Tag("4.20.0-test.1-x86_64"), nil)
	require.NoError(t, err)
	_, err = publish.Transfer(t.Context(), ocFolder(t, back), remote, planOf(t, there, mirror, &payload.MirrorOptions{From: site}), nil)
	require.NoError(t, err)
	requireMirrored(t, ocFolder(t, back), r, mirror)
	raw, err := json.Marshal(filesBelow(t, back))
	require.NoError(t, err)
	want, err := json.Marshal(filesBelow(t, dir))
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(raw), "the same folder as before")
}

func filesBelow(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, p)
		require.NoError(t, relErr)
		out = append(out, rel+" "+d.Type().String())
		return err
	}))
	return out
}
