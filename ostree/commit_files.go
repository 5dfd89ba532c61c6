package ostree

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
)

// What a commit keeps of a file until the tree is written is most of the memory
// that it takes: so numbers stand for names and nodes, which lie in large blocks.

// names keeps names, each with a NUL behind it, which none contains.
type names struct {
	full  []string
	block strings.Builder
}

// nameRef says where a name is: the block's number, and 16 bits for the place.
type nameRef uint32

const nameBlock = 1 << 16

func (n *names) keep(name string) (nameRef, error) {
	if n.block.Len() > 0 && n.block.Len()+len(name)+1 > nameBlock {
		n.full = append(n.full, n.block.String())
		n.block.Reset()
	}
	if len(n.full) == nameBlock {
		return 0, errors.New("the tree has more than 4 GiB of names")
	}
	if n.block.Len() == 0 {
		n.block.Grow(max(nameBlock, len(name)+1)) // a longer name has a block for itself
	}
	ref := nameRef(len(n.full)*nameBlock + n.block.Len())
	n.block.WriteString(name)
	n.block.WriteByte(0)
	return ref, nil
}

func (n *names) at(ref nameRef) string {
	block := n.block.String()
	if i := int(ref / nameBlock); i < len(n.full) {
		block = n.full[i]
	}
	block = block[ref%nameBlock:]
	return block[:strings.IndexByte(block, 0)]
}

// nodes are nodes by number, from 1 on. They never move.
type nodes[N any] struct {
	blocks [][]N // no arrays: to take an element's address, those are read, which maps a page twice
	count  uint32
}

const nodeBlock = 128

func (n *nodes[N]) add() (uint32, *N) {
	if n.count%nodeBlock == 0 {
		n.blocks = append(n.blocks, make([]N, nodeBlock))
	}
	n.count++
	return n.count, n.at(n.count)
}

// at gives a node; nil: there is none of number 0.
func (n *nodes[N]) at(number uint32) *N {
	if number == 0 {
		return nil
	}
	return &n.blocks[(number-1)/nodeBlock][(number-1)%nodeBlock]
}

// nodeSet is the files of a directory, or the directories, by name: a list as
// long as they come in order, as sources give them, which costs a fraction of a map.
type nodeSet struct {
	list  []namedNode
	index map[string]uint32 // instead, once they came in another order
}

type namedNode struct {
	name nameRef
	node uint32
}

func (s *nodeSet) find(n *names, name string) (int, bool) {
	if i := len(s.list); i == 0 || n.at(s.list[i-1].name) < name {
		return i, false
	}
	return slices.BinarySearchFunc(s.list, name, func(f namedNode, name string) int { return strings.Compare(n.at(f.name), name) })
}

// get gives a node's number, or 0.
func (s *nodeSet) get(n *names, name string) uint32 {
	if s.index != nil {
		return s.index[name]
	}
	if i, ok := s.find(n, name); ok {
		return s.list[i].node
	}
	return 0
}

// set reports whether there was one of that name.
func (s *nodeSet) set(n *names, name string, node uint32) (bool, error) {
	if s.index == nil {
		i, ok := s.find(n, name)
		switch {
		case ok:
			s.list[i].node = node
			return true, nil
		case i == len(s.list):
			ref, err := n.keep(name)
			s.list = append(s.list, namedNode{ref, node})
			return false, err
		}
		s.index = make(map[string]uint32, len(s.list)+1)
		for _, f := range s.list {
			s.index[n.at(f.name)] = f.node
		}
		s.list = nil
	}
	if _, ok := s.index[name]; ok {
		s.index[name] = node
		return true, nil
	}
	ref, err := n.keep(name)
	if err == nil {
		s.index[n.at(ref)] = node // name may be part of something large
	}
	return false, err
}

// remove reports whether there was one.
func (s *nodeSet) remove(n *names, name string) bool {
	if s.index != nil {
		_, ok := s.index[name]
		delete(s.index, name)
		return ok
	}
	i, ok := s.find(n, name)
	if ok {
		s.list = slices.Delete(s.list, i, i+1)
	}
	return ok
}

// sorted gives all in the order of their names.
func (s *nodeSet) sorted(n *names) iter.Seq2[string, uint32] {
	return func(yield func(string, uint32) bool) {
		for _, f := range s.list {
			if !yield(n.at(f.name), f.node) {
				return
			}
		}
		if s.index == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s.index)) {
			if !yield(name, s.index[name]) {
				return
			}
		}
	}
}
