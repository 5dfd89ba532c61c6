package container_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
)

// boundItem is the components of one source: their size in bytes and how often
// they change a year.
type boundItem struct {
	size      float64
	frequency int
}

// noSplitBelow gives bytes a day that no split into at most limit layers can be
// expected to go below.
//
// It is a dual solution of the problem to choose layers such that each component
// is in one: a price u for each component and a price v for a layer. If the
// components of no set are worth more than v and what the set costs as a layer
// together, then any split costs at least the sum of u less limit times v: add up
// its layers.
//
// A layer of S bytes whose changes add up to a rate r costs S(1-exp(-r)). While r
// is at most ρ that is at least κSr with κ = (1-exp(-ρ))/ρ, and so, by Cauchy's
// inequality, at least the square of the sum of q = √(κsr) over its components,
// of which 2λ times the sum less λ² is a tangent; otherwise it is at least
// S(1-exp(-ρ)). Hence u is 2λq, or s(1-exp(-ρ)) if that is less; for a component
// that would pay for a layer of its own, what it costs alone and λ². This only
// says where to look: for the best λ and ρ, what v has to be is then found for
// each sum of frequencies F by packing a knapsack of that size, as a set whose
// frequencies have the sum F costs its size times 1-exp(-F/365).
//
// Components that change with every build cost their size in any split, and do
// not make others cheaper.
func noSplitBelow(components []container.Component, limit int) float64 {
	always, alone := 0.0, 0.0
	bySource := map[string]*boundItem{}
	var items []*boundItem
	for i := range components {
		c := &components[i]
		switch c.Frequency {
		case container.EveryBuild:
			always += float64(c.Size)
			continue
		case 0: // free in a layer with others of the kind
			continue
		}
		item := bySource[c.Source]
		if item == nil || c.Source == "" {
			item = &boundItem{frequency: int(c.Frequency)}
			bySource[c.Source] = item
			items = append(items, item)
		}
		item.size += float64(c.Size)
		alone += float64(c.Size) * yearly(int(c.Frequency))
	}
	price := make([]float64, len(items))
	prices := func(lambda, rho float64) (sum float64) {
		most := 1 - math.Exp(-rho)
		for i, c := range items {
			p := yearly(c.frequency)
			u := 2 * lambda * math.Sqrt(c.size*most/rho*float64(c.frequency)/365)
			if c.size*p*(1-p) >= lambda*lambda {
				u = c.size*p + lambda*lambda
			}
			price[i] = min(u, c.size*max(most, p))
			sum += price[i]
		}
		return sum
	}
	best, lambda, rho := 0.0, 0.0, 0.0
	for l := 200.0; l < 20000; l *= 1.04 {
		for r := 0.05; r < 4; r *= 1.1 {
			if sum := prices(l, r) - float64(limit)*l*l; sum > best {
				best, lambda, rho = sum, l, r
			}
		}
	}
	if best <= alone {
		return always + alone
	}
	sum, v := prices(lambda, rho), 0.0
	for f, worth := 1, true; worth; f++ {
		worth = false
		p := yearly(f)
		room := make([]float64, f+1)
		for i, c := range items {
			gain := price[i] - c.size*p
			if gain <= 0 {
				continue
			}
			worth = true
			for w := f; w >= c.frequency; w-- {
				room[w] = max(room[w], room[w-c.frequency]+gain)
			}
		}
		v = max(v, room[f])
	}
	return always + max(alone, sum-float64(limit)*v)
}

// yearly is the probability that something changes on a day which has so many
// changes a year.
func yearly(changes int) float64 { return 1 - math.Exp(-float64(changes)/365) }

// At 64 layers no split is 0.8 of ostree-ext's rule. Where few components make it
// possible to try all splits, the bound is below the best.
func TestNoSplitIsBelow(t *testing.T) {
	for _, components := range [][]container.Component{fedora(t), withoutSources(fedora(t))} {
		for layers, atLeast := range map[int]float64{16: 0, 32: 0, 64: 0.8, 128: 0.9, 256: 0.95} {
			chunks, err := container.OstreeExt{}.Plan(components, layers-1)
			require.NoError(t, err)
			theirs, bound := expected(components, chunks), noSplitBelow(components, layers-1)
			require.Greater(t, bound, atLeast*theirs)
			require.Less(t, bound, expected(components, frugal(t, components, layers-1, nil)))
		}
	}
	for seed := range 8 {
		d := drawing(seed)
		components := drawComponents(&d, 7, seed)
		if seed%2 == 0 {
			components = withoutSources(components)
		}
		for i := range components {
			c := &components[i]
			for k := range i { // those of one source change together
				if c.Source != "" && components[k].Source == c.Source {
					c.Frequency = components[k].Frequency
				}
			}
		}
		for limit := 1; limit <= 4; limit++ {
			best := math.Inf(1)
			everySplit(components, limit, func(chunks []container.Chunk) { best = min(best, expected(components, chunks)) })
			require.LessOrEqual(t, noSplitBelow(components, limit), best*1.000001, "seed %d, %d layers", seed, limit)
		}
	}
}

// everySplit calls fn with each assignment of components to layers.
func everySplit(components []container.Component, limit int, fn func([]container.Chunk)) {
	at := make([]int, len(components))
	for {
		chunks := make([]container.Chunk, limit)
		for i, l := range at {
			chunks[l].Components = append(chunks[l].Components, components[i].ID)
		}
		fn(chunks)
		i := 0
		for ; i < len(at) && at[i] == limit-1; i++ {
			at[i] = 0
		}
		if i == len(at) {
			return
		}
		at[i]++
	}
}

// No split is better than another of as many layers on average and never worse on
// a day: on the day on which all of one layer of the other changes, that pulls
// this layer, and this one all of its layers that have a part of it, which is
// more unless they are that layer together. So it would have to divide the
// other's layers, and with as many it is the other.
func TestNeverWorseIsTheSameSplit(t *testing.T) {
	components := fedora(t)
	for _, layers := range []int{16, 32, 64, 128, 256} {
		theirs, err := container.OstreeExt{}.Plan(components, layers-1)
		require.NoError(t, err)
		a, b := splitByName(components, theirs), splitByName(components, frugal(t, components, layers-1, nil))
		require.Len(t, b, len(a))
		worse := 0
		for _, layer := range a {
			day := map[string]bool{}
			for _, name := range layer {
				day[name] = true
			}
			if pulled(b, b, components, day) > pulled(a, a, components, day) {
				worse++
			}
		}
		require.Positive(t, worse, "%d layers", layers)
	}
}
