package container

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// Stable is the [Planner] for images that know nothing of each other, and the
// default where there is no prior image. It needs no earlier plan: where a component
// goes depends on its name, size and frequency and, as little as can be, on the
// others, so that a package that changes, comes or goes takes few bytes of
// others' with it.
//
// A day on which component i changes with probability p(i) costs, for a layer
// of n such components of size s, about n²·s·p bytes. With a fixed number of
// layers that is least when the sum of √(s·p) is the same in each and layers
// hold components of similar s·p. Hence: components whose root is above two
// thirds of the average layer's share are alone (two thirds, because hashing
// fills layers unevenly); the rest are in tiers of similar frequency
// and size, each with layers in proportion to its roots, and within a tier go
// by a hash of the name. Hashing is linear: one layer more or less in a tier
// splits or joins two layers and leaves the others alone. Sizes are rounded
// first, so that small changes move nothing.
//
// Components that change with [EveryBuild] are alone, in the last layers.
type Stable struct{}

// Plan implements [Planner].
func (Stable) Plan(components []Component, limit int) ([]Chunk, error) {
	if limit < 1 {
		return nil, fmt.Errorf("no layers for %d components", len(components))
	}
	var always, rest []weighted
	for i := range components {
		w := weighComponent(&components[i])
		if components[i].Frequency == EveryBuild {
			always = append(always, w)
		} else {
			rest = append(rest, w)
		}
	}
	slices.SortFunc(always, byWeight)
	slices.SortFunc(rest, byWeight)

	// What always changes shares one layer where layers are too few.
	room := min(len(always), max(1, limit/4))
	if len(rest) == 0 {
		room = min(len(always), limit)
	} else if len(always) > 0 && room >= limit {
		room = limit - 1
	}
	var last []Chunk
	for i, w := range always {
		if room > 0 && i >= room {
			last[room-1].Components = append(last[room-1].Components, w.ID)
			continue
		}
		if room == 0 { // one layer for everything
			rest = append(rest, w)
			continue
		}
		last = append(last, Chunk{[]string{w.ID}})
	}

	free := limit - len(last)
	var sum uint64
	for _, w := range rest {
		sum += w.root
	}
	var chunks []Chunk
	alone := 0
	for alone < len(rest) && (len(rest) <= free || free-alone > 1 && rest[alone].root*uint64(free-alone)*3 >= sum*2) {
		chunks = append(chunks, Chunk{[]string{rest[alone].ID}})
		sum -= rest[alone].root
		alone++
	}
	chunks = append(chunks, group(rest[alone:], free-alone)...)
	return append(chunks, last...), nil
}

// weighted is a component with what planning needs.
type weighted struct {
	*Component
	root uint64 // √(size · weight)
	tier uint32
	hash uint64
}

func byWeight(a, b weighted) int {
	return cmp.Or(-cmp.Compare(a.root, b.root), strings.Compare(a.name(), b.name()), strings.Compare(a.ID, b.ID))
}

// What changes at least so many times a year, fortnightly, is in tiers of its
// own and weighs as much as what is so many times larger. A finer scale would
// move a package whenever its change log passes a mark.
const (
	often       = 26
	oftenWeight = 16
)

func weighComponent(c *Component) weighted {
	w := weighted{Component: c}
	// Each object costs headers, and each component at least something.
	size := uint64(max(c.Size, 0)) + 1024*uint64(len(c.Objects)+1)
	v := rounded(size)
	if c.Frequency >= often {
		v *= oftenWeight
		w.tier = 1 << 16
	}
	w.root = isqrt(v)
	// Tiers of a factor of 4 in size; all that is tiny is in one.
	w.tier |= uint32(max(bits.Len64(size)/2, 8))
	h := sha256.Sum256([]byte(c.name()))
	w.hash = binary.BigEndian.Uint64(h[:])
	return w
}

// rounded keeps the three highest bits.
func rounded(v uint64) uint64 {
	if n := bits.Len64(v); n > 3 {
		return v >> (n - 3) << (n - 3)
	}
	return v
}

// isqrt is the integer square root.
func isqrt(v uint64) uint64 {
	r := uint64(math.Sqrt(float64(v)))
	for r > 0 && r > v/r {
		r--
	}
	for (r + 1) <= v/(r+1) {
		r++
	}
	return r
}

// group puts components into at most n layers by tier and hash.
func group(list []weighted, n int) []Chunk {
	if len(list) == 0 || n < 1 {
		return nil
	}
	type tier struct {
		id      uint32
		root    uint64
		members []weighted
		layers  int
		over    uint64 // remainder of the division that gave layers
	}
	byID := map[uint32]*tier{}
	var tiers []*tier
	var sum uint64
	for _, w := range list {
		t := byID[w.tier]
		if t == nil {
			t = &tier{id: w.tier}
			byID[w.tier] = t
			tiers = append(tiers, t)
		}
		t.root += w.root
		t.members = append(t.members, w)
		sum += w.root
	}
	slices.SortFunc(tiers, func(a, b *tier) int { return -cmp.Compare(a.id, b.id) })
	if len(tiers) > n {
		tiers = []*tier{{members: list, root: sum}}
	}
	// One layer each, the others by weight, largest remainders first.
	spare := uint64(n - len(tiers))
	left := int(spare)
	for _, t := range tiers {
		t.layers = 1 + int(t.root*spare/sum)
		t.over = t.root * spare % sum
		left -= t.layers - 1
	}
	ranked := slices.Clone(tiers)
	slices.SortStableFunc(ranked, func(a, b *tier) int { return -cmp.Compare(a.over, b.over) })
	for _, t := range ranked[:min(left, len(ranked))] {
		t.layers++
	}
	var chunks []Chunk
	for _, t := range tiers {
		slices.SortFunc(t.members, func(a, b weighted) int {
			return cmp.Or(strings.Compare(a.name(), b.name()), strings.Compare(a.ID, b.ID))
		})
		layers := make([]Chunk, t.layers)
		for _, w := range t.members {
			b := bucket(w.hash, t.layers)
			layers[b].Components = append(layers[b].Components, w.ID)
		}
		for _, l := range layers {
			if len(l.Components) > 0 {
				chunks = append(chunks, l)
			}
		}
	}
	return chunks
}

// bucket is linear hashing: of n buckets, those that have no twin yet keep what
// the twin will take.
func bucket(hash uint64, n int) int {
	level := uint64(1) << (bits.Len64(uint64(n)) - 1) // the power of two not above n
	if b := hash % (2 * level); b < uint64(n) {
		return int(b)
	}
	return int(hash % level)
}
