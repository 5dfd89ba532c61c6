package promotion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/stream"
)

// MaxCandidates is how many accepted payloads are looked into for the one that
// a release was made of.
const MaxCandidates = 100

// ShadowOptions say what [Shadow] replays. Nil is the default.
type ShadowOptions struct {
	// Version of a promoted release; "": the newest of the settings' scheme.
	Version string
	// Source is the payload that it was made of. Nil: as the register has it, or
	// the release itself says; else the accepted one with the same images.
	Source name.Reference
	// Notes are those that were published. Nil: those in the store.
	Notes []byte
}

// Comparison is a promotion as it was, beside what we would have made of it.
type Comparison struct {
	Version  string `json:"version"`
	Pullspec string `json:"pullspec"`
	// Source is the payload, by digest; "": not found.
	Source string `json:"source,omitempty"`
	// Same are the things that are as we would have made them, Differences
	// those that are not, Unknown those that could not be compared.
	Same        []Subject    `json:"same,omitempty"`
	Differences []Difference `json:"differences,omitempty"`
	Unknown     []Unknown    `json:"unknown,omitempty"`
	// Notes are ours.
	Notes []byte `json:"-"`
}

// Subject is something that is compared.
type Subject string

// What is compared.
const (
	SubjectVersion   Subject = "version"
	SubjectPrevious  Subject = "previous"
	SubjectImages    Subject = "images"
	SubjectManifests Subject = "manifests"
	SubjectMetadata  Subject = "metadata"
	SubjectLayer     Subject = "layer" // diff ID of the payload, of the same inputs
	SubjectTags      Subject = "tags"
	SubjectSignature Subject = "signature"
	SubjectNotes     Subject = "notes"
	SubjectGraph     Subject = "graph"
)

// Difference is what was published and what we would have.
type Difference struct {
	Subject   Subject `json:"subject"`
	What      string  `json:"what"` // in words
	Published string  `json:"published,omitempty"`
	Ours      string  `json:"ours,omitempty"`
}

// Unknown is what could not be compared, and why.
type Unknown struct {
	Subject Subject `json:"subject"`
	Why     string  `json:"why"`
}

// Shadow replays a real promotion, the last one unless told otherwise, from what
// is public or was recorded, as of the time when it was made, and gives the
// differences. It writes nothing, and needs of the environment a registry to
// read, a store (which may be empty) and a clock. A release that is not there
// wraps [fs.ErrNotExist].
func Shadow(ctx context.Context, env *Env, settings *Settings, opts *ShadowOptions) (*Comparison, error) {
	if opts == nil {
		opts = &ShadowOptions{}
	}
	s := &shadow{env: env, settings: settings, opts: opts, out: &Comparison{}}
	target := settings.Stream
	err := errors.Join(env.check(), settings.check())
	if err == nil {
		err = s.run(ctx)
		if s.version != "" {
			target = s.version
		}
	}
	if err != nil {
		return nil, failure("shadow", target, err)
	}
	return s.out, nil
}

type shadow struct {
	env      *Env
	settings *Settings
	opts     *ShadowOptions
	out      *Comparison

	register  *register
	published []string
	used      []string
	version   string
	parsed    stream.Version
	real      *payload.Release
	source    *payload.Release
	previous  []string
}

func (s *shadow) run(ctx context.Context) error {
	return inOrder(ctx, s.choose, s.find, s.name, s.leads, s.assembly, s.tags, s.signature, s.graph, s.notes)
}

func (s *shadow) differ(subject Subject, what, published, ours string) {
	s.out.Differences = append(s.out.Differences, Difference{subject, what, published, ours})
}

func (s *shadow) unknown(subject Subject, format string, args ...any) {
	s.out.Unknown = append(s.out.Unknown, Unknown{subject, fmt.Sprintf(format, args...)})
}

// same notes a subject of which no difference was found.
func (s *shadow) same(subject Subject) {
	if !slices.ContainsFunc(s.out.Differences, func(d Difference) bool { return d.Subject == subject }) {
		s.out.Same = append(s.out.Same, subject)
	}
}

// choose opens the release that is replayed.
func (s *shadow) choose(ctx context.Context) error {
	var err error
	if s.register, err = s.env.register(ctx, s.settings.Stream); err != nil {
		return err
	}
	if s.published, s.used, err = names(ctx, s.env, s.settings); err != nil {
		return err
	}
	s.version = s.opts.Version
	if s.version == "" {
		for _, v := range versions(s.register.promoted(s.published)) { // newest first
			if v.Scheme == s.settings.Scheme {
				s.version = v.String()
				break
			}
		}
	}
	if s.version == "" {
		return fmt.Errorf("no release of scheme %s was promoted: %w", s.settings.Scheme, fs.ErrNotExist)
	}
	if s.parsed, err = s.settings.Scheme.Parse(s.version); err != nil {
		return err
	}
	ref, err := name.NewTag(s.settings.Release+":"+s.version, name.StrictValidation)
	if err != nil {
		return err
	}
	if s.real, err = payload.Open(ctx, s.env.Registry, ref, nil); err != nil {
		return err
	}
	s.out.Version, s.out.Pullspec = s.version, s.real.Pullspec().Name()
	return nil
}

// find opens the payload that the release was made of.
func (s *shadow) find(ctx context.Context) error {
	ref := s.opts.Source
	var err error
	if v := s.register.find(s.version); ref == nil && v != nil {
		ref, err = name.NewDigest(v.Source, name.StrictValidation)
	} else if from := s.real.References.Annotations["release.openshift.io/from-release"]; ref == nil && from != "" {
		ref, err = name.ParseReference(from, name.StrictValidation)
	}
	if err != nil {
		return err
	}
	if ref != nil {
		s.source, err = payload.Open(ctx, s.env.Registry, ref, nil)
		if errors.Is(err, fs.ErrNotExist) && s.opts.Source == nil {
			err = nil // CI keeps its payloads for three days
		}
		if err != nil {
			return err
		}
	}
	if s.source == nil && s.env.Accepted != nil {
		if err := s.search(ctx); err != nil {
			return err
		}
	}
	if s.source != nil {
		s.out.Source = s.source.Pullspec().Name()
	}
	return nil
}

// search looks for the accepted payload with the release's images.
func (s *shadow) search(ctx context.Context) error {
	tags, err := s.env.Accepted(ctx)
	if err != nil {
		return err
	}
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b controller.Tag) int { return graph.Compare(b.Name, a.Name) })
	for _, t := range tags[:min(len(tags), MaxCandidates)] {
		ref, err := name.ParseReference(t.PullSpec, name.StrictValidation)
		if err != nil {
			continue
		}
		r, err := payload.Open(ctx, s.env.Registry, ref, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(payload.Compare(s.real, r).Images) == 0 {
			s.source = r
			return nil
		}
	}
	return nil
}

// before are the versions of a list that are older than the release: those that
// were there when it was made.
func (s *shadow) before(list []string) []string {
	var out []string
	for _, v := range versions(list) {
		if v.Compare(s.parsed) < 0 {
			out = append(out, v.String())
		}
	}
	return out
}

// name is what we would have called it.
func (s *shadow) name(context.Context) error {
	if s.source == nil {
		s.unknown(SubjectVersion, "the payload that it was made of was not found")
		return nil
	}
	from, err := stream.ParseVersion(s.source.Version())
	if err != nil {
		s.unknown(SubjectVersion, "%v", err)
		return nil
	}
	w := &wish{sourceVersion: from, now: s.real.References.Created, used: s.before(s.used)}
	r := &register{}
	for _, v := range s.register.Reservations {
		if len(s.before([]string{v.Name})) > 0 {
			r.Reservations = append(r.Reservations, v)
		}
	}
	next, err := r.next(s.settings, w)
	if err != nil {
		return err
	}
	if next != s.parsed {
		s.differ(SubjectVersion, "the name", s.version, next.String())
	}
	s.same(SubjectVersion)
	return nil
}

// leads are the versions that we would have let lead to it.
func (s *shadow) leads(context.Context) error {
	p := &promotion{settings: s.settings, version: s.version, register: s.register, published: s.published}
	var err error
	if s.previous, err = p.previous(); err != nil {
		return err
	}
	theirs := slices.Clone(s.real.Metadata.Previous)
	for _, v := range s.previous {
		if !slices.Contains(theirs, v) {
			s.differ(SubjectPrevious, "a promoted release leads nowhere", "", v)
		}
	}
	promoted := s.register.promoted(s.published)
	for _, v := range theirs {
		switch {
		case slices.Contains(s.previous, v):
		case slices.Contains(promoted, v):
			s.differ(SubjectPrevious, "a release that is not asked for", v, "")
		default:
			s.differ(SubjectPrevious, "a version that was never promoted: no cluster has it", v, "")
		}
	}
	s.same(SubjectPrevious)
	return nil
}

// overlay reads one image that was never pushed.
type overlay struct {
	payload.Images
	built *payload.Built
}

func (o overlay) digest() v1.Hash {
	if o.built.Index != nil {
		return o.built.ListDigest
	}
	return o.built.Digest
}

func (o overlay) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	if ref.Identifier() != o.digest().String() {
		return o.Images.Head(ctx, ref)
	}
	d := &v1.Descriptor{Digest: o.digest()}
	var err error
	if o.built.Index != nil {
		if d.MediaType, err = o.built.Index.MediaType(); err == nil {
			d.Size, err = o.built.Index.Size()
		}
	} else if d.MediaType, err = o.built.Image.MediaType(); err == nil {
		d.Size, err = o.built.Image.Size()
	}
	return d, err
}

func (o overlay) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	if ref.Identifier() == o.digest().String() && o.built.Index == nil {
		return o.built.Image, nil
	}
	if ref.Identifier() == o.built.Digest.String() {
		return o.built.Image, nil
	}
	return o.Images.Image(ctx, ref)
}

func (o overlay) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	if o.built.Index != nil && ref.Identifier() == o.digest().String() {
		return o.built.Index, nil
	}
	return o.Images.Index(ctx, ref)
}

// assembly makes the release again, at its time.
func (s *shadow) assembly(ctx context.Context) error {
	subjects := []Subject{SubjectImages, SubjectManifests, SubjectMetadata, SubjectLayer}
	if s.source == nil {
		for _, subject := range subjects {
			s.unknown(subject, "the payload that it was made of was not found")
		}
		return nil
	}
	r := Reservation{At: s.real.References.Created}
	built, err := assembleAs(ctx, s.env.Registry, s.settings, s.source, r, s.previous, s.version)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		for _, subject := range subjects {
			s.unknown(subject, "it cannot be made of %s: %v", s.out.Source, err)
		}
		return nil
	}
	o := overlay{s.env.Registry, built}
	ref, err := name.NewDigest(s.settings.Release+"@"+o.digest().String(), name.StrictValidation)
	if err != nil {
		return err
	}
	ours, err := payload.Open(ctx, o, ref, nil)
	if err != nil {
		return err
	}
	d := payload.Compare(s.real, ours)
	for _, c := range d.Images {
		s.differ(SubjectImages, "image "+c.Name, pullspec(c.From), pullspec(c.To))
	}
	for _, c := range d.Manifests {
		what := "manifest " + c.File
		switch {
		case c.From == nil:
			what += " is missing"
		case c.To == nil:
			what += " would not be there"
		case c.Formatting:
			what += " is written in another way"
		}
		s.differ(SubjectManifests, what, "", "")
	}
	theirs, mine := texts(s.real.Metadata.Metadata), texts(ours.Metadata.Metadata)
	for _, k := range slices.Sorted(maps.Keys(theirs)) {
		if mine[k] != theirs[k] {
			s.differ(SubjectMetadata, "metadata "+k, theirs[k], mine[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(mine)) {
		if _, ok := theirs[k]; !ok {
			s.differ(SubjectMetadata, "metadata "+k, "", mine[k])
		}
	}
	if ours.DiffID != s.real.DiffID {
		s.differ(SubjectLayer, "diff ID of the payload", s.real.DiffID.String(), ours.DiffID.String())
	}
	for _, subject := range subjects {
		s.same(subject)
	}
	return nil
}

func pullspec(t *payload.Tag) string {
	if t == nil {
		return ""
	}
	return t.Pullspec
}

func texts(free map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range free {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// tags looks whether what follows the newest release points to it.
func (s *shadow) tags(ctx context.Context) error {
	p := &promotion{settings: s.settings, version: s.version, parsed: s.parsed, register: s.register, published: s.published}
	want := s.real.Pullspec().DigestStr()
	for _, t := range s.settings.Tags {
		text, err := t.Expand(s.settings.vars(s.parsed))
		if err != nil {
			return err
		}
		if p.older(func(v stream.Version) bool { of, err := t.Expand(s.settings.vars(v)); return err == nil && of == text }) {
			continue
		}
		tag, err := p.tag(s.settings.Release, text)
		if err != nil {
			return err
		}
		d, err := s.env.Registry.Head(ctx, tag)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.differ(SubjectTags, "tag "+text, "", want)
		case err != nil:
			return err
		case d.Digest.String() != want:
			s.differ(SubjectTags, "tag "+text, d.Digest.String(), want)
		}
	}
	s.same(SubjectTags)
	return nil
}

// signature looks for one over the release's own digest and name.
func (s *shadow) signature(ctx context.Context) error {
	if s.settings.Unsigned {
		s.same(SubjectSignature)
		return nil
	}
	if s.env.Keys == nil {
		s.unknown(SubjectSignature, "no keys to check it by")
		return nil
	}
	digest, err := v1.NewHash(s.real.Pullspec().DigestStr())
	if err != nil {
		return err
	}
	p := &promotion{env: s.env, settings: s.settings, version: s.version, assembled: assembled{Digest: digest}}
	var reasons []string
	for n := 1; n <= payload.MaxSignatures; n++ {
		sig, err := readSignature(ctx, s.env.signatures(), s.env.SignaturePrefix+payload.SignatureKey(digest, n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if err = p.accepts(ctx, sig); err == nil {
			s.same(SubjectSignature)
			return nil
		}
		reasons = append(reasons, err.Error())
	}
	if len(reasons) == 0 {
		reasons = []string{"none"}
	}
	s.differ(SubjectSignature, "signature over the release's digest and name", strings.Join(reasons, "; "), p.reference())
	return nil
}

// graph looks for the node, and an edge from each release that leads to it.
func (s *shadow) graph(ctx context.Context) error {
	if s.settings.Graph == "" {
		return nil
	}
	data, _, err := publish.ReadDocument(ctx, s.env.Store, s.settings.Graph)
	if errors.Is(err, fs.ErrNotExist) {
		s.unknown(SubjectGraph, "there is no graph")
		return nil
	}
	if err != nil {
		return err
	}
	g, err := graph.Decode(bytes.NewReader(data))
	if err != nil {
		return err
	}
	at := slices.IndexFunc(g.Nodes, func(n graph.Node) bool {
		plain, _, _ := strings.Cut(n.Version, "+")
		return plain == s.version
	})
	if at < 0 {
		s.differ(SubjectGraph, "the node", "", s.out.Pullspec)
		return nil
	}
	if digestOf(g.Nodes[at].Payload) != digestOf(s.out.Pullspec) {
		s.differ(SubjectGraph, "the node", g.Nodes[at].Payload, s.out.Pullspec)
	}
	_, arch, _ := strings.Cut(g.Nodes[at].Version, "+")
	for _, v := range s.previous {
		from := v
		if arch != "" {
			from += "+" + arch
		}
		if !slices.ContainsFunc(g.Edges, func(e [2]int) bool { return e[1] == at && g.Nodes[e[0]].Version == from }) {
			s.differ(SubjectGraph, "the update from "+v+" is missing", "", "")
		}
	}
	s.same(SubjectGraph)
	return nil
}

// notes are those that we would have published.
func (s *shadow) notes(ctx context.Context) error {
	p := &promotion{env: s.env, settings: s.settings, version: s.version, register: s.register, assembled: assembled{Previous: s.previous}}
	about := &Release{Version: s.version, Pullspec: s.out.Pullspec, Previous: s.previous, Stream: s.settings.Stream, Source: s.out.Source, SourceVersion: "a payload that was not found"}
	if s.source != nil {
		about.SourceVersion = s.source.Version()
	}
	prior, err := p.prior(ctx)
	var log *payload.ChangeLog
	var faults []string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		faults = append(faults, err.Error())
	case err != nil:
		return err
	case prior != nil:
		if log, faults, err = changeLog(ctx, s.env, prior, s.real); err != nil {
			return err
		}
	}
	if s.out.Notes, err = writeNotes(about, s.real, log, faults, !s.settings.Unsigned, s.env.SumsSigner != nil && !s.settings.NoTools); err != nil {
		return err
	}
	theirs := s.opts.Notes
	if theirs == nil {
		theirs, _, err = publish.ReadDocument(ctx, s.env.Store, s.env.key(s.settings.Stream, s.version, notesFile))
		if errors.Is(err, fs.ErrNotExist) {
			s.unknown(SubjectNotes, "those that were published are not known")
			return nil
		}
		if err != nil {
			return err
		}
	}
	sections := func(text []byte) []string {
		var out []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "## ") {
				out = append(out, strings.TrimSpace(line[3:]))
			}
		}
		return out
	}
	if !bytes.Equal(theirs, s.out.Notes) {
		s.differ(SubjectNotes, "release notes, by their sections", strings.Join(sections(theirs), ", "), strings.Join(sections(s.out.Notes), ", "))
	}
	s.same(SubjectNotes)
	return nil
}
