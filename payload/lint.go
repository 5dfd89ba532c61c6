package payload

import (
	"bytes"
	"context"

	"github.com/google/go-containerregistry/pkg/name"
)

// Lint looks in a payload for what a cluster would trip over, in the order of
// files and lines: components without a digest ([CheckUnpinned]) and manifests
// that name a repository of the payload's by tag, documents that are no
// objects and files that are read in vain ([CheckManifest]), objects twice in
// a file ([CheckDuplicate]), version placeholders that are left
// ([CheckVersion]). At most [MaxFindings] are given.
//
// It is what [Assemble] looks for in what it makes; payloads made elsewhere
// have not been through that.
func (r *Release) Lint(ctx context.Context) (Findings, error) {
	var out Findings
	var repositories []placeholder
	seen := map[string]bool{}
	for _, t := range r.References.Tags {
		ref, err := name.NewDigest(t.Pullspec)
		switch {
		case t.Kind != dockerImage:
			out = append(out, Finding{Check: CheckUnpinned, Component: t.Name, File: referencesFile, Detail: "it is of kind " + excerpt([]byte(t.Kind))})
		case err != nil:
			out = append(out, Finding{Check: CheckUnpinned, Component: t.Name, File: referencesFile, Detail: excerpt([]byte(t.Pullspec)) + " has no digest"})
		case !seen[ref.Context().Name()]:
			seen[ref.Context().Name()] = true
			repositories = append(repositories, placeholder{text: ref.Context().Name()})
		}
	}
	check := newChecker()
	for _, f := range r.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if isManifestName(f.name) {
			more, err := check.strict(ctx, f.name, f.data)
			if err != nil {
				return nil, &Error{Op: "lint", Target: "manifest " + f.name, Err: err}
			}
			out = append(out, more...)
		}
		for _, at := range unpinned(f.data, repositories, true) {
			out = append(out, Finding{Check: CheckUnpinned, File: f.name, Line: lineAt(f.data, at), Detail: "image of the payload without a digest: " + excerpt(f.data[at:])})
		}
		for at := 0; len(out) < MaxFindings; {
			i := bytes.Index(f.data[at:], []byte(versionPlaceholder))
			if i < 0 {
				break
			}
			at += i
			out = append(out, Finding{Check: CheckVersion, File: f.name, Line: lineAt(f.data, at), Detail: "version placeholder is left: " + excerpt(f.data[at:])})
			at += len(versionPlaceholder)
		}
		if len(out) >= MaxFindings {
			return out[:MaxFindings], nil
		}
	}
	return out, nil
}
