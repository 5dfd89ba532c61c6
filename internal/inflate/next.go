package inflate

import "io"

// Next gives the next bytes of what the stream has, valid until the next call,
// without a copy of them; at its end [io.EOF], as with [Reader.Read].
func (z *Reader) Next() ([]byte, error) {
	for z.r == z.w {
		if z.err != nil {
			return nil, z.err
		}
		z.more()
	}
	piece := z.out[z.r:z.w]
	z.r = z.w
	return piece, nil
}

// Rest reports, after the end of a stream, whether anything follows it.
func (z *Reader) Rest() (bool, error) {
	if z.pos-int(z.held/8) < z.end {
		return true, nil
	}
	if z.atEOF {
		return false, nil
	}
	n, err := io.ReadFull(z.src, z.in[:1])
	if err == io.EOF {
		err = nil
	}
	return n > 0, err
}
