package payload_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

// gitHistory reads clones with the program git.
type gitHistory map[string]string // folder by name of the repository

func (g gitHistory) Log(ctx context.Context, location, from, to string) ([]payload.Commit, error) {
	dir, ok := g[path.Base(location)]
	if !ok {
		return nil, fmt.Errorf("no clone")
	}
	args, err := payload.GitLogArguments(from, to)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		return nil, err
	}
	return payload.DecodeGitLog(out)
}

func sampleHistory(t testing.TB) gitHistory {
	t.Helper()
	interop.Peer(t, "git")
	g := gitHistory{}
	for _, repo := range []string{"hyperkube", "insights", "machine-config-operator"} {
		dir := filepath.Join(t.TempDir(), repo)
		out, err := exec.CommandContext(t.Context(), "git", "clone", "-q", "--bare", interop.SharedData(t, "payload", "sample", "git", repo+".bundle"), dir).CombinedOutput()
		require.NoError(t, err, string(out))
		g[repo] = dir
	}
	return g
}

func sampleLog(t testing.TB, history payload.History) (*payload.ChangeLog, error) {
	t.Helper()
	src := sampleImages(t)
	return payload.NewChangeLog(t.Context(), sampleRelease(t, src, 0), sampleRelease(t, src, 1), &payload.ChangeLogOptions{History: history})
}

func TestSampleChangeLog(t *testing.T) {
	log, err := sampleLog(t, sampleHistory(t))
	require.NoError(t, err)
	var md bytes.Buffer
	require.NoError(t, log.WriteMarkdown(&md))
	require.Equal(t, sampleText(t, "changelog.md"), md.String())
	data, err := json.MarshalIndent(log, "", "  ")
	require.NoError(t, err)
	require.Equal(t, sampleText(t, "changelog.json"), string(data)+"\n")

	// The bugs that oc lists are those of the log.
	var ids []string
	for _, r := range log.Updated {
		for _, c := range r.Changes {
			ids = append(ids, append(c.Bugs, c.Issues...)...)
		}
	}
	require.ElementsMatch(t, strings.Fields(sampleText(t, "bugs.txt")), ids)

	var page bytes.Buffer
	require.NoError(t, log.WriteHTML(&page))
	require.Contains(t, page.String(), `fix the &lt;thing&gt; <a href="https://github.com/openshift/machine-config-operator/pull/101">#101</a>`)
	require.NotContains(t, page.String(), "<thing>")
}

// A repository that cannot be read is named, and the rest is there.
func TestChangeLogPartial(t *testing.T) {
	history := sampleHistory(t)
	delete(history, "hyperkube")
	log, err := sampleLog(t, history)
	require.EqualError(t, err, "payload: change log https://github.com/openshift/hyperkube: no clone")
	require.Len(t, log.Updated, 2)
	require.Empty(t, log.Updated[0].Changes)
	require.Len(t, log.Updated[1].Changes, 5)

	log, err = sampleLog(t, nil)
	require.NoError(t, err)
	require.Empty(t, log.Updated[1].Changes)
}

// Squashed pull requests, as git has them.
func TestSquashedHistory(t *testing.T) {
	history := sampleHistory(t)
	from, to := compareTwo(t, "https://github.com/openshift/insights", "e648b4b", "82199eb88fc17dafd291fa60f9109548c29c981f")
	log, err := payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: history})
	require.NoError(t, err)
	require.Equal(t, []payload.LoggedChange{{Issues: []string{"OCPBUGS-77"}, Subject: "squash merged", Pull: 55, Time: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}}, log.Updated[0].Changes)
	require.Equal(t, 1, log.Updated[0].Elided)
}

// twoReleases opens two payloads that have these tags.
func twoReleases(t *testing.T, from, to string, more ...entry) (*payload.Release, *payload.Release) {
	t.Helper()
	open := func(tags string, more ...entry) *payload.Release {
		refs := strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[`+tags+`]},"metadata"`, 1)
		r, err := openEntries(t, append([]entry{{name: "release-manifests/image-references", data: refs}, releaseEntries()[2]}, more...)...)
		require.NoError(t, err)
		return r
	}
	return open(from), open(to, more...)
}

func tagJSON(name, digit, source, commit string) string {
	return fmt.Sprintf(`{"name":%q,"annotations":{"io.openshift.build.source-location":%q,"io.openshift.build.commit.id":%q},"from":{"kind":"DockerImage","name":"q.io/o/%s@sha256:%s"}}`,
		name, source, commit, name, strings.Repeat(digit, 64))
}

func compareTwo(t *testing.T, source, from, to string) (*payload.Release, *payload.Release) {
	return twoReleases(t, tagJSON("a", "1", source, from), tagJSON("a", "2", source, to))
}

type fixedHistory []payload.Commit

func (f fixedHistory) Log(context.Context, string, string, string) ([]payload.Commit, error) {
	return f, nil
}

func TestChangeTitles(t *testing.T) {
	for title, want := range map[string]payload.LoggedChange{
		"":                                 {Subject: "Merge"},
		"plain":                            {Subject: "plain"},
		"Bug 12: x":                        {Bugs: []string{"12"}, Subject: "x"},
		"bug 12, 5 : x":                    {Bugs: []string{"12", "5"}, Subject: "x"},
		"Bugs 1,2,1: x":                    {Bugs: []string{"1", "2"}, Subject: "x"},
		"[release-4.20] [x] ABC-1: y":      {Issues: []string{"ABC-1"}, Subject: "y"},
		"B2B-2, ABC-1: y":                  {Issues: []string{"ABC-1", "B2B-2"}, Subject: "y"},
		"NO-JIRA: y":                       {Subject: "NO-JIRA: y"},
		"abc-1: y":                         {Subject: "abc-1: y"},
		"ABC-1:":                           {Issues: []string{"ABC-1"}, Subject: "Merge"},
		"Bug x: y":                         {Subject: "Bug x: y"},
		"a\x1b[2Jb\xff":                    {Subject: "a [2Jb\ufffd"},
		strings.Repeat("x", 2000):          {Subject: strings.Repeat("x", 1000) + "…"},
		"ABC-12345678901234: not a number": {Subject: "ABC-12345678901234: not a number"},
	} {
		from, to := compareTwo(t, "https://github.com/o/a", "1111111", "2222222")
		log, err := payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: fixedHistory{
			{Merge: true, Message: "Merge pull request #7 from x/y\n\n" + strings.TrimSpace(title+"\n\n"+strings.Repeat("more", min(len(title), 1)))}, {Merge: true, Message: "Merge branch 'x'"}, {Message: "z (#8)"},
		}})
		require.NoError(t, err)
		want.Pull = 7
		require.Equal(t, []payload.LoggedChange{want}, log.Updated[0].Changes, title)
		require.Equal(t, 2, log.Updated[0].Elided)
	}
}

// What labels say goes nowhere but into text.
func TestChangeLogHostile(t *testing.T) {
	for _, source := range []string{"javascript:alert(1)", "https://github.com/../../x", "--upload-pack=x", "https://h.test/a)[x](javascript:1", "ssh://git@github.com/o/a\"><script>", "git@github.com:o/<script>", "https://"} {
		from, to := compareTwo(t, source, "1111111", "2222222")
		log, err := payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: fixedHistory{{Merge: true, Message: "Merge pull request #7 from x/y\n\n<script>[a](javascript:1)"}}})
		if err != nil {
			require.ErrorContains(t, err, "not an URL")
			require.Empty(t, log.Updated[0].Changes)
		}
		var md, page bytes.Buffer
		require.NoError(t, log.WriteMarkdown(&md))
		require.NoError(t, log.WriteHTML(&page))
		for _, out := range []string{md.String(), page.String()} {
			require.NotContains(t, out, "<script>", source)
			require.NotContains(t, out, `href="javascript`, source)
		}
		_, err = json.Marshal(log)
		require.NoError(t, err)
	}
	for _, commits := range [][2]string{{"--output=/x", "2222222"}, {"1111111", "$(x)"}, {"1", "2222222"}} {
		from, to := compareTwo(t, "https://github.com/o/a", commits[0], commits[1])
		_, err := payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: fixedHistory{}})
		require.ErrorContains(t, err, "not hexadecimal")
		_, err = payload.GitLogArguments(commits[0], commits[1])
		require.Error(t, err)
	}
	// Another forge: no links that would lead nowhere.
	from, to := compareTwo(t, "https://git.example.org/o/a", "1111111", "2222222")
	log, err := payload.NewChangeLog(t.Context(), from, to, nil)
	require.NoError(t, err)
	var md bytes.Buffer
	require.NoError(t, log.WriteMarkdown(&md))
	require.Contains(t, md.String(), "### a\n\n* https://git.example.org/o/a from 1111111 to 2222222\n")
}

// Images of one repository with the same commits are one entry.
func TestChangeLogMerged(t *testing.T) {
	src := "https://github.com/o/a"
	from, to := twoReleases(t, tagJSON("z", "1", src, "1111111")+","+tagJSON("b", "2", src, "1111111")+","+tagJSON("gone", "3", src, "1111111"),
		tagJSON("z", "4", src, "2222222")+","+tagJSON("b", "5", src, "2222222")+","+tagJSON("new", "6", "", ""))
	log, err := payload.NewChangeLog(t.Context(), from, to, nil)
	require.NoError(t, err)
	require.Len(t, log.Updated, 1)
	require.Equal(t, []string{"b", "z"}, log.Updated[0].Images)
	require.Equal(t, []payload.LoggedImage{{Name: "gone", Path: src}}, log.RemovedImages)
	require.Equal(t, "new", log.NewImages[0].Name)
	var md bytes.Buffer
	require.NoError(t, log.WriteMarkdown(&md))
	require.Contains(t, md.String(), "### Removed images\n\n* [gone](https://github.com/o/a)\n")
}

func TestChangeLogGates(t *testing.T) {
	gates := func(set, enabled, disabled string) string {
		return "apiVersion: config.openshift.io/v1\nkind: FeatureGate\nmetadata:\n  name: cluster\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: false-except-for-the-config-operator\n    release.openshift.io/feature-set: " + set +
			"\nstatus:\n  featureGates:\n  - version: x\n    enabled: [" + enabled + "]\n    disabled: [" + disabled + "]\n"
	}
	open := func(files ...string) *payload.Release {
		entries := releaseEntries()
		for i, f := range files {
			entries = append(entries, entry{name: fmt.Sprintf("release-manifests/0000_50_featureGate-%d.yaml", i), data: f})
		}
		r, err := openEntries(t, entries...)
		require.NoError(t, err)
		return r
	}
	from := open(gates("Default", "{name: A}", "{name: B}, {name: Gone}"), gates("TechPreviewNoUpgrade", "{name: A}, {name: B}, {name: Gone}", ""))
	to := open(gates("Default", "{name: A}, {name: B}", "{name: New}"), gates("TechPreviewNoUpgrade", "{name: A}, {name: B}, {name: New}", ""))
	log, err := payload.NewChangeLog(t.Context(), from, to, nil)
	require.NoError(t, err)
	const profile = payload.DefaultProfile
	require.Equal(t, []payload.LoggedGate{
		{Name: "B", Status: map[string]map[string]string{profile: {"Default": "Enabled (Changed)", "TechPreviewNoUpgrade": "Enabled"}}},
		{Name: "Gone", Status: map[string]map[string]string{profile: {"Default": "", "TechPreviewNoUpgrade": ""}}},
		{Name: "New", Status: map[string]map[string]string{profile: {"Default": "Disabled (New)", "TechPreviewNoUpgrade": "Enabled (New)"}}},
	}, log.FeatureGates)
	// So a cluster that is installed from the payload knows what is on.
	for set, want := range map[string][]string{"": {"A"}, "TechPreviewNoUpgrade": {"A", "B", "Gone"}, "OKD": nil} {
		got, err := from.EnabledGates(t.Context(), &payload.Cluster{FeatureSet: set})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := from.EnabledGates(t.Context(), &payload.Cluster{Profile: "single-node-developer"})
	require.NoError(t, err)
	require.Empty(t, got)
	major := open(strings.Replace(gates("Default", "{name: Five}", ""), "annotations:\n", "annotations:\n    release.openshift.io/major-version: \"5\"\n", 1))
	for version, want := range map[uint64][]string{0: {"Five"}, 4: nil, 5: {"Five"}} {
		got, err := major.EnabledGates(t.Context(), &payload.Cluster{MajorVersion: version})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = open("kind: [\n").EnabledGates(t.Context(), &payload.Cluster{})
	require.ErrorContains(t, err, "featureGate-0.yaml:1")

	var md, page bytes.Buffer
	require.NoError(t, log.WriteMarkdown(&md))
	require.Contains(t, md.String(), "| FeatureGate | Default on "+profile+" | TechPreviewNoUpgrade on "+profile+" |\n| --- | --- | --- |\n| B | Enabled (Changed) | Enabled |\n| Gone |  |  |\n| New | Disabled (New) | Enabled (New) |\n")
	require.NoError(t, log.WriteHTML(&page))
	require.Contains(t, page.String(), "<tr><td>B</td><td>Enabled (Changed)</td><td>Enabled</td></tr>")

	log, err = payload.NewChangeLog(t.Context(), from, from, nil)
	require.NoError(t, err)
	require.Empty(t, log.FeatureGates)
	_, err = payload.NewChangeLog(t.Context(), from, open("kind: [\n"), nil)
	require.ErrorContains(t, err, "featureGate-0.yaml:1")
	_, err = payload.NewChangeLog(t.Context(), from, open(strings.Replace(gates("Default", "", ""), "featureGates:\n", "featureGates: 1\n#", 1)), nil)
	require.Error(t, err)
}

func TestSampleDifference(t *testing.T) {
	src := sampleImages(t)
	d := payload.Compare(sampleRelease(t, src, 0), sampleRelease(t, src, 1))
	var buf bytes.Buffer
	require.NoError(t, d.WriteText(&buf, &payload.DifferenceTextOptions{Now: sampleTime.Add(16 * time.Second)}))
	require.Equal(t, sampleText(t, "info-diff.txt"), buf.String())
	require.NotEmpty(t, d.Manifests)
	for _, c := range d.Manifests {
		require.False(t, c.Formatting, c.File)
	}
	buf.Reset()
	require.NoError(t, d.WriteText(&buf, &payload.DifferenceTextOptions{Manifests: true}))
	require.Contains(t, buf.String(), "Created:  2026-11-23T09:00:23Z  2026-11-23T09:00:23Z\n")
	require.Contains(t, buf.String(), "\nManifests Changed:\n")

	data, err := json.Marshal(d)
	require.NoError(t, err)
	var got struct {
		From, To         struct{ Digest string }
		ChangedImages    map[string]struct{ From, To *struct{ Kind, Name string } }
		ChangedManifests map[string]struct{ Filename, From, To string }
	}
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, samples[1].digest, got.To.Digest)
	require.Nil(t, got.ChangedImages["comp-010"].From)
	require.Equal(t, "DockerImage", got.ChangedImages["comp-010"].To.Kind)
	first := d.Manifests[0]
	require.Equal(t, base64.StdEncoding.EncodeToString(first.To), got.ChangedManifests[first.File].To)
}

func TestCompareManifests(t *testing.T) {
	open := func(files ...string) *payload.Release {
		entries := releaseEntries()
		for i := 0; i < len(files); i += 2 {
			entries = append(entries, entry{name: "release-manifests/" + files[i], data: files[i+1]})
		}
		r, err := openEntries(t, entries...)
		require.NoError(t, err)
		return r
	}
	from := open("same.yaml", "x", "written.yaml", namespace("a")+"---\n"+namespace("b"), "changed.yaml", namespace("a"), "gone.yaml", "x", "broken.yaml", "[", "text", "a")
	to := open("same.yaml", "x", "written.yaml", "# b first\n"+namespace("b")+"---\n"+`{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a"}}`+"\n", "changed.yaml", namespace("b"), "new.yaml", "x", "broken.yaml", "[ ", "text", "b")
	d := payload.Compare(from, to)
	got := map[string]string{}
	for _, c := range d.Manifests {
		got[c.File] = fmt.Sprint(c.From != nil, c.To != nil, c.Formatting)
	}
	require.Equal(t, map[string]string{
		"written.yaml": "true true true", "changed.yaml": "true true false", "gone.yaml": "true false false",
		"new.yaml": "false true false", "broken.yaml": "true true false", "text": "true true false",
	}, got)
	require.Empty(t, payload.Compare(from, from).Manifests)
	var buf bytes.Buffer
	require.NoError(t, d.WriteText(&buf, &payload.DifferenceTextOptions{Manifests: true}))
	require.Contains(t, buf.String(), "  written.yaml  changed (formatting)\n")
	require.ErrorContains(t, d.WriteText(failWriter{}, nil), "full")
}

// An image that only moved to another repository has not changed.
func TestCompareMoved(t *testing.T) {
	a := tagJSON("a", "1", "", "")
	from, to := twoReleases(t, a, strings.Replace(a, "q.io/o/a", "mirror.test/o/a", 1))
	require.Empty(t, payload.Compare(from, to).Images)
}

func TestDecodeGitLog(t *testing.T) {
	record := func(i int) string { return fmt.Sprintf("%040x\n%040x\n1735689600\nsubject\n\nbody\n", i, i+1) }
	list, err := payload.DecodeGitLog([]byte(record(1) + "\x00" + record(2) + "\x00"))
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, payload.Commit{ID: fmt.Sprintf("%040x", 1), Time: time.Unix(1735689600, 0).UTC(), Message: "subject\n\nbody\n"}, list[0])
	empty, err := payload.DecodeGitLog(nil)
	require.NoError(t, err)
	require.Empty(t, empty)
	for in, want := range map[string]string{"x": "record 1", record(1) + "\x00--x\n\n1\nm": "record 2", "1111111\n\nx\nm": "record 1"} {
		_, err := payload.DecodeGitLog([]byte(in))
		require.ErrorContains(t, err, want)
	}
	pad := record(1) + strings.Repeat("x", payload.MaxLogSize-len(record(1)))
	_, err = payload.DecodeGitLog([]byte(pad))
	require.NoError(t, err)
	_, err = payload.DecodeGitLog([]byte(pad + "x"))
	require.ErrorContains(t, err, "limit 67108864")

	from, to := compareTwo(t, "https://github.com/o/a", "1111111", "2222222")
	for n, bad := range []bool{false, true} {
		_, err = payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: make(fixedHistory, payload.MaxCommits+n)})
		require.Equal(t, bad, err != nil)
	}
}

func TestChangeLogCancelled(t *testing.T) {
	from, to := compareTwo(t, "https://github.com/o/a", "1111111", "2222222")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log, err := payload.NewChangeLog(ctx, from, to, nil)
	require.True(t, errors.Is(err, context.Canceled))
	require.Nil(t, log)
}

func FuzzChangeLog(f *testing.F) {
	f.Add("https://github.com/o/a", "1111111", "Merge pull request #7 from x/y\n\nBug 1: <x>")
	f.Add("git@github.com:o/a.git", "2222222", "x (#9)")
	f.Add("ssh://git@host:22/o/a", "3333333", "")
	f.Fuzz(func(t *testing.T, source, commit, message string) {
		if len(source)+len(commit)+len(message) > 4096 {
			return
		}
		tag := func(digit, commit string) payload.Tag {
			return payload.Tag{Name: "a", Kind: "DockerImage", Pullspec: "q.io/a@sha256:" + strings.Repeat(digit, 64), Annotations: map[string]string{"io.openshift.build.source-location": source, "io.openshift.build.commit.id": commit}}
		}
		from := &payload.Release{References: &payload.ImageStream{Tags: []payload.Tag{tag("1", "0000000")}}, Metadata: &payload.Metadata{Version: "1.0.0"}}
		to := &payload.Release{References: &payload.ImageStream{Tags: []payload.Tag{tag("2", commit)}}, Metadata: &payload.Metadata{Version: "1.0.1"}}
		for _, merge := range []bool{false, true} {
			var log *payload.ChangeLog
			fuzzbound.Linear(t, len(source)+len(commit)+len(message), 512, func() {
				log, _ = payload.NewChangeLog(t.Context(), from, to, &payload.ChangeLogOptions{History: fixedHistory{{Merge: merge, Message: message}}})
			})
			var md, page bytes.Buffer
			require.NoError(t, log.WriteMarkdown(&md))
			require.NoError(t, log.WriteHTML(&page))
			require.Equal(t, strings.Count(page.String(), "<li>"), strings.Count(page.String(), "</li>"))
			require.Equal(t, strings.Count(page.String(), "<a href="), strings.Count(page.String(), "</a>"))
			_, err := json.Marshal(log)
			require.NoError(t, err)
		}
	})
}
