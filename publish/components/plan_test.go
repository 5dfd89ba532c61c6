package components_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/components"
)

const ci = "registry.ci.openshift.org/"

// small is a list as OKD's: a builder and a base that others are built of.
const small = `ref: release-${MINOR}
args: {TAGS: scos}
images:
  - {match: "registry.ci.openshift.org/ocp/builder:*", use: builder}
  - {match: "registry.ci.openshift.org/*/*:base*", use: base}
  - {match: "registry.ci.openshift.org/*/*:*", use: "*"}
components:
  - {name: builder, tool: true, repository: https://git.example/images, ref: main, context: builder, from: quay.example/centos:stream9}
  - {name: base, tool: true, repository: https://git.example/images, ref: main, context: base, from: quay.example/centos:stream9}
  - {name: installer, repository: https://git.example/installer, dockerfile: images/Dockerfile.ci}
  - {name: artifacts, repository: https://git.example/installer, dockerfile: images/Dockerfile.artifacts, args: {TAGS: own}}
  - {name: mco, repository: https://git.example/mco}
exclude: ["rhel-coreos*", mco]
`

func smallWorld(t testing.TB) *world {
	w := newWorld(t)
	w.tag(w.image("quay.example/centos", "etc/os-release", nil), "stream9")
	w.write("images", "builder/Dockerfile", "FROM whatever\nCOPY f /builder\n")
	w.write("images", "builder/f", "builder")
	w.write("images", "base/Dockerfile", "FROM whatever\nCOPY f /base\n")
	w.write("images", "base/f", "base")
	w.write("installer", "images/Dockerfile.ci", "FROM "+ci+"ocp/builder:rhel-9-golang-1.25-openshift-4.22 AS builder\nARG TAGS=\nFROM "+ci+"ocp/4.22:base-rhel9\nCOPY --from=builder /x /y\nCOPY f /installer\n")
	w.write("installer", "images/Dockerfile.artifacts", "FROM "+ci+"ocp/4.22:installer AS linux\nARG TAGS\nFROM "+ci+"ocp/4.22:base\nCOPY --from=linux /x /y\nCOPY --from="+ci+"ocp/4.22:cli /x /z\nCOPY f /artifacts\n")
	w.write("installer", "f", "installer")
	w.write("mco", "Dockerfile", "FROM "+ci+"ocp/builder:rhel-8 AS rhel8\nFROM "+ci+"ocp/4.22:base\nCOPY f /mco\n")
	w.write("mco", "f", "mco")
	return w
}

func smallRelease(w *world) map[string]map[string]string {
	return map[string]map[string]string{
		"installer": nil, "artifacts": nil, "rhel-coreos": nil, "rhel-coreos-extensions": nil,
		"cli": {"io.openshift.build.commit.id": w.commit("mco"), "io.openshift.build.commit.ref": "release-4.20", "io.openshift.build.source-location": "https://git.example/mco"},
		"mco": {"io.openshift.build.commit.id": w.commit("mco"), "io.openshift.build.source-location": "https://git.example/mco"},
	}
}

func TestPlanReplace(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	plan, err := components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"base", "builder"}, {"installer", "mco"}, {"artifacts"}}, names(plan.Batches))
	require.Equal(t, []string{"rhel-coreos", "rhel-coreos-extensions"}, plan.Exclude)
	require.Equal(t, r.Pullspec().String(), plan.Release)
	steps := map[string]components.Step{}
	for _, s := range plan.Steps() {
		steps[s.Name] = s
	}
	require.Equal(t, components.Source{Repository: "https://git.example/installer", Ref: "release-4.20", Commit: w.commit("installer")}, steps["installer"].Source)
	require.Equal(t, commitTime, steps["installer"].Created)
	require.Equal(t, map[string]string{"TAGS": "scos"}, steps["installer"].Args)
	require.Equal(t, map[string]string{"TAGS": "own"}, steps["artifacts"].Args)
	require.Empty(t, steps["mco"].Args, "its Dockerfile has no ARG TAGS")
	// The image of a stage that is not needed is not looked for.
	require.Equal(t, []components.Use{{Image: ci + "ocp/4.22:base", Component: "base"}}, steps["mco"].Uses)
	cli, err := r.Image("cli")
	require.NoError(t, err)
	require.Equal(t, []components.Use{
		{Image: ci + "ocp/4.22:installer", Component: "installer"},
		{Image: ci + "ocp/4.22:base", Component: "base"},
		{Image: ci + "ocp/4.22:cli", Reference: cli.String()},
	}, steps["artifacts"].Uses)
	require.Contains(t, steps["base"].Uses[0].Reference, "quay.example/centos@sha256:")

	// Each source is fetched once, whoever needs it.
	require.Len(t, w.fetched, 3)

	// It is data, and the same each time.
	var one, two bytes.Buffer
	require.NoError(t, plan.Encode(&one))
	again, err := components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r, Workers: 1})
	require.NoError(t, err)
	require.NoError(t, again.Encode(&two))
	require.Equal(t, one.String(), two.String())
	read, err := components.DecodePlan(&one)
	require.NoError(t, err)
	require.Equal(t, plan, read)
}

func TestPlanScratch(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	os := w.image("registry.example/okd/os", "usr/bin/os", nil)
	l := list(t, small)
	l.Components = append(l.Components, components.Component{Name: "stream-coreos", Image: os.String()})
	_, err := components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Mode: components.Scratch, Release: r})
	require.ErrorContains(t, err, "component cluster-version-operator: no repository, and no image of the release that says")
	require.NotContains(t, err.Error(), "rhel-coreos")

	l.Components = append(l.Components, components.Component{Name: "cluster-version-operator", Containerfile: "FROM scratch\n"})
	plan, err := components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Mode: components.Scratch, Release: r})
	require.NoError(t, err)
	// What the list does not have is built of what the release was built of.
	require.Equal(t, [][]string{{"base", "builder", "cluster-version-operator"}, {"cli", "installer", "mco"}, {"artifacts"}}, names(plan.Batches))
	cli := plan.Batches[1][0]
	require.Equal(t, components.Source{Repository: "https://git.example/mco", Ref: "release-4.20", Commit: w.commit("mco")}, cli.Source)
	require.Equal(t, []components.Given{{Name: "stream-coreos", Image: os.String()}}, plan.Given)
	require.Empty(t, plan.Release)

	// Without a release, too.
	l = list(t, small)
	l.Components = append(l.Components[:4:4], components.Component{Name: "cli", Containerfile: "FROM scratch\n"})
	plan, err = components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Mode: components.Scratch, Minor: "4.21"})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"base", "builder", "cli"}, {"installer"}, {"artifacts"}}, names(plan.Batches))
	require.Equal(t, "release-4.21", plan.Batches[1][0].Source.Ref)
}

func TestPlanOnly(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	plan, err := components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r, Only: []string{"artifacts", "base"}})
	require.NoError(t, err)
	require.Equal(t, [][]string{{"base"}, {"artifacts"}}, names(plan.Batches))
	installer, err := r.Image("installer")
	require.NoError(t, err)
	require.Equal(t, components.Use{Image: ci + "ocp/4.22:installer", Reference: installer.String()}, plan.Batches[1][0].Uses[0])

	// One that the list has not: as the release's image was built.
	plan, err = components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r, Only: []string{"cli", "base"}})
	require.NoError(t, err)
	require.Equal(t, "release-4.20", plan.Batches[1][0].Source.Ref)

	_, err = components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r, Only: []string{"nonsense"}})
	require.ErrorContains(t, err, "component nonsense: neither the list nor the release has it")
	_, err = components.NewPlan(t.Context(), list(t, small), w.env(), &components.PlanOptions{Release: r, Only: []string{"installer"}})
	require.ErrorContains(t, err, "component installer: images/Dockerfile.ci line 1: image "+ci+"ocp/builder:rhel-9-golang-1.25-openshift-4.22: component builder: neither built nor in the release")
}

// TestPlanOfItself: an image can be built on the release's image of the same name.
func TestPlanOfItself(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	l := list(t, "components: [{name: cli, containerfile: \"FROM cli\", from: cli}]\n")
	plan, err := components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	cli, err := r.Image("cli")
	require.NoError(t, err)
	require.Equal(t, []components.Use{{Image: "cli", Reference: cli.String()}}, plan.Batches[0][0].Uses)

	// A list's own Containerfile names components as they are called.
	l = list(t, "components: [{name: x, containerfile: \"FROM scratch AS cli\\nFROM mco\\nCOPY --from=cli / /\\n\"}]\n")
	plan, err = components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	mco, err := r.Image("mco")
	require.NoError(t, err)
	require.Equal(t, []components.Use{{Image: "mco", Reference: mco.String()}}, plan.Batches[0][0].Uses)
}

func TestPlanForks(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	l := list(t, `ref: release-${MINOR}
images: [{match: "registry.ci.openshift.org/*/*:base", use: quay.example/centos:stream9}]
forks:
  - {repository: https://GIT.example/mco.git, use: https://fork.example/me/mco, ref: mine}
components: [{name: mco}]
`)
	plan, err := components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	require.Equal(t, components.Source{Repository: "https://fork.example/me/mco", Ref: "mine", Commit: w.commit("mco")}, plan.Batches[0][0].Source)

	// A fork without a branch of its own has that of the list, and not the commit.
	l.Forks[0].Ref = ""
	l.Components[0].Ref = ""
	plan, err = components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	require.Equal(t, "release-4.20", plan.Batches[0][0].Source.Ref)
}

func TestPlanFaults(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	w.write("circle", "a", "FROM b\n")
	w.write("circle", "b", "FROM scratch AS x\nFROM x\nCOPY --from=c /c /c\n")
	w.write("circle", "c", "FROM a\n")
	w.write("circle", "broken", "FROM\n")
	w.write("circle", "dir/file", "x")
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(w.sources, "circle", "link")))
	for _, tc := range []struct{ name, list, want string }{
		{"circle", `images: [{match: "*", use: "*"}]
components:
  - {name: a, repository: https://git.example/circle, ref: main, dockerfile: a}
  - {name: b, repository: https://git.example/circle, ref: main, dockerfile: b}
  - {name: c, repository: https://git.example/circle, ref: main, dockerfile: c}
`, "plan component a: built of itself: a of b of c of a"},
		{"itself", "components: [{name: a, containerfile: \"FROM x\", from: a}]\n", "built of itself: a of a"},
		{"all at once", `components:
  - {name: a, repository: https://git.example/none, ref: main}
  - {name: b, repository: https://git.example/circle, ref: main, dockerfile: broken}
`, "component b: broken: line 1"},
		{"no Dockerfile", "components: [{name: a, repository: https://git.example/circle, ref: main}]\n", "Dockerfile: no such file"},
		{"a folder", "components: [{name: a, repository: https://git.example/circle, ref: main, dockerfile: dir}]\n", "dir is no file"},
		{"a link out", "components: [{name: a, repository: https://git.example/circle, ref: main, dockerfile: link}]\n", "path escapes"},
		{"no image", "components: [{name: a, containerfile: \"FROM registry.example/none:1\"}]\n", "containerfile line 1: image registry.example/none:1"},
		{"bad image", "components: [{name: a, containerfile: \"FROM UPPER\"}]\n", "image UPPER: could not parse reference"},
		{"no branch", "components: [{name: a, repository: https://git.example/circle}]\n", "component a: neither ref nor commit"},
		{"other commit", "components: [{name: a, repository: https://git.example/circle, commit: \"" + strings.Repeat("0", 40) + "\"}]\n", "came for \"0000"},
		{"no repository", "components: [{name: a}]\n", "component a: no repository"},
		{"nothing", "ref: x\n", "no component to build"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := components.NewPlan(t.Context(), list(t, tc.list), w.env(), &components.PlanOptions{Release: r})
			require.ErrorContains(t, err, tc.want)
			if tc.name == "all at once" {
				require.ErrorContains(t, err, "component a: fetch https://git.example/none")
			}
		})
	}
	_, err := components.NewPlan(t.Context(), list(t, small), w.env(), nil)
	require.ErrorContains(t, err, "no release whose images are kept")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = components.NewPlan(ctx, list(t, small), w.env(), &components.PlanOptions{Release: r})
	require.ErrorIs(t, err, context.Canceled)
}

func TestDecodeListFaults(t *testing.T) {
	for text, want := range map[string]string{
		"componentz: []":                                                     "[3:1] unknown field",
		"components: [{name: A}]":                                            "components[0] (A).name",
		"components: [{name: a}, {name: a}]":                                 "components[1] (a).name: there twice",
		"components: [{name: a, image: x:1}]":                                "no pullspec by digest",
		"components: [{name: a, repository: --upload}]":                      "components[0] (a).repository: \"--upload\" is no URL",
		"components: [{name: a, ref: --x}]":                                  "ref: \"--x\" is no branch",
		"components: [{name: a, context: ../x}]":                             "context: \"../x\" is no path",
		"components: [{name: a, dockerfile: /etc/passwd}]":                   "dockerfile",
		"components: [{name: a, commit: abc}]":                               "commit",
		"components: [{name: a, args: {\"a b\": x}}]":                        "args: \"a b\"",
		"components: [{name: a, labels: {io.okd.streams.component.key: x}}]": "labels",
		"components: [{name: a, from: \"A B\"}]":                             "from",
		"components: [{name: a, containerfile: FROM x, dockerfile: y}]":      "containerfile: not with dockerfile",
		"components: [{name: a, repository: \"file:///x\", ref: y}]":         "a folder as it is",
		"images: [{match: x, use: \"*\"}]":                                   "images[0].use: no *",
		"images: [{match: \"\", use: x}]":                                    "images[0].match: empty",
		"images: [{match: x, use: \"A/:\"}]":                                 "images[0].use",
		"forks: [{repository: https://x/y, use: ext::sh}]":                   "forks[0].use",
		"args: {\"-x\": y}":                                                  "args: \"-x\"",
		"ref: ${NONSENSE}":                                                   "NONSENSE",
		"components: &x [{name: a}]":                                         "anchor",
	} {
		_, err := components.DecodeList(strings.NewReader("apiVersion: streams.okd.io/v1alpha1\nkind: Components\n" + text + "\n"))
		require.ErrorContains(t, err, want, text)
	}
	_, err := components.DecodeList(strings.NewReader("kind: Stream\n"))
	require.ErrorContains(t, err, "want streams.okd.io/v1alpha1, Components")
	_, err = components.DecodeList(strings.NewReader(strings.Repeat("#", components.MaxListSize+1)))
	require.ErrorContains(t, err, "more than")
}

func TestOKD(t *testing.T) {
	l, err := components.OKD()
	require.NoError(t, err)
	var built, tools []string
	for _, c := range l.Components {
		if c.Tool {
			tools = append(tools, c.Name)
		} else {
			built = append(built, c.Name)
		}
	}
	require.Equal(t, []string{"builder", "base"}, tools)
	require.Equal(t, []string{"machine-config-operator", "installer", "installer-artifacts", "baremetal-installer", "machine-os-images", "cluster-update-keys", "cluster-samples-operator", "operator-marketplace"}, built)
}

func TestDecodePlanFaults(t *testing.T) {
	const head = `{"version": 1, "mode": "scratch", "platform": "linux/amd64", `
	step := func(more string) string {
		return `{"name": "a", "created": "2026-01-01T00:00:00Z", "containerfile": "FROM x"` + more + `}`
	}
	for text, want := range map[string]string{
		`{}`:                          "version 0",
		`{"version": 1, "mode": "x"}`: "mode",
		`{"version": 1, "mode": "scratch", "platform": "linux"}`:                                              "platform",
		`{"version": 1, "mode": "replace", "platform": "linux/amd64"}`:                                        "release \"\"",
		head + `"batches": [[` + step("") + `, ` + step("") + `]]}`:                                           "there twice",
		head + `"given": [{"name": "a", "image": "x:1"}]}`:                                                    "no pullspec by digest",
		head + `"batches": [[` + step(`, "uses": [{"image": "x"}]`) + `]]}`:                                   "a component or a reference",
		head + `"batches": [[` + step(`, "uses": [{"image": "x", "component": "a"}]`) + `]]}`:                 "not built before it",
		head + `"batches": [[` + step(`, "uses": [{"image": "x", "reference": "x:1"}]`) + `]]}`:               "no pullspec by digest",
		head + `"batches": [[` + step(`, "source": {"repository": "https://x/y"}`) + `]]}`:                    "neither commit nor tree",
		head + `"batches": [[` + step(`, "source": {"repository": "https://x/y", "ref": "--x"}`) + `]]}`:      "no branch or tag",
		head + `"batches": [[` + step(`, "context": "../x"`) + `]]}`:                                          "context",
		head + `"batches": [[]], "nonsense": 1}`:                                                              "unknown field",
		head + `"batches": [[]]} x`:                                                                           "something follows",
		head + `"batches": [[` + step(`, "labels": {"io.openshift.build.commit.id": "x"}`) + `]]}`:            "not for a list to set",
		head + `"batches": [[` + strings.Replace(step(""), `"a"`, `"`+strings.Repeat("a", 91)+`"`, 1) + `]]}`: "no name for one",
	} {
		_, err := components.DecodePlan(strings.NewReader(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzDecodeList(f *testing.F) {
	mutants.Add(f,
		"apiVersion: streams.okd.io/v1alpha1\nkind: Components\n"+small,
		"apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents: [{name: a, containerfile: FROM x, from: y/z}]\n",
		"apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents: [{name: a, repository: https://example.org/a, context: a..b., dockerfile: ..c}]\n",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := fuzzbound.Read(t, 4096, components.DecodeList, data)
		if err != nil {
			return
		}
		for _, c := range l.Components {
			require.NotContains(t, strings.Split(c.Context+"/"+c.Dockerfile, "/"), "..") // a name may hold dots
			require.False(t, strings.HasPrefix(c.Repository, "-") || strings.HasPrefix(string(c.Ref), "-"))
		}
	})
}

func FuzzDecodePlan(f *testing.F) {
	mutants.Add(f, `{"version": 1, "mode": "scratch", "platform": "linux/amd64", "batches": [[{"name": "a", "created": "2026-01-01T00:00:00Z", "containerfile": "FROM x"}]]}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 512, components.DecodePlan, data)
		if err != nil {
			return
		}
		var one bytes.Buffer
		require.NoError(t, p.Encode(&one))
		text := one.String()
		again, err := components.DecodePlan(&one)
		require.NoError(t, err, text)
		var two bytes.Buffer
		require.NoError(t, again.Encode(&two))
		require.Equal(t, text, two.String())
	})
}

// TestPlanOKD plans OKD's own set on a release, of Dockerfiles that name images as
// those of OpenShift do.
func TestPlanOKD(t *testing.T) {
	w := newWorld(t)
	w.tag(w.image("quay.io/centos/centos", "etc/os-release", nil), "stream9")
	const goBuilder, base = ci + "ocp/builder:rhel-9-golang-1.25-openshift-4.20", ci + "ocp/4.20:base-rhel9"
	for file, text := range map[string]string{
		"images/builder/Dockerfile":                            "FROM quay.io/centos/centos:stream9\n",
		"images/base/Dockerfile":                               "FROM registry.example/other\n",
		"machine-config-operator/Dockerfile":                   "FROM " + ci + "ocp/builder:rhel-8-golang-1.25-openshift-4.20 AS rhel8\nARG TAGS=\"\"\nFROM " + goBuilder + " AS rhel9\nFROM " + base + "\nCOPY --from=rhel9 / /\nCOPY --from=rhel8 / /\n",
		"installer/images/installer/Dockerfile.ci":             "FROM " + ci + "ocp/4.20:installer-etcd-artifacts AS etcd\nFROM " + goBuilder + " AS builder\nARG TAGS=\"\"\nCOPY --from=etcd / /\nFROM " + base + "\nCOPY --from=builder / /\n",
		"installer/images/installer-artifacts/Dockerfile.rhel": "FROM " + goBuilder + " AS mac\nFROM " + ci + "ocp/4.20:installer\nCOPY --from=mac / /\n",
		"installer/images/baremetal/Dockerfile.ci":             "FROM " + goBuilder + " AS builder\nFROM " + base + "\nCOPY --from=builder / /\n",
		"machine-os-images/Dockerfile":                         "FROM " + ci + "ocp/4.20:installer AS builder\nFROM " + base + "\nCOPY --from=builder / /\n",
		"cluster-update-keys/Dockerfile":                       "FROM scratch\nCOPY manifests/ /manifests/\n",
		"cluster-samples-operator/Dockerfile.okd":              "FROM " + ci + "openshift/release:golang-1.18 AS builder\nFROM " + ci + "origin/4.10:base\nCOPY --from=builder / /\n",
		"operator-marketplace/Dockerfile.okd":                  "FROM " + ci + "openshift/release:rhel-9-release-golang-1.20-openshift-4.14 AS builder\nFROM " + ci + "origin/4.14:base\nCOPY --from=builder / /\n",
	} {
		repository, path, _ := strings.Cut(file, "/")
		w.write(repository, path, text)
	}
	r := w.release(map[string]map[string]string{"installer-etcd-artifacts": nil, "rhel-coreos": nil, "rhel-coreos-extensions": nil, "driver-toolkit": nil, "console": nil, "machine-config-operator": nil})
	l, err := components.OKD()
	require.NoError(t, err)
	os := w.image("registry.example/okd/os", "usr/bin/os", nil)
	l.Components = append(l.Components, components.Component{Name: "stream-coreos", Image: os.String()})
	plan, err := components.NewPlan(t.Context(), l, w.env(), &components.PlanOptions{Release: r})
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"base", "builder", "cluster-update-keys"},
		{"baremetal-installer", "cluster-samples-operator", "installer", "machine-config-operator", "operator-marketplace"},
		{"installer-artifacts", "machine-os-images"},
	}, names(plan.Batches))
	require.Equal(t, []string{"driver-toolkit", "rhel-coreos", "rhel-coreos-extensions"}, plan.Exclude)
	for _, s := range plan.Steps() {
		if !s.Tool {
			require.Equal(t, "release-4.20", s.Source.Ref, s.Name)
		}
		if s.Name == "machine-config-operator" {
			require.Equal(t, map[string]string{"TAGS": "scos"}, s.Args)
			require.Len(t, s.Uses, 3)
		}
	}
}
