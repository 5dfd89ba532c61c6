package remoteregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// What [AttachedTag] adds to a digest.
const (
	// ReferrersSuffix is for the index of referrers where a server has no API
	// for it (distribution-spec v1.1, "Referrers Tag Schema").
	ReferrersSuffix = ""
	// SignatureSuffix is for signatures as cosign attached them before there
	// were referrers. Its attestations had .att and its bills of materials .sbom.
	SignatureSuffix = ".sig"
)

// maxReferrers bounds the referrers of one manifest.
const maxReferrers = 100_000

// AttachedTag is the tag under which something is attached to a manifest by
// name alone, such as sha256-HEX.sig. suffix is one of the constants, or what
// another tool adds.
func AttachedTag(subject name.Digest, suffix string) (name.Tag, error) {
	h, err := v1.NewHash(subject.DigestStr())
	if err != nil {
		return name.Tag{}, fail("attached tag", subject, err)
	}
	tag := attachedTag(h) + suffix
	if err := ociimage.CheckTag(tag); err != nil {
		return name.Tag{}, fail("attached tag", subject, err)
	}
	return subject.Context().Tag(tag), nil
}

// attachedTag is cut as the specification says: a sha512 digest is too long.
func attachedTag(h v1.Hash) string {
	return h.Algorithm + "-" + h.Hex[:min(len(h.Hex), 64)]
}

// Referrers lists the manifests whose subject is the one named, each once, in the
// server's order, of the first mirror that has the subject; artifactType "" means
// all. The subject need not exist, and what has no referrers gives nothing.
//
// Where the server has no referrers API, they are those of the index under
// [AttachedTag]'s tag without suffix. [Registry.WriteManifest] and the methods
// that write images keep it, as other clients do; as no registry changes a tag
// only if it is still what was read, one of two programs that write referrers of
// one subject at the same moment may be missing there. The calls of one
// [Registry] wait for each other.
func (r *Registry) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		err := r.referrers(ctx, subject, artifactType, func(d v1.Descriptor) bool { return yield(d, nil) })
		if err != nil {
			yield(v1.Descriptor{}, fail("referrers", subject, err))
		}
	}
}

func (r *Registry) referrers(ctx context.Context, subject name.Digest, artifactType string, yield func(v1.Descriptor) bool) error {
	h, err := v1.NewHash(subject.DigestStr())
	if err != nil {
		return err
	}
	places, err := r.mirrors.Candidates(subject.Context(), true)
	if err != nil {
		return err
	}
	seen := map[v1.Hash]bool{}
	err = r.read(ctx, subject, func(c *client, _ string) error {
		err := c.referrers(ctx, h, artifactType, seen, yield)
		if err == nil && len(seen) == 0 && len(places) > 1 {
			// A place that has the subject knows what refers to it; of another
			// one an empty list says nothing.
			_, err = c.head(ctx, h.String())
		}
		return err
	})
	if len(places) > 1 && len(seen) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (c *client) referrers(ctx context.Context, h v1.Hash, artifactType string, seen map[v1.Hash]bool, yield func(v1.Descriptor) bool) error {
	// page passes the entries of an index on. Servers may filter or not, and
	// some do not say what type an entry is of.
	page := func(data []byte) (more bool, err error) {
		var index struct {
			Manifests []v1.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			return false, err
		}
		for _, d := range index.Manifests {
			if err := checkBlob(d); err != nil {
				return false, err
			}
			if seen[d.Digest] {
				continue
			}
			if len(seen) >= maxReferrers {
				return false, fmt.Errorf("more than %d referrers: %w", maxReferrers, errors.ErrUnsupported)
			}
			seen[d.Digest] = true
			if artifactType != "" && d.ArtifactType == "" {
				if d.ArtifactType, err = c.artifactType(ctx, d); err != nil {
					return false, err
				}
			}
			if artifactType != "" && d.ArtifactType != artifactType {
				continue
			}
			if !yield(d) {
				return false, nil
			}
		}
		return true, nil
	}
	first := c.url("referrers", h.String())
	if artifactType != "" {
		first += "?artifactType=" + url.QueryEscape(artifactType)
	}
	err := c.pages(ctx, first, http.Header{"Accept": {string(types.OCIImageIndex)}}, func(resp *http.Response, data []byte) (bool, error) {
		if mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); len(seen) == 0 && (err != nil || types.MediaType(mt) != types.OCIImageIndex) {
			return false, errNoReferrers
		}
		return page(data)
	})
	if !withoutReferrers(err) || len(seen) > 0 {
		return err
	}
	_, raw, err := c.referrersIndex(ctx, h)
	if err != nil || raw == nil {
		return err
	}
	_, err = page(raw)
	return err
}

// errNoReferrers says that a server answers requests for referrers with
// something else.
var errNoReferrers = errors.New("server has no referrers API")

// withoutReferrers says whether a server has no referrers API.
func withoutReferrers(err error) bool {
	if errors.Is(err, errNoReferrers) {
		return true
	}
	e, ok := errors.AsType[*statusError](err)
	if !ok {
		return false
	}
	switch e.status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

// artifactType reads what a server did not say.
func (c *client) artifactType(ctx context.Context, d v1.Descriptor) (string, error) {
	_, raw, err := c.manifest(ctx, d.Digest.String(), d)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	l, err := linkOf(raw)
	return l.artifactType, err
}

// referrersIndex reads the index that stands in for the API; nil if there is
// none.
func (c *client) referrersIndex(ctx context.Context, subject v1.Hash) (v1.Descriptor, []byte, error) {
	tag := attachedTag(subject)
	desc, raw, err := c.manifest(ctx, tag, v1.Descriptor{})
	if errors.Is(err, fs.ErrNotExist) {
		return v1.Descriptor{}, nil, nil
	}
	if err == nil && !desc.MediaType.IsIndex() {
		err = fmt.Errorf("%.100q is not an index: %w", desc.MediaType, errors.ErrUnsupported)
	}
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("referrers in tag %s: %w", tag, err)
	}
	return desc, raw, nil
}

// link is what makes a manifest a referrer.
type link struct {
	subject      v1.Hash // zero: it is none
	artifactType string
	annotations  map[string]string
}

// linkOf reads it from a manifest.
func linkOf(raw []byte) (link, error) {
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
		Subject      *v1.Descriptor    `json:"subject"`
		Config       struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return link{}, fmt.Errorf("manifest: %w", err)
	}
	l := link{artifactType: m.ArtifactType, annotations: m.Annotations}
	if l.artifactType == "" {
		l.artifactType = m.Config.MediaType
	}
	if m.Subject != nil {
		if err := checkBlob(*m.Subject); err != nil {
			return link{}, fmt.Errorf("manifest: subject: %w", err)
		}
		l.subject = m.Subject.Digest
	}
	return l, nil
}

// refersTo says whether a manifest has a subject.
func refersTo(raw []byte) bool {
	l, err := linkOf(raw)
	return err == nil && l.subject != (v1.Hash{})
}

// addReferrer enters a manifest into the index of its subject's referrers.
func (c *client) addReferrer(ctx context.Context, l link, desc v1.Descriptor) error {
	desc = v1.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: l.artifactType, Annotations: l.annotations}
	entry, err := json.Marshal(desc)
	if err != nil {
		return err
	}
	return c.editReferrers(ctx, l.subject, func(old []json.RawMessage) ([]json.RawMessage, bool) {
		for _, e := range old {
			if digestIn(e) == desc.Digest.String() {
				return old, false
			}
		}
		return append(old, entry), true
	})
}

// dropReferrer takes a manifest out of it, if there is such an index.
func (c *client) dropReferrer(ctx context.Context, subject v1.Hash, digest string) error {
	return c.editReferrers(ctx, subject, func(old []json.RawMessage) (list []json.RawMessage, changed bool) {
		for _, e := range old {
			if digestIn(e) != digest {
				list = append(list, e)
			}
		}
		return list, len(list) != len(old)
	})
}

func digestIn(entry json.RawMessage) string {
	var d struct {
		Digest string `json:"digest"`
	}
	if json.Unmarshal(entry, &d) != nil {
		return ""
	}
	return d.Digest
}

// editReferrers changes the index that stands in for the referrers API. What
// else it holds is kept. Somebody else may write it meanwhile: it is read again
// afterwards, and changed again if it came out as something else.
func (c *client) editReferrers(ctx context.Context, subject v1.Hash, edit func([]json.RawMessage) ([]json.RawMessage, bool)) error {
	tag := attachedTag(subject)
	return c.registry.flights.alone(ctx, c.repo.Name()+":"+tag, func() error {
		for attempt := 1; ; attempt++ {
			desc, raw, err := c.referrersIndex(ctx, subject)
			if err != nil {
				return err
			}
			raw, changed, err := editIndex(raw, edit)
			if err != nil || !changed {
				return err
			}
			if attempt > c.registry.opts.Attempts {
				return fmt.Errorf("referrers in tag %s: others write it all the time: %w", tag, publish.ErrConflict)
			}
			if desc, err = describeManifest(desc.MediaType, raw); err != nil {
				return fmt.Errorf("referrers in tag %s: %w", tag, err)
			}
			if _, err := c.putManifest(ctx, tag, desc, raw); err != nil {
				return fmt.Errorf("referrers in tag %s: %w", tag, err)
			}
			if now, err := c.head(ctx, tag); err == nil && now.Digest == desc.Digest {
				return nil
			}
		}
	})
}

// editIndex applies edit to the entries of an index; raw may be nil.
func editIndex(raw []byte, edit func([]json.RawMessage) ([]json.RawMessage, bool)) (_ []byte, changed bool, _ error) {
	doc := map[string]json.RawMessage{"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + string(types.OCIImageIndex) + `"`)}
	var entries []json.RawMessage
	if raw != nil {
		doc = nil
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, false, err
		}
		if err := json.Unmarshal(doc["manifests"], &entries); err != nil {
			return nil, false, err
		}
	}
	entries, changed = edit(entries)
	if !changed {
		return raw, false, nil
	}
	if entries == nil {
		entries = []json.RawMessage{}
	}
	list, err := json.Marshal(entries)
	if err != nil {
		return nil, false, err
	}
	doc["manifests"] = list
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, false, err
	}
	return []byte(strings.TrimSuffix(out.String(), "\n")), true, nil
}
