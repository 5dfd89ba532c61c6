package httpx

import (
	"fmt"
	"net/http"
	"strings"
)

// RedactSecrets is [Redact] that also takes out the secrets given, wherever a
// server that was told them repeats them. Empty ones do not count.
func RedactSecrets(err error, secrets ...string) error {
	err = Redact(err)
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := text
	for _, s := range secrets {
		if s != "" {
			clean = strings.ReplaceAll(clean, s, redacted)
		}
	}
	if clean == text {
		return err
	}
	return &redactedError{text: clean, err: err}
}

// CheckSameMethod is [CheckRedirect] that also refuses what would turn a request
// into another one, as the answer 301 to a POST does ([ErrRedirect]).
func CheckSameMethod(req *http.Request, via []*http.Request) error {
	if req.Method != via[0].Method {
		return fmt.Errorf("%w: %s would become %s", ErrRedirect, via[0].Method, req.Method)
	}
	return CheckRedirect(req, via)
}
