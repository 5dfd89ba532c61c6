package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// CommitMetaFile is the name of the file beside meta.json that holds a [CommitMeta].
const CommitMetaFile = "commitmeta.json"

// CommitMeta is commitmeta.json: the metadata of an OSTree commit as JSON. Its
// other keys are those of the commit, whichever there are.
type CommitMeta struct {
	Version  string    `json:"version,omitempty"`
	Packages []Package `json:"rpmostree.rpmdb.pkglist,omitempty"`
	// Synthetic says that it was made from an image, not from a commit.
	Synthetic bool `json:"synthetic,omitempty"`
}

// Package is an RPM package of a system, in JSON a list of its five parts.
type Package struct{ Name, Epoch, Version, Release, Arch string }

// MarshalJSON writes the list.
func (p Package) MarshalJSON() ([]byte, error) {
	return json.Marshal([]string{p.Name, p.Epoch, p.Version, p.Release, p.Arch})
}

// UnmarshalJSON reads the list.
func (p *Package) UnmarshalJSON(data []byte) error {
	var parts []string
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	if len(parts) != 5 {
		return fmt.Errorf("package of %d parts, want name, epoch, version, release, architecture", len(parts))
	}
	*p = Package{parts[0], parts[1], parts[2], parts[3], parts[4]}
	return nil
}

// DecodeCommitMeta reads a commitmeta.json, as [DecodeBuilds].
func DecodeCommitMeta(r io.Reader) (*Document[CommitMeta], error) { return read[CommitMeta](r) }

func (c *CommitMeta) check() (faults []error) {
	for i, p := range c.Packages {
		if p.Name == "" {
			faults = append(faults, &FieldError{Path: fmt.Sprintf(`["rpmostree.rpmdb.pkglist"][%d]`, i), Err: errors.New("package without a name")})
		}
	}
	return faults
}
