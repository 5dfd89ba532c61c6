// Package interop is what tests need to run the field's own tools beside ours:
// it finds programs and shared data, starts servers and makes real inputs.
//
// Tests that use it are off unless the environment says OKD_STREAMS_INTEROP=1;
// then a peer that is missing fails the test instead of skipping it.
package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Variable turns interop tests on when it is "1".
const Variable = "OKD_STREAMS_INTEROP"

// Enabled reports whether interop tests are to run.
func Enabled() bool { return os.Getenv(Variable) == "1" }

// Peer skips t unless interop tests are on; then it fails t for each named
// program that is not on PATH.
func Peer(t testing.TB, names ...string) {
	t.Helper()
	if !Enabled() {
		t.Skipf("needs %v; set %s=1", names, Variable)
	}
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("interop: %v", err)
		}
	}
}

// SharedData gives the path of a file or folder of the shared test data. Where
// it is absent, t is skipped, or fails if interop tests are on.
func SharedData(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{root(), "..", "shared", "data"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if Enabled() {
			t.Fatalf("interop: shared data: %v", err)
		}
		t.Skipf("no shared data: %v", err)
	}
	return path
}

// root is the folder of the main module's go.mod.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
