package gate

import "github.com/okd-project/okd-streams/publish/prow"

// JUnit gives the verdict as results of tests, for CI to show: a gate that
// blocks is a test that failed, one that informs and has not passed is skipped.
func (v *Verdict) JUnit() *prow.JUnit {
	j := &prow.JUnit{}
	for _, s := range v.Gates {
		c := prow.Case{Suite: "gates of " + v.Subject.Release, Name: s.Gate}
		switch {
		case s.State == Passed, s.State == Waived:
		case s.Blocking:
			c.Failure = string(s.State) + ": " + s.Reason
		default:
			c.Skipped = true
		}
		j.Cases = append(j.Cases, c)
	}
	return j
}
