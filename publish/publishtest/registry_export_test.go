package publishtest

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// RegistryCases are the cases, for the proof that each can fail.
var RegistryCases = registryCases

// CheckGoroutines is the last check of the suite.
var CheckGoroutines = checkGoroutines

// SubjectOf is the digest of the suite's image with one layer.
func SubjectOf(layer string) v1.Hash {
	return newImage(&testing.T{}, types.OCIManifestSchema1, layer).desc.Digest
}
