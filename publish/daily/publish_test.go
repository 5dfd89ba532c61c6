package daily_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/linkcheck"
)

// Bucket layouts speak of stages by the names that plans have.
func TestStagesHaveOneName(t *testing.T) {
	for stage, want := range map[bootimage.Stage]publish.Stage{
		bootimage.StageContent: publish.StageContent, bootimage.StageCatalogue: publish.StageCatalogue, bootimage.StageAnnouncement: publish.StageAnnouncement,
	} {
		require.Equal(t, want, publish.Stage(stage))
	}
}

// recorder is a store that looks around after every write: whatever a document
// in it names must be there at that moment.
type recorder struct {
	publish.Store
	t *testing.T

	mu      sync.Mutex
	puts    []string
	options map[string]publish.PutOptions
	checked int
}

func (r *recorder) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	info, err := r.Store.Put(ctx, key, src, opts)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !strings.HasPrefix(key, "test/names/") { // taken before anything is made
		r.puts = append(r.puts, key)
		if r.options == nil {
			r.options = map[string]publish.PutOptions{}
		}
		r.options[key] = *opts
		r.look(ctx, key)
	}
	return info, err
}

// look checks every document of the store, and what those name.
func (r *recorder) look(ctx context.Context, after string) {
	bucket := bootimage.Bucket{Stream: "test", Prefix: "test", Bases: []string{"https://example.org/files"}}
	var docs []linkcheck.Document
	for info, err := range r.List(ctx, "") {
		require.NoError(r.t, err)
		if strings.HasPrefix(info.Key, "test/names/") { // who took which name
			continue
		}
		file, err := bucket.Parse(info.Key)
		require.NoError(r.t, err, "nothing else lies outside of the layout")
		if file.Kind == bootimage.FileArtifact {
			continue
		}
		data, _, err := publish.ReadDocument(ctx, r.Store, info.Key)
		require.NoError(r.t, err)
		address, err := bucket.URL(file)
		require.NoError(r.t, err)
		docs = append(docs, linkcheck.Document{Name: info.Key, URL: address, Data: data})
	}
	report, err := linkcheck.Check(ctx, docs, &linkcheck.Options{
		Mounts: []linkcheck.Mount{{URL: bucket.Bases[0], Store: r.Store}}, Offline: true, Follow: true, Checksums: true,
	})
	require.NoError(r.t, err)
	require.NoError(r.t, report.Err(), "after %s", after)
	r.checked += report.Counts[linkcheck.OK]
}

func (r *recorder) content() (keys []string) {
	for _, key := range r.puts {
		if !strings.HasSuffix(key, ".json") {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestOrderOfPublication: at each moment everything that an index names is there.
func TestOrderOfPublication(t *testing.T) {
	w := newWorld(t)
	disk := filepath.Join(t.TempDir(), "disk.qcow2.zst")
	require.NoError(t, os.WriteFile(disk, []byte("not compressed at all"), 0o644))
	w.opts.Disks = []daily.Disk{{Platform: "qemu", Path: disk}}
	r := &recorder{Store: w.store, t: t}
	w.env.Store = r
	_, err := w.run(t.Context())
	require.NoError(t, err)
	dir := "test/builds/9.0.20261125-0"
	require.ElementsMatch(t, []string{
		dir + "/x86_64/testos-9.0.20261125-0-live-kernel.x86_64", dir + "/x86_64/testos-9.0.20261125-0-live-initramfs.x86_64.img", dir + "/x86_64/testos-9.0.20261125-0-qemu.x86_64.qcow2.zst",
		dir + "/x86_64/testos-9.0.20261125-0-ostree.x86_64.ociarchive",
	}, r.puts[:4])
	require.Equal(t, []string{dir + "/x86_64/meta.json", dir + "/release.json", "test/builds/builds.json", "test/releases.json", "streams/test.json"}, r.puts[4:])
	require.Greater(t, r.checked, 20)

	// As coreos-assembler uploads.
	for key, want := range map[string]publish.PutOptions{
		r.puts[4]: {ContentType: "application/json", CacheControl: "max-age=300"}, r.puts[6]: {ContentType: "application/json", CacheControl: "max-age=300"},
		r.puts[8]: {ContentType: "application/json", CacheControl: "max-age=60"},
		dir + "/x86_64/testos-9.0.20261125-0-qemu.x86_64.qcow2.zst": {ContentType: "application/zstd", CacheControl: "max-age=31536000"},
	} {
		got := r.options[key]
		require.Equal(t, want, publish.PutOptions{ContentType: got.ContentType, CacheControl: got.CacheControl}, key)
	}

	// The record is one that coreos-assembler reads: the base image is beside the
	// disks, as an archive.
	record, _, err := publish.ReadDocument(t.Context(), r.Store, dir+"/x86_64/meta.json")
	require.NoError(t, err)
	meta, err := bootimage.DecodeMeta(bytes.NewReader(record))
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateMeta(meta))
	body, _, err := r.Open(t.Context(), dir+"/x86_64/"+meta.Value().Images["ostree"].Path)
	require.NoError(t, err)
	files := map[string][]byte{}
	for archive := tar.NewReader(body); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		files[header.Name], err = io.ReadAll(archive)
		require.NoError(t, err)
		if name, ok := strings.CutPrefix(header.Name, "blobs/sha256/"); ok {
			require.Equal(t, name, fmt.Sprintf("%x", sha256.Sum256(files[header.Name])))
		}
	}
	require.NoError(t, body.Close())
	var layout v1.IndexManifest
	require.NoError(t, json.Unmarshal(files["index.json"], &layout))
	require.Equal(t, meta.Value().BaseImage.Digest, layout.Manifests[0].Digest.String())
	var manifest v1.Manifest
	require.NoError(t, json.Unmarshal(files["blobs/sha256/"+layout.Manifests[0].Digest.Hex], &manifest))
	for _, blob := range append(manifest.Layers, manifest.Config) {
		require.Len(t, files["blobs/sha256/"+blob.Digest.Hex], int(blob.Size))
	}

	// A second build beside the first one.
	w.files["usr/bin/true"].Data = []byte("#!/bin/true\n")
	_, err = w.run(t.Context())
	require.NoError(t, err)
	require.Len(t, r.puts, 18)
}

// TestRecordWithoutDisks: coreos-assembler reads the record of a build that has
// only what is in the commit, and finds the image to make disks of.
func TestRecordWithoutDisks(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(t.Context())
	require.NoError(t, err)
	record, _, err := publish.ReadDocument(t.Context(), w.store, s.Boot.Prefix+"/meta.json")
	require.NoError(t, err)
	meta, err := bootimage.DecodeMeta(bytes.NewReader(record))
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateMeta(meta))
	info, err := w.store.Stat(t.Context(), s.Boot.Prefix+"/"+meta.Value().Images["ostree"].Path)
	require.NoError(t, err)
	require.Equal(t, meta.Value().Images["ostree"].Size, info.Size)
}

// TestSameBytesAreNotSent: what the store has, by checksum, is not put again,
// even where nothing is remembered of the last time.
func TestSameBytesAreNotSent(t *testing.T) {
	w := newWorld(t)
	r := &recorder{Store: w.store, t: t}
	w.env.Store = r
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.Len(t, r.content(), 3)
	r.puts = nil

	// The same plan without its journal.
	for _, lost := range []string{"publish.json", "journal.jsonl"} {
		require.NoError(t, os.Remove(filepath.Join(w.env.State, s.Build, lost)))
	}
	require.NoError(t, os.Remove(filepath.Join(w.env.State, "last.json")))
	again, err := w.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.Build, again.Build)
	require.Empty(t, r.puts)

	// A file of another content under the name is no reason to go on.
	key := s.Boot.Artifacts[0].Key
	_, err = w.store.Put(t.Context(), key, publish.BytesSource([]byte("something else")), nil)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(w.env.State, s.Build, "publish.json")))
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, os.ErrExist)
}

// TestMissingFileHoldsTheAnnouncement: a stream that names a file that is gone
// is not announced, and the run says which.
func TestMissingFileHoldsTheAnnouncement(t *testing.T) {
	w := newWorld(t)
	// Another architecture is in the stream already; its disk was pruned since.
	const gone = "https://example.org/files/test/builds/8/s390x/testos-8-qemu.s390x.qcow2"
	_, err := w.store.Put(t.Context(), "streams/test.json", publish.BytesSource([]byte(`{"stream": "test", "metadata": {"last-modified": "2026-01-01T00:00:00Z"}, "architectures": {"s390x": {"artifacts": {
		"qemu": {"release": "8", "formats": {"qcow2": {"disk": {"location": "`+gone+`", "sha256": "`+strings.Repeat("a", 64)+`"}}}},
		"metal": {"release": "8", "formats": {"raw": {"disk": {"location": "https://elsewhere.example/disk", "sha256": "`+strings.Repeat("a", 64)+`"}}}}}}}}`)), nil)
	require.NoError(t, err)
	before, err := w.store.Stat(t.Context(), "streams/test.json")
	require.NoError(t, err)
	_, err = w.run(t.Context())
	require.ErrorIs(t, err, daily.ErrRejected)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "failed: links; ")
	require.ErrorContains(t, err, "missing: streams/test.json: architectures.s390x.artifacts.qemu.formats.qcow2.disk.location: "+gone)
	require.NotContains(t, err.Error(), "elsewhere.example")
	after, err := w.store.Stat(t.Context(), "streams/test.json")
	require.NoError(t, err)
	require.Equal(t, before.Revision, after.Revision)

	// When it is there again the run goes on.
	_, err = w.store.Put(t.Context(), strings.TrimPrefix(gone, "https://example.org/files/"), publish.BytesSource([]byte("disk")), nil)
	require.NoError(t, err)
	_, err = w.run(t.Context())
	require.ErrorContains(t, err, "wrong: streams/test.json")
	require.ErrorIs(t, err, publish.ErrDigest)
	require.NoError(t, w.store.Delete(t.Context(), "streams/test.json"))
	s, err := w.run(t.Context())
	require.NoError(t, err)
	require.Contains(t, s.Published.Gates, "links")
}

// TestGateNamedLinks: a gate of the definition that has the name is asked, too.
func TestGateNamedLinks(t *testing.T) {
	w := newWorld(t)
	for i := range w.def.Gates {
		if w.def.Gates[i].Name == "cluster" {
			w.def.Gates[i].Name = "links"
		}
	}
	_, err := w.run(t.Context())
	require.ErrorIs(t, err, publish.ErrPending)
	w.opts.Gates = map[string]daily.GateResult{"links": {Passed: true}}
	_, err = w.run(t.Context())
	require.NoError(t, err)
}
