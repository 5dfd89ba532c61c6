package bootimage_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

// TestAddArtifacts: all are recorded in one change, or none is and their files are gone.
func TestAddArtifacts(t *testing.T) {
	dir, root, meta := buildFolder(t, map[string][]byte{"metal": []byte("disk"), "ostree": []byte("archive")})
	write := func(name, content string) bootimage.Image {
		require.NoError(t, root.WriteFile(name, []byte(content), 0o444))
		return bootimage.Image{Path: name, SHA256: hash(content), Size: int64(len(content)), Unstamped: content == "unstamped"}
	}
	now := time.Unix(1764200000, 7)
	err := bootimage.AddArtifacts(t.Context(), root, now, func(_ context.Context, m *bootimage.Meta) (map[string]bootimage.Image, error) {
		require.Equal(t, &meta, m)
		return map[string]bootimage.Image{"aws": write("a.vmdk", "stamped"), "qemu": write("q.qcow2", "unstamped")}, nil
	})
	require.NoError(t, err)
	after := folderOf(t, dir)
	require.Len(t, after, 5)
	d := readMeta(t, dir)
	require.Contains(t, string(d.Bytes()), "1.50", "what others wrote stays")
	require.Equal(t, fmt.Sprint(now.UnixNano()), d.Value().MetaStamp.String())
	require.True(t, d.Value().Images["qemu"].Unstamped)
	require.Equal(t, meta.Images["metal"], d.Value().Images["metal"])
	require.Len(t, d.Value().Images, 4)

	// Where there is nothing to add, nothing is written.
	require.NoError(t, bootimage.AddArtifacts(t.Context(), root, now.Add(time.Hour), func(context.Context, *bootimage.Meta) (map[string]bootimage.Image, error) { return nil, nil }))
	require.Equal(t, after, folderOf(t, dir))
	metal := meta.Images["metal"]
	for name, test := range map[string]struct {
		made  func() map[string]bootimage.Image
		fault error
		want  error
		text  string
	}{
		"its error": {nil, io.ErrClosedPipe, io.ErrClosedPipe, ""},
		"there": {func() map[string]bootimage.Image {
			return map[string]bootimage.Image{"gcp": write("g", "g"), "aws": write("b", "b")}
		}, nil, fs.ErrExist, "artifact aws is there"},
		"a file of another": {func() map[string]bootimage.Image {
			return map[string]bootimage.Image{"gcp": write("g", "g"), "azure": metal}
		}, nil, fs.ErrExist,
			"artifact azure: " + metal.Path + " is the file of artifact metal"},
		"one file twice": {func() map[string]bootimage.Image {
			return map[string]bootimage.Image{"gcp": write("g", "g"), "azure": write("g", "g")}
		}, nil, fs.ErrExist, "is the file of artifact azure"},
		"no file name": {func() map[string]bootimage.Image {
			return map[string]bootimage.Image{"gcp": {Path: "../g", SHA256: hash("g")}}
		}, nil, nil, "is not a file name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := bootimage.AddArtifacts(t.Context(), root, now, func(context.Context, *bootimage.Meta) (map[string]bootimage.Image, error) {
				if test.fault != nil {
					return nil, test.fault
				}
				return test.made(), nil
			})
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			require.ErrorContains(t, err, test.text)
			require.Equal(t, after, folderOf(t, dir))
		})
	}

	// Others recorded one of them meanwhile.
	others, err := os.ReadFile(filepath.Join(dir, bootimage.MetaFile))
	require.NoError(t, err)
	err = bootimage.AddArtifacts(t.Context(), root, now, func(context.Context, *bootimage.Meta) (map[string]bootimage.Image, error) {
		m := *readMeta(t, dir).Value()
		m.Images = map[string]bootimage.Image{"gcp": write("g.tar.gz", "theirs")}
		put, err := bootimage.PutMeta(m)(others)
		require.NoError(t, err)
		require.NoError(t, root.WriteFile(bootimage.MetaFile, put, 0o644))
		return map[string]bootimage.Image{"gcp": {Path: "g.tar.gz", SHA256: hash("ours")}, "azure": write("z.vhd", "ours")}, nil
	})
	require.ErrorIs(t, err, fs.ErrExist)
	files := folderOf(t, dir)
	require.Equal(t, "theirs", files["g.tar.gz"])
	require.NotContains(t, files, "z.vhd")
	require.Equal(t, hash("theirs"), readMeta(t, dir).Value().Images["gcp"].SHA256)

	require.NoError(t, root.Remove(bootimage.MetaFile))
	require.ErrorIs(t, bootimage.AddArtifacts(t.Context(), root, now, nil), fs.ErrNotExist)
}
