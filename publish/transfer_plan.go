package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// Limits of what belongs to one copy.
const (
	maxCopyManifests  = 10_000
	maxReferrersDepth = 4 // signatures of attestations of …
)

// manifest is one that may have to be written. It does not change once it is in
// [transfer.manifests].
type manifest struct {
	desc  v1.Descriptor
	raw   []byte
	blobs []v1.Descriptor // each digest once; none of an index
}

// item is a manifest in a job.
type item struct {
	*manifest
	child  bool // an index of the job names it
	sparse bool // an index of which not all entries are copied
	absent bool // the destination was asked and does not have it
	there  bool // it was asked and has it, and all below it
}

// tagging is a tag to set.
type tagging struct {
	tag  name.Tag
	desc v1.Descriptor
}

// plan looks at sources and destinations and notes in each job what is left.
func (t *transfer) plan(ctx context.Context, jobs []*job) error {
	if err := each(ctx, t, jobs, func(j *job) error { return t.look(ctx, j) }); err != nil {
		return err
	}
	for _, j := range jobs {
		if !slices.Contains(t.targets[j.to.RegistryStr()], j.to) {
			t.targets[j.to.RegistryStr()] = append(t.targets[j.to.RegistryStr()], j.to)
		}
		t.totals.Tags += len(j.tags) + len(j.signed)
		for _, it := range j.items {
			t.need(j.to, it.manifest)
		}
	}
	return nil
}

// need counts what must be in a repository.
func (t *transfer) need(repo name.Repository, m *manifest) {
	count := func(desc v1.Descriptor) bool {
		key := placeKey{repo.RegistryStr(), desc.Digest}
		if slices.Contains(t.needed[key], repo) {
			return false
		}
		t.needed[key] = append(t.needed[key], repo)
		return true
	}
	if count(m.desc) {
		t.totals.Manifests++
	}
	for _, blob := range m.blobs {
		if count(blob) {
			t.totals.Blobs++
			t.totals.Bytes += blob.Size
		}
	}
}

// look finds out what a job has to do.
func (t *transfer) look(ctx context.Context, j *job) error {
	d, byDigest := j.from.(name.Digest)
	if byDigest && len(j.platforms) == 0 && !j.Referrers && !j.Signatures {
		// What is in place need not be read.
		digest, err := v1.NewHash(d.DigestStr())
		if err != nil {
			return err
		}
		there, err := t.inPlace(ctx, j, digest)
		if err != nil || there {
			return err
		}
	}
	desc, raw, err := t.read(ctx, j.from)
	if err != nil {
		return err
	}
	w := &treeWalk{transfer: t, job: j, repo: j.from.Context(), seen: map[v1.Hash]bool{}}
	top, err := w.tree(ctx, desc, raw, j.platforms, 1)
	if err != nil {
		return err
	}
	there := false
	if j.top.Digest != top.desc.Digest { // else it was asked for above
		if there, err = t.inPlace(ctx, j, top.desc.Digest); err != nil {
			return err
		}
	}
	j.top = top.desc
	for i := range j.tags {
		j.tags[i].desc = top.desc
	}
	subjects := slices.Clone(w.items)
	switch {
	case there:
		w.items = nil
	case len(w.items) > 0:
		w.items[len(w.items)-1].absent = true
	}
	if j.Referrers {
		if err := w.referrers(ctx, subjects, 1); err != nil {
			return err
		}
	}
	if j.Signatures {
		if err := w.signatures(ctx, subjects); err != nil {
			return err
		}
	}
	j.items = w.items
	return nil
}

// inPlace asks the destination for the job's tags and digest. It notes which
// tags have to be set.
//
// Where everything is in place the tags are all that is asked for; where a tag
// was missing, others of the repository will be, so there the digest comes
// first: without it no tag is right.
func (t *transfer) inPlace(ctx context.Context, j *job, digest v1.Hash) (bool, error) {
	j.top, j.tags = v1.Descriptor{Digest: digest}, nil
	for _, text := range j.Tags {
		j.tags = append(j.tags, tagging{j.to.Tag(text), j.top})
	}
	t.mu.Lock()
	digestFirst := len(j.tags) == 0 || t.untagged[j.to]
	t.mu.Unlock()
	var there *v1.Descriptor
	var err error
	if digestFirst {
		if there, err = t.head(ctx, j.to.Digest(digest.String())); err != nil || there == nil {
			return false, err
		}
	}
	left := j.tags[:0]
	for _, tag := range j.tags {
		at, err := t.head(ctx, tag.tag)
		if err != nil {
			return false, err
		}
		if at != nil && at.Digest == digest {
			there = at
			continue
		}
		left = append(left, tag)
		t.mu.Lock()
		t.untagged[j.to] = true
		t.mu.Unlock()
	}
	j.tags = left
	if there == nil {
		if there, err = t.head(ctx, j.to.Digest(digest.String())); err != nil || there == nil {
			return false, err
		}
	}
	j.there, j.top = true, *there
	for i := range j.tags {
		j.tags[i].desc = *there
	}
	t.event(t.step(j.to, ActionReuse, *there), PhaseDone, 0, nil)
	return true, nil
}

// head asks the destination; nil: it has no such thing.
func (t *transfer) head(ctx context.Context, ref name.Reference) (desc *v1.Descriptor, err error) {
	err = t.ask(ctx, ref.Context(), func() error {
		desc, err = t.to.Head(ctx, ref)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return desc, err
}

// read gets a manifest from the source.
func (t *transfer) read(ctx context.Context, ref name.Reference) (desc v1.Descriptor, raw []byte, err error) {
	err = t.ask(ctx, ref.Context(), func() error {
		desc, raw, err = t.from.Manifest(ctx, ref)
		return err
	})
	if err != nil {
		return desc, nil, err
	}
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return desc, nil, err
	}
	return desc, raw, nil
}

// treeWalk collects the manifests of a job, children before what names them.
type treeWalk struct {
	*transfer
	job   *job
	repo  name.Repository
	seen  map[v1.Hash]bool
	items []*item
}

// tree adds a manifest and all below it.
func (w *treeWalk) tree(ctx context.Context, desc v1.Descriptor, raw []byte, platforms []v1.Platform, depth int) (*manifest, error) {
	if depth > ociimage.MaxDepth {
		return nil, fmt.Errorf("indexes nested more than %d deep: %w", ociimage.MaxDepth, errors.ErrUnsupported)
	}
	m := &manifest{desc: desc, raw: raw}
	sparse := false
	if desc.MediaType.IsIndex() {
		var err error
		if sparse, err = w.index(ctx, m, platforms, depth); err != nil {
			return nil, err
		}
	} else {
		img, err := ociimage.NewImage(ctx, planned{w.transfer}, desc, raw)
		if err != nil {
			return nil, err
		}
		listed, err := ociimage.FromImage(img)
		if err != nil {
			return nil, err
		}
		for _, blob := range listed.Blobs {
			m.blobs = append(m.blobs, v1.Descriptor{MediaType: blob.Desc.MediaType, Digest: blob.Desc.Digest, Size: blob.Desc.Size})
		}
	}
	if w.seen[m.desc.Digest] {
		return m, nil
	}
	w.seen[m.desc.Digest] = true
	m, err := w.keep(m, w.repo)
	if err != nil {
		return nil, err
	}
	if len(w.items) == maxCopyManifests {
		return nil, fmt.Errorf("more than %d manifests: %w", maxCopyManifests, errors.ErrUnsupported)
	}
	w.items = append(w.items, &item{manifest: m, child: depth > 1, sparse: sparse})
	return m, nil
}

// index adds what an index names. Where platforms are chosen m becomes the
// index of these, or, to be left sparse, stays as it is.
func (w *treeWalk) index(ctx context.Context, m *manifest, platforms []v1.Platform, depth int) (sparse bool, err error) {
	idx, err := ociimage.NewIndex(ctx, planned{w.transfer}, m.desc, m.raw)
	if err != nil {
		return false, err
	}
	names, err := idx.IndexManifest()
	if err != nil {
		return false, err
	}
	if len(platforms) > 0 {
		chosen, err := choose(names, platforms)
		if err != nil {
			return false, err
		}
		partly := slices.Contains(chosen, false)
		sparse = partly && w.job.Sparse
		if partly && !sparse {
			if m.raw, err = filterIndex(m.raw, chosen); err != nil {
				return false, err
			}
			m.desc.Size = int64(len(m.raw))
			if m.desc.Digest, _, err = v1.SHA256(bytes.NewReader(m.raw)); err != nil {
				return false, err
			}
		}
		all := names.Manifests
		names.Manifests = nil
		for i, desc := range all {
			if chosen[i] {
				names.Manifests = append(names.Manifests, desc)
			}
		}
	}
	for i, child := range names.Manifests {
		if w.seen[child.Digest] {
			continue
		}
		if !child.MediaType.IsIndex() && !child.MediaType.IsImage() {
			return false, fmt.Errorf("index entry %d is %.100q: %w", i+1, child.MediaType, errors.ErrUnsupported)
		}
		desc, raw, err := w.read(ctx, w.repo.Digest(child.Digest.String()))
		if err == nil && (desc.Size != child.Size || child.MediaType != "" && desc.MediaType != child.MediaType) {
			err = fmt.Errorf("is %.100q of %d bytes, its index says %.100q of %d: %w", desc.MediaType, desc.Size, child.MediaType, child.Size, ErrDigest)
		}
		if err == nil {
			_, err = w.tree(ctx, desc, raw, nil, depth+1)
		}
		if err != nil {
			return false, fmt.Errorf("index entry %d: %w", i+1, err)
		}
	}
	return sparse, nil
}

// keep remembers a manifest and where its blobs are. Of manifests that several
// copies share one is kept.
func (t *transfer) keep(m *manifest, repo name.Repository) (*manifest, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, blob := range m.blobs {
		if at := t.sources[blob.Digest]; !slices.Contains(at, repo) {
			t.sources[blob.Digest] = append(at, repo)
		}
	}
	if known := t.manifests[m.desc.Digest]; known != nil {
		return known, nil
	}
	if t.size += int64(len(m.raw)); t.size > MaxTransferManifests {
		return nil, fmt.Errorf("manifests of more than %d bytes in one transfer: %w", MaxTransferManifests, errors.ErrUnsupported)
	}
	t.manifests[m.desc.Digest] = m
	return m, nil
}

// referrers adds the manifests whose subject is one of items, and theirs.
func (w *treeWalk) referrers(ctx context.Context, items []*item, depth int) error {
	list, ok := w.source.(Referrers)
	if !ok {
		return fmt.Errorf("the source does not list referrers: %w", errors.ErrUnsupported)
	}
	if depth > maxReferrersDepth {
		return fmt.Errorf("referrers of referrers more than %d deep: %w", maxReferrersDepth, errors.ErrUnsupported)
	}
	for _, it := range items {
		subject := w.repo.Digest(it.desc.Digest.String())
		var found []v1.Descriptor
		err := w.ask(ctx, w.repo, func() error {
			found = nil
			for desc, err := range list.Referrers(ctx, subject, "") {
				if err != nil {
					return err
				}
				if found = append(found, desc); len(found) > maxCopyManifests {
					return fmt.Errorf("more than %d referrers: %w", maxCopyManifests, errors.ErrUnsupported)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("referrers of %s: %w", subject, err)
		}
		before := len(w.items)
		for _, desc := range found {
			if w.seen[desc.Digest] {
				continue
			}
			at := w.repo.Digest(desc.Digest.String())
			got, raw, err := w.read(ctx, at)
			if err == nil && !refersTo(raw, it.desc.Digest) {
				err = fmt.Errorf("is listed as a referrer of %s and is none: %w", it.desc.Digest, ErrDigest)
			}
			if err == nil {
				_, err = w.tree(ctx, got, raw, nil, 1)
			}
			if err != nil {
				return fmt.Errorf("referrer %s: %w", at, err)
			}
		}
		if added := slices.Clone(w.items[before:]); len(added) > 0 {
			if err := w.referrers(ctx, added, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// refersTo reports whether a manifest's subject is the digest.
func refersTo(raw []byte, digest v1.Hash) bool {
	var m struct {
		Subject *v1.Descriptor `json:"subject"`
	}
	return json.Unmarshal(raw, &m) == nil && m.Subject != nil && m.Subject.Digest == digest
}

// signatures adds what cosign keeps under tags made of a digest.
func (w *treeWalk) signatures(ctx context.Context, items []*item) error {
	for _, it := range items {
		for _, kind := range []string{".sig", ".att", ".sbom"} {
			text := it.desc.Digest.Algorithm + "-" + it.desc.Digest.Hex + kind
			desc, raw, err := w.read(ctx, w.repo.Tag(text))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := w.tree(ctx, desc, raw, nil, 1); err != nil {
				return err
			}
			tag := w.job.to.Tag(text)
			at, err := w.head(ctx, tag)
			if err != nil {
				return err
			}
			if at == nil || at.Digest != desc.Digest {
				w.job.signed = append(w.job.signed, tagging{tag, desc})
			}
		}
	}
	return nil
}
