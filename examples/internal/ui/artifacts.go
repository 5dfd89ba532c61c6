package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/okd-project/okd-streams/publish/prow"
)

// maxRuns bounds the runs of one command whose results a job keeps.
const maxRuns = 1000

// artifacts are what a job keeps of a run.
type artifacts struct {
	mu    sync.Mutex
	cases []prow.Case
	pages []string
}

type artifactsKey struct{}

// InJob says whether there is a job that keeps results.
func InJob(ctx context.Context) bool { return ctx.Value(artifactsKey{}) != nil }

// AddCases has a job keep results of parts of the run, such as steps and gates.
func AddCases(ctx context.Context, cases ...prow.Case) {
	if a, ok := ctx.Value(artifactsKey{}).(*artifacts); ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.cases = append(a.cases, cases...)
	}
}

// AddPage has a job keep a copy of a report, an HTML file.
func AddPage(ctx context.Context, path string) {
	if a, ok := ctx.Value(artifactsKey{}).(*artifacts); ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pages = append(a.pages, path)
	}
}

// Job runs a command, and in a Prow job, whose folder of artifacts is not "",
// leaves there junit_COMMAND.xml: a case for the command and one for each part
// that it had (see [AddCases]); and its report as COMMAND-summary.html, which
// Prow's pages show. A second run of a command in a job has -2 behind its name.
func Job(ctx context.Context, folder, command string, run func(context.Context) error) error {
	if folder == "" {
		return run(ctx)
	}
	started := time.Now()
	a := &artifacts{}
	err := run(context.WithValue(ctx, artifactsKey{}, a))
	whole := prow.Case{Suite: command, Name: command, Duration: time.Since(started)}
	if err != nil && !errors.Is(err, ErrNothing) {
		whole.Failure = err.Error()
	}
	return errors.Join(err, a.keep(folder, command, whole))
}

func (a *artifacts) keep(folder, command string, whole prow.Case) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	name, err := freeName(folder, command)
	if err != nil {
		return err
	}
	for i := range a.cases {
		if a.cases[i].Suite == "" {
			a.cases[i].Suite = command
		}
	}
	results := &prow.JUnit{Cases: append([]prow.Case{whole}, a.cases...)}
	if err := results.WriteArtifact(folder, "junit_"+name+".xml"); err != nil {
		return err
	}
	for i, page := range slices.Compact(slices.Sorted(slices.Values(a.pages))) {
		to := name + "-summary.html"
		if i > 0 {
			to = fmt.Sprintf("%s-summary-%d.html", name, i+1)
		}
		file, err := os.Open(page)
		if err != nil {
			return err
		}
		err = Output(nil, filepath.Join(folder, to), func(w io.Writer) error { _, err := io.Copy(w, file); return err })
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// freeName is a command's name, with a number if it ran in this job before.
func freeName(folder, command string) (string, error) {
	command = strings.ReplaceAll(command, " ", "-")
	for n := 1; n <= maxRuns; n++ {
		name := command
		if n > 1 {
			name = fmt.Sprintf("%s-%d", command, n)
		}
		if _, err := os.Lstat(filepath.Join(folder, "junit_"+name+".xml")); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: results of %d runs of %s: %w", folder, maxRuns, command, fs.ErrExist)
}
