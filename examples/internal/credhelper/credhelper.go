// Package credhelper asks Docker's credential helpers, programs named
// docker-credential-NAME, for credentials. The library runs no programs: a
// program that wants helpers passes [Get] as CredentialHelper.
package credhelper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Limits.
const (
	// Timeout is how long a helper may take; some ask a cloud.
	Timeout = time.Minute
	// MaxAnswer bounds what a helper may print, bytes.
	MaxAnswer = 1 << 20
)

var name = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) })

// Get runs "docker-credential-NAME get" with the registry as its input, as
// docker-credential-helpers describes it. The user name "<token>" says that the
// secret is an identity token. Where the helper has no credentials, the error
// wraps [fs.ErrNotExist]; where there is no such program, [exec.ErrNotFound].
// Errors never hold what the helper printed on success.
func Get(ctx context.Context, helper, registry string) (username, secret string, err error) {
	if !name().MatchString(helper) {
		return "", "", fmt.Errorf("%.70q is not the name of a credential helper", helper)
	}
	program := "docker-credential-" + helper
	limited, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program, "get")
	cmd.WaitDelay = time.Second // for a child of it that keeps the pipes open
	cmd.Stdin = strings.NewReader(registry)
	var out limitedBuffer
	cmd.Stdout = &out
	err = cmd.Run()
	switch exit, failed := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case limited.Err() != nil:
		return "", "", fmt.Errorf("%s: no answer within %v", program, Timeout)
	case out.full:
		return "", "", fmt.Errorf("%s: more than %d bytes", program, MaxAnswer)
	case failed:
		return "", "", refusal(program, exit, out.buf.String())
	case errors.Is(err, fs.ErrNotExist):
		// A script without its interpreter must not pass for having none.
		return "", "", fmt.Errorf("%s: %v", program, err)
	case err != nil:
		return "", "", err
	}
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out.buf.Bytes(), &answer) != nil { // its errors quote
		return "", "", fmt.Errorf("%s: its answer is not JSON", program)
	}
	if answer.Secret == "" {
		return "", "", fmt.Errorf("%s: no secret for %s: %w", program, registry, fs.ErrNotExist)
	}
	return answer.Username, answer.Secret, nil
}

// refusal makes an error of a helper that failed. By the protocol its output
// is a message then.
func refusal(program string, exit *exec.ExitError, output string) error {
	message, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	switch message {
	case "credentials not found in native keychain", "no credentials server URL", "no credentials username":
		return fmt.Errorf("%s: %s: %w", program, message, fs.ErrNotExist)
	}
	if message == "" || strings.ContainsAny(message, "{}") { // an answer after all, perhaps
		return fmt.Errorf("%s: %w", program, exit)
	}
	return fmt.Errorf("%s: %w: %.200q", program, exit, message)
}

// limitedBuffer keeps up to [MaxAnswer] bytes and refuses more.
type limitedBuffer struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would pass by Write
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > MaxAnswer {
		b.full = true
		return 0, io.ErrShortWrite
	}
	return b.buf.Write(p)
}
