package dpkg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

// maxLine is how long a line of the database may be, in bytes.
const maxLine = 1 << 20

var errDamaged = errors.New("damaged database")

// entry is a paragraph of the status file.
type entry struct {
	Package
	line      int
	state     string
	multiArch string
}

// Status gives the packages that a status file describes and that are
// installed, in its order, without Files and Changes. Errors name the line. The
// sequence ends after an error.
func Status(r io.Reader) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		for e, err := range status(r) {
			if err == nil && !e.installed() {
				continue
			}
			if !yield(e.Package, err) {
				return
			}
		}
	}
}

// installed reports whether the package's files are there; those of a removed
// one whose configuration was kept are not.
func (e *entry) installed() bool {
	return e.state != "not-installed" && e.state != "config-files"
}

func status(r io.Reader) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		lines := newLines(r)
		var e entry
		end := func() bool {
			if e.line == 0 {
				return true
			}
			err := e.check()
			if err != nil {
				err = fmt.Errorf("line %d: %w", e.line, err)
			}
			ok := yield(e, err) && err == nil
			e = entry{}
			return ok
		}
		for lines.next() {
			line := lines.text
			switch {
			case len(bytes.TrimRight(line, " \t")) == 0:
				if !end() {
					return
				}
				continue
			case line[0] == ' ' || line[0] == '\t':
				continue // of a field that has several lines; none that is read has
			}
			if e.line == 0 {
				e.line = lines.number
			}
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				yield(entry{}, fmt.Errorf("line %d: %w: %.80q is not a field", lines.number, errDamaged, line))
				return
			}
			if err := e.field(string(name), strings.TrimSpace(string(value))); err != nil {
				yield(entry{}, fmt.Errorf("line %d: %w", lines.number, err))
				return
			}
		}
		if lines.err != nil {
			yield(entry{}, lines.err)
			return
		}
		end()
	}
}

// field takes one field over. Names of fields are the same in any case.
func (e *entry) field(name, value string) error {
	switch strings.ToLower(name) {
	case "package":
		e.Name = value
	case "status":
		words := strings.Fields(value)
		if len(words) != 3 {
			return fmt.Errorf("%w: status %.80q, want three words", errDamaged, value)
		}
		e.state = words[2]
	case "architecture":
		e.Arch = value
	case "multi-arch":
		e.multiArch = value
	case "source":
		e.Source = value
	case "version":
		e.Epoch, e.Version, e.Release = splitVersion(value)
	case "installed-size":
		kib, err := strconv.ParseInt(value, 10, 64)
		if err != nil || kib < 0 || kib > 1<<50 {
			return fmt.Errorf("%w: installed size %.80q, want KiB", errDamaged, value)
		}
		e.Size = kib << 10
	}
	return nil
}

// check completes a paragraph that has ended.
func (e *entry) check() error {
	if !goodName(e.Name) {
		return fmt.Errorf("%w: package name %.80q", errDamaged, e.Name)
	}
	if e.state == "" {
		return fmt.Errorf("%w: package %s has no status", errDamaged, e.Name)
	}
	if e.installed() && (e.Version == "" || !goodName(e.Arch)) {
		return fmt.Errorf("%w: package %s has version %.80q and architecture %.80q", errDamaged, e.Name, e.Version, e.Arch)
	}
	source, version, _ := strings.Cut(e.Source, " ")
	if source == "" {
		source = e.Name
	}
	if version = strings.Trim(version, "()"); version == "" {
		version = e.EVR()
	}
	_, upstream, revision := splitVersion(version)
	if revision != "" {
		upstream += "-" + revision
	}
	e.Source = source + "_" + upstream + ".dsc"
	return nil
}

// goodName reports whether name is one of a package or architecture, which
// goes into names of files.
func goodName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '+' && (c != '.' && c != '_' || i == 0) {
			return false
		}
	}
	return name != "" && len(name) < 200
}

// splitVersion splits a version at its first ":" and last "-".
func splitVersion(text string) (epoch, version, release string) {
	if e, rest, ok := strings.Cut(text, ":"); ok {
		epoch, text = e, rest
	}
	if i := strings.LastIndexByte(text, '-'); i >= 0 {
		return epoch, text[:i], text[i+1:]
	}
	return epoch, text, ""
}

// lines reads line by line.
type lines struct {
	r      *bufio.Reader
	text   []byte // without its newline; valid until the next call of next
	number int
	err    error
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// reset begins to read r, in the room that was made for an earlier one.
func (l *lines) reset(r io.Reader) {
	if l.r == nil {
		*l = *newLines(r)
		return
	}
	l.r.Reset(r)
	l.text, l.number, l.err = l.text[:0], 0, nil
}

func (l *lines) next() bool {
	l.text = l.text[:0]
	l.number++
	for {
		part, err := l.r.ReadSlice('\n')
		l.text = append(l.text, part...)
		switch {
		case err == nil:
			l.text = bytes.TrimSuffix(l.text[:len(l.text)-1], []byte("\r"))
			return true
		case errors.Is(err, bufio.ErrBufferFull):
			if len(l.text) > maxLine {
				l.err = fmt.Errorf("line %d: %w: longer than %d bytes", l.number, errDamaged, maxLine)
				return false
			}
		case errors.Is(err, io.EOF):
			return len(l.text) > 0
		default:
			l.err = fmt.Errorf("line %d: %w", l.number, err)
			return false
		}
	}
}
