package payload_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

func folderRelease(t testing.TB, tags string, manifests map[string]string) *payload.Release {
	t.Helper()
	fsys := fstest.MapFS{
		"image-references": {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"1.0.0"},"spec":{"tags":[` + tags + `]}}`)},
		"release-metadata": {Data: []byte(`{"kind":"cincinnati-metadata-v0","version":"1.0.0","previous":[]}`)},
	}
	for name, data := range manifests {
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
	}
	r, err := payload.OpenFolder(t.Context(), fsys)
	require.NoError(t, err)
	return r
}

func TestSources(t *testing.T) {
	tag := func(name, location, commit string) string {
		return `{"name":"` + name + `","annotations":{"io.openshift.build.source-location":"` + location + `","io.openshift.build.commit.id":"` + commit + `"}}`
	}
	r := folderRelease(t, tag("a", "https://github.com/okd/b", "2222222")+","+tag("b", "git@github.com:okd/a.git", "1111111")+","+tag("c", "https://github.com/okd/b", "2222222")+","+
		tag("d", "https://github.com/okd/b", "1111111")+","+tag("e", "--upload-pack=x", "1111111")+","+tag("f", "https://github.com/okd/../x", "1111111")+","+
		tag("g", "https://github.com/okd/b", "--all")+","+tag("i", "https://../okd", "1111111")+`,{"name":"h"}`, nil)
	list, unknown := r.Sources()
	require.Equal(t, []payload.Source{
		{Host: "github.com", Path: "okd/a", Commit: "1111111", Components: []string{"b"}},
		{Host: "github.com", Path: "okd/b", Commit: "1111111", Components: []string{"d"}},
		{Host: "github.com", Path: "okd/b", Commit: "2222222", Components: []string{"a", "c"}},
	}, list)
	require.Equal(t, []string{"e", "f", "g", "i", "h"}, unknown)
	require.Equal(t, "https://github.com/okd/a", list[0].URL())
}

// What is in no capability, or in another, goes into one that is not enabled.
func TestImplicitCapabilities(t *testing.T) {
	object := func(name, capability, more string) string {
		text := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n" + more
		if capability != "" {
			text += "    capability.openshift.io/name: " + capability + "\n"
		}
		return text
	}
	const gated = "    release.openshift.io/feature-set: TechPreviewNoUpgrade\n"
	from := folderRelease(t, "", map[string]string{
		"0000_1_a.yaml": object("in-none", "", ""), "0000_2_b.yaml": object("in-one", "Console", ""), "0000_3_c.yaml": object("not-applied", "Storage", ""),
		"0000_4_d.yaml": object("gated", "", gated), "0000_5_e.yaml": object("gone", "", ""), "0000_6_f.yaml": object("kept", "", ""),
	})
	to := folderRelease(t, "", map[string]string{
		"0000_1_x.yaml": object("in-none", "Build+Console", ""), "0000_2_b.yaml": object("in-one", "Console+Ingress+DeploymentConfig", ""), "0000_3_c.yaml": object("not-applied", "Storage+CSISnapshot", ""),
		"0000_4_d.yaml": object("gated", "NodeTuning", gated), "0000_6_f.yaml": object("kept", "Console", ""), "0000_7_g.yaml": object("new", "Insights", ""),
	})
	got, err := (&payload.Cluster{Capabilities: []string{"Console"}}).ImplicitCapabilities(t.Context(), from, to)
	require.NoError(t, err)
	require.Equal(t, []string{"Build", "DeploymentConfig", "Ingress"}, got)

	// With these, all that ran goes on.
	after := &payload.Cluster{Capabilities: append(got, "Console")}
	for o, err := range to.Objects(t.Context()) {
		require.NoError(t, err)
		switch o.Name {
		case "in-none", "in-one", "kept":
			require.NoError(t, after.Includes(o), o.Name)
		}
	}
	got, err = after.ImplicitCapabilities(t.Context(), from, to)
	require.NoError(t, err)
	require.Empty(t, got)

	got, err = (&payload.Cluster{Capabilities: []string{"Console"}, FeatureSet: "TechPreviewNoUpgrade"}).ImplicitCapabilities(t.Context(), from, to)
	require.NoError(t, err)
	require.Equal(t, []string{"Build", "DeploymentConfig", "Ingress", "NodeTuning"}, got)
	got, err = (&payload.Cluster{}).ImplicitCapabilities(t.Context(), from, to)
	require.NoError(t, err)
	require.Nil(t, got, "all are enabled")
	got, err = (&payload.Cluster{Capabilities: []string{}, Overrides: []payload.Override{{Kind: "ConfigMap", Name: "in-none"}}}).ImplicitCapabilities(t.Context(), from, to)
	require.NoError(t, err)
	require.Equal(t, []string{"Console"}, got, "what is not managed is not applied")

	broken := folderRelease(t, "", map[string]string{"0000_1_a.yaml": "x"})
	_, err = (&payload.Cluster{Capabilities: []string{}}).ImplicitCapabilities(t.Context(), broken, to)
	require.Error(t, err)
	_, err = (&payload.Cluster{Capabilities: []string{}}).ImplicitCapabilities(t.Context(), from, broken)
	require.Error(t, err)
}
