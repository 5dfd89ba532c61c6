package bootimage

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// OSVersion is what the version of an operating system's build tells.
type OSVersion struct {
	Text string `json:"text"`
	// Fedora is the number of its release; 0: the system is of the RHEL family.
	Fedora int `json:"fedora,omitempty"`
	// Major and Minor are RHEL's or CentOS Stream's: 9 and 4. CentOS Stream's minor
	// is 0.
	Major int `json:"major,omitempty"`
	Minor int `json:"minor,omitempty"`
	// OpenShift is the minor version that builds before 4.19 are of, as in 4.18;
	// "": the build is of none.
	OpenShift string    `json:"openshift,omitempty"`
	Date      time.Time `json:"date"` // of the build, to the day
}

var (
	rePacked = lazyregexp.New(`^4(\d{1,2})(?:devel)?\.(\d)(\d{0,2})\.(\d{8})\d{0,6}(?:[.-].*)?$`) // 418.94.202410090804-0
	reFedora = lazyregexp.New(`^(\d{2})\.(\d{8})\.[\d.]+(?:[.-].*)?$`)                            // 39.20231101.3.0
	reRHEL   = lazyregexp.New(`^(\d{1,2})\.(\d{1,2})\.(\d{8})\d{0,6}(?:[.-].*)?$`)                // 9.6.20250402-0
)

// ParseOSVersion reads the version of a build of Fedora CoreOS, RHEL CoreOS or
// CentOS Stream CoreOS. The error wraps [io/fs.ErrInvalid].
func ParseOSVersion(text string) (OSVersion, error) {
	v := OSVersion{Text: text}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // digits, and few
	date := ""
	switch {
	case len(text) > 128:
	case rePacked.MatchString(text):
		m := rePacked.FindStringSubmatch(text)
		v.OpenShift, v.Major, v.Minor, date = "4."+strconv.Itoa(number(m[1])), number(m[2]), number(m[3]), m[4]
	case reRHEL.MatchString(text):
		m := reRHEL.FindStringSubmatch(text)
		v.Major, v.Minor, date = number(m[1]), number(m[2]), m[3]
	case reFedora.MatchString(text):
		m := reFedora.FindStringSubmatch(text)
		v.Fedora, date = number(m[1]), m[2]
	}
	var err error
	// Numbers of systems and years that there are not would say what the zero value does.
	if v.Date, err = time.Parse("20060102", date); err != nil || v.Fedora+v.Major == 0 || v.Date.Year() < 2000 {
		return OSVersion{}, fmt.Errorf("bootimage: %.128q is not the version of a CoreOS build: %w", text, fs.ErrInvalid)
	}
	return v, nil
}

// System names the system for people: Fedora 39, EL 9.4.
func (v OSVersion) System() string {
	switch {
	case v.Fedora != 0:
		return "Fedora " + strconv.Itoa(v.Fedora)
	case v.Minor == 0:
		return "EL " + strconv.Itoa(v.Major)
	}
	return fmt.Sprintf("EL %d.%d", v.Major, v.Minor)
}

// SkewOptions are options of [SkewOf].
type SkewOptions struct {
	// Oldest is the oldest boot image that is allowed, as "9.2" (of RHEL); "": 9.2,
	// which is the machine config operator's. CentOS Stream's builds have no minor
	// number and are not held to it within their major one.
	Oldest string
	// MaxDays is how many days older than the node image the boot image may be; 0:
	// any.
	MaxDays int
}

// Skew is how far the image that machines boot from is from the one they run.
type Skew struct {
	Boot OSVersion `json:"boot"`
	Node OSVersion `json:"node"`
	// Days is how many the boot image is older; negative: newer.
	Days int `json:"days"`
	// Faults are why machines of this boot image may not come up, for people; none:
	// the skew is within the limits.
	Faults []string `json:"faults,omitempty"`
}

// SkewOf compares the version of a boot image with that of the node image, which
// its label org.opencontainers.image.version or the payload's version of
// machine-os tells. The error is of versions that cannot be read.
func SkewOf(boot, node string, opts *SkewOptions) (*Skew, error) {
	o := SkewOptions{Oldest: "9.2"}
	if opts != nil {
		o.MaxDays = opts.MaxDays
		if opts.Oldest != "" {
			o.Oldest = opts.Oldest
		}
	}
	major, minor, ok := strings.Cut(o.Oldest, ".")
	oldMajor, errMajor := strconv.Atoi(major)
	oldMinor, errMinor := strconv.Atoi(minor)
	if !ok {
		oldMinor, errMinor = 0, nil
	}
	if errMajor != nil || errMinor != nil {
		return nil, fmt.Errorf("bootimage: skew: oldest version %.40q is not one as in 9.2: %w", o.Oldest, fs.ErrInvalid)
	}
	b, errBoot := ParseOSVersion(boot)
	n, errNode := ParseOSVersion(node)
	if err := errors.Join(errBoot, errNode); err != nil {
		return nil, err
	}
	s := &Skew{Boot: b, Node: n, Days: int(n.Date.Sub(b.Date).Hours() / 24)}
	fault := func(format string, args ...any) { s.Faults = append(s.Faults, fmt.Sprintf(format, args...)) }
	switch {
	case (b.Fedora == 0) != (n.Fedora == 0):
		fault("machines boot %s and change to %s on first boot: file systems and Secure Boot of the one may not work with the other", b.System(), n.System())
	case b.Fedora == 0 && (b.Major < oldMajor || b.Major == oldMajor && b.Minor != 0 && b.Minor < oldMinor):
		fault("the boot image is of %s, older than %s: new machines may not come up", b.System(), o.Oldest)
	case b.Major > n.Major:
		fault("machines boot %s and go back to %s on first boot", b.System(), n.System())
	}
	if o.MaxDays > 0 && s.Days > o.MaxDays {
		fault("the boot image is %d days older than the node image, at most %d are allowed", s.Days, o.MaxDays)
	}
	return s, nil
}
