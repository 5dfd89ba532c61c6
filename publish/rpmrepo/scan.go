package rpmrepo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// Limits of the XML of repositories, bytes but for maxDepth. A tag is what is
// between < and >; text is kept where somebody asks for it.
const (
	maxTag   = 64 << 10
	maxText  = 64 << 10
	maxDepth = 32
)

// token is what a scanner finds.
type token int

const (
	startTag token = iota + 1
	endTag
)

// scanner reads the part of XML that repositories are written in, without
// copying what nobody asks for: a sixth of the work of encoding/xml, in bounded
// memory. Prefixes of names are dropped. A document type is an error.
type scanner struct {
	r     *bufio.Reader
	tag   []byte // of the last start tag, without < and >
	name  []byte // of the last tag, without prefix
	attrs []byte // of the last start tag, unread
	text  []byte // between the last tag and the one before, decoded, if keep
	keep  bool
	open  []byte // names of the elements that are open, each with its length behind
	depth int
	empty bool // the last start tag is its own end, too
	begun bool // there was an element
}

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReaderSize(r, 64<<10)} }

// next gives the next tag; [io.EOF] after the document's last.
func (s *scanner) next() (token, error) {
	if s.empty {
		s.empty = false
		return endTag, s.leave(s.name)
	}
	s.text = s.text[:0]
	for {
		if err := s.between(); err != nil {
			return 0, err
		}
		c, err := s.r.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		if c != '?' && c != '!' && len(s.text) > 0 {
			if s.text, err = decode(s.text); err != nil {
				return 0, err
			}
		}
		switch c {
		case '?':
			err = s.skip("?>")
		case '!':
			err = s.declaration()
		case '/':
			if err := s.readTag(); err != nil {
				return 0, err
			}
			s.name = local(bytes.TrimRight(s.tag, " \t\r\n"))
			return endTag, s.leave(s.name)
		default:
			if err := s.r.UnreadByte(); err != nil {
				return 0, err
			}
			return startTag, s.start()
		}
		if err != nil {
			return 0, err
		}
	}
}

// between reads up to the next <.
func (s *scanner) between() error {
	for {
		chunk, err := s.r.ReadSlice('<')
		if err == nil {
			chunk = chunk[:len(chunk)-1]
		}
		switch {
		case s.depth == 0:
			if len(bytes.TrimLeft(bytes.TrimPrefix(chunk, []byte("\xef\xbb\xbf")), " \t\r\n")) > 0 {
				return errors.New("text outside the document")
			}
		case s.keep:
			if len(s.text)+len(chunk) > maxText {
				return fmt.Errorf("text of more than %d bytes", maxText)
			}
			s.text = append(s.text, chunk...)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && s.depth == 0 && s.begun:
			return io.EOF
		default:
			return unexpected(err)
		}
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip reads up to and with an end of two or three bytes.
func (s *scanner) skip(end string) error {
	last := end[len(end)-1]
	var before [2]byte // the last ones read
	for {
		chunk, err := s.r.ReadSlice(last)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return unexpected(err)
		}
		tail := append(before[:len(before):len(before)], chunk[max(0, len(chunk)-3):]...)
		if err == nil && bytes.HasSuffix(tail, []byte(end)) {
			return nil
		}
		copy(before[:], tail[len(tail)-2:])
	}
}

// declaration passes over a comment, or a section of text that nobody asks for.
func (s *scanner) declaration() error {
	head, err := s.r.Peek(2)
	if err != nil {
		return unexpected(err)
	}
	switch {
	case string(head) == "--":
		_, _ = s.r.Discard(2)
		return s.skip("-->")
	case head[0] == '[' && s.depth > 0 && !s.keep:
		return s.skip("]]>")
	}
	return errors.New("a document type or section, which repositories do not have here")
}

// readTag reads up to the > that ends a tag.
func (s *scanner) readTag() error {
	s.tag = s.tag[:0]
	quote := byte(0)
	for {
		chunk, err := s.r.ReadSlice('>')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return unexpected(err)
		}
		if len(s.tag)+len(chunk) > maxTag {
			return fmt.Errorf("a tag of more than %d bytes", maxTag)
		}
		for _, c := range chunk {
			switch {
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			}
		}
		s.tag = append(s.tag, chunk...)
		if err == nil && quote == 0 {
			s.tag = s.tag[:len(s.tag)-1]
			return nil
		}
	}
}

func (s *scanner) start() error {
	if err := s.readTag(); err != nil {
		return err
	}
	if s.depth == 0 && s.begun {
		return errors.New("a second document")
	}
	if s.depth == maxDepth {
		return fmt.Errorf("elements nested deeper than %d", maxDepth)
	}
	s.begun = true
	body, empty := bytes.CutSuffix(s.tag, []byte("/"))
	s.empty = empty
	i := bytes.IndexAny(body, " \t\r\n")
	if i < 0 {
		i = len(body)
	}
	s.name, s.attrs = local(body[:i]), body[i:]
	if len(s.name) == 0 || len(s.name) > 255 {
		return fmt.Errorf("a tag %.40q", s.tag)
	}
	s.open = append(append(s.open, s.name...), byte(len(s.name)))
	s.depth++
	return nil
}

// leave ends the element that was opened last.
func (s *scanner) leave(name []byte) error {
	if s.depth == 0 {
		return fmt.Errorf("</%.40s> ends nothing", name)
	}
	n := int(s.open[len(s.open)-1])
	opened := s.open[len(s.open)-1-n : len(s.open)-1]
	if !bytes.Equal(opened, name) {
		return fmt.Errorf("<%.40s> ends as </%.40s>", opened, name)
	}
	s.open = s.open[:len(s.open)-1-n]
	s.depth--
	return nil
}

// attr gives the next attribute of the last start tag; no name: there is none.
func (s *scanner) attr() (name, value []byte, err error) {
	rest := bytes.TrimLeft(s.attrs, " \t\r\n")
	if len(rest) == 0 {
		return nil, nil, nil
	}
	name, rest, ok := bytes.Cut(rest, []byte("="))
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if !ok || len(rest) < 2 || rest[0] != '"' && rest[0] != '\'' {
		return nil, nil, fmt.Errorf("an attribute without a value in %.60q", s.tag)
	}
	end := bytes.IndexByte(rest[1:], rest[0])
	if end < 0 {
		return nil, nil, fmt.Errorf("an attribute without an end in %.60q", s.tag)
	}
	s.attrs = rest[end+2:]
	if name = local(bytes.TrimRight(name, " \t\r\n")); len(name) == 0 || bytes.ContainsAny(name, " \t\r\n") {
		return nil, nil, fmt.Errorf("an attribute without a name or value in %.60q", s.tag)
	}
	value, err = decode(rest[1 : end+1])
	return name, value, err
}

func local(name []byte) []byte { return name[bytes.IndexByte(name, ':')+1:] }

var entities = map[string]byte{"lt": '<', "gt": '>', "amp": '&', "quot": '"', "apos": '\''}

// decode replaces entities, in place: what they stand for is never longer.
func decode(text []byte) ([]byte, error) {
	at := bytes.IndexByte(text, '&')
	if at < 0 {
		return text, nil
	}
	out := text[:at]
	for rest := text[at:]; len(rest) > 0; {
		if rest[0] != '&' {
			n := bytes.IndexByte(rest, '&')
			if n < 0 {
				n = len(rest)
			}
			out, rest = append(out, rest[:n]...), rest[n:]
			continue
		}
		end := bytes.IndexByte(rest[:min(len(rest), 12)], ';')
		if end < 0 {
			return nil, fmt.Errorf("an entity without an end: %.12q", rest)
		}
		name := string(rest[1:end])
		rest = rest[end+1:]
		if c, ok := entities[name]; ok {
			out = append(out, c)
			continue
		}
		r, err := character(name)
		if err != nil {
			return nil, err
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

// character reads #65 and #x41.
func character(name string) (rune, error) {
	digits, base := name, 10
	if len(name) > 2 && name[:2] == "#x" {
		digits, base = name[2:], 16
	} else if len(name) > 1 && name[0] == '#' {
		digits = name[1:]
	} else {
		return 0, fmt.Errorf("unknown entity &%.12s;", name)
	}
	n, err := strconv.ParseUint(digits, base, 21)
	if err != nil || !utf8.ValidRune(rune(n)) || n == 0 {
		return 0, fmt.Errorf("no character: &%.12s;", name)
	}
	return rune(n), nil
}
