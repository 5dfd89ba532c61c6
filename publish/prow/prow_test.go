package prow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/prow"
)

const presubmit = `{"type":"presubmit","job":"pull-ci-openshift-os-master-images","buildid":"17","prowjobid":"x","refs":{"org":"openshift","repo":"os","base_ref":"master","base_sha":"abc","pulls":[{"number":12,"author":"ann","sha":"def","title":"x"}]},"decoration_config":{}}`

func TestJobSpec(t *testing.T) {
	for name, test := range map[string]struct{ text, path, fault string }{
		"presubmit":     {presubmit, "pr-logs/pull/openshift_os/12/pull-ci-openshift-os-master-images/17", ""},
		"periodic":      {`{"type":"periodic","job":"p","buildid":"1","extra_refs":[{"org":"o","repo":"r"}]}`, "logs/p/1", ""},
		"postsubmit":    {`{"type":"postsubmit","job":"p","buildid":"1","refs":{"org":"o","repo":"r"}}`, "logs/p/1", ""},
		"batch":         {`{"type":"batch","job":"p","buildid":"1","refs":{"org":"o","repo":"r"}}`, "pr-logs/pull/batch/p/1", ""},
		"empty":         {``, "", "unexpected end"},
		"type":          {`{"type":"x","job":"p","buildid":"1"}`, "", `type "x"`},
		"no job":        {`{"type":"periodic","buildid":"1"}`, "", "job or buildid is missing"},
		"no refs":       {`{"type":"presubmit","job":"p","buildid":"1"}`, "", "without refs"},
		"no pull":       {`{"type":"presubmit","job":"p","buildid":"1","refs":{"org":"o","repo":"r"}}`, "", "0 pull requests"},
		"escape":        {`{"type":"periodic","job":"..","buildid":"../x"}`, "", `name ".."`},
		"more than may": {strings.Repeat(" ", prow.MaxDocumentSize+1), "", "limit 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := prow.DecodeJobSpec(test.text)
			if test.fault != "" {
				require.ErrorContains(t, err, test.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.path, s.Path())
		})
	}
}

func TestFinished(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		success bool
		fault   string
	}{
		"passed":         {`{"timestamp":1764115200,"passed":true,"result":"SUCCESS","metadata":{"x":1}}`, true, ""},
		"failed":         {`{"timestamp":1,"passed":false,"result":"FAILURE"}`, false, ""},
		"aborted":        {`{"timestamp":1,"result":"ABORTED"}`, false, ""},
		"result alone":   {`{"timestamp":1,"result":"SUCCESS"}`, true, ""},
		"passed alone":   {`{"timestamp":1,"passed":true}`, true, ""},
		"silence":        {`{"timestamp":1}`, false, "neither passed nor result"},
		"contradiction":  {`{"timestamp":1,"passed":true,"result":"FAILURE"}`, false, "passed is true and result \"FAILURE\""},
		"not JSON":       {`<html>`, false, "invalid character"},
		"passed as text": {`{"passed":"true"}`, false, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := prow.DecodeFinished([]byte(test.text))
			if test.fault != "" {
				require.ErrorContains(t, err, test.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.success, f.Success())
		})
	}
	f, err := prow.DecodeFinished([]byte(`{"timestamp":1764115200,"passed":true}`))
	require.NoError(t, err)
	require.Equal(t, time.Date(2025, 11, 26, 0, 0, 0, 0, time.UTC), f.Time())
}

// nested is of the kinds of JUnit that OpenShift's tests write.
const nested = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="openshift-tests" tests="5"><property name="TestVersion" value="4.22"/>
<testcase name="a" time="1.5"/><testcase name="b" time="1,000"><failure message="no">line &lt;1&gt;</failure><system-out>x</system-out></testcase>
<testcase name="b" time="3"/><testcase name="c"><skipped message="why"/></testcase>
<testsuite><testcase name="d"><error/></testcase></testsuite></testsuite>
<testsuite name="other"><testcase name="a"><failure></failure></testcase></testsuite></testsuites>`

func TestJUnit(t *testing.T) {
	j, err := prow.DecodeJUnit(strings.NewReader(nested))
	require.NoError(t, err)
	require.Equal(t, []prow.Case{
		{Suite: "openshift-tests", Name: "a", Duration: 1500 * time.Millisecond},
		{Suite: "openshift-tests", Name: "b", Duration: 1000 * time.Second, Failure: "no\nline <1>"},
		{Suite: "openshift-tests", Name: "b", Duration: 3 * time.Second},
		{Suite: "openshift-tests", Name: "c", Skipped: true},
		{Suite: "openshift-tests", Name: "d", Failure: "failed"},
		{Suite: "other", Name: "a", Failure: "failed"},
	}, j.Cases)
	passed, failed, skipped := j.Count()
	require.Equal(t, []int{2, 2, 1}, []int{passed, failed, skipped}, "b was flaky")

	var out bytes.Buffer
	require.NoError(t, j.Encode(&out))
	again, err := prow.DecodeJUnit(&out)
	require.NoError(t, err)
	require.Equal(t, j, again)

	j, err = prow.DecodeJUnit(strings.NewReader(`<testsuite/>`))
	require.NoError(t, err)
	require.Empty(t, j.Cases)
	for name, test := range map[string]struct{ text, want string }{
		"nothing":    {"", "no test suite"},
		"HTML":       {"<html><body/></html>", "<html> is no test suite"},
		"cut":        {nested[:300], "EOF"},
		"test alone": {"<testcase/>", "a test outside a suite"},
		"deep":       {strings.Repeat("<testsuite>", 40), "deeper than 32"},
		"entity":     {`<!DOCTYPE a [<!ENTITY b "c">]><testsuite name="&b;"/>`, "invalid character entity"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prow.DecodeJUnit(strings.NewReader(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestJUnitLimits(t *testing.T) {
	const text = `<testsuite><testcase name="a"/><testcase name="b"/></testsuite>`
	_, err := prow.DecodeJUnitWithin(strings.NewReader(text), int64(len(text)), 2)
	require.NoError(t, err)
	_, err = prow.DecodeJUnitWithin(strings.NewReader(text), int64(len(text))-1, 2)
	require.ErrorContains(t, err, "more than 62 bytes")
	_, err = prow.DecodeJUnitWithin(strings.NewReader(text), int64(len(text)), 1)
	require.ErrorContains(t, err, "more than 1 tests")
}

// scos is an image stream of openshift/release, by pipelines.md 3.1, as it is
// after an import.
const scos = `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"scos-4.22","namespace":"origin"},
"spec":{"tags":[{"name":"stream-coreos","from":{"kind":"DockerImage","name":"registry.example.com/okd/scos:4.22"},"importPolicy":{"scheduled":true},"referencePolicy":{"type":"Local"}}]},
"status":{"tags":[{"tag":"stream-coreos","items":[{"created":"2026-11-26T00:00:00Z","dockerImageReference":"x","image":"sha256:1111111111111111111111111111111111111111111111111111111111111111","generation":2}]},
{"tag":"broken","items":[{"image":"sha256:1111111111111111111111111111111111111111111111111111111111111111"}],"conditions":[{"type":"ImportSuccess","status":"False","reason":"Unauthorized","message":"no access"}]},{"tag":"empty","items":null}]}}`

func imageStream(t testing.TB) *prow.ImageStream {
	t.Helper()
	s := &prow.ImageStream{}
	require.NoError(t, json.Unmarshal([]byte(scos), s))
	return s
}

func digest(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(c, 64)} }

func TestImported(t *testing.T) {
	s := imageStream(t)
	require.NoError(t, s.Imported("stream-coreos", digest("1")))
	require.ErrorContains(t, s.Imported("stream-coreos", digest("2")), "origin/scos-4.22:stream-coreos is at sha256:1111")
	require.ErrorContains(t, s.Imported("broken", digest("1")), "import failed: Unauthorized no access")
	require.ErrorContains(t, s.Imported("empty", digest("1")), "has no image")
	require.ErrorContains(t, s.Imported("none", digest("1")), "has no image")

	data, err := json.Marshal(s)
	require.NoError(t, err)
	again := &prow.ImageStream{}
	require.NoError(t, json.Unmarshal(data, again))
	require.Equal(t, s, again)
}

// TestProducers has art-tools#3296: two producers of stream-coreos race.
func TestProducers(t *testing.T) {
	ok := []prow.Producer{{"okd-scos-next", "origin", "scos-4.22", "stream-coreos"}, {"okd-scos-next", "origin", "scos-4.22", "stream-coreos"}, {"okd-scos-stable", "origin", "scos-4.21", "stream-coreos"}}
	require.NoError(t, prow.CheckProducers(ok))
	err := prow.CheckProducers(append(ok, prow.Producer{"ART's mirror", "origin", "scos-4.22", "stream-coreos"}))
	require.EqualError(t, err, "publish/prow: check origin/scos-4.22:stream-coreos: written by okd-scos-next and ART's mirror")
}

// shelf is a registry with an image at a tag.
func shelf(t testing.TB) (publish.Registry, name.Tag, v1.Hash) {
	t.Helper()
	r, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	tag, err := name.NewTag("registry.example.com/okd/scos:4.22")
	require.NoError(t, err)
	return r, tag, push(t, r, tag)
}

func push(t testing.TB, r publish.Registry, tag name.Tag) v1.Hash {
	t.Helper()
	img, err := random.Image(64, 1)
	require.NoError(t, err)
	desc, err := r.WriteImage(t.Context(), tag.Context(), img, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), tag, desc.Digest))
	return desc.Digest
}

func TestHandOver(t *testing.T) {
	r, tag, want := shelf(t)
	require.NoError(t, prow.HandOver(t.Context(), r, tag, want, nil))
	err := prow.HandOver(t.Context(), r, tag, digest("1"), nil)
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, "somebody else pushes to it")
	none := tag.Context().Tag("none")
	require.Error(t, prow.HandOver(t.Context(), r, none, want, nil))

	// The import happens at the third look.
	looks, slept := 0, time.Duration(0)
	opts := &prow.HandOverOptions{
		Stream: func(context.Context) (*prow.ImageStream, error) {
			s := imageStream(t)
			if looks++; looks == 3 {
				s.Status.Tags[0].Items[0].Image = want.String()
			}
			return s, nil
		},
		StreamTag: "stream-coreos",
		Wait:      func(_ context.Context, d time.Duration) error { slept += d; return nil },
	}
	require.NoError(t, prow.HandOver(t.Context(), r, tag, want, opts))
	require.Equal(t, time.Minute, slept)

	// It never does, or the API is gone, or the caller is.
	looks, slept = 100, 0
	opts.Limit = 50 * time.Second
	err = prow.HandOver(t.Context(), r, tag, want, opts)
	require.ErrorContains(t, err, "origin/scos-4.22:stream-coreos is at sha256:1111")
	require.Equal(t, 50*time.Second, slept)
	gone := errors.New("gone")
	opts.Wait = func(context.Context, time.Duration) error { return gone }
	require.ErrorIs(t, prow.HandOver(t.Context(), r, tag, want, opts), gone)
	opts.Stream = func(context.Context) (*prow.ImageStream, error) { return nil, gone }
	require.ErrorIs(t, prow.HandOver(t.Context(), r, tag, want, opts), gone)

	opts = &prow.HandOverOptions{Stream: func(context.Context) (*prow.ImageStream, error) { return imageStream(t), nil }, StreamTag: "stream-coreos"}
	ctx, cancel := context.WithCancelCause(t.Context())
	opts.Stream = func(context.Context) (*prow.ImageStream, error) { cancel(gone); return imageStream(t), nil }
	require.ErrorIs(t, prow.HandOver(ctx, r, tag, want, opts), gone)
}

func TestWatch(t *testing.T) {
	r, tag, first := shelf(t)
	gone := errors.New("gone")
	var second v1.Hash
	waits := 0
	opts := &prow.WatchOptions{Wait: func(context.Context, time.Duration) error {
		switch waits++; waits {
		case 2:
			second = push(t, r, tag)
		case 5:
			return gone
		}
		return nil
	}}
	var got []v1.Hash
	for d, err := range prow.Watch(t.Context(), r, tag, opts) {
		if err != nil {
			require.ErrorIs(t, err, gone)
			continue
		}
		got = append(got, d)
	}
	require.Equal(t, []v1.Hash{first, second}, got)
	for range prow.Watch(t.Context(), r, tag, &prow.WatchOptions{Last: first}) {
		break
	}
	waits = 3
	for _, err := range prow.Watch(t.Context(), r, tag.Context().Tag("none"), opts) {
		require.ErrorIs(t, err, gone, "a tag that is not there is waited for")
	}
}

func FuzzDecodeJUnit(f *testing.F) {
	f.Add([]byte(nested))
	f.Add([]byte(`<testsuite name="a"><testcase name="&#x1;" time="NaN"/></testsuite>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := fuzzbound.Read(t, 512, prow.DecodeJUnit, data)
		if err != nil {
			return
		}
		var one bytes.Buffer
		require.NoError(t, j.Encode(&one))
		again, err := prow.DecodeJUnit(bytes.NewReader(one.Bytes()))
		require.NoError(t, err)
		require.Len(t, again.Cases, len(j.Cases))
		p1, f1, s1 := j.Count()
		require.Equal(t, len(j.Cases) > 0, p1+f1+s1 > 0)
	})
}

func FuzzDecodeJobSpec(f *testing.F) {
	for doc := range mutants.Of(presubmit, `{"type":"batch","job":"../x","buildid":"/","refs":{"org":"o","repo":"r"}}`) {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := fuzzbound.Parse(t, 512, prow.DecodeJobSpec, text)
		if err != nil {
			return
		}
		require.NotContains(t, strings.Split(s.Path(), "/"), "..")
	})
}

func FuzzDecodeFinished(f *testing.F) {
	mutants.Add(f, `{"timestamp":1,"passed":true,"result":"SUCCESS"}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		if f, err := fuzzbound.Parse(t, 512, prow.DecodeFinished, data); err == nil && f.Success() {
			require.True(t, f.Passed != nil && *f.Passed || f.Result == "SUCCESS")
		}
	})
}

func BenchmarkDecodeJUnit(b *testing.B) {
	text := "<testsuite>" + strings.Repeat(`<testcase name="[sig-network] a test with a long name" time="1.5"></testcase>`, 5000) + "</testsuite>"
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, err := prow.DecodeJUnit(strings.NewReader(text))
		require.NoError(b, err)
	}
}
