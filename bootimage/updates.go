package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// Updates is updates/STREAM.json: which releases of a stream are rolled out, at
// which others must stop on their way, and which none gets away from.
type Updates struct {
	Stream   string             `json:"stream"`
	Metadata releasemd.Metadata `json:"metadata"`
	Releases []UpdatesRelease   `json:"releases"`
	// Old is the content of the one shape that was there before, in August
	// 2019. It is kept, and nothing is made of it.
	Old json.RawMessage `json:"updates,omitempty"`
}

// UpdatesRelease is what is said of one release.
type UpdatesRelease struct {
	Version  string          `json:"version"`
	Metadata UpdatesMetadata `json:"metadata"`
}

// UpdatesMetadata are the marks of a release. It has a barrier or a dead end, not
// both; either may be rolled out.
type UpdatesMetadata struct {
	Barrier *UpdatesReason  `json:"barrier,omitempty"` // older releases update to it first
	DeadEnd *UpdatesReason  `json:"deadend,omitempty"` // it does not update by itself
	Rollout *UpdatesRollout `json:"rollout,omitempty"` // releases since the last barrier may update to it
}

// UpdatesReason says why.
type UpdatesReason struct {
	Reason string `json:"reason"` // address of a page for people
}

// UpdatesRollout is how a release reaches ever more machines.
type UpdatesRollout struct {
	// DurationMinutes is how long it takes to reach all; nil: it stays at the
	// start.
	DurationMinutes *uint64 `json:"duration_minutes,omitempty"`
	// StartEpoch is when it begins, in seconds of UNIX time.
	StartEpoch int64 `json:"start_epoch,omitzero"`
	// StartPercentage is the part of the machines that it begins with. Despite
	// its name a fraction: 0 to 1.
	StartPercentage Fraction `json:"start_percentage"`
}

// Fraction is a number from 0 to 1, written with a point as rollout.py does: 1.0.
type Fraction float64

// MarshalJSON writes the number.
func (f Fraction) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return nil, fmt.Errorf("%v is not a fraction", float64(f))
	}
	text := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return []byte(text), nil
}

// DecodeUpdates reads an updates document, as [DecodeBuilds]. What has sense in
// none of its readers is an error here, whatever else is wrong is for
// [ValidateUpdates]: two published files say 100 where 1 was meant.
func DecodeUpdates(r io.Reader) (*Document[Updates], error) { return read[Updates](r) }

func (u *Updates) check() (faults []error) {
	fail := func(path string, err error) { faults = append(faults, &FieldError{Path: path, Err: err}) }
	// The old shape has nothing else.
	if u.Old != nil && string(u.Old) != "null" && u.Stream == "" && len(u.Releases) == 0 {
		return nil
	}
	if u.Stream == "" {
		fail("stream", errors.New("missing"))
	}
	seen := map[string]bool{}
	for i, r := range u.Releases {
		at := fmt.Sprintf("releases[%d].version", i)
		if err := checkID(r.Version); err != nil {
			fail(at, err)
		}
		if seen[r.Version] {
			fail(at, fmt.Errorf("release %.140s is there twice", r.Version))
		}
		seen[r.Version] = true
	}
	return faults
}

// UpdatesOptions are options of [AddUpdate].
type UpdatesOptions struct {
	// Stream names the stream of a new document, and is that of an old one.
	// Required.
	Stream string
	// Now is the time of the change. Required.
	Now time.Time
	// Replace lets the release take the place of what is said of it already.
	Replace bool
	// Indent is how many spaces a new document is indented by, at most 8; 0: 2,
	// as rollout.py has it.
	Indent int
}

// AddUpdate gives a change of an updates document for publish.Update, as
// rollout.py's add: rollouts that ended are cleaned up ([CleanUpdates]), and what
// is said of a release comes last. A release that is there with other marks is
// refused with an error that wraps [io/fs.ErrExist], unless opts.Replace; with
// the same ones nothing changes. The result is checked by [ValidateUpdates].
// Without an old document it starts one.
func AddUpdate(release UpdatesRelease, opts *UpdatesOptions) func(old []byte) ([]byte, error) {
	change := func(u *Updates) error {
		if opts == nil || opts.Stream == "" || opts.Now.IsZero() {
			return errors.New("bootimage: updates: stream and time are required")
		}
		if u.Stream != opts.Stream {
			return fmt.Errorf("bootimage: updates are of stream %s, not %s", u.Stream, opts.Stream)
		}
		at := slices.IndexFunc(u.Releases, func(r UpdatesRelease) bool { return r.Version == release.Version })
		if at >= 0 && sameUpdates(u.Releases[at].Metadata, release.Metadata) {
			return nil
		}
		if at >= 0 && !opts.Replace {
			return fmt.Errorf("bootimage: updates: release %s is there with other marks: %w", release.Version, fs.ErrExist)
		}
		if at >= 0 {
			u.Releases = slices.Delete(u.Releases, at, at+1)
		}
		cleanUpdates(u, opts.Now)
		u.Releases = append(u.Releases, release)
		u.Metadata.LastModified = stamp(opts.Now)
		return ValidateUpdates(u, nil)
	}
	return update(func() (*Document[Updates], error) {
		var u Updates
		if opts != nil {
			u.Stream = opts.Stream
		}
		if err := change(&u); err != nil {
			return nil, err
		}
		indent := opts.Indent
		if indent == 0 {
			indent = 2
		}
		return startIndented(u, indent)
	}, func(d *Document[Updates]) error { return d.Edit(change) })
}

func sameUpdates(a, b UpdatesMetadata) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// CleanUpdates gives a change of an updates document for publish.Update, as
// rollout.py's clean: a rollout that ended before now becomes a finished one,
// only the last finished one is kept, and releases of which nothing is said any
// more are dropped. Where nothing is to be cleaned nothing changes. There must be
// an old document: the error wraps [io/fs.ErrNotExist] if there is none.
func CleanUpdates(now time.Time) func(old []byte) ([]byte, error) {
	return update(func() (*Document[Updates], error) {
		return nil, fmt.Errorf("bootimage: clean updates: %w", fs.ErrNotExist)
	}, func(d *Document[Updates]) error {
		return d.Edit(func(u *Updates) error {
			if cleanUpdates(u, now) {
				u.Metadata.LastModified = stamp(now)
			}
			return nil
		})
	})
}

// finished is the rollout of a release that all machines may have.
func finished(r *UpdatesRollout) bool {
	return r != nil && r.DurationMinutes == nil && r.StartEpoch == 0 && r.StartPercentage == 1
}

func cleanUpdates(u *Updates, now time.Time) (changed bool) {
	for i := range u.Releases {
		r := u.Releases[i].Metadata.Rollout
		if r == nil || r.DurationMinutes == nil || *r.DurationMinutes == 0 {
			continue
		}
		if end, ok := r.end(); ok && end < now.Unix() {
			u.Releases[i].Metadata.Rollout, changed = &UpdatesRollout{StartPercentage: 1}, true
		}
	}
	last := true
	for i := len(u.Releases) - 1; i >= 0; i-- {
		m := &u.Releases[i].Metadata
		if !finished(m.Rollout) {
			continue
		}
		if !last {
			m.Rollout, changed = nil, true
		}
		last = false
	}
	n := len(u.Releases)
	u.Releases = slices.DeleteFunc(u.Releases, func(r UpdatesRelease) bool { return r.Metadata == UpdatesMetadata{} })
	return changed || len(u.Releases) != n
}

// end is when the rollout is over, in seconds of UNIX time, if it is one day.
func (r *UpdatesRollout) end() (int64, bool) {
	if r.DurationMinutes == nil || *r.DurationMinutes > math.MaxInt32 {
		return 0, false
	}
	minutes := max(int64(*r.DurationMinutes), 1) // the service takes 0 as 1
	if r.StartEpoch > math.MaxInt64-60*minutes {
		return 0, false
	}
	return r.StartEpoch + 60*minutes, true
}

// At is the part of the machines that may update at a time, 0 to 1: none before
// the start, then ever more, all from the end on. Without a duration it stays at
// the start.
func (r *UpdatesRollout) At(now time.Time) float64 {
	start := min(max(float64(r.StartPercentage), 0), 1)
	t := now.Unix()
	if t < r.StartEpoch {
		return 0
	}
	end, ok := r.end()
	switch {
	case !ok:
		return start
	case t > end:
		return 1
	}
	return start + (1-start)*float64(t-r.StartEpoch)/float64(end-r.StartEpoch)
}
