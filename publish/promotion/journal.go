package promotion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/okd-project/okd-streams/publish"
)

// Journal is what a promotion has done so far. It lies in Env.Store beside its
// notes, so that any machine can go on with it.
type Journal struct {
	Version  int      `json:"version"`
	ID       string   `json:"id"` // as in the [Reservation]
	Name     string   `json:"name"`
	State    State    `json:"state"`
	Settings Settings `json:"settings"`
	Steps    []Step   `json:"steps"`
}

// Step is a finished step of a promotion.
type Step struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	// Output is what later steps need of it.
	Output json.RawMessage `json:"output,omitempty"`
}

// JournalOf reads the journal of a release in a stream.
func JournalOf(ctx context.Context, env *Env, stream, version string) (*Journal, error) {
	if err := checkNames(stream, version); err != nil {
		return nil, &Error{Op: "read", Target: "journal", Err: err}
	}
	data, _, err := publish.ReadDocument(ctx, env.Store, env.key(stream, version, journalFile))
	if err != nil {
		return nil, err
	}
	return decodeJournal(data, version)
}

const journalFile = "journal.json"

func decodeJournal(data []byte, version string) (*Journal, error) {
	j := &Journal{}
	err := checkVersion(data)
	if err == nil {
		err = decodeStrict(data, j)
	}
	if err == nil {
		err = j.check(version)
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: "journal of " + version, Err: err}
	}
	return j, nil
}

func (j *Journal) check(version string) error {
	if j.Name != version {
		return fmt.Errorf("it is of %.100q: %w", j.Name, ErrOther)
	}
	if !slices.Contains([]State{Reserved, Pointing, Promoted, Aborting, Aborted}, j.State) {
		return fmt.Errorf("state %.40q", j.State)
	}
	seen := map[string]bool{}
	for _, s := range j.Steps {
		if s.Name == "" || seen[s.Name] {
			return fmt.Errorf("step %.40q is there twice, or without name", s.Name)
		}
		seen[s.Name] = true
	}
	return j.Settings.check()
}

func (j *Journal) encode() ([]byte, error) {
	data, err := json.MarshalIndent(j, "", "  ")
	return append(data, '\n'), err
}

func (j *Journal) step(name string) *Step {
	for i := range j.Steps {
		if j.Steps[i].Name == name {
			return &j.Steps[i]
		}
	}
	return nil
}

// checkNames keeps names from being parts of other keys.
func checkNames(names ...string) error {
	for _, n := range names {
		if !reName.MatchString(n) {
			return fmt.Errorf("name %.100q: %w", n, fs.ErrInvalid)
		}
	}
	return nil
}

// editJournal changes the journal of a promotion by compare-and-swap and gives
// the result. One of another promotion is refused.
func (p *promotion) editJournal(ctx context.Context, fn func(*Journal) error) error {
	var out *Journal
	key := p.env.key(p.settings.Stream, p.version, journalFile)
	err := p.env.update(ctx, key, func(old []byte) ([]byte, error) {
		j := &Journal{Version: registerVersion, ID: p.reservation.ID, Name: p.version, State: Reserved, Settings: *p.settings}
		if old != nil {
			var err error
			if j, err = decodeJournal(old, p.version); err != nil {
				return nil, err
			}
		}
		if j.ID != p.reservation.ID {
			return nil, fmt.Errorf("the journal of %s has id %.64s, its reservation %.64s: %w", p.version, j.ID, p.reservation.ID, ErrOther)
		}
		before, err := j.encode()
		if err != nil {
			return nil, err
		}
		if err := fn(j); err != nil {
			return nil, err
		}
		out = j
		after, err := j.encode()
		if err == nil && old != nil && bytes.Equal(before, after) {
			return old, nil
		}
		return after, err
	})
	if err == nil {
		p.journal = out
	}
	return err
}

// record notes a finished step, unless somebody else did: then output becomes
// what they noted, so that all who work on one promotion go on with the same.
func (p *promotion) record(ctx context.Context, name string, state State, output any) error {
	data, err := json.Marshal(output)
	if err != nil {
		return err
	}
	return p.editJournal(ctx, func(j *Journal) error {
		if j.State == Aborting || j.State == Aborted {
			return ErrAborted
		}
		if j.step(name) != nil {
			return nil
		}
		if j.State != state {
			return fmt.Errorf("step %s: the promotion is %s, and should be %s: %w", name, j.State, state, ErrOther)
		}
		j.Steps = append(j.Steps, Step{Name: name, At: p.env.Now().UTC().Truncate(time.Second), Output: data})
		return nil
	})
}

// move takes the promotion from one state to the next; others may have done it.
func (p *promotion) move(ctx context.Context, from, to State) error {
	return p.editJournal(ctx, func(j *Journal) error {
		switch j.State {
		case from:
			j.State = to
		case to:
		case Aborting, Aborted:
			return ErrAborted
		}
		return nil
	})
}

// sha256Of is of data, lower-case hexadecimal.
func sha256Of(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// differing are the keys of two objects whose values are not the same.
func differing(a, b map[string]json.RawMessage) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if string(a[k]) != string(b[k]) {
			out = append(out, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}
