package container

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/ostree"
)

// componentXattr names a file's component, for rpm-ostree, chunkah and bootc.
const componentXattr = "user.component"

// maxComponentName bounds a component's name in bytes: it is in annotations.
const maxComponentName = 255

// ExclusiveComponents gives the components that files of a commit name
// themselves, by the extended attribute user.component: exclusive ones, each to
// have a layer of its own, ascending by name, with their paths in the order of
// the tree. The attribute of a directory says nothing. To be put before those
// of [Components]. A name that can't be one, over 255 bytes, with a comma or
// with what is not printable, is an error that names the file. It looks at every
// file of the commit, but reads no content.
func ExclusiveComponents(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum, opts *ComponentsOptions) ([]Component, error) {
	if opts == nil {
		opts = &ComponentsOptions{}
	}
	s, err := openSnapshot(ctx, repo, commit)
	var list []Component
	if err == nil {
		list, err = exclusiveComponents(ctx, s, workers(opts.Workers))
	}
	if err != nil {
		return nil, &Error{"components", commit.String(), err}
	}
	return list, nil
}

func exclusiveComponents(ctx context.Context, s *snapshot, workers int) ([]Component, error) {
	names := make([]string, len(s.objects)) // by object
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(names) {
					return nil
				}
				f, err := s.repo.ReadFile(ctx, s.objects[i].object)
				if err != nil {
					return err
				}
				if names[i], err = componentName(f.Xattrs); err != nil {
					return fmt.Errorf("%q: attribute %s: %w", s.path(s.objects[i].files[0]), componentXattr, err)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	files := map[string][]int32{}
	for i, name := range names {
		if name != "" {
			files[name] = append(files[name], s.objects[i].files...)
		}
	}
	var list []Component
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c := Component{ID: name, Name: name, Exclusive: true}
		slices.Sort(files[name])
		for _, f := range files[name] {
			c.Paths = append(c.Paths, s.path(f))
		}
		list = append(list, c)
	}
	return list, nil
}

func componentName(xattrs []ostree.Xattr) (string, error) {
	for _, x := range xattrs {
		if x.Name != componentXattr {
			continue
		}
		name := strings.TrimSuffix(string(x.Value), "\x00")
		switch {
		case name == "":
			return "", fmt.Errorf("is empty: %w", ostree.ErrCorrupt)
		case len(name) > maxComponentName:
			return "", fmt.Errorf("has %d bytes, limit %d: %w", len(name), maxComponentName, ostree.ErrCorrupt)
		case !utf8.ValidString(name), strings.ContainsRune(name, ','), strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
			return "", fmt.Errorf("%.80q is no name of a component: %w", name, ostree.ErrCorrupt)
		}
		return name, nil
	}
	return "", nil
}
