package prow

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Limits of JUnit files.
const (
	MaxJUnitSize  = 64 << 20 // bytes
	MaxJUnitCases = 200_000
	maxJUnitDepth = 32
)

// JUnit are the results of tests, as JUnit's XML has them.
type JUnit struct {
	Cases []Case
}

// Case is one test.
type Case struct {
	Suite    string
	Name     string
	Duration time.Duration
	// Failure is why it failed, empty if it did not; Skipped that it did not run.
	Failure string
	Skipped bool
}

// DecodeJUnit reads a file with a suite or several, which may be nested. A test
// with neither failure nor error passed.
func DecodeJUnit(r io.Reader) (*JUnit, error) {
	j, err := decodeJUnit(r, MaxJUnitSize, MaxJUnitCases)
	if err != nil {
		return nil, &Error{Op: "decode", Target: "JUnit", Err: err}
	}
	return j, nil
}

func decodeJUnit(r io.Reader, size int64, cases int) (*JUnit, error) {
	limited := &io.LimitedReader{R: r, N: size + 1}
	dec := xml.NewDecoder(limited)
	out := &JUnit{}
	var suites []string // names of the elements that are open; "" of others
	root := false
	for {
		token, err := dec.Token()
		if limited.N == 0 {
			return nil, fmt.Errorf("more than %d bytes", size)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(suites) >= maxJUnitDepth {
				return nil, fmt.Errorf("elements nested deeper than %d", maxJUnitDepth)
			}
			switch t.Name.Local {
			case "testsuites", "testsuite":
				root = true
				name := ""
				if t.Name.Local == "testsuite" {
					name = attribute(t, "name")
				}
				suites = append(suites, name)
			case "testcase":
				if !root {
					return nil, errors.New("a test outside a suite")
				}
				if len(out.Cases) == cases {
					return nil, fmt.Errorf("more than %d tests", cases)
				}
				var c testcase
				if err := dec.DecodeElement(&c, &t); err != nil {
					return nil, err
				}
				out.Cases = append(out.Cases, c.result(suites))
			default:
				if !root {
					return nil, fmt.Errorf("<%.40s> is no test suite", t.Name.Local)
				}
				suites = append(suites, "")
			}
		case xml.EndElement:
			suites = suites[:len(suites)-1]
		}
	}
	if !root {
		return nil, errors.New("no test suite")
	}
	return out, nil
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// testcase is its XML.
type testcase struct {
	XMLName xml.Name `xml:"testcase"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr,omitempty"`
	Failure *message `xml:"failure"`
	Error   *message `xml:"error"`
	Skipped *message `xml:"skipped"`
}

type message struct {
	Message string `xml:"message,attr,omitempty"`
	Text    string `xml:",chardata"`
}

func (c *testcase) result(suites []string) Case {
	out := Case{Name: c.Name, Skipped: c.Skipped != nil}
	for i := len(suites) - 1; i >= 0 && out.Suite == ""; i-- {
		out.Suite = suites[i]
	}
	if seconds, err := strconv.ParseFloat(strings.ReplaceAll(c.Time, ",", ""), 64); err == nil && seconds > 0 && seconds < 1e9 {
		out.Duration = time.Duration(seconds * float64(time.Second))
	}
	for _, m := range []*message{c.Failure, c.Error} {
		if m == nil {
			continue
		}
		text := strings.TrimSpace(m.Message + "\n" + m.Text)
		if text == "" {
			text = "failed"
		}
		out.Failure = strings.TrimSpace(out.Failure + "\n" + text)
	}
	return out
}

// Count gives the tests by how they ended. One that is there several times, as
// a flaky test that was run again, passed if it passed once.
func (j *JUnit) Count() (passed, failed, skipped int) {
	for _, o := range j.outcomes() {
		switch o {
		case outcomeFailed:
			failed++
		case outcomeSkipped:
			skipped++
		default:
			passed++
		}
	}
	return passed, failed, skipped
}

// Failed names the tests that [JUnit.Count] counts as failed, in their order.
func (j *JUnit) Failed() []string {
	all := j.outcomes()
	var names []string
	for _, c := range j.Cases {
		id := caseID{c.Suite, c.Name}
		if all[id] == outcomeFailed {
			delete(all, id)
			names = append(names, strings.TrimSpace(c.Suite+" "+c.Name))
		}
	}
	return names
}

type caseID struct{ suite, name string }

// How a test ended, in the order in which one outcome hides another.
const (
	outcomeSkipped = iota + 1
	outcomeFailed
	outcomePassed
)

func (j *JUnit) outcomes() map[caseID]int {
	all := map[caseID]int{}
	for _, c := range j.Cases {
		o := outcomePassed
		switch {
		case c.Failure != "":
			o = outcomeFailed
		case c.Skipped:
			o = outcomeSkipped
		}
		id := caseID{c.Suite, c.Name}
		all[id] = max(all[id], o)
	}
	return all
}

// Encode writes the results as one file with a suite for each that they name,
// for the folder of artifacts, where names must match junit*.xml.
func (j *JUnit) Encode(w io.Writer) error {
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	var suites []*suite
	byName := map[string]*suite{}
	total := map[string]time.Duration{}
	for _, c := range j.Cases {
		s := byName[c.Suite]
		if s == nil {
			s = &suite{Name: c.Suite}
			byName[c.Suite] = s
			suites = append(suites, s)
		}
		x := testcase{Name: c.Name, Time: seconds(c.Duration)}
		s.Tests++
		total[c.Suite] += c.Duration
		switch {
		case c.Failure != "":
			s.Failures++
			x.Failure = &message{Text: c.Failure}
		case c.Skipped:
			s.Skipped++
			x.Skipped = &message{}
		}
		s.Cases = append(s.Cases, x)
	}
	for _, s := range suites {
		s.Time = seconds(total[s.Name])
	}
	data, err := xml.MarshalIndent(struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []*suite `xml:"testsuite"`
	}{Suites: suites}, "", "  ")
	if err != nil {
		return &Error{Op: "encode", Target: "JUnit", Err: err}
	}
	_, err = w.Write(append(append([]byte(xml.Header), bytes.TrimSpace(data)...), '\n'))
	return err
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
