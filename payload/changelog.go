package payload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// History gives the history of source code, from a clone and git
// ([GitLogArguments], [DecodeGitLog]) or a forge.
type History interface {
	// Log gives the commits that lead from one commit (not given) to another by
	// first parents, newest first. location is as an image's label has it, an
	// URL of http, https or ssh or git@HOST:PATH; from and to are hexadecimal.
	Log(ctx context.Context, location, from, to string) ([]Commit, error)
}

// Commit is a commit of a [History].
type Commit struct {
	ID      string    // hexadecimal
	Merge   bool      // it has several parents
	Time    time.Time // when it was committed, UTC
	Message string    // whole, its subject in the first line
}

// GitLogArguments are the arguments of the program git that print what
// [DecodeGitLog] reads of the history between two commits, to be run in a
// clone. Commits that are not hexadecimal are an error, so none can be an
// option.
func GitLogArguments(from, to string) ([]string, error) {
	if !isCommit(from) || !isCommit(to) {
		return nil, fmt.Errorf("payload: commits %.100q and %.100q are not hexadecimal", from, to)
	}
	return []string{"log", "-z", "--first-parent", "--date=unix", "--format=%H%n%P%n%ct%n%B", from + ".." + to, "--"}, nil
}

// DecodeGitLog reads what git printed; more than [MaxLogSize] bytes are an
// error.
func DecodeGitLog(data []byte) ([]Commit, error) {
	if len(data) > MaxLogSize {
		return nil, fmt.Errorf("payload: git log: %d bytes, limit %d", len(data), MaxLogSize)
	}
	var out []Commit
	for record := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x00"), "\x00") {
		if record == "" {
			continue
		}
		parts := strings.SplitN(record, "\n", 4)
		if len(parts) != 4 || !isCommit(parts[0]) {
			return nil, fmt.Errorf("payload: git log: record %d is not one of the format asked for", len(out)+1)
		}
		seconds, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("payload: git log: record %d: %w", len(out)+1, err)
		}
		out = append(out, Commit{ID: parts[0], Merge: strings.Contains(parts[1], " "), Time: time.Unix(seconds, 0).UTC(), Message: parts[3]})
	}
	return out, nil
}

// ChangeLog says what changed from one release to another. Its JSON is that of
// `oc adm release info --changelog -o json`; [ChangeLog.WriteMarkdown] and
// [ChangeLog.WriteHTML] are for people.
type ChangeLog struct {
	From, To      LoggedRelease
	Components    []LoggedVersion
	FeatureGates  []LoggedGate
	NewImages     []LoggedImage
	RemovedImages []LoggedImage
	RebuiltImages []LoggedImage
	Updated       []LoggedRepository
	// OS are the changes of node images, for whom adds them by [CompareOS]; in
	// the JSON they are osImages, which oc has not.
	OS []OSChange
}

// LoggedRelease names a release in a change log.
type LoggedRelease struct {
	Name         string    `json:"name"` // its version
	Created      time.Time `json:"created"`
	Digest       string    `json:"digest"`
	PromotedFrom string    `json:"promotedFrom,omitempty"` // pullspec of the release that it was made of
}

// LoggedVersion is a component's version and, if it changed, the one before.
type LoggedVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	From    string `json:"from,omitempty"`
}

// LoggedImage is an image that came, went or was rebuilt.
type LoggedImage struct {
	Name        string `json:"name"`
	Path        string `json:"path"` // where its source code is
	ShortCommit string `json:"shortCommit,omitempty"`
	Commit      string `json:"commit,omitempty"`
	ImageRef    string `json:"imageRef,omitempty"` // digest
}

// LoggedRepository is a repository of source code that changed.
type LoggedRepository struct {
	Images   []string // built from it, with the same two commits
	Location string   // as the images' labels have it
	From, To string   // commits
	Changes  []LoggedChange
	// Elided are commits that say nothing of a pull request.
	Elided int
}

// LoggedChange is a pull request that was merged.
type LoggedChange struct {
	// Bugs (of Bugzilla) and Issues (of Jira) that its title names, sorted.
	Bugs, Issues []string
	Subject      string
	Pull         int // its number; 0: not known
	Time         time.Time
}

// ChangeLogOptions say what [NewChangeLog] reads. Nil is the default.
type ChangeLogOptions struct {
	// History of the source code. Nil: repositories are named without their
	// changes.
	History History
}

// NewChangeLog finds what changed between two releases. A repository whose
// history cannot be read has no changes in the log; the error names all of
// them, and the log has all the rest. Only where the error is the only result
// is the log nil.
func NewChangeLog(ctx context.Context, from, to *Release, opts *ChangeLogOptions) (*ChangeLog, error) {
	if opts == nil {
		opts = &ChangeLogOptions{}
	}
	log := &ChangeLog{From: loggedRelease(from), To: loggedRelease(to)}
	var err error
	if log.Components, err = loggedVersions(from, to); err != nil {
		return nil, err
	}
	if log.FeatureGates, err = loggedGates(ctx, from, to); err != nil {
		return nil, err
	}
	type span struct{ location, from, to string }
	images := map[span][]string{}
	for _, c := range Compare(from, to).Images {
		switch {
		case c.From == nil:
			log.NewImages = append(log.NewImages, loggedImage(c.To))
		case c.To == nil:
			log.RemovedImages = append(log.RemovedImages, LoggedImage{Name: c.Name, Path: c.From.Annotations[annotationSource]})
		case !c.CodeChanged() || c.To.Annotations[annotationSource] == "":
			log.RebuiltImages = append(log.RebuiltImages, loggedImage(c.To))
		default:
			s := span{c.To.Annotations[annotationSource], c.From.Annotations[annotationCommit], c.To.Annotations[annotationCommit]}
			images[s] = append(images[s], c.Name)
		}
	}
	for s, names := range images {
		log.Updated = append(log.Updated, LoggedRepository{Images: names, Location: s.location, From: s.from, To: s.to})
	}
	slices.SortFunc(log.Updated, func(a, b LoggedRepository) int { return cmp.Compare(a.Images[0], b.Images[0]) })
	var errs []error
	for i := range log.Updated {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if opts.History == nil {
			continue
		}
		if err := log.Updated[i].read(ctx, opts.History); err != nil {
			errs = append(errs, &Error{Op: "change log", Target: log.Updated[i].Location, Err: err})
		}
	}
	return log, errors.Join(errs...)
}

func (r *LoggedRepository) read(ctx context.Context, history History) error {
	if _, ok := parseRepository(r.Location); !ok {
		return errors.New("not an URL of a repository")
	}
	if !isCommit(r.From) || !isCommit(r.To) {
		return fmt.Errorf("commits %.100q and %.100q are not hexadecimal", r.From, r.To)
	}
	commits, err := history.Log(ctx, r.Location, r.From, r.To)
	if err != nil {
		return err
	}
	if len(commits) > MaxCommits {
		return fmt.Errorf("%d commits, limit %d", len(commits), MaxCommits)
	}
	r.Changes, r.Elided = changesOf(commits)
	return nil
}

// changesOf finds pull requests: merges or, where there are none, commits that
// a forge squashed and gave a number.
func changesOf(commits []Commit) (changes []LoggedChange, elided int) {
	merges := slices.ContainsFunc(commits, func(c Commit) bool { return c.Merge })
	for _, c := range commits {
		var change LoggedChange
		ok := false
		if merges {
			change, ok = mergedChange(c)
		} else {
			change, ok = squashedChange(c)
		}
		if !ok {
			elided++
			continue
		}
		change.Time = c.Time
		changes = append(changes, change)
	}
	return changes, elided
}

var (
	mergeLine   = lazyregexp.New(`^Merge pull request #(\d{1,9}) from `)
	squashLine  = lazyregexp.New(`^(.*\S)\s*\(#(\d{1,9})\)\s*$`)
	tagPrefix   = lazyregexp.New(`^(?:\[[^\[\]]*\]\s*)+`)
	bugPrefix   = lazyregexp.New(`^(?i:bugs?)\s+(\d{1,9}(?:\s*,\s*\d{1,9})*)\s*:\s*`)
	issuePrefix = lazyregexp.New(`^([A-Z][A-Z0-9]*-\d{1,9}(?:\s*,\s*[A-Z][A-Z0-9]*-\d{1,9})*)\s*:\s*`)
)

func mergedChange(c Commit) (LoggedChange, bool) {
	first, body, _ := strings.Cut(c.Message, "\n")
	m := mergeLine.FindStringSubmatch(first)
	if !c.Merge || m == nil {
		return LoggedChange{}, false
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(body, "\r\n"), "\n")
	change := titledChange(subject)
	change.Pull, _ = strconv.Atoi(m[1]) // at most nine digits
	return change, true
}

func squashedChange(c Commit) (LoggedChange, bool) {
	first, _, _ := strings.Cut(c.Message, "\n")
	m := squashLine.FindStringSubmatch(first)
	if m == nil {
		return LoggedChange{}, false
	}
	change := titledChange(m[1])
	change.Pull, _ = strconv.Atoi(m[2]) // at most nine digits
	return change, true
}

// titledChange takes bugs and issues from the title of a pull request.
func titledChange(title string) LoggedChange {
	title = strings.TrimSpace(oneLine(strings.ToValidUTF8(title, "\ufffd")))
	if len(title) > maxSubject {
		title = strings.ToValidUTF8(title[:maxSubject], "") + "…"
	}
	title = title[len(tagPrefix.FindString(title)):]
	var c LoggedChange
	if m := bugPrefix.FindStringSubmatch(title); m != nil {
		c.Bugs, title = sortedList(m[1]), title[len(m[0]):]
	} else if m := issuePrefix.FindStringSubmatch(title); m != nil {
		c.Issues, title = sortedList(m[1]), title[len(m[0]):]
	}
	c.Subject = cmp.Or(strings.TrimSpace(title), "Merge")
	return c
}

func sortedList(text string) []string {
	list := splitList(text)
	slices.Sort(list)
	return slices.Compact(list)
}

func loggedRelease(r *Release) LoggedRelease {
	out := LoggedRelease{Name: r.Version(), Created: r.created(), PromotedFrom: r.References.Annotations[annotationFromRelease]}
	if r.image != nil {
		out.Digest = r.Pullspec().DigestStr()
	}
	return out
}

func loggedImage(t *Tag) LoggedImage {
	out := LoggedImage{Name: t.Name, Path: t.Annotations[annotationSource], ImageRef: digestText(t.Pullspec)}
	if commit := t.Annotations[annotationCommit]; isCommit(commit) && out.Path != "" {
		out.Commit, out.ShortCommit = commit, commit[:min(8, len(commit))]
	}
	return out
}

// loggedVersions are the components' versions, by key.
func loggedVersions(from, to *Release) ([]LoggedVersion, error) {
	before, err := from.Info()
	if err != nil {
		return nil, err
	}
	after, err := to.Info()
	if err != nil {
		return nil, err
	}
	var out []LoggedVersion
	for _, key := range slices.Sorted(maps.Keys(after.Versions)) {
		v := after.Versions[key]
		l := LoggedVersion{Name: cmp.Or(v.DisplayName, titled(key)), Version: v.Version}
		if old := before.Versions[key]; old.Version != v.Version {
			l.From = old.Version
		}
		out = append(out, l)
	}
	return out, nil
}

func titled(key string) string {
	r, n := utf8.DecodeRuneInString(key)
	return string(unicode.ToUpper(r)) + key[n:]
}
