// Package inflate reads DEFLATE (RFC 1951), alone or in gzip members (RFC 1952).
// It exists because reading layers and objects is mostly this: it takes about
// half the time of the general packages, by tables of eleven bits, a bit buffer
// that is filled with eight bytes at once, and copies of eight bytes.
//
// It reads ahead of what it gives: what comes after the end of a stream in the
// same source is lost.
package inflate
