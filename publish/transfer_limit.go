package publish

import (
	"context"
	"slices"
	"sync"
)

// limits bounds how much is under way at once, over all and for each host.
type limits struct {
	all     chan struct{}
	perHost int

	mu    sync.Mutex
	hosts map[string]chan struct{}
}

func newLimits(all, perHost int) *limits {
	return &limits{all: make(chan struct{}, all), perHost: perHost, hosts: map[string]chan struct{}{}}
}

func (l *limits) host(host string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	slots := l.hosts[host]
	if slots == nil {
		slots = make(chan struct{}, l.perHost)
		l.hosts[host] = slots
	}
	return slots
}

// do runs fn once there is room at the hosts. Everyone takes slots in the same
// order, hosts ascending, then the common one: so nobody waits in a circle.
func (l *limits) do(ctx context.Context, fn func() error, hosts ...string) error {
	slices.Sort(hosts)
	var queue []chan struct{}
	for _, host := range slices.Compact(hosts) {
		queue = append(queue, l.host(host))
	}
	for _, slots := range append(queue, l.all) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fn()
}
