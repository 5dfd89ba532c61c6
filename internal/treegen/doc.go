// Package treegen makes file trees from a seed, for tests that compare two
// implementations: every kind, mode and name that an OSTree commit can hold,
// in the mixtures that break things. One seed and one set of options give one
// tree on every machine and with every version of Go.
package treegen
