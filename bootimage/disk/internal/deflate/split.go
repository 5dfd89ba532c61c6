package deflate

// Where a block ends: kinds of tokens are counted, and when those of late differ
// much from those before, other codes are better. The idea is that of Eric Biggers'
// libdeflate.
const (
	kinds     = 10
	checkEach = 512  // tokens
	minBlock  = 5000 // bytes
)

type splitter struct {
	late, early   [kinds]uint32
	nLate, nEarly uint32
}

func (s *splitter) literal(b byte) {
	s.late[b>>5&6|b&1]++
	s.nLate++
}

func (s *splitter) match(length int) {
	k := 8
	if length >= 9 {
		k = 9
	}
	s.late[k]++
	s.nLate++
}

// enough reports whether the block, of size bytes so far, is to end.
func (s *splitter) enough(size, left int) bool {
	if s.nLate < checkEach || size < minBlock || left < minBlock {
		return false
	}
	if s.nEarly > 0 {
		var delta uint32
		for k := range kinds {
			expected, actual := s.early[k]*s.nLate, s.late[k]*s.nEarly
			delta += max(expected, actual) - min(expected, actual)
		}
		cutoff := s.nLate * 200 / 512 * s.nEarly
		if size < 10000 && s.nEarly < 8192 {
			cutoff += uint32(uint64(cutoff) * uint64(10000-size) / 10000)
		}
		if delta+uint32(size/4096)*s.nEarly >= cutoff {
			return true
		}
	}
	for k := range kinds {
		s.early[k] += s.late[k]
		s.late[k] = 0
	}
	s.nEarly += s.nLate
	s.nLate = 0
	return false
}
