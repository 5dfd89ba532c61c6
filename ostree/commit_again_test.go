package ostree_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestCommitOfACommit: a commit of a commit's own tree takes its objects as
// they are, and is the commit that a walk over them gives.
func TestCommitOfACommit(t *testing.T) {
	for _, mode := range []ostree.Mode{ostree.ModeBareUser, ostree.ModeArchive} {
		t.Run(string(mode), func(t *testing.T) {
			dir := t.TempDir()
			repo, err := ostree.Init(t.Context(), dir, mode, nil)
			require.NoError(t, err)
			defer repo.Close()
			first, err := repo.Commit(t.Context(), treegen.Tree(7, &treegen.Options{Files: 60}), nil)
			require.NoError(t, err)
			opts := func() *ostree.CommitOptions {
				return &ostree.CommitOptions{Parent: first, Subject: "again", Timestamp: time.Unix(5, 0), Stats: &ostree.CommitStats{}}
			}
			taken := opts()
			got, err := repo.Commit(t.Context(), repo.Tree(first), taken)
			require.NoError(t, err)
			require.Zero(t, taken.Stats.Files)
			walked := opts()
			walked.Edit = func(*ostree.Entry) (bool, error) { return true, nil }
			want, err := repo.Commit(t.Context(), repo.Tree(first), walked)
			require.NoError(t, err)
			require.NotZero(t, walked.Stats.Files)
			require.Equal(t, want, got)
			require.NoError(t, repo.Fsck(t.Context(), nil))

			// Of a partial commit nothing is taken for granted.
			require.NoError(t, os.WriteFile(filepath.Join(dir, "state", first.String()+".commitpartial"), nil, 0o600))
			careful := opts()
			got, err = repo.Commit(t.Context(), repo.Tree(first), careful)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NotZero(t, careful.Stats.Files)

			_, err = repo.Commit(t.Context(), repo.Tree(ostree.Checksum{1}), nil)
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestCommitUnchanged(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	first, err := r.Commit(t.Context(), literal(dir("."), file("a", "a")), &ostree.CommitOptions{Ref: "os", SkipUnchanged: true})
	require.NoError(t, err)

	stats := &ostree.CommitStats{}
	opts := &ostree.CommitOptions{Ref: "os", Parent: first, Subject: "again", SkipUnchanged: true, Stats: stats}
	same, err := r.Commit(t.Context(), literal(dir("."), file("a", "a")), opts)
	require.NoError(t, err)
	require.Equal(t, first, same)
	require.Zero(t, stats.ContentWritten+stats.MetadataWritten)

	other, err := r.Commit(t.Context(), literal(dir("."), file("a", "b")), opts)
	require.NoError(t, err)
	require.NotEqual(t, first, other)
	opts.Parent = ostree.Checksum{1}
	_, err = r.Commit(t.Context(), literal(dir("."), file("a", "b")), opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
	got, err := r.Resolve(t.Context(), "os")
	require.NoError(t, err)
	require.Equal(t, other, got)
}
