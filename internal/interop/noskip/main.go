// Command noskip reads the output of `go test -json`, prints what is worth
// reading and which tests took longest, and fails where a test failed or was skipped. Its argument is a file
// of tests that may be skipped, "package test: reason".
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

const (
	module  = "github.com/okd-project/okd-streams/"
	slowest = 25 // tests named at the end
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "noskip:", err)
		os.Exit(1)
	}
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: go test -json … | noskip ALLOWED")
	}
	allowed, err := allowedSkips(args[0])
	if err != nil {
		return err
	}
	var (
		failed, skipped []string
		passed          int
		slow            []event
		output          = make(map[string][]string) // of a test or package, until it ends
	)
	lines := bufio.NewReader(stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			break
		} else if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(stdout, "%s", line) // of the go command itself
			continue
		}
		name := strings.TrimPrefix(e.Package, module)
		if e.Test != "" {
			name += " " + e.Test
		}
		switch e.Action {
		case "output":
			output[name] = append(output[name], e.Output)
		case "build-output":
			fmt.Fprint(stdout, e.Output)
		case "fail":
			failed = append(failed, name)
			fmt.Fprintf(stdout, "FAIL %s (%.1f s)\n%s", name, e.Elapsed, strings.Join(output[name], ""))
		case "skip":
			if e.Test == "" { // a package without tests
				break
			}
			if _, ok := allowed[name]; ok {
				delete(allowed, name)
			} else {
				skipped = append(skipped, name)
				fmt.Fprintf(stdout, "SKIP %s\n%s", name, strings.Join(output[name], ""))
			}
		case "pass":
			if e.Test == "" {
				fmt.Fprintf(stdout, "ok   %s (%.1f s)\n", name, e.Elapsed)
			} else {
				passed++
				if !strings.Contains(e.Test, "/") {
					slow = append(slow, e)
				}
			}
		}
		if e.Action != "output" {
			delete(output, name)
		}
	}
	slices.SortStableFunc(slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range slow[:min(len(slow), slowest)] {
		fmt.Fprintf(stdout, "slow %s %s (%.1f s)\n", strings.TrimPrefix(e.Package, module), e.Test, e.Elapsed)
	}
	fmt.Fprintf(stdout, "%d passed, %d failed, %d skipped\n", passed, len(failed), len(skipped))
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		fmt.Fprintf(stdout, "not skipped, though allowed to: %s\n", name)
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	case len(skipped) > 0:
		return fmt.Errorf("skipped: %s", strings.Join(skipped, ", "))
	case passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

func allowedSkips(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	allowed := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || reason == "" {
			return nil, fmt.Errorf("%s: no reason in %q", file, line)
		}
		allowed[name] = reason
	}
	return allowed, nil
}
