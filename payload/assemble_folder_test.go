package payload_test

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// unpackRelease gives what `oc adm release new --dir` writes of a release's
// components: a folder for each that is an operator, and image-references.
func unpackRelease(t testing.TB, r *payload.Release, images map[string]map[string]string) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{"image-references": {Data: r.References.Raw, Mode: 0o644}}
	for tag, files := range images {
		for name, data := range files {
			out[tag+"/"+name] = &fstest.MapFile{Data: []byte(data), ModTime: testTime, Mode: 0o644}
		}
	}
	return out
}

// A release of a folder has the layer that one of the images has.
func TestAssembleFolder(t *testing.T) {
	w := newWorld(t)
	manifests := map[string]map[string]string{
		"op":    {"a.yaml": namespace("a") + "# placeholder.test/x:1\n# 0.0.1-snapshot\n", "0000_10_b.yaml": namespace("b"), "image-references": references("x", "placeholder.test/x")},
		"other": {"note.txt": "text"},
	}
	for tag, files := range manifests {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			list = append(list, name, files[name])
		}
		w.operator(t, tag, list...)
	}
	w.plain(t, "x", map[string]string{"io.openshift.build.versions": "kubernetes=1.33.4"})
	spec := w.spec()
	spec.Previous = []string{"4.19.0"}
	for _, opts := range []*payload.AssembleOptions{nil, compatible} {
		built, r := w.must(t, spec, opts)
		folder := unpackRelease(t, r, manifests)
		folder["op/sub/ignored.yaml"] = &fstest.MapFile{Data: []byte("x")}
		folder["README"] = &fstest.MapFile{Data: []byte("x")}
		before := w.requests.Load()
		again, second := w.must(t, &payload.Spec{Version: spec.Version, Created: spec.Created, Previous: spec.Previous, Folder: folder}, opts)
		require.Equal(t, built.DiffID, again.DiffID)
		require.Equal(t, built.Digest, again.Digest)
		require.Equal(t, filesOf(r), filesOf(second))
		require.LessOrEqual(t, w.requests.Load()-before, int64(3), "of the images only the base is read, then the release opened")
		require.Empty(t, again.Warnings)
	}

	// One more manifest, one image another, one operator less.
	_, r := w.must(t, spec, nil)
	folder := unpackRelease(t, r, manifests)
	folder["op/0000_90_new.yaml"] = &fstest.MapFile{Data: []byte(namespace("new")), ModTime: testTime}
	folder["extra/c.yaml"] = &fstest.MapFile{Data: []byte(namespace("c")), ModTime: testTime}
	newX := w.put(t, "x2", imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/other", data: "y"})}})
	built, made := w.must(t, &payload.Spec{
		Version: "4.20.0-own.1", Created: testTime, Folder: folder, Overrides: map[string]name.Reference{"x": newX}, Exclude: []string{"other"},
	}, nil)
	require.Equal(t, []string{"cluster-version-operator", "op", "x"}, tagsOf(made))
	require.ElementsMatch(t, []string{"0000_10_b.yaml", "0000_50_op_a.yaml", "0000_90_new.yaml", "0000_50_extra_c.yaml"}, slices.Collect(maps.Keys(filesOf(made))))
	require.Contains(t, filesOf(made)["0000_50_op_a.yaml"], "# "+newX.Name()+"\n# 4.20.0-own.1\n")
	require.Equal(t, []string{"component extra: image-references has no image for its manifests"}, built.Warnings)
	require.Equal(t, "true", made.References.Tag("x").Annotations["io.openshift.release.override"])
	require.Empty(t, made.Metadata.Previous)
}

func TestAssembleFolderFaults(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "x", nil)
	_, r := w.must(t, w.spec(), nil)
	base := string(r.References.Raw)
	pinned := w.components["x"].Name()
	file := func(data string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(data)} }
	for _, c := range []struct {
		name   string
		folder fstest.MapFS
		want   string
	}{
		{"nothing", fstest.MapFS{"README": file("x")}, "neither image-references nor a folder of manifests"},
		{"images", fstest.MapFS{"image-references": file("{}"), "op/a.yaml": file(namespace("a"))}, `image-references: kind "", apiVersion ""`},
		{"link", fstest.MapFS{"image-references": file(base), "op/a.yaml": {Mode: fs.ModeSymlink, Data: []byte("/etc/passwd")}}, "op/a.yaml: not a regular file"},
		{"pipe", fstest.MapFS{"image-references": file(base), "op/a.yaml": {Mode: fs.ModeNamedPipe}}, "op/a.yaml: not a regular file"},
		{"link for images", fstest.MapFS{"image-references": {Mode: fs.ModeNamedPipe}, "op/a.yaml": file(namespace("a"))}, "not a regular file"},
		{"name", fstest.MapFS{"image-references": file(base), "op/a\x01.yaml": file("x")}, "characters that it cannot have"},
		{"folder's name", fstest.MapFS{"image-references": file(base), "-op/a.yaml": file("x")}, "-op"},
		{"size", fstest.MapFS{"image-references": file(base), "op/a.txt": file(strings.Repeat("x", payload.MaxManifestSize+1))}, "has 8388609 bytes, limit 8388608"},
		{"manifest", fstest.MapFS{"image-references": file(base), "op/a.yaml": file("x")}, "component op: a.yaml:1: not a mapping (invalid-manifest)"},
		{"placeholder", fstest.MapFS{"image-references": file(base), "op/image-references": file(references("gone", "p.test/gone"))}, "component op: "},
		{"base", fstest.MapFS{"op/a.yaml": file(namespace("a"))}, "no images are left"},
		{"unpinned", fstest.MapFS{"image-references": file(strings.ReplaceAll(base, pinned, repo+":latest")), "op/a.yaml": file(namespace("a"))}, "has no digest (unpinned-reference)"},
		{"pullspec", fstest.MapFS{"image-references": file(strings.ReplaceAll(base, pinned, "UPPER/x")), "op/a.yaml": file(namespace("a"))}, "component x: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := &payload.Spec{Version: "1.0.0", Created: testTime, Folder: c.folder}
			if c.name == "unpinned" || c.name == "pullspec" {
				spec.Include = []string{"x"}
			}
			_, err := payload.Assemble(t.Context(), w, spec, nil)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := payload.Assemble(t.Context(), w, &payload.Spec{Version: "1.0.0", Created: testTime, Folder: fstest.MapFS{}, Components: w.components}, nil)
	require.ErrorContains(t, err, "exclude each other")

	// Limits: files of one folder.
	many := fstest.MapFS{"image-references": file(base)}
	for i := range payload.MaxManifests {
		many["op/"+strings.Repeat("n", i%50+1)+string(rune('a'+i/50%26))+string(rune('a'+i/1300))+".txt"] = file("")
	}
	require.Len(t, many, payload.MaxManifests+1)
	_, err = payload.Assemble(t.Context(), w, &payload.Spec{Version: "1.0.0", Created: testTime, Folder: many}, nil)
	require.NoError(t, err)
	many["op/z"] = file("")
	_, err = payload.Assemble(t.Context(), w, &payload.Spec{Version: "1.0.0", Created: testTime, Folder: many}, nil)
	require.ErrorContains(t, err, "more than 4096 files in op")
}

// The sample as oc unpacks it gives the layer that oc made.
func TestSampleAssembleFolder(t *testing.T) {
	src := sampleImages(t)
	for i, s := range samples {
		r := sampleRelease(t, src, i)
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(dir+"/image-references", r.References.Raw, 0o644))
		for _, tag := range r.References.Tags {
			digest, err := v1.NewHash(strings.SplitAfter(tag.Pullspec, "@")[1])
			require.NoError(t, err)
			unpackManifests(t, src.images[digest], dir+"/"+tag.Name)
		}
		for _, compatible := range []bool{true, false} {
			built, err := payload.Assemble(t.Context(), src, &payload.Spec{Version: s.version, Created: sampleTime, Previous: s.previous, Metadata: s.metadata, Folder: rootOf(t, dir)}, &payload.AssembleOptions{Compatible: compatible, RequireOS: true, RequireExtensions: true})
			require.NoError(t, err)
			require.Equal(t, s.diffID, built.DiffID.String())
		}
	}
}

// A release that names its images in a mirror: the copies come with it, and
// the images are read where they are.
func TestAssembleMirror(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "image-references", references("x", "placeholder.test/x"), "a.yaml", namespace("a")+"# placeholder.test/x:1\n")
	w.plain(t, "x", nil)
	to := mustRepo(t, "mirror.test/okd/content")
	for _, opts := range []*payload.AssembleOptions{nil, compatible} {
		spec := w.spec()
		spec.Version, spec.Mirror = "4.20.0-test.1+build", to
		built, r := w.must(t, spec, opts)
		require.Len(t, built.Copies, 3)
		for i, tag := range []string{"cluster-version-operator", "op", "x"} {
			ref := w.components[tag].(name.Digest)
			require.Equal(t, payload.Copy{From: ref.Name(), To: to.Name(), Tags: []string{"4.20.0-test.1_build-x86_64-" + tag}, Referrers: true, Signatures: true}, built.Copies[i])
			image, err := r.Image(tag)
			require.NoError(t, err)
			require.Equal(t, to.Digest(ref.DigestStr()).Name(), image.Name())
		}
		require.Contains(t, filesOf(r)["0000_50_op_a.yaml"], "# "+to.Name()+"@"+w.components["x"].Identifier()+"\n")

		// Promoted from there, into the next repository.
		for _, c := range built.Copies {
			ref, err := name.NewDigest(c.From)
			require.NoError(t, err)
			_, ok := w.images[mustHash(t, ref.DigestStr())]
			require.True(t, ok)
		}
		next := mustRepo(t, "next.test/okd")
		promoted, second := w.must(t, &payload.Spec{FromRelease: r.Pullspec(), Created: testTime, Mirror: next}, opts)
		require.Equal(t, to.Name()+"@"+w.components["op"].Identifier(), promoted.Copies[1].From)
		require.Contains(t, filesOf(second)["0000_50_op_a.yaml"], "# "+next.Name()+"@")
		require.Equal(t, r.Version(), second.Version())
	}
	spec := w.spec()
	spec.Mirror = to
	spec.Components["op"] = mustTag(t, repo+":latest")
	_, _, err := w.assemble(t, spec, nil)
	require.Equal(t, []payload.Check{payload.CheckUnpinned}, checksOf(t, err))
	spec = w.spec()
	spec.Version, spec.Mirror = "4.20.0-"+strings.Repeat("x", 120), to
	delete(spec.Components, "op")
	_, _, err = w.assemble(t, spec, nil)
	require.ErrorContains(t, err, "cannot be a tag")
}
