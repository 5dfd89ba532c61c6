package container

import (
	"context"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LookupRecord writes file as a layer's record, behind its checksum if it is to
// be whole, and finds the layer.
func (c *Cache) LookupRecord(ctx context.Context, file []byte, whole bool) (blob v1.Hash, size int64, found bool, err error) {
	name := filepath.Join("layers", cacheKey{}.String())
	if err := c.writeTest(name, file, whole); err != nil {
		return v1.Hash{}, 0, false, err
	}
	r, found, err := c.lookup(ctx, cacheKey{})
	return r.Digest, r.Size, found, err
}

// CountChanges writes file as the cached change logs, and counts packages and
// times in them.
func (c *Cache) CountChanges(file []byte, whole bool) (packages, times int, err error) {
	if err := c.writeTest(changesName, file, whole); err != nil {
		return 0, 0, err
	}
	m := decodeChanges(c)
	for _, list := range m {
		times += len(list)
	}
	return len(m), times, nil
}

func (c *Cache) writeTest(name string, file []byte, whole bool) error {
	if whole {
		return c.writeValue(name, file)
	}
	return os.WriteFile(filepath.Join(c.dir, name), file, 0o644)
}
