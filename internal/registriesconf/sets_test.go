package registriesconf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/registriesconf"
)

// sets makes a configuration of mirror sets, and of a registries.conf.
func sets(t testing.TB, conf string, texts ...string) (*registriesconf.Config, error) {
	t.Helper()
	var files []registriesconf.File
	for i, text := range texts {
		files = append(files, registriesconf.File{Name: fmt.Sprintf("%d.yaml", i), Data: []byte(text)})
	}
	return registriesconf.New([]registriesconf.File{{Name: "registries.conf", Data: []byte(conf)}}, files)
}

const idms = `
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: release
  annotations: {anything: goes}
spec:
  imageDigestMirrors:
  - source: quay.io/okd/scos-release
    mirrors:
    - registry.example:5000/okd/release
    - second.example/okd/release
  - source: quay.io/okd/scos-content
    mirrorSourcePolicy: NeverContactSource
    mirrors: [registry.example:5000/okd/content]
  - source: "*.redhat.io"
    mirrorSourcePolicy: AllowContactingSource
    mirrors: [registry.example:5000]
status: {}
`

func TestMirrorSets(t *testing.T) {
	t.Parallel()
	c, err := sets(t, "", idms+`
---
apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {name: tags}
spec:
  imageTagMirrors:
  - source: quay.io/okd/scos-release
    mirrors: [tags.example/okd/release]
`, "--- # nothing\n---\n"+`
apiVersion: v1
kind: List
items:
- apiVersion: operator.openshift.io/v1alpha1
  kind: ImageContentSourcePolicy
  spec:
    repositoryDigestMirrors:
    - source: quay.io/okd/scos-release
      mirrors: [first.example/release, registry.example:5000/okd/release]
    - source: quay.io/only/itself
      mirrors: [quay.io/only/itself]
`)
	require.NoError(t, err)
	for ref, want := range map[string]string{
		"quay.io/okd/scos-release" + digest:    "first.example/release registry.example:5000/okd/release second.example/okd/release quay.io/okd/scos-release",
		"quay.io/okd/scos-release":             "tags.example/okd/release quay.io/okd/scos-release",
		"quay.io/okd/scos-release/xx" + digest: "first.example/release/xx registry.example:5000/okd/release/xx second.example/okd/release/xx quay.io/okd/scos-release/xx",
		"quay.io/okd/scos-releases" + digest:   "quay.io/okd/scos-releases",
		"quay.io/okd/scos-content" + digest:    "registry.example:5000/okd/content",
		"quay.io/okd/scos-content":             "blocked",
		"registry.redhat.io/ubi9/ubi" + digest: "registry.example:5000/ubi9/ubi registry.redhat.io/ubi9/ubi",
		"quay.io/only/itself" + digest:         "quay.io/only/itself",
		"registry.example:5000/okd/release":    "registry.example:5000/okd/release",
		"registry.redhat.io/ubi9/ubi":          "registry.redhat.io/ubi9/ubi",
	} {
		require.Equal(t, want, pull(t, c, ref), ref)
	}
}

// Lists of one source keep their orders.
func TestMirrorOrder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lists string // of one letter each
		want  string
	}{
		{"bc ab", "a b c S"},
		{"a", "a S"},
		{"b a", "a b S"},
		{"ba ab", "a b S"},
		{"cba", "c b a S"},
		{"cS Sd", "c S d"},
		{"S", "S"},
		{"aSb", "a S b"},
		{"ad bd cd", "a b c d S"},
		{"ab cd", "a c b d S"},
		{"abc ca", "a b c S"},
	} {
		text := "apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nspec:\n  imageDigestMirrors:\n"
		repo := func(letter rune) string { return strings.ToLower(string(letter)) + ".example/repo" }
		for list := range strings.FieldsSeq(tc.lists) {
			text += "  - source: s.example/repo\n    mirrors:\n"
			for _, letter := range list {
				text += "    - " + repo(letter) + "\n"
			}
		}
		c, err := sets(t, "", text)
		require.NoError(t, err)
		want := ""
		for _, letter := range strings.ReplaceAll(tc.want, " ", "") {
			want += " " + repo(letter)
		}
		require.Equal(t, want[1:], pull(t, c, "s.example/repo"+digest), tc.lists)
	}
}

// With registries.conf there as well, as a node has it.
func TestMirrorSetsAndConf(t *testing.T) {
	t.Parallel()
	c, err := sets(t, `
[[registry]]
location = "registry.example:5000"
insecure = true
[[registry]]
location = "quay.io/okd/scos-content/deep"
insecure = true
[[registry]]
location = "quay.io/okd/scos-release"
mirror-by-digest-only = true
[[registry.mirror]]
location = "own.example/release"
[[registry]]
location = "quay.io/okd/scos-release/own"
[[registry.mirror]]
location = "own.example/own"
[[registry]]
location = "x.redhat.io/deep"
`, idms)
	require.NoError(t, err)
	for ref, want := range map[string]string{
		"quay.io/okd/scos-content" + digest:         "registry.example:5000/okd/content!",
		"quay.io/okd/scos-content/deep/xx" + digest: "registry.example:5000/okd/content/deep/xx!",
		"quay.io/okd/scos-content/deep/xx":          "blocked",
		"quay.io/okd/scos-release" + digest:         "own.example/release registry.example:5000/okd/release! second.example/okd/release quay.io/okd/scos-release",
		"quay.io/okd/scos-release":                  "quay.io/okd/scos-release",
		"quay.io/okd/scos-release/own" + digest:     "own.example/own quay.io/okd/scos-release/own",
		"x.redhat.io/deep/xx" + digest:              "registry.example:5000/deep/xx! x.redhat.io/deep/xx",
	} {
		require.Equal(t, want, pull(t, c, ref), ref)
	}
}

func TestBadMirrorSets(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nmetadata: {name: x}\nspec:\n"
	for text, want := range map[string]string{
		"a: [": "document 1",
		"a: &a " + strings.Repeat("x", 10_000) + "\nb: [" + strings.Repeat("*a,", 100) + "]": "document 1: aliases repeat too much",
		"a: 1\na: 2":                      "document 1",
		"[]":                              "not a Kubernetes object",
		"kind: ImageDigestMirrorSet":      "not a mirror set",
		"apiVersion: v1\nkind: ConfigMap": `"ConfigMap" of "v1" is not a mirror set`,
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]":                        "items[0]",
		head + "  imageTagMirrors: [{source: a.example}]":                                                     "want imageDigestMirrors alone",
		head + "  imageDigestMirrors: [{source: a.example, mirror: [b.example]}]":                             "unknown field",
		head + "  imageDigestMirrors: [{source: a.example, mirrors: [myhost/x]}]":                             "spec.imageDigestMirrors[0]: mirrors[0]",
		head + "  imageDigestMirrors: [{source: 'a.example/x:v1', mirrors: [b.example]}]":                     "want no tag or digest",
		head + "  imageDigestMirrors: [{source: '', mirrors: [b.example]}]":                                   "source: is empty",
		head + "  imageDigestMirrors: [{source: 'a.*.b', mirrors: [b.example]}]":                              "source:",
		head + "  imageDigestMirrors: [{source: a.example, mirrors: ['*.b.example']}]":                        "mirrors[0]",
		head + "  imageDigestMirrors: [{source: a.example, mirrors: [b.example], mirrorSourcePolicy: Maybe}]": "want NeverContactSource or",
		"apiVersion: operator.openshift.io/v1alpha1\nkind: ImageContentSourcePolicy\nspec: {repositoryDigestMirrors: [{source: a.example, mirrors: [b.example], mirrorSourcePolicy: NeverContactSource}]}": "not of this kind",
		strings.Repeat("#", registriesconf.MaxFileSize+1): "more than",
	} {
		_, err := sets(t, "", text)
		require.ErrorContains(t, err, want, "%.300s", text)
		require.ErrorContains(t, err, "registriesconf: 0.yaml")
	}
	_, err := sets(t, "", "apiVersion: v1\nkind: Secret")
	require.ErrorIs(t, err, errors.ErrUnsupported)

	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	_, err = sets(t, "", bomb)
	require.Error(t, err)
}
