package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// Images is where images are read from; a publish.Registry is one. A missing
// reference gives [io/fs.ErrNotExist]; Image of an index gives an error, as
// does Index of an image. ctx governs the later reads of what it made. Nothing
// that it returns is trusted: digests are checked here.
type Images interface {
	Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error)
	Image(ctx context.Context, ref name.Reference) (v1.Image, error)
	Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error)
}

// fetched is an image whose manifest and configuration have been verified.
type fetched struct {
	ref        name.Reference
	digest     v1.Hash // of the image's manifest
	listDigest v1.Hash // of the index it was chosen from, zero if none
	mediaType  types.MediaType
	manifest   *v1.Manifest
	raw        []byte // manifest
	rawConfig  []byte
	config     imageConfig
	img        v1.Image
	list       *v1.IndexManifest // of listDigest
	listed     types.MediaType   // of the image, as the index has it
}

// defaultPlatform is chosen from an index, unless the options say otherwise.
var defaultPlatform = v1.Platform{OS: "linux", Architecture: "amd64"}

// fetch reads the manifest and configuration of the image that ref names, or
// of the one for platform in the index that it names. A tag costs one request
// more than a digest, an index one or two; where src gives manifests and blobs
// one by one, a tag costs none and an index one.
func fetch(ctx context.Context, src Images, ref name.Reference, platform v1.Platform) (*fetched, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ref == nil {
		return nil, errors.New("no reference")
	}
	if one, ok := src.(direct); ok {
		return fetchDirect(ctx, one, ref, platform)
	}
	digest, mediaType, err := resolve(ctx, src, ref)
	if err != nil {
		return nil, err
	}
	imgErr := fmt.Errorf("%.100q is not an image: %w", mediaType, errors.ErrUnsupported)
	if !mediaType.IsIndex() {
		img, err := src.Image(ctx, ref.Context().Digest(digest.String()))
		if err == nil {
			f := &fetched{ref: ref, img: img}
			if err = f.readManifest(digest); err == nil {
				return f, f.readConfig()
			}
		}
		if imgErr = err; errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return nil, err
		}
	}
	// Not an image, then perhaps an index.
	idx, err := src.Index(ctx, ref.Context().Digest(digest.String()))
	if err != nil {
		if mediaType.IsIndex() {
			return nil, err
		}
		return nil, imgErr
	}
	return fetchChild(ref, idx, digest, platform)
}

func fetchDirect(ctx context.Context, src direct, ref name.Reference, platform v1.Platform) (*fetched, error) {
	desc, raw, err := manifestOf(ctx, src, ref)
	if err != nil {
		return nil, err
	}
	repo := inRepository{src, ref.Context()}
	if desc.MediaType.IsIndex() {
		idx, err := ociimage.NewIndex(ctx, repo, desc, raw)
		if err != nil {
			return nil, err
		}
		return fetchChild(ref, idx, desc.Digest, platform)
	}
	img, err := ociimage.NewImage(ctx, repo, desc, raw)
	if err != nil {
		return nil, err
	}
	f := &fetched{ref: ref, img: img}
	if err := f.readManifest(desc.Digest); err != nil {
		return nil, err
	}
	return f, f.readConfig()
}

// resolve gives the digest of a reference and, of a tag, the type of what it
// points to.
func resolve(ctx context.Context, src Images, ref name.Reference) (v1.Hash, types.MediaType, error) {
	if d, ok := ref.(name.Digest); ok {
		digest, err := parseDigest(d.DigestStr())
		return digest, "", err
	}
	desc, err := src.Head(ctx, ref)
	if err != nil {
		return v1.Hash{}, "", err
	}
	if desc == nil {
		return v1.Hash{}, "", fmt.Errorf("no descriptor for %s", ref)
	}
	digest, err := parseDigest(desc.Digest.String())
	return digest, desc.MediaType, err
}

// parseDigest also refuses algorithms other than sha256, which no payload has.
func parseDigest(text string) (v1.Hash, error) {
	h, err := v1.NewHash(text)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("digest %.100q: %w", text, err)
	}
	if h.Algorithm != "sha256" {
		return v1.Hash{}, fmt.Errorf("digest %.100q: %w", text, errors.ErrUnsupported)
	}
	return h, nil
}

func fetchChild(ref name.Reference, idx v1.ImageIndex, digest v1.Hash, platform v1.Platform) (*fetched, error) {
	raw, err := idx.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if len(raw) > MaxImageManifestSize {
		return nil, fmt.Errorf("index of %d bytes, limit %d", len(raw), MaxImageManifestSize)
	}
	if err := verify.Bytes(raw, digest, verify.SizeUnknown); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	var list v1.IndexManifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	for _, desc := range list.Manifests {
		if desc.Platform == nil || !desc.Platform.Satisfies(platform) {
			continue
		}
		if desc.MediaType.IsIndex() {
			return nil, fmt.Errorf("index in an index: %w", errors.ErrUnsupported)
		}
		child, err := parseDigest(desc.Digest.String())
		if err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		img, err := idx.Image(child)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", platform, err)
		}
		f := &fetched{ref: ref, img: img, listDigest: digest, list: &list, listed: desc.MediaType}
		if err := f.readManifest(child); err != nil {
			return nil, fmt.Errorf("image for %s: %w", platform, err)
		}
		return f, f.readConfig()
	}
	return nil, fmt.Errorf("index has no image for %s: %w", platform, fs.ErrNotExist)
}

func (f *fetched) readManifest(digest v1.Hash) error {
	raw, err := f.img.RawManifest()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if len(raw) > MaxImageManifestSize {
		return fmt.Errorf("manifest of %d bytes, limit %d", len(raw), MaxImageManifestSize)
	}
	if err := verify.Bytes(raw, digest, verify.SizeUnknown); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	m := new(v1.Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	mt := m.MediaType
	if mt == "" {
		mt = types.OCIManifestSchema1
	}
	if m.SchemaVersion != 2 || mt != types.OCIManifestSchema1 && mt != types.DockerManifestSchema2 {
		return fmt.Errorf("manifest of schema version %d and type %.100q: %w", m.SchemaVersion, mt, errors.ErrUnsupported)
	}
	f.digest, f.mediaType, f.manifest, f.raw = digest, mt, m, raw
	return nil
}

func (f *fetched) readConfig() error {
	desc := f.manifest.Config
	if _, err := parseDigest(desc.Digest.String()); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if desc.Size < 0 || desc.Size > MaxConfigSize {
		return fmt.Errorf("configuration of %d bytes, limit %d", desc.Size, MaxConfigSize)
	}
	raw, err := f.img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := verify.Bytes(raw, desc.Digest, desc.Size); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := json.Unmarshal(raw, &f.config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if f.config.RootFS == nil {
		f.config.RootFS = &rootFS{Type: "layers"}
	}
	if n, m := len(f.manifest.Layers), len(f.config.RootFS.DiffIDs); n != m {
		return fmt.Errorf("manifest has %d layers, configuration %d diff IDs", n, m)
	}
	for _, id := range f.config.RootFS.DiffIDs {
		if _, err := parseDigest(id.String()); err != nil {
			return fmt.Errorf("configuration: diff ID: %w", err)
		}
	}
	f.rawConfig = raw
	return nil
}

// labels of the image; nil if it has none.
func (f *fetched) labels() map[string]string {
	if f.config.Config == nil {
		return nil
	}
	return f.config.Config.Labels
}
