package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/ostree"
)

const (
	sizesName  = "sizes"
	sizeRecord = ostree.ChecksumSize + 8
)

// objectSizes gives the length of the content of each of s.objects, in bytes.
// It never changes, so what was found once is kept in the cache: records of
// checksum and big-endian length, ascending.
func objectSizes(ctx context.Context, cache *Cache, s *snapshot, workers int) ([]int64, error) {
	if s.sizes != nil {
		return s.sizes, nil
	}
	sizes := make([]int64, len(s.objects))
	known, _ := cache.readValue(sizesName)
	if len(known)%sizeRecord != 0 {
		known = nil
	}
	var missing []int
	rest := known
	for i := range s.objects {
		object := s.objects[i].object[:]
		for len(rest) > 0 && bytes.Compare(rest[:ostree.ChecksumSize], object) < 0 {
			rest = rest[sizeRecord:]
		}
		if len(rest) > 0 && bytes.Equal(rest[:ostree.ChecksumSize], object) {
			sizes[i] = int64(binary.BigEndian.Uint64(rest[ostree.ChecksumSize:]))
			continue
		}
		missing = append(missing, i)
	}
	if len(missing) > 0 {
		var next atomic.Int64
		group, ctx := errgroup.WithContext(ctx)
		for range workers {
			group.Go(func() error {
				for {
					k := int(next.Add(1)) - 1
					if k >= len(missing) {
						return nil
					}
					i := missing[k]
					f, err := s.repo.ReadFile(ctx, s.objects[i].object)
					if err != nil {
						return err
					}
					sizes[i] = f.Size
				}
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		// Only this commit's: what others had and it has not is forgotten.
		out := make([]byte, 0, len(s.objects)*sizeRecord)
		for i := range s.objects {
			out = append(out, s.objects[i].object[:]...)
			out = binary.BigEndian.AppendUint64(out, uint64(sizes[i]))
		}
		if len(out) <= maxRecord/2 {
			if err := cache.writeValue(sizesName, out); err != nil {
				return nil, err
			}
		}
	}
	s.sizes = sizes
	return sizes, nil
}
