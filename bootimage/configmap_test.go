package bootimage_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

func encoded(t testing.TB, c *bootimage.ConfigMap) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, c.Encode(&b))
	return b.String()
}

// TestRealConfigMaps reads the ConfigMaps of releases and writes them again.
func TestRealConfigMaps(t *testing.T) {
	for name, tt := range map[string]struct {
		stream string
		names  []string
		faults string // of a payload's
	}{
		"hypershift-4.8-installer-coreos-bootimages.yaml":  {"rhcos-4.8", nil, ""},
		"hypershift-4.10-installer-coreos-bootimages.yaml": {"rhcos-4.10", nil, ""},
		"derived-scos-coreos-bootimages.yaml":              {"c10s", []string{""}, ""},
		"node-joiner-0020_coreos-bootimages-cm.yaml": {"stable", nil, `data.releaseVersion: missing
data.stream.architectures.x86_64.artifacts.metal.formats.iso.disk.location: "<not-used>" is not an address
data.stream.architectures.x86_64.artifacts.metal.formats.iso.disk.location: does not have the release 39.20231101.3.0 in it
data.stream.metadata.last-modified: missing
metadata.annotations["include.release.openshift.io/ibm-cloud-managed"]: missing: not every cluster gets the ConfigMap
metadata.annotations["include.release.openshift.io/self-managed-high-availability"]: missing: not every cluster gets the ConfigMap
metadata.annotations["include.release.openshift.io/single-node-developer"]: missing: not every cluster gets the ConfigMap`},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(interop.SharedData(t, "bootimage", "configmap"), name))
			require.NoError(t, err)
			c, err := bootimage.DecodeConfigMap(bytes.NewReader(data))
			require.NoError(t, err)
			require.Equal(t, tt.names, c.Names())
			s, err := c.Pick("")
			require.NoError(t, err)
			require.Equal(t, tt.stream, s.Stream)
			require.Equal(t, tt.faults, strings.ReplaceAll(errorText(bootimage.ValidateConfigMap(c, nil)), "bootimage: coreos-bootimages: ", ""))

			written := encoded(t, c)
			require.Equal(t, string(data), written)
			// An edit changes only what it edits.
			was := c.ReleaseVersion
			c.ReleaseVersion, c.MCOVersionHash = "9.9.9", "h"
			changed := encoded(t, c)
			lines := strings.SplitAfter(string(data), "\n")
			for line := range strings.Lines(changed) {
				if strings.HasPrefix(line, "  releaseVersion:") || strings.HasPrefix(line, "  MCOVersionHash:") {
					continue
				}
				if lines[0] == "  releaseVersion: "+was+"\n" {
					lines = lines[1:]
				}
				require.Equal(t, strings.TrimSuffix(lines[0], "\n")+"\n", line)
				lines = lines[1:]
			}
			c.ReleaseVersion, c.MCOVersionHash = was, ""
			require.Equal(t, string(data), encoded(t, c))
			require.NoError(t, c.Stream.Edit(func(s *streammd.Stream) error { s.Metadata.LastModified = "2027-01-01T00:00:00Z"; return nil }))
			changed = encoded(t, c)
			read, err := bootimage.DecodeConfigMap(strings.NewReader(changed))
			require.NoError(t, err)
			require.Equal(t, string(c.Stream.Bytes()), string(read.Stream.Bytes()))
			require.Equal(t, strings.Contains(string(data), "creationTimestamp: null"), strings.Contains(changed, "creationTimestamp: null"))
			c, err = bootimage.DecodeConfigMap(bytes.NewReader(data))
			require.NoError(t, err)
			written = encoded(t, c)
			again, err := bootimage.DecodeConfigMap(strings.NewReader(written))
			require.NoError(t, err)
			require.Equal(t, written, encoded(t, again))
		})
	}
}

// TestConfigMapOfInstaller makes the ConfigMaps that the installer's build makes
// of its pins.
func TestConfigMapOfInstaller(t *testing.T) {
	dir := interop.SharedData(t, "bootimage", "installer", "main")
	pin := func(name string) *bootimage.Document[streammd.Stream] {
		d := streamOf(t, filepath.Join(dir, name+".json"))
		market, err := os.ReadFile(filepath.Join(dir, "marketplace", name+".json"))
		require.NoError(t, err)
		require.NoError(t, bootimage.AddMarketplace(d, market))
		return d
	}
	nine, ten := pin("coreos-rhel-9"), pin("coreos-rhel-10")
	offers := 0
	for _, e := range bootimage.Entries(nine.Value()) {
		if e.Platform == "azure-marketplace" {
			offers++
			require.Equal(t, 3, strings.Count(e.Image, ":"), e.Image)
		}
	}
	require.Greater(t, offers, 8)
	c, err := bootimage.NewConfigMap(bootimage.UnreleasedVersion, nine, &bootimage.ConfigMapOptions{
		Streams: map[string]*bootimage.Document[streammd.Stream]{"rhel-9": nine, "rhel-10": ten},
	})
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateConfigMap(c, &bootimage.ConfigMapCheck{Release: bootimage.UnreleasedVersion}))
	again, err := bootimage.DecodeConfigMap(strings.NewReader(encoded(t, c)))
	require.NoError(t, err)
	require.Equal(t, []string{"rhel-10", "rhel-9"}, again.Names())
	for name, want := range map[string]*bootimage.Document[streammd.Stream]{"rhel-9": nine, "rhel-10": ten, "": nine} {
		got, err := again.Pick(name)
		require.NoError(t, err)
		require.Equal(t, want.Value(), got)
	}

	scos := streamOf(t, filepath.Join(dir, "scos.json"))
	okd, err := bootimage.NewConfigMap("5.0.0-okd-scos.0", scos, &bootimage.ConfigMapOptions{Streams: map[string]*bootimage.Document[streammd.Stream]{"": scos}})
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateConfigMap(okd, nil))
	market, err := os.ReadFile(filepath.Join(dir, "marketplace", "coreos-rhel-9.json"))
	require.NoError(t, err)
	require.NoError(t, bootimage.AddMarketplace(scos, market))
}

const smallConfigMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: coreos-bootimages, namespace: x, uid: "1"}
data:
  releaseVersion: 5.0.0
  more: kept
  streams: '{"": {"stream": "own", "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "architectures": {"x86_64": {"artifacts": {}}}}}'
`

func TestDecodeConfigMap(t *testing.T) {
	c, err := bootimage.DecodeConfigMap(strings.NewReader(smallConfigMap))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"more": "kept"}, c.Other)
	s, err := c.Pick("")
	require.NoError(t, err)
	require.Equal(t, "own", s.Stream)
	_, err = c.Pick("rhel-9")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, `there are [""]`)
	require.Contains(t, encoded(t, c), "more: kept")

	fault := func(opts *bootimage.ConfigMapCheck) string { return errorText(bootimage.ValidateConfigMap(c, opts)) }
	require.Contains(t, fault(nil), "data.stream: missing; what is older than 4.22 reads nothing else")
	require.Contains(t, fault(&bootimage.ConfigMapCheck{Release: "5.0.1"}), "data.releaseVersion: is 5.0.0, want 5.0.1")
	require.Contains(t, fault(&bootimage.ConfigMapCheck{Cluster: true}), "no control plane has rolled out")
	c.MCOReleaseImageVersion, c.MCOVersionHash = "4.22.0", "h"
	require.Contains(t, fault(&bootimage.ConfigMapCheck{Cluster: true}), "an update is under way")
	c.Stream = small(t)
	require.Contains(t, fault(nil), `the default stream is none of [""]`)

	for name, tt := range map[string]struct{ old, new, want string }{
		"kind":       {"kind: ConfigMap", "kind: Secret", `kind: "Secret" of "v1" is not a ConfigMap`},
		"name":       {"name: coreos-bootimages", "name: other", `metadata.name: "other" is not coreos-bootimages`},
		"no stream":  {"  streams: ", "  x: ", "data: neither stream nor streams"},
		"twice":      {"  more: kept", "  more: kept\n  more: again", "already set in map"},
		"type":       {"more: kept", "more: {a: 1}", "data: want string, got object"},
		"json":       {`"own", `, `"own",, `, "data.streams: line 1"},
		"in stream":  {`"stream": "own"`, `"stream": ""`, `data.streams[""].stream: missing`},
		"no streams": {`'{"": {"stream": "own", "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "architectures": {"x86_64": {"artifacts": {}}}}}'`, "'{}'", "data.streams: no stream"},
		"yaml":       {"data:", "data: [", "did not find"},
		"aliases":    {"  more: kept", "  more: &a " + strings.Repeat("x", 10_000) + strings.Repeat("\n  more: *a", 100), "aliases repeat too much"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootimage.DecodeConfigMap(strings.NewReader(strings.Replace(smallConfigMap, tt.old, tt.new, 1)))
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "bootimage: coreos-bootimages: ")
		})
	}
	_, err = bootimage.DecodeConfigMap(strings.NewReader(strings.Repeat("#", bootimage.MaxDocumentSize+1)))
	require.ErrorContains(t, err, "more than 8388608 bytes")
	_, err = bootimage.NewConfigMap("", small(t), nil)
	require.Error(t, err)
	require.ErrorIs(t, bootimage.AddMarketplace(small(t), []byte(`{"s390x": {}}`)), fs.ErrNotExist)
	require.ErrorContains(t, bootimage.AddMarketplace(small(t), []byte(`{"s390x": []}`)), "marketplace")
}

// TestEditConfigMap changes texts of objects in several layouts, of which all else stays.
func TestEditConfigMap(t *testing.T) {
	const stream = `{"stream": "own", "metadata": {"last-modified": "2026-11-25T20:54:07Z"}, "architectures": {"x86_64": {"artifacts": {}}}}`
	const block = `# of a cluster
apiVersion: v1
kind: ConfigMap
metadata:
  uid: "1"
  name: coreos-bootimages
  namespace: other # not where it belongs
  labels: {a: b}
  annotations:
    own: "1"

  generation: 12345678901234567890
data:
    'more': kept # as it is
    stream: |
      ` + stream + `

    releaseVersion: 5.0.0
immutable: false
`
	flow := `{apiVersion: v1, kind: ConfigMap, metadata: {name: coreos-bootimages, uid: "1", generation: 1234567890123456789}, data: {more: kept, releaseVersion: 5.0.0, stream: '` + stream + `'}}`
	object := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coreos-bootimages", "uid": "1", "generation": 1.0}, "data": {"more": "kept", "releaseVersion": "5.0.0", "stream": ` + strconv.Quote(stream) + "}}\n"
	edit := func(t *testing.T, text string) string {
		c, err := bootimage.DecodeConfigMap(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, text, encoded(t, c))
		c.ReleaseVersion, c.MCOVersionHash = "5.0.1", "h"
		delete(c.Other, "more")
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations["own"] = "2"
		changed := encoded(t, c)
		again, err := bootimage.DecodeConfigMap(strings.NewReader(changed))
		require.NoError(t, err)
		require.Equal(t, []string{"5.0.1", "h", "2"}, []string{again.ReleaseVersion, again.MCOVersionHash, again.Annotations["own"]})
		require.Empty(t, again.Other)
		require.Equal(t, stream, strings.TrimSpace(string(again.Stream.Bytes())))
		return changed
	}
	require.Equal(t, strings.NewReplacer("    'more': kept # as it is\n", "", "5.0.0\n", "5.0.1\n    MCOVersionHash: h\n", `own: "1"`, `own: "2"`).Replace(block), edit(t, block))
	changed := edit(t, flow)
	require.Contains(t, changed, `uid: "1"`)
	require.Contains(t, changed, "generation: 1234567890123456789\n")
	require.Equal(t, strings.NewReplacer(`"more": "kept", `, "", "5.0.0", "5.0.1", strconv.Quote(stream), strconv.Quote(stream)+`, "MCOVersionHash": "h"`, `1.0`, `1.0, "annotations": {"own": "2"}`).Replace(object), edit(t, object))
}

func ExampleNewConfigMap() {
	stream, err := bootimage.DecodeStream(strings.NewReader(published))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := bootimage.AddMarketplace(stream, []byte(`{"x86_64": {"azure": {"no-purchase-plan": {"hyperVGen2": {"publisher": "p", "offer": "o", "sku": "s", "version": "1"}}}}}`)); err != nil {
		fmt.Println(err)
		return
	}
	c, err := bootimage.NewConfigMap("5.0.0-okd-scos.0", stream, &bootimage.ConfigMapOptions{
		Streams: map[string]*bootimage.Document[streammd.Stream]{"": stream},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var b bytes.Buffer
	if err := c.Encode(&b); err != nil {
		fmt.Println(err)
		return
	}
	again, err := bootimage.DecodeConfigMap(&b)
	if err != nil {
		fmt.Println(err)
		return
	}
	picked, err := again.Pick("")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.ReleaseVersion, picked.Stream, len(again.Names()), bootimage.ValidateConfigMap(again, nil))
	// Output: 5.0.0-okd-scos.0 own 1 <nil>
}

func FuzzDecodeConfigMap(f *testing.F) {
	mutants.Add(f,
		smallConfigMap,
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coreos-bootimages"}, "data": {"stream": "{\"stream\": \"s\"}"}}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := fuzzbound.Read(t, 4096, bootimage.DecodeConfigMap, data)
		if err != nil {
			return
		}
		_ = bootimage.ValidateConfigMap(c, &bootimage.ConfigMapCheck{Cluster: true})
		written := encoded(t, c)
		again, err := bootimage.DecodeConfigMap(strings.NewReader(written))
		require.NoError(t, err)
		require.Equal(t, written, encoded(t, again))
		// A change is there, and nothing else.
		c.ReleaseVersion = "1.2.3"
		again, err = bootimage.DecodeConfigMap(strings.NewReader(encoded(t, c)))
		require.NoError(t, err)
		require.Equal(t, "1.2.3", again.ReleaseVersion)
		require.Equal(t, c.Other, again.Other)
		require.Equal(t, c.Annotations, again.Annotations)
	})
}
