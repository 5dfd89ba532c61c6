package container

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/okd-project/okd-streams/internal/rpmdb"
	"github.com/okd-project/okd-streams/ostree"
)

// ErrRegression is what [Regression.Err] wraps: a required package is gone, or
// one went back.
var ErrRegression = errors.New("packages regress")

// RegressionOptions are for [CheckRegression].
type RegressionOptions struct {
	// Required are names of packages that must not go; nil: those of Forward.
	// What was not there before may stay away.
	Required []string
	// Forward are names of packages whose version must not go back; nil: cri-o,
	// kernel, kubelet (openshift-kubelet too), runc and systemd.
	Forward []string
	// Allowed are names for which either is accepted, and only reported.
	Allowed []string
}

// forward are the packages that hold a node together.
func forwardPackages() []string {
	return []string{"cri-o", "kernel", "kubelet", "openshift-kubelet", "runc", "systemd"}
}

// Regression is how the packages of one operating system differ from those of
// the one before. Lists are sorted by name, the packages that must not go back
// first. Its JSON has the names of the fields, in lower case.
type Regression struct {
	// Faults say what must not be; none: the check passed.
	Faults     []RegressionFault `json:"faults"`
	Downgraded []VersionStep     `json:"downgraded"`
	Upgraded   []VersionStep     `json:"upgraded"`
	// Changed are versions written differently that are equal in RPM's order.
	Changed []VersionStep `json:"changed"`
	Removed []VersionStep `json:"removed"`
	Added   []VersionStep `json:"added"`
	// Same is how many packages did not change.
	Same int `json:"same"`
}

// RegressionFault is a reason to hold an operating system back.
type RegressionFault struct {
	VersionStep
	Reason string `json:"reason"` // "required package is gone", "downgraded"
}

// VersionStep is a package in two versions, as "epoch:version-release"; "" in
// the one that doesn't have it.
type VersionStep struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// CheckRegression compares the packages of an operating system with those of
// the one before, in RPM's order of versions. Of several versions of a package,
// kernels for instance, and of several architectures the newest counts.
func CheckRegression(from, to []ostree.Package, opts *RegressionOptions) *Regression {
	if opts == nil {
		opts = &RegressionOptions{}
	}
	forward := opts.Forward
	if forward == nil {
		forward = forwardPackages()
	}
	required := opts.Required
	if required == nil {
		required = forward
	}
	r := &Regression{
		Faults: []RegressionFault{}, Downgraded: []VersionStep{}, Upgraded: []VersionStep{}, Changed: []VersionStep{},
		Removed: []VersionStep{}, Added: []VersionStep{},
	}
	before, after := newestByName(from), newestByName(to)
	fault := func(names []string, s VersionStep, reason string) {
		if slices.Contains(names, s.Name) && !slices.Contains(opts.Allowed, s.Name) {
			r.Faults = append(r.Faults, RegressionFault{s, reason})
		}
	}
	for name, old := range before {
		s := VersionStep{Name: name, From: old.EVR()}
		now, ok := after[name]
		if !ok {
			r.Removed = append(r.Removed, s)
			fault(required, s, "required package is gone")
			continue
		}
		s.To = now.EVR()
		switch order := compareEVR(old, now); {
		case order < 0:
			r.Upgraded = append(r.Upgraded, s)
		case order > 0:
			r.Downgraded = append(r.Downgraded, s)
			fault(forward, s, "downgraded")
		case s.From != s.To:
			r.Changed = append(r.Changed, s)
		default:
			r.Same++
		}
	}
	for name, now := range after {
		if before[name] == nil {
			r.Added = append(r.Added, VersionStep{Name: name, To: now.EVR()})
		}
	}
	first := func(name string) int {
		if i := slices.Index(forward, name); i >= 0 {
			return i
		}
		return len(forward)
	}
	order := func(a, b VersionStep) int {
		return cmp.Or(cmp.Compare(first(a.Name), first(b.Name)), strings.Compare(a.Name, b.Name))
	}
	for _, list := range [][]VersionStep{r.Downgraded, r.Upgraded, r.Changed, r.Removed, r.Added} {
		slices.SortFunc(list, order)
	}
	slices.SortFunc(r.Faults, func(a, b RegressionFault) int { return order(a.VersionStep, b.VersionStep) })
	return r
}

func compareEVR(a, b *ostree.Package) int {
	return rpmdb.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release)
}

func newestByName(list []ostree.Package) map[string]*ostree.Package {
	out := make(map[string]*ostree.Package, len(list))
	for i := range list {
		p := list[i]
		if p.Epoch == "0" {
			p.Epoch = "" // as most lists have it
		}
		// Of equal ones the same is taken whatever the order of the list.
		if have := out[p.Name]; have == nil || cmp.Or(compareEVR(have, &p), strings.Compare(have.EVR(), p.EVR())) < 0 {
			out[p.Name] = &p
		}
	}
	return out
}

// Err joins the faults, each an *[Error] that names the package; the whole wraps
// [ErrRegression]. nil: the check passed.
func (r *Regression) Err() error {
	var errs []error
	for _, f := range r.Faults {
		text := f.Reason + ", was " + f.From
		if f.To != "" {
			text += ", is " + f.To
		}
		errs = append(errs, &Error{"regression", printable(f.Name), fmt.Errorf("%w: %s", ErrRegression, printable(text))})
	}
	return errors.Join(errs...)
}

// sections are the lists with their headings.
func (r *Regression) sections() []regressionSection {
	return []regressionSection{
		{"Downgraded", r.Downgraded}, {"Upgraded", r.Upgraded}, {"Changed", r.Changed}, {"Removed", r.Removed}, {"Added", r.Added},
	}
}

type regressionSection struct {
	heading string
	list    []VersionStep
}

// WriteText writes the report for people: faults, then what changed.
func (r *Regression) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, f := range r.Faults {
		fmt.Fprintf(b, "FAULT %s: %s (%s)\n", printable(f.Name), f.Reason, printable(arrow(f.VersionStep)))
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(b, "no regression")
	}
	for _, s := range r.sections() {
		if len(s.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s (%d):\n", s.heading, len(s.list))
		for _, p := range s.list {
			fmt.Fprintf(b, "  %s %s\n", printable(p.Name), printable(arrow(p)))
		}
	}
	fmt.Fprintf(b, "\n%d packages did not change\n", r.Same)
	return b.Flush()
}

// WriteMarkdown writes the report as a Markdown document without title: the
// faults as a list, each kind of change as a table.
func (r *Regression) WriteMarkdown(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, f := range r.Faults {
		fmt.Fprintf(b, "- **%s**: %s (%s)\n", markdown(f.Name), f.Reason, markdown(arrow(f.VersionStep)))
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(b, "No regression.")
	}
	for _, s := range r.sections() {
		if len(s.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s (%d)\n\n| package | from | to |\n|---|---|---|\n", s.heading, len(s.list))
		for _, p := range s.list {
			fmt.Fprintf(b, "| %s | %s | %s |\n", markdown(p.Name), markdown(p.From), markdown(p.To))
		}
	}
	fmt.Fprintf(b, "\n%d packages did not change.\n", r.Same)
	return b.Flush()
}

func arrow(s VersionStep) string {
	switch {
	case s.To == "":
		return s.From
	case s.From == "":
		return s.To
	}
	return s.From + " -> " + s.To
}

// printable keeps text of a package database from controlling a terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// markdown escapes what would be more than text.
func markdown(s string) string {
	var out strings.Builder
	for _, r := range printable(s) {
		if strings.ContainsRune("\\`*_{}[]<>|~&#", r) {
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}
