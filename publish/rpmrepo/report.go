package rpmrepo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/stream"
)

// State says how it went with a repository, or a package.
type State string

// The states of repositories, then those of packages.
const (
	Read    State = "read"
	Locked  State = "locked"  // it needs credentials, or other ones
	Nowhere State = "nowhere" // there is no repository at its address
	Failed  State = "failed"  // it could not be read, or is damaged

	Found   State = "found"
	Missing State = "missing" // in none of the repositories, which all were read
	Unknown State = "unknown" // in none of those that could be read
)

// Report is what [Check] found. It is data: encoding/json writes it.
type Report struct {
	Stream       string       `json:"stream"`
	Version      string       `json:"version"`      // X.Y
	Repositories []Repository `json:"repositories"` // in the order of the definition
	Requests     []Request    `json:"requests"`     // in the order of the definition, by architecture
}

// Repository is one that was looked into.
type Repository struct {
	Path   string        `json:"path"` // in the definition: os.repositories[0]
	Name   string        `json:"name"`
	Arches []stream.Arch `json:"arches"` // that it was looked into for
	URL    string        `json:"url,omitempty"`
	State  State         `json:"state"`
	Cause  string        `json:"cause,omitempty"` // why it is not [Read]
	// Advice is what to do about it, for people.
	Advice   string `json:"advice,omitempty"`
	Packages int    `json:"packages"` // how many it has
	// Signer is the fingerprint of the key that signed its metadata; Note says why
	// that was not checked though the definition has a key.
	Signer string `json:"signer,omitempty"`
	Note   string `json:"note,omitempty"`
	Err    error  `json:"-"` // Cause for programs
}

// Request is a package that the definition asks for.
type Request struct {
	Path    string      `json:"path"` // in the definition: os.packages[0]
	Package string      `json:"package"`
	Arch    stream.Arch `json:"arch"`
	State   State       `json:"state"`
	Found   []Candidate `json:"found,omitempty"`
	Cause   string      `json:"cause,omitempty"` // why it is not [Found]
	// Near are names of packages that may have been meant, at most three.
	Near []string `json:"near,omitempty"`
}

// Candidate is a package that is what was asked for: the newest of a repository.
type Candidate struct {
	Repository string `json:"repository"`
	Package    string `json:"package"` // NAME-[EPOCH:]VERSION-RELEASE.ARCH
}

// fail says why a repository is not read, and what to do; missing are its
// credentials that are not here.
func (r *Repository) fail(err error, of stream.RPMRepository, missing error) {
	r.State, r.Cause, r.Err = Failed, httpx.Printable(httpx.RedactText(err.Error())), err
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.State = Locked
		switch {
		case of.Credentials == nil:
			r.Cause = "it needs credentials: " + r.Cause
			r.Advice = fmt.Sprintf("name them at %s.credentials (roles username and password, or token), or take a repository that is open to all", r.Path)
		case missing != nil:
			r.Cause = "it needs credentials, which are not here: " + httpx.Printable(strings.ReplaceAll(missing.Error(), "\n", "; "))
			r.Advice = "give what " + r.Path + ".credentials names: " + givenBy(of.Credentials)
		default:
			r.Cause = "it refuses the credentials that it was given: " + r.Cause
			r.Advice = "check that they are right and not expired; some servers say the same of what is not there"
		}
	case errors.Is(err, fs.ErrNotExist):
		r.State = Nowhere
		r.Cause = "there is no repository: " + r.Cause
		r.Advice = fmt.Sprintf("check %s.baseURL, below which repodata/repomd.xml must be, and whether it has this version", r.Path)
	}
}

// givenBy is where credentials come from, for people.
func givenBy(c *stream.Credentials) string {
	var ways []string
	for _, role := range []string{"username", "password", "token"} {
		if name := c.Env[role]; name != "" {
			ways = append(ways, "environment variable "+name)
		} else if key := c.Keys[role]; key != "" {
			ways = append(ways, "key "+key+" of secret "+c.Secret)
		}
	}
	return strings.Join(ways, ", ")
}

// Err is nil if all repositories were read and all packages found, else a
// [*Error] that counts what was not. It wraps [fs.ErrPermission] where
// credentials are missing, and [fs.ErrNotExist] where packages or repositories
// are. Packages that are [Unknown] only because the definition has no
// repositories are no fault.
func (r *Report) Err() error {
	var faults []error
	count := func(n int, what string, err error) {
		switch {
		case n == 0:
		case err == nil:
			faults = append(faults, fmt.Errorf("%d %s", n, what))
		default:
			faults = append(faults, fmt.Errorf("%d %s: %w", n, what, err))
		}
	}
	repositories, packages := map[State]int{}, map[State]int{}
	for _, one := range r.Repositories {
		repositories[one.State]++
	}
	for _, one := range r.Requests {
		packages[one.State]++
	}
	count(repositories[Locked], "repositories need credentials", fs.ErrPermission)
	count(repositories[Nowhere], "repositories are not there", fs.ErrNotExist)
	count(repositories[Failed], "repositories could not be read", nil)
	count(packages[Missing], "packages are in no repository", fs.ErrNotExist)
	if len(r.Repositories) > 0 {
		count(packages[Unknown], "packages may be in repositories that could not be read", nil)
	}
	if len(faults) == 0 {
		return nil
	}
	return &Error{Op: "check", Target: r.Stream, Err: errors.Join(faults...)}
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, one := range r.Repositories {
		fmt.Fprintf(&b, "%-8s %s %s", one.State, one.Path, one.Name)
		for _, arch := range one.Arches {
			b.WriteString(" " + string(arch))
		}
		if one.URL != "" {
			b.WriteString(" " + one.URL)
		}
		if one.State == Read {
			fmt.Fprintf(&b, ": %d packages", one.Packages)
			if one.Signer != "" {
				b.WriteString(", signed by " + one.Signer)
			}
		}
		b.WriteString("\n")
		for _, text := range []string{one.Cause, one.Note, one.Advice} {
			if text != "" {
				b.WriteString("         " + text + "\n")
			}
		}
	}
	for _, one := range r.Requests {
		fmt.Fprintf(&b, "%-8s %s %s %s", one.State, one.Path, one.Package, one.Arch)
		for i, c := range one.Found {
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			b.WriteString(sep + c.Package + " of " + c.Repository)
		}
		b.WriteString("\n")
		if one.Cause != "" {
			b.WriteString("         " + one.Cause + "\n")
		}
		if len(one.Near) > 0 {
			b.WriteString("         did you mean " + strings.Join(one.Near, ", ") + "?\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
