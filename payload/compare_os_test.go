package payload_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
)

// osRelease is a release whose node image has these packages.
func osRelease(t *testing.T, w *world, version, packages string, more ...string) *payload.Release {
	t.Helper()
	put := func(tag, list string) {
		w.put(t, tag, imageSpec{
			labels: map[string]string{"io.openshift.metalayer": "true"},
			layers: [][]byte{tarOf(t, entry{name: "usr/share/openshift/base/meta.json", data: `{"rpmdb.pkglist":[` + list + `]}`})},
		})
		w.plain(t, tag+"-extensions", nil)
	}
	put("stream-coreos", packages)
	for i := 0; i < len(more); i += 2 {
		put(more[i], more[i+1])
	}
	spec := w.spec()
	spec.Version = version
	_, r := w.must(t, spec, nil)
	return r
}

// The packages of the node images of two releases, as a gate and in the change
// log.
func TestCompareOS(t *testing.T) {
	w := newWorld(t)
	from := osRelease(t, w, "4.20.0", `["kernel","0","6.12.0","9","x86_64"],["systemd","0","257","1","x86_64"],["bash<b>","0","5","1","x86_64"],["gone","0","1","1","noarch"]`, "old-coreos", `["a","0","1","1","x"]`)
	same, err := payload.CompareOS(t.Context(), w, from, from, nil)
	require.NoError(t, err)
	require.Empty(t, same)
	delete(w.components, "old-coreos")
	delete(w.components, "old-coreos-extensions")
	to := osRelease(t, w, "4.20.1", `["kernel","0","6.12.0","10","x86_64"],["systemd","0","256","1","x86_64"],["bash<b>","0","6","1","x86_64"],["new","1","1","1","noarch"]`, "new-coreos", `["a","0","1","1","x"]`)
	list, err := payload.CompareOS(t.Context(), w, from, to, nil)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "stream-coreos", list[0].Component)
	require.Equal(t, []container.VersionStep{{Name: "systemd", From: "257-1", To: "256-1"}}, list[0].Downgraded)
	require.ErrorIs(t, list[0].Err(), container.ErrRegression)
	require.ErrorContains(t, list[0].Err(), "payload: compare component stream-coreos: ")
	allowed, err := payload.CompareOS(t.Context(), w, from, to, &payload.CompareOSOptions{Regression: &container.RegressionOptions{Allowed: []string{"systemd"}}})
	require.NoError(t, err)
	require.NoError(t, allowed[0].Err())

	log, err := payload.NewChangeLog(t.Context(), from, to, nil)
	require.NoError(t, err)
	without, err := json.Marshal(log)
	require.NoError(t, err)
	require.NotContains(t, string(without), "osImages")
	log.OS = list
	data, err := json.Marshal(log)
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(string(without), "}"), string(data[:len(without)-1]), "what oc has is as it was")
	var got struct {
		OSImages []struct {
			Name   string
			Faults []struct{ Name, Reason string }
			Same   int
		}
	}
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, "stream-coreos", got.OSImages[0].Name)
	require.Equal(t, "systemd", got.OSImages[0].Faults[0].Name)
	var markdown, html bytes.Buffer
	require.NoError(t, log.WriteMarkdown(&markdown))
	require.NoError(t, log.WriteHTML(&html))
	require.Contains(t, markdown.String(), "## Packages of stream-coreos\n\n- **systemd**: downgraded")
	require.Contains(t, html.String(), "<h2>Packages of stream-coreos</h2>\n<ul>\n<li>systemd: downgraded")
	require.Contains(t, html.String(), "<tr><td>kernel</td><td>6.12.0-9</td><td>6.12.0-10</td></tr>")
	require.Contains(t, html.String(), "bash&lt;b&gt;")
	require.NotContains(t, html.String()+markdown.String(), "<b>")

	// One that cannot be read does not keep the others from it.
	w.components = map[string]name.Reference{payload.BaseTag: w.components[payload.BaseTag]}
	broken := osRelease(t, w, "4.20.2", `["kernel"]`, "old-coreos", `["a","0","2","1","x"]`)
	list, err = payload.CompareOS(t.Context(), w, from, broken, nil)
	require.ErrorContains(t, err, "component stream-coreos of 4.20.2: ")
	require.Len(t, list, 1)
	require.Equal(t, "old-coreos", list[0].Component)
}
