package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload"
)

// Payload passes if the subject's image in a repository reads back as a payload,
// everything in it verified, that is called as the subject is, and
// [payload.Release.Lint] has nothing to say against it.
func Payload(images payload.Images, repo name.Repository) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		ref := repo.Digest(s.Digest)
		if _, err := images.Head(ctx, ref); errors.Is(err, fs.ErrNotExist) {
			return pending(ref.Name()), nil
		}
		r, err := payload.Open(ctx, images, ref, nil)
		if err != nil {
			return Finding{}, err
		}
		findings, err := r.Lint(ctx)
		if err != nil {
			return Finding{}, err
		}
		f := Finding{State: Passed, Reason: "it reads back, and nothing is to be said against its manifests", Evidence: []Evidence{{URL: ref.Name(), Digest: r.Digest.String(), Size: int64(len(r.RawManifest))}}}
		switch {
		case r.Version() != s.Release:
			f.State, f.Reason = Failed, fmt.Sprintf("it is called %.200q", r.Version())
		case len(findings) > 0:
			f.State, f.Reason = Failed, findings.Error()
		}
		return f, nil
	}
}
