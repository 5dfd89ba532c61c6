package publish

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Entry is one line of a [Journal]: a step of a plan is done.
type Entry struct {
	Plan   string `json:"plan"`   // [Plan.Digest]
	Step   string `json:"step"`   // SHA-256 of the step's JSON form
	Kind   string `json:"kind"`   // "object", "image", …, for people
	Target string `json:"target"` // for people
	// Revision of the object or document, or digest of what a tag points to.
	Revision string `json:"revision,omitempty"`
	Reused   bool   `json:"reused,omitempty"` // it was there already
}

// Journal remembers what [Apply] has done, so that another run, on this or
// another machine, does not do it again. Losing it costs checks, never
// correctness.
type Journal interface {
	// Load gives the entries of a plan, oldest first.
	Load(ctx context.Context, plan string) ([]Entry, error)
	// Append adds entries of a plan; they are there when it returns.
	Append(ctx context.Context, plan string, entries []Entry) error
}

// FileJournal is a journal in a local file of JSON lines that is appended to,
// made when it is first needed. Several plans and processes may share it. A
// line that a crash cut short is passed over.
func FileJournal(path string) Journal { return fileJournal(path) }

type fileJournal string

func (j fileJournal) fail(err error) error {
	return &Error{Op: "journal", Target: string(j), Err: cause(err)}
}

func (j fileJournal) Load(ctx context.Context, plan string) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, j.fail(err)
	}
	file, err := os.OpenFile(string(j), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, j.fail(err)
	}
	defer file.Close()
	entries, err := readEntries(file, plan)
	if err != nil {
		return nil, j.fail(err)
	}
	return entries, nil
}

func (j fileJournal) Append(ctx context.Context, plan string, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return j.fail(err)
	}
	data, err := encodeEntries(plan, entries)
	if err != nil {
		return j.fail(err)
	}
	file, err := os.OpenFile(string(j), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return j.fail(err)
	}
	// The new line in front ends one that a crash cut short; empty lines mean
	// nothing.
	_, err = file.Write(append([]byte("\n"), data...))
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return j.fail(err)
	}
	return nil
}

// StoreJournal is a journal in a store: one object of JSON lines a plan, at
// prefix followed by the plan's digest and ".jsonl". Writers on several
// machines do not lose each other's lines; the store must honour conditions.
func StoreJournal(s Store, prefix string) Journal { return &storeJournal{store: s, prefix: prefix} }

type storeJournal struct {
	store  Store
	prefix string
}

func (j *storeJournal) key(plan string) string { return j.prefix + plan + ".jsonl" }

func (j *storeJournal) Load(ctx context.Context, plan string) ([]Entry, error) {
	data, _, err := ReadDocument(ctx, j.store, j.key(plan))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := readEntries(bytes.NewReader(data), plan)
	if err != nil {
		return nil, &Error{Op: "journal", Target: j.key(plan), Err: err}
	}
	return entries, nil
}

func (j *storeJournal) Append(ctx context.Context, plan string, entries []Entry) error {
	data, err := encodeEntries(plan, entries)
	if err != nil {
		return &Error{Op: "journal", Target: j.key(plan), Err: err}
	}
	_, err = Update(ctx, j.store, j.key(plan), func(old []byte) ([]byte, error) {
		// What follows anything but a whole line would be part of that line.
		if len(old) > 0 && old[len(old)-1] != '\n' {
			old = append(old, '\n')
		}
		before, ours := bytes.CutSuffix(old, data)
		if ours && (len(before) == 0 || before[len(before)-1] == '\n') {
			return old, nil // the answer to our write was lost
		}
		return append(old, data...), nil
	}, &UpdateOptions{ContentType: "application/jsonl"})
	return err
}

func encodeEntries(plan string, entries []Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range entries {
		e.Plan = plan
		if err := enc.Encode(e); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// Lines of a journal that can be entries, bytes.
const (
	minEntrySize = len(`{"plan":"","step":""}`)
	maxEntrySize = 64 << 10
)

// readEntries gives the entries of one plan. Lines that are no entries are
// passed over: they are what a crash left.
func readEntries(r io.Reader, plan string) ([]Entry, error) {
	var entries []Entry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEntrySize)
	for lines.Scan() {
		if len(lines.Bytes()) < minEntrySize { // a decoder costs some hundred bytes for each
			continue
		}
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Plan == plan && e.Step != "" {
			entries = append(entries, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("after %d entries: %w", len(entries), err)
	}
	return entries, nil
}
