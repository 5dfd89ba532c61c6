package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload"
)

// Signed passes if the subject's image in a repository has the signatures that a
// policy asks for, as of the time that clock tells.
func Signed(repo name.Repository, policy *payload.Policy, clock func() time.Time) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		v, err := policy.Verify(ctx, repo.Digest(s.Digest), clock())
		if errors.Is(err, payload.ErrSignature) && ctx.Err() == nil {
			return Finding{State: Failed, Reason: err.Error()}, nil
		}
		if err != nil {
			return Finding{}, err
		}
		signers := slices.Sorted(maps.Values(v.Signers))
		if v.CosignKey != "" {
			signers = append(signers, v.CosignKey)
		}
		f := Finding{State: Passed, Reason: "signed by " + strings.Join(slices.Compact(signers), ", ")}
		for _, sig := range v.Signatures[:min(len(v.Signatures), MaxEvidence)] {
			f.Evidence = append(f.Evidence, Evidence{URL: "signature", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(sig)), Size: int64(len(sig))})
		}
		return f, nil
	}
}
