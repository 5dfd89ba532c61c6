package status

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/page"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/controller"
)

// mostListed is how many packages or commits text and page show of one list.
const mostListed = 40

// WriteJSON writes the report as JSON, two spaces of indentation.
// [encoding/json] reads it back.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// WriteText writes the report for a terminal or a mail, without colours.
func (r *Report) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	line := func(indent int, format string, args ...any) {
		fmt.Fprintf(b, "%*s%s\n", indent, "", printable(fmt.Sprintf(format, args...)))
	}
	for i, s := range r.Streams {
		if i > 0 {
			fmt.Fprintln(b)
		}
		line(0, "%s: %s", s.Title, strings.ToUpper(string(s.Level)))
		for _, reason := range s.Reasons {
			line(2, "%s: %s", reason.Level, reason.Text)
		}
		for _, a := range []struct {
			what string
			age  *Age
		}{{"last build", s.Build}, {"last accepted", s.Accepted}, {"last published", s.Published}} {
			if a.age != nil {
				line(2, "%-14s %s%s", a.what, a.age.Version, when(a.age))
			}
		}
		for _, g := range s.Gates {
			kind := "informing"
			if g.Blocking {
				kind = "blocking"
			}
			line(2, "gate %s (%s): %s, %d of %d passed %s", g.Name, kind, strings.ToLower(string(g.State)), g.Passed, g.Passed+g.Failed, g.URL)
			for _, text := range g.Broken.lines() {
				line(4, "%s", text)
			}
		}
		if c := s.Against; c != nil {
			line(2, "%s beside %s: %s the same, %d ahead, %d behind, %d missing, %d more", c.Version, c.Reference, count(c.Same, "package", "packages"), len(c.Ahead), len(c.Behind), len(c.Missing), len(c.Extra))
			for _, p := range first(c.Behind) {
				line(4, "behind: %s %s, there %s", p.Name, p.Version, p.Reference)
			}
			if len(c.Missing) > 0 {
				line(4, "missing: %s", strings.Join(first(c.Missing), " "))
			}
		}
		for _, i := range s.BootImages {
			line(2, "boot image %s of release %s is %.0f days old", i.Name, i.Release, i.Days)
		}
		for _, g := range s.Gaps {
			line(2, "missing: %s", g)
		}
		for _, f := range s.Faults {
			line(2, "not known: %s", f)
		}
	}
	return b.Flush()
}

func when(a *Age) string {
	if a.At.IsZero() {
		return ""
	}
	return ", " + hours(a.Hours) + " ago"
}

// lines say what broke a gate.
func (b *Broken) lines() []string {
	switch {
	case b == nil:
		return nil
	case b.LastGreen == "":
		return []string{"never green in the time looked at"}
	case !b.Known:
		return []string{"last green " + b.LastGreen + ", red since " + b.FirstRed + "; nobody looked into both"}
	}
	out := []string{"last green " + b.LastGreen + ", red since " + b.FirstRed + "; between them:"}
	list := slices.Concat(packageLines(b.Packages), commitLines(b.Commits))
	if len(list) == 0 {
		return append(out, "no package and no commit changed: look at the test or its machines")
	}
	return append(out, first(list)...)
}

func packageLines(d *payload.PackageDifference) []string {
	if d == nil {
		return nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.Changed)) {
		out = append(out, "package "+name+" "+d.Changed[name].Old+" to "+d.Changed[name].New)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Added)) {
		out = append(out, "package "+name+" "+d.Added[name]+" is new")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Removed)) {
		out = append(out, "package "+name+" "+d.Removed[name]+" is gone")
	}
	return out
}

func commitLines(list []CommitChange) []string {
	var out []string
	short := func(c string) string { return c[:min(len(c), 12)] }
	for _, c := range list {
		switch {
		case c.From == "":
			out = append(out, "component "+c.Component+" at "+short(c.To)+" is new")
		case c.To == "":
			out = append(out, "component "+c.Component+" at "+short(c.From)+" is gone")
		default:
			out = append(out, "component "+c.Component+" "+short(c.From)+" to "+short(c.To))
		}
	}
	return out
}

// first is the beginning of a list that people can read.
func first[T any](list []T) []T { return list[:min(len(list), mostListed)] }

// printable is text without what moves a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

//go:embed report.html.tmpl
var pageText string

var readinessPage = page.Parse("readiness", pageText, template.FuncMap{
	"hours": hours, "plural": count,
	"decided": func(g GateReport) int { return g.Passed + g.Failed },
	"sign":    sign,
	"lines":   func(b *Broken) []string { return b.lines() },
	"recent":  func(h []Result) []Result { return first(h) },
	"behind":  func(c *Comparison) []Beside { return first(c.Behind) },
	"missing": func(c *Comparison) []string { return first(c.Missing) },
	"lower":   func(s controller.State) string { return strings.ToLower(string(s)) },
	"link":    func(u string) bool { return strings.HasPrefix(u, "https://") || strings.HasPrefix(u, "http://") },
})

// WriteHTML writes the report as one page without scripts or files beside it.
func (r *Report) WriteHTML(w io.Writer) error {
	b := bufio.NewWriter(w)
	if err := readinessPage().Execute(b, r); err != nil {
		return err
	}
	return b.Flush()
}

// sign is the picture of a result, which must not live by its colour alone.
func sign(s controller.State) string {
	switch s {
	case controller.JobSucceeded:
		return "✓"
	case controller.JobFailed:
		return "✗"
	case Waived:
		return "~"
	}
	return "…"
}

// WriteMetrics writes the report in Prometheus' text format, version 0.0.4.
func (r *Report) WriteMetrics(w io.Writer) error {
	b := bufio.NewWriter(w)
	type sample struct {
		labels string
		value  float64
	}
	emit := func(name, help string, samples []sample) {
		if len(samples) == 0 {
			return
		}
		fmt.Fprintf(b, "# HELP okd_streams_%s %s\n# TYPE okd_streams_%s gauge\n", name, help, name)
		for _, s := range samples {
			fmt.Fprintf(b, "okd_streams_%s{%s} %g\n", name, s.labels, s.value)
		}
	}
	var level, age, gate, gaps, stale, faults, behind []sample
	for _, s := range r.Streams {
		name := "stream=" + quote(s.Stream)
		level = append(level, sample{name, float64(slices.Index([]Level{OK, Warning, Failing}, s.Level))})
		for _, a := range []struct {
			what string
			age  *Age
		}{{"build", s.Build}, {"accepted", s.Accepted}, {"published", s.Published}} {
			if a.age != nil && !a.age.At.IsZero() {
				age = append(age, sample{name + ",what=" + quote(a.what), r.Made.Sub(a.age.At).Seconds()})
			}
		}
		for _, g := range s.Gates {
			value := -1.0 // pending
			switch g.State {
			case controller.JobSucceeded:
				value = 1
			case controller.JobFailed:
				value = 0
			}
			gate = append(gate, sample{fmt.Sprintf("%s,gate=%s,blocking=\"%t\"", name, quote(g.Name), g.Blocking), value})
		}
		gaps = append(gaps, sample{name, float64(len(s.Gaps))})
		stale = append(stale, sample{name, float64(len(s.BootImages))})
		faults = append(faults, sample{name, float64(len(s.Faults))})
		if s.Against != nil {
			behind = append(behind, sample{name, float64(len(s.Against.Behind) + len(s.Against.Missing))})
		}
	}
	emit("level", "Readiness of the stream: 0 ok, 1 warning, 2 failing.", level)
	emit("age_seconds", "Age of the last build, accepted build and published release.", age)
	emit("gate", "Last result of the gate: 1 passed, 0 failed, -1 pending.", gate)
	emit("missing_updates", "Updates that clusters miss.", gaps)
	emit("stale_boot_images", "Boot images that are too old.", stale)
	emit("packages_behind", "Packages older than in the reference image, or missing.", behind)
	emit("faults", "Things that could not be found out.", faults)
	return b.Flush()
}

// quote makes the value of a label.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(text, "\uFFFD")) + `"`
}
