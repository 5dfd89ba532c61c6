// Package bspatch makes new content from old content and a patch of bsdiff, in
// the form without header and compression that OSTree's static deltas hold.
//
// A patch is steps in a row. Each has three numbers and two byte strings:
//
//	diff    64 bits  length of the first string
//	extra   64 bits  length of the second string
//	seek    64 bits  how far to go in the old content afterwards
//	diff bytes       to be added, byte by byte, to the old content from where it
//	                 stands; the sums are new content, and it stands behind them
//	extra bytes      new content as they are
//
// Numbers are little-endian, with the sign in the highest bit and the magnitude
// in the others. Outside of the old content there are zeros. The source is
// bsdiff's bspatch.c (Percival, Endsley).
package bspatch
