package payload_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

func TestSamplePackages(t *testing.T) {
	src := sampleImages(t)
	var lists [][]payload.Package
	for i := range samples {
		list, err := sampleRelease(t, src, i).Packages(t.Context(), src, nil)
		require.NoError(t, err)
		lists = append(lists, list)
	}
	var text strings.Builder
	text.WriteString("Package contents:\n")
	for _, p := range lists[0] {
		fmt.Fprintf(&text, "  %s\n", p)
	}
	require.Equal(t, sampleText(t, "rpmdb.txt"), text.String())
	data, err := json.MarshalIndent(payload.ComparePackages(lists[0], lists[1]), "", "  ")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(sampleText(t, "rpmdb-diff.json")), string(data))
}

// withNode adds a node image and extensions to a world and opens a release.
func withNode(t *testing.T, labels map[string]string, layers ...[]byte) (*world, *payload.Release) {
	w := newWorld(t)
	w.put(t, "stream-coreos", imageSpec{labels: labels, layers: layers})
	w.plain(t, "stream-coreos-extensions", nil)
	_, r := w.must(t, w.spec(), nil)
	return w, r
}

func TestPackages(t *testing.T) {
	meta := map[string]string{"io.openshift.metalayer": "true"}
	layer := func(text string) []byte {
		return tarOf(t, entry{name: "usr/share/openshift/base/meta.json", data: text})
	}
	w, r := withNode(t, meta, layer(`{"other":1,"rpmdb.pkglist":[["b","","2","1","noarch"],["a",1,"1","1","x86_64"],["a","0","1","1","x86_64"],["c",null,"1","1",null]]}`))
	list, err := r.Packages(t.Context(), w, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a-1-1", "a-1:1-1", "b-2-1", "c-1-1"}, []string{list[0].String(), list[1].String(), list[2].String(), list[3].String()})
	d := payload.ComparePackages(list, list[:1])
	require.Equal(t, map[string]payload.VersionChange{"a": {Old: "1-1, 1:1-1", New: "1-1"}}, d.Changed)
	require.Len(t, d.Removed, 2)

	for text, want := range map[string]string{
		"x":                                     "meta.json",
		`{"rpmdb.pkglist":[["a","0","1","1"]]}`: "package 1 has 4 fields",
		`{"rpmdb.pkglist":[["a","0",1,"1","x"]]}`:  "package 1",
		`{"rpmdb.pkglist":[["a",{},"1","1","x"]]}`: "package 1",
		`{"rpmdb.pkglist":[["","0","1","1","x"]]}`: "has no name",
	} {
		w, r := withNode(t, meta, layer(text))
		_, err := r.Packages(t.Context(), w, nil)
		require.ErrorContains(t, err, want)
	}
	for n, bad := range []bool{false, true} {
		w, r := withNode(t, meta, layer(`{"rpmdb.pkglist":[`+strings.TrimSuffix(strings.Repeat(`["a","0","1","1","x"],`, payload.MaxPackages+n), ",")+`]}`))
		_, err := r.Packages(t.Context(), w, nil)
		if bad {
			require.ErrorContains(t, err, "100001 elements, limit 100000")
		} else {
			require.NoError(t, err)
		}
	}

	// Without a list, and without a database.
	w, r = withNode(t, nil, layer(`{}`))
	_, err = r.Packages(t.Context(), w, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.Packages(t.Context(), w, &payload.PackagesOptions{Component: "other"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	w = newWorld(t)
	_, r = w.must(t, w.spec(), nil)
	_, err = r.Packages(t.Context(), w, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no node image")
}

// An image that only has the database.
func TestPackagesFromDatabase(t *testing.T) {
	data, err := os.ReadFile(interop.SharedData(t, "rpm", "rpmdb.sqlite"))
	require.NoError(t, err)
	w, r := withNode(t, nil, tarOf(t, entry{name: "usr/share/rpm/rpmdb.sqlite", data: string(data)}), tarOf(t, entry{name: "etc/x"}))
	list, err := r.Packages(t.Context(), w, &payload.PackagesOptions{TempDir: t.TempDir()})
	require.NoError(t, err)
	require.Len(t, list, 5)
	require.NotEmpty(t, list[0].Version)
}
