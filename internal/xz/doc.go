// Package xz writes the .xz format (https://tukaani.org/xz/xz-file-format.txt)
// as blocks that are compressed independently of each other, so that any number
// of them can be worked on at once.
//
// A file is a header ([AppendHeader]), blocks ([Encoder.AppendBlock]) and an
// [Index]. Blocks have LZMA2 as their only filter and CRC64 as their check, and
// their sizes are in their headers, so that readers work on several at once, too.
//
// The encoder is one of LZMA, the range coder over adaptive bits that Igor
// Pavlov's LZMA SDK specifies. A binary tree of the strings seen finds, at each
// place, the nearest match of every length; among the ways to write a stretch of
// some thousand bytes as literals, matches and repeated matches the cheapest is
// taken, by prices that follow the coder's probabilities. All prices are integers:
// the same content gives the same bytes on every machine.
package xz
