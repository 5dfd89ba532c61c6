package xz

import (
	"encoding/binary"
	"math/bits"
)

// found is a match: the nearest of its length.
type found struct {
	n    int
	dist uint32 // less 1
}

const (
	hash2Bits = 10
	hash3Bits = 16
)

// finder finds matches. For each hash of four bytes it has a binary tree of the
// places with it, sorted by what follows and with the latest place at the root:
// going down finds ever longer matches, and makes the new place the root on the
// way.
type finder struct {
	content []byte
	at      int
	hash2   [1 << hash2Bits]int32 // places, plus 1; 0: none
	hash3   [1 << hash3Bits]int32
	hash4   []int32
	shift4  int     // of the hash; short content uses less of the table
	sons    []int32 // two a place: those that sort before, and after
	window  int     // a power of two
	nice    int     // matches of this length are good enough
	depth   int     // most places that are looked at
	matches []found
}

func newFinder(window, nice, depth int) *finder {
	return &finder{
		hash4: make([]int32, window/4), sons: make([]int32, 2*window),
		window: window, nice: nice, depth: depth, matches: make([]found, 0, nice),
	}
}

func (f *finder) reset(content []byte) {
	f.content, f.at = content, 0
	f.hash2, f.hash3 = [1 << hash2Bits]int32{}, [1 << hash3Bits]int32{}
	used := min(max(bits.Len(uint(len(content))), 10), bits.Len(uint(len(f.hash4)))-1)
	f.shift4 = 32 - used
	clear(f.hash4[:1<<used])
}

// next finds matches at the next place, by ascending length.
func (f *finder) next() []found {
	f.matches = f.matches[:0]
	f.insert(true)
	return f.matches
}

// skip passes n places.
func (f *finder) skip(n int) {
	for range n {
		f.insert(false)
	}
}

// insert adds the next place, and keeps the matches there if they are wanted.
func (f *finder) insert(want bool) {
	at, content := f.at, f.content
	f.at++
	if len(content)-at < 4 {
		return
	}
	limit := min(len(content)-at, f.nice)
	v := binary.LittleEndian.Uint32(content[at:])
	h2 := v & 0xffff * 0x9e3b >> 6 & (1<<hash2Bits - 1)
	h3 := v << 8 * 0x9e3779b1 >> (32 - hash3Bits)
	h4 := v * 0x9e3779b1 >> f.shift4
	d2, d3, place := at+1-int(f.hash2[h2]), at+1-int(f.hash3[h3]), f.hash4[h4]
	f.hash2[h2], f.hash3[h3], f.hash4[h4] = int32(at+1), int32(at+1), int32(at+1)
	best := 1
	if want {
		dist := 0
		if d2 < f.window && d2 <= at && binary.LittleEndian.Uint16(content[at-d2:]) == uint16(v) {
			best, dist = 2, d2
			f.matches = append(f.matches, found{2, uint32(d2 - 1)})
		}
		if d3 != d2 && d3 < f.window && d3 <= at && content[at-d3] == byte(v) && content[at-d3+1] == byte(v>>8) && content[at-d3+2] == byte(v>>16) {
			best, dist = 3, d3
			f.matches = append(f.matches, found{3, uint32(d3 - 1)})
		}
		if best > 1 {
			best = best + common(content[at-dist+best:], content[at+best:at+limit])
			f.matches[len(f.matches)-1].n = best
			if best >= limit {
				want = false
			}
		}
		best = max(best, 3)
	}
	f.tree(at, int(place)-1, limit, best, want)
}

// common is how many bytes a begins with as b does, which is not longer.
func common(a, b []byte) int {
	n := 0
	for len(b)-n >= 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// tree makes at the root of the tree that place is the root of.
func (f *finder) tree(at, place, limit, best int, want bool) {
	mask := f.window - 1
	sons, content := f.sons[:2*f.window], f.content
	own := content[at : at+limit]
	before, behind := 2*(at&mask), 2*(at&mask)+1 // sons that are still to be found
	common0, common1 := 0, 0                     // bytes that all below have in common with own
	for depth := f.depth; ; depth-- {
		if place < 0 || at-place >= f.window || depth == 0 {
			sons[before], sons[behind] = 0, 0
			return
		}
		pair := 2 * (place & mask)
		n := min(common0, common1)
		other := content[place : place+limit]
		if other[n] == own[n] {
			n++
			for n+8 <= limit {
				if x := binary.LittleEndian.Uint64(other[n:]) ^ binary.LittleEndian.Uint64(own[n:]); x != 0 {
					n += bits.TrailingZeros64(x) >> 3
					goto differ
				}
				n += 8
			}
			for n < limit && other[n] == own[n] {
				n++
			}
		differ:
			if want && n > best {
				best = n
				f.matches = append(f.matches, found{n, uint32(at - place - 1)})
			}
			if n == limit {
				sons[before], sons[behind] = sons[pair], sons[pair+1]
				return
			}
		}
		if other[n] < own[n] {
			sons[before] = int32(place + 1)
			before = pair + 1
			place, common0 = int(sons[before])-1, n
		} else {
			sons[behind] = int32(place + 1)
			behind = pair
			place, common1 = int(sons[behind])-1, n
		}
	}
}
