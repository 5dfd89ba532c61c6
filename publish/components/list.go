package components

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/strictyaml"
	"github.com/okd-project/okd-streams/stream"
)

// APIVersion and ResourceKind are what a list says it is.
const (
	APIVersion   = stream.APIVersion
	ResourceKind = "Components"
)

// Limits of a list.
const (
	// MaxListSize is the most bytes of a list's file.
	MaxListSize = 256 << 10
	// MaxComponents is the most components; OpenShift's payloads have about 200.
	MaxComponents = 1000

	maxName = 90 // bytes of a component's name, which tags begin with
)

// List says which components there are and how they are built. Each field is the key
// of the same name in the file, first letter small.
type List struct {
	APIVersion string `yaml:"apiVersion"` // [APIVersion]
	Kind       string `yaml:"kind"`       // [ResourceKind]
	// Ref is the branch or tag of repositories where nothing else is said; ${MINOR}
	// is the X.Y that is built.
	Ref stream.Template `yaml:"ref"`
	// Args are build arguments of every Dockerfile that declares them.
	Args map[string]string `yaml:"args"`
	// Images say what is taken instead of the images that Dockerfiles name; the
	// first that fits counts. Others are taken as they are.
	Images []Replacement `yaml:"images"`
	// Forks are repositories that are taken instead of others.
	Forks      []Fork      `yaml:"forks"`
	Components []Component `yaml:"components"`
	// Exclude are components that the release is not to have; "*" stands for any
	// text. Images that Dockerfiles name are found among them all the same.
	Exclude []string `yaml:"exclude"`
}

// Replacement is an image in place of others.
type Replacement struct {
	// Match is what the Dockerfile names, its variables replaced; "*" stands for any
	// text without "/".
	Match string `yaml:"match"`
	// Use is a component by name, or a pullspec, which has a "/". With "*" it is the
	// component that the last "*" of Match stands for, if there is one; else the next
	// replacement is looked at.
	Use string `yaml:"use"`
}

// Fork is a repository in place of another one.
type Fork struct {
	Repository string          `yaml:"repository"`
	Use        string          `yaml:"use"`
	Ref        stream.Template `yaml:"ref"` // "": as of the other
}

// Component says how one image is made: of a repository, of a Containerfile alone,
// or not at all, where Image names it. What it leaves open of a repository comes
// from the release.
type Component struct {
	Name string `yaml:"name"` // as the payload has it
	// Repository is a git repository's URL, or file:///FOLDER, a folder as it is.
	// "": that of the release's image, with its commit unless Ref is given.
	Repository string          `yaml:"repository"`
	Ref        stream.Template `yaml:"ref"`
	Commit     string          `yaml:"commit"`     // pins Ref: 40 or 64 hexadecimal digits
	Context    string          `yaml:"context"`    // folder in the repository; "": all of it
	Dockerfile string          `yaml:"dockerfile"` // path in Context; "": Dockerfile
	// Containerfile is the text of one, in place of a Dockerfile from the repository.
	// It may name components as they are called.
	Containerfile string `yaml:"containerfile"`
	Target        string `yaml:"target"` // stage to build; "": the last
	// From takes the place of the image that the target is FROM: a component, or a
	// pullspec.
	From   string            `yaml:"from"`
	Args   map[string]string `yaml:"args"`
	Labels map[string]string `yaml:"labels"`
	// Image is a pullspec by digest of an image that is there already.
	Image string `yaml:"image"`
	// Tool: others are built with it, and the payload has it not.
	Tool bool `yaml:"tool"`
}

// DecodeList reads a list: YAML without anchors, aliases and tags. Unknown keys are
// errors with line and column; everything else that is wrong is named by its key,
// all faults joined.
func DecodeList(r io.Reader) (*List, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxListSize+1))
	if err == nil && len(data) > MaxListSize {
		err = fmt.Errorf("more than %d bytes", MaxListSize)
	}
	l := &List{}
	if err == nil {
		err = strictyaml.Unmarshal(data, l)
	}
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return nil, &Error{"decode", "list", err}
	}
	return l, nil
}

var (
	componentName = lazyregexp.New(`^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$`)
	argName       = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)
	commitID      = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// check gives every fault, joined, each with its key.
func (l *List) check() error {
	var faults []error
	fault := func(key, format string, args ...any) { faults = append(faults, fmt.Errorf(key+": "+format, args...)) }
	if l.APIVersion != APIVersion || l.Kind != ResourceKind {
		fault("apiVersion, kind", "%.100q, %.100q, want %s, %s", l.APIVersion, l.Kind, APIVersion, ResourceKind)
	}
	if len(l.Components) > MaxComponents {
		fault("components", "%d of them, limit %d", len(l.Components), MaxComponents)
		return errors.Join(faults...)
	}
	for _, key := range slices.Sorted(maps.Keys(l.Args)) {
		if !argName.MatchString(key) {
			fault("args", "%.100q is no name of a build argument", key)
		}
	}
	for i, r := range l.Images {
		key := fmt.Sprintf("images[%d]", i)
		if r.Match == "" {
			fault(key+".match", "empty")
		}
		if r.Use == "*" && !strings.Contains(r.Match, "*") {
			fault(key+".use", "no * in match for it to stand for")
		} else if r.Use != "*" {
			if err := checkUse(r.Use); err != nil {
				fault(key+".use", "%w", err)
			}
		}
	}
	for i, f := range l.Forks {
		key := fmt.Sprintf("forks[%d]", i)
		if err := checkRepository(f.Repository); err != nil {
			fault(key+".repository", "%w", err)
		}
		if err := checkRepository(f.Use); err != nil {
			fault(key+".use", "%w", err)
		}
	}
	seen := map[string]bool{}
	for i := range l.Components {
		c := &l.Components[i]
		key := fmt.Sprintf("components[%d] (%.80s)", i, c.Name)
		if seen[c.Name] {
			fault(key+".name", "there twice")
		}
		seen[c.Name] = true
		for _, err := range c.faults() {
			faults = append(faults, fmt.Errorf("%s.%w", key, err))
		}
	}
	return errors.Join(faults...)
}

func (c *Component) faults() []error {
	var faults []error
	fault := func(key, format string, args ...any) { faults = append(faults, fmt.Errorf(key+": "+format, args...)) }
	if !componentName.MatchString(c.Name) || len(c.Name) > maxName {
		fault("name", "%.100q is not of at most %d lower-case letters, digits, \"-\", \".\" and \"_\"", c.Name, maxName)
	}
	if c.Image != "" {
		if _, err := name.NewDigest(c.Image); err != nil {
			fault("image", "%.200q is no pullspec by digest", c.Image)
		}
		if c.Repository+string(c.Ref)+c.Commit+c.Context+c.Dockerfile+c.Containerfile+c.Target+c.From != "" || len(c.Args)+len(c.Labels) > 0 {
			fault("image", "an image that is there is not built: remove it, or what says how to")
		}
		return faults
	}
	if c.Repository != "" {
		if err := checkRepository(c.Repository); err != nil {
			fault("repository", "%w", err)
		}
	}
	if c.Commit != "" && !commitID.MatchString(c.Commit) {
		fault("commit", "%.100q is not 40 or 64 hexadecimal digits", c.Commit)
	}
	if err := checkRef(string(c.Ref)); err != nil {
		fault("ref", "%w", err)
	}
	if strings.HasPrefix(c.Repository, folderScheme) && (c.Ref != "" || c.Commit != "") {
		fault("repository", "a folder as it is has neither ref nor commit")
	}
	for _, p := range []struct{ key, path string }{{"context", c.Context}, {"dockerfile", c.Dockerfile}} {
		if p.path != "" && !fs.ValidPath(p.path) {
			fault(p.key, "%.200q is no path within the repository", p.path)
		}
	}
	if c.Containerfile != "" && c.Dockerfile != "" {
		fault("containerfile", "not with dockerfile")
	}
	if c.From != "" {
		if err := checkUse(c.From); err != nil {
			fault("from", "%w", err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Args)) {
		if !argName.MatchString(key) {
			fault("args", "%.100q is no name of a build argument", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		if key == "" || strings.ContainsAny(key, "= \t\n") || slices.Contains(ownLabels, key) {
			fault("labels", "%.100q is not for a list to set", key)
		}
	}
	return faults
}

// dockerfile is the path of the Dockerfile in the repository.
func (c *Component) dockerfile() string {
	file := c.Dockerfile
	if file == "" {
		file = "Dockerfile"
	}
	return path.Join(c.Context, file)
}

// folderScheme begins the name of a folder in place of a repository.
const folderScheme = "file:///"

// checkRepository refuses what could be an option of a command.
func checkRepository(url string) error {
	for _, scheme := range []string{"https://", "http://", "ssh://", "git@", folderScheme} {
		if rest, ok := strings.CutPrefix(url, scheme); ok && rest != "" && !strings.HasPrefix(rest, "-") && !strings.ContainsAny(url, " \t\r\n\x00") {
			return nil
		}
	}
	return fmt.Errorf("%.200q is no URL of https, http or ssh, no git@HOST:PATH and no file:///FOLDER", url)
}

func checkRef(ref string) error {
	if strings.HasPrefix(ref, "-") || strings.ContainsAny(ref, " \t\r\n\x00~^:?*[\\") || strings.Contains(ref, "..") {
		return fmt.Errorf("%.100q is no branch or tag", ref)
	}
	return nil
}

// checkUse accepts a component's name or a pullspec.
func checkUse(use string) error {
	if !strings.ContainsAny(use, "/:@") {
		if !componentName.MatchString(use) {
			return fmt.Errorf("%.100q is no component", use)
		}
		return nil
	}
	if _, err := name.ParseReference(use); err != nil {
		return fmt.Errorf("%.200q is no pullspec: %w", use, err)
	}
	return nil
}

// matches reports whether text is as the pattern says, and what its last "*" stands
// for, which has no "/".
func matches(pattern, text string) (last string, ok bool) {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	m := regexp.MustCompile("^" + strings.Join(parts, "([^/]*)") + "$").FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return m[len(m)-1], true
}
