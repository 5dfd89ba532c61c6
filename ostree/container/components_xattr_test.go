package container_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// tagTree sets the attribute user.component of files by path.
func tagTree(src ostree.Tree, tags map[string]string) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range src.Entries(ctx) {
				if tag, ok := tags[e.Path]; ok {
					e.Xattrs = []ostree.Xattr{{Name: "user.component", Value: []byte(tag)}}
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}

func TestExclusiveComponents(t *testing.T) {
	r := newRepo(t)
	tagged := func(tags map[string]string) ostree.Checksum {
		c, err := r.Commit(t.Context(), tagTree(ostree.FS(mapFS(sample)), tags), &ostree.CommitOptions{Timestamp: time.Unix(1, 0), NoFsync: true})
		require.NoError(t, err)
		return c
	}
	c := tagged(map[string]string{
		"usr/bin": "no", "usr/bin/bash": "shell\x00", "usr/bin/sh": "shell", "usr/share/doc/b/license": "docs", "usr/share/doc/a/license": "docs",
	})
	list, err := container.ExclusiveComponents(t.Context(), r, c, &container.ComponentsOptions{Workers: 3})
	require.NoError(t, err)
	require.Equal(t, []container.Component{
		{ID: "docs", Name: "docs", Exclusive: true, Paths: []string{"usr/share/doc/a/license", "usr/share/doc/b/license"}},
		{ID: "shell", Name: "shell", Exclusive: true, Paths: []string{"usr/bin/bash", "usr/bin/sh"}},
	}, list)

	img := encapsulate(t, openCache(t, t.TempDir()), r, c, &container.EncapsulateOptions{Components: slices.Concat(list, split(t, r, c))})
	s, err := container.SplitOf(img)
	require.NoError(t, err)
	require.Equal(t, container.Split{{"docs"}, {"shell"}}, s[:2])
	imported := importRepo(t, ostree.ModeBareUser)
	done, err := container.Import(t.Context(), imported, img, &container.ImportOptions{CommitOnly: true})
	require.NoError(t, err)
	require.Equal(t, c, done.Commit)

	none, err := container.ExclusiveComponents(t.Context(), r, commit(t, r, sample), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	for _, bad := range []string{"", "a,b", "a\nb", "\xff", strings.Repeat("x", 256), "\x00"} {
		_, err := container.ExclusiveComponents(t.Context(), r, tagged(map[string]string{"usr/bin/bash": bad}), nil)
		require.ErrorIs(t, err, ostree.ErrCorrupt)
		require.ErrorContains(t, err, `"usr/bin/bash": attribute user.component`)
	}
}

func ExampleExclusiveComponents() {
	ctx, dir, err := exampleRepo()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	repo, err := ostree.Open(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	tree := tagTree(ostree.FS(mapFS(sample)), map[string]string{"usr/bin/bash": "shell"})
	commit, err := repo.Commit(ctx, tree, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := container.ExclusiveComponents(ctx, repo, commit, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(list[0].ID, list[0].Paths)
	// Output: shell [usr/bin/bash]
}
