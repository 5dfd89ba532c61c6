// Package deflate writes the deflate format (RFC 1951) in pieces that refer to
// nothing before them: pieces of a stream, of which any number can be worked on at
// once, or the clusters and grains of disk images, each of which is a stream.
//
// It is for files that are made once and read often. The lower levels look for a match
// at the four latest places with the same hash, which takes hardly longer than to look at
// one; the higher ones search chains of the places with the same four bytes for the
// longest match, which on clusters is smaller than zlib at its default level, in half
// the time. A match waits for a better one at the next place, and blocks end where
// the statistics of what they hold change. The same content gives the same bytes on
// every machine.
package deflate
