package gate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/okd-project/okd-streams/publish/linkcheck"
)

// Comparison is what a comparison found, as ostree/container's Regression. Its
// JSON is the evidence.
type Comparison interface {
	// Err is nil if nothing is wrong.
	Err() error
}

// Regression passes if a comparison of the release's operating system with the
// one before finds nothing wrong, as container.CheckRegression. compare gives
// it; an error says that they could not be compared.
func Regression(compare func(ctx context.Context, s Subject) (Comparison, error)) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		c, err := compare(ctx, s)
		if err != nil {
			return Finding{}, err
		}
		if c == nil {
			return Finding{}, errors.New("nothing was compared")
		}
		return compared(c, "no package that matters is gone or older")
	}
}

func compared(c Comparison, good string) (Finding, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{State: Passed, Reason: good, Evidence: []Evidence{{URL: "report", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), Size: int64(len(data))}}}
	if err := c.Err(); err != nil {
		f.State, f.Reason = Failed, err.Error()
	}
	return f, nil
}

// Links passes if every link of documents leads where it should and at least one
// could be followed. A link that could not be looked at is no result.
func Links(documents func(ctx context.Context, s Subject) ([]linkcheck.Document, error), opts *linkcheck.Options) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		docs, err := documents(ctx, s)
		if err != nil {
			return Finding{}, err
		}
		report, err := linkcheck.Check(ctx, docs, opts)
		if err != nil {
			return Finding{}, err
		}
		n := report.Counts
		bad := n[linkcheck.Missing] + n[linkcheck.Wrong] + n[linkcheck.Refused]
		switch {
		case bad == 0 && n[linkcheck.Failed] > 0:
			return Finding{}, report.Err()
		case bad == 0 && n[linkcheck.OK] == 0:
			return Finding{State: Pending, Reason: "no link could be followed"}, nil
		}
		return compared(report, fmt.Sprintf("%d links of %d documents lead where they should", n[linkcheck.OK], report.Documents))
	}
}
