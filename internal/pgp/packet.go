package pgp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/okd-project/okd-streams/internal/signature"
)

// Packet tags, RFC 4880 section 4.3.
const (
	tagSignature    = 2
	tagOnePass      = 4
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagCompressed   = 8
	tagMarker       = 10
	tagLiteral      = 11
	tagTrust        = 12
	tagUserID       = 13
	tagPublicSubkey = 14
	tagAttribute    = 17
	tagPadding      = 21
)

// maxPacket bounds packets that are read whole: keys, user ids, signatures.
// GnuPG refuses signature packets beyond some 64 KiB too.
const maxPacket = 64 << 10

// minSignature is less than any signature packet has: of DSA, the shortest, one has two
// numbers of 20 bytes. What is shorter is not worth the two kilobytes that each takes.
const minSignature = 48

// maxPackets bounds the packets of a stream: what is skipped is work too.
const maxPackets = 100_000

// packets reads the packets of a stream, RFC 4880 section 4.2.
type packets struct {
	r    *bufio.Reader
	body body
	seen int
}

func newPackets(r io.Reader) *packets { return &packets{r: bufio.NewReader(r)} }

// next gives the next packet after skipping what was not read of the last one;
// [io.EOF] after the last packet.
func (p *packets) next() (tag byte, content *body, err error) {
	if err := p.body.drain(); err != nil {
		return 0, nil, err
	}
	if p.seen++; p.seen > maxPackets {
		return 0, nil, malformed("more than %d packets", maxPackets)
	}
	head, err := p.r.ReadByte()
	if err != nil {
		return 0, nil, err // io.EOF between packets is the end
	}
	if head&0x80 == 0 {
		return 0, nil, malformed("byte 0x%02x begins no packet", head)
	}
	p.body = body{r: p.r}
	b := &p.body
	if head&0x40 != 0 {
		tag = head & 0x3f
		err = b.readLength()
	} else {
		tag = head >> 2 & 0xf
		switch size := head & 3; size {
		case 3:
			b.left, b.endless = 0, true
		default:
			var raw [4]byte
			n := 1 << size
			_, err = io.ReadFull(p.r, raw[4-n:])
			b.left = int64(binary.BigEndian.Uint32(raw[:]))
		}
	}
	if err != nil {
		return 0, nil, unexpectedEOF(err)
	}
	if (b.partial || b.endless) && tag != tagLiteral && tag != tagCompressed && tag != 9 && tag != 18 {
		return 0, nil, malformed("packet %d has no length", tag) // only data packets may, section 4.2.2.4
	}
	return tag, b, nil
}

// body is the content of one packet.
type body struct {
	r       *bufio.Reader
	left    int64
	partial bool // another length follows
	endless bool // to the end of r
}

func (b *body) readLength() error {
	first, err := b.r.ReadByte()
	if err != nil {
		return err
	}
	b.partial = false
	switch {
	case first < 192:
		b.left = int64(first)
	case first < 224:
		second, err := b.r.ReadByte()
		if err != nil {
			return err
		}
		b.left = int64(first-192)<<8 + int64(second) + 192
	case first < 255:
		b.left, b.partial = 1<<(first&0x1f), true
	default:
		var raw [4]byte
		if _, err := io.ReadFull(b.r, raw[:]); err != nil {
			return err
		}
		b.left = int64(binary.BigEndian.Uint32(raw[:]))
	}
	return nil
}

// drain reads what is left.
func (b *body) drain() error {
	if b.endless {
		_, err := io.Copy(io.Discard, b)
		return err
	}
	for b.left > 0 || b.partial {
		if b.left == 0 {
			if err := b.readLength(); err != nil {
				return unexpectedEOF(err)
			}
			continue
		}
		n, err := b.r.Discard(int(min(b.left, maxPacket)))
		b.left -= int64(n)
		if err != nil {
			return unexpectedEOF(err)
		}
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.endless {
		return b.r.Read(p)
	}
	for b.left == 0 {
		if !b.partial {
			return 0, io.EOF
		}
		if err := b.readLength(); err != nil {
			return 0, unexpectedEOF(err)
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err == io.EOF && (b.left > 0 || b.partial) {
		err = malformed("packet is cut off")
	}
	return n, err
}

// readPacket reads a packet's whole body, of one that has a length.
func readPacket(b *body) ([]byte, error) {
	if b.left > maxPacket {
		return nil, malformed("packet of more than %d bytes", maxPacket)
	}
	data := make([]byte, b.left)
	_, err := io.ReadFull(b, data)
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	return data, nil
}

// frame makes a packet with a new-format header.
func frame(tag byte, body []byte) []byte {
	head := []byte{0xc0 | tag}
	switch n := len(body); {
	case n < 192:
		head = append(head, byte(n))
	case n < 8384:
		head = append(head, byte((n-192)>>8)+192, byte(n-192))
	default:
		head = binary.BigEndian.AppendUint32(append(head, 255), uint32(n))
	}
	return append(head, body...)
}

// parseSignature reads the body of a signature packet, of version 3 or 4.
func parseSignature(body []byte) (*packet.Signature, error) {
	if len(body) < minSignature {
		return nil, malformed("signature of %d bytes", len(body))
	}
	switch body[0] {
	case 4:
		if err := checkSignature(body, false); err != nil {
			return nil, err
		}
		return readSignature(body)
	case 3:
		return parseSignature3(body)
	default:
		return nil, fmt.Errorf("signature of version %d: %w (%w)", body[0], errors.ErrUnsupported, signature.ErrSignature)
	}
}

func readSignature(body []byte) (*packet.Signature, error) {
	if name := map[byte]string{1: "MD5", 3: "RIPEMD-160"}[body[3]]; name != "" {
		return nil, fmt.Errorf("digest %s: %w", name, signature.ErrWeak)
	}
	r := bytes.NewReader(frame(tagSignature, body))
	p, err := packet.Read(r)
	if err != nil {
		return nil, fmt.Errorf("signature packet: %w (%w)", err, signature.ErrSignature)
	}
	sig, ok := p.(*packet.Signature)
	if !ok || r.Len() > 0 {
		return nil, malformed("signature packet with more than a signature")
	}
	return sig, nil
}

// parseSignature3 reads a signature of version 3 (RFC 4880 section 5.2.2) as
// the signature of version 4 that says the same, but hashes what version 3
// hashes: the type and the time.
func parseSignature3(body []byte) (*packet.Signature, error) {
	const head = 1 + 1 + 5 + 8 + 1 + 1 + 2
	if len(body) < head || body[1] != 5 {
		return nil, malformed("signature of version 3 with %d bytes", len(body))
	}
	hashed, keyID, pubkey, digest := body[2:7], body[7:15], body[15], body[16]
	v4 := []byte{4, hashed[0], pubkey, digest, 0, 6, 5, 2} // creation time: 5 bytes of type 2
	v4 = append(v4, hashed[1:]...)
	v4 = append(v4, 0, 10, 9, 16) // issuer: 9 bytes of type 16, not hashed
	v4 = append(v4, keyID...)
	v4 = append(v4, body[17:]...)
	sig, err := readSignature(v4)
	if err != nil {
		return nil, err
	}
	sig.HashSuffix = bytes.Clone(hashed)
	return sig, nil
}

// checkSignature refuses what the reader of signature packets would stumble
// over: subpackets that are too short for it and signatures within signatures
// of versions whose lengths it allocates unseen.
func checkSignature(body []byte, embedded bool) error {
	if len(body) < 6 || body[0] != 4 {
		return malformed("signature of %d bytes", len(body))
	}
	rest := body[4:]
	for range 2 { // hashed and unhashed subpackets
		if len(rest) < 2 {
			return malformed("signature is cut off")
		}
		size := int(binary.BigEndian.Uint16(rest))
		if len(rest)-2 < size {
			return malformed("signature is cut off")
		}
		area := rest[2 : 2+size]
		rest = rest[2+size:]
		for len(area) > 0 {
			kind, content, next, err := subpacket(area)
			if err != nil {
				return err
			}
			area = next
			switch kind {
			case 4: // exportable
				if len(content) != 1 {
					return malformed("subpacket %d of %d bytes", kind, len(content))
				}
			case 32: // embedded signature
				if embedded {
					return malformed("signature in a signature in a signature")
				}
				if err := checkSignature(content, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// subpacket cuts the first one off, RFC 4880 section 5.2.3.1.
func subpacket(area []byte) (kind byte, content, rest []byte, err error) {
	var size, head int
	switch first := area[0]; {
	case first < 192:
		size, head = int(first), 1
	case first < 255 && len(area) >= 2:
		size, head = int(first-192)<<8+int(area[1])+192, 2
	case first == 255 && len(area) >= 5:
		size, head = int(min(binary.BigEndian.Uint32(area[1:]), maxPacket+1)), 5
	}
	if size == 0 || size > len(area)-head {
		return 0, nil, nil, malformed("subpacket is cut off")
	}
	content = area[head : head+size]
	return content[0] & 0x7f, content[1:], area[head+size:], nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("malformed: "+format+": %w", append(args, signature.ErrSignature)...)
}

func unexpectedEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return malformed("packet is cut off")
	}
	return err
}
