package ostree

import (
	"maps"
	"slices"
	"strings"
)

// names keeps names, many in one allocation, and nothing of the paths that they
// are the ends of.
type names struct{ block strings.Builder }

func (n *names) keep(name string) string {
	if n.block.Cap()-n.block.Len() < len(name) {
		n.block.Reset()
		n.block.Grow(max(4<<10, len(name)))
	}
	start := n.block.Len()
	n.block.WriteString(name)
	return n.block.String()[start:]
}

// nodeSet is the files of a directory, or the directories, by name: a list as
// long as they come in order, as sources give them, which costs a third of a map.
type nodeSet[N any] struct {
	list  []namedNode[N]
	index map[string]*N // instead, once they came in another order
}

type namedNode[N any] struct {
	name string
	node *N
}

func (s *nodeSet[N]) find(name string) (int, bool) {
	if n := len(s.list); n == 0 || s.list[n-1].name < name {
		return n, false
	}
	return slices.BinarySearchFunc(s.list, name, func(n namedNode[N], name string) int { return strings.Compare(n.name, name) })
}

// get gives a node, or nil.
func (s *nodeSet[N]) get(name string) *N {
	if s.index != nil {
		return s.index[name]
	}
	if i, ok := s.find(name); ok {
		return s.list[i].node
	}
	return nil
}

// set reports whether there was one of that name.
func (s *nodeSet[N]) set(name string, node *N) bool {
	if s.index == nil {
		i, ok := s.find(name)
		switch {
		case ok:
			s.list[i].node = node
			return true
		case i == len(s.list):
			s.list = append(s.list, namedNode[N]{name, node})
			return false
		}
		s.index = make(map[string]*N, len(s.list)+1)
		for _, n := range s.list {
			s.index[n.name] = n.node
		}
		s.list = nil
	}
	_, ok := s.index[name]
	s.index[name] = node
	return ok
}

// remove reports whether there was one.
func (s *nodeSet[N]) remove(name string) bool {
	if s.index != nil {
		_, ok := s.index[name]
		delete(s.index, name)
		return ok
	}
	i, ok := s.find(name)
	if ok {
		s.list = slices.Delete(s.list, i, i+1)
	}
	return ok
}

// sorted gives all in the order of their names.
func (s *nodeSet[N]) sorted() []namedNode[N] {
	if s.index == nil {
		return s.list
	}
	list := make([]namedNode[N], 0, len(s.index))
	for _, name := range slices.Sorted(maps.Keys(s.index)) {
		list = append(list, namedNode[N]{name, s.index[name]})
	}
	return list
}
