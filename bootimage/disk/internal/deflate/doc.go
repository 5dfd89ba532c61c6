// Package deflate compresses short inputs, the clusters and grains of disk images,
// each for itself, to raw deflate data (RFC 1951).
//
// Encoders for streams look for matches in ways that pay off only when there is much
// to learn from. This one finds matches by hash chains in tables that are as large as
// an input may be, defers them by one byte where that is better, and cuts blocks where
// the statistics of the input change: on clusters it is smaller than zlib at its
// default level, and takes half the time.
package deflate
