package linkcheck

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// Limits of documents.
const (
	// MaxDocumentSize is the most bytes that a document may have.
	MaxDocumentSize = bootimage.MaxDocumentSize
	// MaxDocumentLinks is how many links one document may have. Stream metadata
	// has two hundred, an index of years of releases a thousand.
	MaxDocumentLinks = 50_000
	// MaxURLSize is the length of the longest address, in bytes.
	MaxURLSize = 2048
	// maxPath is the length of the longest path to an object or list, in bytes:
	// all that is within has it.
	maxPath = 1024
)

// Kind is what a link is of.
type Kind string

// The kinds of links.
const (
	KindFile      Kind = "file"      // with what the document says of its content
	KindSignature Kind = "signature" // of a file, detached
	KindDocument  Kind = "document"  // a release.json or meta.json
	KindAddress   Kind = "address"   // a URL with nothing said of its content: an object of a cloud, a page
	KindImage     Kind = "image"     // a container image
)

// Document is something published.
type Document struct {
	// Name is what reports call it, such as its key.
	Name string
	// URL is where it is or will be published. Relative names are looked for
	// from there; "": they cannot be.
	URL string
	// Data is JSON, or a Kubernetes object in YAML. At most [MaxDocumentSize]
	// bytes.
	Data []byte
}

// Link is one address that a document names.
type Link struct {
	Document string `json:"document"` // its name
	Path     string `json:"path"`     // JSON path of the value that names the address
	Kind     Kind   `json:"kind"`
	// URL is absolute; of an image the pullspec. What is no address stays as
	// the document has it, with Fault.
	URL string `json:"url"`
	// SHA256 and Size are what the document says of the content; "" and 0: nothing.
	SHA256 string `json:"sha256,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes
	// Removed says that builds.json lists the file as deleted by policy.
	Removed bool `json:"removed,omitempty"`
	// Fault is why the value cannot be followed; "" if it can.
	Fault string `json:"fault,omitempty"`

	kept   *kept // of a meta.json: what a cleanup left of its build
	mirror bool  // added by [Options.Mirrors]
}

// kept is the policy-cleanup of a build in builds.json.
type kept struct {
	allImages  bool
	images     []string
	containers bool
}

// Links gives the links of a document in its order. The error, for a document
// that is no JSON or YAML or beyond a limit, is a [*publish.Error].
func Links(doc Document) ([]Link, error) {
	return links(doc, nil)
}

func links(doc Document, left *kept) ([]Link, error) {
	fail := func(err error) ([]Link, error) {
		return nil, &publish.Error{Op: "links", Target: doc.Name, Err: err}
	}
	if len(doc.Data) > MaxDocumentSize {
		return fail(fmt.Errorf("more than %d bytes", MaxDocumentSize))
	}
	w := &walker{doc: doc, left: left}
	if doc.URL != "" {
		var err error
		if w.base, err = url.Parse(doc.URL); err != nil || !w.base.IsAbs() {
			return fail(errors.New("the document's own address is none"))
		}
	}
	root, err := decode(doc.Data)
	if err != nil {
		return fail(err)
	}
	w.document(root)
	if w.err != nil {
		return fail(w.err)
	}
	return w.links, nil
}

// decode reads JSON, or YAML as JSON.
func decode(data []byte) (*node, error) {
	if isJSON(data) {
		return parse(bytes.TrimPrefix(data, []byte("\ufeff")))
	}
	if separator.Match(bytes.TrimPrefix(bytes.TrimSpace(data), []byte("---"))) {
		return nil, fmt.Errorf("more than one YAML document: %w", errors.ErrUnsupported)
	}
	if anchor.Match(data) && alias.Match(data) {
		return nil, fmt.Errorf("YAML with anchors and aliases, with which few bytes become many: %w", errors.ErrUnsupported)
	}
	converted, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	if len(converted) > 2*MaxDocumentSize { // characters that JSON escapes
		return nil, fmt.Errorf("more than %d bytes", 2*MaxDocumentSize)
	}
	root, err := parse(converted)
	if err == nil && root.kind != '{' && root.kind != '[' {
		err = errors.New("neither JSON nor a Kubernetes object")
	}
	return root, err
}

var separator = lazyregexp.New(`(?m)^---(\s|$)`)

// anchor and alias find what may be one: not within a word or an address, and
// with what YAML wants behind it.
var (
	anchor = lazyregexp.New(`(^|[^\w.~=/%+;&?@$()-])&[\w-]+([\s,\]}?:%@\x60\x00\x{85}\x{2028}\x{2029}]|$)`)
	alias  = lazyregexp.New(`(^|[^\w.~=/%+;&?@$()-])\*[\w-]+([\s,\]}?:%@\x60\x00\x{85}\x{2028}\x{2029}]|$)`)
)

// walker collects links.
type walker struct {
	doc   Document
	base  *url.URL
	left  *kept
	links []Link
	err   error
}

func (w *walker) add(l Link) {
	if w.err != nil {
		return
	}
	if len(w.links) == MaxDocumentLinks {
		w.err = fmt.Errorf("more than %d links", MaxDocumentLinks)
		return
	}
	l.Document = w.doc.Name
	if len(l.URL) > MaxURLSize {
		l.URL, l.Fault = l.URL[:MaxURLSize], fmt.Sprintf("longer than %d bytes", MaxURLSize)
	}
	w.links = append(w.links, l)
}

// document looks at what only the top of a document has.
func (w *walker) document(root *node) {
	if data := root.get("data"); root.string("kind") == "ConfigMap" && data != nil {
		for _, m := range data.members {
			at := join("data", m.key)
			if m.value.kind != '"' || !isJSON([]byte(m.value.text)) {
				continue
			}
			inside, err := parse([]byte(m.value.text))
			if err != nil && m.key != "stream" && m.key != "streams" {
				continue // text that looks like JSON
			}
			if err != nil {
				w.err = errors.Join(w.err, fmt.Errorf("%s: %w", at, err))
				return
			}
			w.walk(inside, at)
		}
		return
	}
	w.builds(root)
	w.images(root)
	w.walk(root, "")
}

// builds are the entries of builds.json.
func (w *walker) builds(root *node) {
	builds := root.get("builds")
	if builds == nil || builds.kind != '[' || root.get("schema-version") == nil {
		return
	}
	for i, build := range builds.members {
		arches := build.value.get("arches")
		id := build.value.string("id")
		if arches == nil || arches.kind != '[' {
			continue
		}
		left := cleanup(build.value.get("policy-cleanup"))
		for j, arch := range arches.members {
			l := Link{Kind: KindDocument, Path: item(item("builds", i)+".arches", j), kept: left}
			if segment.MatchString(id) && segment.MatchString(arch.value.text) {
				w.relative(l, w.base, path.Join(id, arch.value.text, bootimage.MetaFile))
				continue
			}
			l.URL, l.Fault = start(id)+"/"+arch.value.text, "not a build id and architecture"
			w.add(l)
		}
	}
}

func cleanup(policy *node) *kept {
	if policy == nil || policy.kind != '{' {
		return nil
	}
	k := &kept{allImages: true, containers: policy.get("containers") == nil}
	list := policy.get("images-kept")
	if list == nil && policy.get("images") == nil {
		return k
	}
	k.allImages = false
	if list != nil {
		for _, m := range list.members {
			k.images = append(k.images, m.value.text)
		}
	}
	return k
}

// images are the files of a meta.json, or of an rhcos.json with its baseURI.
func (w *walker) images(root *node) {
	images := root.get("images")
	if images == nil || images.kind != '{' || root.get("buildid") == nil {
		return
	}
	base := w.base
	if text := root.string("baseURI"); text != "" {
		u, err := url.Parse(text)
		if err != nil || !u.IsAbs() {
			w.add(Link{Path: "baseURI", Kind: KindAddress, URL: text, Fault: "not an address"})
			return
		}
		base = u
	}
	for _, m := range images.members {
		name := m.value.string("path")
		if name == "" {
			continue
		}
		l := Link{Kind: KindFile, Path: join("images", m.key) + ".path", SHA256: m.value.string("sha256"), Size: size(m.value)}
		l.Removed = w.left != nil && !w.left.allImages && !slices.Contains(w.left.images, m.key)
		if !segment.MatchString(name) {
			l.URL, l.Fault = name, "not a file name"
			w.add(l)
			continue
		}
		w.relative(l, base, name)
	}
}

// segment is one name below a folder.
var segment = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}$`)

// relative adds a link to a file below a base, which may be unknown.
func (w *walker) relative(l Link, base *url.URL, name string) {
	if base == nil {
		l.URL, l.Fault = name, "relative, and the document's own address is not known"
	} else {
		l.URL = base.ResolveReference(&url.URL{Path: name}).String()
	}
	w.add(l)
}

// walk adds what every part of a document may have.
func (w *walker) walk(n *node, at string) {
	if w.err != nil {
		return
	}
	if len(at) > maxPath && len(n.members) > 0 {
		w.err = fmt.Errorf("%.80s…: a path of more than %d bytes", at, maxPath)
		return
	}
	switch n.kind {
	case '[':
		for i, m := range n.members {
			w.walk(m.value, item(at, i))
		}
	case '{':
		w.object(n, at)
		for _, m := range n.members {
			w.walk(m.value, join(at, m.key))
		}
	}
}

var byDigest = lazyregexp.New(`^[^@\s]+/[^@\s]+@sha256:[0-9a-f]{64}$`)

func (w *walker) object(n *node, at string) {
	sha256, length, image, versioned := n.string("sha256"), size(n), start(n.string("image")), n.string("version") != ""
	signed, pushed := false, false
	// The same key twice is two links: readers differ in which they take. What
	// belongs to all of them is there once.
	for _, m := range n.members {
		if m.value.kind != '"' || m.value.text == "" {
			continue
		}
		text, here := m.value.text, join(at, m.key)
		switch m.key {
		case "location", "url":
			l := Link{Kind: KindFile, Path: here, SHA256: sha256, Size: length}
			if m.key == "url" && l.SHA256 == "" {
				l.Kind = KindAddress
				if !strings.Contains(text, "://") {
					continue
				}
			}
			w.address(l, text)
			if !signed {
				w.signatures(n, at)
			}
			signed = true
		case "digest-ref":
			w.image(here, text)
			if image != "" {
				w.image(join(at, "image"), image)
			}
		case "digest":
			if image == "" {
				continue
			}
			w.image(here, image+"@"+text)
			if !pushed {
				w.pushed(n, at, image)
			}
			pushed = true
		case "payload":
			if byDigest.MatchString(text) {
				w.image(here, text)
			}
		case "metadata":
			if versioned {
				w.address(Link{Kind: KindDocument, Path: here}, text)
			}
		}
	}
}

func (w *walker) signatures(n *node, at string) {
	for _, s := range n.members {
		if s.key == "signature" && s.value.kind == '"' && s.value.text != "" {
			w.address(Link{Kind: KindSignature, Path: join(at, s.key)}, s.value.text)
		}
	}
}

// pushed is what meta.json says of an image beside its digest.
func (w *walker) pushed(n *node, at, image string) {
	if list := n.string("manifest-list-digest"); list != "" {
		w.image(join(at, "manifest-list-digest"), image+"@"+list)
	}
	if tags := n.get("tags"); tags != nil && tags.kind == '[' {
		for i, tag := range tags.members {
			if tag.value.kind == '"' {
				w.image(item(join(at, "tags"), i), image+":"+tag.value.text)
			}
		}
	}
}

// start is as much of a text that many links begin with as makes them too long.
func start(text string) string { return text[:min(len(text), MaxURLSize+1)] }

func (w *walker) image(at, pullspec string) {
	// Containers of a build are removed together.
	w.add(Link{Kind: KindImage, Path: at, URL: pullspec, Removed: w.left != nil && !w.left.containers})
}

// address adds a link by an address, which may be relative to the document.
func (w *walker) address(l Link, text string) {
	l.URL = text
	switch u, err := url.Parse(text); {
	case err != nil:
		l.Fault = "not an address"
	case u.IsAbs():
		if u.Host == "" && u.Scheme != "file" {
			l.Fault = "an address without host"
		}
	case strings.ContainsAny(text, " <>\"{}"):
		l.Fault = "not an address"
	case w.base == nil:
		l.Fault = "relative, and the document's own address is not known"
	default:
		l.URL = w.base.ResolveReference(u).String()
	}
	w.add(l)
}

// size is what an object says of a file's; 0 if nothing, or nothing sensible.
func size(n *node) int64 {
	v := n.get("size")
	if v == nil || v.kind != 0 {
		return 0
	}
	s, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || s < 0 {
		return 0
	}
	return s
}
