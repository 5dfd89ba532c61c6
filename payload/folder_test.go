package payload_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
)

// writeLayout writes a release of the test world as an OCI layout, with a tag.
func writeLayout(t testing.TB, w *world, r *payload.Release) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, p.AppendImage(w.images[r.Digest], layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})))
	return dir
}

// writeMirror writes images as oc's mirror does.
func writeMirror(t testing.TB, images map[v1.Hash]v1.Image, tag string, tagged v1.Hash) string {
	t.Helper()
	dir := t.TempDir()
	repo := filepath.Join(dir, "v2", "openshift", "release")
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "blobs"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "manifests"), 0o755))
	for h, img := range images {
		raw, err := img.RawManifest()
		require.NoError(t, err)
		blob := filepath.Join(repo, "blobs", h.String())
		require.NoError(t, os.WriteFile(blob, raw, 0o644))
		require.NoError(t, os.Link(blob, filepath.Join(repo, "manifests", h.String())))
		config, err := img.RawConfigFile()
		require.NoError(t, err)
		name, err := img.ConfigName()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(repo, "blobs", name.String()), config, 0o644))
		layers, err := img.Layers()
		require.NoError(t, err)
		for _, l := range layers {
			d, err := l.Digest()
			require.NoError(t, err)
			rc, err := l.Compressed()
			require.NoError(t, os.WriteFile(filepath.Join(repo, "blobs", d.String()), readAll(t, rc, err), 0o644))
		}
	}
	require.NoError(t, os.Symlink(tagged.String(), filepath.Join(repo, "manifests", tag)))
	return dir
}

// archiveOf packs a folder as tar would, with links.
func archiveOf(t testing.TB, dir string) *bytes.Reader {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			link, err = os.Readlink(path)
			require.NoError(t, err)
		}
		hdr, err := tar.FileInfoHeader(info, link)
		require.NoError(t, err)
		hdr.Name = "./" + filepath.ToSlash(rel)
		if d.IsDir() {
			hdr.Name += "/"
		}
		require.NoError(t, tw.WriteHeader(hdr))
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = tw.Write(data)
			require.NoError(t, err)
		}
		return nil
	}))
	require.NoError(t, tw.Close())
	return bytes.NewReader(buf.Bytes())
}

func rootOf(t testing.TB, dir string) fs.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root.FS()
}

// placesOf gives the same release in every kind of folder and archive.
func placesOf(t *testing.T, w *world, r *payload.Release) map[string]fs.FS {
	l, m := writeLayout(t, w, r), writeMirror(t, map[v1.Hash]v1.Image{r.Digest: w.images[r.Digest]}, "latest", r.Digest)
	places := map[string]fs.FS{"layout": rootOf(t, l), "mirror": rootOf(t, m)}
	for name, dir := range map[string]string{"layout archive": l, "mirror archive": m} {
		data := archiveOf(t, dir)
		a, err := payload.Archive(data, data.Size())
		require.NoError(t, err)
		places[name] = a
	}
	return places
}

func TestFolder(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	_, want := w.must(t, w.spec(), nil)
	for place, fsys := range placesOf(t, w, want) {
		t.Run(place, func(t *testing.T) {
			src, err := payload.Folder(fsys)
			require.NoError(t, err)
			tag := mustTag(t, "elsewhere.test/openshift/release:latest")
			for _, ref := range []name.Reference{tag, tag.Digest(want.Digest.String())} {
				r, err := payload.Open(t.Context(), src, ref, nil)
				require.NoError(t, err)
				require.Equal(t, want.Digest, r.Digest)
				require.Equal(t, want.RawManifest, r.RawManifest)
				require.Equal(t, filesOf(want), filesOf(r))
				desc, err := src.Head(t.Context(), ref)
				require.NoError(t, err)
				require.Equal(t, want.Digest, desc.Digest)
				img, err := src.Image(t.Context(), ref)
				require.NoError(t, err)
				got, err := img.Digest()
				require.NoError(t, err)
				require.Equal(t, want.Digest, got)
				_, err = src.Index(t.Context(), ref)
				require.Error(t, err, "it is an image")
			}
			for _, missing := range []name.Reference{mustTag(t, "elsewhere.test/openshift/release:other"), tag.Digest("sha256:" + strings.Repeat("0", 64))} {
				_, err = payload.Open(t.Context(), src, missing, nil)
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
			// A payload built again reads the base's layers from the folder too.
			_, err = payload.Assemble(t.Context(), src, &payload.Spec{FromRelease: tag}, nil)
			require.ErrorIs(t, err, fs.ErrNotExist, "the components are not in it")
		})
	}
	_, err := payload.Folder(fstest.MapFS{"v2": {}})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Every file of a folder changed: a flipped bit, a byte more, a byte less, a
// folder or a link out of the folder in its place.
func TestFolderForged(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	_, want := w.must(t, w.spec(), nil)
	var m v1.Manifest
	require.NoError(t, json.Unmarshal(want.RawManifest, &m))
	needed := []v1.Hash{want.Digest, m.Config.Digest, m.Layers[len(m.Layers)-1].Digest}
	outside := filepath.Join(t.TempDir(), "outside")
	changes := map[string]func(t *testing.T, path string, data []byte){
		"flipped": func(t *testing.T, path string, data []byte) {
			data[len(data)/2] ^= 4
			require.NoError(t, os.WriteFile(path, data, 0o644))
		},
		"longer": func(t *testing.T, path string, data []byte) {
			require.NoError(t, os.WriteFile(path, append(data, ' '), 0o644))
		},
		"shorter": func(t *testing.T, path string, data []byte) { require.NoError(t, os.WriteFile(path, data[1:], 0o644)) },
		"folder":  func(t *testing.T, path string, _ []byte) { require.NoError(t, os.Mkdir(path, 0o755)) },
		"link out": func(t *testing.T, path string, data []byte) {
			require.NoError(t, os.WriteFile(outside, data, 0o644))
			require.NoError(t, os.Symlink(outside, path))
		},
	}
	for _, kind := range []string{"layout", "mirror"} {
		for change, fn := range changes {
			for i, h := range needed {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, change, i), func(t *testing.T) {
					dir, blob := "", ""
					if kind == "layout" {
						dir = writeLayout(t, w, want)
						blob = filepath.Join(dir, "blobs", "sha256", h.Hex)
					} else {
						dir = writeMirror(t, map[v1.Hash]v1.Image{want.Digest: w.images[want.Digest]}, "latest", want.Digest)
						blob = filepath.Join(dir, "v2", "openshift", "release", map[bool]string{true: "manifests", false: "blobs"}[i == 0], h.String())
					}
					data, err := os.ReadFile(blob)
					require.NoError(t, err)
					require.NoError(t, os.Remove(blob))
					fn(t, blob, data)
					src, err := payload.Folder(rootOf(t, dir))
					require.NoError(t, err)
					r, err := payload.Open(t.Context(), src, digestRef(t, "x.test/openshift/release", want.Digest), nil)
					require.Error(t, err)
					require.Nil(t, r)
					if change == "flipped" || change == "longer" || change == "shorter" {
						require.ErrorIs(t, err, payload.ErrDigest)
					}
				})
			}
		}
	}
}

func TestFolderHostile(t *testing.T) {
	ref := mustTag(t, "x.test/a/b:latest")
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"index.json is no JSON":      {fstest.MapFS{"oci-layout": {}, "index.json": {Data: []byte("x")}}, "index.json"},
		"index.json is large":        {fstest.MapFS{"oci-layout": {}, "index.json": {Data: make([]byte, payload.MaxImageManifestSize+1)}}, "limit 4194304"},
		"index.json has no digest":   {fstest.MapFS{"oci-layout": {}, "index.json": {Data: []byte(`{"manifests":[{"digest":"sha256:../x","annotations":{"org.opencontainers.image.ref.name":"latest"}}]}`)}}, "index.json"},
		"index.json has sha512":      {fstest.MapFS{"oci-layout": {}, "index.json": {Data: []byte(`{"manifests":[{"digest":"sha512:` + strings.Repeat("0", 128) + `","annotations":{"org.opencontainers.image.ref.name":"latest"}}]}`)}}, "unsupported"},
		"manifest is a pipe":         {fstest.MapFS{"v2/a/b/manifests/latest": {Mode: fs.ModeNamedPipe}}, "not a regular file"},
		"manifest is large":          {fstest.MapFS{"v2/a/b/manifests/latest": {Data: make([]byte, payload.MaxImageManifestSize+1)}}, "limit 4194304"},
		"manifest of schema 1":       {fstest.MapFS{"v2/a/b/manifests/latest": {Data: []byte(`{"schemaVersion":1}`)}}, "schema version 1"},
		"manifest is both":           {fstest.MapFS{"v2/a/b/manifests/latest": {Data: []byte(`{"schemaVersion":2,"config":{},"manifests":[]}`)}}, "at once"},
		"index without the platform": {fstest.MapFS{"v2/a/b/manifests/latest": {Data: []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)}}, "no image for linux/amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := payload.Folder(c.files)
			require.NoError(t, err)
			_, err = payload.Open(t.Context(), src, ref, nil)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestArchive(t *testing.T) {
	data := tarOf(t,
		entry{name: "./"}, entry{name: "./a/"}, entry{name: "./a/file", data: "1"}, entry{name: "./a/file", data: "22"}, entry{name: "b/c/deep", data: "333"},
		entry{name: "hard", kind: '1', link: "./a/file"}, entry{name: "b/soft", kind: '2', link: "../a/file"}, entry{name: "pipe", kind: '6'},
		entry{name: "dangling", kind: '2', link: "nowhere"})
	a, err := payload.Archive(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	for name, want := range map[string]string{"a/file": "22", "hard": "22", "b/soft": "22", "b/c/deep": "333"} {
		got, err := fs.ReadFile(a, name)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	list, err := fs.ReadDir(a, ".")
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"a", "b", "dangling", "hard", "pipe"}, names)
	for _, bad := range []string{"nothing", "pipe", "dangling", "a/../a/file", "/a"} {
		_, err := a.Open(bad)
		require.Error(t, err, bad)
	}
	plain := tarOf(t, entry{name: "a/"}, entry{name: "a/file", data: "1"}, entry{name: "hard", kind: '1', link: "a/file"}, entry{name: "b/c/deep", data: "333"})
	a, err = payload.Archive(bytes.NewReader(plain), int64(len(plain)))
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(a, "a/file", "hard", "b/c/deep"))
}

func TestArchiveRefuses(t *testing.T) {
	whole := tarOf(t, entry{name: "a", data: strings.Repeat("x", 2000)})
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"absolute":        {tarOf(t, entry{name: "/etc/passwd"}), "invalid"},
		"escape":          {tarOf(t, entry{name: "a/../../b"}), "invalid"},
		"long name":       {tarOf(t, entry{name: strings.Repeat("a/", 512) + "b"}), "invalid"},
		"deep name":       {tarOf(t, entry{name: strings.Repeat("a/", 32) + "b"}), "name of 33 parts, limit 32"},
		"link out":        {tarOf(t, entry{name: "a", kind: '2', link: "../b"}), "is a link to"},
		"absolute link":   {tarOf(t, entry{name: "a", kind: '2', link: "/etc"}), "is a link to"},
		"hard link out":   {tarOf(t, entry{name: "a", kind: '1', link: "../../b"}), "is a link to"},
		"file as folder":  {tarOf(t, entry{name: "a", data: "x"}, entry{name: "a/b"}), "below something that is no folder"},
		"folder and file": {tarOf(t, entry{name: "a/"}, entry{name: "a", data: "x"}), "folder and something else"},
		"cut short":       {whole[:1024], "unexpected EOF"},
		"compressed":      {gzipped(t, whole), "tar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := payload.Archive(bytes.NewReader(c.data), int64(len(c.data)))
			require.ErrorContains(t, err, c.want)
		})
	}
	deep := tarOf(t, entry{name: strings.Repeat("a/", 31) + "b"})
	_, err := payload.Archive(bytes.NewReader(deep), int64(len(deep)))
	require.NoError(t, err)
	loop := tarOf(t, entry{name: "a", kind: '2', link: "b"}, entry{name: "b", kind: '2', link: "a"})
	a, err := payload.Archive(bytes.NewReader(loop), int64(len(loop)))
	require.NoError(t, err)
	_, err = fs.Stat(a, "a")
	require.ErrorContains(t, err, "too many links")

	for n, bad := range map[int]bool{payload.MaxArchiveEntries: false, payload.MaxArchiveEntries + 1: true} {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for i := range n {
			require.NoError(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%d", i)}))
		}
		require.NoError(t, tw.Close())
		_, err := payload.Archive(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if bad {
			require.ErrorContains(t, err, "more than 16384 entries")
		} else {
			require.NoError(t, err)
		}
	}
}

func FuzzArchive(f *testing.F) {
	mutants.AddTars(f,
		tarOf(f, entry{name: "a/"}, entry{name: "a/file", data: "1"}, entry{name: "l", kind: '2', link: "a/file"}, entry{name: "h", kind: '1', link: "l"}, entry{name: "p", kind: '6'}),
		tarOf(f, entry{name: "oci-layout"}, entry{name: "index.json", data: `{"manifests":[]}`}))
	var deep []entry
	for i := range 60 {
		deep = append(deep, entry{name: fmt.Sprint(i, "/", strings.Repeat("a/", 120))})
	}
	f.Add(tarOf(f, deep...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		fuzzbound.Linear(t, len(data), 64, func() {
			a, err := payload.Archive(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return
			}
			require.NoError(t, fs.WalkDir(a, ".", func(path string, d fs.DirEntry, err error) error {
				require.NoError(t, err)
				if !d.Type().IsRegular() {
					return nil
				}
				file, err := a.Open(path)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, file)
				require.NoError(t, err)
				return nil
			}))
		})
	})
}

func TestOpenFolder(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	_, want := w.must(t, w.spec(), nil)
	for _, base := range []string{"", "release-manifests/"} {
		files := fstest.MapFS{
			base + "image-references": {Data: want.References.Raw}, base + "release-metadata": {Data: want.Metadata.Raw},
		}
		for name, data := range want.Manifests() {
			files[base+name] = &fstest.MapFile{Data: data}
		}
		r, err := payload.OpenFolder(t.Context(), files)
		require.NoError(t, err)
		require.Equal(t, filesOf(want), filesOf(r))
		require.Equal(t, want.Version(), r.Version())
		require.Empty(t, r.Warnings)
		require.Empty(t, r.Pullspec().String())
		info, err := r.Info()
		require.NoError(t, err)
		require.Equal(t, "file://", info.Image)
		require.Empty(t, info.Config, "it has no image")

		for bad, file := range map[string]*fstest.MapFile{
			"sub":        {Mode: fs.ModeDir},
			"link":       {Mode: fs.ModeSymlink, Data: []byte("/etc/passwd")},
			"huge":       {Data: make([]byte, payload.MaxManifestSize+1)},
			"new\nline":  {},
			"back\\lash": {},
		} {
			files[base+bad] = file
			_, err := payload.OpenFolder(t.Context(), files)
			require.Error(t, err, bad)
			delete(files, base+bad)
		}
		delete(files, base+"release-metadata")
		_, err = payload.OpenFolder(t.Context(), files)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	_, err := payload.OpenFolder(t.Context(), fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSampleFolders(t *testing.T) {
	src := sampleImages(t)
	digest := mustHash(t, samples[0].digest)
	ref := digestRef(t, "x.test/openshift/release", digest)
	want, err := payload.Open(t.Context(), src, ref, nil)
	require.NoError(t, err)

	l, err := payload.Folder(rootOf(t, interop.SharedData(t, "payload", "sample", "release-images")))
	require.NoError(t, err)
	r, err := payload.Open(t.Context(), l, ref, nil)
	require.NoError(t, err)
	require.Equal(t, want.RawManifest, r.RawManifest)

	m, err := payload.Folder(rootOf(t, writeMirror(t, src.images, "4.20.0-okd-scos.1-x86_64", digest)))
	require.NoError(t, err)
	r, err = payload.Open(t.Context(), m, mustTag(t, "x.test/openshift/release:4.20.0-okd-scos.1-x86_64"), nil)
	require.NoError(t, err)
	require.Equal(t, want.Digest, r.Digest)
	require.Equal(t, filesOf(want), filesOf(r))

	r, err = payload.OpenFolder(t.Context(), rootOf(t, interop.SharedData(t, "payload", "sample", "layer")))
	require.NoError(t, err)
	require.Equal(t, filesOf(want), filesOf(r))
	require.Equal(t, want.References.Raw, r.References.Raw)
}
