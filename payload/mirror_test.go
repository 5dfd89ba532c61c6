package payload_test

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

func mustRepo(t testing.TB, text string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(text, name.Insecure)
	require.NoError(t, err)
	return repo
}

func TestSampleMirror(t *testing.T) {
	r := sampleRelease(t, sampleImages(t), 0)
	copies, err := payload.Mirror(r, mustRepo(t, "127.0.0.1:25118/mirror/release"), nil)
	require.NoError(t, err)
	recorded := sampleText(t, "mirror-idms.txt")
	var got, want []string
	for line := range strings.Lines(recorded) {
		if strings.HasPrefix(line, "sha256:") {
			want = append(want, strings.TrimSpace(line))
		}
	}
	for _, c := range copies {
		_, digest, _ := strings.Cut(c.From, "@")
		got = append(got, digest+" "+c.To+":"+c.Tags[0])
		require.True(t, c.Signatures && c.Referrers)
	}
	require.Equal(t, want[len(want)-1], got[len(got)-1], "the release comes last")
	require.Equal(t, 1, copies[len(copies)-1].Stage)
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got, "in other order")

	sets, err := payload.MirrorSets(copies, "")
	require.NoError(t, err)
	require.Contains(t, recorded, "\n"+string(sets.InstallConfig)+"\n\n")
	require.Contains(t, recorded, "\n"+string(sets.DigestMirrorSet)+"\n\n")

	// On disk oc has the same tags.
	var tags []string
	for line := range strings.Lines(sampleText(t, "mirror-dir.txt")) {
		if dir, tag := path.Split(strings.TrimSpace(line)); strings.HasSuffix(dir, "/manifests/") && !strings.HasPrefix(tag, "sha256:") {
			tags = append(tags, tag)
		}
	}
	copies, err = payload.Mirror(r, mustRepo(t, "openshift/release"), nil)
	require.NoError(t, err)
	var planned []string
	for _, c := range copies {
		planned = append(planned, c.Tags...)
	}
	require.ElementsMatch(t, tags, planned)
}

func TestMirror(t *testing.T) {
	w := newWorld(t)
	w.plain(t, "x", nil)
	_, r := w.must(t, w.spec(), nil)
	to := mustRepo(t, "mirror.test/okd")
	copies, err := payload.Mirror(r, to, &payload.MirrorOptions{
		Release: mustRepo(t, "mirror.test/releases"), ComponentTag: "${component}", ReleaseTag: "${version}", NoSignatures: true, NoReferrers: true, From: mustRepo(t, "other.test/content"),
	})
	require.NoError(t, err)
	require.Len(t, copies, 3)
	require.Equal(t, payload.Copy{From: "other.test/content@" + w.components["x"].Identifier(), To: "mirror.test/okd", Tags: []string{"x"}}, copies[1])
	require.Equal(t, payload.Copy{From: r.Pullspec().Name(), To: "mirror.test/releases", Tags: []string{"4.20.0-test.1"}, Stage: 1}, copies[2])
	require.NoError(t, publish.CheckCopies([]publish.Copy{publish.Copy(copies[0]), publish.Copy(copies[1]), publish.Copy(copies[2])}))

	copies, err = payload.Mirror(r, to, &payload.MirrorOptions{SkipRelease: true})
	require.NoError(t, err)
	require.Len(t, copies, 2)
	require.Equal(t, []string{"4.20.0-test.1-x86_64-cluster-version-operator"}, copies[0].Tags)

	for template, want := range map[string]string{"same": "would both be tagged same", "${component": "cannot be a tag", "/": "cannot be a tag", strings.Repeat("x", 129): "cannot be a tag"} {
		_, err = payload.Mirror(r, to, &payload.MirrorOptions{ComponentTag: template})
		require.ErrorContains(t, err, want)
	}
	_, err = payload.Mirror(r, to, &payload.MirrorOptions{ComponentTag: "${component}", ReleaseTag: "x"})
	require.ErrorContains(t, err, "component x and the release")
	_, err = payload.Mirror(r, to, &payload.MirrorOptions{ReleaseTag: "a b"})
	require.ErrorContains(t, err, "cannot be a tag")

	folder, err := payload.OpenFolder(t.Context(), fstest.MapFS{"image-references": {Data: r.References.Raw}, "release-metadata": {Data: r.Metadata.Raw}})
	require.NoError(t, err)
	_, err = payload.Mirror(folder, to, nil)
	require.ErrorContains(t, err, "no release image")
	copies, err = payload.Mirror(folder, to, &payload.MirrorOptions{SkipRelease: true})
	require.NoError(t, err)
	require.Equal(t, []string{"4.20.0-test.1-unknown-x"}, copies[1].Tags)

	for _, from := range []string{`{"kind":"DockerImage","name":"q.io/a:tag"}`, `{"kind":"ImageStreamTag","name":"a:b"}`} {
		refs := strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[{"name":"a","from":`+from+`}]},"metadata"`, 1)
		bad, err := openEntries(t, entry{name: "release-manifests/image-references", data: refs}, releaseEntries()[2])
		require.NoError(t, err)
		_, err = payload.Mirror(bad, to, nil)
		require.ErrorContains(t, err, "component a")
	}
}

func TestMirrorArchitectures(t *testing.T) {
	w := newWorld(t)
	lists(t, w, false)
	built, err := payload.Assemble(t.Context(), w, w.spec(), &payload.AssembleOptions{ManifestList: true})
	require.NoError(t, err)
	w.indexes[built.ListDigest] = built.Index
	for _, d := range must(built.Index.IndexManifest()).Manifests {
		w.images[d.Digest] = must(built.Index.Image(d.Digest))
	}
	ref := digestRef(t, "registry.test/okd/release", built.ListDigest)
	r, err := payload.Open(t.Context(), w, ref, nil)
	require.NoError(t, err)
	copies, err := payload.Mirror(r, mustRepo(t, "mirror.test/okd"), nil)
	require.NoError(t, err)
	last := copies[len(copies)-1]
	require.Equal(t, []string{"4.20.0-test.1-multi"}, last.Tags)
	require.Equal(t, ref.Name(), last.From, "the list, not one image of it")

	child := must(built.Index.IndexManifest()).Manifests[1].Digest
	r, err = payload.Open(t.Context(), w, digestRef(t, "registry.test/okd/release", child), nil)
	require.NoError(t, err)
	copies, err = payload.Mirror(r, mustRepo(t, "mirror.test/okd"), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"4.20.0-test.1-aarch64"}, copies[len(copies)-1].Tags)
}

func TestMirrorSets(t *testing.T) {
	sets, err := payload.MirrorSets([]payload.Copy{
		{From: "b.test/x@sha256:" + strings.Repeat("1", 64), To: "m.test/x"}, {From: "a.test/y:tag", To: "m.test/y"}, {From: "b.test/x:other", To: "m.test/z"}, {From: "m.test/x:here", To: "m.test/x"},
	}, "okd")
	require.NoError(t, err)
	const list = "- mirrors:\n  - m.test/y\n  source: a.test/y\n- mirrors:\n  - m.test/x\n  - m.test/z\n  source: b.test/x\n"
	require.Equal(t, "imageDigestSources:\n"+list, string(sets.InstallConfig))
	require.Equal(t, "imageContentSources:\n"+list, string(sets.LegacyInstallConfig))
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(list), "\n", "\n  ") + "\n"
	for want, got := range map[string][]byte{
		"apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nmetadata:\n  name: okd\nspec:\n  imageDigestMirrors:\n":                  sets.DigestMirrorSet,
		"apiVersion: config.openshift.io/v1\nkind: ImageTagMirrorSet\nmetadata:\n  name: okd\nspec:\n  imageTagMirrors:\n":                        sets.TagMirrorSet,
		"apiVersion: operator.openshift.io/v1alpha1\nkind: ImageContentSourcePolicy\nmetadata:\n  name: okd\nspec:\n  repositoryDigestMirrors:\n": sets.ContentSourcePolicy,
	} {
		require.Equal(t, want+indented, string(got))
	}
	_, err = payload.MirrorSets([]payload.Copy{{From: "!"}}, "")
	require.Error(t, err)
}

func ExampleMirror() {
	to, err := name.NewRepository("mirror.example.com/okd/release")
	if err != nil {
		fmt.Println(err)
		return
	}
	copies, err := payload.Mirror(sampleFolder(), to, &payload.MirrorOptions{SkipRelease: true, ComponentTag: "${version}-${component}"})
	if err != nil {
		fmt.Println(err)
		return
	}
	plan := make([]publish.Copy, len(copies))
	for i, c := range copies {
		plan[i] = publish.Copy(c) // for publish.Transfer
		fmt.Println(plan[i].To, plan[i].Tags)
	}
	sets, err := payload.MirrorSets(copies, "okd")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(sets.InstallConfig))
	// Output:
	// mirror.example.com/okd/release [4.20.0-okd-scos.1-cli]
	// imageDigestSources:
	// - mirrors:
	//   - mirror.example.com/okd/release
	//   source: registry.example.com/okd/content
}

// Signatures beside a mirror, in a folder that someone else made.
func TestMirrorSignatures(t *testing.T) {
	digest := mustHash(t, "sha256:"+strings.Repeat("5", 64))
	_, one, err := payload.EncodeSignatureConfigMap(digest, [][]byte{[]byte("a signature")})
	require.NoError(t, err)
	found := func(fsys fstest.MapFS) (n int) {
		s, err := payload.MirrorSignatures(fsys)
		require.NoError(t, err)
		for _, err := range s.Signatures(t.Context(), digest) {
			require.NoError(t, err)
			n++
		}
		return n
	}
	require.Zero(t, found(fstest.MapFS{"v2/x": {}}))
	require.Zero(t, found(fstest.MapFS{"config/other.json": {Data: one}}))
	require.Equal(t, 1, found(fstest.MapFS{"config/signature-sha256-5555555555555555.json": {Data: one}}))

	many := fstest.MapFS{}
	for i := range 4096 {
		many[fmt.Sprintf("config/signature-%d.json", i)] = &fstest.MapFile{Data: one}
	}
	_, err = payload.MirrorSignatures(many)
	require.NoError(t, err)
	many["config/signature-x.json"] = &fstest.MapFile{}
	for want, fsys := range map[string]fstest.MapFS{
		"more than 4096 files":  many,
		"limit 8388608":         {"config/signature-a.json": {Data: make([]byte, payload.MaxManifestSize+1)}},
		"not a regular file":    {"config/signature-a.json": {Mode: fs.ModeNamedPipe}},
		"signature ConfigMap 1": {"config/signature-a.json": {Data: []byte("{")}},
	} {
		_, err := payload.MirrorSignatures(fsys)
		require.ErrorContains(t, err, want)
	}
}

func ExampleMirrorSignatures() {
	digest, err := v1.NewHash("sha256:" + strings.Repeat("5", 64))
	if err != nil {
		fmt.Println(err)
		return
	}
	file, data, err := payload.EncodeSignatureConfigMap(digest, [][]byte{[]byte("a signature")})
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := payload.MirrorSignatures(fstest.MapFS{"config/" + file: {Data: data}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for sig, err := range store.Signatures(context.Background(), digest) {
		fmt.Println(string(sig), err)
	}
	// Output:
	// a signature <nil>
}
