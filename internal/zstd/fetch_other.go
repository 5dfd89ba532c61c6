//go:build !amd64 && !arm64

package zstd

// Go has no word for this; the same is done in more time.

func fetchPlaces(table *bucket, text *byte, shift uint) {}

func fetchContent(content *byte, b *bucket) {}
