package zstd

const maxTableLog = 9 // of sequences' codes

// fse is a table of a finite state entropy code: of probabilities for symbols.
type fse struct {
	log     uint
	symbols int // less one: the highest symbol with a probability
	norm    [64]int16
	next    [1 << maxTableLog]uint16
	moves   [64]move
	spread  [1 << maxTableLog]uint8
}

// move is what a symbol does to a state.
type move struct {
	bits uint32 // how many are written: (state+bits)>>16
	find int32  // the next state: next[state>>bits+find]
}

// build makes the table for the probabilities in norm.
func (t *fse) build() {
	size := uint32(1) << t.log
	highest := size - 1
	var starts [65]uint32
	for s := 0; s <= t.symbols; s++ {
		n := uint32(max(t.norm[s], 0))
		if t.norm[s] == -1 {
			t.spread[highest&(1<<maxTableLog-1)] = uint8(s)
			highest--
			n = 1
		}
		starts[s+1] = starts[s] + n
	}
	step, at := size>>1+size>>3+3, uint32(0)
	for s := 0; s <= t.symbols; s++ {
		for range max(t.norm[s], 0) {
			t.spread[at&(1<<maxTableLog-1)] = uint8(s)
			for at = (at + step) & (size - 1); at > highest; at = (at + step) & (size - 1) {
			}
		}
	}
	total := uint32(0)
	for s := 0; s <= t.symbols; s++ {
		n := uint32(max(t.norm[s], -t.norm[s]))
		switch n {
		case 0:
		case 1:
			t.moves[s] = move{uint32(t.log)<<16 - size, int32(total) - 1}
		default:
			most := uint32(t.log) - high(n-1)
			t.moves[s] = move{most<<16 - n<<most, int32(total) - int32(n)}
		}
		total += n
	}
	for u, s := range t.spread[:size] {
		t.next[starts[s]&(1<<maxTableLog-1)] = uint16(size) + uint16(u)
		starts[s]++
	}
}

// start is the state that begins with symbol s.
func (t *fse) start(s uint8) uint32 {
	m := t.moves[s&63]
	n := (m.bits + 1<<15) >> 16
	return uint32(t.next[((n<<16-m.bits)>>n+uint32(m.find))&(1<<maxTableLog-1)])
}

// cost is how many bits, in 1/256, the symbols need, or false if one of them has no
// probability.
func (t *fse) cost(counts []uint32) (sum int, ok bool) {
	for s, n := range counts {
		if n == 0 {
			continue
		}
		if s > t.symbols || t.norm[s] == 0 {
			return 0, false
		}
		sum += int(n) * (int(t.log)<<costBits - int(logs[max(t.norm[s], 1)]))
	}
	return sum, true
}

// normalize gives t the probabilities that follow counts, of total symbols of at least
// two kinds, with a table of at most 1<<limit states.
func (t *fse) normalize(counts []uint32, total uint32, limit uint) {
	t.symbols = len(counts) - 1
	for counts[t.symbols] == 0 {
		t.symbols--
	}
	log := min(limit, uint(max(int(high(total-1))-2, 5)))
	log = max(log, min(uint(high(total))+1, uint(high(uint32(t.symbols)))+2))
	t.log = min(max(log, 5), limit)
	size := 1 << t.log
	left := size
	t.norm = [64]int16{}
	for s, n := range counts[:t.symbols+1] {
		if n == 0 {
			continue
		}
		exact := uint64(n) << t.log // in 1/total
		p := int(exact / uint64(total))
		// Of two probabilities that is nearer whose ratio is.
		if p == 0 || exact*exact > uint64(p)*uint64(p+1)*uint64(total)*uint64(total) {
			p++
		}
		t.norm[s] = int16(p)
		left -= p
	}
	// What is left over goes to or comes from where it changes the cost least.
	for ; left != 0; left -= sign(left) {
		best, at := 0, -1
		for s, n := range counts[:t.symbols+1] {
			p := int(t.norm[s])
			if n == 0 || left < 0 && p == 1 {
				continue
			}
			gain := int(n) * (int(logs[p+sign(left)]) - int(logs[p]))
			if at < 0 || gain > best {
				best, at = gain, s
			}
		}
		t.norm[at] += int16(sign(left))
	}
}

func sign(v int) int {
	if v < 0 {
		return -1
	}
	return 1
}

// appendTable writes the probabilities.
func (t *fse) appendTable(out []byte) []byte {
	acc, have := uint32(t.log-5), uint(4)
	flush := func() {
		for ; have >= 8; have -= 8 {
			out = append(out, byte(acc))
			acc >>= 8
		}
	}
	size := 1 << t.log
	remaining, threshold, width := size+1, size, t.log+1
	zero := false
	for s := 0; s <= t.symbols && remaining > 1; {
		if zero {
			start := s
			for t.norm[s] == 0 {
				s++
			}
			n := s - start
			for ; n >= 3; n -= 3 {
				acc |= 3 << have
				have += 2
				flush()
			}
			acc |= uint32(n) << have
			have += 2
			flush()
		}
		p := int(t.norm[s])
		s++
		most := 2*threshold - 1 - remaining
		remaining -= max(p, -p)
		p++
		zero = p == 1
		v := p
		if v >= threshold {
			v += most
		}
		acc |= uint32(v) << have
		have += width
		if v < most {
			have--
		}
		for remaining < threshold {
			width--
			threshold >>= 1
		}
		flush()
	}
	if have > 0 {
		out = append(out, byte(acc))
	}
	return out
}

// fixed makes a table that the format defines.
func fixed(log uint, norm []int16) *fse {
	t := &fse{log: log, symbols: len(norm) - 1}
	copy(t.norm[:], norm)
	t.build()
	return t
}

// The tables of RFC 8878, 3.1.1.3.2.2.
var (
	fixedLits = fixed(6, []int16{
		4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
	})
	fixedMatches = fixed(6, []int16{
		1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
	})
	fixedOffsets = fixed(5, []int16{
		1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
	})
)
