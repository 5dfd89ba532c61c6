package publishtest_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// A backend's own test runs the whole suite, each case with a fresh registry.
func ExampleTestRegistry() {
	_ = func(t *testing.T) { // func TestConformance(t *testing.T)
		publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
			r, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return r, name.MustParseReference("registry.example/okd/release:x").Context()
		})
	}
	// Output:
}
