package github

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// limits brings GitHub's limits of requests into the form that the module's
// retry policy knows: status 429 with Retry-After. GitHub also answers 403, and
// names the time as seconds since 1970.
//
// See https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api.
type limits struct{ base http.RoundTripper }

// secondaryWait is how long GitHub wants to be left alone after the refusal of
// a secondary limit that names no time.
const secondaryWait = time.Minute

func (l *limits) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusTooManyRequests {
		return resp, err
	}
	if _, ok := httpx.RetryAfter(resp.Header); !ok {
		wait, ok := untilReset(resp.Header)
		if !ok && secondary(resp) {
			wait, ok = secondaryWait, true
		}
		if !ok {
			return resp, nil
		}
		resp.Header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
	}
	resp.StatusCode = http.StatusTooManyRequests // Status still says what it was
	return resp, nil
}

// maxReset bounds what is believed of a reset: the primary limit is by the hour.
const maxReset = 2 * time.Hour

// untilReset is how long the primary limit, if that is used up, holds, by the
// server's own clock.
func untilReset(h http.Header) (time.Duration, bool) {
	if h.Get("X-Ratelimit-Remaining") != "0" {
		return 0, false
	}
	reset, err := strconv.ParseInt(h.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil || reset < 0 || reset > now.Unix()+int64(maxReset/time.Second) {
		return 0, false
	}
	return max(0, time.Unix(reset, 0).Sub(now)) + time.Second, true
}

// secondary reports whether the answer is the refusal of a secondary limit. Its
// body can be read again.
func secondary(resp *http.Response) bool {
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxFaultSize))
	resp.Body = &joined{Reader: io.MultiReader(bytes.NewReader(head), resp.Body), Closer: resp.Body}
	return err == nil && strings.Contains(string(head), "secondary rate limit")
}

type joined struct {
	io.Reader
	io.Closer
}
