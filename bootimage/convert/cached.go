package convert

import "io"

const (
	cachedBlock  = 64 << 10 // bytes
	cachedBlocks = 256
)

// cached keeps what was read of a disk, so that the few blocks that every stamp looks at
// are read once.
type cached struct {
	r      io.ReaderAt
	size   int64
	blocks map[int64][]byte // by number
}

func (c *cached) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= c.size {
			return n, io.EOF
		}
		number := off / cachedBlock
		block, ok := c.blocks[number]
		if !ok {
			block = make([]byte, min(cachedBlock, c.size-number*cachedBlock))
			if got, err := c.r.ReadAt(block, number*cachedBlock); got < len(block) {
				return n, err
			}
			if len(c.blocks) >= cachedBlocks {
				clear(c.blocks)
			}
			c.blocks[number] = block
		}
		k := copy(p[n:], block[off-number*cachedBlock:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}
