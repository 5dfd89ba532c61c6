package registryserver

import (
	"context"
	"sync"
)

// turns lets one request after the other at each upload: a client that was cut
// off asks how far it came while what it sent is still written.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	busy chan struct{}
	want int // requests that have or wait for it
}

// take waits for the turn at key. The caller calls done.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	if t.held == nil {
		t.held = map[string]*turn{}
	}
	at := t.held[key]
	if at == nil {
		at = &turn{busy: make(chan struct{}, 1)}
		t.held[key] = at
	}
	at.want++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if at.want--; at.want == 0 {
			delete(t.held, key)
		}
	}
	select {
	case at.busy <- struct{}{}:
		return func() { <-at.busy; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
