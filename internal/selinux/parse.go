package selinux

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// none is the label of what is not to be labelled.
const none = "<<none>>"

// The file type bits of st_mode.
const (
	modeType    = 0o170000
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeLink    = 0o120000
	modeSocket  = 0o140000
)

// kindOf is the file type of a mode.
func kindOf(mode uint32) uint32 { return mode & modeType }

// spec is one line of a file_contexts file.
type spec struct {
	pattern pattern
	kind    uint32 // 0: any
	label   string
	file    string
	line    int
}

func (s *spec) at() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

// space is what isspace is true for in the C locale.
const space = " \t\n\v\f\r"

func fields(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(space, r) })
}

// eachLine calls fn for each line of text that is neither empty nor a comment,
// with its number, and joins the errors, up to [maxFaults].
func eachLine(file, text string, fn func(number int, fields []string) error) error {
	var faults []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, space)
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		switch {
		case len(line) > maxLine:
			err = fmt.Errorf("%d bytes, at most %d", len(line), maxLine)
		case strings.IndexByte(line, 0) >= 0:
			err = errors.New("NUL")
		default:
			err = fn(number, fields(line))
		}
		if err != nil {
			if faults = append(faults, fmt.Errorf("%s:%d: %w", file, number, err)); len(faults) == maxFaults {
				break
			}
		}
	}
	return errors.Join(faults...)
}

// parseSpecs appends the lines of a file_contexts file to specs.
func parseSpecs(specs []spec, file, text string) ([]spec, error) {
	err := eachLine(file, text, func(number int, fields []string) error {
		if len(specs) == maxSpecs {
			return fmt.Errorf("more than %d lines", maxSpecs)
		}
		if len(fields) < 2 {
			return errors.New("no label")
		}
		s := spec{label: fields[1], file: file, line: number}
		if len(fields) > 2 {
			s.label = fields[2]
			var ok bool
			if s.kind, ok = parseKind(fields[1]); !ok {
				return fmt.Errorf("%.80q is no file type", fields[1])
			}
		}
		for _, field := range []string{fields[0], s.label} {
			if i := strings.IndexFunc(field, func(r rune) bool { return r > 0x7f }); i >= 0 {
				return fmt.Errorf("%.80q is not ASCII", field)
			}
		}
		var err error
		if s.pattern, err = parsePattern(fields[0]); err != nil {
			return fmt.Errorf("pattern %.1024q: %w", fields[0], err)
		}
		specs = append(specs, s)
		return nil
	})
	return specs, err
}

func parseKind(text string) (uint32, bool) {
	switch text {
	case "--":
		return modeRegular, true
	case "-d":
		return modeDir, true
	case "-l":
		return modeLink, true
	case "-b":
		return modeBlock, true
	case "-c":
		return modeChar, true
	case "-p":
		return modeFIFO, true
	case "-s":
		return modeSocket, true
	}
	return 0, false
}

// parseSubs reads a substitution file, the last line first. A line without a
// second field counts for nothing.
func parseSubs(file, text string) ([]sub, error) {
	var subs []sub
	err := eachLine(file, text, func(_ int, fields []string) error {
		if len(subs) == maxSubs {
			return fmt.Errorf("more than %d lines", maxSubs)
		}
		if len(fields) > 1 {
			subs = append(subs, sub{fields[0], fields[1]})
		}
		return nil
	})
	slices.Reverse(subs)
	return subs, err
}
