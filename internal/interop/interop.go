// Package interop is what tests need to run the field's own tools beside ours:
// it finds programs and shared data, starts servers and makes real inputs.
//
// Tests that use it are off unless the environment says OKD_STREAMS_INTEROP=1;
// then a peer that is missing fails the test instead of skipping it.
//
// What takes long to make (a gateway, a wrapper, a Debian tree) is made once
// and kept in [CacheDir], in folders named after versions.
package interop

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Variable turns interop tests on when it is "1".
const Variable = "OKD_STREAMS_INTEROP"

// mainModule is the path in the go.mod of the project's root.
const mainModule = "github.com/okd-project/okd-streams"

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
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(append([]string{root, "..", "shared", "data"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if Enabled() {
			t.Fatalf("interop: shared data: %v", err)
		}
		t.Skipf("no shared data: %v", err)
	}
	return path
}

// Root gives the folder of the main module's go.mod: the working directory or
// the nearest parent that has it. Binaries built with -trimpath know no source
// path, so the working directory is all there is to go by; `go test` sets it
// to the package's folder.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("interop: root: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		module, err := modulePath(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("interop: root: %w", err)
		}
		if module == mainModule {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("interop: root: no go.mod of %s in %s or above: %w", mainModule, start, os.ErrNotExist)
		}
	}
}

// modulePath reads the module line of a go.mod.
func modulePath(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", lines.Err()
}
