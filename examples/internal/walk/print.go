package walk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
)

// Do runs the walk up to a step, or outlines it, and prints what came of it.
func (r *Run) Do(ctx context.Context, f *Flags, step string, stdout io.Writer) error {
	if f.Plan {
		outline, err := daily.Plan(ctx, r.Definition, r.Env, r.Options)
		if err != nil {
			return classify(err)
		}
		return ui.Write(stdout, f.Output, outline, func(w io.Writer) error { return printOutline(w, r, outline) })
	}
	summary, err := daily.RunTo(ctx, r.Definition, r.Env, r.Options, step)
	r.steps.keep(ctx, step, summary, err)
	if err != nil {
		if errors.Is(err, daily.ErrMissing) {
			return classify(err) // which names the stream
		}
		return classify(gatesSay(ctx, fmt.Errorf("stream %s: %w", r.Definition.Identity.Name, err)))
	}
	r.progress.Done()
	setResults(ctx, summary)
	if err := ui.Write(stdout, f.Output, summary, func(w io.Writer) error { return printSummary(w, summary) }); err != nil {
		return err
	}
	if summary.Unchanged && f.DetailedExitCode {
		return ui.ErrNothing
	}
	return nil
}

// setResults leaves what a pipeline goes on with.
func setResults(ctx context.Context, s *daily.Summary) {
	set := func(name string, value any) { ui.SetResult(ctx, name, value) }
	set("output", "OK")
	set("changed", !s.Unchanged)
	set("stream", s.Stream)
	set("build", s.Build)
	set("arch", s.Arch)
	set("release-name", s.Version)
	set("published", s.Published != nil)
	if s.Commit != nil {
		set("commit", s.Commit.Commit)
		set("ref", s.Commit.Ref)
	}
	for name, i := range map[string]*daily.ImageOutputs{"base": s.Base, "node": s.Node, "extensions": s.Extensions} {
		if i != nil {
			set(name+"-image", i.Reference)
			set(name+"-digest", i.Digest)
		}
	}
	if s.Release != nil {
		set("release-pullspec", s.Release.Reference)
		set("release-digest", s.Release.Digest)
	}
	if s.Published != nil {
		set("tags", s.Published.Tags)
		if s.Published.Verdict != nil {
			set("gates", s.Published.Verdict.State)
		}
	}
}

// printSummary prints what a run made, for people.
func printSummary(w io.Writer, s *daily.Summary) error {
	if s.Unchanged {
		fmt.Fprintf(w, "Nothing changed since build %s, release %s: nothing was done.\n\n", s.Build, s.Version)
	}
	rows := [][]string{{"stream", "", s.Stream}, {"release", "", s.Version}, {"build", string(s.Arch), s.Build}}
	if c := s.Commit; c != nil {
		rows = append(rows, []string{"commit", fmt.Sprintf("%d files, %s", c.Files, ui.Size(c.Bytes)), c.Commit.String()})
	}
	image := func(what string, i *daily.ImageOutputs) {
		if i != nil {
			rows = append(rows, []string{what, fmt.Sprintf("%d layers, %s", i.Layers, ui.Size(i.Size)), i.Reference})
		}
	}
	image("base image", s.Base)
	if s.Node != nil && s.Base != nil && s.Node.Digest != s.Base.Digest {
		image("node image", s.Node)
	}
	image("extensions", s.Extensions)
	if s.Release != nil {
		rows = append(rows, []string{"release image", fmt.Sprintf("%d components", s.Release.Components), s.Release.Reference})
	}
	if s.Boot != nil {
		for _, a := range s.Boot.Artifacts {
			rows = append(rows, []string{a.Name, ui.Size(a.Size), a.Key})
		}
	}
	if s.Published != nil {
		for i, tag := range s.Published.Tags {
			what := ""
			if i == 0 {
				what = "tags"
			}
			rows = append(rows, []string{what, "", tag})
		}
	}
	if s.Report != "" {
		rows = append(rows, []string{"report", "", s.Report})
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	steps := [][]string{{"STEP", "SECONDS", "REUSED"}}
	for _, step := range s.Steps {
		steps = append(steps, []string{step.Step, fmt.Sprintf("%.2f", step.Seconds), reused(step)})
	}
	return ui.Table(w, steps)
}

func reused(r daily.Record) string {
	if r.Reused {
		return "all of it"
	}
	var parts []string
	for _, what := range []string{"files", "unread", "layers", "steps"} {
		if n, ok := r.Reuse[what]; ok {
			part := fmt.Sprintf("%d of %d %s", n.Items, n.OfItems, what)
			if n.OfBytes > 0 {
				part += fmt.Sprintf(" (%d %% of %s)", 100*n.Bytes/n.OfBytes, ui.Size(n.OfBytes))
			}
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

// printOutline prints what a run would do.
func printOutline(w io.Writer, r *Run, o *daily.Outline) error {
	fmt.Fprintf(w, "stream %s, build %s, release %s, %s\n", o.Stream, o.Build, o.Version, o.Arch)
	fmt.Fprintf(w, "store %s\nregistry %s\n\n", r.Store, r.Registry)
	rows := make([][]string, 0, len(o.Steps))
	for _, step := range o.Steps {
		for i, does := range step.Does {
			what := step.Step
			if i > 0 {
				what = ""
			}
			rows = append(rows, []string{what, does})
		}
	}
	return ui.Table(w, rows)
}

// classify turns what a run was not given into a usage error.
func classify(err error) error {
	if errors.Is(err, daily.ErrMissing) {
		return &ui.UsageError{Err: fmt.Errorf("%w\n(see -source, -from-release, -extensions, -component and -disk)", err)}
	}
	if errors.Is(err, publish.ErrDigest) {
		return ui.Next(err, "it has other bytes than were promised: get it again, or pin what is meant")
	}
	return err
}
