package components

import "sync"

// once does a thing for each key once, while others wait for it.
type once[K comparable, V any] struct {
	mu sync.Mutex
	by map[K]func() (V, error)
}

func (o *once[K, V]) do(key K, fn func() (V, error)) (V, error) {
	o.mu.Lock()
	if o.by == nil {
		o.by = map[K]func() (V, error){}
	}
	run, ok := o.by[key]
	if !ok {
		run = sync.OnceValues(fn)
		o.by[key] = run
	}
	o.mu.Unlock()
	return run()
}
