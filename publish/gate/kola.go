package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// maxKolaSize bounds a report of kola, bytes: the output of every test is in it.
const maxKolaSize = 64 << 20

// kolaReport is what kola, the test runner of coreos-assembler, leaves in
// reports/report.json of its output folder (mantle/harness/reporters there).
type kolaReport struct {
	Tests    []kolaTest `json:"tests"`
	Result   kolaResult `json:"result"` // PASS or FAIL; of all together
	Platform string     `json:"platform"`
	Version  string     `json:"version"` // of the operating system; may be empty
}

// kolaTest is a test of a report.
type kolaTest struct {
	Name     string        `json:"name"`
	Subtests []string      `json:"subtests"`
	Result   kolaResult    `json:"result"`
	Duration time.Duration `json:"duration"`
	Output   string        `json:"output"`
}

// kolaResult is how a test ended.
type kolaResult string

// The results of kola. A test that warns failed, and its failure does not count.
const (
	kolaPass kolaResult = "PASS"
	kolaFail kolaResult = "FAIL"
	kolaWarn kolaResult = "WARN"
	kolaSkip kolaResult = "SKIP"
)

// decodeKola reads a report. One without result, or whose result is not that of
// its tests, is an error: a run that was cut short proves nothing.
func decodeKola(data []byte) (*kolaReport, error) {
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return nil, errors.New("no JSON object")
	}
	r := &kolaReport{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	failed := 0
	for i, t := range r.Tests {
		switch t.Result {
		case kolaPass, kolaWarn, kolaSkip:
		case kolaFail:
			failed++
		default:
			return nil, fmt.Errorf("tests[%d]: result %.40q", i, t.Result)
		}
		if t.Name == "" {
			return nil, fmt.Errorf("tests[%d]: no name", i)
		}
	}
	switch {
	case r.Result != kolaPass && r.Result != kolaFail:
		return nil, fmt.Errorf("result %.40q", r.Result)
	case r.Result == kolaPass && failed > 0:
		return nil, fmt.Errorf("the result is PASS, and %d tests failed", failed)
	}
	return r, nil
}

// Kola passes if the run that a report is of did, and at least one test passed.
// version is the operating system's that was to be tested: a report of another
// one is pending; empty: any. What kola ran again is in a report of its own.
func Kola(report Source, version string) Check {
	return func(ctx context.Context, _ Subject) (Finding, error) {
		data, e, err := report.read(ctx, maxKolaSize)
		if errors.Is(err, fs.ErrNotExist) {
			return pending(report.Name), nil
		}
		if err != nil {
			return Finding{}, err
		}
		r, err := decodeKola(data)
		if err != nil {
			return Finding{}, fmt.Errorf("%s: %w", report.Name, err)
		}
		f := Finding{Evidence: []Evidence{e}}
		if version != "" && r.Version != version {
			f.State, f.Reason = Pending, fmt.Sprintf("the report is of %q, not of %s", r.Version, version)
			return f, nil
		}
		var c counts
		for _, t := range r.Tests {
			switch t.Result {
			case kolaPass:
				c.passed++
			case kolaSkip:
				c.skipped++
			case kolaWarn:
				c.warned++
			case kolaFail:
				c.fail(t.Name)
			}
		}
		f.State, f.Reason = c.judge()
		if r.Result == kolaFail && f.State != Failed {
			f.State, f.Reason = Failed, "the run failed; "+f.Reason
		}
		return f, nil
	}
}
