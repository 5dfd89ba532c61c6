package xfs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	recordMagic = 0xfeedbabe
	// recordMost is how many sectors a record may have: 256 KiB, and a header for each
	// 32 KiB.
	recordMost  = 256<<10/sectorSize + 8
	headerHolds = 32 << 10
	opUnmount   = 0x20
)

// clean checks that the last record of the log says that the file system was unmounted:
// there is nothing to be replayed then.
//
// The log is a ring. Each of its sectors begins with the number of the round it was
// written in, but for headers of records, which have it behind their magic number; the
// head is where that number changes.
func (f *FS) clean() error {
	if f.logStart == 0 {
		return fmt.Errorf("external log: %w", errors.ErrUnsupported)
	}
	start, err := f.at(f.logStart, f.logBlocks)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	sectors := int64(f.logBlocks << (f.blockLog - 9))
	if sectors < 2 {
		return fmt.Errorf("log: %d sectors: %w", sectors, ErrCorrupt)
	}
	b := make([]byte, sectorSize)
	be := binary.BigEndian
	round := func(sector int64) (uint32, error) {
		if err := f.read(b, start+sector*sectorSize); err != nil {
			return 0, fmt.Errorf("log: %w", err)
		}
		if n := be.Uint32(b); n != recordMagic {
			return n, nil
		}
		return be.Uint32(b[4:]), nil
	}
	first, err := round(0)
	if err != nil || first == 0 { // never written
		return err
	}
	last, err := round(sectors - 1)
	if err != nil {
		return err
	}
	head := sectors
	if last != first {
		low := int64(0)
		for head = sectors - 1; head-low > 1; {
			middle := low + (head-low)/2
			n, err := round(middle)
			if err != nil {
				return err
			}
			if n == first {
				low = middle
			} else {
				head = middle
			}
		}
	}
	for back := int64(1); back <= min(recordMost, sectors); back++ {
		at := (head - back + sectors) % sectors
		if _, err := round(at); err != nil {
			return err
		}
		if be.Uint32(b) != recordMagic {
			continue
		}
		headers, held := int64(1), (int64(be.Uint32(b[12:]))+sectorSize-1)/sectorSize
		if size := int64(be.Uint32(b[320:])); be.Uint32(b[8:])&2 != 0 && size > headerHolds {
			headers = (size + headerHolds - 1) / headerHolds
		}
		if operations := be.Uint32(b[40:]); operations != 1 || headers+held != back {
			break
		}
		if _, err := round((at + headers) % sectors); err != nil {
			return err
		}
		if b[9]&opUnmount != 0 {
			return nil
		}
		break
	}
	return fmt.Errorf("was not unmounted cleanly, its log must be replayed first (mount it once): %w", errors.ErrUnsupported)
}
