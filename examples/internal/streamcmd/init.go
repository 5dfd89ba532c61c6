package streamcmd

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"text/template"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
)

//go:embed stream.yaml.tmpl
var templateText string

var initTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("stream.yaml").Parse(templateText))
})

// published is the stream on whose releases a new one is built by default.
const published = "okd-scos-stable"

const initLong = `

The new stream builds a layer on the node image of a published release, for
which neither credentials nor KVM are needed, and puts it into that release in
place of the original. Everything is named by digest. What may be said besides
is there as a comment.

  --from-release REGISTRY/REPOSITORY:TAG   builds on this release
  --from-release REGISTRY/REPOSITORY       on the newest release among its tags
                                           (default: that of okd-scos-stable)
  --from NAME                              copies a built-in stream instead, or a file`

type initFlags struct {
	name, from, release, registry, arch string
	remote                              remote.Flags
}

func initCommand() *cobra.Command {
	f := &initFlags{}
	cmd := leaf("init FILE", "Start a stream of one's own", initLong, 1, func(cmd *cobra.Command, args []string) error {
		return f.run(cmd, args[0])
	})
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "`NAME` of the stream: lower-case letters, digits and - (default: of the file)")
	flags.StringVar(&f.from, "from", "", "built-in stream or `FILE` to copy")
	flags.StringVar(&f.release, "from-release", "", "`RELEASE` to build on, or a repository of releases")
	flags.StringVar(&f.registry, "registry", "docker://", "where releases are read from: docker:// or dir:PATH")
	flags.StringVar(&f.arch, "arch", string(stream.Arches()[0]), "`ARCHITECTURE` to build, as x86_64")
	f.remote.Add(flags)
	return cmd
}

func (f *initFlags) run(cmd *cobra.Command, file string) error {
	if f.from != "" && f.release != "" {
		return ui.Usagef("--from copies a stream, --from-release makes one for a release: give one of them")
	}
	if f.name == "" {
		base := file[strings.LastIndexByte(file, '/')+1:]
		f.name, _, _ = strings.Cut(base, ".")
		if file == "-" {
			f.name = "my-okd"
		}
	}
	if file != "-" { // before anything is asked for
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%s: %w; a stream that is there is changed with an editor, or with okd-streams stream bump", file, fs.ErrExist)
		}
	}
	text, err := f.copy()
	if f.from == "" {
		text, err = f.make(cmd.Context())
	}
	if err != nil {
		return err
	}
	if _, err := stream.Decode(bytes.NewReader(text)); err != nil {
		return &ui.UsageError{Err: err} // of the name, the only thing in it that is not ours
	}
	if err := ui.Output(cmd.OutOrStdout(), file, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return err
	}
	if file == "-" {
		return nil
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s is written. Next:\n  okd-streams stream lint %[1]s\n  okd-streams build --stream %[2]s --plan\n", file, asPath(file))
	return err
}

// asPath is how a file is told from the name of a built-in stream.
func asPath(file string) string {
	if strings.ContainsAny(file, "./") {
		return file
	}
	return "./" + file
}

// copy is the text of another stream under the new name.
func (f *initFlags) copy() ([]byte, error) {
	if f.from == "" {
		return nil, nil
	}
	text, err := source(f.from)
	if err != nil {
		return nil, err
	}
	return stream.Edit(text, stream.Set{Path: "identity.name", Value: f.name}, stream.Set{Path: "identity.title", Value: f.name})
}

// values are what the template is filled with.
type values struct {
	Name, OSName, Release, Minor, Scheme, Version, Arch string
	Base, Node, NodeRepository, Extensions              string
	NodeTag, ExtensionsTag                              string
}

// make is the text of a new stream on a published release.
func (f *initFlags) make(ctx context.Context) ([]byte, error) {
	v, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	v.Name = f.name
	var text bytes.Buffer
	err = initTemplate().Execute(&text, v)
	return text.Bytes(), err
}

// look reads what a stream can be built on from a release.
func (f *initFlags) look(ctx context.Context) (*values, error) {
	arch := stream.Arch(f.arch)
	if arch.GOARCH() == "" {
		return nil, ui.Usagef("--arch %s: it is one of %v", f.arch, stream.Arches())
	}
	registry, err := open.Registry(ctx, f.registry, &open.RegistryOptions{Remote: f.remote.Options(nil)})
	if err != nil {
		return nil, ui.Usagef("--registry %s: %w", f.registry, err)
	}
	of, err := stream.Builtin(published)
	if err != nil {
		return nil, err
	}
	ref, err := f.reference(ctx, registry, of)
	if err != nil {
		return nil, err
	}
	opened, err := payload.Open(ctx, registry, ref, &payload.OpenOptions{Platform: platform(arch)})
	if err != nil {
		return nil, fmt.Errorf("%w\n(--from-release names another release)", err)
	}
	if want := "linux/" + arch.GOARCH(); !strings.Contains(opened.Platform(), want) {
		return nil, fmt.Errorf("release %s is for %s, not %s (--arch): %w", ref, opened.Platform(), want, fs.ErrNotExist)
	}
	version, err := stream.ParseVersion(opened.Version())
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", ref, err)
	}
	base := opened.Pullspec()
	if opened.ListDigest.Hex != "" { // the index goes on having all architectures
		base = ref.Context().Digest(opened.ListDigest.String())
	}
	v := &values{
		OSName: of.Identity.OSName, Release: ref.Name(), Base: base.Name(), Arch: f.arch,
		Version: opened.Version(), Scheme: string(version.Scheme), Minor: fmt.Sprintf("%d.%d", version.Major, version.Minor),
	}
	return v, v.images(opened)
}

// nodeTags are the names that the operating system has had in payloads.
var nodeTags = []string{"stream-coreos", "centos-stream-coreos-9", "fedora-coreos", "rhel-coreos"}

// images finds the operating system in a payload.
func (v *values) images(opened *payload.Release) error {
	for _, tag := range nodeTags {
		node, err := opened.Image(tag)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		v.NodeTag, v.Node, v.NodeRepository = tag, node.Name(), node.Context().Name()
		extensions, err := opened.Image(tag + "-extensions")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		v.ExtensionsTag, v.Extensions = tag+"-extensions", extensions.Name()
		return nil
	}
	return fmt.Errorf("release %s: no node image among its components: %w", v.Release, fs.ErrNotExist)
}

// reference is the release that is meant: of a repository its newest.
func (f *initFlags) reference(ctx context.Context, registry publish.Registry, of *stream.Definition) (name.Reference, error) {
	text := f.release
	if text == "" {
		text = of.Registry.Repository + "/" + of.Registry.Release.Name
	}
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, ui.Usagef("--from-release: %w", err)
	}
	if tag, ok := ref.(name.Tag); !ok || strings.HasSuffix(text, ":"+tag.TagStr()) {
		return ref, nil
	}
	var newest stream.Version
	for tag, err := range registry.Tags(ctx, ref.Context()) {
		if err != nil {
			return nil, fmt.Errorf("%w\n(--from-release names a release, --from copies a stream without asking a registry)", err)
		}
		version, err := stream.ParseVersion(tag)
		if err != nil || version.Scheme.OS() {
			continue // another tag
		}
		if newest.Scheme == "" || newest.Compare(version) < 0 {
			newest = version
		}
	}
	if newest.Scheme == "" {
		return nil, fmt.Errorf("%s: no tag is the name of a release: %w", ref.Context(), fs.ErrNotExist)
	}
	return ref.Context().Tag(newest.String()), nil
}
