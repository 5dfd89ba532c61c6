package retention_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/faultstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/retention"
)

var now = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func put(t testing.TB, s publish.Store, key, text string) {
	t.Helper()
	_, err := s.Put(t.Context(), key, publish.BytesSource([]byte(text)), nil)
	require.NoError(t, err)
}

// bucket has builds that are so many days old, the last being the newest.
func bucket(t testing.TB, ages ...int) publish.Store {
	t.Helper()
	s := memstore.New()
	var entries []string
	for i, age := range ages {
		id := fmt.Sprintf("9.0.%d-0", i)
		entries = append([]string{fmt.Sprintf(`{"id":%q,"arches":["x86_64"]}`, id)}, entries...)
		dir := "builds/" + id + "/x86_64/"
		put(t, s, dir+"meta.json", fmt.Sprintf(`{"buildid":%q,"name":"scos","ostree-commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ostree-timestamp":"2020-01-01T00:00:00Z","ostree-version":"9.0",
			"coreos-assembler.build-timestamp":%q,"amis":[{"name":"us-east-1","hvm":"ami-1"}],
			"base-oscontainer":{"image":"registry.example.com/scos","digest":"sha256:%064x"},
			"images":{"qemu":{"path":"q.qcow2","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"metal":{"path":"m.raw","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"live-iso":{"path":"l.iso","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}`,
			id, now.Add(-time.Duration(age)*day).Format(time.RFC3339), i))
		for _, name := range []string{"q.qcow2", "m.raw", "m.raw.sig", "l.iso", "ostree.tar"} {
			put(t, s, dir+name, name)
		}
		put(t, s, "builds/"+id+"/release.json", "{}")
	}
	put(t, s, "builds/builds.json", `{"schema-version":"1.0.0","builds":[`+strings.Join(entries, ",")+`],"timestamp":"2026-11-26T00:00:00Z"}`)
	return s
}

func keys(t testing.TB, s publish.Store) []string {
	t.Helper()
	var out []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		out = append(out, info.Key)
	}
	return out
}

func catalogue(t testing.TB, s publish.Store) *bootimage.Builds {
	t.Helper()
	data, _, err := publish.ReadDocument(t.Context(), s, "builds/builds.json")
	require.NoError(t, err)
	d, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	require.NoError(t, err)
	return d.Value()
}

var policy = retention.Policy{CloudUploads: 10 * day, Images: 20 * day, ImagesKeep: []string{"qemu"}, Containers: 30 * day, Build: 40 * day}

// told is a step in words.
func told(s retention.Step) string {
	return fmt.Sprintf("%s %s %s %s", s.Build, s.Kind, strings.ReplaceAll(strings.Join(s.Keys, " "), "builds/"+s.Build+"/", ""), strings.Join(s.Images, " "))
}

func TestPlan(t *testing.T) {
	image := func(i int) string { return fmt.Sprintf("registry.example.com/scos@sha256:%064x", i) }
	for name, test := range map[string]struct {
		ages   []int
		policy retention.Policy
		pins   []retention.Pin
		change func(publish.Store)
		want   []string
		kept   []retention.Pin
	}{
		"young":     {ages: []int{9, 0}, policy: policy},
		"no policy": {ages: []int{999, 0}},
		"uploads":   {ages: []int{10, 0}, policy: policy, want: []string{"9.0.0-0 cloud-uploads  "}},
		"images":    {ages: []int{20, 0}, policy: policy, want: []string{"9.0.0-0 cloud-uploads  ", "9.0.0-0 images x86_64/l.iso x86_64/m.raw x86_64/m.raw.sig "}},
		"containers": {ages: []int{30, 0}, policy: policy, want: []string{"9.0.0-0 cloud-uploads  ", "9.0.0-0 images x86_64/l.iso x86_64/m.raw x86_64/m.raw.sig ",
			"9.0.0-0 containers  " + image(0)}},
		"build": {ages: []int{40, 0}, policy: policy, want: []string{
			"9.0.0-0 build release.json x86_64/l.iso x86_64/m.raw x86_64/m.raw.sig x86_64/ostree.tar x86_64/q.qcow2 x86_64/meta.json " + image(0)}},
		"the newest stays": {ages: []int{99}, policy: policy, kept: []retention.Pin{
			{Build: "9.0.0-0", Reason: "newest of x86_64", Kinds: []retention.Kind{"build"}}, {Build: "9.0.0-0", Reason: "newest of x86_64", Kinds: []retention.Kind{"cloud-uploads"}},
			{Build: "9.0.0-0", Reason: "newest of x86_64", Kinds: []retention.Kind{"images"}}, {Build: "9.0.0-0", Reason: "newest of x86_64", Kinds: []retention.Kind{"containers"}}}},
		"pinned": {ages: []int{99, 0}, policy: retention.Policy{Build: day}, pins: []retention.Pin{{Build: "9.0.0-0", Reason: "release 4.21.0-okd-scos.4"}},
			kept: []retention.Pin{{Build: "9.0.0-0", Reason: "release 4.21.0-okd-scos.4", Kinds: []retention.Kind{"build"}}}},
		"pinned containers": {ages: []int{35, 0}, policy: retention.Policy{Containers: day, CloudUploads: day}, pins: []retention.Pin{{Build: "9.0.0-0", Reason: "barrier", Kinds: []retention.Kind{retention.Containers}}},
			want: []string{"9.0.0-0 cloud-uploads  "}, kept: []retention.Pin{{Build: "9.0.0-0", Reason: "barrier", Kinds: []retention.Kind{"containers"}}}},
		"tagged": {ages: []int{99, 0}, policy: retention.Policy{Build: day}, change: func(s publish.Store) {
			_, err := publish.Update(context.Background(), s, "builds/builds.json", bootimage.TagBuild(bootimage.BuildTag{Name: "good", Target: "9.0.0-0"}, now), nil)
			if err != nil {
				panic(err)
			}
		}, kept: []retention.Pin{{Build: "9.0.0-0", Reason: "tag good", Kinds: []retention.Kind{"build"}}}},
		"cleaned before": {ages: []int{35, 0}, policy: policy, change: func(s publish.Store) {
			_, err := publish.Update(context.Background(), s, "builds/builds.json", bootimage.CleanBuild("9.0.0-0", bootimage.Cleanup{CloudUploads: true, Images: true, ImagesKept: []string{"qemu"}, Containers: true}, now), nil)
			if err == nil {
				err = errors.Join(s.Delete(context.Background(), "builds/9.0.0-0/x86_64/m.raw"), s.Delete(context.Background(), "builds/9.0.0-0/x86_64/m.raw.sig"))
			}
			if err != nil {
				panic(err)
			}
		}, want: []string{"9.0.0-0 images x86_64/l.iso "}},
		"left of a deleted build": {ages: []int{99, 0}, policy: retention.Policy{Build: 9999 * day}, change: func(s publish.Store) {
			if _, err := publish.Update(context.Background(), s, "builds/builds.json", bootimage.DeleteBuild("9.0.0-0", now), nil); err != nil {
				panic(err)
			}
		}, want: []string{"9.0.0-0 build release.json x86_64/l.iso x86_64/m.raw x86_64/m.raw.sig x86_64/ostree.tar x86_64/q.qcow2 x86_64/meta.json " + image(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := bucket(t, test.ages...)
			put(t, s, "builds/9.9.9-0/x86_64/meta.json", "{}")
			if test.change != nil {
				test.change(s)
			}
			p, err := retention.New(t.Context(), s, "builds/", test.policy, now, &retention.Options{Pins: test.pins})
			require.NoError(t, err)
			var got []string
			for _, step := range p.Steps {
				got = append(got, told(step))
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.kept, p.Kept)
			require.Equal(t, []string{"9.9.9-0"}, p.Unknown)

			data, err := json.Marshal(p)
			require.NoError(t, err)
			again, err := retention.DecodePlan(bytes.NewReader(data))
			require.NoError(t, err)
			require.Equal(t, p, again)
		})
	}
}

func TestApply(t *testing.T) {
	s := bucket(t, 45, 35, 25, 0)
	put(t, s, "builds/9.9.9-0/keep", "x")
	p, err := retention.New(t.Context(), s, "builds/", policy, now, nil)
	require.NoError(t, err)
	require.Len(t, p.Steps, 1+3+2)
	require.Positive(t, p.Bytes())
	var done, left []string
	opts := &retention.ApplyOptions{Progress: func(d retention.Done) {
		if d.Err != nil {
			require.ErrorIs(t, d.Err, errors.ErrUnsupported)
			left = append(left, d.Build+" "+string(d.Kind))
			return
		}
		done = append(done, d.Build+" "+string(d.Kind))
	}}
	require.NoError(t, p.Apply(t.Context(), s, now, opts))
	require.Equal(t, []string{"9.0.0-0 build", "9.0.1-0 images", "9.0.2-0 images"}, done)
	require.Equal(t, []string{"9.0.1-0 cloud-uploads", "9.0.1-0 containers", "9.0.2-0 cloud-uploads"}, left)
	c := catalogue(t, s)
	require.Equal(t, "9.0.0-0", c.Tombstones[0].ID)
	require.Len(t, c.Builds, 3)
	require.JSONEq(t, `{"images":true,"images-kept":["qemu"]}`, string(c.Builds[2].PolicyCleanup))
	all := keys(t, s)
	require.False(t, slices.ContainsFunc(all, func(k string) bool { return strings.HasPrefix(k, "builds/9.0.0-0/") }))
	require.Contains(t, all, "builds/9.0.1-0/x86_64/q.qcow2")
	require.NotContains(t, all, "builds/9.0.1-0/x86_64/m.raw")
	require.Contains(t, all, "builds/9.9.9-0/keep")

	// With hands for the rest, the next plan does the rest and the one after
	// it nothing.
	var removed []string
	opts.Containers = func(_ context.Context, build string, images []string) error {
		removed = append(removed, build+" "+fmt.Sprint(len(images)))
		return nil
	}
	opts.CloudUploads = func(_ context.Context, build string) error { removed = append(removed, build); return nil }
	p, err = retention.New(t.Context(), s, "builds/", policy, now, nil)
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), s, now, opts))
	require.Equal(t, []string{"9.0.1-0", "9.0.1-0 1", "9.0.2-0"}, removed)
	p, err = retention.New(t.Context(), s, "builds/", policy, now, nil)
	require.NoError(t, err)
	require.Empty(t, p.Steps)
}

// TestTaggedMeanwhile tags a build between plan and removal.
func TestTaggedMeanwhile(t *testing.T) {
	s := bucket(t, 99, 0)
	p, err := retention.New(t.Context(), s, "builds/", retention.Policy{Build: day}, now, nil)
	require.NoError(t, err)
	_, err = publish.Update(t.Context(), s, "builds/builds.json", bootimage.TagBuild(bootimage.BuildTag{Name: "good", Target: "9.0.0-0"}, now), nil)
	require.NoError(t, err)
	before := keys(t, s)
	opts := &retention.ApplyOptions{Containers: func(context.Context, string, []string) error { t.Error("images of a tagged build"); return nil }}
	require.ErrorIs(t, p.Apply(t.Context(), s, now, opts), bootimage.ErrTagged)
	require.Equal(t, before, keys(t, s))
}

// TestEachRequestFails interrupts a run at each request in turn, before it and
// after: the next plan does what is left, and nobody is ever sent to a file that
// is gone.
func TestEachRequestFails(t *testing.T) {
	opts := &retention.ApplyOptions{Containers: func(context.Context, string, []string) error { return nil }}
	run := func(faults ...faultstore.Fault) (*faultstore.Store, publish.Store, error) {
		s := bucket(t, 45, 25, 0)
		p, err := retention.New(t.Context(), s, "builds/", policy, now, nil)
		require.NoError(t, err)
		faulty := faultstore.New(s, faults...)
		return faulty, s, p.Apply(t.Context(), faulty, now, opts)
	}
	whole, s, err := run()
	require.NoError(t, err)
	want, requests := keys(t, s), len(whole.Calls())
	require.Greater(t, requests, 10)
	for n := 1; n <= requests; n++ {
		for _, kind := range []faultstore.Kind{faultstore.Before, faultstore.After} {
			_, s, _ := run(faultstore.Fault{N: n, Kind: kind})
			all := keys(t, s)
			for _, e := range catalogue(t, s).Builds {
				if e.PolicyCleanup == nil {
					require.Contains(t, all, "builds/"+e.ID+"/x86_64/m.raw", "request %d: listed and gone", n)
				}
			}
			p, err := retention.New(t.Context(), s, "builds/", policy, now, nil)
			require.NoError(t, err)
			require.NoError(t, p.Apply(t.Context(), s, now, opts))
			require.Equal(t, want, keys(t, s), "request %d", n)
		}
	}
}

func TestPolicies(t *testing.T) {
	p, err := retention.DecodePolicies(strings.NewReader("scos:\n  cloud-uploads: 1y\n  images: 18m # months\n  images-keep: [qemu, live-iso]\n  containers: 2w\n  build: 730d\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]retention.Policy{"scos": {CloudUploads: 365 * day, Images: 540 * day, ImagesKeep: []string{"qemu", "live-iso"}, Containers: 14 * day, Build: 730 * day}}, p)
	for name, test := range map[string]struct{ text, want string }{
		"unknown key":  {"s:\n  artifacts: 1d\n", "[2:3]"},
		"no unit":      {"s:\n  build: 12\n", "s.build"},
		"no number":    {"s:\n  build: m\n", `"m" is no age`},
		"zero":         {"s:\n  build: 0d\n", "is no age"},
		"negative":     {"s:\n  build: -1d\n", "is no age"},
		"too long":     {"s:\n  build: 101y\n", "is no age"},
		"keep alone":   {"s:\n  images-keep: [qemu]\n", "s.images-keep: without images"},
		"build first":  {"s:\n  build: 1m\n  images: 2m\n", "s.build: the build goes before"},
		"not a policy": {"[]", "policy"},
		"too large":    {strings.Repeat("#", retention.MaxPolicySize+1), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := retention.DecodePolicies(strings.NewReader(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestPolicyOfFedora reads the file of Fedora CoreOS' pipeline.
func TestPolicyOfFedora(t *testing.T) {
	file, err := os.Open(interop.SharedData(t, "bootimage", "pipeline", "gc-policy.yaml"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	p, err := retention.DecodePolicies(file)
	require.NoError(t, err)
	require.Len(t, p, 8)
	require.Equal(t, retention.Policy{CloudUploads: 360 * day, Containers: 14 * day, Images: 540 * day, ImagesKeep: []string{"qemu", "live-iso"}, Build: 720 * day}, p["rawhide"])
	require.Equal(t, 730*day, p["bodhi-updates"].Build)
}

func TestBadInput(t *testing.T) {
	for name, test := range map[string]struct {
		prefix string
		change func(publish.Store)
		want   string
	}{
		"prefix":       {"builds", func(publish.Store) {}, "does not end in /"},
		"no catalogue": {"none/", func(publish.Store) {}, "none/builds.json"},
		"catalogue":    {"builds/", func(s publish.Store) { put(t, s, "builds/builds.json", "{") }, "builds/builds.json"},
		"escape": {"builds/", func(s publish.Store) {
			put(t, s, "builds/builds.json", `{"schema-version":"1.0.0","builds":[{"id":"..","arches":[]}]}`)
		}, "not a build id"},
		"meta": {"builds/", func(s publish.Store) { put(t, s, "builds/9.0.0-0/x86_64/meta.json", "[") }, "builds/9.0.0-0/x86_64/meta.json"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bucket(t, 99, 0)
			test.change(s)
			_, err := retention.New(t.Context(), s, test.prefix, policy, now, nil)
			require.ErrorContains(t, err, test.want)
		})
	}
	// A path that leaves the build's folder is refused.
	s := bucket(t, 99, 0)
	put(t, s, "builds/9.0.0-0/x86_64/meta.json", `{"buildid":"x","name":"x","ostree-commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ostree-timestamp":"2020-01-01T00:00:00Z","ostree-version":"9.0","images":{"metal":{"path":"../../9.0.1-0/x86_64/m.raw","sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}`)
	_, err := retention.New(t.Context(), s, "builds/", retention.Policy{Images: day}, now, nil)
	require.ErrorContains(t, err, "images.metal.path")

	for name, text := range map[string]string{
		"not JSON":         `[`,
		"another build":    `{"prefix":"builds/","steps":[{"build":"a","kind":"build","keys":["builds/b/x"]}]}`,
		"outside":          `{"prefix":"builds/","steps":[{"build":"a","kind":"build","keys":["builds/a/../b/x"]}]}`,
		"catalogue itself": `{"prefix":"builds/","steps":[{"build":"a","kind":"build","keys":["builds/builds.json"]}]}`,
		"kind":             `{"steps":[{"build":"a","kind":"all"}]}`,
		"build":            `{"steps":[{"build":"a/b","kind":"build"}]}`,
		"prefix":           `{"prefix":"x","steps":[]}`,
		"unknown":          `{"prefix":"","steps":[],"more":1}`,
		"more":             `{"prefix":"","steps":[]} {"prefix":"","steps":[]}`,
	} {
		t.Run("plan: "+name, func(t *testing.T) {
			_, err := retention.DecodePlan(strings.NewReader(text))
			require.Error(t, err)
		})
	}
	_, err = retention.New(t.Context(), memstore.New(), "", policy, now, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func FuzzDecodePolicies(f *testing.F) {
	mutants.Add(f, "scos:\n  build: 1y\n  images-keep: [a]\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 4096, retention.DecodePolicies, data)
		if err != nil {
			return
		}
		for _, one := range p {
			require.GreaterOrEqual(t, min(one.Build, one.Images, one.Containers, one.CloudUploads), time.Duration(0))
		}
	})
}

func FuzzDecodePlan(f *testing.F) {
	mutants.Add(f, `{"prefix":"builds/","steps":[{"build":"a","kind":"build","keys":["builds/a/x"]}]}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 512, retention.DecodePlan, data)
		if err != nil {
			return
		}
		for _, s := range p.Steps {
			for _, k := range s.Keys {
				require.True(t, strings.HasPrefix(k, p.Prefix+s.Build+"/"))
				require.NotContains(t, "/"+k+"/", "/../")
			}
		}
	})
}
