package ostree_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestPullLocal pulls between all modes: what arrives is what was there, and the
// commit in a repository of that mode has the same objects.
func TestPullLocal(t *testing.T) {
	opts := &treegen.Options{Root: true, Files: 12, MaxSize: 1 << 14}
	for _, from := range allModes() {
		src := newRepo(t, from)
		commit, err := src.Commit(t.Context(), treegen.Tree(9, opts), &ostree.CommitOptions{Ref: "a/b", Edit: withoutEmpty,
			Detached: []ostree.MetadataItem{{Key: "k", Value: ostree.StringVariant("v")}}})
		require.NoError(t, err)
		for _, to := range allModes() {
			for _, pull := range []*ostree.PullLocalOptions{{}, {Trusted: true}, {Copy: true, Workers: 1}} {
				if from != to && (pull.Copy || pull.Trusted) {
					continue // which say something about objects stored alike
				}
				dst := newRepo(t, to)
				stats := &ostree.PullLocalStats{}
				pull.Stats = stats
				err := dst.PullLocal(t.Context(), src, pull)
				if to == ostree.ModeBareUserOnly && from != to {
					require.ErrorContains(t, err, "can't keep that")
					require.Empty(t, objectNames(t, dst.Path()))
					requireClean(t, dst)
					continue
				}
				require.NoError(t, err, "%s to %s", from, to)
				require.NoError(t, dst.Fsck(t.Context(), nil))
				got, err := dst.Resolve(t.Context(), "a/b")
				require.NoError(t, err)
				require.Equal(t, commit, got)
				detached, err := dst.ReadMetadata(t.Context(), got)
				require.NoError(t, err)
				require.Len(t, detached, 1)
				require.EqualValues(t, 1, stats.Commits)
				if pull.Copy || from != to {
					require.Zero(t, stats.ContentLinked)
				} else {
					require.Equal(t, stats.ContentWritten, stats.ContentLinked)
				}
				// As a commit to that mode would have made them.
				direct := newRepo(t, to)
				_, err = direct.Commit(t.Context(), treegen.Tree(9, opts), &ostree.CommitOptions{Ref: "a/b", Edit: withoutEmpty, CanonicalPermissions: from == ostree.ModeBareUserOnly,
					Detached: []ostree.MetadataItem{{Key: "k", Value: ostree.StringVariant("v")}}})
				require.NoError(t, err)
				same(t, objectFacts(t, direct.Path()), objectFacts(t, dst.Path()))
				// Twice is once.
				before := snapshot(t, dst.Path())
				require.NoError(t, dst.PullLocal(t.Context(), src, pull))
				require.Zero(t, *stats)
				same(t, before, snapshot(t, dst.Path()))
				requireClean(t, dst)
			}
		}
	}
}

func TestPullLocalRefsAndDepth(t *testing.T) {
	src := newRepo(t, ostree.ModeBareUser)
	commits := history(t, src, "x", 4)
	other := history(t, src, "y", 2)
	require.NoError(t, src.SetRef(t.Context(), "up:z", commits[0]))
	refs := func(r *ostree.Repo) (names []string) {
		for ref, err := range r.Refs(t.Context()) {
			require.NoError(t, err)
			names = append(names, ref.String())
		}
		return names
	}
	for _, c := range []struct {
		opts ostree.PullLocalOptions
		has  string
		refs string
	}{
		{ostree.PullLocalOptions{}, "0001 01", "[x y]"},
		{ostree.PullLocalOptions{Depth: 1}, "0011 11", "[x y]"},
		{ostree.PullLocalOptions{Depth: -1, Remote: "origin"}, "1111 11", "[origin:x origin:y]"},
		{ostree.PullLocalOptions{Revs: []string{"x"}}, "0001 00", "[x]"},
		{ostree.PullLocalOptions{Revs: []string{commits[1].String(), "up:z"}}, "1100 00", "[z]"},
		{ostree.PullLocalOptions{Revs: []string{"x^"}, Depth: 1}, "0110 00", "[]"},
		{ostree.PullLocalOptions{Revs: []string{}}, "0000 00", "[]"},
	} {
		dst := newRepo(t, ostree.ModeArchive)
		require.NoError(t, dst.PullLocal(t.Context(), src, &c.opts))
		require.Equal(t, c.has, has(t, dst, commits)+" "+has(t, dst, other), c.opts)
		require.Equal(t, c.refs, fmt.Sprint(refs(dst)))
		require.NoError(t, dst.Fsck(t.Context(), nil))
	}
	dst := newRepo(t, ostree.ModeArchive)
	require.ErrorIs(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Revs: []string{"nope"}}), fs.ErrNotExist)
	require.Error(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Remote: "../x"}))
	require.Error(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Workers: 65}))
	// Commits alone, then the rest.
	require.NoError(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{CommitsOnly: true, Depth: -1}))
	require.Len(t, strings.Split(objectNames(t, dst.Path()), "\n"), 6)
	partial, err := dst.Partial(t.Context(), commits[0])
	require.NoError(t, err)
	require.True(t, partial)
	require.NoError(t, dst.Fsck(t.Context(), nil))
	require.NoError(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Depth: -1}))
	partial, err = dst.Partial(t.Context(), commits[0])
	require.NoError(t, err)
	require.False(t, partial)
	require.NoError(t, dst.Fsck(t.Context(), nil))
}

// TestPullLocalDetached: metadata that was added since comes, and nothing else.
func TestPullLocalDetached(t *testing.T) {
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	c := history(t, src, "x", 1)[0]
	require.NoError(t, dst.PullLocal(t.Context(), src, nil))
	_, err := dst.ReadMetadata(t.Context(), c)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = src.Commit(t.Context(), src.Tree(c), &ostree.CommitOptions{Timestamp: time.Unix(0, 0), Detached: []ostree.MetadataItem{{Key: "k", Value: ostree.StringVariant("v")}}})
	require.NoError(t, err)
	stats := &ostree.PullLocalStats{}
	require.NoError(t, dst.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Stats: stats}))
	require.Zero(t, *stats)
	got, err := dst.ReadMetadata(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, "k", got[0].Key)
}

// TestPullLocalDamage: what is damaged or missing is not pulled.
func TestPullLocalDamage(t *testing.T) {
	for _, from := range allModes() {
		for _, to := range allModes() {
			for _, missing := range []bool{false, true} {
				src := newRepo(t, from)
				_, commit := commitTree(t, src, dir("."), file("f", strings.Repeat("content", 100)))
				c, err := src.Commit(t.Context(), literal(dir("."), file("f", strings.Repeat("content", 100))), &ostree.CommitOptions{Ref: "x"})
				require.NoError(t, err)
				tree, err := src.ReadDirTree(t.Context(), commit.RootTree)
				require.NoError(t, err)
				object := objectFile(src, tree.Files[0].Object, contentExt(from))
				if missing {
					require.NoError(t, os.Remove(object))
				} else {
					flip(t, object, -5)
				}
				dst := newRepo(t, to)
				err = dst.PullLocal(t.Context(), src, nil)
				require.ErrorContains(t, err, tree.Files[0].Object.String())
				if missing {
					require.ErrorIs(t, err, fs.ErrNotExist)
				}
				require.Empty(t, objectNames(t, dst.Path()))
				require.Equal(t, "0", has(t, dst, []ostree.Checksum{c}))
				requireClean(t, dst)
			}
		}
	}
}

// TestPullLocalAsPeer pulls between all modes both ways: the same objects, and
// each side's check accepts what the other pulled.
func TestPullLocalAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	source := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(source, 0o755))
	require.NoError(t, treegen.Write(source, 4, &treegen.Options{Root: isRoot(), Files: 80, MaxSize: 1 << 16, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	for _, from := range faithful() {
		src := peerRepo(t, from)
		run(t, "ostree", "--repo="+src, "commit", "--branch=a", "--tree=dir="+source, "--timestamp=@1")
		r, err := ostree.Open(t.Context(), src, nil)
		require.NoError(t, err)
		defer r.Close()
		for _, to := range faithful() {
			theirs := peerRepo(t, to)
			run(t, "ostree", "--repo="+theirs, "pull-local", src, "a")
			dst := newRepo(t, to)
			require.NoError(t, dst.PullLocal(t.Context(), r, nil))
			same(t, objectFacts(t, theirs), objectFacts(t, dst.Path()))
			run(t, "ostree", "--repo="+dst.Path(), "fsck")
			require.Equal(t, run(t, "ostree", "--repo="+theirs, "refs"), run(t, "ostree", "--repo="+dst.Path(), "refs"))
		}
	}
}
