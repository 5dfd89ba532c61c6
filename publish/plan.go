package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Limits of a [Plan].
const (
	PlanVersion  = 1        // of the JSON form
	MaxPlanSize  = 64 << 20 // bytes of the JSON form
	MaxPlanSteps = 200_000
	// maxArgumentDepth of lists and objects in each other: indented, what is
	// deeper has far more bytes than it was read from.
	maxArgumentDepth = 100
	maxPlanText      = 1024 // bytes of a text or reference
)

// Stage is a part of a [Plan]. Everything of one stage is in place before
// anything of the next begins.
type Stage string

// The stages, in the order in which [Apply] goes through them.
const (
	StageContent      Stage = "content"      // disks, blobs, manifests by digest
	StageCatalogue    Stage = "catalogue"    // what was built, not yet announced
	StageGates        Stage = "gates"        // checks that must have passed
	StageAnnouncement Stage = "announcement" // releases, stream files, the graph
	StagePointers     Stage = "pointers"     // tags, "latest"
)

// Stages are all stages, in order.
func Stages() []Stage {
	return []Stage{StageContent, StageCatalogue, StageGates, StageAnnouncement, StagePointers}
}

// Plan says what is to be published, in data alone: it can be printed, stored
// and applied on another machine. The bytes come from an [Env] by digest.
//
// Within a stage, objects, images and indexes go first and in parallel, then
// documents, then tags, one after the other in the order of the plan.
type Plan struct {
	Version int    `json:"version"` // PlanVersion
	Name    string `json:"name"`    // of what is published, for people: a build or release
	Steps   []Step `json:"steps"`
}

// Step is one thing to do; exactly one of the pointers is set.
type Step struct {
	Stage    Stage         `json:"stage"`
	Object   *ObjectStep   `json:"object,omitempty"`
	Image    *ImageStep    `json:"image,omitempty"`
	Index    *ImageStep    `json:"index,omitempty"`
	Document *DocumentStep `json:"document,omitempty"`
	Tag      *TagStep      `json:"tag,omitempty"`
	Gate     *GateStep     `json:"gate,omitempty"`
}

// ObjectStep puts an object. It belongs to any stage but gates.
type ObjectStep struct {
	Key          string `json:"key"`
	SHA256       string `json:"sha256"` // lower-case hexadecimal
	Size         int64  `json:"size"`   // bytes
	ContentType  string `json:"contentType,omitempty"`
	CacheControl string `json:"cacheControl,omitempty"`
	// Immutable says that other content at Key is an error ([io/fs.ErrExist])
	// and not replaced.
	Immutable bool `json:"immutable,omitempty"`
}

// ImageStep writes an image or index, by digest. It belongs to content.
type ImageStep struct {
	Repository string          `json:"repository"` // with its registry: "quay.io/okd/scos-release"
	Digest     string          `json:"digest"`     // "sha256:…"
	Size       int64           `json:"size"`       // of the manifest, bytes
	MediaType  types.MediaType `json:"mediaType"`
	// From are repositories of the same registry that may hold the blobs.
	From []string `json:"from,omitempty"`
}

// DocumentStep changes a document by [Update] through the transform of this
// name in [Env.Transforms]. Transforms must be idempotent: applied to their own
// result they return it unchanged. It belongs to any stage but content and gates.
type DocumentStep struct {
	Key          string          `json:"key"`
	Transform    string          `json:"transform"`
	Argument     json.RawMessage `json:"argument,omitempty"`
	ContentType  string          `json:"contentType,omitempty"`
	CacheControl string          `json:"cacheControl,omitempty"`
}

// TagStep points a tag at a manifest of the same repository. It belongs to
// pointers.
type TagStep struct {
	Reference string `json:"reference"` // "quay.io/okd/scos-release:4.22.0-okd-scos.1"
	Digest    string `json:"digest"`
}

// GateStep holds the plan until the gate of this name has passed. It belongs to
// gates.
type GateStep struct {
	Name string `json:"name"`
}

// kind and target of a step, for people; "" unless exactly one pointer is set.
func (s *Step) kind() (kind, target string) {
	n := 0
	set := func(k, t string) { kind, target = k, t; n++ }
	if s.Object != nil {
		set("object", s.Object.Key)
	}
	if s.Image != nil {
		set("image", s.Image.Repository+"@"+s.Image.Digest)
	}
	if s.Index != nil {
		set("index", s.Index.Repository+"@"+s.Index.Digest)
	}
	if s.Document != nil {
		set("document", s.Document.Key)
	}
	if s.Tag != nil {
		set("tag", s.Tag.Reference)
	}
	if s.Gate != nil {
		set("gate", s.Gate.Name)
	}
	if n != 1 {
		return "", ""
	}
	return kind, target
}

// String names the step: its kind and target.
func (s Step) String() string {
	kind, target := s.kind()
	return kind + " " + target
}

// id is the SHA-256 of the step's JSON form: what a journal knows it by.
func (s *Step) id() (string, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// DecodePlan reads a plan in its JSON form and checks it by [Plan.Validate].
// Unknown fields, other versions ([errors.ErrUnsupported]), and plans beyond
// [MaxPlanSize] are errors.
func DecodePlan(r io.Reader) (*Plan, error) {
	fail := func(err error) (*Plan, error) { return nil, &Error{Op: "decode", Target: "plan", Err: err} }
	data, err := io.ReadAll(io.LimitReader(r, MaxPlanSize+1))
	if err != nil {
		return fail(err)
	}
	if len(data) > MaxPlanSize {
		return fail(fmt.Errorf("more than %d bytes", MaxPlanSize))
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fail(fmt.Errorf("%.500w", err)) // it quotes keys and numbers of any length
	}
	if head.Version != PlanVersion {
		return fail(fmt.Errorf("version %d, want %d: %w", head.Version, PlanVersion, errors.ErrUnsupported))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	p := &Plan{}
	if err := dec.Decode(p); err != nil {
		return fail(fmt.Errorf("%.500w", err))
	}
	if _, err := dec.Token(); err != io.EOF {
		return fail(errors.New("data after the plan"))
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Encode writes the JSON form, indented. The bytes are a function of the plan.
// More than [MaxPlanSize] of them are an error: [DecodePlan] would refuse them.
func (p *Plan) Encode(w io.Writer) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err == nil && len(data) >= MaxPlanSize {
		err = fmt.Errorf("%d bytes and a line break, at most %d are allowed", len(data), MaxPlanSize)
	}
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	if err != nil {
		return &Error{Op: "encode", Target: "plan " + p.Name, Err: err}
	}
	return nil
}

// Digest is the SHA-256 of the plan's JSON form, lower-case hexadecimal. White
// space within the arguments of documents does not count.
func (p *Plan) Digest() (string, error) {
	data, err := json.Marshal(p) // compacts raw messages
	if err != nil {
		return "", &Error{Op: "digest", Target: "plan " + p.Name, Err: err}
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Validate reports every fault of the plan, joined, each with its place such as
// "steps[3].object.key". The error wraps [io/fs.ErrInvalid].
func (p *Plan) Validate() error {
	v := &planCheck{objects: map[string]string{}, documents: map[string]string{}, tags: map[string]string{}, gates: map[string]string{}}
	if p.Version != PlanVersion {
		v.add("version", "%d, want %d", p.Version, PlanVersion)
	}
	if strings.ContainsFunc(p.Name, isControl) {
		v.add("name", "control character")
	}
	if len(p.Steps) > MaxPlanSteps {
		v.add("steps", "%d, at most %d are allowed", len(p.Steps), MaxPlanSteps)
	} else {
		for i := range p.Steps {
			v.step(fmt.Sprintf("steps[%d]", i), &p.Steps[i])
		}
	}
	if len(v.faults) == 0 {
		return nil
	}
	if v.more > 0 {
		v.faults = append(v.faults, fmt.Errorf("and %d more", v.more))
	}
	return &Error{Op: "check", Target: fmt.Sprintf("plan %.80q", p.Name), Err: errors.Join(v.faults...)}
}

// maxFaults bounds what a hostile plan can make us print.
const maxFaults = 100

type planCheck struct {
	faults                          []error
	more                            int
	objects, documents, tags, gates map[string]string // where each was seen
}

func (v *planCheck) add(path, format string, args ...any) {
	if len(v.faults) >= maxFaults {
		v.more++ // what is not shown need not be put in words
		return
	}
	v.fault(fmt.Errorf("%s: "+format+": %w", append(append([]any{path}, args...), fs.ErrInvalid)...))
}

func (v *planCheck) fault(err error) {
	if len(v.faults) >= maxFaults {
		v.more++
		return
	}
	v.faults = append(v.faults, err)
}

// once notes that a target was seen at path.
func (v *planCheck) once(seen map[string]string, target, path string) {
	if before, ok := seen[target]; ok {
		v.add(path, "%.80q is at %s already", target, before)
		return
	}
	seen[target] = path
}

// isControl reports characters that could rewrite a terminal.
func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd }

func (v *planCheck) text(path, text string) {
	if len(text) > maxPlanText {
		v.add(path, "%d bytes, at most %d are allowed", len(text), maxPlanText)
	} else if strings.ContainsFunc(text, isControl) {
		v.add(path, "control character in %q", text)
	}
}

func (v *planCheck) step(path string, s *Step) {
	kind, _ := s.kind()
	if kind == "" {
		v.add(path, "a step has exactly one of object, image, index, document, tag and gate")
		return
	}
	path += "." + kind
	if !slices.Contains(Stages(), s.Stage) {
		v.add(path, "stage %.80q is none of %v", s.Stage, Stages())
		return
	}
	allowed := true
	switch kind {
	case "object":
		allowed = s.Stage != StageGates
	case "image", "index":
		allowed = s.Stage == StageContent
	case "document":
		allowed = s.Stage != StageContent && s.Stage != StageGates
	case "tag":
		allowed = s.Stage == StagePointers
	case "gate":
		allowed = s.Stage == StageGates
	}
	if !allowed {
		v.add(path, "not allowed in stage %s", s.Stage)
	}
	switch {
	case s.Object != nil:
		v.key(path+".key", s.Object.Key)
		v.once(v.objects, s.Object.Key, path+".key")
		if other, ok := v.documents[s.Object.Key]; ok {
			v.add(path+".key", "%.80q is a document at %s", s.Object.Key, other)
		}
		if !isSHA256(s.Object.SHA256) {
			v.add(path+".sha256", "%.80q is no lower-case hexadecimal SHA-256", s.Object.SHA256)
		}
		if s.Object.Size < 0 {
			v.add(path+".size", "%d", s.Object.Size)
		}
		v.text(path+".contentType", s.Object.ContentType)
		v.text(path+".cacheControl", s.Object.CacheControl)
	case s.Image != nil:
		v.image(path, s.Image, false)
	case s.Index != nil:
		v.image(path, s.Index, true)
	case s.Document != nil:
		v.key(path+".key", s.Document.Key)
		v.documents[s.Document.Key] = path + ".key"
		if other, ok := v.objects[s.Document.Key]; ok {
			v.add(path+".key", "%.80q is an object at %s", s.Document.Key, other)
		}
		if s.Document.Transform == "" {
			v.add(path+".transform", "missing")
		}
		v.text(path+".transform", s.Document.Transform)
		if len(s.Document.Argument) > 0 && !json.Valid(s.Document.Argument) {
			v.add(path+".argument", "no JSON")
		} else if depth := jsonDepth(s.Document.Argument); depth > maxArgumentDepth {
			v.add(path+".argument", "nested %d deep, at most %d are allowed", depth, maxArgumentDepth)
		}
		v.text(path+".contentType", s.Document.ContentType)
		v.text(path+".cacheControl", s.Document.CacheControl)
	case s.Tag != nil:
		if _, err := name.NewTag(s.Tag.Reference, name.StrictValidation); err != nil || len(s.Tag.Reference) > maxPlanText {
			v.add(path+".reference", "%.200q is no tag reference", s.Tag.Reference)
		}
		v.once(v.tags, s.Tag.Reference, path+".reference")
		v.digest(path+".digest", s.Tag.Digest)
	case s.Gate != nil:
		if s.Gate.Name == "" {
			v.add(path+".name", "missing")
		}
		v.text(path+".name", s.Gate.Name)
		v.once(v.gates, s.Gate.Name, path+".name")
	}
}

func (v *planCheck) key(path, key string) {
	if err := CheckKey(key); err != nil {
		v.fault(fmt.Errorf("%s: %w", path, err))
	}
}

// jsonDepth is how deep lists and objects are in each other in a valid value.
func jsonDepth(data []byte) (deepest int) {
	depth, text := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case text && c == '\\':
			i++ // what is escaped ends no string
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

func (v *planCheck) digest(path, text string) {
	if h, err := v1.NewHash(text); err != nil || h.Algorithm != "sha256" || !isSHA256(h.Hex) {
		v.add(path, "%.80q is no sha256 digest", text)
	}
}

func (v *planCheck) image(path string, s *ImageStep, index bool) {
	for i, repo := range append([]string{s.Repository}, s.From...) {
		at := path + ".repository"
		if i > 0 {
			at = fmt.Sprintf("%s.from[%d]", path, i-1)
		}
		if _, err := name.NewRepository(repo, name.StrictValidation); err != nil || len(repo) > maxPlanText {
			v.add(at, "%.200q is no repository", repo)
		}
	}
	v.digest(path+".digest", s.Digest)
	if s.Size < 0 {
		v.add(path+".size", "%d", s.Size)
	}
	if index && !s.MediaType.IsIndex() || !index && !s.MediaType.IsImage() {
		v.add(path+".mediaType", "%.80q", s.MediaType)
	}
}

// String prints the plan for people: a table in the order of the stages.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %q, %d steps\n", p.Name, len(p.Steps))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, stage := range Stages() {
		begun := false
		for i := range p.Steps {
			s := &p.Steps[i]
			if s.Stage != stage {
				continue
			}
			if !begun {
				w.Flush()
				fmt.Fprintf(&b, "%s:\n", stage)
				begun = true
			}
			kind, target := s.kind()
			fmt.Fprintf(w, "  %s\t%s\t%s\n", kind, printable(target), printable(s.detail()))
		}
	}
	w.Flush()
	return b.String()
}

// printable has no control characters: keys may hold some of them, and the
// strings in arguments.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return 0xfffd
		}
		return r
	}, text)
}

// detail is what the table says beside kind and target.
func (s *Step) detail() string {
	switch {
	case s.Object != nil:
		text := fmt.Sprintf("%d bytes, sha256 %.12s", s.Object.Size, s.Object.SHA256)
		for _, extra := range []string{s.Object.ContentType, s.Object.CacheControl} {
			if extra != "" {
				text += ", " + extra
			}
		}
		return text
	case s.Image != nil:
		return string(s.Image.MediaType)
	case s.Index != nil:
		return string(s.Index.MediaType)
	case s.Document != nil:
		var argument bytes.Buffer // on one line, as it is in a plan that was not read
		if err := json.Compact(&argument, s.Document.Argument); err != nil {
			return s.Document.Transform
		}
		return s.Document.Transform + " " + argument.String()
	case s.Tag != nil:
		return "-> " + s.Tag.Digest
	}
	return "must have passed"
}
