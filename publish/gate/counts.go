package gate

import (
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// counts are of tests.
type counts struct {
	passed, failed, skipped, warned int
	names                           []string // of some that failed
}

// maxNamed is how many failed tests a reason names.
const maxNamed = 5

func (c *counts) fail(name string) {
	if c.failed++; len(c.names) < maxNamed {
		c.names = append(c.names, httpx.Printable(name))
	}
}

// judge is pending where no test passed or failed: that proves nothing.
func (c *counts) judge() (State, string) {
	text := fmt.Sprintf("%d of %d tests failed", c.failed, c.passed+c.failed+c.warned)
	if c.failed == 0 {
		text = fmt.Sprintf("%d tests passed", c.passed)
	}
	if c.warned > 0 {
		text += fmt.Sprintf(", %d warned", c.warned)
	}
	if c.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.skipped)
	}
	switch {
	case c.failed > 0:
		text += ": " + strings.Join(c.names, ", ")
		if more := c.failed - len(c.names); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		return Failed, text
	case c.passed == 0:
		return Pending, "no test passed: " + text
	}
	return Passed, text
}
