package layoutregistry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// Names of an OCI image layout, image-spec v1.1 image-layout.md, and our own.
const (
	indexFile  = "index.json"
	layoutFile = "oci-layout"
	blobsDir   = "blobs"
	tmpDir     = ".tmp"

	refName       = "org.opencontainers.image.ref.name"
	layoutVersion = "1.0.0"
	maxLayoutSize = 4 << 10
	// maxFound bounds the search for a manifest among the children of indexes.
	maxFound = 10000
)

// layout is one open repository folder. os.Root keeps every name and symbolic
// link inside it.
type layout struct {
	root     *os.Root
	registry *Registry
	path     string // in the registry
}

func (l *layout) close() { l.root.Close() }

// open opens repo's folder for reading.
func (r *Registry) open(ctx context.Context, repo name.Repository) (*layout, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := repositoryPath(repo)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	sub, err := root.OpenRoot(p)
	if err != nil {
		return nil, err
	}
	return &layout{sub, r, p}, nil
}

// readFile reads a regular file of at most limit bytes.
func (l *layout) readFile(name string, limit int64) ([]byte, error) {
	f, err := l.regular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name, limit)
}

func readLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", name, limit, errors.ErrUnsupported)
	}
	return data, nil
}

// regular opens a regular file; a pipe in its place must not block.
func (l *layout) regular(name string) (*os.File, error) {
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return l.root.Open(name)
}

func blobPath(h v1.Hash) string { return filepath.Join(blobsDir, h.Algorithm, h.Hex) }

// blob opens a blob, unverified.
func (l *layout) blob(h v1.Hash) (*os.File, error) {
	if err := ociimage.CheckDigest(h); err != nil {
		return nil, err
	}
	return l.regular(blobPath(h))
}

// stat makes sure that desc's blob is there in the right size.
func (l *layout) stat(desc v1.Descriptor) error {
	if err := ociimage.CheckDigest(desc.Digest); err != nil {
		return err
	}
	info, err := l.root.Stat(blobPath(desc.Digest))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != desc.Size {
		return fmt.Errorf("%s has %d bytes, want %d: %w", blobPath(desc.Digest), info.Size(), desc.Size, verify.ErrDigest)
	}
	return nil
}

// manifest reads and verifies desc's manifest.
func (l *layout) manifest(desc v1.Descriptor) ([]byte, error) {
	if err := ociimage.CheckManifestSize(desc.Size); err != nil {
		return nil, err
	}
	if err := ociimage.CheckDigest(desc.Digest); err != nil {
		return nil, err
	}
	raw, err := l.readFile(blobPath(desc.Digest), ociimage.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	return raw, verify.Bytes(raw, desc.Digest, desc.Size)
}

// index is index.json. What is not understood is kept as it was.
type index struct {
	entries []entry
	rest    map[string]json.RawMessage // other keys

	// sorted is for [index.tags] of an index that nobody changes.
	sorted struct {
		once sync.Once
		tags []string
	}
}

// entry is one descriptor of index.json.
type entry struct {
	desc v1.Descriptor
	tag  string          // "": untagged
	raw  json.RawMessage // as read; nil: made or changed here
}

func (l *layout) checkLayout() error {
	data, err := l.readFile(layoutFile, maxLayoutSize)
	if err != nil {
		return err
	}
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return fmt.Errorf("%s: %w", layoutFile, err)
	}
	if version.Version != layoutVersion {
		return fmt.Errorf("%s: version %.40q: %w", layoutFile, version.Version, errors.ErrUnsupported)
	}
	return nil
}

func decodeIndex(data []byte) (*index, error) {
	rest := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &rest); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var manifests []json.RawMessage
	if raw, ok := rest["manifests"]; ok {
		if err := json.Unmarshal(raw, &manifests); err != nil {
			return nil, fmt.Errorf("%s: manifests: %w", indexFile, err)
		}
	}
	delete(rest, "manifests")
	delete(rest, "schemaVersion")
	delete(rest, "mediaType")
	idx := &index{rest: rest, entries: make([]entry, 0, len(manifests))}
	for i, raw := range manifests {
		var desc v1.Descriptor
		if err := json.Unmarshal(raw, &desc); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", indexFile, i+1, err)
		}
		if err := ociimage.CheckDigest(desc.Digest); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", indexFile, i+1, err)
		}
		if desc.Size < 0 {
			return nil, fmt.Errorf("%s: entry %d: %s has %d bytes", indexFile, i+1, desc.Digest, desc.Size)
		}
		idx.entries = append(idx.entries, entry{desc: desc, tag: desc.Annotations[refName], raw: raw})
	}
	return idx, nil
}

func (x *index) encode() ([]byte, error) {
	var out bytes.Buffer
	// In an order that does not tell who wrote first. Of one tag the first entry
	// counts and stays the first.
	slices.SortStableFunc(x.entries, func(a, b entry) int {
		c := cmp.Or(strings.Compare(a.tag, b.tag), strings.Compare(a.subject(), b.subject()))
		if c == 0 && a.tag == "" {
			c = strings.Compare(a.desc.Digest.String(), b.desc.Digest.String())
		}
		return c
	})
	out.WriteString(`{"schemaVersion":2,"mediaType":"` + string(types.OCIImageIndex) + `","manifests":[`)
	for i, e := range x.entries {
		if i > 0 {
			out.WriteByte(',')
		}
		raw := e.raw
		if raw == nil {
			var err error
			if raw, err = json.Marshal(e.desc); err != nil {
				return nil, err
			}
			x.entries[i].raw = raw
		}
		out.Write(raw)
	}
	out.WriteByte(']')
	keys := make([]string, 0, len(x.rest))
	for key := range x.rest {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		out.WriteByte(',')
		out.Write(name)
		out.WriteByte(':')
		out.Write(x.rest[key])
	}
	out.WriteString("}\n")
	if out.Len() > MaxIndexSize {
		return nil, fmt.Errorf("%s would have %d bytes, limit %d: %w", indexFile, out.Len(), MaxIndexSize, errors.ErrUnsupported)
	}
	return out.Bytes(), nil
}

// byTag finds a tag; the first entry counts, as other readers have it.
func (x *index) byTag(tag string) (v1.Descriptor, error) {
	for _, e := range x.entries {
		if e.tag == tag {
			return e.desc, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("no tag %q: %w", tag, fs.ErrNotExist)
}

// tags are the tags of an index that nobody changes, ascending, without names
// that no registry would take for one. The caller does not change them.
func (x *index) tags() []string {
	x.sorted.once.Do(func() {
		for _, e := range x.entries {
			if ociimage.CheckTag(e.tag) == nil {
				x.sorted.tags = append(x.sorted.tags, e.tag)
			}
		}
		slices.Sort(x.sorted.tags)
		x.sorted.tags = slices.Compact(x.sorted.tags)
	})
	return x.sorted.tags
}

// find finds a manifest by digest among the entries, then among what the
// indexes of the layout name, at any depth up to [ociimage.MaxDepth].
func (l *layout) find(ctx context.Context, x *index, h v1.Hash) (v1.Descriptor, error) {
	if err := ociimage.CheckDigest(h); err != nil {
		return v1.Descriptor{}, err
	}
	level := make([]v1.Descriptor, 0, len(x.entries))
	for _, e := range x.entries {
		if e.desc.Digest == h {
			return e.desc, nil
		}
		if e.desc.MediaType.IsIndex() {
			level = append(level, e.desc)
		}
	}
	seen := map[v1.Hash]bool{}
	for depth := 1; depth < ociimage.MaxDepth && len(level) > 0; depth++ {
		var next []v1.Descriptor
		for _, parent := range level {
			if err := ctx.Err(); err != nil {
				return v1.Descriptor{}, err
			}
			if seen[parent.Digest] {
				continue
			}
			seen[parent.Digest] = true
			for _, child := range l.children(parent) { // a damaged neighbour is its own readers' affair
				if child.Digest == h {
					return child, nil
				}
				if child.MediaType.IsIndex() && len(next) < maxFound {
					next = append(next, child)
				}
			}
		}
		level = next
	}
	return v1.Descriptor{}, fmt.Errorf("no manifest %s: %w", h, fs.ErrNotExist)
}

// add makes sure that desc is an entry. It reports whether x changed.
func (x *index) add(desc v1.Descriptor) bool {
	for _, e := range x.entries {
		if e.desc.Digest == desc.Digest && e.subject() == "" {
			return false
		}
	}
	x.entries = append(x.entries, entry{desc: desc})
	return true
}

// adopt removes the entries of an index's children that are nothing but
// findable: they are found through the index now.
func (x *index) adopt(children []v1.Descriptor) {
	if len(children) == 0 {
		return
	}
	of := map[v1.Hash]bool{}
	for _, d := range children {
		of[d.Digest] = true
	}
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return of[e.desc.Digest] && len(e.desc.Annotations) == 0 })
}

// remove removes all entries of a manifest.
func (x *index) remove(h v1.Hash) {
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return e.desc.Digest == h && e.subject() == "" })
}

// holders are the manifests that have a tag: one, unless others wrote more.
func (x *index) holders(tag string) []v1.Hash {
	var out []v1.Hash
	for _, e := range x.entries {
		if e.tag == tag {
			out = append(out, e.desc.Digest)
		}
	}
	return out
}

// removeTag removes a tag. Its manifest stays as an untagged entry.
func (x *index) removeTag(tag string) {
	count := x.count()
	kept := x.entries[:0]
	for _, e := range x.entries {
		if e.tag == tag {
			if count[e.desc.Digest]--; count[e.desc.Digest] > 0 {
				continue
			}
			e = e.retag("")
		}
		kept = append(kept, e)
	}
	x.entries = kept
}

// count counts the entries of each manifest.
func (x *index) count() map[v1.Hash]int {
	count := map[v1.Hash]int{}
	for _, e := range x.entries {
		if e.subject() == "" {
			count[e.desc.Digest]++
		}
	}
	return count
}

// setTag points tag at desc and nothing else. A manifest that loses its last
// tag stays as an untagged entry. It reports whether x changed.
func (x *index) setTag(tag string, desc v1.Descriptor) bool {
	count := x.count()
	holders, right := 0, false
	for _, e := range x.entries {
		if e.tag == tag {
			holders++
			right = right || e.desc.Digest == desc.Digest
		}
	}
	if right && holders == 1 {
		return false
	}
	kept := x.entries[:0]
	placed := false
	for _, e := range x.entries {
		switch {
		case e.tag == tag && e.desc.Digest == desc.Digest && !placed:
			placed = true
		case e.tag == tag:
			if count[e.desc.Digest]--; count[e.desc.Digest] > 0 || e.desc.Digest == desc.Digest {
				continue
			}
			e = e.retag("")
		case e.tag == "" && e.subject() == "" && e.desc.Digest == desc.Digest && !placed && !right:
			e = e.retag(tag)
			placed = true
		}
		kept = append(kept, e)
	}
	x.entries = kept
	if !placed {
		d := v1.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform, ArtifactType: desc.ArtifactType}
		x.entries = append(x.entries, entry{desc: d}.retag(tag))
	}
	return true
}

// retag gives e with another tag or none, its other annotations kept.
func (e entry) retag(tag string) entry {
	desc := *e.desc.DeepCopy()
	if tag == "" {
		delete(desc.Annotations, refName)
		if len(desc.Annotations) == 0 {
			desc.Annotations = nil
		}
	} else {
		if desc.Annotations == nil {
			desc.Annotations = map[string]string{}
		}
		desc.Annotations[refName] = tag
	}
	return entry{desc: desc, tag: tag}
}
