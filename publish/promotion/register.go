package promotion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// registerVersion is the version of the register's and the journals' JSON.
const registerVersion = 1

// MaxReservations bounds the names of a stream.
const MaxReservations = 10_000

// State is how far a promotion has come.
type State string

// The states. A promotion ends as promoted or aborted.
const (
	Reserved State = "reserved" // its name is, and work is under way
	Pointing State = "pointing" // pointers are being moved: there is no way back
	Promoted State = "promoted"
	Aborting State = "aborting" // what was made is being taken back
	Aborted  State = "aborted"  // a tombstone: the name is not used again
)

// Reservation is a name in the register of a stream.
type Reservation struct {
	Name string `json:"name"`
	// Source is the payload by digest and SourceVersion what it is called.
	Source        string    `json:"source"`
	SourceVersion string    `json:"sourceVersion"`
	By            string    `json:"by"` // a person or machine
	At            time.Time `json:"at"`
	// ID is of the promotion; its journal has the same.
	ID    string `json:"id"`
	State State  `json:"state"` // Reserved, Promoted or Aborted
	// Settings of an open promotion, for who resumes it.
	Settings *Settings `json:"settings,omitempty"`
	// Pullspec of a promoted release, by digest.
	Pullspec string `json:"pullspec,omitempty"`
	// Reason of an aborted one.
	Reason string `json:"reason,omitempty"`
}

// open says that it was neither finished nor aborted.
func (r *Reservation) open() bool { return r.State == Reserved }

// register are all reservations of a stream, oldest first.
type register struct {
	Version      int           `json:"version"`
	Stream       string        `json:"stream"`
	Reservations []Reservation `json:"reservations"`
}

func (r *register) find(name string) *Reservation {
	for i := range r.Reservations {
		if r.Reservations[i].Name == name {
			return &r.Reservations[i]
		}
	}
	return nil
}

func (e *Env) registerKey(stream string) string { return e.Prefix + stream + "/register.json" }

func (e *Env) key(stream, version, file string) string {
	return e.Prefix + stream + "/" + version + "/" + file
}

// Reservations gives the names that were reserved in a stream, oldest first,
// also those that were taken back.
func Reservations(ctx context.Context, env *Env, stream string) ([]Reservation, error) {
	r, err := env.register(ctx, stream)
	if err != nil {
		return nil, err
	}
	return r.Reservations, nil
}

func (e *Env) register(ctx context.Context, stream string) (*register, error) {
	data, _, err := publish.ReadDocument(ctx, e.Store, e.registerKey(stream))
	if errors.Is(err, fs.ErrNotExist) {
		return &register{Version: registerVersion, Stream: stream}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRegister(data, stream)
}

// decodeStrict reads one JSON document whose fields are all known.
func decodeStrict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("data after the document")
	}
	return nil
}

// version reads the version of a document before all else, so that one of a
// newer program is said to be that.
func checkVersion(data []byte) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.Version != registerVersion {
		return fmt.Errorf("version %d, want %d: %w", head.Version, registerVersion, errors.ErrUnsupported)
	}
	return nil
}

func decodeRegister(data []byte, stream string) (*register, error) {
	r := &register{}
	err := checkVersion(data)
	if err == nil {
		err = decodeStrict(data, r)
	}
	if err == nil {
		err = r.check(stream)
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: "register of " + stream, Err: err}
	}
	return r, nil
}

func (r *register) check(of string) error {
	if r.Stream != of {
		return fmt.Errorf("it is of stream %.100q: %w", r.Stream, ErrOther)
	}
	if len(r.Reservations) > MaxReservations {
		return fmt.Errorf("%d names, limit %d", len(r.Reservations), MaxReservations)
	}
	seen, open := map[string]bool{}, 0
	for i, v := range r.Reservations {
		at := fmt.Sprintf("reservations[%d]", i)
		if _, err := stream.ParseVersion(v.Name); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if seen[v.Name] {
			return fmt.Errorf("%s: %s is there twice", at, v.Name)
		}
		seen[v.Name] = true
		if _, err := name.NewDigest(v.Source, name.StrictValidation); err != nil {
			return fmt.Errorf("%s: source %.200q is not by digest", at, v.Source)
		}
		if v.ID == "" || v.At.IsZero() {
			return fmt.Errorf("%s: no id or no time", at)
		}
		switch v.State {
		case Reserved:
			open++
			if v.Settings == nil {
				return fmt.Errorf("%s: no settings", at)
			}
			if err := v.Settings.check(); err != nil {
				return fmt.Errorf("%s: settings: %w", at, err)
			}
		case Promoted:
			if _, err := name.NewDigest(v.Pullspec, name.StrictValidation); err != nil {
				return fmt.Errorf("%s: pullspec %.200q is not by digest", at, v.Pullspec)
			}
		case Aborted:
		default:
			return fmt.Errorf("%s: state %.40q", at, v.State)
		}
	}
	if open > 1 {
		return fmt.Errorf("%d promotions are open", open)
	}
	return nil
}

func (r *register) encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// editRegister changes the register by compare-and-swap; fn may be called
// several times.
func (e *Env) editRegister(ctx context.Context, stream string, fn func(*register) error) error {
	return e.update(ctx, e.registerKey(stream), func(old []byte) ([]byte, error) {
		r := &register{Version: registerVersion, Stream: stream}
		if old != nil {
			var err error
			if r, err = decodeRegister(old, stream); err != nil {
				return nil, err
			}
		}
		before, err := r.encode()
		if err != nil {
			return nil, err
		}
		if err := fn(r); err != nil {
			return nil, err
		}
		after, err := r.encode()
		if err == nil && bytes.Equal(before, after) {
			return old, nil
		}
		return after, err
	})
}

// update is [publish.Update] whose error, where it is one of fn, is that.
func (e *Env) update(ctx context.Context, key string, fn func(old []byte) ([]byte, error)) error {
	var own error
	_, err := publish.Update(ctx, e.Store, key, func(old []byte) (data []byte, err error) {
		data, own = fn(old)
		return data, own
	}, &publish.UpdateOptions{ContentType: "application/json"})
	if own != nil {
		return own
	}
	return err
}

// wish is what somebody wants to promote.
type wish struct {
	source        name.Digest
	sourceVersion stream.Version
	by            string
	now           time.Time
	version       string   // asked for, or ""
	used          []string // names that others use
}

// skew is how far the clocks of machines may be apart.
const skew = 5 * time.Minute

// reserve gives the reservation of a payload: the one that it has, whoever made
// it, or a new one with a name that nobody has.
func (r *register) reserve(s *Settings, w *wish) (*Reservation, error) {
	for i := range r.Reservations {
		v := &r.Reservations[i]
		same := digestOf(v.Source) == w.source.DigestStr()
		switch {
		case same && v.State != Aborted && w.version != "" && w.version != v.Name:
			return nil, fmt.Errorf("the payload is %s as %s: %w", v.State, v.Name, fs.ErrExist)
		case same && v.State != Aborted:
			return v, nil
		case v.open():
			return nil, fmt.Errorf("%s, from %s, begun by %s at %s, comes first; finish or abort it: %w", v.Name, v.SourceVersion, v.By, v.At.UTC().Format(time.RFC3339), ErrBusy)
		case v.At.After(w.now.Add(skew)):
			return nil, fmt.Errorf("it says %s, but %s was reserved at %s: %w", w.now.UTC().Format(time.RFC3339), v.Name, v.At.UTC().Format(time.RFC3339), ErrClock)
		}
	}
	if len(r.Reservations) == MaxReservations {
		return nil, fmt.Errorf("%d names are used already", MaxReservations)
	}
	next, err := r.next(s, w)
	if err != nil {
		return nil, err
	}
	v := Reservation{Name: next.String(), Source: w.source.Name(), SourceVersion: w.sourceVersion.String(), By: w.by, At: w.now.UTC().Truncate(time.Second), State: Reserved, Settings: s}
	if v.ID, err = identify(&v, s); err != nil {
		return nil, err
	}
	r.Reservations = append(r.Reservations, v)
	return &r.Reservations[len(r.Reservations)-1], nil
}

// next is the name for a payload: of its X.Y.Z, after all that were ever used.
func (r *register) next(s *Settings, w *wish) (stream.Version, error) {
	existing := versions(w.used)
	for _, v := range r.Reservations {
		existing = append(existing, versions([]string{v.Name})...)
	}
	if w.version == "" {
		return s.Scheme.NextFor(w.sourceVersion, existing, w.now)
	}
	v, err := s.Scheme.Parse(w.version)
	if err != nil {
		return v, err
	}
	if slices.Contains(existing, v) {
		return v, fmt.Errorf("the name %s is used: %w", v, fs.ErrExist)
	}
	return v, nil
}

// versions parses names, and passes over what is no release of OKD: nightlies
// and tags of other kinds are beside them.
func versions(names []string) []stream.Version {
	var out []stream.Version
	for _, n := range names {
		if v, err := stream.ParseVersion(n); err == nil && !v.Scheme.OS() {
			out = append(out, v)
		}
	}
	return out
}

// identify is the identity of a promotion: a hash of all that it depends on.
func identify(v *Reservation, s *Settings) (string, error) {
	data, err := json.Marshal([]any{v.Name, v.Source, v.SourceVersion, v.By, v.At, s})
	if err != nil {
		return "", err
	}
	return sha256Of(data), nil
}

func digestOf(pullspec string) string {
	d, err := name.NewDigest(pullspec)
	if err != nil {
		return ""
	}
	return d.DigestStr()
}

// promoted are the versions that a stream has out, ours and others', each once,
// newest first as OKD orders them.
func (r *register) promoted(published []string) []string {
	var out []string
	gone := map[string]bool{}
	for _, v := range r.Reservations {
		if v.State == Promoted {
			out = append(out, v.Name)
		} else {
			gone[v.Name] = true
		}
	}
	for _, v := range versions(published) {
		if !gone[v.String()] {
			out = append(out, v.String())
		}
	}
	slices.SortFunc(out, func(a, b string) int { return graph.Compare(b, a) })
	return slices.Compact(out)
}
