//go:build amd64 || arm64

package zstd

// fetchPlaces has the processor read the buckets of the eight places that text begins with,
// which 7 bytes follow. It waits for nothing.
//
//go:noescape
func fetchPlaces(table *bucket, text *byte, shift uint)

// fetchContent does the same with what the places in b have in content.
//
//go:noescape
func fetchContent(content *byte, b *bucket)
