package stream

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/blang/semver/v4"
)

// Scheme is a way to write versions. Each text belongs to at most one scheme.
type Scheme string

// The schemes of the OKD world. The first three name operating-system builds,
// the others releases (payloads).
const (
	// SchemeSCOSBuild is 413.9.202303050612-0: OpenShift 4.13 in one number,
	// Enterprise Linux 9 (92 is 9.2), UTC minute, count. SCOS and RHCOS before
	// the base layer was split off.
	SchemeSCOSBuild Scheme = "scos-build"
	// SchemeSCOSBase is 9.0.20250222-0, dev builds 9.0.20260926-dev0: the base
	// layer of SCOS and RHCOS.
	SchemeSCOSBase Scheme = "scos-base"
	// SchemeFCOS is 39.20240112.3.0: Fedora release, date, stream number (1
	// next, 2 testing, 3 stable, 10 next-devel, 20 testing-devel, 91 rawhide,
	// …), count. Dev builds are 39.20240112.3.dev0 or 39.20240112.dev.0.
	SchemeFCOS Scheme = "fcos"

	// SchemeSample is 0.0.0-sample.20261125, the second of a day
	// 0.0.0-sample.20261125.1: releases that are made to try the tools.
	SchemeSample Scheme = "sample"
	// SchemeOKD is 4.12.0-0.okd-2023-04-16-041331: OKD on Fedora CoreOS.
	SchemeOKD Scheme = "okd"
	// SchemeSCOSCI is 4.13.0-0.okd-scos-2023-02-28-060912: OKD on SCOS as CI
	// makes it; until November 2024 also the name of stable releases.
	SchemeSCOSCI Scheme = "okd-scos-ci"
	// SchemeSCOSNightly is 4.22.0-0.okd-scos-nightly-2026-06-10-015300.
	SchemeSCOSNightly Scheme = "okd-scos-nightly"
	// SchemeSCOSCandidate is 4.22.0-okd-scos.ec.3: early candidates, the
	// releases of the stream "next".
	SchemeSCOSCandidate Scheme = "okd-scos-ec"
	// SchemeSCOS is 4.21.0-okd-scos.4: stable releases since November 2024.
	SchemeSCOS Scheme = "okd-scos"
)

// Schemes are all schemes: operating-system builds first, then releases as
// they follow each other for one X.Y.Z.
func Schemes() []Scheme {
	return []Scheme{
		SchemeSCOSBuild, SchemeSCOSBase, SchemeFCOS,
		SchemeSample, SchemeOKD, SchemeSCOSCI, SchemeSCOSNightly, SchemeSCOSCandidate, SchemeSCOS,
	}
}

// rank is the place in [Schemes], -1 for an unknown scheme.
func (s Scheme) rank() int {
	for i, x := range Schemes() {
		if x == s {
			return i
		}
	}
	return -1
}

// OS reports whether s names operating-system builds rather than releases.
func (s Scheme) OS() bool {
	return s == SchemeSCOSBuild || s == SchemeSCOSBase || s == SchemeFCOS
}

// UnmarshalText accepts the name of a scheme.
func (s *Scheme) UnmarshalText(text []byte) error {
	if Scheme(text).rank() < 0 {
		return oneOf("version scheme", string(text), names(Schemes())...)
	}
	*s = Scheme(text)
	return nil
}

const (
	stampMinute = "200601021504"
	stampDay    = "20060102"
	stampSecond = "2006-01-02-150405"
)

// stamp is the layout of Version.Time, "" for counted schemes.
func (s Scheme) stamp() string {
	switch s {
	case SchemeSCOSBuild:
		return stampMinute
	case SchemeSCOSBase, SchemeFCOS, SchemeSample:
		return stampDay
	case SchemeOKD, SchemeSCOSCI, SchemeSCOSNightly:
		return stampSecond
	}
	return ""
}

// unit is the precision of Version.Time.
func (s Scheme) unit() time.Duration {
	switch s.stamp() {
	case stampMinute:
		return time.Minute
	case stampDay:
		return 24 * time.Hour
	}
	return time.Second
}

// infix is what follows X.Y.Z in releases, and precedes time or count.
func (s Scheme) infix() string {
	switch s {
	case SchemeSample:
		return "-sample."
	case SchemeOKD:
		return "-0.okd-"
	case SchemeSCOSCI:
		return "-0.okd-scos-"
	case SchemeSCOSNightly:
		return "-0.okd-scos-nightly-"
	case SchemeSCOSCandidate:
		return "-okd-scos.ec."
	case SchemeSCOS:
		return "-okd-scos."
	}
	return ""
}

// Version is a version of some [Scheme]. It is comparable; two versions are
// the same exactly when their texts are. Versions made by hand rather than
// parsed are checked by [Scheme.Format].
type Version struct {
	Scheme Scheme
	// Major, Minor, Patch are X, Y, Z of a release. Of SCOS builds, Major and
	// Minor are of OpenShift (413 is 4.13), of SCOS bases of Enterprise Linux.
	// Of FCOS, Major is Fedora's release and Patch the stream number, -1 where
	// the text says "dev" in its place. Each at most 999,999,999.
	Major, Minor, Patch int
	// EL is the Enterprise Linux number of a SCOS build as written: 9, 92.
	EL int
	// Time is UTC, to the minute (SCOS builds), second (CI, nightly) or day;
	// zero in counted schemes.
	Time time.Time
	// N counts: builds of one day or minute, releases of one X.Y.Z.
	N int
	// Dev is set in developer builds (devN); only operating-system builds.
	Dev bool
}

// ParseVersion finds the scheme of text. The error wraps
// [errors.ErrUnsupported] if no scheme has such versions.
func ParseVersion(text string) (Version, error) {
	for _, s := range Schemes() {
		if v, err := s.Parse(text); err == nil {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("stream: version %.80q is of no known scheme: %w", text, errors.ErrUnsupported)
}

// Parse reads a version of this scheme. It accepts only what [Scheme.Format]
// writes: no leading zeros, no impossible dates.
func (s Scheme) Parse(text string) (Version, error) {
	v := Version{Scheme: s}
	if s.rank() < 0 {
		return Version{}, fmt.Errorf("stream: version scheme %.80q: %w", string(s), errors.ErrUnsupported)
	}
	if len(text) > 80 || !v.parse(text) || v.String() != text {
		return Version{}, fmt.Errorf("stream: version %.80q is not of scheme %s (as %s)", text, s, s.sample())
	}
	return v, nil
}

// parse fills v; what it lets through is compared with the formatted text.
func (v *Version) parse(text string) bool {
	if !v.Scheme.OS() {
		head, tail, ok := strings.Cut(text, v.Scheme.infix())
		if !ok || !v.parseTriple(head) {
			return false
		}
		if v.Scheme == SchemeSample {
			day, n, more := strings.Cut(tail, ".")
			return (!more || parseInt(n, &v.N)) && v.parseTime(day)
		}
		if v.Scheme.stamp() != "" {
			return v.parseTime(tail)
		}
		return parseInt(tail, &v.N)
	}
	f := strings.Split(text, ".")
	if v.Scheme == SchemeFCOS {
		if len(f) != 4 || !parseInt(f[0], &v.Major) || !v.parseTime(f[1]) {
			return false
		}
		if f[2] == "dev" {
			v.Patch, v.Dev = -1, true
			return parseInt(f[3], &v.N)
		}
		return parseInt(f[2], &v.Patch) && v.parseCount(f[3])
	}
	if len(f) != 3 {
		return false
	}
	stamp, count, ok := strings.Cut(f[2], "-")
	if !ok || !v.parseTime(stamp) || !v.parseCount(count) {
		return false
	}
	if v.Scheme == SchemeSCOSBase {
		// Enterprise Linux; 413 would be OpenShift.
		return parseInt(f[0], &v.Major) && v.Major < 100 && parseInt(f[1], &v.Minor)
	}
	return len(f[0]) > 1 && f[0][0] != '0' && parseInt(f[0][:1], &v.Major) && parseInt(f[0][1:], &v.Minor) && parseInt(f[1], &v.EL)
}

func (v *Version) parseTriple(text string) bool {
	f := strings.Split(text, ".")
	return len(f) == 3 && parseInt(f[0], &v.Major) && parseInt(f[1], &v.Minor) && parseInt(f[2], &v.Patch)
}

func (v *Version) parseTime(text string) bool {
	t, err := time.ParseInLocation(v.Scheme.stamp(), text, time.UTC)
	v.Time = t
	return err == nil && t.Year() >= 1970
}

func (v *Version) parseCount(text string) bool {
	n, dev := strings.CutPrefix(text, "dev")
	v.Dev = dev
	return parseInt(n, &v.N)
}

const maxNumber = 999_999_999

func parseInt(text string, to *int) bool {
	if text == "" || len(text) > 9 {
		return false
	}
	n := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	*to = n
	return true
}

// sample is one version of the scheme, for messages.
func (s Scheme) sample() string {
	v := Version{Scheme: s, Major: 4, Minor: 21, N: 1, Time: time.Date(2026, 6, 10, 1, 53, 0, 0, time.UTC)}
	switch s {
	case SchemeSCOSBuild:
		v.EL = 9
	case SchemeSCOSBase:
		v.Major, v.Minor = 9, 0
	case SchemeFCOS:
		v.Major, v.Minor, v.Patch = 44, 0, 3
	case SchemeSample:
		v.Major, v.Minor = 0, 0
	}
	return v.String()
}

// Format writes v in this scheme, whatever v.Scheme says. It fails if v has
// what the scheme cannot write.
func (s Scheme) Format(v Version) (string, error) {
	v.Scheme = s
	text := v.String()
	back := Version{Scheme: s}
	if s.rank() < 0 || !back.parse(text) || !back.same(v) {
		return "", fmt.Errorf("stream: scheme %s cannot write version %+v", s, v)
	}
	return text, nil
}

// same reports whether v and o mean the same, with times cut to what the
// scheme writes.
func (v Version) same(o Version) bool {
	return v.Compare(o) == 0 && v.Major == o.Major && v.Minor == o.Minor && v.Patch == o.Patch &&
		v.EL == o.EL && v.N == o.N && v.Dev == o.Dev && (v.Scheme.stamp() != "") == !o.Time.IsZero()
}

// String is the version's text, "" for the zero Version.
func (v Version) String() string {
	stamp := ""
	if layout := v.Scheme.stamp(); layout != "" {
		stamp = v.Time.UTC().Format(layout)
	}
	count := strconv.Itoa(v.N)
	if v.Dev {
		count = "dev" + count
	}
	switch v.Scheme {
	case "":
		return ""
	case SchemeSCOSBuild:
		return fmt.Sprintf("%d%d.%d.%s-%s", v.Major, v.Minor, v.EL, stamp, count)
	case SchemeSCOSBase:
		return fmt.Sprintf("%d.%d.%s-%s", v.Major, v.Minor, stamp, count)
	case SchemeFCOS:
		if v.Patch < 0 {
			return fmt.Sprintf("%d.%s.dev.%d", v.Major, stamp, v.N)
		}
		return fmt.Sprintf("%d.%s.%d.%s", v.Major, stamp, v.Patch, count)
	}
	text := fmt.Sprintf("%d.%d.%d%s%s", v.Major, v.Minor, v.Patch, v.Scheme.infix(), stamp)
	switch {
	case v.Scheme == SchemeSample && v.N != 0:
		return text + "." + count
	case stamp == "":
		return text + count
	}
	return text
}

// MarshalText gives the text, as [Version.String].
func (v Version) MarshalText() ([]byte, error) {
	if v == (Version{}) {
		return nil, nil
	}
	text, err := v.Scheme.Format(v)
	return []byte(text), err
}

// UnmarshalText is [ParseVersion]; empty text gives the zero Version.
func (v *Version) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*v = Version{}
		return nil
	}
	parsed, err := ParseVersion(string(text))
	if err == nil {
		*v = parsed
	}
	return err
}

// Line is X.Y of a release, or of the OpenShift version in a SCOS build; zero
// for builds that do not name one.
func (v Version) Line() Minor {
	if v.Scheme == SchemeSCOSBase || v.Scheme == SchemeFCOS {
		return Minor{}
	}
	return Minor{v.Major, v.Minor}
}

// Compare orders versions as OKD means them, which plain semver order does
// not do (see [CompareSemver]): for one X.Y.Z first samples, then CI and
// nightly builds by time, early candidates, and final releases. Developer
// builds come before the others of their day. Operating-system builds come
// before releases, and by scheme: 413.9.… is older than 9.0.….
//
// It is a total order: 0 means the same version.
func (v Version) Compare(o Version) int {
	if v.Scheme.OS() || o.Scheme.OS() {
		return cmp.Or(
			cmp.Compare(v.Scheme.rank(), o.Scheme.rank()),
			cmp.Compare(v.Major, o.Major),
			cmp.Compare(v.Minor, o.Minor),
			cmp.Compare(v.EL, o.EL),
			v.compareTime(o),
			cmp.Compare(v.Patch, o.Patch),
			compareFalse(v.Dev, o.Dev),
			cmp.Compare(v.N, o.N),
		)
	}
	return cmp.Or(
		cmp.Compare(v.Major, o.Major),
		cmp.Compare(v.Minor, o.Minor),
		cmp.Compare(v.Patch, o.Patch),
		cmp.Compare(v.Scheme.tier(), o.Scheme.tier()),
		v.compareTime(o),
		cmp.Compare(v.N, o.N),
		cmp.Compare(v.Scheme.rank(), o.Scheme.rank()),
		cmp.Compare(v.Scheme, o.Scheme),
	)
}

// tier is the place of a release scheme within one X.Y.Z.
func (s Scheme) tier() int {
	switch s {
	case SchemeOKD, SchemeSCOSCI, SchemeSCOSNightly:
		return SchemeOKD.rank()
	}
	return s.rank()
}

func (v Version) compareTime(o Version) int {
	// Cut to what the scheme writes, so that Compare agrees with the text.
	return v.Time.Truncate(v.Scheme.unit()).Compare(o.Time.Truncate(o.Scheme.unit()))
}

func compareFalse(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a: // developer builds first
		return -1
	}
	return 1
}

// CompareSemver orders two texts as semantic versions, as the cluster-version
// operator, oc and Cincinnati do. Beware: for one X.Y.Z, okd-scos.ec.4 sorts
// above okd-scos.10, and 0.okd-scos-nightly-… above 0.okd-scos-2….
// FCOS versions have four numbers and are no semantic versions: an error.
func CompareSemver(a, b string) (int, error) {
	x, err := semver.Parse(a)
	if err != nil {
		return 0, fmt.Errorf("stream: semantic version %.80q: %w", a, err)
	}
	y, err := semver.Parse(b)
	if err != nil {
		return 0, fmt.Errorf("stream: semantic version %.80q: %w", b, err)
	}
	return x.Compare(y), nil
}

// Next gives the version of this scheme that follows the existing ones, which
// may be of any scheme: their highest X.Y.Z counts, so a picked nightly beside
// the released versions moves X.Y.Z on. Of operating-system builds only those
// of this scheme count. It is [Scheme.NextFor] with that base, and fails where
// there is none (samples need none).
func (s Scheme) Next(existing []Version, now time.Time) (Version, error) {
	base := Version{}
	found := s == SchemeSample
	for _, v := range existing {
		usable := v.Scheme == s || !s.OS() && v.Scheme.rank() >= 0 && !v.Scheme.OS() && s != SchemeSample && v.Scheme != SchemeSample
		if !usable {
			continue
		}
		higher := cmp.Or(cmp.Compare(v.Major, base.Major), cmp.Compare(v.Minor, base.Minor), cmp.Compare(v.EL, base.EL), cmp.Compare(v.Patch, base.Patch)) > 0
		if !found || higher {
			base, found = v, true
		}
	}
	if !found {
		return Version{}, fmt.Errorf("stream: next %s: no existing version to follow; name X.Y.Z", s)
	}
	base.Dev = false
	return s.NextFor(base, existing, now)
}

// NextFor gives the next version of this scheme for base, of which it takes
// Major, Minor, Patch, EL and Dev. Counted schemes give one more than the
// highest existing N of the same X.Y.Z, or 0. Timed schemes give now, or where
// something as late exists (a clock that stands or went back) the moment or
// count after it. The result is above all existing ones of its scheme and
// X.Y.Z, so that no name is used twice; existing must hold the withdrawn and
// rejected ones too.
func (s Scheme) NextFor(base Version, existing []Version, now time.Time) (Version, error) {
	v := Version{Scheme: s, Major: base.Major, Minor: base.Minor, Patch: base.Patch}
	switch s {
	case SchemeSCOSBuild:
		v.EL, v.Patch, v.Dev = base.EL, 0, base.Dev
	case SchemeSCOSBase:
		v.Patch, v.Dev = 0, base.Dev
	case SchemeFCOS:
		v.Minor, v.Dev = 0, base.Dev || base.Patch < 0
	}
	if layout := s.stamp(); layout != "" {
		v.Time = now.UTC().Truncate(s.unit())
	}
	counted := s.stamp() != stampSecond
	for _, o := range existing {
		if o.Scheme != s || o.Major != v.Major || o.Minor != v.Minor || o.Patch != v.Patch || o.EL != v.EL || o.Dev != v.Dev {
			continue
		}
		if o.Compare(v) < 0 {
			continue
		}
		v.Time = o.Time
		if counted {
			v.N = o.N + 1
		} else {
			v.Time = o.Time.Add(time.Second)
		}
	}
	if v.N > maxNumber || v.Time.Year() > 9999 {
		return Version{}, fmt.Errorf("stream: next %s: no number or date left after %s", s, v)
	}
	if _, err := s.Format(v); err != nil {
		return Version{}, err
	}
	return v, nil
}

// Minor is X.Y: what a profile and a channel are for.
type Minor struct{ Major, Minor int }

// ParseMinor reads "X.Y", "X.Y.Z" or the text of any release and keeps X.Y.
func ParseMinor(text string) (Minor, error) {
	if v, err := ParseVersion(text); err == nil && v.Scheme != SchemeSCOSBase && v.Scheme != SchemeFCOS {
		return v.Line(), nil
	}
	f := strings.Split(text, ".")
	m, patch := Minor{}, 0
	if (len(f) == 2 || len(f) == 3) && parseInt(f[0], &m.Major) && parseInt(f[1], &m.Minor) &&
		(len(f) == 2 || parseInt(f[2], &patch)) && strings.HasPrefix(text, m.String()) {
		return m, nil
	}
	return Minor{}, fmt.Errorf("stream: version %.80q has no X.Y", text)
}

// String is "X.Y".
func (m Minor) String() string { return fmt.Sprintf("%d.%d", m.Major, m.Minor) }

// Compare orders by Major, then Minor.
func (m Minor) Compare(o Minor) int {
	return cmp.Or(cmp.Compare(m.Major, o.Major), cmp.Compare(m.Minor, o.Minor))
}

// MarshalText gives "X.Y".
func (m Minor) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts exactly "X.Y".
func (m *Minor) UnmarshalText(text []byte) error {
	x, err := ParseMinor(string(text))
	if err != nil || x.String() != string(text) {
		return hinted(fmt.Errorf("%.80q is not a version X.Y", text), `write major and minor in quotes, as "4.20"`)
	}
	*m = x
	return nil
}
