package rpmdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// database is one SQLite file, with the frames of its write-ahead log.
type database struct {
	file   io.ReaderAt
	wal    io.ReaderAt
	frames map[uint32]int64 // page number to the page's offset in wal
	page   int              // bytes a page
	usable int              // of them, without what is reserved for extensions
	pages  uint32
	stored int // pages that there are, whatever the log claims
	budget int // pages that may still be read in this pass: each has one place
}

var errDamaged = errors.New("damaged database")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// openDatabase reads the header of a database of size bytes and the index of
// its log; wal may be nil.
func openDatabase(file io.ReaderAt, size int64, wal io.ReaderAt, walSize int64) (*database, error) {
	db := &database{file: file}
	if walSize > 0 {
		if err := db.openLog(wal, walSize); err != nil {
			return nil, err
		}
	}
	header := make([]byte, 100)
	if at, ok := db.frames[1]; ok {
		if _, err := wal.ReadAt(header, at); err != nil {
			return nil, damaged("log: %w", notEOF(err))
		}
	} else if _, err := file.ReadAt(header, 0); err != nil {
		return nil, damaged("header: %w", notEOF(err))
	}
	if string(header[:16]) != "SQLite format 3\x00" {
		return nil, damaged("not an SQLite file")
	}
	page := int(binary.BigEndian.Uint16(header[16:]))
	if page == 1 {
		page = 65536
	}
	if page < 512 || page&(page-1) != 0 || db.page != 0 && db.page != page {
		return nil, damaged("page size %d", page)
	}
	if encoding := binary.BigEndian.Uint32(header[56:]); encoding > 1 {
		return nil, fmt.Errorf("text encoding %d, not UTF-8: %w", encoding, errors.ErrUnsupported)
	}
	db.page, db.usable = page, page-int(header[20])
	if db.usable < 480 {
		return nil, damaged("%d reserved bytes a page", header[20])
	}
	inFile := min(size/int64(page), 1<<32-2)
	if db.frames == nil {
		db.pages = uint32(inFile)
	}
	db.stored = int(inFile) + len(db.frames)
	return db, nil
}

// openLog indexes the frames of all complete transactions of a log. What
// follows the first frame that is not valid is left over from earlier ones.
func (db *database) openLog(wal io.ReaderAt, size int64) error {
	r := io.NewSectionReader(wal, 0, size)
	header := make([]byte, 32)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil // never begun
	}
	var order binary.ByteOrder
	switch binary.BigEndian.Uint32(header) {
	case 0x377f0682:
		order = binary.LittleEndian
	case 0x377f0683:
		order = binary.BigEndian
	default:
		return damaged("not a write-ahead log")
	}
	page := binary.BigEndian.Uint32(header[8:])
	if page < 512 || page > 65536 || page&(page-1) != 0 {
		return damaged("page size %d of the log", page)
	}
	sum := walSum{order: order}
	sum.add(header[:24])
	if !sum.is(header[24:]) {
		return nil
	}
	frame := make([]byte, 24+page)
	pending := make(map[uint32]int64)
	for at := int64(len(header)); ; at += int64(len(frame)) {
		if _, err := io.ReadFull(r, frame); err != nil {
			break
		}
		sum.add(frame[:8])
		sum.add(frame[24:])
		if string(frame[8:16]) != string(header[16:24]) || !sum.is(frame[16:]) {
			break
		}
		pending[binary.BigEndian.Uint32(frame)] = at + 24
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 { // end of a transaction
			if db.frames == nil {
				db.frames = make(map[uint32]int64)
			}
			for number, at := range pending {
				db.frames[number] = at
			}
			clear(pending)
			db.pages = pages
		}
	}
	if db.frames != nil {
		db.wal, db.page = wal, int(page)
	}
	return nil
}

// walSum is the checksum of a log, over all that came before.
type walSum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

func (s *walSum) add(data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		s.s0 += s.order.Uint32(data) + s.s1
		s.s1 += s.order.Uint32(data[4:]) + s.s0
	}
}

func (s *walSum) is(stored []byte) bool {
	return binary.BigEndian.Uint32(stored) == s.s0 && binary.BigEndian.Uint32(stored[4:]) == s.s1
}

// read gives page number, counted from 1, in buf, which it may make.
func (db *database) read(number uint32, buf []byte) ([]byte, error) {
	if number == 0 || number > db.pages {
		return nil, damaged("page %d of %d", number, db.pages)
	}
	if db.budget--; db.budget < 0 {
		return nil, damaged("a page in two places")
	}
	if buf == nil {
		buf = make([]byte, db.page)
	}
	from, at := db.file, int64(number-1)*int64(db.page)
	if frame, ok := db.frames[number]; ok {
		from, at = db.wal, frame
	}
	if _, err := from.ReadAt(buf, at); err != nil {
		return nil, damaged("page %d: %w", number, notEOF(err))
	}
	return buf, nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rows gives the records of the table whose tree is rooted at page root, in
// the order of their row numbers. A record is valid until the next.
func (db *database) rows(root uint32) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		db.budget = db.stored
		w := &tableWalk{db: db, yield: yield, overflow: make([]byte, db.page)}
		w.page(root, 0)
	}
}

// maxRow is how many bytes a row may have: a header and its tags.
const maxRow = maxHeaderData + 16*maxHeaderTags + 64

// maxTableDepth is more than a table of 2^32 pages has.
const maxTableDepth = 20

type tableWalk struct {
	db       *database
	yield    func(record, error) bool
	overflow []byte
	payload  []byte
	cells    int // bytes that the cells of the leaf have so far
}

func (w *tableWalk) fail(err error) bool {
	w.yield(record{}, err)
	return false
}

func (w *tableWalk) page(number uint32, depth int) bool {
	if depth > maxTableDepth {
		return w.fail(damaged("table deeper than %d", maxTableDepth))
	}
	page, err := w.db.read(number, nil)
	if err != nil {
		return w.fail(err)
	}
	head := page
	if number == 1 {
		head = page[100:]
	}
	kind := head[0]
	size := 8
	if kind == interiorTable {
		size = 12
	} else if kind != leafTable {
		return w.fail(damaged("page %d has type %d", number, kind))
	}
	cells := int(binary.BigEndian.Uint16(head[3:]))
	if size+2*cells > len(head) {
		return w.fail(damaged("page %d has %d cells", number, cells))
	}
	w.cells = 0
	for i := range cells {
		at := int(binary.BigEndian.Uint16(head[size+2*i:]))
		if at >= w.db.usable {
			return w.fail(damaged("page %d, cell %d at %d", number, i, at))
		}
		cell := page[at:w.db.usable]
		if kind == interiorTable {
			if len(cell) < 4 {
				return w.fail(damaged("page %d, cell %d", number, i))
			}
			if !w.page(binary.BigEndian.Uint32(cell), depth+1) {
				return false
			}
			continue
		}
		if !w.row(cell) {
			return false
		}
	}
	if kind == interiorTable {
		return w.page(binary.BigEndian.Uint32(head[8:]), depth+1)
	}
	return true
}

// The page types of tables.
const (
	interiorTable = 5
	leafTable     = 13
)

// row yields the record of a leaf's cell.
func (w *tableWalk) row(cell []byte) bool {
	size, n := varint(cell)
	id, m := varint(cell[n:])
	if n == 0 || m == 0 {
		return w.fail(damaged("cell header"))
	}
	cell = cell[n+m:]
	if size > min(maxRow, uint64(w.db.stored)*uint64(w.db.page)) {
		return w.fail(damaged("row %d of %d bytes", id, size))
	}
	payload, err := w.gather(cell, int(size))
	if err != nil {
		return w.fail(fmt.Errorf("row %d: %w", id, err))
	}
	r := record{id: id}
	if r.columns, err = columns(payload); err != nil {
		return w.fail(fmt.Errorf("row %d: %w", id, err))
	}
	return w.yield(r, nil)
}

// gather joins what a cell holds of a payload with what is on overflow pages.
func (w *tableWalk) gather(cell []byte, size int) ([]byte, error) {
	local, usable := size, w.db.usable
	if size > usable-35 {
		least := (usable-12)*32/255 - 23
		local = least + (size-least)%(usable-4)
		if local > usable-35 {
			local = least
		}
	}
	if local > len(cell) {
		return nil, damaged("cell of %d bytes", len(cell))
	}
	// Else a page of pointers to one cell would be many packages.
	if w.cells += local; w.cells > usable {
		return nil, damaged("cells overlap")
	}
	if local == size {
		return cell[:size], nil
	}
	if len(cell) < local+4 {
		return nil, damaged("cell of %d bytes", len(cell))
	}
	// Grows with what is there, not with what is claimed.
	w.payload = append(w.payload[:0], cell[:local]...)
	next := binary.BigEndian.Uint32(cell[local:])
	for len(w.payload) < size {
		page, err := w.db.read(next, w.overflow)
		if err != nil {
			return nil, fmt.Errorf("overflow: %w", err)
		}
		next = binary.BigEndian.Uint32(page)
		w.payload = append(w.payload, page[4:min(usable, 4+size-len(w.payload))]...)
	}
	return w.payload, nil
}

// record is one row.
type record struct {
	id      uint64
	columns []value
}

// value is one column: null, an integer, or bytes (text, blob).
type value struct {
	kind byte // 'n', 'i', 't', 'b', 'f'
	i    int64
	b    []byte
}

// columns takes a record apart.
func columns(payload []byte) ([]value, error) {
	size, n := varint(payload)
	if n == 0 || size > uint64(len(payload)) || size < uint64(n) {
		return nil, damaged("record header")
	}
	types, body := payload[n:size], payload[size:]
	var list []value
	for len(types) > 0 {
		t, n := varint(types)
		if n == 0 {
			return nil, damaged("record header")
		}
		types = types[n:]
		v := value{kind: 'i'}
		var width uint64
		switch {
		case t == 0:
			v.kind = 'n'
		case t <= 4:
			width = t
		case t == 5:
			width = 6
		case t == 6:
			width = 8
		case t == 7:
			v.kind, width = 'f', 8
		case t == 8, t == 9:
			v.i = int64(t - 8)
		case t < 12:
			return nil, damaged("column of type %d", t)
		case t%2 == 0:
			v.kind, width = 'b', (t-12)/2
		default:
			v.kind, width = 't', (t-13)/2
		}
		if width > uint64(len(body)) {
			return nil, damaged("column of %d bytes, %d are left", width, len(body))
		}
		data := body[:width]
		body = body[width:]
		switch v.kind {
		case 'i':
			if width > 0 {
				v.i = int64(int8(data[0]))
				for _, b := range data[1:] {
					v.i = v.i<<8 | int64(b)
				}
			}
		case 'b', 't':
			v.b = data
		}
		list = append(list, v)
	}
	return list, nil
}

// varint reads SQLite's variable-length integer and its length, 0 if data ends
// too early.
func varint(data []byte) (uint64, int) {
	var v uint64
	for i := range min(9, len(data)) {
		if i == 8 {
			return v<<8 | uint64(data[i]), 9
		}
		v = v<<7 | uint64(data[i]&0x7f)
		if data[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// table finds the root page of a table.
func (db *database) table(name string) (uint32, error) {
	for r, err := range db.rows(1) {
		if err != nil {
			return 0, fmt.Errorf("schema: %w", err)
		}
		c := r.columns
		if len(c) < 4 || string(c[0].b) != "table" || !strings.EqualFold(string(c[1].b), name) || c[3].kind != 'i' {
			continue
		}
		if c[3].i <= 0 || c[3].i > int64(db.pages) {
			return 0, damaged("table %s at page %d", name, c[3].i)
		}
		return uint32(c[3].i), nil
	}
	return 0, damaged("no table %s", name)
}
