package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Limits of a [Result].
const (
	// MaxNameSize bounds names of gates, releases and people, bytes.
	MaxNameSize = 200
	// MaxReasonSize bounds a reason, bytes; [Run] cuts longer ones.
	MaxReasonSize = 4 << 10
	// MaxEvidence bounds the evidence of a result.
	MaxEvidence = 100
	// maxURLSize bounds where evidence is, bytes.
	maxURLSize = 4 << 10
)

// State is what is known of a gate.
type State string

// The states of a gate.
const (
	Pending State = "pending" // not known: blocks
	Passed  State = "passed"
	Failed  State = "failed"
	Waived  State = "waived" // failed or not run, and a person answers for it until a time
)

// Subject is what a gate judges.
type Subject struct {
	Release string `json:"release"` // its version
	Digest  string `json:"digest"`  // of the release image: sha256:…
}

// Result is what was found out about a gate of a release, once.
type Result struct {
	Gate    string  `json:"gate"`
	Subject Subject `json:"subject"`
	State   State   `json:"state"`
	// Reason says why, in a sentence. It is needed where By is.
	Reason   string     `json:"reason,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	At       time.Time  `json:"at"` // when it was found out
	// By is the person who decided, and Expires until when that holds, which is
	// needed then. Both are empty where a check decided, which cannot be [Waived].
	By      string    `json:"by,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// Evidence is something that was read.
type Evidence struct {
	// URL is where it was, without credentials; of a local file its name.
	URL    string `json:"url,omitempty"`
	Digest string `json:"digest,omitempty"` // of the bytes that were read: sha256:…
	Size   int64  `json:"size,omitempty"`   // bytes
	// At is when it says that it ended; zero: it does not say.
	At time.Time `json:"at,omitzero"`
}

// ErrInvalid is wrapped by errors about results that cannot be recorded.
var ErrInvalid = errors.New("not a result")

// names are what gates may be called: a definition's names, and those of a
// release controller's jobs.
var names = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// check reports what a subject cannot be.
func (s Subject) check() error {
	if err := text("release", s.Release, MaxNameSize); err != nil {
		return err
	}
	if s.Release == "" {
		return fmt.Errorf("no release: %w", ErrInvalid)
	}
	return checkDigest("digest", s.Digest)
}

// check reports every reason why a result cannot be recorded, joined.
func (r *Result) check() error {
	var faults []error
	add := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format+": %w", append(args, ErrInvalid)...))
	}
	if err := checkName(r.Gate); err != nil {
		faults = append(faults, err)
	}
	if err := r.Subject.check(); err != nil {
		faults = append(faults, err)
	}
	if !slices.Contains([]State{Pending, Passed, Failed, Waived}, r.State) {
		add("state %.40q", r.State)
	}
	if r.At.IsZero() {
		add("no time")
	}
	checkTime := func(what string, t time.Time) {
		// JSON has four digits for a year.
		if y := t.UTC().Year(); y < 1 || y > 9999 {
			add("%s: year %d", what, y)
		}
	}
	checkTime("time", r.At)
	checkTime("end", r.Expires)
	switch {
	case r.By == "" && r.State == Waived:
		add("waived by nobody")
	case r.By == "" && !r.Expires.IsZero():
		add("it expires, but no person decided")
	case r.By != "" && strings.TrimSpace(r.By) == "":
		add("a name of spaces")
	case r.By != "" && strings.TrimSpace(r.Reason) == "":
		add("%s gives no reason", r.By)
	case r.By != "" && r.Expires.IsZero():
		add("what %s decides must expire", r.By)
	case r.By != "" && !r.Expires.After(r.At):
		add("what %s decides expires before it is decided", r.By)
	}
	for name, t := range map[string]struct {
		text string
		most int
	}{"reason": {r.Reason, MaxReasonSize}, "name of a person": {r.By, MaxNameSize}} {
		if err := text(name, t.text, t.most); err != nil {
			faults = append(faults, err)
		}
	}
	if len(r.Evidence) > MaxEvidence {
		add("%d pieces of evidence, limit %d", len(r.Evidence), MaxEvidence)
	}
	for i, e := range r.Evidence[:min(len(r.Evidence), MaxEvidence)] {
		if err := text(fmt.Sprintf("evidence[%d]: URL", i), e.URL, maxURLSize); err != nil {
			faults = append(faults, err)
		}
		checkTime(fmt.Sprintf("evidence[%d]: time", i), e.At)
		if e.Size < 0 {
			add("evidence[%d]: %d bytes", i, e.Size)
		}
		if e.Digest != "" {
			if err := checkDigest(fmt.Sprintf("evidence[%d]: digest", i), e.Digest); err != nil {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// checkName reports why a gate cannot be called so: letters, digits, '.', '_'
// and '-', at most [MaxNameSize].
func checkName(name string) error {
	if len(name) > MaxNameSize || !names.MatchString(name) {
		return fmt.Errorf("name of a gate %.80q: %w", name, ErrInvalid)
	}
	return nil
}

func checkDigest(what, digest string) error {
	if h, err := v1.NewHash(digest); err != nil || h.Algorithm != "sha256" || h.String() != digest {
		return fmt.Errorf("%s %.80q is no sha256 digest: %w", what, digest, ErrInvalid)
	}
	return nil
}

// text refuses what could rewrite a terminal or fill one.
func text(what, s string, most int) error {
	switch {
	case len(s) > most:
		return fmt.Errorf("%s of %d bytes, limit %d: %w", what, len(s), most, ErrInvalid)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not UTF-8: %w", what, ErrInvalid)
	case strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0) }):
		return fmt.Errorf("%s %.80q has control characters: %w", what, s, ErrInvalid)
	}
	return nil
}

// Error says what failed at which gate or release.
type Error struct {
	Op     string // "run", "record", "read", "decode"
	Target string
	Err    error
}

func (e *Error) Error() string {
	return "publish/gate: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
