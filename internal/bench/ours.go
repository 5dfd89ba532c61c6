package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// oursVerb as the first argument makes this program do our side of a case: a
// process of its own, whose cost the kernel counts.
const oursVerb = "ours"

func ours(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: bench %s commit | fsck | checkout | pull-local | list | push | layout | pull | import | components | copy | pushlarge | pulllarge | assemble | info | images | tools | convert | compress | uncompress", oursVerb)
	}
	flags := flag.NewFlagSet(oursVerb, flag.ContinueOnError)
	repo := flags.String("repo", "", "repository, made if it is not there")
	switch verb := args[0]; verb {
	case "commit":
		mode := flags.String("repomode", "", "mode of the repository")
		tree := flags.String("tree", "", "folder")
		cache := flags.String("cache", "", "file of the device-inode cache")
		linked := flags.Bool("linked", false, "take hard links to objects as these objects")
		arrange := flags.Bool("arrange", false, "arrange the tree as an OSTree system's")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursCommit(ctx, *repo, ostree.Mode(*mode), *tree, *cache, *linked, *arrange)
	case "fsck", "list":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if verb == "list" {
			return oursList(ctx, *repo)
		}
		return oursFsck(ctx, *repo)
	case "checkout":
		to := flags.String("to", "", "folder that is not there")
		user := flags.Bool("user", false, "without owners and attributes")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursCheckout(ctx, *repo, *to, *user)
	case "pull-local":
		from := flags.String("from", "", "repository")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursPullLocal(ctx, *repo, *from)
	case "pull":
		mode := flags.String("repomode", "", "mode of the repository")
		url := flags.String("url", "", "of the archive repository")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursPull(ctx, *repo, ostree.Mode(*mode), *url)
	case "import":
		from := flags.String("dir", "", "folder of the image")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursImport(ctx, *repo, *from)
	case "push", "layout":
		layers := flags.String("layers", "", "folder of the layer cache")
		to := flags.String("to", "", "tag, or folder of the layout")
		codec := flags.String("codec", "", "of the layers")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if verb == "layout" {
			return oursLayout(ctx, *repo, *layers, container.Codec(*codec), *to)
		}
		return oursPush(ctx, *repo, *layers, container.Codec(*codec), *to)
	case "components", "copy":
		list := flags.String("list", "", "file of pullspecs")
		to := flags.String("to", "", "repository")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if verb == "components" {
			return pushComponents(ctx, *list, *to)
		}
		return oursCopy(ctx, *list, *to)
	case "pushlarge", "pulllarge":
		dir := flags.String("dir", "", "folder of layouts")
		tag := flags.String("tag", "", "in the registry")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursLarge(ctx, *dir, *tag, verb == "pushlarge")
	case "compress":
		compressor := flags.String("compressor", "", "gzip, zstd or xz")
		level := flags.Int("level", 0, "of it")
		from := flags.String("from", "", "file")
		to := flags.String("to", "", "file")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursCompress(ctx, *compressor, *level, *from, *to)
	case "uncompress":
		from := flags.String("from", "", "file")
		to := flags.String("to", "", "file")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursUncompress(ctx, *from, *to)
	case "convert":
		return oursConvert(ctx, args[1:])
	case "assemble", "info", "images", "tools":
		host := flags.String("host", "", "registry of the release")
		from := flags.String("from", "", "registry that the image stream names")
		stream := flags.String("stream", "", "file of the image stream")
		to := flags.String("to", "", "folder of the tools")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursPayload(ctx, verb, *host, *from, *stream, *to)
	default:
		return fmt.Errorf("no verb %q", verb)
	}
}

func oursCommit(ctx context.Context, dir string, mode ostree.Mode, tree, cacheFile string, linked, arrange bool) error {
	repo, err := ostree.Init(ctx, dir, mode, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	opts := &ostree.CommitOptions{Ref: branch, Subject: subject, Timestamp: time.Unix(stamp, 0), NoFsync: true, Linked: linked}
	if cacheFile != "" {
		if opts.Cache, err = ostree.OpenDevInoCache(cacheFile); err != nil {
			return err
		}
	}
	if opts.Parent, err = repo.Resolve(ctx, branch); err != nil {
		opts.Parent = ostree.Checksum{} // day one
	}
	opts.Metadata = []ostree.MetadataItem{ostree.RefBinding(branch)}
	source := ostree.Dir(root)
	if arrange {
		source = ostree.Postprocess(source, nil)
	}
	commit, err := repo.Commit(ctx, source, opts)
	if err != nil {
		return err
	}
	fmt.Println(commit)
	if opts.Cache != nil {
		return opts.Cache.Save()
	}
	return nil
}

// oursEncapsulate makes the image of the branch's commit and gives it to use,
// which reads the layers from the cache. made, if not nil, gets each new layer
// while others are being made.
func oursEncapsulate(ctx context.Context, dir, layers string, codec container.Codec, made func(context.Context, v1.Layer) error, use func(v1.Image) error) error {
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
	img, err := container.Encapsulate(ctx, cache, repo, commit, &container.EncapsulateOptions{Components: components, Codec: codec, Made: made})
	if err != nil {
		return err
	}
	return use(img)
}

func oursPush(ctx context.Context, dir, layers string, codec container.Codec, to string) error {
	tag, err := name.NewTag(to)
	if err != nil {
		return err
	}
	registry, err := remoteregistry.Open(ctx, nil)
	if err != nil {
		return err
	}
	made := func(ctx context.Context, layer v1.Layer) error {
		return publish.WriteLayer(ctx, registry, tag.Repository, layer)
	}
	return oursEncapsulate(ctx, dir, layers, codec, made, func(img v1.Image) error {
		desc, err := registry.WriteImage(ctx, tag.Repository, img, nil)
		if err != nil {
			return err
		}
		return registry.Tag(ctx, tag, desc.Digest)
	})
}
