package pgp

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/okd-project/okd-streams/internal/signature"
)

// MaxMessageSize bounds what a signed message holds, in bytes, unless
// [OpenOptions.MaxSize] says less or more.
const MaxMessageSize = 4 << 20

// maxNesting bounds compressed packets in compressed packets; GnuPG makes one.
const maxNesting = 4

// OpenOptions say which signatures count and how much is read.
type OpenOptions struct {
	VerifyOptions
	MaxSize int64 // of the content, bytes; 0: [MaxMessageSize]
	// Packets takes only an OpenPGP message in binary, which container
	// signatures are: neither armour nor clear text.
	Packets bool
}

// Open checks a signed message at a time and gives what it holds: an OpenPGP
// message, binary or armoured, compressed or not, or clear-signed text. The
// content is nil unless a signature is good; all signatures are given in
// their order. Nothing may stand before, between or after the parts.
//
// Of clear-signed text the content is what was signed: its lines, each ending
// in a line feed, without blanks before that.
func (k *Keyring) Open(ctx context.Context, signed io.Reader, now time.Time, opts *OpenOptions) ([]byte, []Signature, error) {
	if opts == nil {
		opts = new(OpenOptions)
	}
	limit := opts.MaxSize
	if limit <= 0 {
		limit = MaxMessageSize
	}
	// Armour adds a third, line ends and dashes of clear text at most double.
	data, err := signature.ReadAll(ctx, signed, 2*limit+MaxSignatureSize, "signed message")
	if err != nil {
		return nil, nil, fmt.Errorf("pgp: open: %w", err)
	}
	if opts.Packets && !isBinary(data) {
		return nil, nil, fmt.Errorf("pgp: open: %w", malformed("not an OpenPGP message in binary"))
	}
	content, sigs, err := take(data, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("pgp: open: %w", err)
	}
	c := k.newCheck(sigs, now, &opts.VerifyOptions)
	c.Write(content.signed)
	all, err := c.verdict()
	if err != nil {
		return nil, all, err
	}
	return content.data, all, nil
}

// taken is a message's content and the bytes that its signatures are over.
type taken struct{ data, signed []byte }

// take takes a signed message apart.
func take(data []byte, limit int64) (taken, []parsed, error) {
	if looksClear(data) {
		return takeClear(data, limit)
	}
	raw, err := dearmor(data, blockMessage)
	if err != nil {
		return taken{}, nil, err
	}
	m := message{limit: limit, left: limit + 2*maxSignatures*maxPacket}
	if err := m.read(bytes.NewReader(raw), 0); err != nil {
		return taken{}, nil, err
	}
	switch {
	case !m.literal:
		return taken{}, nil, malformed("message without content")
	case len(m.sigs) == 0:
		return taken{}, nil, fmt.Errorf("message is not signed: %w", signature.ErrSignature)
	case m.announced != m.trailing:
		return taken{}, nil, malformed("%d signatures after the content, %d were announced", m.trailing, m.announced)
	}
	return taken{data: m.content, signed: m.content}, m.sigs, nil
}

// message collects the parts of a signed message (RFC 4880 section 11.3):
// announcements of signatures or signatures, the content, the announced
// signatures; all or part of it compressed.
type message struct {
	limit, left         int64 // bytes of content; of everything that was compressed
	literal             bool  // content was read
	content             []byte
	sigs                []parsed
	announced, trailing int
}

func (m *message) read(r io.Reader, depth int) error {
	for p := newPackets(r); ; {
		tag, body, err := p.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case tag == tagMarker || tag == tagPadding:
		case tag == tagOnePass && !m.literal && m.announced < maxSignatures:
			m.announced++
		case tag == tagSignature:
			if m.literal {
				m.trailing++
			}
			if m.sigs, err = appendSignature(m.sigs, body); err != nil {
				return err
			}
		case tag == tagCompressed && !m.literal && depth < maxNesting:
			packed := bufio.NewReader(body) // of which decompression takes no byte too many
			inner, err := decompress(packed)
			if err != nil {
				return err
			}
			if err := m.read(&bounded{m, inner}, depth+1); err != nil {
				return err
			}
			if _, err := packed.ReadByte(); err != io.EOF {
				return malformed("something after the compressed message")
			}
			if !m.literal { // nor can there be a row of them, each with a decoder of megabytes
				return malformed("compressed packet without content")
			}
		case tag == tagLiteral && !m.literal:
			m.literal = true
			if err := m.readLiteral(body); err != nil {
				return err
			}
		default:
			return malformed("packet %d in a signed message", tag)
		}
	}
}

// readLiteral reads format, file name, time (none of which is signed) and
// content.
func (m *message) readLiteral(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return unexpectedEOF(err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(head[1])+4); err != nil {
		return unexpectedEOF(err)
	}
	content, err := io.ReadAll(io.LimitReader(r, m.limit+1))
	if err != nil {
		return err
	}
	if int64(len(content)) > m.limit {
		return malformed("message holds more than %d bytes", m.limit)
	}
	m.content = content
	return nil
}

// bounded counts what decompression makes: little input can make much.
type bounded struct {
	m *message
	r io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.m.left <= 0 {
		return 0, malformed("message grows beyond %d bytes", b.m.limit)
	}
	if int64(len(p)) > b.m.left {
		p = p[:b.m.left]
	}
	n, err := b.r.Read(p)
	b.m.left -= int64(n)
	if err != nil && err != io.EOF && !errors.Is(err, signature.ErrSignature) {
		err = malformed("compressed packet: %v", err)
	}
	return n, err
}

// decompress reads a compressed packet, RFC 4880 section 5.6.
func decompress(r *bufio.Reader) (io.Reader, error) {
	algo, err := r.ReadByte()
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	switch algo {
	case 0:
		return r, nil
	case 1:
		return flate.NewReader(r), nil
	case 2:
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, malformed("compressed packet")
		}
		return z, nil
	case 3:
		return bzip2.NewReader(r), nil
	}
	return nil, malformed("compression %d", algo)
}
