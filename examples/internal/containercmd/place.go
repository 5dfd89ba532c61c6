package containercmd

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
)

// place is where an image is, or shall be.
type place struct {
	dir, tag string // of an OCI layout; tag may be ""
	ref      name.Reference
}

// transports of other tools, which mean what is not meant here.
var transports = []string{"docker-archive:", "oci-archive:", "containers-storage:", "dir:", "docker-daemon:", "ostree-image-signed:", "ostree-unverified-image:", "ostree-unverified-registry:", "ostree-remote-image:", "ostree-remote-registry:"}

func parsePlace(text string) (*place, error) {
	if rest, ok := strings.CutPrefix(text, "oci:"); ok {
		p := &place{dir: rest}
		if at := strings.LastIndexByte(rest, ':'); at >= 0 && !strings.Contains(rest[at:], "/") {
			p.dir, p.tag = rest[:at], rest[at+1:]
		}
		if p.dir == "" {
			return nil, ui.Usagef("%s names no folder", text)
		}
		return p, nil
	}
	for _, t := range transports {
		if strings.HasPrefix(text, t) {
			return nil, ui.Usagef("%s: images of %s are not read here; skopeo copy %s oci:PATH makes one that is", text, strings.TrimSuffix(t, ":"), text)
		}
	}
	ref, err := name.ParseReference(strings.TrimPrefix(text, "docker://"))
	if err != nil {
		return nil, ui.Usagef("%q: %w", text, err)
	}
	return &place{ref: ref}, nil
}

// String is the name by which ostree-ext and bootc know the image.
func (p *place) String() string {
	switch {
	case p.ref != nil:
		return "docker://" + p.ref.Name()
	case p.tag != "":
		return "oci:" + p.dir + ":" + p.tag
	}
	return "oci:" + p.dir
}

// annotationName is how an OCI layout names its images.
const annotationName = "org.opencontainers.image.ref.name"

// image opens an image.
func (c *common) image(cmd *cobra.Command, text string) (v1.Image, *place, error) {
	p, err := parsePlace(text)
	if err != nil {
		return nil, nil, err
	}
	if p.ref != nil {
		registry, err := c.openRegistry(cmd)
		if err != nil {
			return nil, nil, err
		}
		img, err := registry.Image(cmd.Context(), p.ref)
		return img, p, err
	}
	index, err := layout.ImageIndexFromPath(p.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", text, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", text, err)
	}
	var found []v1.Descriptor
	for _, d := range m.Manifests {
		if d.MediaType.IsImage() && (p.tag == "" || d.Annotations[annotationName] == p.tag) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return nil, nil, fmt.Errorf("%s: no such image; %s: %w", text, named(m.Manifests), fs.ErrNotExist)
	case len(found) > 1:
		return nil, nil, ui.Usagef("%s: there are %d images, so it has to be oci:PATH:NAME; %s", text, len(found), named(m.Manifests))
	}
	img, err := index.Image(found[0].Digest)
	if err == nil {
		err = verified(img, found[0].Digest)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", text, err)
	}
	return img, p, nil
}

// named lists the names that a layout has.
func named(manifests []v1.Descriptor) string {
	var names []string
	for _, d := range manifests {
		if n := d.Annotations[annotationName]; n != "" {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "none has a name"
	}
	return "names are " + strings.Join(names, ", ")
}

// verified compares the documents of an image of a layout, which is read as it
// lies, with their digests. Layers are verified where they are read.
func verified(img v1.Image, digest v1.Hash) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	for _, blob := range []struct {
		digest v1.Hash
		data   []byte
	}{{digest, manifest}, {m.Config.Digest, config}} {
		got, _, err := v1.SHA256(bytes.NewReader(blob.data))
		if err != nil {
			return err
		}
		if got != blob.digest {
			return fmt.Errorf("blob %s is %s: %w", blob.digest, got, publish.ErrDigest)
		}
	}
	return nil
}

// written is what commands that write an image print.
type written struct {
	Image  string `json:"image"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`   // of manifest, config and layers, in bytes
	Layers int    `json:"layers"` // how many
}

// write puts an image where it shall be: its manifest last, its name after that.
func (c *common) write(cmd *cobra.Command, p *place, img v1.Image) (*written, error) {
	out := &written{Image: p.String()}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	out.Size, out.Layers = size+m.Config.Size, len(m.Layers)
	for _, l := range m.Layers {
		out.Size += l.Size
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	out.Digest = digest.String()
	if p.ref == nil {
		return out, p.writeLayout(func(to layout.Path, opts ...layout.Option) error {
			return to.ReplaceImage(img, p.matcher(digest), opts...)
		})
	}
	return out, c.push(cmd, p, digest, func(registry publish.Registry) error {
		_, err := registry.WriteImage(cmd.Context(), p.ref.Context(), img, nil)
		return err
	})
}

// put writes an image where it shall be, and says so.
func (c *common) put(cmd *cobra.Command, p *place, img v1.Image) error {
	out, err := c.write(cmd, p, img)
	if err != nil {
		return err
	}
	ui.SetResult(cmd.Context(), "digest", out.Digest)
	ui.SetResult(cmd.Context(), "image", out.Image)
	if p.ref != nil {
		ui.SetResult(cmd.Context(), "image", p.ref.Context().Digest(out.Digest))
	}
	return ui.Print(cmd, out, ui.Rows([][]string{
		{"Image:", out.Image}, {"Digest:", out.Digest}, {"Size:", ui.Size(out.Size)}, {"Layers:", fmt.Sprint(out.Layers)},
	}))
}

// push writes by digest and then points the tag, if there is one, at it.
func (c *common) push(cmd *cobra.Command, p *place, digest v1.Hash, write func(publish.Registry) error) error {
	if d, ok := p.ref.(name.Digest); ok && d.DigestStr() != digest.String() {
		return ui.Usagef("%s: the image is %s", p.ref, digest)
	}
	registry, err := c.openRegistry(cmd)
	if err != nil {
		return err
	}
	if err := write(registry); err != nil {
		return err
	}
	if tag, ok := p.ref.(name.Tag); ok {
		return registry.Tag(cmd.Context(), tag, digest)
	}
	return nil
}

// matcher finds what an image takes the place of in a layout.
func (p *place) matcher(digest v1.Hash) match.Matcher {
	return func(d v1.Descriptor) bool {
		return d.Digest == digest && p.tag == "" || p.tag != "" && d.Annotations[annotationName] == p.tag
	}
}

// writeLayout opens a layout, or makes it, and has something written to it.
func (p *place) writeLayout(write func(layout.Path, ...layout.Option) error) error {
	to, err := layout.FromPath(p.dir)
	if err != nil {
		if entries, readErr := os.ReadDir(p.dir); readErr == nil && len(entries) > 0 {
			return fmt.Errorf("%s: the folder has something else than an OCI layout: %w", p, fs.ErrExist)
		}
		if to, err = layout.Write(p.dir, empty.Index); err != nil {
			return err
		}
	}
	var opts []layout.Option
	if p.tag != "" {
		opts = append(opts, layout.WithAnnotations(map[string]string{annotationName: p.tag}))
	}
	return write(to, opts...)
}
