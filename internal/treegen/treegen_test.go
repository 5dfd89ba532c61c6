package treegen_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

var update = flag.Bool("update", false, "write golden files")

func listing(ctx context.Context, src ostree.Tree) (string, error) {
	var b strings.Builder
	for e, err := range src.Entries(ctx) {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%q %o %d:%d %q", e.Path, e.Mode, e.UID, e.GID, e.Target)
		if e.Open != nil {
			f, err := e.Open(ctx)
			if err != nil {
				return "", err
			}
			h := sha256.New()
			n, err := io.Copy(h, f)
			if err = errors.Join(err, f.Close()); err != nil {
				return "", err
			}
			if n != e.Size {
				return "", fmt.Errorf("%s: %d bytes, want %d", e.Path, n, e.Size)
			}
			fmt.Fprintf(&b, " %d %x", n, h.Sum(nil)[:6])
		}
		for _, x := range e.Xattrs {
			fmt.Fprintf(&b, " %q=%.20q", x.Name, x.Value)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// TestGolden shows that a seed gives the same tree everywhere, always.
func TestGolden(t *testing.T) {
	got, err := listing(t.Context(), treegen.Tree(1, &treegen.Options{Files: 60, Root: true, MaxSize: 100000}))
	require.NoError(t, err)
	path := filepath.Join("testdata", "seed1.txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestWriteIsTree reads back what was written.
func TestWriteIsTree(t *testing.T) {
	for seed := range uint64(8) {
		opts := &treegen.Options{Root: os.Getuid() == 0, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), MaxSize: 200000}
		if opts.Root {
			opts.UID, opts.GID = 0, 0
		}
		dir := t.TempDir()
		require.NoError(t, treegen.Write(dir, seed, opts))
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer root.Close()
		got, err := listing(t.Context(), ostree.Dir(root))
		require.NoError(t, err)
		want, err := listing(t.Context(), treegen.Tree(seed, opts))
		require.NoError(t, err)
		require.Equal(t, want, got, "seed %d", seed)
	}
}

// TestMixture shows that the tree has what it is for.
func TestMixture(t *testing.T) {
	kinds, sizes, xattrs, odd := map[uint32]int{}, map[bool]int{}, map[string]int{}, map[string]int{}
	for e, err := range treegen.Tree(3, &treegen.Options{Files: 3000, Root: true}).Entries(t.Context()) {
		require.NoError(t, err)
		kinds[e.Mode&ostree.ModeType]++
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			sizes[e.Size > 1<<20]++
			odd[fmt.Sprintf("%04o", e.Mode&0o7777)]++
		}
		for _, x := range e.Xattrs {
			xattrs[x.Name]++
		}
		if strings.Contains(e.Target, "//") {
			odd["//"]++
		}
		if len(e.Path) > 256 {
			odd["long"]++
		}
	}
	require.Greater(t, kinds[ostree.ModeDir], 200)
	require.Greater(t, kinds[ostree.ModeSymlink], 200)
	require.Greater(t, kinds[ostree.ModeRegular], 1500)
	require.Positive(t, sizes[true])
	for _, name := range []string{"user.a", "user.a-b", "user.é", "trusted.test", "security.capability"} {
		require.Positive(t, xattrs[name], name)
	}
	for _, what := range []string{"0000", "4755", "7777", "//", "long"} {
		require.Positive(t, odd[what], what)
	}
}

func TestWriteFaults(t *testing.T) {
	require.Error(t, treegen.Write(filepath.Join(t.TempDir(), "none"), 1, nil))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d"), nil, 0o600))
	opts := &treegen.Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	require.ErrorContains(t, treegen.Write(dir, 1, opts), `"d"`)
}

func ExampleTree() {
	n := 0
	for _, err := range treegen.Tree(1, &treegen.Options{Files: 10}).Entries(context.Background()) {
		if err != nil {
			panic(err)
		}
		n++
	}
	fmt.Println(n)
	// Output: 33
}
