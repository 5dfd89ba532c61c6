// Package zstd writes Zstandard frames (RFC 8878).
//
// A frame is made of content that is in memory as a whole and refers to nothing before
// it, so that any number of frames can be worked on at once; the whole content is the
// window of its frame. Each frame has its content's size and checksum.
//
// Matches are found by what follows a place: its next five bytes have a hash, those of a
// share of the places also their next eight, and the four latest places with the same hash
// are kept, with more of it, so that most that differ are not looked at. Places are noted
// some hundred at a time, before matches for them are looked for: reads of tables that are
// larger than the processor's near caches then do not wait for each other, and most have been
// asked for while matches for the places before were looked for. A match waits for
// a better one at the next places. The two lower strengths keep one place a hash and take
// the first match. Blocks end where the statistics of what they hold
// change. All costs are integers: the same content gives the same bytes on every machine,
// whatever was compressed before.
package zstd
