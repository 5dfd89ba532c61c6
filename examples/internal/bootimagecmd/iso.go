package bootimagecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// payloadISO is the image of a release payload that holds live ISOs.
type payloadISO struct {
	registry publish.Registry
	ref      name.Digest
	stream   string // of the document
}

// isoOf gives the image with ISOs of a release; nil: it has none.
func isoOf(registry publish.Registry, release *payload.Release, stream string) *payloadISO {
	ref, err := release.Image(bootimage.ISOComponent)
	if err != nil {
		return nil
	}
	return &payloadISO{registry, ref, stream}
}

// image gives the image for an architecture, [io/fs.ErrNotExist] if there is none.
func (p *payloadISO) image(ctx context.Context, arch string) (v1.Image, error) {
	want := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch]
	if want == "" {
		want = arch
	}
	none := fmt.Errorf("%s has no image for %s: %w", p.ref, arch, fs.ErrNotExist)
	desc, err := p.registry.Head(ctx, p.ref)
	if err != nil {
		return nil, err
	}
	if desc.MediaType != types.OCIImageIndex && desc.MediaType != types.DockerManifestList {
		img, err := p.registry.Image(ctx, p.ref)
		if err != nil {
			return nil, err
		}
		config, err := img.ConfigFile()
		if err == nil && config.Architecture != want {
			return nil, none
		}
		return img, err
	}
	index, err := p.registry.Index(ctx, p.ref)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, m := range manifest.Manifests {
		if m.Platform != nil && m.Platform.OS == "linux" && m.Platform.Architecture == want {
			return index.Image(m.Digest)
		}
	}
	return nil, none
}

// names are what the file of an entry's ISO may begin with, the likeliest first.
func (p *payloadISO) names() []string {
	if strings.HasSuffix(p.stream, "10") { // as streams of RHEL are called
		return []string{"coreos10", "coreos"}
	}
	return []string{"coreos"}
}

// each calls fn for the image and the options of an entry's ISO until it has been
// found.
func (p *payloadISO) each(ctx context.Context, e bootimage.Entry, fn func(img v1.Image, o *bootimage.ISOOptions) error) error {
	img, err := p.image(ctx, e.Arch)
	if err != nil {
		return err
	}
	for _, name := range p.names() {
		if err = fn(img, &bootimage.ISOOptions{Arch: e.Arch, Name: name, SHA256: e.SHA256}); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

func isISO(f bootimage.Found) bool {
	return f.Platform == "metal" && f.Format == "iso" && f.File == "disk"
}

// add puts behind each live ISO that was found the one inside the payload.
func (p *payloadISO) add(ctx context.Context, found []bootimage.Found) ([]bootimage.Found, error) {
	var all []bootimage.Found
	for _, f := range found {
		all = append(all, f)
		if !isISO(f) {
			continue
		}
		inside := f
		inside.URL, inside.Signature, inside.Image = "", "", p.ref.String()
		err := p.each(ctx, f.Entry, func(img v1.Image, o *bootimage.ISOOptions) error {
			iso, err := bootimage.FindISO(ctx, img, o)
			if err != nil {
				return err
			}
			inside.Path, inside.Size, inside.State, inside.Fault = iso.Path, iso.Size, bootimage.StateAlive, ""
			inside.Reason = fmt.Sprintf("inside the payload, component %s, file %s: okd-streams bootimage download --payload-iso takes it from there", bootimage.ISOComponent, iso.Path)
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			inside.Reason = "the payload has an image for live ISOs, " + bootimage.ISOComponent
			inside.State, inside.Fault = bootimage.StateUnknown, err.Error()
		}
		all = append(all, inside)
	}
	return all, nil
}

// download extracts the ISOs of what was chosen.
func (p *payloadISO) download(cmd *cobra.Command, dir string, chosen []bootimage.Found, quiet bool) (all []got, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, ui.Next(err, "make the folder, or name another with --dir")
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range chosen {
		if !isISO(f) {
			continue
		}
		name := path.Base(f.URL)
		show, done := progress(cmd, name, quiet)
		err := p.each(cmd.Context(), f.Entry, func(img v1.Image, o *bootimage.ISOOptions) error {
			o.Progress = show
			iso, err := bootimage.ExtractISO(cmd.Context(), root, name, img, o)
			if err == nil {
				all = append(all, got{Path: path.Join(dir, name), Size: iso.Size, SHA256: iso.SHA256, Fetched: iso.Size})
			}
			return err
		})
		done()
		if errors.Is(err, bootimage.ErrVerification) {
			return nil, err
		}
		if err != nil {
			return nil, ui.Next(err, "without --payload-iso the ISO is downloaded from the address in the ConfigMap")
		}
	}
	if len(all) == 0 {
		return nil, ui.Usagef("no live ISO is among what is chosen: --platform metal --format iso, and the --arch of the payload")
	}
	return all, nil
}
