package container_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// packageList reads "name epoch:version-release.arch" lines.
func packageList(t testing.TB, text string) []ostree.Package {
	t.Helper()
	var out []ostree.Package
	for line := range strings.Lines(text) {
		var p ostree.Package
		name, evr, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		p.Name = name
		if epoch, rest, ok := strings.Cut(evr, ":"); ok {
			p.Epoch, evr = epoch, rest
		}
		evr, p.Arch, _ = strings.Cut(evr, " ")
		p.Version, p.Release, _ = strings.Cut(evr, "-")
		out = append(out, p)
	}
	return out
}

const packagesBefore = `bash 5.2.26-4.el10 x86_64
cri-o 1.33.4-3.el10 x86_64
kernel 6.12.0-55.9.1.el10_0 x86_64
kernel 6.12.0-55.12.1.el10_0 x86_64
openshift-kubelet 4.20.0-202509.el10 x86_64
runc 4:1.2.5-2.el10 x86_64
systemd 257-9.el10_0.1 x86_64
systemd-libs 257-9.el10_0.1 x86_64
systemd-libs 257-9.el10_0.1 i686
openssl 1:3.2.2-16.el10 x86_64
zstd 1.5.5-9.el10 x86_64
nano 8.1-3.el10 x86_64
`

const packagesAfter = `bash 5.2.26-6.el10 x86_64
cri-o 1.33.4~rc1-9.el10 x86_64
kernel 6.12.0-55.12.1.el10_0 x86_64
kernel 6.12.0-55.17.1.el10_0 x86_64
crun 1.20-1.el10 x86_64
systemd 0:257-9.el10_0.1 x86_64
systemd-libs 257-10.el10 x86_64
systemd-libs 257-10.el10 i686
openssl 3.5.0-1.el10 x86_64
zstd 1.5.05-9.el10 x86_64
vim-minimal 2:9.1.083-5.el10 x86_64
openshift-kubelet 4.20.0-202510.el10 x86_64
`

func requireGoldenFile(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, got, 0o644))
		return
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestCheckRegression(t *testing.T) {
	before, after := packageList(t, packagesBefore), packageList(t, packagesAfter)
	r := container.CheckRegression(before, after, nil)
	var text, markdown bytes.Buffer
	require.NoError(t, r.WriteText(&text))
	require.NoError(t, r.WriteMarkdown(&markdown))
	data, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	requireGoldenFile(t, "regression/report.txt", text.Bytes())
	requireGoldenFile(t, "regression/report.md", markdown.Bytes())
	requireGoldenFile(t, "regression/report.json", append(data, '\n'))

	require.ErrorIs(t, r.Err(), container.ErrRegression)
	require.ErrorContains(t, r.Err(), "container: regression cri-o: packages regress: downgraded, was 1.33.4-3.el10, is 1.33.4~rc1-9.el10")
	require.ErrorContains(t, r.Err(), "container: regression runc: packages regress: required package is gone, was 4:1.2.5-2.el10")

	// The order of the lists is nothing.
	slices.Reverse(before)
	slices.Reverse(after)
	require.Equal(t, r, container.CheckRegression(before, after, nil))
}

func TestCheckRegressionOptions(t *testing.T) {
	before, after := packageList(t, packagesBefore), packageList(t, packagesAfter)
	faults := func(opts *container.RegressionOptions) (names []string) {
		for _, f := range container.CheckRegression(before, after, opts).Faults {
			names = append(names, f.Name)
		}
		return names
	}
	require.Equal(t, []string{"cri-o", "runc"}, faults(nil))
	require.Equal(t, []string{"cri-o"}, faults(&container.RegressionOptions{Allowed: []string{"runc"}}))
	require.Equal(t, []string{"openssl", "nano"}, faults(&container.RegressionOptions{Required: []string{"nano", "never-there"}, Forward: []string{"openssl", "bash"}}))
	require.Empty(t, faults(&container.RegressionOptions{Required: []string{}, Forward: []string{}}))

	// The same, and upwards: nothing to say.
	require.NoError(t, container.CheckRegression(before, before, nil).Err())
	require.NoError(t, container.CheckRegression(nil, before, nil).Err())
	r := container.CheckRegression(before, nil, nil)
	require.Len(t, r.Faults, 5)
	require.Equal(t, "cri-o", r.Faults[0].Name)
}

// Each of the packages that hold a node together may neither go back nor go, and
// may go forward.
func TestRegressionDefaults(t *testing.T) {
	list := func(line string) []ostree.Package {
		return append(packageList(t, "bash 5.2-1.el10 x86_64\nsystemd-libs 257-9.el10 x86_64\n"), packageList(t, line)...)
	}
	for _, tc := range []struct{ name, old, new string }{
		{"cri-o", "1.33.4-3.el10", "1.33.4~rc1-9.el10"},
		{"kernel", "6.12.0-55.12.1.el10_0", "6.12.0-55.9.1.el10_0"},
		{"kubelet", "1.33.3-1.el10", "1.33.2-9.el10"},
		{"openshift-kubelet", "4.20.0-202510.el10", "4.20.0-202509.el10"},
		{"runc", "4:1.2.5-2.el10", "3:1.3.0-1.el10"},
		{"systemd", "257-10.el10", "257-9.el10_0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, after := list(tc.name+" "+tc.old+" x86_64"), list(tc.name+" "+tc.new+" x86_64")
			r := container.CheckRegression(before, after, nil)
			step := container.VersionStep{Name: tc.name, From: tc.old, To: tc.new}
			require.Equal(t, []container.RegressionFault{{VersionStep: step, Reason: "downgraded"}}, r.Faults)
			require.Equal(t, []container.VersionStep{step}, r.Downgraded)
			require.ErrorIs(t, r.Err(), container.ErrRegression)
			require.ErrorContains(t, r.Err(), "container: regression "+tc.name+": packages regress: downgraded, was "+tc.old+", is "+tc.new)

			require.NoError(t, container.CheckRegression(after, before, nil).Err())
			require.NoError(t, container.CheckRegression(before, before, nil).Err())
			r = container.CheckRegression(before, before[:2], nil)
			require.Len(t, r.Faults, 1)
			require.ErrorContains(t, r.Err(), "container: regression "+tc.name+": packages regress: required package is gone, was "+tc.old)
			require.NoError(t, container.CheckRegression(before, after, &container.RegressionOptions{Allowed: []string{tc.name}}).Err())
		})
	}
	// Nothing else is held to that.
	require.NoError(t, container.CheckRegression(packageList(t, "bash 5.2-1.el10 x86_64\nsystemd-libs 257-9.el10 x86_64\n"), packageList(t, "bash 5.1-1.el10 x86_64\n"), nil).Err())
}

// Names and versions come from a database that may be anyone's.
func TestRegressionIsOnlyText(t *testing.T) {
	bad := []ostree.Package{{Name: "a|b`<script>\n\x1b[2J", Version: "1|2", Release: "*"}}
	r := container.CheckRegression(nil, bad, nil)
	var text, markdown bytes.Buffer
	require.NoError(t, r.WriteText(&text))
	require.NoError(t, r.WriteMarkdown(&markdown))
	require.NotContains(t, text.String(), "\x1b")
	require.NotContains(t, markdown.String(), "\x1b")
	require.NotContains(t, strings.ReplaceAll(markdown.String(), `\|`, ""), "a|")
	require.Contains(t, markdown.String(), `\<script\>`)
	r = container.CheckRegression([]ostree.Package{{Name: "kernel\x1b", Version: "2"}}, nil, &container.RegressionOptions{Required: []string{"kernel\x1b"}})
	require.NotContains(t, r.Err().Error(), "\x1b")
}

func ExampleCheckRegression() {
	before := []ostree.Package{{Name: "kernel", Version: "6.12.0", Release: "55.el10"}, {Name: "runc", Version: "1.2.5", Release: "2.el10"}}
	after := []ostree.Package{{Name: "kernel", Version: "6.12.0~rc3", Release: "60.el10"}, {Name: "runc", Version: "1.2.5", Release: "2.el10"}}
	r := container.CheckRegression(before, after, nil)
	fmt.Println(r.Err())
	fmt.Println(r.Downgraded, r.Same)
	// Output:
	// container: regression kernel: packages regress: downgraded, was 6.12.0-55.el10, is 6.12.0~rc3-60.el10
	// [{kernel 6.12.0-55.el10 6.12.0~rc3-60.el10}] 1
}
