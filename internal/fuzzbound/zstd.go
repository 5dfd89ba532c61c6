package fuzzbound

import (
	"bytes"

	"github.com/klauspost/compress/zstd"
)

// ZstdWindows is how many bytes a decoder allocates for the windows of data's zstd
// frames, of which one may have most: one larger than those before it is made anew.
func ZstdWindows(data []byte, most int) int {
	largest, sum := 0, 0
	for at := 0; ; at++ {
		next := bytes.Index(data[at:], []byte{0x28, 0xb5, 0x2f, 0xfd})
		if next < 0 {
			return sum
		}
		at += next
		var h zstd.Header
		if h.Decode(data[at:min(at+zstd.HeaderMaxSize, len(data))]) != nil {
			continue
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		if n := int(min(window, uint64(most))); n > largest {
			largest, sum = n, sum+n
		}
	}
}
