package interop

import "context"

// Cached gives the folder name in [CacheDir], for peers that other modules make;
// if it is not there, fill makes it, in a temporary folder that then gets the
// name. Processes that want the same name wait for each other.
func Cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	return cached(ctx, name, fill)
}
