package main

import (
	"context"
	"os/exec"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// importPeak is how much memory an import may use.
const importPeak = 250 << 20

// imports is the way back from an OSTree-native image in a folder, the same one on
// both sides, to a commit in an empty repository that does not call fsync.
// ostree-ext can't import into an archive: what it imported is pulled from there.
func (b *bench) imports(ctx context.Context) ([]row, error) {
	ostreeExt, err := interop.BuildOstreeExt(ctx)
	if err != nil {
		return nil, err
	}
	const ours, peer, archive = "ours", "ostree-ext", " archive"
	// The image is made again each round: what a round wrote is removed.
	image := func(round int) (string, error) {
		dir, source := b.path("image", round), b.path("source", round)
		if _, err := measure(ctx, b.ours("commit", "-repo", source, "-repomode", "bare-user", "-tree", b.tree, "-arrange")); err != nil {
			return "", err
		}
		_, err := measure(ctx, b.ours("layout", "-repo", source, "-layers", b.path("layers", round), "-to", dir))
		return dir, err
	}
	made := -1 // the round whose image is there
	var dir string
	ensure := func(round int) error {
		if made == round {
			return nil
		}
		var err error
		dir, err = image(round)
		made = round
		return err
	}
	got, err := b.each("import", map[string]side{
		ours: func(round int) (map[string]cost, error) {
			if err := ensure(round); err != nil {
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
			if err := ensure(round); err != nil {
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
			var err error
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
			what: "import bare-user", ours: got[ours], otherName: peer, other: got[peer], peak: importPeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu)},
		},
		{
			what: "import archive", ours: got[ours+archive], otherName: peer + ", pull-local", other: got[peer+archive], peak: importPeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu)},
		},
	}, nil
}

// oursLayout writes the image of a commit to a folder.
func oursLayout(ctx context.Context, dir, layers, to string) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, branch)
	if err != nil {
		return err
	}
	cache, err := container.OpenCache(ctx, layers, nil)
	if err != nil {
		return err
	}
	defer cache.Close()
	components, err := container.Components(ctx, cache, repo, commit, nil)
	if err != nil {
		return err
	}
	img, err := container.Encapsulate(ctx, cache, repo, commit, &container.EncapsulateOptions{Components: components})
	if err != nil {
		return err
	}
	path, err := layout.Write(to, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
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
