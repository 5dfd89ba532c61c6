package payload_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
)

func objectsOf(t testing.TB, r *payload.Release) []*payload.Object {
	t.Helper()
	var out []*payload.Object
	for o, err := range r.Objects(t.Context()) {
		require.NoError(t, err)
		out = append(out, o)
	}
	return out
}

func TestObjects(t *testing.T) {
	r, err := openEntries(t, releaseEntries(
		entry{name: "release-manifests/b.yaml", data: "# a comment\n---\n---\n" + namespace("one") + "--- \napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two, namespace: ns, annotations: {k: v}}\n"},
		entry{name: "release-manifests/a.json", data: `{"kind":"A","apiVersion":"g.io/v1","metadata":{"name":"x"}}`},
		entry{name: "release-manifests/c.txt", data: "nothing"},
		entry{name: "release-manifests/d.yml", data: "---\n"},
	)...)
	require.NoError(t, err)
	list := objectsOf(t, r)
	require.Len(t, list, 3)
	require.Equal(t, []string{"A.g.io x", "Namespace one", "Deployment.apps ns/two"}, []string{list[0].String(), list[1].String(), list[2].String()})
	require.Equal(t, []int{1, 3, 8}, []int{list[0].Line, list[1].Line, list[2].Line})
	require.Equal(t, "b.yaml", list[2].File)
	require.Equal(t, map[string]string{"k": "v"}, list[2].Annotations)
	require.Equal(t, "apps", list[2].Group())
	require.JSONEq(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"two","namespace":"ns","annotations":{"k":"v"}}}`, string(list[2].JSON))
	for range r.Objects(t.Context()) {
		break // may be left early
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range r.Objects(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestObjectsRefused(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"no kind":       {"metadata: {name: a}\n", "a.yaml:1: object without kind"},
		"no name":       {"kind: A\n", "a.yaml:1: object without a name"},
		"list":          {namespace("a") + "---\n- 1\n", "a.yaml:5: not a mapping"},
		"no YAML":       {"a: [\n", "a.yaml:1: "},
		"twice":         {namespace("a") + "---\n" + namespace("a"), "a.yaml:5: Namespace a is in line 1 already"},
		"many":          {strings.Repeat("---\n", payload.MaxDocuments+1), "more than 4096 documents"},
		"large":         {namespace("a") + strings.Repeat("#", payload.MaxYAMLSize), "YAML document of"},
		"aliases":       {"a: &a " + strings.Repeat("x", 10_000) + "\nb: [" + strings.Repeat("*a,", 100) + "]\n", "a.yaml:1: YAML document: aliases repeat too much"},
		"a number name": {"kind: A\nmetadata: {name: 1}\n", "a.yaml:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a.yaml", data: c.data}, entry{name: "release-manifests/b.yaml", data: namespace("b")})...)
			require.NoError(t, err)
			var last error
			for o, err := range r.Objects(t.Context()) {
				require.NoError(t, last, "nothing follows an error")
				if last = err; err == nil {
					require.Equal(t, "a.yaml", o.File)
				}
			}
			require.ErrorContains(t, last, c.want)
			var e *payload.Error
			require.ErrorAs(t, last, &e)
		})
	}
}

func TestCluster(t *testing.T) {
	const profile = "include.release.openshift.io/self-managed-high-availability"
	with := func(pairs ...string) map[string]string {
		m := map[string]string{profile: "true"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	const (
		set, gate = "release.openshift.io/feature-set", "release.openshift.io/feature-gate"
		major     = "release.openshift.io/major-version"
		capable   = "capability.openshift.io/name"
	)
	crd := "CustomResourceDefinition.apiextensions.k8s.io"
	for _, c := range []struct {
		name        string
		cluster     payload.Cluster
		annotations map[string]string
		kind        string // and group
		want        string // "": included
	}{
		{name: "included", annotations: with()},
		{name: "no annotations", want: "no annotations"},
		{name: "profile not set", annotations: map[string]string{"a": "b"}, want: profile + " is not set"},
		{name: "profile false", annotations: map[string]string{profile: "false"}, want: profile + "=false"},
		{name: "profile of the config operator", annotations: map[string]string{profile: "false-except-for-the-config-operator"}, want: "false-except-for"},
		{name: "another profile", cluster: payload.Cluster{Profile: "single-node-developer"}, annotations: with(), want: "single-node-developer is not set"},
		{name: "another profile, set", cluster: payload.Cluster{Profile: "ibm-cloud-managed"}, annotations: map[string]string{"include.release.openshift.io/ibm-cloud-managed": "true"}},
		{name: "excluded", cluster: payload.Cluster{Exclude: "hosted"}, annotations: with("exclude.release.openshift.io/hosted", "true"), want: "exclude.release.openshift.io/hosted=true"},
		{name: "excluded elsewhere", annotations: with("exclude.release.openshift.io/hosted", "true")},
		{name: "exclude is not true", cluster: payload.Cluster{Exclude: "hosted"}, annotations: with("exclude.release.openshift.io/hosted", "yes")},

		{name: "default set", annotations: with(set, "Default")},
		{name: "set in a list", cluster: payload.Cluster{FeatureSet: "DevPreviewNoUpgrade"}, annotations: with(set, "TechPreviewNoUpgrade, DevPreviewNoUpgrade")},
		{name: "set of another", annotations: with(set, "TechPreviewNoUpgrade"), want: "does not have Default"},
		{name: "no set on a preview", cluster: payload.Cluster{FeatureSet: "TechPreviewNoUpgrade"}, annotations: with()},
		{name: "unknown set", annotations: with(set, "Default,Other"), want: `unknown value, "Other"`},
		{name: "unknown set of the cluster", cluster: payload.Cluster{FeatureSet: "Other"}, annotations: with(set, "Other"), want: "unknown value"},
		{name: "empty set", annotations: with(set, ""), want: "unknown value"},

		{name: "gate on", cluster: payload.Cluster{FeatureGates: []string{"A"}}, annotations: with(gate, "A")},
		{name: "gate off", annotations: with(gate, "A"), want: "feature gate A is off"},
		{name: "gate must be off", cluster: payload.Cluster{FeatureGates: []string{"A"}}, annotations: with(gate, "-A"), want: "feature gate A is on"},
		{name: "gate is off as it must", annotations: with(gate, "-A")},
		{name: "several gates", cluster: payload.Cluster{FeatureGates: []string{"A", "B"}}, annotations: with(gate, "A,-C,B")},
		{name: "one of several gates", cluster: payload.Cluster{FeatureGates: []string{"A"}}, annotations: with(gate, "A,B"), want: "feature gate B is off"},
		{name: "set and gate", cluster: payload.Cluster{FeatureGates: []string{"A"}}, annotations: with(gate, "A", set, "Default"), want: "both set"},

		{name: "major", kind: crd, cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "4,5")},
		{name: "another major", kind: crd, cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "5"), want: "does not have 4"},
		{name: "major excluded", kind: "FeatureGate.config.openshift.io", cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "-4"), want: "excludes 4"},
		{name: "another major excluded", kind: crd, cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "-5")},
		{name: "major malformed", kind: crd, cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "v4"), want: "invalid value"},
		{name: "major of another kind", kind: "Deployment.apps", cluster: payload.Cluster{MajorVersion: 4}, annotations: with(major, "5")},
		{name: "major not known", kind: crd, annotations: with(major, "5")},

		{name: "capability", cluster: payload.Cluster{Capabilities: []string{"A", "B"}}, annotations: with(capable, "A+B")},
		{name: "capability missing", cluster: payload.Cluster{Capabilities: []string{"A"}}, annotations: with(capable, "A+B"), want: "capability B is not enabled"},
		{name: "no capabilities", cluster: payload.Cluster{Capabilities: []string{}}, annotations: with(capable, "A"), want: "capability A is not enabled"},
		{name: "all capabilities", annotations: with(capable, "A")},

		{name: "override", kind: "Deployment.apps", cluster: payload.Cluster{Overrides: []payload.Override{{Group: "apps", Kind: "Deployment", Namespace: "n", Name: "x"}}}, annotations: with(), want: "unmanaged"},
		{name: "override of another", kind: "Deployment.apps", cluster: payload.Cluster{Overrides: []payload.Override{{Group: "apps", Kind: "Deployment", Namespace: "m", Name: "x"}}}, annotations: with()},

		// The order of reasons.
		{name: "excluded before set", cluster: payload.Cluster{Exclude: "h"}, annotations: with(set, "Other", "exclude.release.openshift.io/h", "true"), want: "exclude."},
		{name: "set before profile", annotations: map[string]string{set: "TechPreviewNoUpgrade"}, want: "does not have Default"},
		{name: "profile before capability", cluster: payload.Cluster{Capabilities: []string{}}, annotations: map[string]string{capable: "A"}, want: "is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, group, _ := strings.Cut(c.kind, ".")
			o := &payload.Object{Kind: kind, APIVersion: group + "/v1", Namespace: "n", Name: "x", Annotations: c.annotations}
			err := c.cluster.Includes(o)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			var e *payload.Exclusion
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Reason, c.want)
		})
	}
}

// cvoRelease opens one of the payloads that the cluster-version operator is
// tested with.
func cvoRelease(t *testing.T, elem ...string) *payload.Release {
	t.Helper()
	r, err := payload.OpenFolder(t.Context(), rootOf(t, interop.SharedData(t, append([]string{"payload", "cvo", "testdata"}, elem...)...)))
	require.NoError(t, err)
	return r
}

// included maps each object to why it is excluded, "" if it is not.
func included(t *testing.T, r *payload.Release, c payload.Cluster) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, o := range objectsOf(t, r) {
		out[o.File] = ""
		if err := c.Includes(o); err != nil {
			out[o.File] = err.(*payload.Exclusion).Reason
		}
	}
	return out
}

func TestOperatorPayloadInclusion(t *testing.T) {
	// The file without an extension is not loaded, the one called exclude is
	// left out where the identifier is the one that it names.
	got := included(t, cvoRelease(t, "payloadtest"), payload.Cluster{Exclude: "exclude-test"})
	require.Equal(t, []string{"0000_10_a_file.json", "0000_10_a_file.yaml", "0000_10_a_file.yml", "0000_20_a_exclude.yml"}, slices.Sorted(maps.Keys(got)))
	for file, reason := range got {
		require.Equal(t, strings.Contains(file, "exclude"), reason != "", file)
	}
	for _, dir := range []string{"payloadtest-2", "payloadtest-3", "paralleltest", "payloadtestarch"} {
		for file, reason := range included(t, cvoRelease(t, dir), payload.Cluster{}) {
			require.Empty(t, reason, "%s/%s", dir, file)
		}
	}
}

// The operator's own manifests: what a cluster of each kind gets of them.
func TestOperatorInstallInclusion(t *testing.T) {
	dir := interop.SharedData(t, "payload", "cvo", "install")
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	entries := releaseEntries()
	for _, f := range list {
		if f.Name() == "image-references" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		entries = append(entries, entry{name: "release-manifests/" + f.Name(), data: strings.ReplaceAll(string(data), "{{", "")})
	}
	r, err := openEntries(t, entries...)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		cluster payload.Cluster
		out     []string // parts of names of what is left out
	}{
		"usual":        {payload.Cluster{}, []string{"TechPreview", "DevPreview", "lightspeed"}},
		"tech preview": {payload.Cluster{FeatureSet: "TechPreviewNoUpgrade"}, []string{"DevPreview"}},
		"dev preview":  {payload.Cluster{FeatureSet: "DevPreviewNoUpgrade"}, []string{"TechPreview"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for file, reason := range included(t, r, c.cluster) {
				for _, part := range []string{"TechPreview", "DevPreview"} {
					if strings.Contains(file, part) {
						require.Equal(t, slices.Contains(c.out, part), reason != "", "%s: %s", file, reason)
						n++
					}
				}
			}
			require.Equal(t, 2, n)
		})
	}
	n := 0
	for _, o := range objectsOf(t, r) {
		if err := (&payload.Cluster{Exclude: "internal-openshift-hosted"}).Includes(o); err != nil && strings.Contains(err.Error(), "exclude.") {
			n++
		}
	}
	require.Equal(t, 7, n, "as many as have the annotation")
}

// Each document of the capability payloads is included exactly if all its
// capabilities are enabled.
func TestOperatorCapabilityPayloads(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(interop.SharedData(t, "payload", "cvo", "testdata"), "payloadcapabilitytest", "*", "*", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	n := 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a.yaml", data: string(data)})...)
		require.NoError(t, err)
		for _, o := range objectsOf(t, r) {
			o.Annotations["include.release.openshift.io/"+payload.DefaultProfile] = "true"
			value, ok := o.Annotations["capability.openshift.io/name"]
			if !ok {
				require.NoError(t, (&payload.Cluster{Capabilities: []string{}}).Includes(o))
				continue
			}
			n++
			all := strings.Split(value, "+")
			require.NoError(t, (&payload.Cluster{Capabilities: all}).Includes(o), path)
			for i := range all {
				require.Error(t, (&payload.Cluster{Capabilities: slices.Delete(slices.Clone(all), i, i+1)}).Includes(o), path)
			}
		}
	}
	require.Greater(t, n, 20)
}

func FuzzObjects(f *testing.F) {
	f.Add([]byte(namespace("a")+"---\n"+namespace("b")), false)
	for doc := range mutants.Of(`{"kind":"A","metadata":{"name":"x","annotations":{"release.openshift.io/feature-gate":"-A,B"}}}`, `{"kind":"List","items":[{"kind":"A","apiVersion":"v1","metadata":{"name":"x"}}]}`) {
		f.Add([]byte(doc), true)
	}
	f.Add([]byte("kind: A\nmetadata: {name: a, annotations: {release.openshift.io/major-version: '-4,5'}}\n"), false)
	f.Add([]byte("kind: A\nmetadata: {name: a}\na: &a ["+strings.Repeat("{},", 300)+"]\nb: ["+strings.Repeat("*a,", 90)+"]\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		if len(data) > 16<<10 {
			return
		}
		name := "release-manifests/a.yaml"
		if isJSON {
			name = "release-manifests/a.json"
		}
		r, err := openFuzzed(t, name, data)
		require.NoError(t, err)
		fuzzbound.Linear(t, len(data), 2000, func() {
			for range r.Objects(t.Context()) {
			}
		})
		for o, err := range r.Objects(t.Context()) {
			if err != nil {
				break
			}
			require.NotEmpty(t, o.Kind)
			require.NotEmpty(t, o.Name)
			_ = (&payload.Cluster{MajorVersion: 4, Capabilities: []string{"a"}}).Includes(o)
		}
	})
}
