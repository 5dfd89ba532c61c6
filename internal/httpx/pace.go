package httpx

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultMaxPerHost is the default of [Options.MaxPerHost].
	DefaultMaxPerHost = 64

	// growAfter is how many answers in turn without a refusal let one more
	// request in.
	growAfter = 8

	// lendAfter is how long a request waits for its own body before another
	// may take its place. The body may itself come from this host: with one
	// place for both, neither would move.
	lendAfter = time.Second
)

// pacer bounds how many requests each host has under way. A request is under
// way from when it is sent until its response begins; what is read afterwards
// does not count, so that a response can be the body of the next request.
//
// The bound goes by additive increase and multiplicative decrease: a refusal
// (429 or 503) halves it, growAfter answers in turn add one. Requests that were
// under way when it was halved do not halve it again. Retry-After stops the
// whole host for that long.
type pacer struct {
	max int

	mu    sync.Mutex
	hosts map[string]*host
}

// host is the state of one host. It is forgotten when nothing is under way and
// its bound is the largest.
type host struct {
	name    string
	limit   int
	busy    int
	run     int // answers since the bound last changed
	halved  int // how often
	pauses  int // Retry-After times that are not over
	waiting []chan struct{}
}

// place is what a request under way holds.
type place struct {
	p      *pacer
	h      *host
	halved int  // of the host when the place was given
	lent   bool // not counted now; as left, guarded by p.mu
	left   bool
}

// take waits for a place at the host of that name. A nil pacer does not wait.
func (p *pacer) take(ctx context.Context, name string) (*place, error) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	h := p.hosts[name]
	if h == nil {
		h = &host{name: name, limit: p.max}
		p.hosts[name] = h
	}
	if len(h.waiting) == 0 && h.open() {
		h.busy++
		pl := &place{p: p, h: h, halved: h.halved}
		p.mu.Unlock()
		return pl, nil
	}
	turn := make(chan struct{})
	h.waiting = append(h.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		p.mu.Lock()
		defer p.mu.Unlock()
		return &place{p: p, h: h, halved: h.halved}, nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(h.waiting, turn); i >= 0 {
			h.waiting = slices.Delete(h.waiting, i, i+1)
		} else { // its turn came at the same moment
			h.busy--
		}
		p.next(h)
		return nil, ctx.Err()
	}
}

func (h *host) open() bool { return h.pauses == 0 && h.busy < h.limit }

// next gives free places to those who wait, first come first served.
func (p *pacer) next(h *host) {
	for len(h.waiting) > 0 && h.open() {
		close(h.waiting[0])
		h.waiting = h.waiting[1:]
		h.busy++
	}
	if h.busy == 0 && h.pauses == 0 && len(h.waiting) == 0 && h.limit == p.max && p.hosts[h.name] == h {
		delete(p.hosts, h.name)
	}
}

// leave gives the place back. resp is what the host answered, nil for none;
// pause is its Retry-After, 0 for none.
func (pl *place) leave(resp *http.Response, pause time.Duration) {
	if pl == nil {
		return
	}
	p, h := pl.p, pl.h
	p.mu.Lock()
	defer p.mu.Unlock()
	if !pl.lent {
		h.busy--
	}
	pl.left = true
	switch {
	case resp == nil:
	case refused(resp):
		h.run = 0
		if pl.halved == h.halved {
			h.halved++
			h.limit = max(1, h.limit/2)
		}
		if pause > 0 {
			h.pauses++
			time.AfterFunc(pause, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				h.pauses--
				p.next(h)
			})
		}
	case h.limit < p.max:
		if h.run++; h.run >= growAfter {
			h.run = 0
			h.limit++
		}
	}
	p.next(h)
}

// read reads from the request's body, and lends the place where that is slow.
func (pl *place) read(body io.Reader, buf []byte) (int, error) {
	if pl == nil {
		return body.Read(buf)
	}
	timer := time.AfterFunc(lendAfter, pl.lend)
	n, err := body.Read(buf)
	timer.Stop()
	pl.takeBack()
	return n, err
}

// lend lets another request have the place for now.
func (pl *place) lend() {
	pl.p.mu.Lock()
	defer pl.p.mu.Unlock()
	if !pl.lent && !pl.left {
		pl.lent = true
		pl.h.busy--
		pl.p.next(pl.h)
	}
}

// takeBack counts the request again, even beyond the bound: it is under way.
func (pl *place) takeBack() {
	pl.p.mu.Lock()
	defer pl.p.mu.Unlock()
	if pl.lent && !pl.left {
		pl.lent = false
		pl.h.busy++
	}
}

// refused reports whether the host asks for fewer requests.
func refused(resp *http.Response) bool { return BusyStatus(resp.StatusCode) }

// BusyStatus reports whether a host that answers with this status was too busy to
// look at the request: 429 and 503.
func BusyStatus(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}
