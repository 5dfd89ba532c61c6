package container_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
)

// chance is the probability that a component changes on a day.
func chance(c *container.Component) float64 {
	if c.Frequency == container.EveryBuild {
		return 1
	}
	return 1 - math.Exp(-float64(c.Frequency)/365)
}

// drawDay draws what changes on a day. Components of one source change
// together.
func drawDay(d *drawing, components []container.Component) map[string]bool {
	dirty := map[string]bool{}
	drawn := map[string]bool{}
	for i := range components {
		c := &components[i]
		changed, ok := drawn[c.Source]
		if !ok || c.Source == "" {
			changed = d.unit() < chance(c)
			drawn[c.Source] = changed
		}
		if changed {
			dirty[c.Name] = true
		}
	}
	return dirty
}

// splitByName is a plan in names, as the next image's planner finds it.
func splitByName(components []container.Component, chunks []container.Chunk) container.Split {
	names := map[string]string{}
	for _, c := range components {
		names[c.ID] = c.Name
	}
	var s container.Split
	for _, c := range chunks {
		var layer []string
		for _, id := range c.Components {
			layer = append(layer, names[id])
		}
		slices.Sort(layer)
		s = append(s, layer)
	}
	return s
}

// pulled is what a machine with the image split like prev downloads of the one
// split like next: layers that are not the same, or in which something is dirty.
func pulled(prev, next container.Split, components []container.Component, dirty map[string]bool) (sum int64) {
	sizes := map[string]int64{}
	for _, c := range components {
		sizes[c.Name] = c.Size
	}
	have := map[string]bool{}
	for _, layer := range prev {
		have[strings.Join(layer, ",")] = true
	}
	for _, layer := range next {
		if have[strings.Join(layer, ",")] && !slices.ContainsFunc(layer, func(n string) bool { return dirty[n] }) {
			continue
		}
		for _, n := range layer {
			sum += sizes[n]
		}
	}
	return sum
}

// layersHit is pulled where the split stays what it is.
func layersHit(split container.Split, sizes map[string]int64, dirty map[string]bool) (sum int64) {
	for _, layer := range split {
		if slices.ContainsFunc(layer, func(n string) bool { return dirty[n] }) {
			for _, n := range layer {
				sum += sizes[n]
			}
		}
	}
	return sum
}

// withoutSources gives the components as if nothing was known about sources.
func withoutSources(components []container.Component) []container.Component {
	out := slices.Clone(components)
	for i := range out {
		out[i].Source = ""
	}
	return out
}

// days are drawn for the table of what is pulled, and moreDays to tell how often a
// split is the worse one.
const days, moreDays = 30, 1000

// month plans once with each planner and draws days.
func month(t testing.TB, table *bytes.Buffer, components []container.Component) {
	t.Helper()
	bound := 0.0
	for i := range components {
		bound += float64(components[i].Size) * chance(&components[i])
	}
	fmt.Fprintf(table, "| layers | ostree-ext | Stable | Frugal | ratio | no split below | ratio of what is above %.1f | %d days drawn: ratio | days worse | best day | worst day | of %d days worse |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", bound/1e6, days, moreDays)
	for _, layers := range []int{16, 32, 64, 128, 256} {
		limit := layers - 1 // one is reserved
		var split [3]container.Split
		var mean [3]float64
		for i, p := range []container.Planner{container.OstreeExt{}, container.Stable{}, container.Frugal{}} {
			chunks, err := p.Plan(components, limit)
			require.NoError(t, err)
			requirePlan(t, components, chunks, limit)
			split[i], mean[i] = splitByName(components, chunks), expected(components, chunks)
		}
		require.Less(t, mean[2], mean[0])
		require.Less(t, mean[2], mean[1])
		d := drawing(1)
		var theirs, ours int64
		worse, best, worst := 0, math.Inf(1), 0.0
		for range days {
			dirty := drawDay(&d, components)
			a, b := pulled(split[0], split[0], components, dirty), pulled(split[2], split[2], components, dirty)
			theirs, ours = theirs+a, ours+b
			if b > a {
				worse++
			}
			best, worst = min(best, float64(b)/float64(a)), max(worst, float64(b)/float64(a))
		}
		if layers == 32 {
			require.LessOrEqual(t, mean[2], 0.8*mean[0])
			require.LessOrEqual(t, float64(ours), 0.8*float64(theirs))
			require.Zero(t, worse)
		}
		sizes := map[string]int64{}
		for _, c := range components {
			sizes[c.Name] = c.Size
		}
		later := 0
		for range moreDays {
			dirty := drawDay(&d, components)
			if layersHit(split[2], sizes, dirty) > layersHit(split[0], sizes, dirty) {
				later++
			}
		}
		fmt.Fprintf(table, "| %d | %.1f | %.1f | %.1f | %.2f | %.2f | %.2f | %.2f | %d | %.2f | %.2f | %d |\n", layers, mean[0]/1e6, mean[1]/1e6, mean[2]/1e6, mean[2]/mean[0],
			noSplitBelow(components, limit)/mean[0], (mean[2]-bound)/(mean[0]-bound), float64(ours)/float64(theirs), worse, best, worst, later)
	}
}

// life lets a system live: packages change, grow and shrink, change more or less
// often, come and go, and each day's planner has the split of the day before.
func life(t testing.TB, table *bytes.Buffer, first []container.Component) {
	t.Helper()
	planners := []struct {
		name string
		plan func(prior container.Split) container.Planner
	}{
		{"ostree-ext, prior image", func(p container.Split) container.Planner { return container.OstreeExt{Prior: p} }},
		{"ostree-ext, none", func(container.Split) container.Planner { return container.OstreeExt{} }},
		{"Stable", func(container.Split) container.Planner { return container.Stable{} }},
		{"Frugal, prior image", func(p container.Split) container.Planner { return container.Frugal{Prior: p} }},
		{"Frugal, none", func(container.Split) container.Planner { return container.Frugal{} }},
	}
	fmt.Fprintf(table, "| planner | MB a day | of that moved only | ratio | days worse |\n|---|--:|--:|--:|--:|\n")
	const limit = 63
	var reference [days]int64
	for k, p := range planners {
		d := drawing(2)
		components := slices.Clone(first)
		chunks, err := p.plan(nil).Plan(components, limit)
		require.NoError(t, err)
		split := splitByName(components, chunks)
		var sum, moved int64
		worse := 0
		for day := range days {
			dirty := drawDay(&d, components)
			for i := range components {
				c := &components[i]
				if dirty[c.Name] {
					c.Size += c.Size * int64(d.below(41)-20) / 1000
				}
				if c.Frequency != container.EveryBuild && d.below(20) == 0 {
					c.Frequency = uint32(max(0, int(c.Frequency)+d.below(5)-2))
				}
			}
			if day%3 == 1 {
				i := d.below(len(components))
				if components[i].Frequency != container.EveryBuild {
					components = slices.Delete(components, i, i+1)
				}
			}
			if day%3 == 2 {
				components = append(components, container.Component{
					ID: fmt.Sprintf("new%d-1", day), Name: fmt.Sprintf("new%d", day), Source: fmt.Sprintf("new%d.src", day),
					Size: 1 << (14 + d.below(9)), Frequency: uint32(d.below(40)),
				})
				dirty[fmt.Sprintf("new%d", day)] = true
			}
			chunks, err := p.plan(split).Plan(components, limit)
			require.NoError(t, err)
			requirePlan(t, components, chunks, limit)
			next := splitByName(components, chunks)
			today := pulled(split, next, components, dirty)
			sum += today
			moved += today - pulled(next, next, components, dirty)
			if k == 0 {
				reference[day] = today
			} else if today > reference[day] {
				worse++
			}
			split = next
		}
		total := int64(0)
		for _, r := range reference {
			total += r
		}
		fmt.Fprintf(table, "| %s | %.1f | %.1f | %.2f | %d |\n", p.name, float64(sum)/days/1e6, float64(moved)/days/1e6, float64(sum)/float64(total), worse)
	}
}

// The tables of README.md: -update writes them.
func TestMonth(t *testing.T) {
	components := fedora(t)
	var out bytes.Buffer
	out.WriteString("Components change independently of each other, and planners know nothing of sources:\n\n")
	month(t, &out, withoutSources(components))
	out.WriteString("\nComponents of one source package change together, and planners are told the sources:\n\n")
	month(t, &out, components)
	out.WriteString("\nThirty days of one system at 64 layers: packages change, grow or shrink by up to 2 %, their frequencies drift, every third day one goes and one comes:\n\n")
	life(t, &out, components)

	const begin, end = "<!-- tables: go test -run TestMonth -update -->\n\n", "\n<!-- end of tables -->"
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(readme), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(head+begin+out.String()+end+tail), 0o644))
		return
	}
	require.Equal(t, table, out.String())
}
