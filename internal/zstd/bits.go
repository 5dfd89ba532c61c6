package zstd

import "encoding/binary"

// bitWriter writes bits into a buffer that is large enough, the lowest first. What is
// written is read backwards.
type bitWriter struct {
	buf  []byte
	at   int
	acc  uint64
	have uint // bits in acc; below 8 after flush
}

// add adds n bits; v has no others.
func (w *bitWriter) add(v uint64, n uint) {
	w.acc |= v << (w.have & 63)
	w.have += n
}

// flush writes whole bytes; 8 bytes behind them are overwritten.
func (w *bitWriter) flush() {
	binary.LittleEndian.PutUint64(w.buf[w.at:], w.acc)
	w.at += int(w.have >> 3)
	w.acc >>= w.have &^ 7 & 63
	w.have &= 7
}

// end marks the end and gives how many bytes there are.
func (w *bitWriter) end() int {
	w.add(1, 1)
	w.flush()
	if w.have > 0 {
		w.at++
	}
	return w.at
}
