package deflate

import (
	"errors"
	"fmt"
)

// Of the format.
const (
	minMatch = 3
	maxMatch = 258
	window   = MaxWindow
)

const (
	// farShort is how far behind a match of three bytes may be: farther ones cost
	// more than their literals.
	farShort = 4096
	// MinWindow and MaxWindow are how many bytes a match may at least and at most reach
	// back.
	MinWindow, MaxWindow = 4 << 10, 32 << 10
	// MaxSize is the most bytes that can be compressed at a time.
	MaxSize = 1 << 30
)

// Encoder compresses pieces, one at a time.
type Encoder struct {
	level
	window  int // how far back matches may reach
	content []byte
	buckets *buckets // of the lower levels
	chains  *chains  // of the others

	w      bitWriter
	block  block
	coder  coder
	tokens [maxTokens + slack]token
	n      int // of tokens in the block
	look   int // with how many of them it is looked at next
	begin  int // of the block
}

// levels are what is traded for time. The lower ones find matches in buckets.
var levels = [10]level{
	1: {0, 0, 0, 1024}, 2: {0, 6, 0, 1024}, 3: {0, 16, 0, 1024},
	4: {8, 64, 64, 512}, 5: {16, 64, 64, 512}, 6: {24, 24, 64, 512}, 7: {48, 48, 96, 512}, 8: {128, 160, 160, 512}, 9: {600, maxMatch, maxMatch, 512},
}

// level is how many places of a chain are looked at, from which length on no better
// match is waited for, which ends the search, and with how many tokens it is looked
// at whether a block is to end.
type level struct{ depth, lazy, nice, observations int }

// NewEncoder makes an encoder of a level by its number, 1 to 9, whose matches reach back
// at most window bytes, which is what readers with little memory ask for; others take
// [MaxWindow]. It has some 300 KiB of tables.
func NewEncoder(number, window int) (*Encoder, error) {
	if number < 1 || number >= len(levels) {
		return nil, fmt.Errorf("deflate: level %d is not within 1 to 9: %w", number, errors.ErrUnsupported)
	}
	if window < MinWindow || window > MaxWindow {
		return nil, fmt.Errorf("deflate: a window of %d bytes is not within %d to %d: %w", window, MinWindow, MaxWindow, errors.ErrUnsupported)
	}
	e := &Encoder{level: levels[number], window: window}
	if e.depth == 0 {
		e.buckets = new(buckets)
	} else {
		e.chains = new(chains)
	}
	return e, nil
}

// Append writes content, at most [MaxSize] bytes, behind dst. What is written ends on
// the boundary of a byte; the last piece ends the stream.
func (e *Encoder) Append(dst, content []byte, last bool) ([]byte, error) {
	if len(content) > MaxSize {
		return dst, fmt.Errorf("deflate: %d bytes at a time: %w", len(content), errors.ErrUnsupported)
	}
	e.content, e.begin = content, 0
	e.startBlock()
	e.w = bitWriter{out: dst}
	if e.buckets != nil {
		e.parseQuickly()
	} else {
		e.parse()
	}
	if e.begin < len(content) || last && len(content) == 0 {
		e.endBlock(len(content), last)
	}
	if !last {
		e.w.stored(nil, false) // ends on a byte, as a "sync flush" does
	}
	e.w.align()
	e.content = nil
	return e.w.out, nil
}
