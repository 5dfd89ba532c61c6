package daily

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Record is what a step leaves behind, at <state>/<build>/<step>.json. It is
// the one contract behind resume, --json and results of a pipeline engine: a
// step whose record has the same Input, and whose outputs are still there, is
// not done again. The first step, inputs, is always done; what it leaves is
// <state>/<build>/inputs.json ([Inputs]), and its record is in summaries only.
type Record struct {
	Step  string `json:"step"`
	Build string `json:"build"`
	// Input is the SHA-256 of everything the step depends on, lower-case
	// hexadecimal.
	Input string `json:"input"`
	// Outputs are what later steps and people need: checksums, digests, sizes.
	Outputs json.RawMessage `json:"outputs"`
	Started time.Time       `json:"started"` // UTC
	Seconds float64         `json:"seconds"` // by [Env.Clock]
	// Reused says that the last run found the step done. Reuse counts what the
	// step itself did not have to do again ("files", "layers", "steps" of the plan;
	// "unread" are the files that [Options.TrustFiles] kept from being read).
	Reused bool             `json:"reused"`
	Reuse  map[string]Reuse `json:"reuse,omitempty"`
}

// Reuse counts items and bytes that were there already, out of all. Bytes are
// zero where they were not counted.
type Reuse struct {
	Items   int64 `json:"items"`
	OfItems int64 `json:"ofItems"`
	Bytes   int64 `json:"bytes,omitempty"`
	OfBytes int64 `json:"ofBytes,omitempty"`
}

// MaxRecordSize is the limit of a record's size in bytes.
const MaxRecordSize = 4 << 20

// inputDigest is the SHA-256 of v as JSON.
func inputDigest(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// readJSON reads a document of the state folder; ok is false when there is none.
func readJSON(path string, v any) (ok bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxRecordSize {
		return false, fmt.Errorf("%s: not a regular file of at most %d bytes", path, MaxRecordSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// step runs one step of a build, or finds it done. check says whether outputs
// of an earlier run still stand; do makes them. out is a pointer to the step's
// outputs.
func (b *build) step(ctx context.Context, name string, input any, out any, check func(context.Context) (bool, error), do func(context.Context, *Record) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	digest, err := inputDigest(input)
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, name+".json")
	started := b.env.now()
	var old Record
	ok, err := readJSON(path, &old)
	if err != nil {
		return err
	}
	if ok && old.Input == digest && json.Unmarshal(old.Outputs, out) == nil {
		good := true
		if check != nil {
			if good, err = check(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if good {
			old.Reused = true
			b.records = append(b.records, old)
			b.env.event(Event{Step: name, Phase: "reused"})
			return nil
		}
	}
	b.env.event(Event{Step: name})
	record := Record{Step: name, Build: b.id, Input: digest, Started: started.UTC()}
	if err := do(ctx, &record); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if record.Outputs, err = json.Marshal(out); err != nil {
		return err
	}
	record.Seconds = b.env.now().Sub(started).Seconds()
	if err := writeJSON(path, record); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.records = append(b.records, record)
	b.env.event(Event{Step: name, Phase: "done"})
	return nil
}
