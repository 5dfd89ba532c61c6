package promotion

import (
	"encoding/json"
	"fmt"

	"github.com/okd-project/okd-streams/stream"
)

// remember reads what steps noted.
func (p *promotion) remember() error {
	for step, into := range map[string]any{stepAssemble: &p.assembled, stepSign: &p.signed, stepTools: &p.tooled, stepNotes: &p.noted, stepPrepare: &p.prepared} {
		if s := p.journal.step(step); s != nil {
			if err := json.Unmarshal(s.Output, into); err != nil {
				return fmt.Errorf("%s: journal: %w", step, err)
			}
		}
	}
	var err error
	p.parsed, err = stream.ParseVersion(p.version)
	return err
}
