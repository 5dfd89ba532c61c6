package walk_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/daily"
)

func parse(t *testing.T, args ...string) *walk.Flags {
	t.Helper()
	var flags walk.Flags
	set := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.Register(set)
	require.NoError(t, set.Parse(args))
	return &flags
}

func TestSetupTakesTargetsFromTheDefinition(t *testing.T) {
	state := t.TempDir()
	r, err := walk.Setup(t.Context(), parse(t, "-state", state), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, "dir:"+filepath.Join(state, "store"), r.Store)
	require.Equal(t, "dir:"+filepath.Join(state, "registry"), r.Registry)
	require.Equal(t, "localhost/sample", r.Env.Repository)
	require.Equal(t, "file://"+filepath.Join(state, "store"), r.Env.PublicURL)
	require.Len(t, r.Options.Components, 3)
	require.NoError(t, r.Close())

	r, err = walk.Setup(t.Context(), parse(t, "-state", state, "-stream", "okd-scos-next", "-plan"), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, "docker://quay.io/okd", r.Registry)
	require.Contains(t, r.Store, "s3://okd-scos?")
	require.Equal(t, "quay.io/okd", r.Env.Repository)
	require.NoError(t, r.Close())

	// A folder takes the images, the names stay those of the definition.
	r, err = walk.Setup(t.Context(), parse(t, "-state", state, "-stream", "okd-scos-next", "-plan", "-registry", "dir:"+state), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, "quay.io/okd", r.Env.Repository)
	require.NoError(t, r.Close())
}

func TestSetupReadsOptions(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	require.NoError(t, os.WriteFile(disk, []byte("x"), 0o600))
	r, err := walk.Setup(t.Context(), parse(t, "-state", t.TempDir(), "-disk", "qemu="+disk, "-gate", "aws=failed:no quota", "-gate", "b=passed",
		"-node", "localhost/n:1", "-component", "a=localhost/a:1", "-component", "b=localhost/b:1", "-max-layers", "7", "-devino-cache"), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, []daily.Disk{{Platform: "qemu", Path: disk}}, r.Options.Disks)
	require.Equal(t, map[string]daily.GateResult{"aws": {Reason: "no quota"}, "b": {Passed: true}}, r.Options.Gates)
	require.Len(t, r.Options.Components, 2)
	require.Nil(t, r.Options.NodeBuilder)
	require.Equal(t, 7, r.Options.MaxLayers)
	require.True(t, r.Options.TrustFiles)
	require.NoError(t, r.Close())
}

func TestSourceDateEpoch(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	r, err := walk.Setup(t.Context(), parse(t, "-state", t.TempDir()), &bytes.Buffer{})
	require.NoError(t, err)
	require.EqualValues(t, 86400, r.Options.Time.Unix())
	require.NoError(t, r.Close())
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	_, err = walk.Setup(t.Context(), parse(t, "-state", t.TempDir()), &bytes.Buffer{})
	var usage *ui.UsageError
	require.ErrorAs(t, err, &usage)
}

func TestSourceOfARemoteRef(t *testing.T) {
	dir := t.TempDir()
	repo, err := ostree.Init(t.Context(), dir, ostree.ModeBareUser, nil)
	require.NoError(t, err)
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	_, err = repo.Commit(t.Context(), ostree.Dir(root), &ostree.CommitOptions{Ref: "far:os/x", Metadata: []ostree.MetadataItem{
		{Key: "version", Value: ostree.StringVariant("1")}, {Key: "rpmostree.inputhash", Value: ostree.StringVariant("2")},
	}})
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	for _, spec := range []string{"ostree:" + dir + ":far:os/x"} {
		r, err := walk.Setup(t.Context(), parse(t, "-state", t.TempDir(), "-source", spec), &bytes.Buffer{})
		require.NoError(t, err, spec)
		require.Len(t, r.Options.Metadata, 1)
		require.Equal(t, "rpmostree.inputhash", r.Options.Metadata[0].Key)
		require.NoError(t, r.Close())
	}
}
