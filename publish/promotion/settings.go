package promotion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/stream"
)

// Settings say how the releases of a stream are promoted. They are data, kept
// in the journal of each promotion, so that whoever resumes it does the same.
type Settings struct {
	// Stream is what releases are promoted to, such as 4-scos-stable. Names are
	// reserved, and promotions follow each other, within one stream.
	Stream string `json:"stream"`
	// Scheme is how releases are called.
	Scheme stream.Scheme `json:"scheme"`
	// Release is the repository of release images, Content that of all component
	// images, by digest.
	Release string `json:"release"`
	Content string `json:"content"`
	// Tags of Release that follow the newest release, beside the version itself:
	// "${MINOR}", "latest". A tag does not go back to an older release.
	Tags []stream.Template `json:"tags,omitempty"`
	// URL of a page about the release, for its metadata; "": none.
	URL stream.Template `json:"url,omitempty"`

	// Patches is how many promoted releases of its own X.Y lead to a release; 0:
	// all. Minors is from how many minor versions back the newest release leads to
	// it, too; 0: 1, -1: none.
	Patches int `json:"patches,omitempty"`
	Minors  int `json:"minors,omitempty"`

	// Compatible assembles as oc does, without the strict checks of
	// payload.Assemble.
	Compatible bool `json:"compatible,omitempty"`

	// Verify promotes only payloads that have the signatures which Env.Trust asks
	// for.
	Verify bool `json:"verify,omitempty"`
	// Unsigned leaves releases without a signature. Default: Env.Signer signs
	// them, and nothing is promoted without it.
	Unsigned bool `json:"unsigned,omitempty"`

	// Cosign has Env.ImageSigner sign them too.
	Cosign bool `json:"cosign,omitempty"`

	// Gates must pass, in any order, before anybody is told.
	Gates []string `json:"gates,omitempty"`

	// OS are the operating systems that client tools are extracted for, as of
	// payload.ToolsOptions; none: all. NoTools extracts none.
	OS      []string `json:"os,omitempty"`
	NoTools bool     `json:"noTools,omitempty"`
	// Assets chooses among the files of a release by name.
	Assets stream.Filter `json:"assets,omitzero"`
	// Announce says where Env.Announcer announces releases, such as the
	// repository on GitHub; "": nowhere. Latest and Prerelease say as what; an
	// older release is not made the latest.
	Announce   string `json:"announce,omitempty"`
	Latest     bool   `json:"latest,omitempty"`
	Prerelease bool   `json:"prerelease,omitempty"`
	// Notify has Env.Notify tell people at the end.
	Notify bool `json:"notify,omitempty"`

	// ImageStream is an image stream in which the release is tagged, such as
	// release-scos; "": none. It is tagged last or, with TagForGates, before the
	// gates: for gates that are jobs which a release controller runs for what is
	// tagged there.
	ImageStream string `json:"imageStream,omitempty"`
	TagForGates bool   `json:"tagForGates,omitempty"`

	// Graph is the key of an update graph in Env.Store, for several
	// architectures, which gets the release as a node; "": none. Channels that
	// the node is in are added last. Edges say what makes an edge, "": a passed
	// upgrade job.
	Graph    string            `json:"graph,omitempty"`
	Channels []stream.Template `json:"channels,omitempty"`
	Edges    stream.EdgeRule   `json:"edges,omitempty"`
}

// FromDefinition gives the settings that a stream's definition has. What it
// leaves open, such as Graph and ImageStream where no import names the release
// image, is for the caller.
func FromDefinition(def *stream.Definition) *Settings {
	repository := func(name string) string {
		if name == "" {
			return ""
		}
		return def.Registry.Repository + "/" + name
	}
	s := &Settings{
		Stream: def.Identity.Name, Scheme: def.Naming.Release,
		Release: repository(def.Registry.Release.Name), Content: repository(def.Registry.Content),
		Patches: def.Graph.Patches, Minors: def.Graph.Minors, Channels: def.Graph.Channels, Edges: def.Graph.Edges,
	}
	if s.Minors == 0 {
		s.Minors = -1 // there it means none
	}
	for _, t := range def.Registry.Release.Tags {
		if t != "${VERSION}" {
			s.Tags = append(s.Tags, t)
		}
	}
	for _, g := range def.Gates {
		if g.Blocking() {
			s.Gates = append(s.Gates, g.Name)
		}
	}
	if g := def.GitHub; g != nil {
		s.Announce, s.Assets, s.Latest, s.Prerelease = g.Repository, g.Assets, g.Latest, g.Prerelease
		s.URL = stream.Template("https://github.com/" + g.Repository + "/releases/tag/${VERSION}")
	}
	s.Unsigned = !slices.ContainsFunc(def.Trust.Keys, func(k stream.Key) bool { return k.Signs })
	s.Notify = slices.ContainsFunc(def.Notifications, func(n stream.Notification) bool {
		return len(n.On) == 0 || slices.Contains(n.On, stream.OnPromotion)
	})
	for _, i := range def.Imports {
		if i.Image == stream.ReleaseRole {
			s.ImageStream = string(i.ImageStream)
		}
	}
	return s
}

var reName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// check reports every fault, joined; the error wraps [fs.ErrInvalid].
func (s *Settings) check() error {
	var faults []error
	add := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: "+format+": %w", append(append([]any{field}, args...), fs.ErrInvalid)...))
	}
	if !reName.MatchString(s.Stream) {
		add("stream", "%.100q: letters, digits, '.', '_', '-' alone are allowed", s.Stream)
	}
	if err := s.Scheme.UnmarshalText([]byte(s.Scheme)); err != nil {
		add("scheme", "%v", err)
	} else if s.Scheme.OS() {
		add("scheme", "%s names builds, not releases", s.Scheme)
	}
	for _, r := range []struct{ field, text string }{{"release", s.Release}, {"content", s.Content}} {
		if _, err := name.NewRepository(r.text, name.StrictValidation); err != nil {
			add(r.field, "%.200q is no repository with its registry", r.text)
		}
	}
	vars := stream.Vars{Version: "4.21.0-okd-scos.1", Minor: "4.21", Stream: "s"}
	for _, t := range s.Tags {
		text, err := t.Expand(vars)
		if err == nil {
			_, err = name.NewTag("registry.invalid/x:"+text, name.StrictValidation)
		}
		if err != nil || strings.ContainsAny(text, ":/@") {
			add("tags", "%.100q makes no tag", string(t))
		}
	}
	if _, err := s.URL.Expand(vars); err != nil {
		add("url", "%v", err)
	}
	for _, c := range s.Channels {
		text, err := c.Expand(vars)
		if err == nil {
			_, err = new(graph.Graph).Select(text, "")
		}
		if err != nil {
			add("channels", "%.100q makes no channel", string(c))
		}
	}
	switch s.Edges {
	case "", stream.Tested, stream.Previous, stream.TestedOrPrevious:
	default:
		add("edges", "%.40q is no rule", string(s.Edges))
	}
	for _, g := range s.Gates {
		if g == "" {
			add("gates", "one has no name")
		}
	}
	for _, p := range append(s.Assets.Include[:len(s.Assets.Include):len(s.Assets.Include)], s.Assets.Exclude...) {
		if _, err := path.Match(p, ""); err != nil {
			add("assets", "%.100q: %v", p, err)
		}
	}
	if s.Latest && s.Prerelease {
		add("latest", "a pre-release cannot be the latest")
	}
	if s.Patches < 0 || s.Minors < -1 {
		add("patches, minors", "negative")
	}
	if s.TagForGates && s.ImageStream == "" {
		add("tagForGates", "without an image stream")
	}
	return errors.Join(faults...)
}

// vars are what templates know of a release.
func (s *Settings) vars(v stream.Version) stream.Vars {
	return stream.Vars{Version: v.String(), Minor: v.Line().String(), Stream: s.Stream}
}

// differ names the fields in which two settings are not the same.
func (s *Settings) differ(o *Settings) ([]string, error) {
	fields := func(s *Settings) (map[string]json.RawMessage, error) {
		data, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		var out map[string]json.RawMessage
		return out, json.Unmarshal(data, &out)
	}
	a, err := fields(s)
	if err != nil {
		return nil, err
	}
	b, err := fields(o)
	if err != nil {
		return nil, err
	}
	return differing(a, b), nil
}
