// Package imagecmd makes the task image: the program alone on nothing, for each
// architecture, without a container engine.
package imagecmd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
)

const buildLong = `The image holds one static binary, /usr/bin/okd-streams, an empty /tmp and
nothing else: no shell, no libraries, no certificates (the program brings roots
for where a system has none). It needs no HOME and no write access but to what
--state names, so it runs under any user ID with a read-only root.

Without --binary the running program is put in. Binaries of other
architectures are made by
  CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -o okd-streams.arm64 ./examples/okd-streams
and the architecture of each is read from its header. The same binaries give
the same digest, whenever and wherever; SOURCE_DATE_EPOCH sets the time that
the image names, which is otherwise that of 1970.`

// Command is "okd-streams image".
func Command() *cobra.Command {
	root := &cobra.Command{
		Use: "image", Short: "Make the image in which this program runs as a task", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q; commands: build", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	b := &build{}
	cmd := &cobra.Command{
		Use: "build REFERENCE", Short: "Write the task image into a registry or a folder", DisableFlagsInUseLine: true,
		Long: "Write the task image into a registry or a folder.\n" + buildLong,
		Example: `  okd-streams image build --binary okd-streams.amd64 --binary okd-streams.arm64 quay.io/EXAMPLE/okd-streams:v1
  okd-streams image build --registry dir:images localhost/okd-streams:v1`,
		Args: cobra.ExactArgs(1),
		RunE: b.run,
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&b.binaries, "binary", nil, "static binary of this program to put in, one an architecture (default: this program)")
	flags.StringVar(&b.registry, "registry", "", "folder dir:PATH of OCI layouts to write into, in place of the registry that REFERENCE names")
	flags.StringArrayVar(&b.labels, "label", nil, "label of the image, as KEY=VALUE; may be repeated")
	b.remote.Add(flags)
	ui.AddOutput(flags)
	ui.AddJSON(flags)
	root.AddCommand(cmd)
	return root
}

type build struct {
	binaries, labels []string
	registry         string
	remote           remote.Flags
}

// built is what is printed.
type built struct {
	Image     string     `json:"image"` // by digest
	Tag       string     `json:"tag,omitempty"`
	Platforms []platform `json:"platforms"`
}

type platform struct {
	Architecture string `json:"architecture"`
	Digest       string `json:"digest"`
	Size         int64  `json:"size"` // of the layer, in bytes
}

func (b *build) run(cmd *cobra.Command, args []string) (err error) {
	ref, err := name.ParseReference(args[0])
	if err != nil {
		return ui.Usagef("%q: %w", args[0], err)
	}
	tag, ok := ref.(name.Tag)
	if !ok {
		return ui.Usagef("%s: the digest is known only when the image is there; give a tag", ref)
	}
	if b.registry != "" && !strings.HasPrefix(b.registry, "dir:") {
		return ui.Usagef("--registry %s: want dir:PATH; another registry is named by REFERENCE", b.registry)
	}
	labels, err := parseLabels(b.labels)
	if err != nil {
		return err
	}
	created, err := imageTime()
	if err != nil {
		return err
	}
	paths := b.binaries
	if len(paths) == 0 {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		paths = []string{self}
	}
	scratch, err := os.MkdirTemp("", "okd-streams-image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()

	out := &built{Tag: tag.Name()}
	var images []v1.Image
	seen := map[string]string{}
	for i, path := range paths {
		arch, err := checkBinary(path)
		if err != nil {
			return err
		}
		if other, ok := seen[arch]; ok {
			return ui.Usagef("%s and %s are both for %s", other, path, arch)
		}
		seen[arch] = path
		img, size, err := taskImage(path, filepath.Join(scratch, strconv.Itoa(i)), arch, created, labels)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		images = append(images, img)
		out.Platforms = append(out.Platforms, platform{Architecture: arch, Digest: digest.String(), Size: size})
	}
	digest, err := b.write(cmd, tag, images, out)
	if err != nil {
		return err
	}
	out.Image = tag.Context().Digest(digest.String()).Name()
	ui.SetResult(cmd.Context(), "image", out.Image)
	ui.SetResult(cmd.Context(), "digest", digest)
	rows := [][]string{{"Image:", out.Image}, {"Tag:", out.Tag}}
	for _, p := range out.Platforms {
		rows = append(rows, []string{p.Architecture + ":", p.Digest + ", " + ui.Size(p.Size)})
	}
	return ui.Print(cmd, out, ui.Rows(rows))
}

// write puts the image of one architecture, or the index of several, where it
// shall be, and then points the tag at it.
func (b *build) write(cmd *cobra.Command, tag name.Tag, images []v1.Image, out *built) (v1.Hash, error) {
	ctx := cmd.Context()
	where, repo := "docker://"+tag.RegistryStr(), tag.Context()
	if b.registry != "" {
		where = b.registry
	}
	registry, err := open.Registry(ctx, where, &open.RegistryOptions{Remote: b.remote.Options(nil)})
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := put(cmd, registry, repo, images, out)
	if err != nil {
		return v1.Hash{}, err
	}
	return digest, registry.Tag(ctx, tag, digest)
}

func put(cmd *cobra.Command, registry publish.Registry, repo name.Repository, images []v1.Image, out *built) (v1.Hash, error) {
	if len(images) == 1 {
		d, err := registry.WriteImage(cmd.Context(), repo, images[0], nil)
		return d.Digest, err
	}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, img := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: out.Platforms[i].Architecture}},
		})
	}
	d, err := registry.WriteIndex(cmd.Context(), repo, index, nil)
	return d.Digest, err
}

func parseLabels(texts []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, ui.Usagef("--label %q: want KEY=VALUE", text)
		}
		labels[key] = value
	}
	return labels, nil
}

// imageTime is what the image says it was made at: nothing but what the caller
// chose may make two images of one binary differ.
func imageTime() (time.Time, error) {
	if os.Getenv("SOURCE_DATE_EPOCH") == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	return ui.BuildTime()
}
