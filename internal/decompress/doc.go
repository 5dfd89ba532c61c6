// Package decompress reads a stream whatever it is compressed with: gzip,
// zstd, xz or nothing, told by its first bytes, in bounded memory however
// large a window the stream asks for.
package decompress
