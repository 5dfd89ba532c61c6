package linkcheck

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/okd-project/okd-streams/publish"
)

// Verdict says what a check found.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"      // there, and as the document says as far as was looked
	Missing Verdict = "missing" // not there, or not for readers
	Wrong   Verdict = "wrong"   // there, with another size, checksum, digest or form
	Refused Verdict = "refused" // not an address that is followed
	Failed  Verdict = "failed"  // not found out: the server or the network failed
	Skipped Verdict = "skipped" // not looked up: nobody to ask, or known to be removed
)

// good are the verdicts that are nothing to complain about.
var good = []Verdict{OK, Skipped}

// Result is a link with what was found.
type Result struct {
	Link            // its URL without credentials
	Verdict Verdict `json:"verdict"`
	Cause   string  `json:"cause,omitempty"` // why, for people; "" with OK
	// FoundSize is of the content in bytes; -1: not told.
	FoundSize int64 `json:"foundSize"`
	// FoundSHA256 is of the content: what the store knows, or was computed.
	FoundSHA256 string `json:"foundSHA256,omitempty"`
	// Err is the cause for programs; nil with OK.
	Err error `json:"-"`
}

// String is the result in a line: verdict, document, path, URL, cause.
func (r Result) String() string {
	text := fmt.Sprintf("%s: %s: %s: %s", r.Verdict, printable(r.Document), r.Path, r.URL)
	if r.Cause != "" {
		text += ": " + r.Cause
	}
	return text
}

// Report is what [Check] found. It is data: encoding/json writes it.
type Report struct {
	Documents int             `json:"documents"` // that were read
	Counts    map[Verdict]int `json:"counts"`
	Links     []Result        `json:"links"` // in the order of documents and their links
}

// Bad are the results that are neither [OK] nor [Skipped].
func (r *Report) Bad() []Result {
	var bad []Result
	for _, l := range r.Links {
		if !slices.Contains(good, l.Verdict) {
			bad = append(bad, l)
		}
	}
	return bad
}

// Err is nil if nothing is bad, else a [*BrokenError].
func (r *Report) Err() error {
	if bad := r.Bad(); len(bad) > 0 {
		return &BrokenError{Links: bad}
	}
	return nil
}

// WriteText writes the bad links a line each, or with all every link, and a
// line of counts.
func (r *Report) WriteText(w io.Writer, all bool) error {
	lines := r.Bad()
	if all {
		lines = r.Links
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%d links of %d documents", len(r.Links), r.Documents)
	for _, v := range []Verdict{OK, Missing, Wrong, Refused, Failed, Skipped} {
		if n := r.Counts[v]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, v)
		}
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// BrokenError names the links that are not as they should be. It is
// [fs.ErrNotExist] where one is [Missing], and [publish.ErrDigest] where one is
// [Wrong].
type BrokenError struct{ Links []Result }

// maxNamed is how many links the text of an error names.
const maxNamed = 5

func (e *BrokenError) Error() string {
	var lines []string
	for _, l := range e.Links[:min(len(e.Links), maxNamed)] {
		lines = append(lines, l.String())
	}
	if more := len(e.Links) - maxNamed; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return "publish: links: " + strings.Join(lines, "; ")
}

// Is reports whether target stands for a verdict of one of the links.
func (e *BrokenError) Is(target error) bool {
	has := func(v Verdict) bool {
		return slices.ContainsFunc(e.Links, func(l Result) bool { return l.Verdict == v })
	}
	return target == fs.ErrNotExist && has(Missing) || target == publish.ErrDigest && has(Wrong)
}

// Unwrap gives the causes.
func (e *BrokenError) Unwrap() []error {
	var errs []error
	for _, l := range e.Links {
		errs = append(errs, l.Err)
	}
	return errs
}

// printable is text without what could do something to a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
