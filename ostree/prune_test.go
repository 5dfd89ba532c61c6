package ostree_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// history commits n trees to ref, each with a file that the others don't have
// and a day after the one before, and gives the commits, oldest first.
func history(t testing.TB, r *ostree.Repo, ref string, n int) []ostree.Checksum {
	t.Helper()
	var commits []ostree.Checksum
	for i := range n {
		opts := &ostree.CommitOptions{Ref: ref, Timestamp: time.Unix(int64(i)*86400, 0)}
		if i > 0 {
			opts.Parent = commits[i-1]
		}
		c, err := r.Commit(t.Context(), literal(dir("."), dir("d"), file("d/same", "same"), file("d/own", fmt.Sprint(ref, i))), opts)
		require.NoError(t, err)
		commits = append(commits, c)
	}
	return commits
}

// has reports which of commits are there, a digit each.
func has(t testing.TB, r *ostree.Repo, commits []ostree.Checksum) string {
	t.Helper()
	var b strings.Builder
	for _, c := range commits {
		ok, err := r.Has(t.Context(), ostree.TypeCommit, c)
		require.NoError(t, err)
		if ok {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

func TestPrune(t *testing.T) {
	for _, c := range []struct {
		name string
		opts *ostree.PruneOptions
		want string
	}{
		{"default", nil, "11111"},
		{"refs", &ostree.PruneOptions{RefsOnly: true}, "11111"},
		{"tips", &ostree.PruneOptions{RefsOnly: true, Depth: -1}, "00001"},
		{"depth", &ostree.PruneOptions{RefsOnly: true, Depth: 2}, "00111"},
		{"young", &ostree.PruneOptions{KeepYoungerThan: time.Unix(3*86400, 0)}, "00011"},
		{"all old", &ostree.PruneOptions{KeepYoungerThan: time.Unix(30*86400, 0)}, "00001"},
		{"one ref", &ostree.PruneOptions{RefDepth: map[string]int{"a": 1}}, "00011"},
		{"one ref, none", &ostree.PruneOptions{RefDepth: map[string]int{"a": -1}, KeepYoungerThan: time.Unix(1, 0)}, "00001"},
		{"one ref, all", &ostree.PruneOptions{RefsOnly: true, Depth: -1, RefDepth: map[string]int{"a": 0}}, "11111"},
		{"another ref", &ostree.PruneOptions{Depth: -1, RefDepth: map[string]int{"b": 0}}, "00001"},
		{"dry", &ostree.PruneOptions{RefsOnly: true, Depth: -1, DryRun: true}, "11111"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo(t, ostree.ModeBareUser)
			commits := history(t, r, "a", 5)
			before := objectNames(t, r.Path())
			stats, err := r.Prune(t.Context(), c.opts)
			require.NoError(t, err)
			require.Equal(t, c.want, has(t, r, commits))
			require.NoError(t, r.Fsck(t.Context(), nil))
			require.EqualValues(t, strings.Count(before, "\n")+1, stats.Objects)
			if c.opts != nil && c.opts.DryRun {
				require.EqualValues(t, 16, stats.Pruned, "4 times commit, two dirtrees, file")
				require.Equal(t, before, objectNames(t, r.Path()))
				return
			}
			require.EqualValues(t, strings.Count(before, "\n")-strings.Count(objectNames(t, r.Path()), "\n"), stats.Pruned)
			require.EqualValues(t, 4*strings.Count(c.want, "0"), stats.Pruned)
			require.Equal(t, stats.Pruned > 0, stats.Bytes > 0)
		})
	}
}

func TestPruneDelete(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	require.NoError(t, r.SetConfig(t.Context(), "core", "tombstone-commits", "true"))
	r, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer r.Close()
	commits := history(t, r, "a/b", 3)
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{Delete: commits[2:]})
	require.ErrorContains(t, err, "refs/heads/a/b names it")
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{Delete: []ostree.Checksum{{1}}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	partial := filepath.Join(r.Path(), "state", commits[1].String()+".commitpartial")
	require.NoError(t, os.WriteFile(partial, nil, 0o644))
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{Delete: commits[1:2]})
	require.NoError(t, err)
	require.Equal(t, "101", has(t, r, commits))
	require.NoFileExists(t, partial)
	for i, want := range []bool{false, true, false} {
		got, err := r.Has(t.Context(), ostree.TypeTombstone, commits[i])
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	// What can't be read is no reason to remove what it may need.
	tip, err := r.ReadCommit(t.Context(), commits[2])
	require.NoError(t, err)
	require.NoError(t, os.Remove(objectFile(r, tip.RootTree, "dirtree")))
	before := objectNames(t, r.Path())
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true, Depth: -1})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, before, objectNames(t, r.Path()))
	// Of a partial commit it may be missing.
	require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "state", commits[2].String()+".commitpartial"), nil, 0o644))
	is, err := r.Partial(t.Context(), commits[2])
	require.NoError(t, err)
	require.True(t, is)
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true, Depth: -1})
	require.NoError(t, err)
	require.Equal(t, "001", has(t, r, commits))
}

// TestPruneWaits: a prune does not come between a commit's objects and its ref,
// and the other way round.
func TestPruneWaits(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	_, err := r.Commit(t.Context(), literal(dir("."), file("f", "1")), &ostree.CommitOptions{Ref: "x", Edit: func(*ostree.Entry) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := r.Prune(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return true, nil
	}})
	require.NoError(t, err)
	history(t, r, "y", 2)
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true, Depth: -1, Progress: func(ostree.Event) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := r.Commit(ctx, literal(dir(".")), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}})
	require.NoError(t, err)
	require.NoError(t, r.Fsck(t.Context(), nil))
}

// TestPruneStopped: a prune that ends in the middle leaves no commit that lacks
// an object, and the next one does the rest.
func TestPruneStopped(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUserOnly)
	commits := history(t, r, "x", 90) // of which 89 go, with two dirtrees and a file each
	ctx, cancel := context.WithCancel(t.Context())
	stats, err := r.Prune(ctx, &ostree.PruneOptions{RefsOnly: true, Depth: -1, Progress: func(ostree.Event) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 256, stats.Pruned)
	require.Equal(t, strings.Repeat("0", 89)+"1", has(t, r, commits))
	require.NoError(t, r.Fsck(t.Context(), nil))
	stats, err = r.Prune(t.Context(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 4*89-256, stats.Pruned)
	require.EqualValues(t, 6+4*89-256, stats.Objects)
}

func TestParent(t *testing.T) {
	for _, mode := range modes {
		base := newRepo(t, ostree.ModeBareUser)
		commits := history(t, base, "base", 2)
		require.NoError(t, base.SetConfig(t.Context(), `remote "up"`, "url", "https://example.com/base"))
		require.NoError(t, base.SetConfig(t.Context(), `remote "other"`, "url", "https://example.com/other"))
		child := newRepo(t, mode)
		require.NoError(t, child.SetConfig(t.Context(), "core", "parent", base.Path()))
		require.NoError(t, child.SetConfig(t.Context(), `remote "up"`, "url", "https://example.com/up"))
		require.NoError(t, child.SetConfig(t.Context(), `remote "up"`, "gpg-verify", "false"))
		r, err := ostree.Open(t.Context(), child.Path(), nil)
		require.NoError(t, err)
		defer r.Close()
		got, err := r.Resolve(t.Context(), "base^")
		require.NoError(t, err)
		require.Equal(t, commits[0], got)
		remotes := r.Remotes()
		require.Len(t, remotes, 2)
		require.Equal(t, "https://example.com/other", remotes[0].URL())
		require.Equal(t, ostree.Remote{Name: "up", Keys: map[string]string{"url": "https://example.com/up", "gpg-verify": "false"}}, remotes[1])
		// Read from one, stored in the other.
		require.Empty(t, objectNames(t, r.Path()))
		out := t.TempDir()
		checkout(t, r, out, commits[1], &ostree.CheckoutOptions{UserMode: true})
		require.FileExists(t, out+"/d/own")
		c, err := r.Commit(t.Context(), r.Tree(commits[1]), &ostree.CommitOptions{Ref: "own", Timestamp: time.Unix(86400, 0), Parent: commits[0]})
		require.NoError(t, err)
		require.Equal(t, commits[1], c)
		_, err = r.Prune(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, r.SetRef(t.Context(), "base", commits[0]))
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.Len(t, strings.Split(objectNames(t, r.Path()), "\n"), 6)
		// A parent that is its own parent.
		require.NoError(t, child.SetConfig(t.Context(), "core", "parent", child.Path()))
		_, err = ostree.Open(t.Context(), child.Path(), nil)
		require.ErrorContains(t, err, "parents of parents")
	}
}

func TestRefsBelowAndAliases(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c := history(t, r, "os/x86_64/base", 1)[0]
	for _, name := range []string{"os2", "up:os/x86_64", "up:z", "down:only"} {
		require.NoError(t, r.SetRef(t.Context(), name, c))
	}
	require.NoError(t, r.SetAlias(t.Context(), "os/stable/now", "os2"))
	list := func(prefix string) (names []string) {
		for ref, err := range r.RefsBelow(t.Context(), prefix) {
			require.NoError(t, err)
			require.Equal(t, c, ref.Commit)
			names = append(names, ref.String()+"="+ref.Alias)
		}
		return names
	}
	require.Equal(t, []string{"os/stable/now=os2", "os/x86_64/base="}, list("os"))
	require.Equal(t, []string{"os2="}, list("os2"))
	require.Empty(t, list("nope"))
	require.Equal(t, []string{"up:os/x86_64=", "up:z="}, list("up:"))
	require.Equal(t, []string{"up:os/x86_64="}, list("up:os"))
	for _, err := range r.RefsBelow(t.Context(), "../x") {
		require.Error(t, err)
	}
	for _, rev := range []string{"os/stable/now", "only", "down/only", "z", c.String()[:1], c.String()[:2], c.String()[:30]} {
		got, err := r.Resolve(t.Context(), rev)
		require.NoError(t, err, rev)
		require.Equal(t, c, got)
	}
	for _, rev := range []string{"", "nope", "g", "up:only", "f0f0"} {
		_, err := r.Resolve(t.Context(), rev)
		require.Error(t, err, rev)
	}
	require.ErrorContains(t, r.DeleteRef(t.Context(), "os2"), "is an alias of it")
	require.NoError(t, r.DeleteRef(t.Context(), "os/stable/now"))
	require.NoError(t, r.DeleteRef(t.Context(), "os2"))
	require.ErrorIs(t, r.DeleteRef(t.Context(), "os2"), fs.ErrNotExist)
	require.ErrorIs(t, r.SetAlias(t.Context(), "x", "os2"), fs.ErrNotExist)
	require.Error(t, r.SetAlias(t.Context(), "x", "up:z"))
	require.Error(t, r.SetAlias(t.Context(), "../x", "os/x86_64/base"))
	require.NoError(t, r.Fsck(t.Context(), nil))
}

// TestPruneAsPeer prunes copies of one repository both ways.
func TestPruneAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	seed := newRepo(t, ostree.ModeBareUser)
	commits := history(t, seed, "a", 4)
	history(t, seed, "b/c", 3)
	require.NoError(t, seed.SetRef(t.Context(), "remote:x", commits[1]))
	require.NoError(t, seed.SetConfig(t.Context(), "core", "tombstone-commits", "true"))
	for _, c := range []struct {
		args []string
		opts ostree.PruneOptions
	}{
		{nil, ostree.PruneOptions{}},
		{[]string{"--refs-only"}, ostree.PruneOptions{RefsOnly: true}},
		{[]string{"--refs-only", "--depth=0"}, ostree.PruneOptions{RefsOnly: true, Depth: -1}},
		{[]string{"--refs-only", "--depth=1"}, ostree.PruneOptions{RefsOnly: true, Depth: 1}},
		{[]string{"--keep-younger-than=1970-01-02 12:00:00 +0000"}, ostree.PruneOptions{KeepYoungerThan: time.Unix(86400+43200, 0)}},
		{[]string{"--delete-commit=" + commits[2].String()}, ostree.PruneOptions{Delete: commits[2:3]}},
		{[]string{"--no-prune", "--refs-only", "--depth=0"}, ostree.PruneOptions{RefsOnly: true, Depth: -1, DryRun: true}},
	} {
		var repos [2]string
		for i := range repos {
			repos[i] = filepath.Join(t.TempDir(), "repo")
			run(t, "cp", "-a", seed.Path(), repos[i])
		}
		text := run(t, "ostree", append([]string{"--repo=" + repos[0], "prune"}, c.args...)...)
		r, err := ostree.Open(t.Context(), repos[1], nil)
		require.NoError(t, err)
		stats, err := r.Prune(t.Context(), &c.opts)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		same(t, objectFacts(t, repos[0]), objectFacts(t, repos[1]))
		if c.opts.Delete == nil { // of which they do not count what they delete first
			require.Contains(t, text, fmt.Sprintf("Total objects: %d\n", stats.Objects))
			if stats.Pruned > 0 {
				require.Contains(t, text, fmt.Sprintf(" %d objects", stats.Pruned), c.args)
			}
		}
		run(t, "ostree", "--repo="+repos[1], "fsck")
	}
}

// TestPruneBesidePeer: commits and prunes of both sides at once do no harm.
func TestPruneBesidePeer(t *testing.T) {
	interop.Peer(t, "ostree")
	repo := peerRepo(t, ostree.ModeBareUser)
	source := t.TempDir()
	require.NoError(t, os.WriteFile(source+"/file", []byte("x"), 0o644))
	r, err := ostree.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 6 {
			run(t, "ostree", "--repo="+repo, "commit", "--branch=theirs", "--tree=dir="+source, "--timestamp=@"+fmt.Sprint(i))
		}
	})
	group.Go(func() {
		for range 4 {
			run(t, "ostree", "--repo="+repo, "prune", "--refs-only", "--depth=0")
		}
	})
	group.Go(func() {
		for range 20 {
			if _, err := r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true, Depth: -1}); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 10 {
		_, err := r.Commit(t.Context(), literal(dir("."), file("f", fmt.Sprint(i))), &ostree.CommitOptions{Ref: "ours", NoFsync: true})
		require.NoError(t, err)
	}
	group.Wait()
	require.NoError(t, r.Fsck(t.Context(), nil))
	run(t, "ostree", "--repo="+repo, "fsck")
	for _, ref := range []string{"ours", "theirs"} {
		c, err := r.Resolve(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, "1", has(t, r, []ostree.Checksum{c}))
	}
}

// TestPruneDetached: detached metadata goes with its commit and does not count.
func TestPruneDetached(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Detached: []ostree.MetadataItem{{Key: "k", Value: ostree.StringVariant("v")}}})
	require.NoError(t, err)
	stats, err := r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
	require.NoError(t, err)
	require.EqualValues(t, 3, stats.Objects, "commit, dirtree, dirmeta")
	require.EqualValues(t, 3, stats.Pruned)
	_, err = r.ReadMetadata(t.Context(), c)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
