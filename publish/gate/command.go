package gate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// ExitPending is the exit code of a command that cannot say yet, as EX_TEMPFAIL
// of sysexits.h.
const ExitPending = 75

// Command passes if a command of the caller ends with exit code 0; with
// [ExitPending] it is pending, with any other it failed. run starts it, writes
// what it prints to output and gives its code; an error says that it did not
// run. The last line that it prints is the reason.
func Command(run func(ctx context.Context, s Subject, output io.Writer) (code int, err error)) Check {
	return func(ctx context.Context, s Subject) (Finding, error) {
		out := &tail{hash: sha256.New()}
		code, err := run(ctx, s, out)
		if err != nil {
			return Finding{}, err
		}
		f := Finding{State: Failed, Reason: out.last(), Evidence: []Evidence{{URL: "output", Digest: fmt.Sprintf("sha256:%x", out.hash.Sum(nil)), Size: out.size}}}
		switch code {
		case 0:
			f.State = Passed
		case ExitPending:
			f.State = Pending
		default:
			f.Reason = strings.TrimSpace(fmt.Sprintf("exit code %d: %s", code, f.Reason))
		}
		return f, nil
	}
}

// tail hashes what is written to it, and keeps the end.
type tail struct {
	hash hash.Hash
	size int64
	end  []byte
}

// tailSize is how much of a command's output is kept, bytes.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.hash.Write(p)
	t.size += int64(len(p))
	t.end = append(t.end, p[max(0, len(p)-tailSize):]...)
	if n := len(t.end) - tailSize; n > 0 {
		t.end = append(t.end[:0], t.end[n:]...)
	}
	return len(p), nil
}

func (t *tail) last() string {
	text := strings.TrimSpace(string(t.end))
	return httpx.Printable(strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]))
}
