package container

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Frugal is the [Planner] for images that follow one another, and the default
// where there is a prior image. It splits so that the fewest bytes are expected
// to be pulled a day, and with Prior keeps the split of the image before, where
// a better one would not be worth the bytes of moving. Without Prior day after
// day it is a bad choice: the best split is another one each time.
//
// A component changes on a day with the probability that follows from its
// Frequency, independently of those of other sources; those of one Source change
// together. A layer is pulled when anything in it changes. Of a layer of S bytes
// whose changes add up to a rate r that is S·(1-exp(-r)) a day, close to S·r
// while r is small, and the sum of S·r over layers is least where components of
// similar size/rate share a layer (by Cauchy's inequality S·r is at least the
// square of the sum of √(size·rate), and equal where size/rate is). So
// components are put in the order of size/rate, dynamic programming finds the
// best way to cut that order into layers, and then single components move while
// that makes it less.
//
// Components that change with [EveryBuild] are in the last layers, where more
// than a few would waste layers on what is pulled anyway. More than 16384
// components, of which no system has a tenth, are left to [Stable].
//
// Answers don't depend on the machine, nor on the order of components: all
// arithmetic is in integers and in IEEE operations that Go must not fuse.
type Frugal struct {
	// Prior is the split of the image before; nil: none.
	Prior Split
	// Days says for how many days' expected bytes a change of the split must
	// pay that is not needed; 0: 30.
	Days int
}

// Plan implements [Planner]. A limit below 1 is an error.
func (p Frugal) Plan(components []Component, limit int) ([]Chunk, error) {
	if limit < 1 {
		return nil, fmt.Errorf("no layers for %d components", len(components))
	}
	if len(components) > mostFrugal {
		return Stable{}.Plan(components, limit)
	}
	var rest, always []*Component
	for i := range components {
		if c := &components[i]; c.Frequency == EveryBuild {
			always = append(always, c)
		} else {
			rest = append(rest, c)
		}
	}
	slices.SortFunc(rest, byComponentName)
	slices.SortFunc(always, func(a, b *Component) int { return cmp.Or(-cmp.Compare(a.Size, b.Size), byComponentName(a, b)) })

	last := frugalAlways(always, len(rest) > 0, limit)
	if len(last) == 0 { // one layer for everything
		rest = append(rest, always...)
	}
	free := limit - len(last)
	var chunks []Chunk
	switch {
	case len(rest) == 0:
	case len(rest) <= free && len(p.Prior) == 0:
		for _, c := range rest {
			chunks = append(chunks, Chunk{[]string{c.ID}})
		}
	default:
		chunks = p.split(rest, free)
	}
	return append(chunks, last...), nil
}

// mostFrugal bounds time and memory, which are a table of components by layers.
const mostFrugal = 1 << 14

// frugalAlways spreads what always changes over a few layers, the largest
// alone: a finer split saves bytes only on days when they don't change after
// all.
func frugalAlways(always []*Component, others bool, limit int) []Chunk {
	room := limit
	if others {
		room = min(max(1, limit/16), limit-1)
	}
	if room == 0 {
		return nil
	}
	var chunks []Chunk
	for i, c := range always {
		if i < room {
			chunks = append(chunks, Chunk{[]string{c.ID}})
		} else {
			chunks[room-1].Components = append(chunks[room-1].Components, c.ID)
		}
	}
	return chunks
}

// frugalRate is in changes per two years: what did not change in one year is
// taken to in the other.
func frugalRate(c *Component) int { return max(1, int(min(2*uint64(c.Frequency), frugalCertain))) }

// frugalYear is what a rate of one change a day is.
const frugalYear = 2 * 365

// frugalCertain is a rate at which a layer changes with every build, as far as
// numbers can tell: 25 changes a day on average.
const frugalCertain = 25 * frugalYear

// frugalDays is how many days' bytes count unless [Frugal] says otherwise.
const frugalDays = 30

// frugalUnit is the components of one source that stay together.
type frugalUnit struct {
	members []*Component
	source  int
	rate    int
	size    int64
	prior   int // layer of the earlier split; -1: new
	layer   int // of the split in the making
}

// frugalLayer is a layer in the making.
type frugalLayer struct {
	size    int64
	rate    int
	units   int
	sources []int32 // how many units there are of each source
	moved   bool    // it differs from the earlier split
}

// frugal is one question.
type frugal struct {
	units   []frugalUnit
	sources int
	chance  []float64 // by rate: that something changes on a day
	days    float64   // what a day's bytes count, relative to those of moving
	move    float64   // what bytes of moving count: 1, or 0 for a first split
	layers  []frugalLayer
}

func (p Frugal) split(list []*Component, limit int) []Chunk {
	// From scratch first: also what the earlier split is measured against.
	q := &frugal{days: 1, chance: frugalChances()}
	q.group(list, nil)
	q.scratch(limit)
	if len(p.Prior) == 0 || len(p.Prior) > mostLayers {
		return q.chunks()
	}
	kept := &frugal{days: float64(cmp.Or(max(p.Days, 0), frugalDays)), move: 1, chance: q.chance}
	kept.group(list, p.Prior)
	kept.keep(p.Prior, limit)
	q.days, q.move = kept.days, kept.move
	q.compare(p.Prior)
	if q.total()+1 < kept.total() {
		return q.chunks()
	}
	return kept.chunks()
}

// frugalChances gives 1-exp(-rate) for each rate. Products are rounded before
// they are used, on any machine.
func frugalChances() []float64 {
	const none = 0.99863107361656438 // exp(-1/730): of no change at rate 1
	out := make([]float64, frugalCertain+1)
	p := 1.0
	for i := range out {
		out[i] = 1 - p
		p = float64(p * none)
	}
	return out
}

// group makes units: components of one source that are in one layer of prior,
// or are new.
func (q *frugal) group(list []*Component, prior Split) {
	layerOf := map[string]int{}
	for i, names := range prior {
		for _, n := range names {
			if _, ok := layerOf[n]; !ok {
				layerOf[n] = i
			}
		}
	}
	type key struct {
		source string
		layer  int
	}
	at := map[key]int{}
	sources := map[string]int{}
	for _, c := range list {
		k := key{c.Source, -1}
		if c.Source == "" {
			k.source = "\x00" + c.ID // no name of a source
		}
		if layer, ok := layerOf[c.name()]; ok {
			k.layer = layer
		}
		i, ok := at[k]
		if !ok {
			i = len(q.units)
			at[k] = i
			if _, ok := sources[k.source]; !ok {
				sources[k.source] = len(sources)
			}
			q.units = append(q.units, frugalUnit{source: sources[k.source], prior: k.layer, layer: -1})
		}
		u := &q.units[i]
		u.members = append(u.members, c)
		// Each object costs headers, and each component at least something.
		u.size += max(c.Size, 0) + 1024*int64(len(c.Objects)+1)
	}
	q.sources = len(sources)
	rates := make([]int, q.sources)
	for _, u := range q.units {
		for _, c := range u.members {
			rates[u.source] = max(rates[u.source], frugalRate(c))
		}
	}
	for i := range q.units {
		q.units[i].rate = rates[q.units[i].source]
	}
}

// cost is the bytes expected of a layer: over the days, and at once if it
// differs from what is out there.
func (q *frugal) cost(size int64, rate int, moved bool) float64 {
	p := q.chance[min(rate, frugalCertain)]
	day := float64(q.days * float64(float64(size)*p))
	if !moved {
		return day
	}
	return day + float64(q.move*float64(float64(size)*(1-p)))
}

func (q *frugal) layerCost(l *frugalLayer) float64 { return q.cost(l.size, l.rate, l.moved) }

func (q *frugal) total() (sum float64) {
	for i := range q.layers {
		sum += q.layerCost(&q.layers[i])
	}
	return sum
}

// adding and removing give the cost of a layer with or without a unit more.
func (q *frugal) adding(l *frugalLayer, u *frugalUnit) float64 {
	rate := l.rate
	if l.sources[u.source] == 0 {
		rate += u.rate
	}
	return q.cost(l.size+u.size, rate, true)
}

func (q *frugal) removing(l *frugalLayer, u *frugalUnit) float64 {
	rate := l.rate
	if l.sources[u.source] == 1 {
		rate -= u.rate
	}
	return q.cost(l.size-u.size, rate, true)
}

func (q *frugal) put(u *frugalUnit, at int) {
	l := &q.layers[at]
	if l.sources[u.source] == 0 {
		l.rate += u.rate
	}
	l.sources[u.source]++
	l.units++
	l.size += u.size
	u.layer = at
}

func (q *frugal) take(u *frugalUnit) {
	l := &q.layers[u.layer]
	l.sources[u.source]--
	if l.sources[u.source] == 0 {
		l.rate -= u.rate
	}
	l.units--
	l.size -= u.size
}

func (q *frugal) addLayer() int {
	q.layers = append(q.layers, frugalLayer{sources: make([]int32, q.sources), moved: true})
	return len(q.layers) - 1
}

// scratch splits without regard to an earlier split.
func (q *frugal) scratch(limit int) {
	order := make([]*frugalUnit, len(q.units))
	for i := range q.units {
		order[i] = &q.units[i]
	}
	slices.SortStableFunc(order, func(a, b *frugalUnit) int {
		return cmp.Compare(float64(float64(a.size)*q.chance[min(b.rate, frugalCertain)]),
			float64(float64(b.size)*q.chance[min(a.rate, frugalCertain)]))
	})
	sizes, rates := make([]int64, len(order)+1), make([]int, len(order)+1)
	for i, u := range order {
		sizes[i+1], rates[i+1] = sizes[i]+u.size, rates[i]+u.rate
	}
	cuts := frugalCut(len(order), min(limit, len(order)), func(i, j int) float64 {
		return float64(float64(sizes[j]-sizes[i]) * q.chance[min(rates[j]-rates[i], frugalCertain)])
	})
	for k, start := range cuts {
		end := len(order)
		if k+1 < len(cuts) {
			end = cuts[k+1]
		}
		at := q.addLayer()
		for _, u := range order[start:end] {
			q.put(u, at)
		}
	}
	q.improve(limit)
}

// frugalCut cuts 0 to n into k intervals whose costs have the least sum, and
// gives where they start. It takes the best last cut to move up with the end,
// which makes the work for each interval n·log n instead of n². That is so for
// S·r; where layers are nearly certain to change the loss is too small to find.
func frugalCut(n, k int, cost func(i, j int) float64) []int {
	best := make([]float64, n+1)
	for j := 1; j <= n; j++ {
		best[j] = cost(0, j)
	}
	from := make([][]int32, k+1)
	for m := 2; m <= k; m++ {
		next := make([]float64, n+1)
		from[m] = make([]int32, n+1)
		var solve func(low, high, first, last int)
		solve = func(low, high, first, last int) {
			if low > high {
				return
			}
			j := (low + high) / 2
			next[j] = math.Inf(1)
			at := first
			for i := first; i <= min(last, j-1); i++ {
				if v := best[i] + cost(i, j); v < next[j] {
					next[j], at = v, i
				}
			}
			from[m][j] = int32(at)
			solve(low, j-1, first, at)
			solve(j+1, high, at, last)
		}
		// m intervals need m elements.
		for j := range m {
			next[j] = math.Inf(1)
		}
		solve(m, n, m-1, n-1)
		best = next
	}
	cuts := make([]int, k)
	for m, j := k, n; m > 1; m-- {
		j = int(from[m][j])
		cuts[m-1] = j
	}
	return cuts
}

// keep starts from the earlier split, joins layers if there are too many, and
// finds places for what is new.
func (q *frugal) keep(prior Split, limit int) {
	there := map[string]bool{}
	for i := range q.units {
		for _, c := range q.units[i].members {
			there[c.name()] = true
		}
	}
	for _, names := range prior {
		// What is gone changes its layer, whatever we do.
		gone := slices.ContainsFunc(names, func(n string) bool { return !there[n] })
		q.layers[q.addLayer()].moved = gone
	}
	var added []*frugalUnit
	for i := range q.units {
		if u := &q.units[i]; u.prior >= 0 {
			q.put(u, u.prior)
		} else {
			added = append(added, u)
		}
	}
	for q.used() > limit {
		q.join()
	}
	slices.SortStableFunc(added, func(a, b *frugalUnit) int { return -cmp.Compare(a.size, b.size) })
	for _, u := range added {
		at, _ := q.best(u, limit)
		q.put(u, at)
		q.layers[at].moved = true
	}
	q.improve(limit)
}

// used is how many layers have content.
func (q *frugal) used() (n int) {
	for i := range q.layers {
		if q.layers[i].units > 0 {
			n++
		}
	}
	return n
}

// join makes one layer of the two that are cheapest to join.
func (q *frugal) join() {
	least, into, from := math.Inf(1), -1, -1
	for i := range q.layers {
		a := &q.layers[i]
		if a.units == 0 {
			continue
		}
		for j := i + 1; j < len(q.layers); j++ {
			b := &q.layers[j]
			if b.units == 0 {
				continue
			}
			// Sources in both count twice here; there are few.
			if more := q.cost(a.size+b.size, a.rate+b.rate, true) - q.layerCost(a) - q.layerCost(b); more < least {
				least, into, from = more, i, j
			}
		}
	}
	for i := range q.units {
		if u := &q.units[i]; u.layer == from {
			q.shift(u, into)
		}
	}
}

// best gives the layer that u costs least in, apart from its own, and how much
// more that layer then costs. The layer may be a new one.
func (q *frugal) best(u *frugalUnit, limit int) (at int, more float64) {
	at, more = -1, math.Inf(1)
	empty, used := -1, 0
	for i := range q.layers {
		l := &q.layers[i]
		if l.units == 0 {
			empty = i
			continue
		}
		used++
		if i == u.layer {
			continue
		}
		if d := q.adding(l, u) - q.layerCost(l); d < more {
			at, more = i, d
		}
	}
	if used < limit {
		if alone := q.cost(u.size, u.rate, true); alone < more {
			if empty < 0 {
				empty = q.addLayer()
			}
			return empty, alone
		}
	}
	return at, more
}

// shift moves a unit to another layer.
func (q *frugal) shift(u *frugalUnit, to int) {
	q.take(u)
	q.layers[u.layer].moved = true
	q.put(u, to)
	q.layers[to].moved = true
}

// improve moves units while that saves something, those that save most first.
func (q *frugal) improve(limit int) {
	const rounds = 20 // more than it takes
	type move struct {
		unit  *frugalUnit
		saved float64
	}
	try := func(u *frugalUnit) (at int, saved float64) {
		l := &q.layers[u.layer]
		at, more := q.best(u, limit)
		return at, q.layerCost(&q.layers[u.layer]) - q.removing(l, u) - more
	}
	for range rounds {
		var moves []move
		for i := range q.units {
			if _, saved := try(&q.units[i]); saved > 1 {
				moves = append(moves, move{&q.units[i], saved})
			}
		}
		if len(moves) == 0 {
			return
		}
		slices.SortStableFunc(moves, func(a, b move) int { return -cmp.Compare(a.saved, b.saved) })
		for _, m := range moves {
			if at, saved := try(m.unit); at >= 0 && saved > 1 {
				q.shift(m.unit, at)
			}
		}
	}
}

// compare marks the layers that the image before does not have.
func (q *frugal) compare(prior Split) {
	const sep = "\x00"
	have := map[string]bool{}
	for _, names := range prior {
		have[strings.Join(slices.Sorted(slices.Values(names)), sep)] = true
	}
	names := make([][]string, len(q.layers))
	for i := range q.units {
		for _, c := range q.units[i].members {
			names[q.units[i].layer] = append(names[q.units[i].layer], c.name())
		}
	}
	for i := range q.layers {
		slices.Sort(names[i])
		q.layers[i].moved = !have[strings.Join(names[i], sep)]
	}
}

// chunks are the layers, each in the order of names.
func (q *frugal) chunks() []Chunk {
	members := make([][]*Component, len(q.layers))
	for i := range q.units {
		members[q.units[i].layer] = append(members[q.units[i].layer], q.units[i].members...)
	}
	var chunks []Chunk
	for _, list := range members {
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, byComponentName)
		var c Chunk
		for _, m := range list {
			c.Components = append(c.Components, m.ID)
		}
		chunks = append(chunks, c)
	}
	return chunks
}

func byComponentName(a, b *Component) int {
	return cmp.Or(strings.Compare(a.name(), b.name()), strings.Compare(a.ID, b.ID))
}
