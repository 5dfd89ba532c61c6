package controller

import (
	"time"
)

// Phase is how far a release has come.
type Phase string

// The phases. Failed, Accepted and Rejected are final, but a person may set a
// rejected release back to Ready.
const (
	Pending  Phase = "Pending"  // the payload is being made
	Failed   Phase = "Failed"   // the payload could not be made
	Ready    Phase = "Ready"    // the payload is being tested
	Accepted Phase = "Accepted" // every blocking job passed
	Rejected Phase = "Rejected" // a blocking job failed
)

// Tag is a release in a stream.
type Tag struct {
	Name        string `json:"name"` // its version
	Phase       Phase  `json:"phase"`
	PullSpec    string `json:"pullSpec"`
	DownloadURL string `json:"downloadURL"`
}

// Release is what is known of a release: its tests, and the updates that were
// tested.
type Release struct {
	Name         string    `json:"name"`
	Phase        Phase     `json:"phase"`
	Results      *Results  `json:"results,omitempty"` // nil: not known
	UpgradesTo   []Upgrade `json:"upgradesTo,omitempty"`
	UpgradesFrom []Upgrade `json:"upgradesFrom,omitempty"`
	// Log is the change log, which [Client.Release] leaves out unless asked.
	Log *ChangeLog `json:"changeLogJson,omitempty"`
	// NodeImages say what changed in the packages of each node image; with the
	// change log alone.
	NodeImages []NodeImage `json:"nodeImageStreams,omitempty"`
}

// Results are the jobs of a release by name.
type Results struct {
	Blocking  map[string]Job `json:"blockingJobs,omitempty"`
	Informing map[string]Job `json:"informingJobs,omitempty"`
	Async     map[string]Job `json:"asyncJobs,omitempty"`
	Pending   map[string]Job `json:"pendingJobs,omitempty"`
}

// State is how a job ended.
type State string

// The states of a job.
const (
	JobSucceeded State = "Succeeded"
	JobFailed    State = "Failed"
	JobPending   State = "Pending"
)

// Job is the last attempt of a job.
type Job struct {
	State       State      `json:"state"`
	URL         string     `json:"url"` // its page
	Retries     int        `json:"retries,omitempty"`
	EarlierURLs []string   `json:"previousAttemptURLs,omitempty"` // pages of earlier attempts
	Changed     *time.Time `json:"transitionTime,omitempty"`      // when State became what it is
}

// Upgrade counts the upgrade jobs between two releases.
type Upgrade struct {
	From, To                string
	Success, Failure, Total int
	// History are the jobs by their address.
	History map[string]UpgradeJob
}

// UpgradeJob is one of them.
type UpgradeJob struct {
	State State  `json:"state"`
	URL   string `json:"url"`
}

// ChangeLog says what changed since the release before.
type ChangeLog struct {
	From       Versioned           `json:"from"`
	To         Versioned           `json:"to"`
	Components []ChangedComponent  `json:"components,omitempty"`
	New        []ChangedRepository `json:"newImages,omitempty"`
	Removed    []ChangedRepository `json:"removedImages,omitempty"`
	Rebuilt    []ChangedRepository `json:"rebuiltImages,omitempty"`
	Updated    []ChangedRepository `json:"updatedImages,omitempty"`
}

// Versioned is a release of a change log.
type Versioned struct {
	Name         string    `json:"name"`
	Created      time.Time `json:"created"`
	Digest       string    `json:"digest"`
	PromotedFrom string    `json:"promotedFrom,omitempty"`
}

// ChangedComponent is a version that a release states.
type ChangedComponent struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	From    string `json:"from,omitempty"`
}

// ChangedRepository are images of one source repository, and its commits.
type ChangedRepository struct {
	Name    string   `json:"name"`             // of the images
	Path    string   `json:"path"`             // page of the source
	Commit  string   `json:"commit,omitempty"` // hexadecimal
	Commits []Commit `json:"commits,omitempty"`
	FullLog string   `json:"fullChangeLog,omitempty"` // page with all commits
}

// Commit is a merged change.
type Commit struct {
	Subject string            `json:"subject,omitempty"`  // first line of the message
	PullID  int               `json:"pullID,omitempty"`   // number of the pull request; 0: none
	PullURL string            `json:"pullURL,omitempty"`  // its page
	ID      string            `json:"commitID,omitempty"` // hexadecimal
	URL     string            `json:"commitURL,omitempty"`
	Issues  map[string]string `json:"issues,omitempty"` // that it says it solves: page by key (OCPBUGS-1)
	Bugs    map[string]string `json:"bugs,omitempty"`   // the same of Bugzilla
}

// NodeImage says what changed in the packages of a node image.
type NodeImage struct {
	Name     string       `json:"name"` // for people
	Tag      string       `json:"tag"`  // component of the payload
	Packages *PackageDiff `json:"rpmDiff,omitempty"`
}

// PackageDiff are packages by name.
type PackageDiff struct {
	Changed map[string]PackageChange `json:"changed,omitempty"`
	Added   map[string]string        `json:"added,omitempty"`
	Removed map[string]string        `json:"removed,omitempty"`
}

// PackageChange is a package in two versions, as rpm writes them.
type PackageChange struct {
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// Candidate is a release that may be promoted.
type Candidate struct {
	FromTag     string   `json:"fromTag"` // the accepted release
	Name        string   `json:"name"`    // what it would be called
	UpgradeFrom []string `json:"upgradeFrom,omitempty"`
	Created     string   `json:"creationTime,omitempty"`
}
