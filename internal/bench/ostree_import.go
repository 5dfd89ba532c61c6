package main

import (
	"context"
	"os"
	"os/exec"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// imagePeak is how much memory it may take to make an image or to import one.
const imagePeak = 250 << 20

// imports is the way back from an OSTree-native image in a folder, the same one on
// both sides, to a commit in an empty repository that does not call fsync.
// ostree-ext can't import into an archive: what it imported is pulled from there.
func (b *bench) imports(ctx context.Context) ([]row, error) {
	ostreeExt, err := interop.BuildOstreeExt(ctx)
	if err != nil {
		return nil, err
	}
	const ours, peer, archive = "ours", "ostree-ext", " archive"
	// image is made by the side that comes first, again each round: what a round
	// wrote is removed.
	image := func(round int) (string, error) {
		dir, source := b.path("image", round), b.path("source", round)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		_, err := measure(ctx, b.ours("commit", "-repo", source, "-repomode", "bare-user", "-tree", b.tree, "-arrange"),
			b.ours("layout", "-repo", source, "-layers", b.path("layers", round), "-to", dir))
		return dir, err
	}
	got, err := b.each("import", map[string]side{
		ours: func(round int) (map[string]cost, error) {
			dir, err := image(round)
			if err != nil {
				return nil, err
			}
			costs := make(map[string]cost)
			for _, mode := range []string{"bare-user", "archive"} {
				repo := b.path("ours-"+mode, round)
				if err := peerInit(repo, mode); err != nil {
					return nil, err
				}
				c, err := measure(ctx, b.ours("import", "-repo", repo, "-dir", dir))
				if err != nil {
					return nil, err
				}
				if mode == "archive" {
					costs[ours+archive] = c
				} else {
					costs[ours] = c
				}
			}
			return costs, nil
		},
		peer: func(round int) (map[string]cost, error) {
			dir, err := image(round)
			if err != nil {
				return nil, err
			}
			costs := make(map[string]cost)
			repo, served := b.path("peer", round), b.path("peer-archive", round)
			if err := peerInit(repo, "bare-user"); err != nil {
				return nil, err
			}
			unencapsulate := func() *exec.Cmd {
				return exec.Command(ostreeExt, "container", "unencapsulate", "--repo="+repo, "--write-ref="+branch, "ostree-unverified-image:oci:"+dir)
			}
			if costs[peer], err = measure(ctx, unencapsulate()); err != nil {
				return nil, err
			}
			repo = b.path("peer-again", round)
			for dir, mode := range map[string]string{repo: "bare-user", served: "archive"} {
				if err := peerInit(dir, mode); err != nil {
					return nil, err
				}
			}
			costs[peer+archive], err = measure(ctx, unencapsulate(), exec.Command("ostree", "--repo="+served, "pull-local", repo, branch))
			return costs, err
		},
	}, ours, peer)
	if err != nil {
		return nil, err
	}
	return []row{
		{
			what: "import bare-user", ours: got[ours], otherName: peer, other: got[peer], peak: imagePeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu)},
		},
		{
			what: "import archive", ours: got[ours+archive], otherName: peer + ", pull-local", other: got[peer+archive], peak: imagePeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu)},
		},
	}, nil
}

// oursLayout writes the image of a commit to a folder, layers while others are
// made.
func oursLayout(ctx context.Context, dir, layers string, codec container.Codec, to string) error {
	path, err := layout.Write(to, empty.Index)
	if err != nil {
		return err
	}
	made := func(_ context.Context, layer v1.Layer) error {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		rc, err := layer.Compressed()
		if err != nil {
			return err
		}
		return path.WriteBlob(digest, rc) // which closes it
	}
	return oursEncapsulate(ctx, dir, layers, codec, made, func(img v1.Image) error { return path.AppendImage(img) })
}

// oursImport imports the one image of a folder, as `ostree container unencapsulate`
// does.
func oursImport(ctx context.Context, dir, from string) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	index, err := layout.ImageIndexFromPath(from)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	_, err = container.Import(ctx, repo, img, &container.ImportOptions{CommitOnly: true, Ref: branch})
	return err
}
