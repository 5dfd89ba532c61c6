package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

var update = flag.Bool("update", false, "rewrite testdata")

const module = "github.com/okd-project/okd-streams"

// listed is what `go list -json` says of a package.
type listed struct {
	Dir, ImportPath, Name, Doc string
	Standard                   bool
	Module                     *struct{ Path string }
	GoFiles, CgoFiles          []string
	TestGoFiles, XTestGoFiles  []string
	Imports, Deps              []string
	TestImports, XTestImports  []string
	Error                      *struct{ Err string }
}

// ours reports whether p is of the main module.
func (p *listed) ours() bool { return p.Module != nil && p.Module.Path == module }

// room is the import path below the module's; "." is the root.
func (p *listed) room() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// public reports whether others can import p.
func (p *listed) public() bool {
	return p.Name != "main" && !slices.Contains(strings.Split(p.room(), "/"), "internal")
}

// library reports whether p is held to what library code may do: every package
// but programs, examples and what only tests and measurements use.
func (p *listed) library() bool {
	return p.Name != "main" && !under(p.room(), "examples") && !slices.ContainsFunc(support, func(s string) bool { return under(p.room(), s) })
}

// under reports whether room is folder or below it.
func under(room, folder string) bool { return room == folder || strings.HasPrefix(room, folder+"/") }

// load asks go list once for every package that compiles into ours.
var load = sync.OnceValues(func() (map[string]*listed, error) {
	root, err := interop.Root()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,Name,Doc,Standard,Module,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Imports,Deps,TestImports,XTestImports,Error", "-deps", "./...")
	cmd.Dir = root
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, diag.String())
	}
	all := make(map[string]*listed)
	for dec := json.NewDecoder(&out); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = &p
	}
})

// packages gives every package by import path, and ours in order.
func packages(t *testing.T) (all map[string]*listed, ours []*listed) {
	t.Helper()
	all, err := load()
	require.NoError(t, err)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if all[path].ours() {
			ours = append(ours, all[path])
		}
	}
	require.NotEmpty(t, ours)
	return all, ours
}

// golden compares got with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: not there; run go test ./internal/archtest -update and read the difference", name)
		return
	}
	require.NoError(t, err)
	if diff := cmp.Diff(got, string(want)); diff != "" {
		t.Errorf("%s: differs (+ is the file); if it is meant, run go test ./internal/archtest -update:\n%s", name, diff)
	}
}

// exceptions are lines "check subject: reason" of testdata/allow.txt.
type exceptions struct {
	check  string
	reason map[string]string
	used   map[string]bool
}

// allow reads the exceptions to one check; those not used until t ends fail it.
func allow(t *testing.T, check string) *exceptions {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "allow.txt"))
	require.NoError(t, err)
	e := &exceptions{check: check, reason: make(map[string]string), used: make(map[string]bool)}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		subject, reason, ok := strings.Cut(line, ": ")
		require.True(t, ok && reason != "", "allow.txt: no reason in %q", line)
		kind, subject, ok := strings.Cut(subject, " ")
		require.True(t, ok, "allow.txt: no subject in %q", line)
		if kind == check {
			e.reason[subject] = reason
		}
	}
	t.Cleanup(func() {
		for subject := range e.reason {
			if !e.used[subject] {
				t.Errorf("allow.txt: %q is not needed any more", check+" "+subject)
			}
		}
	})
	return e
}

// ok reports whether subject is an exception.
func (e *exceptions) ok(subject string) bool {
	_, found := e.reason[subject]
	e.used[subject] = e.used[subject] || found
	return found
}
