package daily

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/internal/unix"
)

// The files of the state folder that belong to no build.
const (
	lastFile   = "last.json"
	inputsFile = "inputs.json"
	finishFile = "publish.json" // the record of the last step
)

// last is what last.json holds.
type last struct {
	Build  string `json:"build"`
	Digest string `json:"digest"` // of its inputs
}

// lockState takes the lock of a state folder for this process.
func lockState(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("daily: %s: %w", path, ErrBusy)
		}
		return nil, fmt.Errorf("daily: lock %s: %w", path, err)
	}
	return func() {
		// Told, for a child that is being started has a copy of the descriptor.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		file.Close()
	}, nil
}

// earlier reads the inputs of all builds in the state folder, oldest first.
// done says which of them finished.
func earlier(state string) (builds []Inputs, done map[string]bool, err error) {
	entries, err := os.ReadDir(state)
	if err != nil {
		return nil, nil, err
	}
	done = map[string]bool{}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		var in Inputs
		ok, err := readJSON(filepath.Join(state, entry.Name(), inputsFile), &in)
		if err != nil {
			return nil, nil, err
		}
		if !ok || in.Build != entry.Name() {
			continue
		}
		builds = append(builds, in)
		var record Record
		if done[in.Build], err = readJSON(filepath.Join(state, entry.Name(), finishFile), &record); err != nil {
			return nil, nil, err
		}
	}
	slices.SortStableFunc(builds, func(a, b Inputs) int { return a.Time.Compare(b.Time) })
	return builds, done, nil
}

// encodeJSON is how documents of the state folder are written.
func encodeJSON(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

func writeJSON(path string, v any) error {
	data, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
