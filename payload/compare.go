package payload

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Difference is what two releases do not have in common. Its JSON is that of
// `oc adm release info FROM TO -o json`.
type Difference struct {
	From, To *Release
	// Images that were added, removed or have another digest, by name.
	Images []ImageChange
	// Manifests that were added, removed or have other bytes, by name.
	Manifests []ManifestChange
}

// ImageChange is a component in two releases; From or To is nil where it is
// not there.
type ImageChange struct {
	Name     string
	From, To *Tag
}

// CodeChanged: the images say that they were built from different commits.
// Another image of the same commit was rebuilt.
func (c *ImageChange) CodeChanged() bool {
	if c.From == nil || c.To == nil {
		return false
	}
	from, to := c.From.Annotations[annotationCommit], c.To.Annotations[annotationCommit]
	return from != "" && to != "" && from != to
}

// ManifestChange is a manifest in two releases; From or To is nil where it is
// not there.
type ManifestChange struct {
	File     string
	From, To []byte
	// Formatting: the objects in it are the same, only how they are written or
	// in which order is not.
	Formatting bool
}

// Compare finds the differences between two releases.
func Compare(from, to *Release) *Difference {
	d := &Difference{From: from, To: to}
	before, after := tagsByName(from), tagsByName(to)
	for _, name := range slices.Sorted(maps.Keys(union(before, after))) {
		a, b := before[name], after[name]
		if a != nil && b != nil && (a.Pullspec == b.Pullspec || sameDigest(a.Pullspec, b.Pullspec)) {
			continue
		}
		d.Images = append(d.Images, ImageChange{name, a, b})
	}
	oldFiles, newFiles := filesByName(from), filesByName(to)
	for _, name := range slices.Sorted(maps.Keys(union(oldFiles, newFiles))) {
		a, b := oldFiles[name], newFiles[name]
		if a != nil && b != nil && bytes.Equal(a.data, b.data) {
			continue
		}
		c := ManifestChange{File: name}
		if a != nil {
			c.From = a.data
		}
		if b != nil {
			c.To = b.data
		}
		c.Formatting = a != nil && b != nil && sameObjects(*a, *b)
		d.Manifests = append(d.Manifests, c)
	}
	return d
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func sameDigest(a, b string) bool {
	_, x, ok := strings.Cut(a, "@")
	_, y, ok2 := strings.Cut(b, "@")
	return ok && ok2 && x == y
}

// tagsByName are the components of a release.
func tagsByName(r *Release) map[string]*Tag {
	out := map[string]*Tag{}
	for i := range r.References.Tags {
		if t := &r.References.Tags[i]; t.Kind == dockerImage {
			out[t.Name] = t
		}
	}
	return out
}

func filesByName(r *Release) map[string]*file {
	out := map[string]*file{}
	for i := range r.files {
		out[r.files[i].name] = &r.files[i]
	}
	return out
}

// sameObjects says whether two files have the same objects; false if one
// cannot be read.
func sameObjects(a, b file) bool {
	if !isManifestName(a.name) {
		return false
	}
	x, ok := objectSet(a)
	y, ok2 := objectSet(b)
	return ok && ok2 && maps.Equal(x, y)
}

func objectSet(f file) (map[objectID]string, bool) {
	out := map[objectID]string{}
	docs := []document{{f.data, 1}}
	if !strings.HasSuffix(f.name, ".json") {
		docs = documents(f.data)
	}
	if len(docs) > MaxDocuments {
		return nil, false
	}
	for _, doc := range docs {
		o, err := decodeObject(doc.data)
		if errors.Is(err, errEmpty) {
			continue
		}
		if err != nil {
			return nil, false
		}
		var text bytes.Buffer
		if err := json.Compact(&text, o.JSON); err != nil {
			return nil, false
		}
		out[objectID{o.Group(), o.Kind, o.Namespace, o.Name}] = text.String()
	}
	return out, true
}

// MarshalJSON writes the members that oc writes, in its order.
func (d *Difference) MarshalJSON() ([]byte, error) {
	from, err := d.From.Info()
	if err != nil {
		return nil, err
	}
	to, err := d.To.Info()
	if err != nil {
		return nil, err
	}
	type reference struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	}
	refer := func(t *Tag) *reference {
		if t == nil {
			return nil
		}
		return &reference{t.Kind, t.Pullspec}
	}
	type imageChange struct {
		Name string     `json:"name"`
		From *reference `json:"from"`
		To   *reference `json:"to"`
	}
	type manifestChange struct {
		Filename string `json:"filename"`
		From     []byte `json:"from"`
		To       []byte `json:"to"`
	}
	images, manifests := map[string]imageChange{}, map[string]manifestChange{}
	for _, c := range d.Images {
		images[c.Name] = imageChange{c.Name, refer(c.From), refer(c.To)}
	}
	for _, c := range d.Manifests {
		manifests[c.File] = manifestChange{c.File, c.From, c.To}
	}
	var o object
	o.put("from", from)
	o.put("to", to)
	o.put("changedImages", images)
	o.put("changedManifests", manifests)
	return o.bytes()
}

// DifferenceTextOptions say what [Difference.WriteText] shows. Nil is the
// default.
type DifferenceTextOptions struct {
	// Now is what the releases' ages are counted from. Zero: their times are
	// shown instead.
	Now time.Time
	// Manifests lists the changed manifests too, which oc does not.
	Manifests bool
}

// WriteText describes the difference for people as `oc adm release info FROM
// TO` does.
func (d *Difference) WriteText(w io.Writer, opts *DifferenceTextOptions) error {
	if opts == nil {
		opts = &DifferenceTextOptions{}
	}
	t := &textWriter{padding: 2}
	created := func(r *Release) string {
		at := r.created()
		if opts.Now.IsZero() {
			return at.Format(time.RFC3339)
		}
		return shortDuration(opts.Now.Sub(at))
	}
	t.row("", "FROM", "TO")
	t.row("Name:", d.From.Version(), d.To.Version())
	t.row("Created:", created(d.From), created(d.To))
	t.section("\n")
	t.row("Version:", d.From.Metadata.Version, d.To.Metadata.Version)
	t.row("Upgrade From:", "", map[bool]string{true: "Yes", false: "No"}[slices.Contains(d.To.Metadata.Previous, d.From.Metadata.Version)])
	t.section("\n")

	width := 0
	for _, c := range d.Images {
		width = max(width, len(oneLine(c.Name)))
	}
	for _, s := range []struct {
		title string
		is    func(c *ImageChange) bool
	}{
		{"Images Changed", func(c *ImageChange) bool { return c.CodeChanged() }},
		{"Images Rebuilt", func(c *ImageChange) bool { return c.From != nil && c.To != nil && !c.CodeChanged() }},
		{"Images Added", func(c *ImageChange) bool { return c.From == nil }},
		{"Images Removed", func(c *ImageChange) bool { return c.To == nil }},
	} {
		var lines []string
		for i := range d.Images {
			c := &d.Images[i]
			if !s.is(c) {
				continue
			}
			line := fmt.Sprintf("  %-*s", width, oneLine(c.Name))
			for _, tag := range []*Tag{c.From, c.To} {
				if tag != nil {
					line += " " + oneLine(digestText(tag.Pullspec))
				}
			}
			lines = append(lines, line)
		}
		if len(lines) > 0 {
			t.section(s.title + ":\n" + strings.Join(lines, "\n") + "\n\n")
		}
	}
	if opts.Manifests && len(d.Manifests) > 0 {
		t.section("Manifests Changed:\n")
		for _, c := range d.Manifests {
			t.row("  "+c.File, c.what())
		}
		t.section("\n")
	}
	return t.writeTo(w)
}

func (c *ManifestChange) what() string {
	switch {
	case c.From == nil:
		return "added"
	case c.To == nil:
		return "removed"
	case c.Formatting:
		return "changed (formatting)"
	}
	return "changed"
}

// created is when the release was made.
func (r *Release) created() time.Time {
	if r.image != nil {
		return r.image.config.Created.UTC()
	}
	return r.References.Created
}

func digestText(pullspec string) string {
	_, digest, _ := strings.Cut(pullspec, "@")
	return cmp.Or(digest, pullspec)
}
