package decompress

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"runtime"
	"slices"
	"sync"
)

// MaxXZAhead is how many bytes of memory blocks that are decoded ahead may have in a
// process that has less than 200 MiB: the packed bytes, their content and the window. A
// block that needs more is decoded as it is read.
const MaxXZAhead = 128 << 20

// collected is from how many bytes on garbage took so long to be filled that collecting it
// is nothing beside that.
const collected = 4 << 20

// xzAhead decodes whole blocks, several at once, in the order in which they come.
type xzAhead struct {
	workers int      // 0: none, all is decoded as it is read
	memory  int64    // bytes, that used stays below
	queue   []*xzJob // in stream order
	used    int64    // bytes of memory of the queue and of what is being read
	given   *xzJob   // whose content is being read
	spare   [][]byte
	later   error // of the stream behind the queue
	wg      sync.WaitGroup
}

// xzJob is a block of known sizes.
type xzJob struct {
	block  xzBlock
	window int64
	packed []byte
	sum    []byte // the check that is stored
	kind   byte   // of check

	content []byte
	err     error
	done    chan struct{}
}

// memory is what the job needs at most.
func (j *xzJob) memory() int64 { return j.block.packed + j.block.size + j.window }

// fits reports whether a block can be decoded ahead now; with an empty queue: at all.
// One more than there are workers is begun, as the first is being waited for and read.
func (a *xzAhead) fits(j *xzJob) bool {
	return a.workers > 0 && len(a.queue) <= a.workers &&
		min(j.block.packed, j.block.size) >= 0 && max(j.block.packed, j.block.size) <= a.memory && a.used+j.memory() <= a.memory
}

// start decodes a job by a goroutine of its own.
func (a *xzAhead) start(j *xzJob) {
	a.used += j.memory()
	a.queue = append(a.queue, j)
	j.done = make(chan struct{})
	j.content = a.buffer(j.block.size + 1)
	a.wg.Go(func() {
		defer close(j.done)
		j.err = j.decode()
		// The decoder cannot be used again. Left to itself, the collector waits until there
		// is as much garbage as there are buffers.
		if j.window >= collected {
			runtime.GC()
		}
	})
}

// buffer gives an empty buffer for at most size bytes: it is no larger before there is
// so much content.
func (a *xzAhead) buffer(size int64) []byte {
	best := -1 // the smallest that suffices
	for i, b := range a.spare {
		if int64(cap(b)) >= size && (best < 0 || cap(b) < cap(a.spare[best])) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	b := a.spare[best]
	a.spare = slices.Delete(a.spare, best, best+1)
	return b[:0]
}

// take waits for the first job and gives its content.
func (a *xzAhead) take() ([]byte, error) {
	a.release()
	j := a.queue[0]
	a.queue = a.queue[1:]
	<-j.done
	a.given = j
	return j.content, j.err
}

// release takes the memory of what was read back.
func (a *xzAhead) release() {
	if a.given == nil {
		return
	}
	a.used -= a.given.memory()
	// As many as can be of use at once.
	if len(a.spare) <= 2*a.workers {
		a.spare = append(a.spare, a.given.packed, a.given.content)
	}
	a.given = nil
}

// decode unpacks the block and checks all that is said of it.
func (j *xzJob) decode() error {
	window, err := usable(j.window, func(n int) ([]byte, error) {
		if n > len(j.packed) {
			return j.packed, io.EOF
		}
		return j.packed[:n], nil
	})
	if err != nil {
		return err
	}
	in := bytes.NewReader(j.packed)
	r, err := newLZMA2(in, window)
	if err != nil {
		return notEOF(err)
	}
	if j.content, err = appendAll(j.content, r, 64*j.block.packed, j.block.size); err != nil {
		return notEOF(err)
	}
	if in.Len() > 0 || int64(len(j.content)) != j.block.size {
		return fmt.Errorf("block size: %w", errXZ)
	}
	check := newXZCheck(j.kind)
	if check != nil {
		check.Write(j.content)
	}
	if !bytes.Equal(xzSum(check, j.kind), j.sum) {
		return fmt.Errorf("content checksum: %w", errXZ)
	}
	return nil
}

// appendAll reads r to its end, or one byte more than size. What is allocated is at most
// twice what was read, or least.
func appendAll(out []byte, r io.Reader, least, size int64) ([]byte, error) {
	for int64(len(out)) <= size {
		if len(out) == cap(out) {
			grown := make([]byte, len(out), min(max(2*int64(cap(out)), least), size+1))
			copy(grown, out)
			left := cap(out)
			if out = grown; left >= collected {
				runtime.GC()
			}
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// newXZCheck gives the hash of a kind of check, or nil if there is none.
func newXZCheck(kind byte) hash.Hash {
	switch kind {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(xzCRC64)
	case 10:
		return sha256.New()
	}
	return nil
}

// xzSum gives a check as it is stored: those of 4 and 8 bytes in little endian.
func xzSum(check hash.Hash, kind byte) []byte {
	if check == nil {
		return nil
	}
	sum := check.Sum(nil)
	switch kind {
	case 1:
		binary.LittleEndian.PutUint32(sum, binary.BigEndian.Uint32(sum))
	case 4:
		binary.LittleEndian.PutUint64(sum, binary.BigEndian.Uint64(sum))
	}
	return sum
}
