package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
)

// encapsulates is making the image of a commit in a folder, without a registry, of
// the same repository on both sides. We find the components and plan the layers;
// ostree-ext's command line is told which object goes into which layer.
func (b *bench) encapsulates(ctx context.Context) ([]row, error) {
	ostreeExt, err := interop.BuildOstreeExt(ctx)
	if err != nil {
		return nil, err
	}
	// Not in the work folder, which is emptied.
	source, err := os.MkdirTemp(filepath.Dir(b.work), "bench-source-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(source)
	repo, meta := filepath.Join(source, "repo"), filepath.Join(source, "contentmeta")
	if _, err := measure(ctx, b.ours("commit", "-repo", repo, "-repomode", "bare-user", "-tree", b.tree, "-arrange")); err != nil {
		return nil, err
	}
	if err := contentMeta(meta, repo, b.tree); err != nil {
		return nil, err
	}
	const peer = "ostree-ext"
	into := func(name, dir string, cmd *exec.Cmd) (map[string]cost, error) {
		c, err := measure(ctx, cmd)
		if err == nil {
			c.size, err = bytesBelow(dir)
		}
		return map[string]cost{name: c}, err
	}
	ours := func(codec container.Codec) side {
		return func(round int) (map[string]cost, error) {
			dir := b.path("image-"+string(codec), round)
			return into(string(codec), dir, b.ours("layout", "-repo", repo, "-layers", b.path("layers-"+string(codec), round), "-codec", string(codec), "-to", dir))
		}
	}
	got, err := b.each("encapsulate", map[string]side{
		"ours": ours(container.Gzip), "ours, zstd": ours(container.Zstd),
		peer: func(round int) (map[string]cost, error) {
			dir := b.path("peer", round)
			return into(peer, dir, exec.Command(ostreeExt, "container", "encapsulate", "--repo="+repo, "--contentmeta="+meta, branch, "oci:"+dir))
		},
	}, "ours", peer, "ours, zstd")
	if err != nil {
		return nil, err
	}
	return []row{
		{
			what: "encapsulate", ours: got[string(container.Gzip)], otherName: peer, other: got[peer], peak: imagePeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu), atMost("size", size, 1.06)},
		},
		{
			what: "encapsulate, zstd", ours: got[string(container.Zstd)], otherName: peer, other: got[peer], peak: imagePeak,
			limits: []limit{faster("wall", wall, 6), shown("CPU", cpu), shown("size", size)},
		},
	}, nil
}
