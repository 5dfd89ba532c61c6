package prow

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

var junitName = lazyregexp.New(`^junit[A-Za-z0-9_.-]*\.xml$`)

// WriteArtifact writes the results into the folder that [ArtifactsVariable]
// names, as a file whose name must match junit*.xml for Prow to show it. The file
// is there whole or not at all.
func (j *JUnit) WriteArtifact(folder, name string) error {
	fail := func(err error) error { return &Error{Op: "write", Target: name, Err: err} }
	if !junitName.MatchString(name) {
		return fail(fmt.Errorf("the name does not match junit*.xml: %w", fs.ErrInvalid))
	}
	if err := atomicfile.Write(filepath.Join(folder, name), j.Encode); err != nil {
		return fail(err)
	}
	return nil
}
