package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Limits of a set of copies.
const (
	MaxCopies     = 100_000
	MaxCopiesSize = 64 << 20 // bytes of the JSON form that [DecodeCopies] reads
	maxCopyStage  = 1000
)

// Copy says in data that an image or index is to be in another place too. A
// room that makes copies declares a struct of its own with the same fields in
// the same order, and converts.
type Copy struct {
	// From is what to copy: "quay.io/okd/scos-content@sha256:…", or a tag, which
	// is resolved once.
	From string `json:"from"`
	// To is the repository it goes to: "mirror.example/okd/content".
	To string `json:"to"`
	// Tags of To point to it once everything of the whole set is in place.
	Tags []string `json:"tags,omitempty"`
	// Platforms choose from an index, as "linux/amd64" or "linux/arm64/v8"; none:
	// all. What arrives is an index of the chosen entries, with another digest.
	// A plain image is copied whatever its platform is. An index within an
	// index is taken or left as a whole, by the platform of its entry.
	Platforms []string `json:"platforms,omitempty"`
	// Sparse keeps the index, and so its digest, although only Platforms of it
	// are copied. Many registries refuse such an index.
	Sparse bool `json:"sparse,omitempty"`
	// Referrers also copies the manifests whose subject this is, or is a
	// manifest in it; the source must list them ([Referrers]).
	Referrers bool `json:"referrers,omitempty"`
	// Signatures also copies what cosign keeps under the tags
	// sha256-….sig, .att and .sbom of it and of the manifests in it.
	Signatures bool `json:"signatures,omitempty"`
	// Stage orders copies: nothing of a stage is written before all manifests of
	// lower stages are in place. 0 to 1000.
	Stage int `json:"stage,omitempty"`
}

// DecodeCopies reads a JSON array of copies and checks it by [CheckCopies].
// Unknown fields and more than [MaxCopiesSize] bytes are errors.
func DecodeCopies(r io.Reader) ([]Copy, error) {
	fail := func(err error) ([]Copy, error) { return nil, &Error{Op: "decode", Target: "copies", Err: err} }
	data, err := io.ReadAll(io.LimitReader(r, MaxCopiesSize+1))
	if err != nil {
		return fail(err)
	}
	if len(data) > MaxCopiesSize {
		return fail(fmt.Errorf("more than %d bytes", MaxCopiesSize))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var copies []Copy
	if err := dec.Decode(&copies); err != nil {
		return fail(fmt.Errorf("%.500w", err)) // it quotes keys and numbers of any length
	}
	if _, err := dec.Token(); err != io.EOF {
		return fail(errors.New("data after the copies"))
	}
	return copies, CheckCopies(copies)
}

// CheckCopies reports every fault of copies, joined, each with its place such
// as "copies[3].from". Two copies that give one tag to two sources are a fault.
// The error wraps [io/fs.ErrInvalid].
func CheckCopies(copies []Copy) error {
	_, err := parseCopies(copies)
	return err
}

// job is a copy with its names parsed.
type job struct {
	Copy
	from      name.Reference
	to        name.Repository
	platforms []v1.Platform

	// What planning found:
	top          v1.Descriptor // what is to be at the destination
	there        bool          // it is
	items        []*item       // manifests to write, in this order
	tags, signed []tagging     // tags to set; cosign's go first
}

func (j *job) String() string { return j.From + " to " + j.To }

func parseCopies(copies []Copy) ([]*job, error) {
	v := &planCheck{}
	jobs := make([]*job, 0, min(len(copies), MaxCopies))
	tags := map[[2]string]int{} // repository and tag
	if len(copies) > MaxCopies {
		v.add("copies", "%d, at most %d are allowed", len(copies), MaxCopies)
		copies = nil
	}
	for i, c := range copies {
		at := func(field string) string { return fmt.Sprintf("copies[%d].%s", i, field) }
		from, err := name.ParseReference(c.From, name.StrictValidation)
		if err != nil {
			v.add(at("from"), "%.200q is no reference", c.From)
		} else if d, ok := from.(name.Digest); ok {
			v.digest(at("from"), d.DigestStr())
		}
		to, err := name.NewRepository(c.To, name.StrictValidation)
		if err != nil {
			v.add(at("to"), "%.200q is no repository", c.To)
		}
		for k, tag := range c.Tags {
			where := at(fmt.Sprintf("tags[%d]", k))
			if _, err := name.NewTag("registry.invalid/x:"+tag, name.StrictValidation); err != nil || strings.ContainsAny(tag, ":/@") {
				v.add(where, "%.140q is no tag", tag)
				continue
			}
			full := [2]string{c.To, tag}
			before, ok := tags[full]
			if ok && before != i && !sameContent(copies[before], c) {
				v.add(where, "%.200q is of copies[%d] already", c.To+":"+tag, before)
			}
			if !ok {
				tags[full] = i
			}
		}
		var platforms []v1.Platform
		for k, text := range c.Platforms {
			p, err := v1.ParsePlatform(text)
			if err != nil || p.OS == "" || p.Architecture == "" || strings.ContainsFunc(text, isControl) {
				v.add(at(fmt.Sprintf("platforms[%d]", k)), "%.100q is no platform", text)
				continue
			}
			platforms = append(platforms, *p)
		}
		if c.Sparse && len(c.Platforms) == 0 {
			v.add(at("sparse"), "without platforms")
		}
		if c.Stage < 0 || c.Stage > maxCopyStage {
			v.add(at("stage"), "%d, must be 0 to %d", c.Stage, maxCopyStage)
		}
		if len(v.faults) == 0 {
			jobs = append(jobs, &job{Copy: c, from: from, to: to, platforms: platforms})
		}
	}
	if len(v.faults) == 0 {
		return jobs, nil
	}
	if v.more > 0 {
		v.faults = append(v.faults, fmt.Errorf("and %d more: %w", v.more, fs.ErrInvalid))
	}
	return nil, &Error{Op: "check", Target: "copies", Err: errors.Join(v.faults...)}
}

// sameContent reports whether two copies bring the same content to a tag.
func sameContent(a, b Copy) bool {
	return a.From == b.From && a.Sparse == b.Sparse && slices.Equal(a.Platforms, b.Platforms)
}
