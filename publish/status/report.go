package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/okd-project/okd-streams/internal/rpmdb"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
)

// The limits of ages, and of how far a report looks back.
const (
	// DefaultWarnAfter and DefaultFailAfter are how old the last build and the
	// last accepted one may be.
	DefaultWarnAfter = 48 * time.Hour
	DefaultFailAfter = 72 * time.Hour
	// DefaultBootImageAge is how old boot images may be.
	DefaultBootImageAge = 90 * 24 * time.Hour
	// DefaultDays is how many days a report looks back.
	DefaultDays = 90
)

// Level is how ready a stream is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // someone should look
	Failing Level = "failing" // it cannot be released
)

// worse gives the worse of two levels.
func worse(a, b Level) Level {
	rank := func(l Level) int { return slices.Index([]Level{OK, Warning, Failing}, l) }
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// Options are options of [New]; nil and the zero value are useful.
type Options struct {
	// WarnAfter and FailAfter are the ages of the last build and the last
	// accepted one; 0: [DefaultWarnAfter], [DefaultFailAfter].
	WarnAfter, FailAfter time.Duration
	// PublishedAfter is the age of the last published release that is a
	// warning; 0: never, since streams are promoted by sprint.
	PublishedAfter time.Duration
	// BootImageAge is how old boot images may be; 0: [DefaultBootImageAge].
	BootImageAge time.Duration
	// Days is how many days back builds are listed; 0: [DefaultDays].
	Days int
}

func (o *Options) orDefault() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.WarnAfter = cmp.Or(out.WarnAfter, DefaultWarnAfter)
	out.FailAfter = cmp.Or(out.FailAfter, DefaultFailAfter)
	out.BootImageAge = cmp.Or(out.BootImageAge, DefaultBootImageAge)
	out.Days = cmp.Or(out.Days, DefaultDays)
	return out
}

// Report is the readiness of streams.
type Report struct {
	Made    time.Time      `json:"made"`  // as of when, UTC
	Level   Level          `json:"level"` // the worst of the streams
	Streams []StreamReport `json:"streams"`
}

// StreamReport is the readiness of one stream.
type StreamReport struct {
	Stream  string   `json:"stream"`
	Title   string   `json:"title"`
	Level   Level    `json:"level"`
	Reasons []Reason `json:"reasons,omitempty"` // worst first

	Build     *Age `json:"build,omitempty"`     // the newest
	Accepted  *Age `json:"accepted,omitempty"`  // the newest accepted
	Published *Age `json:"published,omitempty"` // the newest published

	Days  []Day        `json:"days"`  // newest first
	Gates []GateReport `json:"gates"` // blocking ones first, then by name

	// Against is the newest build that was looked into beside the reference.
	Against    *Comparison `json:"against,omitempty"`
	BootImages []StaleBoot `json:"staleBootImages,omitempty"`
	Gaps       []graph.Gap `json:"missingUpdates,omitempty"`
	Faults     []string    `json:"faults,omitempty"`
}

// Reason is why a stream is not ready, in words.
type Reason struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

// Age is how old something is.
type Age struct {
	Version string    `json:"version"`
	At      time.Time `json:"at"`    // UTC; zero: not known
	Hours   float64   `json:"hours"` // from At until [Report.Made]
	Level   Level     `json:"level"`
}

// Day are the builds of a day in UTC.
type Day struct {
	Date   string        `json:"date"`   // 2006-01-02; empty: not known
	Builds []BuildReport `json:"builds"` // newest first
}

// BuildReport is a build and its gates.
type BuildReport struct {
	Version string                      `json:"version"`
	Phase   controller.Phase            `json:"phase"`
	Created time.Time                   `json:"created,omitzero"`
	Gates   map[string]controller.State `json:"gates,omitempty"`
}

// GateReport is the history of a gate.
type GateReport struct {
	Name     string `json:"name"`
	Blocking bool   `json:"blocking"`
	// State is its last result; results that are pending do not count, unless
	// there is no other.
	State   controller.State `json:"state"`
	URL     string           `json:"url,omitempty"`
	History []Result         `json:"history"` // newest first
	Passed  int              `json:"passed"`
	Failed  int              `json:"failed"`
	// Broken is what happened to a red gate.
	Broken *Broken `json:"broken,omitempty"`
}

// Result is a result of a gate.
type Result struct {
	Version string           `json:"version"`
	State   controller.State `json:"state"`
	URL     string           `json:"url,omitempty"`
}

// Broken says between which builds a gate became red, and what changed.
type Broken struct {
	LastGreen string    `json:"lastGreen,omitempty"`  // empty: never green in the time looked at
	At        time.Time `json:"lastGreenAt,omitzero"` // when LastGreen was made; zero: not known
	FirstRed  string    `json:"firstRed"`
	// Packages and Commits changed from LastGreen to FirstRed. Known is false
	// where nobody looked into both.
	Known    bool                       `json:"known"`
	Packages *payload.PackageDifference `json:"packages,omitempty"`
	Commits  []CommitChange             `json:"commits,omitempty"`
}

// CommitChange is a component made of another commit; From or To is empty where
// it came or went.
type CommitChange struct {
	Component string `json:"component"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
}

// Comparison is a node image beside another, the reference.
type Comparison struct {
	Version   string   `json:"version"`
	Reference string   `json:"reference"`         // its version or pullspec
	Same      int      `json:"same"`              // packages in the same version
	Ahead     []Beside `json:"ahead,omitempty"`   // newer than the reference's
	Behind    []Beside `json:"behind,omitempty"`  // older than the reference's
	Missing   []string `json:"missing,omitempty"` // packages that the reference alone has
	Extra     []string `json:"extra,omitempty"`   // packages that it has not
}

// Beside is a package that both have, in another version.
type Beside struct {
	Name      string `json:"name"`
	Version   string `json:"version"`   // epoch:version-release
	Reference string `json:"reference"` // the same, there
}

// StaleBoot is a boot image that is too old.
type StaleBoot struct {
	Name    string  `json:"name"`    // architecture, platform
	Release string  `json:"release"` // of the operating system
	Days    float64 `json:"days"`    // its age
}

// New makes the report of histories as of now. opts may be nil.
func New(histories []History, now time.Time, opts *Options) *Report {
	o := opts.orDefault()
	r := &Report{Made: now.UTC(), Level: OK, Streams: make([]StreamReport, 0, len(histories))}
	for _, h := range histories {
		s := h.report(now, &o)
		r.Level = worse(r.Level, s.Level)
		r.Streams = append(r.Streams, s)
	}
	return r
}

// sorted gives the builds newest first, each version once.
func (h *History) sorted() []Build {
	byVersion := map[string]Build{}
	for _, b := range h.Builds {
		byVersion[b.Version] = b
	}
	return slices.SortedFunc(maps.Values(byVersion), func(a, b Build) int {
		if !a.Created.IsZero() && !b.Created.IsZero() {
			if c := b.Created.Compare(a.Created); c != 0 {
				return c
			}
		}
		return graph.Compare(b.Version, a.Version)
	})
}

func (h *History) report(now time.Time, o *Options) StreamReport {
	s := StreamReport{Stream: h.Stream, Title: cmp.Or(h.Title, h.Stream), Level: OK, Gaps: h.Gaps, Faults: h.Faults, Days: []Day{}, Gates: []GateReport{}}
	reason := func(l Level, format string, args ...any) {
		s.Level = worse(s.Level, l)
		s.Reasons = append(s.Reasons, Reason{l, fmt.Sprintf(format, args...)})
	}
	builds := h.sorted()
	s.Build = age(builds, now, o, func(Build) bool { return true })
	s.Accepted = age(builds, now, o, func(b Build) bool { return b.Phase == controller.Accepted })
	for _, a := range []struct {
		what string
		age  *Age
	}{{"build", s.Build}, {"accepted build", s.Accepted}} {
		switch {
		case a.age == nil:
			reason(Failing, "there is no %s", a.what)
		case a.age.At.IsZero():
			reason(Warning, "nobody knows when the last %s, %s, was made", a.what, a.age.Version)
		case a.age.Level != OK:
			reason(a.age.Level, "the last %s, %s, is %s old", a.what, a.age.Version, hours(a.age.Hours))
		}
	}
	h.published(&s, now, o, reason)
	s.days(builds, now, o)
	h.gates(&s, builds, reason)
	if h.Reference != nil {
		h.against(&s, builds, reason)
	}
	for _, b := range h.BootImages {
		if a := now.Sub(b.Built); a > o.BootImageAge {
			s.BootImages = append(s.BootImages, StaleBoot{Name: b.Name, Release: b.Release, Days: round(a.Hours() / 24)})
		}
	}
	if n := len(s.BootImages); n > 0 {
		reason(Warning, "%s older than %s", count(n, "boot image is", "boot images are"), hours(o.BootImageAge.Hours()))
	}
	if n := len(h.Gaps); n > 0 {
		reason(Warning, "%s missing", count(n, "update is", "updates are"))
	}
	if n := len(h.Faults); n > 0 {
		reason(Warning, "%s not be found out", count(n, "thing could", "things could"))
	}
	slices.SortStableFunc(s.Reasons, func(a, b Reason) int {
		return slices.Index([]Level{Failing, Warning}, a.Level) - slices.Index([]Level{Failing, Warning}, b.Level)
	})
	return s
}

// age is that of the newest build that counts.
func age(builds []Build, now time.Time, o *Options, counts func(Build) bool) *Age {
	i := slices.IndexFunc(builds, counts)
	if i < 0 {
		return nil
	}
	a := &Age{Version: builds[i].Version, At: builds[i].Created.UTC(), Level: OK}
	if builds[i].Created.IsZero() {
		a.At, a.Level = time.Time{}, Warning
		return a
	}
	d := now.Sub(builds[i].Created)
	a.Hours = round(d.Hours())
	switch {
	case d >= o.FailAfter:
		a.Level = Failing
	case d >= o.WarnAfter:
		a.Level = Warning
	}
	return a
}

func (h *History) published(s *StreamReport, now time.Time, o *Options, reason func(Level, string, ...any)) {
	if len(h.Published) == 0 {
		if h.Published != nil {
			reason(Warning, "nothing was ever published")
		}
		return
	}
	last := slices.MaxFunc(h.Published, func(a, b Published) int {
		return cmp.Or(a.At.Compare(b.At), graph.Compare(a.Version, b.Version))
	})
	d := now.Sub(last.At)
	s.Published = &Age{Version: last.Version, At: last.At.UTC(), Hours: round(d.Hours()), Level: OK}
	if o.PublishedAfter > 0 && d >= o.PublishedAfter {
		s.Published.Level = Warning
		reason(Warning, "the last published release, %s, is %s old", last.Version, hours(d.Hours()))
	}
}

// days puts builds into days.
func (s *StreamReport) days(builds []Build, now time.Time, o *Options) {
	for _, b := range builds {
		date := ""
		if !b.Created.IsZero() {
			if now.Sub(b.Created) > time.Duration(o.Days)*24*time.Hour {
				continue
			}
			date = b.Created.UTC().Format(time.DateOnly)
		}
		if n := len(s.Days); n == 0 || s.Days[n-1].Date != date {
			s.Days = append(s.Days, Day{Date: date})
		}
		r := BuildReport{Version: b.Version, Phase: b.Phase, Created: b.Created.UTC(), Gates: map[string]controller.State{}}
		if b.Created.IsZero() {
			r.Created = time.Time{}
		}
		for _, g := range b.Gates {
			r.Gates[g.Name] = g.State
		}
		day := &s.Days[len(s.Days)-1]
		day.Builds = append(day.Builds, r)
	}
}

// gates makes the history of each gate.
func (h *History) gates(s *StreamReport, builds []Build, reason func(Level, string, ...any)) {
	type seen struct {
		build Build
		gate  Gate
	}
	byName := map[string][]seen{}
	for _, b := range builds {
		for _, g := range b.Gates {
			byName[g.Name] = append(byName[g.Name], seen{b, g})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list := byName[name]
		g := GateReport{Name: name, Blocking: list[0].gate.Blocking, State: list[0].gate.State, URL: list[0].gate.URL}
		green, red, decided := -1, -1, false
		for i, e := range list {
			g.History = append(g.History, Result{Version: e.build.Version, State: e.gate.State, URL: e.gate.URL})
			switch e.gate.State {
			case controller.JobSucceeded:
				g.Passed++
				if green < 0 {
					green = i
				}
			case controller.JobFailed:
				g.Failed++
				if green < 0 {
					red = i // the oldest failure after the last green
				}
			case Waived:
			default:
				continue
			}
			if !decided {
				decided = true
				g.State, g.URL = e.gate.State, e.gate.URL
			}
		}
		if g.State == Waived {
			reason(Warning, "gate %s is waived", name)
		}
		if g.State == controller.JobFailed {
			g.Broken = &Broken{FirstRed: list[red].build.Version}
			if green >= 0 {
				g.Broken.compare(list[green].build, list[red].build)
			}
			level, since := Warning, ""
			if g.Blocking {
				level = Failing
			}
			if g.Broken.LastGreen != "" {
				since = "; last green " + g.Broken.LastGreen
			}
			reason(level, "gate %s is red since %s%s", name, g.Broken.FirstRed, since)
		}
		s.Gates = append(s.Gates, g)
	}
	slices.SortFunc(s.Gates, func(a, b GateReport) int {
		if a.Blocking != b.Blocking {
			if a.Blocking {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
}

// compare notes what changed.
func (b *Broken) compare(green, red Build) {
	b.LastGreen, b.At = green.Version, green.Created.UTC()
	if green.Created.IsZero() {
		b.At = time.Time{}
	}
	if green.Content == nil || red.Content == nil {
		return
	}
	b.Known = true
	b.Packages = payload.ComparePackages(green.Content.Packages, red.Content.Packages)
	from, to := green.Content.Commits, red.Content.Commits
	names := maps.Clone(from)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, to)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if from[name] != to[name] {
			b.Commits = append(b.Commits, CommitChange{name, from[name], to[name]})
		}
	}
}

// against compares the newest build that was looked into with the reference.
func (h *History) against(s *StreamReport, builds []Build, reason func(Level, string, ...any)) {
	i := slices.IndexFunc(builds, func(b Build) bool { return b.Content != nil && len(b.Content.Packages) > 0 })
	if i < 0 {
		reason(Warning, "nobody looked into a build to compare it with %s", h.Reference.Name)
		return
	}
	s.Against = compareImages(builds[i], h.Reference)
}

func compareImages(b Build, reference *Content) *Comparison {
	c := &Comparison{Version: b.Version, Reference: reference.Name}
	newest := func(list []payload.Package) map[string]payload.Package {
		out := map[string]payload.Package{}
		for _, p := range list {
			// Of kernels and keys there may be several.
			if old, ok := out[p.Name]; !ok || compareEVR(p, old) > 0 {
				out[p.Name] = p
			}
		}
		return out
	}
	ours, theirs := newest(b.Content.Packages), newest(reference.Packages)
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		p := ours[name]
		q, ok := theirs[name]
		switch n := compareEVR(p, q); {
		case !ok:
			c.Extra = append(c.Extra, name)
		case n > 0:
			c.Ahead = append(c.Ahead, Beside{name, p.EVR(), q.EVR()})
		case n < 0:
			c.Behind = append(c.Behind, Beside{name, p.EVR(), q.EVR()})
		default:
			c.Same++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		if _, ok := ours[name]; !ok {
			c.Missing = append(c.Missing, name)
		}
	}
	return c
}

func compareEVR(a, b payload.Package) int {
	return rpmdb.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release)
}

// round keeps a tenth, so that reports differ by what happened alone.
func round(x float64) float64 { return float64(int64(x*10+0.5)) / 10 }

// hours is an age in words.
func hours(h float64) string {
	if h >= 96 {
		return fmt.Sprintf("%.0f days", h/24)
	}
	return fmt.Sprintf("%.0f hours", h)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
