package container_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// unpack extracts a .tar.zst of the shared data and gives the folder.
func unpack(t testing.TB, elem ...string) string {
	t.Helper()
	f, err := os.Open(interop.SharedData(t, append([]string{"ostree"}, elem...)...))
	require.NoError(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	require.NoError(t, err)
	defer z.Close()
	dir := t.TempDir()
	top := ""
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return filepath.Join(dir, top)
		}
		require.NoError(t, err)
		name := filepath.Clean(h.Name)
		if top == "" {
			top, _, _ = strings.Cut(name, "/")
		}
		path := filepath.Join(dir, name)
		switch h.Typeflag {
		case tar.TypeDir:
			require.NoError(t, os.MkdirAll(path, 0o755))
		case tar.TypeReg:
			data, err := io.ReadAll(tr)
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, data, 0o644))
			for key, value := range h.PAXRecords {
				if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
					require.NoError(t, unix.Setxattr(path, name, []byte(value), 0))
				}
			}
		case tar.TypeSymlink:
			require.NoError(t, os.Symlink(h.Linkname, path))
		}
	}
}

// golden opens the only image of a packed layout.
func golden(t testing.TB, elem ...string) v1.Image {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(unpack(t, elem...))
	require.NoError(t, err)
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	img, err := idx.Image(m.Manifests[0].Digest)
	require.NoError(t, err)
	return img
}

func openRepo(t testing.TB, dir string) *ostree.Repo {
	t.Helper()
	r, err := ostree.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func openCache(t testing.TB, dir string) *container.Cache {
	t.Helper()
	c, err := container.OpenCache(t.Context(), dir, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func checksum(t testing.TB, text string) ostree.Checksum {
	t.Helper()
	c, err := ostree.ParseChecksum(text)
	require.NoError(t, err)
	return c
}

// pack is how the recorded images were split: ours to read, not a format.
type pack struct {
	Components []struct {
		Identifier, Name string
		ChangeFrequency  uint32 `json:"change_frequency"`
	}
	Mapping  map[string]string
	Specific map[string][][2]string
}

func readShared(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(interop.SharedData(t, append([]string{"ostree"}, elem...)...))
	require.NoError(t, err)
	if strings.HasSuffix(elem[len(elem)-1], ".zst") {
		z, err := zstd.NewReader(nil)
		require.NoError(t, err)
		defer z.Close()
		data, err = z.DecodeAll(data, nil)
		require.NoError(t, err)
	}
	return data
}

func (p *pack) components(t testing.TB) []container.Component {
	t.Helper()
	objects := map[string][]ostree.Checksum{}
	for object, id := range p.Mapping {
		objects[id] = append(objects[id], checksum(t, object))
	}
	var out []container.Component
	// In the order of the recorded image.
	for _, id := range []string{"component/empty", "component/etc", "component/pax-big"} {
		list, ok := p.Specific[id]
		if !ok {
			continue
		}
		c := container.Component{ID: id, Exclusive: true}
		for _, e := range list {
			c.Paths = append(c.Paths, strings.TrimPrefix(e[0], "/"))
		}
		out = append(out, c)
	}
	for _, c := range p.Components {
		out = append(out, container.Component{
			ID: c.Identifier, Name: c.Name, Frequency: c.ChangeFrequency, Objects: objects[c.Identifier],
		})
	}
	return out
}

// layoutOf reads the plan off a recorded image: annotations have the members,
// the history their order where it names them.
func layoutOf(t testing.TB, img v1.Image, components []container.Component) container.Layout {
	t.Helper()
	ids := map[string]string{}
	for _, c := range components {
		if !c.Exclusive {
			ids[c.Name] = c.ID
		}
	}
	m, err := img.Manifest()
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	var plan container.Layout
	for i, l := range m.Layers {
		var members []string
		for _, name := range strings.Split(l.Annotations[container.AnnotationComponents], ",") {
			if id, ok := ids[name]; ok {
				members = append(members, id)
			}
		}
		if len(members) == 0 {
			continue
		}
		if named := strings.Split(config.History[i].CreatedBy, " and "); len(named) == len(members) {
			members = named
		}
		plan = append(plan, container.Chunk{Components: members})
	}
	return plan
}

// withoutDigests gives a manifest as a generic value without what depends on
// the gzip encoder: layers' and config's digests and sizes.
func withoutDigests(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	drop := func(v any) {
		delete(v.(map[string]any), "digest")
		delete(v.(map[string]any), "size")
	}
	for _, l := range m["layers"].([]any) {
		drop(l)
	}
	return m
}

const (
	commit1    = "bc2781fe3a78c472aca7900a6afed3f963370788d36f9106e396b6cf9ccdc537"
	commit2    = "c69a55f1a86e8174a0d2223e22d851270997e441f1a8200032ec863fcdcb945f"
	commitEdge = "8098f43e235706cf4e487730ed89a0a2757b8c2149d8eeea3c86232f83d86739"
)

// The reference's images come out the same: config byte for byte, and so every
// diff ID, label and line of history; manifest but for compressed digests.
func TestReferenceImages(t *testing.T) {
	bash := []string{"/usr/bin/bash"}
	top := t
	quick := map[string]bool{"image-v1b-edge": true, "image-v1b-1-pack8-fv2": true}
	repos := map[string]*ostree.Repo{}
	for _, tc := range []struct {
		image, commit string
		repo          []string
		pack          []string
		opts          container.EncapsulateOptions
	}{
		{image: "image-v1b-1-single", commit: commit1, repo: []string{"repo-archive.tar.zst"}},
		{image: "image-v1b-1-single", commit: commit1, repo: []string{"repo-bare-user.tar.zst"}},
		{image: "image-v1b-edge", commit: commitEdge, repo: []string{"v1b", "repo-edge-bare-user.tar.zst"},
			opts: container.EncapsulateOptions{}}, // its command is in the commit
		{image: "image-v1b-1-pack8", commit: commit1, repo: []string{"repo-archive.tar.zst"},
			pack: []string{"expected", "pack1.json.zst"}, opts: container.EncapsulateOptions{Cmd: bash}},
		{image: "image-v1b-1-pack8-fv2", commit: commit1, repo: []string{"repo-archive.tar.zst"},
			pack: []string{"expected", "pack1.json.zst"}, opts: container.EncapsulateOptions{Cmd: bash, FormatVersion: 2}},
		{image: "image-v1b-2-pack8-prior", commit: commit2, repo: []string{"repo-bare-user.tar.zst"},
			pack: []string{"expected", "pack2.json.zst"}, opts: container.EncapsulateOptions{Cmd: bash}},
		{image: "image-v1b-1-rawmeta", commit: commit1, repo: []string{"repo-archive.tar.zst"},
			pack: []string{"expected", "rawmeta1.json.zst"}, opts: container.EncapsulateOptions{
				Cmd: bash, LegacyVersion: true, Labels: map[string]string{"extra": "1"}}},
	} {
		t.Run(tc.image+"/"+tc.repo[len(tc.repo)-1], func(t *testing.T) {
			if !quick[tc.image] && !interop.Enabled() {
				t.Skipf("takes seconds; set %s=1", interop.Variable)
			}
			want := golden(t, "v1b", tc.image+".tar.zst")
			repo := repos[tc.repo[len(tc.repo)-1]]
			if repo == nil {
				repo = openRepo(top, unpack(top, tc.repo...))
				repos[tc.repo[len(tc.repo)-1]] = repo
			}
			opts := tc.opts
			opts.Architecture = "amd64"
			opts.CopyKeysOptional = []string{"fixture.absent"}
			reserved := len(tc.pack) > 0
			switch {
			case tc.image == "image-v1b-1-rawmeta":
				meta, err := container.DecodeContentMeta(bytes.NewReader(readShared(t, tc.pack...)))
				require.NoError(t, err)
				opts.Components = meta.Components()
				opts.Planner = container.Separate{}
				for k, v := range meta.Labels {
					opts.Labels[k] = v
				}
			case reserved:
				var p pack
				require.NoError(t, json.Unmarshal(readShared(t, tc.pack...), &p))
				opts.Components = p.components(t)
				opts.Planner = layoutOf(t, want, opts.Components)
			}
			got, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, checksum(t, tc.commit), &opts)
			require.NoError(t, err)

			if tc.image == "image-v1b-2-pack8-prior" {
				// There the reserved layer was filled by the planner; ours is kept
				// free. All but that one and what names it is the same.
				requirePriorGolden(t, want, got)
				return
			}
			requireSameDocuments(t, want, got)
		})
	}
}

// requireSameDocuments is the same config, byte for byte, and the same manifest but for
// compressed digests.
func requireSameDocuments(t *testing.T, want, got v1.Image) {
	t.Helper()
	wantConfig, err := want.RawConfigFile()
	require.NoError(t, err)
	gotConfig, err := got.RawConfigFile()
	require.NoError(t, err)
	require.Equal(t, string(wantConfig), string(gotConfig))
	wantManifest, err := want.RawManifest()
	require.NoError(t, err)
	gotManifest, err := got.RawManifest()
	require.NoError(t, err)
	require.Equal(t, withoutDigests(t, wantManifest), withoutDigests(t, gotManifest))
}

// And so do those of the tools before, in v1a: all but the time of day that these
// write into the history.
func TestReferenceImagesV1a(t *testing.T) {
	top := t
	bash := []string{"/usr/bin/bash"}
	repos := map[string]*ostree.Repo{}
	for _, tc := range []struct {
		name, commit string
		image, repo  []string
		pack         []string
		opts         container.EncapsulateOptions
	}{
		{name: "edge", image: []string{"v1b", "image-v1a-edge.tar.zst"}, commit: commitEdge, repo: []string{"v1b", "repo-edge-bare-user.tar.zst"}},
		{name: "edge, archive", image: []string{"v1b", "image-v1a-edge.tar.zst"}, commit: commitEdge, repo: []string{"v1b", "repo-edge-archive.tar.zst"}},
		{name: "single", image: []string{"image-v1-single.tar.zst"}, commit: commit1, repo: []string{"repo-archive.tar.zst"}},
		{name: "pack8", image: []string{"image-v1-pack8.tar.zst"}, commit: commit1, repo: []string{"repo-archive.tar.zst"},
			pack: []string{"expected", "pack1.json.zst"}, opts: container.EncapsulateOptions{Cmd: bash}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.commit != commitEdge && !interop.Enabled() {
				t.Skipf("takes seconds; set %s=1", interop.Variable)
			}
			want := golden(t, tc.image...)
			repo := repos[tc.repo[len(tc.repo)-1]]
			if repo == nil {
				repo = openRepo(top, unpack(top, tc.repo...))
				repos[tc.repo[len(tc.repo)-1]] = repo
			}
			opts := tc.opts
			opts.Dialect, opts.Architecture = container.V1a, "amd64"
			if len(tc.pack) > 0 {
				var p pack
				require.NoError(t, json.Unmarshal(readShared(t, tc.pack...), &p))
				opts.Components = p.components(t)
				opts.Planner = layoutOf(t, want, opts.Components)
			}
			got, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, checksum(t, tc.commit), &opts)
			require.NoError(t, err)
			require.Equal(t, configWithoutTimes(t, want), configWithoutTimes(t, got))
			wantManifest, err := want.RawManifest()
			require.NoError(t, err)
			gotManifest, err := got.RawManifest()
			require.NoError(t, err)
			w, g := withoutDigests(t, wantManifest), withoutDigests(t, gotManifest)
			// The config's own digest depends on the time of day as well.
			delete(w["config"].(map[string]any), "digest")
			delete(g["config"].(map[string]any), "digest")
			delete(w["config"].(map[string]any), "size")
			delete(g["config"].(map[string]any), "size")
			require.Equal(t, w, g)
		})
	}
}

// The program itself, of trees that the recorded images don't have: with and
// without /var/tmp, long names, and with what its flags put into the config. All
// of the config is the same but when each line of its history was written.
func TestV1aIsOstreeExts(t *testing.T) {
	program := interop.OstreeExt(t)
	metadata := []ostree.MetadataItem{
		{Key: "version", Value: ostree.StringVariant("42.1")},
		{Key: "ostree.bootable", Value: ostree.BoolVariant(true)},
		{Key: "ostree.linux", Value: ostree.StringVariant("6.1")},
		{Key: "rpmostree.inputhash", Value: ostree.StringVariant("abc")},
		{Key: "other.key", Value: ostree.StringVariant("other")},
	}
	for _, tc := range []struct {
		name  string
		more  map[string]string
		flags []string
		opts  container.EncapsulateOptions
	}{
		{name: "plain"},
		{name: "var/tmp", more: map[string]string{"var/tmp/x": "1", "var/lib/y": "2"}},
		{name: "long", more: map[string]string{
			"usr/share/" + strings.Repeat("long/", 30) + "name": "1", "usr/etc/" + strings.Repeat("long/", 30) + "name": "2",
			"usr/share/link": "->" + strings.Repeat("target/", 30) + "x", "usr/share/one": "", "usr/share/two": "",
		}},
		{
			name: "labels", flags: []string{"--label=io.openshift.x=true", "--label=empty=", "--label=equals=a=b"},
			opts: container.EncapsulateOptions{Labels: map[string]string{"io.openshift.x": "true", "empty": "", "equals": "a=b"}},
		},
		{
			name: "labels that override", flags: []string{"--label=ostree.linux=mine", "--label=org.opencontainers.image.version=43", "--label=rpmostree.inputhash=mine", "--copymeta=rpmostree.inputhash"},
			opts: container.EncapsulateOptions{
				Labels:   map[string]string{"ostree.linux": "mine", "org.opencontainers.image.version": "43", "rpmostree.inputhash": "mine"},
				CopyKeys: []string{"rpmostree.inputhash"},
			},
		},
		{
			name: "copied keys", flags: []string{"--copymeta=rpmostree.inputhash", "--copymeta-opt=other.key", "--copymeta-opt=absent"},
			opts: container.EncapsulateOptions{CopyKeys: []string{"rpmostree.inputhash"}, CopyKeysOptional: []string{"other.key", "absent"}},
		},
		{name: "command", flags: []string{"--cmd=/usr/bin/bash", "--cmd=-l"}, opts: container.EncapsulateOptions{Cmd: []string{"/usr/bin/bash", "-l"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			repo := newRepo(t)
			files := maps.Clone(sample)
			maps.Copy(files, tc.more)
			c := commit(t, repo, files, metadata...)
			dir := t.TempDir()
			importRun(t, program, append(append([]string{"container", "encapsulate", "--repo=" + repo.Path()}, tc.flags...), c.String(), "oci:"+dir)...)
			tc.opts.Dialect = container.V1a
			want, got := importLayout(t, dir), encapsulate(t, openCache(t, t.TempDir()), repo, c, &tc.opts)
			require.Equal(t, configWithoutTimes(t, want), configWithoutTimes(t, got))
			wantManifest, err := want.Manifest()
			require.NoError(t, err)
			gotManifest, err := got.Manifest()
			require.NoError(t, err)
			require.Equal(t, wantManifest.Annotations, gotManifest.Annotations)
		})
	}

	// A key that has to be there, and is not, is refused by both.
	repo := newRepo(t)
	c := commit(t, repo, sample)
	out, err := tryRun(t, program, "container", "encapsulate", "--repo="+repo.Path(), "--copymeta=absent", c.String(), "oci:"+t.TempDir())
	require.Error(t, err, out)
	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Dialect: container.V1a, CopyKeys: []string{"absent"}})
	require.ErrorContains(t, err, "absent")
}

// configWithoutTimes gives a config as a generic value without when each line of
// the history was written.
func configWithoutTimes(t testing.TB, img v1.Image) map[string]any {
	t.Helper()
	raw, err := img.RawConfigFile()
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(raw, &c))
	for _, h := range c["history"].([]any) {
		delete(h.(map[string]any), "created")
	}
	return c
}

func requirePriorGolden(t *testing.T, want, got v1.Image) {
	t.Helper()
	w, err := want.ConfigFile()
	require.NoError(t, err)
	g, err := got.ConfigFile()
	require.NoError(t, err)
	n := len(w.RootFS.DiffIDs)
	require.Equal(t, w.RootFS.DiffIDs, g.RootFS.DiffIDs[:n])
	require.Equal(t, w.History, g.History[:n])
	require.Len(t, g.RootFS.DiffIDs, n+1)
}

// Two commits on which the reference fails: it loses /sysroot's dirtrees, and
// gives two empty layers one diff ID. What is right in them is the same.
func TestReferenceFaultsAreNotCopied(t *testing.T) {
	repo := openRepo(t, unpack(t, "v1b", "repo-edge-archive.tar.zst"))
	t.Run("empty chunk", func(t *testing.T) {
		want := golden(t, "v1b", "image-v1b-edge-emptychunk-fv2.tar.zst")
		var p pack
		require.NoError(t, json.Unmarshal(readShared(t, "v1b", "expected", "pack-edge-emptychunk.json.zst"), &p))
		components := p.components(t)
		got, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, checksum(t, commitEdge), &container.EncapsulateOptions{
			FormatVersion: 2, Components: components, Planner: layoutOf(t, want, components), Architecture: "amd64", Cmd: []string{"/usr/bin/bash"},
		})
		require.NoError(t, err)
		// The second of the reference's layers is the empty component's. All else is
		// the same: labels, command, history, annotations, order.
		without := func(list any) []any { return slices.Delete(list.([]any), 1, 2) }
		var wantConfig, gotConfig map[string]any
		for img, to := range map[v1.Image]*map[string]any{want: &wantConfig, got: &gotConfig} {
			raw, err := img.RawConfigFile()
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(raw, to))
		}
		rootfs := wantConfig["rootfs"].(map[string]any)
		rootfs["diff_ids"] = without(rootfs["diff_ids"])
		wantConfig["history"] = without(wantConfig["history"])
		require.Equal(t, wantConfig, gotConfig)
		wantRaw, err := want.RawManifest()
		require.NoError(t, err)
		gotRaw, err := got.RawManifest()
		require.NoError(t, err)
		wantManifest, gotManifest := withoutDigests(t, wantRaw), withoutDigests(t, gotRaw)
		wantManifest["layers"] = without(wantManifest["layers"])
		for _, m := range []map[string]any{wantManifest, gotManifest} { // of the config with that layer
			delete(m["config"].(map[string]any), "digest")
			delete(m["config"].(map[string]any), "size")
		}
		require.Equal(t, wantManifest, gotManifest)

		// Without that component, as pack-edge.json has it, whose image was not
		// recorded, it is the same image.
		var other pack
		require.NoError(t, json.Unmarshal(readShared(t, "v1b", "expected", "pack-edge.json.zst"), &other))
		components = other.components(t)
		again, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, checksum(t, commitEdge), &container.EncapsulateOptions{
			FormatVersion: 2, Components: components, Planner: layoutOf(t, want, components), Architecture: "amd64", Cmd: []string{"/usr/bin/bash"},
		})
		require.NoError(t, err)
		require.Equal(t, digest(t, got), digest(t, again))
	})
	t.Run("sysroot", func(t *testing.T) {
		want := golden(t, "v1b", "image-v1b-edge-sysroot.tar.zst")
		commit, err := repo.Resolve(t.Context(), "fixture/edge-sysroot")
		require.NoError(t, err)
		got, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, commit, nil)
		require.NoError(t, err)
		read := func(img v1.Image) []byte {
			layers, err := img.Layers()
			require.NoError(t, err)
			rc, err := layers[0].Uncompressed()
			require.NoError(t, err)
			defer rc.Close()
			data, err := io.ReadAll(rc)
			require.NoError(t, err)
			return data
		}
		w, g := read(want), read(got)
		at := bytes.Index(w, []byte("var/tmp\x00"))
		require.Positive(t, at)
		// Two dirtrees, of /sysroot and /sysroot/sub, come before var/tmp: L with
		// its name, header, content.
		extra := len(g) - len(w)
		require.Equal(t, 2*4*512, extra)
		require.Equal(t, w[:at], g[:at])
		require.Equal(t, w[at:], g[at+extra:])
		require.Contains(t, string(g[at:at+extra]), "0ccf479b1d43129c898871f531165a513d35ee1295a48a23037eb47a351acd44"[2:]+".dirtree")
	})
}

// Every image that is recorded, with and without its blobs, comes out with the
// recorded layers: those of layers.tsv.
func TestRecordedLayers(t *testing.T) {
	if !interop.Enabled() {
		t.Skipf("takes seconds; set %s=1", interop.Variable)
	}
	top := t
	whole := openRepo(t, unpack(t, "repo-bare-user.tar.zst"))
	edge := openRepo(t, unpack(t, "v1b", "repo-edge-bare-user.tar.zst"))
	cache := openCache(t, t.TempDir())
	packed := func(file string, image ...string) container.EncapsulateOptions {
		var p pack
		require.NoError(top, json.Unmarshal(readShared(top, "expected", file), &p))
		components := p.components(top)
		return container.EncapsulateOptions{Components: components, Planner: layoutOf(top, golden(top, image...), components), Cmd: []string{"/usr/bin/bash"}}
	}
	meta, err := container.DecodeContentMeta(bytes.NewReader(readShared(t, "expected", "rawmeta1.json.zst")))
	require.NoError(t, err)
	raw := container.EncapsulateOptions{
		Components: meta.Components(), Planner: container.Separate{}, Cmd: []string{"/usr/bin/bash"}, LegacyVersion: true, Labels: maps.Clone(meta.Labels),
	}
	raw.Labels["extra"] = "1"
	pack8 := packed("pack1.json.zst", "v1b", "image-v1b-1-pack8.tar.zst")
	prior := packed("pack2.json.zst", "v1b", "image-v1b-2-pack8-prior.tar.zst")
	with := func(opts container.EncapsulateOptions, dialect container.Dialect, version int) container.EncapsulateOptions {
		opts.Dialect, opts.FormatVersion = dialect, version
		return opts
	}
	images := map[string]struct {
		repo *ostree.Repo
		opts container.EncapsulateOptions
	}{
		"v1b-1-single": {whole, with(container.EncapsulateOptions{}, container.V1b, 1)}, "v1b-1-pack8": {whole, with(pack8, container.V1b, 1)},
		"v1b-1-pack8-fv2": {whole, with(pack8, container.V1b, 2)}, "v1b-1-rawmeta": {whole, with(raw, container.V1b, 1)},
		"v1b-2-pack8-prior": {whole, with(prior, container.V1b, 1)}, "v1b-edge": {edge, with(container.EncapsulateOptions{}, container.V1b, 1)},
		"v1-single": {whole, with(container.EncapsulateOptions{}, container.V1a, 1)}, "v1-pack8": {whole, with(pack8, container.V1a, 1)},
		"v1-rawmeta": {whole, with(raw, container.V1a, 1)}, "v2-single": {whole, with(container.EncapsulateOptions{}, container.V1a, 1)},
		"v2-pack8-prior": {whole, with(prior, container.V1a, 1)}, "v1a-edge": {edge, with(container.EncapsulateOptions{}, container.V1a, 1)},
	}
	seen := 0
	for _, row := range importTable(t, "v1b", "expected", "layers.tsv") {
		name, config, commit, final := row[0], row[2], row[3], row[4]
		var want []string
		for layer := range strings.SplitSeq(strings.TrimSuffix(row[5], ";"), ";") {
			want = append(want, strings.Fields(layer)[1])
		}
		made := images[name]
		switch {
		case name == "v1b-edge-emptychunk-fv2", name == "v1b-edge-sysroot":
			continue // TestReferenceFaultsAreNotCopied
		case strings.HasPrefix(name, "derived-"):
			// Layers that a container build put over those of the commit.
			made = images["v1b-1-pack8"]
			want, config = want[:8], ""
		}
		t.Run(name, func(t *testing.T) {
			require.NotNil(t, made.repo)
			made.opts.Architecture = "amd64"
			img := encapsulate(t, cache, made.repo, checksum(t, commit), &made.opts)
			got, err := img.ConfigFile()
			require.NoError(t, err)
			var diffIDs []string
			for _, id := range got.RootFS.DiffIDs {
				diffIDs = append(diffIDs, id.String())
			}
			require.Equal(t, commit, got.Config.Labels[container.LabelCommit])
			if strings.HasSuffix(name, "-prior") {
				// The reserved layer was filled by the planner; ours is one more.
				require.Len(t, diffIDs, len(want)+1)
				require.Equal(t, final, want[len(want)-1])
				diffIDs, config = diffIDs[:len(want)], ""
			} else {
				require.Equal(t, final, got.Config.Labels[container.LabelFinalDiffID])
			}
			require.Equal(t, want, diffIDs)
			if made.opts.Dialect == container.V1b && config != "" { // v1a has the time of day in it
				h, err := img.ConfigName()
				require.NoError(t, err)
				require.Equal(t, config, h.String())
			}
			seen++
		})
	}
	require.Equal(t, 12+9, seen)
}
