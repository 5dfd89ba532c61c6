package gate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish/controller"
)

// Controller passes if a job of a release controller did, or with an empty job,
// if the controller accepted the release. A controller knows a release by its
// name alone, which it never uses twice; digest looks up which image it means by
// a pullspec: one that is another is pending. It may be nil: then the name counts.
func Controller(client *controller.Client, stream, job string, digest func(ctx context.Context, pullSpec string) (string, error)) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		if digest != nil {
			tags, err := client.Tags(ctx, stream)
			if err != nil {
				return Finding{}, err
			}
			i := slices.IndexFunc(tags, func(t controller.Tag) bool { return t.Name == s.Release })
			if i < 0 {
				return Finding{State: Pending, Reason: "the release controller does not know the release"}, nil
			}
			got, err := digest(ctx, tags[i].PullSpec)
			if err != nil {
				return Finding{}, err
			}
			if got != s.Digest {
				return Finding{State: Pending, Reason: fmt.Sprintf("the release controller means %.80s", got)}, nil
			}
		}
		r, err := client.Release(ctx, stream, s.Release, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return Finding{State: Pending, Reason: "the release controller does not know the release"}, nil
		}
		if err != nil {
			return Finding{}, err
		}
		if r.Name != s.Release {
			return Finding{}, fmt.Errorf("the answer is of %.80q", r.Name)
		}
		f, err := judgeRelease(r, job)
		if data, fault := json.Marshal(r); fault == nil {
			f.Evidence = append(f.Evidence, Evidence{URL: f.url, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), Size: int64(len(data)), At: f.ended})
		}
		return f.Finding, err
	}
}

type jobFinding struct {
	Finding
	url   string
	ended time.Time
}

func judgeRelease(r *controller.Release, job string) (jobFinding, error) {
	f := jobFinding{Finding: Finding{State: Pending, Reason: "the release is " + httpx.Printable(string(r.Phase))}}
	if job == "" {
		switch r.Phase {
		case controller.Accepted:
			f.State = Passed
		case controller.Rejected, controller.Failed:
			f.State = Failed
		case controller.Pending, controller.Ready:
		default:
			return f, fmt.Errorf("phase %.40q", r.Phase)
		}
		return f, nil
	}
	f.Reason = "the release has no job " + httpx.Printable(job)
	if r.Results == nil {
		return f, nil
	}
	for _, jobs := range []map[string]controller.Job{r.Results.Blocking, r.Results.Informing, r.Results.Async, r.Results.Pending} {
		j, ok := jobs[job]
		if !ok {
			continue
		}
		f.Reason, f.url = "the job is "+httpx.Printable(string(j.State)), httpx.RedactText(j.URL)
		if j.Changed != nil {
			f.ended = *j.Changed
		}
		switch j.State {
		case controller.JobSucceeded:
			f.State = Passed
		case controller.JobFailed:
			f.State = Failed
		case controller.JobPending, "":
		default:
			return f, fmt.Errorf("job %s: state %.40q", httpx.Printable(job), j.State)
		}
		return f, nil
	}
	return f, nil
}
