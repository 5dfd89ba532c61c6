package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish/prow"
)

// JUnit passes if no test of the files failed and at least one passed. A test
// that was run again passed if it passed once.
func JUnit(files ...Source) Check {
	return func(ctx context.Context, _ Subject) (Finding, error) {
		f, all := Finding{}, &prow.JUnit{}
		if len(files) == 0 {
			return f, errors.New("no file")
		}
		for _, file := range files {
			e, err := file.stream(ctx, prow.MaxJUnitSize, func(r io.Reader) error {
				j, err := prow.DecodeJUnit(r)
				if err == nil {
					all.Cases = append(all.Cases, j.Cases...)
				}
				return err
			})
			if errors.Is(err, fs.ErrNotExist) {
				return pending(file.Name), nil
			}
			if err != nil {
				return f, err
			}
			if len(all.Cases) > prow.MaxJUnitCases {
				return f, fmt.Errorf("more than %d tests", prow.MaxJUnitCases)
			}
			f.Evidence = append(f.Evidence, e)
		}
		c := counts{}
		c.passed, c.failed, c.skipped = all.Count()
		for _, t := range all.Failed() {
			if len(c.names) < maxNamed {
				c.names = append(c.names, httpx.Printable(t))
			}
		}
		f.State, f.Reason = c.judge()
		return f, nil
	}
}
