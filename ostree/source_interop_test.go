package ostree_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestRoutes commits trees from a directory and from tar archives that GNU tar,
// libarchive (by way of ostree export) and Python write, here and with ostree:
// one checksum each.
func TestRoutes(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "python3")
	if !isRoot() {
		t.Skip("ostree keeps owners for root alone")
	}
	stamp := time.Unix(1700000000, 0)
	for _, seed := range treegen.Seeds(t, 4) {
		for name, opts := range map[string]*treegen.Options{
			"plain": {NoXattrs: true, MaxSize: 100000, Files: 150, Composed: true},
			"root":  {Root: true, MaxSize: 100000, Files: 150, Composed: true},
		} {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				t.Parallel()
				tree := t.TempDir()
				require.NoError(t, treegen.Write(tree, seed, opts))
				dropEmptyXattrs(t, tree)
				repo := newRepo(t, ostree.ModeArchive)
				commit := func(src ostree.Tree) string {
					t.Helper()
					c, err := repo.Commit(t.Context(), src, &ostree.CommitOptions{Subject: "s", Timestamp: stamp})
					require.NoError(t, err)
					return c.String()
				}
				want := commit(openDir(t, tree))

				peer := filepath.Join(t.TempDir(), "repo")
				run(t, "ostree", "init", "--repo="+peer, "--mode=bare")
				theirs := func(how string) string {
					return strings.TrimSpace(run(t, "ostree", "commit", "--repo="+peer, "--orphan", "--subject=s", "--no-bindings", "--timestamp=@1700000000", how))
				}
				require.Equal(t, theirs("--tree=dir="+tree), want, "directory")

				archives := map[string][]string{"posix": {"--format=posix", "--xattrs", "--xattrs-include=*"}}
				if opts.NoXattrs {
					archives["gnu"] = []string{"--format=gnu"}
					archives["sparse"] = []string{"--format=gnu", "--sparse"}
					archives["sparse posix"] = []string{"--format=posix", "--sparse"}
				}
				for format, args := range archives {
					file := filepath.Join(t.TempDir(), "tree.tar")
					run(t, "tar", append(append([]string{"-C", tree, "-cf", file}, args...), ".")...)
					require.Equal(t, want, commit(openTar(t, file)), "GNU tar, %s", format)
					// libostree 2022.7 does not sort attributes that come from archives.
					if format == "posix" && opts.NoXattrs {
						require.Equal(t, want, theirs("--tree=tar="+file), "ostree and GNU tar, %s", format)
					}
				}
				if opts.NoXattrs {
					file := filepath.Join(t.TempDir(), "python.tar")
					run(t, "python3", "-c", "import tarfile,sys\nwith tarfile.open(sys.argv[1],'w',format=tarfile.PAX_FORMAT) as t: t.add(sys.argv[2],'.')", file, tree)
					require.Equal(t, want, commit(openTar(t, file)), "Python")
				}
				if opts.NoXattrs { // export leaves attributes out
					file := filepath.Join(t.TempDir(), "export.tar")
					run(t, "ostree", "export", "--repo="+peer, "-o", file, want)
					require.Equal(t, want, commit(openTar(t, file)), "ostree export")
				}
			})
		}
	}
}

func openTar(t testing.TB, path string) ostree.Tree {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return ostree.Tar(f)
}

// dropEmptyXattrs removes attributes without a value: libostree does not see
// them on disk, and archives keep them.
func dropEmptyXattrs(t testing.TB, dir string) {
	t.Helper()
	for e, err := range openDir(t, dir).Entries(t.Context()) {
		require.NoError(t, err)
		for _, x := range e.Xattrs {
			if len(x.Value) == 0 {
				err := unix.Lremovexattr(filepath.Join(dir, e.Path), x.Name)
				if !errors.Is(err, unix.ENODATA) { // gone with another name of the file, after it was listed
					require.NoError(t, err)
				}
			}
		}
	}
}

// TestSharedTreesFromTar commits the trees of the shared data straight from
// their compressed archives.
func TestSharedTreesFromTar(t *testing.T) {
	for _, name := range []string{"tree-v1", "tree-v2"} {
		f, err := os.Open(interop.SharedData(t, "ostree", name+".tar.zst"))
		require.NoError(t, err)
		defer f.Close()
		r, err := decompress.NewReader(f)
		require.NoError(t, err)
		defer r.Close()
		repo := newRepo(t, ostree.ModeBareUser)
		_, err = repo.Commit(t.Context(), ostree.Tar(r), &ostree.CommitOptions{Ref: "x"})
		require.NoError(t, err, name)
		require.NoError(t, repo.Fsck(t.Context(), nil))
	}
}

// TestPostprocessRealTrees arranges the trees that debootstrap and rpm made:
// nothing to complain about, again changes nothing, and the route of a tar
// archive gives the same commit.
func TestPostprocessRealTrees(t *testing.T) {
	interop.Peer(t, "debootstrap", "rpm", "tar")
	if !isRoot() {
		t.Skip("the trees need root")
	}
	for name, make := range map[string]func(testing.TB) string{"debian": interop.DebianTree, "rpm": interop.RPMTree} {
		t.Run(name, func(t *testing.T) {
			tree := make(t)
			arranged := ostree.Postprocess(ostree.Dir(opened(t, tree)), nil)
			start, cpu := time.Now(), cpuTime(t)
			n := 0
			for _, err := range arranged.Entries(t.Context()) {
				require.NoError(t, err)
				n++
			}
			t.Logf("%d entries in %v, %v of CPU", n, time.Since(start), cpuTime(t)-cpu)
			require.NoError(t, ostree.Lint(t.Context(), arranged))
			version, vmlinuz, initramfs, err := ostree.Kernel(t.Context(), arranged)
			require.NoError(t, err)
			require.NotEmpty(t, version)
			require.Positive(t, vmlinuz.Size)
			require.Positive(t, initramfs.Size)

			repo := newRepo(t, ostree.ModeBareUser)
			// Most bytes are in folders in which nothing is arranged.
			large := []string{"usr/bin", "usr/include", "usr/lib/gcc", "usr/lib/x86_64-linux-gnu", "usr/lib/llvm-14", "usr/lib/python3", "usr/share"}
			opts := &ostree.CommitOptions{Timestamp: time.Unix(1, 0), Ref: "tree", NoFsync: true, Edit: func(e *ostree.Entry) (bool, error) {
				modules, _ := filepath.Match("usr/lib/modules/*/kernel", e.Path)
				return !modules && !slices.Contains(large, e.Path), nil
			}}
			once, err := repo.Commit(t.Context(), arranged, opts)
			require.NoError(t, err)
			twice, err := repo.Commit(t.Context(), ostree.Postprocess(repo.Tree(once), nil), opts)
			require.NoError(t, err)
			require.Equal(t, once, twice)
			require.NoError(t, ostree.Lint(t.Context(), repo.Tree(once)))

			file := filepath.Join(t.TempDir(), "tree.tar")
			args := []string{"-C", tree, "--format=posix", "--xattrs", "--xattrs-include=*", "-cf", file, "--exclude=./usr/lib/modules/*/kernel"}
			for _, path := range large {
				args = append(args, "--exclude=./"+path)
			}
			run(t, "tar", append(args, ".")...)
			fromTar, err := repo.Commit(t.Context(), ostree.Postprocess(openTar(t, file), nil), opts)
			require.NoError(t, err)
			require.Equal(t, once, fromTar)
		})
	}
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestDirFromAbove shows that a hostile parent of the tree can't be reached.
func TestDirFromAbove(t *testing.T) {
	outer := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outer, "secret"), []byte("secret"), 0o600))
	tree := filepath.Join(outer, "tree")
	require.NoError(t, errors.Join(os.Mkdir(tree, 0o755), os.Symlink("../secret", filepath.Join(tree, "up")), os.Symlink("..", filepath.Join(tree, "parent"))))
	got := lines(t, ostree.Dir(opened(t, tree)))
	require.False(t, bytes.Contains([]byte(strings.Join(got, "\n")), []byte(`"secret"`)))
	require.Len(t, got, 3)
}

// What is no name for ostree is none for us, whatever kind of file has it.
func TestNamesAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	for _, tc := range []struct {
		what string
		make func(dir string) error
	}{
		{"file", func(dir string) error { return os.WriteFile(dir+"/b\xff", nil, 0o644) }},
		{"directory", func(dir string) error { return os.Mkdir(dir+"/\xc3", 0o755) }},
		{"link", func(dir string) error { return os.Symlink("a", dir+"/\xed\xa0\x80") }},
	} {
		t.Run(tc.what, func(t *testing.T) {
			tree := t.TempDir()
			require.NoError(t, os.WriteFile(tree+"/a", nil, 0o644))
			require.NoError(t, tc.make(tree))
			peer := filepath.Join(t.TempDir(), "repo")
			run(t, "ostree", "init", "--repo="+peer, "--mode=archive")
			out, err := exec.Command("ostree", "commit", "--repo="+peer, "--branch=x", "--tree=dir="+tree).CombinedOutput()
			require.Error(t, err, "%s", out)
			_, err = newRepo(t, ostree.ModeArchive).Commit(t.Context(), openDir(t, tree), nil)
			require.ErrorContains(t, err, "UTF-8")
		})
	}
}
