package daily_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/gate"
)

var update = flag.Bool("update", false, "write golden files")

const hostile = `</title></style><script>alert(1)</script><img src=//example.org/x onerror=alert(1)>" onload="alert(1)`

// page reads a report.
func page(t *testing.T, s *daily.Summary) string {
	data, err := os.ReadFile(s.Report)
	require.NoError(t, err)
	return string(data)
}

// TestReport is a golden of what a real build's report looks like, all of whose
// contents may be hostile.
func TestReport(t *testing.T) {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	image := func(name, c string) *daily.ImageOutputs {
		return &daily.ImageOutputs{Reference: "registry.example.org/okd/" + name + "@" + digest(c), Digest: digest(c), Layers: 65, Size: 1 << 30}
	}
	commit, err := ostree.ParseChecksum(strings.Repeat("c", 64))
	require.NoError(t, err)
	s := &daily.Summary{
		Stream: "okd-scos-next", Build: "9.0.20261125-0", Version: "4.21.0-okd-scos.7", Arch: "x86_64", Time: at,
		Commit: &daily.CommitOutputs{Commit: commit, Ref: "okd-scos-next/x86_64/scos", Kernel: "5.14.0-687.el9.x86_64" + hostile, Files: 43210, Bytes: 2 << 30},
		Base:   image("scos", "a"), Node: image("scos", "b"),
		Release: &daily.PayloadOutputs{ImageOutputs: *image("release", "d"), Components: 4},
		Boot: &daily.BootimageOutputs{Prefix: "okd-scos-next/builds/9.0.20261125-0/x86_64", Artifacts: []daily.ArtifactOutputs{
			{Name: "live-iso", Key: "okd-scos-next/builds/9.0.20261125-0/x86_64/scos-9.0.20261125-0-live-iso.x86_64.iso", Size: 1 << 30, SHA256: strings.Repeat("1", 64)},
			{Name: "qemu", Key: "okd-scos-next/builds/" + hostile, Size: 12345, SHA256: strings.Repeat("2", 64)},
		}},
		Published: &daily.PublishOutputs{
			Tags: []string{"registry.example.org/okd/scos:latest", "registry.example.org/okd/release:4.21.0-okd-scos.7"},
			Verdict: &gate.Verdict{State: gate.Passed, Notes: []string{"a waiver of " + hostile + " is over"}, Gates: []gate.Status{
				{Gate: "lint", Blocking: true, State: gate.Passed, Reason: "the commit is an operating system"},
				{Gate: "e2e-aws", State: gate.Failed, Reason: hostile, Result: &gate.Result{At: at, Evidence: []gate.Evidence{
					{URL: "https://prow.example.org/view/e2e-aws/1", Digest: digest("e"), Size: 4711}, {URL: "javascript:alert(1)"},
				}}},
				{Gate: "look", State: gate.Pending, Reason: "no result"},
			}},
		},
		Steps: []daily.Record{
			{Step: "inputs", Seconds: 31.5, Reuse: map[string]daily.Reuse{"files": {Items: 43000, OfItems: 43210}}},
			{Step: "commit", Seconds: 0.2}, {Step: "encapsulate", Seconds: 12.25, Reuse: map[string]daily.Reuse{"layers": {Items: 57, OfItems: 65, Bytes: 900 << 20, OfBytes: 1 << 30}}},
			{Step: "node", Reused: true, Seconds: 80},
		},
	}
	packages := &container.Regression{
		Upgraded:   []container.VersionStep{{Name: "kernel", From: "5.14.0-686.el9", To: "5.14.0-687.el9"}, {Name: "cri-o", From: "1.34.1-1.el9", To: "1.34.2-1.el9"}},
		Downgraded: []container.VersionStep{{Name: hostile, From: "2", To: "1"}},
		Added:      []container.VersionStep{{Name: "nmstate", To: "2.2.50-1.el9"}}, Removed: []container.VersionStep{{Name: "runc", From: "1.2.5-1.el9"}},
		Same: 512,
	}
	var buf bytes.Buffer
	require.NoError(t, daily.WriteSampleReport(&buf, s, packages, hostile))
	for _, bad := range []string{"<script", "<img", "href=\"javascript", "\" onload"} {
		require.NotContains(t, buf.String(), bad)
	}
	golden := filepath.Join("testdata", "report.html")
	if *update {
		require.NoError(t, os.WriteFile(golden, buf.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, buf.Bytes()), "the report is another one than %s; see the difference with -update", golden)
}

// TestReportSaysWhatChanged runs two days: the first report says that there is
// nothing to compare, the second which packages, layers and components are new.
func TestReportSaysWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.install("systemd 252.38-1", "runc 1.1.5-1", "nano 7.2-1")
	first, err := w.run(t.Context())
	require.NoError(t, err)
	text := page(t, first)
	require.Contains(t, text, "This is the first build of the stream here")
	require.Contains(t, text, "3 packages in the commit")
	require.Contains(t, text, "4 components: 1 of this build, 3 given.")
	require.Contains(t, text, `<a href="https://example.org/files/test/builds/9.0.20261125-0/x86_64/testos-9.0.20261125-0-live-kernel.x86_64">`)
	require.NotContains(t, text, "What could not be found out")

	w.install("systemd 252.39-1", "runc 1.1.5-1", "vim 9.0-1")
	w.opts.Time = w.opts.Time.Add(24 * time.Hour)
	second, err := w.run(t.Context())
	require.NoError(t, err)
	text = page(t, second)
	require.Contains(t, text, "Compared with build 9.0.20261125-0 of 4.21.0-okd-scos.0.")
	require.Contains(t, text, `<th scope="row">systemd</th><td><code>252.38-1</code></td><td><code>252.39-1</code></td>`)
	require.Contains(t, text, `<th scope="row">vim</th><td><code>–</code></td><td><code>9.0-1</code></td>`)
	require.Contains(t, text, `<th scope="row">nano</th><td><code>7.2-1</code></td><td><code>–</code></td>`)
	require.Contains(t, text, "1 package did not change.")
	require.Regexp(t, `<p>[0-9]+ new \([^)]+\), [0-9]+ reused \([^)]+\)\.</p>`, text)
	require.Regexp(t, `(?s)<th scope="row">stream-coreos</th><td data-of="From">this build</td>.*?<td data-of="Since the last build">changed</td>`, text)
	require.Regexp(t, `(?s)<th scope="row">machine-config-operator</th>.*?<td data-of="Since the last build">same</td>`, text)

	// The plan says where blobs of the release image may be mounted from.
	data, err := os.ReadFile(filepath.Join(filepath.Dir(second.Report), "plan.json"))
	require.NoError(t, err)
	require.Regexp(t, `"from": \[\s+"example.org/okd/content"\s+\]`, string(data))

	// The report of a run that was killed before it is written later, the same.
	require.NoError(t, os.Remove(second.Report))
	again, err := w.run(t.Context())
	require.NoError(t, err)
	require.True(t, again.Unchanged)
	plain := func(text string) string {
		_, text, _ = strings.Cut(text, "<h2>What changed")
		text, _, _ = strings.Cut(text, "<h2>Where the time")
		return text
	}
	require.Equal(t, plain(text), plain(page(t, again)))
	require.True(t, json.Valid(data))
}

// TestReportInTheStore has links that hold wherever the store is seen, and is
// what publish/browse links to.
func TestReportInTheStore(t *testing.T) {
	w := newWorld(t)
	w.env.PublishReport = true
	s, err := w.run(t.Context())
	require.NoError(t, err)
	key := s.Boot.Prefix + "/report.html"
	data, info, err := publish.ReadDocument(t.Context(), w.store, key)
	require.NoError(t, err)
	require.Equal(t, "text/html; charset=utf-8", info.ContentType)
	require.Contains(t, string(data), `<a href="../../../../`+s.Boot.Artifacts[0].Key+`">`)
	require.Contains(t, page(t, s), `<a href="https://example.org/files/`+s.Boot.Artifacts[0].Key+`">`)
	again, err := w.run(t.Context())
	require.NoError(t, err)
	require.True(t, again.Unchanged)
}

// TestReportOfABuildWhosePastIsGone says so and does not fail.
func TestReportOfABuildWhosePastIsGone(t *testing.T) {
	w := newWorld(t)
	first, err := w.run(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Dir(first.Report)+"/encapsulate.json"))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(first.Report), "payload.json"), []byte("{"), 0o644))
	w.files["etc/motd"] = w.files["etc/hosts"]
	w.opts.Time = w.opts.Time.Add(24 * time.Hour)
	second, err := w.run(t.Context())
	require.NoError(t, err)
	text := page(t, second)
	require.Contains(t, text, "What could not be found out")
	require.Contains(t, text, "Neither has a list of packages.")
	require.Contains(t, text, "there is no such image of a build before")
}
