package walk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/daily"
)

// PrintJSON prints v for programs.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// PrintSummary prints what a run made, for people.
func PrintSummary(w io.Writer, s *daily.Summary) error {
	if s.Unchanged {
		fmt.Fprintf(w, "Nothing changed since build %s, release %s: nothing was done.\n\n", s.Build, s.Version)
	}
	rows := [][]string{{"stream", s.Stream}, {"release", s.Version}, {"build", s.Build + " " + string(s.Arch)}}
	if c := s.Commit; c != nil {
		rows = append(rows, []string{"commit", c.Commit.String(), fmt.Sprintf("%d files, %s", c.Files, ui.Size(c.Bytes))})
	}
	image := func(what string, i *daily.ImageOutputs) {
		if i != nil {
			rows = append(rows, []string{what, i.Reference, fmt.Sprintf("%d layers, %s", i.Layers, ui.Size(i.Size))})
		}
	}
	image("base image", s.Base)
	if s.Node != nil && s.Base != nil && s.Node.Digest != s.Base.Digest {
		image("node image", s.Node)
	}
	image("extensions", s.Extensions)
	if s.Release != nil {
		rows = append(rows, []string{"release image", s.Release.Reference, fmt.Sprintf("%d components", s.Release.Components)})
	}
	if s.Boot != nil {
		for _, a := range s.Boot.Artifacts {
			rows = append(rows, []string{a.Name, a.Key, ui.Size(a.Size)})
		}
	}
	if s.Published != nil {
		for i, tag := range s.Published.Tags {
			what := ""
			if i == 0 {
				what = "tags"
			}
			rows = append(rows, []string{what, tag})
		}
	}
	if s.Report != "" {
		rows = append(rows, []string{"report", s.Report})
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
	for _, what := range []string{"files", "layers", "blobs"} {
		if n, ok := r.Reuse[what]; ok {
			parts = append(parts, fmt.Sprintf("%d of %d %s", n.Items, n.OfItems, what))
		}
	}
	return strings.Join(parts, ", ")
}

// PrintOutline prints what a run would do.
func PrintOutline(w io.Writer, r *Run, o *daily.Outline) error {
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

// Classify turns what a run was not given into a usage error.
func Classify(err error) error {
	if errors.Is(err, daily.ErrMissing) {
		return &ui.UsageError{Err: fmt.Errorf("%w\n(see -source, -from-release, -extensions, -component and -disk)", err)}
	}
	return err
}
