package ostree

import (
	"hash/maphash"
	"iter"
)

// claims says of objects which shelf staged them: 1 + its number, or 0 if they
// are in the repository or being written. Records lie in blocks that never
// move, and the table has only their numbers: of many objects that is half of
// what a map takes, which doubles whole and keeps room for keys it lacks.
type claims struct {
	seed   maphash.Seed
	blocks [][]claimRecord
	count  int      // of records
	gone   int      // of those, taken back
	table  []uint32 // 1 + number of a record, at its hash or behind; 0: free
}

const claimBlock = 256

// claimRecord stays where it is when the claim is taken back, so that those
// behind it in the table are still found.
type claimRecord struct {
	move
	gone bool
}

func newClaims() claims { return claims{seed: maphash.MakeSeed(), table: make([]uint32, 64)} }

func (s *claims) record(number uint32) *claimRecord {
	return &s.blocks[number/claimBlock][number%claimBlock]
}

// find gives the record of key, or nil and the free place in the table.
func (s *claims) find(key *claimKey) (*claimRecord, *uint32) {
	// Whoever serves objects chooses checksums, but does not know the seed.
	mask := uint64(len(s.table) - 1)
	for h := maphash.Bytes(s.seed, key.sum[:]); ; h++ {
		place := &s.table[h&mask]
		if *place == 0 {
			return nil, place
		}
		if r := s.record(*place - 1); r.claimKey == *key {
			return r, place
		}
	}
}

// get reports the shelf, and whether the object is claimed.
func (s *claims) get(key *claimKey) (uint8, bool) {
	if r, _ := s.find(key); r != nil && !r.gone {
		return r.shelf, true
	}
	return 0, false
}

func (s *claims) set(key *claimKey, shelf uint8) {
	r, place := s.find(key)
	if r != nil {
		if r.gone {
			s.gone--
		}
		r.shelf, r.gone = shelf, false
		return
	}
	if s.count == len(s.table)/4*3 {
		s.grow()
		_, place = s.find(key)
	}
	if s.count%claimBlock == 0 {
		s.blocks = append(s.blocks, make([]claimRecord, claimBlock))
	}
	*s.record(uint32(s.count)) = claimRecord{move: move{*key, shelf}}
	s.count++
	*place = uint32(s.count)
}

func (s *claims) grow() {
	s.table = make([]uint32, 2*len(s.table))
	for i := range uint32(s.count) {
		_, place := s.find(&s.record(i).claimKey)
		*place = i + 1
	}
}

// remove takes a claim back.
func (s *claims) remove(key *claimKey) {
	if r, _ := s.find(key); r != nil && !r.gone {
		r.gone = true
		s.gone++
	}
}

func (s *claims) len() int { return s.count - s.gone }

// all gives every claim with its number, which stays the same.
func (s *claims) all() iter.Seq2[uint32, move] {
	return func(yield func(uint32, move) bool) {
		for i := range uint32(s.count) {
			if r := s.record(i); !r.gone && !yield(i, r.move) {
				return
			}
		}
	}
}

// those gives the claims of these numbers.
func (s *claims) those(numbers []uint32) iter.Seq[move] {
	return func(yield func(move) bool) {
		for _, i := range numbers {
			if !yield(s.record(i).move) {
				return
			}
		}
	}
}
