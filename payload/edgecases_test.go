package payload_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
)

// outcome is what one way of assembling is expected to give.
type outcome struct {
	err   string            // part of the error; "": none
	finds []payload.Check   // of the error, where it is Findings
	files map[string]string // all of the payload's manifests, where not nil
	tags  string            // all of them, blank between
}

func fails(text string) outcome { return outcome{err: text} }
func finds(checks ...payload.Check) outcome {
	return outcome{finds: checks}
}
func gives(files ...string) outcome {
	m := map[string]string{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = files[i+1]
	}
	return outcome{files: m}
}
func keeps(tags string) outcome { return outcome{tags: tags} }

const text = "0000_50_op_a.txt" // the one file of most cases

// holds is one text file of operator op, with placeholder q.io/o/op.
func holds(in string) func(*testing.T, *world, *payload.Spec, *payload.AssembleOptions) {
	return func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
		w.operator(t, "other", "image-references", references("x", "q.io/o/x"), "b.txt", "")
		w.plain(t, "x", nil)
		w.operator(t, "op", "image-references", references("x", "q.io/o/op"), "a.txt", in)
	}
}

// Each line of the reference that was observed with a real oc: what it does,
// and what is done without Compatible. X stands for the pullspec of image x.
func TestEdgeCases(t *testing.T) {
	label := func(v string) map[string]string { return map[string]string{"io.openshift.build.versions": v} }
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, w *world, spec *payload.Spec, opts *payload.AssembleOptions)
		compat outcome
		strict outcome
	}{
		// 1.5: where images come from.
		{"1.5 a tag without a digest vanishes", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			op := w.operator(t, "op", "a.txt", "")
			spec.Stream, spec.Components = w.stream(t), nil
			spec.Stream.Tag("op").Pullspec = op.Context().Tag("latest").Name()
		}, keeps("cluster-version-operator"), finds(payload.CheckSkippedTag)},
		{"1.5 a tag newer than its status", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			op := w.operator(t, "op", "a.txt", "")
			spec.Stream, spec.Components = w.stream(t), nil
			two := int64(2)
			spec.Stream.Tag("op").Generation = &two
			spec.Stream.Status = []payload.TagStatus{{Tag: "op", Items: []payload.TagEvent{{Image: op.DigestStr(), DockerImageReference: op.Name(), Generation: 1}}}}
		}, fails("not been imported yet"), fails("not been imported yet")},
		{"1.5 a failed import", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			spec.Stream, spec.Components = w.stream(t), nil
			spec.Stream.Status = []payload.TagStatus{{Tag: "op", Conditions: []payload.TagCondition{{Type: "ImportSuccess", Status: "False"}}}}
		}, fails("component op"), fails("component op")},
		{"1.5 public mode needs a public repository", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			spec.Stream, spec.Components, spec.ReferenceMode = w.stream(t), nil, payload.ReferencePublic
		}, fails("publicDockerImageRepository"), fails("publicDockerImageRepository")},
		{"1.5 exclude wins over include", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", nil)
			w.plain(t, "z", nil)
			spec.Stream, spec.Components = w.stream(t), nil
			spec.Include, spec.Exclude = []string{"x", "z"}, []string{"x"}
		}, keeps("cluster-version-operator z"), keeps("cluster-version-operator z")},
		{"1.5 what no operator refers to is pruned", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", nil)
			w.plain(t, "z", nil)
			w.operator(t, "op", "image-references", references("z", "q.io/o/z"), "a.txt", "")
			spec.Stream, spec.Components = w.stream(t), nil
		}, keeps("cluster-version-operator op z"), keeps("cluster-version-operator op z")},
		{"1.5 the base stays although nothing refers to it", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			spec.Stream, spec.Components = w.stream(t), nil
		}, keeps("cluster-version-operator"), keeps("cluster-version-operator")},

		// 1.6: which manifests are taken.
		{"1.6 the label false counts", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t, "a.txt", "x")
			s.labels[payload.LabelOperator] = "false"
			w.put(t, "op", s)
		}, gives(text, "x"), gives()},
		{"1.6 an empty label does not", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t, "a.txt", "x")
			s.labels[payload.LabelOperator] = ""
			w.put(t, "op", s)
		}, gives(), gives()},
		{"1.6 the last layer only", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t, "a.txt", "x")
			s.layers = append(s.layers, tarOf(t, entry{name: "usr/last"}))
			w.put(t, "op", s)
		}, gives(), finds(payload.CheckNoManifests)},
		{"1.6 of an override all layers, with whiteouts", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t, "a.txt", "x", "gone.txt", "y")
			s.layers = append(s.layers, tarOf(t, entry{name: "manifests/.wh.gone.txt"}))
			spec.Overrides = map[string]name.Reference{"op": w.add(t, repo, makeImage(t, s))}
		}, gives(text, "x"), gives(text, "x")},
		{"1.6 a dot before the folder", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t)
			s.layers = [][]byte{tarOf(t, entry{name: "./manifests/"}, entry{name: "./manifests/a.txt", data: "x"})}
			w.put(t, "op", s)
		}, gives(text, "x"), gives(text, "x")},
		{"1.6 a slash before the folder", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t)
			s.layers = [][]byte{tarOf(t, entry{name: "/manifests/a.txt", data: "x"})}
			w.put(t, "op", s)
		}, gives(), finds(payload.CheckNoManifests)},
		{"1.6 links and folders are not taken", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t)
			s.layers = [][]byte{tarOf(t, entry{name: "manifests/a.txt", data: "x"}, entry{name: "manifests/l.yaml", kind: '2', link: "a.txt"}, entry{name: "manifests/h.yaml", kind: '1', link: "manifests/a.txt"}, entry{name: "manifests/sub/b.yaml", data: "y"})}
			w.put(t, "op", s)
		}, gives(text, "x"), gives(text, "x")},
		{"1.6 files that are no manifests are taken, with versions", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", ".dot", "0.0.1-snapshot", "a.txt", "0.0.1-snapshot")
		}, gives("0000_50_op_.dot", "4.20.0-test.1", text, "4.20.0-test.1"), gives("0000_50_op_.dot", "4.20.0-test.1", text, "4.20.0-test.1")},
		{"1.6 a name with 0000_ stays", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "0000_70_a.txt", "x", "70_a.txt", "y")
		}, gives("0000_70_a.txt", "x", "0000_50_op_70_a.txt", "y"), gives("0000_70_a.txt", "x", "0000_50_op_70_a.txt", "y")},
		{"1.6 the same name from two operators", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "0000_70_a.txt", "x")
			w.operator(t, "op2", "0000_70_a.txt", "y")
		}, gives("0000_70_a.txt", "x", "0000_70_a_2.txt", "y"), finds(payload.CheckDuplicate)},
		{"1.6 an override brings its manifests twice", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			ref := w.operator(t, "op", "a.txt", "x")
			spec.Overrides = map[string]name.Reference{"op": ref}
		}, gives(text, "x", "0000_50_op_a_2.txt", "x"), gives(text, "x")},
		{"1.6 only the first document is looked at", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "a.yaml", namespace("a")+"---\nbroken: [\n")
		}, gives("0000_50_op_a.yaml", namespace("a")+"---\nbroken: [\n"), finds(payload.CheckManifest)},
		{"1.6 an empty manifest", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "a.yaml", "")
		}, fails("component op: manifests/a.yaml: no object"), finds(payload.CheckManifest)},
		{"1.6 a manifest without kind", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "a.yaml", "apiVersion: v1\n")
		}, fails("without kind"), finds(payload.CheckManifest)},
		{"1.6 the manifests of the base are not taken", func(*testing.T, *world, *payload.Spec, *payload.AssembleOptions) {}, gives(), gives()},

		// 1.7: images in manifests.
		{"1.7 image-references is not copied", holds(""), gives(text, "", "0000_50_other_b.txt", ""), gives(text, "", "0000_50_other_b.txt", "")},
		{"1.7 an image that the payload does not have", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "image-references", references("none", "q.io/o/none"), "a.txt", "q.io/o/none")
		}, fails("none"), fails("none")},
		{"1.7 the same, allowed", func(t *testing.T, w *world, _ *payload.Spec, opts *payload.AssembleOptions) {
			w.operator(t, "op", "image-references", references("none", "q.io/o/none"), "a.txt", "q.io/o/none")
			opts.AllowMissingImages = true
		}, gives(text, "q.io/o/none"), gives(text, "q.io/o/none")},
		{"1.7 an empty placeholder", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "image-references", references("op", `""`), "a.txt", "")
		}, fails("component op"), fails("component op")},
		{"1.7 two images with one placeholder", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", nil)
			w.operator(t, "op", "image-references", references("op", "q.io/o/op", "x", "q.io/o/op"), "a.txt", "")
		}, fails("q.io/o/op"), fails("q.io/o/op")},
		{"1.7 another kind of reference is not looked at", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "image-references", strings.ReplaceAll(references("none", "q.io/o/none"), "DockerImage", "ImageStreamTag"), "a.txt", "q.io/o/none")
		}, gives(text, "q.io/o/none"), gives(text, "q.io/o/none")},
		{"1.7 the name alone", holds("q.io/o/op"), gives(text, "X"), gives(text, "X")},
		{"1.7 with a tag", holds("q.io/o/op:v1"), gives(text, "X"), gives(text, "X")},
		{"1.7 with a digest", holds("q.io/o/op@sha256:" + strings.Repeat("1", 64)), gives(text, "X"), gives(text, "X")},
		{"1.7 behind an equals sign", holds("name=q.io/o/op:v1"), gives(text, "name=X"), gives(text, "name=X")},
		{"1.7 a longer name", holds("q.io/o/op-z"), gives(text, "q.io/o/op-z"), gives(text, "q.io/o/op-z")},
		{"1.7 a folder below", holds("q.io/o/op/z"), gives(text, "q.io/o/op/z"), gives(text, "q.io/o/op/z")},
		{"1.7 in brackets", holds("(q.io/o/op:v1)"), gives(text, "(q.io/o/op:v1)"), gives(text, "(X)")},
		{"1.7 before a comma", holds("q.io/o/op:v1,x"), gives(text, "q.io/o/op:v1,x"), gives(text, "X,x")},
		{"1.7 with a tag and a digest", holds("q.io/o/op:v1@sha256:" + strings.Repeat("1", 64)), gives(text, "q.io/o/op:v1@sha256:"+strings.Repeat("1", 64)), gives(text, "X")},
		{"1.7 the end of another name", holds("foo.q.io/o/op:v1"), gives(text, "foo.X"), gives(text, "foo.q.io/o/op:v1")},
		{"1.7 twice with a blank between", holds("q.io/o/op:v1 q.io/o/op:v2"), gives(text, "X q.io/o/op:v2"), gives(text, "X X")},
		{"1.7 twice with a comma between", holds("q.io/o/op:v1,q.io/o/op:v2"), gives(text, "q.io/o/op:v1,X"), gives(text, "X,X")},

		// 1.8: versions in manifests.
		{"1.8 without build metadata", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			spec.Version = "4.20.0-test.1+build"
			w.operator(t, "op", "a.txt", "0.0.1-snapshot")
		}, gives(text, "4.20.0-test.1"), gives(text, "4.20.0-test.1")},
		{"1.8 behind a letter", holds("v0.0.1-snapshot"), gives(text, "v0.0.1-snapshot"), finds(payload.CheckVersion)},
		{"1.8 behind a digit", holds("10.0.1-snapshot"), gives(text, "10.0.1-snapshot"), finds(payload.CheckVersion)},
		{"1.8 behind an underscore", holds("_0.0.1-snapshot"), gives(text, "_0.0.1-snapshot"), finds(payload.CheckVersion)},
		{"1.8 before a letter", holds("0.0.1-snapshotfoo"), gives(text, "0.0.1-snapshotfoo"), finds(payload.CheckVersion)},
		{"1.8 a component's version", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("kubernetes=1.33.4+abc"))
			w.operator(t, "op", "image-references", references("x", "q.io/o/x"), "a.txt", "0.0.1-snapshot-kubernetes")
		}, gives(text, "1.33.4"), gives(text, "1.33.4")},
		{"1.8 of an image that is not referred to", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("kubernetes=1.33.4"))
			w.operator(t, "op", "a.txt", "0.0.1-snapshot-kubernetes")
		}, fails("no version known for kubernetes"), fails("no version known for kubernetes")},
		{"1.8 a component that is not allowed", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("etcd=3.5.0"))
			w.operator(t, "op", "image-references", references("x", "q.io/o/x"), "a.txt", "")
		}, fails("not an allowed component"), fails("not an allowed component")},
		{"1.8 different versions", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("kubernetes=1.33.4"))
			w.plain(t, "z", label("kubernetes=1.33.5"))
			w.operator(t, "op", "image-references", references("x", "q.io/o/x", "z", "q.io/o/z"), "a.txt", "")
		}, fails("tag z states 1.33.5"), fails("tag z states 1.33.5")},
		{"1.8 different versions of the system", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("machine-os=9.0.1-0"))
			w.plain(t, "z", label("machine-os=10.0.1-0"))
			w.operator(t, "op", "image-references", references("x", "q.io/o/x", "z", "q.io/o/z"), "a.txt", "")
		}, gives(text, ""), gives(text, "")},
		{"1.8 equal versions of two images", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "x", label("kubernetes=1.33.4"))
			w.plain(t, "z", label("kubernetes=1.33.4"))
			w.operator(t, "op", "image-references", references("x", "q.io/o/x", "z", "q.io/o/z"), "a.txt", "0.0.1-snapshot-kubernetes")
		}, fails("several versions for kubernetes (x, z)"), gives(text, "1.33.4")},
		{"1.8 kubectl counts from cli", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.plain(t, "cli", label("kubectl=1.33.4"))
			w.plain(t, "x", label("kubectl=1.30.0"))
			w.operator(t, "op", "image-references", references("cli", "q.io/o/cli", "x", "q.io/o/x"), "a.txt", "0.0.1-snapshot-kubectl")
		}, gives(text, "1.33.4"), gives(text, "1.33.4")},
		{"1.8 given versions are lost with a stream", func(t *testing.T, w *world, spec *payload.Spec, _ *payload.AssembleOptions) {
			w.operator(t, "op", "a.txt", "0.0.1-snapshot-kernel")
			spec.Stream, spec.Components = w.stream(t), nil
			spec.Versions = map[string]payload.ComponentVersion{"kernel": {Version: "6.12.0"}}
		}, fails("no version known for kernel"), gives(text, "6.12.0")},

		// 1.4 and 1.10.
		{"1.10 compressed with zstd", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			s := operatorSpec(t, "a.txt", "x")
			s.zstd, s.oci = true, true
			w.put(t, "op", s)
		}, gives(text, "x"), gives(text, "x")},
		{"1.10 a base with layers that Docker does not know", func(t *testing.T, w *world, _ *payload.Spec, _ *payload.AssembleOptions) {
			w.put(t, payload.BaseTag, imageSpec{oci: true, zstd: true, layers: [][]byte{tarOf(t, entry{name: "x"})}})
		}, gives(), finds(payload.CheckMediaType)},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, compat bool) {
				w := newWorld(t)
				spec, opts, want := w.spec(), &payload.AssembleOptions{Compatible: compat}, c.strict
				if compat {
					want = c.compat
				}
				c.make(t, w, spec, opts)
				_, r, err := w.assemble(t, spec, opts)
				switch {
				case want.err != "":
					require.ErrorContains(t, err, want.err)
					return
				case want.finds != nil:
					require.Equal(t, want.finds, checksOf(t, err))
					return
				}
				require.NoError(t, err)
				if want.tags != "" {
					require.Equal(t, want.tags, strings.Join(tagsOf(r), " "))
					return
				}
				got := filesOf(r)
				if x := w.components["x"]; x != nil {
					for file := range got {
						got[file] = strings.ReplaceAll(got[file], x.Name(), "X")
					}
					if len(want.files) == 1 {
						delete(got, "0000_50_other_b.txt")
					}
				}
				require.Equal(t, want.files, got)
			})
		})
	}
}

// 1.4: previous versions are strings to oc, and may be there twice.
func TestEdgePrevious(t *testing.T) {
	w := newWorld(t)
	spec := w.spec()
	spec.Previous = []string{"4.9.0", "4.10.0", "4.9.0"}
	both(t, func(t *testing.T, compat bool) {
		_, r := w.must(t, spec, &payload.AssembleOptions{Compatible: compat})
		want := []string{"4.9.0", "4.10.0"}
		if compat {
			want = []string{"4.10.0", "4.9.0", "4.9.0"}
		}
		require.Equal(t, want, r.Metadata.Previous)
		require.Contains(t, string(r.Metadata.Raw), `"previous"`)
	})
}

// lists makes base, operator and node images for two architectures, in indexes.
func lists(t *testing.T, w *world, oci bool) {
	t.Helper()
	index := func(tag string, spec func(arch string) imageSpec) {
		idx := mutate.IndexMediaType(empty.Index, map[bool]types.MediaType{true: types.OCIImageIndex, false: types.DockerManifestList}[oci])
		for _, arch := range []string{"amd64", "arm64"} {
			s := spec(arch)
			s.oci = oci
			img := makeImage(t, s)
			config := configOf(t, img).DeepCopy()
			config.Architecture = arch
			img, err := mutate.ConfigFile(img, config)
			require.NoError(t, err)
			h, err := img.Digest()
			require.NoError(t, err)
			w.images[h] = img
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
		h, err := idx.Digest()
		require.NoError(t, err)
		w.indexes[h] = idx
		w.components[tag] = digestRef(t, repo, h)
	}
	index(payload.BaseTag, func(arch string) imageSpec {
		return imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/cvo", data: arch})}}
	})
	index("op", func(arch string) imageSpec {
		return operatorSpec(t, "a.yaml", namespace("op"), "arch.txt", arch)
	})
}

// 1.10: a release for several architectures.
func TestEdgeManifestList(t *testing.T) {
	for _, oci := range []bool{false, true} {
		both(t, func(t *testing.T, compat bool) {
			t.Run(fmt.Sprint("oci=", oci), func(t *testing.T) {
				w := newWorld(t)
				lists(t, w, oci)
				spec := w.spec()
				spec.Metadata = map[string]any{payload.MetadataArchitecture: "multi"}
				opts := &payload.AssembleOptions{Compatible: compat, ManifestList: true}
				built, err := payload.Assemble(t.Context(), w, spec, opts)
				require.NoError(t, err)
				require.NotNil(t, built.Index)
				list, err := built.Index.IndexManifest()
				require.NoError(t, err)
				require.Len(t, list.Manifests, 2)
				wantList, wantChild := types.DockerManifestList, types.DockerManifestSchema2
				if compat && oci { // as oc has it: what the index says of its children is wrong
					wantList, wantChild = types.OCIImageIndex, types.OCIManifestSchema1
				}
				require.Equal(t, wantList, list.MediaType)
				var diffIDs []v1.Hash
				for i, arch := range []string{"amd64", "arm64"} {
					require.Equal(t, arch, list.Manifests[i].Platform.Architecture)
					require.Equal(t, wantChild, list.Manifests[i].MediaType)
					img, err := built.Index.Image(list.Manifests[i].Digest)
					require.NoError(t, err)
					mt, err := img.MediaType()
					require.NoError(t, err)
					require.Equal(t, types.DockerManifestSchema2, mt)
					require.Equal(t, arch, configOf(t, img).Architecture)
					diffIDs = append(diffIDs, configOf(t, img).RootFS.DiffIDs[1])
				}
				require.Equal(t, []v1.Hash{built.DiffID, built.DiffID}, diffIDs, "the same layer in each")
				if wantChild == types.DockerManifestSchema2 {
					require.NoError(t, validate.Index(built.Index))
				}
				_, err = built.Index.Image(built.ListDigest)
				require.ErrorIs(t, err, fs.ErrNotExist)
				_, err = built.Index.ImageIndex(built.ListDigest)
				require.ErrorIs(t, err, fs.ErrNotExist)

				// It opens for either architecture, with the manifests for amd64.
				keep := func(b *payload.Built) {
					w.indexes[b.ListDigest] = b.Index
					for _, d := range must(b.Index.IndexManifest()).Manifests {
						w.images[d.Digest] = must(b.Index.Image(d.Digest))
					}
				}
				keep(built)
				ref := digestRef(t, "registry.test/okd/release", built.ListDigest)
				for _, arch := range []string{"amd64", "arm64"} {
					r, err := payload.Open(t.Context(), w, ref, &payload.OpenOptions{Platform: v1.Platform{OS: "linux", Architecture: arch}})
					require.NoError(t, err)
					require.Equal(t, "multi (linux/"+arch+")", r.Platform())
					require.Equal(t, "amd64", filesOf(r)["0000_50_op_arch.txt"])
					require.Equal(t, compat && oci, len(r.Warnings) > 0, "%v", r.Warnings)
				}

				// Without keeping lists, one image.
				one, err := payload.Assemble(t.Context(), w, w.spec(), &payload.AssembleOptions{Compatible: compat})
				require.NoError(t, err)
				require.Nil(t, one.Index)
				require.Zero(t, one.ListDigest)

				// Promoted again and again: oc makes each release from the one
				// before, with one layer more; here it is the same release.
				layers := []int{}
				from := ref
				for range 3 {
					again, err := payload.Assemble(t.Context(), w, &payload.Spec{FromRelease: from}, opts)
					require.NoError(t, err)
					m, err := again.Image.Manifest()
					require.NoError(t, err)
					layers = append(layers, len(m.Layers))
					keep(again)
					from = digestRef(t, "registry.test/okd/release", again.ListDigest)
					if !compat {
						require.Equal(t, built.ListDigest, again.ListDigest)
					}
				}
				if compat {
					require.Equal(t, []int{3, 4, 5}, layers)
				} else {
					require.Equal(t, []int{2, 2, 2}, layers)
				}
			})
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// 1.9: what a release that was made from a release no longer has is still in
// the layers below. We hide it.
func TestEdgeStaleManifests(t *testing.T) {
	both(t, func(t *testing.T, compat bool) {
		w := newWorld(t)
		w.operator(t, "op", "a.txt", "x")
		w.operator(t, "other", "b.txt", "y")
		_, first := w.must(t, w.spec(), &payload.AssembleOptions{Compatible: compat})
		built, second := w.must(t, &payload.Spec{FromRelease: first.Pullspec(), Base: first.Pullspec(), Exclude: []string{"other"}, Created: testTime}, &payload.AssembleOptions{Compatible: compat})
		require.Equal(t, map[string]string{text: "x"}, filesOf(second), "the last layer alone")
		// What a cluster sees.
		whole, err := payload.Open(t.Context(), w, second.Pullspec(), &payload.OpenOptions{AllLayers: true})
		require.NoError(t, err)
		if compat {
			require.Equal(t, map[string]string{text: "x", "0000_50_other_b.txt": "y"}, filesOf(whole))
			require.Len(t, whole.Warnings, 1)
			require.Contains(t, whole.Warnings[0], "0000_50_other_b.txt is in a lower layer only")
		} else {
			require.Equal(t, filesOf(second), filesOf(whole))
			require.Empty(t, whole.Warnings)
		}
		var got []string
		layers, err := built.Image.Layers()
		require.NoError(t, err)
		for _, e := range listTar(t, uncompressed(t, layers[len(layers)-1])) {
			if strings.Contains(e, ".wh.") {
				got = append(got, strings.Fields(e)[2])
			}
		}
		if compat {
			require.Empty(t, got)
		} else {
			require.Equal(t, []string{"release-manifests/.wh..wh..opq"}, got)
		}
	})
}

func uncompressed(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Uncompressed()
	return readAll(t, rc, err)
}

func TestDecodeMapping(t *testing.T) {
	got, err := payload.DecodeMapping([]byte("# images\n\ncli q.io/o/cli:v1\n  tests=q.io/o/tests@sha256:" + strings.Repeat("1", 64) + "\nx\tq.io/o/x?a=b\n"))
	require.ErrorContains(t, err, "line 5")
	require.Nil(t, got)
	got, err = payload.DecodeMapping([]byte("# images\n\ncli q.io/o/cli:v1\n  tests=q.io/o/tests@sha256:" + strings.Repeat("1", 64) + "\n"))
	require.NoError(t, err)
	require.Equal(t, "q.io/o/cli:v1", got["cli"].Name())
	require.Len(t, got, 2)
	for in, want := range map[string]string{
		"a q.io/a\nb q.io/b\na=q.io/c": "line 3: component a is there twice",
		"nothing":                      "line 1: neither",
		"a/b q.io/a":                   "line 1: tag name",
		"=q.io/a":                      "line 1: tag without a name",
		"a ":                           "line 1: neither",
	} {
		_, err := payload.DecodeMapping([]byte(in))
		require.ErrorContains(t, err, want, in)
	}
	var list strings.Builder
	for i := range payload.MaxTags {
		fmt.Fprintf(&list, "t%d q.io/a\n", i)
	}
	_, err = payload.DecodeMapping([]byte(list.String()))
	require.NoError(t, err)
	_, err = payload.DecodeMapping([]byte(list.String() + "one q.io/more"))
	require.ErrorContains(t, err, "more than 4096 components")
	_, err = payload.DecodeMapping([]byte("#" + strings.Repeat("\n", payload.MaxReferencesSize-1)))
	require.NoError(t, err)
	_, err = payload.DecodeMapping([]byte("#" + strings.Repeat("\n", payload.MaxReferencesSize)))
	require.ErrorContains(t, err, "limit 4194304")
}

func FuzzMapping(f *testing.F) {
	mutants.Add(f, "a q.io/a\nb=q.io/b:c\n# x\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := fuzzbound.Parse(t, 512, payload.DecodeMapping, data)
		if err != nil {
			return
		}
		for tag, ref := range m {
			require.NotEmpty(t, tag)
			require.NotNil(t, ref)
		}
	})
}
