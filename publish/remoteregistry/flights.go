package remoteregistry

import (
	"context"
	"errors"
	"sync"
)

// flights let one of several who want the same thing do it.
type flights struct {
	mu  sync.Mutex
	now map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error // once done
}

// do calls fn unless another call for key is under way: that one's success
// counts for this call too. Its failure does not, for it may have had another
// context or source; then fn is called after all. led says that it was.
func (f *flights) do(ctx context.Context, key string, fn func() error) (led bool, err error) {
	for {
		f.mu.Lock()
		other := f.now[key]
		if other == nil {
			break
		}
		f.mu.Unlock()
		select {
		case <-other.done:
			if other.err == nil {
				return false, nil
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	mine := &flight{done: make(chan struct{}), err: errors.New("did not end")}
	if f.now == nil {
		f.now = map[string]*flight{}
	}
	f.now[key] = mine
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.now, key)
		close(mine.done)
	}()
	mine.err = fn()
	return true, mine.err
}

// alone calls fn while no other call for key runs.
func (f *flights) alone(ctx context.Context, key string, fn func() error) error {
	for {
		if led, err := f.do(ctx, key, fn); led || err != nil {
			return err
		}
	}
}
