package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish/prow"
)

// ProwJob passes if a job of Prow did, by its finished.json. job is prowjob.json
// beside it, where it can be read: a job that was told to test another release
// is pending. Its Open may be nil: then the caller vouches for the job.
func ProwJob(finished, job Source) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		f := Finding{}
		if job.Open != nil {
			data, e, err := job.read(ctx, prow.MaxDocumentSize)
			if errors.Is(err, fs.ErrNotExist) {
				return pending(job.Name), nil
			}
			if err != nil {
				return f, err
			}
			j, err := prow.DecodeProwJob(data)
			if err != nil {
				return f, err
			}
			f.Evidence = append(f.Evidence, e)
			if why := testsOther(j, s); why != "" {
				f.State, f.Reason = Pending, why
				return f, nil
			}
		}
		data, e, err := finished.read(ctx, prow.MaxDocumentSize)
		if errors.Is(err, fs.ErrNotExist) {
			return pending(finished.Name), nil
		}
		if err != nil {
			return f, err
		}
		end, err := prow.DecodeFinished(data)
		if err != nil {
			return f, err
		}
		e.At = end.Time()
		f.Evidence = append(f.Evidence, e)
		f.State, f.Reason = Failed, "the job ended with "+httpx.Printable(end.Result)
		if end.Success() {
			f.State, f.Reason = Passed, "the job passed"
		}
		return f, nil
	}
}

// testsOther says why a job is not of the subject, empty if it is: by the digest
// that it was told to test, else by the name of the release.
func testsOther(j *prow.ProwJob, s Subject) string {
	pullSpec, release := j.Env[prow.ReleaseVariable], j.Annotations[prow.AnnotationRelease]
	if ref, err := name.NewDigest(pullSpec); err == nil {
		if ref.DigestStr() != s.Digest {
			return "the job tested " + ref.DigestStr()
		}
		return ""
	}
	if ref, err := name.NewTag(pullSpec, name.StrictValidation); err == nil && release == "" {
		release = ref.TagStr()
	}
	switch release {
	case s.Release:
		return ""
	case "":
		return "the job does not say what it tested"
	}
	return fmt.Sprintf("the job tested %.200q", release)
}
