package bootimage_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
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
			if strings.HasPrefix(name, "node") {
				require.Contains(t, written, `"location": "<not-used>"`)
			} else {
				require.Equal(t, strings.Replace(string(data), "  creationTimestamp: null\n", "", 1), written)
			}
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
	f.Add([]byte(smallConfigMap))
	f.Add([]byte(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coreos-bootimages"}, "data": {"stream": "{\"stream\": \"s\"}"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := bootimage.DecodeConfigMap(bytes.NewReader(data))
		if err != nil {
			return
		}
		_ = bootimage.ValidateConfigMap(c, &bootimage.ConfigMapCheck{Cluster: true})
		written := encoded(t, c)
		again, err := bootimage.DecodeConfigMap(strings.NewReader(written))
		require.NoError(t, err)
		require.Equal(t, written, encoded(t, again))
	})
}
