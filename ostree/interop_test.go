package ostree_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// modes are those that need no privileges and keep everything.
var modes = []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser}

// allModes are those that can be written here.
func allModes() []ostree.Mode {
	all := append(modes[:len(modes):len(modes)], ostree.ModeBareUserOnly)
	if isRoot() {
		all = append(all, ostree.ModeBare)
	}
	return all
}

// faithful are those of allModes that keep everything.
func faithful() []ostree.Mode {
	return slices.DeleteFunc(allModes(), func(m ostree.Mode) bool { return m == ostree.ModeBareUserOnly })
}

func isRoot() bool { return os.Getuid() == 0 }

// TestSharedRepositories reads what `ostree` wrote, checks it and rebuilds each
// of its commits, in other modes, to the same checksum.
func TestSharedRepositories(t *testing.T) {
	interop.Peer(t, "tar", "zstd")
	for i, name := range []string{"repo-archive", "repo-bare-user", "repo-bare"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := ostree.Open(t.Context(), unpack(t, name), nil)
			require.NoError(t, err)
			defer r.Close()
			require.NoError(t, r.Fsck(t.Context(), nil))

			var refs strings.Builder
			others := map[ostree.Mode]*ostree.Repo{}
			for k, mode := range faithful() {
				if i == 0 || i != k { // the same trees are in all three
					others[mode] = newRepo(t, mode)
				}
			}
			for ref, err := range r.Refs(t.Context()) {
				require.NoError(t, err)
				fmt.Fprintln(&refs, ref, ref.Commit)
				commit, err := r.ReadCommit(t.Context(), ref.Commit)
				require.NoError(t, err)
				got, err := r.Resolve(t.Context(), ref.String())
				require.NoError(t, err)
				require.Equal(t, ref.Commit, got)
				detached, err := r.ReadMetadata(t.Context(), ref.Commit)
				if err != nil {
					require.ErrorIs(t, err, os.ErrNotExist)
				}
				for mode, other := range others {
					again, err := other.Commit(t.Context(), r.Tree(ref.Commit), &ostree.CommitOptions{Ref: ref.Name, Parent: commit.Parent, Subject: commit.Subject,
						Body: commit.Body, Timestamp: commit.Timestamp, Metadata: commit.Metadata, Detached: detached})
					require.NoError(t, err)
					require.Equal(t, ref.Commit, again, mode)
				}
			}
			want, err := os.ReadFile(interop.SharedData(t, "ostree", "expected", strings.TrimPrefix(name, "repo-")+".refs.txt"))
			require.NoError(t, err)
			require.Equal(t, string(want), refs.String())
			for _, other := range others {
				require.NoError(t, other.Fsck(t.Context(), nil))
			}
		})
	}
}

// TestSharedTrees commits the shared trees to the checksums that `ostree` got.
func TestSharedTrees(t *testing.T) {
	interop.Peer(t, "tar", "zstd")
	if !isRoot() {
		t.Skip("unpacking owners and attributes needs root")
	}
	for name, want := range map[string]string{
		"tree-v1": "51191c135d8d7e460590aa3ef293318fce40bb89b6b431bb3a8ff7436030b3a9",
		"tree-v2": "c840d1871d239d8d2e99682ad079ddf3571d8659235b8f5fd2e971f63382f19d",
	} {
		tree := openDir(t, unpack(t, name))
		for _, mode := range faithful() {
			r := newRepo(t, mode)
			c, err := r.Commit(t.Context(), tree, nil)
			require.NoError(t, err)
			commit, err := r.ReadCommit(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, want, commit.ContentChecksum().String(), "%s %s", name, mode)
		}
	}
}

// peerRepo is a repository made by `ostree`.
func peerRepo(t testing.TB, mode ostree.Mode) string {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "peer")
	run(t, "ostree", "--repo="+repo, "init", "--mode="+string(mode))
	run(t, "ostree", "--repo="+repo, "config", "set", "core.fsync", "false")
	return repo
}

// TestSameAsPeer commits generated trees both ways, with every option that both
// have, and compares checksums, listings, checks and checkouts.
func TestSameAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	when := time.Unix(1_700_000_000, 0)
	for _, seed := range treegen.Seeds(t, 2) {
		source := filepath.Join(t.TempDir(), "tree")
		require.NoError(t, os.Mkdir(source, 0o755))
		// Some files are larger than what is held in memory.
		require.NoError(t, treegen.Write(source, seed, &treegen.Options{Root: isRoot(), MaxSize: 3 << 19, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
		for _, c := range []struct {
			name string
			args []string
			opts ostree.CommitOptions
		}{
			{"plain", nil, ostree.CommitOptions{}},
			{"owner", []string{"--owner-uid=12", "--owner-gid=34"}, ostree.CommitOptions{Owner: &ostree.Owner{UID: 12, GID: 34}}},
			{"canonical", []string{"--canonical-permissions"}, ostree.CommitOptions{CanonicalPermissions: true}},
			{"no-xattrs", []string{"--no-xattrs"}, ostree.CommitOptions{SkipXattrs: true}},
			{"metadata", []string{"--add-metadata-string=version=1.1", "--add-metadata=n=uint32 7", "--add-metadata=list=['a', 'b']", "--add-metadata=on=true",
				"--add-metadata=dict=@a{sv} {'x': <'y'>, 'n': <int64 -1>}", "--subject=S ü", "--body=B\n\nC"},
				ostree.CommitOptions{Subject: "S ü", Body: "B\n\nC", Metadata: []ostree.MetadataItem{
					{Key: "version", Value: ostree.StringVariant("1.1")},
					{Key: "n", Value: ostree.Uint32Variant(7)},
					{Key: "list", Value: ostree.StringsVariant([]string{"a", "b"})},
					{Key: "on", Value: ostree.BoolVariant(true)},
					{Key: "dict", Value: ostree.Variant{Type: "a{sv}", Data: []byte("x\x00\x00\x00\x00\x00\x00\x00y\x00\x00s\x02\x00\x00\x00n\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00x\x02\x0d\x23")}},
				}}},
		} {
			if seed > 0 && c.name != "plain" {
				continue
			}
			for i, mode := range allModes() {
				owners := c.name == "plain" || c.name == "canonical"
				if !owners && i > 0 {
					continue // what the options do is not a matter of modes
				}
				t.Run(fmt.Sprintf("%d/%s/%s", seed, c.name, mode), func(t *testing.T) {
					t.Parallel()
					theirs := peerRepo(t, mode)
					args := append([]string{"--repo=" + theirs, "commit", "--branch=a/b", "--tree=dir=" + source, "--timestamp=@1700000000"}, c.args...)
					want := strings.TrimSpace(run(t, "ostree", args...))

					r := newRepo(t, mode)
					opts := c.opts
					opts.Ref, opts.Timestamp = "a/b", when
					opts.Metadata = append(opts.Metadata[:len(opts.Metadata):len(opts.Metadata)], ostree.RefBinding("a/b"))
					got, err := r.Commit(t.Context(), openDir(t, source), &opts)
					require.NoError(t, err)
					same(t, run(t, "ostree", "--repo="+theirs, "ls", "-RCX", "a/b"), run(t, "ostree", "--repo="+r.Path(), "ls", "-RCX", "a/b"))
					same(t, run(t, "ostree", "--repo="+theirs, "show", "--raw", "a/b"), run(t, "ostree", "--repo="+r.Path(), "show", "--raw", "a/b"))
					require.Equal(t, want, got.String())
					run(t, "ostree", "--repo="+r.Path(), "fsck")
					same(t, objectFacts(t, theirs), objectFacts(t, r.Path()))

					// Theirs, read by us.
					peer, err := ostree.Open(t.Context(), theirs, nil)
					require.NoError(t, err)
					defer peer.Close()
					require.NoError(t, peer.Fsck(t.Context(), nil))
					before := snapshot(t, theirs)
					again, err := peer.Commit(t.Context(), peer.Tree(got), &opts)
					require.NoError(t, err)
					require.Equal(t, got, again)
					same(t, before, snapshot(t, theirs)) // a commit of what is there changes nothing
					again, err = peer.Commit(t.Context(), openDir(t, source), &opts)
					require.NoError(t, err)
					require.Equal(t, got, again)
					same(t, before, snapshot(t, theirs)) // a commit of what is there changes nothing

					// Ours, pulled by them.
					for _, other := range allModes() {
						if !owners || seed > 0 {
							continue
						}
						if other == ostree.ModeBareUserOnly && mode != other && c.name != "canonical" {
							continue // which refuses what is not canonical
						}
						if other == ostree.ModeBareUserOnly && mode == ostree.ModeBareUser {
							// They link the object, whose mode on disk has a bit more
							// where its owner can't read it, and then find it corrupt.
							continue
						}
						dst := peerRepo(t, other)
						run(t, "ostree", "--repo="+dst, "pull-local", r.Path(), "a/b")
						run(t, "ostree", "--repo="+dst, "fsck")
					}

					// Both checked out by both.
					out := t.TempDir()
					run(t, "ostree", "--repo="+theirs, "checkout", "-U", "a/b", out+"/theirs")
					run(t, "ostree", "--repo="+r.Path(), "checkout", "-U", "a/b", out+"/ours-by-them")
					require.NoError(t, os.Mkdir(out+"/ours", 0o755))
					checkout(t, r, out+"/ours", got, &ostree.CheckoutOptions{UserMode: true})
					want = listing(t, out+"/theirs")
					same(t, want, listing(t, out+"/ours-by-them"))
					same(t, want, listing(t, out+"/ours"))
				})
			}
		}
	}
}

// objectFacts describes the objects of a repository: owner, mode, attributes,
// whether its time is the epoch, and the content of those that aren't compressed.
func objectFacts(t testing.TB, repo string) string {
	t.Helper()
	var b strings.Builder
	for e, err := range openDir(t, filepath.Join(repo, "objects")).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType == ostree.ModeDir {
			continue
		}
		fmt.Fprintf(&b, "%s %o %d:%d %q %v", e.Path, e.Mode, e.UID, e.GID, e.Target, e.Xattrs)
		if e.Mode&ostree.ModeType == ostree.ModeRegular && !strings.HasSuffix(e.Path, ".filez") {
			fmt.Fprintf(&b, " %v %d %s", e.Identity.MtimeNs == 0, e.Size, content(t, e))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// objectNames lists the objects of a repository.
func objectNames(t testing.TB, repo string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*"))
	require.NoError(t, err)
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], repo)
	}
	return strings.Join(names, "\n")
}

// snapshot describes every file of a repository but refs and times of folders.
func snapshot(t testing.TB, repo string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(repo, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err != nil || strings.Contains(path, "/refs/") {
			return err
		}
		fmt.Fprintln(&b, path, st.Mode(), st.Size(), st.ModTime(), inode(st))
		return nil
	}))
	return b.String()
}

// checkout checks out a commit into the folder path.
func checkout(t testing.TB, r *ostree.Repo, path string, c ostree.Checksum, opts *ostree.CheckoutOptions) {
	t.Helper()
	root, err := os.OpenRoot(path)
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, r.Checkout(t.Context(), root, c, opts))
}

// listing describes a folder: kinds, modes, times, owners, attributes, content.
func listing(t testing.TB, path string) string {
	t.Helper()
	var b strings.Builder
	for e, err := range openDir(t, path).Entries(t.Context()) {
		require.NoError(t, err)
		mtime := "epoch"
		if e.Path == "." || e.Identity.MtimeNs != 0 {
			mtime = "now" // made fresh, or of the test's own folder
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %q %v %s %s\n", e.Path, e.Mode, e.UID, e.GID, e.Size, e.Target, e.Xattrs, mtime, content(t, e))
	}
	return b.String()
}

func content(t testing.TB, e ostree.Entry) string {
	if e.Open == nil {
		return ""
	}
	body, err := e.Open(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	defer body.Close()
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	return fmt.Sprintf("%x", sha(data))
}
