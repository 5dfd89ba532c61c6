package payload_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

func both(t *testing.T, fn func(t *testing.T, compat bool)) {
	t.Run("compatible", func(t *testing.T) { fn(t, true) })
	t.Run("strict", func(t *testing.T) { fn(t, false) })
}

// Names, order, times and modes of the layer.
func TestLayer(t *testing.T) {
	w := newWorld(t)
	early, late := testTime.Add(-time.Hour), testTime.Add(time.Hour+700*time.Millisecond)
	w.put(t, "op-b", imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{tarOf(t,
		entry{name: "./manifests/"},
		entry{name: "./manifests/zz.yaml", data: namespace("z"), modTime: early},
		entry{name: "./manifests/0000_70_b.yaml", data: namespace("b"), modTime: late},
		entry{name: "./manifests/.dot", data: "dot 0.0.1-snapshot"},
		entry{name: "./manifests/sub/", data: ""},
		entry{name: "./manifests/sub/x.yaml", data: namespace("x")},
		entry{name: "/manifests/absolute.yaml", data: namespace("x")},
		entry{name: "manifests/link.yaml", kind: '2', link: "zz.yaml"},
		entry{name: "manifests/hard.yaml", kind: '1', link: "manifests/zz.yaml"},
		entry{name: "manifests/pipe", kind: '6'},
	)}})
	w.operator(t, "op-a", "0000_80_a.yml", namespace("a"), "image-references", references())
	both(t, func(t *testing.T, compat bool) {
		built, _ := w.must(t, w.spec(), &payload.AssembleOptions{Compatible: compat})
		require.NoError(t, validate.Image(built.Image))
		layers, err := built.Image.Layers()
		require.NoError(t, err)
		rc, err := layers[len(layers)-1].Uncompressed()
		got := listTar(t, readAll(t, rc, err))
		at := func(tm time.Time) string { return tm.UTC().Format(time.RFC3339) }
		newest := at(late.Truncate(time.Second))
		require.Equal(t, []string{
			"0777 5 release-manifests " + newest,
			"0444 0 release-manifests/image-references " + newest,
			"0444 0 release-manifests/release-metadata " + newest,
			"0444 0 release-manifests/0000_80_a.yml " + at(testTime),
			"0444 0 release-manifests/0000_50_op-b_.dot " + at(testTime),
			"0444 0 release-manifests/0000_70_b.yaml " + at(late.Round(time.Second)),
			"0444 0 release-manifests/0000_50_op-b_zz.yaml " + at(early),
		}, got)
		require.Equal(t, 4, built.Manifests)
	})
}

// The image around the layer.
func TestImage(t *testing.T) {
	for _, c := range []struct {
		name           string
		base           imageSpec
		compat, strict []types.MediaType
		checks         []payload.Check
	}{
		{"docker", imageSpec{}, []types.MediaType{types.DockerLayer, types.DockerLayer}, []types.MediaType{types.DockerLayer, types.DockerLayer}, nil},
		{"oci", imageSpec{oci: true}, []types.MediaType{types.OCILayer, types.DockerLayer}, []types.MediaType{types.DockerLayer, types.DockerLayer}, nil},
		{"zstd", imageSpec{oci: true, zstd: true}, []types.MediaType{types.OCILayerZStd, types.DockerLayer}, nil, []payload.Check{payload.CheckMediaType}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, compat bool) {
				w := newWorld(t)
				c.base.layers = [][]byte{tarOf(t, entry{name: "manifests/"})}
				base := w.put(t, payload.BaseTag, c.base)
				spec := w.spec()
				spec.Version = "4.20.0-test.1+build.5"
				built, r, err := w.assemble(t, spec, &payload.AssembleOptions{Compatible: compat})
				want := c.strict
				if compat {
					want = c.compat
				} else if c.checks != nil {
					require.Equal(t, c.checks, checksOf(t, err))
					return
				}
				require.NoError(t, err)
				if c.name != "zstd" { // the judge does not know zstd
					require.NoError(t, validate.Image(built.Image))
				}
				m, err := built.Image.Manifest()
				require.NoError(t, err)
				require.Equal(t, types.DockerManifestSchema2, m.MediaType)
				var got []types.MediaType
				for _, l := range m.Layers {
					got = append(got, l.MediaType)
				}
				require.Equal(t, want, got)
				raw, err := built.Image.RawManifest()
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(raw, []byte("{\n   \"schemaVersion\": 2,\n   \"mediaType\"")), "%s", raw)
				config := configOf(t, built.Image)
				require.Equal(t, map[string]string{
					"io.openshift.release":                   "4.20.0-test.1+build.5",
					"io.openshift.release.base-image-digest": base.DigestStr(),
				}, config.Config.Labels)
				require.Equal(t, []string{"/bin/cvo"}, config.Config.Entrypoint)
				require.Len(t, config.History, len(m.Layers))
				require.Equal(t, testTime, config.Created.UTC())
				require.Equal(t, testTime, r.References.Created)
				require.Equal(t, spec.Version, r.References.Name)
				require.Equal(t, spec.Version, r.Version())
			})
		})
	}
}

// Where manifests are looked for.
func TestManifestLayers(t *testing.T) {
	const op = "op"
	spec := imageSpec{
		labels: map[string]string{payload.LabelOperator: "true"},
		layers: [][]byte{
			tarOf(t, entry{name: "manifests/"}, entry{name: "manifests/a.yaml", data: namespace("a")}, entry{name: "manifests/b.yaml", data: namespace("b1")}, entry{name: "manifests/c.yaml", data: namespace("c")}),
			tarOf(t, entry{name: "manifests/"}, entry{name: "manifests/b.yaml", data: namespace("b2")}, entry{name: "manifests/.wh.c.yaml"}),
		},
	}
	both(t, func(t *testing.T, compat bool) {
		opts := &payload.AssembleOptions{Compatible: compat}
		w := newWorld(t)
		ref := w.put(t, op, spec)
		_, r := w.must(t, w.spec(), opts)
		require.Equal(t, map[string]string{"0000_50_op_b.yaml": namespace("b2")}, filesOf(r), "the last layer only")

		delete(w.components, op)
		s := w.spec()
		s.Overrides = map[string]name.Reference{op: ref}
		_, r = w.must(t, s, opts)
		require.Equal(t, map[string]string{"0000_50_op_a.yaml": namespace("a"), "0000_50_op_b.yaml": namespace("b2")}, filesOf(r), "all layers of an override")

		for _, gone := range []entry{{name: ".wh.manifests"}, {name: "manifests/.wh..wh..opq"}, {name: "manifests", kind: '2', link: "elsewhere"}} {
			more := spec
			more.layers = append(more.layers[:2:2], tarOf(t, gone, entry{name: "manifests/d.yaml", data: namespace("d")}))
			s.Overrides = map[string]name.Reference{op: w.add(t, repo, makeImage(t, more))}
			_, r = w.must(t, s, opts)
			require.Equal(t, map[string]string{"0000_50_op_d.yaml": namespace("d")}, filesOf(r), gone.name)
		}
	})
}

// What oc drops or duplicates without a word.
func TestStrictChecks(t *testing.T) {
	cases := []struct {
		name   string
		make   func(t *testing.T, w *world, s *payload.Spec)
		checks []payload.Check
		text   string            // of the findings
		compat map[string]string // files in compatible mode; nil: not looked at
		err    string            // in compatible mode
	}{
		{
			name: "no manifests in the last layer",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.put(t, "op", imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{tarOf(t, entry{name: "manifests/a.yaml", data: namespace("a")}), tarOf(t, entry{name: "usr/"})}})
			},
			checks: []payload.Check{payload.CheckNoManifests}, text: "component op: labelled as an operator, but no manifests in its last layer", compat: map[string]string{},
		},
		{
			name: "same file from two components",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.operator(t, "op-a", "0000_10_x.yaml", namespace("a"))
				w.operator(t, "op-b", "0000_10_x.yaml", namespace("b"))
				w.operator(t, "op-c", "0000_10_x.yaml", namespace("c"))
			},
			checks: []payload.Check{payload.CheckDuplicate, payload.CheckDuplicate}, text: "component op-b: 0000_10_x.yaml: component op-a brings a file with this name",
			compat: map[string]string{"0000_10_x.yaml": namespace("a"), "0000_10_x_2.yaml": namespace("b"), "0000_10_x_3.yaml": namespace("c")},
		},
		{
			name: "file twice in a layer",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.put(t, "op", imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{tarOf(t, entry{name: "manifests/a.yaml", data: namespace("a")}, entry{name: "manifests/a.yaml", data: namespace("b")})}})
			},
			checks: []payload.Check{payload.CheckDuplicate}, text: "twice in one layer", compat: map[string]string{"0000_50_op_a.yaml": namespace("b")},
		},
		{
			name: "second document broken",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.operator(t, "op", "a.yaml", namespace("a")+"---\nkind: Namespace\n--- \n{\n")
			},
			checks: []payload.Check{payload.CheckManifest, payload.CheckManifest}, text: "component op: a.yaml:5: object without kind or apiVersion",
			compat: map[string]string{"0000_50_op_a.yaml": namespace("a") + "---\nkind: Namespace\n--- \n{\n"},
		},
		{
			name: "object twice in a file",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.operator(t, "op", "a.yaml", "# first\n---\n"+namespace("a")+"---\n"+namespace("b")+"---\n"+strings.Replace(namespace("a"), "v1", "v2", 1))
			},
			checks: []payload.Check{payload.CheckDuplicate}, text: "a.yaml:12: Namespace a is in line 2 already",
		},
		{
			name:   "image of the payload by tag",
			make:   func(t *testing.T, w *world, _ *payload.Spec) { w.operator(t, "op", "a.txt", "x: "+repo+":latest") },
			checks: []payload.Check{payload.CheckUnpinned}, text: "component op: a.txt:1: image of the payload without a digest: \"" + repo + ":latest\"",
			compat: map[string]string{"0000_50_op_a.txt": "x: " + repo + ":latest"},
		},
		{
			name: "another operator's placeholder",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.operator(t, "op-a", "image-references", references("op-a", "q.io/o/a"), "a.txt", "x")
				w.operator(t, "op-b", "b.txt", "y\nx: q.io/o/a:v1\n")
			},
			checks: []payload.Check{payload.CheckPlaceholder}, text: "component op-b: b.txt:2: image placeholder is left: \"q.io/o/a:v1\"",
			compat: map[string]string{"0000_50_op-a_a.txt": "x", "0000_50_op-b_b.txt": "y\nx: q.io/o/a:v1\n"},
		},
		{
			name: "metadata says several architectures",
			make: func(_ *testing.T, _ *world, s *payload.Spec) {
				s.Metadata = map[string]any{payload.MetadataArchitecture: "multi"}
			},
			checks: []payload.Check{payload.CheckArchitecture}, text: "linux/amd64", compat: map[string]string{},
		},
		{
			name: "tag without an image",
			make: func(t *testing.T, w *world, s *payload.Spec) {
				s.Stream, s.Components = w.stream(t), nil
				s.Stream.Tags = append(s.Stream.Tags,
					payload.Tag{Name: "by-tag", Kind: "DockerImage", Pullspec: repo + ":latest"},
					payload.Tag{Name: "elsewhere", Kind: "ImageStreamTag", Pullspec: "x:y"},
					payload.Tag{Name: "empty"},
					payload.Tag{Name: "excluded"},
					payload.Tag{Name: "overridden"})
				s.Exclude = []string{"excluded"}
				s.Overrides = map[string]name.Reference{"overridden": w.plain(t, "overridden", nil)}
				s.Stream.Status = []payload.TagStatus{{Tag: "nothing"}}
			},
			checks: []payload.Check{payload.CheckSkippedTag, payload.CheckSkippedTag, payload.CheckSkippedTag, payload.CheckSkippedTag},
			text:   "component by-tag: its tag in the image stream has no image with a digest", compat: map[string]string{},
		},
		{
			name: "override by tag",
			make: func(t *testing.T, w *world, s *payload.Spec) {
				ref := w.plain(t, "op", nil)
				w.tags[repo+":latest"] = mustHash(t, ref.DigestStr())
				delete(w.components, "op")
				s.Overrides = map[string]name.Reference{"op": mustTag(t, repo+":latest")}
			},
			checks: []payload.Check{payload.CheckUnpinned}, text: "component op: " + repo + ":latest has no digest", compat: map[string]string{},
		},
		{
			name: "label false",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				s := operatorSpec(t, "a.yaml", namespace("a"))
				s.labels[payload.LabelOperator] = "false"
				w.put(t, "op", s)
			},
			compat: map[string]string{"0000_50_op_a.yaml": namespace("a")},
		},
		{
			name: "first document is no object",
			make: func(t *testing.T, w *world, _ *payload.Spec) {
				w.operator(t, "op", "a.yaml", "[]\n", "b.json", "", "c.yml", "x: [\n", "d.txt", "anything")
			},
			checks: []payload.Check{payload.CheckManifest, payload.CheckManifest, payload.CheckManifest}, text: "component op: b.json:1: no object", err: "not a mapping",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			spec := w.spec()
			c.make(t, w, spec)
			_, _, err := w.assemble(t, spec, nil)
			if c.checks != nil {
				require.Equal(t, c.checks, checksOf(t, err))
				require.ErrorContains(t, err, c.text)
				var seen payload.Findings
				built, _, err := w.assemble(t, spec, &payload.AssembleOptions{Allow: func(f payload.Finding) bool { seen = append(seen, f); return true }})
				require.NoError(t, err)
				require.Len(t, seen, len(c.checks))
				require.Subset(t, built.Warnings, []string{seen[0].Error()})
			} else {
				require.NoError(t, err)
			}
			_, r, err := w.assemble(t, spec, compatible)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			if c.compat != nil {
				require.Equal(t, c.compat, filesOf(r))
			}
		})
	}
}

func TestPruning(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "referenced", nil)
	w.plain(t, "included", nil)
	w.plain(t, "unused", nil)
	w.operator(t, "op", "image-references", references("referenced", "q.io/x"), "a.txt", "x")
	both(t, func(t *testing.T, compat bool) {
		opts := &payload.AssembleOptions{Compatible: compat}
		spec := w.spec()
		spec.Components, spec.Stream = nil, w.stream(t)
		spec.Include = []string{"included"}
		built, r := w.must(t, spec, opts)
		require.Equal(t, []string{"cluster-version-operator", "included", "op", "referenced"}, tagsOf(r))
		require.Equal(t, []string{"unused"}, built.Pruned)

		spec.Exclude = []string{"included"}
		_, r = w.must(t, spec, opts)
		require.Equal(t, []string{"cluster-version-operator", "op", "referenced"}, tagsOf(r), "exclude wins")

		// What the caller names himself is not dropped without a word.
		_, r = w.must(t, w.spec(), opts)
		if compat {
			require.Equal(t, []string{"cluster-version-operator", "op", "referenced"}, tagsOf(r))
		} else {
			require.Equal(t, []string{"cluster-version-operator", "included", "op", "referenced", "unused"}, tagsOf(r))
		}
	})
}

func TestAnnotations(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "kube", map[string]string{
		"io.openshift.build.commit.id": "abc", "io.openshift.build.commit.ref": "main", "io.openshift.build.source-location": "https://git.test/kube",
		"io.openshift.build.versions": "kubernetes=1.33.4", "other": "x",
	})
	spec := w.spec()
	spec.Components, spec.Stream = nil, w.stream(t)
	spec.Stream.Annotations = map[string]string{"dropped": "x"}
	spec.Stream.Tags[1].Annotations = map[string]string{"kept": "x"}
	spec.Include = []string{"kube", "extra"}
	spec.Overrides = map[string]name.Reference{"extra": w.plain(t, "extra", nil)}
	both(t, func(t *testing.T, compat bool) {
		opts := &payload.AssembleOptions{Compatible: compat}
		_, r := w.must(t, spec, opts)
		require.Empty(t, r.References.Annotations)
		require.Equal(t, map[string]string{
			"kept": "x", "io.openshift.build.commit.id": "abc", "io.openshift.build.commit.ref": "main", "io.openshift.build.source-location": "https://git.test/kube",
			"io.openshift.build.versions": "kubernetes=1.33.4", "io.openshift.build.version-display-names": "",
		}, r.References.Tag("kube").Annotations)
		overridden := map[string]string{
			"io.openshift.release.override": "true", "io.openshift.build.commit.id": "", "io.openshift.build.commit.ref": "", "io.openshift.build.source-location": "",
		}
		require.Equal(t, overridden, r.References.Tag("extra").Annotations)

		// An override in a release: prior annotations are gone.
		again := &payload.Spec{FromRelease: r.Pullspec(), Created: testTime.Add(time.Hour), Include: []string{"kube"}, Overrides: map[string]name.Reference{"kube": w.plain(t, "kube2", nil)}}
		_, r2 := w.must(t, again, opts)
		require.Equal(t, overridden, r2.References.Tag("kube").Annotations)
		require.Equal(t, map[string]string{"release.openshift.io/from-release": r.Pullspec().Name()}, r2.References.Annotations)
		require.Equal(t, testTime.Add(time.Hour), r2.References.Created)
		require.Equal(t, r.Version(), r2.Version())
	})
}

func TestMetadata(t *testing.T) {
	w := newWorld(t)
	spec := w.spec()
	spec.Previous = []string{"4.9.0", "4.10.0", "4.9.0", "4.20.0-test.0"}
	spec.Next = []string{"4.21.0"}
	spec.Metadata = map[string]any{"z": "<&>", "a": map[string]any{"y": 1.0, "x": true}}
	both(t, func(t *testing.T, compat bool) {
		opts := &payload.AssembleOptions{Compatible: compat}
		_, r := w.must(t, spec, opts)
		previous := "    \"4.9.0\",\n    \"4.10.0\",\n    \"4.20.0-test.0\"\n"
		if compat {
			previous = "    \"4.10.0\",\n    \"4.20.0-test.0\",\n    \"4.9.0\",\n    \"4.9.0\"\n"
		}
		require.Equal(t, "{\n  \"kind\": \"cincinnati-metadata-v0\",\n  \"version\": \"4.20.0-test.1\",\n  \"previous\": [\n"+previous+
			"  ],\n  \"next\": [\n    \"4.21.0\"\n  ],\n  \"metadata\": {\n    \"a\": {\n      \"x\": true,\n      \"y\": 1\n    },\n    \"z\": \"\\u003c\\u0026\\u003e\"\n  }\n}", string(r.Metadata.Raw))

		// A base release passes them on, byte for byte, in either mode.
		for _, o := range []*payload.AssembleOptions{nil, compatible} {
			if compat && o != nil || !compat && o == nil {
				built, _ := w.must(t, &payload.Spec{FromRelease: r.Pullspec()}, o)
				require.Equal(t, r.Digest, built.Digest)
			}
		}
		_, r2 := w.must(t, &payload.Spec{FromRelease: r.Pullspec(), Created: testTime, Version: "4.20.0-test.2", Previous: []string{}}, opts)
		require.Empty(t, r2.Metadata.Previous)
		require.Equal(t, []string{"4.21.0"}, r2.Metadata.Next)
		require.Equal(t, r.Metadata.Metadata, r2.Metadata.Metadata)
		require.Contains(t, string(r2.Metadata.Raw), `"previous": [],`)
	})
}

// An operator that is overridden is processed once; oc does it twice.
func TestOverrideOnce(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("old"))
	_, base := w.must(t, w.spec(), nil)
	spec := &payload.Spec{FromRelease: base.Pullspec(), Created: testTime, Overrides: map[string]name.Reference{"op": w.add(t, repo, makeImage(t, operatorSpec(t, "a.yaml", namespace("new"))))}}
	_, r := w.must(t, spec, nil)
	require.Equal(t, map[string]string{"0000_50_op_a.yaml": namespace("new")}, filesOf(r))
	_, r = w.must(t, spec, compatible)
	require.Equal(t, map[string]string{"0000_50_op_a.yaml": namespace("new"), "0000_50_op_a_2.yaml": namespace("new")}, filesOf(r))
}

func TestBase(t *testing.T) {
	w := newWorld(t)
	old := w.components[payload.BaseTag]
	w.operator(t, "op", "a.yaml", namespace("a"))
	_, base := w.must(t, w.spec(), nil)
	baseDigest := func(b *payload.Built) string { return configOf(t, b.Image).Config.Labels[payload.LabelBaseDigest] }
	fresh := w.add(t, repo, makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "new"})}}))

	spec := &payload.Spec{FromRelease: base.Pullspec(), Created: testTime, Overrides: map[string]name.Reference{payload.BaseTag: fresh}}
	built, _ := w.must(t, spec, nil)
	require.Equal(t, fresh.DigestStr(), baseDigest(built), "an overridden base is used")
	built, _ = w.must(t, spec, compatible)
	require.Equal(t, old.(name.Digest).DigestStr(), baseDigest(built), "oc stays with the old one")

	s := w.spec()
	s.BaseTag = "op"
	built, r := w.must(t, s, compatible)
	require.Equal(t, w.components["op"].(name.Digest).DigestStr(), baseDigest(built))
	require.Equal(t, []string{"op"}, tagsOf(r))
	s.Base = fresh
	built, _ = w.must(t, s, nil)
	require.Equal(t, fresh.DigestStr(), baseDigest(built))

	s = w.spec()
	s.Exclude = []string{payload.BaseTag}
	_, _, err := w.assemble(t, s, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "component cluster-version-operator: it is the image to make a release from")

	_, _, err = w.assemble(t, &payload.Spec{FromRelease: base.Pullspec(), Created: testTime, Exclude: []string{payload.BaseTag}}, nil)
	require.ErrorContains(t, err, "name a base")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOSContract(t *testing.T) {
	boot := map[string]string{"containers.bootc": "1", "org.opencontainers.image.version": "9.8.20260701-0"}
	cases := []struct {
		name   string
		images map[string]map[string]string
		opts   payload.AssembleOptions
		want   []payload.OSImage
		err    string
		warn   string
	}{
		{name: "none, not required", images: nil},
		{name: "none, required", opts: payload.AssembleOptions{RequireOS: true}, err: "no node image"},
		{
			name: "pair", images: map[string]map[string]string{"stream-coreos": {"io.openshift.build.versions": "machine-os=9.0.1-0", "org.opencontainers.image.version": "x"}, "stream-coreos-extensions": nil},
			opts: payload.AssembleOptions{RequireOS: true, RequireExtensions: true}, want: []payload.OSImage{{Tag: "stream-coreos", Extensions: "stream-coreos-extensions", Version: "9.0.1-0"}},
		},
		{name: "pair without coreos in the name", images: map[string]map[string]string{"x": nil, "x-extensions": nil}, opts: payload.AssembleOptions{RequireOS: true}, err: "no node image"},
		{name: "name alone", images: map[string]map[string]string{"stream-coreos": nil}, opts: payload.AssembleOptions{RequireExtensions: true}, err: "component stream-coreos-extensions: extensions of node image stream-coreos are required"},
		{
			name: "labels", images: map[string]map[string]string{"node": boot}, opts: payload.AssembleOptions{RequireOS: true},
			want: []payload.OSImage{{Tag: "node", Version: "9.8.20260701-0", Bootable: true}},
		},
		{name: "labels, extensions required", images: map[string]map[string]string{"node": boot}, opts: payload.AssembleOptions{RequireExtensions: true}, err: "component node-extensions"},
		{
			name: "several", images: map[string]map[string]string{"stream-coreos": boot, "stream-coreos-extensions": nil, "stream-coreos-10": boot, "stream-coreos-10-extensions": nil},
			opts: payload.AssembleOptions{RequireOS: true, RequireExtensions: true},
			want: []payload.OSImage{
				{Tag: "stream-coreos", Extensions: "stream-coreos-extensions", Version: "9.8.20260701-0", Bootable: true},
				{Tag: "stream-coreos-10", Extensions: "stream-coreos-10-extensions", Version: "9.8.20260701-0", Bootable: true},
			},
		},
		{
			name: "no version", images: map[string]map[string]string{"fedora-coreos": {"ostree.bootable": "true"}}, opts: payload.AssembleOptions{RequireOS: true},
			want: []payload.OSImage{{Tag: "fedora-coreos", Bootable: true}}, warn: "node image fedora-coreos states no version",
		},
		{
			name: "version that is not semantic", images: map[string]map[string]string{"fedora-coreos": {"ostree.final-diffid": "sha256:x", "org.opencontainers.image.version": "42.20260701.3.0"}},
			want: []payload.OSImage{{Tag: "fedora-coreos", Version: "42.20260701.3.0", Bootable: true}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for tag, labels := range c.images {
				w.plain(t, tag, labels)
			}
			built, _, err := w.assemble(t, w.spec(), &c.opts)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.ErrorIs(t, err, fs.ErrNotExist)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, built.OS)
			if c.warn != "" {
				require.Contains(t, built.Warnings, c.warn)
			} else {
				require.Empty(t, built.Warnings)
			}
		})
	}
}

// A node image that states its version only as OCI does can still be referred
// to by operators, and shows in the release's versions.
func TestOSVersionFromLabel(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "node", map[string]string{"containers.bootc": "1", "org.opencontainers.image.version": "9.8.20260701-0"})
	w.operator(t, "mco", "image-references", references("node", "q.io/o/node"), "a.txt", "0.0.1-snapshot-machine-os")
	_, _, err := w.assemble(t, w.spec(), compatible)
	require.ErrorContains(t, err, "no version known for machine-os")
	_, r := w.must(t, w.spec(), nil)
	require.Equal(t, "9.8.20260701-0", filesOf(r)["0000_50_mco_a.txt"])
	info, err := r.Info()
	require.NoError(t, err)
	require.Equal(t, "9.8.20260701-0", info.Versions["machine-os"].Version)
	require.Equal(t, "node", info.VersionTags["machine-os"])
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	op := w.operator(t, "op", "a.yaml", namespace("a"))
	cvo := w.components[payload.BaseTag].(name.Digest)
	one, two := int64(1), int64(2)
	public := w.spec()
	base := func(change func(s *payload.ImageStream)) *payload.Spec {
		spec := *public
		spec.Components, spec.Stream = nil, w.stream(t)
		change(spec.Stream)
		return &spec
	}
	status := func(tag, ref, image string, generation int64) payload.TagStatus {
		return payload.TagStatus{Tag: tag, Items: []payload.TagEvent{{DockerImageReference: ref, Image: image, Generation: generation}}}
	}
	cases := []struct {
		name string
		mode payload.ReferenceMode
		make func(s *payload.ImageStream)
		want string // pullspec of op
		err  string
	}{
		{name: "by digest", make: func(*payload.ImageStream) {}, want: op.Name()},
		{
			name: "by tag, status knows", make: func(s *payload.ImageStream) {
				s.Tag("op").Pullspec = repo + ":latest"
				s.Status = append(s.Status, status("op", op.Name(), op.DigestStr(), 1))
			}, want: op.Name(),
		},
		{
			name: "status only", make: func(s *payload.ImageStream) {
				s.Tags = s.Tags[:1]
				s.Status = append(s.Status, status("op", repo+":latest", op.DigestStr(), 1))
			}, want: op.Name(),
		},
		{
			name: "status before spec where a generation is set", make: func(s *payload.ImageStream) {
				s.Tag("op").Generation, s.Tag("op").Pullspec = &one, repo+"@sha256:"+strings.Repeat("0", 64)
				s.Status = append(s.Status, status("op", op.Name(), op.DigestStr(), 1))
			}, want: op.Name(),
		},
		{
			name: "not imported yet", make: func(s *payload.ImageStream) {
				s.Tag("op").Generation = &two
				s.Status = append(s.Status, status("op", op.Name(), op.DigestStr(), 1))
			}, err: "component op: its tag in the image stream has not been imported yet",
		},
		{
			name: "import failed", make: func(s *payload.ImageStream) {
				s.Tags = s.Tags[:1]
				s.Status = append(s.Status, payload.TagStatus{Tag: "op", Conditions: []payload.TagCondition{{Type: "ImportSuccess", Status: "False"}}})
			}, err: "component op: its tag in the image stream has not been imported yet",
		},
		{name: "public mode without a public repository", mode: payload.ReferencePublic, make: func(*payload.ImageStream) {}, err: "publicDockerImageRepository"},
		{name: "public mode", mode: payload.ReferencePublic, make: func(s *payload.ImageStream) { s.PublicRepository = "public.test/okd" }, want: "public.test/okd@" + op.DigestStr()},
		{
			name: "internal registry", make: func(s *payload.ImageStream) {
				s.Repository, s.PublicRepository = "internal.test/okd", "public.test/okd"
				s.Tag("op").Pullspec = "internal.test/okd@" + op.DigestStr()
			}, want: "public.test/okd@" + op.DigestStr(),
		},
		{name: "malformed pullspec", make: func(s *payload.ImageStream) { s.Tag("op").Pullspec = "!" }, err: "component op"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, compat bool) {
				spec := base(c.make)
				spec.ReferenceMode = c.mode
				before, err := spec.Stream.Encode()
				require.NoError(t, err)
				_, r, err := w.assemble(t, spec, &payload.AssembleOptions{Compatible: compat})
				if c.err != "" {
					require.ErrorContains(t, err, c.err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.want, r.References.Tag("op").Pullspec)
				after, err := spec.Stream.Encode()
				require.NoError(t, err)
				require.Equal(t, string(before), string(after), "the caller's stream is not changed")
				_ = cvo
			})
		})
	}
}

func TestMissingImages(t *testing.T) {
	w := newWorld(t)
	missing := digestRef(t, repo, mustHash(t, "sha256:"+strings.Repeat("1", 64)))
	w.components["gone-a"], w.components["gone-b"] = missing, digestRef(t, repo, mustHash(t, "sha256:"+strings.Repeat("2", 64)))
	_, _, err := w.assemble(t, w.spec(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "component gone-a: "+missing.Name())
	require.ErrorContains(t, err, "component gone-b: ")
}

// An image that was skipped is named beside the fault that it leads to.
func TestSkippedBase(t *testing.T) {
	w := newWorld(t)
	spec := w.spec()
	w.operator(t, "op", "a.yaml", namespace("a"))
	spec.Components, spec.Stream = nil, w.stream(t)
	spec.Stream.Tag(payload.BaseTag).Pullspec = repo + ":latest"
	_, _, err := w.assemble(t, spec, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, []payload.Check{payload.CheckSkippedTag}, checksOf(t, err))
}

func TestSpecErrors(t *testing.T) {
	w := newWorld(t)
	ref := w.components[payload.BaseTag]
	cases := []struct {
		name string
		spec *payload.Spec
		opts *payload.AssembleOptions
		want string
	}{
		{name: "nil", want: "nothing to make a release from"},
		{name: "two sources", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: w.components, Stream: w.stream(t)}, want: "exclude each other"},
		{name: "no version", spec: &payload.Spec{Created: testTime, Components: w.components}, want: "no version"},
		{name: "bad version", spec: &payload.Spec{Version: "4.20", Created: testTime, Components: w.components}, want: `version "4.20"`},
		{name: "no time", spec: &payload.Spec{Version: "1.0.0", Components: w.components}, want: "no creation time"},
		{name: "year", spec: &payload.Spec{Version: "1.0.0", Created: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Components: w.components}, want: "year 10000"},
		{name: "bad previous", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: w.components, Previous: []string{"x"}}, want: `previous: version "x"`},
		{name: "bad tag", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: map[string]name.Reference{"a/b": ref}}, want: `tag name "a/b"`},
		{name: "nil reference", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: map[string]name.Reference{"a": nil}}, want: "component a: no reference"},
		{name: "bad versions", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: w.components, Versions: map[string]payload.ComponentVersion{"kernel": {Version: "6"}}}, want: `kernel="6"`},
		{name: "bad mode", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Stream: w.stream(t), ReferenceMode: "x"}, want: `reference mode "x"`},
		{name: "all excluded", spec: &payload.Spec{Version: "1.0.0", Created: testTime, Components: w.components, Exclude: []string{payload.BaseTag}}, want: "no images are left"},
		{name: "manifest list", spec: w.spec(), opts: &payload.AssembleOptions{ManifestList: true}, want: "is no manifest list"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := payload.Assemble(t.Context(), w, c.spec, c.opts)
			require.ErrorContains(t, err, c.want)
			var e *payload.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "assemble", e.Op)
		})
	}
	_, err := payload.Assemble(t.Context(), nil, w.spec(), nil)
	require.ErrorContains(t, err, "no images to read from")
}

func TestAssembleCancelled(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := payload.Assemble(ctx, w, w.spec(), nil)
	require.ErrorIs(t, err, context.Canceled)
}

// Indexes: components and base are chosen by platform, the pullspecs stay.
func TestIndexes(t *testing.T) {
	w := newWorld(t)
	amd := makeImage(t, operatorSpec(t, "a.yaml", namespace("amd64")))
	arm := makeImage(t, operatorSpec(t, "a.yaml", namespace("arm64")))
	ref := w.addIndex(t, repo, map[string]v1.Image{"amd64": amd, "arm64": arm})
	w.components["op"] = ref
	cvo := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "x"})}})
	w.components[payload.BaseTag] = w.addIndex(t, repo, map[string]v1.Image{"amd64": cvo, "arm64": makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "y"})}})})
	for _, c := range []struct {
		platform v1.Platform
		want     string
	}{{v1.Platform{}, "amd64"}, {v1.Platform{OS: "linux", Architecture: "arm64"}, "arm64"}} {
		_, r := w.must(t, w.spec(), &payload.AssembleOptions{Platform: c.platform})
		require.Equal(t, map[string]string{"0000_50_op_a.yaml": namespace(c.want)}, filesOf(r))
		require.Equal(t, ref.Name(), r.References.Tag("op").Pullspec)

		// From this release, whose base is in an index too.
		built, _, err := w.assemble(t, &payload.Spec{FromRelease: r.Pullspec()}, &payload.AssembleOptions{Platform: c.platform})
		require.NoError(t, err)
		require.Equal(t, r.Digest, built.Digest)
	}
	_, _, err := w.assemble(t, w.spec(), &payload.AssembleOptions{Platform: v1.Platform{OS: "linux", Architecture: "s390x"}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "index has no image for linux/s390x")

	// A base release that is an index would have to give one.
	built, r := w.must(t, w.spec(), nil)
	list := w.addIndex(t, "registry.test/okd/release", map[string]v1.Image{"amd64": built.Image})
	_, _, err = w.assemble(t, &payload.Spec{FromRelease: list}, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	one, _, err := w.assemble(t, &payload.Spec{FromRelease: list}, &payload.AssembleOptions{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}})
	require.NoError(t, err)
	require.Equal(t, built.Digest, one.Digest)
	opened, err := payload.Open(t.Context(), w, list, nil)
	require.NoError(t, err)
	require.Equal(t, list.DigestStr(), opened.ListDigest.String())
	require.Equal(t, list.Name(), opened.Pullspec().Name())
	require.Equal(t, r.Digest, opened.Digest)
}

func (w *world) addIndex(t testing.TB, repo string, images map[string]v1.Image) name.Digest {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	for _, arch := range []string{"amd64", "arm64"} {
		if img := images[arch]; img != nil {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{MediaType: types.DockerManifestSchema2, Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
	}
	h, err := idx.Digest()
	require.NoError(t, err)
	w.indexes[h] = idx
	return digestRef(t, repo, h)
}

// The number of images read at one time changes nothing, and two tags of one
// image read it once.
func TestWorkers(t *testing.T) {
	w := newWorld(t)
	op := w.operator(t, "op", "a.yaml", namespace("a"))
	for _, tag := range []string{"same-a", "same-b", "same-c"} {
		w.components[tag] = w.components[payload.BaseTag]
	}
	var first v1.Hash
	for _, workers := range []int{1, 2, 7, 1000} {
		before := w.requests.Load()
		var log bytes.Buffer
		built, err := payload.Assemble(t.Context(), w, w.spec(), &payload.AssembleOptions{Workers: workers, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.Equal(t, int64(2), w.requests.Load()-before)
		require.Contains(t, log.String(), "release assembled")
		if workers == 1 {
			first = built.Digest
		}
		require.Equal(t, first, built.Digest)
	}
	require.NotEmpty(t, op)
}

// A base release without any change must come out the same.
func TestNotReproducible(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "image-references", references("op", "q.io/o/op"), "text.txt", "q.io/o/op:v1,x")
	_, r := w.must(t, w.spec(), nil)
	_, _, err := w.assemble(t, &payload.Spec{FromRelease: r.Pullspec()}, compatible)
	require.ErrorIs(t, err, payload.ErrNotReproducible, "what strict mode replaces, compatible mode does not")
	_, _, err = w.assemble(t, &payload.Spec{FromRelease: r.Pullspec(), Created: testTime, Version: "4.20.0-test.2"}, compatible)
	require.NoError(t, err)
}
