package container

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// OstreeExt is the [Planner] that ostree-ext 0.15 and rpm-ostree have: the same
// components in the same layers, for the same number of layers. Differences
// are where those crash or make an image that can't be imported: empty layers
// are left out, and an earlier split that can't be kept is not an error.
//
// Encapsulate reserves a layer itself, so with Prior the new components are in
// a layer before that. Where there is no room for it, they join the last one.
type OstreeExt struct {
	// Prior is the split of the image before this one, to be kept; nil: none.
	// If components have the same name it can't be, and is not looked at.
	Prior Split
}

// fewestBins is how many layers the rule needs, the reserved one among them.
const fewestBins = 4

// Plan implements [Planner]. A limit below 3 is an error.
func (p OstreeExt) Plan(components []Component, limit int) ([]Chunk, error) {
	bins := limit + 1 // with the reserved one
	if bins < fewestBins {
		return nil, fmt.Errorf("ostree-ext's rule needs at least %d layers, not %d", fewestBins-1, limit)
	}
	list := make([]*Component, len(components))
	for i := range components {
		list[i] = &components[i]
	}
	slices.SortStableFunc(list, func(a, b *Component) int {
		return cmp.Or(-cmp.Compare(a.Size, b.Size), strings.Compare(a.ID, b.ID))
	})
	packed, ok := extKeep(list, p.Prior, limit)
	switch {
	case ok:
	case len(list) < bins:
		for _, c := range list {
			packed = append(packed, []*Component{c})
		}
	default:
		packed = extPack(list, bins)
	}
	var chunks []Chunk
	for _, bin := range packed {
		if len(bin) == 0 {
			continue
		}
		var c Chunk
		for _, member := range bin {
			c.Components = append(c.Components, member.ID)
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

// extKeep keeps an earlier split: what is new goes into the last layer.
func extKeep(list []*Component, prior Split, limit int) (packed [][]*Component, ok bool) {
	byName := make(map[string]*Component, len(list))
	for _, c := range list {
		if byName[c.name()] != nil {
			return nil, false
		}
		byName[c.name()] = c
	}
	if len(prior) == 0 {
		return nil, false
	}
	for _, names := range prior {
		var bin []*Component
		for _, name := range names {
			if c := byName[name]; c != nil {
				bin = append(bin, c)
				delete(byName, name)
			}
		}
		packed = append(packed, bin)
	}
	last := len(packed) - 1
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		packed[last] = append(packed[last], byName[name])
	}
	packed = slices.DeleteFunc(packed, func(bin []*Component) bool { return len(bin) == 0 })
	if len(packed) == limit+1 {
		packed[limit-1] = append(packed[limit-1], packed[limit]...)
		packed = packed[:limit]
	}
	return packed, len(packed) <= limit
}

// extPack is the rule for a first image. list is in descending order of size,
// and at least as long as bins.
func extPack(list []*Component, bins int) (packed [][]*Component) {
	var rest, always []*Component
	for _, c := range list {
		if c.Frequency == EveryBuild {
			always = append(always, c)
		} else {
			rest = append(rest, c)
		}
	}
	if len(rest) > 0 {
		packed = extPartition(rest, bins, min(len(always), 1))
	}
	return append(packed, always)
}

// extPartition spreads components over all layers but the reserved one and, if
// always is 1, that of what changes with every build.
func extPartition(list []*Component, bins, always int) [][]*Component {
	const cutoff, reserved, lows = float32(0.6), 1, 1
	others := lows + reserved + always
	highs := int(cutoff * float32(bins-others))
	mediums := bins - highs - others

	// Outliers in size, by the median, are by themselves (the large) and
	// together (the small).
	sizes := make([]float64, len(list))
	for i, c := range list {
		sizes[i] = float64(c.Size)
	}
	median := medianOf(sizes)
	for i := range sizes {
		sizes[i] = math.Abs(sizes[i] - median)
	}
	slices.Sort(sizes)
	deviation := medianOf(sizes)
	tooLow, tooHigh := limits(median, deviation)
	var high, low, medium []*Component
	for _, c := range list {
		switch size := float64(c.Size); {
		case size >= tooHigh:
			high = append(high, c)
		case size <= tooLow:
			low = append(low, c)
		default:
			medium = append(medium, c)
		}
	}
	if len(high) > highs {
		medium = slices.Concat(high[highs:], medium)
		high = high[:highs]
	}
	var packed [][]*Component
	for _, c := range high {
		packed = append(packed, []*Component{c})
	}
	if len(low) > 0 {
		packed = append(packed, low)
	}

	// How many share a layer. The reference's subtraction wraps around when
	// there are that few, and then there is no limit.
	each := (len(list) - highs - len(low)) / mediums
	if len(list)-highs-len(low) < 0 {
		each = len(list)
	}
	for _, b := range extBuckets(medium) {
		var bin []*Component
		for _, c := range b {
			if len(bin) >= each {
				packed = append(packed, bin) // the first is empty where each is 0
				bin = nil
			}
			bin = append(bin, c)
		}
		packed = append(packed, bin)
	}

	// Neighbours are joined, from the end, until there are few enough; the
	// joined one then changes places with what followed.
	limit := bins - reserved - always
	for len(packed) > limit {
		first, end := lows+highs, len(packed)-1
		for i := first + (end-1-first)/2*2; i >= first && len(packed) > limit; i -= 2 {
			joined := slices.Concat(packed[i-1], packed[i])
			packed = slices.Delete(packed, i-1, i+1)
			packed = slices.Insert(packed, i, joined)
		}
	}
	return packed
}

// extBuckets sorts what is of medium size by frequency and size, the often
// changed first.
func extBuckets(list []*Component) [][]*Component {
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b *Component) int { return cmp.Compare(a.Frequency, b.Frequency) })
	sizes, frequencies := make([]uint64, len(list)), make([]uint64, len(list))
	for i, c := range list {
		sizes[i], frequencies[i] = uint64(max(c.Size, 0)), uint64(c.Frequency)
	}
	seldom, often := limits(meanOf(frequencies))
	small, large := limits(meanOf(sizes))
	const kinds = 3
	buckets := make([][]*Component, kinds*kinds)
	for _, c := range list {
		f, s := 1, 2 // neither
		switch v := float64(c.Frequency); {
		case v >= often:
			f = 0
		case v <= seldom:
			f = 2
		}
		switch v := float64(c.Size); {
		case v >= large:
			s = 0
		case v <= small:
			s = 1
		}
		buckets[f*kinds+s] = append(buckets[f*kinds+s], c)
	}
	return slices.DeleteFunc(buckets, func(b []*Component) bool { return len(b) == 0 })
}

// limits are where outliers begin. The conversions keep a compiler from
// rounding products differently on other machines.
func limits(middle, deviation float64) (low, high float64) {
	const threshold = 2
	twice := float64(threshold * deviation)
	return 0.5 * math.Abs(middle-twice), middle + twice
}

// medianOf gives the median of sorted values, in whichever direction.
func medianOf(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return 0.5 * (sorted[n/2-1] + sorted[n/2])
}

// meanOf gives mean and standard deviation.
func meanOf(values []uint64) (mean, deviation float64) {
	var sum uint64
	for _, v := range values {
		sum += v
	}
	mean = float64(sum) / float64(len(values))
	squares := 0.0
	for _, v := range values {
		d := mean - float64(v)
		squares += float64(d * d)
	}
	return mean, math.Sqrt(squares / float64(len(values)))
}
