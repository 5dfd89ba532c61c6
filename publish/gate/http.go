package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// maxAnswerSize bounds the answer of an HTTP gate, bytes.
const maxAnswerSize = 1 << 20

// HTTP passes if a service says so: its answer is a JSON object with the members
// digest, state (pending, passed or failed) and reason, of which digest must be
// the subject's. In address, "{digest}" and "{release}" stand for the subject's.
// An answer 404 is pending. An answer has at most 1 MiB. transport is as for [URL].
func HTTP(address string, transport http.RoundTripper) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		address := strings.NewReplacer("{digest}", url.QueryEscape(s.Digest), "{release}", url.QueryEscape(s.Release)).Replace(address)
		source := URL(address, transport)
		data, e, err := source.read(ctx, maxAnswerSize)
		if errors.Is(err, fs.ErrNotExist) {
			return pending(source.Name), nil
		}
		if err != nil {
			return Finding{}, err
		}
		var answer struct {
			Digest string `json:"digest"`
			State  State  `json:"state"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return Finding{}, fmt.Errorf("%s: %w", source.Name, err)
		}
		f := Finding{State: answer.State, Reason: httpx.Printable(answer.Reason), Evidence: []Evidence{e}}
		switch {
		case !slices.Contains([]State{Pending, Passed, Failed}, answer.State):
			return Finding{}, fmt.Errorf("%s: state %.40q", source.Name, answer.State)
		case answer.Digest != s.Digest:
			f.State, f.Reason = Pending, fmt.Sprintf("the answer is of %.80q", answer.Digest)
		}
		return f, nil
	}
}
