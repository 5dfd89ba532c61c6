package container_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// packages are n components whose sizes spread as those of a distribution do:
// log-normal, the median 200 kB, one in a hundred over 20 MB.
func packages(n int) []container.Component {
	random := rand.New(rand.NewPCG(3, 4))
	out := make([]container.Component, n)
	for i := range out {
		out[i] = container.Component{
			ID: fmt.Sprintf("package%d-1.0", i), Name: fmt.Sprintf("package%d", i),
			Size: int64(200e3 * math.Exp(2*random.NormFloat64())), Frequency: uint32(random.IntN(40)),
		}
	}
	return out
}

func total(components []container.Component) (sum int64) {
	for _, c := range components {
		sum += c.Size
	}
	return sum
}

// plan checks what every plan must be like.
func plan(t testing.TB, components []container.Component, limit int) []container.Chunk {
	t.Helper()
	before := slices.Clone(components)
	chunks, err := container.Stable{}.Plan(components, limit)
	require.NoError(t, err)
	require.Equal(t, before, components)
	require.LessOrEqual(t, len(chunks), limit)
	seen := map[string]bool{}
	for _, c := range chunks {
		require.NotEmpty(t, c.Components)
		for _, id := range c.Components {
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}
	require.Len(t, seen, len(components))
	return chunks
}

// changed gives the bytes in layers of next that are not layers of prev, where
// the named components changed.
func changed(prev, next []container.Chunk, components []container.Component, dirty map[string]bool) (sum int64) {
	size := map[string]int64{}
	for _, c := range components {
		size[c.ID] = c.Size
	}
	old := map[string]bool{}
	for _, c := range prev {
		old[strings.Join(c.Components, ",")] = true
	}
	for _, c := range next {
		if old[strings.Join(c.Components, ",")] && !slices.ContainsFunc(c.Components, func(id string) bool { return dirty[id] }) {
			continue
		}
		for _, id := range c.Components {
			sum += size[id]
		}
	}
	return sum
}

func TestStablePlan(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10, 62, 63, 64, 453, 2000} {
		for _, limit := range []int{1, 2, 3, 5, 63, 400} {
			components := packages(n)
			chunks := plan(t, components, limit)
			if n <= limit {
				require.Len(t, chunks, n)
			}
			components = append(components, container.Component{ID: "initramfs", Frequency: container.EveryBuild, Size: 1e7},
				container.Component{ID: "rest", Frequency: container.EveryBuild})
			chunks = plan(t, components, limit)
			if limit >= 8 {
				require.Equal(t, []container.Chunk{{[]string{"initramfs"}}, {[]string{"rest"}}}, chunks[len(chunks)-2:])
			}
		}
	}
	many := packages(20)
	for i := range many {
		many[i].Frequency = container.EveryBuild
	}
	require.Len(t, plan(t, many, 20), 20)
	plan(t, many, 3)
	plan(t, append(many, packages(30)[20:]...), 5)
	_, err := container.Stable{}.Plan(many, 0)
	require.Error(t, err)
}

// 13 of 453 packages change: the layers that change with them are about a
// tenth, on average, of the bytes.
func TestStablePlanIsCheap(t *testing.T) {
	components := packages(453)
	chunks := plan(t, components, 63)
	random := rand.New(rand.NewPCG(5, 6))
	sum := 0.0
	const days = 300
	for range days {
		dirty := map[string]bool{}
		for _, i := range random.Perm(len(components))[:13] {
			dirty[components[i].ID] = true
		}
		sum += float64(changed(chunks, chunks, components, dirty)) / float64(total(components))
	}
	t.Logf("%.1f %% of the bytes change on average", 100*sum/days)
	require.Less(t, sum/days, 0.10)
}

// A package that comes, goes, grows a little or is rebuilt moves next to
// nothing else, averaged over every fifth package.
func TestStablePlanStaysPut(t *testing.T) {
	components := packages(453)
	chunks := plan(t, components, 63)
	sum := float64(total(components))
	gone, grown, frequent := 0.0, 0.0, 0.0
	n := 0.0
	for i := 0; i < len(components); i += 5 {
		n++
		less := slices.Delete(slices.Clone(components), i, i+1)
		gone += float64(changed(chunks, plan(t, less, 63), less, nil)) / sum

		more := slices.Clone(components)
		more[i].Size += more[i].Size / 50
		grown += float64(changed(chunks, plan(t, more, 63), more, nil)) / sum

		more = slices.Clone(components)
		more[i].Frequency++
		frequent += float64(changed(chunks, plan(t, more, 63), more, nil)) / sum
	}
	t.Logf("moved on average: %.2f %% when one goes, %.2f %% when it grows by 2 %%, %.2f %% when it changes more often", 100*gone/n, 100*grown/n, 100*frequent/n)
	require.Less(t, gone/n, 0.02)
	require.Less(t, grown/n, 0.01)
	require.Less(t, frequent/n, 0.005)
}

// The packages of a real system.
func TestStablePlanFedora(t *testing.T) {
	f, err := os.Open(interop.SharedData(t, "ostree", "upstream", "fedora-coreos-contentmeta.json.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var list []struct {
		Identifier, Name string
		Frequency        uint32 `json:"change_frequency"`
		Size             int64
	}
	require.NoError(t, json.NewDecoder(z).Decode(&list))
	var components []container.Component
	for _, p := range list {
		components = append(components, container.Component{ID: p.Identifier, Name: p.Name, Frequency: p.Frequency, Size: p.Size})
	}
	chunks := plan(t, components, 63)
	expected, flat := 0.0, 0.0
	const p = 13.0 / 453
	size := map[string]int64{}
	for _, c := range components {
		size[c.ID] = c.Size
	}
	for _, c := range chunks {
		sum := 0.0
		for _, id := range c.Components {
			sum += float64(size[id])
		}
		expected += sum * (1 - math.Pow(1-p, float64(len(c.Components))))
		flat += sum
	}
	t.Logf("%d packages in %d layers, %.1f %% of the bytes are expected to change", len(components), len(chunks), 100*expected/flat)
	require.Less(t, expected/flat, 0.10)
}

func TestSeparateAndLayout(t *testing.T) {
	chunks, err := container.Separate{}.Plan(packages(3), 3)
	require.NoError(t, err)
	require.Equal(t, []container.Chunk{{[]string{"package0-1.0"}}, {[]string{"package1-1.0"}}, {[]string{"package2-1.0"}}}, chunks)
	_, err = container.Separate{}.Plan(packages(4), 3)
	require.ErrorContains(t, err, "4 components")
	given := container.Layout{{[]string{"x"}}}
	chunks, err = given.Plan(nil, 1)
	require.NoError(t, err)
	require.Equal(t, []container.Chunk(given), chunks)
}

func BenchmarkStablePlan(b *testing.B) {
	components := packages(453)
	for i := range components {
		components[i].Objects = make([]ostree.Checksum, 80)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (container.Stable{}).Plan(components, 63); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleStable() {
	chunks, err := container.Stable{}.Plan([]container.Component{
		{ID: "linux-6.1", Name: "linux", Size: 400e6},
		{ID: "bash-5.2", Name: "bash", Size: 6e6},
		{ID: "sed-4.9", Name: "sed", Size: 1e6},
		{ID: "grep-3.8", Name: "grep", Size: 1e6},
		{ID: "initramfs", Frequency: container.EveryBuild, Size: 80e6},
	}, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range chunks {
		fmt.Println(strings.Join(c.Components, " "))
	}
	// Output:
	// linux-6.1
	// bash-5.2
	// grep-3.8 sed-4.9
	// initramfs
}
