package container_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// An image's digest is a function of commit and options alone: the same on every
// architecture and operating system, with every version of Go. CI runs this on a
// big-endian machine as well.
func TestImageIsPinned(t *testing.T) {
	fsys := fstest.MapFS{"usr/bin/sh": {Data: []byte("bash"), Mode: fs.ModeSymlink | 0o777}}
	for i := range 40 {
		fsys[fmt.Sprintf("usr/lib/p%02d/file", i)] = &fstest.MapFile{Data: []byte(strings.Repeat(fmt.Sprintf("content %d ", i*i), 10+i*i%701)), Mode: 0o644}
		fsys[fmt.Sprintf("usr/lib/p%02d/empty", i)] = &fstest.MapFile{Mode: 0o600}
	}
	fsys["usr/lib/p00/large"] = &fstest.MapFile{Data: []byte(big(1<<20 + 1<<17)["usr/lib/big"]), Mode: 0o4755} // over a block
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), ostree.FS(fsys), &ostree.CommitOptions{
		Subject: "pinned", Timestamp: time.Unix(1700000000, 0), NoFsync: true,
		Metadata: []ostree.MetadataItem{{Key: "version", Value: ostree.StringVariant("1.2")}},
	})
	require.NoError(t, err)
	components := split(t, repo, c)
	for i := range components {
		components[i].Frequency = uint32(i * 7 % 53)
		components[i].Source = fmt.Sprint("source", i/3)
	}
	got := map[string]string{"commit": c.String()}
	cache := openCache(t, t.TempDir())
	pin := func(name string, opts container.EncapsulateOptions) {
		opts.Architecture = "amd64"
		got[name] = digest(t, encapsulate(t, cache, repo, c, &opts))
	}
	for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
		pin(string(codec), container.EncapsulateOptions{Codec: codec})
	}
	for name, planner := range map[string]container.Planner{
		"stable": container.Stable{}, "frugal": container.Frugal{}, "ostree-ext": container.OstreeExt{}, "separate": container.Separate{},
	} {
		limit := 8
		if name == "separate" {
			limit = 0
		}
		pin(name, container.EncapsulateOptions{Codec: container.None, Components: components, Planner: planner, MaxLayers: limit})
	}
	pin("v1a", container.EncapsulateOptions{Dialect: container.V1a, Components: components, MaxLayers: 8})
	pin("format 2", container.EncapsulateOptions{FormatVersion: 2, Components: components, MaxLayers: 8, Codec: container.Zstd})
	pin("plain", container.EncapsulateOptions{Dialect: container.Plain, Components: components, MaxLayers: 8})
	require.Len(t, got, 11)
	requireGolden(t, "pinned.json", got)
}
