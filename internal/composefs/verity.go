package composefs

import (
	"crypto/sha256"
	"encoding/binary"
)

// DigestSize is the length of a digest in bytes.
const DigestSize = sha256.Size

// Digest is an fs-verity digest.
type Digest [DigestSize]byte

// Verity computes the fs-verity digest of what is written to it: SHA-256, blocks
// of 4096 bytes, no salt. The zero value is ready.
type Verity struct {
	size   uint64
	block  [blockSize]byte // of size%blockSize bytes
	levels []verityLevel   // of the Merkle tree, the leaves' hashes first
}

// verityLevel is a level's last block, as far as it is known.
type verityLevel struct {
	block [blockSize]byte
	n     int // bytes
}

// Write never fails.
func (v *Verity) Write(p []byte) (int, error) {
	written := len(p)
	fill := int(v.size % blockSize)
	v.size += uint64(written)
	if fill > 0 {
		n := copy(v.block[fill:], p)
		if p = p[n:]; fill+n < blockSize {
			return written, nil
		}
		v.add(0, sha256.Sum256(v.block[:]))
	}
	for len(p) >= blockSize {
		v.add(0, sha256.Sum256(p[:blockSize]))
		p = p[blockSize:]
	}
	copy(v.block[:], p)
	return written, nil
}

// add adds a hash to a level, and a full block's hash to the next one.
func (v *Verity) add(level int, hash [DigestSize]byte) {
	if level == len(v.levels) {
		v.levels = append(v.levels, verityLevel{})
	}
	l := &v.levels[level]
	l.n += copy(l.block[l.n:], hash[:])
	if l.n == blockSize {
		l.n = 0
		v.add(level+1, sha256.Sum256(l.block[:]))
	}
}

// Sum gives the digest and resets v.
func (v *Verity) Sum() Digest {
	if fill := v.size % blockSize; fill > 0 {
		clear(v.block[fill:])
		v.add(0, sha256.Sum256(v.block[:]))
	}
	var root [DigestSize]byte // of no content: zero
	for i := 0; i < len(v.levels); i++ {
		l := &v.levels[i]
		if i == len(v.levels)-1 && l.n == DigestSize {
			root = [DigestSize]byte(l.block[:])
			break
		}
		if l.n > 0 {
			clear(l.block[l.n:])
			l.n = 0
			v.add(i+1, sha256.Sum256(l.block[:]))
		}
	}
	// struct fsverity_descriptor: version, hash algorithm (SHA-256), log2 of
	// the block size, length of the salt; size at 8, root hash at 16.
	descriptor := [256]byte{1, 1, blockBits}
	binary.LittleEndian.PutUint64(descriptor[8:], v.size)
	copy(descriptor[16:], root[:])
	v.size, v.levels = 0, v.levels[:0]
	return sha256.Sum256(descriptor[:])
}
