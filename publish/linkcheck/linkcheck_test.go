package linkcheck_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/memstore"
)

// What publish has fits.
var (
	_ linkcheck.Store    = publish.Store(nil)
	_ linkcheck.Registry = publish.Registry(nil)
)

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

func put(t testing.TB, s publish.Store, key, text string) {
	t.Helper()
	_, err := s.Put(t.Context(), key, publish.BytesSource([]byte(text)), nil)
	require.NoError(t, err)
}

// summary of a report: verdict and address of each link.
func summary(r *linkcheck.Report) (lines []string) {
	for _, l := range r.Links {
		lines = append(lines, fmt.Sprintf("%s %s %s", l.Verdict, l.Kind, l.URL))
	}
	return lines
}

// quick repeats requests without waiting long.
func quick() *httpx.Transport {
	return httpx.NewTransport(nil, &httpx.Options{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond, Attempts: 3})
}

func TestLinks(t *testing.T) {
	digest := "sha256:" + strings.Repeat("d", 64)
	for name, tc := range map[string]struct {
		url, data string
		want      []string // kind, path, URL, size, sha256, fault
	}{
		"stream": {data: `{"stream": "s", "architectures": {"x86_64": {
			"artifacts": {"metal": {"release": "1", "formats": {"4k.raw.gz": {"disk": {"location": "https://e.org/a.gz", "signature": "https://e.org/a.gz.sig", "sha256": "aa", "uncompressed-sha256": "bb"}},
				"pxe": {"kernel": {"location": "https://e.org/k", "signature": "", "sha256": "cc"}}}},
			"newplatform": {"release": "1", "formats": {"x": {"disk": {"location": "https://e.org/n", "sha256": "dd"}}}}},
			"images": {"aws": {"regions": {"r": {"release": "1", "image": "ami-1"}}}, "powervs": {"regions": {"r": {"url": "https://cloud.example/o.gz", "object": "o"}}},
				"kubevirt": {"release": "1", "image": "quay.io/o/k:s", "digest-ref": "quay.io/o/k@` + digest + `"}}}}}`,
			want: []string{
				`file architectures.x86_64.artifacts.metal.formats["4k.raw.gz"].disk.location https://e.org/a.gz 0 aa`,
				`signature architectures.x86_64.artifacts.metal.formats["4k.raw.gz"].disk.signature https://e.org/a.gz.sig 0`,
				`file architectures.x86_64.artifacts.metal.formats.pxe.kernel.location https://e.org/k 0 cc`,
				`file architectures.x86_64.artifacts.newplatform.formats.x.disk.location https://e.org/n 0 dd`,
				`address architectures.x86_64.images.powervs.regions.r.url https://cloud.example/o.gz 0`,
				`image architectures.x86_64.images.kubevirt.digest-ref quay.io/o/k@` + digest + ` 0`,
				`image architectures.x86_64.images.kubevirt.image quay.io/o/k:s 0`,
			}},
		"index": {data: `{"stream": "s", "releases": [{"version": "1", "metadata": "https://e.org/1/release.json", "oci-images": [{"architecture": "x86_64", "image": "quay.io/o/c:s", "digest-ref": "quay.io/o/c@` + digest + `"}]}]}`,
			want: []string{
				`document releases[0].metadata https://e.org/1/release.json 0`,
				`image releases[0].oci-images[0].digest-ref quay.io/o/c@` + digest + ` 0`,
				`image releases[0].oci-images[0].image quay.io/o/c:s 0`,
			}},
		"updates": {data: `{"stream": "s", "releases": [{"version": "1", "metadata": {"barrier": {"reason": "https://e.org/why"}}}]}`},
		"builds": {url: "https://e.org/p/builds/builds.json", data: `{"schema-version": "1.0.0", "builds": [{"id": "2", "arches": ["x86_64", "s390x"]}, {"id": "../..", "arches": ["x"]}, "old"]}`,
			want: []string{
				`document builds[0].arches[0] https://e.org/p/builds/2/x86_64/meta.json 0`,
				`document builds[0].arches[1] https://e.org/p/builds/2/s390x/meta.json 0`,
				`document builds[1].arches[0] ../../x 0 ! not a build id and architecture`,
			}},
		"meta": {url: "https://e.org/b/1/x/meta.json", data: `{"buildid": "1", "images": {"qemu": {"path": "q.xz", "sha256": "aa", "size": 7}, "evil": {"path": "../../q", "sha256": "aa"}},
			"gcp": {"image": "i", "url": "https://e.org/g"}, "build-url": "https://e.org/job",
			"base-oscontainer": {"image": "quay.io/o/c", "digest": "` + digest + `", "tags": ["s"], "manifest-list-digest": "` + digest + `"}}`,
			want: []string{
				`file images.qemu.path https://e.org/b/1/x/q.xz 7 aa`,
				`file images.evil.path ../../q 0 aa ! not a file name`,
				`address gcp.url https://e.org/g 0`,
				`image base-oscontainer.digest quay.io/o/c@` + digest + ` 0`,
				`image base-oscontainer.manifest-list-digest quay.io/o/c@` + digest + ` 0`,
				`image base-oscontainer.tags[0] quay.io/o/c:s 0`,
			}},
		"rhcos.json": {data: `{"baseURI": "https://e.org/old/1/", "buildid": "1", "images": {"qemu": {"path": "q.xz", "sha256": "aa", "size": "7"}}}`,
			want: []string{`file images.qemu.path https://e.org/old/1/q.xz 0 aa`}},
		"ConfigMap": {data: "---\napiVersion: v1\nkind: ConfigMap\ndata:\n  releaseVersion: '1'\n  template: '{{x}}'\n  stream: |\n    {\"a\": {\"location\": \"<not-used>\", \"sha256\": \"aa\"}}\n  streams: '{\"\": {\"location\": \"https://e.org/x\"}}'\n",
			want: []string{
				`file data.stream.a.location <not-used> 0 aa ! not an address`,
				`file data.streams[""].location https://e.org/x 0`,
			}},
		"graph": {data: `{"nodes": [{"version": "1", "payload": "quay.io/o/r@` + digest + `", "metadata": {"url": "https://e.org/errata"}}, {"version": "2", "payload": "` + strings.Repeat("a", 64) + `", "metadata": {}}]}`,
			want: []string{`image nodes[0].payload quay.io/o/r@` + digest + ` 0`, `address nodes[0].metadata.url https://e.org/errata 0`}},
		"relative": {url: "https://e.org/a/b.json", data: `[{"location": "../c"}, {"url": "not one"}, {"url": "d?x=1", "sha256": "aa", "size": 3}, {"location": "https:nohost"}, {"location": ""}, {"location": 3}]`,
			want: []string{`file [0].location https://e.org/c 0`, `file [2].url https://e.org/a/d?x=1 3 aa`, `file [3].location https:nohost 0 ! an address without host`}},
		"twice":   {data: `{"location": "https://e.org/1", "location": "https://e.org/2"}`, want: []string{`file location https://e.org/1 0`, `file location https://e.org/2 0`}},
		"unknown": {data: `{"location": "x"}`, want: []string{`file location x 0 ! relative, and the document's own address is not known`}},
	} {
		t.Run(name, func(t *testing.T) {
			links, err := linkcheck.Links(linkcheck.Document{Name: name, URL: tc.url, Data: []byte(tc.data)})
			require.NoError(t, err)
			var got []string
			for _, l := range links {
				require.Equal(t, name, l.Document)
				text := fmt.Sprintf("%s %s %s %d", l.Kind, l.Path, l.URL, l.Size)
				if l.SHA256 != "" {
					text += " " + l.SHA256
				}
				if l.Fault != "" {
					text += " ! " + l.Fault
				}
				got = append(got, text)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestLinksRefusesDocuments(t *testing.T) {
	many := `[` + strings.TrimSuffix(strings.Repeat(`{"location":"a"},`, linkcheck.MaxDocumentLinks+1), ",") + `]`
	for name, doc := range map[string]linkcheck.Document{
		"empty":         {},
		"no JSON":       {Data: []byte(`{"a":`)},
		"two":           {Data: []byte(`{} {}`)},
		"text":          {Data: []byte(`hello`)},
		"two of YAML":   {Data: []byte("a: 1\n---\nb: 2\n")},
		"deep":          {Data: []byte(strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100))},
		"many values":   {Data: []byte(`[` + strings.Repeat(`1,`, 400_000) + `1]`)},
		"many links":    {Data: []byte(many)},
		"large":         {Data: bytes.Repeat([]byte(" "), linkcheck.MaxDocumentSize+1)},
		"bad ConfigMap": {Data: []byte(`{"kind": "ConfigMap", "data": {"stream": "{"}}`)},
		"bad address":   {URL: "x/y", Data: []byte(`{}`)},
		"long path":     {Data: []byte(`{"` + strings.Repeat("k", 1025) + `":{"location":"a"}}`)},
		"aliases":       {Data: []byte("kind: ConfigMap\ndata: {a: &x '{\"url\": \"a://b\"}', b: *x, c: *x}\n")},
		"alias bomb":    {Data: []byte("a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n")},
	} {
		_, err := linkcheck.Links(doc)
		require.Error(t, err, name)
		var pe *publish.Error
		require.ErrorAs(t, err, &pe, name)
		_, err = linkcheck.Check(t.Context(), []linkcheck.Document{doc}, nil)
		require.Error(t, err, name)
	}
	_, err := linkcheck.Check(t.Context(), []linkcheck.Document{{Data: []byte(`[{"location":"a"},{"location":"b"}]`)}}, &linkcheck.Options{MaxLinks: 1})
	require.ErrorContains(t, err, "more than 1 links")
}

// TestLinksGrowWithTheDocument: neither their number nor what they cost grows
// with the square of what is there several times.
func TestLinksGrowWithTheDocument(t *testing.T) {
	many := func(s string) string { return strings.Repeat(s, 30_000/len(s)) }
	long := strings.Repeat("a", 30_000)
	for name, text := range map[string]string{
		"signatures":     `{` + many(`"url":"a://b",`) + many(`"signature":"b",`) + `"":0}`,
		"tags":           `{"image":"i",` + many(`"digest":"d",`) + `"tags":[` + many(`"",`) + `0]}`,
		"long image":     `{"image":"` + long + `",` + many(`"digest":"d",`) + `"":0}`,
		"long reference": `{"image":"` + long + `",` + many(`"digest-ref":"d",`) + `"":0}`,
		"long build":     `{"schema-version":"1","builds":[{"id":"` + long + `","arches":[` + many(`1,`) + `1]}]}`,
		"long key":       `{"` + long + `":[` + many(`1,`) + `1]}`,
		"text":           "kind: ConfigMap\ndata: {a: '{" + many(`"url": "a://b", `) + "\"\": 0}', b: 'x &amp; *x*, https://e.org/?a=*b&c=d'}\n",
	} {
		links, err := fuzzbound.Parse(t, 4096, func(data []byte) ([]linkcheck.Link, error) {
			return linkcheck.Links(linkcheck.Document{Name: "d", Data: data})
		}, []byte(text))
		if name == "long key" {
			require.ErrorContains(t, err, "a path of more than")
			continue
		}
		require.NoError(t, err, name)
		require.NotEmpty(t, links, name)
		require.LessOrEqual(t, len(links), len(text)/2, name)
	}
}

const base = "https://example.org/files"

func TestCheckStore(t *testing.T) {
	s := memstore.New()
	put(t, s, "p/builds/1/x86_64/good", "good")
	put(t, s, "p/builds/1/x86_64/good.sig", "sig")
	put(t, s, "p/builds/1/x86_64/other", "other")
	doc := linkcheck.Document{Name: "stream", Data: []byte(fmt.Sprintf(`[
		{"location": "%[1]s/good", "sha256": "%[2]s", "size": 4, "signature": "%[1]s/good.sig"},
		{"location": "%[1]s/gone", "sha256": "%[2]s"},
		{"location": "%[1]s/other", "sha256": "%[2]s"},
		{"location": "%[1]s/other", "size": 4},
		{"location": "%[1]s/other", "sha256": "short"},
		{"location": "%[1]s/%%2e%%2e/good"},
		{"location": "https://elsewhere.example/x"},
		{"location": "ftp://elsewhere.example/x"}
	]`, base+"/p/builds/1/x86_64", sum("good")))}
	opts := &linkcheck.Options{Mounts: []linkcheck.Mount{{URL: "https://example.org", Store: memstore.New()}, {URL: base, Store: s}}, Offline: true}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, opts)
	require.NoError(t, err)
	dir := base + "/p/builds/1/x86_64"
	require.Equal(t, []string{
		"ok file " + dir + "/good", "ok signature " + dir + "/good.sig", "missing file " + dir + "/gone", "wrong file " + dir + "/other",
		"wrong file " + dir + "/other", "wrong file " + dir + "/other", "refused file " + dir + "/%2e%2e/good",
		"skipped file https://elsewhere.example/x", "skipped file ftp://elsewhere.example/x",
	}, summary(report))
	require.EqualValues(t, 4, report.Links[0].FoundSize)
	require.Equal(t, sum("good"), report.Links[0].FoundSHA256)
	require.Contains(t, report.Links[3].Cause, "the document says "+sum("good"))
	require.Contains(t, report.Links[4].Cause, "has 5 bytes, the document says 4")

	err = report.Err()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, "[1].location: "+dir+"/gone")
	var text strings.Builder
	require.NoError(t, report.WriteText(&text, false))
	require.Equal(t, 6, strings.Count(text.String(), "\n"))
	require.Contains(t, text.String(), "9 links of 1 documents, 2 ok, 1 missing, 3 wrong, 1 refused, 2 skipped\n")
	data, err := json.Marshal(report)
	require.NoError(t, err)
	require.Contains(t, string(data), `{"document":"stream","path":"[0].location","kind":"file","url":"`+dir+`/good","sha256":"`+sum("good")+`","size":4,"verdict":"ok","foundSize":4,`)
}

// liar knows another checksum than its content has.
type liar struct{ publish.Store }

func (l liar) Stat(ctx context.Context, key string) (publish.Info, error) {
	info, err := l.Store.Stat(ctx, key)
	info.SHA256 = sum("good")
	return info, err
}

func TestChecksumsReadTheBytes(t *testing.T) {
	s := memstore.New()
	put(t, s, "a", "evil")
	doc := linkcheck.Document{Data: []byte(`{"location": "` + base + `/a", "sha256": "` + strings.ToUpper(sum("good")) + `"}`)}
	opts := &linkcheck.Options{Mounts: []linkcheck.Mount{{URL: base, Store: liar{s}}}}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, opts)
	require.NoError(t, err)
	require.NoError(t, report.Err(), "nothing was read")
	opts.Checksums = true
	report, err = linkcheck.Check(t.Context(), []linkcheck.Document{doc}, opts)
	require.NoError(t, err)
	require.ErrorIs(t, report.Err(), publish.ErrDigest)
	opts.MaxFileBytes = 3
	report, err = linkcheck.Check(t.Context(), []linkcheck.Document{doc}, opts)
	require.NoError(t, err)
	require.ErrorContains(t, report.Err(), "more than 3 bytes")
	require.Equal(t, linkcheck.Failed, report.Links[0].Verdict)
}

func TestRequireSignatures(t *testing.T) {
	s := memstore.New()
	for _, key := range []string{"a", "a.sig", "b", "c", "c.asc"} {
		put(t, s, key, key)
	}
	doc := linkcheck.Document{Data: []byte(fmt.Sprintf(`[{"location": "%[1]s/a", "signature": "%[1]s/a.sig"}, {"location": "%[1]s/b"}, {"location": "%[1]s/b?x=1#y"}, {"url": "%[1]s/c"}]`, base))}
	opts := &linkcheck.Options{Mounts: []linkcheck.Mount{{URL: base, Store: s}}, RequireSignatures: true}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, opts)
	require.NoError(t, err)
	require.Equal(t, []string{
		"ok file " + base + "/a", "ok signature " + base + "/a.sig", "ok file " + base + "/b", "missing signature " + base + "/b.sig",
		"ok file " + base + "/b?x=REDACTED#y", "ok address " + base + "/c",
	}, summary(report))
}

// TestFollow: the files of a catalogue and of an index.
func TestFollow(t *testing.T) {
	s := memstore.New()
	meta := func(id, file string) string {
		return `{"buildid": "` + id + `", "images": {"qemu": {"path": "` + file + `", "sha256": "` + sum(file) + `"}, "aws": {"path": "aws", "sha256": "` + sum("aws") + `"}}, "base-oscontainer": {"image": "quay.io/o/c", "digest": "sha256:` + sum("x") + `"}}`
	}
	put(t, s, "builds/2/x86_64/meta.json", meta("2", "q2"))
	put(t, s, "builds/2/x86_64/q2", "q2")
	put(t, s, "builds/2/x86_64/aws", "aws")
	put(t, s, "builds/1/x86_64/meta.json", meta("1", "q1"))
	put(t, s, "builds/1/x86_64/q1", "q1")
	put(t, s, "builds/2/release.json", `{"release": "2", "media": {"location": "`+base+`/builds/2/x86_64/q2", "sha256": "`+sum("q2")+`"}}`)
	put(t, s, "builds/1/release.json", `no JSON`)
	docs := []linkcheck.Document{
		{Name: "builds.json", URL: base + "/builds/builds.json", Data: []byte(`{"schema-version": "1.0.0", "builds": [{"id": "2", "arches": ["x86_64"]},
			{"id": "1", "arches": ["x86_64", "s390x"], "policy-cleanup": {"cloud-uploads": true, "images-kept": ["qemu"], "containers": true}}]}`)},
		{Name: "releases.json", URL: base + "/releases.json", Data: []byte(`{"releases": [{"version": "1", "metadata": "` + base + `/builds/1/release.json"}, {"version": "2", "metadata": "` + base + `/builds/2/release.json"}]}`)},
	}
	opts := &linkcheck.Options{Mounts: []linkcheck.Mount{{URL: base, Store: s}}, Offline: true, Follow: true}
	dir := base + "/builds/"
	want := []string{
		"ok document " + dir + "2/x86_64/meta.json", "ok document " + dir + "1/x86_64/meta.json", "missing document " + dir + "1/s390x/meta.json",
		"wrong document " + dir + "1/release.json", "ok document " + dir + "2/release.json",
		"ok file " + dir + "2/x86_64/q2", "ok file " + dir + "2/x86_64/aws", "skipped image quay.io/o/c@sha256:" + sum("x"),
		"ok file " + dir + "1/x86_64/q1", "skipped file " + dir + "1/x86_64/aws", "skipped image quay.io/o/c@sha256:" + sum("x"),
		"ok file " + dir + "2/x86_64/q2",
	}
	for _, workers := range []int{1, 4} {
		opts.Workers = workers
		var last [2]int
		opts.Progress = func(done, total int) { last = [2]int{done, total} }
		report, err := linkcheck.Check(t.Context(), docs, opts)
		require.NoError(t, err)
		require.Equal(t, want, summary(report))
		require.Equal(t, 5, report.Documents)
		require.Equal(t, [2]int{12, 12}, last)
		require.Equal(t, dir+"2/x86_64/meta.json", report.Links[5].Document)
		require.True(t, report.Links[9].Removed)
	}
	opts.Follow = false
	report, err := linkcheck.Check(t.Context(), docs, opts)
	require.NoError(t, err)
	require.Len(t, report.Links, 5)
	require.Equal(t, linkcheck.OK, report.Links[3].Verdict, "it is there")

	// Documents that name documents without end.
	ring := `{"version": "1", "metadata": "` + base + `/ring/%d"}`
	for i := range 9 {
		put(t, s, fmt.Sprintf("ring/%d", i), fmt.Sprintf(ring, i+1))
	}
	opts.Follow = true
	report, err = linkcheck.Check(t.Context(), []linkcheck.Document{{Data: []byte(fmt.Sprintf(ring, 0))}}, opts)
	require.NoError(t, err)
	require.Len(t, report.Links, 3)
}

// TestMirrors: what a folder serves, and what its mirror lacks.
func TestMirrors(t *testing.T) {
	store, err := dirstore.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	defer store.Close()
	put(t, store, "b/1/release.json", `[{"location": "`+base+`/b/1/disk", "sha256": "`+sum("disk")+`", "size": 4, "signature": "`+base+`/b/1/disk.sig"}]`)
	put(t, store, "b/1/disk", "disk")
	put(t, store, "b/1/disk.sig", "sig")
	folder := t.TempDir()
	for name, content := range map[string]string{"b/1/release.json": "[]", "b/1/disk": "disc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(folder, "b/1"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644))
	}
	served := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer served.Close()
	doc := linkcheck.Document{Name: "releases.json", Data: []byte(`{"releases": [{"version": "1", "metadata": "` + base + `/b/1/release.json"}]}`)}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, &linkcheck.Options{
		Mounts: []linkcheck.Mount{{URL: base, Store: store}}, Mirrors: []linkcheck.Mirror{{Of: base, At: served.URL}},
		AllowPrivate: true, Follow: true, Checksums: true,
	})
	require.NoError(t, err)
	require.Equal(t, []string{
		"ok document " + base + "/b/1/release.json", "ok document " + served.URL + "/b/1/release.json",
		"ok file " + base + "/b/1/disk", "wrong file " + served.URL + "/b/1/disk",
		"ok signature " + base + "/b/1/disk.sig", "missing signature " + served.URL + "/b/1/disk.sig",
	}, summary(report))
}

type registry map[string]string // reference -> digest

func (r registry) Head(_ context.Context, ref name.Reference) (*v1.Descriptor, error) {
	if digest, ok := r[ref.Name()]; ok {
		hash, err := v1.NewHash(digest)
		return &v1.Descriptor{Digest: hash}, err
	}
	return nil, &publish.Error{Op: "head", Target: ref.Name(), Err: fs.ErrNotExist}
}

func TestImages(t *testing.T) {
	good, other := "sha256:"+sum("a"), "sha256:"+sum("b")
	r := registry{"quay.io/o/c@" + good: good, "quay.io/o/c:s": good, "quay.io/o/c@" + other: good}
	doc := linkcheck.Document{Data: []byte(fmt.Sprintf(`[{"image": "quay.io/o/c:s", "digest-ref": "quay.io/o/c@%[1]s"}, {"digest-ref": "quay.io/o/gone@%[1]s"}, {"digest-ref": "quay.io/o/c@%[2]s"}, {"digest-ref": "c"}, {"digest-ref": "10.0.0.1:5000/o/c@%[1]s"}]`, good, other))}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, &linkcheck.Options{Registry: r})
	require.NoError(t, err)
	require.Equal(t, []string{
		"ok image quay.io/o/c@" + good, "ok image quay.io/o/c:s", "missing image quay.io/o/gone@" + good, "wrong image quay.io/o/c@" + other, "refused image c",
		"refused image 10.0.0.1:5000/o/c@" + good,
	}, summary(report))
}

// server of a test: another host than the next one's, as its port differs.
func server(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// authorized adds credentials for one host, as a caller's transport may.
type authorized struct {
	next http.RoundTripper
	host string
}

func (a authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == a.host {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer secret")
	}
	return a.next.RoundTrip(req)
}

func TestCheckHTTP(t *testing.T) {
	var leaked atomic.Value
	other := server(t, func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"Authorization", "Cookie", "Referer"} {
			if r.Header.Get(h) != "" {
				leaked.Store(h + " at " + r.URL.Path)
			}
		}
		if r.URL.Path == "/target" {
			io.WriteString(w, "good")
			return
		}
		http.NotFound(w, r)
	})
	var heads, gets atomic.Int64
	main := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.Method {
		case http.MethodHead:
			heads.Add(1)
		default:
			gets.Add(1)
		}
		w.Header().Set("Set-Cookie", "a=b")
		switch r.URL.Path {
		case "/good", "/only-get":
			if r.Method == http.MethodHead && r.URL.Path == "/only-get" {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			io.WriteString(w, "good")
		case "/short":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "good")
		case "/page":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "sign in")
		case "/denied":
			w.WriteHeader(http.StatusForbidden)
		case "/broken":
			w.WriteHeader(http.StatusBadGateway)
		case "/away":
			http.Redirect(w, r, other.URL+"/target", http.StatusFound)
		case "/away-gone":
			http.Redirect(w, r, other.URL+"/gone", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/user":
			w.Header().Set("Location", "https://u:p@example.org/")
			w.WriteHeader(http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	host, err := url.Parse(main.URL)
	require.NoError(t, err)
	want := map[string][2]linkcheck.Verdict{ // without and with checksums
		"/good": {"ok", "ok"}, "/only-get": {"ok", "ok"}, "/short": {"ok", "failed"}, "/page": {"wrong", "wrong"}, "/denied": {"missing", "missing"},
		"/broken": {"failed", "failed"}, "/away": {"ok", "ok"}, "/away-gone": {"missing", "missing"}, "/loop": {"refused", "refused"},
		"/file": {"refused", "refused"}, "/user": {"refused", "refused"}, "/gone": {"missing", "missing"},
	}
	var entries []string
	for path := range want {
		// Each twice: one request.
		for range 2 {
			entries = append(entries, fmt.Sprintf(`{"location": "%s%s", "sha256": "%s"}`, main.URL, path, sum("good")))
		}
	}
	doc := linkcheck.Document{Name: "stream", Data: []byte("[" + strings.Join(entries, ",") + "]")}
	for i, checksums := range []bool{false, true} {
		heads.Store(0)
		gets.Store(0)
		report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, &linkcheck.Options{
			Transport: authorized{quick(), host.Host}, AllowPrivate: true, Checksums: checksums,
		})
		require.NoError(t, err)
		require.Len(t, report.Links, 2*len(want))
		for _, l := range report.Links {
			require.Equal(t, want[strings.TrimPrefix(l.URL, main.URL)][i], l.Verdict, "%v", l)
			require.NotContains(t, l.Cause, "secret")
			if l.Verdict == linkcheck.OK && checksums {
				require.Equal(t, sum("good"), l.FoundSHA256)
			}
		}
		if !checksums {
			require.EqualValues(t, 12+2+10, heads.Load(), "one each, two repetitions, ten redirects")
			require.EqualValues(t, 2, gets.Load(), "where HEAD is refused")
		}
	}
	require.Nil(t, leaked.Load())
}

func TestHostileAddresses(t *testing.T) {
	inside := server(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	port := inside.URL[strings.LastIndex(inside.URL, ":"):]
	addresses := []string{
		inside.URL + "/x", "http://localhost" + port + "/x", "http://LOCALHOST." + port + "/x", "http://[::1]" + port + "/x", "http://[::ffff:127.0.0.1]" + port + "/x",
		"http://169.254.169.254/latest/meta-data", "http://10.1.2.3/x", "http://0.0.0.0" + port + "/x", "http://[64:ff9b::7f00:1]/x", "http://metadata.google.internal/x", "http://kubernetes.default.svc/x",
		"file:///etc/passwd", "ftp://example.org/x", "javascript:alert(1)", "https://user:hunter2@example.org/x", "https://example.org/\u001b[2J", "http://[::1", "https:///x",
		"https://example.org/" + strings.Repeat("a", linkcheck.MaxURLSize),
	}
	var entries []map[string]string
	for _, a := range addresses {
		entries = append(entries, map[string]string{"location": a})
	}
	data, err := json.Marshal(entries)
	require.NoError(t, err)
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{{Name: "evil\u001b[2J", Data: data}}, nil)
	require.NoError(t, err)
	require.Len(t, report.Links, len(addresses))
	for i, l := range report.Links {
		require.Equal(t, linkcheck.Refused, l.Verdict, "%s: %v", addresses[i], l)
	}
	var text strings.Builder
	require.NoError(t, report.WriteText(&text, true))
	require.NotContains(t, text.String(), "\u001b")
	require.NotContains(t, text.String(), "hunter2")
	require.ErrorContains(t, report.Err(), "and 14 more")
}

// TestNotDialled: what a name stands for is judged, too.
func TestNotDialled(t *testing.T) {
	inside := server(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	_, err := linkcheck.Guarded(false).DialContext(t.Context(), "tcp", strings.TrimPrefix(inside.URL, "http://"))
	require.ErrorContains(t, err, "not of the public internet")
	conn, err := linkcheck.Guarded(true).DialContext(t.Context(), "tcp", strings.TrimPrefix(inside.URL, "http://"))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// TestWorkers: no more requests at once than asked for, and none after the end.
func TestWorkers(t *testing.T) {
	var now, most atomic.Int64
	var once sync.Once
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cancel" {
			once.Do(cancel)
			<-r.Context().Done()
			return
		}
		n := now.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	})
	var entries []string
	for i := range 20 {
		entries = append(entries, fmt.Sprintf(`{"location": "%s/%d"}`, s.URL, i))
	}
	doc := linkcheck.Document{Data: []byte("[" + strings.Join(entries, ",") + "]")}
	report, err := linkcheck.Check(t.Context(), []linkcheck.Document{doc}, &linkcheck.Options{Workers: 3, AllowPrivate: true})
	require.NoError(t, err)
	require.Equal(t, 20, report.Counts[linkcheck.OK])
	require.LessOrEqual(t, most.Load(), int64(3))

	_, err = linkcheck.Check(ctx, []linkcheck.Document{{Data: []byte(`{"location": "` + s.URL + `/cancel"}`)}}, &linkcheck.Options{AllowPrivate: true})
	require.ErrorIs(t, err, context.Canceled)
}

func FuzzLinks(f *testing.F) {
	for _, seed := range []string{
		`{"architectures": {"x": {"location": "https://e.org/a", "signature": "b", "sha256": "c", "size": 1e3}}}`, `{"schema-version": "1.0.0", "builds": [{"id": "1", "arches": ["x", 2]}]}`,
		`{"buildid": "1", "baseURI": "https://e.org/", "images": {"a": {"path": "p", "size": -1}}, "x": {"image": "i", "digest": "d", "tags": ["t", 1]}}`,
		`{"releases": [{"version": "1", "metadata": "m", "digest-ref": "r"}]}`, "kind: ConfigMap\ndata: {stream: '{\"url\": \"a://b\"}'}", `[null, true, 1, "x", [[]], {"": {"location": "%zz"}}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		links, err := fuzzbound.Parse(t, 4096, func(data []byte) ([]linkcheck.Link, error) {
			return linkcheck.Links(linkcheck.Document{Name: "d", URL: "https://example.org/a/b.json", Data: data})
		}, data)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(links), len(data))
		for _, l := range links {
			require.NotEmpty(t, l.Path)
			require.LessOrEqual(t, len(l.URL), linkcheck.MaxURLSize)
			require.NotContains(t, l.Path, "\u001b")
		}
		again, err := linkcheck.Links(linkcheck.Document{Name: "d", URL: "https://example.org/a/b.json", Data: data})
		require.NoError(t, err)
		require.Equal(t, links, again)
		report, err := linkcheck.Check(t.Context(), []linkcheck.Document{{Name: "d", URL: "https://example.org/a/b.json", Data: data}}, &linkcheck.Options{
			Mounts: []linkcheck.Mount{{URL: "https://example.org", Store: memstore.New()}}, Offline: true, Follow: true,
		})
		require.NoError(t, err)
		require.Len(t, report.Links, len(links))
		require.NoError(t, report.WriteText(io.Discard, true))
	})
}

func BenchmarkLinks(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteString(`{"architectures": {`)
	for i := range 4 {
		if i > 0 {
			doc.WriteString(",")
		}
		fmt.Fprintf(&doc, `"arch%d": {"artifacts": {`, i)
		for j := range 20 {
			if j > 0 {
				doc.WriteString(",")
			}
			fmt.Fprintf(&doc, `"p%d": {"release": "44.20260628.3.1", "formats": {"raw.xz": {"disk": {"location": "https://example.org/prod/streams/stable/builds/44.20260628.3.1/arch/file-%d.raw.xz", "signature": "https://example.org/prod/streams/stable/builds/44.20260628.3.1/arch/file-%d.raw.xz.sig", "sha256": %q}}}}`, j, j, j, sum("x"))
		}
		doc.WriteString(`}}`)
	}
	doc.WriteString(`}}`)
	b.SetBytes(int64(doc.Len()))
	b.ReportAllocs()
	for b.Loop() {
		links, err := linkcheck.Links(linkcheck.Document{Data: doc.Bytes()})
		require.NoError(b, err)
		require.Len(b, links, 160)
	}
}
