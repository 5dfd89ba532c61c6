package status

import (
	"time"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
)

// History is what is known of a stream.
type History struct {
	Stream string
	Title  string // for people; empty: Stream

	// Builds in any order. Of two with one version the later one in the list
	// counts.
	Builds []Build
	// Published are the releases that users get, in any order; nil: not known.
	Published []Published
	// BootImages are those that a release names; nil: not known.
	BootImages []BootImage
	// Reference is another node image that the newest build is compared with.
	Reference *Content
	// Gaps are updates that clusters miss.
	Gaps []graph.Gap
	// Faults are what could not be found out. They make the report a warning,
	// since silence is not health.
	Faults []string
}

// Build is one payload.
type Build struct {
	Version  string
	Phase    controller.Phase
	Created  time.Time // zero: not known
	PullSpec string
	Gates    []Gate
	// Content is nil where nobody looked.
	Content *Content
}

// Gate is the result of one gate of a build.
type Gate struct {
	Name     string
	Blocking bool
	State    controller.State
	URL      string    // of what tells more; "": nothing does
	Ended    time.Time // zero: not known
	Retries  int       // after the first attempt
}

// Content is what a payload or node image is made of.
type Content struct {
	Name     string // a version or pullspec
	Packages []payload.Package
	// Commits are the commits of a payload's components, by component.
	Commits map[string]string
}

// Published is a release that users get.
type Published struct {
	Version string
	At      time.Time
}

// BootImage is a boot image that is offered.
type BootImage struct {
	Name    string // architecture, platform
	Release string // of the operating system
	Built   time.Time
}
