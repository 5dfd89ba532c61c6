package selinux

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// Limits of the automaton.
const (
	maxProg   = 1 << 13 // instructions of one pattern
	maxInsts  = 1 << 18 // and of all that were needed; Fedora's have 100,000
	maxStates = 1 << 13 // that are kept: 10 MB
	maxHeld   = 1 << 22 // instructions in the states that are kept: 16 MB
)

// automaton finds the specs that match a path. It is one nondeterministic
// automaton of all patterns, run by sets of states that are kept (a lazy DFA).
// What the patterns begin with is not part of it: sorted, it is a tree in which
// a range of specs is a node, and an expression is compiled when a path first
// gets to where it begins.
type automaton struct {
	specs   []spec
	rank    []int32  // of each spec: the highest that matches counts
	order   []int32  // specs by prefix
	starts  []int32  // of each spec: first instruction, or one of those below
	insts   []inst   // of the expressions compiled so far
	states  []*state // 0 is the dead one, 1 the first
	index   map[string]int32
	held    int
	set     sparseSet
	scratch []byte
}

const (
	notCompiled = -1
	noRest      = -2 // nothing follows the prefix
)

// inst is an instruction of an expression.
type inst struct {
	syntax.Inst       // Out and Arg count from base
	base        int32 // where its program begins
	spec        int32
}

// state is a place in a path: which prefixes may still come true, and where in
// which expressions the path may be.
type state struct {
	lo, hi, depth int32 // order[lo:hi] have the path's first depth bytes as theirs
	insts         []int32
	accept        []int32 // specs that match if the path ends here, by rank from the highest
	next          [256]int32
}

const unknown = -1 // in next

func (a *automaton) init(specs []spec) {
	a.specs = specs
	n := len(specs)
	a.rank, a.order, a.starts = make([]int32, n), make([]int32, n), make([]int32, n)
	for i := range specs {
		a.order[i], a.starts[i] = int32(i), notCompiled
		a.rank[i] = int32(i)
		if specs[i].pattern.exact {
			a.rank[i] += int32(n)
		}
	}
	slices.SortStableFunc(a.order, func(x, y int32) int { return cmp.Compare(specs[x].pattern.prefix, specs[y].pattern.prefix) })
}

// match gives the spec that counts for a path, or nil.
func (a *automaton) match(path string, kind uint32) (*spec, error) {
	if a.full() {
		if err := a.reset(); err != nil {
			return nil, err
		}
	}
	at := int32(1)
	best := int32(-1)
	for i := range len(path) {
		if i == len(path)-1 && path[i] == '\n' {
			best = a.best(at, path, kind, best) // the newline may be behind the pattern's end
		}
		next := a.states[at].next[path[i]]
		if next == unknown {
			var err error
			if at, err = a.room(at); err != nil {
				return nil, err
			}
			if next, err = a.step(a.states[at], path[i]); err != nil {
				return nil, err
			}
			a.states[at].next[path[i]] = next
		}
		if at = next; at == 0 {
			break
		}
	}
	if best = a.best(at, path, kind, best); best < 0 {
		return nil, nil
	}
	return &a.specs[best], nil
}

// best is the spec that counts among those of a state and one found before.
func (a *automaton) best(at int32, path string, kind uint32, before int32) int32 {
	for _, s := range a.states[at].accept {
		if k := a.specs[s].kind; (k == 0 || kind == 0 || k == kind) && strings.HasPrefix(path, a.specs[s].pattern.within) {
			if before < 0 || a.rank[s] > a.rank[before] {
				return s
			}
			break
		}
	}
	return before
}

func (a *automaton) full() bool {
	return len(a.states) == 0 || len(a.states) >= maxStates || a.held > maxHeld
}

// room forgets all states but one if there are too many, and gives its new place.
func (a *automaton) room(at int32) (int32, error) {
	if !a.full() || at <= 1 {
		return at, nil
	}
	s := a.states[at]
	if err := a.reset(); err != nil {
		return 0, err
	}
	return a.add(s), nil
}

// reset forgets the states. Compiled expressions stay.
func (a *automaton) reset() error {
	a.states, a.index, a.held = a.states[:0], make(map[string]int32), 0
	a.add(&state{})
	first := &state{hi: int32(len(a.order))}
	a.set.clear(len(a.insts))
	if err := a.enter(first); err != nil {
		return err
	}
	a.finish(first)
	a.add(first)
	return nil
}

// step makes the state that follows s on a byte.
func (a *automaton) step(s *state, c byte) (int32, error) {
	n := &state{depth: s.depth + 1}
	n.lo, n.hi = a.narrow(s, c)
	a.set.clear(len(a.insts))
	for _, pc := range s.insts {
		if i := &a.insts[pc]; i.Op != syntax.InstMatch && i.MatchRune(rune(c)) {
			a.closure(i.base+int32(i.Out), i.base)
		}
	}
	if err := a.enter(n); err != nil {
		return 0, err
	}
	if n.lo == n.hi {
		n.lo, n.hi, n.depth = 0, 0, 0 // the same wherever the prefixes ended
	}
	if n.lo == n.hi && len(a.set.dense) == 0 && len(n.accept) == 0 {
		return 0, nil
	}
	a.finish(n)
	key := a.scratch[:0]
	for _, v := range []int32{n.lo, n.hi, n.depth} {
		key = binary.LittleEndian.AppendUint32(key, uint32(v))
	}
	for _, pc := range n.insts {
		key = binary.LittleEndian.AppendUint32(key, uint32(pc))
	}
	for _, s := range n.accept {
		key = binary.LittleEndian.AppendUint32(key, uint32(s))
	}
	a.scratch = key
	if at, ok := a.index[string(key)]; ok {
		return at, nil
	}
	at := a.add(n)
	a.index[string(key)] = at
	a.held += len(n.insts) + len(n.accept)
	return at, nil
}

func (a *automaton) add(s *state) int32 {
	for i := range s.next {
		s.next[i] = unknown
	}
	a.states = append(a.states, s)
	if len(a.states) == 1 {
		clear(s.next[:]) // the dead state leads to itself
	}
	return int32(len(a.states) - 1)
}

// narrow gives the specs of s whose prefix goes on with c.
func (a *automaton) narrow(s *state, c byte) (lo, hi int32) {
	part := a.order[s.lo:s.hi]
	at := func(spec int32) int {
		if p := a.specs[spec].pattern.prefix; int(s.depth) < len(p) {
			return int(p[s.depth])
		}
		return -1
	}
	first, _ := slices.BinarySearchFunc(part, int(c), func(spec int32, c int) int { return cmp.Compare(at(spec), c) })
	end, _ := slices.BinarySearchFunc(part, int(c)+1, func(spec int32, c int) int { return cmp.Compare(at(spec), c) })
	return s.lo + int32(first), s.lo + int32(end)
}

// enter begins the expressions of the specs whose prefix ends at n.
func (a *automaton) enter(n *state) error {
	for _, s := range a.order[n.lo:n.hi] {
		if len(a.specs[s].pattern.prefix) > int(n.depth) {
			break // the shortest come first
		}
		if a.starts[s] == notCompiled {
			if err := a.compile(s); err != nil {
				return err
			}
		}
		if a.starts[s] == noRest {
			n.accept = append(n.accept, s)
			continue
		}
		start := a.starts[s]
		a.closure(start, a.insts[start].base)
	}
	return nil
}

// compile makes the instructions of a spec's expression.
func (a *automaton) compile(s int32) error {
	p := &a.specs[s].pattern
	if p.rest == nil {
		a.starts[s] = noRest
		return nil
	}
	prog, err := syntax.Compile(p.rest.Simplify())
	if err != nil {
		return fmt.Errorf("%s: %w", a.specs[s].at(), err)
	}
	if len(prog.Inst) > maxProg {
		return fmt.Errorf("%s: the pattern is too complex: %w", a.specs[s].at(), errors.ErrUnsupported)
	}
	if len(a.insts)+len(prog.Inst) > maxInsts {
		return fmt.Errorf("%s: the patterns up to here are too complex: %w", a.specs[s].at(), errors.ErrUnsupported)
	}
	base := int32(len(a.insts))
	for _, i := range prog.Inst {
		a.insts = append(a.insts, inst{i, base, s})
	}
	a.starts[s] = base + int32(prog.Start)
	a.set.grow(len(a.insts))
	return nil
}

// closure adds to the set what is reached from pc without a byte of the path.
func (a *automaton) closure(pc, base int32) {
	stack := append(make([]int32, 0, 32), pc)
	for len(stack) > 0 {
		pc, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if !a.set.add(pc) {
			continue
		}
		switch i := &a.insts[pc]; i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, base+int32(i.Out), base+int32(i.Arg))
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, base+int32(i.Out))
		}
	}
}

// finish moves the set into s.
func (a *automaton) finish(s *state) {
	for _, pc := range a.set.dense {
		switch i := &a.insts[pc]; i.Op {
		case syntax.InstMatch:
			s.accept = append(s.accept, i.spec)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			s.insts = append(s.insts, pc)
		}
	}
	slices.Sort(s.insts)
	slices.SortFunc(s.accept, func(x, y int32) int { return cmp.Compare(a.rank[y], a.rank[x]) })
	s.accept = slices.Compact(s.accept)
}

// sparseSet is a set of small numbers that is cleared in no time.
type sparseSet struct {
	dense  []int32
	sparse []int32
}

func (s *sparseSet) clear(n int) {
	s.dense = s.dense[:0]
	s.grow(n)
}

func (s *sparseSet) grow(n int) {
	if n > len(s.sparse) {
		s.sparse = slices.Grow(s.sparse, n-len(s.sparse))[:n]
	}
}

func (s *sparseSet) add(v int32) bool {
	if i := s.sparse[v]; int(i) < len(s.dense) && s.dense[i] == v {
		return false
	}
	s.sparse[v] = int32(len(s.dense))
	s.dense = append(s.dense, v)
	return true
}
