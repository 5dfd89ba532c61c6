package layoutregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/ociimage"
)

// An image layout has no place for referrers of its own. olareg, a server of such
// folders, keeps the answer for each subject as an index among the blobs and
// names it in index.json by an annotation; a mark on index.json says that this is
// how this layout has it. Other tools tag the same kind of index sha256-…, the
// tag schema of the distribution specification. We write the first, so that
// olareg answers with it, and read both.
const (
	referrerSubject = "org.olareg.referrer.subject"
	referrerConvert = "org.olareg.referrer.convert"
)

var referrerTag = lazyregexp.New(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})$`)

// subject is what an entry lists the referrers of; "": it is no such list.
func (e entry) subject() string { return e.desc.Annotations[referrerSubject] }

// Referrers lists the manifests whose subject is the given one, which need not
// exist, of all artifact types or of the one named.
func (r *Registry) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		list, err := r.referrers(ctx, subject)
		if err != nil {
			yield(v1.Descriptor{}, fail("referrers", subject, err))
			return
		}
		for _, d := range list {
			if artifactType != "" && d.ArtifactType != artifactType {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(v1.Descriptor{}, fail("referrers", subject, err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (r *Registry) referrers(ctx context.Context, subject name.Digest) ([]v1.Descriptor, error) {
	h, err := v1.NewHash(subject.DigestStr())
	if err != nil {
		return nil, err
	}
	l, err := r.open(ctx, subject.Context())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer l.close()
	for round := 1; ; round++ {
		x, err := l.sharedIndex()
		if err != nil {
			return nil, err
		}
		list, err := l.listed(x, h)
		// A list that was replaced, and its bytes collected, since index.json
		// was read.
		if errors.Is(err, fs.ErrNotExist) && round < maxRounds {
			continue
		}
		return list, err
	}
}

// listed reads the referrers of h from all lists there are.
func (l *layout) listed(x *index, h v1.Hash) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	seen := map[v1.Hash]bool{}
	for _, e := range x.entries {
		if e.subject() != h.String() && (e.tag != h.Algorithm+"-"+h.Hex || !e.desc.MediaType.IsIndex()) {
			continue
		}
		list, err := l.referrerList(e.desc)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			if seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			raw, err := l.manifest(d)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed by someone who knows no lists
			}
			if err != nil {
				return nil, err
			}
			c, err := ociimage.Decode(raw, d.MediaType)
			if err != nil {
				return nil, fmt.Errorf("referrer %s: %w", d.Digest, err)
			}
			if c.Subject == nil || c.Subject.Digest != h {
				continue // the list lies
			}
			out = append(out, v1.Descriptor{MediaType: c.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: c.ArtifactType, Annotations: c.Annotations})
		}
	}
	return out, nil
}

// referrerList reads one list.
func (l *layout) referrerList(desc v1.Descriptor) ([]v1.Descriptor, error) {
	raw, err := l.manifest(desc)
	if err != nil {
		return nil, fmt.Errorf("list of referrers %s: %w", desc.Digest, err)
	}
	c, err := ociimage.Decode(raw, types.OCIImageIndex)
	if err != nil {
		return nil, fmt.Errorf("list of referrers %s: %w", desc.Digest, err)
	}
	return c.Children, nil
}

// addReferrer puts d on the list of subject. It reports whether x changed. The
// caller holds the lock.
func (w *folder) addReferrer(x *index, subject v1.Hash, d v1.Descriptor) (bool, error) {
	changed, err := x.convert()
	if err != nil {
		return false, err
	}
	at := -1
	var list []v1.Descriptor
	for i, e := range x.entries {
		if e.subject() != subject.String() {
			continue
		}
		at = i
		// A list that is lost is begun again.
		if list, err = w.referrerList(e.desc); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		break
	}
	for _, have := range list {
		if have.Digest == d.Digest {
			return changed, nil
		}
	}
	e, err := w.writeReferrers(subject.String(), append(list, d))
	if err != nil {
		return false, err
	}
	if at >= 0 {
		x.entries[at] = e
	} else {
		x.entries = append(x.entries, e)
	}
	return true, nil
}

// writeReferrers stores a list and gives its entry.
func (w *folder) writeReferrers(subject string, list []v1.Descriptor) (entry, error) {
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	if err != nil {
		return entry{}, err
	}
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return entry{}, fmt.Errorf("list of the referrers of %s: %w", subject, err)
	}
	h, err := digestOf(raw)
	if err != nil {
		return entry{}, err
	}
	if err := w.replace(blobPath(h), raw, 0o444); err != nil {
		return entry{}, err
	}
	return entry{desc: v1.Descriptor{
		MediaType: types.OCIImageIndex, Digest: h, Size: int64(len(raw)), Annotations: map[string]string{referrerSubject: subject},
	}}, nil
}

// removeReferrers takes the manifests that gone names off all lists. A list
// without entries goes. The caller holds the lock.
func (w *folder) removeReferrers(x *index, gone func(v1.Hash) bool) error {
	kept := make([]entry, 0, len(x.entries))
	for _, e := range x.entries {
		if e.subject() == "" {
			kept = append(kept, e)
			continue
		}
		list, err := w.referrerList(e.desc)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		left := make([]v1.Descriptor, 0, len(list))
		for _, d := range list {
			if !gone(d.Digest) {
				left = append(left, d)
			}
		}
		switch {
		case len(left) == len(list):
			kept = append(kept, e)
		case len(left) > 0:
			if e, err = w.writeReferrers(e.subject(), left); err != nil {
				return err
			}
			kept = append(kept, e)
		}
	}
	x.entries = kept
	return nil
}

// convert marks the layout as one that lists referrers as olareg does, and
// makes the lists that other tools tagged lists of that kind. Their tags stay.
func (x *index) convert() (bool, error) {
	annotations := map[string]string{}
	if raw, ok := x.rest["annotations"]; ok {
		if err := json.Unmarshal(raw, &annotations); err != nil {
			return false, fmt.Errorf("%s: annotations: %w", indexFile, err)
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
	}
	if annotations[referrerConvert] == "true" {
		return false, nil
	}
	listed := map[string]bool{}
	for _, e := range x.entries {
		listed[e.subject()] = true
	}
	for _, e := range x.entries {
		subject := strings.Replace(e.tag, "-", ":", 1)
		if !referrerTag.MatchString(e.tag) || e.desc.MediaType != types.OCIImageIndex || listed[subject] {
			continue
		}
		listed[subject] = true
		x.entries = append(x.entries, entry{desc: v1.Descriptor{
			MediaType: e.desc.MediaType, Digest: e.desc.Digest, Size: e.desc.Size, Annotations: map[string]string{referrerSubject: subject},
		}})
	}
	annotations[referrerConvert] = "true"
	raw, err := json.Marshal(annotations)
	if err != nil {
		return false, err
	}
	if x.rest == nil {
		x.rest = map[string]json.RawMessage{}
	}
	x.rest["annotations"] = raw
	return true, nil
}

func digestOf(raw []byte) (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(raw))
	return h, err
}
