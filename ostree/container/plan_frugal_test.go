package container_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// fedora are the packages of a Fedora CoreOS of 2022.
func fedora(t testing.TB) []container.Component {
	t.Helper()
	f, err := os.Open(interop.SharedData(t, "ostree", "upstream", "fedora-coreos-contentmeta.json.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var list []struct {
		Identifier, Name string
		Source           string `json:"srcid"`
		Frequency        uint32 `json:"change_frequency"`
		Size             int64
	}
	require.NoError(t, json.NewDecoder(z).Decode(&list))
	var out []container.Component
	for _, p := range list {
		out = append(out, container.Component{ID: p.Identifier, Name: p.Name, Source: p.Source, Frequency: p.Frequency, Size: p.Size})
	}
	return out
}

// expected is what a plan is expected to cost a day.
func expected(components []container.Component, chunks []container.Chunk) float64 {
	by := map[string]*container.Component{}
	for i := range components {
		by[components[i].ID] = &components[i]
	}
	sum := 0.0
	for _, c := range chunks {
		size, rate := 0.0, 0.0
		seen := map[string]bool{}
		for _, id := range c.Components {
			x := by[id]
			size += float64(x.Size)
			if x.Frequency == container.EveryBuild {
				rate = math.Inf(1)
			} else if x.Source == "" || !seen[x.Source] {
				seen[x.Source] = true
				rate += float64(x.Frequency) / 365
			}
		}
		sum += size * (1 - math.Exp(-rate))
	}
	return sum
}

func frugal(t testing.TB, components []container.Component, limit int, prior container.Split) []container.Chunk {
	t.Helper()
	before := slices.Clone(components)
	chunks, err := container.Frugal{Prior: prior}.Plan(components, limit)
	require.NoError(t, err)
	require.Equal(t, before, components)
	requirePlan(t, components, chunks, limit)
	return chunks
}

func TestFrugalPlan(t *testing.T) {
	for n := range 60 {
		d := drawing(n)
		components := drawComponents(&d, n*n/10, n)
		limit := 1 + d.below(100)
		if n%10 == 0 {
			limit = 1 + n/10%3
		}
		chunks := frugal(t, components, limit, nil)
		// The order of the question is no part of it.
		for i := range components {
			j := d.below(len(components))
			components[i], components[j] = components[j], components[i]
		}
		require.Equal(t, chunks, frugal(t, components, limit, nil))
		// Nor does an earlier split of any kind make a bad plan.
		prior := make(container.Split, d.below(600))
		for range min(len(prior), 1) * 2 * len(components) {
			at := d.below(len(prior))
			prior[at] = append(prior[at], fmt.Sprintf("p%03d", d.below(len(components)+5)))
		}
		frugal(t, components, limit, prior)
	}
	d := drawing(1)
	many := drawComponents(&d, 1<<14+1, 0)
	want, err := container.Stable{}.Plan(many, 63)
	require.NoError(t, err)
	got, err := container.Frugal{}.Plan(many, 63)
	require.NoError(t, err)
	require.True(t, slices.EqualFunc(want, got, func(a, b container.Chunk) bool { return slices.Equal(a.Components, b.Components) }))
	_, err = container.Frugal{}.Plan(nil, 0)
	require.ErrorContains(t, err, "no layers")
}

// Plans are the same on every machine.
func TestFrugalIsPinned(t *testing.T) {
	got := map[string]string{}
	for _, n := range []int{70, 400, 1500} {
		for _, limit := range []int{15, 63, 399} {
			d := drawing(n)
			components := drawComponents(&d, n, 8)
			chunks := frugal(t, components, limit, nil)
			got[fmt.Sprintf("%d/%d", n, limit)] = extHash(t, chunks)
			split := splitByName(components, chunks)
			for i := range components {
				components[i].Frequency = uint32(d.below(50))
			}
			got[fmt.Sprintf("%d/%d/prior", n, limit)] = extHash(t, frugal(t, components, limit, split))
		}
	}
	requireGolden(t, "frugal.json", got)
}

// Against every way there is to split a few components.
func TestFrugalIsNearTheBest(t *testing.T) {
	const n, limit = 7, 3
	sum := 0.0
	for seed := range 20 {
		d := drawing(1000 + seed)
		components := withoutSources(drawComponents(&d, n, 0))
		for i := range components {
			components[i].Frequency++
		}
		best := math.Inf(1)
		at := make([]int, n)
		for {
			layers := make([]container.Chunk, limit)
			for i, l := range at {
				layers[l].Components = append(layers[l].Components, components[i].ID)
			}
			best = min(best, expected(components, layers))
			i := 0
			for ; i < n && at[i] == limit-1; i++ {
				at[i] = 0
			}
			if i == n {
				break
			}
			at[i]++
		}
		got := expected(components, frugal(t, components, limit, nil))
		require.GreaterOrEqual(t, got, best*0.999999)
		require.Less(t, got, best*1.1, "seed %d", seed)
		sum += got/best - 1
	}
	t.Logf("%.2f %% above the best on average", 100*sum/20)
	require.Less(t, sum/20, 0.01)
}

// What an earlier image has stays where it is.
func TestFrugalKeepsThePrior(t *testing.T) {
	d := drawing(7)
	components := drawComponents(&d, 300, 4)
	const limit = 40
	split := splitByName(components, frugal(t, components, limit, nil))
	plan := func(c []container.Component) container.Split { return splitByName(c, frugal(t, c, limit, split)) }
	layerOf := func(s container.Split, name string) []string {
		for _, layer := range s {
			if slices.Contains(layer, name) {
				return layer
			}
		}
		return nil
	}
	require.ElementsMatch(t, split, plan(components))

	drifted := slices.Clone(components)
	for i := range drifted {
		if drifted[i].Frequency != container.EveryBuild {
			drifted[i].Frequency = max(drifted[i].Frequency, 1) + uint32(d.below(3)) - 1
			drifted[i].Size += drifted[i].Size / 50
		}
	}
	require.ElementsMatch(t, split, plan(drifted))

	// Of one that is gone only the layer changes.
	fewer := slices.Delete(slices.Clone(components), 100, 101)
	less := plan(fewer)
	changed := 0
	for _, layer := range less {
		if !slices.ContainsFunc(split, func(l []string) bool { return slices.Equal(l, layer) }) {
			changed++
			require.Subset(t, layerOf(split, layer[0]), layer)
		}
	}
	require.LessOrEqual(t, changed, 1)

	// A new one changes one layer, and one of the same source its own.
	more := append(slices.Clone(components), container.Component{ID: "new-1", Name: "new", Size: 1 << 20, Frequency: 5})
	changed = 0
	for _, layer := range plan(more) {
		if !slices.ContainsFunc(split, func(l []string) bool { return slices.Equal(l, layer) }) {
			changed++
			require.Contains(t, layer, "new")
		}
	}
	require.Equal(t, 1, changed)

	// Fewer layers than before: neighbours are joined.
	joined := splitByName(components, func() []container.Chunk {
		chunks, err := container.Frugal{Prior: split}.Plan(components, limit-1)
		require.NoError(t, err)
		requirePlan(t, components, chunks, limit-1)
		return chunks
	}())
	same := 0
	for _, layer := range joined {
		if slices.ContainsFunc(split, func(l []string) bool { return slices.Equal(l, layer) }) {
			same++
		}
	}
	require.GreaterOrEqual(t, same, limit-4)
}

// A split that is bad enough is left: at once if it is to last, never for a day.
func TestFrugalLeavesABadPrior(t *testing.T) {
	d := drawing(8)
	components := drawComponents(&d, 300, 0)
	const limit = 40
	bad := make(container.Split, limit)
	for i := range components {
		bad[i%limit] = append(bad[i%limit], components[i].Name)
	}
	for i := range bad {
		slices.Sort(bad[i])
	}
	chunks, err := container.Frugal{Prior: bad, Days: 3000}.Plan(components, limit)
	require.NoError(t, err)
	require.Less(t, expected(components, chunks), 1.02*expected(components, frugal(t, components, limit, nil)))
	chunks, err = container.Frugal{Prior: bad, Days: 1}.Plan(components, limit)
	require.NoError(t, err)
	require.LessOrEqual(t, pulled(bad, splitByName(components, chunks), components, nil), total(components)/10)
}

func TestFrugalJoinsSources(t *testing.T) {
	components := []container.Component{
		{ID: "kernel-core", Source: "kernel", Size: 60e6, Frequency: 50},
		{ID: "libicu", Source: "icu", Size: 36e6, Frequency: 5},
		{ID: "kernel-modules", Source: "kernel", Size: 60e6, Frequency: 50},
		{ID: "bash", Size: 6e6, Frequency: 12},
	}
	require.ElementsMatch(t, []container.Chunk{
		{[]string{"kernel-core", "kernel-modules"}}, {[]string{"libicu"}}, {[]string{"bash"}},
	}, frugal(t, components, 3, nil))
}

func TestSplitOf(t *testing.T) {
	r := newRepo(t)
	c := commit(t, r, sample)
	cache := openCache(t, t.TempDir())
	img := encapsulate(t, cache, r, c, &container.EncapsulateOptions{Components: split(t, r, c), MaxLayers: 4})
	s, err := container.SplitOf(img)
	require.NoError(t, err)
	m, err := img.Manifest()
	require.NoError(t, err)
	require.Len(t, s, len(m.Layers)-1)
	require.Empty(t, s[len(s)-1])
	require.Contains(t, slices.Concat(s...), "usr/bin")

	// Derived layers are not part of it.
	derived, err := mutate.Append(img, mutate.Addendum{Layer: tarLayer(t)})
	require.NoError(t, err)
	again, err := container.SplitOf(derived)
	require.NoError(t, err)
	require.Equal(t, s, again)

	// The default planner keeps the split of the prior image.
	files := maps.Clone(sample)
	files["usr/bin/bash"] += "changed"
	next := commit(t, r, files)
	opts := &container.EncapsulateOptions{Components: split(t, r, next), MaxLayers: 4, Prior: img}
	kept, err := container.SplitOf(encapsulate(t, cache, r, next, opts))
	require.NoError(t, err)
	require.ElementsMatch(t, s, kept)

	single := encapsulate(t, cache, r, c, nil)
	s, err = container.SplitOf(single)
	require.NoError(t, err)
	require.Empty(t, s)
	opts.Prior = single
	encapsulate(t, cache, r, next, opts)

	_, err = container.SplitOf(empty.Image)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	opts.Prior = empty.Image
	encapsulate(t, cache, r, next, opts)

	bare, err := mutate.AppendLayers(empty.Image, tarLayer(t), tarLayer(t))
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	label := func(value string) v1.Image {
		c, err := bare.ConfigFile()
		require.NoError(t, err)
		c = c.DeepCopy()
		c.Config.Labels = map[string]string{container.LabelFinalDiffID: value}
		out, err := mutate.ConfigFile(bare, c)
		require.NoError(t, err)
		return out
	}
	_, err = container.SplitOf(label(config.RootFS.DiffIDs[0].String()))
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	diffIDs, err := bare.ConfigFile()
	require.NoError(t, err)
	last := diffIDs.RootFS.DiffIDs[1]
	// Both layers are the same: the first counts.
	s, err = container.SplitOf(label(last.String()))
	require.NoError(t, err)
	require.Empty(t, s)
}

func TestSplitOfUnannotated(t *testing.T) {
	r := newRepo(t)
	c := commit(t, r, sample)
	img := encapsulate(t, openCache(t, t.TempDir()), r, c, &container.EncapsulateOptions{Components: split(t, r, c)})
	layers, err := img.Layers()
	require.NoError(t, err)
	plain, err := mutate.AppendLayers(empty.Image, layers...)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	plain, err = mutate.Config(plain, config.Config)
	require.NoError(t, err)
	_, err = container.SplitOf(plain)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "layer 1")
}

func FuzzFrugal(f *testing.F) {
	f.Add([]byte("one\ntwo,three\n"), uint64(3), uint8(3))
	f.Add([]byte("0"), uint64(182), uint8(0)) // once lost what changes with every build
	f.Add([]byte("p001,p002\np001\n,,\n"), uint64(99), uint8(0))
	f.Fuzz(func(t *testing.T, prior []byte, seed uint64, limit uint8) {
		d := drawing(seed)
		components := drawComponents(&d, d.below(200), d.below(16))
		var split container.Split
		for line := range strings.Lines(string(prior)) {
			split = append(split, strings.Split(strings.TrimSpace(line), ","))
		}
		frugal(t, components, 1+int(limit), split)
		if limit >= 2 {
			chunks, err := container.OstreeExt{Prior: split}.Plan(components, 1+int(limit))
			require.NoError(t, err)
			requirePlan(t, components, chunks, 1+int(limit))
		}
	})
}

func BenchmarkFrugal(b *testing.B) {
	d := drawing(5)
	components := drawComponents(&d, 1500, 8)
	chunks, err := container.Frugal{}.Plan(components, 63)
	require.NoError(b, err)
	split := splitByName(components, chunks)
	for _, tc := range []struct {
		name  string
		limit int
		prior container.Split
	}{{"64", 63, nil}, {"400", 399, nil}, {"64-prior", 63, split}, {"400-prior", 399, split}} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (container.Frugal{Prior: tc.prior}).Plan(components, tc.limit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleFrugal() {
	components := []container.Component{
		{ID: "linux-6.1", Name: "linux", Size: 400e6, Frequency: 50},
		{ID: "firmware-1", Name: "firmware", Size: 300e6, Frequency: 4},
		{ID: "bash-5.2", Name: "bash", Size: 6e6, Frequency: 3},
		{ID: "sed-4.9", Name: "sed", Size: 1e6, Frequency: 1},
		{ID: "initramfs", Frequency: container.EveryBuild, Size: 80e6},
	}
	first, err := container.Frugal{}.Plan(components, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(first)
	// The next day, with a package more. The split of the day before is that of
	// an image, see SplitOf.
	components = append(components, container.Component{ID: "grep-3.8", Name: "grep", Size: 2e6, Frequency: 1})
	next, err := container.Frugal{Prior: container.Split{{"bash", "sed"}, {"firmware"}, {"linux"}, {"initramfs"}}}.Plan(components, 4)
	fmt.Println(next, err)
	// Output:
	// [{[bash-5.2 sed-4.9]} {[linux-6.1]} {[firmware-1]} {[initramfs]}]
	// [{[bash-5.2 grep-3.8 sed-4.9]} {[firmware-1]} {[linux-6.1]} {[initramfs]}] <nil>
}

func ExampleSplitOf() {
	_, err := container.SplitOf(empty.Image)
	fmt.Println(errors.Is(err, errors.ErrUnsupported)) // no OSTree-native image
	// Output: true
}
