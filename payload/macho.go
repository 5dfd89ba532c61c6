package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// An ad-hoc signature of a Mach-O file of 64 bits, as Darwin's linker makes
// them: without keys, it only says what each page of the file hashes to.
// A processor of arm64 runs no file of macOS without.
//
// Formats: Apple's mach-o/loader.h and, for the signature, which is big-endian,
// osfmk/kern/cs_blobs.h of xnu.
const (
	machoMagic64 = 0xfeedfacf
	machoHeader  = 32 // bytes

	commandSegment64     = 0x19
	commandCodeSignature = 0x1d
	segmentSize          = 72 // without sections

	magicSignature = 0xfade0cc0
	magicDirectory = 0xfade0c02

	codeVersion     = 0x20400 // with the limits of the executable segment
	codeAdHoc       = 0x2
	codeByLinker    = 0x20000
	codeSHA256      = 2
	codePageBits    = 12
	codePage        = 1 << codePageBits
	executeMain     = 1
	machoExecutable = 2

	superBlobSize = 12 + 8 // with an index of one blob
	directorySize = 88
	signedAs      = "a.out" // what the linker calls every file

	maxCommandsSize = 1 << 20
)

// errNotMachO is for what needs no signature.
var errNotMachO = errors.New("not a Mach-O file of 64 bits")

// machoFile is what is written while it is read.
type machoFile interface {
	io.ReaderAt
	io.WriterAt
}

// machoLayout is where in a file the parts are that a signature concerns.
type machoLayout struct {
	codeSignature   int64 // offset of its command
	codeEnd         int64 // where the signature begins
	linkEdit        int64 // offset of the command of the last segment
	linkEditStart   uint64
	linkEditMemory  uint64
	textStart, text uint64
	executable      bool
}

// signMachO replaces the signature of a Mach-O file of size bytes by a new one
// and gives the new size. A file without a place for a signature gives an
// error, another kind of file errNotMachO.
func signMachO(f machoFile, size int64) (int64, error) {
	l, err := readMachO(f, size)
	if err != nil {
		return 0, err
	}
	pages := (l.codeEnd + codePage - 1) / codePage
	length := int64(superBlobSize+directorySize+len(signedAs)+1) + pages*sha256.Size
	end := l.codeEnd + length

	// The commands are on the first page, so they change first.
	var word [8]byte
	order := binary.LittleEndian
	order.PutUint32(word[:], uint32(length))
	if _, err := f.WriteAt(word[:4], l.codeSignature+12); err != nil {
		return 0, err
	}
	order.PutUint64(word[:], uint64(end)-l.linkEditStart) // file size
	if _, err := f.WriteAt(word[:], l.linkEdit+48); err != nil {
		return 0, err
	}
	if used := uint64(end) - l.linkEditStart; used > l.linkEditMemory {
		order.PutUint64(word[:], (used+0x3fff)&^0x3fff) // memory is in pages of 16 KiB
		if _, err := f.WriteAt(word[:], l.linkEdit+32); err != nil {
			return 0, err
		}
	}

	sig := make([]byte, 0, length)
	big := binary.BigEndian
	for _, v := range []uint32{magicSignature, uint32(length), 1, 0, superBlobSize} {
		sig = big.AppendUint32(sig, v)
	}
	for _, v := range []uint32{
		magicDirectory, uint32(length - superBlobSize), codeVersion, codeAdHoc | codeByLinker,
		uint32(directorySize + len(signedAs) + 1), directorySize, 0, uint32(pages), uint32(l.codeEnd),
	} {
		sig = big.AppendUint32(sig, v)
	}
	sig = append(sig, sha256.Size, codeSHA256, 0, codePageBits)
	for range 4 { // spare, scatter and team offsets, spare
		sig = big.AppendUint32(sig, 0)
	}
	flags := uint64(0)
	if l.executable {
		flags = executeMain
	}
	for _, v := range []uint64{0, l.textStart, l.text, flags} { // the first: a limit beyond 4 GiB
		sig = big.AppendUint64(sig, v)
	}
	sig = append(append(sig, signedAs...), 0)
	code := io.NewSectionReader(f, 0, l.codeEnd)
	page := make([]byte, codePage)
	for range pages {
		n, err := io.ReadFull(code, page)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		sum := sha256.Sum256(page[:n])
		sig = append(sig, sum[:]...)
	}
	if _, err := f.WriteAt(sig, l.codeEnd); err != nil {
		return 0, err
	}
	return end, nil
}

func readMachO(r io.ReaderAt, size int64) (*machoLayout, error) {
	var head [machoHeader]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errNotMachO
		}
		return nil, err
	}
	order := binary.LittleEndian
	if order.Uint32(head[:]) != machoMagic64 {
		return nil, errNotMachO
	}
	number, length := order.Uint32(head[16:]), int64(order.Uint32(head[20:]))
	if length > maxCommandsSize || machoHeader+length > size {
		return nil, fmt.Errorf("mach-o: commands of %d bytes in a file of %d", length, size)
	}
	commands := make([]byte, length)
	if _, err := r.ReadAt(commands, machoHeader); err != nil {
		return nil, fmt.Errorf("mach-o: %w", err)
	}
	l := &machoLayout{executable: order.Uint32(head[12:]) == machoExecutable}
	at := int64(0)
	for i := range number {
		rest := commands[at:]
		if len(rest) < 8 {
			return nil, fmt.Errorf("mach-o: command %d of %d is cut short", i+1, number)
		}
		n := int64(order.Uint32(rest[4:]))
		if n < 8 || n%4 != 0 || n > int64(len(rest)) {
			return nil, fmt.Errorf("mach-o: command %d has %d bytes, %d are left", i+1, n, len(rest))
		}
		switch command := order.Uint32(rest); {
		case command == commandSegment64 && n >= segmentSize:
			offset, fileSize := order.Uint64(rest[40:]), order.Uint64(rest[48:])
			switch name := string(bytes.TrimRight(rest[8:24], "\x00")); name {
			case "__TEXT":
				l.textStart, l.text = offset, fileSize
			case "__LINKEDIT":
				l.linkEdit, l.linkEditStart, l.linkEditMemory = machoHeader+at, offset, order.Uint64(rest[32:])
			}
		case command == commandCodeSignature && n >= 16:
			l.codeSignature, l.codeEnd = machoHeader+at, int64(order.Uint32(rest[8:]))
		}
		at += n
	}
	switch {
	case l.codeSignature == 0:
		return nil, fmt.Errorf("mach-o: no place for a signature: %w", errors.ErrUnsupported)
	case l.linkEdit == 0 || l.linkEditStart > uint64(l.codeEnd):
		return nil, errors.New("mach-o: the signature is not in the segment __LINKEDIT")
	case l.codeEnd > size || l.codeEnd < machoHeader+length:
		return nil, fmt.Errorf("mach-o: signature at %d in a file of %d bytes", l.codeEnd, size)
	}
	return l, nil
}
