package xz

import "math/bits"

// Probabilities that a bit is 0, in 1/2048.
const (
	probBits = 11
	probInit = 1 << (probBits - 1)
	moveBits = 5 // how fast they follow what is seen
	topValue = 1 << 24
)

// rangeEncoder is LZMA's: it narrows a range with every bit, and writes its upper
// bytes as they are settled.
type rangeEncoder struct {
	out       []byte
	low       uint64 // 33 bits: the highest is a carry
	width     uint32
	cache     byte
	cacheSize int // bytes that a carry may still change
}

func (r *rangeEncoder) reset() {
	r.out, r.low, r.width, r.cache, r.cacheSize = r.out[:0], 0, 0xffffffff, 0, 1
}

// size is how many bytes there are when the coder is flushed.
func (r *rangeEncoder) size() int { return len(r.out) + r.cacheSize + 4 }

func (r *rangeEncoder) shift() {
	if r.low < 0xff000000 || r.low>>32 != 0 {
		carry := byte(r.low >> 32)
		r.out = append(r.out, r.cache+carry)
		for ; r.cacheSize > 1; r.cacheSize-- {
			r.out = append(r.out, 0xff+carry)
		}
		r.cache, r.cacheSize = byte(r.low>>24), 0
	}
	r.cacheSize++
	r.low = r.low << 8 & 0xffffffff
}

func (r *rangeEncoder) flush() {
	for range 5 {
		r.shift()
	}
}

func (r *rangeEncoder) bit(p *uint16, bit uint32) {
	bound := r.width >> probBits * uint32(*p)
	if bit == 0 {
		r.width = bound
		*p += (1<<probBits - *p) >> moveBits
	} else {
		r.low += uint64(bound)
		r.width -= bound
		*p -= *p >> moveBits
	}
	if r.width < topValue {
		r.width <<= 8
		r.shift()
	}
}

// direct writes the lower n bits of v with no probabilities.
func (r *rangeEncoder) direct(v uint32, n int) {
	for n--; n >= 0; n-- {
		r.width >>= 1
		if v>>n&1 != 0 {
			r.low += uint64(r.width)
		}
		if r.width < topValue {
			r.width <<= 8
			r.shift()
		}
	}
}

// tree writes n bits, the highest first, each by the probability that belongs to
// those before it.
func (r *rangeEncoder) tree(probs []uint16, n int, v uint32) {
	at := uint32(1)
	for n--; n >= 0; n-- {
		b := v >> n & 1
		r.bit(&probs[at], b)
		at = at<<1 | b
	}
}

// reverseTree is tree with the lowest bit first. probs begin at what would be
// index 1.
func (r *rangeEncoder) reverseTree(probs []uint16, n int, v uint32) {
	at := uint32(1)
	for range n {
		b := v & 1
		v >>= 1
		r.bit(&probs[at-1], b)
		at = at<<1 | b
	}
}

// A price is what writing something costs, in 1/16 bit.
const priceBits = 4

// prices are those of a bit by its probability in 1/128.
var prices = func() (t [128]uint32) {
	for i := range t {
		// -16 log2 of the middle of the step, by squaring: each squaring doubles the
		// logarithm, whose integer part is the bit length.
		v := uint64(i*16 + 8)
		log := uint32(0)
		for range priceBits {
			v *= v
			log <<= 1
			for ; v >= 1<<16; v >>= 1 {
				log++
			}
		}
		t[i] = probBits<<priceBits - log - uint32(bits.Len64(v)-1)
	}
	return t
}()

// price0 and price1 are what a bit of a probability costs.
func price0(p uint16) uint32 { return prices[p>>4&127] }
func price1(p uint16) uint32 { return prices[(1<<probBits-1-p)>>4&127] }

// bitPrice is either, by bit: 0 or 1.
func bitPrice(p uint16, bit uint32) uint32 {
	return prices[(p^uint16(-bit)&(1<<probBits-1))>>4&127]
}

func treePrice(probs []uint16, n int, v uint32) (price uint32) {
	for at := v | 1<<n; at > 1; at >>= 1 {
		price += bitPrice(probs[at>>1], at&1)
	}
	return price
}

func reverseTreePrice(probs []uint16, n int, v uint32) (price uint32) {
	at := uint32(1)
	for range n {
		b := v & 1
		v >>= 1
		price += bitPrice(probs[at-1], b)
		at = at<<1 | b
	}
	return price
}
