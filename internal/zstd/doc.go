// Package zstd writes Zstandard frames (RFC 8878).
//
// A frame is made of content that is in memory as a whole and refers to nothing before
// it, so that any number of frames can be worked on at once; the whole content is the
// window of its frame. Each frame has its content's size and checksum.
//
// Matches are found by rows: all places whose next bytes have the same hash share one,
// with a tag of each, and one comparison of eight tags at a time says which of them are
// worth a look. A match waits for a better one at the next places. Blocks end where
// the statistics of what they hold change. All costs are integers: the same content gives
// the same bytes on every machine, whatever was compressed before.
package zstd
