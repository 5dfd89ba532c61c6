package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// SchemaVersion is that of a builds.json written here. Others with the same
// first number are read.
const SchemaVersion = "1.0.0"

// Names of the catalogue's files, below the folder of builds.
const (
	BuildsFile  = "builds.json"
	MetaFile    = "meta.json"
	ReleaseFile = "release.json"
)

// Builds is builds.json: the builds of a stream, newest first.
type Builds struct {
	SchemaVersion string       `json:"schema-version"`
	Builds        []BuildEntry `json:"builds"`
	Tags          []BuildTag   `json:"tags,omitempty"`
	Tombstones    []BuildEntry `json:"tombstone-builds,omitempty"` // deleted; their ids stay taken
	Timestamp     time.Time    `json:"timestamp,omitzero"`
}

// BuildEntry is one build of a stream.
type BuildEntry struct {
	ID            string          `json:"id"`
	Arches        []string        `json:"arches"` // RPM spelling
	PolicyCleanup json.RawMessage `json:"policy-cleanup,omitempty"`
}

// BuildTag names a build.
type BuildTag struct {
	Name        string `json:"name"`
	Created     string `json:"created,omitempty"`
	Target      string `json:"target"`
	Description string `json:"description,omitempty"`
}

var reBuildID = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// checkID accepts ids that are safe as one segment of a path.
func checkID(id string) error {
	if !reBuildID.MatchString(id) || strings.Contains(id, "..") {
		return fmt.Errorf("%.140q is not a build id", id)
	}
	return nil
}

func checkArch(arch string) error {
	if !reArch.MatchString(arch) {
		return fmt.Errorf("%.40q is not an architecture", arch)
	}
	return nil
}

// reArch is wider than our own list, as catalogues have others (riscv64).
var reArch = lazyregexp.New(`^[a-z0-9_]{1,32}$`)

func (b *Builds) check() (faults []error) {
	fail := func(path string, err error) { faults = append(faults, &FieldError{Path: path, Err: err}) }
	if major, _, _ := strings.Cut(b.SchemaVersion, "."); major != "1" {
		fail("schema-version", fmt.Errorf("%.40q is not supported, want 1.x: %w", b.SchemaVersion, errors.ErrUnsupported))
	}
	seen := map[string]bool{}
	for _, list := range []struct {
		path    string
		entries []BuildEntry
	}{{"builds", b.Builds}, {"tombstone-builds", b.Tombstones}} {
		for i, e := range list.entries {
			at := fmt.Sprintf("%s[%d]", list.path, i)
			if err := checkID(e.ID); err != nil {
				fail(at+".id", err)
			} else if seen[e.ID] {
				fail(at+".id", fmt.Errorf("build %s is there twice", e.ID))
			}
			seen[e.ID] = true
			for j, arch := range e.Arches {
				if err := checkArch(arch); err != nil {
					fail(fmt.Sprintf("%s.arches[%d]", at, j), err)
				}
			}
		}
	}
	return faults
}

// Build is what a catalogue says of one architecture's build.
type Build struct {
	ID   string
	Arch string    // RPM spelling
	Time time.Time // of the change; in the catalogue to the second
}

// Dir is the build's folder below the folder of builds: ID/ARCH.
func (b Build) Dir() string { return path.Join(b.ID, b.Arch) }

// AddBuild gives a change of builds.json for publish.Update. A new build comes
// first in the list; a further architecture joins its build where that stands.
// Where both are there already nothing changes, not even the timestamp. A
// deleted build is not brought back: the error wraps [io/fs.ErrExist]. Without
// an old document it starts one.
func AddBuild(b Build) func(old []byte) ([]byte, error) {
	add := func(all *Builds) error {
		if err := errors.Join(checkID(b.ID), checkArch(b.Arch)); err != nil {
			return fmt.Errorf("bootimage: add build: %w", err)
		}
		is := func(e BuildEntry) bool { return e.ID == b.ID }
		if slices.ContainsFunc(all.Tombstones, is) {
			return fmt.Errorf("bootimage: add build %s: was deleted: %w", b.ID, fs.ErrExist)
		}
		switch i := slices.IndexFunc(all.Builds, is); {
		case i < 0:
			all.Builds = slices.Insert(all.Builds, 0, BuildEntry{ID: b.ID, Arches: []string{b.Arch}})
		case slices.Contains(all.Builds[i].Arches, b.Arch):
			return nil
		default:
			all.Builds[i].Arches = append(all.Builds[i].Arches, b.Arch)
		}
		all.Timestamp = b.Time.UTC().Truncate(time.Second)
		return nil
	}
	return update(func() (*Document[Builds], error) {
		all := Builds{SchemaVersion: SchemaVersion, Builds: []BuildEntry{}}
		if err := add(&all); err != nil {
			return nil, err
		}
		return NewDocument(all)
	}, func(d *Document[Builds]) error { return d.Edit(add) })
}
